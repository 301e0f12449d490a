//! The ONLY file that gives control to an application's coroutine.
//!
//! Nothing is borrowed here, neither of the worker nor of a core's slot: the application may call back, raise, or (on
//! greenlets) leave and come back in ways that are not seen from here.

use greenloom_worker::{Action, CoreId, Leave};
use pyo3::prelude::*;

use super::server::Server;
use crate::{asgi, job};

/// Performs one action. The value says that the worker leaves.
pub(crate) fn perform(py: Python<'_>, server: &'static Server, action: Action) -> Option<Leave> {
    match action {
        Action::Start(core) | Action::Signal(core, _) => {
            give_control(server, core, || server.engine.start(py, server, core));
        }
        Action::Resume(core, why) => {
            give_control(server, core, || server.engine.resume(py, server, core, why));
        }
        Action::News(core, what) => asgi::gateway::news(py, server, core, what),
        Action::Abandon(core) => {
            server.engine.abandon(server, core);
            job::abandon(py, server, core);
        }
        Action::Leave(leave) => return Some(leave),
    }
    None
}

/// Runs application code as `core`: the API finds its request by it.
fn give_control(server: &Server, core: CoreId, run: impl FnOnce()) {
    let before = server.current.replace(Some(core));
    run();
    server.current.set(before);
}
