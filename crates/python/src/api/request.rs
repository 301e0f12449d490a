//! The running request, as the calls of the API need it.

use std::os::fd::RawFd;

use greenloom_worker::CoreId;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::context::RequestContext;
use crate::driver::server::{self, Server, peek};
use crate::fork_guard;
use crate::wsgi::file_wrapper::Rest;
use crate::wsgi::gateway;
use crate::wsgi::input::Input;

/// A request that a call is for, if it names one.
pub(crate) type Given<'a, 'py> = Option<&'a Bound<'py, RequestContext>>;

/// The server and the core of the request that is given, or else of the one that runs.
pub(super) fn find(given: Given<'_, '_>) -> PyResult<(&'static Server, CoreId)> {
    if let Some(context) = given {
        return context.get().find();
    }
    let found = server::current("*").map_err(|_| {
        PyRuntimeError::new_err(
            "this function of the uwsgi module belongs to a request: call it from the code that handles one, on the \
             server's own thread, or hand that request over with request_context=uwsgi.request_context()",
        )
    })?;
    if found.0.is_signal_core(found.1) {
        return Err(PyRuntimeError::new_err(
            "this function of the uwsgi module belongs to a request, and a handler of a uwsgi signal has none",
        ));
    }
    Ok(found)
}

/// Refuses a call that an ASGI application has something else for, which is to be done `instead`.
pub(super) fn not_in_a_task(
    server: &'static Server,
    core: CoreId,
    name: &str,
    instead: &str,
) -> PyResult<()> {
    if server.engine.awaits(server, core) {
        return Err(PyRuntimeError::new_err(format!(
            "uwsgi.{name}() is not for ASGI applications, whose requests are tasks: {instead}"
        )));
    }
    Ok(())
}

/// The request that a call named `name` writes to, past its application's interface.
fn find_writable(given: Given<'_, '_>, name: &str) -> PyResult<(&'static Server, CoreId)> {
    let (server, core) = find(given)?;
    not_in_a_task(server, core, name, "send http.response.start and http.response.body")?;
    Ok((server, core))
}

/// The request's body.
pub(crate) fn input(py: Python<'_>, given: Given<'_, '_>) -> PyResult<Py<Input>> {
    let (server, core) = find(given)?;
    not_in_a_task(server, core, "chunked_read", "await receive()")?;
    peek(py, &server.slot(core).input).ok_or_else(|| PyRuntimeError::new_err("the request has ended"))
}

/// Bytes of the request's body.
pub(crate) fn content_length(given: Given<'_, '_>) -> PyResult<u64> {
    let (server, core) = find(given)?;
    Ok(server.worker.borrow().request(core).content_length.unwrap_or(0))
}

/// The client's socket.
pub(crate) fn connection_fd(given: Given<'_, '_>) -> PyResult<RawFd> {
    let (server, core) = find(given)?;
    Ok(server.worker.borrow().client_fd(core).unwrap_or(-1))
}

/// Bytes to the client as they are, past head and framing; `false`: it is gone.
pub(crate) fn send_raw(py: Python<'_>, given: Given<'_, '_>, bytes: &[u8]) -> PyResult<bool> {
    let (server, core) = find_writable(given, "send")?;
    fork_guard::check();
    gateway::send_raw(py, server, core, bytes)
}

/// A part of a file to the client, as a part of the body, the head first.
pub(crate) fn send_file(py: Python<'_>, given: Given<'_, '_>, rest: Rest) -> PyResult<()> {
    let (server, core) = find_writable(given, "sendfile")?;
    gateway::send_file(py, server, core, rest)
}

/// Sets a log variable of the request.
pub(crate) fn set_logvar(given: Given<'_, '_>, key: Vec<u8>, value: Vec<u8>) -> PyResult<()> {
    let (server, core) = find(given)?;
    server.worker.borrow_mut().set_logvar(core, key, value);
    Ok(())
}

/// A log variable of the request.
pub(crate) fn logvar(given: Given<'_, '_>, key: &[u8]) -> PyResult<Option<Vec<u8>>> {
    let (server, core) = find(given)?;
    Ok(server.worker.borrow().logvar(core, key).map(<[u8]>::to_vec))
}

/// Writes the request line although `--disable-logging` is on.
pub(crate) fn log_this_request(given: Given<'_, '_>) -> PyResult<()> {
    let (server, core) = find(given)?;
    server.worker.borrow_mut().log_always(core);
    Ok(())
}

/// Ends the connection to the client; the request goes on without one.
pub(crate) fn disconnect(given: Given<'_, '_>) -> PyResult<()> {
    let (server, core) = find_writable(given, "disconnect")?;
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
