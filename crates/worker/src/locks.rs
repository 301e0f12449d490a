//! User locks: who holds one of the instance's locks may do something that nobody else does meanwhile, in any worker. A core
//! that has to wait for one is suspended; the worker goes on.
//!
//! Between processes the locks are words in shared memory ([`UserLocks`]), in which each process stands in line at most once
//! per lock. This file owns the line of cores within the worker:
//!
//! - a lock that is given back in this worker goes to its next core at once, unless another process waits;
//! - a lock that another process holds is looked for at intervals, by one timer for all cores that wait;
//! - once a process has got a lock, as many cores get it as waited then, one after the other, before another process
//!   does: handing it over between processes costs milliseconds, and still nobody waits for ever.
//!
//! As in uWSGI a lock belongs to the process: a request that ends keeps it locked, and any other one here may unlock it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::CoreId;
use crate::worker::{Worker, kind};

/// Time between two looks at a lock of another process, at first and at last.
const LOOK_MS: std::ops::RangeInclusive<u64> = 1..=16;
/// Looks become rarer the longer somebody waits: this part of the time it has waited.
const LOOK_SHARE: u64 = 8;

/// The locks of the whole instance as one process sees them. Numbers at or above [`Self::count`] are never locked.
pub trait UserLocks: std::fmt::Debug {
    /// How many there are.
    fn count(&self) -> u32;
    /// Takes a lock, or stands in line for it; to be asked again until it has it. `false` if this process has it already.
    fn acquire(&self, number: u32) -> bool;
    /// Leaves the line.
    fn withdraw(&self, number: u32);
    /// Gives it back; nothing if this process has not got it.
    fn release(&self, number: u32);
    /// Whether this process has it.
    fn is_ours(&self, number: u32) -> bool;
    /// Whether another process stands in line behind this one.
    fn others_wait(&self, number: u32) -> bool;
}

/// What became of a [`Worker::lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Locked {
    /// The caller has it.
    Now,
    /// The core was suspended: when it goes on, in whichever way, [`Worker::lock_outcome`] says whether it has it.
    Suspended,
}

/// Who waits in this worker.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    shared: Option<Rc<dyn UserLocks>>,
    /// Of each lock that somebody waits for, or was just given.
    queues: BTreeMap<u32, Queue>,
    armed_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    /// Whose it is, although its core has not gone on yet.
    granted: Option<CoreId>,
    /// Since when this process stands in line.
    since_ms: u64,
    /// Cores that get it before another process does.
    turns: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    core: CoreId,
    epoch: u32,
}

impl Worker {
    /// Gives the worker the instance's locks.
    pub fn set_locks(&mut self, shared: Rc<dyn UserLocks>) {
        self.locks.shared = Some(shared);
    }

    /// Takes a user lock for what runs in `core`, or suspends it until it has it.
    pub fn lock(&mut self, core: CoreId, number: u32) -> Locked {
        let Some(shared) = self.locks.shared.clone() else { return Locked::Now };
        if number >= shared.count() {
            return Locked::Now;
        }
        if !self.locks.queues.contains_key(&number) && shared.acquire(number) {
            return Locked::Now;
        }
        let Some(epoch) = self.block(core) else {
            // Cancelled before it could wait.
            self.tidy_queue(number);
            return Locked::Suspended;
        };
        let now_ms = self.reactor.now_ms();
        let queue = self.locks.queues.entry(number).or_default();
        if queue.waiting.is_empty() {
            queue.since_ms = now_ms;
        }
        queue.waiting.push_back(Waiter { core, epoch });
        self.look_again_soon();
        Locked::Suspended
    }

    /// Whether a core that was suspended by [`Self::lock`] has got the lock. To be asked once it goes on; if it does so to
    /// end, and has it, it has to give it back.
    pub fn lock_outcome(&mut self, core: CoreId, number: u32) -> bool {
        let Some(queue) = self.locks.queues.get_mut(&number) else { return false };
        let granted = queue.granted == Some(core);
        if granted {
            queue.granted = None;
        } else {
            queue.waiting.retain(|waiter| waiter.core != core);
        }
        self.tidy_queue(number);
        granted
    }

    /// Gives a user lock back, whoever of this process has taken it; nothing if nobody here has.
    pub fn unlock(&mut self, number: u32) {
        let Some(shared) = self.locks.shared.clone() else { return };
        if shared.is_ours(number) {
            self.pass_on(&*shared, number);
        }
    }

    /// What a core ran has ended: it waits no more, and what it was given unseen goes to the next.
    pub(crate) fn forget_locks(&mut self, core: CoreId) {
        if self.locks.queues.is_empty() {
            return;
        }
        let numbers: Vec<u32> = self.locks.queues.keys().copied().collect();
        for number in numbers {
            if self.lock_outcome(core, number) {
                self.unlock(number);
            }
        }
    }

    /// This process has the lock and needs it no more: to the next core here, or to another process.
    fn pass_on(&mut self, shared: &dyn UserLocks, number: u32) {
        while let Some(queue) = self.locks.queues.get_mut(&number) {
            queue.granted = None;
            let Some(&next) = queue.waiting.front() else { break };
            if !self.is_blocked(next.core, next.epoch) {
                self.pop_waiter(number);
                continue;
            }
            if self.locks.queues.get(&number).is_some_and(|queue| queue.turns == 0)
                && shared.others_wait(number)
            {
                shared.release(number);
                self.queue_up(shared, number);
                if !shared.is_ours(number) {
                    return;
                }
                continue; // The others were not there any more.
            }
            self.pop_waiter(number);
            if let Some(queue) = self.locks.queues.get_mut(&number) {
                queue.granted = Some(next.core);
                queue.turns = queue.turns.saturating_sub(1);
            }
            self.unblock(next.core);
            return;
        }
        self.locks.queues.remove(&number);
        shared.release(number);
    }

    fn pop_waiter(&mut self, number: u32) {
        if let Some(queue) = self.locks.queues.get_mut(&number) {
            queue.waiting.pop_front();
        }
    }

    /// Stands in line again, behind the processes that wait.
    fn queue_up(&mut self, shared: &dyn UserLocks, number: u32) {
        let now_ms = self.reactor.now_ms();
        let acquired = shared.acquire(number);
        let Some(queue) = self.locks.queues.get_mut(&number) else { return };
        queue.since_ms = now_ms;
        if acquired {
            queue.turns = queue.waiting.len();
        } else {
            self.look_again_soon();
        }
    }

    /// A core has left the line of a lock: with nobody left in it, neither this process stands in that of the instance.
    fn tidy_queue(&mut self, number: u32) {
        let queue = self.locks.queues.get(&number);
        if queue.is_some_and(|queue| queue.granted.is_some() || !queue.waiting.is_empty()) {
            return;
        }
        self.locks.queues.remove(&number);
        if let Some(shared) = &self.locks.shared {
            shared.withdraw(number);
        }
    }

    /// Looks for the locks that cores here wait for and other processes hold.
    pub(crate) fn on_lock_timer(&mut self) {
        let now_ms = self.reactor.now_ms();
        if self.locks.armed_ms.is_none_or(|at| at > now_ms) {
            return; // An entry that an earlier one has overtaken.
        }
        self.locks.armed_ms = None;
        self.look_for_locks();
    }

    /// Looks for the locks that cores here wait for at once: one may have become free.
    pub fn look_for_locks(&mut self) {
        let Some(shared) = self.locks.shared.clone() else { return };
        let numbers: Vec<u32> = self.locks.queues.keys().copied().collect();
        for number in numbers {
            while let Some(&first) = self.locks.queues.get(&number).and_then(|queue| queue.waiting.front())
                && !self.is_blocked(first.core, first.epoch)
            {
                self.pop_waiter(number);
            }
            self.tidy_queue(number);
            if !self.locks.queues.contains_key(&number) || shared.is_ours(number) {
                continue;
            }
            if shared.acquire(number) {
                if let Some(queue) = self.locks.queues.get_mut(&number) {
                    queue.turns = queue.waiting.len();
                }
                self.pass_on(&*shared, number);
            }
        }
        self.look_again_soon();
    }

    /// Sees to it that locks of other processes are looked for.
    fn look_again_soon(&mut self) {
        let Some(shared) = self.locks.shared.clone() else { return };
        let now_ms = self.reactor.now_ms();
        let pause = |queue: &Queue| {
            let waited_ms = now_ms.saturating_sub(queue.since_ms);
            (waited_ms / LOOK_SHARE).clamp(*LOOK_MS.start(), *LOOK_MS.end())
        };
        let queues = self.locks.queues.iter();
        let waits = queues.filter(|(number, queue)| !queue.waiting.is_empty() && !shared.is_ours(**number));
        let Some(at_ms) = waits.map(|(_, queue)| now_ms + pause(queue)).min() else { return };
        if self.locks.armed_ms.is_none_or(|armed| armed > at_ms) {
            self.locks.armed_ms = Some(at_ms);
            self.reactor.arm(at_ms, u64::from(kind::LOCKS) << 56);
        }
    }
}
