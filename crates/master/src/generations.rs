//! The master's picture of one generation and its workers, and the talk with both. Decisions are in `tree.rs`.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use greenloom_config::Settings;
use greenloom_proto::control::{Frames, FromWorker, ToWorker};
use greenloom_sys::process::Pid;
use greenloom_sys::question::{self, Question};
use greenloom_sys::{fdpass, process};

use serde::{Deserialize, Serialize};

use crate::lifecycle::{Command, Event, Farewell, Life, Lifecycle, Process};
use crate::messages::{self, Order, Report};
use crate::relay::{retry, tell};
use crate::scoreboard::Scoreboard;

/// How far a generation has come. Says nothing about its process: workers outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It loads the application; no orders yet.
    Loading,
    /// It forks workers; not all of them have been ready at the same time yet.
    Starting,
    /// All its workers have been ready at the same time.
    Serving,
}

/// What a generation was started for: it decides what a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The instance starts: without it there is nothing.
    Start,
    /// Somebody asked for a reload: the one that serves goes on if this one fails.
    Reload,
    /// The process of the one that serves has died: nobody can fork its workers again, so this is tried for ever.
    Loss,
}

/// One generation: a process that forks workers, and those workers.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) stage: Stage,
    /// As its configuration was when it started.
    pub(crate) settings: Rc<Settings>,
    /// The numbers of its workers, by seat.
    pub(crate) scoreboard: Scoreboard,
    /// `None`: it is dead.
    pub(crate) process: Option<Process>,
    /// `None`: told to leave, or dead.
    pub(crate) channel: Option<OwnedFd>,
    /// When a process that was told to leave is killed.
    pub(crate) kill_at_ms: Option<u64>,
    /// Empty until the application is loaded.
    pub(crate) workers: Vec<Worker>,
}

/// A worker, as the master's next program finds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SavedWorker {
    id: u32,
    seat: u32,
    spawned: u32,
    retires: bool,
    recycle: Option<String>,
    pid: i32,
    since_ms: u64,
    /// When it is told to leave at once, if it was told to leave.
    quit_at_ms: Option<u64>,
    control: Option<RawFd>,
    pidfd: Option<RawFd>,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: u32,
    /// Its place on the scoreboard, from 0. Two workers of one number overlap while the older is recycled.
    pub(crate) seat: u32,
    pub(crate) lifecycle: Lifecycle,
    /// It serves until the one that takes its place accepts.
    pub(crate) retires: bool,
    /// Why it is to be recycled as soon as that is possible.
    pub(crate) recycle: Option<String>,
    /// Processes so far.
    pub(crate) spawned: u32,
    control: Option<OwnedFd>,
    /// What came over `control` in part.
    frames: Frames,
    pidfd: Option<OwnedFd>,
}

impl Generation {
    /// One that was just started, and loads the application.
    pub(crate) fn new(
        number: u32,
        settings: Rc<Settings>,
        scoreboard: Scoreboard,
        process: Process,
        channel: OwnedFd,
    ) -> Self {
        Self {
            number,
            stage: Stage::Loading,
            settings,
            scoreboard,
            process: Some(process),
            channel: Some(channel),
            kill_at_ms: None,
            workers: Vec::new(),
        }
    }

    /// The application is loaded: workers may be forked.
    pub(crate) fn loaded(&mut self) {
        self.stage = Stage::Starting;
        self.workers = (1..=self.settings.processes).map(|id| Worker::new(id, id - 1)).collect();
    }

    /// A further worker, to be forked as soon as possible. `None`: every seat of the scoreboard is taken, which passes
    /// when those that leave have left.
    pub(crate) fn add_worker(&mut self, id: u32) -> Option<&mut Worker> {
        let free = |seat: &u32| self.workers.iter().all(|worker| worker.seat != *seat);
        let seat = (0..self.scoreboard.seats()).find(free)?;
        self.workers.push(Worker::new(id, seat));
        self.workers.last_mut()
    }

    /// How many more workers there could be.
    pub(crate) fn free_seats(&self) -> u32 {
        self.scoreboard.seats().saturating_sub(u32::try_from(self.workers.len()).unwrap_or(u32::MAX))
    }

    /// Adds the workers that are missing, as far as there are seats.
    pub(crate) fn fill_up(&mut self) {
        for id in 1..=self.settings.processes {
            if !self.workers.iter().any(|worker| worker.id == id && !worker.retires) {
                let _: Option<&mut Worker> = self.add_worker(id);
            }
        }
    }

    /// Forgets workers that have no process any more and whose place somebody else has.
    pub(crate) fn forget_the_gone(&mut self) {
        self.workers.retain(|worker| !(worker.retires && worker.lifecycle.life() == Life::Gone));
    }

    /// The worker `id` that the process was asked to fork.
    pub(crate) fn being_forked(&self, id: u32) -> Option<usize> {
        self.workers
            .iter()
            .position(|worker| worker.id == id && matches!(worker.lifecycle.life(), Life::Forking { .. }))
    }

    /// The worker whose process that is.
    pub(crate) fn with_pid(&self, pid: Pid) -> Option<usize> {
        self.workers
            .iter()
            .position(|worker| worker.lifecycle.process().is_some_and(|process| process.pid == pid))
    }

    /// When a worker has lived long enough (`--max-worker-lifetime`).
    pub(crate) fn lifetime_at_ms(&self, index: usize) -> Option<u64> {
        let recycling = &self.settings.recycling;
        let worker = self.workers.get(index)?;
        let since_ms = worker.lifecycle.process()?.since_ms;
        let more_ms = recycling.max_lifetime_delta_ms.saturating_mul(u64::from(worker.id - 1));
        let lifetime_ms = recycling.max_lifetime_ms.saturating_add(more_ms).max(recycling.min_lifetime_ms);
        (recycling.max_lifetime_ms > 0).then(|| since_ms.saturating_add(lifetime_ms))
    }

    /// Has all workers leave at once.
    pub(crate) fn leave_now(&mut self, now_ms: u64) {
        for index in 0..self.workers.len() {
            self.feed(index, Event::LeaveNow, now_ms);
        }
    }

    /// Whether no worker has a process or will have one.
    pub(crate) fn is_deserted(&self) -> bool {
        self.workers.iter().all(|worker| worker.lifecycle.life() == Life::Gone)
    }

    /// Whether every worker accepts connections.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage != Stage::Loading
            && self.workers.iter().filter(|worker| !worker.retires).all(Worker::accepts)
    }

    pub(crate) fn channel(&self) -> Option<&OwnedFd> {
        self.channel.as_ref()
    }

    /// Tells the process to leave, by closing its socket; it is killed at `kill_at_ms`. The first call counts.
    pub(crate) fn dismiss(&mut self, kill_at_ms: u64) {
        self.channel = None;
        self.kill_at_ms.get_or_insert(kill_at_ms);
    }

    /// Lets the process close its copies of the listeners. A failure means that it is dying, which closes them, too.
    pub(crate) fn stop_listening(&self) {
        self.order(Order::StopListening);
    }

    /// Sends an order to the process. A failure means that it is dying.
    pub(crate) fn order(&self, order: Order) {
        if let Some(channel) = &self.channel {
            let _ = fdpass::send(channel.as_fd(), &order.encode(), &[]);
        }
    }

    /// The process is dead: nobody forks any more.
    pub(crate) fn lost(&mut self, now_ms: u64) {
        self.process = None;
        self.channel = None;
        self.kill_at_ms = None;
        for worker in &mut self.workers {
            worker.lifecycle.on(Event::GenerationLost, now_ms);
            if worker.lifecycle.life() == Life::Gone {
                // A process forked without our hearing of it leaves by the end of this socket.
                worker.forget_process();
            }
        }
    }

    /// The next report that is there, with the descriptors that came along.
    pub(crate) fn next_report(&mut self) -> Option<(Report, Vec<OwnedFd>)> {
        loop {
            let channel = self.channel.as_ref()?;
            let mut bytes = [0; messages::LONGEST];
            match fdpass::recv(channel.as_fd(), &mut bytes) {
                Ok((length @ 1.., rights)) => {
                    if let Some(report) = Report::decode(&bytes[..length]) {
                        return Some((report, rights));
                    }
                }
                Err(error) if retry(&error) => return None,
                Ok(_) | Err(_) => self.channel = None,
            }
        }
    }

    /// Feeds `event` to a worker and does what follows; what was done.
    pub(crate) fn feed(&mut self, index: usize, event: Event, now_ms: u64) -> Option<Command> {
        let worker = self.workers.get_mut(index)?;
        let command = worker.lifecycle.on(event, now_ms)?;
        if worker.perform(command, self.channel.as_ref()).is_err() && command == Command::Fork {
            worker.forget_process();
            worker.lifecycle.on(Event::ForkFailed, now_ms);
        }
        Some(command)
    }
}

impl Worker {
    fn new(id: u32, seat: u32) -> Self {
        Self {
            id,
            seat,
            lifecycle: Lifecycle::new(),
            retires: false,
            recycle: None,
            spawned: 0,
            control: None,
            frames: Frames::default(),
            pidfd: None,
        }
    }

    /// What has to be known to go on with it. `None`: it has no process, and will get another one.
    pub(crate) fn saved(&self) -> Option<SavedWorker> {
        let process = self.lifecycle.process()?;
        Some(SavedWorker {
            id: self.id,
            seat: self.seat,
            spawned: self.spawned,
            retires: self.retires,
            recycle: self.recycle.clone(),
            pid: process.pid.get(),
            since_ms: process.since_ms,
            quit_at_ms: if self.accepts() { None } else { self.lifecycle.deadline_ms().or(Some(0)) },
            control: self.control.as_ref().map(AsRawFd::as_raw_fd),
            pidfd: self.pidfd.as_ref().map(AsRawFd::as_raw_fd),
        })
    }

    /// The descriptors that [`Self::saved`] names.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.control.iter().chain(&self.pidfd).map(|fd| fd.as_fd())
    }

    /// The worker that [`Self::saved`] described; `claim` takes possession of a descriptor.
    pub(crate) fn adopt<E>(
        saved: SavedWorker,
        claim: impl Fn(RawFd) -> Result<OwnedFd, E>,
    ) -> Result<Option<Self>, E> {
        let control = saved.control.map(&claim).transpose()?;
        let pidfd = saved.pidfd.map(&claim).transpose()?;
        let Some(pid) = Pid::new(saved.pid) else { return Ok(None) };
        let process = Process { pid, since_ms: saved.since_ms };
        let mut lifecycle = Lifecycle::adopted(process, saved.quit_at_ms);
        if saved.retires {
            lifecycle.on(Event::Retire, saved.since_ms);
        }
        let Self { frames, .. } = Self::new(saved.id, saved.seat);
        Ok(Some(Self {
            id: saved.id,
            seat: saved.seat,
            lifecycle,
            retires: saved.retires,
            recycle: saved.recycle,
            spawned: saved.spawned,
            control,
            frames,
            pidfd,
        }))
    }

    /// Whether it takes connections.
    pub(crate) fn accepts(&self) -> bool {
        matches!(self.lifecycle.life(), Life::Accepting { .. })
    }

    /// Tells it something. One that is dying hears nothing.
    pub(crate) fn tell(&self, order: &ToWorker) {
        let _ = self.control.as_ref().map(|control| tell(control.as_fd(), order));
    }

    /// Kills its process.
    pub(crate) fn kill(&self) {
        let _ = self.perform_kill();
    }

    fn perform_kill(&self) -> io::Result<()> {
        match (&self.pidfd, self.lifecycle.process()) {
            (Some(pidfd), _) => process::kill_by_pidfd(pidfd.as_fd()),
            (None, Some(process)) => process::kill(process.pid),
            (None, None) => Ok(()),
        }
    }

    /// The socket to wait for. A worker may say that it accepts before its generation reports the fork: that has to
    /// wait in the socket until there is a process to say it of.
    pub(crate) fn control(&self) -> Option<&OwnedFd> {
        self.control.as_ref().filter(|_| self.lifecycle.process().is_some())
    }

    /// The generation forked it.
    pub(crate) fn forked(&mut self, pidfd: Option<OwnedFd>) {
        self.spawned += 1;
        self.pidfd = pidfd;
    }

    /// Its process is gone, or never came.
    pub(crate) fn forget_process(&mut self) {
        self.control = None;
        self.frames = Frames::default();
        self.pidfd = None;
    }

    /// What the worker has said since the last call.
    pub(crate) fn read_control(&mut self) -> Vec<FromWorker> {
        let mut bytes = [0; 4096];
        // All that a socket holds, and no more: one that never stops talking does not keep the master.
        for _ in 0..64 {
            let Some(control) = &self.control else { break };
            match process::read(control.as_fd(), &mut bytes) {
                Ok(n @ 1..) => self.frames.push(&bytes[..n]),
                Err(error) if retry(&error) => break,
                // Its death is reported by its parent.
                Ok(_) | Err(_) => self.control = None,
            }
        }
        std::iter::from_fn(|| self.frames.next_from_worker()).collect()
    }

    /// Has it print the stacks of its requests (`SIGUSR2`). One that is dying says nothing.
    pub(crate) fn ask_for_stacks(&self) {
        let _ = match (&self.pidfd, self.lifecycle.process()) {
            (Some(pidfd), _) => process::ask_by_pidfd(pidfd.as_fd()),
            (None, Some(process)) => process::ask(process.pid),
            (None, None) => Ok(()),
        };
    }

    /// Asks it what it does. `false`: it would not understand, or is dying.
    pub(crate) fn ask(&self, question: Question) -> bool {
        let Some(process) = self.lifecycle.process() else { return false };
        question::is_understood(process.pid, question)
            && match &self.pidfd {
                Some(pidfd) => question::ask_by_pidfd(pidfd.as_fd(), question),
                None => question::ask(process.pid, question),
            }
            .is_ok()
    }

    /// Errors of the last three mean that the process is dying already; its death is reported by its parent.
    fn perform(&mut self, command: Command, channel: Option<&OwnedFd>) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        match command {
            Command::Fork => {
                let channel = channel.ok_or_else(gone)?;
                let (ours, theirs) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                let order = Order::Fork { id: self.id, seat: self.seat }.encode();
                fdpass::send(channel.as_fd(), &order, &[theirs.as_fd()])?;
                self.control = Some(ours.into());
                Ok(())
            }
            Command::Drain(farewell) => {
                let order = match farewell {
                    Farewell::Stop => ToWorker::Drain,
                    Farewell::HandOver => ToWorker::HandOver,
                };
                tell(self.control.as_ref().ok_or_else(gone)?.as_fd(), &order)
            }
            Command::Quit => tell(self.control.as_ref().ok_or_else(gone)?.as_fd(), &ToWorker::Quit),
            Command::Kill => self.perform_kill(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(channel: OwnedFd) -> Generation {
        let process = Process { pid: Pid::current(), since_ms: 0 };
        let board = Scoreboard::create(4, 1).unwrap();
        Generation::new(1, Rc::new(Settings::default()), board, process, channel)
    }

    #[test]
    fn a_worker_that_takes_anothers_place_has_a_seat_of_its_own() {
        let (ours, _theirs) = process::message_pair().unwrap();
        let mut generation = generation(ours);
        generation.loaded();
        let added = generation.add_worker(1).unwrap();
        assert_eq!((added.id, added.seat), (1, 1));
        generation.workers[0].retires = true;
        generation.feed(0, Event::Retire, 0);
        generation.forget_the_gone();
        assert_eq!(generation.workers.len(), 1);
        assert_eq!(generation.add_worker(1).unwrap().seat, 0, "a seat is used again");
        assert!(generation.add_worker(2).is_some() && generation.add_worker(3).is_some());
        assert!(generation.add_worker(4).is_none());
    }

    #[test]
    fn missing_workers_are_added_and_others_stay() {
        let (ours, _theirs) = process::message_pair().unwrap();
        let mut generation = generation(ours);
        Rc::make_mut(&mut generation.settings).processes = 3;
        generation.loaded();
        generation.workers.remove(0);
        generation.workers[1].retires = true;
        generation.fill_up();
        let mut workers: Vec<_> = generation.workers.iter().map(|worker| (worker.id, worker.seat)).collect();
        workers.sort_unstable();
        assert_eq!(workers, [(1, 0), (2, 1), (3, 2), (3, 3)]);
        generation.fill_up();
        assert_eq!(generation.workers.len(), 4);
    }

    #[test]
    fn a_worker_that_is_faster_than_the_report_of_its_fork_is_heard_afterwards() {
        let (ours, theirs) = process::message_pair().unwrap();
        let mut generation = generation(ours);
        generation.loaded();
        assert_eq!(generation.feed(0, Event::Tick, 0), Some(Command::Fork));
        let mut bytes = [0; messages::LONGEST];
        let (length, mut rights) = fdpass::recv(theirs.as_fd(), &mut bytes).unwrap();
        assert_eq!(Order::decode(&bytes[..length]), Some(Order::Fork { id: 1, seat: 0 }));
        let control = rights.pop().unwrap();
        process::send(control.as_fd(), &FromWorker::Ready.encode()).unwrap();
        assert!(generation.workers[0].control().is_none());
        generation.feed(0, Event::Forked(Pid::new(9).unwrap()), 0);
        assert!(generation.workers[0].control().is_some());
        assert_eq!(generation.workers[0].read_control(), [FromWorker::Ready]);
        generation.feed(0, Event::Ready, 0);
        assert!(generation.is_ready());
    }

    #[test]
    fn a_fork_order_to_a_generation_that_is_gone_is_a_fork_that_failed() {
        let (ours, theirs) = process::message_pair().unwrap();
        let mut generation = generation(ours);
        generation.loaded();
        drop(theirs);
        generation.feed(0, Event::Tick, 0);
        assert!(matches!(generation.workers[0].lifecycle.life(), Life::Waiting { .. }));
    }
}
