//! uwsgi signals: registering handlers and sources, raising signals, waiting for one.
//!
//! Owns the checks of arguments, which are made at once, so that what the master refuses later is rare. The handlers are kept in
//! `crate::signals`.

use std::os::unix::ffi::OsStrExt as _;

use greenloom_cli::master::control::{FromWorker, Registration};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::Text;
use super::info::{ServerInfo, require_server};
use super::request;
use crate::driver::{drive, server};
use crate::outbox::{self, Wish};
use crate::traceback::log_line;
use crate::wsgi::gateway;
use crate::{fork_guard, signals};

/// Numbers of uwsgi signals.
const NUMBERS: std::ops::RangeInclusive<i64> = 0..=255;
/// The five fields of a cron: name, smallest, largest. A negative number -n is every n, and -1 any.
const CRON_FIELDS: [(&str, i64, i64); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7)];
/// Longest interval of a timer: a hundred years.
const LONGEST_S: f64 = 3.2e9;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(register_signal, module)?)?;
    module.add_function(wrap_pyfunction!(signal, module)?)?;
    module.add_function(wrap_pyfunction!(signal_wait, module)?)?;
    module.add_function(wrap_pyfunction!(signal_received, module)?)?;
    module.add_function(wrap_pyfunction!(signal_registered, module)?)?;
    module.add_function(wrap_pyfunction!(add_timer, module)?)?;
    module.add_function(wrap_pyfunction!(add_rb_timer, module)?)?;
    module.add_function(wrap_pyfunction!(add_cron, module)?)?;
    module.add_function(wrap_pyfunction!(add_file_monitor, module)?)
}

fn signal_number(number: i64) -> PyResult<u8> {
    match u8::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => Err(PyValueError::new_err(format!(
            "uwsgi signals have numbers from {} to {}, not {number}",
            NUMBERS.start(),
            NUMBERS.end()
        ))),
    }
}

/// The master delivers signals and raises them: without one nothing can be registered. `what` as uWSGI says it.
fn require_master(info: &ServerInfo, what: &str) -> PyResult<()> {
    if info.master_pid == 0 {
        log_line("you cannot register signals without a master");
        return Err(PyValueError::new_err(format!("{what}: there is no master (--master)")));
    }
    Ok(())
}

/// Who runs a handler; everything uWSGI knows, and what of it is here.
fn check_target(target: &str, info: &ServerInfo) -> Result<(), String> {
    if matches!(target, "" | "worker" | "workers" | "active-workers") {
        return Ok(());
    }
    let elsewhere = ["mule", "farm", "spooler"].iter().find(|name| target.starts_with(**name));
    if let Some(name) = elsewhere {
        return Err(format!(
            "greenloom has no {name}s: the targets are worker, worker1, ..., workers and active-workers"
        ));
    }
    if target == "subscribed" {
        return Err("greenloom has no subscriptions".to_owned());
    }
    let Some(digits) =
        target.strip_prefix("worker").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
    else {
        return Err(
            "the targets are worker (or nothing), worker1, ..., workers and active-workers".to_owned()
        );
    };
    match digits.parse::<u32>() {
        Ok(worker) if worker <= info.processes => Ok(()),
        _ => Err(format!("there are {} workers", info.processes)),
    }
}

/// `register_signal(number, target, handler)`: `handler(number)` runs in the workers that the target names whenever the
/// signal is raised.
#[pyfunction]
#[pyo3(signature = (number, target, handler, /))]
fn register_signal(number: i64, target: Text, handler: &Bound<'_, PyAny>) -> PyResult<()> {
    const WHAT: &str = "unable to register signal";
    let info = require_server("register_signal")?;
    let number = signal_number(number)?;
    if !handler.is_callable() {
        return Err(PyValueError::new_err(format!(
            "{WHAT} {number}: the handler is not callable, but a {}",
            handler.get_type().name()?
        )));
    }
    let Ok(target) = String::from_utf8(target.0) else {
        return Err(PyValueError::new_err(format!("{WHAT} {number}: the target is not text")));
    };
    check_target(&target, &info).map_err(|reason| {
        PyValueError::new_err(format!("{WHAT} {number} for the target {target:?}: {reason}"))
    })?;
    require_master(&info, WHAT)?;
    // Once it serves a worker may change its mind; while the application is loaded, two parts of it are in each other's way.
    signals::register_handler(number, &target, handler, info.ready).map_err(|there| {
        log_line("[uwsgi-signal] you cannot re-register a signal as the master !!!");
        PyValueError::new_err(format!(
            "{WHAT} {number} for the target {target:?}: it has another handler already, for the target {there:?}"
        ))
    })
}

/// `signal(number)`: raises a signal; `signal(number, "host:port")`: that of another instance.
#[pyfunction]
#[pyo3(signature = (number, node=None, /))]
fn signal(py: Python<'_>, number: i64, node: Option<Text>) -> PyResult<()> {
    let info = require_server("signal")?;
    let number = signal_number(number)?;
    if let Some(node) = node {
        return super::remote_signal::raise(py, number, node);
    }
    if info.master_pid == 0 {
        return Err(PyOSError::new_err(format!(
            "unable to deliver signal {number}: there is no master (--master)"
        )));
    }
    if !outbox::send(Wish::Tell(FromWorker::Signal(number))) {
        return Err(PyOSError::new_err(format!(
            "unable to deliver signal {number}: no worker serves in this process yet; raise it in \
             uwsgi.post_fork_hook or in a request"
        )));
    }
    Ok(())
}

/// `signal_wait(number=any)`: waits until that signal has come to this worker and its handler has run.
#[pyfunction]
#[pyo3(signature = (number=None, /))]
fn signal_wait(py: Python<'_>, number: Option<i64>) -> PyResult<Py<PyBytes>> {
    let info = require_server("signal_wait")?;
    let number = number.map(signal_number).transpose()?;
    require_master(&info, "unable to wait for a signal")?;
    let (server, core) = server::current("signal_wait")?;
    let instead = "await an asyncio.Event that the handler of the signal sets";
    request::not_in_a_task(server, core, "signal_wait", instead)?;
    fork_guard::check();
    if server.engine.suspends() {
        server.worker.borrow_mut().wait_signal(core, number);
        gateway::pause(py, server, core)?;
    } else if server.is_signal_core(core) {
        return Err(PyRuntimeError::new_err(
            "uwsgi.signal_wait() was called in a handler of a uwsgi signal: without a suspend engine no other handler can \
             run meanwhile",
        ));
    } else {
        let received = drive::wait_for_signal(py, server, core, number)?;
        server.worker.borrow_mut().note_received_signal(core, received);
    }
    Ok(PyBytes::new(py, b"").unbind())
}

/// The signal that ended the last `signal_wait` of this request; -1: there was none.
#[pyfunction]
fn signal_received() -> PyResult<i32> {
    require_server("signal_received")?;
    let (server, core) = server::current("signal_received")?;
    Ok(server.worker.borrow().received_signal(core).map_or(-1, i32::from))
}

/// `signal_registered(number)`: True if the signal has a handler in this process, None if not.
#[pyfunction]
#[pyo3(signature = (number, /))]
fn signal_registered(number: i64) -> PyResult<Option<bool>> {
    require_server("signal_registered")?;
    Ok(signals::has_handler(signal_number(number)?).then_some(true))
}

fn register_source(what: &str, kind: &str, source: Registration) -> PyResult<()> {
    let info = require_server(kind)?;
    require_master(&info, what)?;
    signals::register_source(source, info.ready).map_err(|most| {
        log_line(&format!("you can register max {most} {kind} !!!"));
        PyValueError::new_err(format!("{what}: a process can register {most} {kind} at most"))
    })
}

fn timer(number: i64, seconds: f64, iterations: i64, what: &str) -> PyResult<()> {
    let number = signal_number(number)?;
    if !(seconds > 0.0 && seconds <= LONGEST_S) {
        return Err(PyValueError::new_err(format!(
            "{what}: {seconds} is no number of seconds between two signals"
        )));
    }
    let Ok(iterations) = u32::try_from(iterations) else {
        return Err(PyValueError::new_err(format!(
            "{what}: {iterations} is no number of times; 0 is for ever"
        )));
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and bounded above")]
    let interval_ms = (seconds * 1000.0).round().max(1.0) as u64;
    register_source(what, "timers", Registration::Timer { number, interval_ms, iterations })
}

/// `add_timer(number, seconds)`: raises the signal at intervals; fractions count.
#[pyfunction]
#[pyo3(signature = (number, seconds, /))]
fn add_timer(number: i64, seconds: f64) -> PyResult<()> {
    require_server("add_timer")?;
    timer(number, seconds, 0, "unable to add timer")
}

/// `add_rb_timer(number, seconds, iterations=0)`: as `add_timer`, so many times; 0 is for ever.
#[pyfunction]
#[pyo3(signature = (number, seconds, iterations=0, /))]
fn add_rb_timer(number: i64, seconds: f64, iterations: i64) -> PyResult<()> {
    require_server("add_rb_timer")?;
    timer(number, seconds, iterations, "unable to add rb_timer")
}

/// `add_cron(number, minute, hour, day, month, weekday)`: raises the signal at these times; -1 is any, -n every n.
#[pyfunction]
#[pyo3(signature = (number, minute, hour, day, month, weekday, /))]
fn add_cron(number: i64, minute: i64, hour: i64, day: i64, month: i64, weekday: i64) -> PyResult<bool> {
    const WHAT: &str = "unable to add cron";
    require_server("add_cron")?;
    let number = signal_number(number)?;
    let mut fields = [0; 5];
    for ((field, value), (name, least, most)) in
        fields.iter_mut().zip([minute, hour, day, month, weekday]).zip(CRON_FIELDS)
    {
        *field = match i32::try_from(value) {
            Ok(field) if (-most..0).contains(&value) || (least..=most).contains(&value) => field,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "{WHAT}: {value} is no {name}: {least} to {most}, -1 for any, -n for every n"
                )));
            }
        };
    }
    register_source(WHAT, "cron", Registration::Cron { number, fields })?;
    Ok(true)
}

/// `add_file_monitor(number, path)`: raises the signal when the file or directory changes.
#[pyfunction]
#[pyo3(signature = (number, path, /))]
fn add_file_monitor(number: i64, path: &Bound<'_, PyAny>) -> PyResult<()> {
    const WHAT: &str = "unable to add file monitor";
    require_server("add_file_monitor")?;
    let number = signal_number(number)?;
    let path: std::path::PathBuf = match path.extract::<Text>() {
        Ok(Text(bytes)) => std::ffi::OsStr::from_bytes(&bytes).into(),
        Err(_) => {
            path.extract().map_err(|_| PyTypeError::new_err("a path is a str, bytes or os.PathLike"))?
        }
    };
    if path.as_os_str().is_empty() || path.as_os_str().as_bytes().contains(&0) {
        return Err(PyValueError::new_err(format!("{WHAT}: {} is no path", path.display())));
    }
    // The application may change its directory; the master has another one.
    let path = std::path::absolute(&path)
        .map_err(|error| PyValueError::new_err(format!("{WHAT}: {}: {error}", path.display())))?;
    let path = path.into_os_string().into_encoded_bytes();
    register_source(WHAT, "file monitors", Registration::FileMonitor { number, path })
}
