//! Signals at intervals: which ticks are due. Pure: the time comes in as an argument.
//!
//! The nth tick of a timer is due n intervals after its start, however late the earlier ones were: nothing drifts. A
//! master that comes late makes up for the ticks it has missed, up to [`MOST_AT_ONCE`]; beyond that (a machine that
//! slept) they are left out.

/// Timers of one application: 64 each of the two kinds that the API knows, which are one here.
pub(crate) const MOST_TIMERS: usize = 128;
/// Missed ticks of one timer that are made up for in one go: ten seconds at 10 Hz.
const MOST_AT_ONCE: u64 = 100;

/// What a timer does; two registrations of the same are one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerSpec {
    /// The signal to raise.
    pub(crate) number: u8,
    /// Milliseconds between two ticks; at least 1.
    pub(crate) interval_ms: u64,
    /// Ticks in all; `None` is for ever.
    pub(crate) iterations: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    spec: TimerSpec,
    /// When the next tick is due; `None`: not started.
    next_ms: Option<u64>,
    /// Ticks to come; `None` is for ever.
    left: Option<u32>,
}

/// The timers of one application, or those of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    timers: Vec<Timer>,
    /// Whether time runs.
    running: bool,
}

impl Timers {
    /// Adds a timer; its first tick is due an interval from now, or from [`Self::start`]. With `merge`, one that does
    /// the same (also one that has come to its end) stands for it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn add(&mut self, spec: TimerSpec, merge: bool, now_ms: u64) -> Result<(), String> {
        if spec.interval_ms == 0 {
            return Err(format!("a timer of signal {} needs an interval above 0", spec.number));
        }
        if merge && self.timers.iter().any(|timer| timer.spec == spec) {
            return Ok(());
        }
        if self.timers.len() >= MOST_TIMERS {
            // Those that have ended are only kept to know them again.
            let ended = self.timers.iter().position(|timer| timer.left == Some(0));
            let Some(ended) = ended else {
                return Err(format!("you can register max {MOST_TIMERS} timers !!!"));
            };
            self.timers.swap_remove(ended);
        }
        let next_ms = self.running.then(|| now_ms.saturating_add(spec.interval_ms));
        self.timers.push(Timer { spec, next_ms, left: spec.iterations });
        Ok(())
    }

    /// Time begins to run. A timer for ever that `before` had, too, keeps its pace: reloads do not starve one whose
    /// interval is longer than the time between them.
    pub(crate) fn start(&mut self, before: Option<&Self>, now_ms: u64) {
        if self.running {
            return;
        }
        self.running = true;
        for timer in &mut self.timers {
            let earlier = before.and_then(|before| before.timers.iter().find(|old| old.spec == timer.spec));
            let inherited = earlier.filter(|old| old.left.is_none()).and_then(|old| old.next_ms);
            timer.next_ms = inherited.or_else(|| Some(now_ms.saturating_add(timer.spec.interval_ms)));
        }
    }

    /// Whether time runs.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The numbers of the signals that are due, in the order of their times.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Vec<u8> {
        let mut due = Vec::new();
        for timer in &mut self.timers {
            let Some(next_ms) = timer.next_ms.filter(|&next_ms| next_ms <= now_ms) else { continue };
            let interval_ms = timer.spec.interval_ms;
            let passed = ((now_ms - next_ms) / interval_ms + 1).min(timer.left.map_or(u64::MAX, u64::from));
            let here = passed.min(MOST_AT_ONCE);
            // The latest ones count, where some are left out.
            let first = next_ms + (passed - here) * interval_ms;
            due.extend((0..here).map(|n| (first + n * interval_ms, timer.spec.number)));
            timer.left = timer.left.map(|left| left - u32::try_from(passed).unwrap_or(left));
            let over = timer.left == Some(0);
            timer.next_ms = (!over).then(|| next_ms.saturating_add(passed.saturating_mul(interval_ms)));
        }
        due.sort_by_key(|&(at_ms, _)| at_ms);
        due.into_iter().map(|(_, number)| number).collect()
    }

    /// When the next tick is due.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.timers.iter().filter_map(|timer| timer.next_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOTHING: [u8; 0] = [];

    fn spec(number: u8, interval_ms: u64, iterations: Option<u32>) -> TimerSpec {
        TimerSpec { number, interval_ms, iterations }
    }

    fn running(spec: TimerSpec, now_ms: u64) -> Timers {
        let mut timers = Timers::default();
        timers.start(None, now_ms);
        timers.add(spec, true, now_ms).unwrap();
        timers
    }

    #[test]
    fn ticks_do_not_drift_and_a_late_master_makes_up_for_them() {
        let mut timers = running(spec(7, 100, None), 1000);
        assert_eq!(timers.tick(1099), NOTHING);
        assert_eq!(timers.deadline_ms(), Some(1100));
        assert_eq!(timers.tick(1137), [7]);
        assert_eq!(timers.deadline_ms(), Some(1200));
        assert_eq!(timers.tick(1455), [7, 7, 7]);
        assert_eq!(timers.deadline_ms(), Some(1500));
    }

    #[test]
    fn a_machine_that_slept_is_not_flooded() {
        let mut timers = running(spec(7, 100, None), 0);
        assert_eq!(timers.tick(3_600_000).len(), 100);
        assert_eq!(timers.deadline_ms(), Some(3_600_100));
    }

    #[test]
    fn iterations_end() {
        let mut timers = running(spec(3, 10, Some(2)), 0);
        assert_eq!(timers.tick(10), [3]);
        assert_eq!(timers.tick(1000), [3]);
        assert_eq!(timers.deadline_ms(), None);
        assert_eq!(timers.tick(2000), NOTHING);
        // A worker that comes later and says the same does not start it anew; a request that asks for one more does.
        timers.add(spec(3, 10, Some(2)), true, 2000).unwrap();
        assert_eq!(timers.deadline_ms(), None);
        timers.add(spec(3, 10, Some(2)), false, 2000).unwrap();
        assert_eq!(timers.deadline_ms(), Some(2010));
    }

    #[test]
    fn the_same_timer_is_one_timer_and_there_is_a_limit() {
        let mut timers = running(spec(1, 10, None), 0);
        timers.add(spec(1, 10, None), true, 5).unwrap();
        assert_eq!(timers.tick(10), [1]);
        for interval_ms in 11..10 + MOST_TIMERS as u64 {
            timers.add(spec(1, interval_ms, None), true, 0).unwrap();
        }
        let reason = timers.add(spec(1, 1, None), true, 0).unwrap_err();
        assert_eq!(reason, "you can register max 128 timers !!!");
        timers.add(spec(1, 10, None), true, 0).unwrap();
        assert!(timers.add(spec(1, 0, None), true, 0).unwrap_err().contains("above 0"));
    }

    #[test]
    fn ended_timers_make_room() {
        let mut timers = running(spec(1, 10, Some(1)), 0);
        for interval_ms in 11..10 + MOST_TIMERS as u64 {
            timers.add(spec(1, interval_ms, None), true, 0).unwrap();
        }
        assert!(timers.add(spec(1, 1, None), true, 0).is_err());
        timers.tick(10);
        timers.add(spec(1, 1, None), true, 0).unwrap();
    }

    #[test]
    fn a_reload_keeps_the_pace_of_what_stays() {
        let mut old = running(spec(1, 3_600_000, None), 0);
        old.add(spec(2, 1000, Some(5)), true, 0).unwrap();
        let mut new = Timers::default();
        new.add(spec(1, 3_600_000, None), true, 3_000_000).unwrap();
        new.add(spec(2, 1000, Some(5)), true, 3_000_000).unwrap();
        assert_eq!(new.deadline_ms(), None);
        new.start(Some(&old), 3_000_000);
        assert_eq!(new.deadline_ms(), Some(3_001_000));
        assert_eq!(new.tick(3_600_000), [2, 2, 2, 2, 2, 1]);
    }

    proptest! {
        /// However the master's rounds fall, each timer ticks as often as its interval fits into the time.
        #[test]
        fn every_tick_comes_once(
            intervals in proptest::collection::vec((1u64..500, proptest::option::of(1u32..20)), 1..8),
            rounds in proptest::collection::vec(1u64..90, 1..100),
        ) {
            let mut timers = Timers::default();
            timers.start(None, 0);
            for (number, &(interval_ms, iterations)) in (0u8..).zip(&intervals) {
                timers.add(spec(number, interval_ms, iterations), true, 0).unwrap();
            }
            let mut counts = vec![0u64; intervals.len()];
            let mut now_ms = 0;
            for round in rounds {
                now_ms += round;
                for number in timers.tick(now_ms) {
                    counts[usize::from(number)] += 1;
                }
                prop_assert!(timers.deadline_ms().is_none_or(|at_ms| at_ms > now_ms));
            }
            for (&(interval_ms, iterations), &count) in intervals.iter().zip(&counts) {
                let most = iterations.map_or(u64::MAX, u64::from);
                prop_assert_eq!(count, (now_ms / interval_ms).min(most));
            }
        }
    }
}
