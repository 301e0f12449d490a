//! Who runs next: the run queue. Pure: no descriptor, no clock.
//!
//! One round serves the cores that were queued when it began, in order; who queues up meanwhile waits for the next
//! round, and readiness and timers are served between any two. So a core that always yields starves nobody.

use std::collections::VecDeque;

use crate::CoreId;

/// Cores that could go on at once.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: VecDeque<CoreId>,
    /// Cores of the current round that have not run yet.
    round: usize,
}

impl Schedule {
    /// To the end of the queue.
    pub(crate) fn push(&mut self, core: CoreId) {
        debug_assert!(!self.queue.contains(&core), "{core:?} is queued already");
        self.queue.push_back(core);
    }

    /// Begins a round with those who wait now.
    pub(crate) fn begin_round(&mut self) {
        self.round = self.queue.len();
    }

    /// The next core of the round.
    pub(crate) fn next_of_round(&mut self) -> Option<CoreId> {
        if self.round == 0 {
            return None;
        }
        self.round -= 1;
        self.queue.pop_front()
    }

    /// Takes a core out of the queue wherever it stands.
    pub(crate) fn remove(&mut self, core: CoreId) {
        if let Some(at) = self.queue.iter().position(|&other| other == core) {
            self.queue.remove(at);
            if at < self.round {
                self.round -= 1;
            }
        }
    }

    /// Takes out the first core for which `wanted` holds, wherever it stands.
    pub(crate) fn take_first(&mut self, wanted: impl Fn(CoreId) -> bool) -> Option<CoreId> {
        let core = self.queue.iter().copied().find(|&core| wanted(core))?;
        self.remove(core);
        Some(core)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u32]) -> Vec<CoreId> {
        numbers.iter().map(|&n| CoreId(n)).collect()
    }

    fn run_round(schedule: &mut Schedule, requeue: bool) -> Vec<CoreId> {
        schedule.begin_round();
        let mut ran = Vec::new();
        while let Some(core) = schedule.next_of_round() {
            ran.push(core);
            if requeue {
                schedule.push(core);
            }
        }
        ran
    }

    #[test]
    fn a_round_ends_although_everybody_queues_up_again() {
        let mut schedule = Schedule::default();
        for core in ids(&[3, 1, 2]) {
            schedule.push(core);
        }
        assert_eq!(run_round(&mut schedule, true), ids(&[3, 1, 2]));
        assert_eq!(run_round(&mut schedule, false), ids(&[3, 1, 2]));
        assert!(schedule.is_empty());
    }

    #[test]
    fn whoever_is_removed_neither_runs_nor_costs_another_its_place() {
        let mut schedule = Schedule::default();
        for core in ids(&[1, 2, 3]) {
            schedule.push(core);
        }
        schedule.begin_round();
        schedule.remove(CoreId(1));
        schedule.push(CoreId(4));
        assert_eq!(schedule.next_of_round(), Some(CoreId(2)));
        assert_eq!(schedule.next_of_round(), Some(CoreId(3)));
        assert_eq!(schedule.next_of_round(), None, "4 came after the round began");
    }

    #[test]
    fn the_first_that_is_wanted_is_taken_out() {
        let mut schedule = Schedule::default();
        for core in ids(&[1, 2, 3, 4]) {
            schedule.push(core);
        }
        assert_eq!(schedule.take_first(|core| core.0 % 2 == 0), Some(CoreId(2)));
        assert_eq!(schedule.take_first(|core| core.0 == 2), None);
        assert_eq!(run_round(&mut schedule, false), ids(&[1, 3, 4]));
    }
}
