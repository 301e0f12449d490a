//! Suspend engines: what a core's coroutine is made of. One engine, one file.

pub(crate) mod greenlet;
pub(crate) mod none;
pub(crate) mod tasks;
pub(crate) mod ugreen;

use greenloom_worker::config::{Settings, SuspendEngine as Kind};
use greenloom_worker::{CoreId, Wakeup, WorkerOptions};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::driver::server::Server;

/// Makes, resumes and suspends the coroutines that requests run on. It waits for nothing and knows nothing of HTTP.
///
/// The contract:
/// - `start` runs `job::start` on a coroutine of its own, in a context of its own, and `job::finish` as the last
///   thing on it. It returns when the coroutine has ended or given control away, in whatever manner.
/// - `resume` lets a core's coroutine go on where `pause` stands, which returns `why`.
/// - `pause` is called on the core's own coroutine after the worker has been told what the core waits for. It returns
///   when the worker resumes the core, and not because somebody else switched to it.
/// - A suspended coroutine is never dropped. `abandon` gives one up: it and what it holds are leaked.
/// - Nothing of the worker and of a slot is borrowed in any of the calls.
pub(crate) trait SuspendEngine {
    /// Whether `uwsgi.suspend()` works.
    fn suspends(&self) -> bool;

    /// What the log says of it when the server starts.
    fn introduction(&self, _py: Python<'_>) -> Option<String> {
        None
    }

    /// Once, before the first turn.
    fn prepare(&'static self, _py: Python<'_>) -> PyResult<()> {
        Ok(())
    }

    /// What waits where nothing of the server's can: outside a request, in a coroutine of the application's own.
    fn waiting_modules(&self) -> WaitingModules {
        WaitingModules::STANDARD
    }

    /// At the beginning of each turn: looks after coroutines that ended outside of turns.
    fn tidy(&'static self, _py: Python<'_>) {}

    /// Runs the request or the signal handler of a core until it ends or is suspended.
    fn start(&'static self, py: Python<'_>, server: &'static Server, core: CoreId);

    /// What a coroutine runs that can be entered through Python only.
    fn serve(&'static self, _py: Python<'_>, _server: &'static Server, _core: CoreId) {}

    /// Lets a suspended core go on.
    fn resume(&'static self, py: Python<'_>, server: &'static Server, core: CoreId, why: Wakeup);

    /// Gives control to the loop until the running core is resumed. An error is one that somebody has thrown into
    /// the coroutine.
    fn pause(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<Paused>;

    /// The core whose coroutine runs; `None`: none does, or one of the application's own.
    fn current(&'static self, py: Python<'_>, server: &'static Server) -> Option<CoreId>;

    /// Lets others run for a moment, on a coroutine that no request has; `false`: the running one cannot wait.
    fn nap(&'static self, _py: Python<'_>) -> PyResult<bool> {
        Ok(false)
    }

    /// Whether `pause` may be called for this core here.
    fn can_pause(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) -> bool {
        self.suspends() && self.current(py, server) == Some(core)
    }

    /// Whether an exception is this engine's way to end a coroutine, and no failure.
    fn is_exit(&'static self, _py: Python<'_>, _error: &PyErr) -> bool {
        false
    }

    /// On a core's coroutine, wherever code of the application has returned: does not come back if the coroutine was
    /// given up meanwhile, for the core is not its own any more.
    fn returned(&'static self, _py: Python<'_>, _server: &'static Server, _core: CoreId) {}

    /// Gives up a coroutine that does not end.
    fn abandon(&'static self, server: &'static Server, core: CoreId);

    /// Whether what runs in a core awaits (an ASGI application): it is suspended by that, and by no call.
    fn awaits(&'static self, _server: &'static Server, _core: CoreId) -> bool {
        false
    }

    /// A future of the loop, for code that awaits.
    fn future<'py>(&'static self, _py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Err(PyRuntimeError::new_err("this engine has no futures"))
    }

    /// Where the suspended coroutine of a core stands; `None`: it has no frame, or not one of its own.
    fn frame<'py>(&'static self, py: Python<'py>, core: CoreId) -> Option<Bound<'py, PyAny>>;
}

/// Python's modules whose functions wait, by what they are used for.
pub(crate) struct WaitingModules {
    /// The one with `select`.
    pub(crate) select: &'static str,
    /// The one with `sleep`.
    pub(crate) sleep: &'static str,
}

impl WaitingModules {
    /// They block the thread.
    pub(crate) const STANDARD: Self = Self { select: "select", sleep: "time" };
}

/// How `pause` came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paused {
    /// Nothing can stand still in this engine: return to the loop, it will call `gateway::resume`.
    Unwind,
    /// The worker has resumed the core.
    Resumed(Wakeup),
}

/// How many cores an engine serves, those of signal handlers included.
fn all_cores(settings: &Settings) -> u32 {
    WorkerOptions::from_settings(settings).all_cores()
}

/// The engine that the settings ask for; the message says what is missing for it.
pub(crate) fn make(py: Python<'_>, settings: &Settings) -> Result<Box<dyn SuspendEngine>, String> {
    Ok(match settings.engine.suspend {
        Kind::UGreen => Box::new(ugreen::UGreen::new(py, settings)?),
        Kind::Tasks => Box::new(tasks::Tasks::new(py, settings)?),
        Kind::Greenlet | Kind::Own => Box::new(greenlet::Greenlets::new(py, settings)?),
        _ => Box::new(none::Iterables::new(py, settings)?),
    })
}
