//! `uwsgi.workers()`: the workers of the instance, as the scoreboard knows them.

use std::sync::OnceLock;

use greenloom_cli::{WorkerNumbers, Workers};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::info::require_server;

/// Known once the worker serves.
static WORKERS: OnceLock<Workers> = OnceLock::new();

/// States where the numbers are; once per worker.
pub(crate) fn set(workers: Workers) {
    // A second call would say the same.
    let _ = WORKERS.set(workers);
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(workers, module)?)
}

/// A dict for each worker, by number. Empty while applications are loaded: there are no workers yet.
#[pyfunction]
fn workers(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    require_server("workers")?;
    let list = WORKERS.get().map(Workers::list).unwrap_or_default();
    let dicts = list.iter().map(|worker| to_dict(py, worker)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, dicts)
}

fn to_dict<'py>(py: Python<'py>, worker: &WorkerNumbers) -> PyResult<Bound<'py, PyDict>> {
    let status: &[u8] = match worker.pid {
        0 => b"cheap",
        _ if worker.busy => b"busy",
        _ => b"idle",
    };
    let apps = worker.apps.iter().enumerate().map(|(id, app)| {
        let dict = PyDict::new(py);
        dict.set_item("id", id)?;
        dict.set_item("modifier1", 0)?;
        dict.set_item("mountpoint", PyBytes::new(py, &app.mount))?;
        dict.set_item("startup_time", app.loading_s)?;
        // Addresses in uWSGI; here they would tell nobody anything.
        dict.set_item("interpreter", 0)?;
        dict.set_item("callable", 0)?;
        dict.set_item("requests", app.requests)?;
        dict.set_item("exceptions", app.exceptions)?;
        dict.set_item("chdir", PyBytes::new(py, b""))?;
        Ok(dict)
    });
    let apps = PyTuple::new(py, apps.collect::<PyResult<Vec<_>>>()?)?;
    let dict = PyDict::new(py);
    dict.set_item("id", worker.id)?;
    dict.set_item("pid", worker.pid)?;
    dict.set_item("requests", worker.requests)?;
    dict.set_item("delta_requests", worker.delta_requests)?;
    dict.set_item("signals", worker.signals)?;
    dict.set_item("exceptions", worker.exceptions)?;
    dict.set_item("status", PyBytes::new(py, status))?;
    dict.set_item("rss", worker.rss)?;
    dict.set_item("vsz", worker.vsz)?;
    dict.set_item("running_time", worker.running_us)?;
    dict.set_item("last_spawn", worker.last_spawn_s)?;
    dict.set_item("respawn_count", worker.respawns)?;
    dict.set_item("tx", worker.sent_bytes)?;
    dict.set_item("avg_rt", worker.average_us)?;
    dict.set_item("apps", apps)?;
    Ok(dict)
}
