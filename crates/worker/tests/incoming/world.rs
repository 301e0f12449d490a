//! A worker, applications that follow a plan, and what clients send and find.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use greenloom_worker::config::{Protocol, Settings};
use greenloom_worker::{
    Action, Alone, BodyFailure, BodyRead, Cancel, CoreId, Listen, Wakeup, Worker, WorkerOptions, Written,
};

/// What an application does, step by step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Do {
    /// Waits for bytes, so many milliseconds at most, and goes on.
    Await(u64),
    /// Reads to the end, at most so many bytes at a time.
    ReadAll(usize),
    /// Reads so many bytes.
    Read(usize),
    /// Lets milliseconds pass.
    Sleep(u64),
    /// Writes a head and a part of a body without an announced length.
    Begin,
    /// Answers with what it has read, by `finish`, without reading any further.
    Echo,
    /// Ends the connection to the client.
    Disconnect,
}

/// A request in a core.
pub(crate) struct Run {
    pub(crate) plan: Vec<Do>,
    pub(crate) at: usize,
    pub(crate) path: String,
    pub(crate) got: Vec<u8>,
    pub(crate) asleep: bool,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} at {}, {} bytes read", self.path, self.plan, self.at, self.got.len())
    }
}

/// How a request has ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) path: String,
    pub(crate) got: Vec<u8>,
    pub(crate) failure: Option<BodyFailure>,
    pub(crate) cancelled: Option<Cancel>,
}

pub(crate) struct World {
    pub(crate) worker: Worker,
    pub(crate) address: SocketAddr,
    pub(crate) plan: fn(&str) -> Vec<Do>,
    pub(crate) runs: HashMap<CoreId, Run>,
    pub(crate) ended: Vec<Ended>,
    /// Times a core had to wait for its body, or gave way in the middle of it.
    pub(crate) waits: usize,
}

impl World {
    pub(crate) fn new(plan: fn(&str) -> Vec<Do>, change: impl FnOnce(&mut WorkerOptions)) -> Self {
        Self::speaking(Protocol::Http, plan, change)
    }

    pub(crate) fn speaking(
        protocol: Protocol,
        plan: fn(&str) -> Vec<Do>,
        change: impl FnOnce(&mut WorkerOptions),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = WorkerOptions {
            cores: 4,
            log_requests: false,
            body_early: vec!["/e".to_owned()],
            early_applications: true,
            ..WorkerOptions::from_settings(&Settings::default())
        };
        change(&mut options);
        let listen = Listen { fd: OwnedFd::from(listener), protocol };
        let worker = Worker::new(options, vec![listen], None, Box::new(Alone::default())).unwrap();
        Self { worker, address, plan, runs: HashMap::new(), ended: Vec::new(), waits: 0 }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    pub(crate) fn turn(&mut self) {
        self.worker.turn().unwrap();
        while let Some(action) = self.worker.next_action() {
            match action {
                Action::Start(core) => {
                    let path = String::from_utf8(self.worker.request(core).path().to_vec()).unwrap();
                    let plan = (self.plan)(&path);
                    let run = Run { plan, at: 0, path, got: Vec::new(), asleep: false };
                    assert!(self.runs.insert(core, run).is_none(), "{core:?} was given twice");
                    self.run(core);
                }
                Action::Resume(core, Wakeup::Cancelled(why)) => {
                    self.worker.fail(core);
                    self.end(core, None, Some(why));
                }
                Action::Resume(core, _) => self.run(core),
                Action::News(..) | Action::Signal(..) | Action::Abandon(_) | Action::Leave(_) => {
                    unreachable!("nobody asked for it")
                }
            }
        }
    }

    fn end(&mut self, core: CoreId, failure: Option<BodyFailure>, cancelled: Option<Cancel>) {
        let run = self.runs.remove(&core).expect("a core without a request was resumed");
        self.ended.push(Ended { path: run.path, got: run.got, failure, cancelled });
    }

    /// Goes on until the request suspends or ends.
    fn run(&mut self, core: CoreId) {
        loop {
            let worker = &mut self.worker;
            let run = self.runs.get_mut(&core).expect("a core without a request was resumed");
            let Some(step) = run.plan.get(run.at).copied() else {
                worker.finish(core);
                return self.end(core, None, None);
            };
            match step {
                Do::ReadAll(most) | Do::Read(most) => {
                    let mut piece = vec![0; most];
                    match worker.read_body(core, &mut piece) {
                        BodyRead::Bytes(n) => {
                            assert!(n > 0);
                            run.got.extend_from_slice(&piece[..n]);
                            match &mut run.plan[run.at] {
                                Do::Read(left) if *left == n => run.at += 1,
                                Do::Read(left) => *left -= n,
                                _ => {}
                            }
                        }
                        BodyRead::End => run.at += 1,
                        BodyRead::Wait => {
                            self.waits += 1;
                            return worker.await_body(core, None);
                        }
                        BodyRead::Failed(failure) => {
                            assert_eq!(
                                worker.read_body(core, &mut piece),
                                BodyRead::Failed(failure),
                                "it stays so"
                            );
                            worker.fail(core);
                            return self.end(core, Some(failure), None);
                        }
                    }
                }
                Do::Await(ms) => {
                    if !run.asleep {
                        run.asleep = true;
                        return worker.await_body(core, Some(ms));
                    }
                    run.asleep = false;
                    run.at += 1;
                }
                Do::Sleep(ms) => {
                    if !run.asleep {
                        run.asleep = true;
                        worker.sleep(core, ms);
                        return worker.suspend(core);
                    }
                    run.asleep = false;
                    run.at += 1;
                }
                Do::Begin => {
                    run.at += 1;
                    worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
                    let _ = worker.write(core, b"begun");
                }
                Do::Echo => {
                    if !worker.response_begun(core) {
                        let known = run.got.len() as u64;
                        worker.respond(core, b"200 OK", Some(known), |_| Ok(())).unwrap();
                    }
                    // What a slow client does not take at once is of no interest here.
                    let _ = worker.write_through(core, &run.got).unwrap();
                    run.at += 1;
                }
                Do::Disconnect => {
                    run.at += 1;
                    worker.disconnect(core);
                    assert_eq!(worker.write(core, b"x"), Written::Taken(1));
                }
            }
        }
    }

    pub(crate) fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < deadline, "nothing happened for too long: {:?}", self.runs);
            self.turn();
            std::thread::yield_now();
        }
    }

    /// Until so many requests have ended.
    pub(crate) fn until_ended(&mut self, requests: usize) {
        self.until(|world| world.ended.len() >= requests);
    }

    /// Until a core waits for its body.
    pub(crate) fn until_waiting(&mut self, times: usize) {
        self.until(|world| world.waits >= times);
    }

    pub(crate) fn until_got(&mut self, client: &mut TcpStream, got: &mut Vec<u8>, what: &str) {
        self.until(|_| {
            receive(client, got);
            find(got, what.as_bytes()).is_some()
        });
    }
}

pub(crate) fn receive(client: &mut TcpStream, got: &mut Vec<u8>) -> bool {
    let mut piece = vec![0; 65536];
    loop {
        match client.read(&mut piece) {
            Ok(0) => return true,
            Ok(n) => got.extend_from_slice(&piece[..n]),
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0u8..=250).cycle().take(len).collect()
}

/// A request with a `Content-Length`, without its body.
pub(crate) fn post(path: &str, len: usize) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n").into_bytes()
}

pub(crate) fn chunked_post(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes()
}

pub(crate) fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    out
}

pub(crate) fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
}

pub(crate) fn read_all(_: &str) -> Vec<Do> {
    vec![Do::ReadAll(10_000), Do::Echo]
}

pub(crate) const GET: &[u8] = b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n";
