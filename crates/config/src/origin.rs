//! Where a configuration value came from: every value carries this, every message prints it.

use std::fmt;
use std::sync::Arc;

/// Source of one configuration value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// Argument `index` of the command line; 1 is the first after the program's name.
    CommandLine {
        /// Position, from 1.
        index: usize,
    },
    /// A line of a file.
    File {
        /// The file as it was named.
        path: Arc<str>,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: Arc<str>,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::CommandLine { index } => write!(f, "command line, argument {index}"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment { name } => write!(f, "environment variable {name}"),
        }
    }
}
