//! `wsgi.input`: a request body as a binary, read-only file object, seekable if it is complete.
//!
//! Owns the whole `io.BufferedIOBase` surface over a [`Body`]. Receiving, decoding and bounding the body
//! belong to the connection: a request starts when its body is complete, so nothing here waits for a
//! client, and a spooled body is read with `pread`, never through a file position somebody else could move.
//! The exception are bodies that are read while they come: reading those is `incoming.rs`.
//!
//! The connection's descriptor is never handed out: `fileno()` raises `io.UnsupportedOperation`, for spooled
//! bodies too, because a descriptor read behind this object's back would disagree with `tell()`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use greenloom_worker::Body;
use memchr::memchr;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::incoming::Incoming;

pyo3::import_exception!(io, UnsupportedOperation);

/// Bytes read from a spooled body at once for lines and small reads; larger reads go straight to the caller.
const WINDOW_BYTES: usize = 64 * 1024;

/// A request body as applications see it. Every request gets its own.
///
/// The position is shared by all threads that hold the object, as with any file; the state is atomic only so
/// that such use is sound, not to give concurrent readers a meaning.
#[pyclass(frozen, module = "greenloom._greenloom", name = "Input")]
#[derive(Debug)]
pub(crate) struct Input {
    body: Body,
    length: u64,
    position: AtomicU64,
    closed: AtomicBool,
    window: Mutex<Window>,
    /// Instead of `body`: it is still coming.
    incoming: Option<Box<Incoming>>,
}

/// The part of a spooled body that was read last. Empty until a small read needs it.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Input {
    /// Wraps a complete body, positioned at its beginning. Allocates nothing.
    pub(crate) fn new(body: Body) -> Self {
        let length = match &body {
            Body::Empty => 0,
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { len, .. } => *len,
        };
        Self {
            body,
            length,
            position: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            window: Mutex::default(),
            incoming: None,
        }
    }

    /// The body of a request that started before it was there.
    pub(crate) fn coming(incoming: Incoming) -> Self {
        Self { incoming: Some(Box::new(incoming)), ..Self::new(Body::Empty) }
    }

    /// The next piece for `uwsgi.chunked_read`, `b''` at the end. Of a complete body it is all that is left, 64 KiB at
    /// most; one that is still coming is waited for, `timeout` at most.
    pub(crate) fn piece<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Duration>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        match &self.incoming {
            Some(incoming) => incoming.piece(py, timeout),
            None => self.take(py, WINDOW_BYTES as u64),
        }
    }

    /// As `piece`, if it is there already; `None`: it is not.
    pub(crate) fn piece_now<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match &self.incoming {
            Some(incoming) => incoming.piece_now(py),
            None => self.take(py, WINDOW_BYTES as u64).map(Some),
        }
    }

    /// Makes `isinstance(environ["wsgi.input"], io.BufferedIOBase)` true. Called once, when the module is made.
    pub(crate) fn register_as_buffered_io(py: Python<'_>) -> PyResult<()> {
        let base = py.import("io")?.getattr("BufferedIOBase")?;
        base.call_method1("register", (py.get_type::<Self>(),))?;
        Ok(())
    }

    /// Takes at most `limit` bytes from the current position; an empty result means the end.
    fn take<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(incoming) = &self.incoming {
            return incoming.read(py, limit);
        }
        let start = self.position.load(Ordering::Relaxed);
        let count = limit.min(self.length.saturating_sub(start));
        let Ok(size) = usize::try_from(count) else {
            return Err(PyValueError::new_err("the rest of wsgi.input does not fit into memory"));
        };
        let bytes = match self.in_memory(start, size) {
            Some(slice) => PyBytes::new(py, slice),
            None => PyBytes::new_with(py, size, |out| Ok(self.copy_spooled(start, out)?))?,
        };
        self.position.store(start + count, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Takes bytes up to and with the next `\n`, at most `limit`.
    fn take_line<'py>(&self, py: Python<'py>, limit: u64) -> PyResult<Bound<'py, PyBytes>> {
        if let Some(incoming) = &self.incoming {
            return incoming.read_line(py, limit);
        }
        let start = self.position.load(Ordering::Relaxed);
        let rest = limit.min(self.length.saturating_sub(start));
        let line = self.line_length(start, rest)?;
        self.take(py, line)
    }

    /// Length of the line that begins at `start`, its `\n` included, looking at `rest` bytes at most.
    fn line_length(&self, start: u64, rest: u64) -> io::Result<u64> {
        let Body::File { file, len } = &self.body else {
            let size = usize::try_from(rest).unwrap_or(usize::MAX);
            let slice = self.in_memory(start, size).unwrap_or_default();
            return Ok(memchr(b'\n', slice).map_or(rest, |at| at as u64 + 1));
        };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        while seen < rest {
            let chunk = window.at(file, *len, start + seen)?;
            let chunk = &chunk[..clamp(rest - seen, chunk.len())];
            if let Some(at) = memchr(b'\n', chunk) {
                return Ok(seen + at as u64 + 1);
            }
            seen += chunk.len() as u64;
        }
        Ok(rest)
    }

    /// The bytes `start .. start + size` of a body in memory (`None` for a spooled one). The caller has
    /// bounded the range by `length`.
    fn in_memory(&self, start: u64, size: usize) -> Option<&[u8]> {
        match &self.body {
            _ if size == 0 => Some(&[]),
            Body::Empty => Some(&[]),
            Body::Memory(bytes) => {
                let start = usize::try_from(start).ok()?;
                bytes.get(start..start + size)
            }
            Body::File { .. } => None,
        }
    }

    /// Fills `out` from a spooled body at `start`.
    fn copy_spooled(&self, start: u64, out: &mut [u8]) -> io::Result<()> {
        let Body::File { file, len } = &self.body else {
            return Ok(());
        };
        if out.len() >= WINDOW_BYTES {
            return read_exact_at(file, *len, start, out);
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < out.len() {
            let chunk = window.at(file, *len, start + done as u64)?;
            let count = chunk.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&chunk[..count]);
            done += count;
        }
        Ok(())
    }

    /// With `once` a body that is still coming is waited for only if nothing of it is there.
    fn fill(&self, target: &Bound<'_, PyAny>, once: bool) -> PyResult<usize> {
        let buffer = PyUntypedBuffer::get(target)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyTypeError::new_err(format!(
                "readinto() argument must be read-write bytes-like object, not {}",
                target.get_type().name()?
            )));
        }
        if let Some(incoming) = &self.incoming {
            return incoming.fill(target.py(), &buffer, once);
        }
        let start = self.position.load(Ordering::Relaxed);
        let count = clamp(self.length.saturating_sub(start), buffer.len_bytes());
        if count == 0 {
            return Ok(0);
        }
        let memory = buffer.buf_ptr().cast::<u8>();
        // SAFETY: `buffer` exports at least `count` writable, contiguous bytes at `memory` (both checked
        // above) and keeps them in place until it is dropped at the end of this function; the interpreter
        // stays attached and no Python code runs meanwhile, so nobody else reads or writes them.
        let out = unsafe { std::slice::from_raw_parts_mut(memory, count) };
        match self.in_memory(start, count) {
            Some(slice) => out.copy_from_slice(slice),
            None => self.copy_spooled(start, out)?,
        }
        self.position.store(start + count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn check_open(&self) -> PyResult<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(PyValueError::new_err("I/O operation on closed file."));
        }
        Ok(())
    }

    fn check_seekable(&self, call: &str) -> PyResult<()> {
        if self.incoming.is_some() {
            return Err(UnsupportedOperation::new_err(format!(
                "{call}: this wsgi.input is read while it comes (--body-early)"
            )));
        }
        Ok(())
    }

    fn unsupported<T>(&self, what: &'static str) -> PyResult<T> {
        self.check_open()?;
        Err(UnsupportedOperation::new_err(what))
    }
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.check_open()?;
        self.take(py, limit(size))
    }

    #[pyo3(signature = (size=None, /))]
    fn read1<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.check_open()?;
        match &self.incoming {
            Some(incoming) => incoming.read_some(py, limit(size)),
            None => self.take(py, limit(size)),
        }
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.check_open()?;
        self.fill(buffer, false)
    }

    #[pyo3(signature = (buffer, /))]
    fn readinto1(&self, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        self.check_open()?;
        self.fill(buffer, true)
    }

    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        self.check_open()?;
        self.take_line(py, limit(size))
    }

    /// All lines; with a positive `hint`, no further line once that many bytes were returned.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<i64>) -> PyResult<Bound<'py, PyList>> {
        self.check_open()?;
        let enough = hint.and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let lines = PyList::empty(py);
        let mut total = 0;
        while enough.is_none_or(|bytes| total < bytes) {
            let line = self.take_line(py, u64::MAX)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().check_open()?;
        Ok(slf)
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.check_open()?;
        let line = self.take_line(py, u64::MAX)?;
        Ok(Some(line).filter(|line| !line.as_bytes().is_empty()))
    }

    fn tell(&self) -> PyResult<u64> {
        self.check_open()?;
        self.check_seekable("tell")?;
        Ok(self.position.load(Ordering::Relaxed))
    }

    /// Moves the position; beyond the end is allowed, reads then return `b''`.
    #[pyo3(signature = (offset, whence=0, /))]
    fn seek(&self, offset: i64, whence: i32) -> PyResult<u64> {
        self.check_open()?;
        self.check_seekable("seek")?;
        let base = match whence {
            0 => 0,
            1 => self.position.load(Ordering::Relaxed),
            2 => self.length,
            other => {
                return Err(PyValueError::new_err(format!("invalid whence ({other}, should be 0, 1 or 2)")));
            }
        };
        let Some(target) = base.checked_add_signed(offset) else {
            return Err(PyValueError::new_err("negative seek position in wsgi.input"));
        };
        self.position.store(target, Ordering::Relaxed);
        Ok(target)
    }

    /// Reads raise `ValueError` from now on. The server needs no `close()`; applications may call it.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        *self.window.lock().unwrap_or_else(PoisonError::into_inner) = Window::default();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn readable(&self) -> PyResult<bool> {
        self.check_open().map(|()| true)
    }

    fn seekable(&self) -> PyResult<bool> {
        self.check_open().map(|()| self.incoming.is_none())
    }

    fn writable(&self) -> PyResult<bool> {
        self.check_open().map(|()| false)
    }

    fn isatty(&self) -> PyResult<bool> {
        self.check_open().map(|()| false)
    }

    fn flush(&self) -> PyResult<()> {
        self.check_open()
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        slf.get().check_open()?;
        Ok(slf)
    }

    #[pyo3(signature = (*_details))]
    fn __exit__(&self, _details: &Bound<'_, PyAny>) {
        self.close();
    }

    fn fileno(&self) -> PyResult<i32> {
        self.unsupported("fileno: wsgi.input has no descriptor of its own")
    }

    fn detach(&self) -> PyResult<()> {
        self.unsupported("detach: wsgi.input has no raw stream")
    }

    #[pyo3(signature = (_data, /))]
    fn write(&self, _data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.unsupported("write: wsgi.input is read-only")
    }

    #[pyo3(signature = (_lines, /))]
    fn writelines(&self, _lines: &Bound<'_, PyAny>) -> PyResult<()> {
        self.unsupported("writelines: wsgi.input is read-only")
    }

    #[pyo3(signature = (_size=None, /))]
    fn truncate(&self, _size: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.unsupported("truncate: wsgi.input is read-only")
    }

    fn __repr__(&self) -> String {
        if let Some(incoming) = &self.incoming {
            return format!("<wsgi.input still coming, {} bytes read>", incoming.position());
        }
        let kind = match self.body {
            Body::Empty => "empty",
            Body::Memory(_) => "in memory",
            Body::File { .. } => "spooled",
        };
        let position = self.position.load(Ordering::Relaxed);
        format!("<wsgi.input {kind}, {} bytes, at {position}>", self.length)
    }
}

impl Window {
    /// The bytes from `offset` on, at least one. The caller asks only below `len`.
    fn at(&mut self, file: &File, len: u64, offset: u64) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if !held.contains(&offset) {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(clamp(len.saturating_sub(offset), WINDOW_BYTES), 0);
            read_exact_at(file, len, offset, &mut bytes)?;
            *self = Self { start: offset, bytes };
        }
        Ok(&self.bytes[clamp(offset - self.start, self.bytes.len())..])
    }
}

/// `size` as `io` means it: `None` and negative numbers ask for everything.
fn limit(size: Option<i64>) -> u64 {
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX)
}

/// `count` in memory's terms, at most `most`.
fn clamp(count: u64, most: usize) -> usize {
    usize::try_from(count).map_or(most, |count| count.min(most))
}

fn read_exact_at(file: &File, len: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(out, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(format!(
            "the spooled request body is damaged: its file has fewer than the {len} bytes received"
        )),
        _ => error,
    })
}
