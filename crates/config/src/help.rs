//! Texts made from the list of options: `--help` and docs/options.md.

use std::fmt::Write as _;

use crate::engines;
use crate::options::{self, Arg, CATEGORIES, Category, ELSEWHERE_GROUPS, Found, OptionDef};

/// Column where the help of an option begins.
const COLUMN: usize = 40;
/// Width of the text.
const WIDTH: usize = 110;

/// The help: of everything for an empty word, of a category, or of one option. `None` for a word that is neither.
pub(crate) fn help(word: &str) -> Option<String> {
    let word = word.trim_start_matches('-');
    if word.is_empty() || word == "true" {
        return Some(whole());
    }
    if let Some(category) = CATEGORIES.iter().find(|category| category.word == word) {
        let mut text = String::new();
        write_category(&mut text, category);
        return Some(text);
    }
    match options::find(word).or_else(|| options::elsewhere_by_start(word).map(Found::Elsewhere))? {
        Found::Option(option) => Some(detail(option)),
        Found::Elsewhere(group) => Some(format!("{word}: {}; {}.\n", group.reason, group.remedy)),
    }
}

/// The words `--help` takes for categories.
pub(crate) fn category_words() -> String {
    CATEGORIES.iter().map(|category| category.word).collect::<Vec<_>>().join(", ")
}

/// The manual of all options as Markdown: docs/options.md.
pub fn options_markdown() -> String {
    let mut text = String::from(
        "# Options\n\n\
         This page is generated from the list of options in `crates/config/src/options/`; change it there.\n\n\
         An option is written `--name value` on the command line, `name = value` below `[uwsgi]` in an ini file, \
         and `GREENLOOM_NAME=value` (or `UWSGI_NAME`) in the environment. A flag needs no value on the command \
         line; `false`, `off`, `no` and `0` switch it off. Where an option is not marked *adds up*, the last \
         value wins.\n",
    );
    for category in CATEGORIES {
        let _ = write!(text, "\n## {}\n\n{}\n\n", category.title, category.intro);
        text.push_str("| option | value | default | effect |\n| --- | --- | --- | --- |\n");
        for option in category.options {
            let names: Vec<_> = option.names().map(|name| format!("`{name}`")).collect();
            let short = option.short.map_or_else(String::new, |letter| format!(" `-{letter}`"));
            let default =
                if option.default.is_empty() { String::new() } else { format!("`{}`", option.default) };
            let planned = if engines::is_planned(option.name) { " (not in this version)" } else { "" };
            let adds_up = if option.repeatable { " (*adds up*)" } else { "" };
            let details =
                if option.details.is_empty() { String::new() } else { format!(". {}", option.details) };
            let _ = writeln!(
                text,
                "| {}{short} | {} | {default} | {}{planned}{adds_up}{} |",
                names.join(", "),
                cell(&value_word(option.arg)),
                cell(option.help),
                cell(&details)
            );
        }
    }
    text.push_str(
        "\n## Options of uWSGI that are refused\n\n\
         Each of them stops the start with its reason and its remedy, unless its value switches it off. A `*` \
         stands for any ending.\n\n\
         | options | reason | what to do instead |\n| --- | --- | --- |\n",
    );
    for group in ELSEWHERE_GROUPS {
        let names: Vec<_> = group.patterns().iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {} | {} |", names.join(", "), cell(group.reason), cell(group.remedy));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn whole() -> String {
    let mut text = String::from(
        "Usage: greenloom [options...] [file.ini | file.py | module:callable]\n\n\
         Serves an application over HTTP or the uwsgi protocol. For example:\n\
         \x20   greenloom --http-socket 127.0.0.1:8000 --module shop:app --async 100\n\n\
         --help WORD shows one category or option; the word of a category stands behind its title.\n",
    );
    for category in CATEGORIES {
        text.push('\n');
        write_category(&mut text, category);
    }
    text
}

fn write_category(text: &mut String, category: &Category) {
    let _ = writeln!(text, "{} ({})", category.title, category.word);
    wrap(text, 2, 2, category.intro);
    for option in category.options {
        let left = left_side(option);
        let default =
            if option.default.is_empty() { String::new() } else { format!(" [{}]", option.default) };
        let planned = if engines::is_planned(option.name) { " (not in this version)" } else { "" };
        let help = format!("{}{default}{planned}", option.help);
        if left.chars().count() + 1 > COLUMN {
            let _ = writeln!(text, "{left}");
            wrap(text, COLUMN, COLUMN, &help);
        } else {
            let _ = write!(text, "{left}");
            wrap(text, COLUMN - left.chars().count(), COLUMN, &help);
        }
    }
}

fn left_side(option: &OptionDef) -> String {
    let short = option.short.map_or_else(String::new, |letter| format!("-{letter}|"));
    let value = match option.arg {
        Arg::Flag => String::new(),
        Arg::Required(word) => format!(" {word}"),
        Arg::Optional(word) => format!("[={word}]"),
        Arg::OptionalNext(word) => format!(" [{word}]"),
    };
    format!("    {short}--{}{value}", option.name)
}

fn detail(option: &OptionDef) -> String {
    let mut text = left_side(option).trim_start().to_owned();
    text.push_str("\n\n");
    wrap(&mut text, 4, 4, &format!("{}.", option.help));
    if engines::is_planned(option.name) {
        wrap(&mut text, 4, 4, "This engine is not in this version.");
    }
    if !option.details.is_empty() {
        wrap(&mut text, 4, 4, option.details);
    }
    if !option.aliases.is_empty() {
        let _ = writeln!(text, "    Also written: --{}", option.aliases.join(", --"));
    }
    if !option.default.is_empty() {
        let _ = writeln!(text, "    Default: {}", option.default);
    }
    if option.repeatable {
        text.push_str("    May be given several times: the values add up.\n");
    }
    text
}

fn value_word(arg: Arg) -> String {
    match arg {
        Arg::Flag => "flag".to_owned(),
        Arg::Required(word) => word.to_owned(),
        Arg::Optional(word) | Arg::OptionalNext(word) => format!("[{word}]"),
    }
}

/// Writes words at a column; the first line begins `first` blanks from where the text stands.
fn wrap(text: &mut String, first: usize, column: usize, words: &str) {
    let mut used = column;
    let mut lead = " ".repeat(first);
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if used > column && used + 1 + length > WIDTH {
            text.push('\n');
            lead = " ".repeat(column);
            used = column;
        }
        text.push_str(&lead);
        text.push_str(word);
        used += length + usize::from(lead == " ");
        " ".clone_into(&mut lead);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_help_is_too_long() {
        let text = whole();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        for option in options::all() {
            assert!(text.contains(&format!("--{}", option.name)), "{}", option.name);
        }
    }

    #[test]
    fn an_option_in_detail() {
        let text = help("--virtualenv").unwrap();
        assert!(text.starts_with("-H|--virtualenv DIRECTORY\n"), "{text}");
        assert!(text.contains("--home"), "{text}");
        assert!(help("emperor").unwrap().contains("one greenloom per site"));
        assert!(help("xyzzy").is_none());
    }

    #[test]
    fn the_manual_has_every_name() {
        let text = options_markdown();
        for option in options::all() {
            for name in option.names() {
                assert!(text.contains(&format!("`{name}`")), "{name}");
            }
        }
    }

    #[test]
    fn the_manual_in_the_tree_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == options_markdown(), "docs/options.md is stale: run cargo xtask options");
    }
}
