//! What can go wrong while applications load, each with the place and the remedy.
//!
//! Owns the messages and the finding of file and line in an exception. Tracebacks are in the log already when
//! a failure that came from the application's own code is returned.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PySyntaxError;
use pyo3::prelude::*;

use crate::traceback::{describe_exception, log_exception};

/// Why the start must stop. The process should print it and exit with code 22, as uWSGI does.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum LoadFailure {
    /// `--chdir` to a directory that cannot be entered.
    Chdir { directory: PathBuf, reason: io::Error },
    /// `--virtualenv` with a directory this interpreter cannot use.
    Virtualenv { directory: PathBuf, reason: String, remedy: String },
    /// The interpreter itself refused a preparation.
    Interpreter { error: String },
    /// The application's own code raised.
    Raised { label: String, place: Option<Place>, error: String, remedy: Option<String> },
    /// The module asked for is nowhere.
    MissingModule { label: String, module: String, searched: Vec<String>, remedy: String },
    /// The file asked for cannot be read.
    UnreadableFile { label: String, path: PathBuf, reason: io::Error, remedy: String },
    /// The module has no such name.
    MissingCallable {
        label: String,
        name: String,
        place: String,
        nearest: Option<String>,
        others: Vec<String>,
    },
    /// The name is there, but cannot be called.
    NotCallable { label: String, name: String, kind: String },
    /// The callable has another interface than it was loaded for.
    WrongInterface { label: String, reason: &'static str, remedy: &'static str },
    /// Two applications for the same prefix.
    MountTaken { asked: String, mount: String, first: usize },
    /// A key of `applications` that is no path prefix.
    BadMountPoint { asked: String, given: String },
    /// No option names an application.
    NothingAskedFor,
}

/// A line of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: String,
    line: u32,
}

impl LoadFailure {
    /// Logs what the application's code raised, and keeps its place for the message.
    pub(super) fn raised(py: Python<'_>, err: PyErr, label: &str, remedy: Option<String>) -> Self {
        let place = place_of(py, &err).ok().flatten();
        let error = describe_exception(py, &err);
        log_exception(py, err, "");
        Self::Raised { label: label.to_owned(), place, error, remedy }
    }

    /// For calls into the interpreter that fail only when it is broken.
    pub(super) fn interpreter(py: Python<'_>, err: &PyErr) -> Self {
        Self::Interpreter { error: describe_exception(py, err) }
    }
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chdir { directory, reason } => {
                write!(f, "--chdir {}: {reason}; name a directory the server may enter", directory.display())
            }
            Self::Virtualenv { directory, reason, remedy } => {
                write!(f, "--virtualenv {}: {reason}; {remedy}", directory.display())
            }
            Self::Interpreter { error } => write!(f, "unable to prepare the Python interpreter: {error}"),
            Self::Raised { label, place, error, remedy } => {
                write!(f, "{label}: ")?;
                if let Some(Place { file, line }) = place {
                    write!(f, "{file}:{line}: ")?;
                }
                write!(f, "{error}")?;
                match remedy {
                    Some(remedy) => write!(f, "\n{remedy}"),
                    None if error.starts_with("ModuleNotFoundError") => write!(
                        f,
                        "\nthe application needs a module that this interpreter does not have: install it there, or \
                         name the environment that has it with --virtualenv DIRECTORY"
                    ),
                    None => {
                        write!(f, "\nthe traceback above is the application's; correct it and start again")
                    }
                }
            }
            Self::MissingModule { label, module, searched, remedy } => {
                write!(f, "{label}: No module named '{module}'; searched:")?;
                for entry in searched {
                    write!(f, "\n    {entry}")?;
                }
                write!(f, "\n{remedy}")
            }
            Self::UnreadableFile { label, path, reason, remedy } => {
                write!(f, "{label}: unable to read {}: {reason}\n{remedy}", path.display())
            }
            Self::MissingCallable { label, name, place, nearest, others } => {
                write!(f, "{label}: unable to find \"{name}\" callable in {place}")?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean \"{nearest}\"?")?;
                }
                if others.is_empty() {
                    write!(f, "\nit defines no callable at all: name the module that does")
                } else {
                    let others = others.join(", ");
                    write!(f, "\nit has: {others}; name one with MODULE:NAME or --callable NAME")
                }
            }
            Self::NotCallable { label, name, kind } => write!(
                f,
                "{label}: \"{name}\" is {kind}, which cannot be called; a WSGI application is a callable \
                 that takes (environ, start_response)"
            ),
            Self::WrongInterface { label, reason, remedy } => write!(f, "{label}: {reason}; {remedy}"),
            Self::MountTaken { asked, mount, first } => write!(
                f,
                "{asked}: mountpoint '{mount}' is taken by app {first}; give each application a prefix of its \
                 own with --mount /prefix=app"
            ),
            Self::BadMountPoint { asked, given } => write!(
                f,
                "{asked}: applications has the key {given}, which is no mountpoint; use \"\" or \"/\" for the \
                 whole site, or a string that begins with \"/\""
            ),
            Self::NothingAskedFor => write!(
                f,
                "*** no app loaded. GAME OVER ***\nno option names an application: use --module pkg.mod:callable, \
                 --wsgi-file app.py or --mount /prefix=app (or --no-need-app to start without; files and CGI scripts alone \
                 are served with --static-map, --check-static and --cgi)"
            ),
        }
    }
}

impl std::error::Error for LoadFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Chdir { reason, .. } | Self::UnreadableFile { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// Where an exception came from: the line a syntax error names, else the innermost frame outside the standard
/// library and installed packages, else the innermost of all.
fn place_of(py: Python<'_>, err: &PyErr) -> PyResult<Option<Place>> {
    if err.is_instance_of::<PySyntaxError>(py) {
        let value = err.value(py);
        let file: Option<String> = value.getattr("filename")?.extract()?;
        let line: Option<u32> = value.getattr("lineno")?.extract()?;
        if let Some(file) = file {
            return Ok(Some(Place { file, line: line.unwrap_or(1) }));
        }
    }
    let library: PathBuf = py.import("os")?.getattr("__file__")?.extract()?;
    let library = library.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut step = err.traceback(py).map(Bound::into_any);
    let (mut innermost, mut own) = (None, None);
    while let Some(frame) = step {
        let file: String = frame.getattr("tb_frame")?.getattr("f_code")?.getattr("co_filename")?.extract()?;
        let place = Place { line: frame.getattr("tb_lineno")?.extract()?, file };
        if is_own(&place.file, &library) {
            own = Some(place.clone());
        }
        innermost = Some(place);
        step = Some(frame.getattr("tb_next")?).filter(|next| !next.is_none());
    }
    Ok(own.or(innermost))
}

fn is_own(file: &str, library: &Path) -> bool {
    let installed = file.contains("/site-packages/") || file.contains("/dist-packages/");
    !installed && !file.starts_with('<') && !Path::new(file).starts_with(library)
}
