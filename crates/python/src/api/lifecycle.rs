//! Calls that change what becomes of the instance: they only ask the master, which decides when.

use greenloom_cli::master::control::FromWorker;
use pyo3::prelude::*;

use super::info::require_server;
use crate::outbox::{self, Wish};
use crate::traceback::log_line;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(reload, module)?)?;
    module.add_function(wrap_pyfunction!(stop, module)?)
}

/// Asks for a reload of the instance, as SIGHUP to the master does. True, or None (with a line in the log) where that
/// cannot be.
#[pyfunction]
fn reload() -> PyResult<Option<bool>> {
    let info = require_server("reload")?;
    if info.master_pid == 0 {
        log_line("uwsgi.reload(): there is no master (--master) that could start the application anew");
        return Ok(None);
    }
    Ok(ask("reload", FromWorker::Reload))
}

/// Asks for a stop of the instance, as SIGTERM to the master does: requests in flight end first. True, or None (with a
/// line in the log) where that cannot be.
#[pyfunction]
fn stop() -> PyResult<Option<bool>> {
    require_server("stop")?;
    Ok(ask("stop", FromWorker::Stop))
}

fn ask(name: &str, report: FromWorker) -> Option<bool> {
    let sent = outbox::send(Wish::Tell(report));
    if !sent {
        log_line(&format!("uwsgi.{name}(): the application is still being loaded; call it in a worker"));
    }
    sent.then_some(true)
}
