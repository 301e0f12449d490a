//! The helper thread of a process that serves: it stands between the worker's loop and the rest of the tree.
//!
//! It passes the master's bytes on to the loop and the loop's back, turns `SIGTERM` into an order to leave, and ends the
//! process when the master is gone or the loop does not answer: also while the application sits in a C call that
//! holds the interpreter. It touches no interpreter and no application.
//!
//! Why a thread: the kernel's own means (`PR_SET_PDEATHSIG`) watches the parent, and a worker's parent is its
//! generation, which it outlives.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use greenloom_proto::control::{Frames, FromWorker, ToWorker};
use greenloom_sys::clock::monotonic_ms;
use greenloom_sys::process;
use greenloom_sys::signals::{PosixSignal, SignalPipe};

use crate::log::{self, say};
use crate::notifier::Notifier;

/// How long the loop may take to leave when the master is gone: nobody would kill it afterwards.
const ORPHAN_GRACE_MS: u64 = 300;
/// How long the loop may take to leave at once.
const QUIT_GRACE_MS: u64 = 1000;
/// How long the end of a process waits for a master that does not read.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Who tells the process to leave.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// A master, at the other end of this socket.
    Master(OwnedFd),
    /// Nobody: the process is on its own, the user's posix signals are for it, and a service manager hears of it.
    Nobody(Notifier),
}

/// The loop's side of a relay.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// The loop's end, once more.
    control: UnixStream,
    /// Ends when everything that the loop has said is on its way to the master.
    passed_on: mpsc::Receiver<()>,
}

impl Relayed {
    /// The loop has left: waits until its last words are on their way, for the process is about to end.
    pub(crate) fn finish(self) {
        let _ = self.control.shutdown(std::net::Shutdown::Write);
        let _ = self.passed_on.recv_timeout(LAST_WORDS);
    }
}

/// Starts the thread; the control descriptor for the worker's loop, and what is left to do when it has left.
///
/// `signals` catches at least `SIGTERM`. `mercy_ms` bounds the draining that a posix signal asked for.
pub(crate) fn start(
    upstream: Upstream,
    signals: SignalPipe,
    mercy_ms: u64,
) -> io::Result<(OwnedFd, Relayed)> {
    let (control, inner) = UnixStream::pair()?;
    let (passing_on, passed_on) = mpsc::channel();
    let relayed = Relayed { control: control.try_clone()?, passed_on };
    control.set_nonblocking(true)?;
    inner.set_nonblocking(true)?;
    let (master, notifier) = match upstream {
        Upstream::Master(fd) => (Some(fd), None),
        Upstream::Nobody(notifier) => (None, Some(notifier)),
    };
    let relay = Relay {
        notifier,
        master,
        inner: Some(inner.into()),
        passing_on: Some(passing_on),
        signals,
        orders: Frames::default(),
        reports: Frames::default(),
        mercy_ms,
        quit_at_ms: None,
        exit_at_ms: None,
    };
    // The thread lives as long as the process: nobody joins it.
    process::spawn_thread("greenloom-relay", move || relay.run())?;
    Ok((control.into(), relayed))
}

struct Relay {
    /// Only without a master.
    notifier: Option<Notifier>,
    master: Option<OwnedFd>,
    /// `None` when the loop has left.
    inner: Option<OwnedFd>,
    /// Dropped with `inner`: see [`Relayed`].
    passing_on: Option<mpsc::Sender<()>>,
    signals: SignalPipe,
    /// Orders that came in part.
    orders: Frames,
    /// Reports that came in part.
    reports: Frames,
    mercy_ms: u64,
    quit_at_ms: Option<u64>,
    exit_at_ms: Option<u64>,
}

impl Relay {
    fn run(mut self) {
        loop {
            let now_ms = monotonic_ms();
            if self.exit_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                process::exit_now(1);
            }
            if self.quit_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                self.quit(now_ms, QUIT_GRACE_MS);
            }
            let deadline_ms = [self.exit_at_ms, self.quit_at_ms].into_iter().flatten().min();
            if self.wait(deadline_ms.map(|at_ms| at_ms.saturating_sub(now_ms))).is_err() {
                // poll(2) fails only for want of memory; without a watch the process must not go on.
                process::exit_now(1);
            }
        }
    }

    fn wait(&mut self, timeout_ms: Option<u64>) -> io::Result<()> {
        let signals = self.signals.as_fd();
        // An end that is closed is not watched: the signal pipe stands in for it, and is cheap to look at twice.
        let master = self.master.as_ref().map_or(signals, |fd| fd.as_fd());
        let inner = self.inner.as_ref().map_or(signals, |fd| fd.as_fd());
        let ready = process::wait_readable(&[signals, master, inner], timeout_ms)?;
        if ready[0] {
            for signal in self.signals.take() {
                self.signal(signal);
            }
        }
        if ready[1] {
            self.master_says();
        }
        if ready[2] {
            self.loop_says();
        }
        Ok(())
    }

    fn signal(&mut self, signal: PosixSignal) {
        let now_ms = monotonic_ms();
        match signal {
            PosixSignal::Hangup if self.notifier.is_some() => {
                say!(
                    "SIGHUP received: without a master there is no reload, stop greenloom and start it again"
                );
            }
            PosixSignal::User1 if self.notifier.is_some() => {
                if log::reopen() {
                    say!("SIGUSR1 received: the log file was opened anew");
                }
            }
            PosixSignal::Hangup | PosixSignal::User1 | PosixSignal::User2 | PosixSignal::Child => {}
            PosixSignal::Interrupt | PosixSignal::Terminate if self.quit_at_ms.is_none() => {
                if self.notifier.is_some() {
                    say!("SIGINT/SIGTERM received...killing workers...");
                }
                self.leave(now_ms);
            }
            PosixSignal::Interrupt | PosixSignal::Terminate | PosixSignal::Quit => {
                self.quit(now_ms, QUIT_GRACE_MS);
            }
        }
    }

    /// Lets the loop leave when its requests have ended.
    fn leave(&mut self, now_ms: u64) {
        self.quit_at_ms = Some(now_ms.saturating_add(self.mercy_ms));
        // Under a master another process takes this one's place, and its connections.
        let order = match &mut self.notifier {
            Some(notifier) => {
                notifier.stopping();
                ToWorker::Drain
            }
            None => ToWorker::HandOver,
        };
        self.to_loop(&order);
    }

    fn master_says(&mut self) {
        let Some(master) = &self.master else { return };
        let mut bytes = [0; 4096];
        match process::read(master.as_fd(), &mut bytes) {
            Ok(n @ 1..) => {
                self.orders.push(&bytes[..n]);
                while let Some(order) = self.orders.next_to_worker() {
                    match order {
                        // At once, also while the application does not give control back.
                        ToWorker::ReopenLog => {
                            let _: bool = log::reopen();
                        }
                        order => self.to_loop(&order),
                    }
                }
            }
            Err(error) if retry(&error) => {}
            Ok(_) | Err(_) => {
                self.master = None;
                self.quit(monotonic_ms(), ORPHAN_GRACE_MS);
            }
        }
    }

    fn loop_says(&mut self) {
        let Some(inner) = &self.inner else { return };
        let mut bytes = [0; 4096];
        match process::read(inner.as_fd(), &mut bytes) {
            Ok(n @ 1..) => {
                let Some(notifier) = &mut self.notifier else {
                    // A master that is gone shows as the end of its stream.
                    let _ = self.master.as_ref().map(|master| send_all(master.as_fd(), &bytes[..n]));
                    return;
                };
                self.reports.push(&bytes[..n]);
                let mut stop = false;
                while let Some(report) = self.reports.next_from_worker() {
                    match report {
                        FromWorker::Ready => {
                            say!("greenloom is ready (generation 1, 1 worker)");
                            notifier.ready("1 worker, no master");
                        }
                        FromWorker::Stop => stop = true,
                        _ => {}
                    }
                }
                if stop && self.quit_at_ms.is_none() {
                    say!("the application asks for a stop...killing workers...");
                    self.leave(monotonic_ms());
                }
            }
            Err(error) if retry(&error) => {}
            Ok(_) | Err(_) => {
                self.inner = None;
                self.passing_on = None;
            }
        }
    }

    fn quit(&mut self, now_ms: u64, grace_ms: u64) {
        // Not again: the time was already over.
        self.quit_at_ms = Some(u64::MAX);
        let exit_at_ms = now_ms.saturating_add(grace_ms);
        self.exit_at_ms = Some(self.exit_at_ms.map_or(exit_at_ms, |earlier| earlier.min(exit_at_ms)));
        self.to_loop(&ToWorker::Quit);
    }

    fn to_loop(&self, order: &ToWorker) {
        // A loop that has left needs no telling; one that never reads is ended by the deadlines.
        let _ = self.inner.as_ref().map(|inner: &OwnedFd| tell(inner.as_fd(), order));
    }
}

/// Sends an order to a worker. Never in part: a frame is far smaller than the buffer of a socket that takes any of it.
pub(crate) fn tell(socket: BorrowedFd<'_>, order: &ToWorker) -> io::Result<()> {
    process::send(socket, &order.encode()).map(drop)
}

/// Sends all of `bytes` to a socket that blocks: a posix signal may end a call with a part of them.
fn send_all(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match process::send(socket, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a read failed only for now.
pub(crate) fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
