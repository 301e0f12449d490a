//! What a worker process keeps on the Python side: the worker, the applications, and a slot for each core.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::c_ulong;
use std::sync::OnceLock;

use greenloom_cli::master::Totals;
use greenloom_worker::config::{Interface, Settings};
use greenloom_worker::{CoreId, Worker, WorkerOptions};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::api;
use crate::asgi::Exchange;
use crate::asgi::scope::ScopeBuilder;
use crate::engine::SuspendEngine;
use crate::load::App;
use crate::wsgi::environ::EnvironBuilder;
use crate::wsgi::input::Input;
use crate::wsgi::response::{Head, Responder};

/// See the module.
pub(crate) struct Server {
    /// Identifies the thread that runs the reactor and all application code of requests.
    thread: c_ulong,
    /// Borrowed for single calls only: nobody holds it while Python code can run.
    pub(crate) worker: RefCell<Worker>,
    pub(crate) engine: Box<dyn SuspendEngine>,
    pub(crate) apps: Vec<App>,
    /// Requests each application has had.
    pub(crate) app_requests: Vec<Cell<u64>>,
    pub(crate) environ: EnvironBuilder,
    /// `None`: no application is an ASGI one, and nothing of asyncio's is imported for any.
    scopes: Option<ScopeBuilder>,
    /// The first so many cores are those of requests.
    request_cores: u32,
    pub(crate) cores: Vec<Slot>,
    /// The core that was given control last. Engines whose coroutines the application can switch itself look closer.
    pub(crate) current: Cell<Option<CoreId>>,
    pub(crate) totals: Totals,
    /// `uwsgi.after_req_hook`, as the application had set it when the worker started.
    pub(crate) after_request: Option<Py<PyAny>>,
    /// Requests this worker has ended.
    pub(crate) requests: Cell<u64>,
}

/// The Python side of one core. Each part is taken out, used, and put back, so that nothing is borrowed while Python
/// code runs.
#[derive(Default)]
pub(crate) struct Slot {
    /// Counts the requests of this core; objects an application may keep carry the number.
    pub(crate) generation: Cell<u64>,
    /// Status and fields given to `start_response`.
    pub(crate) head: RefCell<Head>,
    pub(crate) responder: Cell<Option<Py<Responder>>>,
    /// What the application returned, to be closed in the end.
    pub(crate) iterable: Cell<Option<Py<PyAny>>>,
    /// Its iterator.
    pub(crate) iterator: Cell<Option<Py<PyAny>>>,
    /// The part that is being written, and how far it has got.
    pub(crate) part: Cell<Option<(Py<PyBytes>, usize)>>,
    /// Length of the whole body, when it is known before the head leaves.
    pub(crate) known_length: Cell<Option<u64>>,
    pub(crate) environ: Cell<Option<Py<PyDict>>>,
    pub(crate) input: Cell<Option<Py<Input>>>,
    /// What requests of ASGI applications have, made for the first; nothing else of the slot is used for them but head and
    /// length.
    asgi: OnceCell<Box<Exchange>>,
    /// Whether the environ's fdevent keys say something about an earlier wait.
    pub(crate) marked: Cell<bool>,
}

/// Where connections come from, as applications are told.
pub(crate) struct Listener {
    /// The address, for people: `127.0.0.1:8080`, `[::1]:8080`, `/run/app.sock`.
    pub(crate) name: String,
    /// The TCP port in decimal; empty for UNIX sockets.
    pub(crate) port: String,
}

impl Listener {
    /// Host and port, or path and `None`.
    pub(crate) fn server<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self.port.parse::<u16>() {
            Ok(port) => {
                let host = self.name.rsplit_once(':').map_or("", |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                (host, port).into_pyobject(py)
            }
            Err(_) => (&self.name, py.None()).into_pyobject(py),
        }
    }
}

struct Global(Server);

// SAFETY: `of_this_thread` hands the server out on the reactor's thread only; other threads get nothing of it.
unsafe impl Send for Global {}
// SAFETY: as above.
unsafe impl Sync for Global {}

static SERVER: OnceLock<Global> = OnceLock::new();

fn this_thread() -> c_ulong {
    // SAFETY: takes nothing and touches no object.
    unsafe { ffi::PyThread_get_thread_ident() }
}

/// Sets the server of this process up; once per process, after its last fork, on the thread that will drive it.
pub(crate) fn start(
    py: Python<'_>,
    settings: &Settings,
    worker: Worker,
    engine: Box<dyn SuspendEngine>,
    apps: Vec<App>,
    listeners: &[Listener],
    totals: Totals,
) -> PyResult<&'static Server> {
    let server = Server {
        thread: this_thread(),
        worker: RefCell::new(worker),
        engine,
        app_requests: apps.iter().map(|_| Cell::new(0)).collect(),
        environ: EnvironBuilder::new(py, settings, listeners)?,
        scopes: if apps.iter().any(|app| app.interface == Interface::Asgi) {
            Some(ScopeBuilder::new(py, settings, listeners, &apps)?)
        } else {
            None
        },
        apps,
        request_cores: settings.cores.max(1),
        cores: (0..WorkerOptions::from_settings(settings).all_cores()).map(|_| Slot::default()).collect(),
        current: Cell::new(None),
        totals,
        after_request: api::hook(py, "after_req_hook"),
        requests: Cell::new(0),
    };
    Ok(&SERVER.get_or_init(|| Global(server)).0)
}

/// The server, for code on its thread.
pub(crate) fn of_this_thread() -> Option<&'static Server> {
    let server = &SERVER.get()?.0;
    (server.thread == this_thread()).then_some(server)
}

/// The server and the core of the request or signal handler that runs; for the functions of the API named `name`.
pub(crate) fn current(name: &str) -> PyResult<(&'static Server, CoreId)> {
    let Some(server) = of_this_thread() else {
        return Err(PyRuntimeError::new_err(if SERVER.get().is_some() {
            format!(
                "uwsgi.{name}() was called from a thread of the application: only the code of a request, on the \
                 server's own thread, may call it; hand the result over to the request instead"
            )
        } else {
            format!(
                "uwsgi.{name}() was called outside a request: no worker serves in this process yet; call it while \
                 a request is handled"
            )
        }));
    };
    // SAFETY: on the server's thread, which is attached whenever code of the application calls.
    let py = unsafe { Python::assume_attached() };
    match server.engine.current(py, server) {
        Some(core) => Ok((server, core)),
        None => Err(PyRuntimeError::new_err(if server.current.get().is_some() {
            format!(
                "uwsgi.{name}() was called from a greenlet of the application: only the request's own coroutine may \
                 call it; switch back to that one first, or wait there for this greenlet's result"
            )
        } else {
            format!("uwsgi.{name}() was called outside a request: no request runs on this coroutine")
        })),
    }
}

impl Server {
    /// Whether a core is one of those in which handlers of uwsgi signals run.
    pub(crate) fn is_signal_core(&self, core: CoreId) -> bool {
        core.0 >= self.request_cores
    }

    /// What makes the scopes of requests.
    pub(crate) fn scopes(&self) -> PyResult<&ScopeBuilder> {
        self.scopes.as_ref().ok_or_else(|| PyRuntimeError::new_err("no ASGI application is loaded"))
    }

    pub(crate) fn slot(&self, core: CoreId) -> &Slot {
        &self.cores[core.0 as usize]
    }
}

impl Slot {
    /// What requests of ASGI applications have.
    pub(crate) fn asgi(&self) -> &Exchange {
        self.asgi.get_or_init(Box::default)
    }

    /// Whether the request of an ASGI application has the core.
    pub(crate) fn runs_task(&self) -> bool {
        self.asgi.get().is_some_and(|exchange| exchange.runs())
    }

    /// Whether a part is being written.
    pub(crate) fn writes_part(&self) -> bool {
        let part = self.part.take();
        let writes = part.is_some();
        self.part.set(part);
        writes
    }
}

/// Looks at what is in a cell of an object reference.
pub(crate) fn peek<T>(py: Python<'_>, cell: &Cell<Option<Py<T>>>) -> Option<Py<T>> {
    let value = cell.take();
    let copy = value.as_ref().map(|value| value.clone_ref(py));
    cell.set(value);
    copy
}
