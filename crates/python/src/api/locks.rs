//! User locks: `lock`, `unlock`, `is_locked`. A request or signal handler that can be suspended waits without holding up
//! its worker; everybody else (threads of the application, code outside requests, requests without a suspend engine)
//! blocks where it stands.

use greenloom_cli::master::UserLocks;
use greenloom_worker::{CoreId, Locked};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::info::require_server;
use crate::driver::server::{self, Server};
use crate::engine::WaitingModules;
use crate::outbox::{self, Wish};
use crate::wsgi::gateway;
use crate::{fork_guard, locks};

/// Time between two looks of somebody who blocks, at first and at last.
const LOOK_S: (f64, f64) = (0.0005, 0.016);

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(lock, module)?)?;
    module.add_function(wrap_pyfunction!(unlock, module)?)?;
    module.add_function(wrap_pyfunction!(is_locked, module)?)
}

/// The locks, and the number as one of them.
fn find(name: &str, number: i64) -> PyResult<(&'static UserLocks, u32)> {
    require_server(name)?;
    fork_guard::check();
    let Some(locks) = locks::get() else {
        return Err(PyOSError::new_err(format!("uwsgi.{name}(): there are no locks in this process")));
    };
    match u32::try_from(number) {
        Ok(number) if number < locks.count() => Ok((locks, number)),
        _ => Err(PyValueError::new_err(format!(
            "Invalid lock number: {number}; there are locks 0 to {} (--locks N makes N more)",
            locks.count().saturating_sub(1)
        ))),
    }
}

/// `lock(number=0)`: takes a lock of the instance, waiting for whoever has it.
#[pyfunction]
#[pyo3(signature = (number=0, /))]
fn lock(py: Python<'_>, number: i64) -> PyResult<()> {
    let (locks, number) = find("lock", number)?;
    match server::current("lock") {
        Ok((server, core)) if server.engine.can_pause(py, server, core) => wait(py, server, core, number),
        Ok((server, core)) if server.engine.awaits(server, core) => {
            if locks.acquire(number) {
                return Ok(());
            }
            locks.withdraw(number);
            Err(PyRuntimeError::new_err(format!(
                "uwsgi.lock({number}): somebody has the lock, and waiting for it would keep the loop from everybody else: \
                 an ASGI application awaits an asyncio.Lock, or asks uwsgi.is_locked() and awaits asyncio.sleep()"
            )))
        }
        _ => block(py, locks, number),
    }
}

fn wait(py: Python<'_>, server: &'static Server, core: CoreId, number: u32) -> PyResult<()> {
    loop {
        let locked = server.worker.borrow_mut().lock(core, number);
        if locked == Locked::Now {
            return Ok(());
        }
        let resumed = gateway::pause(py, server, core);
        let has_it = server.worker.borrow_mut().lock_outcome(core, number);
        match resumed {
            Ok(()) if has_it => return Ok(()),
            Ok(()) => {}
            Err(error) => {
                if has_it {
                    server.worker.borrow_mut().unlock(number);
                }
                return Err(error);
            }
        }
    }
}

fn block(py: Python<'_>, locks: &UserLocks, number: u32) -> PyResult<()> {
    let server = server::of_this_thread();
    let modules = server.map_or(WaitingModules::STANDARD, |server| server.engine.waiting_modules());
    // Where the pause lets others run, one of them can unlock it.
    let blocks = modules.sleep == WaitingModules::STANDARD.sleep;
    let (mut pause_s, longest_s) = LOOK_S;
    while !locks.acquire(number) {
        if let Some(server) = server {
            if blocks && locks.is_ours(number) {
                return Err(PyRuntimeError::new_err(format!(
                    "uwsgi.lock({number}) would wait for ever: this worker has the lock, and while this call blocks it \
                     nobody can unlock it (with a suspend engine, --ugreen or --greenlet, requests wait for each other)"
                )));
            }
            outbox::empty(server);
        }
        let slept = py.import(modules.sleep)?.call_method1("sleep", (pause_s,));
        if let Err(error) = slept {
            locks.withdraw(number);
            return Err(error);
        }
        pause_s = (pause_s * 2.0).min(longest_s);
    }
    Ok(())
}

/// `unlock(number=0)`: gives a lock back that this process has; nothing if it has not.
#[pyfunction]
#[pyo3(signature = (number=0, /))]
fn unlock(number: i64) -> PyResult<()> {
    let (locks, number) = find("unlock", number)?;
    if let Some(server) = server::of_this_thread() {
        server.worker.borrow_mut().unlock(number);
    } else {
        locks.release(number);
        outbox::send(Wish::LookForLocks);
    }
    Ok(())
}

/// `is_locked(number=0)`: whether anybody in the instance has the lock.
#[pyfunction]
#[pyo3(signature = (number=0, /))]
fn is_locked(number: i64) -> PyResult<bool> {
    let (locks, number) = find("is_locked", number)?;
    Ok(locks.is_locked(number))
}
