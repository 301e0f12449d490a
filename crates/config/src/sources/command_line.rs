//! The command line: GNU long options, short letters, positional arguments.

use std::ffi::OsString;

use super::other_format;
use crate::error::ConfigError;
use crate::options::{self, Arg, Found, OptionDef};
use crate::origin::Origin;
use crate::values;

/// One option with its value, positional arguments included, in the order of their effect.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// Splits the arguments (without the program's name).
pub(super) fn parse(args: &[OsString]) -> Result<Vec<Item>, ConfigError> {
    let mut items = Vec::new();
    let mut positional = Vec::new();
    let mut words = Words { args, next: 0 };
    let mut only_positional = false;
    while let Some((index, word)) = words.take()? {
        let origin = Origin::CommandLine { index };
        if only_positional || word == "-" || !word.starts_with('-') {
            positional.push((word, origin));
        } else if word == "--" {
            only_positional = true;
        } else if let Some(long) = word.strip_prefix("--") {
            items.push(parse_long(long, origin, &mut words)?);
        } else {
            parse_short(&word[1..], &origin, &mut words, &mut items)?;
        }
    }
    for (word, origin) in positional {
        parse_positional(&word, &origin, &mut items)?;
    }
    Ok(items)
}

/// The arguments one by one.
struct Words<'a> {
    args: &'a [OsString],
    next: usize,
}

impl Words<'_> {
    fn take(&mut self) -> Result<Option<(usize, String)>, ConfigError> {
        let Some(word) = self.args.get(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let index = self.next;
        let word = word.to_str().ok_or_else(|| {
            ConfigError::source(
                &Origin::CommandLine { index },
                format!("{} is not UTF-8", word.to_string_lossy()),
                "rename the file or directory",
            )
        })?;
        Ok(Some((index, word.to_owned())))
    }

    fn take_unless_option(&mut self) -> Result<Option<String>, ConfigError> {
        match self.args.get(self.next).and_then(|word| word.to_str()) {
            Some(word) if !word.starts_with('-') => Ok(self.take()?.map(|(_, word)| word)),
            _ => Ok(None),
        }
    }
}

fn parse_long(text: &str, origin: Origin, words: &mut Words<'_>) -> Result<Item, ConfigError> {
    let (name, given) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let (name, found) = look_up(name, &origin)?;
    let value = match found {
        Found::Option(option) => value(option, name, given, &origin, words)?,
        // Without a value nobody knows where its arguments end, so reading on would only mislead.
        Found::Elsewhere(group) => given
            .filter(|value| values::is_off(value))
            .ok_or_else(|| ConfigError::not_available(name, &origin, group.reason, group.remedy))?,
    };
    Ok(Item { name: name.to_owned(), value, origin })
}

fn value(
    option: &OptionDef,
    name: &str,
    given: Option<String>,
    origin: &Origin,
    words: &mut Words<'_>,
) -> Result<String, ConfigError> {
    if let Some(value) = given {
        return Ok(value);
    }
    match option.arg {
        Arg::Flag => Ok("true".to_owned()),
        Arg::Optional(_) => Ok(String::new()),
        Arg::OptionalNext(_) => Ok(words.take_unless_option()?.unwrap_or_default()),
        Arg::Required(_) => match words.take()? {
            Some((_, word)) => Ok(word),
            None => Err(ConfigError::MissingArgument { name: name.to_owned(), origin: origin.clone() }),
        },
    }
}

/// `-Mp4`, `-p 4`, `-C666`: letters of flags may stand together, the first letter with a value takes the rest.
fn parse_short(
    letters: &str,
    origin: &Origin,
    words: &mut Words<'_>,
    items: &mut Vec<Item>,
) -> Result<(), ConfigError> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let option = match options::find_short(letter) {
            Some(Found::Option(option)) => option,
            Some(Found::Elsewhere(group)) => {
                return Err(ConfigError::not_available(
                    &format!("-{letter}"),
                    origin,
                    group.reason,
                    group.remedy,
                ));
            }
            None => {
                return Err(ConfigError::UnknownOption {
                    name: format!("-{letter}"),
                    origin: origin.clone(),
                    nearest: options::nearest(letters).map(|name| format!("--{name}")),
                });
            }
        };
        let takes_rest = option.arg != Arg::Flag;
        let given = (takes_rest && !rest.is_empty()).then(|| rest.to_owned());
        let value = value(option, option.name, given, origin, words)?;
        items.push(Item { name: option.name.to_owned(), value, origin: origin.clone() });
        if takes_rest {
            return Ok(());
        }
    }
    Ok(())
}

/// A whole name, or an abbreviation that can only mean one option.
fn look_up<'n>(name: &'n str, origin: &Origin) -> Result<(&'n str, Found), ConfigError>
where
    'static: 'n,
{
    if let Some(found) = options::find(name) {
        return Ok((name, found));
    }
    let candidates = if name.is_empty() { Vec::new() } else { options::abbreviated(name) };
    match candidates.as_slice() {
        [(whole, found)] => Ok((whole, *found)),
        [] => match options::elsewhere_by_start(name) {
            Some(group) => Ok((name, Found::Elsewhere(group))),
            None => Err(ConfigError::UnknownOption {
                name: format!("--{name}"),
                origin: origin.clone(),
                nearest: options::nearest(name).map(|name| format!("--{name}")),
            }),
        },
        several => Err(ConfigError::AmbiguousOption {
            name: name.to_owned(),
            origin: origin.clone(),
            candidates: several.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }),
    }
}

fn parse_positional(word: &str, origin: &Origin, items: &mut Vec<Item>) -> Result<(), ConfigError> {
    if word.starts_with('[') {
        return Ok(());
    }
    let (path, behind) = match word.split_once(':') {
        Some((path, behind)) => (path, Some(behind)),
        None => (word, None),
    };
    let extension = path.rsplit_once('.').map(|(_, extension)| extension);
    let mut push = |name: &str, value: &str| {
        items.push(Item { name: name.to_owned(), value: value.to_owned(), origin: origin.clone() });
    };
    match (extension, behind) {
        (Some("ini"), _) => push("ini", word),
        (Some("xml" | "yaml" | "yml" | "json" | "js"), _) => return Err(other_format(word, origin)),
        (Some("py" | "wsgi"), None) => push("wsgi-file", word),
        (Some("py" | "wsgi"), Some(callable)) => {
            push("wsgi-file", path);
            push("callable", callable);
        }
        (Some("pl" | "psgi"), _) => return Err(elsewhere("psgi", origin)),
        (Some("ru" | "rb"), _) => return Err(elsewhere("rack", origin)),
        (_, Some(callable)) if !path.is_empty() && !callable.is_empty() && !path.contains('/') => {
            push("module", word);
        }
        _ if word.bytes().all(|byte| byte.is_ascii_digit()) => {
            return Err(ConfigError::source(
                origin,
                format!("the number {word} belongs to no option"),
                "an option whose value is optional takes it behind an equals sign, as in --chmod-socket=660",
            ));
        }
        _ => {
            return Err(ConfigError::source(
                origin,
                format!("unable to load configuration from {word}"),
                "positional arguments are x.ini, x.py, x.wsgi or module:callable; options begin with --",
            ));
        }
    }
    Ok(())
}

fn elsewhere(name: &str, origin: &Origin) -> ConfigError {
    let (reason, remedy) = match options::find(name) {
        Some(Found::Elsewhere(group)) => (group.reason, group.remedy),
        Some(Found::Option(_)) | None => ("this kind of application is not run", "see greenloom --help"),
    };
    ConfigError::not_available(name, origin, reason, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Vec<(String, String)>, ConfigError> {
        let args: Vec<OsString> = words.iter().map(Into::into).collect();
        Ok(parse(&args)?.into_iter().map(|item| (item.name, item.value)).collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn long_and_short_options() {
        let words =
            ["--socket", ":3031", "--processes=4", "-Mp8", "-p", "2", "-C", "-C660", "-w", "shop", "-L"];
        let expected = [
            ("socket", ":3031"),
            ("processes", "4"),
            ("master", "true"),
            ("processes", "8"),
            ("processes", "2"),
            ("chmod-socket", ""),
            ("chmod-socket", "660"),
            ("module", "shop"),
            ("disable-logging", "true"),
        ];
        assert_eq!(parsed(&words).unwrap(), pairs(&expected));
    }

    #[test]
    fn positional_arguments_come_last() {
        let words = ["app.ini", "--async", "10", "shop.py", "-M", "pkg.mod:app"];
        let expected = [
            ("async", "10"),
            ("master", "true"),
            ("ini", "app.ini"),
            ("wsgi-file", "shop.py"),
            ("module", "pkg.mod:app"),
        ];
        assert_eq!(parsed(&words).unwrap(), pairs(&expected));
    }

    #[test]
    fn abbreviations() {
        assert_eq!(parsed(&["--proces", "2"]).unwrap(), pairs(&[("processes", "2")]));
        let error = parsed(&["--s", "x"]).unwrap_err();
        assert!(
            matches!(&error, ConfigError::AmbiguousOption { candidates, .. } if candidates.len() > 2),
            "{error}"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let error = parsed(&["-M", "--procesess", "2"]).unwrap_err().to_string();
        assert!(error.contains("argument 2") && error.contains("--processes"), "{error}");
        assert!(matches!(parsed(&["--async"]).unwrap_err(), ConfigError::MissingArgument { .. }));
        assert!(parsed(&["site.yaml"]).unwrap_err().to_string().contains("ini"));
        assert!(parsed(&["config.ru"]).unwrap_err().to_string().contains("Rack"));
        assert!(parsed(&["notes.txt"]).unwrap_err().to_string().contains("unable to load"));
        assert!(parsed(&["--chmod-socket", "660"]).unwrap_err().to_string().contains("--chmod-socket=660"));
        assert!(parsed(&["-Z"]).unwrap_err().to_string().contains("unknown option \"-Z\""));
    }

    #[test]
    fn what_greenloom_does_not_have_is_refused_unless_switched_off() {
        let error = parsed(&["--cheaper", "30"]).unwrap_err();
        assert_eq!(error.option(), Some("cheaper"));
        assert_eq!(parsed(&["--stats-push=false"]).unwrap(), pairs(&[("stats-push", "false")]));
        assert_eq!(parsed(&["-q", "1000"]).unwrap_err().option(), Some("-q"));
        assert_eq!(
            parsed(&["--cheaper-busyness-max", "3"]).unwrap_err().option(),
            Some("cheaper-busyness-max")
        );
    }

    #[test]
    fn help_takes_a_word() {
        assert_eq!(parsed(&["--help", "async"]).unwrap(), pairs(&[("help", "async")]));
        assert_eq!(parsed(&["-h", "-M"]).unwrap(), pairs(&[("help", ""), ("master", "true")]));
    }
}
