//! The scoreboard: what the processes of one generation tell each other, and the master, through shared memory.
//!
//! Owns the layout. A process has a *seat* while it lives; it alone writes there, so that no word needs a locked
//! instruction, and everybody may read. Values are counters, stamps and states: nothing here orders other memory, so
//! every access is relaxed, but for the texts of a record (`record.rs`). What a dead process has counted goes to the
//! instance's [`Totals`] before its seat is used again.
//!
//! ```text
//! first            magic, seats, cores, and a word for each seat: whether it was ever used
//! then             one page for each seat: identity, state, sums, applications   (seat.rs, sums.rs)
//! then             for each seat, 512 bytes for each of its cores                (record.rs)
//! ```
//!
//! The master makes one with each generation ([`Scoreboard::create`]) and keeps it for as long as one of its processes lives;
//! the process that takes a seat calls [`Seat::begin`], the master [`Totals::absorb`] when that process is dead, which
//! frees the seat, and for all seats before it drops the scoreboard.
//!
//! The file is sparse: pages of seats and cores that were never used take no memory, as long as nobody looks at them.
//! [`Scoreboard::used`] and [`Seat::used_cores`] give those that are worth a look.

mod histogram;
mod record;
mod seat;
mod sums;
mod totals;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greenloom_sys::shared_memory::SharedMemory;

pub use histogram::{BOUNDS_US, Histogram};
pub use record::{Begun, CoreState, Record, RecordView, RemoteAddress, RequestView};
pub use seat::{APPS, AppView, Life, LoopState, Seat, SeatState};
pub use sums::{Sum, Sums};
pub use totals::{Count, Totals};

/// Words in a page: seats begin on one.
const PAGE_WORDS: usize = 512;
const MAGIC: u64 = u64::from_ne_bytes(*b"gloom\x00\x00\x02");
const SEATS: usize = 1;
const CORES: usize = 2;
/// Where the words begin that say which seats were used.
const USED: usize = 16;

/// One generation's seats. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    memory: Arc<SharedMemory>,
    seats: u32,
    cores: u32,
}

impl Scoreboard {
    /// A new one, for at most `seats` processes at a time with `cores` cores each.
    pub fn create(seats: u32, cores: u32) -> io::Result<Self> {
        let memory = SharedMemory::create("greenloom-scoreboard", length(seats, cores))?;
        memory.words()[0].store(MAGIC, Ordering::Relaxed);
        memory.words()[SEATS].store(u64::from(seats), Ordering::Relaxed);
        memory.words()[CORES].store(u64::from(cores), Ordering::Relaxed);
        Ok(Self { memory: Arc::new(memory), seats, cores })
    }

    /// The one that another process created.
    ///
    /// # Errors
    /// `InvalidData` when the file is no scoreboard of this version.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let memory = SharedMemory::map(file)?;
        let word = |index: usize| memory.words().get(index).map(|word| word.load(Ordering::Relaxed));
        let number = |index| word(index).and_then(|value| u32::try_from(value).ok());
        match (word(0), number(SEATS), number(CORES)) {
            (Some(MAGIC), Some(seats), Some(cores)) if memory.words().len() == length(seats, cores) => {
                Ok(Self { memory: Arc::new(memory), seats, cores })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a scoreboard of this version")),
        }
    }

    /// How many processes have room.
    pub fn seats(&self) -> u32 {
        self.seats
    }

    /// How many cores each of them has.
    pub fn cores(&self) -> u32 {
        self.cores
    }

    /// The seat with that number, from 0; `None` when there is no such seat.
    pub fn seat(&self, number: u32) -> Option<Seat<'_>> {
        if number >= self.seats {
            return None;
        }
        let words = self.memory.words();
        let page = header_words(self.seats) + number as usize * PAGE_WORDS;
        let records = record_start(self.seats) + number as usize * records_words(self.cores);
        Some(Seat {
            used: words.get(USED + number as usize)?,
            words: words.get(page..)?.first_chunk()?,
            records: words.get(records..records + self.cores as usize * record::WORDS)?.as_chunks().0,
        })
    }

    /// The seats that have had a process since they were made or cleared, with their numbers.
    pub fn used(&self) -> impl Iterator<Item = (u32, Seat<'_>)> {
        (0..self.seats)
            .filter_map(|number| Some((number, self.seat(number)?)))
            .filter(|(_, seat)| seat.is_used())
    }
}

impl AsFd for Scoreboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

fn header_words(seats: u32) -> usize {
    (USED + seats as usize).next_multiple_of(PAGE_WORDS)
}

/// Each seat's records begin on a page, too.
fn records_words(cores: u32) -> usize {
    (cores as usize * record::WORDS).next_multiple_of(PAGE_WORDS)
}

fn record_start(seats: u32) -> usize {
    header_words(seats) + seats as usize * PAGE_WORDS
}

fn length(seats: u32, cores: u32) -> usize {
    (seats as usize).saturating_mul(records_words(cores)).saturating_add(record_start(seats))
}

pub(crate) fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn store(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}

/// Adds to a word that only the caller writes: no locked instruction.
fn add(word: &AtomicU64, value: u64) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(worker: u32) -> Life {
        Life { pid: 99, worker, generation: 3, spawn: 2, started_ms: 5, started_unix_s: 6, cores: 4 }
    }

    #[test]
    fn processes_that_share_the_file_see_the_same_seats() {
        let ours = Scoreboard::create(3, 4).unwrap();
        let theirs = Scoreboard::open(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((theirs.seats(), theirs.cores()), (3, 4));
        theirs.seat(1).unwrap().begin(&life(7));
        theirs.seat(1).unwrap().add(Sum::Requests, 2);
        assert_eq!(ours.seat(1).unwrap().life(), life(7));
        assert_eq!(ours.seat(1).unwrap().sums().of(Sum::Requests), 2);
        assert_eq!(ours.used().map(|(number, _)| number).collect::<Vec<_>>(), [1]);
        assert!(ours.seat(3).is_none());
    }

    #[test]
    fn a_new_life_starts_from_zero() {
        let board = Scoreboard::create(1, 2).unwrap();
        let seat = board.seat(0).unwrap();
        seat.begin(&life(1));
        seat.ended(200, 10, 20, 1);
        seat.set_app(0, b"/x", 1);
        seat.note_core(1);
        seat.core(1).unwrap().ended(0, 0);
        seat.bury();
        assert_eq!((seat.life().pid, seat.sums().of(Sum::Requests)), (0, 1), "kept until it is absorbed");
        seat.begin(&life(2));
        assert_eq!((seat.sums(), seat.apps().len(), seat.first_used_core()), (Sums::default(), 0, 2));
        assert_eq!(seat.core(1).unwrap().view().requests, 0);
        seat.clear();
        assert!(!seat.is_used());
    }

    #[test]
    fn what_was_never_used_takes_no_memory() {
        let board = Scoreboard::create(64, 1000).unwrap();
        let seat = board.seat(63).unwrap();
        seat.begin(&life(1));
        seat.note_core(998);
        seat.core(998).unwrap().ended(0, 0);
        assert_eq!(board.used().count(), 1);
        assert_eq!(seat.used_cores().count(), 2);
        let file = std::fs::File::from(board.as_fd().try_clone_to_owned().unwrap());
        let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
        assert!(blocks * 512 <= 4 * 4096, "{blocks} blocks of 512 bytes");
    }

    #[test]
    fn another_file_is_refused() {
        let file = SharedMemory::create("other", 64).unwrap();
        assert!(Scoreboard::open(file.as_fd().try_clone_to_owned().unwrap()).is_err());
        let file = SharedMemory::create("other", 64).unwrap();
        for (index, value) in [(0, MAGIC), (SEATS, u64::from(u32::MAX)), (CORES, u64::from(u32::MAX))] {
            file.words()[index].store(value, Ordering::Relaxed);
        }
        assert!(Scoreboard::open(file.as_fd().try_clone_to_owned().unwrap()).is_err());
    }
}
