//! Posix signals that Python code handles: the application's own (its `signal` module), and those at which the worker
//! prints what its requests do: `SIGUSR2` for people ([`crate::stacks`]), the master's two questions before it kills
//! a worker that is blocked, and the worker's own about code that blocks it ([`crate::blockers`]).
//!
//! CPython's handler in C only sets a flag; Python's runs when the interpreter looks at it, in a request that computes
//! or between two turns of the loop. A signal may come just before the loop begins to wait, and on any thread, so
//! CPython also writes a byte to a socket that the worker waits for. Code that never comes back from a C call lets no handler
//! in Python run at all: the master's second question is answered by `faulthandler`, from within the handler in C.

use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use greenloom_worker::Question;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::traceback::log_line;
use crate::{blockers, stacks};

/// `faulthandler` prints the stacks of a hundred threads at most; the application may have some of its own.
const DUMPED_CORES: u32 = 80;

/// Sets both up, on the main thread of a worker. What is returned becomes readable when a handler has to run.
/// `cores`: so many requests at most.
pub(crate) fn install(py: Python<'_>, cores: u32) -> PyResult<OwnedFd> {
    let signal = py.import("signal")?;
    let number = signal.getattr("SIGUSR2")?;
    if signal.call_method1("getsignal", (&number,))?.eq(signal.getattr("SIG_DFL")?)? {
        signal.call_method1("signal", (&number, wrap_pyfunction!(print_stacks, py)?))?;
    } else {
        log_line("the application handles SIGUSR2 itself: it prints no stacks of requests");
    }
    answer_questions(py, &signal, cores)?;
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

/// Takes the signals of [`Question`]. One that the application has taken is left to it: who asks then learns nothing.
fn answer_questions(py: Python<'_>, signal: &Bound<'_, PyModule>, cores: u32) -> PyResult<()> {
    let is_free = |question: Question| -> PyResult<bool> {
        signal.call_method1("getsignal", (question.number(),))?.eq(signal.getattr("SIG_DFL")?)
    };
    if is_free(Question::Stacks)? {
        signal.call_method1("signal", (Question::Stacks.number(), wrap_pyfunction!(print_stacks, py)?))?;
    }
    if is_free(Question::Blocker)? {
        blockers::handle(signal)?;
    }
    if is_free(Question::Dump)? {
        let options = PyDict::new(py);
        // Not `sys.stderr`, which an application may have replaced by something without a descriptor.
        options.set_item("file", 2)?;
        // Under uGreen those of suspended requests are among them; of too many the one that matters may be left out.
        options.set_item("all_threads", cores <= DUMPED_CORES)?;
        py.import("faulthandler")?.call_method("register", (Question::Dump.number(),), Some(&options))?;
    }
    Ok(())
}

/// The handler of `SIGUSR2` and of [`Question::Stacks`]; `frame`: where the running code stands.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "a pyfunction's arguments are made for it")]
fn print_stacks(py: Python<'_>, number: i32, frame: Option<Bound<'_, PyAny>>) {
    let _ = number;
    stacks::print(py, frame.as_ref());
}
