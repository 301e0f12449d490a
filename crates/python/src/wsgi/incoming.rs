//! A request body that is read while it comes (`--body-early`): a read that finds nothing suspends its request, and only
//! that.
//!
//! Owns reading, line by line too, and who may read: the request's own coroutine, as long as the request lasts. The file
//! object that applications see is `input.rs`; bounds, deadlines and failures are the worker's `incoming.rs`.
//!
//! Nothing is borrowed while the coroutine stands still, no lock is held, and no slice points into a buffer of the
//! application. What a read has gathered when it is interrupted (the request is cancelled, or somebody throws an exception
//! into the coroutine) goes back to where the next read finds it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use greenloom_worker::{BodyRead, CoreId, Wakeup};
use memchr::memchr;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::api::cancelled;
use crate::driver::server::{self, Server};
use crate::engine::Paused;
use crate::fork_guard;

/// Most bytes asked for at once. What is there is returned, so small bodies cost little.
const PIECE_BYTES: usize = 64 * 1024;

/// The reading end.
#[derive(Debug)]
pub(crate) struct Incoming {
    core: CoreId,
    /// Which of the core's requests.
    generation: u64,
    /// What was received behind the end of a line, or put back.
    pending: Mutex<Pending>,
    /// Bytes the application has read.
    read: AtomicU64,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    start: usize,
}

impl Pending {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes the first `count` bytes.
    fn take<'py>(&mut self, py: Python<'py>, count: usize) -> Bound<'py, PyBytes> {
        let taken = PyBytes::new(py, &self.rest()[..count]);
        self.start += count;
        taken
    }
}

impl Incoming {
    /// The body of the request that has just started in a core.
    pub(crate) fn new(core: CoreId, generation: u64) -> Self {
        Self { core, generation, pending: Mutex::default(), read: AtomicU64::new(0) }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Exactly `limit` bytes, or what there is until the end.
    pub(crate) fn read<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.gather(py, |pending| (pending.len() >= limit).then_some(limit))
    }

    /// What is there, at most `limit` bytes; waits only if there is nothing.
    pub(crate) fn read_some<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.gather(py, |pending| (limit == 0 || !pending.is_empty()).then(|| limit.min(pending.len())))
    }

    /// Up to and with the next `\n`, at most `limit` bytes.
    pub(crate) fn read_line<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut searched = 0;
        self.gather(py, |pending| {
            let window = &pending[..pending.len().min(limit)];
            let found = memchr(b'\n', window.get(searched..).unwrap_or_default());
            let end = found.map(|at| searched + at + 1);
            searched = window.len();
            end.or_else(|| (window.len() == limit).then_some(limit))
        })
    }

    /// Fills `target`; with `once` no further than the bytes that are there, if there are any.
    pub(crate) fn fill(&self, py: Python<'_>, target: &PyUntypedBuffer, once: bool) -> PyResult<usize> {
        let size = target.len_bytes();
        let bytes = if once { self.read_some(py, size as u64)? } else { self.read(py, size as u64)? };
        let bytes = bytes.as_bytes();
        // SAFETY: `target` exports `size` writable, contiguous bytes (checked by the caller) and keeps them in place, and
        // no more than `size` bytes were read; the interpreter is attached and no Python code runs meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target.buf_ptr().cast::<u8>(), bytes.len()) };
        Ok(bytes.len())
    }

    /// The next piece, `b''` at the end; waits for it, `timeout` at most.
    pub(crate) fn piece<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Duration>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.gather_until(py, deadline, |pending| {
            (!pending.is_empty()).then(|| pending.len().min(PIECE_BYTES))
        })
    }

    /// The next piece if it is there; `None`: nothing is.
    pub(crate) fn piece_now<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (server, core) = self.owner(py)?;
        let mut pending = self.take_pending();
        if pending.rest().is_empty() {
            pending = Pending { bytes: vec![0; PIECE_BYTES], start: 0 };
            let read = server.worker.borrow_mut().read_body_now(core, &mut pending.bytes);
            match read {
                BodyRead::Bytes(count) => pending.bytes.truncate(count),
                BodyRead::End => pending.bytes.clear(),
                BodyRead::Wait => return Ok(None),
                BodyRead::Failed(failure) => return Err(PyOSError::new_err(failure.to_string())),
            }
        }
        let count = pending.rest().len().min(PIECE_BYTES);
        let piece = pending.take(py, count);
        self.put_back(pending);
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(Some(piece))
    }

    fn gather<'py>(
        &self,
        py: Python<'py>,
        enough: impl FnMut(&[u8]) -> Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.gather_until(py, None, enough)
    }

    /// Receives until `enough` says how many of the bytes that have come are to be returned, or the body ends.
    fn gather_until<'py>(
        &self,
        py: Python<'py>,
        deadline: Option<Instant>,
        mut enough: impl FnMut(&[u8]) -> Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.owner(py)?;
        let mut pending = self.take_pending();
        let count = loop {
            if let Some(count) = enough(pending.rest()) {
                break Ok(count);
            }
            match self.more(py, &mut pending, deadline) {
                Ok(0) => break Ok(pending.rest().len()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        let bytes = count.map(|count| pending.take(py, count));
        self.put_back(pending);
        if let Ok(bytes) = &bytes {
            self.read.fetch_add(bytes.as_bytes().len() as u64, Ordering::Relaxed);
        }
        bytes
    }

    /// Receives some bytes, at least one, and waits for them if need be; 0: the body has ended.
    fn more(&self, py: Python<'_>, into: &mut Pending, deadline: Option<Instant>) -> PyResult<usize> {
        if into.start > 0 {
            into.bytes.drain(..into.start);
            into.start = 0;
        }
        let old = into.bytes.len();
        let mut last = false;
        loop {
            let (server, core) = self.owner(py)?;
            into.bytes.resize(old + PIECE_BYTES, 0);
            let read = {
                let mut worker = server.worker.borrow_mut();
                let room = &mut into.bytes[old..];
                if last { worker.read_body_now(core, room) } else { worker.read_body(core, room) }
            };
            into.bytes.truncate(old + if let BodyRead::Bytes(count) = read { count } else { 0 });
            match read {
                BodyRead::Bytes(count) => return Ok(count),
                BodyRead::End => return Ok(0),
                BodyRead::Failed(failure) => return Err(PyOSError::new_err(failure.to_string())),
                BodyRead::Wait if last => {
                    return Err(PyOSError::new_err("unable to receive chunked part: nothing came in time"));
                }
                BodyRead::Wait => {}
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left_ms = left.map(|left| u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
            server.worker.borrow_mut().await_body(core, left_ms);
            match server.engine.pause(py, server, core)? {
                Paused::Resumed(Wakeup::Cancelled(why)) => return Err(cancelled::error(py, why)),
                Paused::Resumed(_) => {}
                Paused::Unwind => {
                    return Err(PyRuntimeError::new_err(
                        "a body that is still coming needs a suspend engine",
                    ));
                }
            }
            last = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        }
    }

    /// The server, if it is the request's own coroutine that asks.
    fn owner(&self, py: Python<'_>) -> PyResult<(&'static Server, CoreId)> {
        let Some(server) = server::of_this_thread() else {
            return Err(PyRuntimeError::new_err(
                "wsgi.input was read on a thread of the application, and the body is still coming (--body-early): only \
                 the code of the request may read it; read there, and hand the bytes over",
            ));
        };
        fork_guard::check();
        if server.slot(self.core).generation.get() != self.generation {
            return Err(PyRuntimeError::new_err("wsgi.input was read after the end of its request"));
        }
        if !server.engine.can_pause(py, server, self.core) {
            return Err(PyRuntimeError::new_err(
                "wsgi.input was read on another coroutine than its request's, and the body is still coming \
                 (--body-early): read it in the request's own, and hand the bytes over",
            ));
        }
        Ok((server, self.core))
    }

    fn take_pending(&self) -> Pending {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, mut pending: Pending) {
        if pending.rest().is_empty() {
            // It may have been as large as the body.
            pending = Pending::default();
        }
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = pending;
    }
}
