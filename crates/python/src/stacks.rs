//! Stacks on demand: for each request in flight what it is, what it waits for, and where its Python code stands,
//! suspended or not.

use std::fmt::Write as _;

use greenloom_worker::{Doing, InFlight};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::asgi;
use crate::driver::server::{self, Server, peek};
use crate::traceback::{log_exception, write_log};

/// Frames of one stack at most: of a deeper one the innermost.
const FRAMES: usize = 200;

/// Prints the requests of this worker. `running`: the frame of the code that runs now.
pub(crate) fn print(py: Python<'_>, running: Option<&Bound<'_, PyAny>>) {
    let Some(server) = server::of_this_thread() else { return };
    let mut requests = server.worker.borrow().in_flight();
    if running.is_some()
        && let Some(current) = server.engine.current(py, server)
        && let Some(request) = requests.iter_mut().find(|request| request.core == current)
    {
        // A loop that hosts the worker may have resumed it.
        request.doing = Doing::Runs;
    }
    let mut text = format!(
        "*** stacks of worker {} (pid {}): {} requests in flight ***\n",
        crate::api::info::server().map_or(0, |info| info.worker_id),
        std::process::id(),
        requests.len()
    );
    for request in &requests {
        append(&mut text, request, server.engine.awaits(server, request.core));
        let frames = if request.doing == Doing::Runs && running.is_some() {
            running.map(outward).unwrap_or_default()
        } else {
            suspended(py, server, request)
        };
        if let Err(error) = format_frames(py, &frames, &mut text) {
            log_exception(py, error, "cannot format the stack of a request:");
        }
    }
    text.push_str("*** end of stacks ***\n");
    write_log(text.as_bytes());
    server.worker.borrow().stacks_printed();
}

/// What a client sent, without what a terminal or a reader of lines could take for something else.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn append(text: &mut String, request: &InFlight, awaits: bool) {
    let what = match request.signal {
        Some(number) => format!("handler of signal {number}"),
        None => format!("{} {}", printable(&request.method), printable(&request.uri)),
    };
    let _ = write!(text, "core {}: {what}, {} ms old, ", request.core.0, request.age_ms);
    let _ = match request.doing {
        Doing::OwnSwitch | Doing::Waits { .. } if awaits => write!(text, "awaits"),
        ref doing => write!(text, "{doing}"),
    };
    if let Some(why) = request.cancelled {
        let _ = write!(text, ", cancelled: {why}");
    }
    text.push('\n');
}

/// The frames of a suspended request, the outermost first.
fn suspended<'py>(py: Python<'py>, server: &'static Server, request: &InFlight) -> Vec<Bound<'py, PyAny>> {
    if let Some(frame) = server.engine.frame(py, request.core) {
        return outward(&frame);
    }
    // Between two parts of its response only its generators stand somewhere, and a task stands where its coroutines do.
    let mut frames = Vec::new();
    let outermost = if server.engine.awaits(server, request.core) {
        asgi::gateway::coroutine(py, server, request.core)
    } else {
        peek(py, &server.slot(request.core).iterator)
    };
    let mut next = outermost.map(|object| object.into_bound(py));
    while let Some(object) = next.take()
        && frames.len() < FRAMES
        && let Some((frame, within)) = links(&object)
    {
        let attribute = |name: &str| object.getattr_opt(name).ok().flatten().filter(|value| !value.is_none());
        frames.extend(attribute(frame));
        next = attribute(within);
    }
    frames
}

/// Names of the attributes that hold the frame of a generator or coroutine, and what it stands in. Other objects would run
/// code of the application to answer.
fn links(object: &Bound<'_, PyAny>) -> Option<(&'static str, &'static str)> {
    // SAFETY: attached; any object may be asked.
    if unsafe { ffi::PyGen_CheckExact(object.as_ptr()) } != 0 {
        return Some(("gi_frame", "gi_yieldfrom"));
    }
    // SAFETY: as above.
    let is_coroutine = unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) } != 0;
    is_coroutine.then_some(("cr_frame", "cr_await"))
}

/// A frame and its callers, the outermost first.
pub(crate) fn outward<'py>(frame: &Bound<'py, PyAny>) -> Vec<Bound<'py, PyAny>> {
    let mut frames = Vec::new();
    let mut next = Some(frame.clone());
    while let Some(frame) = next
        && frames.len() < FRAMES
    {
        next = frame.getattr(intern!(frame.py(), "f_back")).ok().filter(|back| !back.is_none());
        frames.push(frame);
    }
    frames.reverse();
    frames
}

/// Appends a stack as Python prints it.
pub(crate) fn format_frames(py: Python<'_>, frames: &[Bound<'_, PyAny>], text: &mut String) -> PyResult<()> {
    if frames.is_empty() {
        text.push_str("  (no frame of Python code)\n");
        return Ok(());
    }
    let pairs = PyList::empty(py);
    for frame in frames {
        pairs.append((frame, frame.getattr(intern!(py, "f_lineno"))?))?;
    }
    let traceback = py.import("traceback")?;
    let summary = traceback.getattr("StackSummary")?.call_method1("extract", (pairs.try_iter()?,))?;
    for line in summary.call_method0("format")?.try_iter()? {
        text.push_str(&line?.extract::<String>()?);
    }
    Ok(())
}
