//! CPython's driver: the extension module `greenloom._greenloom`.
//!
//! | folder | room of |
//! | --- | --- |
//! | `driver/` | the loop, the one file that switches, what a worker keeps per core |
//! | `engine/` | what a core's coroutine is: an iterable (`none.rs`), a stack of its own (`ugreen.rs`), a greenlet (`greenlet.rs`), a task (`tasks.rs`) |
//! | `loops/` | turns under a loop that somebody else owns: gevent's, asyncio's |
//! | `job.rs` | what a core runs: a request or a handler of a uwsgi signal |
//! | `signals.rs` | uwsgi signals: handlers, and what the master is told of them |
//! | `locks.rs` | user locks of this process |
//! | `outbox.rs` | what threads of the application want of the loop's thread |
//! | `fork_guard.rs` | children of a worker that come back into the server |
//! | `blockers.rs` | code that keeps the loop from its work |
//! | `stacks.rs` | what requests in flight do, printed on demand |
//! | `interp.rs` | thread states of the interpreter: the only file that swaps them |
//! | `asgi/` | requests of ASGI applications, which are tasks |
//! | `ending.rs` | what the end of a request means, whatever its application's interface |
//! | `wsgi/` | a request from its call to its end (`gateway.rs`); environ, `start_response`, `wsgi.input`, file wrapper |
//! | `api/` | the `uwsgi` module |
//! | `load.rs` | loading applications |
//! | `application.rs` | what the process tree asks of a language |
//! | `chunk_cache.rs` | what makes a new greenlet cheap: kept chunks of the data stack |
//!
//! Two rules hold everywhere: nothing of the worker is borrowed while Python code can run, and the thread stays
//! attached to the interpreter except around the blocking wait (`driver/drive.rs`).
#![allow(unsafe_code, reason = "the hot path calls CPython's C API; every block argues")]

mod api;
mod application;
mod asgi;
mod blockers;
mod chunk_cache;
mod driver;
mod ending;
mod engine;
mod fork_guard;
mod interp;
mod job;
mod load;
mod locks;
mod loops;
mod outbox;
mod signals;
mod stacks;
mod traceback;
mod wsgi;

use std::ffi::OsString;

use pyo3::prelude::*;

/// `main(args, launch)`: runs the `greenloom` command; returns its exit code, in every process that it forks, too.
/// `launch` is how to start the same program again: the interpreter and the arguments before the user's own.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "a pyfunction's arguments are made for it")]
fn main(args: Vec<OsString>, launch: Vec<OsString>) -> i32 {
    application::main(&args, launch)
}

/// `chunk_cache_stats()`: see [`chunk_cache::stats`]; for tests and measurements.
#[pyfunction]
fn chunk_cache_stats() -> (u64, u64, u64, u64, u64) {
    chunk_cache::stats()
}

#[pymodule]
mod _greenloom {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{chunk_cache_stats, main};
    #[pymodule_export]
    use crate::asgi::run::Run;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::wsgi::input::Input::register_as_buffered_io(module.py())?;
        crate::api::register(module)
    }
}
