//! When this process has served long enough: after so many requests, or with too much memory, it asks the master for a
//! fresh process in its place, and goes on serving until it is told to make room. Its age is the master's business.

use greenloom_config::Recycling;
use greenloom_proto::control::FromWorker;
use greenloom_sys::process::{self, Pid};

use crate::worker::{Worker, kind};

/// How often memory is looked at, at most: that is a file to be read.
const MEMORY_MS: u64 = 100;
const MIB: u64 = 1 << 20;

/// What decides it. Pure.
#[derive(Debug)]
pub(crate) struct Recycler {
    limits: Recycling,
    /// 0: any number.
    max_requests: u64,
    requests: u64,
    started_ms: u64,
    memory_at_ms: u64,
    /// A request has ended since memory was looked at.
    unseen: bool,
    asked: bool,
}

impl Recycler {
    /// `worker` counts from 1.
    pub(crate) fn new(limits: &Recycling, worker: u32, started_ms: u64) -> Self {
        let further = limits.max_requests_delta.saturating_mul(u64::from(worker.saturating_sub(1)));
        let max_requests =
            if limits.max_requests == 0 { 0 } else { limits.max_requests.saturating_add(further) };
        Self {
            limits: limits.clone(),
            max_requests,
            requests: 0,
            started_ms,
            memory_at_ms: 0,
            unseen: false,
            asked: false,
        }
    }

    /// A request has ended. `memory` gives address space and resident memory in bytes. Says once, and why, that it is
    /// time.
    pub(crate) fn request_ended(
        &mut self,
        now_ms: u64,
        memory: impl FnOnce() -> Option<(u64, u64)>,
    ) -> Option<String> {
        self.requests += 1;
        if self.asked || now_ms < self.started_ms.saturating_add(self.limits.min_lifetime_ms) {
            return None;
        }
        let reason = if self.max_requests > 0 && self.requests >= self.max_requests {
            Some(format!("served {} requests", self.requests))
        } else {
            self.too_large(now_ms, memory)
        };
        self.asked = reason.is_some();
        reason
    }

    /// When memory has to be looked at although no request may end: what the last one has left was not seen.
    pub(crate) fn look_at_ms(&self) -> Option<u64> {
        (self.unseen && !self.asked).then_some(self.memory_at_ms)
    }

    /// It is time for that. Says why, as the end of a request does.
    pub(crate) fn look(
        &mut self,
        now_ms: u64,
        memory: impl FnOnce() -> Option<(u64, u64)>,
    ) -> Option<String> {
        let reason = if self.asked || !self.unseen { None } else { self.too_large(now_ms, memory) };
        self.asked |= reason.is_some();
        reason
    }

    fn too_large(&mut self, now_ms: u64, memory: impl FnOnce() -> Option<(u64, u64)>) -> Option<String> {
        let Recycling { rss_bytes, address_space_bytes, .. } = self.limits;
        if rss_bytes == 0 && address_space_bytes == 0 {
            return None;
        }
        self.unseen = now_ms < self.memory_at_ms;
        if self.unseen {
            return None;
        }
        self.memory_at_ms = now_ms + MEMORY_MS;
        let (address_space, resident) = memory()?;
        if rss_bytes > 0 && resident >= rss_bytes {
            return Some(format!("{} MiB of memory are resident", resident / MIB));
        }
        (address_space_bytes > 0 && address_space >= address_space_bytes)
            .then(|| format!("{} MiB of address space", address_space / MIB))
    }
}

impl Worker {
    /// A request has ended: asks for a fresh process if it is time.
    pub(crate) fn recycle_if_due(&mut self) {
        let now_ms = self.reactor.now_ms();
        let was_armed = self.recycler.look_at_ms().is_some();
        let reason = self.recycler.request_ended(now_ms, memory_of_this_process);
        self.ask_for_a_successor(reason);
        if let Some(at_ms) = self.recycler.look_at_ms().filter(|_| !was_armed) {
            self.reactor.arm(at_ms, u64::from(kind::MEMORY) << 56);
        }
    }

    /// Memory is looked at because a request has ended just after the last look.
    pub(crate) fn look_at_memory(&mut self) {
        let now_ms = self.reactor.now_ms();
        let reason = self.recycler.look(now_ms, memory_of_this_process);
        self.ask_for_a_successor(reason);
        if let Some(at_ms) = self.recycler.look_at_ms() {
            self.reactor.arm(at_ms, u64::from(kind::MEMORY) << 56);
        }
    }

    fn ask_for_a_successor(&mut self, reason: Option<String>) {
        if let Some(reason) = reason
            && !self.draining
            && !self.makes_room()
        {
            self.tell_master(&FromWorker::Recycle(reason));
        }
    }
}

fn memory_of_this_process() -> Option<(u64, u64)> {
    process::memory(Pid::current()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Option<(u64, u64)> {
        panic!("memory does not matter")
    }

    #[test]
    fn after_so_many_requests_it_asks_once() {
        let limits = Recycling { max_requests: 3, max_requests_delta: 2, ..Recycling::default() };
        for (worker, due) in [(1, 3), (2, 5), (4, 9)] {
            let mut recycler = Recycler::new(&limits, worker, 0);
            let asked: Vec<u64> = (1..20).filter(|_| recycler.request_ended(1000, never).is_some()).collect();
            assert_eq!(asked, [due], "worker {worker}");
        }
    }

    #[test]
    fn without_a_number_it_never_asks() {
        let limits = Recycling { max_requests_delta: 5, ..Recycling::default() };
        let mut recycler = Recycler::new(&limits, 3, 0);
        assert!((0..100).all(|_| recycler.request_ended(1000, never).is_none()));
    }

    #[test]
    fn a_young_process_goes_on_for_a_while() {
        let limits = Recycling { max_requests: 1, min_lifetime_ms: 500, ..Recycling::default() };
        let mut recycler = Recycler::new(&limits, 1, 10_000);
        assert_eq!(recycler.request_ended(10_499, never), None);
        assert_eq!(recycler.request_ended(10_500, never), Some("served 2 requests".to_owned()));
    }

    #[test]
    fn memory_is_looked_at_now_and_then() {
        let limits =
            Recycling { rss_bytes: 64 * MIB, address_space_bytes: 1024 * MIB, ..Recycling::default() };
        let mut recycler = Recycler::new(&limits, 1, 0);
        assert_eq!(recycler.request_ended(1000, || Some((100 * MIB, 10 * MIB))), None);
        assert_eq!(recycler.request_ended(1000 + MEMORY_MS - 1, never), None);
        assert_eq!(
            recycler.request_ended(1000 + MEMORY_MS, || Some((100 * MIB, 65 * MIB))),
            Some("65 MiB of memory are resident".to_owned())
        );
        let mut recycler = Recycler::new(&limits, 1, 0);
        assert_eq!(
            recycler.request_ended(1000, || Some((2048 * MIB, MIB))),
            Some("2048 MiB of address space".to_owned())
        );
    }

    #[test]
    fn what_the_last_request_has_left_is_seen_without_another_one() {
        let limits = Recycling { rss_bytes: 64 * MIB, ..Recycling::default() };
        let mut recycler = Recycler::new(&limits, 1, 0);
        assert_eq!(recycler.request_ended(1000, || Some((0, MIB))), None);
        assert_eq!(recycler.look_at_ms(), None);
        assert_eq!(recycler.request_ended(1001, never), None);
        assert_eq!(recycler.look_at_ms(), Some(1000 + MEMORY_MS));
        // Another look has come first.
        assert_eq!(recycler.request_ended(1000 + MEMORY_MS, || Some((0, MIB))), None);
        assert_eq!(recycler.look(1000 + MEMORY_MS, never), None);
        assert_eq!(recycler.request_ended(1001 + MEMORY_MS, never), None);
        assert!(recycler.look(1000 + 2 * MEMORY_MS, || Some((0, 65 * MIB))).is_some());
        assert_eq!(recycler.look_at_ms(), None);
    }
}
