//! The ONLY file that gives control to an application's coroutine.
//!
//! Nothing is borrowed here, neither of the worker nor of a core's slot: the application may call back, raise, or (with
//! engines to come) leave and come back in ways that are not seen from here.

use greenloom_worker::{Action, CoreId, Failure, Leave, Wakeup};
use pyo3::prelude::*;

use super::server::Server;
use crate::engine::none;

/// Performs one action. The value says that the worker leaves.
pub(crate) fn perform(py: Python<'_>, server: &Server, action: Action) -> Option<Leave> {
    match action {
        Action::Start(core) => with_current(server, core, || none::start(py, server, core)),
        Action::Resume(core, Wakeup::Cancelled(_)) => {
            with_current(server, core, || none::cancel(py, server, core));
        }
        // An iterable that was told to end is closed, so its core always ends: with it nothing is left to forget.
        Action::Abandon(core) => {
            let _: Failure = server.worker.borrow_mut().fail(core);
        }
        Action::Resume(core, why) => {
            with_current(server, core, || none::resume(py, server, core, why == Wakeup::Wait));
        }
        Action::Leave(leave) => return Some(leave),
    }
    None
}

/// Runs application code as `core`: the API finds its request by it.
fn with_current(server: &Server, core: CoreId, run: impl FnOnce()) {
    let before = server.current.replace(Some(core));
    run();
    server.current.set(before);
}
