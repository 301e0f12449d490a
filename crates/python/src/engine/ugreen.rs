//! uGreen: each core has a stack and a thread state of its own (`interp.rs`), which stay together and serve one request
//! after the other. Switching copies nothing.
//!
//! What makes a unit fit for the next request: the coroutine on it has ended, its context was its own, and its thread
//! state has no frame. Values in `threading.local` survive on it, as on a thread of a pool.

use std::cell::Cell;

use greenloom_ugreen::{Coroutine, Stack, State, YielderHandle};
use greenloom_worker::config::Settings;
use greenloom_worker::{CoreId, Wakeup};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Paused, SuspendEngine, all_cores};
use crate::driver::context::Base;
use crate::driver::server::Server;
use crate::ending::Ending;
use crate::engine::greenlet::Api;
use crate::fork_guard;
use crate::interp::{Interpreter, ThreadState};
use crate::job;
use crate::traceback::log_line;

/// Below this, C code of CPython before 3.14 may overrun the stack where a thread would raise `RecursionError`.
const STACK_BYTES_SAFE: usize = 8 << 20;

/// The engine.
pub(crate) struct UGreen {
    interpreter: Interpreter,
    base: Base,
    stack_bytes: usize,
    /// Cores of requests.
    threads: u32,
    cores: Vec<Core>,
    /// `sys.modules`, and greenlet's functions once an application has imported it.
    modules: Py<PyDict>,
    greenlet: Cell<Option<Api>>,
}

/// What a core has of its own.
#[derive(Default)]
struct Core {
    idle: Cell<Option<(Stack, ThreadState)>>,
    suspended: Cell<Option<(Coroutine, ThreadState)>>,
    yielder: Cell<Option<YielderHandle>>,
    wakeup: Cell<Option<Wakeup>>,
}

impl UGreen {
    /// Finds out whether it can run here; the message says what is missing.
    pub(crate) fn new(py: Python<'_>, settings: &Settings) -> Result<Self, String> {
        let stack_bytes = usize::try_from(settings.ugreen_stack_bytes).unwrap_or(usize::MAX);
        check_mappings(settings)?;
        if stack_bytes < STACK_BYTES_SAFE && py.version_info() < (3, 14) {
            log_line(&format!(
                "ugreen: stacks of {} KiB are smaller than a thread's: recursion that raises RecursionError on 8 MiB may \
                 end the worker (--ugreen-stacksize)",
                stack_bytes / 1024
            ));
        }
        let wrong = |error: PyErr| error.to_string();
        let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).map_err(wrong)?;
        Ok(Self {
            interpreter: Interpreter::examine(py)?,
            base: Base::current(py).map_err(wrong)?,
            stack_bytes,
            threads: settings.cores,
            cores: (0..all_cores(settings)).map(|_| Core::default()).collect(),
            modules: modules.cast_into::<PyDict>().map_err(|error| error.to_string())?.unbind(),
            greenlet: Cell::new(None),
        })
    }

    fn core(&self, core: CoreId) -> &Core {
        &self.cores[core.0 as usize]
    }

    /// A stack with its thread state: the core's own of earlier requests, or a new pair.
    fn unit(&self, core: CoreId) -> Result<(Stack, ThreadState), String> {
        if let Some(unit) = self.core(core).idle.take() {
            return Ok(unit);
        }
        let stack = Stack::new(self.stack_bytes)
            .map_err(|error| format!("cannot map a stack of {} KiB: {error}", self.stack_bytes / 1024))?;
        let state = self.interpreter.new_state(&stack).ok_or("no memory for a thread state")?;
        Ok((stack, state))
    }

    /// Lets a coroutine run until it suspends or ends.
    fn run(&self, core: CoreId, mut coroutine: Coroutine, state: ThreadState) {
        self.interpreter.enter(&state);
        let came_back = coroutine.resume();
        self.interpreter.leave();
        let core = self.core(core);
        match came_back {
            State::Suspended => core.suspended.set(Some((coroutine, state))),
            State::Ended => {
                core.yielder.set(None);
                let mut stack = coroutine.into_stack();
                stack.trim();
                core.idle.set(Some((stack, state)));
            }
        }
    }

    /// Whether a greenlet of the application runs on the core's stack. It cannot be suspended there: greenlet counts
    /// its current one per OS thread, and the next core would go on with it.
    fn in_greenlet(&self, py: Python<'_>) -> bool {
        if self.greenlet.get().is_none() {
            let imported = self.modules.bind(py).get_item(intern!(py, "greenlet._greenlet"));
            if matches!(imported, Ok(Some(_))) {
                self.greenlet.set(Api::import(py).ok());
            }
        }
        self.greenlet.get().is_some_and(|api| !api.current_is_main(py))
    }
}

/// Each stack is two mappings (itself, and the guard below it), and the kernel bounds how many a process has.
fn check_mappings(settings: &Settings) -> Result<(), String> {
    let needed = greenloom_ugreen::mappings_needed(settings.cores as usize);
    match greenloom_ugreen::max_map_count() {
        Some(limit) if needed > limit => Err(format!(
            "--async {}: so many stacks need {needed} memory mappings, and this system allows a process {limit}; use \
             fewer cores in each worker, or raise it: sysctl -w vm.max_map_count={}",
            settings.cores,
            needed.next_power_of_two()
        )),
        _ => Ok(()),
    }
}

/// What runs on the core's own stack.
fn serve(engine: &'static UGreen, server: &'static Server, core: CoreId) {
    // SAFETY: the loop is attached when it resumes a core, and the core's thread state is the current one; the one
    // place that detaches (`drive.rs`) resumes nobody meanwhile.
    let py = unsafe { Python::assume_attached() };
    let ending = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let entered = engine.base.fresh(py).map(|context| context.enter(py));
        let ending = job::start(py, server, core);
        drop(entered.map(|entered| entered.leave(py)));
        ending
    }));
    job::finish(server, core, &ending.ok().flatten().unwrap_or(Ending::Failed));
}

impl SuspendEngine for UGreen {
    fn suspends(&self) -> bool {
        true
    }

    fn introduction(&self, _py: Python<'_>) -> Option<String> {
        Some(format!(
            "initializing {} uGreen threads with stack size of {} ({} KB)",
            self.threads,
            self.stack_bytes,
            self.stack_bytes / 1024
        ))
    }

    fn start(&'static self, _py: Python<'_>, server: &'static Server, core: CoreId) {
        match self.unit(core) {
            Ok((stack, state)) => {
                let coroutine = Coroutine::start(stack, move |yielder| {
                    self.core(core).yielder.set(Some(yielder.handle()));
                    serve(self, server, core);
                });
                self.run(core, coroutine, state);
            }
            Err(reason) => {
                log_line(&format!("ugreen: {reason}; what was to run on core {} fails", core.0));
                job::finish(server, core, &Ending::Failed);
            }
        }
    }

    fn resume(&'static self, _py: Python<'_>, _server: &'static Server, core: CoreId, why: Wakeup) {
        let slot = self.core(core);
        if let Some((coroutine, state)) = slot.suspended.take() {
            slot.wakeup.set(Some(why));
            self.run(core, coroutine, state);
        }
    }

    fn pause(&'static self, _py: Python<'_>, _server: &'static Server, core: CoreId) -> PyResult<Paused> {
        fork_guard::check();
        let slot = self.core(core);
        let Some(yielder) = slot.yielder.get() else {
            return Err(PyRuntimeError::new_err("this core has no coroutine"));
        };
        // SAFETY: called on the coroutine of this core (`current`), which is the one that the handle belongs to.
        unsafe { yielder.suspend() };
        Ok(Paused::Resumed(slot.wakeup.take().unwrap_or(Wakeup::Turn)))
    }

    fn current(&'static self, py: Python<'_>, server: &'static Server) -> Option<CoreId> {
        server.current.get().filter(|_| !self.in_greenlet(py))
    }

    fn abandon(&'static self, _server: &'static Server, core: CoreId) {
        let slot = self.core(core);
        slot.yielder.set(None);
        if let Some((coroutine, _)) = slot.suspended.take() {
            // The stack has frames of C code on it, which nothing can unwind: it stays as it is, with its thread state.
            coroutine.abandon();
        }
    }

    fn frame<'py>(&'static self, py: Python<'py>, core: CoreId) -> Option<Bound<'py, PyAny>> {
        let slot = self.core(core);
        let (coroutine, state) = slot.suspended.take()?;
        let look = state.look();
        slot.suspended.set(Some((coroutine, state)));
        // Making a frame's object can run finalizers, and those can let the loop resume this very core.
        look.frame(py)
    }
}
