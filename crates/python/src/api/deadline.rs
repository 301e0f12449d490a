//! `set_user_harakiri`: a request bounds its own time.
//!
//! In uWSGI the deadline is the worker's, and kills it. Here it is the request's: one that is suspended when it is over, or
//! suspends later, is cancelled alone, as by `--request-timeout`; one that blocks the worker until then has it killed by
//! the master, as by `--harakiri`. Which of the two is the worker's and the master's business.

use std::sync::Once;

use pyo3::prelude::*;

use super::info::{self, require_server};
use super::request::Given;
use crate::driver::server;
use crate::traceback::log_line;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(set_user_harakiri, module)?)
}

/// `set_user_harakiri(seconds)`: the running request has so many seconds from now on; 0 takes that back.
#[pyfunction]
#[pyo3(signature = (seconds, /, *, request_context=None))]
fn set_user_harakiri(py: Python<'_>, seconds: i64, request_context: Given<'_, '_>) -> PyResult<()> {
    static SAID: Once = Once::new();
    require_server("set_user_harakiri")?;
    let (server, core) = match request_context {
        Some(context) => context.get().find()?,
        None => server::current("set_user_harakiri")?,
    };
    let runs = server.engine.current(py, server) == Some(core);
    if info::server().is_some_and(|info| info.master_pid == 0) {
        // A request that suspends is cancelled all the same.
        SAID.call_once(|| log_line("!!! unable to set user harakiri without the master process !!!"));
    }
    let ms = u64::try_from(seconds)
        .ok()
        .filter(|&seconds| seconds > 0)
        .map(|seconds| seconds.saturating_mul(1000));
    server.worker.borrow_mut().set_user_deadline(core, ms, runs);
    Ok(())
}
