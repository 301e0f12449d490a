//! `timerfd_create(2)`: the next deadline as a descriptor, for loops that can watch a descriptor but not ask for a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer on the monotonic clock.
#[derive(Debug)]
pub struct TimerFd(OwnedFd);

impl TimerFd {
    /// A new one, not armed; closed on exec.
    pub fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
    }

    /// Fires at `at_ms` of the monotonic clock; `None` disarms. A time that has passed fires at once.
    pub fn arm(&self, at_ms: Option<u64>) -> io::Result<()> {
        // A zero value would disarm, hence at least one nanosecond.
        let at = at_ms.map_or(Timespec { tv_sec: 0, tv_nsec: 0 }, |ms| Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ms % 1000 * 1_000_000).unwrap_or(0).max(1),
        });
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }

    /// Makes it unreadable after it fired.
    pub fn clear(&self) {
        let mut expirations = [0u8; 8];
        let _ = rustix::io::read(&self.0, &mut expirations);
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
