//! The master's loop: one wait for whatever happens in the process tree, and what is done about time.
//!
//! Owns the master's state and the order in which things are looked at. What a command means is in `reload.rs` (who
//! serves) and `stopping.rs` (who leaves), what a death means in `deaths.rs`; a worker's life is `lifecycle.rs`, the
//! talk with processes `generations.rs`. Nothing in the loop blocks but its one wait.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use greenloom_config::Settings;
use greenloom_proto::control::FromWorker;
use greenloom_sys::clock::monotonic_ms;
use greenloom_sys::process::{self, Pid};
use greenloom_sys::signals::{PosixSignal, SignalPipe};

use crate::application::Handover;
use crate::commands::{Asker, Command};
use crate::fifo::Fifos;
use crate::generations::{Generation, Occasion, Worker};
use crate::lifecycle::{self, Backoff, Event, Life};
use crate::listeners::Listeners;
use crate::log::say;
use crate::messages::Report;
use crate::notifier::Notifier;
use crate::rotation::Rotation;
use crate::scoreboard::{Count, Totals};
use crate::status::{Describer, Status};
use crate::touch::TouchWatch;
use crate::upgrade::Upgrade;
use crate::user_locks::UserLocks;
use crate::uwsgi_signals::{Now, UwsgiSignals};
use crate::watchdog::Watchdog;

/// The command that starts a generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) program: &'a OsString,
    pub(crate) arguments: &'a [OsString],
    pub(crate) directory: &'a Path,
}

/// Reads the configuration anew; the reason in words if it is refused.
pub type Reread<'a> = &'a dyn Fn() -> Result<Settings, String>;

/// Where the instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Has never been ready: a load that fails ends the start.
    Starting,
    /// Has been ready: failures are repaired.
    Serving,
    /// A stop begins at that time; until then readiness says no and everything else goes on.
    Leaving { stop_at_ms: u64 },
    /// On the way to exit with this code.
    Stopping { code: i32, since_ms: u64 },
}

/// A generation that is to take over.
#[derive(Debug)]
pub(crate) struct Coming {
    pub(crate) occasion: Occasion,
    pub(crate) settings: Rc<Settings>,
    /// When its process is started, or was.
    pub(crate) at_ms: u64,
    /// `None` until then.
    pub(crate) number: Option<u32>,
}

pub(crate) struct Master<'a> {
    /// Of the generation that serves, or of the first one.
    pub(crate) settings: Rc<Settings>,
    pub(crate) reread: Reread<'a>,
    /// Empty once the instance stops.
    pub(crate) listeners: &'a mut Listeners,
    /// `None` without `--master-fifo`.
    pub(crate) fifos: Option<&'a mut Fifos>,
    pub(crate) notifier: Notifier,
    pub(crate) recipe: Recipe<'a>,
    pub(crate) handover: Handover,
    /// The numbers of the instance, over all generations.
    pub(crate) totals: Totals,
    /// The user locks of the instance; replaced only when a configuration asks for more.
    pub(crate) locks: UserLocks,
    pub(crate) signals: SignalPipe,
    /// In order of their numbers: one that serves, one that may be coming, others on their way out.
    pub(crate) generations: Vec<Generation>,
    pub(crate) last_number: u32,
    /// The number of the generation that serves.
    pub(crate) serving: Option<u32>,
    pub(crate) coming: Option<Coming>,
    /// Somebody asked for a reload while one was under way: another one follows.
    pub(crate) reload_again: bool,
    /// Who wants to know how the reload under way ends, and how the one that follows.
    pub(crate) askers: Vec<Asker>,
    pub(crate) askers_again: Vec<Asker>,
    /// Readiness says no although nothing is wrong: somebody asked for it.
    pub(crate) drained: bool,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) uwsgi_signals: UwsgiSignals,
    /// Files whose change reloads, and those whose change reopens the log.
    pub(crate) touch_reload: TouchWatch,
    pub(crate) touch_logreopen: TouchWatch,
    /// Looks after the length of the log file.
    pub(crate) rotation: Rotation,
    /// What others see of all this, and what they ask for.
    pub(crate) status: &'a mut Status,
    pub(crate) describer: Describer,
    /// When the memory of workers is looked at next.
    pub(crate) memory_at_ms: u64,
    /// Sees which workers are blocked.
    pub(crate) watchdog: Watchdog,
    /// Patience with generations that die.
    pub(crate) backoff: Backoff,
    /// How long the last generation took until it served.
    pub(crate) last_load_ms: u64,
    pub(crate) phase: Phase,
}

/// Something the loop waits for.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Status,
    FileMonitors,
    Fifo,
    Channel(usize),
    Control(usize, usize),
}

impl Master<'_> {
    /// Serves until told to stop; the exit code.
    pub(crate) fn run(mut self) -> i32 {
        loop {
            let now_ms = monotonic_ms();
            self.start_generation_if_due(now_ms);
            self.tick(now_ms);
            self.retire(now_ms);
            self.upgrade_if_possible(now_ms);
            if let Phase::Stopping { code, .. } = self.phase
                && self.generations.is_empty()
            {
                return code;
            }
            let accepting = self.is_accepting();
            self.notifier.watchdog(now_ms, accepting);
            self.describe();
            let ready = self.wait(self.timeout_ms(now_ms));
            let now_ms = monotonic_ms();
            for source in ready {
                match source {
                    Source::Signals => {
                        self.signals.take().into_iter().for_each(|signal| self.signal(signal, now_ms));
                    }
                    Source::Status => {
                        for (command, asker) in self.status.take() {
                            self.command(command, asker, now_ms);
                        }
                    }
                    Source::FileMonitors => self.uwsgi_signals.on_readable(Now::read()),
                    Source::Fifo => self.read_fifo(now_ms),
                    Source::Channel(generation) => self.read_reports(generation, now_ms),
                    Source::Control(generation, worker) => self.read_control(generation, worker, now_ms),
                }
            }
            self.reap(now_ms);
            self.deliver_signals();
        }
    }

    /// The one wait.
    fn wait(&self, timeout_ms: Option<u64>) -> Vec<Source> {
        let mut sources = vec![Source::Signals, Source::Status];
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd(), self.status.as_fd()];
        if let Some(fd) = self.uwsgi_signals.fd() {
            sources.push(Source::FileMonitors);
            fds.push(fd);
        }
        if let Some(fifos) = &self.fifos {
            sources.push(Source::Fifo);
            fds.push(fifos.as_fd());
        }
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

    // --- time ---

    fn tick(&mut self, now_ms: u64) {
        if let Phase::Leaving { stop_at_ms } = self.phase
            && stop_at_ms <= now_ms
        {
            self.stop(0, now_ms);
        }
        for generation in &mut self.generations {
            for index in 0..generation.workers.len() {
                let draining = matches!(generation.workers[index].lifecycle.life(), Life::Draining { .. });
                let command = generation.feed(index, Event::Tick, now_ms);
                let worker = &generation.workers[index];
                if let (Some(lifecycle::Command::Quit), true, Some(process)) =
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
        self.replace_the_hanging(now_ms);
        self.recycle_due(now_ms);
        self.kill_the_greedy(now_ms);
        self.rotate_log(now_ms);
        self.look_at_touched_files(now_ms);
        self.watch_workers(now_ms);
    }

    fn timeout_ms(&self, now_ms: u64) -> Option<u64> {
        let workers = self.generations.iter().flat_map(|generation| &generation.workers);
        let leaving = match self.phase {
            Phase::Leaving { stop_at_ms } => Some(stop_at_ms),
            _ => None,
        };
        workers
            .filter_map(|worker| worker.lifecycle.deadline_ms())
            .chain(self.generations.iter().filter_map(|generation| generation.kill_at_ms))
            .chain(self.coming.as_ref().filter(|coming| coming.number.is_none()).map(|coming| coming.at_ms))
            .chain(self.hanging_at_ms())
            .chain(self.recycling_deadline_ms())
            .chain(self.memory_deadline_ms())
            .chain(self.rotation.deadline_ms(&self.settings.log))
            .chain(self.signals_deadline_ms())
            .chain(self.touch_deadline_ms())
            .chain(self.watch_deadline_ms())
            .chain(leaving)
            .chain(self.notifier.deadline_ms())
            .min()
            .map(|at_ms| at_ms.saturating_sub(now_ms))
    }

    /// Whether at least one worker takes connections.
    fn is_accepting(&self) -> bool {
        self.generations.iter().flat_map(|generation| &generation.workers).any(Worker::accepts)
    }

    // --- what is asked of the master ---

    pub(crate) fn signal(&mut self, signal: PosixSignal, now_ms: u64) {
        let command = match signal {
            // Children are collected in every round.
            PosixSignal::Child => return,
            PosixSignal::Hangup => {
                say!("SIGHUP received...");
                Command::Reload
            }
            PosixSignal::Terminate if self.settings.master_process.sigterm_reload => {
                say!("SIGTERM received (--sigterm-reload)...");
                Command::Reload
            }
            PosixSignal::Interrupt | PosixSignal::Terminate => Command::Stop,
            PosixSignal::Quit => {
                say!("SIGQUIT received...killing workers at once...");
                Command::StopNow
            }
            PosixSignal::User1 => Command::ReopenLog,
            PosixSignal::User2 => Command::Stacks,
        };
        self.command(command, Asker::nobody(), now_ms);
    }

    /// Does what is asked, or begins to.
    pub(crate) fn command(&mut self, command: Command, asker: Asker, now_ms: u64) {
        let answer = match command {
            Command::Reload => return self.reload(asker, now_ms),
            Command::Stop => Ok(self.begin_stop(now_ms)),
            Command::StopNow => {
                self.stop(0, now_ms);
                self.leave_now(now_ms);
                Ok("stopping at once".to_owned())
            }
            Command::Upgrade => return self.upgrade(asker),
            Command::ReopenLog => self.reopen_log(),
            Command::Stacks => {
                self.generations.iter().flat_map(|g| &g.workers).for_each(Worker::ask_for_stacks);
                Ok("the stacks are in the log".to_owned())
            }
            Command::Statistics => {
                self.say_statistics();
                Ok("the statistics are in the log".to_owned())
            }
            Command::Workers(change) => self.change_workers(change, now_ms),
            Command::Drain(drained) => {
                self.drained = drained;
                let text = if drained { "readiness says no" } else { "readiness says yes again" };
                say!("{text}: somebody asked for it");
                Ok(text.to_owned())
            }
            Command::WritePidfile => self.write_pidfile(),
        };
        asker.answer(answer);
    }

    // --- what processes say ---

    pub(crate) fn read_reports(&mut self, g: usize, now_ms: u64) {
        while let Some((report, mut rights)) = self.generations[g].next_report() {
            match report {
                Report::Loaded => {
                    self.generations[g].loaded();
                    if let Phase::Stopping { .. } = self.phase {
                        self.drain(g, lifecycle::Farewell::Stop, now_ms);
                    }
                }
                Report::Forked { id, pid } => self.forked(g, id, pid, rights.pop(), now_ms),
                Report::ForkFailed { id, errno } => {
                    say!("cannot fork worker {id}: {}", std::io::Error::from_raw_os_error(errno));
                    if let Some(index) = self.generations[g].being_forked(id) {
                        let generation = &mut self.generations[g];
                        generation.workers[index].forget_process();
                        generation.feed(index, Event::ForkFailed, now_ms);
                    }
                }
                Report::Died { pid, ending, .. } => {
                    if let Some(index) = self.generations[g].with_pid(pid) {
                        self.worker_died(g, index, ending, now_ms);
                    }
                }
                Report::Registered(registration) => self.register(g, None, registration),
            }
        }
    }

    fn forked(&mut self, g: usize, id: u32, pid: Pid, pidfd: Option<OwnedFd>, now_ms: u64) {
        let generation = &mut self.generations[g];
        let Some(index) = generation.being_forked(id) else { return };
        let fresh = generation.workers.iter().filter(|worker| worker.id == id).count() == 1;
        let worker = &mut generation.workers[index];
        worker.forked(pidfd);
        self.totals.count(Count::Spawns(id));
        if worker.spawned == 1 && fresh {
            say!("spawned greenloom worker {id} (pid: {pid}, cores: {})", generation.settings.cores);
        } else {
            say!("Respawned greenloom worker {id} (new pid: {pid})");
        }
        generation.feed(index, Event::Forked(pid), now_ms);
    }

    pub(crate) fn read_control(&mut self, g: usize, w: usize, now_ms: u64) {
        for message in self.messages_of(g, w) {
            self.heard(g, w, message, now_ms);
        }
    }

    /// What a worker that is dead had still to say. That it accepts, and wants to be recycled, are no news any more.
    pub(crate) fn read_last_words(&mut self, g: usize, w: usize, now_ms: u64) {
        for message in self.messages_of(g, w) {
            if !matches!(message, FromWorker::Ready | FromWorker::Recycle(_)) {
                self.heard(g, w, message, now_ms);
            }
        }
    }

    fn messages_of(&mut self, g: usize, w: usize) -> Vec<FromWorker> {
        self.generations[g].workers.get_mut(w).map(Worker::read_control).unwrap_or_default()
    }

    fn heard(&mut self, g: usize, w: usize, message: FromWorker, now_ms: u64) {
        match message {
            FromWorker::Ready => {
                self.generations[g].feed(w, Event::Ready, now_ms);
                self.let_the_predecessor_go(g, w, now_ms);
                self.take_over_if_ready(g, now_ms);
            }
            FromWorker::Recycle(reason) => self.generations[g].workers[w].recycle = Some(reason),
            FromWorker::Reload => {
                say!("the application asks for a reload...");
                self.command(Command::Reload, Asker::nobody(), now_ms);
            }
            // A stop that is under way is not asked for again: that would end it at once.
            FromWorker::Stop if matches!(self.phase, Phase::Stopping { .. }) => {}
            FromWorker::Stop => {
                say!("the application asks for a stop...");
                self.command(Command::Stop, Asker::nobody(), now_ms);
            }
            // The next round looks at them.
            FromWorker::Deadlines => {}
            FromWorker::Signal(number) => {
                self.uwsgi_signals.raise(Some(self.generations[g].number), number);
            }
            FromWorker::SignalTaken(number) => {
                if let Some(process) = self.generations[g].workers[w].lifecycle.process() {
                    self.uwsgi_signals.taken(process.pid, number);
                }
            }
            FromWorker::Register(registration) => self.register(g, Some(w), registration),
        }
    }
}
