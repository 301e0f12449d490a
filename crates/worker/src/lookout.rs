//! Who looks out for code that does not give control back: a thread beside the loop.
//!
//! It asks the loop for a turn and looks whether one comes. If none does for long enough it calls the driver, which knows
//! whose code that is. Once nothing has happened for a while it rests in the kernel: what blocks an idle worker is noticed
//! when somebody has to wait for it. When to ask and what to say is decided by [`Lookout`], which is pure.
//!
//! Stamps cannot tell: a loop that somebody else runs waits and computes without the worker, and a request that such a loop
//! has resumed blocks outside of every turn.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use greenloom_reactor::Wake;
use greenloom_sys::{clock, process};

use crate::CoreId;
use crate::worker::Worker;

/// The thread looks so often within the time that code may take.
const LOOKS: u64 = 2;
/// Not more often than that, however little time there is.
const LEAST_MS: u64 = 5;
/// Looks at a loop that does nothing but answer, after which the thread rests.
const QUIET: u32 = 20;
/// A look that comes so much too late says nothing: the machine had no CPU for this process, or it was stopped.
const LATE_MS: u64 = 30;

const NS_PER_MS: u64 = 1_000_000;

/// What loop and thread tell each other.
#[derive(Debug)]
pub(crate) struct Beacon {
    /// What is worth a report.
    limit_ms: u64,
    /// Turns begun.
    turns: AtomicU64,
    /// A request or a handler has a core.
    busy: AtomicBool,
    /// Since when the loop is waited for, in nanoseconds of the monotonic clock; 0: it is not.
    since_ns: AtomicU64,
    /// ... and what was reported last.
    reported_ns: AtomicU64,
    /// The worker has left.
    over: AtomicBool,
}

impl Beacon {
    fn new(limit_ms: u64) -> Self {
        Self {
            limit_ms,
            turns: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            since_ns: AtomicU64::new(0),
            reported_ns: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// A turn begins; for how long it was waited for, in nanoseconds.
    pub(crate) fn turn(&self, now_ns: u64) -> u64 {
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        if self.since_ns.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        now_ns.saturating_sub(self.since_ns.swap(0, Ordering::AcqRel))
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// For how many milliseconds the loop has been waited for; `None`: not for long, or this was told before.
    fn silent_ms(&self, now_ns: u64) -> Option<u64> {
        let since_ns = self.since_ns.load(Ordering::Acquire);
        // Counted as the lookout counts.
        let silent_ms = (now_ns / NS_PER_MS).saturating_sub(since_ns / NS_PER_MS);
        let is_news = since_ns != 0
            && silent_ms >= self.limit_ms
            && self.reported_ns.swap(since_ns, Ordering::Relaxed) != since_ns;
        is_news.then_some(silent_ms)
    }
}

impl Worker {
    /// From now on `report` is called, on a thread of its own, whenever the loop has had no control for `ms` milliseconds:
    /// once each time. What it says is asked of [`Self::take_silence`].
    pub fn look_out(&mut self, ms: u64, report: impl Fn() + Send + 'static) -> io::Result<()> {
        let beacon = Arc::new(Beacon::new(ms));
        let loop_fd = self.poll_fd().try_clone_to_owned()?;
        let watchman = Watchman {
            beacon: Arc::clone(&beacon),
            wake: self.wake_handle(),
            loop_fd,
            report: Box::new(report),
        };
        self.beacon = Some(beacon);
        // It lives as long as the process.
        process::spawn_thread("greenloom-lookout", move || watchman.run(Lookout::new(ms)))?;
        Ok(())
    }

    /// Says whose code the loop waits for, in case somebody has to end it. Code that a hosting loop has resumed took control
    /// without the worker.
    pub fn blame(&mut self, core: CoreId) {
        self.tell_deadline(core);
        self.instance.blame(core);
    }

    /// How long the loop has been waited for, in milliseconds; `None`: not for long, it has come meanwhile, or this was
    /// asked before. Whoever speaks of it would else be found to be what the loop waits for.
    pub fn take_silence(&self) -> Option<u64> {
        self.beacon.as_ref()?.silent_ms(clock::monotonic_ns())
    }
}

struct Watchman {
    beacon: Arc<Beacon>,
    wake: Wake,
    loop_fd: OwnedFd,
    report: Box<dyn Fn() + Send>,
}

impl Watchman {
    fn run(self, mut lookout: Lookout) {
        while !self.beacon.over.load(Ordering::Relaxed) {
            let now_ns = clock::monotonic_ns();
            let seen = Seen {
                turns: self.beacon.turns.load(Ordering::Acquire),
                busy: self.beacon.busy.load(Ordering::Relaxed),
                ready: self.is_ready(Some(0)),
            };
            let decision = lookout.look(now_ns / NS_PER_MS, seen);
            // A turn that comes in between finds the time, or the next look finds the turn.
            if decision.begins {
                self.beacon.since_ns.store(now_ns, Ordering::Release);
            }
            if decision.asks {
                self.wake.notify();
            }
            if decision.reports {
                (self.report)();
            }
            match decision.next_ms {
                Some(ms) => std::thread::sleep(Duration::from_millis(ms)),
                None => {
                    self.is_ready(None);
                }
            }
        }
    }

    fn is_ready(&self, timeout_ms: Option<u64>) -> bool {
        process::wait_readable(&[self.loop_fd.as_fd()], timeout_ms).is_ok_and(|ready| ready.contains(&true))
    }
}

/// What a look sees.
#[derive(Clone, Copy, Debug)]
struct Seen {
    turns: u64,
    busy: bool,
    /// Something waits for the loop.
    ready: bool,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    /// The loop is waited for from now on.
    begins: bool,
    /// ... and has to be asked, since nothing else waits for it.
    asks: bool,
    reports: bool,
    /// When to look again; `None`: when something happens.
    next_ms: Option<u64>,
}

/// When the loop is asked, and when it has been away for too long.
#[derive(Debug)]
struct Lookout {
    limit_ms: u64,
    period_ms: u64,
    /// Waited for since then, at that turn.
    waiting: Option<(u64, u64)>,
    reported: bool,
    turns: u64,
    quiet: u32,
    due_ms: Option<u64>,
}

impl Lookout {
    fn new(limit_ms: u64) -> Self {
        let period_ms = (limit_ms / LOOKS).max(LEAST_MS);
        Self { limit_ms, period_ms, waiting: None, reported: false, turns: 0, quiet: 0, due_ms: None }
    }

    fn look(&mut self, now_ms: u64, seen: Seen) -> Decision {
        let late = self.due_ms.is_some_and(|due| now_ms > due + self.period_ms + LATE_MS);
        // Its answer to the last question is one turn.
        let answers = u64::from(self.waiting.is_some());
        let moved = seen.turns.wrapping_sub(self.turns) > answers;
        self.turns = seen.turns;
        if late || self.waiting.is_some_and(|(_, turns)| turns != seen.turns) {
            self.waiting = None;
            self.reported = false;
        }
        self.quiet = if moved || seen.busy || seen.ready { 0 } else { self.quiet + 1 };
        let rests = self.quiet >= QUIET && self.waiting.is_none();
        let begins = self.waiting.is_none() && !rests;
        if begins {
            self.waiting = Some((now_ms, seen.turns));
        }
        let reports =
            !self.reported && self.waiting.is_some_and(|(since_ms, _)| now_ms >= since_ms + self.limit_ms);
        self.reported |= reports;
        self.due_ms = (!rests).then(|| now_ms + self.period_ms);
        Decision { begins, asks: begins && !seen.ready, reports, next_ms: (!rests).then_some(self.period_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Seen = Seen { turns: 7, busy: false, ready: false };
    const BUSY: Seen = Seen { busy: true, ..IDLE };
    const READY: Seen = Seen { ready: true, ..IDLE };

    #[test]
    fn a_silence_is_told_once() {
        let beacon = Beacon::new(100);
        let at = |ms: u64| ms * NS_PER_MS;
        assert_eq!(beacon.silent_ms(at(100)), None, "nobody waits");
        for since in [7, 900] {
            beacon.since_ns.store(at(since), Ordering::Relaxed);
            assert_eq!(beacon.silent_ms(at(since + 99)), None, "not for long");
            assert_eq!(beacon.silent_ms(at(since + 100)), Some(100));
            assert_eq!(beacon.silent_ms(at(since + 101)), None, "that was told");
            assert_eq!(beacon.turn(at(since + 200)), at(200));
            assert_eq!(beacon.silent_ms(at(since + 300)), None, "it has come");
        }
    }

    fn turn(seen: Seen, turns: u64) -> Seen {
        Seen { turns, ..seen }
    }

    #[test]
    fn a_loop_that_answers_is_asked_again_and_again() {
        let mut lookout = Lookout::new(100);
        for n in 0..50 {
            let decision = lookout.look(1000 + n * 50, turn(BUSY, n));
            assert_eq!(decision, Decision { begins: true, asks: true, reports: false, next_ms: Some(50) });
        }
    }

    #[test]
    fn one_that_does_not_is_reported_once_until_it_has_come() {
        let mut lookout = Lookout::new(100);
        let mut reports = |turns: u64, looks: std::ops::Range<u64>| -> Vec<u64> {
            looks.filter(|n| lookout.look(1000 + n * 50, turn(BUSY, turns)).reports).collect()
        };
        assert_eq!(reports(1, 0..20), [2]);
        assert_eq!(reports(2, 20..30), [22], "it has come, and is away again");
    }

    #[test]
    fn what_waits_for_the_loop_is_a_question_by_itself() {
        let mut lookout = Lookout::new(100);
        let decision = lookout.look(1000, READY);
        assert!(decision.begins && !decision.asks);
        assert!(!lookout.look(1050, READY).reports);
        assert!(lookout.look(1100, READY).reports);
        assert!(lookout.look(1150, turn(IDLE, 8)).asks, "and is over");
    }

    #[test]
    fn nobody_looks_at_an_idle_loop_for_long() {
        let mut lookout = Lookout::new(100);
        let answered = |n: u64| turn(IDLE, 7 + n);
        let looks = (0..100).take_while(|n| lookout.look(1000 + n * 50, answered(*n)).next_ms.is_some());
        let looks = looks.count();
        assert!((20..25).contains(&looks), "{looks}");
        // An hour later something happens.
        let ready = |turns| turn(READY, turns);
        assert!(lookout.look(3_600_000, ready(50)).begins);
        assert!(!lookout.look(3_600_050, ready(50)).reports);
        assert!(lookout.look(3_600_100, ready(50)).reports, "somebody waits");
    }

    #[test]
    fn a_process_that_was_stopped_reports_nothing() {
        let mut lookout = Lookout::new(100);
        lookout.look(1000, BUSY);
        let decision = lookout.look(90_000, BUSY);
        assert!(!decision.reports && decision.begins);
        assert!(!lookout.look(90_050, turn(BUSY, 8)).reports);
    }
}
