//! Calls that write to the server's log or shape the current request's line in it.
//!
//! Owns the Python side only: the line itself, and what may stand in it, belong to the request log.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::info::require_server;
use super::{Text, request};
use crate::traceback::write_log;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(log, module)?)?;
    module.add_function(wrap_pyfunction!(set_logvar, module)?)?;
    module.add_function(wrap_pyfunction!(get_logvar, module)?)?;
    module.add_function(wrap_pyfunction!(log_this_request, module)?)
}

/// Writes a line to the server's log; the newline may be left out.
#[pyfunction]
#[pyo3(signature = (text, /))]
fn log(text: Text) -> PyResult<bool> {
    require_server("log")?;
    let Text(mut line) = text;
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    write_log(&line);
    Ok(true)
}

/// Sets a variable of the current request for the log format.
#[pyfunction]
#[pyo3(signature = (key, value, /))]
fn set_logvar(py: Python<'_>, key: Text, value: Text) -> PyResult<()> {
    require_server("set_logvar")?;
    let (Text(key), Text(value)) = (key, value);
    request::set_logvar(py, key, value)
}

/// A variable of the current request, None when it was not set.
#[pyfunction]
#[pyo3(signature = (key, /))]
fn get_logvar(py: Python<'_>, key: Text) -> PyResult<Option<Bound<'_, PyBytes>>> {
    require_server("get_logvar")?;
    let Text(key) = key;
    Ok(request::logvar(py, &key)?.map(|value| PyBytes::new(py, &value)))
}

/// Has the current request logged even though its line would be left out.
#[pyfunction]
fn log_this_request(py: Python<'_>) -> PyResult<()> {
    require_server("log_this_request")?;
    request::log_this_request(py)
}
