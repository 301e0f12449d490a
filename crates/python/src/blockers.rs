//! `--block-warning`: names the code that keeps the loop from its work.
//!
//! The worker's lookout notices it on a thread of its own, which must not touch the interpreter. So it trips a posix signal,
//! as if one had come: the interpreter runs the handler between two steps of Python code, after a call that blocks. No
//! signal is sent then, which would interrupt system calls of the application. Before 3.13 code that computes does not
//! look whether one was tripped on another thread; to a thread that computes it is sent, too.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use greenloom_worker::{CoreId, Question, Thread, clock};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use crate::driver::server::{self, Server};
use crate::stacks::{format_frames, outward, printable};
use crate::traceback::{log_exception, write_log};

/// A place that was named is not named again for so long.
const NAMED_FOR: Duration = Duration::from_secs(60);
/// Places that are remembered: more of them at once are one thing gone wrong, and would fill the log.
const PLACES: usize = 100;

/// A file and a line.
type Place = (String, u32);

/// Places that were named, and when.
static NAMED: Mutex<Option<HashMap<Place, Instant>>> = Mutex::new(None);

/// [`name_blocker`] is the handler of [`Question::Blocker`].
static HANDLED: AtomicBool = AtomicBool::new(false);

/// Makes [`name_blocker`] the handler, with Python's `signal` module.
pub(crate) fn handle(signal: &Bound<'_, PyModule>) -> PyResult<()> {
    let handler = wrap_pyfunction!(name_blocker, signal.py())?;
    signal.call_method1("signal", (Question::Blocker.number(), handler))?;
    HANDLED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Names code that keeps the loop waiting for `ms` milliseconds. Once per worker process, on the loop's thread.
pub(crate) fn look_out(server: &'static Server, ms: u64) -> std::io::Result<()> {
    let thread = Thread::this();
    server.worker.borrow_mut().look_out(ms, move || {
        if !HANDLED.load(Ordering::Relaxed) {
            return; // The application has this signal. How long its code blocks is measured all the same.
        }
        // SAFETY: may be called on any thread, attached or not.
        unsafe { ffi::PyErr_SetInterruptEx(Question::Blocker.number()) };
        if thread.computes() {
            // It exists as long as the process.
            let _ = thread.ask(Question::Blocker);
        }
    })
}

/// The handler; `frame`: where the running code stands.
#[pyfunction]
fn name_blocker(py: Python<'_>, number: i32, frame: Option<Bound<'_, PyAny>>) {
    let _ = number;
    let (Some(server), Some(frame)) = (server::of_this_thread(), frame) else { return };
    // A loop that has had control since is not meant any more. And this may come twice, tripped and sent: the second
    // time in the middle of the first.
    let silent_ms = server.worker.borrow().take_silence();
    let Some(silent_ms) = silent_ms else { return };
    let core = server.engine.current(py, server);
    if let Some(core) = core {
        server.worker.borrow_mut().blame(core);
    }
    if is_news(py, &frame) {
        print(py, server, silent_ms, core, &frame);
    }
}

/// Whether the place of a frame is to be named.
fn is_news(py: Python<'_>, frame: &Bound<'_, PyAny>) -> bool {
    let place = frame.getattr(intern!(py, "f_code")).and_then(|code| {
        let file = code.getattr(intern!(py, "co_filename"))?.to_string();
        // None between two lines.
        let line: Option<u32> = frame.getattr(intern!(py, "f_lineno"))?.extract()?;
        Ok((file, line.unwrap_or_default()))
    });
    let (Ok(place), Ok(mut named)) = (place, NAMED.try_lock()) else { return false };
    let named = named.get_or_insert_default();
    named.retain(|_, at| at.elapsed() < NAMED_FOR);
    named.len() < PLACES && named.insert(place, Instant::now()).is_none()
}

fn print(py: Python<'_>, server: &Server, silent_ms: u64, core: Option<CoreId>, frame: &Bound<'_, PyAny>) {
    let who =
        core.map_or_else(|| "code that belongs to no request".to_owned(), |core| describe(server, core));
    let mut text = format!(
        "{} - *** the loop of worker {} had no control for {silent_ms} ms, because of {who} (--block-warning) ***\n",
        clock::ctime(clock::unix_seconds()),
        crate::api::info::server().map_or(0, |info| info.worker_id),
    );
    if let Err(error) = format_frames(py, &outward(frame), &mut text) {
        log_exception(py, error, "cannot format a stack:");
    }
    write_log(text.as_bytes());
}

fn describe(server: &Server, core: CoreId) -> String {
    let worker = server.worker.borrow();
    if let Some(number) = worker.signal_of(core) {
        return format!("the handler of signal {number}");
    }
    let request = worker.request(core);
    format!("core {}, {} {}", core.0, printable(request.method()), printable(request.uri()))
}
