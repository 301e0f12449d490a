//! From a signal to the processes that run its handler. Pure: workers come in as a list, deliveries go out as one.
//!
//! A signal waits here, not in a socket, while nobody can take it: a worker has at most [`MOST_UNTAKEN`] that it has not
//! taken yet (it says so, `FromWorker::SignalTaken`). So a worker that is stuck does not gather what others could run,
//! and what a dead one had not taken goes to its successor, or to any other where any will do. Queues are bounded; what
//! finds one full is dropped and counted. Signals of one queue arrive in their order.

use std::collections::{BTreeMap, VecDeque};

use greenloom_sys::process::Pid;

use super::target::Target;

/// Signals a worker process may have been sent without having taken them: less than a socket holds of the smallest
/// messages (some 270 by default), so that sending never blocks and never fails.
const MOST_UNTAKEN: usize = 64;
/// Signals a queue holds.
const MOST_QUEUED: usize = 1024;

/// A worker process, as the master sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerView {
    /// Its generation.
    pub(crate) generation: u32,
    /// Its worker's number, at least 1.
    pub(crate) id: u32,
    pub(crate) pid: Pid,
    /// It has said that it is ready, and was not told to leave.
    pub(crate) accepts: bool,
}

/// What has become of the signals of one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignalCounts {
    /// Raised for somebody (once for each worker, where several get it).
    pub(crate) routed: u64,
    /// Raised for nobody, or with the queue full.
    pub(crate) dropped: u64,
}

/// Who is to get a queued signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Recipient {
    Any,
    Worker(u32),
}

/// The queues of an instance.
#[derive(Debug, Default)]
pub(crate) struct Router {
    queues: BTreeMap<Recipient, VecDeque<u8>>,
    /// What each process was sent and has not taken.
    untaken: BTreeMap<Pid, VecDeque<(Recipient, u8)>>,
    /// Who got the last signal for any worker: the next one begins the search.
    last: Option<Pid>,
    counts: BTreeMap<u8, SignalCounts>,
}

impl Router {
    /// Queues a signal. `workers` is how many workers there are, `views` their processes.
    ///
    /// # Errors
    /// Why it, or a part of it, was dropped.
    pub(crate) fn raise(
        &mut self,
        number: u8,
        target: Target,
        generation: Option<u32>,
        workers: u32,
        views: &[WorkerView],
    ) -> Result<(), String> {
        let recipients: Vec<Recipient> = match target {
            Target::Any => vec![Recipient::Any],
            Target::Worker(id) if id > workers => {
                return Err(self.drop(number, &format!("its target is worker {id}, there are {workers}")));
            }
            Target::Worker(id) => vec![Recipient::Worker(id)],
            Target::Workers => (1..=workers).map(Recipient::Worker).collect(),
            Target::ActiveWorkers => {
                let active = |id: &u32| {
                    views
                        .iter()
                        .any(|view| Some(view.generation) == generation && view.id == *id && view.accepts)
                };
                (1..=workers).filter(active).map(Recipient::Worker).collect()
            }
        };
        if recipients.is_empty() {
            return Err(self.drop(number, "no worker accepts at the moment"));
        }
        let mut result = Ok(());
        for recipient in recipients {
            let queue = self.queues.entry(recipient).or_default();
            if queue.len() < MOST_QUEUED {
                queue.push_back(number);
                self.counts.entry(number).or_default().routed += 1;
            } else {
                result =
                    Err(self.drop(number, &format!("{MOST_QUEUED} signals wait already for {recipient}")));
            }
        }
        result
    }

    /// Counts a signal that nobody gets; the sentence for the log.
    pub(crate) fn drop(&mut self, number: u8, why: &str) -> String {
        let counts = self.counts.entry(number).or_default();
        counts.dropped += 1;
        format!("signal {number} dropped ({} so far): {why}", counts.dropped)
    }

    /// A process has taken the oldest of its signals of this number.
    pub(crate) fn taken(&mut self, pid: Pid, number: u8) {
        let Some(untaken) = self.untaken.get_mut(&pid) else { return };
        if let Some(index) = untaken.iter().position(|&(_, sent)| sent == number) {
            untaken.remove(index);
        }
    }

    /// Which signals go to which of `views` now: indices and numbers. Processes of other generations than `generation`
    /// get nothing. What a process that is not among `views` any more had not taken is queued again, in front.
    pub(crate) fn deliver(&mut self, generation: Option<u32>, views: &[WorkerView]) -> Vec<(usize, u8)> {
        self.collect_untaken_of_the_dead(views);
        let mut deliveries = Vec::new();
        if self.queues.is_empty() {
            return deliveries;
        }
        let mut open: Vec<usize> = (0..views.len())
            .filter(|&index| views[index].accepts && Some(views[index].generation) == generation)
            .collect();
        // Signals for one worker first: they have no other way to go.
        for (&recipient, queue) in self.queues.iter_mut().rev() {
            while !queue.is_empty() {
                open.retain(|&index| {
                    self.untaken.get(&views[index].pid).map_or(0, VecDeque::len) < MOST_UNTAKEN
                });
                let chosen = match recipient {
                    // Of two processes of a worker the younger one, which the list names last.
                    Recipient::Worker(id) => open.iter().copied().rfind(|&index| views[index].id == id),
                    Recipient::Any => least_busy(&open, views, &self.untaken, self.last),
                };
                let (Some(index), Some(number)) = (chosen, chosen.and_then(|_| queue.pop_front())) else {
                    break;
                };
                let pid = views[index].pid;
                if recipient == Recipient::Any {
                    self.last = Some(pid);
                }
                self.untaken.entry(pid).or_default().push_back((recipient, number));
                deliveries.push((index, number));
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        deliveries
    }

    fn collect_untaken_of_the_dead(&mut self, views: &[WorkerView]) {
        let dead: Vec<Pid> =
            self.untaken.keys().copied().filter(|pid| views.iter().all(|view| view.pid != *pid)).collect();
        for pid in dead {
            for (recipient, number) in self.untaken.remove(&pid).unwrap_or_default().into_iter().rev() {
                // Beyond the bound by what one process can have had: these were let in once.
                self.queues.entry(recipient).or_default().push_front(number);
            }
        }
    }

    /// There are `workers` workers now: those above that get nothing any more. The sentences for the log.
    pub(crate) fn worker_count(&mut self, workers: u32) -> Vec<String> {
        let mut said = Vec::new();
        let beyond = self.queues.split_off(&Recipient::Worker(workers.saturating_add(1)));
        for (recipient, queue) in beyond {
            for number in queue {
                said.push(self.drop(number, &format!("{recipient} was taken away")));
            }
        }
        said
    }

    /// What has become of the signals, by number; numbers never raised are left out.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u8, SignalCounts)> + '_ {
        self.counts.iter().map(|(&number, &counts)| (number, counts))
    }
}

/// The process with the fewest signals it has not taken; among equals the next one after `last`.
fn least_busy(
    open: &[usize],
    views: &[WorkerView],
    untaken: &BTreeMap<Pid, VecDeque<(Recipient, u8)>>,
    last: Option<Pid>,
) -> Option<usize> {
    let after =
        last.and_then(|last| open.iter().position(|&index| views[index].pid == last)).map_or(0, |at| at + 1);
    let in_turn = open[after.min(open.len())..].iter().chain(&open[..after.min(open.len())]);
    in_turn.copied().min_by_key(|&index| untaken.get(&views[index].pid).map_or(0, VecDeque::len))
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any worker"),
            Self::Worker(id) => write!(f, "worker {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pid(number: i32) -> Pid {
        Pid::new(number).unwrap()
    }

    fn view(generation: u32, id: u32, process: i32, accepts: bool) -> WorkerView {
        WorkerView { generation, id, pid: pid(process), accepts }
    }

    /// Two workers of generation 1 that accept.
    fn two() -> [WorkerView; 2] {
        [view(1, 1, 101, true), view(1, 2, 102, true)]
    }

    fn raise(router: &mut Router, number: u8, target: Target) -> Result<(), String> {
        router.raise(number, target, Some(1), 2, &two())
    }

    #[test]
    fn any_worker_is_each_in_turn() {
        let mut router = Router::default();
        for number in 0..4 {
            raise(&mut router, number, Target::Any).unwrap();
        }
        assert_eq!(router.deliver(Some(1), &two()), [(0, 0), (1, 1), (0, 2), (1, 3)]);
        assert_eq!(router.deliver(Some(1), &two()), []);
    }

    #[test]
    fn a_stuck_worker_gets_no_more_than_its_share() {
        let mut router = Router::default();
        let mut got = [0; 2];
        for _ in 0..1000 {
            raise(&mut router, 1, Target::Any).unwrap();
            for (index, number) in router.deliver(Some(1), &two()) {
                got[index] += 1;
                if index == 1 {
                    router.taken(pid(102), number);
                }
            }
        }
        assert_eq!(got, [1, 999]);
    }

    #[test]
    fn signals_to_a_worker_that_does_not_take_them_wait_in_their_order() {
        let mut router = Router::default();
        for number in 0..=255 {
            raise(&mut router, number, Target::Worker(1)).unwrap();
        }
        let first: Vec<u8> = router.deliver(Some(1), &two()).into_iter().map(|(_, number)| number).collect();
        assert_eq!(first, (0..64).collect::<Vec<u8>>());
        assert_eq!(router.deliver(Some(1), &two()), []);
        router.taken(pid(101), 0);
        router.taken(pid(101), 1);
        assert_eq!(router.deliver(Some(1), &two()), [(0, 64), (0, 65)]);
    }

    #[test]
    fn workers_are_all_of_them_active_workers_those_that_accept() {
        let mut router = Router::default();
        let one_starts = [view(1, 1, 101, false), view(1, 2, 102, true)];
        router.raise(5, Target::Workers, Some(1), 2, &one_starts).unwrap();
        router.raise(6, Target::ActiveWorkers, Some(1), 2, &one_starts).unwrap();
        assert_eq!(router.deliver(Some(1), &one_starts), [(1, 5), (1, 6)]);
        assert_eq!(router.deliver(Some(1), &two()), [(0, 5)]);
        let nobody = [view(1, 1, 101, false)];
        let reason = router.raise(6, Target::ActiveWorkers, Some(1), 2, &nobody).unwrap_err();
        assert!(reason.contains("signal 6 dropped (1 so far): no worker accepts"), "{reason}");
    }

    #[test]
    fn what_a_dead_process_had_not_taken_goes_elsewhere() {
        let mut router = Router::default();
        raise(&mut router, 1, Target::Worker(1)).unwrap();
        raise(&mut router, 2, Target::Any).unwrap();
        raise(&mut router, 3, Target::Worker(1)).unwrap();
        let only_first = [view(1, 1, 101, true)];
        assert_eq!(router.deliver(Some(1), &only_first), [(0, 1), (0, 3), (0, 2)]);
        router.taken(pid(101), 1);
        let second_alone = [view(1, 2, 102, true)];
        assert_eq!(router.deliver(Some(1), &second_alone), [(0, 2)]);
        let reborn = [view(1, 2, 102, true), view(1, 1, 103, true)];
        assert_eq!(router.deliver(Some(1), &reborn), [(1, 3)]);
    }

    #[test]
    fn a_recycled_worker_is_its_younger_process() {
        let mut router = Router::default();
        raise(&mut router, 1, Target::Worker(1)).unwrap();
        let both = [view(1, 1, 101, true), view(1, 2, 102, true), view(1, 1, 103, true)];
        assert_eq!(router.deliver(Some(1), &both), [(2, 1)]);
        raise(&mut router, 2, Target::Workers).unwrap();
        let leaving = [view(1, 1, 101, false), view(1, 2, 102, true), view(1, 1, 103, true)];
        let mut got = router.deliver(Some(1), &leaving);
        got.sort_unstable();
        assert_eq!(got, [(1, 2), (2, 2)]);
    }

    #[test]
    fn a_reload_loses_nothing_and_older_generations_get_nothing() {
        let mut router = Router::default();
        let old_leaves = [view(1, 1, 101, false), view(1, 2, 102, false), view(2, 1, 201, false)];
        raise(&mut router, 9, Target::Any).unwrap();
        raise(&mut router, 9, Target::Workers).unwrap();
        assert_eq!(router.deliver(Some(2), &old_leaves), []);
        let new = [view(1, 1, 101, true), view(2, 1, 201, true), view(2, 2, 202, true)];
        let mut got = router.deliver(Some(2), &new);
        got.sort_unstable();
        assert_eq!(got, [(1, 9), (1, 9), (2, 9)]);
    }

    #[test]
    fn full_queues_drop_and_count() {
        let mut router = Router::default();
        for _ in 0..MOST_QUEUED {
            raise(&mut router, 4, Target::Worker(2)).unwrap();
        }
        let reason = raise(&mut router, 4, Target::Workers).unwrap_err();
        assert!(reason.contains("1024 signals wait already for worker 2"), "{reason}");
        let counts = SignalCounts { routed: MOST_QUEUED as u64 + 1, dropped: 1 };
        assert_eq!(router.counts().collect::<Vec<_>>(), [(4, counts)]);
        assert!(raise(&mut router, 4, Target::Worker(3)).unwrap_err().contains("there are 2"));
    }

    #[test]
    fn a_worker_that_is_taken_away_leaves_its_signals() {
        let mut router = Router::default();
        raise(&mut router, 4, Target::Worker(1)).unwrap();
        raise(&mut router, 5, Target::Worker(2)).unwrap();
        let said = router.worker_count(1);
        assert_eq!(said, ["signal 5 dropped (1 so far): worker 2 was taken away"]);
        assert_eq!(router.deliver(Some(1), &two()), [(0, 4)]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Raise(u8, Target),
        /// The process of a worker takes the oldest signal that it was sent.
        Take(usize),
        /// The process of a worker dies, and another one comes.
        Die(usize),
        /// A worker accepts no more, or again.
        Turn(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let target =
            prop_oneof![Just(Target::Any), (1u32..=3).prop_map(Target::Worker), Just(Target::Workers)];
        let step = prop_oneof![
            4 => (any::<u8>(), target).prop_map(|(number, target)| Step::Raise(number, target)),
            4 => (0usize..3).prop_map(Step::Take),
            1 => (0usize..3).prop_map(Step::Die),
            1 => (0usize..3).prop_map(Step::Turn),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        /// Every signal is taken once, by somebody whom it is for, whatever becomes of processes; and no process has more
        /// than its share at any time.
        #[test]
        fn every_signal_is_taken_once(steps in steps()) {
            let mut router = Router::default();
            let mut views = [view(1, 1, 1, true), view(1, 2, 2, true), view(1, 3, 3, true)];
            let mut sent: [VecDeque<u8>; 3] = Default::default();
            let mut next_pid = 4;
            let (mut expected, mut got) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Raise(number, target) => {
                        router.raise(number, target, Some(1), 3, &views).unwrap();
                        match target {
                            Target::Worker(id) => expected.push((Some(id), number)),
                            Target::Workers => expected.extend((1..=3).map(|id| (Some(id), number))),
                            _ => expected.push((None, number)),
                        }
                    }
                    Step::Take(index) => {
                        if let Some(number) = sent[index].pop_front() {
                            router.taken(views[index].pid, number);
                            got.push((Some(views[index].id), number));
                        }
                    }
                    Step::Die(index) => {
                        views[index].pid = pid(next_pid);
                        next_pid += 1;
                        sent[index].clear();
                    }
                    Step::Turn(index) => views[index].accepts = !views[index].accepts,
                }
                for (index, number) in router.deliver(Some(1), &views) {
                    prop_assert!(views[index].accepts);
                    sent[index].push_back(number);
                    prop_assert!(sent[index].len() <= MOST_UNTAKEN);
                }
            }
            views = views.map(|view| WorkerView { accepts: true, ..view });
            loop {
                for (index, number) in router.deliver(Some(1), &views) {
                    sent[index].push_back(number);
                }
                if sent.iter().all(VecDeque::is_empty) {
                    break;
                }
                for index in 0..3 {
                    for number in sent[index].drain(..) {
                        router.taken(views[index].pid, number);
                        got.push((Some(views[index].id), number));
                    }
                }
            }
            prop_assert_eq!(got.len(), expected.len());
            // Those for one worker are found there; what is left are those for any.
            let (mut any, for_one): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(id, _)| id.is_none());
            for wanted in for_one {
                let found = got.iter().position(|&taken| taken == wanted);
                prop_assert!(found.is_some(), "{wanted:?} was not taken");
                got.swap_remove(found.unwrap());
            }
            let mut rest: Vec<_> = got.into_iter().map(|(_, number)| (None, number)).collect();
            any.sort_unstable();
            rest.sort_unstable();
            prop_assert_eq!(any, rest);
        }
    }
}
