//! The generation: a process that loads the application once and forks workers from it when the master asks.
//!
//! It decides nothing. It waits for orders, reports deaths, and is gone when the master is (by the end of their
//! socket, or by the kernel's `SIGKILL`). Its posix signals mean nothing: a Ctrl-C reaches the whole process group,
//! and what it means is the master's business.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use greenloom_config::Settings;
use greenloom_sys::fdpass;
use greenloom_sys::process::{self, Fork, Pid};
use greenloom_sys::signals::{self, PosixSignal};

use crate::application::Application;
use crate::inheritance::Inheritance;
use crate::log::{self, say};
use crate::messages::{self, Order, Report};
use crate::worker_process::{self, Part};

/// How often children are looked after on a kernel without pidfds (before Linux 5.3, or a sandbox that refuses them).
const WITHOUT_PIDFD_MS: u64 = 500;

/// Runs the generation; the exit code of its process, or of the worker's that was forked from it.
pub fn run_generation(inheritance: Inheritance, settings: &Settings, app: &mut dyn Application) -> i32 {
    if let Err(error) = signals::catch_and_forget(&[PosixSignal::User1]) {
        say!("cannot catch posix signals: {error}");
    }
    forget_signals();
    app.share_locks(inheritance.locks.clone());
    if !settings.lazy_apps
        && let Err(code) = worker_process::load(settings, app)
    {
        return code;
    }
    // Once more: the application may have set handlers of its own while it was imported.
    forget_signals();
    let mut nursery = Nursery { children: Vec::new() };
    let Inheritance { generation, channel, scoreboard, totals, locks: _, handover, mut listeners } =
        inheritance;
    for registration in app.registrations() {
        // A master that is gone shows in the next one.
        let _ = report(&channel, &Report::Registered(registration), &[]);
    }
    if report(&channel, &Report::Loaded, &[]).is_err() {
        return 0;
    }
    let (id, seat, master) = loop {
        let (id, seat, master) = match nursery.next_order(&channel) {
            Some((Order::Fork { id, seat }, Some(master))) => (id, seat, master),
            Some((Order::StopListening, _)) => {
                listeners.clear();
                continue;
            }
            Some((Order::ReopenLog, _)) => {
                let _: bool = log::reopen();
                continue;
            }
            // A worker without its end of a control socket could not be stopped.
            Some((Order::Fork { .. }, None)) => continue,
            None => return 0,
        };
        match app.fork() {
            Ok(Fork::Child) => break (id, seat, master),
            Ok(Fork::Parent(pid)) => nursery.adopt(id, pid, &channel),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                let _ = report(&channel, &Report::ForkFailed { id, errno }, &[]);
            }
        }
    };
    // A worker from here on: what belongs to the generation is closed.
    drop(channel);
    drop(nursery);
    worker_process::run(
        Part { id, seat, generation, listeners, scoreboard, totals, handover: Some(handover) },
        master,
        settings,
        app,
    )
}

/// The generation's children.
struct Nursery {
    children: Vec<Child>,
}

struct Child {
    id: u32,
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl Nursery {
    /// Waits for an order, reporting deaths meanwhile. `None`: the master is gone or wants this process gone.
    fn next_order(&mut self, channel: &OwnedFd) -> Option<(Order, Option<OwnedFd>)> {
        loop {
            self.report_deaths(channel);
            let mut fds: Vec<BorrowedFd<'_>> = vec![channel.as_fd()];
            fds.extend(self.children.iter().filter_map(|child| child.pidfd.as_ref()).map(|fd| fd.as_fd()));
            let patience =
                self.children.iter().any(|child| child.pidfd.is_none()).then_some(WITHOUT_PIDFD_MS);
            if !process::wait_readable(&fds, patience).ok()?[0] {
                continue;
            }
            let mut bytes = [0; messages::LONGEST];
            let (length, mut rights) = match fdpass::recv(channel.as_fd(), &mut bytes) {
                Ok((0, _)) => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(received) => received,
                Err(_) => return None,
            };
            if let Some(order) = Order::decode(&bytes[..length]) {
                return Some((order, rights.pop()));
            }
        }
    }

    fn adopt(&mut self, id: u32, pid: Pid, channel: &OwnedFd) {
        let pidfd = process::pidfd(pid).ok();
        let rights: Vec<BorrowedFd<'_>> = pidfd.iter().map(|fd| fd.as_fd()).collect();
        // A master that is gone shows as the end of the socket.
        let _ = report(channel, &Report::Forked { id, pid }, &rights);
        self.children.push(Child { id, pid, pidfd });
    }

    fn report_deaths(&mut self, channel: &OwnedFd) {
        // By pid, one after the other: the application's own children are not ours to collect.
        self.children.retain(|child| match process::reap(child.pid) {
            None => true,
            Some(ending) => {
                let _ = report(channel, &Report::Died { id: child.id, pid: child.pid, ending }, &[]);
                false
            }
        });
    }
}

fn report(channel: &OwnedFd, report: &Report, rights: &[BorrowedFd<'_>]) -> io::Result<()> {
    fdpass::send(channel.as_fd(), &report.encode(), rights).map(drop)
}

/// All but `SIGUSR1`, which is the application's if it sets a handler: until then it is caught as well, for whoever sends it to
/// the whole process group means the master.
fn forget_signals() {
    // The last one: a worker that was just forked has no handler of its own yet.
    let signals = [
        PosixSignal::Hangup,
        PosixSignal::Interrupt,
        PosixSignal::Quit,
        PosixSignal::Terminate,
        PosixSignal::User2,
    ];
    if let Err(error) = signals::catch_and_forget(&signals) {
        say!("cannot catch posix signals: {error}");
    }
}
