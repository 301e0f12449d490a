//! Options: texts instead of a start.

use super::{Arg, Category, OptionDef, Role};

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InformationKind {
    /// The options.
    Help,
    /// The version.
    Version,
    /// Whether the configuration is good.
    Check,
    /// The effective configuration.
    PrintConfig,
    /// The effective configuration, then go on.
    ShowConfig,
    /// The table of engines.
    LoopList,
    /// The table of engines, for programs.
    EnginesJson,
    /// One value.
    Get,
}

pub(super) const CATEGORY: Category = Category {
    word: "information",
    title: "Information",
    intro: "These print something and exit with code 0, or with 1 when the configuration is refused.",
    options: OPTIONS,
};

const fn information(name: &'static str, arg: Arg, kind: InformationKind, help: &'static str) -> OptionDef {
    OptionDef::with_role(name, arg, Role::Information(kind), help)
}

const OPTIONS: &[OptionDef] = &[
    information(
        "help",
        Arg::OptionalNext("WORD"),
        InformationKind::Help,
        "all options, those of a category, or one in detail",
    )
    .aliases(&["usage"])
    .short('h'),
    information("version", Arg::Flag, InformationKind::Version, "the version number"),
    information(
        "check",
        Arg::Flag,
        InformationKind::Check,
        "read and check the configuration without serving",
    )
    .aliases(&["check-config"]),
    information(
        "print-config",
        Arg::Flag,
        InformationKind::PrintConfig,
        "the effective value and origin of each option",
    ),
    information(
        "show-config",
        Arg::Flag,
        InformationKind::ShowConfig,
        "as --print-config, then go on starting (as uWSGI does)",
    ),
    information(
        "loop-list",
        Arg::Flag,
        InformationKind::LoopList,
        "which engines go together, and which are there",
    )
    .aliases(&["loops-list"]),
    information(
        "engines-json",
        Arg::Flag,
        InformationKind::EnginesJson,
        "the table of engines as JSON, for programs",
    ),
    information(
        "get",
        Arg::Required("NAME"),
        InformationKind::Get,
        "the first value given for an option or placeholder",
    )
    .repeatable(),
];
