//! What a watchdog outside needs beside stamps: that they come while nothing happens, and the deadlines that requests set
//! themselves (`uwsgi.set_user_harakiri`).
//!
//! When stamps are made is `standing.rs`; who judges them is the master.
//!
//! A deadline that a request has set itself is kept in two ways. A request that is suspended then, or suspends later, is
//! cancelled, as by `--request-timeout`. One that has control and does not give it back stops the whole worker: the
//! master sees the deadline in shared memory, and kills.

use greenloom_proto::control::FromWorker;

use crate::cores::table::{Core, NEVER_MS};
use crate::worker::{Worker, kind};
use crate::{Activity, CoreId};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    /// A timer is in the heap.
    beating: bool,
    /// What was said last.
    told_deadline_ms: u64,
    /// The master knows that there are deadlines.
    master_knows: bool,
}

impl Core {
    /// When the request has to end, by whichever deadline.
    pub(crate) fn ends_ms(&self) -> u64 {
        self.expires_ms.min(self.user_deadline_ms)
    }
}

impl Worker {
    /// Makes the loop look around often enough while a request has a core: a wait of its own tells nobody that it lives.
    pub(crate) fn keep_beating(&mut self) {
        if self.options.heartbeat_ms > 0 && !self.vitals.beating && self.cores.busy() > 0 {
            self.vitals.beating = true;
            let at_ms = self.reactor.now_ms().saturating_add(self.options.heartbeat_ms);
            self.reactor.arm(at_ms, u64::from(kind::HEARTBEAT) << 56);
        }
    }

    /// The turn that brought this here has left a stamp.
    pub(crate) fn on_heartbeat(&mut self) {
        self.vitals.beating = false;
        self.keep_beating();
    }

    /// The loop has ended, and what it leaves behind was told so: what the process does now is nobody's request.
    pub fn rest(&self) {
        if let Some(beacon) = &self.beacon {
            beacon.end();
        }
        self.instance.set_busy(0);
        self.instance.stamp(self.reactor.now_ms(), Activity::Waits);
    }

    /// Somebody has asked for the stacks of the requests in flight, and they were printed.
    pub fn stacks_printed(&self) {
        self.instance.stacks_printed();
    }

    /// The request in `core` has so many milliseconds more; `None`: no bound of its own. The call counts that came last.
    /// `runs`: it is the one that has control.
    pub fn set_user_deadline(&mut self, core: CoreId, ms: Option<u64>, runs: bool) {
        // It may have run for long.
        let now_ms = self.reactor.refresh_now();
        let Some(slot) = self.cores.get_mut(core) else { return };
        slot.user_deadline_ms = ms.map_or(NEVER_MS, |ms| now_ms.saturating_add(ms).saturating_add(1));
        self.arm_expiry(core);
        if runs {
            // A loop that hosts the worker may have resumed it, and nobody knows who has control. The next turn knows more.
            self.blame(core);
            self.ask_for_turn();
        }
        if ms.is_some() && !std::mem::replace(&mut self.vitals.master_knows, true) {
            self.tell_master(&FromWorker::Deadlines);
        }
    }

    /// `core` has control, or gets it: says until when. One that was told to end already is `--harakiri`'s alone.
    pub(crate) fn tell_deadline(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        let at_ms = match slot.user_deadline_ms {
            NEVER_MS => 0,
            _ if slot.cancelled.is_some() => 0,
            at_ms => at_ms,
        };
        if at_ms != self.vitals.told_deadline_ms {
            self.vitals.told_deadline_ms = at_ms;
            self.instance.deadline(at_ms);
        }
    }

    /// A deadline has cancelled a request: says so if it was the request's own.
    pub(crate) fn note_user_deadline(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        if slot.user_deadline_ms > self.reactor.now_ms() {
            return;
        }
        // What a client sends must not look like a line of ours.
        let printable = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let what = match slot.signal {
            Some(number) => format!("the handler of signal {number}"),
            None => format!("{} {}", printable(slot.request.method()), printable(slot.request.uri())),
        };
        self.log_server(&format!("HARAKIRI (user): core {} is cancelled: {what}", core.0));
    }
}
