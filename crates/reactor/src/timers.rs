//! The timer heap: deadlines in milliseconds of the monotonic clock. Pure: the time comes in as an argument.
//!
//! Timers are lazy. Nothing is ever removed: whoever armed a timer keeps its true deadline, and when the heap hands
//! out a key that has nothing to do any more (or not yet), the owner ignores it or arms it again. So moving a deadline
//! back, which every request on a keep-alive connection does, costs nothing here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Keys ordered by the time at which they are due.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
}

impl Timers {
    /// Hands `key` out again once `at_ms` has come. A key may be armed any number of times.
    pub fn arm(&mut self, at_ms: u64, key: u64) {
        self.heap.push(Reverse((at_ms, key)));
    }

    /// When the earliest timer is due.
    pub fn next_at_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one timer that is due at `now_ms`.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<u64> {
        if self.next_at_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }

    /// How many entries wait, stale ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_timers_come_out_in_order_and_not_before_their_time() {
        let mut timers = Timers::default();
        for (at, key) in [(30, 3), (10, 1), (20, 2)] {
            timers.arm(at, key);
        }
        assert_eq!(timers.pop_due(9), None);
        assert_eq!(timers.pop_due(25), Some(1));
        assert_eq!(timers.pop_due(25), Some(2));
        assert_eq!(timers.pop_due(25), None);
        assert_eq!(timers.next_at_ms(), Some(30));
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn a_key_may_wait_twice() {
        let mut timers = Timers::default();
        timers.arm(5, 9);
        timers.arm(7, 9);
        assert_eq!((timers.pop_due(100), timers.pop_due(100), timers.pop_due(100)), (Some(9), Some(9), None));
        assert!(timers.is_empty());
    }
}
