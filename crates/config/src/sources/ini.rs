//! The ini reader, exactly as strict and as lenient as uWSGI's: comments only at the beginning of a line, the first
//! `=` splits, no quotes, no escapes, no continuation.

use super::{Gatherer, shared};
use crate::error::ConfigError;
use crate::origin::Origin;
use crate::world::{self, World};

/// Sections that are read when none is named.
const SECTIONS: &[&str] = &["uwsgi", "greenloom"];

/// What the magic letters know of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct FileFacts {
    given: String,
    absolute: String,
    section: String,
}

/// Reads a file named as `path`, `path:section` or `:section`.
pub(super) fn read(gatherer: &mut Gatherer<'_>, value: &str, origin: &Origin) -> Result<(), ConfigError> {
    let (path, section) = split_section(value);
    let path = if path.is_empty() {
        gatherer.last_ini.clone().ok_or_else(|| {
            ConfigError::source(
                origin,
                format!("{value:?} names a section, but no ini file was read before"),
                "write file.ini:section",
            )
        })?
    } else {
        path.to_owned()
    };
    if let Some((scheme, _)) = path.split_once("://") {
        return Err(ConfigError::source(
            origin,
            format!("\"{scheme}://\" is not supported for configuration files"),
            "name a file, or - for standard input",
        ));
    }
    let bytes = gatherer.world.read(&path).map_err(|error| {
        ConfigError::source(origin, format!("cannot read {path}: {error}"), "check its path and permissions")
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|byte| *byte == b'\n').count();
        let origin = Origin::File { path: shared(&path), line };
        ConfigError::source(&origin, "not UTF-8", "save the file as UTF-8")
    })?;
    gatherer.notices.push(format!("[greenloom] getting INI configuration from {path}"));
    gatherer.last_ini = Some(path.clone());

    let absolute = gatherer
        .world
        .canonical(&path)
        .map_or_else(|_| path.clone(), |path| path.to_string_lossy().into_owned());
    let facts =
        FileFacts { given: path.clone(), absolute, section: section.unwrap_or(SECTIONS[0]).to_owned() };
    let first = gatherer.first_file.get_or_insert_with(|| facts.clone()).clone();
    let magic = Magic { world: gatherer.world, file: &facts, first: &first };

    let mut found_section = false;
    let mut inside = false;
    let name = shared(&path);
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let origin = Origin::File { path: name.clone(), line: number + 1 };
        match parse_line(line) {
            Line::Nothing => {}
            Line::Section(title) => {
                inside = section.map_or_else(|| SECTIONS.contains(&title), |section| section == title);
                found_section |= inside;
                if title.starts_with("pool:") && section.is_none() {
                    return Err(ConfigError::source(
                        &origin,
                        "pools of workers are not in this version",
                        "run one greenloom per pool, with a file for each",
                    ));
                }
            }
            Line::Entry(_, _) if !inside => {}
            Line::Entry(key, value) => {
                gatherer.add(&magic.replace(key), &magic.replace(value), &origin)?;
            }
        }
    }
    gatherer.close_block(&path)?;
    if !found_section {
        let wanted = section.unwrap_or(SECTIONS[0]);
        return Err(ConfigError::source(
            origin,
            format!("cannot find section \"{wanted}\" in {path}"),
            format!("write a line [{wanted}] above the options"),
        ));
    }
    Ok(())
}

/// What a line of an ini file is.
#[derive(Debug, PartialEq, Eq)]
enum Line<'t> {
    Nothing,
    Section(&'t str),
    Entry(&'t str, &'t str),
}

fn parse_line(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() || line.starts_with([';', '#']) {
        return Line::Nothing;
    }
    if let Some(rest) = line.strip_prefix('[') {
        let title = rest.char_indices().next_back().map_or("", |(last, _)| &rest[..last]);
        return Line::Section(title);
    }
    match line.split_once('=') {
        Some((key, value)) => Line::Entry(key.trim(), value.trim()),
        None => Line::Entry(line, ""),
    }
}

/// `path:section`: the last colon splits.
fn split_section(value: &str) -> (&str, Option<&str>) {
    match value.rsplit_once(':') {
        Some((path, section)) if !section.is_empty() && !section.contains('/') => (path, Some(section)),
        _ => (value, None),
    }
}

/// The `%x` letters.
struct Magic<'a> {
    world: &'a dyn World,
    file: &'a FileFacts,
    first: &'a FileFacts,
}

impl Magic<'_> {
    /// Replaces the letters. `%(` stays for the placeholders; an unknown letter stays as it is.
    fn replace(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            match letters.next() {
                None => out.push('%'),
                Some(letter) => match self.value(letter) {
                    Some(value) => out.push_str(&value),
                    None => out.extend(['%', letter]),
                },
            }
        }
        out
    }

    fn value(&self, letter: char) -> Option<String> {
        let account = |file: &str, id: u32| world::account_name(self.world, file, id);
        Some(match letter {
            '%' => "%".to_owned(),
            '[' => "\u{1b}".to_owned(),
            'v' => self.world.current_directory(),
            'V' => env!("CARGO_PKG_VERSION").to_owned(),
            'h' => self.world.hostname(),
            't' => (self.world.unix_micros() / 1_000_000).to_string(),
            'T' => self.world.unix_micros().to_string(),
            'k' => self.world.cpus().to_string(),
            'u' => self.world.ids().0.to_string(),
            'U' => account("/etc/passwd", self.world.ids().0),
            'g' => self.world.ids().1.to_string(),
            'G' => account("/etc/group", self.world.ids().1),
            'b' => self.world.program(),
            '0'..='9' => {
                let directory = directory(&self.file.absolute);
                let parts = directory.split('/').filter(|part| !part.is_empty());
                parts.skip(letter.to_digit(10)? as usize).map(str::to_owned).next().unwrap_or_default()
            }
            _ if letter.is_ascii_uppercase() => self.of_file(letter.to_ascii_lowercase(), self.first)?,
            _ => self.of_file(letter, self.file)?,
        })
    }

    fn of_file(&self, letter: char, file: &FileFacts) -> Option<String> {
        let path = file.absolute.as_str();
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
        Some(match letter {
            'o' => file.given.clone(),
            'p' => path.to_owned(),
            's' => name.to_owned(),
            'd' => directory(path).to_owned(),
            'c' => {
                let directory = directory(path).trim_end_matches('/');
                directory.rsplit_once('/').map_or(directory, |(_, last)| last).to_owned()
            }
            'e' => name.rsplit_once('.').map_or("", |(_, extension)| extension).to_owned(),
            'n' => name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned(),
            'x' => file.section.clone(),
            'i' => self.world.inode(path).to_string(),
            'j' => format!("{:x}", hash(path.as_bytes())),
            _ => return None,
        })
    }
}

/// The directory of a path, with its trailing slash.
fn directory(path: &str) -> &str {
    path.rfind('/').map_or("", |last| &path[..=last])
}

/// Bernstein's hash with exclusive or.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(5381, |hash: u32, byte| hash.wrapping_mul(33) ^ u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::gather;
    use super::*;
    use crate::world::fake::FakeWorld;
    use proptest::prelude::*;

    fn entries(world: &FakeWorld, file: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let gathered = gather(&["--ini".into(), file.into()], world)?;
        Ok(gathered.entries.into_iter().skip(1).map(|entry| (entry.name, entry.value)).collect())
    }

    fn values(text: &str) -> Vec<String> {
        let world = FakeWorld::default()
            .file("app.ini", text)
            .file("/etc/passwd", "web:x:1000:1000::/:/bin/sh\n")
            .file("secret", "s3cret\n")
            .variable("SITE", "loom");
        entries(&world, "app.ini").unwrap().into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn lines() {
        assert_eq!(parse_line("  key one =  a = b ; c "), Line::Entry("key one", "a = b ; c"));
        assert_eq!(parse_line("master"), Line::Entry("master", ""));
        assert_eq!(parse_line(" ; comment"), Line::Nothing);
        assert_eq!(parse_line("# comment"), Line::Nothing);
        assert_eq!(parse_line("[uwsgi]"), Line::Section("uwsgi"));
        assert_eq!(parse_line("["), Line::Section(""));
    }

    #[test]
    fn sections_are_chosen_and_may_be_reopened() {
        let world = FakeWorld::default().file(
            "app.ini",
            "[other]\na = 0\n[uwsgi]\nprocesses = 1\n[prod]\nprocesses = 2\nini = :extra\n[uwsgi]\nmaster = 1\n[extra]\nasync = 3\n",
        );
        let names =
            |file| entries(&world, file).unwrap().into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(names("app.ini"), ["1", "1"]);
        assert_eq!(names("app.ini:prod"), ["2", ":extra", "3"]);
        let error = entries(&world, "app.ini:none").unwrap_err().to_string();
        assert!(error.contains("\"none\"") && error.contains("argument 1"), "{error}");
    }

    #[test]
    fn magic_letters() {
        let text = "[uwsgi]\nset-ph = a=%d|%s|%n|%e|%c|%o|%x|%p\nset-ph = b=%k|%u|%U|%h|%0|%1|%2|%v|%%|%z|%";
        let values = values(text);
        assert_eq!(values[1], "/srv/shop/|app.ini|app|ini|shop|app.ini|uwsgi|/srv/shop/app.ini");
        assert_eq!(values[3], "4|1000|web|loom1|srv|shop||/srv/shop|%|%z|%");
    }

    #[test]
    fn upper_case_letters_mean_the_first_file() {
        let world = FakeWorld::default()
            .file("app.ini", "[uwsgi]\ninclude = sub/more.ini\n")
            .file("sub/more.ini", "[uwsgi]\nset-ph = x=%n %N\n");
        assert_eq!(entries(&world, "app.ini").unwrap().last().unwrap().1, "more app");
    }

    #[test]
    fn variables_resources_and_placeholders() {
        let text = "[uwsgi]\nbase = /srv\nmodule = $(SITE)\npyargv = $(UNSET)\nenv = K=@(secret)\nchdir = %(base)/%(none)\nprocesses = %(n + 2)\nn = 4\n";
        let values = values(text);
        assert_eq!(values, ["/srv", "loom", "$(UNSET)", "K=s3cret", "/srv/%(none)", "6", "4"]);
    }

    #[test]
    fn blocks() {
        let text = "[uwsgi]\nfor = a b\nmount = /%(_)=%(_)\nendfor =\nif-env = SITE\npidfile = /run/%(_).pid\nendif =\nif-not-env = SITE\nlogto = x\nendif =\nfor-times = 2\nimport = m%(_)\nend =\nif-opt = pidfile\nchdir = yes\nendif =\n";
        assert_eq!(values(text), ["/a=a", "/b=b", "/run/loom.pid", "m1", "m2", "yes"]);
    }

    #[test]
    fn blocks_have_one_level_and_an_end() {
        let world = FakeWorld::default()
            .file("nested.ini", "[uwsgi]\nfor = a\nif-env = X\nendif =\nendfor =\n")
            .file("open.ini", "[uwsgi]\nfor = a\nmaster = 1\n")
            .file("leak.ini", "[uwsgi]\ninclude = open.ini\nendfor =\n")
            .file("stray.ini", "[uwsgi]\nendif =\n");
        assert!(entries(&world, "nested.ini").unwrap_err().to_string().contains("recursive logic"));
        assert!(entries(&world, "open.ini").unwrap_err().to_string().starts_with("open.ini:2: "));
        assert!(entries(&world, "leak.ini").unwrap_err().to_string().contains("no end in open.ini"));
        assert!(entries(&world, "stray.ini").unwrap_err().to_string().starts_with("stray.ini:2: "));
    }

    #[test]
    fn files_within_files() {
        let world = FakeWorld::default()
            .file("app.ini", "[uwsgi]\ninherit = base.ini\ninclude = part.ini\nprocesses = 3\n")
            .file("base.ini", "[uwsgi]\nprocesses = 9\n")
            .file("part.ini", "[uwsgi]\nprocesses = 1\n")
            .file("self.ini", "[uwsgi]\ninclude = self.ini\n")
            .file("heir.ini", "[uwsgi]\ninherit = heir.ini\n");
        let processes: Vec<_> =
            entries(&world, "app.ini").unwrap().into_iter().filter(|(name, _)| name == "processes").collect();
        assert_eq!(processes.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["1", "3", "9"]);
        assert!(entries(&world, "self.ini").unwrap_err().to_string().contains("includes itself"));
        assert!(entries(&world, "heir.ini").unwrap_err().to_string().contains("inherits itself"));
        let error = entries(&world, "missing.ini").unwrap_err().to_string();
        assert!(error.contains("cannot read missing.ini"), "{error}");
    }

    #[test]
    fn declared_options() {
        let text = "[uwsgi]\ndeclare-option = site=mount=/$1=$2;env=SITE=$1\nsite = shop shop.wsgi\n";
        assert_eq!(values(text)[1..], ["/shop=shop.wsgi".to_owned(), "SITE=shop".to_owned()]);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_line() {
        let mut world = FakeWorld::default();
        world.files.insert("bad.ini".to_owned(), b"[uwsgi]\nlogto = \xff\n".to_vec());
        assert!(entries(&world, "bad.ini").unwrap_err().to_string().starts_with("bad.ini:2: "));
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut world = FakeWorld::default();
            world.files.insert("x.ini".to_owned(), bytes);
            let _ = crate::load(&["x.ini".into()], &world);
        }

        #[test]
        fn no_file_that_looks_like_one_panics(
            lines in proptest::collection::vec(
                "(for|if-env|if-opt|endfor|end|set|set-ph|include|ini|inherit|declare-option|foo|async|for-times|for-glob|mount|strict|pythonpath) ?=? ?[%$@()a-z0-9 /*+:=;\\[\\]-]{0,24}",
                0..12,
            )
        ) {
            let text = format!("[uwsgi]\n{}\n", lines.join("\n"));
            let world = FakeWorld::default().file("x.ini", &text).file("a", "%(a)");
            let _ = crate::load(&["x.ini".into()], &world);
        }

        #[test]
        fn plain_entries_survive(key in "x[a-z]{1,8}", value in "[A-Za-z0-9/:._ -]{0,30}") {
            let world = FakeWorld::default().file("x.ini", &format!("[uwsgi]\n {key} =  {value} \n"));
            let read = entries(&world, "x.ini").unwrap();
            prop_assert_eq!(read, vec![(key, value.trim().to_owned())]);
        }
    }
}
