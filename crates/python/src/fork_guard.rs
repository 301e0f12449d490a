//! What happens when an application forks in a request and its child comes back into the server.
//!
//! The child has the parent's connections, cores and reactor, and only one of its threads; whatever it did with them
//! would reach the parent's clients. Children that leave by `exec` or `os._exit` (`subprocess`, `multiprocessing`) never
//! come here.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::traceback::log_line;

/// Exit status of a child that came back.
const CAME_BACK: i32 = 70;

static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Notes every fork from now on; once per worker process.
pub(crate) fn install() {
    // SAFETY: the handler only stores to an atomic.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

/// Where application code returns to the server: ends a child of the worker.
#[inline]
pub(crate) fn check() {
    if FORKED.load(Ordering::Relaxed) {
        end();
    }
}

#[cold]
fn end() -> ! {
    log_line(&format!(
        "process {}, forked by the application in a request, has come back into the server: it ends here (status \
         {CAME_BACK}); end such a process with os._exit(), or use subprocess or multiprocessing",
        std::process::id()
    ));
    // SAFETY: ends the process at once; nothing of the parent's is touched.
    unsafe { libc::_exit(CAME_BACK) }
}
