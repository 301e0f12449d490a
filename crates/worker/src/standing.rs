//! How things stand: what the worker tells the instance about its requests, its connections and its loop.
//!
//! Owns the moments at which something is said, and what has to be measured for it. It decides nothing.

use greenloom_sys::clock;

use crate::connection::State as ConnectionState;
use crate::cores::table::State;
use crate::instance::{Activity, Begun, Ended, Standing, WaitKind};
use crate::worker::{Worker, kind};
use crate::{Action, Cancel, CoreId};

/// The status logged for a request whose client left before it had any of the answer, as nginx has it: no failure of
/// the server.
const NOBODY_LISTENS: u16 = 499;
/// How often connections are counted by what they do. A count looks at each of them, so with many it is rarer.
const CENSUS_MS: u64 = 200;
const CONNECTIONS_PER_MS: u64 = 100;
/// The loop's longest absence is that of the last one to two of these.
const LAG_WINDOW_MS: u64 = 1000;

/// What is measured beside the worker's work.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The core that was given control last.
    running: Option<CoreId>,
    /// When the turn began.
    turn_ns: u64,
    /// When the window of `lag_us` ends.
    window_ends_ms: u64,
    lag_us: u64,
    earlier_lag_us: u64,
    /// When connections are counted again, and whether a timer will see to it.
    census_at_ms: u64,
    census_armed: bool,
    /// The last count.
    idle: u32,
    reading: u32,
    busy: u32,
    draining: u32,
    /// Microseconds to add to the monotonic clock for those since the epoch.
    unix_offset_us: u64,
}

impl Worker {
    /// The loop has come back from its poll.
    pub(crate) fn turn_begins(&mut self) {
        self.watch.turn_ns = self.reactor.now_ns();
        self.instance.stamp(self.reactor.now_ms(), Activity::Works);
    }

    /// The loop gives control away.
    pub(crate) fn hand_over(&mut self, action: Action) {
        if let Action::Start(core)
        | Action::Signal(core, _)
        | Action::Resume(core, _)
        | Action::Abandon(core) = action
        {
            self.watch.running = Some(core);
            self.instance.stamp(self.reactor.now_ms(), Activity::Runs(core));
        }
    }

    /// The loop has got control back; the clock has just been looked at.
    pub(crate) fn take_over(&mut self) {
        self.instance.stamp(self.reactor.now_ms(), Activity::Works);
        let Some(slot) = self.watch.running.take().and_then(|core| Some((core, self.cores.get(core)?)))
        else {
            return;
        };
        let (core, slot) = slot;
        if slot.signal.is_some() {
            return; // No request.
        }
        let wait = match slot.state {
            State::Free => return,
            State::Running | State::Queued => WaitKind::Turn,
            State::Waiting | State::Blocked => WaitKind::Events,
            State::Stalled => WaitKind::Drain,
            State::Reading => WaitKind::Body,
        };
        self.instance.suspended(core, wait, slot.switches);
    }

    /// Everything of a turn is done.
    pub(crate) fn turn_ends(&mut self) {
        let now_ms = self.reactor.now_ms();
        self.measure_lag(now_ms);
        if now_ms >= self.watch.census_at_ms {
            self.count_connections(now_ms);
        } else if !self.watch.census_armed && self.connections.len() > 0 {
            // The last change before a long wait is to be seen, too.
            self.watch.census_armed = true;
            self.reactor.arm(self.watch.census_at_ms, u64::from(kind::CENSUS) << 56);
        }
        let parked = self.parked.front().and_then(|&key| self.connections.get(key));
        let oldest_parked_ms = match parked.map(|connection| &connection.state) {
            Some(ConnectionState::Parked(request)) => request.parked_ms,
            _ => 0,
        };
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (connections, parked) = (small(self.connections.len()), small(self.parked.len()));
        let Watch { idle, reading, busy, draining, .. } = self.watch;
        self.instance.stands(&Standing {
            counters: self.counters,
            busy_cores: self.cores.busy(),
            connections,
            idle,
            reading,
            busy,
            draining,
            parked,
            oldest_parked_ms,
            lag_us: self.watch.lag_us.max(self.watch.earlier_lag_us),
            now_ms,
            accepting: !self.draining,
        });
        self.instance.stamp(now_ms, Activity::Waits);
    }

    /// A timer for the count is over; the end of the turn counts.
    pub(crate) fn census_is_due(&mut self) {
        self.watch.census_armed = false;
    }

    fn measure_lag(&mut self, now_ms: u64) {
        let lag_us = self.reactor.now_ns().saturating_sub(self.watch.turn_ns) / 1000;
        let watch = &mut self.watch;
        if now_ms >= watch.window_ends_ms {
            let long_ago = now_ms >= watch.window_ends_ms + LAG_WINDOW_MS;
            watch.earlier_lag_us = if long_ago { 0 } else { watch.lag_us };
            watch.lag_us = 0;
            watch.window_ends_ms = now_ms + LAG_WINDOW_MS;
        }
        watch.lag_us = watch.lag_us.max(lag_us);
    }

    fn count_connections(&mut self, now_ms: u64) {
        let (mut idle, mut reading, mut busy, mut draining) = (0, 0, 0, 0);
        for connection in self.connections.values() {
            match connection.state {
                ConnectionState::Idle => idle += 1,
                ConnectionState::Head | ConnectionState::Body(_) => reading += 1,
                ConnectionState::Busy(_) => busy += 1,
                ConnectionState::Draining(_) | ConnectionState::Lingering => draining += 1,
                ConnectionState::Parked(_) => {}
            }
        }
        let rarer_ms = self.connections.len() as u64 / CONNECTIONS_PER_MS;
        // Now and then anew: the wall clock may be set.
        let unix_offset_us = clock::unix_us().wrapping_sub(self.reactor.now_ns() / 1000);
        let census_at_ms = now_ms + CENSUS_MS + rarer_ms;
        self.watch = Watch {
            census_at_ms,
            idle,
            reading,
            busy,
            draining,
            unix_offset_us,
            ..std::mem::take(&mut self.watch)
        };
    }

    /// A request has taken a core.
    pub(crate) fn tell_begun(&mut self, core: CoreId) {
        let now_ns = self.reactor.now_ns();
        self.cores[core].taken_ns = now_ns;
        self.instance.set_busy(self.cores.busy());
        self.instance.began(
            core,
            &Begun {
                unix_us: (now_ns / 1000).wrapping_add(self.watch.unix_offset_us),
                now_ms: self.reactor.now_ms(),
                identity: self.cores[core].request.identity(),
            },
        );
    }

    /// A request has ended; the clock has just been looked at.
    pub(crate) fn tell_ended(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        self.instance.ended(
            core,
            &Ended {
                status: self.logged_status(core),
                sent_bytes: slot.response.header_bytes + slot.response.body_bytes,
                us: self.reactor.now_ns().saturating_sub(slot.request.began_ns) / 1000,
                switches: slot.switches,
                write_failed: slot.write_failed,
                read_failed: slot.read_failed,
            },
        );
    }

    /// The status of a response, for logs and statistics.
    pub(crate) fn logged_status(&self, core: CoreId) -> u16 {
        let slot = &self.cores[core];
        if slot.cancelled == Some(Cancel::ClientGone) && !slot.response.begun {
            NOBODY_LISTENS
        } else {
            slot.response.status
        }
    }

    /// The application that serves a core has let an exception through.
    pub fn count_exception(&mut self, core: CoreId) {
        self.instance.exception(self.cores[core].app.map(|(app, _)| app));
    }
}
