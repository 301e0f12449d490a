//! uwsgi signals in the master: who raises them, and who runs their handlers. (The kernel's are called posix signals.)
//!
//! | part | does |
//! | --- | --- |
//! | `target.rs` | the texts that say who runs a handler |
//! | `table.rs` | what the application of one generation has registered; equal registrations of its processes are one |
//! | `timers.rs`, `cron.rs`, `file_monitors.rs` | what raises signals by itself |
//! | `routing.rs` | from a signal to the processes that run its handler: queues that are bounded and lose nothing below that |
//!
//! # One application at a time
//!
//! Each generation has a table of its own. One of them is *active*: that of the generation that serves, or before any
//! does, that of the first that registers something. Its timers run as soon as one of its workers accepts; those of
//! the generation before stop at the same moment, and a timer that both have keeps its pace. Signals that a generation
//! raises before it serves wait until it does; those of one on its way out go to the one that serves.
//!
//! Where the master's loop calls is in `signalling.rs`. It gives the list of worker processes with each
//! [`UwsgiSignals::deliver`]: that one has died shows in its missing there, and needs no call of its own.

mod cron;
mod file_monitors;
mod routing;
mod table;
mod target;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::path::Path;

use greenloom_config::SignalSettings;
use greenloom_proto::control::Registration;
use greenloom_sys::clock;
use greenloom_sys::process::Pid;

use crate::log::say;
use cron::CronSpec;
use file_monitors::{FileMonitors, Owner};
use routing::Router;
pub(crate) use routing::{SignalCounts, WorkerView};
pub(crate) use table::Registrant;
use table::SignalTable;
use target::Target;
use timers::{TimerSpec, Timers};

/// Signals that wait for a generation to serve.
const MOST_EARLY: usize = 1024;
/// How long the clock is trusted to go its way: it may be set.
const CLOCK_TRUST_MS: u64 = 30_000;
/// Between two lines about dropped signals.
const COMPLAINT_INTERVAL_MS: u64 = 1000;

/// The time, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) monotonic_ms: u64,
    /// Since the epoch.
    pub(crate) unix_ms: u64,
}

impl Now {
    /// What the clocks show.
    pub(crate) fn read() -> Self {
        Self { monotonic_ms: clock::monotonic_ms(), unix_ms: clock::unix_us() / 1000 }
    }

    fn unix_s(self) -> i64 {
        i64::try_from(self.unix_ms / 1000).unwrap_or(i64::MAX)
    }

    /// When to look whether the clock shows `unix_s`, on the monotonic clock.
    fn when_clock_shows(self, unix_s: i64) -> u64 {
        let at_ms = u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000);
        self.monotonic_ms.saturating_add(at_ms.saturating_sub(self.unix_ms).min(CLOCK_TRUST_MS))
    }
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct UwsgiSignals {
    tables: BTreeMap<u32, SignalTable>,
    active: Option<u32>,
    serving: Option<u32>,
    /// Whose timers ran before those of the active generation.
    previous: Option<u32>,
    /// Those of the configuration.
    timers: Timers,
    monitors: FileMonitors,
    router: Router,
    /// How many the generation that serves has; before that, of the active one.
    workers: u32,
    /// Raised and not routed yet, with the generation that did; `None`: nobody of a generation.
    raised: VecDeque<(Option<u32>, u8)>,
    complained_at_ms: Option<u64>,
}

impl UwsgiSignals {
    /// Nothing but what the configuration asks for.
    pub(crate) fn new(settings: &SignalSettings, now: Now) -> Self {
        let mut signals = Self {
            tables: BTreeMap::new(),
            active: None,
            serving: None,
            previous: None,
            timers: Timers::default(),
            monitors: FileMonitors::default(),
            router: Router::default(),
            workers: 0,
            raised: VecDeque::new(),
            complained_at_ms: None,
        };
        signals.configure(settings, now);
        signals
    }

    /// Raises signals as the configuration asks for from now on. What it asked for before, too, goes on as it was.
    fn configure(&mut self, settings: &SignalSettings, now: Now) {
        let before = std::mem::take(&mut self.timers);
        for &(number, interval_ms) in &settings.timers {
            let spec = TimerSpec { number, interval_ms, iterations: None };
            if let Err(reason) = self.timers.add(spec, true, now.monotonic_ms) {
                say!("[uwsgi-signal] --timer {number}: {reason}");
            }
        }
        if before.is_running() {
            self.timers.start(Some(&before), now.monotonic_ms);
        }
        let asked_for =
            |number, path: &Path| settings.file_monitors.iter().any(|(n, p)| *n == number && p == path);
        self.monitors.remove(Owner::Options, |number, path| !asked_for(number, path));
        for (number, path) in &settings.file_monitors {
            if let Err(reason) = self.monitors.add(Owner::Options, *number, path, now.monotonic_ms) {
                say!("[uwsgi-signal] --fs-signal {}: {reason}", path.display());
            }
        }
    }

    /// A process of a generation, which has `workers` workers, registers something.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn register(
        &mut self,
        generation: u32,
        workers: u32,
        by: Registrant,
        registration: Registration,
        now: Now,
    ) -> Result<(), String> {
        self.active.get_or_insert(generation);
        if self.active == Some(generation) && self.serving != Some(generation) {
            self.workers = workers;
        }
        let table = self.tables.entry(generation).or_default();
        match registration {
            Registration::Handler { number, target } => {
                let parsed = Target::parse(&target)?;
                if let Target::Worker(id) = parsed
                    && id > workers
                {
                    return Err(format!(
                        "invalid signal target: {target} (signal {number}, {workers} workers)"
                    ));
                }
                if table.add_handler(number, parsed, by)? {
                    say!(
                        "[uwsgi-signal] signum {number} registered (wid: {} modifier1: 0 target: {parsed})",
                        by.worker()
                    );
                }
                Ok(())
            }
            Registration::Timer { number, interval_ms, iterations } => {
                let iterations = (iterations > 0).then_some(iterations);
                table.add_timer(TimerSpec { number, interval_ms, iterations }, by, now)
            }
            Registration::Cron { number, fields } => table.add_cron(CronSpec::new(number, fields)?, now),
            Registration::FileMonitor { number, path } => {
                let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path));
                self.monitors.add(Owner::Generation(generation), number, path, now.monotonic_ms)
            }
        }
    }

    /// A process of `generation` raises a signal, or somebody else does.
    pub(crate) fn raise(&mut self, generation: Option<u32>, number: u8) {
        self.raised.push_back((generation, number));
    }

    /// A worker process has taken a signal that [`Self::deliver`] gave it.
    pub(crate) fn taken(&mut self, pid: Pid, number: u8) {
        self.router.taken(pid, number);
    }

    /// This generation serves, and the master that knew what it has registered is no more: what is raised waits until
    /// another generation has registered who handles it.
    pub(crate) fn adopt(&mut self, generation: u32) {
        self.serving = Some(generation);
    }

    /// This generation serves: its `workers` workers get the signals from now on, and its configuration counts. To be
    /// called again and again: what is not news changes nothing.
    pub(crate) fn generation_serves(
        &mut self,
        number: u32,
        settings: &SignalSettings,
        workers: u32,
        now: Now,
    ) {
        if self.serving != Some(number) {
            self.serving = Some(number);
            if self.active != Some(number) {
                self.previous = self.active.replace(number);
            }
            self.tables.entry(number).or_default();
            self.configure(settings, now);
        }
        if self.workers != workers {
            self.workers = workers;
            for sentence in self.router.worker_count(workers) {
                self.complain(&sentence, now);
            }
        }
    }

    /// Forgets the generations that are not among `numbers`.
    pub(crate) fn keep_generations(&mut self, numbers: &[u32]) {
        let gone: Vec<u32> = self.tables.keys().copied().filter(|number| !numbers.contains(number)).collect();
        for number in gone {
            self.tables.remove(&number);
            self.monitors.remove(Owner::Generation(number), |_, _| true);
            self.active = self.active.filter(|&active| active != number);
        }
    }

    /// Raises what is due.
    pub(crate) fn tick(&mut self, now: Now) {
        let Some(active) = self.active else { return };
        let Some(table) = self.tables.get_mut(&active).filter(|table| table.is_running()) else { return };
        let (by_timers, by_crons) = table.tick(now);
        for number in &by_crons {
            say!("{} - [uwsgi-cron] routing signal {number}", clock::ctime(now.unix_ms / 1000));
        }
        let by_options = self.timers.tick(now.monotonic_ms);
        let by_files = self.monitors.tick(self.active, now.monotonic_ms);
        let due = by_timers.into_iter().chain(by_crons).chain(by_options).chain(by_files);
        self.raised.extend(due.map(|number| (Some(active), number)));
    }

    /// Which signals go to which of the worker processes `views` now: indices and numbers. Each is to be sent; a
    /// process that is just dying is no loss, its signals come back by its missing in the next list.
    pub(crate) fn deliver(&mut self, now: Now, views: &[WorkerView]) -> Vec<(usize, u8)> {
        self.start_if_somebody_accepts(now, views);
        let mut early = VecDeque::new();
        for (generation, number) in std::mem::take(&mut self.raised) {
            let waits = match (self.active, generation) {
                (None, _) => true,
                (Some(active), Some(generation)) => generation > active,
                (Some(_), None) => false,
            };
            let result = if waits && early.len() < MOST_EARLY {
                early.push_back((generation, number));
                continue;
            } else if waits {
                Err(self
                    .router
                    .drop(number, &format!("{MOST_EARLY} signals wait already for a generation that serves")))
            } else {
                self.route(number, views)
            };
            if let Err(sentence) = result {
                self.complain(&sentence, now);
            }
        }
        self.raised = early;
        self.router.deliver(self.active, views)
    }

    fn start_if_somebody_accepts(&mut self, now: Now, views: &[WorkerView]) {
        let accepting = |number| views.iter().any(|view| view.generation == number && view.accepts);
        let Some(active) = self.active.filter(|&active| accepting(active)) else { return };
        let Some(mut table) = self.tables.remove(&active) else { return };
        if !table.is_running() {
            table.start(self.previous.and_then(|previous| self.tables.get(&previous)), now);
            self.timers.start(None, now.monotonic_ms);
        }
        self.tables.insert(active, table);
    }

    fn route(&mut self, number: u8, views: &[WorkerView]) -> Result<(), String> {
        let table = self.active.and_then(|active| self.tables.get(&active));
        match table.and_then(|table| table.target(number)) {
            Some(target) => self.router.raise(number, target, self.active, self.workers, views),
            None => Err(self.router.drop(number, "no handler is registered for it")),
        }
    }

    /// A line about what was dropped; more than one in a second are left out, each tells how many there were.
    fn complain(&mut self, sentence: &str, now: Now) {
        let again_at_ms =
            self.complained_at_ms.map_or(0, |at_ms| at_ms.saturating_add(COMPLAINT_INTERVAL_MS));
        if now.monotonic_ms >= again_at_ms {
            self.complained_at_ms = Some(now.monotonic_ms);
            say!("{} - [uwsgi-signal] {sentence}", clock::ctime(now.unix_ms / 1000));
        }
    }

    /// When [`Self::tick`] has something to do, on the monotonic clock.
    pub(crate) fn deadline_ms(&self, now: Now) -> Option<u64> {
        let table =
            self.active.and_then(|active| self.tables.get(&active)).filter(|table| table.is_running())?;
        let monitors_ms = self.monitors.deadline_ms(self.active);
        table.deadline_ms(now).into_iter().chain(self.timers.deadline_ms()).chain(monitors_ms).min()
    }

    /// The descriptor to wait for, if there is one at the moment.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.monitors.fd()
    }

    /// [`Self::fd`] is readable.
    pub(crate) fn on_readable(&mut self, now: Now) {
        self.monitors.on_readable(now.monotonic_ms);
    }

    /// What has become of the signals, by number.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (u8, SignalCounts)> + '_ {
        self.router.counts()
    }
}

#[cfg(test)]
mod tests;
