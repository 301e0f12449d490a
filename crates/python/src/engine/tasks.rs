//! Tasks: each request of an ASGI application is a task of the loop that hosts the worker. What is no such request (those of
//! WSGI applications beside it, handlers of uwsgi signals) runs on greenlets, as without ASGI.
//!
//! A task begins at once, and most requests end before anybody else runs. From Python 3.12 on that is what `eager_start` is
//! for. Before, a new task asks its loop to begin it, with `call_soon`, and joins the set of all tasks: for as long as it
//! is being made these two are ours, and what was caught is called where the loop would have called it later. (That saves
//! half of what a small request costs.)

use std::cell::Cell;

use greenloom_worker::config::Settings;
use greenloom_worker::{CoreId, Wakeup};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::greenlet::Greenlets;
use super::{Paused, SuspendEngine, WaitingModules};
use crate::asgi::gateway;
use crate::driver::context::{Base, Context};
use crate::driver::server::Server;

/// The engine.
pub(crate) struct Tasks {
    greenlets: Greenlets,
    base: Base,
    /// `asyncio.Task`.
    class: Py<PyAny>,
    /// The loop of this process.
    event_loop: Py<PyAny>,
    /// Names of the arguments that a task is made with.
    names: Py<PyTuple>,
    /// Names of the tasks, by core.
    cores: Vec<Py<PyString>>,
    /// How a task begins before Python 3.12; `None`: by itself, or when the loop likes.
    catch: Option<Catching>,
}

/// What stands in for something else while a task is being made, and where that is put.
struct Catching {
    /// The attributes of the loop.
    event_loop: Py<PyDict>,
    call_soon: Py<PyAny>,
    /// The attributes of the set of all tasks.
    all_tasks: Py<PyDict>,
    add: Py<PyAny>,
    /// `asyncio._register_task`.
    register: Py<PyAny>,
}

/// A callback, and its context.
type Caught = (Py<PyAny>, Option<Py<PyAny>>);

thread_local! {
    /// What a new task wanted to be called soon, and in which context.
    static CAUGHT: Cell<Option<Caught>> = const { Cell::new(None) };
}

/// Stands in for `call_soon` of the loop.
#[pyfunction]
#[pyo3(signature = (callback, *arguments, context=None))]
fn catch<'py>(
    py: Python<'py>,
    callback: Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    if is_step(&callback) {
        let before = CAUGHT.replace(Some((callback.clone().unbind(), context.clone().map(Bound::unbind))));
        if before.is_none() {
            return Ok(py.None().into_bound(py));
        }
        CAUGHT.set(before);
    }
    // A finalizer has run meanwhile, and wants something of the loop.
    let event_loop = py.import("greenloom.engines.asyncio")?.call_method0("own")?;
    let real = event_loop.get_type().getattr("call_soon")?;
    let all: Vec<_> = [event_loop, callback].into_iter().chain(arguments.iter()).collect();
    let keywords = PyDict::new(py);
    keywords.set_item("context", context)?;
    real.call(PyTuple::new(py, all)?, Some(&keywords))
}

/// Whether a callback begins a task.
fn is_step(callback: &Bound<'_, PyAny>) -> bool {
    thread_local! { static CLASS: Cell<*mut ffi::PyTypeObject> = const { Cell::new(std::ptr::null_mut()) }; }
    // A type of an extension module, which lives as long as the process.
    let class = callback.get_type_ptr();
    if CLASS.get() == class {
        return true;
    }
    let is_step = callback.get_type().name().is_ok_and(|name| name == "TaskStepMethWrapper");
    if is_step {
        CLASS.set(class);
    }
    is_step
}

/// Stands in for `add` of the set of all tasks: one that has ended when it gives control back need not be known.
#[pyfunction]
fn pass_over(task: Bound<'_, PyAny>) {
    drop(task);
}

impl Tasks {
    /// Imports asyncio and greenlet; the message says why that cannot be. The loop has been made.
    pub(crate) fn new(py: Python<'_>, settings: &Settings) -> Result<Self, String> {
        let greenlets = Greenlets::new(py, settings)?;
        let made = || {
            let eager = py.version_info() >= (3, 12);
            let event_loop = py.import("greenloom.engines.asyncio")?.call_method0("own")?;
            let names: &[&str] = &["loop", "context", "name", "eager_start"];
            let names = &names[..if eager { 4 } else { 3 }];
            let names = names.iter().map(|name| PyString::intern(py, name));
            PyResult::Ok(Self {
                greenlets,
                base: Base::current(py)?,
                class: py.import("asyncio")?.getattr("Task")?.unbind(),
                names: PyTuple::new(py, names.collect::<Vec<_>>())?.unbind(),
                cores: (0..settings.cores)
                    .map(|core| PyString::new(py, &format!("request in core {core}")).unbind())
                    .collect(),
                catch: if eager { None } else { Catching::new(py, &event_loop)? },
                event_loop: event_loop.unbind(),
            })
        };
        made().map_err(|error| error.to_string())
    }

    /// A task for what a request runs, in a context of its own.
    pub(crate) fn task<'py, T>(
        &self,
        py: Python<'py>,
        core: CoreId,
        runs: &Bound<'py, T>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(context) = self.base.fresh(py) else {
            return Err(PyRuntimeError::new_err("there is no memory for a context"));
        };
        let Some(catching) = &self.catch else { return self.make(py, core, runs, &context) };
        let made = catching.stand_in(py, || self.make(py, core, runs, &context));
        let begin = CAUGHT.take();
        let task = made?;
        if let Some((begin, its_context)) = begin {
            let of = begin.bind(py).getattr_opt(intern!(py, "__self__"))?;
            if !of.as_ref().is_some_and(|of| of.is(&task)) {
                // A finalizer has made a task meanwhile.
                let keywords = PyDict::new(py);
                keywords.set_item("context", its_context)?;
                let event_loop = self.event_loop.bind(py);
                event_loop.call_method(intern!(py, "call_soon"), (begin,), Some(&keywords))?;
                catching.register.call1(py, (of,))?;
                return Ok(task);
            }
            let entered = context.enter(py);
            let begun = begin.call0(py);
            drop(entered.leave(py));
            begun?;
        }
        Ok(task)
    }

    /// Lets everybody know of a task that waits: it has not joined all others if it began at once.
    pub(crate) fn register(&self, py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        match &self.catch {
            Some(catching) => catching.register.call1(py, (task,)).map(drop),
            None => Ok(()),
        }
    }

    fn make<'py, T>(
        &self,
        py: Python<'py>,
        core: CoreId,
        runs: &Bound<'py, T>,
        context: &Context,
    ) -> PyResult<Bound<'py, PyAny>> {
        let eager = true.into_pyobject(py)?;
        let name = &self.cores[core.0 as usize];
        let arguments =
            [runs.as_ptr(), self.event_loop.as_ptr(), context.as_ptr(), name.as_ptr(), eager.as_ptr()];
        // SAFETY: attached; live arguments in an array that outlives the call: one by position, the others by the names of
        // the tuple, which is one shorter than the array before 3.12, where the last is not looked at.
        let task = unsafe {
            ffi::PyObject_Vectorcall(self.class.as_ptr(), arguments.as_ptr(), 1, self.names.as_ptr())
        };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, task) }
    }
}

fn in_task(server: &Server, core: CoreId) -> bool {
    server.slot(core).runs_task()
}

impl Catching {
    /// `None`: something has no attributes of its own, or is not as it was in 3.11.
    fn new(py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let attributes = |object: &Bound<'_, PyAny>| {
            let dict = object.getattr_opt(intern!(py, "__dict__")).ok().flatten();
            dict.and_then(|dict| dict.cast_into::<PyDict>().ok()).map(Bound::unbind)
        };
        let Some(tasks) = py.import("_asyncio")?.getattr_opt("_all_tasks")? else { return Ok(None) };
        let (Some(event_loop), Some(all_tasks)) = (attributes(event_loop), attributes(&tasks)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            event_loop,
            call_soon: wrap_pyfunction!(catch, py)?.into_any().unbind(),
            all_tasks,
            add: wrap_pyfunction!(pass_over, py)?.into_any().unbind(),
            register: py.import("asyncio")?.getattr("_register_task")?.unbind(),
        }))
    }

    fn stand_in<T>(&self, py: Python<'_>, make: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        let places = [
            (self.event_loop.bind(py), intern!(py, "call_soon"), &self.call_soon),
            (self.all_tasks.bind(py), intern!(py, "add"), &self.add),
        ];
        // An application may have put something of its own there.
        let mut before = [None, None];
        for ((place, name, instead), before) in places.iter().zip(&mut before) {
            *before = place.get_item(name)?;
            place.set_item(name, instead)?;
        }
        let made = make();
        for ((place, name, _), before) in places.iter().zip(before) {
            match before {
                Some(before) => place.set_item(name, before)?,
                None => place.del_item(name)?,
            }
        }
        made
    }
}

impl SuspendEngine for Tasks {
    fn suspends(&self) -> bool {
        true
    }

    fn introduction(&self, py: Python<'_>) -> Option<String> {
        self.greenlets.introduction(py)
    }

    fn prepare(&'static self, py: Python<'_>) -> PyResult<()> {
        self.greenlets.prepare(py)
    }

    fn waiting_modules(&self) -> WaitingModules {
        self.greenlets.waiting_modules()
    }

    fn tidy(&'static self, py: Python<'_>) {
        self.greenlets.tidy(py);
    }

    fn start(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) {
        if !server.is_signal_core(core) && gateway::is_for_asgi(server, core) {
            gateway::start(py, server, core, self);
        } else {
            self.greenlets.start(py, server, core);
        }
    }

    fn serve(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) {
        self.greenlets.serve(py, server, core);
    }

    fn resume(&'static self, py: Python<'_>, server: &'static Server, core: CoreId, why: Wakeup) {
        if !in_task(server, core) {
            return self.greenlets.resume(py, server, core, why);
        }
        // The loop resumes tasks; the worker only ends them.
        if let Wakeup::Cancelled(why) = why {
            gateway::tell(py, server, core, why);
        }
    }

    fn pause(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<Paused> {
        if in_task(server, core) {
            return Err(PyRuntimeError::new_err("an ASGI application is suspended by await, and by no call"));
        }
        self.greenlets.pause(py, server, core)
    }

    fn current(&'static self, py: Python<'_>, server: &'static Server) -> Option<CoreId> {
        if let Some(core) = server.current.get()
            && in_task(server, core)
        {
            // A task runs where the loop does; elsewhere the application has switched to a greenlet of its own.
            return self.greenlets.runs_loop(py).then_some(core);
        }
        self.greenlets.current(py, server)
    }

    fn nap(&'static self, py: Python<'_>) -> PyResult<bool> {
        self.greenlets.nap(py)
    }

    fn can_pause(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) -> bool {
        !in_task(server, core) && self.greenlets.current(py, server) == Some(core)
    }

    fn awaits(&'static self, server: &'static Server, core: CoreId) -> bool {
        in_task(server, core)
    }

    fn is_exit(&'static self, py: Python<'_>, error: &PyErr) -> bool {
        self.greenlets.is_exit(py, error)
    }

    fn returned(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) {
        if !in_task(server, core) {
            self.greenlets.returned(py, server, core);
        }
    }

    fn abandon(&'static self, server: &'static Server, core: CoreId) {
        if !in_task(server, core) {
            self.greenlets.abandon(server, core);
        }
    }

    fn future<'py>(&'static self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop.bind(py).call_method0(intern!(py, "create_future"))
    }

    fn frame<'py>(&'static self, py: Python<'py>, core: CoreId) -> Option<Bound<'py, PyAny>> {
        self.greenlets.frame(py, core)
    }
}
