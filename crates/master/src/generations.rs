//! The master's picture of one generation and its workers, and the talk with both. Decisions are in `tree.rs`.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use greenloom_proto::control::{Frames, FromWorker, ToWorker};
use greenloom_sys::{fdpass, process};

use crate::lifecycle::{Command, Event, Life, Lifecycle, Process};
use crate::messages::{self, Order, Report};
use crate::relay::{retry, tell};

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

/// One generation: a process that forks workers, and those workers.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u32,
    pub(crate) stage: Stage,
    /// `None`: it is dead.
    pub(crate) process: Option<Process>,
    /// `None`: told to leave, or dead.
    channel: Option<OwnedFd>,
    /// When a process that was told to leave is killed.
    pub(crate) kill_at_ms: Option<u64>,
    /// Empty until the application is loaded.
    pub(crate) workers: Vec<Worker>,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: u32,
    pub(crate) lifecycle: Lifecycle,
    /// Processes so far.
    pub(crate) spawned: u32,
    control: Option<OwnedFd>,
    /// What came over `control` in part.
    frames: Frames,
    pidfd: Option<OwnedFd>,
}

impl Generation {
    pub(crate) fn new(number: u32, process: Process, channel: OwnedFd) -> Self {
        let (process, channel) = (Some(process), Some(channel));
        Self { number, stage: Stage::Loading, process, channel, kill_at_ms: None, workers: Vec::new() }
    }

    /// The application is loaded: `count` workers may be forked.
    pub(crate) fn loaded(&mut self, count: u32) {
        self.stage = Stage::Starting;
        self.workers = (1..=count).map(Worker::new).collect();
    }

    /// Whether no worker has a process or will have one.
    pub(crate) fn is_deserted(&self) -> bool {
        self.workers.iter().all(|worker| worker.lifecycle.life() == Life::Gone)
    }

    /// Whether every worker accepts connections.
    pub(crate) fn is_ready(&self) -> bool {
        self.stage != Stage::Loading
            && self.workers.iter().all(|worker| matches!(worker.lifecycle.life(), Life::Accepting { .. }))
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
        if let Some(channel) = &self.channel {
            let _ = fdpass::send(channel.as_fd(), &Order::StopListening.encode(), &[]);
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
            let mut bytes = [0; messages::LENGTH];
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
    fn new(id: u32) -> Self {
        Self {
            id,
            lifecycle: Lifecycle::new(),
            spawned: 0,
            control: None,
            frames: Frames::default(),
            pidfd: None,
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
        let Some(control) = &self.control else { return Vec::new() };
        let mut bytes = [0; 4096];
        match process::read(control.as_fd(), &mut bytes) {
            Ok(n @ 1..) => self.frames.push(&bytes[..n]),
            Err(error) if retry(&error) => {}
            // Its death is reported by its parent.
            Ok(_) | Err(_) => self.control = None,
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

    /// Errors of the last three mean that the process is dying already; its death is reported by its parent.
    fn perform(&mut self, command: Command, channel: Option<&OwnedFd>) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        match command {
            Command::Fork => {
                let channel = channel.ok_or_else(gone)?;
                let (ours, theirs) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                let order = Order::Fork { id: self.id }.encode();
                fdpass::send(channel.as_fd(), &order, &[theirs.as_fd()])?;
                self.control = Some(ours.into());
                Ok(())
            }
            Command::Drain => tell(self.control.as_ref().ok_or_else(gone)?.as_fd(), &ToWorker::Drain),
            Command::Quit => tell(self.control.as_ref().ok_or_else(gone)?.as_fd(), &ToWorker::Quit),
            Command::Kill => match (&self.pidfd, self.lifecycle.process()) {
                (Some(pidfd), _) => process::kill_by_pidfd(pidfd.as_fd()),
                (None, Some(process)) => process::kill(process.pid),
                (None, None) => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenloom_sys::process::Pid;

    #[test]
    fn a_worker_that_is_faster_than_the_report_of_its_fork_is_heard_afterwards() {
        let (ours, theirs) = process::message_pair().unwrap();
        let process = Process { pid: Pid::current(), since_ms: 0 };
        let mut generation = Generation::new(1, process, ours);
        generation.loaded(1);
        assert_eq!(generation.feed(0, Event::Tick, 0), Some(Command::Fork));
        let mut bytes = [0; messages::LENGTH];
        let (_, mut rights) = fdpass::recv(theirs.as_fd(), &mut bytes).unwrap();
        assert_eq!(Order::decode(&bytes), Some(Order::Fork { id: 1 }));
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
        let process = Process { pid: Pid::current(), since_ms: 0 };
        let mut generation = Generation::new(1, process, ours);
        generation.loaded(1);
        drop(theirs);
        generation.feed(0, Event::Tick, 0);
        assert!(matches!(generation.workers[0].lifecycle.life(), Life::Waiting { .. }));
    }
}
