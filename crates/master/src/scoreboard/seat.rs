//! A seat: what one process says about itself.
//!
//! Owns the words of a seat's page. The process that sits there stores, the master clears before the next one comes.

use std::sync::atomic::AtomicU64;

use super::record::{self, Record};
use super::sums::{self, Sum, Sums};
use super::{PAGE_WORDS, add, load, store};

/// Applications that are counted one by one; later ones only add to the worker's sums.
pub const APPS: usize = 16;

/// Words of a page, by what begins there. Identity and state have a cache line pair each.
const LOAD: usize = 13;
const REACH: usize = 15;
const STATE: usize = 16;
const SUMS: usize = 48;
const APP_COUNT: usize = 112;
const APP_TABLE: usize = 128;
const APP_WORDS: usize = 16;
/// Bytes of a mount point that are kept.
const MOUNT_BYTES: usize = 96;

const _: () = assert!(SUMS + sums::WORDS <= APP_COUNT);
const _: () = assert!(APP_TABLE + APPS * APP_WORDS <= PAGE_WORDS);

/// One process's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    pub(super) used: &'a AtomicU64,
    pub(super) words: &'a [AtomicU64; PAGE_WORDS],
    pub(super) records: &'a [[AtomicU64; record::WORDS]],
}

/// Who sits on a seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The process id; 0: the process is dead, and its numbers are still to be added up.
    pub pid: u32,
    /// The worker's number, from 1.
    pub worker: u32,
    /// The number of its generation.
    pub generation: u32,
    /// Which process of that worker it is, from 1.
    pub spawn: u32,
    /// When it started, milliseconds of the monotonic clock.
    pub started_ms: u64,
    /// When it started, unix seconds.
    pub started_unix_s: u64,
    /// How many cores it has.
    pub cores: u32,
}

/// What a process's loop is doing, as far as it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopState {
    /// It waits for something to happen, or has not begun: nothing is wrong with it, however long that takes.
    Waiting,
    /// It works by itself, between two runs of application code.
    Working,
    /// It has given control to the application, on this core.
    Running(u32),
}

/// How things stand with a process: overwritten, never added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeatState {
    /// Cores with a request.
    pub busy_cores: u64,
    /// Open connections.
    pub connections: u64,
    /// ... that wait for a request.
    pub idle: u64,
    /// ... in the middle of a head or body.
    pub reading: u64,
    /// ... whose request has a core.
    pub busy: u64,
    /// ... that send the rest of a response, or wait for the client's end.
    pub draining: u64,
    /// ... whose request waits for a core.
    pub parked: u64,
    /// Since when the one that has waited longest does, milliseconds of the monotonic clock; 0: none.
    pub oldest_parked_ms: u64,
    /// The longest time of the second before [`Self::lag_at_ms`] in which the loop did not look at its descriptors.
    pub lag_us: u64,
    /// When that was measured.
    pub lag_at_ms: u64,
    /// Microseconds of a request: half of the last one and half of what stood here before, as uWSGI has it.
    pub average_us: u64,
    /// Whether it takes new connections.
    pub accepting: u64,
}

impl<'a> Seat<'a> {
    /// Starts a life: everything else is 0.
    pub fn begin(self, life: &Life) {
        self.clear();
        self.set_life(life);
        store(self.used, 1);
    }

    /// Makes the seat as if nobody had ever sat there. What was counted must have been absorbed ([`super::Totals`]).
    pub fn clear(self) {
        if load(self.used) != 0 {
            self.used_cores().for_each(Record::clear);
            self.words.iter().for_each(|word| store(word, 0));
            store(self.used, 0);
        }
    }

    /// The process is dead; its numbers stay until they are absorbed.
    pub fn bury(self) {
        store(self.pid(), 0);
    }

    /// Who sits here.
    pub fn life(self) -> Life {
        let word = |index: usize| load(&self.words[index]);
        let small = |index| u32::try_from(word(index)).unwrap_or(u32::MAX);
        Life {
            pid: small(0),
            worker: small(1),
            generation: small(2),
            spawn: small(3),
            started_ms: word(4),
            started_unix_s: word(5),
            cores: small(6),
        }
    }

    fn set_life(self, life: &Life) {
        for (index, value) in [
            (1, u64::from(life.worker)),
            (2, u64::from(life.generation)),
            (3, u64::from(life.spawn)),
            (4, life.started_ms),
            (5, life.started_unix_s),
            (6, u64::from(life.cores)),
            (0, u64::from(life.pid)),
        ] {
            store(&self.words[index], value);
        }
    }

    /// Whether a process sits here, or has left numbers behind.
    pub fn is_used(self) -> bool {
        load(self.used) != 0
    }

    /// The process id; 0: no process.
    pub fn pid(self) -> &'a AtomicU64 {
        &self.words[0]
    }

    // --- the loop ---

    /// When the loop last had control, milliseconds of the monotonic clock.
    pub fn stamp_ms(self) -> &'a AtomicU64 {
        &self.words[8]
    }

    /// What it has done since.
    pub fn loop_state(self) -> LoopState {
        match load(&self.words[9]) {
            0 => LoopState::Waiting,
            1 => LoopState::Working,
            core => LoopState::Running(u32::try_from(core - 2).unwrap_or(u32::MAX)),
        }
    }

    /// The loop has control, and what it does now.
    pub fn stamp(self, now_ms: u64, state: LoopState) {
        store(self.stamp_ms(), now_ms);
        self.set_loop_state(state);
    }

    /// What the loop does, found out while it has no control.
    pub fn set_loop_state(self, state: LoopState) {
        store(
            &self.words[9],
            match state {
                LoopState::Waiting => 0,
                LoopState::Working => 1,
                LoopState::Running(core) => u64::from(core) + 2,
            },
        );
    }

    /// Whether the process would take another connection, and how many it has: for those who share listeners with it,
    /// so it is said at once, unlike [`Self::set_state`].
    pub fn set_load(self, accepts: bool, connections: u64) {
        store(&self.words[LOAD], connections << 1 | u64::from(accepts));
    }

    /// What [`Self::set_load`] has said.
    pub fn load(self) -> (bool, u64) {
        let word = load(&self.words[LOAD]);
        (word & 1 != 0, word >> 1)
    }

    /// When the code that has control has to have given it back, milliseconds of the monotonic clock; 0: nobody said so.
    /// Means nothing in other states of the loop.
    pub fn deadline_ms(self) -> &'a AtomicU64 {
        &self.words[10]
    }

    /// Not 0: a deadline was set, now or earlier.
    pub fn sets_deadlines(self) -> &'a AtomicU64 {
        &self.words[12]
    }

    /// How often the process has printed the stacks of its requests.
    pub fn stacks_printed(self) -> &'a AtomicU64 {
        &self.words[11]
    }

    /// How many cores run a request: written whenever that changes.
    pub fn busy_cores(self) -> &'a AtomicU64 {
        &self.words[STATE]
    }

    /// How things stand.
    pub fn state(self) -> SeatState {
        let word = |index: usize| load(&self.words[STATE + index]);
        SeatState {
            busy_cores: word(0),
            connections: word(1),
            idle: word(2),
            reading: word(3),
            busy: word(4),
            draining: word(5),
            parked: word(6),
            oldest_parked_ms: word(7),
            lag_us: word(8),
            lag_at_ms: word(9),
            average_us: word(10),
            accepting: word(11),
        }
    }

    /// Says how things stand; but for `average_us`, which [`Self::ended`] keeps.
    pub fn set_state(self, state: &SeatState) {
        let values = [
            state.busy_cores,
            state.connections,
            state.idle,
            state.reading,
            state.busy,
            state.draining,
            state.parked,
            state.oldest_parked_ms,
            state.lag_us,
            state.lag_at_ms,
        ];
        for (word, value) in self.words[STATE..].iter().zip(values) {
            store(word, value);
        }
        store(&self.words[STATE + 11], state.accepting);
    }

    // --- sums ---

    /// What the process has counted.
    pub fn sums(self) -> Sums {
        Sums::read(self.sum_words())
    }

    pub(super) fn sum_words(self) -> &'a [AtomicU64] {
        &self.words[SUMS..SUMS + sums::WORDS]
    }

    /// Counts.
    pub fn add(self, sum: Sum, value: u64) {
        add(&self.words[SUMS + sum as usize], value);
    }

    /// Takes over a counter that the process keeps elsewhere.
    pub fn set(self, sum: Sum, value: u64) {
        store(&self.words[SUMS + sum as usize], value);
    }

    /// Counts a request that has ended, by its status, size and time.
    pub fn ended(self, status: u16, sent_bytes: u64, us: u64, switches: u64) {
        self.count(status, sent_bytes, us);
        self.add(Sum::Switches, switches);
        let average = &self.words[STATE + 10];
        store(average, u64::midpoint(load(average), us));
    }

    /// Counts a request that has ended and needed no core, also in `what`. The average of applications is not touched.
    pub fn ended_without_core(self, what: Option<Sum>, status: u16, sent_bytes: u64, us: u64) {
        self.count(status, sent_bytes, us);
        if let Some(what) = what {
            self.add(what, 1);
        }
    }

    fn count(self, status: u16, sent_bytes: u64, us: u64) {
        self.add(Sum::Requests, 1);
        self.add(Sum::of_status(status), 1);
        self.add(Sum::SentBytes, sent_bytes);
        self.add(Sum::RunningUs, us);
        sums::observe(self.sum_words(), us);
    }

    // --- applications ---

    /// Names the application with that number, from 0.
    pub fn set_app(self, app: u32, mount: &[u8], loading_s: u64) {
        let Some(words) = self.app_words(app) else { return };
        let known = load(&self.words[APP_COUNT]).max(u64::from(app) + 1);
        store(&self.words[APP_COUNT], known);
        store(&words[2], loading_s);
        let mount = &mount[..mount.len().min(MOUNT_BYTES)];
        store(&words[3], mount.len() as u64);
        record::store_text(&words[4..], mount);
    }

    /// Counts a request of an application when it is called: so many it has had.
    pub fn set_app_requests(self, app: u32, requests: u64) {
        if let Some([had, ..]) = self.app_words(app) {
            store(had, requests);
        }
    }

    /// Counts an exception that an application let through.
    pub fn count_exception(self, app: Option<u32>) {
        self.add(Sum::Exceptions, 1);
        if let Some([_, exceptions, ..]) = app.and_then(|app| self.app_words(app)) {
            add(exceptions, 1);
        }
    }

    /// The applications that were named.
    pub fn apps(self) -> Vec<AppView> {
        let count = u32::try_from(load(&self.words[APP_COUNT])).unwrap_or(0);
        (0..count)
            .filter_map(|app| {
                let words = self.app_words(app)?;
                let length = usize::try_from(load(&words[3])).unwrap_or(0).min(MOUNT_BYTES);
                Some(AppView {
                    mount: record::load_text(&words[4..], length),
                    requests: load(&words[0]),
                    exceptions: load(&words[1]),
                    loading_s: load(&words[2]),
                })
            })
            .collect()
    }

    fn app_words(self, app: u32) -> Option<&'a [AtomicU64]> {
        let app = usize::try_from(app).ok().filter(|&app| app < APPS)?;
        let start = APP_TABLE + app * APP_WORDS;
        Some(&self.words[start..start + APP_WORDS])
    }

    // --- cores ---

    /// The record of a core.
    pub fn core(self, core: u32) -> Option<Record<'a>> {
        Some(Record { words: self.records.get(core as usize)? })
    }

    /// A core is used, perhaps for the first time: from it on to the last one, records are worth a look.
    pub fn note_core(self, core: u32) {
        // Stored is how many there are from it on, so that 0 is none.
        let word = &self.words[REACH];
        let reach = (self.records.len() as u64).saturating_sub(u64::from(core));
        if load(word) < reach {
            store(word, reach);
        }
    }

    /// The first core that has ever had a request in this life (they are taken from the last to the first).
    pub fn first_used_core(self) -> u32 {
        let all = self.records.len() as u64;
        u32::try_from(all.saturating_sub(load(&self.words[REACH]))).unwrap_or(u32::MAX)
    }

    /// The records from there on.
    pub fn used_cores(self) -> impl Iterator<Item = Record<'a>> {
        self.records[self.first_used_core() as usize..].iter().map(|words| Record { words })
    }
}

/// An application of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppView {
    /// Its path prefix; empty: the whole site.
    pub mount: Vec<u8>,
    /// Requests it was called for.
    pub requests: u64,
    /// Exceptions it let through.
    pub exceptions: u64,
    /// Seconds its loading took.
    pub loading_s: u64,
}
