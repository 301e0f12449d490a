//! Lines of the server's log: each one is a single write to standard error, so that lines of several processes never
//! mix.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use greenloom_sys::process;

use crate::error::MasterError;

/// Writes one line. A log that cannot be written to (a closed pipe, a full disk) is no reason to stop serving.
pub fn line(text: fmt::Arguments<'_>) {
    let mut whole = text.to_string();
    whole.push('\n');
    let _ = std::io::stderr().write_all(whole.as_bytes());
}

/// Sends standard output and standard error of this process, and of those it starts, to the end of `path` (`--logto`);
/// created with mode 0640.
pub fn redirect(path: &Path) -> Result<(), MasterError> {
    let fail = |reason| MasterError::LogFile { path: path.to_owned(), reason };
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(fail)?;
    process::redirect_output(file.as_fd()).map_err(fail)
}

/// [`line`] with `format!`'s arguments.
macro_rules! say {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}
pub(crate) use say;
