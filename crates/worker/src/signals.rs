//! uwsgi signals in a worker: those that have come wait here, bounded, until their handlers run in signal cores; and who
//! waits for one (`uwsgi.signal_wait`) goes on once its handler has run.
//!
//! Which worker gets a signal is the master's business, and what a handler is the driver's. (Posix signals are neither's:
//! see the driver.)

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};

use greenloom_proto::control::FromWorker;
use greenloom_sys::process;

use crate::cores::table::State;
use crate::worker::Worker;
use crate::{Action, Cancel, CoreId};

/// Signals that may wait for a handler. Far more than a worker that lives ever has: a byte each, but who finds a
/// thousand before it waits for more than their handlers.
const QUEUED: usize = 1024;
/// How often the log says that signals are dropped.
const DROPPED_EVERY_MS: u64 = 1000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    queue: VecDeque<u8>,
    waiters: Vec<SignalWaiter>,
    /// Dropped since the log said so, and when that was.
    dropped: u64,
    dropped_logged_ms: Option<u64>,
}

/// The control socket, to wait for while nothing of the worker is borrowed.
#[derive(Debug)]
pub struct Orders(OwnedFd);

impl Orders {
    /// Waits until something has come, `at_most_ms` milliseconds or until a posix signal.
    pub fn wait(&self, at_most_ms: u64) {
        // An error is no reason to wait longer: whoever calls looks for himself.
        let _ = process::wait_readable(&[self.0.as_fd()], Some(at_most_ms));
    }
}

/// A core that waits for a signal, since its suspension number `epoch`.
#[derive(Clone, Copy, Debug)]
struct SignalWaiter {
    core: CoreId,
    epoch: u32,
    /// `None`: any.
    number: Option<u8>,
}

impl Worker {
    /// A uwsgi signal for this worker has come.
    pub(crate) fn signal_came(&mut self, number: u8) {
        if self.signals.queue.len() < QUEUED {
            self.signals.queue.push_back(number);
            return;
        }
        self.tell_master(&FromWorker::SignalTaken(number));
        self.counters.signals_dropped += 1;
        self.signals.dropped += 1;
        let now = self.reactor.now_ms();
        if self.signals.dropped_logged_ms.is_none_or(|at| now >= at + DROPPED_EVERY_MS) {
            self.signals.dropped_logged_ms = Some(now);
            let dropped = std::mem::take(&mut self.signals.dropped);
            self.log_server(&format!(
                "*** SIGNAL QUEUE IS FULL: {QUEUED} signals wait for their handlers in this worker; {dropped} dropped, the \
                 last one is signal {number} ***"
            ));
        }
    }

    /// Whether a signal waits that could have a core.
    pub(crate) fn has_handler_to_start(&self) -> bool {
        !self.signals.queue.is_empty() && self.cores.has_free_signal()
    }

    /// Sends the handler of the next signal on its way; `false`: no signal, or no core.
    pub(crate) fn start_handler(&mut self) -> bool {
        match self.next_handler() {
            Some((core, number)) => {
                self.decide(core, Action::Signal(core, number));
                true
            }
            None => false,
        }
    }

    /// Gives the signal that has waited longest a core: its handler is the caller's to run, as for [`Action::Signal`].
    /// For drivers that wait for a signal in the middle of a request ([`Self::receive_orders`]).
    pub fn next_handler(&mut self) -> Option<(CoreId, u8)> {
        let number = *self.signals.queue.front()?;
        let core = self.cores.take_signal(number)?;
        self.signals.queue.pop_front();
        // Only now: what this process does not come to is for others.
        self.tell_master(&FromWorker::SignalTaken(number));
        self.counters.signals += 1;
        self.cores[core].request.began_ns = self.reactor.now_ns();
        Some((core, number))
    }

    /// What becomes ready when the master has sent something; `None`: there is no master, or it is gone.
    pub fn orders(&self) -> Option<Orders> {
        let control = self.control.as_ref()?;
        control.try_clone().ok().map(Orders)
    }

    /// Looks at what the master has sent, outside a turn, while the request in `core` blocks the worker. `false`: the
    /// worker is to leave, and the request is cancelled.
    pub fn receive_orders(&mut self, core: CoreId) -> bool {
        self.on_control();
        if self.is_leaving() {
            self.cores[core].cancelled.get_or_insert(Cancel::Stop);
        }
        !self.is_leaving()
    }

    /// The uwsgi signal whose handler runs in a core; `None`: it has a request.
    pub fn signal_of(&self, core: CoreId) -> Option<u8> {
        self.cores[core].signal
    }

    /// The handler in a signal core has ended: the core is free, and who waits for the signal goes on.
    pub fn end_handler(&mut self, core: CoreId, failed: bool) {
        let Some(number) = self.cores[core].signal else { return };
        self.counters.signals_failed += u64::from(failed);
        // It may have run for long since the clock was last looked at.
        self.reactor.refresh_now();
        self.leave_core(core);
        self.cores.release(core);
        self.wake_signal_waiters(number);
    }

    fn wake_signal_waiters(&mut self, number: u8) {
        let waiters = std::mem::take(&mut self.signals.waiters);
        for waiter in waiters {
            if !self.is_blocked(waiter.core, waiter.epoch) {
                continue; // It was cancelled, or has gone on by itself.
            }
            if waiter.number.is_none_or(|wanted| wanted == number) {
                self.cores[waiter.core].received_signal = Some(number);
                self.unblock(waiter.core);
            } else {
                self.signals.waiters.push(waiter);
            }
        }
    }

    /// Suspends a core until a signal (`None`: any) has come to this worker and its handler has ended.
    pub fn wait_signal(&mut self, core: CoreId, number: Option<u8>) {
        if let Some(epoch) = self.block(core) {
            self.signals.waiters.push(SignalWaiter { core, epoch, number });
        }
    }

    /// The signal that a request has waited for last.
    pub fn received_signal(&self, core: CoreId) -> Option<u8> {
        self.cores[core].received_signal
    }

    /// Notes the signal that a request has waited for in its own way.
    pub fn note_received_signal(&mut self, core: CoreId, number: u8) {
        if self.cores[core].state != State::Free {
            self.cores[core].received_signal = Some(number);
        }
    }
}
