//! The workers of the instance as one of them sees the others: what `uwsgi.workers()` and its like answer.

use greenloom_master::scoreboard::{AppView, Count, Seat, Sum};
use greenloom_master::{Pid, Scoreboard, Totals, WorkerContext, memory};

/// Where the numbers are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Workers {
    scoreboard: Scoreboard,
    totals: Totals,
}

/// One worker's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerNumbers {
    /// Its number, from 1.
    pub id: u32,
    /// Its process; 0: there is none in this generation.
    pub pid: u32,
    /// Whether a request has one of its cores.
    pub busy: bool,
    /// Requests of all its processes that this one knows of.
    pub requests: u64,
    /// Requests of the present one.
    pub delta_requests: u64,
    /// uwsgi signals handled.
    pub signals: u64,
    /// Exceptions that applications let through.
    pub exceptions: u64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Address space in bytes.
    pub vsz: u64,
    /// Microseconds of all requests.
    pub running_us: u64,
    /// When the present process started, unix seconds.
    pub last_spawn_s: u64,
    /// How often it was started again.
    pub respawns: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Microseconds of a request, the recent ones weighing most.
    pub average_us: u64,
    /// Its applications.
    pub apps: Vec<AppView>,
}

impl Workers {
    /// As the worker that `context` is for sees them.
    pub fn new(context: &WorkerContext) -> Self {
        Self { scoreboard: context.scoreboard.clone(), totals: context.totals.clone() }
    }

    /// All of them, by number.
    pub fn list(&self) -> Vec<WorkerNumbers> {
        let known = self.scoreboard.used().map(|(_, seat)| seat.life().worker).max().unwrap_or(0);
        (1..=known.max(self.totals.workers())).map(|id| self.worker(id)).collect()
    }

    fn worker(&self, id: u32) -> WorkerNumbers {
        let seats: Vec<Seat<'_>> =
            self.scoreboard.used().map(|(_, seat)| seat).filter(|seat| seat.life().worker == id).collect();
        let mut sums = self.totals.of_dead(id);
        for seat in &seats {
            sums += &seat.sums();
        }
        let mut numbers = WorkerNumbers {
            id,
            requests: sums.of(Sum::Requests),
            signals: sums.of(Sum::Signals),
            exceptions: sums.of(Sum::Exceptions),
            running_us: sums.of(Sum::RunningUs),
            sent_bytes: sums.of(Sum::SentBytes),
            respawns: self.totals.counted(Count::Spawns(id)).saturating_sub(1),
            ..WorkerNumbers::default()
        };
        // While one is recycled there are two: the younger one stays.
        let newest =
            seats.iter().filter(|seat| seat.life().pid != 0).max_by_key(|seat| seat.life().started_ms);
        if let Some(seat) = newest {
            let (life, state) = (seat.life(), seat.state());
            let pid = i32::try_from(life.pid).ok().and_then(Pid::new);
            let (vsz, rss) = pid.and_then(|pid| memory(pid).ok()).unwrap_or_default();
            numbers.pid = life.pid;
            numbers.busy = state.busy_cores > 0;
            numbers.delta_requests = seat.sums().of(Sum::Requests);
            numbers.rss = rss;
            numbers.vsz = vsz;
            numbers.last_spawn_s = life.started_unix_s;
            numbers.average_us = state.average_us;
            numbers.apps = seat.apps();
        }
        numbers
    }
}
