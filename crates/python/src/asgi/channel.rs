//! `receive` and `send` of a request. What is done here never waits: it gives a future to be awaited instead, which a
//! coroutine of `greenloom/engines/asgi.py` does.

use std::sync::atomic::{AtomicU64, Ordering};

use greenloom_worker::CoreId;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::{incoming, outgoing};
use crate::driver::server::{self, Server};
use crate::fork_guard;
use crate::wsgi::response::references;

/// What the two calls of a request have in common.
#[pyclass(frozen, module = "greenloom._greenloom")]
pub(crate) struct Channel {
    core: CoreId,
    /// Which of the core's requests.
    generation: AtomicU64,
}

#[pymethods]
impl Channel {
    /// The next message, or a future to be awaited before asking again.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let server = server("receive")?;
        if self.is_over(server) {
            return incoming::disconnect(py).map(Bound::into_any);
        }
        incoming::receive(py, server, self.core)
    }

    /// Sends a message. What is returned is to be awaited: it waits while the client reads slowly.
    fn send<'py>(slf: &Bound<'py, Self>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let server = server("send")?;
        if this.is_over(server) {
            return Err(outgoing::over());
        }
        match outgoing::send(py, server, this.core, message)? {
            None => Ok(server.scopes()?.sent.bind(py).as_any().clone()),
            Some(future) => server.scopes()?.waits.bind(py).call1((slf, future)),
        }
    }

    /// What is to be awaited, and this asked after it, before all is said; `None`: it is.
    fn unsent<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let server = server("send")?;
        if self.is_over(server) {
            // It was the last message, and its request has ended behind it.
            return Ok(None);
        }
        outgoing::unsent(py, server, self.core)
    }
}

impl Channel {
    fn is_over(&self, server: &Server) -> bool {
        server.slot(self.core).generation.get() != self.generation.load(Ordering::Relaxed)
    }
}

/// The server, for a call that is made on its thread.
fn server(call: &str) -> PyResult<&'static Server> {
    fork_guard::check();
    server::of_this_thread().ok_or_else(|| {
        PyRuntimeError::new_err(format!(
            "{call}() was awaited on a thread of the application: only code of the loop's thread may call it \
             (asyncio.run_coroutine_threadsafe)"
        ))
    })
}

/// What `send` mostly returns: all is said, and awaiting it takes no time. It looks like a coroutine that has ended to who
/// makes a task of it.
#[pyclass(frozen, module = "greenloom._greenloom")]
pub(crate) struct Sent;

#[pymethods]
impl Sent {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn send(&self, value: Bound<'_, PyAny>) -> PyResult<()> {
        drop(value);
        Err(PyStopIteration::new_err(()))
    }

    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    #[pyo3(signature = (*arguments))]
    fn throw(&self, arguments: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(thrown(arguments))
    }

    #[expect(clippy::unused_self, reason = "a method of the object for Python")]
    fn close(&self) {}
}

/// The exception that `throw` of a coroutine was given.
pub(super) fn thrown(arguments: &Bound<'_, PyTuple>) -> PyErr {
    let found = (|| {
        let kind = arguments.get_item(0)?;
        match arguments.get_item(1) {
            Ok(value) if !value.is_none() => Ok(value),
            _ if kind.is_callable() => kind.call0(),
            _ => Ok(kind),
        }
    })();
    found.map_or_else(|error| error, PyErr::from_value)
}

/// `receive` and `send`, made once for a core and used again for its next request, unless the application keeps one.
pub(crate) struct Calls {
    channel: Py<Channel>,
    exchange: Py<PyAny>,
    pub(super) receive: Py<PyAny>,
    pub(super) send: Py<PyAny>,
}

impl Calls {
    /// Makes them; `class` is `greenloom.engines.asgi.Exchange`.
    pub(super) fn new(py: Python<'_>, class: &Py<PyAny>, core: CoreId, generation: u64) -> PyResult<Self> {
        let channel = Py::new(py, Channel { core, generation: generation.into() })?;
        let exchange = class.bind(py).call1((&channel,))?;
        Ok(Self {
            receive: exchange.getattr(intern!(py, "receive"))?.unbind(),
            send: channel.bind(py).getattr(intern!(py, "send"))?.unbind(),
            channel,
            exchange: exchange.unbind(),
        })
    }

    /// Makes them serve another request, if nobody else holds any of them.
    pub(super) fn reuse(&self, py: Python<'_>, generation: u64) -> bool {
        // `receive` refers to the exchange, that and `send` to the channel.
        let unknown = references(self.receive.as_ptr()) == 1
            && references(self.send.as_ptr()) == 1
            && references(self.exchange.as_ptr()) == 2
            && references(self.channel.as_ptr()) == 3;
        if unknown {
            self.channel.bind(py).get().generation.store(generation, Ordering::Relaxed);
        }
        unknown
    }
}
