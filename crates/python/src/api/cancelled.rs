//! `uwsgi.Cancelled`: what is raised where a request stands that is to end.

use greenloom_worker::Cancel;
use pyo3::create_exception;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

create_exception!(
    greenloom.api,
    Cancelled,
    PyBaseException,
    "The request is to end: its client is gone, its deadline is over, or the server stops.\n\n\
     Raised where the request is suspended. Clean up and let it pass; the attribute `reason` is \"client gone\", \
     \"deadline\" or \"stop\"."
);

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Cancelled", module.py().get_type::<Cancelled>())
}

/// The exception for one reason.
pub(crate) fn error(py: Python<'_>, why: Cancel) -> PyErr {
    let error = Cancelled::new_err(format!("the request was cancelled: {why}"));
    // An exception without the attribute still ends the request.
    let _ = error.value(py).setattr("reason", why.to_string());
    error
}
