//! A request of an ASGI application, from its task to its end.

use greenloom_worker::config::Interface;
use greenloom_worker::{Cancel, CoreId, News};
use pyo3::exceptions::{PyBaseExceptionGroup, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::channel::Calls;
use super::incoming::Incoming;
use super::outgoing;
use super::run::Run;
use crate::api::cancelled;
use crate::driver::server::{Server, peek};
use crate::ending;
use crate::engine::tasks::Tasks;
use crate::fork_guard;
use crate::load::route;
use crate::traceback::log_exception;

/// Whether the request that starts in a core is for an ASGI application.
pub(crate) fn is_for_asgi(server: &Server, core: CoreId) -> bool {
    let worker = server.worker.borrow();
    route(&server.apps, worker.request(core).path())
        .is_some_and(|(app, _)| server.apps[app].interface == Interface::Asgi)
}

/// Starts the request of a core in a task of its own.
pub(crate) fn start(py: Python<'_>, server: &'static Server, core: CoreId, tasks: &Tasks) {
    let slot = server.slot(core);
    let generation = slot.generation.get() + 1;
    slot.generation.set(generation);
    slot.head.borrow_mut().clear();
    slot.known_length.set(None);
    let exchange = slot.asgi();
    exchange.runs.set(true);
    exchange.told.set(false);
    exchange.listens.set(false);
    exchange.incoming.replace(Incoming::new(server, core));
    exchange.outgoing.borrow_mut().begin();
    let task = make(py, server, core, generation).and_then(|run| tasks.task(py, core, &run));
    match task {
        // One that has begun at once may have ended.
        Ok(task) if slot.generation.get() == generation => {
            exchange.task.set(Some(task.clone().unbind()));
            if let Err(error) = tasks.register(py, &task) {
                log_exception(py, error, "cannot register a task:");
            }
        }
        Ok(_) => {}
        Err(error) if slot.generation.get() == generation => end(py, server, core, Err(error)),
        Err(error) => log_exception(py, error, "cannot make a task:"),
    }
}

/// Makes scope and calls, and what the task will run.
fn make<'py>(
    py: Python<'py>,
    server: &'static Server,
    core: CoreId,
    generation: u64,
) -> PyResult<Bound<'py, Run>> {
    let slot = server.slot(core);
    // Taken out of the worker: making the scope allocates objects, which can run finalizers, which may call back.
    let request = server.worker.borrow_mut().lend_request(core);
    let (app, prefix) = route(&server.apps, request.path()).unwrap_or((0, 0));
    let scope = server.scopes()?.build(py, &request, app, prefix);
    server.worker.borrow_mut().return_request(core, request);
    let scope = scope?;
    let requests = server.app_requests[app].get() + 1;
    server.app_requests[app].set(requests);
    server.worker.borrow_mut().set_app(core, u32::try_from(app).unwrap_or(u32::MAX), requests);
    let calls = match slot.asgi().calls.take() {
        Some(calls) if calls.reuse(py, generation) => calls,
        _ => Calls::new(py, &server.scopes()?.exchange, core, generation)?,
    };
    let arguments = PyTuple::new(py, [scope.as_any(), calls.receive.bind(py), calls.send.bind(py)])?;
    slot.asgi().calls.set(Some(calls));
    let run = Run::new(core, generation, server.apps[app].callable.clone_ref(py), arguments.unbind());
    Bound::new(py, run)
}

/// Gives the application of a core control for a step of its task.
pub(super) fn step<T>(
    server: &'static Server,
    core: CoreId,
    run: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    server.worker.borrow_mut().task_goes_on(core);
    let before = server.current.replace(Some(core));
    let outcome = run();
    server.current.set(before);
    fork_guard::check();
    outcome
}

/// The task of a core waits for something of the loop's.
pub(super) fn waits(server: &'static Server, core: CoreId) {
    server.slot(core).asgi().outgoing.borrow_mut().suspended();
    server.worker.borrow_mut().task_waits(core);
}

/// There is something that the application has asked for.
pub(crate) fn news(py: Python<'_>, server: &'static Server, core: CoreId, news: News) {
    let exchange = server.slot(core).asgi();
    if !exchange.runs() {
        return; // The request has ended meanwhile.
    }
    match news {
        News::Body => exchange.readers.wake(py),
        News::Late => {
            // Who has given up waiting gives the client its time back.
            let waits = exchange.readers.somebody_waits(py);
            server.worker.borrow_mut().body_is_late(core, waits);
        }
        News::Room => outgoing::room(py, server, core),
    }
}

/// Tells the task of a core that its request is to end. One that waits for messages, or looks for them now and then, learns
/// from one that the client is gone, and may end in good order; any other is cancelled.
pub(crate) fn tell(py: Python<'_>, server: &'static Server, core: CoreId, why: Cancel) {
    let exchange = server.slot(core).asgi();
    let generation = server.slot(core).generation.get();
    let first = !exchange.told.replace(true);
    let listens = exchange.listens.get() || exchange.readers.somebody_waits(py);
    exchange.readers.wake(py);
    exchange.writers.wake(py);
    if !(why == Cancel::ClientGone && first && listens)
        && let Some(task) = peek(py, &exchange.task)
        && let Err(error) = task.call_method1(py, intern!(py, "cancel"), (why.to_string(),))
    {
        log_exception(py, error, "cannot cancel the task of a request:");
    }
    if server.slot(core).generation.get() == generation {
        server.worker.borrow_mut().task_was_told(core);
    }
}

/// The application is done with the request of a core.
pub(super) fn end(py: Python<'_>, server: &'static Server, core: CoreId, outcome: PyResult<()>) {
    let before = server.current.replace(Some(core));
    let slot = server.slot(core);
    let exchange = slot.asgi();
    let is_given = exchange.outgoing.borrow().is_given();
    let complete = match outcome {
        Err(error) if is_given => {
            // Its client has got everything; what comes after that is the application's own.
            let context = ending::context(server, core, ", after its response");
            ending::log_unless_end(py, server, core, error, |error| says_end(py, error), &context);
            outgoing::spool(py, server, core).map(|()| true).map_err(PyErr::from)
        }
        Err(error) => Err(error),
        Ok(()) if is_given => outgoing::spool(py, server, core).map(|()| true).map_err(PyErr::from),
        Ok(()) if is_excused(server, core) => Ok(false),
        Ok(()) => Err(PyRuntimeError::new_err(
            "the application has returned before its response was complete: it must send http.response.start and an \
             http.response.body without more_body",
        )),
    };
    let ending = ending::settle(py, server, core, complete, |error| says_end(py, error));
    exchange.runs.set(false);
    ending::finish(server, core, &ending);
    server.current.set(before);
    forget(py, server, core);
}

/// Forgets what is left of a request, which may run any code.
fn forget(py: Python<'_>, server: &'static Server, core: CoreId) {
    let exchange = server.slot(core).asgi();
    let (incoming, parts) = (exchange.incoming.take(), exchange.outgoing.borrow_mut().take());
    let task = exchange.task.take();
    // Coroutines of the application may still wait for messages: they learn that none comes.
    exchange.readers.wake(py);
    exchange.writers.wake(py);
    exchange.readers.clear();
    exchange.writers.clear();
    drop((incoming, parts, task));
}

/// Ends a request whose task has been given up: it may go on, and nothing of it reaches the core.
pub(crate) fn abandon(py: Python<'_>, server: &'static Server, core: CoreId) {
    let slot = server.slot(core);
    slot.generation.set(slot.generation.get() + 1);
    slot.asgi().runs.set(false);
    slot.asgi().calls.take();
    server.requests.set(server.requests.get() + 1);
    if let Some(task) = slot.asgi().task.take() {
        // The loop knows it only weakly, and the end of a task that waits is written about.
        std::mem::forget(task);
    }
    ending::finish(server, core, &ending::Ending::Failed);
    forget(py, server, core);
}

/// The coroutine in which the task of a core stands.
pub(crate) fn coroutine(py: Python<'_>, server: &Server, core: CoreId) -> Option<Py<PyAny>> {
    let task = peek(py, &server.slot(core).asgi().task)?;
    let run = task.bind(py).call_method0(intern!(py, "get_coro")).ok()?;
    run.cast::<Run>().ok()?.get().coroutine(py)
}

/// Whether a response that is missing has its reason outside of the application, which the log has named.
fn is_excused(server: &Server, core: CoreId) -> bool {
    let worker = server.worker.borrow();
    worker.nobody_reads(core) || worker.body_failure(core).is_some()
}

/// `asyncio.CancelledError`.
fn cancelled_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS
        .get_or_try_init(py, || PyResult::Ok(py.import("asyncio")?.getattr("CancelledError")?.unbind()))?;
    Ok(class.bind(py).clone())
}

/// Whether an exception is asyncio's own.
pub(super) fn is_cancelled_error(py: Python<'_>, error: &PyErr) -> bool {
    cancelled_class(py).is_ok_and(|class| error.is_instance(py, &class))
}

/// One of asyncio's own.
pub(super) fn cancelled_error(py: Python<'_>) -> PyErr {
    cancelled_class(py).and_then(|class| class.call0()).map_or_else(|error| error, PyErr::from_value)
}

/// Whether an exception only says that its request is to end, or is what an application has made of a message that nobody
/// gets (Starlette's `ClientDisconnect`).
fn says_end(py: Python<'_>, error: &PyErr) -> bool {
    if cancelled::is_end(py, error) || is_cancelled_error(py, error) {
        return true;
    }
    let value = error.value(py);
    if value.is_instance_of::<PyBaseExceptionGroup>()
        && let Ok(members) = value.getattr(intern!(py, "exceptions"))
        && let Ok(members) = members.cast::<PyTuple>()
    {
        return members.iter().all(|member| says_end(py, &PyErr::from_value(member)));
    }
    let context = value.getattr(intern!(py, "__context__"));
    context.is_ok_and(|context| !context.is_none() && cancelled::is_end(py, &PyErr::from_value(context)))
}
