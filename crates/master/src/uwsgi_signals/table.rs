//! What the application of one generation has registered: handlers, timers and cron entries.
//!
//! Several processes of a generation register the same: each worker with `--lazy-apps`, each process that takes a
//! worker's place. So equal registrations are one. Handlers themselves live in the workers; here is who gets a signal.

use std::collections::BTreeMap;

use super::Now;
use super::cron::{CronSpec, Crons};
use super::target::Target;
use super::timers::{TimerSpec, Timers};

/// Who registers something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registrant {
    /// The application while it is loaded, before its workers are forked.
    Generation,
    /// The worker of this number.
    Worker {
        /// Its number.
        id: u32,
        /// It has not said yet that it is ready: it loads the application.
        loading: bool,
    },
}

impl Registrant {
    pub(super) fn worker(self) -> u32 {
        match self {
            Self::Generation => 0,
            Self::Worker { id, .. } => id,
        }
    }

    fn is_loading(self) -> bool {
        matches!(self, Self::Generation | Self::Worker { loading: true, .. })
    }
}

/// How a sentence names it.
impl std::fmt::Display for Registrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generation => f.write_str("the application"),
            Self::Worker { id, .. } => write!(f, "worker {id}"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Handler {
    target: Target,
    by: Registrant,
    /// Others have registered the same.
    shared: bool,
}

/// See the file's description.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignalTable {
    handlers: BTreeMap<u8, Handler>,
    timers: Timers,
    crons: Crons,
    running: bool,
}

impl SignalTable {
    /// Registers who runs a handler; whether that is news.
    ///
    /// # Errors
    /// Another process wants somebody else to run it.
    pub(crate) fn add_handler(&mut self, number: u8, target: Target, by: Registrant) -> Result<bool, String> {
        if let Some(handler) = self.handlers.get_mut(&number) {
            let same_process = handler.by.worker() == by.worker();
            if handler.target == target {
                handler.shared |= !same_process;
                return Ok(false);
            }
            if !same_process || handler.shared || by == Registrant::Generation {
                return Err(format!(
                    "signal {number} is registered with target \"{}\" by {}; {by} asks for target \"{target}\", \
                     which is refused",
                    handler.target, handler.by,
                ));
            }
        }
        self.handlers.insert(number, Handler { target, by, shared: false });
        Ok(true)
    }

    /// Adds a timer. One with an end that a request asks for is one more, also if there was the same before: requests
    /// use such timers to have something done later.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn add_timer(&mut self, spec: TimerSpec, by: Registrant, now: Now) -> Result<(), String> {
        self.timers.add(spec, spec.iterations.is_none() || by.is_loading(), now.monotonic_ms)
    }

    /// Adds a cron entry.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn add_cron(&mut self, spec: CronSpec, now: Now) -> Result<(), String> {
        self.crons.add(spec, now.unix_s())
    }

    /// Who gets a signal; `None`: no handler is registered.
    pub(crate) fn target(&self, number: u8) -> Option<Target> {
        self.handlers.get(&number).map(|handler| handler.target)
    }

    /// Time begins to run: the generation's workers get signals from now on, instead of those with the table `before`.
    pub(crate) fn start(&mut self, before: Option<&Self>, now: Now) {
        self.running = true;
        self.timers.start(before.map(|before| &before.timers), now.monotonic_ms);
        self.crons.start(now.unix_s());
    }

    /// Whether time runs.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// The signals that timers raise now, and those that cron entries raise.
    pub(crate) fn tick(&mut self, now: Now) -> (Vec<u8>, Vec<u8>) {
        (self.timers.tick(now.monotonic_ms), self.crons.tick(now.unix_s()))
    }

    /// When [`Self::tick`] has something to do, on the monotonic clock.
    pub(crate) fn deadline_ms(&self, now: Now) -> Option<u64> {
        let cron_ms = self.crons.deadline_s().map(|at_s| now.when_clock_shows(at_s));
        self.timers.deadline_ms().into_iter().chain(cron_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Registrant = Registrant::Worker { id: 1, loading: true };
    const SECOND: Registrant = Registrant::Worker { id: 2, loading: true };
    const REQUEST: Registrant = Registrant::Worker { id: 2, loading: false };
    const NOW: Now = Now { monotonic_ms: 0, unix_ms: 0 };

    fn table() -> SignalTable {
        SignalTable::default()
    }

    #[test]
    fn workers_that_register_the_same_register_it_once() {
        let mut table = table();
        assert_eq!(table.add_handler(5, Target::Any, FIRST), Ok(true));
        assert_eq!(table.add_handler(5, Target::Any, SECOND), Ok(false));
        assert_eq!(table.add_handler(5, Target::Any, FIRST), Ok(false));
        assert_eq!(table.target(5), Some(Target::Any));
        assert_eq!(table.target(6), None);
    }

    #[test]
    fn a_conflict_names_both() {
        let mut table = table();
        table.add_handler(5, Target::Workers, FIRST).unwrap();
        let reason = table.add_handler(5, Target::Worker(2), SECOND).unwrap_err();
        for part in ["signal 5", "workers", "by worker 1", "worker 2 asks", "worker2"] {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        assert_eq!(table.target(5), Some(Target::Workers));
    }

    #[test]
    fn one_process_may_change_its_mind_as_long_as_it_is_alone() {
        let mut table = table();
        table.add_handler(5, Target::Any, FIRST).unwrap();
        assert_eq!(table.add_handler(5, Target::Workers, FIRST), Ok(true));
        table.add_handler(5, Target::Workers, SECOND).unwrap();
        assert!(table.add_handler(5, Target::Any, FIRST).is_err());
        table.add_handler(6, Target::Any, Registrant::Generation).unwrap();
        assert!(table.add_handler(6, Target::Workers, Registrant::Generation).is_err());
    }

    #[test]
    fn requests_may_have_something_done_later_each() {
        let mut table = table();
        table.start(None, NOW);
        let once = TimerSpec { number: 1, interval_ms: 10, iterations: Some(1) };
        for by in [FIRST, SECOND, REQUEST, REQUEST] {
            table.add_timer(once, by, NOW).unwrap();
        }
        let for_ever = TimerSpec { number: 2, interval_ms: 10, iterations: None };
        for by in [FIRST, REQUEST] {
            table.add_timer(for_ever, by, NOW).unwrap();
        }
        let (mut due, _) = table.tick(Now { monotonic_ms: 10, unix_ms: 0 });
        due.sort_unstable();
        assert_eq!(due, [1, 1, 1, 2]);
    }

    #[test]
    fn deadlines_of_both_clocks() {
        let mut table = table();
        table.start(None, NOW);
        assert_eq!(table.deadline_ms(NOW), None);
        table.add_cron(CronSpec::new(1, [-1; 5]).unwrap(), NOW).unwrap();
        // Looked at more often than it is due: the clock may be set.
        assert_eq!(table.deadline_ms(NOW), Some(30_000));
        let late = Now { monotonic_ms: 7000, unix_ms: 59_500 };
        assert_eq!(table.deadline_ms(late), Some(7500));
        table.add_timer(TimerSpec { number: 1, interval_ms: 10, iterations: None }, FIRST, late).unwrap();
        assert_eq!(table.deadline_ms(late), Some(7010));
    }
}
