//! What is raised in a request that is to end: `uwsgi.Cancelled` where it is suspended, `uwsgi.ClientGone` where it
//! writes to a client that has left. Neither is a failure of the application.

use greenloom_worker::Cancel;
use pyo3::create_exception;
use pyo3::exceptions::{PyBaseException, PyOSError};
use pyo3::prelude::*;

create_exception!(
    greenloom.api,
    Cancelled,
    PyBaseException,
    "The request is to end: its client is gone, its deadline is over, or the server stops.\n\n\
     Raised where the request is suspended. Clean up and let it pass; the attribute `reason` is \"client gone\", \
     \"deadline\" or \"stop\"."
);

create_exception!(
    greenloom.api,
    ClientGone,
    PyOSError,
    "The request's client has left: what is written reaches nobody. An OSError, as uWSGI raises."
);

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("Cancelled", module.py().get_type::<Cancelled>())?;
    module.add("ClientGone", module.py().get_type::<ClientGone>())
}

/// Whether an exception only says that its request is to end: nothing to write about.
pub(crate) fn is_end(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<Cancelled>(py) || error.is_instance_of::<ClientGone>(py)
}

/// The exception of a write to a client that has left.
pub(crate) fn client_gone() -> PyErr {
    ClientGone::new_err("write error")
}

/// The exception of a message that no client will get.
pub(crate) fn nobody_reads(why: &str) -> PyErr {
    ClientGone::new_err(format!("nobody gets what is sent: {why}"))
}

/// The exception for one reason.
pub(crate) fn error(py: Python<'_>, why: Cancel) -> PyErr {
    let error = Cancelled::new_err(format!("the request was cancelled: {why}"));
    // An exception without the attribute still ends the request.
    let _ = error.value(py).setattr("reason", why.to_string());
    error
}
