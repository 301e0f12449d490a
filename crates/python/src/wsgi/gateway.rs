//! From a request to its response: calls the application, takes what it returns part by part, and ends the request.
//!
//! Each part is written and is a switch; what the application waits for, it registers before. Between two parts the
//! worker may serve others (`Worker::yielded` decides). An iterable whose client reads slowly is simply not asked for
//! more.
//!
//! The same code serves every engine. With a suspend engine it runs on the request's coroutine, and a suspension is a
//! call that returns later ([`Paused::Resumed`]); without one it runs on the driver's own stack, and a suspension is a
//! return ([`Paused::Unwind`]) after which [`resume`] goes on.

use greenloom_worker::{CoreId, Wakeup, Written, Yielded};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::api::cancelled;
use crate::driver::server::{Server, Slot, peek};
use crate::ending::{self, Ending};
use crate::engine::Paused;
use crate::fork_guard;
use crate::load::route;
use crate::wsgi::file_wrapper::{FileWrapper, Rest};
use crate::wsgi::incoming::Incoming;
use crate::wsgi::input::Input;
use crate::wsgi::response::{Responder, send_head};

/// Parts of a list that are sent in one go; a longer list, or more bytes, is iterated like everything else.
const JOINED_BYTES: usize = 32 * 1024;
/// Raw bytes that are handed over at once; what the client does not take of them is spooled.
const RAW_PIECE_BYTES: usize = 64 * 1024;
/// Writes in a row for one large part before others get their turn.
const WRITES_PER_TURN: u32 = 16;

/// What iterating led to.
enum Step {
    /// The core is suspended and everything has been returned from.
    Suspended,
    /// The response is complete.
    Complete,
    /// Nobody is to get the rest: the client is gone, or the request was cancelled.
    Gone,
}

/// Runs the application for the request in `core`, up to its end or, without a suspend engine, to its first
/// suspension (`None`).
pub(crate) fn start(py: Python<'_>, server: &'static Server, core: CoreId) -> Option<Ending> {
    let slot = server.slot(core);
    slot.generation.set(slot.generation.get() + 1);
    slot.head.borrow_mut().clear();
    slot.known_length.set(None);
    slot.marked.set(false);
    let outcome = call(py, server, core).and_then(|result| begin(py, server, core, result));
    conclude(py, server, core, outcome)
}

/// Goes on with an iterable whose suspension was a return; `why` says what it comes back from.
pub(crate) fn resume(py: Python<'_>, server: &'static Server, core: CoreId, why: Wakeup) -> Option<Ending> {
    let outcome = match come_back(py, server, core, why) {
        Ok(None) => iterate(py, server, core),
        Ok(Some(step)) => Ok(step),
        Err(error) => Err(error),
    };
    conclude(py, server, core, outcome)
}

/// Suspends the running core until the worker lets it go on, in the middle of the application's code; for the functions
/// that applications call. The worker has been told before what the core waits for.
pub(crate) fn pause(py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<()> {
    match server.engine.pause(py, server, core)? {
        Paused::Resumed(Wakeup::Cancelled(why)) => Err(cancelled::error(py, why)),
        Paused::Resumed(why) => mark(py, server, core, why == Wakeup::Wait),
        Paused::Unwind => {
            Err(PyRuntimeError::new_err("without a suspend engine nothing can be suspended here"))
        }
    }
}

/// As [`pause`], between two calls of the application's code. `Some`: that is all for now, or for ever.
fn pause_between(py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<Option<Step>> {
    match server.engine.pause(py, server, core)? {
        Paused::Unwind => Ok(Some(Step::Suspended)),
        Paused::Resumed(why) => come_back(py, server, core, why),
    }
}

fn come_back(py: Python<'_>, server: &Server, core: CoreId, why: Wakeup) -> PyResult<Option<Step>> {
    match why {
        Wakeup::Cancelled(_) => Ok(Some(Step::Gone)),
        why => mark(py, server, core, why == Wakeup::Wait).map(|()| None),
    }
}

/// Says in the environ how the wait has ended that the last suspension was (`waited`), or that it was none.
fn mark(py: Python<'_>, server: &Server, core: CoreId, waited: bool) -> PyResult<()> {
    let slot = server.slot(core);
    if !waited && !slot.marked.get() {
        return Ok(());
    }
    slot.marked.set(waited);
    let outcome = server.worker.borrow().outcome(core);
    match peek(py, &slot.environ) {
        Some(environ) => server.environ.mark_wait(py, environ.bind(py), outcome.ready_fd, outcome.timed_out),
        None => Ok(()),
    }
}

/// Makes the environ and calls the application.
fn call<'py>(py: Python<'py>, server: &'static Server, core: CoreId) -> PyResult<Bound<'py, PyAny>> {
    let slot = server.slot(core);
    // Taken out of the worker: making the environ allocates objects, which can run finalizers, which may call back.
    let (request, input) = {
        let mut worker = server.worker.borrow_mut();
        let input = if worker.body_is_incoming(core) {
            Input::coming(Incoming::new(core, slot.generation.get()))
        } else {
            Input::new(worker.take_body(core))
        };
        (worker.lend_request(core), input)
    };
    let built = (|| {
        let input = Bound::new(py, input)?;
        let environ = server.environ.build(py, &request, core, &input)?;
        let (app, prefix) = match server.apps.len() {
            0 => return Err(PyRuntimeError::new_err("no python application found")),
            _ => route(&server.apps, request.path()).unwrap_or((0, 0)),
        };
        if prefix > 0 {
            server.environ.mount(py, &environ, request.path(), prefix)?;
        }
        Ok((environ, input, app))
    })();
    server.worker.borrow_mut().return_request(core, request);
    let (environ, input, app) = built?;
    let requests = server.app_requests[app].get() + 1;
    server.app_requests[app].set(requests);
    server.worker.borrow_mut().set_app(core, u32::try_from(app).unwrap_or(u32::MAX), requests);
    slot.environ.set(Some(environ.clone().unbind()));
    slot.input.set(Some(input.unbind()));
    let responder = responder(py, slot, core)?;
    let result = call_app(py, server.apps[app].callable.bind(py), &environ, responder.bind(py));
    returned(py, server, core);
    result
}

/// Where code of the application returns to the server. That is the end of a child of the worker; and on a coroutine
/// that was given up meanwhile this does not return, for its core may serve another request by now.
#[inline]
pub(crate) fn returned(py: Python<'_>, server: &'static Server, core: CoreId) {
    fork_guard::check();
    server.engine.returned(py, server, core);
}

fn responder(py: Python<'_>, slot: &Slot, core: CoreId) -> PyResult<Py<Responder>> {
    let generation = slot.generation.get();
    let responder = match slot.responder.take() {
        Some(responder) if Responder::reuse(&responder, py, generation) => responder,
        _ => Responder::new(py, core, generation)?,
    };
    let copy = responder.clone_ref(py);
    slot.responder.set(Some(responder));
    Ok(copy)
}

fn call_app<'py>(
    py: Python<'py>,
    app: &Bound<'py, PyAny>,
    environ: &Bound<'py, PyDict>,
    responder: &Bound<'py, Responder>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = [environ.as_ptr(), responder.as_ptr()];
    // SAFETY: attached; two live arguments in an array that outlives the call.
    let result = unsafe {
        ffi::PyObject_Vectorcall(app.as_ptr(), arguments.as_ptr(), arguments.len(), std::ptr::null_mut())
    };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, result) }
}

/// Takes what the application returned and goes as far as it can.
fn begin(py: Python<'_>, server: &'static Server, core: CoreId, result: Bound<'_, PyAny>) -> PyResult<Step> {
    let slot = server.slot(core);
    if let Ok(bytes) = result.cast_exact::<PyBytes>() {
        // As uWSGI: sent whole, not byte by byte.
        let length = bytes.as_bytes().len() as u64;
        slot.known_length.set(Some(length));
        slot.part.set(Some((bytes.clone().unbind(), 0)));
        slot.iterator.set(Some(PyTuple::empty(py).try_iter()?.into_any().unbind()));
        slot.iterable.set(Some(result.unbind()));
        return iterate(py, server, core);
    }
    if let Some(step) = join(server, core, &result)? {
        return Ok(step);
    }
    if let Ok(wrapper) = result.cast_exact::<FileWrapper>()
        && let Some(rest) = wrapper.get().rest(py)
    {
        slot.known_length.set(Some(rest.len));
        slot.iterable.set(Some(result.unbind()));
        let step = write_rest(server, core, rest)?;
        server.worker.borrow_mut().count_switches(core, 1);
        // Its core is not needed for the file to be sent.
        return Ok(step.unwrap_or(Step::Complete));
    }
    let iterator = result.try_iter();
    returned(py, server, core);
    slot.iterable.set(Some(result.unbind()));
    slot.iterator.set(Some(iterator?.into_any().unbind()));
    iterate(py, server, core)
}

/// A list or tuple of bytes: its length is known, and when it is small it is sent at once. `None`: iterate.
fn join(server: &Server, core: CoreId, result: &Bound<'_, PyAny>) -> PyResult<Option<Step>> {
    // No Python code runs while the parts are looked at.
    let parts: Vec<Bound<'_, PyAny>>;
    let single;
    let parts: &[Bound<'_, PyAny>] = if let Ok(list) = result.cast_exact::<PyList>() {
        if list.len() == 1 {
            single = [list.get_item(0)?];
            &single
        } else {
            parts = list.iter().collect();
            &parts
        }
    } else if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        parts = tuple.iter().collect();
        &parts
    } else {
        return Ok(None);
    };
    let mut length = 0;
    for part in parts {
        let Ok(part) = part.cast_exact::<PyBytes>() else { return Ok(None) };
        length += part.as_bytes().len();
    }
    let slot = server.slot(core);
    slot.known_length.set(Some(length as u64));
    if length > JOINED_BYTES || !slot.head.borrow().given || server.worker.borrow().response_begun(core) {
        return Ok(None);
    }
    send_head(server, core).map_err(refused)?;
    let mut worker = server.worker.borrow_mut();
    worker.count_switches(core, parts.len() as u64);
    for part in parts {
        if let Ok(part) = part.cast_exact::<PyBytes>()
            && !part.as_bytes().is_empty()
            && worker.write(core, part.as_bytes()) == Written::Gone
        {
            return Ok(Some(Step::Gone));
        }
    }
    Ok(Some(Step::Complete))
}

/// Asks the iterable for parts until it ends or its core has to be suspended.
fn iterate(py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<Step> {
    let slot = server.slot(core);
    // A part that an earlier suspension has interrupted is finished first; its yield is still to come.
    let mut yields = slot.writes_part();
    loop {
        if let Some(step) = write_part(py, server, core)? {
            return Ok(step);
        }
        if yields {
            let yielded = server.worker.borrow_mut().yielded(core);
            if yielded == Yielded::Suspended {
                // Without a suspend engine this returns, and `resume` goes on with the next part.
                if let Some(step) = pause_between(py, server, core)? {
                    return Ok(step);
                }
            } else {
                mark(py, server, core, false)?;
            }
        }
        yields = true;
        let Some(iterator) = peek(py, &slot.iterator) else { return Ok(Step::Complete) };
        // SAFETY: attached; `iterator` is an iterator, as `try_iter` has checked.
        let next = unsafe { ffi::PyIter_Next(iterator.as_ptr()) };
        returned(py, server, core);
        // SAFETY: a new reference, or null at the end or with an exception set.
        let Some(part) = (unsafe { Bound::from_owned_ptr_or_opt(py, next) }) else {
            return match PyErr::take(py) {
                Some(error) => Err(error),
                None => Ok(Step::Complete),
            };
        };
        match part.cast_exact::<PyBytes>() {
            Ok(bytes) if bytes.as_bytes().is_empty() => {}
            Ok(bytes) => slot.part.set(Some((bytes.clone().unbind(), 0))),
            Err(_) => {
                let wrapper = part.cast_exact::<FileWrapper>().ok();
                match wrapper.map(|wrapper| wrapper.get().rest(py)) {
                    Some(Some(rest)) => {
                        if let Some(step) = write_rest(server, core, rest)? {
                            server.worker.borrow_mut().count_switches(core, 1);
                            return Ok(step);
                        }
                        // A client that reads slowly keeps the iterable from opening more.
                        if server.worker.borrow().has_queued_output(core) {
                            server.worker.borrow_mut().stall(core);
                            if let Some(step) = pause_between(py, server, core)? {
                                return Ok(step);
                            }
                        }
                    }
                    _ => other_part(&part)?,
                }
            }
        }
    }
}

/// Has the server send a file as a part of the body, the head before it. `None`: it is on its way.
fn write_rest(server: &'static Server, core: CoreId, rest: Rest) -> PyResult<Option<Step>> {
    begin_response(server, core)?;
    let mut worker = server.worker.borrow_mut();
    if worker.body_is_dropped(core) {
        return Ok(Some(Step::Complete));
    }
    let written = worker.send_file(core, rest.file, rest.offset, rest.len);
    Ok((written == Written::Gone).then_some(Step::Gone))
}

/// Writes the head, unless it was.
fn begin_response(server: &'static Server, core: CoreId) -> PyResult<()> {
    if server.worker.borrow().response_begun(core) {
        return Ok(());
    }
    if !server.slot(core).head.borrow().given {
        return Err(PyRuntimeError::new_err(
            "the application yielded a body before it called start_response",
        ));
    }
    send_head(server, core).map_err(refused)
}

/// A part that is not bytes: an empty `str` and `None` only yield.
fn other_part(part: &Bound<'_, PyAny>) -> PyResult<()> {
    if part.is_none() {
        return Ok(());
    }
    if let Ok(text) = part.cast::<PyString>() {
        if text.len()? == 0 {
            return Ok(());
        }
        return Err(PyRuntimeError::new_err(format!(
            "[ERROR] Unhandled object from iterator: {}: the application yielded a str, but WSGI sends bytes; encode \
             it, as in yield text.encode()",
            part.repr()?
        )));
    }
    // SAFETY: attached; any object may be asked.
    if unsafe { ffi::PyBytes_Check(part.as_ptr()) } != 0 {
        return Err(PyRuntimeError::new_err("a subclass of bytes was yielded; convert it with bytes(part)"));
    }
    Err(PyRuntimeError::new_err(format!(
        "[ERROR] Unhandled object from iterator: {} is a {}, but WSGI sends bytes",
        part.repr()?,
        part.get_type().name()?
    )))
}

/// Writes the part that is at hand. `None`: all of it was taken.
fn write_part(py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<Option<Step>> {
    let slot = server.slot(core);
    let Some((part, mut at)) = slot.part.take() else { return Ok(None) };
    begin_response(server, core)?;
    if server.worker.borrow().body_is_dropped(core) {
        // The iterable may be endless: it is closed instead of asked for more that nobody gets.
        server.worker.borrow_mut().count_switches(core, 1);
        return Ok(Some(Step::Complete));
    }
    let bytes = part.bind(py).as_bytes();
    let mut writes = 0;
    while at < bytes.len() {
        let written = server.worker.borrow_mut().write(core, &bytes[at..]);
        match written {
            Written::Gone => return Ok(Some(Step::Gone)),
            // A part that is complete goes on to its yield, which may have a wait to begin.
            Written::Taken(n) if n > 0 && (writes < WRITES_PER_TURN || at + n >= bytes.len()) => {
                at += n;
                writes += 1;
            }
            Written::Taken(n) => {
                at += n;
                writes = 0;
                if n == 0 {
                    server.worker.borrow_mut().stall(core);
                } else {
                    server.worker.borrow_mut().give_way(core);
                }
                match server.engine.pause(py, server, core)? {
                    Paused::Unwind => {
                        slot.part.set(Some((part.clone_ref(py), at)));
                        return Ok(Some(Step::Suspended));
                    }
                    Paused::Resumed(Wakeup::Cancelled(_)) => return Ok(Some(Step::Gone)),
                    Paused::Resumed(_) => {}
                }
            }
        }
    }
    Ok(None)
}

/// Sends body bytes at once, the head before them: `write()` of PEP 3333 and what is built on it. A caller that can
/// be suspended waits while its client reads slowly; for any other, what the client does not take is spooled.
pub(crate) fn write_now(py: Python<'_>, server: &'static Server, core: CoreId, bytes: &[u8]) -> PyResult<()> {
    fork_guard::check();
    if !server.worker.borrow().response_begun(core) {
        if !server.slot(core).head.borrow().given {
            return Err(PyRuntimeError::new_err("write before start_response"));
        }
        send_head(server, core).map_err(|error| PyValueError::new_err(error.to_string()))?;
    }
    let mut rest = bytes;
    while server.engine.can_pause(py, server, core) {
        let written = server.worker.borrow_mut().write(core, rest);
        match written {
            Written::Gone => return Err(cancelled::client_gone()),
            Written::Taken(n) => rest = rest.get(n..).unwrap_or_default(),
        }
        if rest.is_empty() {
            server.worker.borrow_mut().flush(core);
            return Ok(());
        }
        server.worker.borrow_mut().stall(core);
        match server.engine.pause(py, server, core)? {
            Paused::Resumed(Wakeup::Cancelled(why)) => return Err(cancelled::error(py, why)),
            Paused::Resumed(_) | Paused::Unwind => {}
        }
    }
    drain_elsewhere(py, server, core)?;
    let written = server.worker.borrow_mut().write_through(core, rest);
    match written {
        Ok(Written::Taken(_)) => Ok(()),
        Ok(Written::Gone) => Err(cancelled::client_gone()),
        Err(error) => Err(PyOSError::new_err(format!("cannot spool a response: {error}"))),
    }
}

/// Sends a part of a file, the head before it. A caller that can be suspended is, until it has left; for any other it is on
/// its way.
pub(crate) fn send_file(py: Python<'_>, server: &'static Server, core: CoreId, rest: Rest) -> PyResult<()> {
    write_now(py, server, core, b"")?;
    wait_until_sent(py, server, core)?;
    if server.worker.borrow_mut().send_file(core, rest.file, rest.offset, rest.len) == Written::Gone {
        return Err(cancelled::client_gone());
    }
    wait_until_sent(py, server, core)
}

/// Suspends a caller that can be until all that was written has left.
fn wait_until_sent(py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<()> {
    while server.engine.can_pause(py, server, core) && server.worker.borrow().has_queued_output(core) {
        server.worker.borrow_mut().stall(core);
        if let Paused::Resumed(Wakeup::Cancelled(why)) = server.engine.pause(py, server, core)? {
            return Err(cancelled::error(py, why));
        }
    }
    drain_elsewhere(py, server, core)
}

/// Sends bytes as they are, past head and framing; `false`: the client is gone. Who can be suspended waits for a client
/// that reads slowly, as in [`write_now`]: or an application that sends for ever fills the disk, and nobody else runs.
pub(crate) fn send_raw(
    py: Python<'_>,
    server: &'static Server,
    core: CoreId,
    bytes: &[u8],
) -> PyResult<bool> {
    // At least once: sending nothing begins the response, too.
    let mut pieces = bytes.chunks(RAW_PIECE_BYTES);
    let mut piece = pieces.next().unwrap_or_default();
    loop {
        wait_until_sent(py, server, core)?;
        if server.worker.borrow_mut().write_raw(core, piece)? == Written::Gone {
            return Ok(false);
        }
        let Some(next) = pieces.next() else { return Ok(true) };
        piece = next;
    }
}

/// For somebody who writes for a request on another coroutine than its own: waits until the client has taken what was
/// written before, if that coroutine can wait.
fn drain_elsewhere(py: Python<'_>, server: &'static Server, core: CoreId) -> PyResult<()> {
    let slot = server.slot(core);
    let generation = slot.generation.get();
    while server.worker.borrow().has_queued_output(core) && server.engine.nap(py)? {
        if slot.generation.get() != generation {
            return Err(cancelled::client_gone());
        }
    }
    Ok(())
}

fn refused(error: greenloom_worker::proto::http1::response::ResponseError) -> PyErr {
    PyRuntimeError::new_err(format!("the response head cannot be sent: {error}"))
}

/// Ends the application's part of the request, unless it is only suspended.
fn conclude(
    py: Python<'_>,
    server: &'static Server,
    core: CoreId,
    outcome: PyResult<Step>,
) -> Option<Ending> {
    let slot = server.slot(core);
    let outcome = match outcome {
        Ok(Step::Suspended) => return None,
        // An iterable may end without a part: the head is all there is.
        Ok(Step::Complete) if !server.worker.borrow().response_begun(core) => end_without_body(server, core),
        other => other,
    };
    // The iterable is closed before the core is given to anybody else, whatever happened (PEP 3333).
    close(py, server, core, matches!(outcome, Ok(Step::Complete)));
    slot.part.set(None);
    drop((slot.iterator.take(), slot.iterable.take(), slot.environ.take(), slot.input.take()));
    returned(py, server, core);
    let complete = outcome.map(|step| !matches!(step, Step::Gone));
    Some(ending::settle(py, server, core, complete, |error| {
        server.engine.is_exit(py, error) || cancelled::is_end(py, error)
    }))
}

/// Ends a request whose coroutine has been given up: what it left is dropped, and its client is told.
pub(crate) fn abandon(server: &Server, core: CoreId) {
    let slot = server.slot(core);
    slot.part.set(None);
    slot.generation.set(slot.generation.get() + 1);
    drop((slot.iterator.take(), slot.iterable.take(), slot.environ.take(), slot.input.take()));
    slot.responder.set(None);
    server.requests.set(server.requests.get() + 1);
    ending::finish(server, core, &Ending::Failed);
}

fn end_without_body(server: &Server, core: CoreId) -> PyResult<Step> {
    let slot = server.slot(core);
    if !slot.head.borrow().given {
        return Err(PyRuntimeError::new_err("the application did not call start_response"));
    }
    slot.known_length.set(Some(0));
    send_head(server, core).map_err(refused)?;
    Ok(Step::Complete)
}

/// Calls `close` of what the application returned, if it has one. `complete`: it has given all its parts.
fn close(py: Python<'_>, server: &'static Server, core: CoreId, complete: bool) {
    let Some(iterable) = server.slot(core).iterable.take() else { return };
    let iterable = iterable.into_bound(py);
    if iterable.is_exact_instance_of::<PyBytes>() {
        return;
    }
    let close = iterable.getattr_opt(pyo3::intern!(py, "close"));
    returned(py, server, core);
    let closed = match close {
        Ok(Some(close)) => {
            // It may take its time, and the client need not wait for it. (That of a generator at its end does
            // nothing.)
            // SAFETY: attached; any object may be asked.
            let is_generator = unsafe { ffi::PyGen_CheckExact(iterable.as_ptr()) } != 0;
            if complete && !is_generator {
                ending::send_end(server, core);
            }
            let closed = close.call0().map(drop);
            returned(py, server, core);
            closed
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        ending::log_unless_end(
            py,
            server,
            core,
            error,
            |error| cancelled::is_end(py, error),
            "exception in close() of the application's iterable:",
        );
    }
}
