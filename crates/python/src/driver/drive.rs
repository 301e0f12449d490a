//! The native loop. The only place that lets go of the interpreter: around the wait, and only after a poll without
//! blocking has found nothing.

use std::io;

use greenloom_worker::{Action, Cancel, CoreId, Leave};
use pyo3::prelude::*;

use super::server::Server;
use super::switch;
use crate::api::cancelled;
use crate::traceback::{log_exception, log_line};
use crate::{fork_guard, outbox};

/// How often requests that are not suspended yet are looked for again before the worker leaves without them. (How often
/// each one is told to end, the worker counts.)
const CANCEL_ROUNDS: u32 = 8;
/// How long a request that waits for a uwsgi signal waits before it looks for posix signals.
const SIGNAL_WAIT_MS: u64 = 100;
/// Exit code of a worker whose reactor fails: nothing it could do would help.
const BROKEN: i32 = 1;

/// Runs the worker until it leaves; its exit code.
pub(crate) fn run(py: Python<'_>, server: &'static Server) -> i32 {
    let left = loop {
        match turn(py, server) {
            Ok(None) => {}
            Ok(Some(leave)) => break Ok(leave),
            Err(error) => break Err(error),
        }
        if let Err(error) = wait(py, server) {
            break Err(error);
        }
        look_around(py, server);
    };
    leave(py, server, left)
}

/// One turn under a loop that somebody else runs; the exit code of a worker that has left.
pub(crate) fn hosted_turn(py: Python<'_>, server: &'static Server) -> Option<i32> {
    look_around(py, server);
    match turn(py, server) {
        Ok(None) => None,
        Ok(Some(why)) => Some(leave(py, server, Ok(why))),
        Err(error) => Some(leave(py, server, Err(error))),
    }
}

fn turn(py: Python<'_>, server: &'static Server) -> io::Result<Option<Leave>> {
    server.engine.tidy(py);
    server.worker.borrow_mut().turn()?;
    loop {
        // The borrow ends with this statement: what is performed may call back.
        let action = server.worker.borrow_mut().next_action();
        let Some(action) = action else {
            outbox::wake_for_rest();
            return Ok(None);
        };
        if let Some(leave) = switch::perform(py, server, action) {
            return Ok(Some(leave));
        }
    }
}

/// What has been asked for beside the worker's own events.
fn look_around(py: Python<'_>, server: &'static Server) {
    outbox::empty(server);
    // Handlers that the application has installed with the signal module.
    if let Err(error) = py.check_signals() {
        log_exception(py, error, "exception in a signal handler; it belongs to no request");
    }
    fork_guard::check();
}

/// The worker has left, or its reactor has failed: the exit code.
fn leave(py: Python<'_>, server: &'static Server, left: io::Result<Leave>) -> i32 {
    match left {
        Ok(leave) => {
            if leave != Leave::Drained {
                cancel_all(py, server);
            }
            let mut worker = server.worker.borrow_mut();
            worker.flush_log();
            worker.rest();
            0
        }
        Err(error) => {
            server.worker.borrow_mut().flush_log();
            log_line(&format!("the worker's event loop failed: {error}"));
            BROKEN
        }
    }
}

fn wait(py: Python<'_>, server: &'static Server) -> io::Result<()> {
    let (timeout_ms, batch) = {
        let mut worker = server.worker.borrow_mut();
        let timeout_ms = worker.timeout_ms();
        if timeout_ms == Some(0) {
            // The next turn looks for itself.
            return Ok(());
        }
        (timeout_ms, worker.take_batch())
    };
    let Some(mut batch) = batch else { return Ok(()) };
    let mut result = batch.wait(Some(0));
    if result.is_ok() && batch.is_empty() {
        #[expect(clippy::disallowed_methods, reason = "the blocking wait: nothing in it can switch")]
        let waited = py.detach(|| batch.wait(timeout_ms));
        result = waited;
    }
    server.worker.borrow_mut().give_batch(batch);
    result
}

/// Waits for a uwsgi signal (`None`: any) in the middle of a request that nothing can suspend: runs the handlers of those
/// that come, and nobody else; the signal that ended it.
pub(crate) fn wait_for_signal(
    py: Python<'_>,
    server: &'static Server,
    core: CoreId,
    wanted: Option<u8>,
) -> PyResult<u8> {
    loop {
        loop {
            let handler = server.worker.borrow_mut().next_handler();
            let Some((core, number)) = handler else { break };
            let _ = switch::perform(py, server, Action::Signal(core, number));
            if wanted.is_none_or(|wanted| wanted == number) {
                return Ok(number);
            }
        }
        let orders = server.worker.borrow().orders();
        if let Some(orders) = orders {
            #[expect(clippy::disallowed_methods, reason = "a blocking wait: nothing in it can switch")]
            py.detach(|| orders.wait(SIGNAL_WAIT_MS));
        }
        py.check_signals()?;
        outbox::empty(server);
        if !server.worker.borrow_mut().receive_orders(core) {
            return Err(cancelled::error(py, Cancel::Stop));
        }
    }
}

/// Lets every suspended request end, by an exception where it stands or by the close of its iterable, so that `finally`
/// and `with` run.
fn cancel_all(py: Python<'_>, server: &'static Server) {
    // One that was about to start, or that waits again, is cancelled in the next round.
    for _ in 0..CANCEL_ROUNDS {
        server.worker.borrow_mut().cancel_all();
        loop {
            let action = server.worker.borrow_mut().next_action();
            match action {
                Some(action) => drop(switch::perform(py, server, action)),
                None => break,
            }
        }
        if server.worker.borrow().is_idle() {
            return;
        }
    }
}
