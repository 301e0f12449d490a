//! greenlet: each request runs on a greenlet of its own, whose parent is the greenlet that runs the loop. The loop is the
//! native one, one of asyncio's interface, or gevent's: then the greenlets are `gevent.Greenlet`s, and the hub runs the
//! loop.
//!
//! Every request gets a new one, as far as anybody can tell: the application can see its greenlet and keep it, and one
//! that served several requests would let a stray `switch()` of an earlier one wake a later one. So a core's greenlet
//! serves the next request only if nothing of the application refers to it (references, weak references), and nothing was
//! changed on it (attributes, parent, gevent's links); that saves half a microsecond of each request, and ten of a
//! `gevent.Greenlet`. Whether it is so is seen best from the loop: while a greenlet runs, whoever has switched to it refers
//! to it, too. So one whose request has ended gives control back in any case, and is looked at then (`settle`).
//!
//! An application may switch between greenlets as it likes, request's ones included. So the code that resumed a core
//! learns nothing from getting control back, and the running core is found by the running greenlet.
//!
//! greenlet moves parts of the C stack to the heap at each switch: nothing outside may point into the stack of a
//! suspended core, and large arrays in its frames would be copied each time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use greenloom_worker::config::{LoopEngine, Settings};
use greenloom_worker::{CoreId, Wakeup};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::{Paused, SuspendEngine, WaitingModules, all_cores};
use crate::api::cancelled;
use crate::driver::context::Base;
use crate::driver::server::{self, Server, peek};
use crate::ending::Ending;
use crate::fork_guard;
use crate::job;
use crate::loops;
use crate::traceback::log_exception;

/// greenlet's C API, as its capsule holds it (greenlet.h of its package; unchanged since 1.1).
#[repr(C)]
struct Table {
    types: [*const c_void; 3],
    new: unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject,
    current: unsafe extern "C" fn() -> *mut ffi::PyObject,
    throw: unsafe extern "C" fn(
        *mut ffi::PyObject,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
    ) -> *mut ffi::PyObject,
    switch: unsafe extern "C" fn(
        *mut ffi::PyObject,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
    ) -> *mut ffi::PyObject,
    set_parent: *const c_void,
    is_main: *const c_void,
    is_started: *const c_void,
    is_active: unsafe extern "C" fn(*mut ffi::PyObject) -> c_int,
    parent: unsafe extern "C" fn(*mut ffi::PyObject) -> *mut ffi::PyObject,
}

/// Functions of greenlet's C API.
#[derive(Clone, Copy)]
pub(crate) struct Api(&'static Table);

impl Api {
    /// Imports greenlet.
    pub(crate) fn import(py: Python<'_>) -> PyResult<Self> {
        // The capsule's name is a path of modules: its first part must be imported, and is by this.
        py.import("greenlet")?;
        // SAFETY: attached; a NUL-terminated name.
        let table = unsafe { ffi::PyCapsule_Import(c"greenlet._C_API".as_ptr(), 0) }.cast::<Table>();
        // SAFETY: null, or the table, which is a static variable of an extension module: those are never unloaded.
        unsafe { table.as_ref() }.map(Self).ok_or_else(|| PyErr::fetch(py))
    }

    /// The running greenlet.
    fn current(self, py: Python<'_>) -> Option<Bound<'_, PyAny>> {
        // SAFETY: attached.
        let greenlet = unsafe { (self.0.current)() };
        // SAFETY: a new reference or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, greenlet) }.ok()
    }

    /// Whether the running greenlet is the one that its OS thread began with.
    pub(crate) fn current_is_main(self, py: Python<'_>) -> bool {
        let Some(greenlet) = self.current(py) else { return true };
        // SAFETY: attached; a greenlet.
        let parent = unsafe { (self.0.parent)(greenlet.as_ptr()) };
        // SAFETY: a new reference, or null: it has none.
        unsafe { Bound::from_owned_ptr_or_opt(py, parent) }.is_none()
    }
}

/// Whose greenlets requests run on.
enum Kind {
    /// greenlet's own.
    Plain,
    /// gevent's.
    Gevent(loops::Gevent),
}

/// The engine.
pub(crate) struct Greenlets {
    api: Api,
    kind: Kind,
    loop_engine: LoopEngine,
    base: Base,
    /// `greenlet.GreenletExit`.
    exit: Py<PyAny>,
    /// The greenlet that runs the loop.
    hub: Cell<Option<Py<PyAny>>>,
    /// How often a suspended greenlet that nobody else knows is referred to: by its core, and by its own stack.
    holders: Cell<ffi::Py_ssize_t>,
    cores: Vec<Core>,
    /// Cores whose parked greenlets have not been looked at.
    unsettled: RefCell<Vec<CoreId>>,
    /// The core that each greenlet was made for, by its address; a greenlet that has ended leaves.
    made_for: RefCell<HashMap<usize, CoreId>>,
}

/// What a core has of its own.
struct Core {
    /// What its greenlets run.
    entry: Py<Entry>,
    /// The greenlet of its request, as long as that has not ended.
    greenlet: Cell<*mut ffi::PyObject>,
    /// That of its last request, which waits in `serve` for another.
    parked: Cell<*mut ffi::PyObject>,
    /// What the parked one is woken for.
    woken: Cell<WokenFor>,
    /// Its request stands in `pause`, not in a switch of the application's own.
    paused: Cell<bool>,
    wakeup: Cell<Option<Wakeup>>,
    /// Counts its requests: a greenlet that was given up must not take a later request's wake-up.
    request: Cell<u64>,
}

/// What a parked greenlet is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WokenFor {
    /// For nothing: somebody has switched to it by chance.
    Nothing,
    Request,
    /// Somebody knows it: it is to end like any greenlet whose work is done.
    End,
}

/// The callable of a core's greenlets.
#[pyclass(frozen, module = "greenloom._greenloom")]
struct Entry(u32);

#[pymethods]
impl Entry {
    fn __call__(&self, py: Python<'_>) {
        if let Some(server) = server::of_this_thread() {
            server.engine.serve(py, server, CoreId(self.0));
        }
    }
}

impl Greenlets {
    /// Imports greenlet; the message says why that cannot be.
    pub(crate) fn new(py: Python<'_>, settings: &Settings) -> Result<Self, String> {
        let kind = match settings.engine.loop_engine {
            LoopEngine::Gevent => Kind::Gevent(loops::Gevent::import(py)?),
            _ => Kind::Plain,
        };
        let api = Api::import(py).map_err(|error| {
            let option = loops::option(settings.engine.loop_engine);
            loops::missing(py, option, "greenlet (1.1 or newer)", "greenlet", &error)
        })?;
        let cores = (0..all_cores(settings)).map(|id| {
            Ok(Core {
                entry: Py::new(py, Entry(id))?,
                greenlet: Cell::new(std::ptr::null_mut()),
                parked: Cell::new(std::ptr::null_mut()),
                woken: Cell::new(WokenFor::Nothing),
                paused: Cell::new(false),
                wakeup: Cell::new(None),
                request: Cell::new(0),
            })
        });
        let wrong = |error: PyErr| error.to_string();
        Ok(Self {
            api,
            kind,
            loop_engine: settings.engine.loop_engine,
            base: Base::current(py).map_err(wrong)?,
            exit: py
                .import("greenlet")
                .and_then(|module| module.getattr("GreenletExit"))
                .map_err(wrong)?
                .unbind(),
            hub: Cell::new(None),
            holders: Cell::new(1),
            unsettled: RefCell::default(),
            cores: cores.collect::<PyResult<_>>().map_err(wrong)?,
            made_for: RefCell::default(),
        })
    }

    fn core(&self, core: CoreId) -> &Core {
        &self.cores[core.0 as usize]
    }

    /// Whether the running greenlet is the one that runs the loop.
    pub(super) fn runs_loop(&self, py: Python<'_>) -> bool {
        let (running, hub) = (self.api.current(py), peek(py, &self.hub));
        running.zip(hub).is_some_and(|(running, hub)| running.is(&hub))
    }

    /// Gives control to a greenlet until somebody gives it back.
    fn switch<'py>(&self, py: Python<'py>, greenlet: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: attached; a greenlet, which the caller holds until this returns.
        let result =
            unsafe { (self.api.0.switch)(greenlet.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut()) };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, result) }
    }

    /// Raises an exception where a greenlet stands.
    fn throw<'py>(
        &self,
        py: Python<'py>,
        greenlet: &Bound<'py, PyAny>,
        error: &PyErr,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (kind, value) = (error.get_type(py), error.value(py));
        // SAFETY: attached; a greenlet that the caller holds, an exception's class and the exception.
        let result = unsafe {
            (self.api.0.throw)(greenlet.as_ptr(), kind.as_ptr(), value.as_ptr(), std::ptr::null_mut())
        };
        // SAFETY: a new reference, or null with an exception set.
        unsafe { Bound::from_owned_ptr_or_err(py, result) }
    }

    /// After a core got control and the loop has it again: which coroutine gave it back, and how, is not known.
    fn came_back(
        &self,
        py: Python<'_>,
        server: &'static Server,
        core: CoreId,
        result: PyResult<Bound<'_, PyAny>>,
    ) {
        fork_guard::check();
        if let Err(error) = result {
            log_stray(py, error);
        }
        self.settle_all(py);
        let slot = self.core(core);
        // SAFETY: attached; the core's own reference, or null: its request has ended.
        let Some(greenlet) = (unsafe { Bound::from_borrowed_ptr_or_opt(py, slot.greenlet.get()) }) else {
            return;
        };
        // SAFETY: attached; a greenlet.
        if unsafe { (self.api.0.is_active)(greenlet.as_ptr()) } != 0 {
            // It is suspended, or has left by a switch of its own.
            let mut worker = server.worker.borrow_mut();
            match self.loop_engine {
                LoopEngine::Native => worker.away(core),
                _ => worker.away_in_loop(core),
            }
            return;
        }
        // It has died without an end: a trace function has raised when it was to begin.
        slot.greenlet.set(std::ptr::null_mut());
        // SAFETY: the reference that `start` has left with the core, which has forgotten it.
        drop(unsafe { Bound::from_owned_ptr(py, greenlet.as_ptr()) });
        job::abandon(py, server, core);
    }

    /// What a coroutine does that was given up: whoever comes to it is sent to the loop.
    fn stay_away(&self, py: Python<'_>) -> ! {
        let hub = peek(py, &self.hub).map(|hub| hub.into_bound(py));
        loop {
            match &hub {
                Some(hub) => drop(self.switch(py, hub)),
                None => std::process::abort(), // No coroutine is given up before the loop has begun.
            }
        }
    }

    /// Looks at the greenlets whose requests have ended since this was done last. To be called by the loop only.
    fn settle_all(&self, py: Python<'_>) {
        loop {
            let Some(id) = self.unsettled.borrow_mut().pop() else { return };
            self.settle(py, id);
        }
    }

    /// Lets the parked greenlet of a core end if anybody could tell that it has served a request.
    fn settle(&self, py: Python<'_>, id: CoreId) {
        let core = self.core(id);
        // SAFETY: attached; the core's own reference, or null: it has ended meanwhile, or has been settled.
        let Some(greenlet) = (unsafe { Borrowed::from_ptr_or_opt(py, core.parked.get()) }) else { return };
        if !self.is_untouched(greenlet) {
            self.end_parked(py, id);
        }
    }

    /// Lets the parked greenlet of a core end.
    fn end_parked(&self, py: Python<'_>, id: CoreId) {
        let core = self.core(id);
        let parked = core.parked.replace(std::ptr::null_mut());
        // SAFETY: the reference that `serve` has left, or null.
        let Some(greenlet) = (unsafe { Bound::from_owned_ptr_or_opt(py, parked) }) else { return };
        core.woken.set(WokenFor::End);
        // It goes to its parent, which the application may have changed.
        if let Err(error) = self.switch(py, &greenlet) {
            log_stray(py, error);
        }
    }

    /// A greenlet that has not served anybody, or that nobody can tell from one.
    fn unused<'py>(&self, py: Python<'py>, id: CoreId) -> PyResult<Bound<'py, PyAny>> {
        let core = self.core(id);
        self.settle_all(py);
        let parked = core.parked.get();
        // SAFETY: attached; a live object, when it is not null: the core refers to it.
        if !parked.is_null() && unsafe { ffi::Py_REFCNT(parked) } > self.holders.get() {
            // Somebody has found it after all (a list of all objects).
            self.end_parked(py, id);
        }
        let parked = core.parked.replace(std::ptr::null_mut());
        // SAFETY: the reference that `serve` has left, or null.
        if let Some(greenlet) = unsafe { Bound::from_owned_ptr_or_opt(py, parked) } {
            return Ok(greenlet);
        }
        let greenlet = match &self.kind {
            Kind::Gevent(gevent) => gevent.new_greenlet(core.entry.bind(py).as_any())?,
            Kind::Plain => {
                // Its parent is the running greenlet, and that is the one that runs the loop.
                // SAFETY: attached; a callable and no parent.
                let greenlet = unsafe { (self.api.0.new)(core.entry.as_ptr(), std::ptr::null_mut()) };
                // SAFETY: a new reference, or null with an exception set.
                unsafe { Bound::from_owned_ptr_or_err(py, greenlet) }?
            }
        };
        self.made_for.borrow_mut().insert(greenlet.as_ptr() as usize, id);
        Ok(greenlet)
    }

    /// Whether nobody knows a suspended greenlet, and nothing was changed on it.
    fn is_untouched(&self, greenlet: Borrowed<'_, '_, PyAny>) -> bool {
        let object = greenlet.as_ptr();
        // SAFETY: attached; a live object.
        if unsafe { ffi::Py_REFCNT(object) } > self.holders.get() {
            return false;
        }
        // SAFETY: as above.
        let kind = unsafe { ffi::Py_TYPE(object) };
        // SAFETY: the type of a live object.
        let kind = unsafe { &*kind };
        let field = |offset: ffi::Py_ssize_t| {
            let place = object.wrapping_byte_offset(offset).cast::<*mut ffi::PyObject>();
            // SAFETY: the fields that a type says its objects have: the list of weak references, the attributes.
            unsafe { *place }
        };
        if kind.tp_weaklistoffset <= 0 || kind.tp_dictoffset <= 0 {
            return false; // A way of keeping them that this does not know.
        }
        let (weak, dict) = (field(kind.tp_weaklistoffset), field(kind.tp_dictoffset));
        // SAFETY: a dict, when it is not null.
        if !weak.is_null() || !(dict.is_null() || unsafe { ffi::PyDict_Size(dict) } == 0) {
            return false;
        }
        // SAFETY: attached; a greenlet.
        let parent = unsafe { (self.api.0.parent)(object) };
        // SAFETY: a new reference or null.
        let parent = unsafe { Bound::from_owned_ptr_or_opt(greenlet.py(), parent) };
        let hub = self.hub.take();
        let same = parent.is_some_and(|parent| hub.as_ref().is_some_and(|hub| parent.is(hub)));
        self.hub.set(hub);
        same && match &self.kind {
            Kind::Plain => true,
            Kind::Gevent(_) => loops::Gevent::is_untouched(&greenlet),
        }
    }

    /// The core of a greenlet.
    fn core_of(&self, greenlet: *mut ffi::PyObject) -> Option<CoreId> {
        let core = *self.made_for.borrow().get(&(greenlet as usize))?;
        (self.core(core).greenlet.get() == greenlet).then_some(core)
    }
}

/// Logs what has come to the loop's greenlet and is none of its business.
#[cold]
fn log_stray(py: Python<'_>, error: PyErr) {
    log_exception(py, error, "the application has thrown into the greenlet that runs the loop:");
}

/// A greenlet that comes to its end serves no core any more.
struct Leaves(&'static Greenlets, usize);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.made_for.borrow_mut().remove(&self.1);
    }
}

impl SuspendEngine for Greenlets {
    fn suspends(&self) -> bool {
        true
    }

    fn introduction(&self, py: Python<'_>) -> Option<String> {
        loops::introduction(py, self.loop_engine).or_else(|| Some("enabled greenlet engine".to_owned()))
    }

    fn prepare(&'static self, py: Python<'_>) -> PyResult<()> {
        let hub = match &self.kind {
            Kind::Plain => self.api.current(py),
            Kind::Gevent(gevent) => {
                self.holders.set(1 + gevent.own_references(py)?);
                Some(gevent.hub(py)?)
            }
        };
        self.hub.set(hub.map(Bound::unbind));
        Ok(())
    }

    fn waiting_modules(&self) -> WaitingModules {
        match self.kind {
            Kind::Plain => WaitingModules::STANDARD,
            Kind::Gevent(_) => WaitingModules { select: "gevent.select", sleep: "gevent" },
        }
    }

    fn start(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) {
        let slot = self.core(core);
        match self.unused(py, core) {
            Ok(greenlet) => {
                slot.request.set(slot.request.get() + 1);
                slot.paused.set(false);
                slot.wakeup.set(None);
                slot.woken.set(WokenFor::Request);
                slot.greenlet.set(greenlet.clone().into_ptr());
                let result = self.switch(py, &greenlet);
                drop(greenlet);
                self.came_back(py, server, core, result);
            }
            Err(error) => {
                log_exception(py, error, "cannot make a greenlet:");
                job::finish(server, core, &Ending::Failed);
            }
        }
    }

    fn serve(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) {
        let _leaves = Leaves(self, self.api.current(py).map_or(0, |greenlet| greenlet.as_ptr() as usize));
        let slot = self.core(core);
        loop {
            let request = slot.request.get();
            let entered = self.base.fresh(py).map(|context| context.enter(py));
            let ending = job::start(py, server, core);
            drop(entered.map(|entered| entered.leave(py)));
            if slot.request.get() != request {
                return; // It was given up long ago, and the core serves others.
            }
            let greenlet = slot.greenlet.replace(std::ptr::null_mut());
            job::finish(server, core, &ending.unwrap_or(Ending::Failed));
            if greenlet.is_null() {
                return;
            }
            // With the reference that `start` has left.
            slot.parked.set(greenlet);
            slot.woken.set(WokenFor::Nothing);
            self.unsettled.borrow_mut().push(core);
            let Some(hub) = peek(py, &self.hub) else { return };
            let hub = hub.into_bound(py);
            loop {
                let switched = self.switch(py, &hub);
                match slot.woken.get() {
                    _ if switched.is_err() => {
                        // Somebody who knows it has ended it.
                        let parked = slot.parked.replace(std::ptr::null_mut());
                        // SAFETY: the reference that was left above, or null: it was taken to end this greenlet.
                        drop(unsafe { Bound::from_owned_ptr_or_opt(py, parked) });
                        return;
                    }
                    WokenFor::End => return,
                    WokenFor::Request => break,
                    // It looks dead to everybody, and what comes to such a one goes to its parent.
                    WokenFor::Nothing => {}
                }
            }
        }
    }

    fn tidy(&'static self, py: Python<'_>) {
        self.settle_all(py);
    }

    fn resume(&'static self, py: Python<'_>, server: &'static Server, core: CoreId, why: Wakeup) {
        let slot = self.core(core);
        // SAFETY: attached; the core's own reference, or null.
        let Some(greenlet) = (unsafe { Bound::from_borrowed_ptr_or_opt(py, slot.greenlet.get()) }) else {
            return;
        };
        let result = match why {
            Wakeup::Cancelled(why) if !slot.paused.get() => {
                self.throw(py, &greenlet, &cancelled::error(py, why))
            }
            why => {
                if slot.paused.get() {
                    slot.wakeup.set(Some(why));
                }
                self.switch(py, &greenlet)
            }
        };
        drop(greenlet);
        self.came_back(py, server, core, result);
    }

    fn pause(&'static self, py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<Paused> {
        fork_guard::check();
        let slot = self.core(core);
        let request = slot.request.get();
        let Some(hub) = peek(py, &self.hub) else {
            return Err(PyRuntimeError::new_err("the loop has not begun"));
        };
        let hub = hub.into_bound(py);
        slot.paused.set(true);
        loop {
            let switched = self.switch(py, &hub);
            if slot.request.get() != request {
                continue; // Given up: nobody waits for it any more.
            }
            if let Err(error) = switched {
                slot.paused.set(false);
                // One may have come together with the error.
                slot.wakeup.set(None);
                let mut worker = server.worker.borrow_mut();
                match self.loop_engine {
                    LoopEngine::Native => worker.interrupted(core),
                    _ => worker.interrupted_in_loop(core),
                }
                return Err(error);
            }
            if let Some(why) = slot.wakeup.take() {
                slot.paused.set(false);
                return Ok(Paused::Resumed(why));
            }
            // Somebody has switched to it before its time.
        }
    }

    fn current(&'static self, py: Python<'_>, server: &'static Server) -> Option<CoreId> {
        let running = self.api.current(py)?;
        if let Some(core) = server.current.get()
            && self.core(core).greenlet.get() == running.as_ptr()
        {
            return Some(core);
        }
        let core = self.core_of(running.as_ptr())?;
        server.current.set(Some(core));
        Some(core)
    }

    fn nap(&'static self, py: Python<'_>) -> PyResult<bool> {
        let Kind::Gevent(gevent) = &self.kind else { return Ok(false) };
        let hub = peek(py, &self.hub);
        match self.api.current(py) {
            // A callback of the loop's: nobody else could run.
            Some(running) if hub.is_some_and(|hub| running.is(&hub)) => Ok(false),
            _ => gevent.nap(py).map(|()| true),
        }
    }

    fn is_exit(&'static self, py: Python<'_>, error: &PyErr) -> bool {
        error.is_instance(py, self.exit.bind(py))
    }

    fn returned(&'static self, py: Python<'_>, _server: &'static Server, core: CoreId) {
        let own = self.core(core).greenlet.get();
        if self.api.current(py).is_some_and(|running| running.as_ptr() != own) {
            self.stay_away(py);
        }
    }

    fn abandon(&'static self, _server: &'static Server, core: CoreId) {
        let slot = self.core(core);
        slot.request.set(slot.request.get() + 1);
        slot.wakeup.set(None);
        // Its reference is leaked: the end of a suspended greenlet would run the code that does not end.
        slot.greenlet.set(std::ptr::null_mut());
    }

    fn frame<'py>(&'static self, py: Python<'py>, core: CoreId) -> Option<Bound<'py, PyAny>> {
        // SAFETY: attached; the core's own reference, or null.
        let greenlet = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.core(core).greenlet.get()) }?;
        let frame = greenlet.getattr_opt(intern!(py, "gr_frame")).ok()??;
        (!frame.is_none()).then_some(frame)
    }
}
