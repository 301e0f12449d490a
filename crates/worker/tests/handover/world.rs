//! Workers that share two listeners and a queue of connections, and the application they run.
//!
//! The application answers `GET /PATH` with `hello /PATH` and a body it got with its bytes. Paths below `/slow` wait for
//! [`World::let_go`], those below `/big` have a body that no socket takes at once, those below `/early` read their body
//! as it comes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenloom_sys::process::{message_pair, set_nonblocking};
use greenloom_worker::config::{Protocol, Settings};
use greenloom_worker::{
    Action, Activity, Alone, Body, BodyRead, CoreId, Instance, Interest, Leave, Listen, Load, Worker,
    WorkerOptions, Written,
};

/// Bytes of a `/big` body.
pub(crate) const BIG: usize = 3_000_000;

pub(crate) struct World {
    http: TcpListener,
    uwsgi: TcpListener,
    pub(crate) queue: (OwnedFd, OwnedFd),
    /// Readable when `/slow` requests may go on.
    gate: (UnixStream, UnixStream),
    pub(crate) hosts: Vec<Host>,
    change: fn(&mut WorkerOptions),
    loads: Rc<RefCell<Vec<Load>>>,
}

/// One worker and its application.
pub(crate) struct Host {
    pub(crate) worker: Worker,
    requests: HashMap<CoreId, Running>,
    pub(crate) left: Option<Leave>,
    pub(crate) served: usize,
}

/// A request between two runs of the application.
struct Running {
    body: Vec<u8>,
    /// Not read to its end.
    reading: bool,
    /// What has not been written.
    answer: Option<Vec<u8>>,
}

impl World {
    pub(crate) fn new(workers: usize, change: fn(&mut WorkerOptions)) -> Self {
        let bind = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let queue = message_pair().unwrap();
        set_nonblocking(std::os::fd::AsFd::as_fd(&queue.1)).unwrap();
        let mut world = Self {
            http: bind(),
            uwsgi: bind(),
            queue,
            gate: UnixStream::pair().unwrap(),
            hosts: Vec::new(),
            change,
            loads: Rc::default(),
        };
        (0..workers).for_each(|_| world.add());
        world
    }

    /// One more worker.
    pub(crate) fn add(&mut self) {
        let host = self.host();
        self.hosts.push(host);
    }

    fn host(&self) -> Host {
        let mut options = WorkerOptions {
            cores: 8,
            log_requests: false,
            shares_listeners: true,
            body_early: vec!["/early".to_owned()],
            early_applications: true,
            ..WorkerOptions::from_settings(&Settings::default())
        };
        (self.change)(&mut options);
        let listen = |listener: &TcpListener, protocol| Listen {
            fd: OwnedFd::from(listener.try_clone().unwrap()),
            protocol,
        };
        let listeners = vec![listen(&self.http, Protocol::Http), listen(&self.uwsgi, Protocol::Uwsgi)];
        let seat = self.loads.borrow().len();
        self.loads.borrow_mut().push(Load::default());
        let board = Board { seat, loads: Rc::clone(&self.loads), alone: Alone::default() };
        let mut worker = Worker::new(options, listeners, None, Box::new(board)).unwrap();
        worker
            .share_connections(self.queue.0.try_clone().unwrap(), self.queue.1.try_clone().unwrap())
            .unwrap();
        Host { worker, requests: HashMap::new(), left: None, served: 0 }
    }

    /// Puts a fresh worker in the place of one that has left.
    pub(crate) fn replace(&mut self, at: usize) {
        assert_eq!(self.hosts[at].left, Some(Leave::Drained));
        assert_eq!(self.hosts[at].worker.connection_count(), 0);
        self.hosts[at] = self.host();
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http.local_addr().unwrap()
    }

    pub(crate) fn uwsgi(&self) -> SocketAddr {
        self.uwsgi.local_addr().unwrap()
    }

    /// Lets `/slow` requests end, for good.
    pub(crate) fn let_go(&self) {
        std::io::Write::write_all(&mut &self.gate.1, b"x").unwrap();
    }

    /// One turn of one worker.
    pub(crate) fn turn(&mut self, at: usize) {
        let gate = self.gate.0.as_raw_fd();
        self.hosts[at].turn(gate);
    }

    /// Turns of all workers until `until` holds.
    pub(crate) fn run(&mut self, mut until: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !until(self) {
            assert!(Instant::now() < deadline, "nothing happened for too long: {}", self.report());
            (0..self.hosts.len()).for_each(|at| self.turn(at));
        }
    }

    /// Lets a worker give everything away and leave.
    pub(crate) fn retire(&mut self, at: usize) {
        self.hosts[at].worker.make_room();
        self.run(|world| world.hosts[at].left.is_some());
    }

    pub(crate) fn connections(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.worker.connection_count()).collect()
    }

    pub(crate) fn report(&self) -> String {
        let busy: Vec<_> = self.hosts.iter().map(|host| (host.worker.busy_cores(), host.left)).collect();
        format!("{:?} connections, {busy:?}", self.connections())
    }
}

impl Host {
    fn turn(&mut self, gate: i32) {
        if self.left.is_some() {
            return;
        }
        self.worker.turn().unwrap();
        while let Some(action) = self.worker.next_action() {
            match action {
                Action::Start(core) => {
                    let body = match self.worker.take_body(core) {
                        Body::Empty => Vec::new(),
                        Body::Memory(bytes) => bytes,
                        Body::File { .. } => panic!("no test sends that much"),
                    };
                    let reading = self.worker.body_is_incoming(core);
                    let running = Running { body, reading, answer: None };
                    assert!(self.requests.insert(core, running).is_none());
                    if self.worker.request(core).path().starts_with(b"/slow") {
                        self.worker.wait_fd(core, gate, Interest::Read, None).unwrap();
                        self.worker.suspend(core);
                    } else {
                        self.go_on(core);
                    }
                }
                Action::Resume(core, _) if self.worker.cancelled(core).is_some() => {
                    self.requests.remove(&core);
                    self.worker.fail(core);
                }
                Action::Resume(core, _) => self.go_on(core),
                Action::Abandon(core) => panic!("{core:?} was never told to end"),
                Action::Signal(..) | Action::News(..) => unreachable!("nobody asks for any"),
                Action::Leave(leave) => self.left = Some(leave),
            }
        }
    }

    fn go_on(&mut self, core: CoreId) {
        let worker = &mut self.worker;
        let running = self.requests.get_mut(&core).unwrap();
        while running.reading {
            let mut piece = [0; 1000];
            match worker.read_body_now(core, &mut piece) {
                BodyRead::Bytes(n) => running.body.extend_from_slice(&piece[..n]),
                BodyRead::End | BodyRead::Failed(_) => running.reading = false,
                BodyRead::Wait => return worker.await_body(core, None),
            }
        }
        if running.answer.is_none() {
            let answer = answer_to(worker.request(core).path(), &running.body);
            worker.respond(core, b"200 OK", Some(answer.len() as u64), |_| Ok(())).unwrap();
            running.answer = Some(answer);
        }
        let answer = running.answer.as_mut().unwrap();
        if let Written::Taken(n) = worker.write(core, answer) {
            answer.drain(..n);
            if !answer.is_empty() {
                return worker.stall(core);
            }
        }
        self.requests.remove(&core);
        self.served += 1;
        self.worker.finish(core);
    }
}

/// What the application answers.
pub(crate) fn answer_to(path: &[u8], body: &[u8]) -> Vec<u8> {
    let mut answer = [b"hello ", path, b" ", body].concat();
    if path.starts_with(b"/big") {
        answer.resize(BIG, b'z');
    }
    answer
}

/// Loads of workers in one process.
#[derive(Debug)]
struct Board {
    seat: usize,
    loads: Rc<RefCell<Vec<Load>>>,
    alone: Alone,
}

impl Instance for Board {
    fn set_busy(&self, _cores: u32) {}

    fn count_request(&self) -> u64 {
        self.alone.count_request()
    }

    fn stamp(&self, now_ms: u64, _activity: Activity) {
        self.loads.borrow_mut()[self.seat].stamp_ms = now_ms;
    }

    fn set_load(&self, accepts: bool, connections: u64) {
        let load = &mut self.loads.borrow_mut()[self.seat];
        (load.accepts, load.connections) = (accepts, connections);
    }

    fn others(&self, look: &mut dyn FnMut(Load)) {
        let loads = self.loads.borrow();
        loads.iter().enumerate().filter(|(seat, _)| *seat != self.seat).for_each(|(_, load)| look(*load));
    }
}

/// A client that checks every byte.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    got: Vec<u8>,
    /// Bodies of the responses to come, in order.
    expected: std::collections::VecDeque<Vec<u8>>,
    pub(crate) ended: bool,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, got: Vec::new(), expected: std::collections::VecDeque::new(), ended: false }
    }

    /// Bytes of a request, or of a part of one.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        std::io::Write::write_all(&mut self.stream, bytes).unwrap();
    }

    /// The body of a response that is to come.
    pub(crate) fn expect(&mut self, body: Vec<u8>) {
        self.expected.push_back(body);
    }

    pub(crate) fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        self.expect(answer_to(path.as_bytes(), b""));
    }

    /// Reads what is there and checks it; whether everything expected has come.
    pub(crate) fn is_satisfied(&mut self) -> bool {
        self.read();
        while let Some(body) = self.expected.front() {
            if self.got.starts_with(b"HTTP/1.1 100 Continue\r\n\r\n") {
                self.got.drain(..25);
                continue;
            }
            let Some(end) = self.got.windows(4).position(|window| window == b"\r\n\r\n") else {
                return false;
            };
            let head = String::from_utf8(self.got[..end + 4].to_vec()).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(!head.contains("close"), "{head}");
            let rest = &self.got[end + 4..];
            let there = rest.len().min(body.len());
            assert!(rest[..there] == body[..there], "wrong bytes behind {head}");
            if there < body.len() {
                assert!(!self.ended, "{there} of {} bytes, then the end", body.len());
                return false;
            }
            self.got.drain(..end + 4 + there);
            self.expected.pop_front();
        }
        assert!(self.got.is_empty(), "more than was asked for: {:?}", String::from_utf8_lossy(&self.got));
        true
    }

    /// Nothing more is to come, and the connection is still open.
    pub(crate) fn check_open(&mut self) {
        assert!(self.is_satisfied());
        assert!(!self.ended, "the server has closed the connection");
    }

    fn read(&mut self) {
        let mut piece = vec![0; 65536];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return self.ended = true,
                Ok(n) => self.got.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the connection is broken: {error}"),
            }
        }
    }
}
