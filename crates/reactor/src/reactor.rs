//! One epoll set, its events handed out one by one, and the timers beside it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use greenloom_sys::clock;
use greenloom_sys::epoll::{self, Epoll};
use greenloom_sys::eventfd::EventFd;
use greenloom_sys::timerfd::TimerFd;

use crate::{Timers, Wake};

const NS_PER_MS: u64 = 1_000_000;

/// What an owner calls its registration; comes back with every event.
pub type Token = u64;

/// Most events one poll collects. With 16 and more the cost of the poll itself no longer shows; what is left over
/// stays ready and comes with the next poll.
pub const MAX_BATCH: usize = 128;

/// The two highest tokens are the reactor's own.
const WAKE: Token = Token::MAX;
const TIMER: Token = Token::MAX - 1;

/// One ready descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The registration's token.
    pub token: Token,
    /// What happened: an or of the constants of `greenloom_sys::epoll`.
    pub mask: u32,
}

/// A buffer of events, taken out of the reactor so that a driver may block without borrowing the reactor.
pub struct Batch {
    events: Box<[epoll::Event; MAX_BATCH]>,
    filled: usize,
    epoll: RawFd,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("filled", &self.filled).finish_non_exhaustive()
    }
}

impl Batch {
    /// Blocks until an event comes or `timeout_ms` is over (`None`: for ever). Interruption by a posix signal is the
    /// same as a timeout; the caller looks for signals after every wait.
    pub fn wait(&mut self, timeout_ms: Option<u32>) -> io::Result<()> {
        self.filled = match epoll::wait(self.epoll, &mut self.events[..], timeout_ms) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Whether the wait brought nothing.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }
}

/// See the crate's description.
#[derive(Debug)]
pub struct Reactor {
    epoll: Epoll,
    /// Absent while a driver waits with it.
    batch: Option<Batch>,
    next: usize,
    /// A wait has just filled the batch: the next poll need not ask again.
    fresh: bool,
    /// When [`Self::poll_at_intervals`] asked the kernel last.
    polled_ns: u64,
    timers: Timers,
    timerfd: Option<TimerFd>,
    timerfd_at_ms: Option<u64>,
    /// Between a poll and the end of its pass, which sets the timerfd.
    in_pass: bool,
    wake: Arc<EventFd>,
    now_ms: u64,
    now_ns: u64,
}

impl Reactor {
    /// A reactor without registrations. Create it after the last fork: an epoll set is shared by forks.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let wake = Arc::new(EventFd::new()?);
        epoll.add(wake.as_fd().as_raw_fd(), epoll::IN, WAKE)?;
        let batch = Batch {
            events: Box::new([epoll::Event::EMPTY; MAX_BATCH]),
            filled: 0,
            epoll: epoll.as_fd().as_raw_fd(),
        };
        let now_ns = clock::monotonic_ns();
        Ok(Self {
            epoll,
            batch: Some(batch),
            next: 0,
            fresh: false,
            polled_ns: 0,
            timers: Timers::default(),
            timerfd: None,
            timerfd_at_ms: None,
            in_pass: false,
            wake,
            now_ms: now_ns / NS_PER_MS,
            now_ns,
        })
    }

    /// The one descriptor a foreign loop has to watch for reading.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_fd().as_raw_fd()
    }

    /// Puts the next deadline into the epoll set itself, for loops that only watch [`Self::fd`].
    pub fn embed(&mut self) -> io::Result<()> {
        let timerfd = TimerFd::new()?;
        self.epoll.add(timerfd.as_fd().as_raw_fd(), epoll::IN, TIMER)?;
        self.timerfd = Some(timerfd);
        self.settle()
    }

    /// Makes [`Self::fd`] ready, so that another pass follows.
    pub fn wake(&self) {
        self.wake.notify();
    }

    /// A handle to wake this reactor from elsewhere.
    pub fn wake_handle(&self) -> Wake {
        Wake(Arc::clone(&self.wake))
    }

    /// Milliseconds of the monotonic clock as of the last poll.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The same in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Reads the clock anew, for a pass that has run long.
    pub fn refresh_now(&mut self) -> u64 {
        self.set_now(clock::monotonic_ns());
        self.now_ms
    }

    fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.now_ms = now_ns / NS_PER_MS;
    }

    /// Registers a descriptor; see [`Epoll::add`].
    pub fn add(&self, fd: RawFd, mask: u32, token: Token) -> io::Result<()> {
        debug_assert!(token < TIMER, "the highest tokens are the reactor's own");
        self.epoll.add(fd, mask, token)
    }

    /// Changes a registration; see [`Epoll::modify`].
    pub fn modify(&self, fd: RawFd, mask: u32, token: Token) -> io::Result<()> {
        self.epoll.modify(fd, mask, token)
    }

    /// Drops a registration.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.epoll.delete(fd)
    }

    /// Hands `key` out by [`Self::next_expired`] once `at_ms` has come. See [`Timers`] for why there is no disarm.
    pub fn arm(&mut self, at_ms: u64, key: u64) {
        self.timers.arm(at_ms, key);
        if self.timerfd.is_some() && !self.in_pass && self.timerfd_at_ms.is_none_or(|other| at_ms < other) {
            // Nobody else would tell the loop that hosts this reactor. What fails here is tried again by `settle`.
            let _ = self.settle();
        }
    }

    /// Milliseconds until the next timer: what a blocking wait may take at most. `None`: no timer.
    pub fn timeout_ms(&self) -> Option<u32> {
        let at = self.timers.next_at_ms()?;
        Some(u32::try_from(at.saturating_sub(clock::monotonic_ms())).unwrap_or(u32::MAX))
    }

    /// Takes the event buffer out, to wait with it while the reactor is not borrowed.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.batch.take()
    }

    /// Puts the buffer back; its events are handed out next.
    pub fn give_batch(&mut self, batch: Batch) {
        self.batch = Some(batch);
        self.next = 0;
        self.fresh = true;
        self.refresh_now();
    }

    /// Blocks until something is ready, a timer is due or `at_most_ms` is over.
    pub fn wait(&mut self, at_most_ms: Option<u32>) -> io::Result<()> {
        let timeout = match (self.timeout_ms(), at_most_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let Some(batch) = self.batch.as_mut() else { return Ok(()) };
        batch.wait(timeout)?;
        self.next = 0;
        self.refresh_now();
        Ok(())
    }

    /// Collects what is ready, without blocking. Events that were not handed out yet are kept first.
    /// Returns whether there are any.
    pub fn poll(&mut self) -> io::Result<bool> {
        self.in_pass = true;
        self.refresh_now();
        let Some(batch) = self.batch.as_mut() else { return Ok(false) };
        let fresh = std::mem::take(&mut self.fresh);
        if self.next >= batch.filled && !fresh {
            batch.wait(Some(0))?;
            self.next = 0;
        }
        Ok(!batch.is_empty())
    }

    /// As [`Self::poll`], but asks the kernel only if that was not done within the last `interval_ns`: for turns that
    /// follow each other faster than anything happens on a socket, where the system call would be most of the turn.
    pub fn poll_at_intervals(&mut self, interval_ns: u64) -> io::Result<bool> {
        let now_ns = clock::monotonic_ns();
        if now_ns < self.polled_ns.saturating_add(interval_ns) && !self.fresh {
            self.in_pass = true;
            self.set_now(now_ns);
            return Ok(self.batch.as_ref().is_some_and(|batch| self.next < batch.filled));
        }
        self.polled_ns = now_ns;
        self.poll()
    }

    /// The next event of the last poll.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let batch = self.batch.as_ref()?;
            if self.next >= batch.filled {
                return None;
            }
            let event = batch.events[self.next];
            self.next += 1;
            match event.token() {
                WAKE => self.wake.clear(),
                TIMER => {
                    if let Some(timerfd) = &self.timerfd {
                        timerfd.clear();
                    }
                    self.timerfd_at_ms = None;
                }
                token => return Some(Event { token, mask: event.mask() }),
            }
        }
    }

    /// A timer that is due, if any; one call, one timer.
    pub fn next_expired(&mut self) -> Option<u64> {
        self.timers.pop_due(self.now_ms)
    }

    /// At the end of a pass of an embedded reactor: sets the timerfd to the next deadline.
    pub fn settle(&mut self) -> io::Result<()> {
        self.in_pass = false;
        let Some(timerfd) = &self.timerfd else { return Ok(()) };
        let at = self.timers.next_at_ms();
        if at != self.timerfd_at_ms {
            timerfd.arm(at)?;
            self.timerfd_at_ms = at;
        }
        Ok(())
    }
}

impl AsFd for Reactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn events_come_one_by_one() {
        let mut reactor = Reactor::new().unwrap();
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        for (token, (a, b)) in (0u64..).zip(&pairs) {
            reactor.add(a.as_raw_fd(), epoll::IN, token).unwrap();
            (&*b).write_all(b"x").unwrap();
        }
        assert!(reactor.poll().unwrap());
        let mut seen: Vec<_> = std::iter::from_fn(|| reactor.next_event()).map(|e| e.token).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    }

    #[test]
    fn a_wake_from_another_thread_ends_a_wait() {
        let mut reactor = Reactor::new().unwrap();
        let wake = reactor.wake_handle();
        let waker = std::thread::spawn(move || wake.notify());
        reactor.wait(None).unwrap();
        waker.join().unwrap();
        assert_eq!(reactor.next_event(), None, "wake-ups are the reactor's own business");
        reactor.wait(Some(0)).unwrap();
    }

    #[test]
    fn timers_bound_the_wait() {
        let mut reactor = Reactor::new().unwrap();
        reactor.arm(reactor.now_ms() + 1, 42);
        while reactor.next_expired() != Some(42) {
            reactor.wait(None).unwrap();
        }
        assert_eq!(reactor.timeout_ms(), None);
    }
}
