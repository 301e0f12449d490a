//! Futures of the loop, for calls that wait until somebody lets them all go on.

use std::cell::RefCell;

use pyo3::intern;
use pyo3::prelude::*;

/// Those that nobody has let go on, or that have not noticed yet.
#[derive(Default)]
pub(super) struct Futures(RefCell<Vec<Py<PyAny>>>);

impl Futures {
    /// Another one.
    pub(super) fn add<'py>(&self, future: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        self.0.borrow_mut().push(future.clone().unbind());
        future
    }

    /// Forgets those that are done.
    pub(super) fn tidy(&self, py: Python<'_>) {
        if self.0.borrow().is_empty() {
            return;
        }
        // Code of the loop runs for each of them.
        let all = std::mem::take(&mut *self.0.borrow_mut());
        for future in all {
            if !is(&future, py, intern!(py, "done")) {
                self.0.borrow_mut().push(future);
            }
        }
    }

    /// Whether a call waits, or has been told to go on and has not done so; one that was cancelled does neither.
    pub(super) fn somebody_waits(&self, py: Python<'_>) -> bool {
        let all: Vec<_> = self.0.borrow().iter().map(|future| future.clone_ref(py)).collect();
        all.iter().any(|future| !is(future, py, intern!(py, "cancelled")))
    }

    /// Lets all of them go on.
    pub(super) fn wake(&self, py: Python<'_>) {
        let all: Vec<_> = self.0.borrow().iter().map(|future| future.clone_ref(py)).collect();
        for future in all {
            if !is(&future, py, intern!(py, "done")) {
                // It fails when the loop is closed: then nobody goes on any more.
                let _ = future.call_method1(py, intern!(py, "set_result"), (py.None(),));
            }
        }
    }

    /// Forgets them.
    pub(super) fn clear(&self) {
        let all = std::mem::take(&mut *self.0.borrow_mut());
        drop(all);
    }
}

fn is(future: &Py<PyAny>, py: Python<'_>, question: &Bound<'_, pyo3::types::PyString>) -> bool {
    future.call_method0(py, question).and_then(|answer| answer.is_truthy(py)).unwrap_or(true)
}
