//! Calls that write to the server's log or shape the current request's line in it.
//!
//! Owns the Python side only: the line itself, and what may stand in it, belong to the request log.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::info::require_server;
use super::request::Given;
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
#[pyo3(signature = (key, value, /, *, request_context=None))]
fn set_logvar(key: Text, value: Text, request_context: Given<'_, '_>) -> PyResult<()> {
    require_server("set_logvar")?;
    let (Text(key), Text(value)) = (key, value);
    request::set_logvar(request_context, key, value)
}

/// A variable of the current request, None when it was not set.
#[pyfunction]
#[pyo3(signature = (key, /, *, request_context=None))]
fn get_logvar<'py>(
    py: Python<'py>,
    key: Text,
    request_context: Given<'_, 'py>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    require_server("get_logvar")?;
    let Text(key) = key;
    Ok(request::logvar(request_context, &key)?.map(|value| PyBytes::new(py, &value)))
}

/// Has the current request logged even though its line would be left out.
#[pyfunction]
#[pyo3(signature = (*, request_context=None))]
fn log_this_request(request_context: Given<'_, '_>) -> PyResult<()> {
    require_server("log_this_request")?;
    request::log_this_request(request_context)
}
