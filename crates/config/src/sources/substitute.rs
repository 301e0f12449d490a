//! `$(ENV)`, `@(file)`, `%(placeholder)` with its small calculator, and the `$1` of declared options.

use std::collections::HashSet;

use super::Entry;
use crate::error::ConfigError;
use crate::origin::Origin;
use crate::world::World;

/// Placeholders within placeholders: more than this is a circle.
const DEPTH_MAX: u32 = 16;
/// A value longer than this comes from placeholders that multiply.
const LENGTH_MAX: usize = 1 << 20;

/// Replaces `$(NAME)`; the text of a variable that is not set stays as it is.
pub(super) fn variables(text: &str, world: &dyn World) -> String {
    replace(text, '$', |name| Ok::<_, ()>(world.variable(name))).unwrap_or_else(|()| text.to_owned())
}

/// Replaces `@(file)` by the file's content without the newline at its end.
pub(super) fn resources(text: &str, world: &dyn World, origin: &Origin) -> Result<String, ConfigError> {
    replace(text, '@', |path| {
        if let Some((scheme, _)) = path.split_once("://") {
            return Err(ConfigError::source(
                origin,
                format!("\"{scheme}://\" is not supported in @({path})"),
                "name a file",
            ));
        }
        let bytes = world.read(path).map_err(|error| {
            ConfigError::source(
                origin,
                format!("cannot read @({path}): {error}"),
                "check its path and permissions",
            )
        })?;
        let content = String::from_utf8(bytes).map_err(|_| {
            ConfigError::source(origin, format!("@({path}) is not UTF-8"), "save the file as UTF-8")
        })?;
        Ok(Some(content.trim_end_matches(['\r', '\n']).to_owned()))
    })
}

/// Replaces `%(name)` by the first value of that name, and `%(a + 2)` by what it comes to. An unknown name alone
/// stays as it is.
pub(super) fn placeholders(text: &str, entries: &[Entry], origin: &Origin) -> Result<String, ConfigError> {
    expand(text, entries, origin, 0)
}

fn expand(text: &str, entries: &[Entry], origin: &Origin, depth: u32) -> Result<String, ConfigError> {
    if depth > DEPTH_MAX {
        return Err(ConfigError::source(
            origin,
            "placeholders refer to each other in a circle",
            "give one of them a value of its own",
        ));
    }
    let value_of = |name: &str| match first_value(name, entries) {
        Some(value) if value.contains("%(") => expand(value, entries, origin, depth + 1).map(Some),
        Some(value) => Ok(Some(value.to_owned())),
        None => Ok(None),
    };
    let expanded = replace(text, '%', |inner| match inner {
        "_" => Ok(None),
        _ if inner.contains(' ') || inner.ends_with("++") || inner.ends_with("--") => {
            calculate(inner, value_of).map(Some)
        }
        name => value_of(name),
    })?;
    if expanded.len() > LENGTH_MAX {
        return Err(ConfigError::source(
            origin,
            "the value becomes longer than a mebibyte",
            "look for placeholders that multiply",
        ));
    }
    Ok(expanded)
}

/// The first value of an option or placeholder.
pub(super) fn first_value<'e>(name: &str, entries: &'e [Entry]) -> Option<&'e str> {
    entries.iter().find(|entry| entry.name == name).map(|entry| entry.value.as_str())
}

/// Names that `%(...)` in the text mentions.
pub(super) fn references(text: &str, names: &mut HashSet<String>) {
    let found = replace(text, '%', |inner| {
        for item in inner.split(' ') {
            let item = item.strip_suffix("++").or_else(|| item.strip_suffix("--")).unwrap_or(item);
            names.insert(item.to_owned());
        }
        Ok::<_, ()>(None)
    });
    debug_assert!(found.is_ok(), "the closure never fails");
}

/// Replaces `$1`, `$2`, ... by words; a word that is not there is empty.
pub(super) fn words(template: &str, words: &[&str]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
        match behind[..digits].parse::<usize>() {
            Ok(number) if number > 0 => out.push_str(words.get(number - 1).copied().unwrap_or_default()),
            _ => out.push_str(&rest[at..=at + digits]),
        }
        rest = &behind[digits..];
    }
    out.push_str(rest);
    out
}

/// Replaces each `X(inner)` by what the closure gives for `inner`; `None` leaves the text as it is.
fn replace<E>(
    text: &str,
    sign: char,
    mut value: impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<String, E> {
    let opening: String = [sign, '('].iter().collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&opening) {
        let Some(length) = rest[at..].find(')') else {
            break;
        };
        out.push_str(&rest[..at]);
        match value(&rest[at + 2..at + length])? {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..=at + length]),
        }
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The calculator: from left to right, items separated by one blank. Two items without an operator between them are
/// put together; division by zero is 0; unknown names are empty; what is no number counts as 0.
fn calculate(
    text: &str,
    value_of: impl Fn(&str) -> Result<Option<String>, ConfigError>,
) -> Result<String, ConfigError> {
    let mut result = String::new();
    let mut operator = None;
    for item in text.split(' ').filter(|item| !item.is_empty()) {
        if let "+" | "-" | "*" | "/" = item {
            operator = Some(item);
            continue;
        }
        if let "++" | "--" = item {
            result = step(&result, item);
            continue;
        }
        let (name, postfix) = match item.strip_suffix("++").map(|name| (name, "++")) {
            Some(found) => found,
            None => item.strip_suffix("--").map_or((item, ""), |name| (name, "--")),
        };
        let mut value = match value_of(name)? {
            Some(value) => value,
            None if name.parse::<i64>().is_ok() => name.to_owned(),
            None => String::new(),
        };
        if !postfix.is_empty() {
            value = step(&value, postfix);
        }
        result = match operator.take() {
            None => result + &value,
            Some(operator) => {
                let (left, right) = (number(&result), number(&value));
                let total = match operator {
                    "+" => left.wrapping_add(right),
                    "-" => left.wrapping_sub(right),
                    "*" => left.wrapping_mul(right),
                    _ => left.checked_div(right).unwrap_or(0),
                };
                total.to_string()
            }
        };
    }
    Ok(result)
}

fn step(value: &str, operator: &str) -> String {
    let change = if operator == "++" { 1 } else { -1 };
    number(value).wrapping_add(change).to_string()
}

fn number(text: &str) -> i64 {
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
        pairs
            .iter()
            .map(|(name, value)| Entry {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                origin: Origin::Default,
                found: None,
                placeholder: true,
                strict: false,
            })
            .collect()
    }

    fn expanded(text: &str, pairs: &[(&str, &str)]) -> String {
        placeholders(text, &entries(pairs), &Origin::Default).unwrap()
    }

    #[test]
    fn the_calculator() {
        let pairs = [("a", "4"), ("b", "3"), ("word", "x")];
        for (text, value) in [
            ("%(a + 2)", "6"),
            ("%(a - b * 10)", "10"),
            ("%(a / 0)", "0"),
            ("%(a b)", "43"),
            ("%(a++)", "5"),
            ("%(a--)", "3"),
            ("%(a + none)", "4"),
            ("%(word + 1)", "1"),
            ("%(a * a) of %(b)", "16 of 3"),
        ] {
            assert_eq!(expanded(text, &pairs), value, "{text}");
        }
    }

    #[test]
    fn the_first_value_counts_and_values_are_expanded_in_turn() {
        assert_eq!(expanded("%(a)", &[("a", "1"), ("a", "2")]), "1");
        assert_eq!(expanded("%(c)/x", &[("b", "/srv"), ("c", "%(b)/shop")]), "/srv/shop/x");
        assert_eq!(expanded("%(none) %(open", &[]), "%(none) %(open");
    }

    #[test]
    fn circles_and_explosions_are_refused() {
        let circle = entries(&[("a", "%(b)"), ("b", "%(a)")]);
        assert!(placeholders("%(a)", &circle, &Origin::Default).unwrap_err().to_string().contains("circle"));
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut bomb = vec![("a", "x".repeat(100))];
        bomb.extend(names.windows(2).map(|two| (two[1], format!("%({0})", two[0]).repeat(16))));
        let bomb: Vec<_> = bomb.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert!(
            placeholders("%(h)", &entries(&bomb), &Origin::Default)
                .unwrap_err()
                .to_string()
                .contains("mebibyte")
        );
    }

    #[test]
    fn words_of_declared_options() {
        assert_eq!(words("a=$1:$2$3", &["x", "y"]), "a=x:y");
        assert_eq!(words("$0 $ $$1 $12", &["x"]), "$0 $ $x ");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[%$@()+*/ a-c0-9é-]{0,40}", value in "[%()a-c +]{0,12}") {
            let _ = placeholders(&text, &entries(&[("a", &value), ("b", "7")]), &Origin::Default);
            let _ = words(&text, &["x"]);
            references(&text, &mut HashSet::new());
        }
    }
}
