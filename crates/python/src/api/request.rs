//! The running request, as the calls of the API need it.

use std::os::fd::RawFd;

use greenloom_worker::CoreId;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::driver::server::{self, Server, peek};
use crate::fork_guard;
use crate::wsgi::gateway::{self, write_now};
use crate::wsgi::input::Input;

fn current() -> PyResult<(&'static Server, CoreId)> {
    let found = server::current("*").map_err(|_| {
        PyRuntimeError::new_err(
            "this function of the uwsgi module belongs to a request: call it from the code that handles one, on the \
             server's own thread",
        )
    })?;
    if found.0.is_signal_core(found.1) {
        return Err(PyRuntimeError::new_err(
            "this function of the uwsgi module belongs to a request, and a handler of a uwsgi signal has none",
        ));
    }
    Ok(found)
}

/// The request's body.
pub(crate) fn input(py: Python<'_>) -> PyResult<Py<Input>> {
    let (server, core) = current()?;
    peek(py, &server.slot(core).input).ok_or_else(|| PyRuntimeError::new_err("the request has ended"))
}

/// Bytes of the request's body.
pub(crate) fn content_length(_py: Python<'_>) -> PyResult<u64> {
    let (server, core) = current()?;
    Ok(server.worker.borrow().request(core).content_length.unwrap_or(0))
}

/// The client's socket.
pub(crate) fn connection_fd(_py: Python<'_>) -> PyResult<RawFd> {
    let (server, core) = current()?;
    Ok(server.worker.borrow().client_fd(core).unwrap_or(-1))
}

/// Bytes to the client as they are, past head and framing; `false`: it is gone.
pub(crate) fn send_raw(py: Python<'_>, bytes: &[u8]) -> PyResult<bool> {
    let (server, core) = current()?;
    fork_guard::check();
    gateway::send_raw(py, server, core, bytes)
}

/// Body bytes to the client, the head first.
pub(crate) fn write_body(py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
    let (server, core) = current()?;
    write_now(py, server, core, bytes)
}

/// Sets a log variable of the request.
pub(crate) fn set_logvar(_py: Python<'_>, key: Vec<u8>, value: Vec<u8>) -> PyResult<()> {
    let (server, core) = current()?;
    server.worker.borrow_mut().set_logvar(core, key, value);
    Ok(())
}

/// A log variable of the request.
pub(crate) fn logvar(_py: Python<'_>, key: &[u8]) -> PyResult<Option<Vec<u8>>> {
    let (server, core) = current()?;
    Ok(server.worker.borrow().logvar(core, key).map(<[u8]>::to_vec))
}

/// Notes that the request is answered with a file.
pub(crate) fn note_file(_py: Python<'_>) -> PyResult<()> {
    let (server, core) = current()?;
    server.worker.borrow_mut().note_file(core);
    Ok(())
}

/// Writes the request line although `--disable-logging` is on.
pub(crate) fn log_this_request(_py: Python<'_>) -> PyResult<()> {
    let (server, core) = current()?;
    server.worker.borrow_mut().log_always(core);
    Ok(())
}

/// Ends the connection to the client; the request goes on without one.
pub(crate) fn disconnect(_py: Python<'_>) -> PyResult<()> {
    let (server, core) = current()?;
    fork_guard::check();
    server.worker.borrow_mut().disconnect(core);
    Ok(())
}

/// Requests this worker has ended.
pub(crate) fn requests_of_worker() -> u64 {
    server::of_this_thread().map_or(0, |server| server.requests.get())
}

/// Requests all workers have ended.
pub(crate) fn requests_of_all_workers() -> u64 {
    server::of_this_thread().map_or(0, |server| server.totals.requests())
}
