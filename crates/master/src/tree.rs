//! The master: one loop that waits for whatever happens in the process tree and decides what follows.
//!
//! Owns the decisions: when a generation starts, when it takes over, what a death means, how a stop goes on. Nothing in
//! the loop blocks but its one wait. A worker's life is `lifecycle.rs`, the talk with processes `generations.rs`.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use greenloom_config::Settings;
use greenloom_proto::control::FromWorker;
use greenloom_sys::clock::monotonic_ms;
use greenloom_sys::process::{self, Ending, Heir, Pid};
use greenloom_sys::signals::{self, PosixSignal, SignalPipe};

use crate::application::{CANNOT_SERVE, Handover};
use crate::error::MasterError;
use crate::generations::{Generation, Stage, Worker};
use crate::inheritance::{self, INHERITANCE_VARIABLE};
use crate::lifecycle::{Backoff, Command, Event, Life, Process};
use crate::listeners::{Listeners, Quietly};
use crate::log::say;
use crate::messages::Report;
use crate::pidfile::Pidfile;
use crate::scoreboard::{Count, Scoreboard, Totals};
use crate::worker_process::LOAD_FAILED;

/// How long a generation without workers may take to leave: it only has to end its loop and its interpreter.
const DISMISSAL_GRACE_MS: u64 = 1000;

/// How the program was started, so that it can be started again as a generation.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, for example the user's Python.
    pub program: OsString,
    /// What stands before the user's own arguments, for example `-m greenloom`.
    pub args: Vec<OsString>,
}

/// Runs the master until it is told to stop; its exit code. `arguments` are the user's own, `directory` is where they
/// were given. To be called on the process's main thread: generations die with the thread that started them.
///
/// # Errors
/// What keeps the server from starting; nothing is left behind then.
pub fn run_master(
    settings: &Settings,
    launch: &Launch,
    arguments: &[OsString],
    directory: &Path,
) -> Result<i32, MasterError> {
    signals::ignore_broken_pipes();
    process::become_subreaper().map_err(MasterError::system("become the reaper of orphans"))?;
    let mut listeners = Listeners::bind(settings)?;
    let arguments = [&launch.args, arguments].concat();
    let recipe = Recipe { program: &launch.program, arguments: &arguments, directory };
    let result = run_bound(settings, &mut listeners, recipe);
    if settings.vacuum || result.is_err() {
        listeners.vacuum(if result.is_ok() { Quietly::No } else { Quietly::Yes });
    }
    if result.is_ok() {
        say!("goodbye to greenloom.");
    }
    result
}

fn run_bound(settings: &Settings, listeners: &mut Listeners, recipe: Recipe<'_>) -> Result<i32, MasterError> {
    let signals = SignalPipe::catch(&[
        PosixSignal::Hangup,
        PosixSignal::Interrupt,
        PosixSignal::Quit,
        PosixSignal::Terminate,
        PosixSignal::User2,
        PosixSignal::Child,
    ])
    .map_err(MasterError::system("catch posix signals"))?;
    let totals = Totals::create().map_err(MasterError::system("create the totals"))?;
    let pidfile = settings.pidfile.as_deref().map(Pidfile::write).transpose()?;
    say!("spawned greenloom master process (pid: {})", Pid::current());
    let master = Master {
        settings,
        listeners,
        recipe,
        totals,
        scoreboards: Vec::new(),
        handover: Handover::create().map_err(MasterError::system("create a pair of sockets"))?,
        signals,
        generations: Vec::new(),
        last_number: 0,
        start_at_ms: Some(0),
        backoff: Backoff::default(),
        phase: Phase::Starting,
    };
    let code = master.run();
    if let Some(pidfile) = pidfile.filter(|_| settings.vacuum) {
        pidfile.vacuum();
    }
    Ok(code)
}

/// The command that starts a generation.
#[derive(Clone, Copy, Debug)]
struct Recipe<'a> {
    program: &'a OsString,
    arguments: &'a [OsString],
    directory: &'a Path,
}

/// Where the instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Never been ready: a load that fails ends the start.
    Starting,
    /// Has been ready: failures are repaired.
    Serving,
    /// On the way to exit with this code.
    Stopping { code: i32, since_ms: u64 },
}

struct Master<'a> {
    settings: &'a Settings,
    /// Empty once the instance stops.
    listeners: &'a mut Listeners,
    recipe: Recipe<'a>,
    totals: Totals,
    /// One for each generation, by its number.
    scoreboards: Vec<(u32, Scoreboard)>,
    handover: Handover,
    signals: SignalPipe,
    /// In order of their numbers. The last is the one that forks; the others' workers are on their way out.
    generations: Vec<Generation>,
    last_number: u32,
    /// When the next generation is due.
    start_at_ms: Option<u64>,
    /// Patience with generations that die.
    backoff: Backoff,
    phase: Phase,
}

/// Something the loop waits for.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Channel(usize),
    Control(usize, usize),
}

impl Master<'_> {
    fn run(mut self) -> i32 {
        loop {
            let now_ms = monotonic_ms();
            self.start_generation_if_due(now_ms);
            self.tick(now_ms);
            self.retire(now_ms);
            if let Phase::Stopping { code, .. } = self.phase
                && self.generations.is_empty()
            {
                return code;
            }
            let ready = self.wait(self.timeout_ms(now_ms));
            let now_ms = monotonic_ms();
            for source in ready {
                match source {
                    Source::Signals => {
                        self.signals.take().into_iter().for_each(|signal| self.signal(signal, now_ms));
                    }
                    Source::Channel(generation) => self.read_reports(generation, now_ms),
                    Source::Control(generation, worker) => self.read_control(generation, worker, now_ms),
                }
            }
            self.reap(now_ms);
        }
    }

    // --- time ---

    fn start_generation_if_due(&mut self, now_ms: u64) {
        if self.start_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        self.start_at_ms = None;
        self.last_number += 1;
        let number = self.last_number;
        let spawned =
            Scoreboard::create(self.settings.processes, self.settings.cores).and_then(|scoreboard| {
                let generation = self.spawn_generation(number, &scoreboard, now_ms)?;
                Ok((generation, scoreboard))
            });
        match spawned {
            Ok((generation, scoreboard)) => {
                self.generations.push(generation);
                self.scoreboards.push((number, scoreboard));
            }
            Err(error) => {
                say!("cannot start generation {number}: {error}");
                self.generation_failed(0, Some(1), now_ms);
            }
        }
    }

    fn spawn_generation(
        &self,
        number: u32,
        scoreboard: &Scoreboard,
        now_ms: u64,
    ) -> std::io::Result<Generation> {
        let (ours, theirs) = process::message_pair()?;
        let bound = self.listeners.bound();
        let mut inherited: Vec<BorrowedFd<'_>> = vec![
            theirs.as_fd(),
            scoreboard.as_fd(),
            self.totals.as_fd(),
            self.handover.give.as_fd(),
            self.handover.take.as_fd(),
        ];
        inherited.extend(bound.iter().map(|listener| listener.fd.as_fd()));
        let value = inheritance::value(number, &theirs, scoreboard, &self.totals, &self.handover, bound);
        let pid = Heir {
            program: self.recipe.program,
            args: self.recipe.arguments,
            variable: (INHERITANCE_VARIABLE, &value),
            directory: self.recipe.directory,
            inherited: &inherited,
        }
        .spawn()?;
        say!("spawned greenloom generation {number} (pid: {pid})");
        Ok(Generation::new(number, Process { pid, since_ms: now_ms }, ours))
    }

    fn tick(&mut self, now_ms: u64) {
        for generation in &mut self.generations {
            for index in 0..generation.workers.len() {
                let draining = matches!(generation.workers[index].lifecycle.life(), Life::Draining { .. });
                let command = generation.feed(index, Event::Tick, now_ms);
                let worker = &generation.workers[index];
                if let (Some(Command::Quit), true, Some(process)) =
                    (command, draining, worker.lifecycle.process())
                {
                    say!(
                        "worker {} (pid: {}) is taking too much time to die...NO MERCY !!!",
                        worker.id,
                        process.pid
                    );
                }
            }
        }
    }

    /// Sends generations home that nobody needs any more, and forgets those that are gone.
    fn retire(&mut self, now_ms: u64) {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let current = self.last_number;
        for generation in &mut self.generations {
            if generation.is_deserted() && (stopping || generation.number != current) {
                generation.dismiss(now_ms + DISMISSAL_GRACE_MS);
            }
            if let (Some(at_ms), Some(process)) = (generation.kill_at_ms, generation.process)
                && at_ms <= now_ms
            {
                // Our own child, not yet collected: the number is still its own. Its death ends this state.
                let _ = process::kill(process.pid);
                generation.kill_at_ms = Some(u64::MAX);
            }
        }
        self.generations.retain(|generation| generation.process.is_some() || !generation.is_deserted());
        self.scoreboards.retain(|(number, _)| self.generations.iter().any(|g| g.number == *number));
    }

    fn timeout_ms(&self, now_ms: u64) -> Option<u64> {
        let workers = self.generations.iter().flat_map(|generation| &generation.workers);
        workers
            .filter_map(|worker| worker.lifecycle.deadline_ms())
            .chain(self.generations.iter().filter_map(|generation| generation.kill_at_ms))
            .chain(self.start_at_ms)
            .min()
            .map(|at_ms| at_ms.saturating_sub(now_ms))
    }

    // --- the one wait ---

    fn wait(&self, timeout_ms: Option<u64>) -> Vec<Source> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![self.signals.as_fd()];
        for (g, generation) in self.generations.iter().enumerate() {
            if let Some(channel) = generation.channel() {
                sources.push(Source::Channel(g));
                fds.push(channel.as_fd());
            }
            for (w, worker) in generation.workers.iter().enumerate() {
                if let Some(control) = worker.control() {
                    sources.push(Source::Control(g, w));
                    fds.push(control.as_fd());
                }
            }
        }
        // poll(2) fails only for want of memory; the next round tries again.
        let ready = process::wait_readable(&fds, timeout_ms).unwrap_or_default();
        sources.into_iter().zip(ready).filter_map(|(source, ready)| ready.then_some(source)).collect()
    }

    // --- posix signals ---

    fn signal(&mut self, signal: PosixSignal, now_ms: u64) {
        match signal {
            // Children are collected in every round.
            PosixSignal::Child => {}
            PosixSignal::Hangup => {
                say!(
                    "SIGHUP received: there is no reload in this version, stop greenloom and start it again"
                );
            }
            PosixSignal::User2 => {
                self.generations.iter().flat_map(|g| &g.workers).for_each(Worker::ask_for_stacks);
            }
            PosixSignal::Quit => {
                say!("SIGQUIT received...killing workers at once...");
                self.stop(0, now_ms);
                self.leave_now(now_ms);
            }
            PosixSignal::Interrupt | PosixSignal::Terminate => {
                if matches!(self.phase, Phase::Stopping { .. }) {
                    say!("SIGINT/SIGTERM received again...killing workers at once...");
                    self.leave_now(now_ms);
                } else {
                    say!("SIGINT/SIGTERM received...killing workers...");
                    say!(
                        "requests in flight have {} s to end; a second signal ends them at once",
                        self.settings.limits.worker_reload_mercy_ms / 1000
                    );
                    self.stop(0, now_ms);
                }
            }
        }
    }

    /// Begins to stop: workers drain, no generation starts.
    fn stop(&mut self, code: i32, now_ms: u64) {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return;
        }
        self.phase = Phase::Stopping { code, since_ms: now_ms };
        self.start_at_ms = None;
        // A client that comes now is to be refused at once, not to wait in a queue that nobody empties: every process
        // closes its copy of the listeners, the workers theirs when they have accepted what was queued.
        drop(self.listeners.take_bound());
        self.generations.iter().for_each(Generation::stop_listening);
        for g in 0..self.generations.len() {
            self.drain(g, now_ms);
        }
    }

    fn leave_now(&mut self, now_ms: u64) {
        for generation in &mut self.generations {
            for index in 0..generation.workers.len() {
                generation.feed(index, Event::LeaveNow, now_ms);
            }
            if generation.is_deserted() {
                generation.kill_at_ms = Some(now_ms);
            }
        }
    }

    fn drain(&mut self, generation: usize, now_ms: u64) {
        let mercy_ms = self.settings.limits.worker_reload_mercy_ms;
        let generation = &mut self.generations[generation];
        for index in 0..generation.workers.len() {
            generation.feed(index, Event::Leave { mercy_ms }, now_ms);
        }
    }

    // --- what processes say ---

    fn read_reports(&mut self, g: usize, now_ms: u64) {
        while let Some((report, mut rights)) = self.generations[g].next_report() {
            match report {
                Report::Loaded => {
                    self.generations[g].loaded(self.settings.processes);
                    if matches!(self.phase, Phase::Stopping { .. }) {
                        self.drain(g, now_ms);
                    }
                }
                Report::Forked { id, pid } => self.forked(g, id, pid, rights.pop(), now_ms),
                Report::ForkFailed { id, errno } => {
                    say!("cannot fork worker {id}: {}", std::io::Error::from_raw_os_error(errno));
                    if let Some(index) = self.worker_index(g, id) {
                        let generation = &mut self.generations[g];
                        generation.workers[index].forget_process();
                        generation.feed(index, Event::ForkFailed, now_ms);
                    }
                }
                Report::Died { id, pid, ending } => {
                    if let Some(index) = self.worker_index(g, id)
                        && self.pid_of(g, index) == Some(pid)
                    {
                        self.worker_died(g, index, ending, now_ms);
                    }
                }
            }
        }
    }

    fn forked(&mut self, g: usize, id: u32, pid: Pid, pidfd: Option<std::os::fd::OwnedFd>, now_ms: u64) {
        let Some(index) = self.worker_index(g, id) else { return };
        let generation = &mut self.generations[g];
        let worker = &mut generation.workers[index];
        worker.forked(pidfd);
        self.totals.count(Count::Spawns(id));
        if worker.spawned == 1 {
            say!("spawned greenloom worker {id} (pid: {pid}, cores: {})", self.settings.cores);
        } else {
            say!("Respawned greenloom worker {id} (new pid: {pid})");
        }
        generation.feed(index, Event::Forked(pid), now_ms);
    }

    fn read_control(&mut self, g: usize, w: usize, now_ms: u64) {
        for message in self.generations[g].workers.get_mut(w).map(Worker::read_control).unwrap_or_default() {
            if message == FromWorker::Ready {
                self.generations[g].feed(w, Event::Ready, now_ms);
                self.announce_if_ready(g, now_ms);
            }
        }
    }

    /// The current generation's workers accept for the first time: older ones may go.
    fn announce_if_ready(&mut self, g: usize, now_ms: u64) {
        let generation = &mut self.generations[g];
        if generation.stage != Stage::Starting
            || generation.number != self.last_number
            || !generation.is_ready()
            || matches!(self.phase, Phase::Stopping { .. })
        {
            return;
        }
        generation.stage = Stage::Serving;
        let count = generation.workers.len();
        let plural = if count == 1 { "" } else { "s" };
        say!("greenloom is ready (generation {}, {count} worker{plural})", generation.number);
        self.phase = Phase::Serving;
        for older in 0..g {
            self.drain(older, now_ms);
        }
    }

    // --- deaths ---

    fn reap(&mut self, now_ms: u64) {
        while let Some((pid, ending)) = process::reap_any() {
            // What a dead generation had still to say comes first: which workers there are.
            for g in 0..self.generations.len() {
                self.read_reports(g, now_ms);
            }
            if let Some(g) = self
                .generations
                .iter()
                .position(|generation| generation.process.is_some_and(|process| process.pid == pid))
            {
                self.generation_died(g, ending, now_ms);
            } else if let Some((g, w)) = self.find_worker(pid) {
                self.worker_died(g, w, ending, now_ms);
            }
            // Anybody else: an orphan of the application, given to us as the subreaper.
        }
    }

    fn generation_died(&mut self, g: usize, ending: Ending, now_ms: u64) {
        let generation = &mut self.generations[g];
        let lived_ms = generation.process.map_or(0, |process| now_ms.saturating_sub(process.since_ms));
        let pid = generation.process.map_or(0, |process| process.pid.get());
        let (number, stage, dismissed) =
            (generation.number, generation.stage, generation.kill_at_ms.is_some());
        generation.lost(now_ms);
        // A worker the generation had collected itself, and did not live to report.
        for w in 0..self.generations[g].workers.len() {
            if self.pid_of(g, w).is_some_and(|pid| !process::exists(pid)) {
                self.worker_died(g, w, Ending::Unknown, now_ms);
            }
        }
        if dismissed || matches!(self.phase, Phase::Stopping { .. }) {
            return;
        }
        let how = describe(ending);
        if stage == Stage::Loading {
            say!("generation {number} (pid: {pid}) {how} while it loaded the application");
        } else {
            say!("DAMN ! generation {number} (pid: {pid}) {how} :( its workers serve on, trying respawn ...");
        }
        if stage != Stage::Serving && self.generations[..g].iter().any(|older| !older.is_deserted()) {
            // The older workers serve on, so these need not: only one row of them is kept over.
            self.drain(g, now_ms);
        }
        if number == self.last_number {
            let code = (stage == Stage::Loading).then_some(if ending == Ending::Exited(LOAD_FAILED) {
                LOAD_FAILED
            } else {
                1
            });
            self.generation_failed(lived_ms, code, now_ms);
        }
    }

    /// The current generation could not start or has died. `code`: it had not loaded its application, and this is what
    /// the instance exits with if it never served.
    fn generation_failed(&mut self, lived_ms: u64, code: Option<i32>, now_ms: u64) {
        let wait_ms = self.backoff.died(lived_ms);
        match code {
            Some(code) if self.phase == Phase::Starting => {
                if code == LOAD_FAILED {
                    say!("need-app requested, destroying the instance...");
                }
                self.stop(code, now_ms);
            }
            _ => {
                if wait_ms > 0 {
                    let deaths = self.backoff.early_deaths();
                    say!("{deaths} generations ended early in a row, the next one starts in {wait_ms} ms");
                }
                self.start_at_ms = Some(now_ms + wait_ms);
            }
        }
    }

    fn worker_died(&mut self, g: usize, w: usize, ending: Ending, now_ms: u64) {
        let generation = &mut self.generations[g];
        let (number, worker) = (generation.number, &mut generation.workers[w]);
        let Some(process) = worker.lifecycle.process() else { return };
        worker.forget_process();
        let was_starting = matches!(worker.lifecycle.life(), Life::Starting { .. });
        worker.lifecycle.on(Event::Died, now_ms);
        let (id, pid, life) = (worker.id, process.pid, worker.lifecycle.life());
        let deaths = worker.lifecycle.early_deaths();
        let scoreboard =
            self.scoreboards.iter().find(|(of, _)| *of == number).map(|(_, scoreboard)| scoreboard);
        if let Some(seat) = scoreboard.and_then(|scoreboard| scoreboard.seat(id - 1)) {
            self.totals.absorb(seat);
        }
        if let Phase::Stopping { since_ms, .. } = self.phase {
            say!("worker {id} buried after {} seconds", now_ms.saturating_sub(since_ms) / 1000);
            return;
        }
        let load_failed = ending == Ending::Exited(LOAD_FAILED) && was_starting && self.settings.need_app;
        let cannot_serve = ending == Ending::Exited(CANNOT_SERVE) && was_starting;
        match (life, ending) {
            (Life::Gone, _) => say!("worker {id} (pid: {pid}) of generation {number} {}", describe(ending)),
            (_, Ending::Exited(0)) => say!("worker {id} killed successfully (pid: {pid})"),
            _ if cannot_serve => say!("worker {id} (pid {pid}) cannot serve; its reason stands above"),
            _ if load_failed => say!("OOPS ! failed loading app in worker {id} (pid {pid})"),
            _ => say!("DAMN ! worker {id} (pid: {pid}) {} :( trying respawn ...", describe(ending)),
        }
        if load_failed && self.phase == Phase::Starting {
            say!("need-app requested, destroying the instance...");
            self.stop(LOAD_FAILED, now_ms);
        } else if cannot_serve && self.phase == Phase::Starting {
            self.stop(CANNOT_SERVE, now_ms);
        } else if let Life::Waiting { fork_at_ms } = life
            && fork_at_ms > now_ms
        {
            let wait_ms = fork_at_ms - now_ms;
            say!("worker {id} ended early {deaths} times in a row, the next attempt is in {wait_ms} ms");
        }
    }

    // --- look-ups ---

    fn worker_index(&self, g: usize, id: u32) -> Option<usize> {
        self.generations[g].workers.iter().position(|worker| worker.id == id)
    }

    fn pid_of(&self, g: usize, w: usize) -> Option<Pid> {
        self.generations[g].workers[w].lifecycle.process().map(|process| process.pid)
    }

    fn find_worker(&self, pid: Pid) -> Option<(usize, usize)> {
        self.generations.iter().enumerate().find_map(|(g, generation)| {
            let of = |worker: &Worker| worker.lifecycle.process().map(|process| process.pid);
            let w = generation.workers.iter().position(|worker| of(worker) == Some(pid))?;
            Some((g, w))
        })
    }
}

fn describe(ending: Ending) -> String {
    match ending {
        Ending::Exited(code) => format!("died, exit code {code}"),
        Ending::Signaled(signal) => format!("died, killed by signal {signal}"),
        Ending::Unknown => String::from("died"),
    }
}
