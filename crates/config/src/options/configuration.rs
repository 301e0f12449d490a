//! Options: further sources of options, placeholders, and blocks. `sources` does what they say.

use super::{Arg, Category, OptionDef, Role};

/// What an option adds to the list of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// An ini file, in place.
    Ini,
    /// A file of any format, by its extension, in place.
    ByExtension,
    /// A file, after everything else.
    Inherit,
    /// An option or placeholder.
    Set,
    /// A placeholder.
    SetPlaceholder,
    /// From here on a placeholder must be set as one.
    Strict,
    /// A new option that stands for others.
    Declare,
}

/// A block: its body is used once per item, or when a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// For each word.
    For,
    /// For each path that matches.
    ForGlob,
    /// For each number from 1.
    ForTimes,
    /// For each line of a file.
    ForReadline,
    /// When the condition holds, or does not.
    If(Condition, bool),
}

/// Condition of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A variable is set, or has a value.
    Env,
    /// An option is given, or has a value.
    Opt,
    /// Something exists.
    Exists,
    /// A regular file exists.
    File,
    /// A directory exists.
    Dir,
    /// This machine has that name.
    Hostname,
    /// That part is there.
    Plugin,
    /// This start is a reload.
    Reload,
}

pub(super) const CATEGORY: Category = Category {
    word: "configuration",
    title: "Configuration",
    intro: "Environment variables (UWSGI_FOO_BAR or GREENLOOM_FOO_BAR for foo-bar) come first, then the command line from left to right, then positional files; the last value of an option wins. In ini files %x stands for facts about the file, $(NAME) for an environment variable, @(file) for a file's content, %(name) for the first value of an option or placeholder.",
    options: OPTIONS,
};

const fn source(name: &'static str, arg: Arg, kind: SourceKind, help: &'static str) -> OptionDef {
    OptionDef::with_role(name, arg, Role::Source(kind), help)
}

const fn block(name: &'static str, arg: Arg, kind: BlockKind, help: &'static str) -> OptionDef {
    OptionDef::with_role(name, arg, Role::Block(kind), help)
}

const fn when(name: &'static str, arg: Arg, condition: Condition, help: &'static str) -> OptionDef {
    block(name, arg, BlockKind::If(condition, true), help)
}

const fn unless(name: &'static str, arg: Arg, condition: Condition, help: &'static str) -> OptionDef {
    block(name, arg, BlockKind::If(condition, false), help)
}

const FILE: Arg = Arg::Required("FILE");
const PATH: Arg = Arg::Required("PATH");
const NAME_VALUE: Arg = Arg::Required("NAME[=VALUE]");

const OPTIONS: &[OptionDef] = &[
    source("ini", Arg::Required("FILE[:SECTION]"), SourceKind::Ini, "read options from an ini file")
        .repeatable()
        .details("Options stand in the section [uwsgi] or [greenloom], or in the one named behind the colon; :SECTION alone reads the last file again. A positional argument x.ini is the same, but is read after all options."),
    source("config", Arg::Required("FILE[:SECTION]"), SourceKind::ByExtension, "read options from a file, by its extension")
        .repeatable(),
    source("include", Arg::Required("FILE[:SECTION]"), SourceKind::ByExtension, "read another file at this place").repeatable(),
    source("inherit", Arg::Required("FILE[:SECTION]"), SourceKind::Inherit, "read another file after everything else")
        .repeatable(),
    source("set", Arg::Required("NAME=VALUE"), SourceKind::Set, "set an option or a placeholder").short('S').repeatable(),
    source("set-placeholder", Arg::Required("NAME=VALUE"), SourceKind::SetPlaceholder, "set a placeholder for %(NAME)")
        .aliases(&["set-ph"])
        .repeatable(),
    source("strict", Arg::Flag, SourceKind::Strict, "from here on only set-placeholder makes placeholders")
        .details("Unknown names are refused in any case; without this option an unknown name in a file is a placeholder when some %(name) refers to it."),
    source("declare-option", Arg::Required("NAME=TEMPLATE"), SourceKind::Declare, "make a new option for the lines below it")
        .repeatable()
        .details("TEMPLATE is a list of option=value separated by semicolons, in which $1, $2, ... stand for the words of the value."),
    block("for", Arg::Required("WORDS"), BlockKind::For, "use the lines up to endfor once per word, as %(_)"),
    block("for-glob", Arg::Required("PATTERN"), BlockKind::ForGlob, "use the lines up to endfor once per matching path"),
    block("for-times", Arg::Required("N"), BlockKind::ForTimes, "use the lines up to endfor N times"),
    block("for-readline", FILE, BlockKind::ForReadline, "use the lines up to endfor once per line of a file"),
    when("if-env", NAME_VALUE, Condition::Env, "use the lines up to endif when a variable is set"),
    unless("if-not-env", NAME_VALUE, Condition::Env, "use the lines up to endif when it is not"),
    when("if-opt", NAME_VALUE, Condition::Opt, "use the lines up to endif when an option is given"),
    unless("if-not-opt", NAME_VALUE, Condition::Opt, "use the lines up to endif when it is not"),
    when("if-exists", PATH, Condition::Exists, "use the lines up to endif when a path exists"),
    unless("if-not-exists", PATH, Condition::Exists, "use the lines up to endif when it does not"),
    when("if-file", PATH, Condition::File, "use the lines up to endif when a regular file exists"),
    unless("if-not-file", PATH, Condition::File, "use the lines up to endif when it does not"),
    when("if-dir", PATH, Condition::Dir, "use the lines up to endif when a directory exists").aliases(&["if-directory"]),
    unless("if-not-dir", PATH, Condition::Dir, "use the lines up to endif when it does not").aliases(&["if-not-directory"]),
    when("if-hostname", Arg::Required("NAME"), Condition::Hostname, "use the lines up to endif on one machine"),
    unless("if-not-hostname", Arg::Required("NAME"), Condition::Hostname, "use the lines up to endif on all others"),
    when("if-plugin", Arg::Required("NAME"), Condition::Plugin, "use the lines up to endif when greenloom has a part"),
    unless("if-not-plugin", Arg::Required("NAME"), Condition::Plugin, "use the lines up to endif when it does not"),
    when("if-reload", Arg::Flag, Condition::Reload, "use the lines up to endif after a reload"),
    unless("if-not-reload", Arg::Flag, Condition::Reload, "use the lines up to endif at the first start"),
    OptionDef::with_role("end", Arg::Flag, Role::EndBlock, "end of a block")
        .aliases(&["endfor", "end-for", "endif", "end-if"]),
];
