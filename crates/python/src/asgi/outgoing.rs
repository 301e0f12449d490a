//! Messages from the application: the head, which leaves with the first part of the body, and the parts, in the order in
//! which they were given. What the client does not take waits here; then `send` waits, too.
//!
//! A message is taken whole when `send` is called, and its bytes are the server's from then on: an application that gives
//! up waiting has sent it all the same.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use greenloom_worker::{CoreId, Worker, Written, open_without_waiting};
use pyo3::exceptions::{PyIsADirectoryError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::api::cancelled;
use crate::driver::server::Server;
use crate::traceback::reason_of;
use crate::wsgi::response::{Head, send_head};

/// Writes in a row before others get their turn.
const WRITES_PER_TURN: u32 = 16;
/// What a task may send between two suspensions before it is given one.
const SLICE_BYTES: usize = 256 * 1024;
/// Bytes that a message counts for besides its own: a task that sends very small ones has its end, too.
const MESSAGE_BYTES: usize = 256;

/// How far a response has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing was given.
    #[default]
    Head,
    /// The head was given.
    Begun,
    /// Parts of the body were given.
    Body,
    /// The last part was given.
    Given,
    /// All of it has been written.
    Written,
}

/// The response of a request.
#[derive(Default)]
pub(super) struct Outgoing {
    stage: Stage,
    /// What was given and not written.
    parts: VecDeque<Part>,
    /// Sent since the task was suspended last, in bytes.
    slice: usize,
}

impl Outgoing {
    /// Another request begins.
    pub(super) fn begin(&mut self) {
        self.stage = Stage::Head;
        self.slice = 0;
    }

    /// Takes what was not written, and leaves room for what comes next.
    pub(super) fn take(&mut self) -> Option<VecDeque<Part>> {
        self.stage = Stage::Head;
        if self.parts.is_empty() { None } else { Some(std::mem::take(&mut self.parts)) }
    }

    /// Whether all of the response has been written.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Written
    }

    /// Whether all of it was given.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.stage, Stage::Given | Stage::Written)
    }

    /// The task is suspended.
    pub(super) fn suspended(&mut self) {
        self.slice = 0;
    }
}

/// What is to be written.
pub(super) enum Part {
    /// These bytes, from here on.
    Bytes(Py<PyBytes>, usize),
    /// A whole file; taken when the server sends it.
    File(Option<File>, u64),
}

/// What became of a part.
enum Fate {
    Written,
    /// There is no room, or it is the turn of others.
    Waits,
    /// The client is gone.
    Gone,
}

impl Part {
    /// Writes as much as can be; `writes` counts those of this turn.
    fn write(&mut self, py: Python<'_>, worker: &mut Worker, core: CoreId, writes: &mut u32) -> Fate {
        loop {
            let (bytes, at) = match self {
                Self::Bytes(bytes, at) => (bytes.as_bytes(py).get(*at..).unwrap_or_default(), at),
                Self::File(file, len) => {
                    let Some(file) = file.take() else { return Fate::Written };
                    return match worker.send_file(core, file, 0, *len) {
                        Written::Gone => Fate::Gone,
                        Written::Taken(_) => Fate::Written,
                    };
                }
            };
            if bytes.is_empty() {
                return Fate::Written;
            }
            if *writes == WRITES_PER_TURN {
                return Fate::Waits;
            }
            *writes += 1;
            match worker.write(core, bytes) {
                Written::Gone => return Fate::Gone,
                Written::Taken(0) => return Fate::Waits,
                Written::Taken(count) => *at += count,
            }
        }
    }

    /// Writes all of it, to a spool file if need be: nobody is left to wait.
    fn write_through(self, py: Python<'_>, worker: &mut Worker, core: CoreId) -> io::Result<()> {
        match self {
            Self::Bytes(bytes, at) => worker.write_through(core, &bytes.as_bytes(py)[at..]).map(drop),
            Self::File(file, len) => {
                if let Some(file) = file {
                    worker.send_file(core, file, 0, len);
                }
                Ok(())
            }
        }
    }
}

/// The exception of a message behind the end of its request.
pub(super) fn over() -> PyErr {
    cancelled::nobody_reads("its request has ended")
}

/// The exception of a message that nobody gets.
fn nobody_gets_it(server: &Server, core: CoreId) -> PyErr {
    match server.worker.borrow().cancelled(core) {
        Some(why) => cancelled::nobody_reads(&format!("the request was told to end: {why}")),
        None => cancelled::nobody_reads("the client is gone"),
    }
}

/// Takes a message. A future: not all that was given has left.
pub(super) fn send<'py>(
    py: Python<'py>,
    server: &'static Server,
    core: CoreId,
    message: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let kind = required(message, intern!(py, "type"))?;
    let kind = kind
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err("the type of a message must be a str"))?
        .to_cow()?;
    let slot = server.slot(core);
    match &*kind {
        "http.response.start" => {
            if slot.asgi().outgoing.borrow().stage != Stage::Head {
                return Err(PyRuntimeError::new_err("http.response.start was sent a second time"));
            }
            let mut head = slot.head.take();
            head.clear();
            let filled = fill(py, &mut head, message);
            if filled.is_err() {
                head.clear();
            }
            slot.head.replace(head);
            filled?;
            slot.asgi().outgoing.borrow_mut().stage = Stage::Begun;
            if is_gone(server, core) { Err(nobody_gets_it(server, core)) } else { Ok(None) }
        }
        "http.response.body" => {
            let body = body(py, message)?;
            let more = match optional(message, intern!(py, "more_body"))? {
                Some(more) => more.is_truthy()?,
                None => false,
            };
            let length = body.as_bytes().len();
            may_give(server, core, "http.response.body", false)?;
            give(py, server, core, Part::Bytes(body.unbind(), 0), length as u64, more)
        }
        "http.response.pathsend" => {
            let path: PathBuf = required(message, intern!(py, "path"))?.extract()?;
            if path.as_os_str().as_encoded_bytes().contains(&0) {
                return Err(PyValueError::new_err("the path of http.response.pathsend holds a NUL byte"));
            }
            if !path.is_absolute() {
                return Err(PyValueError::new_err(format!(
                    "the path of http.response.pathsend must be absolute, not {}",
                    path.display()
                )));
            }
            may_give(server, core, "http.response.pathsend", true)?;
            // With the path in the exception, as Python's own.
            let named = |error: io::Error| {
                PyOSError::new_err((error.raw_os_error().unwrap_or(0), reason_of(&error), path.clone()))
            };
            let file = open_without_waiting(&path).map_err(named)?;
            let facts = file.metadata().map_err(named)?;
            if !facts.is_file() {
                return Err(PyIsADirectoryError::new_err(format!("{} is no regular file", path.display())));
            }
            let len = facts.len();
            give(py, server, core, Part::File(Some(file), len), len, false)
        }
        other => Err(PyValueError::new_err(format!(
            "{other:?} is no message of an HTTP response: send http.response.start, http.response.body or \
             http.response.pathsend"
        ))),
    }
}

/// Whether a part of the body may be given now.
fn may_give(server: &Server, core: CoreId, kind: &str, is_file: bool) -> PyResult<()> {
    let problem = match server.slot(core).asgi().outgoing.borrow().stage {
        Stage::Head => "before http.response.start",
        Stage::Body if is_file => "after http.response.body",
        Stage::Given | Stage::Written => "after the end of the response",
        Stage::Begun | Stage::Body if is_gone(server, core) => return Err(nobody_gets_it(server, core)),
        Stage::Begun | Stage::Body => return Ok(()),
    };
    Err(PyRuntimeError::new_err(format!("{kind} was sent {problem}")))
}

/// Takes a part of the body, the head before it.
fn give<'py>(
    py: Python<'py>,
    server: &'static Server,
    core: CoreId,
    part: Part,
    length: u64,
    more: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let slot = server.slot(core);
    if !server.worker.borrow().response_begun(core) {
        slot.known_length.set((!more).then_some(length));
        send_head(server, core)
            .map_err(|error| PyRuntimeError::new_err(format!("the response head cannot be sent: {error}")))?;
    }
    {
        let mut outgoing = slot.asgi().outgoing.borrow_mut();
        outgoing.stage = if more { Stage::Body } else { Stage::Given };
        outgoing.slice += MESSAGE_BYTES + usize::try_from(length).unwrap_or(SLICE_BYTES).min(SLICE_BYTES);
        outgoing.parts.push_back(part);
    }
    match pump(py, server, core) {
        Fate::Gone => Err(nobody_gets_it(server, core)),
        Fate::Waits => wait(py, server, core),
        Fate::Written if more && slot.asgi().outgoing.borrow().slice > SLICE_BYTES => {
            // Others have their turn, as after each yield of an iterable.
            slot.asgi().outgoing.borrow_mut().slice = 0;
            server.worker.borrow_mut().want_room(core);
            wait(py, server, core)
        }
        Fate::Written => Ok(None),
    }
}

/// As [`send`], for what was given before.
pub(super) fn unsent<'py>(
    py: Python<'py>,
    server: &'static Server,
    core: CoreId,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let exchange = server.slot(core).asgi();
    if exchange.outgoing.borrow().is_over() {
        return Ok(None);
    }
    if is_gone(server, core) {
        return Err(nobody_gets_it(server, core));
    }
    if exchange.outgoing.borrow().parts.is_empty() { Ok(None) } else { wait(py, server, core) }
}

fn wait<'py>(py: Python<'py>, server: &'static Server, core: CoreId) -> PyResult<Option<Bound<'py, PyAny>>> {
    let future = server.engine.future(py)?;
    let writers = &server.slot(core).asgi().writers;
    // Those that were given up are nobody's.
    writers.tidy(py);
    Ok(Some(writers.add(future)))
}

/// Whether nobody gets what the application sends.
fn is_gone(server: &Server, core: CoreId) -> bool {
    server.worker.borrow().nobody_reads(core)
}

/// There is room: writes what waits, and lets those go on who wait for it.
pub(super) fn room(py: Python<'_>, server: &'static Server, core: CoreId) {
    if !matches!(pump(py, server, core), Fate::Waits) {
        server.slot(core).asgi().writers.wake(py);
    }
}

/// Writes what was given, as far as there is room.
fn pump(py: Python<'_>, server: &'static Server, core: CoreId) -> Fate {
    let exchange = server.slot(core).asgi();
    let (mut done, mut last): (Vec<Part>, Option<Part>) = (Vec::new(), None);
    let fate = {
        // No code of the application runs meanwhile: parts are dropped at the end.
        let (mut outgoing, mut worker) = (exchange.outgoing.borrow_mut(), server.worker.borrow_mut());
        let mut writes = 0;
        loop {
            if worker.body_is_dropped(core) {
                // Of a HEAD, for one.
                done.extend(outgoing.parts.drain(..));
            }
            let Some(part) = outgoing.parts.front_mut() else { break Fate::Written };
            match part.write(py, &mut worker, core, &mut writes) {
                Fate::Written => {
                    let part = outgoing.parts.pop_front();
                    if outgoing.parts.is_empty() {
                        // Mostly there is no other, and nothing to be gathered.
                        last = part;
                        break Fate::Written;
                    }
                    done.extend(part);
                }
                Fate::Waits => {
                    worker.want_room(core);
                    break Fate::Waits;
                }
                Fate::Gone => {
                    done.extend(outgoing.parts.drain(..));
                    break Fate::Gone;
                }
            }
        }
    };
    drop((done, last));
    if !matches!(fate, Fate::Written) {
        return fate;
    }
    if exchange.outgoing.borrow().stage == Stage::Given {
        exchange.outgoing.borrow_mut().stage = Stage::Written;
        server.worker.borrow_mut().task_has_answered(core);
        // Who waits for messages gets the last one; whoever has sent before has sent it all.
        exchange.readers.wake(py);
        exchange.writers.wake(py);
    } else if server.current.get() == Some(core) {
        // Its task runs, and may have more; it leaves when that is suspended, at the latest.
        server.worker.borrow_mut().write_soon(core);
    } else {
        server.worker.borrow_mut().flush(core);
    }
    Fate::Written
}

/// The application has ended: what it has given and not written leaves without anybody who waits.
pub(super) fn spool(py: Python<'_>, server: &'static Server, core: CoreId) -> io::Result<()> {
    let parts = std::mem::take(&mut server.slot(core).asgi().outgoing.borrow_mut().parts);
    for part in parts {
        part.write_through(py, &mut server.worker.borrow_mut(), core)?;
    }
    Ok(())
}

fn optional<'py>(
    message: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Ok(dict) = message.cast::<PyDict>() {
        return dict.get_item(name);
    }
    if message.contains(name)? { message.get_item(name).map(Some) } else { Ok(None) }
}

fn required<'py>(message: &Bound<'py, PyAny>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
    optional(message, name)?
        .ok_or_else(|| PyValueError::new_err(format!("the message has no {name:?}: {}", shown(message))))
}

/// An object for a message, not too long.
fn shown(object: &Bound<'_, PyAny>) -> String {
    let text = object.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string());
    text.chars().take(80).collect()
}

fn body<'py>(py: Python<'py>, message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let Some(body) = optional(message, intern!(py, "body"))? else { return Ok(PyBytes::new(py, b"")) };
    if let Ok(bytes) = body.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    // SAFETY: attached; any object may be asked.
    if unsafe { ffi::PyObject_CheckBuffer(body.as_ptr()) } == 0 {
        return Err(PyTypeError::new_err(format!(
            "the body of http.response.body must be bytes, not {}",
            body.get_type().name()?
        )));
    }
    // SAFETY: attached; an object with a buffer.
    let bytes = unsafe { ffi::PyBytes_FromObject(body.as_ptr()) };
    // SAFETY: a new reference, or null with an exception set.
    let bytes = unsafe { Bound::from_owned_ptr_or_err(py, bytes) }?;
    Ok(bytes.cast_into::<PyBytes>()?)
}

/// Takes status and fields from `http.response.start`.
fn fill<'py>(py: Python<'py>, head: &mut Head, message: &Bound<'py, PyAny>) -> PyResult<()> {
    let status = required(message, intern!(py, "status"))?;
    let status: u16 =
        status.extract().ok().filter(|status| (200..1000).contains(status)).ok_or_else(|| {
            PyValueError::new_err(format!(
                "the status of http.response.start must be a number from 200 to 999, not {}",
                shown(&status)
            ))
        })?;
    head.begin(status.to_string().as_bytes());
    let Some(headers) = optional(message, intern!(py, "headers"))? else { return Ok(()) };
    if let Ok(list) = headers.cast_exact::<PyList>() {
        for header in list.iter() {
            push(head, &header)?;
        }
    } else {
        for header in headers.try_iter()? {
            push(head, &header?)?;
        }
    }
    Ok(())
}

fn push(head: &mut Head, header: &Bound<'_, PyAny>) -> PyResult<()> {
    let wrong = || {
        PyTypeError::new_err(format!(
            "a header of http.response.start must be a pair of bytes, (name, value), not {}",
            shown(header)
        ))
    };
    let (name, value) = if let Ok(pair) = header.cast_exact::<PyTuple>() {
        if pair.len() != 2 {
            return Err(wrong());
        }
        (pair.get_item(0)?, pair.get_item(1)?)
    } else {
        let mut items = header.try_iter().map_err(|_| wrong())?;
        let (Some(name), Some(value), None) = (items.next(), items.next(), items.next()) else {
            return Err(wrong());
        };
        (name?, value?)
    };
    let (Ok(name), Ok(value)) = (name.cast::<PyBytes>(), value.cast::<PyBytes>()) else {
        return Err(wrong());
    };
    let (name, value) = (name.as_bytes(), value.as_bytes());
    if name.eq_ignore_ascii_case(b"content-length") {
        // Here, where an application can still send something else.
        if head.has(b"content-length") {
            return Err(PyValueError::new_err("http.response.start has more than one content-length"));
        }
        if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
            return Err(PyValueError::new_err(format!(
                "the content-length of http.response.start must be a number of bytes, not {:?}",
                String::from_utf8_lossy(value)
            )));
        }
    }
    head.push_checked(name, value)
}
