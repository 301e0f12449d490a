//! Calls that talk to the current request's client past the WSGI interface.
//!
//! Owns argument handling; the bytes, and files, go out through `request.rs`, under the same bounds as every other
//! output.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use greenloom_worker::open_without_waiting;

use super::info::require_server;
use super::request::Given;
use super::{Text, request, sockets};
use crate::wsgi::file_wrapper::Rest;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cl, module)?)?;
    module.add_function(wrap_pyfunction!(connection_fd, module)?)?;
    module.add_function(wrap_pyfunction!(send, module)?)?;
    module.add_function(wrap_pyfunction!(chunked_read, module)?)?;
    module.add_function(wrap_pyfunction!(chunked_read_nb, module)?)?;
    module.add_function(wrap_pyfunction!(sendfile, module)?)
}

/// The current request's content length in bytes.
#[pyfunction]
#[pyo3(signature = (*, request_context=None))]
fn cl(request_context: Given<'_, '_>) -> PyResult<u64> {
    require_server("cl")?;
    request::content_length(request_context)
}

/// The descriptor of the current request's connection: to wait for, not to read or close.
#[pyfunction]
#[pyo3(signature = (*, request_context=None))]
fn connection_fd(request_context: Given<'_, '_>) -> PyResult<RawFd> {
    require_server("connection_fd")?;
    request::connection_fd(request_context)
}

/// `send(data)`: raw bytes to the client, past the headers; `send(fd, data)`: to any descriptor.
///
/// True, or None when the other side is gone or (with a descriptor) not ready to take anything.
#[pyfunction]
#[pyo3(signature = (fd_or_data, data=None, /, *, request_context=None))]
fn send(
    py: Python<'_>,
    fd_or_data: &Bound<'_, PyAny>,
    data: Option<&Bound<'_, PyBytes>>,
    request_context: Given<'_, '_>,
) -> PyResult<Option<bool>> {
    require_server("send")?;
    let sent = match data {
        Some(data) => sockets::write_all(py, fd_or_data.extract()?, data)?,
        None => request::send_raw(py, request_context, fd_or_data.cast::<PyBytes>()?.as_bytes())?,
    };
    Ok(sent.then_some(true))
}

/// The next piece of the request's body, `b''` at its end.
///
/// The boundaries of the client's chunks are gone: a piece is whatever is there, 64 KiB at most. A body that came before
/// the application ran is not waited for; one that is still coming (`--body-early`) is, for `timeout` seconds at most
/// (0: as long as the server waits).
#[pyfunction]
#[pyo3(signature = (timeout=0.0, /, *, request_context=None))]
fn chunked_read<'py>(
    py: Python<'py>,
    timeout: f64,
    request_context: Given<'_, 'py>,
) -> PyResult<Bound<'py, PyBytes>> {
    require_server("chunked_read")?;
    let timeout = Duration::try_from_secs_f64(timeout).ok().filter(|timeout| !timeout.is_zero());
    request::input(py, request_context)?.get().piece(py, timeout)
}

/// As `chunked_read`, without waiting; `None`: nothing is there yet.
#[pyfunction]
#[pyo3(signature = (*, request_context=None))]
fn chunked_read_nb<'py>(
    py: Python<'py>,
    request_context: Given<'_, 'py>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    require_server("chunked_read_nb")?;
    request::input(py, request_context)?.get().piece_now(py)
}

/// Sends the headers and a regular file now: `sendfile(path_or_file_or_fd, chunk=0, pos=0, size=0)`.
///
/// `chunk` has no meaning, `size` 0 is the rest of the file from `pos`. The server closes the descriptor or
/// file object it was given, whatever happens. True, or None when a path cannot be opened.
#[pyfunction]
#[pyo3(signature = (what, chunk=0, pos=0, size=0, /, *, request_context=None))]
fn sendfile(
    py: Python<'_>,
    what: &Bound<'_, PyAny>,
    chunk: i64,
    pos: u64,
    size: u64,
    request_context: Given<'_, '_>,
) -> PyResult<Option<bool>> {
    require_server("sendfile")?;
    let _ = chunk;
    if what.is_instance_of::<PyString>() || what.is_instance_of::<PyBytes>() {
        let path: Text = what.extract()?;
        let Ok(file) = open(&path) else { return Ok(None) };
        return send_range(py, request_context, &file, pos, size).map(|()| Some(true));
    }
    if let Ok(fd) = what.extract::<RawFd>() {
        let sent = borrow(fd).and_then(|file| send_range(py, request_context, &file, pos, size));
        sockets::close_quietly(py, fd);
        return sent.map(|()| Some(true));
    }
    let sent = (|| {
        if what.hasattr("flush")? {
            what.call_method0("flush")?;
        }
        let fd = what.call_method0("fileno")?.extract()?;
        borrow(fd).and_then(|file| send_range(py, request_context, &file, pos, size))
    })();
    let closed = what.call_method0("close");
    sent?;
    closed.map(|_| Some(true))
}

fn open(path: &Text) -> io::Result<File> {
    use std::os::unix::ffi::OsStrExt;
    // What is no regular file is refused; until that is known nobody waits for whoever writes into a FIFO.
    open_without_waiting(std::path::Path::new(std::ffi::OsStr::from_bytes(&path.0)))
}

/// The file behind a descriptor that stays the application's.
fn borrow(fd: RawFd) -> PyResult<ManuallyDrop<File>> {
    if fd < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
    }
    // SAFETY: `fd` is not negative, and `ManuallyDrop` leaves closing it to the caller. A number that is no
    // open descriptor only makes the system calls on it fail.
    Ok(ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
}

fn send_range(py: Python<'_>, given: Given<'_, '_>, file: &File, pos: u64, size: u64) -> PyResult<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "uwsgi.sendfile needs a regular file").into());
    }
    let left = metadata.len().saturating_sub(pos);
    let len = if size == 0 { left } else { size.min(left) };
    // A descriptor of its own: the one that was given is closed.
    request::send_file(py, given, Rest { file: file.try_clone()?, offset: pos, len })
}
