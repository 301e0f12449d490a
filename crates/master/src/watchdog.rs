//! Which workers are blocked, and what is done about it when: harakiri, as a decision.
//!
//! Pure: time and what is seen of the workers come in ([`Sighting`]), decisions go out. Who is seen, what is written and
//! how a process is killed belongs to `harakiri.rs`.
//!
//! ```text
//! Fine --(no stamp for the whole time)--> Asked --(no answer)--> Dumped --(a moment)--> Killed
//!   ^                                       |  \------(answered)-----------------------^
//!   +------- Spare: a new stamp, or idle ---+
//! ```
//!
//! A worker stamps whenever its loop has control, and at least every quarter of its time while a request has a core. So a
//! stamp as old as the whole time means that the loop is blocked, *if* the machine was awake: when the master finds that it
//! was woken much later than it asked for, the time begins anew for everybody. And nobody is killed who has stamped
//! between the report and the kill.

use std::collections::BTreeMap;

use greenloom_sys::process::Pid;

/// How long a worker has to print its stacks by itself.
const ANSWER_MS: u64 = 400;
/// How long the dump from within a posix signal's handler may take.
const DUMP_MS: u64 = 200;
/// How often is looked for the answer: what remains of the time until the kill is time that clients wait.
const POLL_MS: u64 = 20;
/// How long a loop must have been without control before a deadline that a request has set itself makes it blocked: one that
/// is about to cancel the request has control in between.
const AWAY_MS: u64 = 250;
/// How often workers are looked at whose requests set deadlines: those are whole seconds.
const DEADLINES_MS: u64 = 1000;
/// What is waited for a healthy loop is divided by this to know how late the master itself may be.
const QUARTERS: u64 = 4;

/// What is seen of one worker that serves, drains or has requests for another reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) pid: Pid,
    /// `--harakiri`; 0: never.
    pub(crate) limit_ms: u64,
    /// When its loop last had control.
    pub(crate) stamp_ms: u64,
    /// It has a request, or code of the application runs.
    pub(crate) occupied: bool,
    /// When the code that runs must have given control back; 0: nobody said so, or none runs.
    pub(crate) deadline_ms: u64,
    /// Its requests set deadlines.
    pub(crate) sets_deadlines: bool,
    /// How often it has printed its stacks.
    pub(crate) stacks_printed: u64,
}

/// Which time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// That of `--harakiri`.
    Silence,
    /// That of the running request's own deadline.
    UserDeadline,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Write down what is known, and have the worker print its stacks. It has been silent for so long.
    Report { pid: Pid, cause: Cause, silent_ms: u64 },
    /// It has not printed any: ask in the way that needs no interpreter.
    Dump { pid: Pid },
    /// Kill it.
    Kill { pid: Pid },
    /// Its loop has control again: it lives.
    Spare { pid: Pid },
}

/// How far it has come with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Fine,
    /// Reported, and asked for stacks when it had printed so many.
    Asked {
        at_ms: u64,
        printed: u64,
    },
    /// Asked again.
    Dumped {
        at_ms: u64,
        printed: u64,
    },
    /// Its end is about to be reported.
    Killed,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    stamp_ms: u64,
    /// Its time began: with the stamp, or when the master had been away.
    since_ms: u64,
    stage: Stage,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    watched: BTreeMap<i32, Watched>,
    /// When the next look is due.
    due_ms: Option<u64>,
}

impl Watchdog {
    /// Looks at all workers. To be called whenever the master's loop comes round, and at [`Self::deadline_ms`].
    pub(crate) fn check(&mut self, now_ms: u64, seen: &[Sighting]) -> Vec<Decision> {
        let late_ms = self.due_ms.map_or(0, |due_ms| now_ms.saturating_sub(due_ms));
        self.watched.retain(|&pid, _| seen.iter().any(|sighting| sighting.pid.get() == pid));
        self.due_ms = None;
        let mut decisions = Vec::new();
        for sighting in seen {
            let watched = self.watched.entry(sighting.pid.get()).or_insert(Watched {
                stamp_ms: sighting.stamp_ms,
                since_ms: sighting.stamp_ms,
                stage: Stage::Fine,
            });
            decisions.extend(watched.look(sighting, now_ms, late_ms));
            let due_ms = watched.due_ms(sighting, now_ms);
            self.due_ms = [self.due_ms, due_ms].into_iter().flatten().min();
        }
        decisions
    }

    /// When the next look is due; `None`: nobody is watched.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.due_ms
    }
}

impl Watched {
    fn look(&mut self, seen: &Sighting, now_ms: u64, late_ms: u64) -> Option<Decision> {
        let pid = seen.pid;
        if self.stage == Stage::Killed {
            return None;
        }
        if self.stamp_ms != seen.stamp_ms || !seen.occupied {
            self.stamp_ms = seen.stamp_ms;
            self.since_ms = seen.stamp_ms;
            if std::mem::replace(&mut self.stage, Stage::Fine) != Stage::Fine {
                return Some(Decision::Spare { pid });
            }
        }
        match self.stage {
            Stage::Fine => {
                // Longer than a healthy loop may be silent beside its quarter, and it was not alone in that.
                if late_ms > 0 && late_ms.saturating_mul(QUARTERS) >= seen.limit_ms {
                    self.since_ms = now_ms;
                }
                let cause = self.overdue(seen, now_ms)?;
                self.stage = Stage::Asked { at_ms: now_ms, printed: seen.stacks_printed };
                let silent_ms = now_ms.saturating_sub(self.stamp_ms);
                Some(Decision::Report { pid, cause, silent_ms })
            }
            Stage::Asked { printed, .. } | Stage::Dumped { printed, .. }
                if printed != seen.stacks_printed =>
            {
                self.stage = Stage::Killed;
                Some(Decision::Kill { pid })
            }
            Stage::Asked { at_ms, printed } if now_ms >= at_ms.saturating_add(ANSWER_MS) => {
                self.stage = Stage::Dumped { at_ms: now_ms, printed };
                Some(Decision::Dump { pid })
            }
            Stage::Dumped { at_ms, .. } if now_ms >= at_ms.saturating_add(DUMP_MS) => {
                self.stage = Stage::Killed;
                Some(Decision::Kill { pid })
            }
            Stage::Asked { .. } | Stage::Dumped { .. } | Stage::Killed => None,
        }
    }

    fn overdue(&self, seen: &Sighting, now_ms: u64) -> Option<Cause> {
        if self.user_due_ms(seen).is_some_and(|at_ms| at_ms <= now_ms) {
            Some(Cause::UserDeadline)
        } else if self.silence_due_ms(seen).is_some_and(|at_ms| at_ms <= now_ms) {
            Some(Cause::Silence)
        } else {
            None
        }
    }

    fn silence_due_ms(&self, seen: &Sighting) -> Option<u64> {
        (seen.occupied && seen.limit_ms > 0).then(|| self.since_ms.saturating_add(seen.limit_ms))
    }

    fn user_due_ms(&self, seen: &Sighting) -> Option<u64> {
        (seen.occupied && seen.deadline_ms > 0)
            .then(|| seen.deadline_ms.max(self.since_ms.saturating_add(AWAY_MS)))
    }

    /// When it has to be looked at again.
    fn due_ms(&self, seen: &Sighting, now_ms: u64) -> Option<u64> {
        match self.stage {
            Stage::Killed => None,
            Stage::Asked { .. } | Stage::Dumped { .. } => Some(now_ms + POLL_MS),
            Stage::Fine => {
                // It may take a request in the next moment, and never look up again.
                let idle = (seen.limit_ms > 0).then(|| now_ms.saturating_add(seen.limit_ms));
                // Often enough to notice that the master was away.
                let awake = (seen.occupied && seen.limit_ms > 0)
                    .then(|| now_ms.saturating_add(seen.limit_ms.div_ceil(QUARTERS)));
                let deadlines = seen.sets_deadlines.then(|| now_ms + DEADLINES_MS);
                [idle, awake, deadlines, self.silence_due_ms(seen), self.user_due_ms(seen)]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT_MS: u64 = 1000;

    fn pid(raw: i32) -> Pid {
        Pid::new(raw).unwrap()
    }

    fn busy(raw: i32, stamp_ms: u64) -> Sighting {
        Sighting {
            pid: pid(raw),
            limit_ms: LIMIT_MS,
            stamp_ms,
            occupied: true,
            deadline_ms: 0,
            sets_deadlines: false,
            stacks_printed: 7,
        }
    }

    /// Calls the watchdog whenever it wants to be called, until a time; what it decided when.
    fn until(
        watchdog: &mut Watchdog,
        end_ms: u64,
        mut now_ms: u64,
        see: &mut dyn FnMut(u64) -> Vec<Sighting>,
    ) -> Vec<(u64, Decision)> {
        let mut decided = Vec::new();
        while now_ms <= end_ms {
            decided
                .extend(watchdog.check(now_ms, &see(now_ms)).into_iter().map(|decision| (now_ms, decision)));
            match watchdog.deadline_ms() {
                Some(due_ms) => now_ms = due_ms.max(now_ms + 1),
                None => break,
            }
        }
        decided
    }

    #[test]
    fn a_blocked_worker_is_reported_asked_twice_and_killed() {
        let mut watchdog = Watchdog::default();
        let decided = until(&mut watchdog, 5000, 10, &mut |_| vec![busy(5, 100)]);
        let pid = pid(5);
        assert_eq!(
            decided,
            [
                (1100, Decision::Report { pid, cause: Cause::Silence, silent_ms: 1000 }),
                (1500, Decision::Dump { pid }),
                (1700, Decision::Kill { pid }),
            ]
        );
        assert_eq!(watchdog.deadline_ms(), None, "there is nothing left to wait for");
    }

    #[test]
    fn one_that_prints_its_stacks_is_killed_at_once() {
        let mut watchdog = Watchdog::default();
        let mut see =
            |now_ms| vec![Sighting { stacks_printed: 7 + u64::from(now_ms > 1130), ..busy(5, 100) }];
        let decided = until(&mut watchdog, 5000, 10, &mut see);
        assert_eq!(decided.last(), Some(&(1140, Decision::Kill { pid: pid(5) })));
        assert_eq!(decided.len(), 2);
    }

    #[test]
    fn only_the_blocked_one_of_several() {
        let mut watchdog = Watchdog::default();
        let idle = Sighting { occupied: false, ..busy(7, 3) };
        let mut see = |now_ms| vec![busy(5, now_ms - now_ms % 250), idle, busy(6, 0)];
        let decided = until(&mut watchdog, 5000, 0, &mut see);
        assert_eq!(decided.len(), 3);
        assert!(decided.iter().all(|(_, decision)| matches!(decision,
            Decision::Report { pid, .. } | Decision::Dump { pid } | Decision::Kill { pid } if pid.get() == 6)));
    }

    #[test]
    fn one_that_comes_back_between_report_and_kill_is_spared() {
        let mut watchdog = Watchdog::default();
        let mut see = |now_ms| vec![busy(5, if now_ms < 1600 { 0 } else { 1590 })];
        let decided = until(&mut watchdog, 2500, 0, &mut see);
        let pid = pid(5);
        assert_eq!(
            decided.iter().map(|(_, decision)| *decision).collect::<Vec<_>>(),
            [
                Decision::Report { pid, cause: Cause::Silence, silent_ms: 1000 },
                Decision::Dump { pid },
                Decision::Spare { pid },
            ]
        );
        // And it has its whole time again.
        let decided = until(&mut watchdog, 4000, 2500, &mut see);
        assert_eq!(decided[0], (2590, Decision::Report { pid, cause: Cause::Silence, silent_ms: 1000 }));
    }

    #[test]
    fn one_whose_requests_are_gone_is_spared() {
        let mut watchdog = Watchdog::default();
        assert_eq!(watchdog.check(1000, &[busy(5, 0)]).len(), 1);
        let idle = Sighting { occupied: false, ..busy(5, 0) };
        assert_eq!(watchdog.check(1020, &[idle]), [Decision::Spare { pid: pid(5) }]);
        assert_eq!(until(&mut watchdog, 9000, 1040, &mut |_| vec![idle]), []);
    }

    #[test]
    fn idle_workers_and_those_without_a_limit_are_left_alone() {
        let mut watchdog = Watchdog::default();
        let idle = Sighting { occupied: false, ..busy(5, 0) };
        let unlimited = Sighting { limit_ms: 0, ..busy(6, 0) };
        assert_eq!(until(&mut watchdog, 100_000, 0, &mut |_| vec![idle, unlimited]), []);
        assert_eq!(watchdog.check(0, &[unlimited]), []);
        assert_eq!(watchdog.deadline_ms(), None, "nothing wakes a master without harakiri");
    }

    #[test]
    fn a_deadline_of_its_own_counts_while_its_code_runs() {
        let mut watchdog = Watchdog::default();
        let own = Sighting { limit_ms: 0, deadline_ms: 2000, sets_deadlines: true, ..busy(5, 100) };
        let decided = until(&mut watchdog, 9000, 150, &mut |_| vec![own]);
        let report = Decision::Report { pid: pid(5), cause: Cause::UserDeadline, silent_ms: 1900 };
        assert_eq!(decided[0], (2000, report));
        assert_eq!(decided[2], (2600, Decision::Kill { pid: pid(5) }));
        // The loop has control now and then: it will cancel the request.
        let mut watchdog = Watchdog::default();
        let mut see = |now_ms| vec![Sighting { stamp_ms: now_ms - now_ms % 200, ..own }];
        assert_eq!(until(&mut watchdog, 9000, 150, &mut see), []);
    }

    #[test]
    fn a_machine_that_was_asleep_kills_nobody() {
        let mut watchdog = Watchdog::default();
        assert_eq!(until(&mut watchdog, 900, 0, &mut |now_ms| vec![busy(5, now_ms)]), []);
        // An hour later, and the master is the first to run.
        let mut see = |now_ms| vec![busy(5, if now_ms < 3_600_600 { 900 } else { now_ms })];
        assert_eq!(until(&mut watchdog, 3_605_000, 3_600_000, &mut see), []);
        // One that is really blocked has no more than one whole time.
        let mut watchdog = Watchdog::default();
        until(&mut watchdog, 900, 0, &mut |now_ms| vec![busy(5, now_ms)]);
        let decided = until(&mut watchdog, 3_605_000, 3_600_000, &mut |_| vec![busy(5, 900)]);
        assert_eq!(decided[0].0, 3_601_000);
    }

    #[test]
    fn a_process_that_is_gone_is_forgotten() {
        let mut watchdog = Watchdog::default();
        until(&mut watchdog, 1200, 0, &mut |_| vec![busy(5, 0)]);
        assert_eq!(watchdog.check(1210, &[]), []);
        assert_eq!(watchdog.check(1220, &[busy(5, 1215)]), [], "another process of that number");
    }

    proptest! {
        /// Whatever else happens: whose stamps are never as far apart as its time, is never even reported.
        #[test]
        fn the_innocent_live(
            gaps in prop::collection::vec(1..LIMIT_MS, 1..200),
            wakes in prop::collection::vec(0..400_u64, 1..400),
            idle in prop::collection::vec(any::<bool>(), 1..20),
        ) {
            let stamps: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut watchdog = Watchdog::default();
            let mut now_ms = 0;
            for (round, late_ms) in wakes.into_iter().enumerate() {
                // Sometimes before it is due, sometimes after.
                now_ms = if late_ms < 100 { now_ms + late_ms } else {
                    watchdog.deadline_ms().unwrap_or(now_ms).max(now_ms) + late_ms - 100
                };
                let Some(last) = stamps.iter().rposition(|&stamp| stamp <= now_ms) else { continue };
                if last + 1 == stamps.len() {
                    break;
                }
                let occupied = idle[round % idle.len()];
                let seen = Sighting { occupied, ..busy(5, stamps[last]) };
                prop_assert_eq!(watchdog.check(now_ms, &[seen]), []);
            }
        }

        /// A machine that stops for a while, with everybody on it, kills nobody whose loop runs again soon after.
        #[test]
        fn those_who_slept_with_the_master_live(
            naps in prop::collection::vec((1..5000_u64, 1..20_000_u64, 0..300_u64), 1..20),
        ) {
            let mut watchdog = Watchdog::default();
            let (mut now_ms, mut stamp_ms) = (0, 0);
            for (awake_ms, asleep_ms, slow_ms) in naps {
                let sleep_at_ms = now_ms + awake_ms;
                while now_ms < sleep_at_ms {
                    stamp_ms = now_ms - now_ms % (LIMIT_MS / 4);
                    for decision in watchdog.check(now_ms, &[busy(5, stamp_ms)]) {
                        prop_assert!(matches!(decision, Decision::Spare { .. }), "{decision:?}");
                    }
                    now_ms = watchdog.deadline_ms().unwrap();
                }
                // The master wakes first.
                now_ms = now_ms.max(sleep_at_ms + asleep_ms);
                let back_at_ms = now_ms + slow_ms;
                while now_ms < back_at_ms {
                    for decision in watchdog.check(now_ms, &[busy(5, stamp_ms)]) {
                        prop_assert!(!matches!(decision, Decision::Kill { .. }), "{decision:?}");
                    }
                    now_ms = watchdog.deadline_ms().unwrap();
                }
                watchdog.check(now_ms, &[busy(5, now_ms)]);
            }
        }

        /// A blocked worker is dead soon after its time, whenever the master is called in between.
        #[test]
        fn the_guilty_die(calls in prop::collection::vec(1..300_u64, 0..50), limit_ms in 100..5000_u64) {
            let mut watchdog = Watchdog::default();
            let mut now_ms = 0;
            let mut calls = calls.into_iter();
            let blocked = Sighting { limit_ms, ..busy(5, 0) };
            loop {
                let decided = watchdog.check(now_ms, &[blocked]);
                if decided.contains(&Decision::Kill { pid: pid(5) }) {
                    break;
                }
                let due_ms = watchdog.deadline_ms().unwrap();
                now_ms = calls.next().map_or(due_ms, |call_ms| due_ms.min(now_ms + call_ms));
            }
            prop_assert!(now_ms >= limit_ms);
            prop_assert!(now_ms <= limit_ms + ANSWER_MS + DUMP_MS + 2 * POLL_MS, "{now_ms}");
        }
    }
}
