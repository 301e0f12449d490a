//! Posix signals that Python code handles: the application's own (its `signal` module), and `SIGUSR2`, at which the
//! worker prints what its requests do ([`crate::stacks`]).
//!
//! CPython's handler in C only sets a flag; Python's runs when the interpreter looks at it, in a request that computes
//! or between two turns of the loop. A signal may come just before the loop begins to wait, and on any thread, so
//! CPython also writes a byte to a socket that the worker waits for.

use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::stacks;
use crate::traceback::log_line;

/// Sets both up, on the main thread of a worker. What is returned becomes readable when a handler has to run.
pub(crate) fn install(py: Python<'_>) -> PyResult<OwnedFd> {
    let signal = py.import("signal")?;
    let number = signal.getattr("SIGUSR2")?;
    if signal.call_method1("getsignal", (&number,))?.eq(signal.getattr("SIG_DFL")?)? {
        signal.call_method1("signal", (&number, wrap_pyfunction!(print_stacks, py)?))?;
    } else {
        log_line("the application handles SIGUSR2 itself: it prints no stacks of requests");
    }
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    // A full socket says all that is to be said.
    let quietly = PyDict::new(py);
    quietly.set_item("warn_on_full_buffer", false)?;
    signal.call_method("set_wakeup_fd", (theirs.as_raw_fd(),), Some(&quietly))?;
    // CPython keeps the number for as long as the process lives.
    let _ = theirs.into_raw_fd();
    Ok(ours.into())
}

/// The handler of `SIGUSR2`; `frame`: where the running code stands.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "a pyfunction's arguments are made for it")]
fn print_stacks(py: Python<'_>, number: i32, frame: Option<Bound<'_, PyAny>>) {
    let _ = number;
    stacks::print(py, frame.as_ref());
}
