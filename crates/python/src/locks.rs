//! The user locks of this process: where they come from, and the worker's view of them.

use std::rc::Rc;
use std::sync::OnceLock;

use greenloom_cli::master;

use crate::traceback::log_line;

static LOCKS: OnceLock<master::UserLocks> = OnceLock::new();

/// The locks of the instance, from whoever made them for all its processes.
pub(crate) fn share(locks: master::UserLocks) {
    let _ = LOCKS.set(locks);
}

/// Sees to it that there are locks before anybody is forked who should share them: `extra` beside the first.
pub(crate) fn ensure(extra: u32) {
    if LOCKS.get().is_some() {
        return;
    }
    match master::UserLocks::create(extra.saturating_add(1)) {
        Ok(locks) => share(locks),
        Err(error) => log_line(&format!("cannot make the user locks: {error}")),
    }
}

/// The locks, if there are any.
pub(crate) fn get() -> Option<&'static master::UserLocks> {
    LOCKS.get()
}

/// For the worker.
pub(crate) fn for_worker() -> Option<Rc<dyn greenloom_worker::UserLocks>> {
    get().map(|locks| Rc::new(Shared(locks)) as Rc<dyn greenloom_worker::UserLocks>)
}

#[derive(Debug)]
struct Shared(&'static master::UserLocks);

impl greenloom_worker::UserLocks for Shared {
    fn count(&self) -> u32 {
        self.0.count()
    }

    fn acquire(&self, number: u32) -> bool {
        self.0.acquire(number)
    }

    fn withdraw(&self, number: u32) {
        self.0.withdraw(number);
    }

    fn release(&self, number: u32) {
        self.0.release(number);
    }

    fn is_ours(&self, number: u32) -> bool {
        self.0.is_ours(number)
    }

    fn others_wait(&self, number: u32) -> bool {
        self.0.others_wait(number)
    }
}
