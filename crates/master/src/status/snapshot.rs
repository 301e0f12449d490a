//! What is shown: the process tree as the master's loop last described it, and a picture of it with all numbers.
//!
//! Owns [`TreeStatus`], which the loop fills, and [`Picture`], which a reader makes of it: numbers by worker, added up over
//! the dead and the living, so that they never go back. In which form they are shown is decided elsewhere.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use greenloom_sys::clock::monotonic_ms;
use greenloom_sys::listen;
use greenloom_sys::process::{self, Pid};

use crate::scoreboard::{
    AppView, Count, Life, LoopState, Record, RecordView, Scoreboard, SeatState, Sum, Sums, Totals,
};
use crate::user_locks::UserLocks;

/// A measured absence of a loop is of interest for so long.
const LAG_KEPT_MS: u64 = 2000;

/// The tree, as the master's loop sees it. It says so whenever something has changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeStatus {
    pub(crate) phase: Phase,
    /// Readiness says no although nothing is wrong.
    pub(crate) drained: bool,
    /// The number of the generation that serves.
    pub(crate) serving: Option<u32>,
    /// Workers that are wanted.
    pub(crate) processes: u32,
    pub(crate) generations: Vec<GenerationStatus>,
    /// Empty once the instance stops: whoever keeps a copy of a descriptor keeps the socket open.
    pub(crate) listeners: Vec<Arc<ListenerStatus>>,
    /// Looked at when somebody asks. `None`: nothing is known of the instance yet.
    pub(crate) locks: Option<UserLocks>,
}

/// By number of the lock: the process that has it, or 0.
fn holders(locks: &UserLocks) -> impl Iterator<Item = u32> {
    (0..locks.count()).map(|number| locks.holder(number).unwrap_or(0))
}

/// Where the instance stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Has never been ready.
    #[default]
    Starting,
    Serving,
    /// A stop is about to begin; until then only readiness says no.
    Leaving,
    Stopping,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Leaving => "leaving",
            Self::Stopping => "stopping",
        }
    }
}

/// A generation.
#[derive(Clone, Debug)]
pub(crate) struct GenerationStatus {
    pub(crate) number: u32,
    /// 0: it is dead, its workers serve on.
    pub(crate) pid: i32,
    /// `loading`, `starting` or `serving`.
    pub(crate) stage: &'static str,
    pub(crate) scoreboard: Scoreboard,
    pub(crate) workers: Vec<WorkerStatus>,
}

/// One process of a worker, or its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerStatus {
    pub(crate) id: u32,
    pub(crate) seat: u32,
    /// 0: there is no process now.
    pub(crate) pid: i32,
    pub(crate) state: WorkerState,
    /// When the process started, milliseconds of the monotonic clock.
    pub(crate) since_ms: u64,
}

/// What becomes of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkerState {
    /// It takes connections.
    Accepting,
    /// It loads, or is about to be forked.
    Starting,
    /// There is no process, until the next attempt.
    Down,
    /// It finishes its requests and leaves.
    Draining,
}

impl WorkerState {
    pub(crate) const ALL: [Self; 4] = [Self::Accepting, Self::Starting, Self::Down, Self::Draining];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Starting => "starting",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

/// A listener.
#[derive(Debug)]
pub(crate) struct ListenerStatus {
    pub(crate) name: String,
    pub(crate) protocol: &'static str,
    pub(crate) backlog: u32,
    /// A duplicate, to ask for the length of its queue.
    pub(crate) socket: OwnedFd,
}

/// The place where the loop puts it and readers find it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<Mutex<TreeStatus>>);

impl Board {
    /// Replaces what was there.
    pub(crate) fn set(&self, status: TreeStatus) {
        let old = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), status);
        // Outside of the lock: it may unmap memory and close sockets.
        drop(old);
    }

    /// A copy.
    pub(crate) fn get(&self) -> TreeStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything that can be shown, at one moment.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) phase: Phase,
    pub(crate) drained: bool,
    pub(crate) serving: Option<u32>,
    pub(crate) processes: u32,
    pub(crate) generations: Vec<GenerationPicture>,
    /// By number: those that are wanted, and those that were.
    pub(crate) workers: BTreeMap<u32, WorkerPicture>,
    pub(crate) listeners: Vec<ListenerPicture>,
    pub(crate) locks: Vec<u32>,
    pub(crate) requests: u64,
    pub(crate) reloads: [u64; 2],
    pub(crate) upgrades: u64,
    pub(crate) signals_dropped: u64,
    pub(crate) now_ms: u64,
}

#[derive(Debug)]
pub(crate) struct GenerationPicture {
    pub(crate) number: u32,
    pub(crate) pid: i32,
    pub(crate) stage: &'static str,
    pub(crate) workers: usize,
}

#[derive(Debug)]
pub(crate) struct ListenerPicture {
    pub(crate) name: String,
    pub(crate) protocol: &'static str,
    pub(crate) queue: u32,
    pub(crate) max_queue: u32,
}

/// A worker's number, with its processes.
#[derive(Debug, Default)]
pub(crate) struct WorkerPicture {
    /// Of all its processes, dead and living.
    pub(crate) sums: Sums,
    pub(crate) spawns: u64,
    pub(crate) harakiri: u64,
    pub(crate) recycled: u64,
    /// The living ones: first the one that serves, or will.
    pub(crate) processes: Vec<ProcessPicture>,
}

/// A process of a worker.
#[derive(Debug)]
pub(crate) struct ProcessPicture {
    pub(crate) pid: i32,
    pub(crate) generation: u32,
    pub(crate) state: WorkerState,
    pub(crate) since_ms: u64,
    pub(crate) rss: u64,
    pub(crate) vsz: u64,
    /// What it says about itself, once it does.
    pub(crate) seat: Option<SeatPicture>,
}

/// What a process says about itself.
#[derive(Debug)]
pub(crate) struct SeatPicture {
    pub(crate) life: Life,
    pub(crate) sums: Sums,
    pub(crate) state: SeatState,
    pub(crate) loop_state: LoopState,
    pub(crate) stamp_ms: u64,
    pub(crate) apps: Vec<AppView>,
    pub(crate) first_used_core: u32,
    /// From that one on; `None`: they were not asked for.
    pub(crate) cores: Option<Vec<RecordView>>,
}

/// How a worker's cores are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) all: u64,
    pub(crate) running: u64,
    pub(crate) suspended: u64,
}

impl Picture {
    /// `with_cores`: the records of cores, too.
    pub(crate) fn take(tree: &TreeStatus, totals: &Totals, with_cores: bool) -> Self {
        let mut workers: BTreeMap<u32, WorkerPicture> =
            (1..=totals.workers().max(tree.processes)).map(|id| (id, WorkerPicture::default())).collect();
        {
            let _reading = totals.reading();
            for (&id, worker) in &mut workers {
                worker.sums = totals.of_dead(id);
            }
            for generation in &tree.generations {
                // Not only those the loop knows: a process that has died is counted until it is absorbed.
                for (_, seat) in generation.scoreboard.used() {
                    workers.entry(seat.life().worker).or_default().sums += &seat.sums();
                }
            }
        }
        for generation in &tree.generations {
            for worker in generation.workers.iter().filter(|worker| worker.pid != 0) {
                let picture = ProcessPicture::take(generation, worker, with_cores);
                workers.entry(worker.id).or_default().processes.push(picture);
            }
        }
        for (&id, worker) in &mut workers {
            worker.spawns = totals.counted(Count::Spawns(id));
            worker.harakiri = totals.counted(Count::Harakiri(id));
            worker.recycled = totals.counted(Count::Recycled(id));
            worker.processes.sort_by_key(|process| (process.state, std::cmp::Reverse(process.generation)));
        }
        let generations = tree.generations.iter().map(|generation| GenerationPicture {
            number: generation.number,
            pid: generation.pid,
            stage: generation.stage,
            workers: generation.workers.iter().filter(|worker| worker.pid != 0).count(),
        });
        let listeners = tree.listeners.iter().map(|listener| {
            let (queue, max_queue) = listen::queue(listener.socket.as_fd()).unwrap_or((0, listener.backlog));
            ListenerPicture { name: listener.name.clone(), protocol: listener.protocol, queue, max_queue }
        });
        Self {
            phase: tree.phase,
            drained: tree.drained,
            serving: tree.serving,
            processes: tree.processes,
            generations: generations.collect(),
            workers,
            listeners: listeners.collect(),
            locks: tree.locks.iter().flat_map(holders).collect(),
            requests: totals.requests(),
            reloads: [totals.counted(Count::ReloadsDone), totals.counted(Count::ReloadsFailed)],
            upgrades: totals.counted(Count::Upgrades),
            signals_dropped: totals.counted(Count::SignalsDropped),
            now_ms: monotonic_ms(),
        }
    }

    /// Whether somebody takes connections.
    pub(crate) fn is_alive(&self) -> bool {
        self.processes().any(|process| process.state == WorkerState::Accepting)
    }

    /// Whether clients are welcome.
    pub(crate) fn is_ready(&self) -> bool {
        self.phase == Phase::Serving && !self.drained && self.is_alive()
    }

    /// Why they are not, in a word.
    pub(crate) fn why_not_ready(&self) -> &'static str {
        match self.phase {
            Phase::Serving if self.drained => "drained",
            Phase::Serving => "no worker accepts",
            phase => phase.name(),
        }
    }

    /// All living processes of workers.
    pub(crate) fn processes(&self) -> impl Iterator<Item = &ProcessPicture> {
        self.workers.values().flat_map(|worker| &worker.processes)
    }
}

impl ProcessPicture {
    fn take(generation: &GenerationStatus, worker: &WorkerStatus, with_cores: bool) -> Self {
        let seat = generation.scoreboard.seat(worker.seat).filter(|seat| {
            // It may not have sat down yet, and what its predecessor left is not its own.
            u32::try_from(worker.pid).is_ok_and(|pid| seat.is_used() && seat.life().pid == pid)
        });
        let (vsz, rss) = Pid::new(worker.pid).and_then(|pid| process::memory(pid).ok()).unwrap_or_default();
        Self {
            pid: worker.pid,
            generation: generation.number,
            state: worker.state,
            since_ms: worker.since_ms,
            rss,
            vsz,
            seat: seat.map(|seat| SeatPicture {
                life: seat.life(),
                sums: seat.sums(),
                state: seat.state(),
                loop_state: seat.loop_state(),
                stamp_ms: crate::scoreboard::load(seat.stamp_ms()),
                apps: seat.apps(),
                first_used_core: seat.first_used_core(),
                cores: with_cores.then(|| seat.used_cores().map(Record::view).collect()),
            }),
        }
    }

    /// How its cores are used.
    pub(crate) fn cores(&self) -> Cores {
        let Some(seat) = &self.seat else { return Cores::default() };
        let busy = seat.state.busy_cores;
        let running = u64::from(matches!(seat.loop_state, LoopState::Running(_))).min(busy);
        Cores { all: u64::from(seat.life.cores), running, suspended: busy - running }
    }

    /// For how long its loop has been, or was within the last seconds, away from its descriptors: microseconds.
    pub(crate) fn lag_us(&self, now_ms: u64) -> u64 {
        let Some(seat) = &self.seat else { return 0 };
        let measured = if seat.state.lag_at_ms + LAG_KEPT_MS >= now_ms { seat.state.lag_us } else { 0 };
        let present = match seat.loop_state {
            LoopState::Waiting => 0,
            _ => now_ms.saturating_sub(seat.stamp_ms) * 1000,
        };
        measured.max(present)
    }

    /// For how long the request that has waited longest for a core does so: milliseconds.
    pub(crate) fn queue_age_ms(&self, now_ms: u64) -> u64 {
        match self.seat.as_ref().map_or(0, |seat| seat.state.oldest_parked_ms) {
            0 => 0,
            since_ms => now_ms.saturating_sub(since_ms),
        }
    }

    /// Requests that it has ended.
    pub(crate) fn requests(&self) -> u64 {
        self.seat.as_ref().map_or(0, |seat| seat.sums.of(Sum::Requests))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A tree of two generations, of which the older one drains: worker 1 has a process in each.
    pub(in crate::status) fn tree() -> (TreeStatus, Totals) {
        let totals = Totals::create().unwrap();
        let pid = Pid::current().get();
        let worker = |id, state| WorkerStatus { id, seat: id - 1, pid, state, since_ms: 1 };
        let generation = |number, workers: Vec<WorkerStatus>| {
            let scoreboard = Scoreboard::create(4, 3).unwrap();
            for worker in &workers {
                scoreboard.seat(worker.seat).unwrap().begin(&Life {
                    pid: u32::try_from(pid).unwrap(),
                    worker: worker.id,
                    generation: number,
                    spawn: 1,
                    started_ms: 1,
                    started_unix_s: 2,
                    cores: 3,
                });
                totals.count(Count::Spawns(worker.id));
            }
            GenerationStatus { number, pid, stage: "serving", scoreboard, workers }
        };
        let generations = vec![
            generation(1, vec![worker(1, WorkerState::Draining)]),
            generation(2, vec![worker(1, WorkerState::Accepting), worker(2, WorkerState::Accepting)]),
        ];
        let tree = TreeStatus {
            phase: Phase::Serving,
            serving: Some(2),
            processes: 2,
            generations,
            ..TreeStatus::default()
        };
        (tree, totals)
    }

    #[test]
    fn sums_go_on_when_a_process_dies() {
        let (mut tree, totals) = tree();
        for generation in &tree.generations {
            generation.scoreboard.seat(0).unwrap().ended(200, 10, 5, 1);
        }
        let requests =
            |tree: &TreeStatus| Picture::take(tree, &totals, false).workers[&1].sums.of(Sum::Requests);
        assert_eq!(requests(&tree), 2);
        totals.absorb(tree.generations[0].scoreboard.seat(0).unwrap());
        assert_eq!(requests(&tree), 2);
        tree.generations.remove(0);
        assert_eq!(requests(&tree), 2);
    }

    #[test]
    fn the_process_that_serves_comes_first() {
        let (tree, totals) = tree();
        let picture = Picture::take(&tree, &totals, true);
        let states: Vec<_> = picture.workers[&1].processes.iter().map(|process| process.state).collect();
        assert_eq!(states, [WorkerState::Accepting, WorkerState::Draining]);
        assert_eq!(picture.workers[&1].spawns, 2);
        assert!(picture.is_ready());
    }

    #[test]
    fn readiness_has_its_reasons() {
        let (mut tree, totals) = tree();
        let why = |tree: &TreeStatus| {
            let picture = Picture::take(tree, &totals, false);
            (picture.is_alive(), picture.is_ready(), picture.why_not_ready())
        };
        tree.drained = true;
        assert_eq!(why(&tree), (true, false, "drained"));
        tree.phase = Phase::Leaving;
        assert_eq!(why(&tree), (true, false, "leaving"));
        tree.phase = Phase::Serving;
        tree.drained = false;
        tree.generations.clear();
        assert_eq!(why(&tree), (false, false, "no worker accepts"));
    }

    #[test]
    fn a_loop_that_is_away_now_lags() {
        let (tree, totals) = tree();
        let seat = tree.generations[1].scoreboard.seat(0).unwrap();
        seat.set_state(&SeatState { busy_cores: 2, lag_us: 70, lag_at_ms: 10_000, ..SeatState::default() });
        seat.stamp(9_000, LoopState::Running(1));
        let picture = Picture::take(&tree, &totals, false);
        let process = &picture.workers[&1].processes[0];
        assert_eq!(process.lag_us(10_000), 1_000_000);
        assert_eq!(process.cores(), Cores { all: 3, running: 1, suspended: 1 });
        seat.stamp(10_000, LoopState::Waiting);
        let picture = Picture::take(&tree, &totals, false);
        let process = &picture.workers[&1].processes[0];
        assert_eq!((process.lag_us(10_000), process.lag_us(12_001)), (70, 0));
        assert_eq!(process.cores(), Cores { all: 3, running: 0, suspended: 2 });
    }
}
