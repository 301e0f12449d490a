//! Options: files that are served without the application.

use std::path::PathBuf;

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::settings::{ExpiresRule, ExpiresSubject, StaticMap};
use crate::values::{self, Parsed, Refusal};

const DIRECTORY: Arg = Arg::Required("DIRECTORY");
const EXTENSION: Arg = Arg::Required(".EXT");
const REGEX: Arg = Arg::Required("REGEX");
const REGEX_SECONDS: Arg = Arg::Required("REGEX SECONDS");
const TYPE_SECONDS: Arg = Arg::Required("TYPE=SECONDS");

pub(super) const CATEGORY: Category = Category {
    word: "static",
    title: "Static files",
    intro: "Requests with GET or HEAD whose path is that of a file are answered without the application: check-static is looked at first, then static-map, static-map2 and the document root; what is not there is the application's. Relative paths count from chdir, or else from where the server was started. Prefixes end at a slash: /media has /media/a, not /mediaX. REGEX is searched for anywhere in its subject; look-around and back references are not there.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("check-static", DIRECTORY, check, "serve files whose path below DIRECTORY is the request's")
        .aliases(&["static-check"])
        .repeatable(),
    OptionDef::switch("check-static-docroot", |draft, on, _| draft.settings.static_files.check_docroot = on, "as check-static, in the DOCUMENT_ROOT that a request of the uwsgi protocol has"),
    OptionDef::set("static-map", Arg::Required("/PREFIX=PATH"), map, "serve a directory, or one file, below a path prefix")
        .repeatable()
        .details("With /static=/srv/assets the path /static/a.css is the file /srv/assets/a.css. Several with one prefix are looked at in their order."),
    OptionDef::set("static-map2", Arg::Required("/PREFIX=DIRECTORY"), map_with_prefix, "as static-map, and the prefix is part of the file's path")
        .repeatable()
        .details("With /static=/srv the path /static/a.css is the file /srv/static/a.css."),
    OptionDef::set("static-index", Arg::Required("NAME"), index, "serve this file where a path is a directory").repeatable(),
    OptionDef::set("static-skip-ext", EXTENSION, skip_ext, "leave paths that end so to the application").repeatable(),
    OptionDef::set("static-safe", DIRECTORY, safe, "symbolic links may lead into this directory")
        .repeatable()
        .details("By default a file has to lie below the directory in which it was looked for, wherever links lead."),
    OptionDef::switch("static-dotfiles", |draft, on, _| draft.settings.static_files.dotfiles = on, "serve names that begin with a dot")
        .default_value("false")
        .details("The directory .well-known is served in any case."),
    OptionDef::set("static-expires", REGEX_SECONDS, expires_file, "files whose path matches stay fresh so long")
        .repeatable()
        .details("The first rule that fits counts."),
    OptionDef::set("static-expires-mtime", REGEX_SECONDS, expires_file_mtime, "the same, counted from a file's last change").repeatable(),
    OptionDef::set("static-expires-uri", REGEX_SECONDS, expires_uri, "files stay fresh so long, by the target with its query").repeatable(),
    OptionDef::set("static-expires-uri-mtime", REGEX_SECONDS, expires_uri_mtime, "the same, counted from a file's last change").repeatable(),
    OptionDef::set("static-expires-path-info", REGEX_SECONDS, expires_path_info, "files stay fresh so long, by the request's path").repeatable(),
    OptionDef::set("static-expires-path-info-mtime", REGEX_SECONDS, expires_path_info_mtime, "the same, counted from a file's last change")
        .repeatable(),
    OptionDef::set("static-expires-type", TYPE_SECONDS, expires_type, "files of a type (text/css=3600) stay fresh so long").repeatable(),
    OptionDef::set("static-expires-type-mtime", TYPE_SECONDS, expires_type_mtime, "the same, counted from a file's last change").repeatable(),
    OptionDef::set("static-gzip", REGEX, gzip, "look for file.br, file.zst and file.gz beside files whose path matches").repeatable(),
    OptionDef::switch("static-gzip-all", |draft, on, _| draft.settings.static_files.gzip.all = on, "look for compressed files beside all files"),
    OptionDef::set("static-gzip-dir", DIRECTORY, gzip_dir, "look for compressed files beside those below DIRECTORY")
        .aliases(&["static-gzip-prefix"])
        .repeatable(),
    OptionDef::set("static-gzip-ext", EXTENSION, gzip_ext, "look for compressed files beside those whose path ends so")
        .aliases(&["static-gzip-suffix"])
        .repeatable(),
    OptionDef::set("mimefile", Arg::Required("FILE"), mime_file, "which ending has which type: lines of a type and its endings")
        .aliases(&["mime-file"])
        .repeatable()
        .details("Without it, /etc/mime.types is read if it is there."),
    OptionDef::set("x-sendfile", DIRECTORY, x_sendfile, "send the files below DIRECTORY that the application names in X-Sendfile")
        .repeatable(),
    OptionDef::set("x-accel-redirect", Arg::Required("/PREFIX=DIRECTORY"), x_accel, "send what the application names in X-Accel-Redirect")
        .repeatable()
        .details("With /files=/srv/private the field X-Accel-Redirect: /files/a.pdf means the file /srv/private/a.pdf, as in nginx an internal location with an alias. Clients cannot ask for these paths."),
    OptionDef::set("offload-threads", Arg::Required("N"), threads, "threads per worker that read what is not in memory")
        .aliases(&["offload-thread"])
        .default_value("4")
        .details("They are started when they are needed, so that no request waits for the disk behind another one."),
];

/// Adds a path to a list; a value that switches off adds nothing.
pub(super) fn add_path(list: &mut Vec<PathBuf>, given: &Given<'_>) -> Parsed<()> {
    if values::is_off(given.value) {
        return Ok(());
    }
    let path = values::path(given.value).map_err(|refusal| {
        Refusal::new(refusal.reason, "write the path of a directory, for example /srv/static")
    })?;
    list.push(path);
    Ok(())
}

/// Adds what paths may end with.
pub(super) fn add_ending(list: &mut Vec<String>, given: &Given<'_>) -> Parsed<()> {
    if given.value.is_empty() || values::is_flag(given.value) || given.value.contains(['/', '\0']) {
        return Err(Refusal::new("not an ending", "write what the names end with, for example .txt"));
    }
    list.push(given.value.to_owned());
    Ok(())
}

/// Adds the name of a file that stands for its directory.
pub(super) fn add_index(list: &mut Vec<String>, given: &Given<'_>) -> Parsed<()> {
    if matches!(given.value, "" | "." | "..") || given.value.contains(['/', '\0']) {
        return Err(Refusal::new("not a plain name", "write the name of a file, for example index.html"));
    }
    list.push(given.value.to_owned());
    Ok(())
}

fn check(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_path(&mut draft.settings.static_files.check, given)
}

fn map(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let map = static_map(given, false, "/static=/srv/static")?;
    draft.settings.static_files.maps.push(map);
    Ok(())
}

fn map_with_prefix(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let map = static_map(given, true, "/static=/srv")?;
    draft.settings.static_files.maps.push(map);
    Ok(())
}

fn x_accel(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let map = static_map(given, false, "/files=/srv/private")?;
    draft.settings.static_files.hand_over.x_accel.push(map);
    Ok(())
}

fn static_map(given: &Given<'_>, keeps_prefix: bool, example: &str) -> Parsed<StaticMap> {
    let (prefix, target) = values::prefixed(given.value, example)?;
    Ok(StaticMap { prefix, target: PathBuf::from(target), keeps_prefix, origin: given.origin.clone() })
}

fn index(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_index(&mut draft.settings.static_files.index, given)
}

fn skip_ext(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_ending(&mut draft.settings.static_files.skip_ext, given)
}

fn safe(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_path(&mut draft.settings.static_files.safe, given)
}

fn expires_file(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires(draft, given, ExpiresSubject::File, false)
}

fn expires_file_mtime(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires(draft, given, ExpiresSubject::File, true)
}

fn expires_uri(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires(draft, given, ExpiresSubject::Uri, false)
}

fn expires_uri_mtime(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires(draft, given, ExpiresSubject::Uri, true)
}

fn expires_path_info(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires(draft, given, ExpiresSubject::PathInfo, false)
}

fn expires_path_info_mtime(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires(draft, given, ExpiresSubject::PathInfo, true)
}

fn expires_type(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires_by_type(draft, given, false)
}

fn expires_type_mtime(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    expires_by_type(draft, given, true)
}

/// uWSGI ends the expression at the first blank; here it may have blanks, since what follows it has none.
fn expires(
    draft: &mut Draft<'_>,
    given: &Given<'_>,
    subject: fn(values::Regex) -> ExpiresSubject,
    from_mtime: bool,
) -> Parsed<()> {
    let (pattern, seconds) = given.value.trim_end().rsplit_once([' ', '\t']).ok_or_else(|| {
        Refusal::new(
            "no time stands behind the regular expression",
            "write the expression, a blank and seconds, for example \\.css$ 3600",
        )
    })?;
    let seconds = seconds_of_life(seconds)?;
    let subject = subject(values::regex(pattern.trim_end())?);
    draft.settings.static_files.expires.push(ExpiresRule { subject, seconds, from_mtime });
    Ok(())
}

fn expires_by_type(draft: &mut Draft<'_>, given: &Given<'_>, from_mtime: bool) -> Parsed<()> {
    let refusal = || Refusal::new("not a type with a time", "write type=seconds, for example text/css=3600");
    let (kind, seconds) = given.value.split_once('=').ok_or_else(refusal)?;
    let kind = kind.trim();
    if !kind.contains('/') || kind.contains(char::is_whitespace) {
        return Err(refusal());
    }
    let seconds = seconds_of_life(seconds.trim())?;
    let subject = ExpiresSubject::Type(kind.to_owned());
    draft.settings.static_files.expires.push(ExpiresRule { subject, seconds, from_mtime });
    Ok(())
}

/// Bounded, so that the end is a date that can be written.
fn seconds_of_life(text: &str) -> Parsed<u64> {
    const HUNDRED_YEARS: u64 = 100 * 366 * 86_400;
    values::count(text, 0, HUNDRED_YEARS).map_err(|refusal| {
        Refusal::new(format!("{text:?} is {}", refusal.reason), "write seconds, at most those of 100 years")
    })
}

fn gzip(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if given.value.is_empty() || values::is_flag(given.value) {
        return Err(Refusal::new(
            "no regular expression",
            "write one that fits paths of files, for example \\.css$, or static-gzip-all = true for all files",
        ));
    }
    draft.settings.static_files.gzip.patterns.push(values::regex(given.value)?);
    Ok(())
}

fn gzip_dir(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_path(&mut draft.settings.static_files.gzip.directories, given)
}

fn gzip_ext(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_ending(&mut draft.settings.static_files.gzip.suffixes, given)
}

fn mime_file(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.static_files.mime_files.push(values::path(given.value)?);
    Ok(())
}

fn x_sendfile(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_path(&mut draft.settings.static_files.hand_over.x_sendfile, given)
}

fn threads(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.static_files.threads = values::count32(given.value, 1, 1024)?;
    Ok(())
}
