//! What can be wrong with a configuration. Every message says where, what, why, and how to fix it.

use std::fmt;

use crate::options::Given;
use crate::origin::Origin;

/// Why the configuration was refused. The process should print it and exit with code 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name that is neither an option of greenloom nor one of uWSGI's.
    UnknownOption {
        /// The name as it was written.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// The known name that looks most like it.
        nearest: Option<String>,
    },
    /// An abbreviation of several options.
    AmbiguousOption {
        /// The abbreviation.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// What it could mean.
        candidates: Vec<String>,
    },
    /// An option at the end of the command line that needs an argument.
    MissingArgument {
        /// The option.
        name: String,
        /// Where it stands.
        origin: Origin,
    },
    /// An option that greenloom knows and does not have, or an engine it cannot start.
    NotAvailable {
        /// The option.
        name: String,
        /// Where it stands.
        origin: Origin,
        /// Why it is not there.
        reason: Box<str>,
        /// What to do instead.
        remedy: Box<str>,
    },
    /// A value that the option does not take, alone or together with others.
    BadValue {
        /// The option.
        name: String,
        /// The value.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong with it.
        reason: Box<str>,
        /// How to fix it.
        remedy: Box<str>,
    },
    /// A file, a block or an argument that cannot be read as configuration.
    Source {
        /// Where it stands.
        origin: Origin,
        /// What is wrong.
        reason: Box<str>,
        /// How to fix it.
        remedy: Box<str>,
    },
    /// Something that must be there and is not.
    Missing {
        /// What is missing.
        reason: Box<str>,
        /// How to provide it.
        remedy: Box<str>,
    },
    /// Several of the above, in the order of the configuration.
    Several(Vec<Self>),
}

impl ConfigError {
    /// The errors one by one: itself, or the parts of [`Self::Several`].
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Several(parts) => parts,
            single => std::slice::from_ref(single),
        }
    }

    /// The option this is about, where it is about one.
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::UnknownOption { name, .. }
            | Self::AmbiguousOption { name, .. }
            | Self::MissingArgument { name, .. }
            | Self::NotAvailable { name, .. }
            | Self::BadValue { name, .. } => Some(name),
            Self::Source { .. } | Self::Missing { .. } | Self::Several(_) => None,
        }
    }

    /// One error for a list of them; `None` for an empty list.
    pub(crate) fn from_list(mut errors: Vec<Self>) -> Option<Self> {
        match errors.len() {
            0 => None,
            1 => errors.pop(),
            _ => Some(Self::Several(errors)),
        }
    }

    pub(crate) fn source(origin: &Origin, reason: impl Into<Box<str>>, remedy: impl Into<Box<str>>) -> Self {
        Self::Source { origin: origin.clone(), reason: reason.into(), remedy: remedy.into() }
    }

    pub(crate) fn missing(reason: impl Into<Box<str>>, remedy: impl Into<Box<str>>) -> Self {
        Self::Missing { reason: reason.into(), remedy: remedy.into() }
    }

    pub(crate) fn bad_value(
        given: &Given<'_>,
        reason: impl Into<Box<str>>,
        remedy: impl Into<Box<str>>,
    ) -> Self {
        Self::BadValue {
            name: given.name.to_owned(),
            value: given.value.to_owned(),
            origin: given.origin.clone(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }

    pub(crate) fn not_available(
        name: &str,
        origin: &Origin,
        reason: impl Into<Box<str>>,
        remedy: impl Into<Box<str>>,
    ) -> Self {
        Self::NotAvailable {
            name: name.to_owned(),
            origin: origin.clone(),
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption { name, origin, nearest: Some(nearest) } => {
                write!(f, "{origin}: unknown option \"{name}\"; did you mean \"{nearest}\"? ")?;
                unknown_advice(f, name, origin)
            }
            Self::UnknownOption { name, origin, nearest: None } => {
                write!(f, "{origin}: unknown option \"{name}\"; ")?;
                unknown_advice(f, name, origin)
            }
            Self::AmbiguousOption { name, origin, candidates } => write!(
                f,
                "{origin}: option \"--{name}\" is ambiguous; write one of: --{}",
                candidates.join(" --")
            ),
            Self::MissingArgument { name, origin } => {
                write!(f, "{origin}: option \"--{name}\" requires an argument; see greenloom --help {name}")
            }
            Self::NotAvailable { name, origin, reason, remedy } => {
                write!(f, "{origin}: option \"{name}\": {reason}; {remedy}")
            }
            Self::BadValue { name, value, origin, reason, remedy } => {
                write!(f, "{origin}: option \"{name}\", value {value:?}: {reason}; {remedy}")
            }
            Self::Source { origin, reason, remedy } => write!(f, "{origin}: {reason}; {remedy}"),
            Self::Missing { reason, remedy } => write!(f, "{reason}; {remedy}"),
            Self::Several(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let newline = if index == 0 { "" } else { "\n" };
                    write!(f, "{newline}{part}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

fn unknown_advice(f: &mut fmt::Formatter<'_>, name: &str, origin: &Origin) -> fmt::Result {
    match origin {
        Origin::File { .. } => {
            write!(f, "if it is meant as a placeholder, write \"set-placeholder = {name}=...\"")
        }
        _ => f.write_str("greenloom --help lists all options"),
    }
}
