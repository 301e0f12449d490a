//! The `uwsgi` module of applications: `greenloom.api`, also importable as `uwsgi` inside the server.
//!
//! Owns the module object, its list of names and the hooks applications assign to it. One file per family of
//! calls; what a call needs from the running request it asks `request.rs`, what it needs from the process
//! `info.rs`. Names the server does not have exist all the same (`absent.rs`), so that `from uwsgi import x`
//! never fails and the call says what to do instead. Semantics: the reference of uWSGI's Python module.
//!
//! Importing does no work and never fails, with or without a server.

mod absent;
pub(crate) mod cancelled;
mod client;
mod context;
mod deadline;
pub(crate) mod info;
mod lifecycle;
mod locks;
mod log;
mod opt;
mod remote_signal;
pub(crate) mod request;
mod signals;
mod sockets;
pub(crate) mod waits;
pub(crate) mod workers;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::traceback::{log_exception, log_line};

/// The one module object: applications assign hooks to it, so there must never be a second.
static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Makes the module (once per process) and adds it to the extension as `api`.
///
/// Also enters it into `sys.modules` as `greenloom.api`, because a submodule of an extension module is not
/// found by `import` otherwise. The name `uwsgi` is the server's to add, when it starts.
pub(crate) fn register(extension: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = extension.py();
    let module = MODULE.get_or_try_init(py, || build(py).map(Bound::unbind))?.bind(py);
    py.import("sys")?.getattr("modules")?.set_item("greenloom.api", module)?;
    extension.add("api", module)
}

/// The module, once the extension was imported.
pub(crate) fn module(py: Python<'_>) -> Option<&Bound<'_, PyModule>> {
    MODULE.get(py).map(|module| module.bind(py))
}

/// Calls the hook `name` (`post_fork_hook`, `atexit`, `after_req_hook`) if the application assigned one.
///
/// Whatever the hook raises, `SystemExit` included, is logged and goes no further.
pub(crate) fn call_hook(py: Python<'_>, name: &str) {
    let Some(hook) = hook(py, name) else { return };
    if let Err(err) = hook.call0(py) {
        log_exception(py, err, &format!("exception in uwsgi.{name}:"));
    }
}

/// The hook `name`, if the application assigned one.
pub(crate) fn hook(py: Python<'_>, name: &str) -> Option<Py<PyAny>> {
    let hook = module(py)?.getattr(name).ok().filter(|hook| !hook.is_none())?;
    if !hook.is_callable() {
        log_line(&format!("uwsgi.{name} is set, but not to a callable: ignored"));
        return None;
    }
    Some(hook.unbind())
}

fn build(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "greenloom.api")?;
    module.setattr("__doc__", DOC)?;
    info::register(&module)?;
    lifecycle::register(&module)?;
    log::register(&module)?;
    client::register(&module)?;
    context::register(&module)?;
    deadline::register(&module)?;
    sockets::register(&module)?;
    waits::register(&module)?;
    cancelled::register(&module)?;
    signals::register(&module)?;
    locks::register(&module)?;
    workers::register(&module)?;
    absent::register(&module)?;
    Ok(module)
}

const DOC: &str = "Functions of the running greenloom server, under the names of uWSGI's `uwsgi` module.\n\n\
    Inside the server `import uwsgi` gives this module. Outside, every call raises RuntimeError.";

/// An argument that may be `str` (taken as UTF-8) or `bytes`.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl<'py> FromPyObject<'_, 'py> for Text {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(bytes.as_bytes().to_vec()));
        }
        let Ok(text) = object.cast::<PyString>() else {
            let kind = object.get_type().name()?;
            return Err(pyo3::exceptions::PyTypeError::new_err(format!("expected str or bytes, not {kind}")));
        };
        // Like file names: what came in as undecodable bytes leaves as the same bytes.
        if let Ok(utf8) = text.to_str() {
            return Ok(Self(utf8.as_bytes().to_vec()));
        }
        let options = PyDict::new(object.py());
        options.set_item("errors", "surrogateescape")?;
        Ok(Self(text.call_method("encode", (), Some(&options))?.extract()?))
    }
}

impl Text {
    /// For names, addresses and messages.
    pub(crate) fn to_lossy(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}
