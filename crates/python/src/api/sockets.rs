//! Calls on descriptors the application owns: connect, receive, probe, close.
//!
//! Owns small adapters over CPython's C modules `_socket` and `posix`, which release the interpreter lock
//! where they block, retry after signals, and are not what gevent patches. Waiting for readiness belongs to
//! the waits: `connect` and `recv` on a blocking descriptor hold up the whole worker, as in uWSGI.

use std::os::fd::RawFd;

use pyo3::exceptions::{PyBlockingIOError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use greenloom_worker::Interest;

use super::info::require_server;
use super::{Text, waits};

/// `errno` of a non-blocking connect that is under way (Linux, all architectures served).
const EINPROGRESS: i32 = 115;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(connect, module)?)?;
    module.add_function(wrap_pyfunction!(async_connect, module)?)?;
    module.add_function(wrap_pyfunction!(is_connected, module)?)?;
    module.add_function(wrap_pyfunction!(recv, module)?)?;
    module.add_function(wrap_pyfunction!(close, module)?)
}

/// Connects to `host:port` or a UNIX socket's path (`@name`: abstract); the descriptor, -1 on failure.
///
/// Blocks the worker for at most `timeout` seconds (0: the socket timeout).
#[pyfunction]
#[pyo3(signature = (address, timeout=0.0, /))]
fn connect(py: Python<'_>, address: Text, timeout: f64) -> PyResult<RawFd> {
    let info = require_server("connect")?;
    let seconds = if timeout > 0.0 { timeout } else { info.socket_timeout_s };
    let connect_to = |target: &Target<'_>| -> PyResult<RawFd> {
        let socket = target.new_socket()?;
        socket.call_method1(intern!(py, "settimeout"), (seconds,))?;
        socket.call_method1(intern!(py, "connect"), (&target.address,))?;
        socket.call_method1(intern!(py, "setblocking"), (true,))?;
        socket.call_method0(intern!(py, "detach"))?.extract()
    };
    first_that_works(py, address, connect_to)
}

/// As `connect`, but a request that can be suspended is, until the connection is there.
pub(super) fn connect_waiting(py: Python<'_>, address: Text, timeout_s: f64) -> PyResult<RawFd> {
    let fd = async_connect(py, address)?;
    if fd < 0 {
        return Ok(-1);
    }
    let connected =
        waits::wait_here(py, "signal", fd, Interest::Write, timeout_s).and_then(|_| is_connected(py, fd));
    match connected {
        Ok(true) => Ok(fd),
        Ok(false) => {
            close_quietly(py, fd);
            Ok(-1)
        }
        Err(error) => {
            close_quietly(py, fd);
            Err(error)
        }
    }
}

/// Begins to connect and returns the non-blocking descriptor, -1 on failure. Wait for it to be writable, then
/// ask `is_connected`.
#[pyfunction]
#[pyo3(signature = (address, /))]
fn async_connect(py: Python<'_>, address: Text) -> PyResult<RawFd> {
    require_server("async_connect")?;
    let begin = |target: &Target<'_>| -> PyResult<RawFd> {
        let socket = target.new_socket()?;
        socket.call_method1(intern!(py, "setblocking"), (false,))?;
        match socket.call_method1(intern!(py, "connect_ex"), (&target.address,))?.extract()? {
            0 | EINPROGRESS => socket.call_method0(intern!(py, "detach"))?.extract(),
            errno => Err(std::io::Error::from_raw_os_error(errno).into()),
        }
    };
    first_that_works(py, address, begin)
}

/// Whether a socket is connected: no error pending, a peer there, and not closed by it.
#[pyfunction]
#[pyo3(signature = (fd, /))]
fn is_connected(py: Python<'_>, fd: RawFd) -> PyResult<bool> {
    require_server("is_connected")?;
    Ok(with_socket(py, fd, |socket| {
        let constant = |name| py.import("_socket")?.getattr(name);
        let pending: i32 =
            socket.call_method1("getsockopt", (constant("SOL_SOCKET")?, constant("SO_ERROR")?))?.extract()?;
        if pending != 0 {
            return Ok(false);
        }
        socket.call_method0("getpeername")?;
        let peek = constant("MSG_PEEK")?;
        match socket.call_method1("recv", (1, peek)) {
            Ok(bytes) => bytes.is_truthy(),
            Err(err) => Ok(err.is_instance_of::<PyBlockingIOError>(py)),
        }
    })
    .unwrap_or(false))
}

/// Reads from a descriptor; None at its end, on errors, and when a non-blocking one has nothing.
#[pyfunction]
#[pyo3(signature = (fd, size=4096, /))]
fn recv(py: Python<'_>, fd: RawFd, size: usize) -> PyResult<Option<Bound<'_, PyAny>>> {
    require_server("recv")?;
    match py.import("posix")?.call_method1(intern!(py, "read"), (fd, size)) {
        Ok(bytes) => Ok(if bytes.is_truthy()? { Some(bytes) } else { None }),
        Err(err) if err.is_instance_of::<PyOSError>(py) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Closes a descriptor; one that is not open is ignored.
#[pyfunction]
#[pyo3(signature = (fd, /))]
fn close(py: Python<'_>, fd: RawFd) -> PyResult<()> {
    require_server("close")?;
    close_quietly(py, fd);
    Ok(())
}

/// Closes a descriptor of the application; errors are of no use to anybody.
pub(super) fn close_quietly(py: Python<'_>, fd: RawFd) {
    let closed = py.import("posix").and_then(|posix| posix.call_method1(intern!(py, "close"), (fd,)));
    drop(closed);
}

/// Writes all of `data` to a descriptor of the application. False when nothing could be written; raises when
/// only a part could, because that part cannot be taken back.
pub(super) fn write_all(py: Python<'_>, fd: RawFd, data: &Bound<'_, PyBytes>) -> PyResult<bool> {
    let posix = py.import("posix")?;
    let total = data.as_bytes().len();
    let mut done = 0;
    while done < total {
        let rest = if done == 0 { data.clone() } else { PyBytes::new(py, &data.as_bytes()[done..]) };
        match posix.call_method1(intern!(py, "write"), (fd, rest)) {
            Ok(count) => done += count.extract::<usize>()?,
            Err(err) if done == 0 && err.is_instance_of::<PyOSError>(py) => return Ok(false),
            Err(err) => {
                let failed = PyOSError::new_err(format!("uwsgi.send(): {done} of {total} bytes written"));
                failed.set_cause(py, Some(err));
                return Err(failed);
            }
        }
    }
    Ok(true)
}

/// Connections in the accept queue of a TCP listener; 0 for anything else.
pub(super) fn backlog_in_use(py: Python<'_>, fd: RawFd) -> u32 {
    const TCP_INFO_BYTES: usize = 104;
    // linux/tcp.h: of a listener, `tcpi_unacked` is the length of the accept queue.
    const TCPI_UNACKED_AT: usize = 24;
    with_socket(py, fd, |socket| {
        let constant = |name| py.import("_socket")?.getattr(name);
        let what = (constant("IPPROTO_TCP")?, constant("TCP_INFO")?, TCP_INFO_BYTES);
        let info: Vec<u8> = socket.call_method1("getsockopt", what)?.extract()?;
        let field = info.get(TCPI_UNACKED_AT..TCPI_UNACKED_AT + 4).and_then(|bytes| bytes.try_into().ok());
        Ok(field.map_or(0, u32::from_ne_bytes))
    })
    .unwrap_or(0)
}

/// Runs `probe` on a non-blocking socket object over `fd`, and leaves `fd` as it was.
fn with_socket<T>(
    py: Python<'_>,
    fd: RawFd,
    probe: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<T> {
    let posix = py.import("posix")?;
    let blocking: bool = posix.call_method1("get_blocking", (fd,))?.extract()?;
    let options = pyo3::types::PyDict::new(py);
    options.set_item("fileno", fd)?;
    let socket = py.import("_socket")?.getattr("socket")?.call((), Some(&options))?;
    let outcome = socket.call_method1("setblocking", (false,)).and_then(|_| probe(&socket));
    socket.call_method0("detach")?;
    posix.call_method1("set_blocking", (fd, blocking))?;
    outcome
}

/// One address to try: the socket's (family, kind, protocol), and what `connect` takes.
struct Target<'py> {
    kind: (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>),
    address: Bound<'py, PyAny>,
}

impl<'py> Target<'py> {
    fn new_socket(&self) -> PyResult<Bound<'py, PyAny>> {
        let socket = self.address.py().import("_socket")?.getattr("socket")?;
        socket.call1((&self.kind.0, &self.kind.1, &self.kind.2))
    }
}

fn first_that_works(
    py: Python<'_>,
    address: Text,
    connect_to: impl Fn(&Target<'_>) -> PyResult<RawFd>,
) -> PyResult<RawFd> {
    let attempts = targets(py, address).and_then(|targets| {
        for target in &targets {
            match connect_to(target) {
                Err(err) if err.is_instance_of::<PyOSError>(py) => {}
                fd => return fd,
            }
        }
        Ok(-1)
    });
    match attempts {
        Err(err) if err.is_instance_of::<PyOSError>(py) => Ok(-1),
        other => other,
    }
}

/// What `address` may stand for, in the order to try.
fn targets(py: Python<'_>, address: Text) -> PyResult<Vec<Target<'_>>> {
    let sockets = py.import("_socket")?;
    let stream = sockets.getattr("SOCK_STREAM")?;
    let text = address.to_lossy();
    let port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = port else {
        let Text(path) = address;
        let path = match path.strip_prefix(b"@") {
            Some(name) => [b"\0", name].concat(),
            None => path,
        };
        let kind = (sockets.getattr("AF_UNIX")?, stream, 0_i32.into_pyobject(py)?.into_any());
        return Ok(vec![Target { kind, address: PyBytes::new(py, &path).into_any() }]);
    };
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        "" => "127.0.0.1",
        host => host,
    };
    let found = sockets.call_method1("getaddrinfo", (host, port, 0, stream))?;
    found
        .try_iter()?
        .map(|entry| {
            let entry = entry?;
            let kind = (entry.get_item(0)?, entry.get_item(1)?, entry.get_item(2)?);
            Ok(Target { kind, address: entry.get_item(4)? })
        })
        .collect()
}
