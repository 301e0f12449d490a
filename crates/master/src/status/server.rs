//! The thread that serves the side doors: it never touches an interpreter, and no client, however slow, ever holds up the
//! master's loop.
//!
//! Owns connections, their limits and their order. What is said is made elsewhere: `stats.rs`, `metrics.rs` by way of
//! `http.rs`, `report.rs`, and by the master's loop for commands.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use greenloom_config::StatusSettings;
use greenloom_sys::clock::monotonic_ms;
use greenloom_sys::epoll::{self, Epoll};
use greenloom_sys::eventfd::EventFd;
use greenloom_sys::net::{self, Received};
use serde_json::{Value, json};

use super::endpoint::{Endpoint, Service};
use super::http;
use super::report::report;
use super::request::{LINE_BYTES, Request};
use super::snapshot::{Board, Picture};
use super::stats::{self, Host};
use crate::commands::{Answer, Command};
use crate::scoreboard::Totals;

/// Clients of one service at a time: a new one takes the place of the one that has been there longest.
const CLIENTS: usize = 32;
/// How long a client may take to ask, and to take its answer.
const PATIENCE_MS: u64 = 10_000;
/// How long a client may take to see the end of its answer.
const LINGER_MS: u64 = 1000;
/// Connections accepted in a row.
const ACCEPTS: usize = 16;
/// Rest after an accept that failed.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Bytes received at a time.
const BUFFER: usize = 4096;

/// Token of the descriptor by which the master's loop wakes this thread; endpoints and clients follow.
const WAKE: u64 = 0;
const FIRST_ENDPOINT: u64 = 1;
const FIRST_CLIENT: u64 = 16;

/// A command on its way to the master's loop.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    /// The client that waits for the answer.
    pub(super) client: Option<u64>,
}

/// An answer of the master's loop.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) client: u64,
    pub(super) answer: Answer,
}

/// What connects the thread with the master's loop.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) orders: Sender<Order>,
    pub(super) replies: Receiver<Reply>,
    pub(super) wake_master: Arc<EventFd>,
    pub(super) wake_us: Arc<EventFd>,
}

#[derive(Debug)]
pub(super) struct Server {
    epoll: Epoll,
    endpoints: Arc<Vec<Endpoint>>,
    board: Board,
    totals: Totals,
    host: Host,
    settings: StatusSettings,
    wires: Wires,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    service: Service,
    state: State,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    deadline_ms: Option<u64>,
}

/// What a client is doing. Each state has a deadline, but for the one in which it is the master's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It asks.
    Asks,
    /// The master's loop is at it.
    Waits,
    /// It takes its answer; then it may ask again, or not.
    Takes { then_asks: bool },
    /// It has its answer; what it still sends is thrown away, for a close with unread bytes would reset the connection
    /// before the answer was read.
    Lingers,
}

impl Server {
    pub(super) fn new(
        endpoints: Arc<Vec<Endpoint>>,
        board: Board,
        totals: Totals,
        host: Host,
        settings: StatusSettings,
        wires: Wires,
    ) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(wires.wake_us.as_fd().as_raw_fd(), epoll::IN, WAKE)?;
        for (token, endpoint) in (FIRST_ENDPOINT..).zip(endpoints.iter()) {
            greenloom_sys::process::set_nonblocking(endpoint.socket.as_fd())?;
            epoll.add(endpoint.socket.as_raw_fd(), epoll::IN, token)?;
        }
        Ok(Self {
            epoll,
            endpoints,
            board,
            totals,
            host,
            settings,
            wires,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
        })
    }

    /// For as long as the process.
    pub(super) fn run(mut self) {
        let mut events = [epoll::Event::EMPTY; 32];
        loop {
            let deadline_ms = self.clients.values().filter_map(|client| client.deadline_ms).min();
            let timeout_ms = deadline_ms
                .map(|at_ms| u32::try_from(at_ms.saturating_sub(monotonic_ms())).unwrap_or(u32::MAX));
            // An interruption is the same as a timeout; other errors cannot come of a descriptor of our own.
            let ready = epoll::wait(self.epoll.as_fd().as_raw_fd(), &mut events, timeout_ms).unwrap_or(0);
            for event in &events[..ready] {
                self.on_event(event.token(), event.mask());
            }
            let now_ms = monotonic_ms();
            // Whoever is out of time has nothing more to expect: dropping it closes the connection.
            self.clients.retain(|_, client| client.deadline_ms.is_none_or(|at_ms| at_ms > now_ms));
        }
    }

    fn on_event(&mut self, token: u64, mask: u32) {
        if token == WAKE {
            self.wires.wake_us.clear();
            while let Ok(Reply { client, answer }) = self.wires.replies.try_recv() {
                self.answer(client, &said(answer));
            }
        } else if token < FIRST_CLIENT {
            let endpoint = usize::try_from(token - FIRST_ENDPOINT).unwrap_or(usize::MAX);
            for _ in 0..ACCEPTS {
                if !self.accept(endpoint) {
                    break;
                }
            }
        } else {
            self.on_client(token, mask);
        }
    }

    /// `false`: nobody waits there.
    fn accept(&mut self, endpoint: usize) -> bool {
        let Some(endpoint) = self.endpoints.get(endpoint) else { return false };
        let service = endpoint.service;
        let socket = match net::accept(endpoint.socket.as_fd()) {
            Ok(Some((socket, _))) => socket,
            Ok(None) => return false,
            Err(_) => {
                // No descriptors, no memory: whoever waits there is still there afterwards, and would be found at once.
                std::thread::park_timeout(ACCEPT_RETRY);
                return false;
            }
        };
        self.make_room(service);
        let id = self.next_client;
        self.next_client += 1;
        let mut client = Client {
            socket,
            service,
            state: State::Asks,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            deadline_ms: Some(monotonic_ms() + PATIENCE_MS),
        };
        if self.epoll.add(client.socket.as_raw_fd(), epoll::IN, id).is_err() {
            return true;
        }
        if service == Service::Stats {
            // Nothing is asked: whoever connects gets the document.
            client.output = self.document();
            client.state = State::Takes { then_asks: false };
        }
        self.clients.insert(id, client);
        self.go_on(id);
        true
    }

    /// Clients that do nothing must not keep others out.
    fn make_room(&mut self, service: Service) {
        let of_service = |client: &&Client| client.service == service;
        if self.clients.values().filter(of_service).count() < CLIENTS {
            return;
        }
        let oldest =
            self.clients.iter().find(|(_, client)| client.service == service && client.state != State::Waits);
        let oldest = oldest.or_else(|| self.clients.iter().find(|(_, client)| client.service == service));
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.clients.remove(&id);
        }
    }

    fn on_client(&mut self, id: u64, mask: u32) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if mask & (epoll::ERR | epoll::HUP) != 0 && client.state != State::Asks {
            // Gone for good: there is nobody to answer. (While it asks, its last words may still be there to be read.)
            self.clients.remove(&id);
            return;
        }
        if matches!(client.state, State::Asks | State::Lingers) {
            let mut bytes = [0; BUFFER];
            match net::recv(client.socket.as_fd(), &mut bytes) {
                Ok(Received::Nothing) => {}
                Ok(Received::Bytes(_)) if client.state == State::Lingers => {}
                Ok(Received::Bytes(n)) => client.input.extend_from_slice(&bytes[..n]),
                Ok(Received::End) if client.state == State::Asks && client.is_asking() => {
                    // The last line may have no end.
                    client.input.push(b'\n');
                }
                Ok(Received::End) | Err(_) => {
                    self.clients.remove(&id);
                    return;
                }
            }
        }
        self.go_on(id);
    }

    /// Does what can be done for a client now: reads its request, sends its answer.
    fn go_on(&mut self, id: u64) {
        loop {
            let Some(client) = self.clients.get_mut(&id) else { return };
            match client.state {
                State::Asks if client.service == Service::Control => {
                    if !self.read_line(id) {
                        break;
                    }
                }
                State::Asks => {
                    let (board, totals) = (&self.board, &self.totals);
                    let picture = || Picture::take(&board.get(), totals, false);
                    let answer = http::answer(&client.input, picture);
                    let too_long = client.input.len() > http::HEAD_BYTES;
                    match answer {
                        Some(answer) => client.give(answer, false),
                        None if too_long => {
                            self.clients.remove(&id);
                            return;
                        }
                        None => break,
                    }
                }
                State::Takes { then_asks } => match client.send() {
                    Ok(true) if then_asks => {
                        client.state = State::Asks;
                        client.deadline_ms = Some(monotonic_ms() + PATIENCE_MS);
                    }
                    Ok(true) => {
                        client.state = State::Lingers;
                        client.deadline_ms = Some(monotonic_ms() + LINGER_MS);
                        // One that is gone already shows at the next event.
                        let _ = net::shutdown_write(client.socket.as_fd());
                    }
                    Ok(false) => break,
                    Err(_) => {
                        self.clients.remove(&id);
                        return;
                    }
                },
                State::Waits | State::Lingers => break,
            }
        }
        self.watch(id);
    }

    fn watch(&mut self, id: u64) {
        let Some(client) = self.clients.get(&id) else { return };
        let mask = match client.state {
            State::Asks | State::Lingers => epoll::IN,
            State::Takes { .. } => epoll::OUT,
            // Only its end is of interest, and that is always reported.
            State::Waits => 0,
        };
        if self.epoll.modify(client.socket.as_raw_fd(), mask, id).is_err() {
            self.clients.remove(&id);
        }
    }

    /// Takes one request out of what a client has sent; `false`: it has not sent a whole one.
    fn read_line(&mut self, id: u64) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let Some(end) = client.input.iter().position(|&byte| byte == b'\n') else {
            if client.input.len() > LINE_BYTES {
                let refusal = format!("a request has at most {LINE_BYTES} bytes");
                client.input.clear();
                client.give(line(&said(Err(refusal))), false);
                return true;
            }
            return false;
        };
        let text: Vec<u8> = client.input.drain(..=end).collect();
        match Request::parse(&text[..end]) {
            Err(refusal) => client.give(line(&said(Err(refusal))), true),
            Ok(Request::Status) => {
                let picture = Picture::take(&self.board.get(), &self.totals, false);
                let status = json!({ "ok": true, "status": report(&picture, &self.host) });
                client.give(line(&status), true);
            }
            Ok(Request::Command { command, wait }) => {
                if wait {
                    client.state = State::Waits;
                    client.deadline_ms = None;
                }
                let order = Order { command, client: wait.then_some(id) };
                if self.wires.orders.send(order).is_err() {
                    client.give(line(&said(Err("the master leaves".to_owned()))), false);
                } else {
                    self.wires.wake_master.notify();
                    if !wait {
                        client.give(line(&said(Ok(format!("asked for: {command}")))), true);
                    }
                }
            }
        }
        true
    }

    /// The master's loop has answered. The client may have left meanwhile.
    fn answer(&mut self, id: u64, answer: &Value) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.give(line(answer), true);
            self.go_on(id);
        }
    }

    fn document(&self) -> Vec<u8> {
        let picture = Picture::take(&self.board.get(), &self.totals, !self.settings.stats_no_cores);
        let mut document = stats::document(&picture, &self.host);
        if self.settings.stats_no_cores
            && let Some(workers) = document.get_mut("workers").and_then(Value::as_array_mut)
        {
            workers
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|worker| drop(worker.remove("cores")));
        }
        let mut bytes = if self.settings.stats_http { http::STATS_HEAD.to_vec() } else { Vec::new() };
        bytes.extend_from_slice(&stats::bytes(&document, self.settings.stats_minified));
        bytes
    }
}

impl Client {
    /// Whether a line has begun.
    fn is_asking(&self) -> bool {
        self.service == Service::Control && !self.input.is_empty()
    }

    fn give(&mut self, answer: Vec<u8>, then_asks: bool) {
        self.output = answer;
        self.sent = 0;
        self.state = State::Takes { then_asks };
        self.deadline_ms = Some(monotonic_ms() + PATIENCE_MS);
    }

    /// Sends what the socket takes; whether that was all.
    fn send(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match net::send(self.socket.as_fd(), &self.output[self.sent..])? {
                0 => return Ok(false),
                n => self.sent += n,
            }
        }
        self.output = Vec::new();
        Ok(true)
    }
}

fn said(answer: Answer) -> Value {
    match answer {
        Ok(message) => json!({ "ok": true, "message": message }),
        Err(message) => json!({ "ok": false, "message": message }),
    }
}

fn line(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}
