//! User locks: words in shared memory by which processes of the instance exclude each other, in the order of asking.
//!
//! Owns the layout and what one process does with it; who waits *within* a process, and how, is the worker's and the
//! driver's. A process stands in the line of a lock at most once. The head of the line has the lock. Places are numbered
//! from 0 on:
//!
//! ```text
//! 8 words: magic, locks, reserved
//! 64 words for each lock:
//!   0       the head's place
//!   1       the next free place
//!   2..     a ring: place p stands in word 2 + p % 62, as (p + 1) << 22 | pid, and pid 0 says that it was given up
//! ```
//!
//! Nobody waits in the kernel: who is not the head asks again after a while. A process may die at any instruction: each
//! change is one atomic exchange, and half of a change (a place that is taken and not counted) is completed by whoever
//! comes next. Who is dead and stands at the head is passed by; that its number may have been given to another process by
//! then is what [`UserLocks::process_has_ended`] is for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greenloom_sys::process::{self, Pid};
use greenloom_sys::shared_memory::SharedMemory;

const HEADER_WORDS: usize = 8;
const LOCK_WORDS: usize = 64;
const HEAD: usize = 0;
const NEXT: usize = 1;
const RING: usize = 2;
/// Processes in line at the same time; others ask again.
const PLACES: u64 = (LOCK_WORDS - RING) as u64;
/// Linux counts processes up to 2^22.
const PID_BITS: u32 = 22;
const PID_MASK: u64 = (1 << PID_BITS) - 1;
const MAGIC: u64 = u64::from_ne_bytes(*b"gllock\x00\x01");
const COUNT: usize = 1;

/// The instance's user locks as this process sees them. Clones share its places in line; a process that is forked
/// off has none.
#[derive(Clone, Debug)]
pub struct UserLocks {
    memory: Arc<SharedMemory>,
    /// This process's side of each lock.
    mine: Arc<[Mutex<Mine>]>,
}

#[derive(Debug, Default)]
struct Mine {
    /// Whose side it is.
    pid: u64,
    place: Option<u64>,
    /// It is the head, and somebody here has the lock.
    taken: bool,
}

impl UserLocks {
    /// New ones, numbered from 0.
    pub fn create(count: u32) -> io::Result<Self> {
        let memory = SharedMemory::create("greenloom-locks", HEADER_WORDS + count as usize * LOCK_WORDS)?;
        memory.words()[0].store(MAGIC, Ordering::Relaxed);
        memory.words()[COUNT].store(u64::from(count), Ordering::Relaxed);
        Ok(Self::over(memory, count))
    }

    /// Those that another process created.
    ///
    /// # Errors
    /// `InvalidData` when the file holds no locks of this version.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        let memory = SharedMemory::map(file)?;
        let word = |index: usize| memory.words().get(index).map(|word| word.load(Ordering::Relaxed));
        match word(COUNT).and_then(|count| u32::try_from(count).ok()) {
            Some(count)
                if word(0) == Some(MAGIC)
                    && memory.words().len() == HEADER_WORDS + count as usize * LOCK_WORDS =>
            {
                Ok(Self::over(memory, count))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not the locks of this version")),
        }
    }

    fn over(memory: SharedMemory, count: u32) -> Self {
        Self { memory: Arc::new(memory), mine: (0..count).map(|_| Mutex::default()).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.mine.len()).unwrap_or(u32::MAX)
    }

    /// Takes a lock, or stands in line for it. `false`: another process has it, or this one has it already.
    pub fn acquire(&self, number: u32) -> bool {
        let Some((line, mut mine)) = self.side(number) else { return false };
        if mine.taken {
            return false;
        }
        loop {
            let place = match mine.place {
                Some(place) => place,
                None => match line.stand_in(mine.pid) {
                    Some(place) => *mine.place.insert(place),
                    None => return false,
                },
            };
            let head = line.pass_the_dead();
            if head > place {
                // Somebody has taken this process for dead.
                mine.place = None;
                continue;
            }
            mine.taken = head == place;
            return mine.taken;
        }
    }

    /// Leaves the line; nothing if this process has the lock, or is not in line.
    pub fn withdraw(&self, number: u32) {
        let Some((line, mut mine)) = self.side(number) else { return };
        if !mine.taken
            && let Some(place) = mine.place.take()
        {
            line.give_up(place, mine.pid);
        }
    }

    /// Gives a lock back; nothing if this process has not got it.
    pub fn release(&self, number: u32) {
        let Some((line, mut mine)) = self.side(number) else { return };
        if std::mem::take(&mut mine.taken)
            && let Some(place) = mine.place.take()
        {
            line.advance(place);
        }
    }

    /// Whether this process has it.
    pub fn is_ours(&self, number: u32) -> bool {
        self.side(number).is_some_and(|(_, mine)| mine.taken)
    }

    /// Whether another process is in line behind this one, which has it.
    pub fn others_wait(&self, number: u32) -> bool {
        self.side(number).is_some_and(|(line, mine)| {
            mine.place.is_some_and(|place| line.words[NEXT].load(Ordering::SeqCst) > place + 1)
        })
    }

    /// Whether any process has it.
    pub fn is_locked(&self, number: u32) -> bool {
        self.line(number).is_some_and(|line| line.occupant(line.pass_the_dead()).is_some())
    }

    /// The process that has it.
    pub(crate) fn holder(&self, number: u32) -> Option<u32> {
        let line = self.line(number)?;
        u32::try_from(line.occupant(line.pass_the_dead())?).ok().filter(|pid| *pid != 0)
    }

    /// Frees whatever a process has that is known to have ended. To be called by whoever collects it.
    pub fn process_has_ended(&self, pid: Pid) {
        let pid = u64::try_from(pid.get()).unwrap_or(0);
        for number in 0..self.count() {
            let Some(line) = self.line(number) else { continue };
            let head = line.words[HEAD].load(Ordering::SeqCst);
            for place in head..head + PLACES {
                line.give_up(place, pid);
            }
            line.pass_the_dead();
        }
    }

    fn line(&self, number: u32) -> Option<Line<'_>> {
        let start = HEADER_WORDS + number as usize * LOCK_WORDS;
        Some(Line { words: self.memory.words().get(start..start + LOCK_WORDS)? })
    }

    fn side(&self, number: u32) -> Option<(Line<'_>, MutexGuard<'_, Mine>)> {
        let mut mine = self.mine.get(number as usize)?.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = u64::from(std::process::id());
        if mine.pid != pid {
            // Forked off since: what its parent has is not its own.
            *mine = Mine { pid, place: None, taken: false };
        }
        Some((self.line(number)?, mine))
    }
}

impl AsFd for UserLocks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// The words of one lock.
struct Line<'a> {
    words: &'a [AtomicU64],
}

impl Line<'_> {
    fn place(&self, place: u64) -> &AtomicU64 {
        &self.words[RING + usize::try_from(place % PLACES).unwrap_or(0)]
    }

    /// Who stands at a place; 0: it was given up. `None`: nobody has taken it yet, or its turn is long over.
    fn occupant(&self, place: u64) -> Option<u64> {
        let word = self.place(place).load(Ordering::SeqCst);
        (word >> PID_BITS == ticket(place)).then_some(word & PID_MASK)
    }

    /// Takes the next free place; `None`: there is none.
    fn stand_in(&self, pid: u64) -> Option<u64> {
        loop {
            let next = self.words[NEXT].load(Ordering::SeqCst);
            let head = self.words[HEAD].load(Ordering::SeqCst);
            if next.saturating_sub(head) >= PLACES {
                return None;
            }
            let place = self.place(next);
            let before = place.load(Ordering::SeqCst);
            if before >> PID_BITS == ticket(next) {
                // Taken by somebody who has not counted it yet, or never will.
                self.count(next);
                continue;
            }
            let ours = ticket(next) << PID_BITS | pid;
            if place.compare_exchange(before, ours, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                self.count(next);
                return Some(next);
            }
        }
    }

    /// A place is taken: the one behind it is the next.
    fn count(&self, place: u64) {
        // Failing means that somebody else has counted it.
        let _ = self.words[NEXT].compare_exchange(place, place + 1, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The head at `place` leaves.
    fn advance(&self, place: u64) {
        self.count(place);
        let _ = self.words[HEAD].compare_exchange(place, place + 1, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whoever stands at a place wants the lock no more, if it is `pid`.
    fn give_up(&self, place: u64, pid: u64) {
        let own = ticket(place) << PID_BITS;
        let left = self.place(place).compare_exchange(own | pid, own, Ordering::SeqCst, Ordering::SeqCst);
        if left.is_ok() {
            self.pass_the_dead();
        }
    }

    /// Moves the head to the first that is alive and wants the lock; its place.
    fn pass_the_dead(&self) -> u64 {
        loop {
            let head = self.words[HEAD].load(Ordering::SeqCst);
            match self.occupant(head) {
                Some(pid) if !is_alive(pid) => self.advance(head),
                _ if self.words[HEAD].load(Ordering::SeqCst) == head => return head,
                _ => {}
            }
        }
    }
}

/// What stands in the ring for a place: never 0, which is an empty ring.
fn ticket(place: u64) -> u64 {
    (place + 1) & (u64::MAX >> PID_BITS)
}

fn is_alive(pid: u64) -> bool {
    i32::try_from(pid).ok().and_then(Pid::new).is_some_and(process::exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same locks as another process sees them; `pid` is one that lives, and not ours.
    struct Other<'a>(Line<'a>, u64);

    impl<'a> Other<'a> {
        fn new(locks: &'a UserLocks) -> Self {
            Self(locks.line(0).unwrap(), 1)
        }

        fn stand_in(&self) -> u64 {
            self.0.stand_in(self.1).unwrap()
        }
    }

    #[test]
    fn a_lock_is_had_once_and_given_back() {
        let locks = UserLocks::create(2).unwrap();
        assert_eq!((locks.is_locked(0), locks.acquire(0), locks.is_locked(0)), (false, true, true));
        assert!(!locks.acquire(0), "this process has it already");
        assert!(!locks.is_locked(1) && locks.acquire(1), "another one");
        locks.withdraw(0);
        assert!(locks.is_ours(0), "who has it is not in line");
        locks.release(0);
        assert!(!locks.is_ours(0) && !locks.is_locked(0));
        locks.release(0);
        assert!(locks.acquire(0));
        assert!(!locks.acquire(2), "there is no such lock");
    }

    #[test]
    fn processes_have_a_lock_in_the_order_of_asking() {
        let locks = UserLocks::create(1).unwrap();
        let other = Other::new(&locks);
        assert!(locks.acquire(0));
        assert!(!locks.others_wait(0));
        let place = other.stand_in();
        assert!(locks.others_wait(0));
        locks.release(0);
        assert!(!locks.acquire(0) && !locks.acquire(0), "asking again is no second place");
        assert_eq!(other.0.words[NEXT].load(Ordering::SeqCst), place + 2);
        other.0.advance(place);
        assert!(locks.acquire(0));
    }

    #[test]
    fn who_leaves_the_line_keeps_nobody_waiting() {
        let locks = UserLocks::create(1).unwrap();
        let other = Other::new(&locks);
        let place = other.stand_in();
        assert!(!locks.acquire(0));
        let behind = other.stand_in();
        locks.withdraw(0);
        other.0.advance(place);
        assert_eq!(other.0.pass_the_dead(), behind);
        other.0.advance(behind);
        assert!(!locks.is_locked(0));
    }

    #[test]
    fn the_lock_of_a_process_that_has_died_is_free() {
        let locks = UserLocks::create(1).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let line = locks.line(0).unwrap();
        line.stand_in(u64::from(pid)).unwrap();
        assert!(!locks.acquire(0));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(locks.acquire(0));
        locks.release(0);
        // Its number may be another process's by now: whoever has collected it says so.
        line.stand_in(1).unwrap();
        assert!(!locks.acquire(0));
        locks.process_has_ended(Pid::new(1).unwrap());
        assert!(locks.acquire(0));
    }

    #[test]
    fn a_place_that_was_taken_and_not_counted_is_counted_by_the_next() {
        let locks = UserLocks::create(1).unwrap();
        let line = locks.line(0).unwrap();
        // A process that died between the two steps.
        line.place(0).store(ticket(0) << PID_BITS | PID_MASK, Ordering::SeqCst);
        assert!(locks.acquire(0));
        assert_eq!(line.words[NEXT].load(Ordering::SeqCst), 2);
        locks.release(0);
        // And with nobody behind it.
        line.place(2).store(ticket(2) << PID_BITS | PID_MASK, Ordering::SeqCst);
        assert!(!locks.is_locked(0));
        assert!(locks.acquire(0));
    }

    #[test]
    fn with_all_places_taken_nobody_loses_one() {
        let locks = UserLocks::create(1).unwrap();
        let other = Other::new(&locks);
        let places: Vec<u64> = (0..PLACES).map(|_| other.stand_in()).collect();
        assert!(!locks.acquire(0));
        for place in places {
            other.0.advance(place);
        }
        assert!(locks.acquire(0));
        for _ in 0..1000 {
            locks.release(0);
            assert!(locks.acquire(0), "the ring goes round");
        }
    }

    #[test]
    fn threads_of_processes_exclude_each_other() {
        let locks = UserLocks::create(1).unwrap();
        let (inside, total) = (AtomicU64::new(0), AtomicU64::new(0));
        // Each with a mapping and a side of its own, as a process has; they share the number, so all are alive.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let theirs = UserLocks::open(locks.as_fd().try_clone_to_owned().unwrap()).unwrap();
                let (inside, total) = (&inside, &total);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        while !theirs.acquire(0) {
                            std::thread::yield_now();
                        }
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        total.store(total.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        theirs.release(0);
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 8000);
        assert!(!locks.is_locked(0));
    }

    #[test]
    fn another_file_is_refused() {
        let file = SharedMemory::create("other", 72).unwrap();
        assert!(UserLocks::open(file.as_fd().try_clone_to_owned().unwrap()).is_err());
    }
}
