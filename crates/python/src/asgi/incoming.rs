//! Messages to the application: the body of its request in pieces, and then nothing, until the client is gone or the
//! response complete.

use std::os::unix::fs::FileExt as _;

use greenloom_worker::{Body, BodyRead, CoreId};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::driver::server::Server;

/// Most bytes of one message.
const PIECE_BYTES: usize = 64 * 1024;

/// How far the application has got with the body.
#[derive(Default)]
pub(super) struct Incoming {
    state: State,
}

#[derive(Default)]
enum State {
    /// It is complete; so many bytes of it have been given out.
    Collected(Body, u64),
    /// It is still coming.
    Coming,
    /// All has been given out.
    #[default]
    Read,
    /// It will never be complete.
    Failed,
}

impl Incoming {
    /// The body of the request that starts.
    pub(super) fn new(server: &Server, core: CoreId) -> Self {
        let mut worker = server.worker.borrow_mut();
        let state = if worker.body_is_incoming(core) {
            State::Coming
        } else {
            State::Collected(worker.take_body(core), 0)
        };
        Self { state }
    }
}

/// The next message, or a future: there is none yet.
pub(super) fn receive<'py>(
    py: Python<'py>,
    server: &'static Server,
    core: CoreId,
) -> PyResult<Bound<'py, PyAny>> {
    let exchange = server.slot(core).asgi();
    exchange.readers.tidy(py);
    let over = {
        let worker = server.worker.borrow();
        worker.cancelled(core).is_some() || exchange.outgoing.borrow().is_over()
    };
    if over {
        return disconnect(py).map(Bound::into_any);
    }
    // Taken out: making objects may run finalizers, which may call back.
    let state = std::mem::take(&mut exchange.incoming.borrow_mut().state);
    let (state, found) = next(py, server, core, state);
    let failed = matches!(state, State::Failed);
    let is_read = matches!(state, State::Read);
    exchange.incoming.borrow_mut().state = state;
    if let Some((piece, more)) = found? {
        return request(py, piece, more).map(Bound::into_any);
    }
    if is_read {
        exchange.listens.set(true);
    }
    if failed || !server.worker.borrow().client_is_there(core) {
        return disconnect(py).map(Bound::into_any);
    }
    let future = server.engine.future(py)?;
    Ok(exchange.readers.add(future))
}

/// A piece of the body and whether there is more.
type Piece<'py> = (Bound<'py, PyBytes>, bool);

/// The next piece of a body, and how far it has got then; `None`: there is none, and the worker has been asked for one if
/// any may come.
fn next<'py>(
    py: Python<'py>,
    server: &'static Server,
    core: CoreId,
    state: State,
) -> (State, PyResult<Option<Piece<'py>>>) {
    match state {
        State::Collected(body, mut position) => match collected(py, &body, &mut position) {
            Ok((piece, true)) => (State::Collected(body, position), Ok(Some((piece, true)))),
            Ok(last) => (State::Read, Ok(Some(last))),
            Err(error) => (State::Collected(body, position), Err(error)),
        },
        State::Coming => {
            let mut buffer = vec![0; PIECE_BYTES];
            let (read, more) = {
                let mut worker = server.worker.borrow_mut();
                let read = worker.read_body(core, &mut buffer);
                if read == BodyRead::Wait {
                    worker.want_body(core);
                }
                (read, !worker.body_has_ended(core))
            };
            match read {
                BodyRead::Bytes(count) => {
                    let state = if more { State::Coming } else { State::Read };
                    (state, Ok(Some((PyBytes::new(py, &buffer[..count]), more))))
                }
                BodyRead::End => (State::Read, Ok(Some((PyBytes::new(py, b""), false)))),
                BodyRead::Failed(_) => (State::Failed, Ok(None)),
                BodyRead::Wait => (State::Coming, Ok(None)),
            }
        }
        State::Read | State::Failed => (state, Ok(None)),
    }
}

/// A piece of a complete body, and whether there is more.
fn collected<'py>(py: Python<'py>, body: &Body, position: &mut u64) -> PyResult<(Bound<'py, PyBytes>, bool)> {
    let length = match body {
        Body::Empty => 0,
        Body::Memory(bytes) => bytes.len() as u64,
        Body::File { len, .. } => *len,
    };
    let size = usize::try_from(length - *position).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let piece = match body {
        Body::Empty => PyBytes::new(py, b""),
        Body::Memory(bytes) => {
            let start = usize::try_from(*position).unwrap_or(bytes.len());
            PyBytes::new(py, &bytes[start..start + size])
        }
        Body::File { file, .. } => PyBytes::new_with(py, size, |bytes| {
            file.read_exact_at(bytes, *position)?;
            Ok(())
        })?,
    };
    *position += size as u64;
    Ok((piece, *position < length))
}

fn request<'py>(py: Python<'py>, body: Bound<'py, PyBytes>, more: bool) -> PyResult<Bound<'py, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), body)?;
    message.set_item(intern!(py, "more_body"), more)?;
    Ok(message)
}

/// The message that nothing comes any more.
pub(super) fn disconnect(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message)
}
