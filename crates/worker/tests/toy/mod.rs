//! The toy driver: a second driver, in fifty lines, in a foreign `poll(2)` loop, and what its tests have in common.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use greenloom_worker::config::{Protocol, Settings};
use greenloom_worker::{Action, Alone, CoreId, Leave, Listen, Wakeup, Worker, WorkerOptions, Written};

// ---- the driver -------------------------------------------------------------------------------------------

/// An application: called when its request starts and whenever it is resumed, until it says it has ended.
pub(crate) type App = fn(&mut Worker, CoreId, u32, Option<Wakeup>) -> Step;

pub(crate) enum Step {
    Suspended,
    Done,
    /// Ended by an exception.
    Failed,
}

pub(crate) fn drive(
    worker: &mut Worker,
    app: App,
    until: &mut dyn FnMut(&mut Worker) -> bool,
) -> Option<Leave> {
    let mut steps: HashMap<CoreId, u32> = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    worker.embed().unwrap();
    while !until(worker) {
        assert!(Instant::now() < deadline, "nothing happened for too long");
        worker.turn().unwrap();
        while let Some(action) = worker.next_action() {
            let (core, why) = match action {
                Action::Start(core) | Action::Signal(core, _) => (core, None),
                Action::Resume(core, why) => (core, Some(why)),
                Action::Abandon(core) => {
                    steps.remove(&core);
                    worker.fail(core);
                    continue;
                }
                Action::Leave(leave) => return Some(leave),
                Action::News(..) => unreachable!("only tasks ask for any"),
            };
            let step = *steps.entry(core).and_modify(|n| *n += 1).or_insert(0);
            match app(worker, core, step, why) {
                Step::Suspended => continue,
                Step::Done if worker.signal_of(core).is_some() => worker.end_handler(core, false),
                Step::Failed if worker.signal_of(core).is_some() => worker.end_handler(core, true),
                Step::Done => worker.finish(core),
                Step::Failed => {
                    worker.fail(core);
                }
            }
            steps.remove(&core);
        }
        poll_one(worker, 50);
    }
    None
}

pub(crate) fn poll_one(worker: &Worker, ms: i64) {
    ready(worker, ms);
}

/// 1 as soon as the worker's descriptor is ready.
pub(crate) fn ready(worker: &Worker, ms: i64) -> usize {
    let fd = worker.poll_fd();
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    rustix::event::poll(&mut fds, Some(&timeout)).unwrap()
}

// ---- helpers ----------------------------------------------------------------------------------------------

pub(crate) fn worker(change: impl FnOnce(&mut WorkerOptions)) -> (Worker, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut options = WorkerOptions::from_settings(&Settings::default());
    options.cores = 4;
    options.log_requests = false;
    change(&mut options);
    let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Http };
    (Worker::new(options, vec![listen], None, Box::new(Alone::default())).unwrap(), address)
}

pub(crate) fn hello(worker: &mut Worker, core: CoreId, _: u32, _: Option<Wakeup>) -> Step {
    let body = [b"hello ", worker.request(core).path()].concat();
    worker
        .respond(core, b"200 OK", Some(body.len() as u64), |head| head.field(b"Content-Type", b"text/plain"))
        .unwrap();
    assert_eq!(worker.write(core, &body), Written::Taken(body.len()));
    Step::Done
}

pub(crate) fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// What has arrived so far.
pub(crate) fn received(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut piece = vec![0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(n) => into.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

pub(crate) fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).filter(|window| *window == needle).count()
}
