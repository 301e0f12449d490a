//! The list of options: each one is defined once, here and in the files of its category.
//!
//! The command line, the ini reader, `--help`, docs/options.md and the nearest-name advice all read this list.
//! What uWSGI has and greenloom does not stands in `elsewhere`, with the reason and the remedy.

mod accepted;
mod application;
mod cgi;
mod configuration;
mod control;
mod elsewhere;
mod engine;
mod information;
mod limits;
mod listening;
mod logging;
mod processes;
mod recycling;
mod signals;
mod static_files;
mod status;

pub(crate) use application::is_part;
pub(crate) use configuration::{BlockKind, Condition, SourceKind};
pub(crate) use elsewhere::{Elsewhere, GROUPS as ELSEWHERE_GROUPS};
pub(crate) use information::InformationKind;

use crate::draft::Draft;
use crate::origin::Origin;
use crate::values::Parsed;

/// Options of one subject, under one heading of the help.
#[derive(Debug)]
pub(crate) struct Category {
    /// Word for `--help WORD`.
    pub(crate) word: &'static str,
    /// Heading.
    pub(crate) title: &'static str,
    /// What they have in common, in a sentence or two.
    pub(crate) intro: &'static str,
    /// The options, in reading order.
    pub(crate) options: &'static [OptionDef],
}

/// Every category, in the order of the help.
pub(crate) const CATEGORIES: &[Category] = &[
    listening::CATEGORY,
    application::CATEGORY,
    static_files::CATEGORY,
    cgi::CATEGORY,
    engine::CATEGORY,
    processes::CATEGORY,
    control::CATEGORY,
    limits::CATEGORY,
    recycling::CATEGORY,
    logging::CATEGORY,
    status::CATEGORY,
    signals::CATEGORY,
    configuration::CATEGORY,
    information::CATEGORY,
    accepted::CATEGORY,
];

/// What stands behind an option's name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arg {
    /// Nothing; `--name=false` switches off.
    Flag,
    /// A value, in the same argument (`--name=v`) or the next one.
    Required(&'static str),
    /// A value in the same argument, or none.
    Optional(&'static str),
    /// A value in the same argument, or the next one when that is no option.
    OptionalNext(&'static str),
}

/// What an option does.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    /// Changes the settings.
    Setting(fn(&mut Draft<'_>, &Given<'_>) -> Parsed<()>),
    /// A flag that changes the settings.
    Switch(fn(&mut Draft<'_>, bool, &Given<'_>)),
    /// Adds to the list of entries while it is being built.
    Source(SourceKind),
    /// Begins a block.
    Block(BlockKind),
    /// Ends a block.
    EndBlock,
    /// Asks for a text instead of a start.
    Information(InformationKind),
    /// Accepted because nothing needs doing: what it asks for is so anyway.
    Nothing,
    /// Accepted though it does nothing, which is said at start.
    NothingButSaid,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionDef {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) short: Option<char>,
    pub(crate) arg: Arg,
    /// Values add up instead of the last one winning.
    pub(crate) repeatable: bool,
    /// One line.
    pub(crate) help: &'static str,
    /// Whole sentences, for the manual; may be empty.
    pub(crate) details: &'static str,
    /// Default as it would be written; empty where there is none.
    pub(crate) default: &'static str,
    pub(crate) role: Role,
}

/// One use of an option with a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'e> {
    /// Name as it was written.
    pub(crate) name: &'e str,
    pub(crate) value: &'e str,
    pub(crate) origin: &'e Origin,
}

impl OptionDef {
    const fn new(name: &'static str, arg: Arg, role: Role, help: &'static str) -> Self {
        Self { name, aliases: &[], short: None, arg, repeatable: false, help, details: "", default: "", role }
    }

    /// A setting.
    pub(crate) const fn set(
        name: &'static str,
        arg: Arg,
        set: fn(&mut Draft<'_>, &Given<'_>) -> Parsed<()>,
        help: &'static str,
    ) -> Self {
        Self::new(name, arg, Role::Setting(set), help)
    }

    /// A setting that is on or off.
    pub(crate) const fn switch(
        name: &'static str,
        switch: fn(&mut Draft<'_>, bool, &Given<'_>),
        help: &'static str,
    ) -> Self {
        Self::new(name, Arg::Flag, Role::Switch(switch), help)
    }

    /// An option with another role.
    pub(crate) const fn with_role(name: &'static str, arg: Arg, role: Role, help: &'static str) -> Self {
        Self::new(name, arg, role, help)
    }

    pub(crate) const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(crate) const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    pub(crate) const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    pub(crate) const fn default_value(mut self, text: &'static str) -> Self {
        self.default = text;
        self
    }

    pub(crate) const fn details(mut self, text: &'static str) -> Self {
        self.details = text;
        self
    }

    /// Its name and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// An option of greenloom.
    Option(&'static OptionDef),
    /// An option of uWSGI that greenloom does not have.
    Elsewhere(&'static Elsewhere),
}

/// All options, in the order of the help.
pub(crate) fn all() -> impl Iterator<Item = &'static OptionDef> {
    CATEGORIES.iter().flat_map(|category| category.options)
}

/// Finds an option by its whole name.
pub(crate) fn find(name: &str) -> Option<Found> {
    all()
        .find(|option| option.names().any(|known| known == name))
        .map(Found::Option)
        .or_else(|| elsewhere::find(name).map(Found::Elsewhere))
}

/// Finds an option by its short letter.
pub(crate) fn find_short(letter: char) -> Option<Found> {
    all()
        .find(|option| option.short == Some(letter))
        .map(Found::Option)
        .or_else(|| elsewhere::find_short(letter).map(Found::Elsewhere))
}

/// Names that begin with the text. Aliases of one option count once.
pub(crate) fn abbreviated(start: &str) -> Vec<(&'static str, Found)> {
    let mut found: Vec<(&'static str, Found)> = all()
        .filter_map(|option| {
            let name = option.names().find(|name| name.starts_with(start))?;
            Some((name, Found::Option(option)))
        })
        .collect();
    found.extend(
        elsewhere::names()
            .filter(|(name, _)| name.starts_with(start))
            .map(|(name, group)| (name, Found::Elsewhere(group))),
    );
    found
}

/// Finds a group of options that greenloom does not have by a name's start. A name that is an option's own but for a
/// typing mistake belongs to none: `http-sokcet` is no part of an HTTP router.
pub(crate) fn elsewhere_by_start(name: &str) -> Option<&'static Elsewhere> {
    /// Letters left out, added, changed, or swapped with their neighbours.
    const MISTAKES: usize = 2;
    let group = elsewhere::find_by_start(name)?;
    let mistyped =
        all().flat_map(OptionDef::names).any(|known| strsim::osa_distance(name, known) <= MISTAKES);
    (!mistyped).then_some(group)
}

/// The known name that looks most like the text, if any looks like it at all.
pub(crate) fn nearest(text: &str) -> Option<&'static str> {
    const ALIKE_ENOUGH: f64 = 0.86;
    let plain = text.replace('_', "-");
    all()
        .flat_map(OptionDef::names)
        .chain(elsewhere::names().map(|(name, _)| name))
        .map(|name| (name, strsim::jaro_winkler(&plain, name)))
        .filter(|(_, score)| *score >= ALIKE_ENOUGH)
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(name, _)| name)
}

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Setting(_) => "Setting",
            Self::Switch(_) => "Switch",
            Self::Source(_) => "Source",
            Self::Block(_) => "Block",
            Self::EndBlock => "EndBlock",
            Self::Information(_) => "Information",
            Self::Nothing => "Nothing",
            Self::NothingButSaid => "NothingButSaid",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_name_and_letter_is_defined_once() {
        let mut names = HashMap::new();
        let mut letters = HashMap::new();
        let built = all().flat_map(|option| option.names().map(move |name| (name, option.name)));
        let elsewhere = elsewhere::names().map(|(name, group)| (name, group.reason));
        for (name, owner) in built.chain(elsewhere) {
            if let Some(other) = names.insert(name, owner) {
                panic!("{name} belongs to both {other} and {owner}");
            }
        }
        for option in all() {
            if let Some(letter) = option.short {
                assert_eq!(letters.insert(letter, option.name), None, "-{letter}");
                assert!(elsewhere::find_short(letter).is_none(), "-{letter}");
            }
        }
    }

    #[test]
    fn every_option_is_explained() {
        for option in all() {
            assert!(!option.help.is_empty() && !option.help.ends_with('.'), "{}", option.name);
            assert!(option.details.is_empty() || option.details.ends_with('.'), "{}", option.name);
            assert!(option.help.len() <= 90, "{}: {}", option.name, option.help.len());
        }
    }

    #[test]
    fn a_typing_mistake_belongs_to_no_group() {
        assert!(elsewhere_by_start("http-sokcet").is_none());
        assert!(elsewhere_by_start("http-subscription-server").is_some());
        assert!(elsewhere_by_start("cheaper-busyness-max").is_some());
    }

    #[test]
    fn the_nearest_name() {
        assert_eq!(nearest("proceses"), Some("processes"));
        assert_eq!(nearest("http_socket"), Some("http-socket"));
        assert_eq!(nearest("xyzzy"), None);
    }
}
