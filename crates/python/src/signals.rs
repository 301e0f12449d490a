//! uwsgi signals on the Python side: the handlers of this process, what the master is told of them, and running one.
//!
//! Handlers are Python objects: a process has those that it registered, and those that its generation had when it forked.
//! Who gets a signal is the master's business; when a handler runs is the worker's (`Action::Signal`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use greenloom_cli::master::control::{FromWorker, Registration};
use greenloom_worker::{CoreId, clock};
use pyo3::prelude::*;

use crate::api::cancelled;
use crate::driver::server::Server;
use crate::ending::Ending;
use crate::fork_guard;
use crate::outbox::{self, Wish};
use crate::traceback::{log_exception, log_line};
use crate::wsgi::gateway::returned;

/// Timers that a process may register: 64 each of the two kinds that the API has, which are one here.
const MOST_TIMERS: usize = 128;
/// Crons and file monitors, each.
const MOST: usize = 64;

/// What this process has registered.
struct Registry {
    /// By the number of the signal; 256 of them, once there is one.
    handlers: Vec<Option<Handler>>,
    /// Everything that was registered here, so that nothing is told twice.
    known: Vec<Registration>,
    /// What the master has not been told: the application is being loaded.
    untold: Vec<Registration>,
}

/// One registered handler.
struct Handler {
    callable: Py<PyAny>,
    target: String,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { handlers: Vec::new(), known: Vec::new(), untold: Vec::new() });

/// Nothing of Python runs while this is held: dropping a handler can run its finalizer.
fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `callable` the handler of a signal in this process. `replaces`: also of one that has another.
///
/// # Errors
/// The target of the handler that is there.
pub(crate) fn register_handler(
    number: u8,
    target: &str,
    callable: &Bound<'_, PyAny>,
    replaces: bool,
) -> Result<(), String> {
    let before;
    {
        let mut registry = registry();
        if registry.handlers.is_empty() {
            registry.handlers.resize_with(256, || None);
        }
        let slot = &mut registry.handlers[usize::from(number)];
        match slot {
            Some(there) if !(replaces || (there.target == target && there.callable.is(callable))) => {
                return Err(there.target.clone());
            }
            _ => {}
        }
        let handler = Handler { callable: callable.clone().unbind(), target: target.to_owned() };
        before = slot.replace(handler);
        // The master is told of a target that changes, too.
        registry
            .known
            .retain(|known| !matches!(known, Registration::Handler { number: n, .. } if *n == number));
    }
    drop(before);
    tell(Registration::Handler { number, target: target.to_owned() });
    Ok(())
}

/// Whether a signal has a handler in this process.
pub(crate) fn has_handler(number: u8) -> bool {
    registry().handlers.get(usize::from(number)).is_some_and(Option::is_some)
}

/// Registers a timer, cron or file monitor; the same one again is no second one. But with a timer that has an end a request
/// has something done later: each one of these counts (`serving`: the application has been loaded). `Err`: that many are
/// allowed.
pub(crate) fn register_source(source: Registration, serving: bool) -> Result<(), usize> {
    let (most, ends) = match source {
        Registration::Timer { iterations, .. } => (MOST_TIMERS, iterations > 0),
        _ => (MOST, false),
    };
    if ends && serving {
        send(source);
        return Ok(());
    }
    {
        let registry = registry();
        if registry.known.contains(&source) {
            return Ok(());
        }
        let kind = std::mem::discriminant(&source);
        let same = registry.known.iter().filter(|known| std::mem::discriminant(*known) == kind);
        if same.count() >= most {
            return Err(most);
        }
    }
    tell(source);
    Ok(())
}

/// Tells the master, and remembers it.
fn tell(registration: Registration) {
    registry().known.push(registration.clone());
    send(registration);
}

/// Tells the master now, or once it asks, or once this process serves.
fn send(registration: Registration) {
    if !outbox::send(Wish::Tell(FromWorker::Register(registration.clone()))) {
        registry().untold.push(registration);
    }
}

/// What was registered and not told; the caller tells it.
pub(crate) fn take_untold() -> Vec<Registration> {
    std::mem::take(&mut registry().untold)
}

/// Runs the handler of the signal in `core`, up to its end.
#[expect(clippy::unnecessary_wraps, reason = "as a request's")]
pub(crate) fn handle(py: Python<'_>, server: &'static Server, core: CoreId) -> Option<Ending> {
    let number = server.worker.borrow().signal_of(core).unwrap_or(0);
    let handler = {
        let registry = registry();
        let handler = registry.handlers.get(usize::from(number)).and_then(Option::as_ref);
        handler.map(|handler| handler.callable.clone_ref(py))
    };
    let ending = match &handler {
        None => {
            log_line(&format!("[uwsgi-signal] signal {number} has no handler in this process"));
            Ending::Failed
        }
        Some(handler) => {
            let result = handler.call1(py, (number,));
            returned(py, server, core);
            match result {
                Ok(_) => Ending::Complete,
                Err(error) if server.engine.is_exit(py, &error) => Ending::Complete,
                Err(error)
                    if server.worker.borrow().cancelled(core).is_some() && cancelled::is_end(py, &error) =>
                {
                    // There is no request line that could say it.
                    let why = server.worker.borrow().cancelled(core);
                    let why = why.map_or_else(String::new, |why| why.to_string());
                    log_line(&format!("[uwsgi-signal] the handler of signal {number} was cancelled: {why}"));
                    Ending::Complete
                }
                Err(error) => {
                    let context = format!("exception in the handler of uwsgi signal {number}:");
                    log_exception(py, error, &context);
                    Ending::Failed
                }
            }
        }
    };
    drop(handler);
    if matches!(ending, Ending::Failed) {
        let worker = crate::api::info::server().map_or(0, |info| info.worker_id);
        let date = clock::ctime(clock::unix_seconds());
        log_line(&format!("{date} - error managing signal {number} on worker {worker}"));
    }
    returned(py, server, core);
    // What is dropped from now on may run code of the application, and no handler is its own.
    server.current.set(None);
    Some(ending)
}

/// Gives the core back: the last thing a handler's coroutine does.
pub(crate) fn finish(server: &Server, core: CoreId, ending: &Ending) {
    // Finalizers have run since the handler returned.
    fork_guard::check();
    server.worker.borrow_mut().end_handler(core, matches!(ending, Ending::Failed));
}
