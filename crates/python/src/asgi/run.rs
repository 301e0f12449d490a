//! What the task of a request runs: a coroutine around that of the application, which knows when the task is given
//! control, when it is suspended, and when the application is done.
//!
//! To tools that look at tasks it looks like the application's own coroutine: what it does not know it asks that one for.

use std::sync::{Mutex, PoisonError};

use greenloom_worker::CoreId;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::channel::thrown;
use super::gateway;
use crate::driver::server::{self, Server};

/// See the module.
#[pyclass(frozen, module = "greenloom._greenloom", name = "Request")]
pub(crate) struct Run {
    core: CoreId,
    generation: u64,
    app: Py<PyAny>,
    /// `(scope, receive, send)`, until the application is called.
    arguments: Mutex<Option<Py<PyTuple>>>,
    /// What the application has returned, and what is sent to, from its call to its end: nothing of a request stays here.
    inner: Mutex<Option<(Py<PyAny>, Py<PyAny>)>>,
}

/// How a step of the application has ended.
enum Step<'py> {
    /// It waits for this.
    Waits(Bound<'py, PyAny>),
    /// It has returned.
    Returned,
}

impl Run {
    pub(super) fn new(core: CoreId, generation: u64, app: Py<PyAny>, arguments: Py<PyTuple>) -> Self {
        Self { core, generation, app, arguments: Mutex::new(Some(arguments)), inner: Mutex::default() }
    }

    /// The coroutine of the application, or the iterator of what else it has returned; calls it for the first step.
    fn inner<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(inner) = self.begun(py) {
            return Ok(inner);
        }
        let Some(arguments) = taken(&self.arguments) else {
            return Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"));
        };
        let returned = self.app.bind(py).call1(arguments)?;
        // SAFETY: attached; any object may be asked.
        let is_coroutine = unsafe { ffi::PyCoro_CheckExact(returned.as_ptr()) } != 0;
        let inner = if is_coroutine {
            returned.clone()
        } else {
            let awaitable = returned.getattr_opt(intern!(py, "__await__"))?.ok_or_else(|| {
                PyTypeError::new_err(format!(
                    "the ASGI application has returned {}, which cannot be awaited",
                    returned.get_type()
                ))
            })?;
            awaitable.call0()?
        };
        let both = (returned.unbind(), inner.clone().unbind());
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Some(both);
        Ok(inner)
    }

    /// What is sent to, if the application was called and has not ended.
    fn begun<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.as_ref().map(|(_, inner)| inner.bind(py).clone())
    }

    /// The application has ended: forgets it.
    fn forget(&self) {
        drop((taken(&self.arguments), taken(&self.inner)));
    }

    /// Gives the application control.
    fn step<'py>(
        &self,
        py: Python<'py>,
        run: impl FnOnce() -> PyResult<Step<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let server = server::of_this_thread().filter(|server| self.is_own(server));
        let Some(server) = server else {
            // The core was taken away from it: it may do what it likes.
            let ended = run();
            if !matches!(ended, Ok(Step::Waits(_))) {
                self.forget();
            }
            return match ended? {
                Step::Waits(what) => Ok(Some(what)),
                Step::Returned => Ok(None),
            };
        };
        match gateway::step(server, self.core, run) {
            Ok(Step::Waits(what)) => {
                if self.is_own(server) {
                    gateway::waits(server, self.core);
                }
                Ok(Some(what))
            }
            Ok(Step::Returned) => {
                self.forget();
                if self.is_own(server) {
                    gateway::end(py, server, self.core, Ok(()));
                }
                Ok(None)
            }
            Err(error) => {
                self.forget();
                // The task is to know that it was cancelled; anything else is the server's to tell.
                let cancelled = gateway::is_cancelled_error(py, &error).then(|| error.clone_ref(py));
                if self.is_own(server) {
                    gateway::end(py, server, self.core, Err(error));
                }
                cancelled.map_or(Ok(None), Err)
            }
        }
    }

    fn is_own(&self, server: &Server) -> bool {
        server.slot(self.core).generation.get() == self.generation
    }

    fn sent<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.step(py, || {
            let inner = self.inner(py)?;
            let mut result = std::ptr::null_mut();
            // SAFETY: attached; a coroutine or an iterator, and an object to be sent.
            let how = unsafe { ffi::PyIter_Send(inner.as_ptr(), value.as_ptr(), &raw mut result) };
            // SAFETY: a new reference, or null with an exception set.
            let result = unsafe { Bound::from_owned_ptr_or_err(py, result) }?;
            Ok(if how == ffi::PySendResult::PYGEN_NEXT { Step::Waits(result) } else { Step::Returned })
        })
    }
}

#[pymethods]
impl Run {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.sent(py, py.None().bind(py))
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.sent(py, value)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (*arguments))]
    fn throw<'py>(&self, py: Python<'py>, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let waits = self.step(py, || {
            // One that has not begun raises what is thrown into it, and what cannot take it does, too.
            let Some(inner) = self.begun(py) else { return Err(thrown(arguments)) };
            if !inner.hasattr(intern!(py, "throw"))? {
                return Err(thrown(arguments));
            }
            match inner.call_method1(intern!(py, "throw"), arguments) {
                Ok(what) => Ok(Step::Waits(what)),
                Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(Step::Returned),
                Err(error) => Err(error),
            }
        })?;
        waits.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self, py: Python<'_>) {
        let closed = self.step(py, || {
            if let Some(inner) = self.begun(py)
                && inner.hasattr(intern!(py, "close"))?
            {
                inner.call_method0(intern!(py, "close"))?;
            }
            Err(gateway::cancelled_error(py))
        });
        drop(closed);
    }

    /// Whether the request has ended, or was given up.
    #[getter]
    fn is_over(&self) -> bool {
        server::of_this_thread().is_none_or(|server| !self.is_own(server))
    }

    /// What the coroutine of the application has.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let of = self.coroutine(py).unwrap_or_else(|| self.app.clone_ref(py));
        of.bind(py).getattr(name.cast::<pyo3::types::PyString>()?)
    }
}

impl Run {
    /// The coroutine of the application, as long as there is one.
    pub(super) fn coroutine(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.as_ref().map(|(returned, _)| returned.clone_ref(py))
    }
}

/// Takes out what is dropped, or called, after the lock.
fn taken<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}
