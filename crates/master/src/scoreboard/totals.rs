//! The instance's numbers: they outlive workers, generations and the program that counts them.
//!
//! Owns a second, small shared memory, made once by the first master and handed on to every generation and through binary
//! upgrades: the number of the next request, what the master counts, and for each worker's number what its dead processes
//! have counted. So sums never go back: what is shown is a row of the dead plus the seats of the living, and
//! [`Totals::absorb`] moves a seat's counters over in one step for whoever reads under [`Totals::reading`].
//!
//! ```text
//! first page       magic, requests, what the master counts
//! then             a row of 64 words for each worker's number: sums, then respawns and kills
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenloom_sys::shared_memory::SharedMemory;

use super::seat::Seat;
use super::sums::{self, Sums};
use super::{PAGE_WORDS, add, load, store};

const MAGIC: u64 = u64::from_ne_bytes(*b"totals\x00\x02");
const REQUESTS: usize = 1;
const WORKERS: usize = 2;
const COUNTS: usize = 8;
/// Rows; workers with higher numbers share the last one.
const ROWS: usize = 1024;
const ROW_WORDS: usize = 64;
/// What the master counts for a worker stands at the end of its row.
const ROW_COUNTS: usize = 56;
const LENGTH: usize = PAGE_WORDS + ROWS * ROW_WORDS;

const _: () = assert!(sums::WORDS <= ROW_COUNTS);

/// What the master counts: for the instance, or for one worker's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Reloads whose generation serves.
    ReloadsDone,
    /// Reloads that have failed: the old generation serves on.
    ReloadsFailed,
    /// Binary upgrades.
    Upgrades,
    /// uwsgi signals that nobody could take.
    SignalsDropped,
    /// Processes of this worker, the first one included.
    Spawns(u32),
    /// ... that were killed because they held a request and gave no sign of life.
    Harakiri(u32),
    /// ... that were recycled.
    Recycled(u32),
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Totals {
    memory: Arc<SharedMemory>,
    /// Held while a seat is absorbed, and by those who add seats and rows up; of one process each.
    lock: Arc<Mutex<()>>,
}

impl Totals {
    /// New ones, all 0.
    pub fn create() -> io::Result<Self> {
        let memory = SharedMemory::create("greenloom-totals", LENGTH)?;
        store(&memory.words()[0], MAGIC);
        Ok(Self { memory: Arc::new(memory), lock: Arc::default() })
    }

    /// Those that another process, or this one's earlier program, created.
    ///
    /// # Errors
    /// `InvalidData` when the file holds something else.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let memory = SharedMemory::map(file)?;
        if memory.words().len() != LENGTH || load(&memory.words()[0]) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the totals of this version"));
        }
        Ok(Self { memory: Arc::new(memory), lock: Arc::default() })
    }

    /// Counts a request of the whole instance; its number, from 1.
    pub fn next_request(&self) -> u64 {
        self.memory.words()[REQUESTS].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Requests of the whole instance so far.
    pub fn requests(&self) -> u64 {
        load(&self.memory.words()[REQUESTS])
    }

    /// Counts one of what the master counts. To be called by the master's loop only.
    pub fn count(&self, what: Count) {
        self.count_many(what, 1);
    }

    /// The same, several at once.
    pub fn count_many(&self, what: Count, number: u64) {
        if let Count::Spawns(worker) = what {
            let highest = &self.memory.words()[WORKERS];
            store(highest, load(highest).max(u64::from(worker)));
        }
        add(self.word(what), number);
    }

    /// The highest number of a worker so far.
    pub fn workers(&self) -> u32 {
        u32::try_from(load(&self.memory.words()[WORKERS])).unwrap_or(u32::MAX)
    }

    /// The value of a count.
    pub fn counted(&self, what: Count) -> u64 {
        load(self.word(what))
    }

    /// The process on this seat is dead, or its scoreboard is given up: its counters go to its worker's row, and the seat is
    /// free for another one. To be called by the master's loop only, once nobody writes there any more.
    pub fn absorb(&self, seat: Seat<'_>) {
        let _reading = self.reading();
        if seat.is_used() {
            for (total, word) in self.row(seat.life().worker).iter().zip(seat.sum_words()) {
                add(total, load(word));
            }
            seat.clear();
        }
    }

    /// Keeps seats from being absorbed while somebody adds them up. Not for long: the master's loop may wait for it.
    pub fn reading(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the dead processes of a worker have counted.
    pub fn of_dead(&self, worker: u32) -> Sums {
        Sums::read(&self.row(worker)[..sums::WORDS])
    }

    fn row(&self, worker: u32) -> &[AtomicU64] {
        let start = PAGE_WORDS + (worker as usize).min(ROWS - 1) * ROW_WORDS;
        &self.memory.words()[start..start + ROW_WORDS]
    }

    fn word(&self, what: Count) -> &AtomicU64 {
        let words = self.memory.words();
        match what {
            Count::ReloadsDone => &words[COUNTS],
            Count::ReloadsFailed => &words[COUNTS + 1],
            Count::Upgrades => &words[COUNTS + 2],
            Count::SignalsDropped => &words[COUNTS + 3],
            Count::Spawns(worker) => &self.row(worker)[ROW_COUNTS],
            Count::Harakiri(worker) => &self.row(worker)[ROW_COUNTS + 1],
            Count::Recycled(worker) => &self.row(worker)[ROW_COUNTS + 2],
        }
    }
}

impl AsFd for Totals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::{Life, Scoreboard, Sum};

    #[test]
    fn requests_are_numbered_across_processes() {
        let ours = Totals::create().unwrap();
        let theirs = Totals::open(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((ours.next_request(), theirs.next_request(), ours.requests()), (1, 2, 2));
    }

    #[test]
    fn what_a_dead_process_counted_is_kept_for_its_worker() {
        let totals = Totals::create().unwrap();
        let board = Scoreboard::create(2, 1).unwrap();
        for (number, spawn) in [(0, 1), (1, 2)] {
            let seat = board.seat(number).unwrap();
            seat.begin(&Life { pid: 5, worker: 3, spawn, ..Life::default() });
            seat.ended(200, 100, 70, 1);
            seat.ended(404, 1, 700, 2);
            totals.absorb(seat);
            assert!(!seat.is_used());
            totals.absorb(seat);
        }
        let sums = totals.of_dead(3);
        assert_eq!((sums.of(Sum::Requests), sums.of(Sum::Status4xx), sums.of(Sum::SentBytes)), (4, 2, 202));
        let latency = sums.latency();
        assert_eq!((latency.count(), latency.sum_us), (4, 1540));
        assert_eq!((latency.buckets[0], latency.buckets[3]), (2, 2));
        assert_eq!(totals.of_dead(4), Sums::default());
        assert_eq!(board.used().count(), 0);
    }

    #[test]
    fn what_the_master_counts() {
        let totals = Totals::create().unwrap();
        let counts = [
            Count::ReloadsDone,
            Count::ReloadsFailed,
            Count::Upgrades,
            Count::SignalsDropped,
            Count::Spawns(1),
            Count::Harakiri(1),
            Count::Recycled(1),
            Count::Spawns(2),
        ];
        for (n, count) in (1_u64..).zip(counts) {
            (0..n).for_each(|_| totals.count(count));
        }
        for (n, count) in (1_u64..).zip(counts) {
            assert_eq!(totals.counted(count), n, "{count:?}");
        }
        assert_eq!(totals.of_dead(1), Sums::default());
        assert_eq!(totals.workers(), 2);
    }

    #[test]
    fn other_files_are_refused() {
        let board = Scoreboard::create(1, 1).unwrap();
        assert!(Totals::open(board.as_fd().try_clone_to_owned().unwrap()).is_err());
    }
}
