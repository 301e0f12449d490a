//! Facts about this process and its server: the module's constants, and the calls that only report.
//!
//! Owns [`ServerInfo`], which the server states once before applications load and again in every worker after
//! the fork. While nothing was stated no server runs here, and every call of the module says so.

use std::fs::{self, File};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::sockets::backlog_in_use;
use super::{Text, module, opt, request};

/// What the module tells applications about the server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ServerInfo {
    /// Every option in effect, in the order given, placeholders included; `None` is a flag without a value.
    /// A repeated option appears once per value.
    pub(crate) options: Vec<(String, Option<Vec<u8>>)>,
    /// The name of the loop engine (`gevent`); `None` when the reactor runs alone.
    pub(crate) loop_engine: Option<String>,
    /// Worker processes asked for.
    pub(crate) processes: u32,
    /// Cores of each worker.
    pub(crate) cores: u32,
    /// `--buffer-size`, in bytes.
    pub(crate) buffer_size_bytes: u32,
    /// When the server started, in unix seconds.
    pub(crate) started_on_s: u64,
    /// The listeners' descriptors, in the order of the options.
    pub(crate) listeners: Vec<RawFd>,
    /// Whether these applications were loaded by a reload.
    pub(crate) is_reload: bool,
    /// 0 without a master.
    pub(crate) master_pid: i32,
    /// 1 to `processes` in a worker, 0 elsewhere.
    pub(crate) worker_id: u32,
    /// `--socket-timeout`, in seconds: how long a blocking `uwsgi.connect` without a timeout may take.
    pub(crate) socket_timeout_s: f64,
    /// `--pidfile`, if given.
    pub(crate) pidfile: Option<Vec<u8>>,
    /// Whether all applications are loaded: what `uwsgi.ready()` answers.
    pub(crate) ready: bool,
}

static SERVER: Mutex<Option<Arc<ServerInfo>>> = Mutex::new(None);

/// States the facts. Called before the applications load, again in each worker after the fork, and whenever
/// one of them changes; the module's attributes follow. `uwsgi.opt` stays the same object while the options
/// stay the same: an application may have changed or kept it.
pub(crate) fn set_server_info(py: Python<'_>, info: ServerInfo) -> PyResult<()> {
    let before = server();
    let info = Arc::new(info);
    *SERVER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&info));
    let Some(module) = module(py) else { return Ok(()) };
    if before.is_none_or(|before| before.options != info.options) {
        module.setattr("opt", opt::to_dict(py, &info.options)?)?;
    }
    set_facts(module, &info)
}

/// The server's facts, or the error every call of the module raises where no server runs.
pub(crate) fn require_server(name: &str) -> PyResult<Arc<ServerInfo>> {
    server().ok_or_else(|| {
        PyRuntimeError::new_err(format!(
            "uwsgi.{name}(): no greenloom server runs in this process; start the application with \
             'greenloom ...'"
        ))
    })
}

/// greenloom's version, as the module and `environ["uwsgi.version"]` give it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The host's name; empty if the kernel does not tell.
pub(crate) fn hostname() -> Vec<u8> {
    fs::read("/proc/sys/kernel/hostname").map(|name| name.trim_ascii_end().to_vec()).unwrap_or_default()
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("version", PyBytes::new(py, VERSION.as_bytes()))?;
    module.add("version_info", version_info(py)?)?;
    module.add("hostname", PyBytes::new(py, &hostname()))?;
    module.add("applications", py.None())?;
    module.add("SPOOL_RETRY", -1)?;
    module.add("SPOOL_OK", -2)?;
    module.add("SPOOL_IGNORE", 0)?;
    module.add("opt", PyDict::new(py))?;
    for name in FACTS {
        module.add(name, py.None())?;
    }
    set_facts(module, &server().as_deref().cloned().unwrap_or_default())?;
    module.add_function(wrap_pyfunction!(micros, module)?)?;
    module.add_function(wrap_pyfunction!(mem, module)?)?;
    module.add_function(wrap_pyfunction!(worker_id, module)?)?;
    module.add_function(wrap_pyfunction!(mule_id, module)?)?;
    module.add_function(wrap_pyfunction!(masterpid, module)?)?;
    module.add_function(wrap_pyfunction!(request_id, module)?)?;
    module.add_function(wrap_pyfunction!(total_requests, module)?)?;
    module.add_function(wrap_pyfunction!(ready, module)?)?;
    module.add_function(wrap_pyfunction!(i_am_the_spooler, module)?)?;
    module.add_function(wrap_pyfunction!(listen_queue, module)?)?;
    module.add_function(wrap_pyfunction!(setprocname, module)?)?;
    module.add_function(wrap_pyfunction!(logsize, module)?)
}

/// The attributes [`set_facts`] sets.
const FACTS: [&str; 9] = [
    "loop",
    "numproc",
    "cores",
    "buffer_size",
    "has_threads",
    "started_on",
    "sockets",
    "is_a_reload",
    "pidfile",
];

fn set_facts(module: &Bound<'_, PyModule>, info: &ServerInfo) -> PyResult<()> {
    let py = module.py();
    let bytes = |text: &[u8]| PyBytes::new(py, text);
    module.setattr("loop", info.loop_engine.as_ref().map(|name| bytes(name.as_bytes())))?;
    module.setattr("numproc", info.processes)?;
    module.setattr("cores", info.cores)?;
    module.setattr("buffer_size", info.buffer_size_bytes)?;
    // Python threads always run here, as in uWSGI since threads need no option there.
    module.setattr("has_threads", 1)?;
    module.setattr("started_on", info.started_on_s)?;
    module.setattr("sockets", PyList::new(py, &info.listeners)?)?;
    module.setattr("is_a_reload", info.is_reload)?;
    module.setattr("pidfile", info.pidfile.as_deref().map(bytes))
}

pub(crate) fn server() -> Option<Arc<ServerInfo>> {
    SERVER.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// `(major, minor, patch, 0, b'')`, uWSGI's shape.
fn version_info(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let mut numbers = VERSION.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next(), 0, PyBytes::new(py, b"")).into_pyobject(py)
}

/// Microseconds since the epoch.
#[pyfunction]
fn micros() -> PyResult<u64> {
    require_server("micros")?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `(resident, virtual)` memory of this process in bytes.
#[pyfunction]
fn mem() -> PyResult<(u64, u64)> {
    require_server("mem")?;
    let status = fs::read_to_string("/proc/self/status")?;
    let bytes = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Ok((bytes("VmRSS:").unwrap_or(0), bytes("VmSize:").unwrap_or(0)))
}

#[pyfunction]
fn worker_id() -> PyResult<u32> {
    Ok(require_server("worker_id")?.worker_id)
}

/// There are no mules: always 0, as in any process of uWSGI that is none.
#[pyfunction]
fn mule_id() -> PyResult<u32> {
    require_server("mule_id").map(|_| 0)
}

#[pyfunction]
fn masterpid() -> PyResult<i32> {
    Ok(require_server("masterpid")?.master_pid)
}

/// Requests this worker has completed.
#[pyfunction]
fn request_id() -> PyResult<u64> {
    require_server("request_id")?;
    Ok(request::requests_of_worker())
}

/// Requests all workers have completed.
#[pyfunction]
fn total_requests() -> PyResult<u64> {
    require_server("total_requests")?;
    Ok(request::requests_of_all_workers())
}

/// True once all applications are loaded, None before.
#[pyfunction]
fn ready() -> PyResult<Option<bool>> {
    Ok(require_server("ready")?.ready.then_some(true))
}

/// There is no spooler: always None.
#[pyfunction]
fn i_am_the_spooler() -> PyResult<Option<bool>> {
    require_server("i_am_the_spooler").map(|_| None)
}

/// Connections waiting in the listener's kernel queue; 0 for UNIX sockets, where the kernel does not tell.
#[pyfunction]
#[pyo3(signature = (id=0, /))]
fn listen_queue(py: Python<'_>, id: usize) -> PyResult<u32> {
    let info = require_server("listen_queue")?;
    match info.listeners.get(id) {
        Some(fd) => Ok(backlog_in_use(py, *fd)),
        None => Err(PyValueError::new_err(format!("unable to find socket {id}"))),
    }
}

/// Names the process's main thread, as `ps -o comm` and `top` show it (the kernel keeps 15 bytes).
#[pyfunction]
#[pyo3(signature = (name, /))]
fn setprocname(name: Text) -> PyResult<()> {
    require_server("setprocname")?;
    let Text(name) = name;
    Ok(fs::write("/proc/self/comm", name)?)
}

/// Bytes of the log file; 0 when the log is no regular file.
#[pyfunction]
fn logsize() -> PyResult<u64> {
    require_server("logsize")?;
    // SAFETY: descriptor 2 is open for the life of the server (the log goes there), and `ManuallyDrop` keeps
    // it open here.
    let log = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
    let metadata = log.metadata().map_err(|error| PyOSError::new_err(format!("log: {error}")))?;
    Ok(if metadata.is_file() { metadata.len() } else { 0 })
}
