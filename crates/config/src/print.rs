//! `--print-config`: the effective value and the origin of each option, as an ini file that can be read again.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::options::{self, Found, OptionDef, Role};
use crate::sources::Entry;

/// The effective configuration: placeholders and options given (each below its origin), then the defaults of all
/// others as comments.
pub fn print_config(entries: &[Entry]) -> String {
    let mut text = String::from("; greenloom: effective configuration\n[uwsgi]\n");
    let mut given = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(option) = setting(entry) else {
            continue;
        };
        let others =
            || entries.iter().filter(|other| setting(other).is_some_and(|it| it.name == option.name));
        let is_last = || {
            !entries[index + 1..].iter().any(|other| setting(other).is_some_and(|it| it.name == option.name))
        };
        if !option.repeatable && !is_last() {
            continue;
        }
        given.insert(option.name);
        let _ = write!(text, "; {}", entry.origin);
        if !option.repeatable {
            let overridden: Vec<_> = others()
                .filter(|other| !std::ptr::eq(*other, entry))
                .map(|other| other.origin.to_string())
                .collect();
            if !overridden.is_empty() {
                let _ = write!(text, " (instead of {})", overridden.join(", "));
            }
        }
        let _ = writeln!(text, "\n{} = {}", option.name, entry.value.replace('%', "%%"));
    }
    text.push_str("; defaults\n");
    for option in options::all().filter(|option| !option.default.is_empty() && !given.contains(option.name)) {
        let _ = writeln!(text, "; {} = {}", option.name, option.default);
    }
    text.push_str("; end of configuration\n");
    text
}

/// Only what changes settings: files, blocks and placeholders have had their effect.
fn setting(entry: &Entry) -> Option<&'static OptionDef> {
    match entry.found {
        Some(Found::Option(option)) if matches!(option.role, Role::Setting(_) | Role::Switch(_)) => {
            Some(option)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::world::fake::FakeWorld;
    use crate::{Action, load};

    fn printed(line: &str, world: &FakeWorld) -> String {
        let args: Vec<_> = line.split_whitespace().map(Into::into).collect();
        match load(&args, world).unwrap().action {
            Action::PrintConfig(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_origins_and_defaults() {
        let world = FakeWorld::default()
            .file("x.ini", "[uwsgi]\nname = shop\nworkers = 4\nmodule = %(name)\nsocket = :1\nsocket = :2\n");
        let text = printed("--print-config -p 2 x.ini", &world);
        assert!(text.contains("; x.ini:3 (instead of command line, argument 2)\nprocesses = 4\n"), "{text}");
        assert!(text.contains("; x.ini:4\nmodule = shop\n"), "{text}");
        assert!(text.contains("socket = :1\n") && text.contains("socket = :2\n"), "{text}");
        assert!(text.contains("\n; listen = 100\n") && !text.contains("; processes = "), "{text}");
        assert!(!text.contains("name = shop\nworkers"), "{text}");
    }

    #[test]
    fn the_text_can_be_read_again() {
        let world = FakeWorld::default();
        let first = printed("--print-config --http-socket :8000 -w shop --env A=100%% --async 7", &world);
        let again = printed("--print-config x.ini", &FakeWorld::default().file("x.ini", &first));
        let values = |text: &str| {
            text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(values(&first), values(&again));
    }
}
