//! gevent, as far as it is called from here: its greenlets, its hub, its patching. The rest is `greenloom/engines/gevent.py`.

use greenloom_worker::config::{GeventSettings, Patching};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Turns, missing};

/// gevent's greenlets and hub.
pub(crate) struct Gevent {
    /// `RequestGreenlet`.
    class: Py<PyAny>,
    module: Py<PyModule>,
}

fn import(py: Python<'_>) -> Result<Bound<'_, PyModule>, String> {
    py.import("greenloom.engines.gevent").map_err(|error| missing(py, "--gevent", "gevent", "gevent", &error))
}

/// Patches the standard library before the application is loaded, if that is asked for; and finds out that gevent is
/// missing before that takes long.
pub(super) fn before_loading(py: Python<'_>, settings: &GeventSettings) -> Result<(), String> {
    let module = import(py)?;
    if settings.patching == Some(Patching::BeforeLoading) {
        call(py, &module, "patch")?;
    }
    Ok(())
}

/// Makes what was used before the fork this process's own, and patches if that was to be done late.
pub(super) fn before_serving(py: Python<'_>, settings: &GeventSettings) -> Result<(), String> {
    let module = import(py)?;
    if settings.patching == Some(Patching::BeforeServing) {
        call(py, &module, "patch")?;
    }
    call(py, &module, "after_fork")
}

fn call(py: Python<'_>, module: &Bound<'_, PyModule>, name: &str) -> Result<(), String> {
    module
        .call_method0(name)
        .map(drop)
        .map_err(|error| format!("gevent: {name} failed: {}", crate::traceback::format_exception(py, &error)))
}

/// Lets the hub run until the worker leaves.
pub(super) fn run(turns: &Bound<'_, Turns>, settings: &GeventSettings) -> PyResult<()> {
    let module = turns.py().import("greenloom.engines.gevent")?;
    module.call_method1("run", (turns, settings.wait_for_hub)).map(drop)
}

/// Which of gevent's loops it is, for the log.
pub(super) fn describe(py: Python<'_>) -> PyResult<String> {
    py.import("greenloom.engines.gevent")?.call_method0("describe")?.extract()
}

impl Gevent {
    /// Imports gevent; the message says why that cannot be.
    pub(crate) fn import(py: Python<'_>) -> Result<Self, String> {
        let module = import(py)?;
        let class = module.getattr("RequestGreenlet").map_err(|error| error.to_string())?;
        Ok(Self { class: class.unbind(), module: module.unbind() })
    }

    /// The greenlet that runs the loop.
    pub(crate) fn hub<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.module.bind(py).call_method0("hub")
    }

    /// Lets others run for a moment.
    pub(crate) fn nap(&self, py: Python<'_>) -> PyResult<()> {
        self.module.bind(py).call_method0("nap").map(drop)
    }

    /// How often a suspended greenlet of gevent's is referred to by what is on its own stack.
    pub(crate) fn own_references(&self, py: Python<'_>) -> PyResult<ffi::Py_ssize_t> {
        let module = self.module.bind(py);
        let probe = module.call_method0("suspended")?;
        // SAFETY: attached; a live object.
        let references = unsafe { ffi::Py_REFCNT(probe.as_ptr()) };
        module.call_method1("end", (&probe,))?;
        Ok(references - 1)
    }

    /// A greenlet that will run `entry`, and nothing else.
    pub(crate) fn new_greenlet<'py>(&self, entry: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = entry.py();
        let greenlet = self.class.bind(py).call1((py.None(), entry))?;
        // gevent gives greenlets that are made in the hub one dictionary for all of them.
        let name = intern!(py, "spawn_tree_locals");
        if !greenlet.getattr(name)?.is_none() {
            greenlet.setattr(name, PyDict::new(py))?;
        }
        Ok(greenlet)
    }

    /// Whether nothing was left on a greenlet in the ways that only gevent has.
    pub(crate) fn is_untouched(greenlet: &Bound<'_, PyAny>) -> bool {
        let py = greenlet.py();
        let linked = greenlet.call_method0(intern!(py, "has_links")).and_then(|links| links.is_truthy());
        let locals = greenlet.getattr(intern!(py, "spawn_tree_locals")).and_then(|locals| locals.is_truthy());
        matches!((linked, locals), (Ok(false), Ok(false)))
    }
}
