//! What a core's coroutine runs: a request, or a handler of a uwsgi signal. The engines know no difference.

use greenloom_worker::CoreId;
use pyo3::prelude::*;

use crate::driver::server::Server;
use crate::ending::{self, Ending};
use crate::wsgi::gateway;
use crate::{asgi, signals};

/// Runs it up to its end or, without a suspend engine, to its first suspension (`None`).
pub(crate) fn start(py: Python<'_>, server: &'static Server, core: CoreId) -> Option<Ending> {
    if server.is_signal_core(core) {
        signals::handle(py, server, core)
    } else {
        gateway::start(py, server, core)
    }
}

/// Gives the core back: the last thing its coroutine does.
pub(crate) fn finish(server: &Server, core: CoreId, ending: &Ending) {
    if server.is_signal_core(core) {
        signals::finish(server, core, ending);
    } else {
        ending::finish(server, core, ending);
    }
}

/// Ends what a coroutine ran that has been given up.
pub(crate) fn abandon(py: Python<'_>, server: &'static Server, core: CoreId) {
    if server.is_signal_core(core) {
        signals::finish(server, core, &Ending::Failed);
    } else if server.engine.awaits(server, core) {
        asgi::gateway::abandon(py, server, core);
    } else {
        gateway::abandon(server, core);
    }
}
