//! The scoreboard: what workers and master tell each other through shared memory, without messages.
//!
//! Owns the layout. A worker writes its own slot, everybody reads all of them, and the instance's request counter is
//! shared. Values are counters and stamps: nothing here orders other memory, so every access may be relaxed.
//!
//! ```text
//! 16 words: magic, workers, requests of the instance, reserved
//! 16 words for each seat: 3 generations (one serving, two draining) x workers
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use greenloom_sys::shared_memory::SharedMemory;

/// Two cache lines: a worker's stores never slow its neighbour down.
const SEAT_WORDS: usize = 16;
const HEADER_WORDS: usize = 16;
/// Generations whose workers can be alive at the same time.
const GENERATIONS: usize = 3;
const MAGIC: u64 = u64::from_ne_bytes(*b"gloom\x00\x00\x01");
const WORKERS: usize = 1;
const REQUESTS: usize = 2;

/// The instance's shared numbers, as one generation sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    memory: Arc<SharedMemory>,
    workers: u32,
    generation: u32,
}

impl Scoreboard {
    /// A new one for `workers` workers, for generation 1.
    pub fn create(workers: u32) -> io::Result<Self> {
        let seats = workers as usize * GENERATIONS;
        let memory = SharedMemory::create("greenloom-scoreboard", HEADER_WORDS + seats * SEAT_WORDS)?;
        memory.words()[0].store(MAGIC, Ordering::Relaxed);
        memory.words()[WORKERS].store(u64::from(workers), Ordering::Relaxed);
        Ok(Self { memory: Arc::new(memory), workers, generation: 1 })
    }

    /// The one that another process created, for `generation`.
    ///
    /// # Errors
    /// `InvalidData` when the file is no scoreboard of this version.
    pub fn open(file: OwnedFd, generation: u32) -> io::Result<Self> {
        let memory = SharedMemory::map(file)?;
        let word = |index: usize| memory.words().get(index).map(|word| word.load(Ordering::Relaxed));
        let workers = word(WORKERS).and_then(|workers| u32::try_from(workers).ok());
        match workers {
            Some(workers)
                if word(0) == Some(MAGIC)
                    && memory.words().len() == HEADER_WORDS + workers as usize * GENERATIONS * SEAT_WORDS =>
            {
                Ok(Self { memory: Arc::new(memory), workers, generation })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a scoreboard of this version")),
        }
    }

    /// The same numbers as `generation` sees them.
    #[must_use]
    pub fn for_generation(&self, generation: u32) -> Self {
        Self { memory: Arc::clone(&self.memory), workers: self.workers, generation }
    }

    /// Counts a request of the whole instance; its number, from 1.
    pub fn next_request(&self) -> u64 {
        self.memory.words()[REQUESTS].fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Requests of the whole instance so far.
    pub fn requests(&self) -> u64 {
        self.memory.words()[REQUESTS].load(Ordering::Relaxed)
    }

    /// The number of workers of a generation.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// The slot of worker `id` (from 1) of this generation; `None` when there is no such worker.
    pub fn slot(&self, id: u32) -> Option<Slot<'_>> {
        let row = self.generation as usize % GENERATIONS;
        let column =
            usize::try_from(id.checked_sub(1)?).ok().filter(|column| *column < self.workers as usize)?;
        let start = HEADER_WORDS + (row * self.workers as usize + column) * SEAT_WORDS;
        Some(Slot { words: self.memory.words().get(start..start + SEAT_WORDS)? })
    }

    /// The slots of this generation's workers, by id.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Slot<'_>)> {
        (1..=self.workers).filter_map(|id| Some((id, self.slot(id)?)))
    }
}

impl AsFd for Scoreboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// One worker's numbers. The worker stores, others load.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Slot<'a> {
    /// Starts a new life: `pid` and `cores` set, every counter 0.
    pub(crate) fn begin(self, pid: u32, generation: u32, now_ms: u64) {
        for word in self.words {
            word.store(0, Ordering::Relaxed);
        }
        self.generation().store(u64::from(generation), Ordering::Relaxed);
        self.started_ms().store(now_ms, Ordering::Relaxed);
        self.pid().store(u64::from(pid), Ordering::Relaxed);
    }

    /// The process id; 0: no process.
    pub fn pid(self) -> &'a AtomicU64 {
        &self.words[0]
    }

    /// The number of the generation the process belongs to.
    pub fn generation(self) -> &'a AtomicU64 {
        &self.words[1]
    }

    /// When the process started, milliseconds of the monotonic clock.
    pub fn started_ms(self) -> &'a AtomicU64 {
        &self.words[2]
    }

    /// Requests since the process started.
    pub fn requests(self) -> &'a AtomicU64 {
        &self.words[3]
    }

    /// How many cores the worker has.
    pub fn cores(self) -> &'a AtomicU64 {
        &self.words[4]
    }

    /// How many of them run a request.
    pub fn busy_cores(self) -> &'a AtomicU64 {
        &self.words[5]
    }

    /// When the worker's loop last had control, milliseconds of the monotonic clock.
    pub fn stamp_ms(self) -> &'a AtomicU64 {
        &self.words[6]
    }

    /// Open connections.
    pub fn connections(self) -> &'a AtomicU64 {
        &self.words[7]
    }

    /// Requests that ended with an exception of the application.
    pub fn exceptions(self) -> &'a AtomicU64 {
        &self.words[8]
    }

    /// Bytes sent to clients.
    pub fn sent_bytes(self) -> &'a AtomicU64 {
        &self.words[9]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_numbered_across_processes() {
        let ours = Scoreboard::create(2).unwrap();
        let theirs = Scoreboard::open(ours.as_fd().try_clone_to_owned().unwrap(), 4).unwrap();
        assert_eq!((ours.next_request(), theirs.next_request(), ours.requests()), (1, 2, 2));
        assert_eq!(theirs.workers(), 2);
    }

    #[test]
    fn workers_of_overlapping_generations_have_slots_of_their_own() {
        let board = Scoreboard::create(2).unwrap();
        for generation in 1..=3 {
            for (id, slot) in board.for_generation(generation).slots() {
                slot.requests().store(u64::from(generation * 10 + id), Ordering::Relaxed);
            }
        }
        let seen = board.for_generation(2).slot(1).unwrap().requests().load(Ordering::Relaxed);
        assert_eq!(seen, 21);
        assert!(board.slot(0).is_none());
        assert!(board.slot(3).is_none());
    }

    #[test]
    fn a_new_life_starts_from_zero() {
        let board = Scoreboard::create(1).unwrap();
        let slot = board.slot(1).unwrap();
        slot.requests().store(7, Ordering::Relaxed);
        slot.begin(99, 1, 5);
        assert_eq!(slot.requests().load(Ordering::Relaxed), 0);
        assert_eq!(slot.pid().load(Ordering::Relaxed), 99);
    }

    #[test]
    fn another_file_is_refused() {
        let file = SharedMemory::create("other", 64).unwrap();
        assert!(Scoreboard::open(file.as_fd().try_clone_to_owned().unwrap(), 1).is_err());
    }
}
