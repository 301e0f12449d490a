//! How things stand: what the worker tells the instance about its requests, its connections and its loop.
//!
//! Owns the moments at which something is said, and what has to be measured for it. It decides nothing.

use greenloom_sys::clock;

use crate::connection::State as ConnectionState;
use crate::cores::table::State;
use crate::instance::{Activity, Begun, Ended, Standing, WaitKind};
use crate::request_lines::logged_status;
use crate::worker::{Worker, kind};
use crate::{Action, CoreId};

/// How often it is said how things stand. That looks at each connection, so with many it is rarer.
const STANDING_MS: u64 = 200;
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
    /// When it is said again how things stand, and whether a timer will see to it.
    due_ms: u64,
    armed: bool,
    /// The turn has begun and is not over.
    in_turn: bool,
    /// Microseconds to add to the monotonic clock for those since the epoch.
    unix_offset_us: u64,
}

impl Watch {
    /// `false`: the turn has begun already, with the end of a wait.
    fn begin_turn(&mut self, now_ns: u64) -> bool {
        let begins = !std::mem::replace(&mut self.in_turn, true);
        if begins {
            self.turn_ns = now_ns;
        }
        begins
    }

    fn measure_lag(&mut self, now_ns: u64, now_ms: u64) {
        if now_ms >= self.window_ends_ms {
            let long_ago = now_ms >= self.window_ends_ms + LAG_WINDOW_MS;
            self.earlier_lag_us = if long_ago { 0 } else { self.lag_us };
            self.lag_us = 0;
            self.window_ends_ms = now_ms + LAG_WINDOW_MS;
        }
        self.lag_us = self.lag_us.max(now_ns.saturating_sub(self.turn_ns) / 1000);
    }
}

impl Worker {
    /// Whether a turn has begun and is not over.
    pub(crate) fn is_in_turn(&self) -> bool {
        self.watch.in_turn
    }

    /// The clock: as the turn has last looked at it, or now. Code that a hosting loop has resumed runs outside of turns.
    pub(crate) fn now_ms(&mut self) -> u64 {
        if self.is_in_turn() { self.reactor.now_ms() } else { self.reactor.refresh_now() }
    }

    /// The loop has come back from its wait, or begins a turn without one.
    pub(crate) fn turn_begins(&mut self) {
        if self.watch.begin_turn(self.reactor.now_ns()) {
            if let Some(beacon) = &self.beacon {
                let away_us = beacon.turn(self.reactor.now_ns()) / 1000;
                self.watch.lag_us = self.watch.lag_us.max(away_us);
            }
            self.instance.stamp(self.reactor.now_ms(), Activity::Works);
        }
    }

    /// The loop gives control away.
    pub(crate) fn hand_over(&mut self, action: Action) {
        if let Action::Start(core)
        | Action::Signal(core, _)
        | Action::Resume(core, _)
        | Action::Abandon(core) = action
        {
            self.gives_control(core);
        }
    }

    /// `core` gets control; the clock has just been looked at.
    pub(crate) fn gives_control(&mut self, core: CoreId) {
        self.watch.running = Some(core);
        if let Some(beacon) = &self.beacon {
            beacon.set_busy(true);
        }
        self.tell_deadline(core);
        self.instance.stamp(self.reactor.now_ms(), Activity::Runs(core));
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
            State::Waiting | State::InLoop | State::Blocked => WaitKind::Events,
            State::Stalled => WaitKind::Drain,
            State::Reading => WaitKind::Body,
        };
        self.instance.suspended(core, wait, slot.switches);
    }

    /// Everything of a turn is done.
    pub(crate) fn turn_ends(&mut self) {
        let now_ms = self.reactor.now_ms();
        self.watch.measure_lag(self.reactor.now_ns(), now_ms);
        if now_ms >= self.watch.due_ms {
            self.say_standing(now_ms);
        } else if !self.watch.armed {
            // The last change before a long wait is to be seen, too.
            self.watch.armed = true;
            self.reactor.arm(self.watch.due_ms, u64::from(kind::STANDING) << 56);
        }
        self.watch.in_turn = false;
        if let Some(beacon) = &self.beacon {
            beacon.set_busy(!self.is_idle());
        }
        self.instance.stamp(now_ms, Activity::Waits);
    }

    /// Says how things stand. Not in every turn: that alone was 2 % of what a small request costs.
    fn say_standing(&mut self, now_ms: u64) {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let parked = self.parked.front().and_then(|&key| self.connections.get(key));
        let oldest_parked_ms = match parked.map(|connection| &connection.state) {
            Some(ConnectionState::Parked(request)) => request.parked_ms,
            _ => 0,
        };
        let mut standing = Standing {
            counters: self.counters,
            busy_cores: self.cores.busy(),
            connections: small(self.connections.len()),
            idle: 0,
            reading: 0,
            busy: 0,
            draining: 0,
            parked: small(self.parked.len()),
            oldest_parked_ms,
            lag_us: self.watch.lag_us.max(self.watch.earlier_lag_us),
            now_ms,
            accepting: !self.draining && !self.makes_room(),
        };
        for connection in self.connections.values() {
            match connection.state {
                ConnectionState::Idle => standing.idle += 1,
                ConnectionState::Head | ConnectionState::Body(_) => standing.reading += 1,
                ConnectionState::Busy(_) => standing.busy += 1,
                ConnectionState::Draining(_) | ConnectionState::Lingering | ConnectionState::Native(_) => {
                    standing.draining += 1;
                }
                ConnectionState::Parked(_) => {}
            }
        }
        self.instance.stands(&standing);
        self.watch.due_ms = now_ms + STANDING_MS + self.connections.len() as u64 / CONNECTIONS_PER_MS;
        // Now and then anew: the wall clock may be set.
        self.watch.unix_offset_us = clock::unix_us().wrapping_sub(self.reactor.now_ns() / 1000);
    }

    /// The timer is over; the end of the turn does what it was for.
    pub(crate) fn standing_is_due(&mut self) {
        self.watch.armed = false;
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
                status: logged_status(slot.cancelled, &slot.response),
                sent_bytes: slot.response.header_bytes + slot.response.body_bytes,
                us: self.reactor.now_ns().saturating_sub(slot.request.began_ns) / 1000,
                switches: slot.switches,
                write_failed: slot.write_failed,
                read_failed: slot.read_failed,
            },
        );
    }

    /// The application that serves a core has let an exception through.
    pub fn count_exception(&mut self, core: CoreId) {
        self.instance.exception(self.cores[core].app.map(|(app, _)| app));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS_PER_MS: u64 = 1_000_000;

    #[test]
    fn the_longest_absence_is_remembered_for_a_second_or_two() {
        let mut watch = Watch::default();
        let mut turn = |at_ms: u64, took_ms: u64| {
            assert!(watch.begin_turn(at_ms * NS_PER_MS));
            assert!(!watch.begin_turn((at_ms + 1) * NS_PER_MS), "counted from the end of the wait");
            watch.measure_lag((at_ms + took_ms) * NS_PER_MS, at_ms + took_ms);
            watch.in_turn = false;
            watch.lag_us.max(watch.earlier_lag_us)
        };
        assert_eq!(turn(10_000, 70), 70_000);
        assert_eq!(turn(10_100, 3), 70_000);
        assert_eq!(turn(11_100, 5), 70_000, "one window later");
        assert_eq!(turn(12_200, 1), 5_000, "and gone in the next");
        assert_eq!(turn(20_000, 2), 2_000, "after a long rest only the last turn counts");
    }
}
