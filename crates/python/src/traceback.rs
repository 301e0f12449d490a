//! Writing to the server's log: exceptions nobody handled, and plain lines.
//!
//! Owns the formatting of an exception into one `write(2)` on descriptor 2, so that the lines of two
//! processes do not mix. It never uses CPython's own printer: that one ends the process on `SystemExit`, and
//! goes through `sys.stderr`, which an application may have replaced. What an exception means for a request
//! is decided by the caller.

use std::io;

use greenloom_cli::master::log;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Logs `err` with its traceback, after a line that says what was going on (`context`; none when empty).
///
/// Never raises, never ends the process, and leaves no exception set.
pub(crate) fn log_exception(py: Python<'_>, err: PyErr, context: &str) {
    let mut text = String::with_capacity(1024);
    if !context.is_empty() {
        text.push_str(context);
        text.push('\n');
    }
    text.push_str(&format_exception(py, &err));
    write_log(text.as_bytes());
    // Last: the destructors of what the traceback held may run any code, including code that logs.
    drop(err);
}

/// The exception as Python prints it, always ending in a newline.
pub(crate) fn format_exception(py: Python<'_>, err: &PyErr) -> String {
    let mut text = with_traceback_module(py, err).unwrap_or_else(|_| describe_exception(py, err));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// One line, `Type: message`, without a traceback; survives exceptions whose `str()` fails.
pub(crate) fn describe_exception(py: Python<'_>, err: &PyErr) -> String {
    let kind = err.get_type(py).name().map_or_else(|_| "exception".to_owned(), |name| lossy(&name));
    match err.value(py).str() {
        Ok(message) => match lossy(&message) {
            message if message.is_empty() => kind,
            message => format!("{kind}: {message}"),
        },
        Err(_) => format!("{kind}: <its str() failed>"),
    }
}

/// What an error of the system says, without its number: Python writes that in front.
pub(crate) fn reason_of(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Writes `bytes` to descriptor 2 at once, with the date in front of the first line if that is asked for. A log that
/// cannot be written is no reason to fail a request.
pub(crate) fn write_log(bytes: &[u8]) {
    log::write(bytes);
}

/// Writes one line to the server's log.
pub(crate) fn log_line(line: &str) {
    write_log(format!("{line}\n").as_bytes());
}

fn with_traceback_module(py: Python<'_>, err: &PyErr) -> PyResult<String> {
    let arguments = (err.get_type(py), err.value(py), err.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", arguments)?;
    let text = PyString::new(py, "").call_method1("join", (lines,))?;
    Ok(lossy(text.cast::<PyString>()?))
}

fn lossy(text: &Bound<'_, PyString>) -> String {
    text.to_string_lossy().into_owned()
}
