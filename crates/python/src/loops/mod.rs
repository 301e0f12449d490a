//! Loops that somebody else owns: such a loop watches one descriptor, and calls for a turn when it is ready.
//!
//! Owns what all of them share: a turn as such a loop calls it, and leaving. What a loop has to be asked for is in Python
//! (`greenloom/engines/`), what is particular about one here in a file of its own. The native loop is `driver/drive.rs`.

mod asyncio;
mod gevent;

use std::cell::Cell;

use greenloom_cli::master::CANNOT_SERVE;
use greenloom_worker::config::{Interface, LoopEngine, Settings};
use pyo3::prelude::*;
use pyo3::types::PyList;

pub(crate) use gevent::Gevent;

use crate::driver::drive;
use crate::driver::server::{self, Server, peek};
use crate::fork_guard;
use crate::traceback::{describe_exception, format_exception, log_exception, log_line};
use crate::{application, asgi};

/// Exit code of a worker whose loop cannot be run.
const BROKEN: i32 = 1;

/// What a process does about its loop engine before the application is loaded.
///
/// # Errors
/// What is missing for the engine that the settings ask for.
pub(crate) fn before_loading(py: Python<'_>, settings: &Settings) -> Result<(), String> {
    match settings.engine.loop_engine {
        LoopEngine::Gevent => gevent::before_loading(py, &settings.python.gevent),
        engine if engine.is_asyncio() => {
            asyncio::before_loading(py, engine)?;
            // What is made before a fork is shared by all workers. Where none comes, the application finds its loop already.
            let forks = settings.master && !settings.lazy_apps;
            if forks { Ok(()) } else { asyncio::make(py, engine) }
        }
        _ => Ok(()),
    }
}

/// What a worker does about it after its fork, before anything of it is used.
///
/// # Errors
/// As above.
pub(crate) fn before_serving(py: Python<'_>, settings: &Settings) -> Result<(), String> {
    match settings.engine.loop_engine {
        LoopEngine::Gevent => gevent::before_serving(py, &settings.python.gevent),
        engine if engine.is_asyncio() => asyncio::make(py, engine),
        _ => Ok(()),
    }
}

/// Makes what engine and loop need, before anybody is told that the worker is ready.
///
/// # Errors
/// What could not be made.
pub(crate) fn prepare(py: Python<'_>, server: &'static Server, settings: &Settings) -> Result<(), String> {
    server.engine.prepare(py).map_err(|error| format_exception(py, &error))?;
    if settings.engine.loop_engine != LoopEngine::Native {
        server.worker.borrow_mut().embed().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Runs the worker until it leaves, on the loop that the settings ask for; its exit code. Tells the process tree when it
/// serves: a hosting loop may open more when it begins, and may fail.
pub(crate) fn run(py: Python<'_>, server: &'static Server, settings: &Settings) -> i32 {
    match settings.engine.loop_engine {
        LoopEngine::Gevent => host(py, |turns| gevent::run(turns, &settings.python.gevent)),
        engine if engine.is_asyncio() => host(py, asyncio::run),
        _ => {
            application::announce(server);
            drive::run(py, server)
        }
    }
}

/// What the log says of a loop that somebody else runs, when the server starts.
pub(crate) fn introduction(py: Python<'_>, engine: LoopEngine) -> Option<String> {
    let which = match engine {
        LoopEngine::Gevent => gevent::describe(py),
        engine if engine.is_asyncio() => asyncio::describe(py, engine),
        _ => return None,
    };
    Some(format!("*** running {} loop engine ({}) ***", engine.name(), which.unwrap_or_default()))
}

/// The option that asks for the greenlets of an engine.
pub(crate) fn option(engine: LoopEngine) -> &'static str {
    match engine {
        LoopEngine::Native => "--greenlet",
        LoopEngine::Gevent => "--gevent",
        engine => asyncio::option(engine),
    }
}

/// Why an engine cannot run: what asked for it needs a package that cannot be imported.
pub(crate) fn missing(
    py: Python<'_>,
    option: &str,
    package: &str,
    distribution: &str,
    error: &PyErr,
) -> String {
    let python = py
        .import("sys")
        .and_then(|sys| sys.getattr("executable"))
        .map_or_else(|_| "python3".to_owned(), |path| path.to_string());
    format!(
        "{option} needs the package {package} in this Python, and importing it fails ({}); install it: {python} -m pip \
         install {distribution}",
        describe_exception(py, error),
    )
}

/// Serves under somebody else's loop, which `run` runs.
fn host(py: Python<'_>, run: impl FnOnce(&Bound<'_, Turns>) -> PyResult<()>) -> i32 {
    let turns =
        Bound::new(py, Turns { code: Cell::new(None), in_turn: Cell::new(false), callback: Cell::new(None) });
    let ran = turns.and_then(|turns| run(&turns).map(|()| turns.borrow().code.get()));
    if let Some(server) = server::of_this_thread() {
        // Requests may have ended since the last turn.
        server.worker.borrow_mut().flush_log();
    }
    match ran {
        Ok(code) => code.unwrap_or(0),
        Err(error) => {
            log_exception(py, error, "the worker's event loop failed:");
            BROKEN
        }
    }
}

/// The worker, as a loop engine in Python sees it.
#[pyclass(frozen, unsendable, module = "greenloom._greenloom")]
pub(crate) struct Turns {
    /// The exit code of a worker that has left.
    code: Cell<Option<i32>>,
    in_turn: Cell<bool>,
    callback: Cell<Option<Py<PyAny>>>,
}

#[pymethods]
impl Turns {
    /// What the loop watches for reading.
    #[getter]
    #[expect(clippy::unused_self, reason = "a property of the object for Python")]
    fn fd(&self) -> i32 {
        server::of_this_thread().map_or(-1, |server| server.worker.borrow().fd())
    }

    /// Does what can be done now. Never blocks, and raises nothing.
    fn turn(&self, py: Python<'_>) {
        let Some(server) = server::of_this_thread() else { return };
        // An application may run its loop from within a request; that one waits for the turn that is on the stack.
        if self.code.get().is_some() || self.in_turn.replace(true) {
            return;
        }
        self.code.set(drive::hosted_turn(py, server));
        self.in_turn.set(false);
        if self.code.get().is_some()
            && let Some(callback) = peek(py, &self.callback)
            && let Err(error) = callback.call0(py)
        {
            log_exception(py, error, "the worker's event loop does not stop:");
        }
    }

    /// For each ASGI application what is called for its lifespan, its scope, and how a log names it.
    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn lifespans<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let lifespans = PyList::empty(py);
        let Some(server) = server::of_this_thread() else { return Ok(lifespans) };
        for (id, app) in server.apps.iter().enumerate() {
            let is_mounted_before = server.apps[..id].iter().any(|other| other.callable.is(&app.callable));
            if app.interface == Interface::Asgi && !is_mounted_before {
                let name = format!("ASGI app {id} (mountpoint='{}')", app.mount);
                lifespans.append((&app.callable, server.scopes()?.lifespan(py, id)?, name))?;
            }
        }
        Ok(lifespans)
    }

    /// The worker cannot serve, and why: nothing does anything after that.
    fn refuse(&self, reason: &str) {
        log_line(reason);
        self.code.set(Some(CANNOT_SERVE));
    }

    /// Gives up the tasks of requests that have not ended though they were told to, again and again; writes all lines of
    /// requests.
    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn give_up(&self, py: Python<'_>) {
        let Some(server) = server::of_this_thread() else { return };
        let requests = server.worker.borrow().in_flight();
        for core in requests.iter().map(|request| request.core) {
            if server.engine.awaits(server, core) {
                server.worker.borrow_mut().note_abandoned(core);
                asgi::gateway::abandon(py, server, core);
            }
        }
        // What ends the applications may take longer than the master waits.
        server.worker.borrow_mut().flush_log();
    }

    /// Writes a line to the log.
    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn log(&self, line: &str) {
        log_line(line);
    }

    /// The loop runs: tells the process tree so.
    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn ready(&self) {
        if let Some(server) = server::of_this_thread() {
            application::announce(server);
        }
    }

    /// `callback` is called once the worker leaves; no turn does anything after that.
    fn on_leave(&self, callback: Py<PyAny>) {
        drop(self.callback.replace(Some(callback)));
    }

    /// Logs an exception that has reached the loop.
    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn report(&self, py: Python<'_>, error: Bound<'_, PyAny>) {
        // A child of the worker that was to leave by it.
        fork_guard::check();
        log_exception(
            py,
            PyErr::from_value(error),
            "exception in a signal handler, a callback or a greenlet of the application; it belongs to no request",
        );
    }
}
