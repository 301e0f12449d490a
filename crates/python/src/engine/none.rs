//! No suspend engine: the application's iterable is the coroutine.
//!
//! A suspension is a return to the loop, and only between two parts of a response; what is on the stack belongs to the
//! loop. A signal handler cannot be suspended: it runs to its end. What a coroutine would keep for the request, its context, is entered and left around each piece of it.

use std::cell::Cell;

use greenloom_worker::config::Settings;
use greenloom_worker::{CoreId, Wakeup};
use pyo3::prelude::*;

use super::{Paused, SuspendEngine, all_cores};
use crate::driver::context::{Base, Context};
use crate::driver::server::Server;
use crate::ending::Ending;
use crate::job;
use crate::wsgi::gateway;

/// The engine.
pub(crate) struct Iterables {
    base: Base,
    /// The context of each suspended request.
    contexts: Vec<Cell<Option<Context>>>,
}

impl Iterables {
    pub(crate) fn new(py: Python<'_>, settings: &Settings) -> Result<Self, String> {
        let contexts = (0..all_cores(settings)).map(|_| Cell::new(None)).collect();
        Ok(Self { base: Base::current(py).map_err(|error| error.to_string())?, contexts })
    }

    fn run(
        &self,
        py: Python<'_>,
        server: &'static Server,
        core: CoreId,
        context: Option<Context>,
        run: impl FnOnce() -> Option<Ending>,
    ) {
        let entered = context.map(|context| context.enter(py));
        let ending = run();
        let context = entered.map(|entered| entered.leave(py));
        match ending {
            Some(ending) => {
                drop(context);
                job::finish(server, core, &ending);
            }
            None => self.contexts[core.0 as usize].set(context),
        }
    }
}

impl SuspendEngine for Iterables {
    fn suspends(&self) -> bool {
        false
    }

    fn start(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) {
        self.run(py, server, core, self.base.fresh(py), || job::start(py, server, core));
    }

    fn resume(&'static self, py: Python<'_>, server: &'static Server, core: CoreId, why: Wakeup) {
        let context = self.contexts[core.0 as usize].take();
        self.run(py, server, core, context, || gateway::resume(py, server, core, why));
    }

    fn pause(&'static self, _py: Python<'_>, _server: &'static Server, _core: CoreId) -> PyResult<Paused> {
        Ok(Paused::Unwind)
    }

    fn current(&'static self, _py: Python<'_>, server: &'static Server) -> Option<CoreId> {
        server.current.get()
    }

    fn abandon(&'static self, _server: &'static Server, core: CoreId) {
        self.contexts[core.0 as usize].set(None);
    }

    fn frame<'py>(&'static self, _py: Python<'py>, _core: CoreId) -> Option<Bound<'py, PyAny>> {
        None
    }
}
