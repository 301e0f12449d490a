//! Waiting: descriptors, time, and giving way. A call registers; the next yield (or, with a suspend engine, the next
//! `suspend`) waits for whatever comes first.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use greenloom_worker::{CoreId, Interest};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction};

use super::info::require_server;
use super::request::{self, Given};
use crate::driver::server::{self, Server};
use crate::fork_guard;
use crate::traceback::reason_of;
use crate::wsgi::gateway;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(wait_fd_read, module)?)?;
    module.add_function(wrap_pyfunction!(wait_fd_write, module)?)?;
    module.add_function(wrap_pyfunction!(async_sleep, module)?)?;
    module.add_function(wrap_pyfunction!(ready_fd, module)?)?;
    module.add_function(wrap_pyfunction!(suspend, module)?)?;
    module.add_function(wrap_pyfunction!(green_schedule, module)?)?;
    module.add_function(wrap_pyfunction!(disconnect, module)?)
}

/// The functions of the environ's fdevent keys.
pub(crate) fn fdevent(py: Python<'_>) -> PyResult<[(&'static str, Bound<'_, PyCFunction>); 2]> {
    Ok([
        ("x-wsgiorg.fdevent.readable", wrap_pyfunction!(wait_fd_read, py)?),
        ("x-wsgiorg.fdevent.writable", wrap_pyfunction!(wait_fd_write, py)?),
    ])
}

/// Milliseconds, rounded up; `None` for 0 and less: no timeout.
fn milliseconds(seconds: f64, what: &str) -> PyResult<Option<u64>> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err(format!("{what} must be a number of seconds, not nan")));
    }
    if seconds <= 0.0 {
        return Ok(None);
    }
    // A hundred years are as good as for ever, and stay far from every overflow.
    let ms = (seconds * 1000.0).ceil().min(3.2e12);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and bounded above")]
    Ok(Some(ms as u64))
}

/// The server, and the running request or handler, which is to wait by a call named `name`.
fn waiting(name: &str) -> PyResult<(&'static Server, CoreId)> {
    let (server, core) = match server::current(name) {
        Ok(running) => running,
        Err(error) => {
            require_server(name)?;
            return Err(error);
        }
    };
    request::not_in_a_task(server, core, name, "await what it waits for, or asyncio.sleep()")?;
    Ok((server, core))
}

fn wait(
    py: Python<'_>,
    name: &str,
    fd: RawFd,
    interest: Interest,
    timeout: Option<f64>,
) -> PyResult<Py<PyBytes>> {
    let (server, core) = waiting(name)?;
    let timeout_ms = milliseconds(timeout.unwrap_or(0.0), "timeout")?;
    fork_guard::check();
    let waits = server.worker.borrow_mut().wait_fd(core, fd, interest, timeout_ms);
    waits.map_err(|error| {
        let reason = error.raw_os_error().unwrap_or(0);
        let text = reason_of(&error);
        PyOSError::new_err((reason, format!("unable to add fd {fd} to the event queue: {text}")))
    })?;
    Ok(PyBytes::new(py, b"").unbind())
}

/// Waits until a descriptor is ready, at most `timeout_s` seconds; whether it is. Code that can be suspended is, and
/// what it has registered before is forgotten; any other blocks where it stands.
pub(super) fn wait_here(
    py: Python<'_>,
    name: &str,
    fd: RawFd,
    interest: Interest,
    timeout_s: f64,
) -> PyResult<bool> {
    let running = server::current("*").ok();
    if let Some((server, core)) = running {
        let instead = "await a stream of asyncio's, or loop.sock_recv()";
        request::not_in_a_task(server, core, name, instead)?;
    }
    if let Some((server, core)) = running
        && server.engine.can_pause(py, server, core)
    {
        fork_guard::check();
        let until = Instant::now() + Duration::from_secs_f64(timeout_s.clamp(0.0, 1e9));
        loop {
            let left_s = until.saturating_duration_since(Instant::now()).as_secs_f64();
            let Some(timeout_ms) = milliseconds(left_s, "timeout")? else { return Ok(false) };
            {
                let mut worker = server.worker.borrow_mut();
                worker.wait_fd(core, fd, interest, Some(timeout_ms))?;
                worker.suspend(core);
            }
            gateway::pause(py, server, core)?;
            if server.worker.borrow().outcome(core).ready_fd == Some(fd) {
                return Ok(true);
            }
            // What the application had registered before has ended this one.
        }
    }
    let lists = match interest {
        Interest::Read => (vec![fd], vec![], Vec::<RawFd>::new()),
        Interest::Write => (vec![], vec![fd], vec![]),
    };
    let module = server::of_this_thread().map_or("select", |server| server.engine.waiting_modules().select);
    let ready = py.import(module)?.call_method1("select", (lists.0, lists.1, lists.2, timeout_s))?;
    let (readable, writable, _): (Vec<RawFd>, Vec<RawFd>, Vec<RawFd>) = ready.extract()?;
    Ok(!readable.is_empty() || !writable.is_empty())
}

/// `wait_fd_read(fd, timeout=0)`: the next yield waits until `fd` is readable, at most `timeout` seconds
/// (fractions count, 0 is for ever).
#[pyfunction]
#[pyo3(signature = (fd, timeout=None, /))]
fn wait_fd_read(py: Python<'_>, fd: RawFd, timeout: Option<f64>) -> PyResult<Py<PyBytes>> {
    wait(py, "wait_fd_read", fd, Interest::Read, timeout)
}

/// `wait_fd_write(fd, timeout=0)`: as `wait_fd_read`, until `fd` is writable.
#[pyfunction]
#[pyo3(signature = (fd, timeout=None, /))]
fn wait_fd_write(py: Python<'_>, fd: RawFd, timeout: Option<f64>) -> PyResult<Py<PyBytes>> {
    wait(py, "wait_fd_write", fd, Interest::Write, timeout)
}

/// `async_sleep(seconds)`: the next yield takes so long; 0 only gives way.
#[pyfunction]
#[pyo3(signature = (seconds, /))]
fn async_sleep(py: Python<'_>, seconds: f64) -> PyResult<Py<PyBytes>> {
    let (server, core) = waiting("async_sleep")?;
    if let Some(ms) = milliseconds(seconds, "seconds")? {
        server.worker.borrow_mut().sleep(core, ms);
    }
    Ok(PyBytes::new(py, b"").unbind())
}

/// The descriptor that ended the last wait; -1: none did.
#[pyfunction]
fn ready_fd() -> PyResult<RawFd> {
    require_server("ready_fd")?;
    let (server, core) = server::current("ready_fd")?;
    let outcome = server.worker.borrow().outcome(core);
    Ok(outcome.ready_fd.unwrap_or(-1))
}

/// Suspends the request where it stands until one of its registered waits ends; without any it goes to the end of the
/// run queue. Needs a suspend engine.
#[pyfunction]
fn suspend(py: Python<'_>) -> PyResult<bool> {
    give_control(py, "suspend")
}

/// The old name of `suspend`.
#[pyfunction]
fn green_schedule(py: Python<'_>) -> PyResult<bool> {
    give_control(py, "green_schedule")
}

fn give_control(py: Python<'_>, name: &str) -> PyResult<bool> {
    let (server, core) = waiting(name)?;
    if !server.engine.suspends() {
        return Err(PyRuntimeError::new_err(format!(
            "uwsgi.{name}() needs a suspend engine (uGreen: --async N --ugreen, greenlet: --async N --greenlet), and none \
             runs here: without one only a yield of the application's iterable can give way"
        )));
    }
    server.worker.borrow_mut().suspend(core);
    gateway::pause(py, server, core)?;
    Ok(true)
}

/// Closes the connection to the client; the application goes on.
#[pyfunction]
#[pyo3(signature = (*, request_context=None))]
fn disconnect(request_context: Given<'_, '_>) -> PyResult<()> {
    require_server("disconnect")?;
    request::disconnect(request_context)
}
