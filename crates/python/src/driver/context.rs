//! Contexts (PEP 567): each request runs in a fresh copy of what the application's loading left, so that what it sets in
//! context variables reaches no other request, whichever engine interleaves them.

use pyo3::ffi;
use pyo3::prelude::*;

/// What every request's context is copied from.
pub(crate) struct Base(Py<PyAny>);

/// The context of one request.
pub(crate) struct Context(Py<PyAny>);

/// A context that is the current one.
#[must_use = "a context that was entered must be left"]
pub(crate) struct Entered(Context);

impl Base {
    /// The context the application was loaded in.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; a new reference, or null with an exception set.
        let context = unsafe { ffi::PyContext_CopyCurrent() };
        // SAFETY: as above.
        unsafe { Bound::from_owned_ptr_or_err(py, context) }.map(|context| Self(context.unbind()))
    }

    /// A context for a request. `None`: there is no memory for one.
    pub(crate) fn fresh(&self, py: Python<'_>) -> Option<Context> {
        // SAFETY: attached; `self.0` is a context.
        let context = unsafe { ffi::PyContext_Copy(self.0.as_ptr()) };
        // SAFETY: a new reference, or null with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, context) };
        context.ok().map(|context| Context(context.unbind()))
    }
}

impl Context {
    /// The context object.
    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// Makes it the current one.
    pub(crate) fn enter(self, py: Python<'_>) -> Entered {
        // SAFETY: attached; a context, and no other code enters it: nobody else has it.
        if unsafe { ffi::PyContext_Enter(self.0.as_ptr()) } != 0 {
            drop(PyErr::take(py));
        }
        Entered(self)
    }
}

impl Entered {
    /// Makes the one before it current again.
    pub(crate) fn leave(self, py: Python<'_>) -> Context {
        // SAFETY: attached; it was entered on this thread state. An application that has left another context entered
        // makes this fail, and nothing else.
        if unsafe { ffi::PyContext_Exit(self.0.0.as_ptr()) } != 0 {
            drop(PyErr::take(py));
        }
        self.0
    }
}
