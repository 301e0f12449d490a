//! Suspending and resuming: waits, yields, back-pressure; deadlines of requests, and cancellation.
//!
//! A core that is suspended here may run all the same, when the application has switched to its coroutine by itself. So
//! every call works in every state, and what a suspension leaves behind is cleared by the next one.

use std::io;
use std::os::fd::RawFd;

use greenloom_sys::clock;

use crate::connection::State as ConnectionState;
use crate::cores::table::{NEVER_MS, State};
use crate::cores::watch::Waiter;
use crate::slots::Key;
use crate::worker::{Worker, kind, timer_key};
use crate::{Action, Cancel, CoreId, Interest, Wakeup};

/// How long a core whose yields are coalesced may go on before others get a look, and how many bytes it may gather.
const SLICE_NS: u64 = 100_000;
pub(crate) const SLICE_BYTES: usize = 16 * 1024;

/// How long a client that has closed its side is worked for before it counts as gone.
const HALF_CLOSED_MS: u64 = 500;

const NS_PER_MS: u64 = 1_000_000;

/// How often a coroutine is told to end before it is given up.
const TOLD: u8 = 8;

/// What a yield means for the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yielded {
    /// Nobody else can run: go on at once.
    GoOn,
    /// Suspended; an [`Action::Resume`] will come.
    Suspended,
}

/// How a core's last wait ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The descriptor that became ready.
    pub ready_fd: Option<RawFd>,
    /// The deadline was over first.
    pub timed_out: bool,
}

impl Worker {
    /// Registers a wait for a descriptor; it begins with the next yield or suspend. `timeout_ms`: when to give up;
    /// of several deadlines the earliest counts. On error (`EBADF`, or `EPERM` for a regular file) nothing has changed.
    pub fn wait_fd(
        &mut self,
        core: CoreId,
        fd: RawFd,
        interest: Interest,
        timeout_ms: Option<u64>,
    ) -> io::Result<()> {
        // The client's own socket is registered as a connection first.
        if self.client_fd(core) == Some(fd) {
            self.watch_client(core);
        }
        let waiter = (core, self.cores[core].sequence);
        let watch = self.watches.add(&self.reactor, kind::WATCH, waiter, fd, interest)?;
        self.cores[core].watches.push(watch);
        if let Some(timeout) = timeout_ms {
            self.add_deadline(core, timeout);
        }
        Ok(())
    }

    /// Registers a deadline; it counts from now and is waited for by the next yield or suspend.
    pub fn sleep(&mut self, core: CoreId, ms: u64) {
        let slot = &mut self.cores[core];
        slot.sleeping = slot.state != State::Waiting;
        self.add_deadline(core, ms);
    }

    fn add_deadline(&mut self, core: CoreId, ms: u64) {
        let at_ns = clock::monotonic_ns().saturating_add(ms.saturating_mul(NS_PER_MS));
        let slot = &mut self.cores[core];
        slot.deadline_ns = Some(slot.deadline_ns.map_or(at_ns, |other| other.min(at_ns)));
        if slot.state == State::Waiting {
            // It waits already, as far as we know.
            self.arm_core(core);
        }
    }

    /// Why the request in a core has to end, once that is decided: its client gets nothing more of the application.
    pub fn cancelled(&self, core: CoreId) -> Option<Cancel> {
        self.cores[core].cancelled
    }

    /// How the last wait of a core ended.
    pub fn outcome(&self, core: CoreId) -> Outcome {
        let slot = &self.cores[core];
        Outcome { ready_fd: slot.ready_fd, timed_out: slot.timed_out }
    }

    /// The iterable of a core has yielded a part, which has been written. Counts a switch. With a registered wait the
    /// core is suspended; without one, only if its slice is used up, or somebody waits for a turn. The latter does not
    /// count in the first slice of a request: otherwise one suspended core makes every short stream that comes after
    /// it suspend at each part, which keeps the queue from ever becoming empty again (seen: ten sends for each
    /// stream instead of one, for as long as the load lasted).
    pub fn yielded(&mut self, core: CoreId) -> Yielded {
        let slot = &self.cores[core];
        let waits = !slot.watches.is_empty() || slot.deadline_ns.is_some();
        let gives_way = self.somebody_waits() && !slot.first_slice;
        let must = waits || gives_way || slot.cancelled.is_some();
        if must || self.flusher.is_none() || self.has_queued_output(core) {
            self.suspend(core);
            return Yielded::Suspended;
        }
        let now = clock::monotonic_ns();
        let began = *self.cores[core].slice_ns.get_or_insert(now);
        if self.hold(core) >= SLICE_BYTES || now >= began + SLICE_NS {
            self.suspend(core);
            return Yielded::Suspended;
        }
        let slot = &mut self.cores[core];
        slot.switches += 1;
        // As after a suspension: this yield waited for nothing.
        slot.ready_fd = None;
        slot.timed_out = false;
        Yielded::GoOn
    }

    /// Whether a core, or a request that could have one, waits for its turn. What has only happened on sockets is
    /// looked at when the slice is over.
    fn somebody_waits(&self) -> bool {
        self.has_work()
    }

    /// Whether bytes of this core wait in its connection: later ones must go behind them.
    pub fn has_queued_output(&self, core: CoreId) -> bool {
        let connection = self.cores[core].connection.and_then(|key| self.connections.get(key));
        connection.is_some_and(crate::connection::Connection::has_output)
    }

    /// Counts switches that were made of one: the parts of a list that leave together.
    pub fn count_switches(&mut self, core: CoreId, switches: u64) {
        self.cores[core].switches += switches;
    }

    /// Suspends a core until one of its registered waits ends; without any it goes to the end of the run queue.
    /// What it has written leaves now.
    pub fn suspend(&mut self, core: CoreId) {
        if self.begin_suspension(core) && !self.begin_wait(core) {
            self.cores[core].state = State::Queued;
            self.schedule.push(core);
        }
    }

    /// The coroutine of a core has given control back without suspending: the application has switched to another one,
    /// and will come back to it in its own way. Counts a switch. Its registered waits count as begun; without any it
    /// stays away until the application resumes it, or it is cancelled. Nothing happens if it is suspended already.
    pub fn away(&mut self, core: CoreId) {
        if self.leaves_by_itself(core) && !self.begin_wait(core) {
            self.cores[core].state = State::Waiting;
            self.gives_up_client(core);
        }
    }

    /// As [`Self::away`], in a call of the loop that hosts this worker, which nobody else may end: registered waits stay for
    /// the suspension that is still to come.
    pub fn away_in_loop(&mut self, core: CoreId) {
        if self.leaves_by_itself(core) {
            self.cores[core].state = State::InLoop;
            self.gives_up_client(core);
        }
    }

    /// Begins a suspension that nobody has asked for; `false`: there is nothing to do.
    fn leaves_by_itself(&mut self, core: CoreId) -> bool {
        self.cores[core].state == State::Running && !self.is_decided(core) && self.begin_suspension(core)
    }

    /// The application has thrown an exception into a suspended coroutine: the core runs again, and what it waited for
    /// means nothing any more.
    pub fn interrupted(&mut self, core: CoreId) {
        self.goes_on_by_itself(core, State::Running);
    }

    /// As [`Self::interrupted`], by code of the loop that hosts this worker: nobody says when the core waits in that again.
    pub fn interrupted_in_loop(&mut self, core: CoreId) {
        self.goes_on_by_itself(core, State::InLoop);
    }

    fn goes_on_by_itself(&mut self, core: CoreId, state: State) {
        let slot = &mut self.cores[core];
        if slot.state == State::Free {
            return;
        }
        // An action that was decided for it meanwhile is not meant for what it does now.
        slot.epoch = slot.epoch.wrapping_add(1);
        if slot.state == State::Queued {
            self.schedule.remove(core);
        }
        let slot = &mut self.cores[core];
        slot.state = state;
        slot.slice_ns = None;
        self.forget_waits(core);
    }

    /// Begins the registered waits of a core; `false`: there are none.
    fn begin_wait(&mut self, core: CoreId) -> bool {
        let slot = &mut self.cores[core];
        slot.ready_fd = None;
        slot.timed_out = false;
        slot.sleeping = false;
        if let Some(fd) = slot.early {
            // It was ready before the wait began.
            self.drop_waits(core);
            self.cores[core].ready_fd = Some(fd);
            self.go_on(core, Wakeup::Wait);
            return true;
        }
        if slot.watches.is_empty() && slot.deadline_ns.is_none() {
            return false;
        }
        self.cores[core].state = State::Waiting;
        if !self.gives_up_client(core) {
            self.arm_core(core);
        }
        true
    }

    /// Lets the client of a suspended core go if it has left.
    pub(crate) fn gives_up_client(&mut self, core: CoreId) -> bool {
        let gone = self.waits_for_nobody(core);
        if gone && let Some(key) = self.cores[core].connection {
            self.lose_client(key);
        }
        gone
    }

    /// Gives way to others in the middle of a part: registered waits stay for the yield that is still to come.
    pub fn give_way(&mut self, core: CoreId) {
        if self.begin_suspension(core) {
            self.cores[core].state = State::Queued;
            self.schedule.push(core);
        }
    }

    /// Suspends a core whose output has to drain first. Registered waits stay for the yield that is still to come.
    pub fn stall(&mut self, core: CoreId) {
        if !self.begin_suspension(core) {
            return;
        }
        if self.has_queued_output(core) {
            self.cores[core].state = State::Stalled;
        } else {
            // It drained while it was flushed.
            self.cores[core].state = State::Queued;
            self.schedule.push(core);
        }
    }

    /// Suspends a core in the middle of a call until [`Self::unblock`]; the epoch of this suspension. Registered waits
    /// stay for the yield that is still to come. `None`: it is cancelled.
    pub(crate) fn block(&mut self, core: CoreId) -> Option<u32> {
        if !self.begin_suspension(core) {
            return None;
        }
        let slot = &mut self.cores[core];
        slot.state = State::Blocked;
        Some(slot.epoch)
    }

    /// Whether a core still stands where it was blocked.
    pub(crate) fn is_blocked(&self, core: CoreId, epoch: u32) -> bool {
        let slot = &self.cores[core];
        slot.state == State::Blocked && slot.epoch == epoch
    }

    /// Lets a blocked core go on.
    pub(crate) fn unblock(&mut self, core: CoreId) {
        debug_assert_eq!(self.cores[core].state, State::Blocked, "{core:?}");
        self.go_on(core, Wakeup::Turn);
    }

    /// What every suspension begins with; `false`: the request is cancelled, and its coroutine will be told (again).
    pub(crate) fn begin_suspension(&mut self, core: CoreId) -> bool {
        self.note_suspension(core);
        let now_ms = self.now_ms();
        let slot = &mut self.cores[core];
        if slot.cancelled.is_some() {
            self.forget_waits(core);
            // Not at once: a coroutine that never ends must not keep the others from their turns.
            self.cores[core].state = State::Queued;
            self.schedule.push(core);
            return false;
        }
        // What became known while it ran.
        let why = if slot.connection.is_none() && !slot.detached && !slot.response.complete {
            Cancel::ClientGone
        } else if slot.ends_ms() <= now_ms {
            Cancel::Deadline
        } else {
            return true;
        };
        self.cancel_now(core, why);
        false
    }

    /// Counts a suspension, and sends what the core has written.
    pub(crate) fn note_suspension(&mut self, core: CoreId) {
        self.ask_for_turn();
        self.flush(core);
        self.watch_client(core);
        let slot = &mut self.cores[core];
        slot.switches += 1;
        slot.first_slice = false;
        slot.epoch = slot.epoch.wrapping_add(1);
        if slot.state == State::Queued {
            self.schedule.remove(core);
        }
    }

    /// Whether a core waits in the middle of a response while its client has closed its side. Such a client may still
    /// read the answer to a request that it has sent whole (RFC 9112 §9.6), so it is not gone before the head has
    /// left, nor while bytes flow; but the reader of an event stream that closes has left, and nothing would tell
    /// until the next event. A client whose body the application has not read to its end may only have sent it whole.
    pub(crate) fn waits_for_nobody(&self, core: CoreId) -> bool {
        let slot = &self.cores[core];
        matches!(slot.state, State::Waiting | State::InLoop)
            && slot.response.begun
            && self.has_whole_body(core)
            && slot
                .connection
                .and_then(|key| self.connections.get(key))
                .is_some_and(|connection| connection.flags.ended && !connection.has_output())
    }

    /// A suspended core must hear of a client that leaves.
    fn watch_client(&mut self, core: CoreId) {
        if let Some(key) = self.cores[core].connection
            && let Some(connection) = self.connections.get(key)
            && matches!(connection.state, ConnectionState::Busy(_))
        {
            let ended = connection.flags.ended;
            self.register(key);
            if ended {
                self.doubt_client(key);
            }
        }
    }

    /// A client has closed its side while we work for it. It may only have said that no other request follows, and a
    /// quick answer reaches it; but who waits long in this way has nearly always left, and no other sign would come
    /// before the first write.
    pub(crate) fn doubt_client(&mut self, key: Key) {
        if self.options.half_close {
            return;
        }
        let at = self.now_ms() + HALF_CLOSED_MS;
        let Some(connection) = self.connections.get(key) else { return };
        let has_sent_all = match &connection.state {
            &ConnectionState::Busy(core) => self.has_whole_body(core),
            ConnectionState::Native(native) => native.waits_for_script(),
            _ => false,
        };
        if has_sent_all && connection.deadline_ms.is_none() && !connection.has_output() {
            self.set_deadline(key, Some(at));
        }
    }

    /// Whether the request in a core has been received to its end; one whose client closes before that fails by itself.
    fn has_whole_body(&self, core: CoreId) -> bool {
        self.cores[core].incoming.as_ref().is_none_or(|incoming| incoming.is_over())
    }

    pub(crate) fn resume_queued(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        match slot.cancelled {
            None => self.go_on(core, Wakeup::Turn),
            Some(why) if slot.told < TOLD => self.go_on(core, Wakeup::Cancelled(why)),
            Some(_) => {
                slot.state = State::Running;
                self.decide(core, Action::Abandon(core));
            }
        }
    }

    /// A coroutine is given up: the driver gets [`Action::Abandon`], or the worker leaves without one that does not end.
    pub fn note_abandoned(&mut self, core: CoreId) {
        self.counters.abandoned += 1;
        let slot = &mut self.cores[core];
        slot.abandoned = true;
        let (what, which) = match slot.signal {
            Some(number) => ("a signal handler", format!("signal {number}")),
            None => ("a request", String::from_utf8_lossy(slot.request.uri()).escape_debug().to_string()),
        };
        self.log_server(&format!(
            "{what} was told to end {TOLD} times and has suspended every time: its coroutine is given up, its memory \
             is lost until the worker leaves (core {}, {which})",
            core.0
        ));
    }

    pub(crate) fn output_drained(&mut self, core: CoreId) {
        self.room_came(core);
        if self.cores[core].state == State::Stalled {
            self.go_on(core, Wakeup::Drained);
        }
    }

    pub(crate) fn go_on(&mut self, core: CoreId, why: Wakeup) {
        let slot = &mut self.cores[core];
        slot.state = State::Running;
        slot.slice_ns = None;
        self.decide(core, Action::Resume(core, why));
    }

    /// A descriptor is ready for a waiter.
    pub(crate) fn wake_waiter(&mut self, waiter: Waiter, fd: RawFd) {
        let Some(slot) = self.cores.get_mut(waiter.core) else { return };
        if slot.sequence != waiter.sequence || slot.state == State::Free {
            self.counters.stale_wakes += 1;
            return;
        }
        if slot.state != State::Waiting {
            slot.early.get_or_insert(fd);
            return;
        }
        self.drop_waits(waiter.core);
        self.cores[waiter.core].ready_fd = Some(fd);
        self.go_on(waiter.core, Wakeup::Wait);
    }

    /// Sees to it that a waiting core is looked at when its deadline is over. One entry in the heap serves wait after
    /// wait, like a connection's.
    pub(crate) fn arm_core(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        let Some(deadline_ns) = slot.deadline_ns else { return };
        // The reactor counts whole milliseconds. A wait that begins now ends at this fraction of one, too; one that
        // was woken within its last millisecond needs the next one.
        let now_ns = clock::monotonic_ns();
        let floor_ms = deadline_ns / NS_PER_MS;
        let at_ms = if floor_ms <= now_ns / NS_PER_MS { deadline_ns.div_ceil(NS_PER_MS) } else { floor_ms };
        if slot.armed_ms.is_none_or(|armed| armed > at_ms) {
            slot.armed_ms = Some(at_ms);
            self.reactor.arm(at_ms, timer_key(kind::CORE, core));
        }
    }

    pub(crate) fn on_core_timer(&mut self, core: CoreId) {
        let now_ms = self.reactor.now_ms();
        if self.cores.get(core).is_none_or(|slot| slot.armed_ms.is_none_or(|armed| armed > now_ms)) {
            return; // An entry that an earlier one has overtaken.
        }
        let slot = &mut self.cores[core];
        slot.armed_ms = None;
        let Some(deadline_ns) = slot.deadline_ns.filter(|_| slot.state == State::Waiting) else { return };
        if deadline_ns > clock::monotonic_ns() {
            return self.arm_core(core);
        }
        self.drop_waits(core);
        if self.cores[core].cancelled.is_some() {
            // A task that was told to end, and goes on cleaning up.
            return self.resume_queued(core);
        }
        self.cores[core].timed_out = true;
        self.go_on(core, Wakeup::Wait);
    }

    /// A request has taken a core: its time begins, if its path has a deadline.
    pub(crate) fn begin_deadline(&mut self, core: CoreId) {
        let path = self.cores[core].request.path();
        let timeout =
            self.options.request_timeouts.iter().find(|(prefix, _)| covers(prefix.as_bytes(), path));
        if let Some(&(_, ms)) = timeout
            && ms > 0
        {
            // The millisecond that runs has begun before the request: a deadline never comes early.
            self.cores[core].expires_ms = self.reactor.now_ms().saturating_add(ms).saturating_add(1);
            self.arm_expiry(core);
        }
    }

    /// Sees to it that a core is looked at when its request's time is over. Usually an earlier request has left a timer
    /// that comes before that; it will be armed anew then.
    pub(crate) fn arm_expiry(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        let ends_ms = slot.ends_ms();
        if ends_ms < slot.expiry_armed_ms.unwrap_or(NEVER_MS) {
            slot.expiry_armed_ms = Some(ends_ms);
            self.reactor.arm(ends_ms, timer_key(kind::EXPIRY, core));
        }
    }

    pub(crate) fn on_expiry(&mut self, core: CoreId) {
        let now_ms = self.reactor.now_ms();
        let Some(slot) = self.cores.get_mut(core) else { return };
        if slot.expiry_armed_ms.is_none_or(|armed| armed > now_ms) {
            return; // An entry that an earlier one has overtaken.
        }
        slot.expiry_armed_ms = None;
        if slot.ends_ms() > now_ms {
            return self.arm_expiry(core);
        }
        // A core that runs finds out when it suspends.
        self.cancel(core, Cancel::Deadline);
    }

    /// Ends all waits of a core, begun or only registered.
    pub(crate) fn drop_waits(&mut self, core: CoreId) {
        if self.cores[core].sleeping && !self.sleep_warned {
            self.sleep_warned = true;
            self.log_server(
                "uwsgi.async_sleep() had no effect: the request ended without a yield (or uwsgi.suspend()) after it; \
                 said once",
            );
        }
        let slot = &mut self.cores[core];
        slot.sleeping = false;
        slot.sequence = slot.sequence.wrapping_add(1);
        slot.deadline_ns = None;
        slot.early = None;
        while let Some(watch) = self.cores[core].watches.pop() {
            self.watches.leave(&self.reactor, watch, core);
        }
    }

    /// Ends the request of a suspended core: the driver gets [`Wakeup::Cancelled`]. A core that runs finds out by
    /// itself, when it writes or suspends.
    pub(crate) fn cancel(&mut self, core: CoreId, why: Cancel) {
        let slot = &self.cores[core];
        if slot.cancelled.is_some() {
            return; // It was told, or will be.
        }
        match slot.state {
            State::Free | State::Running => {}
            State::Queued => {
                self.schedule.remove(core);
                self.cancel_now(core, why);
            }
            State::Waiting | State::InLoop | State::Stalled | State::Reading | State::Blocked => {
                self.cancel_now(core, why);
            }
        }
    }

    fn cancel_now(&mut self, core: CoreId, why: Cancel) {
        self.forget_waits(core);
        self.cores[core].cancelled = Some(why);
        if why == Cancel::Deadline {
            self.counters.deadlines += 1;
            self.note_user_deadline(core);
        }
        self.go_on(core, Wakeup::Cancelled(why));
    }

    /// Ends all waits of a core that is told to end: none of them has an outcome.
    fn forget_waits(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        slot.sleeping = false;
        slot.ready_fd = None;
        slot.timed_out = false;
        self.drop_waits(core);
    }

    /// Cancels all suspended cores; for leaving at once.
    pub fn cancel_all(&mut self) {
        for core in self.cores.ids() {
            self.cancel(core, Cancel::Stop);
        }
        self.stop_natives();
    }
}

/// Whether a path prefix, which ends at a slash, holds for a path.
pub(crate) fn covers(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || prefix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (prefix, path, expected) in [
            ("", "/", true),
            ("", "*", true),
            ("", "/shop", true),
            ("/shop", "/shop", true),
            ("/shop", "/shop/a", true),
            ("/shop", "/shopping", false),
            ("/shop", "/sho", false),
        ] {
            assert_eq!(covers(prefix.as_bytes(), path.as_bytes()), expected, "{prefix} {path}");
        }
    }
}
