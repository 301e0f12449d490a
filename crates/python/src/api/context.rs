//! `request_context()`: a request handed over to another coroutine, so that calls which belong to a request can be made
//! there, as in uWSGI 2.1.
//!
//! What waits is not among them: a wait suspends a coroutine, and a request has one of its own.

use greenloom_worker::CoreId;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::info::require_server;
use super::request;
use crate::driver::server::{self, Server};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(request_context, module)?)
}

/// A request, as long as it lasts.
#[pyclass(frozen, module = "greenloom.api")]
#[derive(Debug)]
pub(crate) struct RequestContext {
    core: CoreId,
    /// Which of the core's requests.
    generation: u64,
}

#[pymethods]
impl RequestContext {
    fn __repr__(&self) -> String {
        let lasts = server::of_this_thread().is_some_and(|server| self.lasts(server));
        format!("<request context of core {}{}>", self.core.0, if lasts { "" } else { ", ended" })
    }
}

impl RequestContext {
    fn lasts(&self, server: &Server) -> bool {
        server.slot(self.core).generation.get() == self.generation
    }

    /// The server and the core of the request.
    pub(super) fn find(&self) -> PyResult<(&'static Server, CoreId)> {
        let Some(server) = server::of_this_thread() else {
            return Err(PyRuntimeError::new_err(
                "a request context was used on a thread of the application: only coroutines of the server's own thread may; \
                 hand the result over to one of them",
            ));
        };
        if !self.lasts(server) {
            return Err(PyRuntimeError::new_err("the request of this request context has ended"));
        }
        Ok((server, self.core))
    }
}

/// The running request, for `request_context=` of calls that another greenlet makes for it.
#[pyfunction]
fn request_context() -> PyResult<RequestContext> {
    require_server("request_context")?;
    let (server, core) = request::find(None)?;
    Ok(RequestContext { core, generation: server.slot(core).generation.get() })
}
