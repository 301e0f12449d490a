//! Sharing new connections among the workers of an instance. Pure: no descriptor, no clock.
//!
//! The kernel wakes one of the workers that wait for a listener, the one that has watched it for longest. Left alone, that
//! is always the same one, until it is busy. So a worker that has accepted a few goes to the end of that line
//! ([`Balance::goes_to_the_end`]): idle workers take turns. Under load, when workers find the listener ready without
//! being woken for it, the quickest would take nearly everything. So each says how many connections it has, and one
//! that is clearly ahead of another leaves the listeners alone for a moment ([`Balance::share`]).
//!
//! It must not do that for a worker that does not come: one that computes, or is stopped, or dead. What such a worker
//! says does not change any more, and whoever has stepped aside for it does not do so again after [`PATIENCE_MS`], until it has.

use crate::instance::Load;

/// Connections a worker may be ahead of another by, besides an eighth.
const SLACK: u64 = 4;
/// How long a worker that is ahead steps aside.
pub(crate) const ASIDE_MS: u64 = 1;
/// A worker that is ahead still takes one connection in so many milliseconds: nobody else may have been woken for it.
const ONE_IN_MS: u64 = 2;
/// How long a worker may show no sign of life and still be expected: it may have been woken, and wait for a CPU.
const PATIENCE_MS: u64 = 10;

/// How many connections a worker takes that has found a listener ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// As always.
    Usual,
    /// One, and then it looks again.
    One,
    /// None for [`ASIDE_MS`].
    Nothing,
}

/// What one worker knows of the others.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// What this worker has said of itself: whether it accepts, and its connections.
    pub(crate) said: (bool, u64),
    /// Connections accepted since this worker last thought of letting others come first. One at a time would be fairer
    /// still, and two system calls for each.
    pub(crate) accepted: u32,
    /// How they stood at the last look.
    pub(crate) others: Vec<Load>,
    /// How they stood when this worker stepped aside last.
    stepped_aside_for: Vec<Load>,
    took_one_ms: u64,
}

impl Balance {
    /// How much a worker with so many connections takes.
    pub(crate) fn share(&mut self, connections: u64, now_ms: u64) -> Share {
        let known = self.stepped_aside_for.iter().copied().chain(std::iter::repeat(Load::default()));
        let least = self
            .others
            .iter()
            .zip(known)
            .filter(|(load, known)| {
                load.accepts && (*load != known || now_ms < load.stamp_ms.saturating_add(PATIENCE_MS))
            })
            .map(|(load, _)| load.connections)
            .min();
        if least.is_none_or(|least| connections <= least + least / 8 + SLACK) {
            return Share::Usual;
        }
        if now_ms >= self.took_one_ms + ONE_IN_MS {
            self.took_one_ms = now_ms;
            return Share::One;
        }
        self.stepped_aside_for.clone_from(&self.others);
        Share::Nothing
    }

    /// Whether a worker that has accepted lets the others come first the next time: not if it still has less than each
    /// of them.
    pub(crate) fn goes_to_the_end(&self, connections: u64) -> bool {
        self.others.iter().filter(|load| load.accepts).any(|load| load.connections <= connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(connections: u64, stamp_ms: u64) -> Load {
        Load { accepts: true, connections, stamp_ms }
    }

    fn beside(others: &[(u64, u64)]) -> Balance {
        let mut balance = Balance::default();
        look(&mut balance, others);
        balance
    }

    fn look(balance: &mut Balance, others: &[(u64, u64)]) {
        balance.others = others.iter().map(|&(connections, ms)| load(connections, ms)).collect();
    }

    #[test]
    fn about_equal_workers_take_what_comes() {
        let mut balance = beside(&[(100, 1), (120, 1)]);
        assert_eq!(balance.share(100 + 12 + 4, 1000), Share::Usual);
        assert_eq!(beside(&[]).share(1_000_000, 1000), Share::Usual, "alone");
    }

    #[test]
    fn who_is_ahead_takes_one_and_then_steps_aside() {
        let mut balance = beside(&[(100, 1), (400, 1)]);
        assert_eq!(balance.share(117, 1000), Share::One);
        assert_eq!(balance.share(118, 1000), Share::Nothing);
        look(&mut balance, &[(101, 2), (400, 1)]);
        assert_eq!(balance.share(117, 1001), Share::Usual, "not more than 101 + 12 + 4");
        assert_eq!(balance.share(119, 1001), Share::Nothing);
        look(&mut balance, &[(101, 3), (400, 1)]);
        assert_eq!(balance.share(119, 1002), Share::One, "in case nobody else was woken");
    }

    #[test]
    fn nobody_steps_aside_twice_for_a_worker_that_does_not_come() {
        let mut balance = beside(&[(0, 7)]);
        assert_eq!(balance.share(50, 1000), Share::One);
        assert_eq!(balance.share(50, 1000), Share::Nothing);
        for now_ms in 1001..1020 {
            assert_eq!(balance.share(50, now_ms), Share::Usual, "it has been quiet for long");
        }
        look(&mut balance, &[(0, 1020)]);
        assert_eq!(balance.share(51, 1020), Share::One, "it is back");
        for now_ms in 1021..1030 {
            assert_ne!(balance.share(51, now_ms), Share::Usual, "it may be about to come");
        }
        assert_eq!(balance.share(51, 1030), Share::Usual);
    }

    #[test]
    fn who_does_not_accept_does_not_count() {
        let mut balance =
            Balance { others: vec![Load { accepts: false, ..load(0, 1) }], ..Balance::default() };
        assert_eq!(balance.share(50, 1000), Share::Usual);
        assert!(!balance.goes_to_the_end(50));
    }

    #[test]
    fn equal_workers_take_turns_and_the_least_loaded_stays_in_front() {
        assert!(beside(&[(3, 1), (9, 1)]).goes_to_the_end(3));
        assert!(beside(&[(0, 1)]).goes_to_the_end(0));
        assert!(!beside(&[(3, 1), (9, 1)]).goes_to_the_end(2));
    }

    /// Workers that look at the same listener in random order, each taking what it may: nobody gets much more.
    #[test]
    fn a_rush_is_shared_by_quick_and_slow_workers() {
        for workers in [2usize, 3, 8] {
            let mut counts = vec![0usize; workers];
            let mut balances: Vec<Balance> = (0..workers).map(|_| Balance::default()).collect();
            let mut aside_until = vec![0; workers];
            let (mut left, mut now_ms, mut step) = (1000usize, 1000u64, 0usize);
            while left > 0 {
                step += 1;
                now_ms += u64::from(step.is_multiple_of(8));
                // The first looks as often as all others together.
                let at = if step.is_multiple_of(2) { 0 } else { 1 + (step / 2) % (workers - 1) };
                if aside_until[at] > now_ms {
                    continue;
                }
                let loads = counts.iter().enumerate().filter(|(other, _)| *other != at);
                balances[at].others = loads.map(|(_, &count)| load(count as u64, now_ms)).collect();
                let taken = match balances[at].share(counts[at] as u64, now_ms) {
                    Share::Usual => 4,
                    Share::One => 1,
                    Share::Nothing => {
                        aside_until[at] = now_ms + ASIDE_MS;
                        0
                    }
                };
                counts[at] += taken.min(left);
                left -= taken.min(left);
            }
            let fair = 1000 / workers;
            assert!(counts.iter().all(|&count| count * 10 <= fair * 12 + 100), "{counts:?}");
        }
    }
}
