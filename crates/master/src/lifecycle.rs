//! The life of one worker, as the master sees it: one enum, one match.
//!
//! Pure: time and events come in, at most one command goes out. Processes, sockets and the log belong to `tree.rs`;
//! nothing here can block, sleep or fail.
//!
//! ```text
//! Waiting --Tick--> Forking --Forked--> Starting --Ready--> Accepting
//!    ^                 |                    |                   |
//!    +--- ForkFailed --+    <---- Died -----+-------------------+
//!                           Leave: Draining --(mercy over)--> Quitting --(grace over)--> Killed
//!                           Died after Leave or Retire, or without a generation to fork again: Gone
//! ```
//!
//! A worker that is recycled is two of these for a while: the old one retires (it serves on, but its process is its
//! last), a new one starts, and when that accepts the old one is told to leave.

use greenloom_sys::process::Pid;

/// A worker that ends sooner than this after its fork, or before it accepts, counts as one that died at once.
const HEALTHY_MS: u64 = 10_000;
/// The wait before the second respawn in a row of early deaths; doubled each time. The first one is free: a single
/// kill or crash costs no capacity.
const FIRST_DELAY_MS: u64 = 100;
/// The longest wait between two attempts: a repaired environment is noticed this soon.
const LAST_DELAY_MS: u64 = 10_000;
/// How long a worker told to leave at once may take before it is killed: it only has to return from its loop.
const QUIT_GRACE_MS: u64 = 1000;

/// Counts early deaths in a row and says how long to wait before the next attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    early_deaths: u32,
}

impl Backoff {
    /// Notes the end of something that lived for `lived_ms`; the wait before it is tried again.
    pub(crate) fn died(&mut self, lived_ms: u64) -> u64 {
        self.early_deaths = if lived_ms < HEALTHY_MS { self.early_deaths.saturating_add(1) } else { 0 };
        match self.early_deaths {
            0 | 1 => 0,
            // Seven doublings reach the limit.
            deaths => (FIRST_DELAY_MS << (deaths - 2).min(7)).min(LAST_DELAY_MS),
        }
    }

    /// Early deaths in a row so far.
    pub(crate) fn early_deaths(self) -> u32 {
        self.early_deaths
    }
}

/// A process and when it was forked (monotonic clock).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) since_ms: u64,
}

/// How a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The instance stops: connections end with it.
    Stop,
    /// Others serve on: connections move to them.
    HandOver,
}

/// What becomes of a worker that was asked for and is not yet forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Serve,
    Drain { quit_at_ms: u64, farewell: Farewell },
    Quit,
}

/// Where a worker's life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// No process; one is forked at that time.
    Waiting { fork_at_ms: u64 },
    /// The generation was asked to fork it. No timer: the generation answers or dies.
    Forking { purpose: Purpose },
    /// Forked, not yet accepting. No timer: an application may load for as long as it needs.
    Starting { process: Process },
    /// Accepts connections. No timer.
    Accepting { process: Process },
    /// Told to finish its requests; told to leave at once at that time.
    Draining { process: Process, quit_at_ms: u64, farewell: Farewell },
    /// Told to leave at once; killed at that time.
    Quitting { process: Process, kill_at_ms: u64 },
    /// Killed; its end is about to be reported. No timer.
    Killed { process: Process },
    /// No process, and none will be forked.
    Gone,
}

/// What happened to a worker, or what the master wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time has passed.
    Tick,
    /// The generation forked it.
    Forked(Pid),
    /// The generation could not fork it.
    ForkFailed,
    /// It accepts connections. Not to be heard before [`Event::Forked`].
    Ready,
    /// Its process ended.
    Died,
    /// It shall finish its requests within `mercy_ms` and leave for good.
    Leave { mercy_ms: u64, farewell: Farewell },
    /// Another worker is about to take its place: it serves on, but is not replaced when it ends.
    Retire,
    /// It shall leave for good at once.
    LeaveNow,
    /// Its generation died: nobody can fork it again.
    GenerationLost,
}

/// What the master must do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Ask the generation for a process.
    Fork,
    /// Tell the worker to finish its requests and leave.
    Drain(Farewell),
    /// Tell the worker to leave at once.
    Quit,
    /// Kill the process.
    Kill,
}

/// One worker's life and its memory of early deaths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifecycle {
    life: Life,
    backoff: Backoff,
    /// Whether a dead process is replaced.
    last: Last,
}

/// Whether the present process is the worker's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    No,
    Yes,
}

impl Lifecycle {
    /// A worker to be forked as soon as possible.
    pub(crate) fn new() -> Self {
        Self { life: Life::Waiting { fork_at_ms: 0 }, backoff: Backoff::default(), last: Last::No }
    }

    /// One whose process was there before the master's program; told to leave if there is a time for its end.
    pub(crate) fn adopted(process: Process, quit_at_ms: Option<u64>) -> Self {
        let (life, last) = match quit_at_ms {
            None => (Life::Accepting { process }, Last::No),
            Some(quit_at_ms) => {
                (Life::Draining { process, quit_at_ms, farewell: Farewell::HandOver }, Last::Yes)
            }
        };
        Self { life, backoff: Backoff::default(), last }
    }

    pub(crate) fn life(&self) -> Life {
        self.life
    }

    pub(crate) fn early_deaths(&self) -> u32 {
        self.backoff.early_deaths()
    }

    /// The process, while there is one.
    pub(crate) fn process(&self) -> Option<Process> {
        match self.life {
            Life::Starting { process }
            | Life::Accepting { process }
            | Life::Draining { process, .. }
            | Life::Quitting { process, .. }
            | Life::Killed { process } => Some(process),
            Life::Waiting { .. } | Life::Forking { .. } | Life::Gone => None,
        }
    }

    /// When [`Event::Tick`] is due.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        match self.life {
            Life::Waiting { fork_at_ms } => Some(fork_at_ms),
            Life::Draining { quit_at_ms, .. } => Some(quit_at_ms),
            Life::Quitting { kill_at_ms, .. } => Some(kill_at_ms),
            _ => None,
        }
    }

    /// Moves on. An event that means nothing in the present state is ignored: messages cross on their way.
    pub(crate) fn on(&mut self, event: Event, now_ms: u64) -> Option<Command> {
        if matches!(event, Event::Leave { .. } | Event::LeaveNow | Event::Retire | Event::GenerationLost) {
            self.last = Last::Yes;
        }
        let (life, command) = match (self.life, event) {
            (Life::Waiting { fork_at_ms }, Event::Tick) if fork_at_ms <= now_ms => {
                (Life::Forking { purpose: Purpose::Serve }, Some(Command::Fork))
            }
            (
                Life::Waiting { .. },
                Event::Leave { .. } | Event::LeaveNow | Event::Retire | Event::GenerationLost,
            )
            | (Life::Forking { .. }, Event::GenerationLost) => (Life::Gone, None),

            (Life::Forking { purpose }, Event::Forked(pid)) => forked(purpose, pid, now_ms),
            // However long it loaded: it never served.
            (Life::Forking { .. }, Event::ForkFailed) | (Life::Starting { .. }, Event::Died) => {
                (self.ended(0, now_ms), None)
            }
            (
                Life::Forking {
                    purpose: Purpose::Serve | Purpose::Drain { farewell: Farewell::HandOver, .. },
                },
                Event::Leave { mercy_ms, farewell },
            ) => {
                let quit_at_ms = now_ms.saturating_add(mercy_ms);
                (Life::Forking { purpose: Purpose::Drain { quit_at_ms, farewell } }, None)
            }
            (Life::Forking { .. }, Event::LeaveNow) => (Life::Forking { purpose: Purpose::Quit }, None),

            (Life::Starting { process }, Event::Ready) => (Life::Accepting { process }, None),
            (
                Life::Starting { process } | Life::Accepting { process },
                Event::Leave { mercy_ms, farewell },
            ) => {
                let quit_at_ms = now_ms.saturating_add(mercy_ms);
                (Life::Draining { process, quit_at_ms, farewell }, Some(Command::Drain(farewell)))
            }
            // Nobody is left to hand anything over to. The mercy does not begin anew.
            (
                Life::Draining { process, quit_at_ms, farewell: Farewell::HandOver },
                Event::Leave { mercy_ms, farewell: farewell @ Farewell::Stop },
            ) => {
                let quit_at_ms = quit_at_ms.min(now_ms.saturating_add(mercy_ms));
                (Life::Draining { process, quit_at_ms, farewell }, Some(Command::Drain(farewell)))
            }
            (
                Life::Starting { process } | Life::Accepting { process } | Life::Draining { process, .. },
                Event::LeaveNow,
            ) => (quitting(process, now_ms), Some(Command::Quit)),
            (Life::Draining { process, quit_at_ms, .. }, Event::Tick) if quit_at_ms <= now_ms => {
                (quitting(process, now_ms), Some(Command::Quit))
            }
            (Life::Quitting { process, kill_at_ms }, Event::Tick) if kill_at_ms <= now_ms => {
                (Life::Killed { process }, Some(Command::Kill))
            }
            (Life::Quitting { process, .. }, Event::LeaveNow) => {
                (Life::Killed { process }, Some(Command::Kill))
            }
            (
                Life::Accepting { process }
                | Life::Draining { process, .. }
                | Life::Quitting { process, .. }
                | Life::Killed { process },
                Event::Died,
            ) => (self.ended(now_ms.saturating_sub(process.since_ms), now_ms), None),
            (life, _) => (life, None),
        };
        self.life = life;
        command
    }

    fn ended(&mut self, lived_ms: u64, now_ms: u64) -> Life {
        if self.last == Last::Yes {
            return Life::Gone;
        }
        Life::Waiting { fork_at_ms: now_ms + self.backoff.died(lived_ms) }
    }
}

fn forked(purpose: Purpose, pid: Pid, now_ms: u64) -> (Life, Option<Command>) {
    let process = Process { pid, since_ms: now_ms };
    match purpose {
        Purpose::Serve => (Life::Starting { process }, None),
        Purpose::Drain { quit_at_ms, farewell } => {
            (Life::Draining { process, quit_at_ms, farewell }, Some(Command::Drain(farewell)))
        }
        Purpose::Quit => (quitting(process, now_ms), Some(Command::Quit)),
    }
}

fn quitting(process: Process, now_ms: u64) -> Life {
    Life::Quitting { process, kill_at_ms: now_ms.saturating_add(QUIT_GRACE_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pid(raw: i32) -> Pid {
        Pid::new(raw).unwrap()
    }

    fn running(lifecycle: &mut Lifecycle, now_ms: u64) {
        assert_eq!(lifecycle.on(Event::Tick, now_ms), Some(Command::Fork));
        assert_eq!(lifecycle.on(Event::Forked(pid(9)), now_ms), None);
        assert_eq!(lifecycle.on(Event::Ready, now_ms), None);
    }

    #[test]
    fn a_single_death_is_answered_at_once() {
        let mut worker = Lifecycle::new();
        running(&mut worker, 0);
        worker.on(Event::Died, 5000);
        assert_eq!(worker.on(Event::Tick, 5000), Some(Command::Fork));
    }

    #[test]
    fn early_deaths_double_the_wait_up_to_the_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..11).map(|_| backoff.died(3)).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(backoff.died(HEALTHY_MS), 0, "a healthy life forgives");
        assert_eq!(backoff.died(3), 0);
        assert_eq!(backoff.died(3), 100);
    }

    #[test]
    fn a_fork_that_fails_is_tried_again_with_the_same_patience() {
        let mut worker = Lifecycle::new();
        let mut now_ms = 0;
        for wait in [0, 100, 200] {
            assert_eq!(worker.on(Event::Tick, now_ms), Some(Command::Fork));
            worker.on(Event::ForkFailed, now_ms);
            assert_eq!(worker.deadline_ms(), Some(now_ms + wait));
            now_ms += wait;
        }
    }

    #[test]
    fn one_that_never_served_ended_early_however_long_it_loaded() {
        let mut worker = Lifecycle::new();
        let mut now_ms = 0;
        for deaths in 1..=3 {
            assert_eq!(worker.on(Event::Tick, now_ms), Some(Command::Fork));
            worker.on(Event::Forked(pid(9)), now_ms);
            now_ms += 2 * HEALTHY_MS;
            worker.on(Event::Died, now_ms);
            assert_eq!(worker.early_deaths(), deaths);
            now_ms += 1000;
        }
    }

    #[test]
    fn one_that_does_not_drain_is_told_to_leave_and_then_killed() {
        let mut worker = Lifecycle::new();
        running(&mut worker, 0);
        assert_eq!(
            worker.on(leave(60_000, Farewell::HandOver), 10),
            Some(Command::Drain(Farewell::HandOver))
        );
        assert_eq!(worker.on(Event::Tick, 60_009), None);
        assert_eq!(worker.on(Event::Tick, 60_010), Some(Command::Quit));
        assert_eq!(worker.on(Event::Tick, 61_009), None);
        assert_eq!(worker.on(Event::Tick, 61_010), Some(Command::Kill));
        assert_eq!(worker.on(Event::Died, 61_020), None);
        assert_eq!(worker.life(), Life::Gone);
    }

    #[test]
    fn one_that_is_just_being_forked_leaves_as_well() {
        let mut worker = Lifecycle::new();
        worker.on(Event::Tick, 0);
        assert_eq!(worker.on(leave(5, Farewell::Stop), 1), None);
        assert_eq!(worker.on(Event::Forked(pid(3)), 2), Some(Command::Drain(Farewell::Stop)));
        assert_eq!(worker.deadline_ms(), Some(6));
    }

    #[test]
    fn a_stop_in_the_middle_of_a_hand_over_ends_the_hand_over() {
        let mut worker = Lifecycle::new();
        running(&mut worker, 0);
        worker.on(leave(1000, Farewell::HandOver), 0);
        assert_eq!(worker.on(leave(1000, Farewell::HandOver), 300), None);
        assert_eq!(worker.on(leave(1000, Farewell::Stop), 500), Some(Command::Drain(Farewell::Stop)));
        assert_eq!(worker.deadline_ms(), Some(1000), "its mercy goes on");
        assert_eq!(worker.on(leave(1000, Farewell::HandOver), 600), None, "and not back");
    }

    #[test]
    fn one_that_retires_serves_on_and_is_not_replaced() {
        let mut worker = Lifecycle::new();
        running(&mut worker, 0);
        assert_eq!(worker.on(Event::Retire, 1), None);
        assert!(matches!(worker.life(), Life::Accepting { .. }));
        worker.on(Event::Died, 2);
        assert_eq!(worker.life(), Life::Gone);
    }

    fn leave(mercy_ms: u64, farewell: Farewell) -> Event {
        Event::Leave { mercy_ms, farewell }
    }

    #[test]
    fn one_whose_generation_died_serves_on_and_is_not_replaced() {
        let mut worker = Lifecycle::new();
        running(&mut worker, 0);
        assert_eq!(worker.on(Event::GenerationLost, 1), None);
        assert!(matches!(worker.life(), Life::Accepting { .. }));
        worker.on(Event::Died, 2);
        assert_eq!(worker.life(), Life::Gone);
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => Just(Event::Tick),
            4 => (1..99_i32).prop_map(|raw| Event::Forked(pid(raw))),
            2 => Just(Event::ForkFailed),
            4 => Just(Event::Ready),
            4 => Just(Event::Died),
            1 => (0..5000_u64).prop_map(|mercy_ms| leave(mercy_ms, Farewell::Stop)),
            1 => (0..5000_u64).prop_map(|mercy_ms| leave(mercy_ms, Farewell::HandOver)),
            1 => Just(Event::Retire),
            1 => Just(Event::LeaveNow),
            1 => Just(Event::GenerationLost),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: one process at a time, commands only to one that exists, no fork after
        /// the farewell, and an end that comes when the process is told off and dies.
        #[test]
        fn any_sequence_of_events_keeps_the_rules(
            events in proptest::collection::vec((event(), 0..3000_u64), 0..200)
        ) {
            let mut worker = Lifecycle::new();
            let mut now_ms = 0;
            let mut last = false;
            for (event, passed_ms) in events {
                now_ms += passed_ms;
                let before = worker.process();
                let was_killed = matches!(worker.life(), Life::Killed { .. });
                let command = worker.on(event, now_ms);
                last |= matches!(
                    event,
                    Event::Leave { .. } | Event::LeaveNow | Event::Retire | Event::GenerationLost
                );
                match command {
                    Some(Command::Fork) => {
                        prop_assert!(before.is_none() && !last);
                        let asked = matches!(worker.life(), Life::Forking { .. });
                        prop_assert!(asked);
                    }
                    Some(Command::Drain(_) | Command::Quit) => prop_assert!(worker.process().is_some()),
                    Some(Command::Kill) => prop_assert!(before.is_some() && !was_killed),
                    None => {}
                }
                if let (Some(before), Some(after)) = (before, worker.process()) {
                    prop_assert_eq!(before, after, "a process is only replaced after its death");
                }
                if let Some(deadline_ms) = worker.deadline_ms() {
                    let due = deadline_ms <= now_ms;
                    let mut copy = worker;
                    prop_assert_eq!(copy.on(Event::Tick, now_ms).is_some(), due, "a deadline that is due acts");
                }
            }
            worker.on(Event::LeaveNow, now_ms);
            worker.on(Event::Forked(pid(1)), now_ms);
            worker.on(Event::Died, now_ms);
            prop_assert_eq!(worker.life(), Life::Gone);
        }

        /// A worker that always dies at once is forked at most 15 times in the first minute.
        #[test]
        fn a_crash_loop_is_throttled(lives in proptest::collection::vec(0..50_u64, 1000)) {
            let mut worker = Lifecycle::new();
            let (mut now_ms, mut forks) = (0, 0);
            for lived_ms in lives {
                now_ms = worker.deadline_ms().unwrap_or(now_ms).max(now_ms);
                if now_ms > 60_000 {
                    break;
                }
                prop_assert_eq!(worker.on(Event::Tick, now_ms), Some(Command::Fork));
                forks += 1;
                worker.on(Event::Forked(pid(1)), now_ms);
                now_ms += lived_ms;
                worker.on(Event::Died, now_ms);
            }
            prop_assert!((9..=15).contains(&forks), "{} forks", forks);
        }
    }
}
