//! What a process counts from its start on, and what is added up over processes: the sums.
//!
//! Owns their order in memory, which is the same in a seat and in a worker's row of the totals, so that adding one to the
//! other is adding words.

use std::sync::atomic::AtomicU64;

use super::histogram::{self, BUCKETS, Histogram};
use super::{add, load};

/// A counter of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Sum {
    /// Requests that have ended.
    Requests,
    /// ... with an exception that the application let through.
    Exceptions,
    /// ... with a status of 1xx.
    Status1xx,
    /// ... 2xx.
    Status2xx,
    /// ... 3xx.
    Status3xx,
    /// ... 4xx.
    Status4xx,
    /// ... 5xx, or one that is none.
    Status5xx,
    /// Bytes of responses, heads included.
    SentBytes,
    /// Microseconds of all requests.
    RunningUs,
    /// Yields, suspends and blocking waits.
    Switches,
    /// Connections accepted.
    Accepted,
    /// Requests that found all cores busy.
    QueueFull,
    /// Requests whose client left before the end of the response.
    ClientsGone,
    /// Requests that were cancelled by their deadline.
    Deadlines,
    /// Requests whose coroutine was given up.
    Abandoned,
    /// Connections refused for bytes that do not parse or limits that do not hold.
    Refused,
    /// Wake-ups that were meant for a wait that was over.
    StaleWakes,
    /// Responses that could not be sent to their end.
    WriteErrors,
    /// Requests whose body could not be read to its end.
    ReadErrors,
    /// uwsgi signals handled.
    Signals,
    /// Handlers of uwsgi signals that have failed.
    SignalsFailed,
    /// uwsgi signals that found too many waiting and were dropped.
    SignalsDropped,
    /// Connections given to other workers.
    Given,
    /// Connections taken over from other workers.
    Taken,
    /// Connections of other workers that could not go on here.
    Orphaned,
    /// Requests that were answered with a file, without an application.
    Files,
    /// Requests for CGI scripts.
    Scripts,
}

/// Kinds of [`Sum`].
const KINDS: usize = Sum::Scripts as usize + 1;
/// Words of all sums: the counters, the buckets and their sum. Room is left in [`super::seat`] for more.
pub(super) const WORDS: usize = KINDS + BUCKETS + 1;

impl Sum {
    /// The counter of a response's status class.
    pub fn of_status(status: u16) -> Self {
        match status / 100 {
            1 => Self::Status1xx,
            2 => Self::Status2xx,
            3 => Self::Status3xx,
            4 => Self::Status4xx,
            _ => Self::Status5xx,
        }
    }
}

/// Counts a duration in the sums at `words`.
pub(super) fn observe(words: &[AtomicU64], us: u64) {
    add(&words[KINDS + histogram::bucket(us)], 1);
    add(&words[KINDS + BUCKETS], us);
}

/// A copy of a worker's sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums([u64; WORDS]);

impl Default for Sums {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Sums {
    /// The value of one.
    pub fn of(&self, sum: Sum) -> u64 {
        self.0[sum as usize]
    }

    /// How long requests took.
    pub fn latency(&self) -> Histogram {
        let mut buckets = [0; BUCKETS];
        buckets.copy_from_slice(&self.0[KINDS..KINDS + BUCKETS]);
        Histogram { buckets, sum_us: self.0[KINDS + BUCKETS] }
    }

    pub(super) fn read(words: &[AtomicU64]) -> Self {
        let mut sums = Self::default();
        sums.add(words);
        sums
    }

    pub(super) fn add(&mut self, words: &[AtomicU64]) {
        for (sum, word) in self.0.iter_mut().zip(words) {
            *sum = sum.wrapping_add(load(word));
        }
    }
}

impl std::ops::AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        for (sum, value) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(value);
        }
    }
}
