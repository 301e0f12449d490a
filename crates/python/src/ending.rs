//! How requests end, whatever interface their application has: what is logged of a failure, the hook after a request, and
//! giving the core back.

use greenloom_worker::{CoreId, Failure};
use pyo3::prelude::*;

use crate::driver::server::Server;
use crate::fork_guard;
use crate::traceback::log_exception;

/// A request whose application is done with it: what is left is [`finish`].
#[must_use]
pub(crate) enum Ending {
    /// The response is complete.
    Complete,
    /// It has failed, or nobody is there to get it.
    Failed,
}

/// The application is done with the request: `complete`, whether all of the response is there. An exception is logged, but
/// not one for which `is_end` holds in a request that was told to end; the hook is called.
pub(crate) fn settle(
    py: Python<'_>,
    server: &'static Server,
    core: CoreId,
    complete: PyResult<bool>,
    is_end: impl Fn(&PyErr) -> bool,
) -> Ending {
    let slot = server.slot(core);
    slot.generation.set(slot.generation.get() + 1);
    server.requests.set(server.requests.get() + 1);
    let ending = match complete {
        Ok(true) => Ending::Complete,
        Ok(false) => Ending::Failed,
        Err(error) => {
            if !server.engine.is_exit(py, &error) {
                log_unless_end(py, server, core, error, &is_end, &context(server, core, ""));
            }
            Ending::Failed
        }
    };
    if let Some(hook) = &server.after_request {
        if matches!(ending, Ending::Complete) {
            send_end(server, core);
        }
        if let Err(error) = hook.call0(py) {
            log_unless_end(py, server, core, error, &is_end, "exception in uwsgi.after_req_hook:");
        }
        // What the hook has kept of the request is no later one's.
        slot.generation.set(slot.generation.get() + 1);
    }
    fork_guard::check();
    server.engine.returned(py, server, core);
    // What is dropped from now on may run code of the application, and no request is its own.
    server.current.set(None);
    ending
}

/// What stands above the traceback of an exception of the application.
pub(crate) fn context(server: &Server, core: CoreId, when: &str) -> String {
    let uri = String::from_utf8_lossy(server.worker.borrow().request(core).uri()).escape_debug().to_string();
    format!("exception in the application{when}, {uri}:")
}

/// A request that was told to end, or finds its client gone, and ends is nothing to write about.
pub(crate) fn log_unless_end(
    py: Python<'_>,
    server: &Server,
    core: CoreId,
    error: PyErr,
    is_end: impl Fn(&PyErr) -> bool,
    context: &str,
) {
    let over = server.worker.borrow().nobody_reads(core);
    if !(over && is_end(&error)) {
        {
            let mut worker = server.worker.borrow_mut();
            worker.count_exception(core);
            // Lines of requests that ended before stand above it.
            worker.flush_log();
        }
        log_exception(py, error, context);
    }
}

/// Gives the core back. Nothing of the request may run any more: this is the last thing its coroutine does.
pub(crate) fn finish(server: &Server, core: CoreId, ending: &Ending) {
    // Finalizers have run since the application returned.
    fork_guard::check();
    let mut worker = server.worker.borrow_mut();
    match ending {
        Ending::Complete => worker.finish(core),
        Ending::Failed => {
            let _: Failure = worker.fail(core);
        }
    }
}

/// Sends the end of a response whose application has still something to do: nobody need wait for that.
pub(crate) fn send_end(server: &Server, core: CoreId) {
    let mut worker = server.worker.borrow_mut();
    worker.complete(core);
    worker.flush(core);
}
