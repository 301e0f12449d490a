//! What code of the application wants of the loop's thread: reports to the master, and news of user locks. On that thread it
//! is done at once; what other threads of the application want waits here until the loop comes by, which they wake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use greenloom_cli::master::control::FromWorker;
use greenloom_worker::Wake;

use crate::driver::server::{self, Server};
use crate::fork_guard;

/// Something for the loop's thread.
#[derive(Debug)]
pub(crate) enum Wish {
    /// The master is to be told.
    Tell(FromWorker),
    /// A user lock that this process had is free.
    LookForLocks,
}

static WISHES: Mutex<Vec<Wish>> = Mutex::new(Vec::new());
/// Whether there are any: all that a turn of the loop looks at.
static ANY: AtomicBool = AtomicBool::new(false);
static WAKE: OnceLock<Wake> = OnceLock::new();

/// From now on wishes can be sent; once per worker process, on the loop's thread.
pub(crate) fn open(server: &Server) {
    let _ = WAKE.set(server.worker.borrow().wake_handle());
}

/// Sends a wish. `false`: no worker serves in this process yet.
pub(crate) fn send(wish: Wish) -> bool {
    if let Some(server) = server::of_this_thread() {
        fork_guard::check();
        fulfil(server, wish);
        return true;
    }
    let Some(wake) = WAKE.get() else { return false };
    WISHES.lock().unwrap_or_else(PoisonError::into_inner).push(wish);
    ANY.store(true, Ordering::Release);
    wake.notify();
    true
}

/// Does what other threads have asked for.
#[inline]
pub(crate) fn empty(server: &Server) {
    if ANY.load(Ordering::Relaxed) {
        empty_now(server);
    }
}

/// At the end of a turn: sees to it that wishes are looked at which came in the middle of it. The events of the turn may
/// have been those of their wake-up.
#[inline]
pub(crate) fn wake_for_rest() {
    if ANY.load(Ordering::Relaxed)
        && let Some(wake) = WAKE.get()
    {
        wake.notify();
    }
}

#[cold]
fn empty_now(server: &Server) {
    ANY.store(false, Ordering::Relaxed);
    let wishes = std::mem::take(&mut *WISHES.lock().unwrap_or_else(PoisonError::into_inner));
    for wish in wishes {
        fulfil(server, wish);
    }
}

fn fulfil(server: &Server, wish: Wish) {
    let mut worker = server.worker.borrow_mut();
    match wish {
        Wish::Tell(report) => worker.tell_master(&report),
        Wish::LookForLocks => worker.look_for_locks(),
    }
}
