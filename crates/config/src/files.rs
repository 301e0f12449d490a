//! Where files and scripts are that the server serves by itself.
//!
//! Part of the draft's last look: makes paths absolute, since those who open them may have changed their directory by
//! then, and says at the start what is not there. Nothing is opened here.

use std::path::{Path, PathBuf};

use crate::draft::Draft;
use crate::error::ConfigError;
use crate::settings::{CGI_MODIFIER, Settings};
use crate::values;

/// Options that are about looking up paths as files, and nothing else.
const OF_LOOKUPS: &[&str] = &["static-index", "static-skip-ext", "static-safe", "static-dotfiles"];
/// Options that are about scripts, wherever these are.
const OF_SCRIPTS: &[&str] = &[
    "cgi-helper",
    "cgi-allowed-ext",
    "cgi-index",
    "cgi-safe",
    "cgi-env",
    "cgi-unset",
    "cgi-buffer-size",
    "cgi-timeout",
    "cgi-max-processes",
    "cgi-do-not-kill-on-error",
];

/// Completes the settings and says what contradicts itself.
pub(crate) fn check(draft: &mut Draft<'_>, errors: &mut Vec<ConfigError>) {
    make_absolute(draft);
    let Settings { http_modifier1, cgi, .. } = &draft.settings;
    if *http_modifier1 == CGI_MODIFIER
        && !cgi.has_scripts()
        && let Some(asked) = draft.last.get("http-socket-modifier1")
    {
        errors.push(asked.bad(
            "with it all requests that come by HTTP are for CGI, and nothing says where scripts are",
            "add cgi = PATH, or remove it",
        ));
    }
}

/// Relative paths count from the directory the application will run in, as for everything else.
fn make_absolute(draft: &mut Draft<'_>) {
    let mut base = PathBuf::from(draft.world.current_directory());
    base.extend(&draft.settings.chdir);
    for path in paths(&mut draft.settings) {
        *path = below(&base, path);
    }
    // A helper without a slash is looked up in PATH.
    for (_, program) in draft.settings.cgi.helpers.iter_mut().filter(|(_, program)| program.contains('/')) {
        *program = below(&base, Path::new(program)).to_string_lossy().into_owned();
    }
}

/// Without `.` and double slashes; `..` stays, since what it means depends on links.
fn below(base: &Path, path: &Path) -> PathBuf {
    base.join(path).components().collect()
}

fn paths(settings: &mut Settings) -> impl Iterator<Item = &mut PathBuf> {
    let files = &mut settings.static_files;
    let maps = files.maps.iter_mut().chain(&mut files.hand_over.x_accel).map(|map| &mut map.target);
    let mounts = settings.cgi.mounts.iter_mut().map(|mount| &mut mount.path);
    [
        &mut files.check,
        &mut files.safe,
        &mut files.gzip.directories,
        &mut files.mime_files,
        &mut files.hand_over.x_sendfile,
        &mut settings.cgi.safe,
    ]
    .into_iter()
    .flatten()
    .chain(maps)
    .chain(mounts)
}

/// Lines for the log: what is not there, and what has no effect.
pub(crate) fn notices(draft: &Draft<'_>) -> Vec<String> {
    let Settings { static_files, cgi, .. } = &draft.settings;
    let missing = |path: &Path| path.to_str().is_none_or(|path| draft.world.kind(path).is_none());
    let maps = static_files.maps.iter().map(|map| {
        let name = if map.keeps_prefix { "static-map2" } else { "static-map" };
        (&map.origin, name, &map.target)
    });
    let x_accel =
        static_files.hand_over.x_accel.iter().map(|map| (&map.origin, "x-accel-redirect", &map.target));
    let mounts = cgi.mounts.iter().map(|mount| (&mount.origin, "cgi", &mount.path));
    let mut notices: Vec<String> = maps
        .chain(x_accel)
        .chain(mounts)
        .filter(|(.., path)| missing(path))
        .map(|(origin, name, path)| {
            format!(
                "{origin}: \"{name}\": there is no {} yet; until there is, nothing is found",
                path.display()
            )
        })
        .collect();

    let mut without = |names: &[&str], other: &str| {
        let given = names.iter().filter_map(|name| draft.last.get(name));
        let asked = given.filter(|asked| !values::is_off(&asked.value));
        notices.extend(
            asked.map(|asked| format!("{}: \"{}\" has no effect without {other}", asked.origin, asked.name)),
        );
    };
    if !static_files.looks_up_paths() {
        without(OF_LOOKUPS, "check-static or static-map");
    }
    if !cgi.has_scripts() {
        without(OF_SCRIPTS, "cgi or cgi-from-docroot");
    }
    notices
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use crate::settings::{ExpiresSubject, Settings};
    use crate::world::fake::FakeWorld;
    use crate::{CgiSettings, ConfigError, Loaded, Origin, StaticSettings, load};

    /// Loads an ini file with these lines below a listener: its first line has number 3.
    fn with(lines: &[&str]) -> Result<Loaded, ConfigError> {
        let text = format!("[uwsgi]\nhttp-socket = :8000\n{}\n", lines.join("\n"));
        let world = FakeWorld::default().file("x.ini", &text).file("/srv/a/index.html", "");
        load(&[OsString::from("x.ini")], &world)
    }

    fn settings(lines: &[&str]) -> Settings {
        with(&[&["module = shop"], lines].concat()).unwrap_or_else(|error| panic!("{error}")).settings
    }

    fn files(lines: &[&str]) -> StaticSettings {
        settings(lines).static_files
    }

    fn cgi(lines: &[&str]) -> CgiSettings {
        settings(lines).cgi
    }

    fn notices(lines: &[&str]) -> Vec<String> {
        let mut notices = with(&[&["module = shop"], lines].concat()).unwrap().notices;
        notices.retain(|line| !line.contains("getting INI configuration"));
        notices
    }

    /// The refusal of one line.
    fn refused(line: &str) -> String {
        let error = with(&["module = shop", line]).expect_err(line).to_string();
        let name = line.split(' ').next().unwrap();
        assert!(error.starts_with(&format!("x.ini:4: option \"{name}\"")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn a_file_written_for_uwsgi() {
        let loaded = with(&[
            "plugins = cgi",
            "http-socket-modifier1 = 9",
            "static-map = /a=/srv/a",
            "static-map = /b=/srv/b",
            "static-expires = /*.html 3600",
            "cgi = /cgi-bin=/usr/lib/cgi-bin",
            "cgi-helper = .php=php-cgi",
            "cgi-allowed-ext = .cgi",
        ])
        .unwrap();
        let Settings { static_files, cgi, http_modifier1, .. } = loaded.settings;
        let maps: Vec<_> =
            static_files.maps.iter().map(|map| (map.prefix.as_str(), text(&map.target))).collect();
        assert_eq!(maps, [("/a", "/srv/a"), ("/b", "/srv/b")]);
        assert_eq!(static_files.maps[1].origin, Origin::File { path: "x.ini".into(), line: 6 });
        let rule = &static_files.expires[0];
        assert_eq!((rule.seconds, rule.from_mtime), (3600, false));
        assert!(
            matches!(&rule.subject, ExpiresSubject::File(regex) if regex.is_match(b"/srv/a/index.html")),
            "{rule:?}"
        );
        assert_eq!(
            (cgi.mounts[0].prefix.as_str(), text(&cgi.mounts[0].path)),
            ("/cgi-bin", "/usr/lib/cgi-bin")
        );
        assert_eq!(cgi.helpers, [(".php".to_owned(), "php-cgi".to_owned())]);
        assert_eq!(cgi.allowed_ext, [".cgi"]);
        assert_eq!(http_modifier1, 9);
    }

    #[test]
    fn defaults() {
        let settings = settings(&[]);
        let StaticSettings { threads, dotfiles, check_docroot, gzip, .. } = &settings.static_files;
        assert_eq!((*threads, *dotfiles, *check_docroot, gzip.all), (4, false, false, false));
        let cgi = &settings.cgi;
        assert_eq!((cgi.buffer_bytes, cgi.timeout_ms, cgi.max_processes), (65_536, 60_000, 64));
        assert!(cgi.kill_on_error && !cgi.from_docroot && !settings.serves_without_application());
        assert_eq!(settings.http_modifier1, 0);
    }

    #[test]
    fn files_and_scripts_need_no_application() {
        for line in [
            "check-static = /srv/a",
            "static-map = /a=/srv/a",
            "static-map2 = /a=/srv",
            "check-static-docroot = true",
            "cgi = /srv/a",
            "cgi-from-docroot = true",
        ] {
            assert!(with(&[line]).unwrap().settings.serves_without_application(), "{line}");
        }
        for line in ["x-sendfile = /srv/a", "check-static = false", "static-gzip-all = true", "cgi = off"] {
            let error = with(&[line]).unwrap_err().to_string();
            assert!(error.contains("no application") && error.contains("--static-map or --cgi"), "{error}");
        }
    }

    #[test]
    fn relative_paths_count_from_chdir() {
        let lines = [
            "check-static = public",
            "static-map = /a=./a//b/",
            "static-safe = ../shared",
            "static-gzip-dir = a",
            "mimefile = /etc/mime.types",
            "mime-file = mime",
            "x-sendfile = a",
            "x-accel-redirect = /a/=a",
            "cgi = scripts",
            "cgi-safe = lib",
            "cgi-helper = .a=bin/run",
            "cgi-helper = .b=/bin/sh",
        ];
        for (chdir, base) in [("", "/srv/shop"), ("chdir = site", "/srv/shop/site"), ("chdir = /opt", "/opt")]
        {
            let settings = settings(&[&[chdir], &lines[..]].concat());
            let files = &settings.static_files;
            let at = |path: &str| PathBuf::from(format!("{base}/{path}"));
            assert_eq!(files.check, [at("public")]);
            assert_eq!(files.maps[0].target.as_os_str(), at("a/b").as_os_str());
            assert_eq!(files.safe, [at("../shared")]);
            assert_eq!(files.gzip.directories, [at("a")]);
            assert_eq!(files.mime_files, [PathBuf::from("/etc/mime.types"), at("mime")]);
            assert_eq!(files.hand_over.x_sendfile, [at("a")]);
            assert_eq!(files.hand_over.x_accel[0].target, at("a"));
            assert_eq!(
                (&settings.cgi.mounts[0].path, &settings.cgi.safe[..]),
                (&at("scripts"), &[at("lib")][..])
            );
            let programs: Vec<_> = settings.cgi.helpers.iter().map(|(_, program)| program.as_str()).collect();
            assert_eq!(programs, [text(&at("bin/run")), "/bin/sh"]);
        }
    }

    #[test]
    fn maps_keep_their_order_and_may_share_a_prefix() {
        let maps = files(&[
            "static-map2 = /m=/srv",
            "static-map = /m/=/srv/a",
            "static-map = /=/srv/b",
            "static-map = /robots.txt=/srv/robots.txt",
        ])
        .maps;
        let maps: Vec<_> = maps.iter().map(|map| (map.prefix.as_str(), map.keeps_prefix)).collect();
        assert_eq!(maps, [("/m", true), ("/m", false), ("", false), ("/robots.txt", false)]);
    }

    #[test]
    fn how_long_files_stay_fresh() {
        let rules = files(&[
            r"static-expires = \.css$   60",
            "static-expires-mtime = a b 1",
            "static-expires-uri = ^/a 2",
            "static-expires-uri-mtime = ^/a 3",
            "static-expires-path-info = ^/a 4",
            "static-expires-path-info-mtime = ^/a 5",
            "static-expires-type = text/css = 6",
            "static-expires-type-mtime = image/svg+xml=7",
        ])
        .expires;
        let rules: Vec<_> = rules
            .iter()
            .map(|rule| {
                let subject = match &rule.subject {
                    ExpiresSubject::File(regex) => format!("file {regex}"),
                    ExpiresSubject::Uri(regex) => format!("uri {regex}"),
                    ExpiresSubject::PathInfo(regex) => format!("path {regex}"),
                    ExpiresSubject::Type(kind) => format!("type {kind}"),
                };
                (subject, rule.seconds, rule.from_mtime)
            })
            .collect();
        let expected = [
            (r"file \.css$", 60, false),
            ("file a b", 1, true),
            ("uri ^/a", 2, false),
            ("uri ^/a", 3, true),
            ("path ^/a", 4, false),
            ("path ^/a", 5, true),
            ("type text/css", 6, false),
            ("type image/svg+xml", 7, true),
        ];
        assert_eq!(rules, expected.map(|(subject, seconds, mtime)| (subject.to_owned(), seconds, mtime)));
    }

    #[test]
    fn compressed_files_and_the_rest() {
        let files = files(&[
            r"static-gzip = \.(css|js)$",
            "static-gzip-all = true",
            "static-gzip-prefix = /srv/a",
            "static-gzip-suffix = .txt",
            "static-gzip-ext = .svg",
            "static-index = index.html",
            "static-index = index.htm",
            "static-skip-ext = .php",
            "static-dotfiles = true",
            "check-static = /srv/a",
            "offload-threads = 2",
        ]);
        assert!(files.gzip.all && files.gzip.patterns[0].is_match(b"/x.js") && files.dotfiles);
        assert_eq!(files.gzip.directories, [PathBuf::from("/srv/a")]);
        assert_eq!(files.gzip.suffixes, [".txt", ".svg"]);
        assert_eq!(files.index, ["index.html", "index.htm"]);
        assert_eq!((files.skip_ext, files.threads), (vec![".php".to_owned()], 2));
    }

    #[test]
    fn scripts() {
        let cgi = cgi(&[
            "cgi = /srv/a",
            "cgi = /one/=/srv/one.sh",
            "cgi-from-docroot = true",
            "cgi-map-helper = .py = /usr/bin/python3",
            "cgi-index = index.cgi",
            "cgi-env = LANG",
            "cgi-env = A=b=c",
            "cgi-env = EMPTY=",
            "cgi-unset = HTTP_COOKIE",
            "cgi-buffer-size = 128k",
            "cgi-timeout = 1m",
            "cgi-max-processes = 2",
            "cgi-do-not-kill-on-error = true",
        ]);
        let prefixes: Vec<_> = cgi.mounts.iter().map(|mount| mount.prefix.as_str()).collect();
        assert_eq!(prefixes, ["", "/one"]);
        assert_eq!(cgi.helpers, [(".py".to_owned(), "/usr/bin/python3".to_owned())]);
        let of = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(cgi.env, [of("LANG", None), of("A", Some("b=c")), of("EMPTY", Some(""))]);
        assert_eq!((cgi.index, cgi.unset), (vec!["index.cgi".to_owned()], vec!["HTTP_COOKIE".to_owned()]));
        assert_eq!((cgi.buffer_bytes, cgi.timeout_ms, cgi.max_processes), (131_072, 60_000, 2));
        assert!(cgi.from_docroot && !cgi.kill_on_error);
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (line, reason, remedy) in [
            ("static-map = /a", "no path stands behind a prefix", "/static=/srv/static"),
            ("static-map = a=/srv/a", "does not begin with a slash", "/prefix=path"),
            ("static-map2 = /a=", "no path stands behind the prefix", "/static=/srv"),
            ("x-accel-redirect = /srv/a", "no path", "/files=/srv/private"),
            ("check-static = true", "not a path", "directory"),
            ("static-index = a/index.html", "not a plain name", "index.html"),
            ("static-index = ..", "not a plain name", "index.html"),
            ("static-skip-ext = ", "not an ending", ".txt"),
            ("static-expires = /*.html", "no time", "3600"),
            ("static-expires = /*.html soon", "\"soon\" is not a whole number", "seconds"),
            ("static-expires-uri = a( 60", "not a regular expression: unclosed group", "backslash"),
            ("static-expires-mtime = a 9999999999", "out of range", "100 years"),
            ("static-expires-type = css=60", "not a type", "text/css=3600"),
            ("static-expires-type = text/css", "not a type", "text/css=3600"),
            ("static-gzip = true", "no regular expression", "static-gzip-all"),
            ("static-gzip = (?=a)", "look-around", "no back reference"),
            ("offload-threads = 0", "out of range", "from 1 to"),
            ("cgi = cgi-bin=/usr/lib/cgi-bin", "does not begin with a slash", "/cgi-bin=/usr/lib/cgi-bin"),
            ("cgi-helper = php-cgi", "not an ending with a program", ".php=php-cgi"),
            ("cgi-helper = .php=sym://run", "functions within the server", "name a program"),
            ("cgi-env = =x", "not a variable", "LANG"),
            ("cgi-unset = A=b", "not a variable", "LANG"),
            ("cgi-buffer-size = 100", "out of range", "from 1k"),
            ("cgi-timeout = 0", "cannot be switched off", "1h"),
            ("cgi-max-processes = 0", "out of range", "from 1 to"),
            ("http-modifier1 = 9", "nothing says where scripts are", "add cgi = PATH"),
            ("http-socket-modifier1 = 14", "no part with this modifier", "write 9"),
            ("http-modifier2 = 1", "not in this version", "in front"),
            ("static-cache-paths-name = paths", "not kept in a cache", "remove it"),
            ("fileserve-mode = x-sendfile", "sends static files itself", "nginx"),
            ("cgi-loadlib = x.so", "functions within the server", "cgi-helper"),
            ("check-cache = pages", "not in this version", "in front"),
        ] {
            let error = refused(line);
            assert!(error.contains(reason) && error.contains(remedy), "{line}: {error}");
        }
        let error = with(&["cgi = /a=/srv/a", "cgi = /a/=/srv/b"]).unwrap_err().to_string();
        assert!(error.contains("scripts below /a already (x.ini:3)"), "{error}");
    }

    #[test]
    fn what_needs_nothing_is_accepted() {
        let lines = [
            "honour-range = true",
            "static-cache-paths = 30",
            "disable-sendfile = true",
            "cgi-optimize = true",
            "cgi-optimized = true",
            "cgi-path-info = true",
            "cgi-async-max-attempts = 5",
            "cgi-close-stdin-on-eof = true",
            "http-modifier1 = 30",
            "http-socket-modifier1 = 0",
        ];
        assert!(notices(&lines).is_empty(), "{:?}", notices(&lines));
    }

    #[test]
    fn what_is_not_there_is_said_and_no_error() {
        let said = notices(&[
            "static-map = /a=/srv/a",
            "static-map2 = /b=/srv/b",
            "x-accel-redirect = /c=/srv/c",
            "cgi = scripts",
        ]);
        let expected = [
            ("x.ini:5: \"static-map2\"", "/srv/b"),
            ("x.ini:6: \"x-accel-redirect\"", "/srv/c"),
            ("x.ini:7: \"cgi\"", "/srv/shop/scripts"),
        ];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (line, (start, path)) in said.iter().zip(expected) {
            assert!(line.starts_with(start) && line.contains(&format!("there is no {path} yet")), "{line}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let said = notices(&["static-index = index.html", "static-dotfiles = false", "cgi-timeout = 5"]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("\"static-index\" has no effect without check-static or static-map"));
        assert!(said[1].contains("\"cgi-timeout\" has no effect without cgi or"));
        let lines = ["static-index = a", "cgi-timeout = 5", "check-static = /srv/a", "cgi = /srv/a"];
        assert!(notices(&lines).is_empty(), "{:?}", notices(&lines));
    }
}
