//! From bytes to a core: what the client sends, and the timers while it does.

use std::os::fd::{AsFd as _, AsRawFd as _};

use greenloom_config::Protocol;
use greenloom_proto::control::FromWorker;
use greenloom_proto::http1::body::ChunkedDecoder;
use greenloom_proto::http1::head::{Framing, Head, Limits, Version};
use greenloom_proto::http1::response::{CONTINUE, Exchange, error_page};
use greenloom_proto::uwsgi;
use greenloom_sys::net::Received;
use greenloom_sys::{epoll, net};

use crate::body::Collector;
use crate::connection::{self, After, BodyFraming, Fed, Receiving, Refusal, State, Step};
use crate::incoming::{BodyFailure, Incoming};
use crate::request::Request;
use crate::slots::Key;
use crate::worker::{Worker, kind};
use crate::{Action, Cancel, CoreId};

/// How long a client that was refused may go on sending before its connection is closed under it.
const LINGER_MS: u64 = 2000;
/// How long a head that has begun may take when the worker stops: a client that is sending one needs no longer, and
/// one that drips must not hold up the end.
const LAST_HEADS_MS: u64 = 1000;
/// Receives in a row from one connection: then others get their turn.
const RECEIVES: u32 = 4;
/// Requests in a row from one connection that are answered at once: then others get their turn.
const HEADS: u32 = 16;
/// Request values kept for reuse.
const SPARE: usize = 16;

impl Worker {
    /// Something happened on a connection's socket.
    pub(crate) fn on_connection(&mut self, key: Key, mask: u32) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if mask & epoll::RDHUP != 0 {
            connection.flags.ended = true;
        }
        if mask & (epoll::IN | epoll::RDHUP | epoll::HUP | epoll::ERR) != 0 {
            connection.flags.readable = true;
        }
        let mut broken = mask & (epoll::ERR | epoll::HUP) != 0;
        if mask & epoll::RDHUP != 0
            && let State::Busy(core) = connection.state
        {
            broken |= self.waits_for_nobody(core);
        }
        if mask & epoll::OUT != 0 && !broken {
            self.drain_output(key);
        }
        let Some(connection) = self.connections.get(key) else { return };
        match connection.state {
            State::Idle | State::Head | State::Body(_) | State::Lingering => self.advance(key),
            State::Busy(_) | State::Draining(_) | State::Parked(_) | State::Native(_) if broken => {
                self.lose_client(key);
            }
            State::Busy(core) if self.wants_body(core) => self.advance(key),
            State::Native(ref native) if native.wants_body(self.options.high_water) => self.advance(key),
            State::Busy(_) | State::Native(_) if mask & epoll::RDHUP != 0 => self.doubt_client(key),
            State::Busy(_) | State::Draining(_) | State::Parked(_) | State::Native(_) => {}
        }
    }

    /// Uses what has been received, and receives more, until the connection has a request, waits for its client, or
    /// is gone.
    pub(crate) fn advance(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut unread = std::mem::take(&mut connection.unread);
        if !unread.is_empty() {
            let used = self.feed(key, &unread);
            unread.drain(..used);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut receives = 0;
        while self.listens(key) {
            if receives == RECEIVES {
                self.enqueue(key);
                break;
            }
            receives += 1;
            let Some(connection) = self.connections.get_mut(key) else { break };
            if !unread.is_empty() && matches!(connection.state, State::Idle) {
                break; // It has had its turn: see `feed`.
            }
            match net::recv(connection.fd.as_fd(), &mut buffer) {
                Ok(Received::Nothing) => connection.flags.readable = false,
                Ok(Received::Bytes(n)) => {
                    // Less than there was room for: the socket is empty now, and whatever comes is a new edge. But
                    // behind an end that was reported already no edge comes.
                    connection.flags.readable = n == buffer.len() || connection.flags.ended;
                    if unread.is_empty() {
                        let used = self.feed(key, &buffer[..n]);
                        unread.extend_from_slice(&buffer[used..n]);
                    } else {
                        unread.extend_from_slice(&buffer[..n]);
                        let used = self.feed(key, &unread);
                        unread.drain(..used);
                    }
                }
                Err(_) if let State::Busy(core) = connection.state => {
                    self.cores[core].read_failed = true;
                    self.lose_client(key);
                }
                Ok(Received::End) | Err(_) => self.client_ended(key),
            }
        }
        self.buffer = buffer;
        if let Some(connection) = self.connections.get_mut(key) {
            if unread.is_empty() {
                // An idle connection keeps no memory.
                unread = Vec::new();
            }
            connection.unread = unread;
            if !matches!(connection.state, State::Busy(_)) {
                self.register(key);
            }
        }
    }

    /// Whether bytes of a connection are wanted, and there may be some.
    fn listens(&self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key).filter(|connection| connection.flags.readable)
        else {
            return false;
        };
        match connection.state {
            State::Idle | State::Head | State::Body(_) | State::Lingering => true,
            State::Busy(core) => self.wants_body(core),
            State::Native(ref native) => native.wants_body(self.options.high_water),
            State::Parked(_) | State::Draining(_) => false,
        }
    }

    /// Puts a connection into the epoll set, once: edge-triggered and for everything.
    pub(crate) fn register(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.flags.registered {
            return;
        }
        let mask = epoll::IN | epoll::OUT | epoll::RDHUP | epoll::ET;
        let (fd, token) = (connection.fd.as_raw_fd(), key.token(kind::CONNECTION));
        let added = match self.reactor.add(fd, mask, token) {
            // An application waits for this very socket (`uwsgi.connection_fd()` of another request).
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => self
                .watches
                .make_room(&self.reactor, kind::WATCH, fd)
                .and_then(|()| self.reactor.modify(fd, mask, token)),
            other => other,
        };
        match added {
            Ok(()) => connection.flags.registered = true,
            Err(error) => {
                self.log_server(&format!(
                    "cannot watch a connection: {error} (sysctl fs.epoll.max_user_watches bounds them); closing it"
                ));
                self.lose_client(key);
            }
        }
    }

    /// Takes bytes as far as they can be used now; returns how many were.
    fn feed(&mut self, key: Key, bytes: &[u8]) -> usize {
        let (mut used, mut heads) = (0, 0);
        while used < bytes.len() {
            let Some(connection) = self.connections.get_mut(key) else { return bytes.len() };
            match connection.state {
                State::Idle if heads == HEADS => {
                    self.enqueue(key);
                    return used;
                }
                State::Idle | State::Head => match self.feed_head(key, &bytes[used..]) {
                    Some(n) => {
                        used += n;
                        heads += 1;
                    }
                    None => return used,
                },
                State::Body(_) => used += self.feed_body(key, &bytes[used..]),
                State::Lingering => return bytes.len(),
                State::Busy(core) => match self.feed_incoming(core, &bytes[used..]) {
                    0 => return used,
                    n => used += n,
                },
                State::Native(_) => match self.feed_script(key, &bytes[used..]) {
                    0 => return used,
                    n => used += n,
                },
                State::Parked(_) | State::Draining(_) => return used,
            }
        }
        used
    }

    /// `None`: the head is not complete.
    fn feed_head(&mut self, key: Key, bytes: &[u8]) -> Option<usize> {
        let now = self.reactor.now_ns();
        let connection = self.connections.get_mut(key)?;
        let protocol =
            self.listeners.get(connection.listener as usize).map_or(Protocol::Http, |l| l.protocol);
        let partial = matches!(connection.state, State::Head);
        if !partial {
            connection.began_ns = now;
        } else if protocol == Protocol::Http {
            let seen =
                std::mem::replace(&mut connection.seen, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            let limits = Limits { head_bytes: self.options.head_bytes, fields: self.options.max_vars };
            if !Head::may_decide(bytes, seen as usize, &limits) {
                return None;
            }
        }
        let mut request = self.spare.pop().unwrap_or_else(|| Box::new(Request::new()));
        let step = match protocol {
            Protocol::Http => connection::http_head(bytes, &self.options, &mut request),
            Protocol::Uwsgi => connection::uwsgi_packet(bytes, &self.options, &mut request),
        };
        match step {
            Step::Head(len, framing) => {
                let connection = self.connections.get_mut(key)?;
                request.peer = connection.peer;
                request.listener = connection.listener as usize;
                request.began_ns = connection.began_ns;
                if self.draining {
                    request.exchange.keep_alive = false;
                }
                self.head_complete(key, request, framing, bytes.len() > len);
                Some(len)
            }
            Step::Partial => {
                self.keep_spare(request);
                if let Some(connection) = self.connections.get_mut(key)
                    && !partial
                {
                    connection.state = State::Head;
                    connection.seen = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    self.set_deadline(key, Some(self.reactor.now_ms() + self.head_timeout_ms()));
                }
                None
            }
            Step::Ping(len) => {
                self.keep_spare(request);
                self.log_server("PING");
                self.answer_and_close(key, &uwsgi::ping_reply(b""));
                Some(len)
            }
            Step::Signal(len, number) => {
                self.keep_spare(request);
                // Only the master knows who handles it: without one, nobody does.
                let accepted = self.options.has_master;
                if accepted {
                    self.tell_master(&FromWorker::Signal(number));
                }
                self.answer_and_close(key, &uwsgi::signal_reply(accepted));
                Some(len)
            }
            Step::Refuse(refusal) => {
                self.keep_spare(request);
                self.refuse(key, &refusal, Version::Http11, protocol == Protocol::Uwsgi, false);
                Some(bytes.len())
            }
        }
    }

    fn head_complete(&mut self, key: Key, mut request: Box<Request>, framing: Framing, body_has_begun: bool) {
        let body = match framing {
            Framing::None | Framing::Length(0) => {
                request.body = crate::Body::Empty;
                return self.request_complete(key, request);
            }
            Framing::Length(length) => {
                if self.options.limit_post.is_some_and(|limit| length > limit) {
                    let refusal = connection::too_large(length, &self.options);
                    return self.refuse_request(key, request, &refusal);
                }
                (Some(length), BodyFraming::Length(length))
            }
            Framing::Chunked => (None, BodyFraming::Chunked(ChunkedDecoder::default())),
        };
        let continue_due =
            request.source == crate::Source::Http && request.head.expect_continue && !body_has_begun;
        if self.starts_early(&request, body.0) {
            request.body = crate::Body::Empty;
            request.incoming = Some(Box::new(Incoming::new(body.1, continue_due)));
            return self.request_complete(key, request);
        }
        if continue_due {
            self.send_pieces(key, &[CONTINUE]);
        }
        let began_ms = self.reactor.now_ms();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let collector = Collector::new(body.0, self.options.post_buffering);
        connection.state = State::Body(Box::new(Receiving { request, collector, framing: body.1, began_ms }));
        self.set_deadline(key, Some(began_ms + self.options.body_timeout_ms));
    }

    fn feed_body(&mut self, key: Key, bytes: &[u8]) -> usize {
        let Some(connection) = self.connections.get_mut(key) else { return bytes.len() };
        let State::Body(receiving) = &mut connection.state else { return 0 };
        match receiving.feed(bytes, &self.options) {
            Fed::More => bytes.len(),
            Fed::Complete(used) => {
                if let State::Body(receiving) = std::mem::replace(&mut connection.state, State::Idle) {
                    let Receiving { mut request, collector, .. } = *receiving;
                    request.content_length = Some(collector.received());
                    request.body = collector.finish();
                    self.request_complete(key, request);
                }
                used
            }
            Fed::Refused(refusal) => {
                if let State::Body(receiving) = std::mem::replace(&mut connection.state, State::Idle) {
                    self.refuse_request(key, receiving.request, &refusal);
                }
                bytes.len()
            }
        }
    }

    /// A request is complete, or as complete as it needs to be to start: it gets a core, or waits for one.
    fn request_complete(&mut self, key: Key, request: Box<Request>) {
        if self.options.native.is_some() {
            self.dispatch(key, request, 0);
        } else {
            self.take_core(key, request);
        }
    }

    /// Gives a request a core, or parks it until one is free.
    pub(crate) fn take_core(&mut self, key: Key, mut request: Box<Request>) {
        if self.cores.has_free() && self.parked.is_empty() {
            return self.start(key, request);
        }
        request.parked_ms = self.reactor.now_ms();
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.state = State::Parked(request);
        connection.deadline_ms = None;
        self.parked.push_back(key);
        self.note_full();
    }

    /// Gives a free core to the request that has waited longest; `false`: no core, or nobody waits.
    pub(crate) fn start_parked(&mut self) -> bool {
        while self.cores.has_free() {
            let Some(key) = self.parked.pop_front() else { return false };
            if self.accepting_paused {
                self.resume_accepting();
            }
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if !matches!(connection.state, State::Parked(_)) {
                continue;
            }
            if let State::Parked(request) = std::mem::replace(&mut connection.state, State::Idle) {
                self.start(key, request);
                return true;
            }
        }
        false
    }

    fn start(&mut self, key: Key, mut request: Box<Request>) {
        let Some(core) = self.cores.take(key) else { return };
        self.cores[core].incoming = request.incoming.take();
        let old = std::mem::replace(&mut self.cores[core].request, request);
        self.keep_spare(old);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.state = State::Busy(core);
            connection.deadline_ms = None;
        }
        self.tell_begun(core);
        self.keep_beating();
        if !self.options.request_timeouts.is_empty() {
            self.begin_deadline(core);
        }
        self.decide(core, Action::Start(core));
    }

    /// Keeps a request value for the next request.
    pub(crate) fn keep_spare(&mut self, request: Box<Request>) {
        if self.spare.len() < SPARE {
            self.spare.push(request);
        }
    }

    fn refuse_request(&mut self, key: Key, request: Box<Request>, refusal: &Refusal) {
        let exchange = request.exchange;
        self.keep_spare(request);
        self.refuse(key, refusal, exchange.version, exchange.cgi, exchange.is_head);
    }

    /// Answers with an error page, if the protocol has one, says why in the log, and ends the connection.
    fn refuse(&mut self, key: Key, refusal: &Refusal, version: Version, cgi: bool, is_head: bool) {
        self.counters.refused += 1;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.state = State::Lingering;
        let peer = describe(connection.peer);
        let answer =
            refusal.status.map_or_else(|| "closed".to_owned(), |status| format!("answered {status}"));
        let reason = printable(&refusal.reason);
        self.log_server(&format!("{reason} (client {peer}, {answer})"));
        match refusal.status {
            Some(status) => {
                let mut page = Vec::new();
                let date = self.date();
                let exchange = Exchange { version, is_head, keep_alive: false, cgi };
                error_page(&mut page, exchange, status, &date);
                self.answer_and_close(key, &page);
            }
            None => self.close(key),
        }
    }

    /// Sends the last bytes of a connection; what the client still sends is thrown away for a while, for a close
    /// with unread bytes would reset the connection before the client has read the answer (RFC 9112 §9.6).
    fn answer_and_close(&mut self, key: Key, bytes: &[u8]) {
        self.send_pieces(key, &[bytes]);
        self.after_response(key, After::Linger);
    }

    pub(crate) fn linger(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.state = State::Lingering;
        connection.unread = Vec::new();
        // A client that is gone needs no goodbye.
        if net::shutdown_write(connection.fd.as_fd()).is_err() {
            return self.close(key);
        }
        connection.flags.readable = true;
        let at = self.now_ms() + LINGER_MS;
        self.set_deadline(key, Some(at));
        self.enqueue(key);
    }

    /// Lets a connection be looked at in the next turn, although nothing happens on its socket.
    pub(crate) fn enqueue(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.flags.queued
        {
            connection.flags.queued = true;
            self.ready.push_back(key);
        }
    }

    /// The client has closed its side (or broken the connection) while it had to send something. A core that reads the
    /// body goes on without the rest of it: the client may still read the answer.
    fn client_ended(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.flags.readable = false;
        connection.flags.ended = true;
        if let State::Busy(core) = connection.state {
            self.fail_body(core, BodyFailure::ClientClosed);
            if self.waits_for_nobody(core) {
                self.lose_client(key);
            }
            return;
        }
        if let State::Native(_) = &connection.state {
            return self.script_body_ended(key);
        }
        if let State::Body(receiving) = &connection.state {
            let received = receiving.collector.received();
            let peer = describe(connection.peer);
            self.log_server(&format!(
                "client closed the connection in the middle of a request body, after {received} bytes (client {peer})"
            ));
        }
        self.close(key);
    }

    /// The client has gone while we work for it.
    pub(crate) fn lose_client(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let unsent = connection.output.as_ref().map_or(0, |output| output.unsent_file_bytes());
        let state = std::mem::replace(&mut connection.state, State::Idle);
        if let State::Parked(_) = state {
            self.parked.retain(|&parked| parked != key);
            self.counters.clients_gone += 1;
        }
        self.close(key);
        match state {
            State::Busy(core) => {
                let response = &mut self.cores[core].response;
                response.body_bytes = response.body_bytes.saturating_sub(unsent);
                self.client_gone(core);
            }
            State::Native(native) => self.native_lost(*native, unsent),
            _ => {}
        }
    }

    pub(crate) fn client_gone(&mut self, core: CoreId) {
        self.cores[core].connection = None;
        self.fail_body(core, BodyFailure::ClientClosed);
        if self.cores[core].response.complete {
            return; // What the application does after its response is not for this client.
        }
        self.counters.clients_gone += 1;
        self.cancel(core, Cancel::ClientGone);
    }

    /// Ends a connection. A core that works for it must be told by the caller.
    pub(crate) fn close(&mut self, key: Key) {
        // Dropping the descriptor takes it out of the epoll set: nobody duplicates it.
        self.connections.remove(key);
    }

    /// Sets or clears the timer of a connection's state.
    pub(crate) fn set_deadline(&mut self, key: Key, at_ms: Option<u64>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.deadline_ms = at_ms;
        if let Some(at) = at_ms
            && connection.armed_ms.is_none_or(|armed| armed > at)
        {
            connection.armed_ms = Some(at);
            self.reactor.arm(at, key.token(kind::CONNECTION));
        }
    }

    pub(crate) fn on_connection_timer(&mut self, key: Key) {
        let now = self.reactor.now_ms();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.armed_ms.is_some_and(|armed| armed > now) {
            return; // An entry that an earlier one has overtaken.
        }
        connection.armed_ms = None;
        let Some(deadline) = connection.deadline_ms else { return };
        if deadline > now {
            return self.set_deadline(key, Some(deadline));
        }
        if matches!(connection.state, State::Idle | State::Head | State::Body(_)) {
            // What has arrived in time may not have been looked at yet.
            connection.flags.readable = true;
            self.advance(key);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(deadline) = connection.deadline_ms else { return };
        if deadline > now {
            return self.set_deadline(key, Some(deadline));
        }
        let peer = connection.peer;
        if connection.flags.reading_disk {
            // The disk's time is not the client's.
            return self.set_deadline(key, Some(now + self.options.write_stall_ms));
        }
        match &connection.state {
            State::Idle | State::Lingering => self.close(key),
            State::Head => {
                let reason = if self.draining {
                    "request head not complete when the worker stopped".to_owned()
                } else {
                    format!("request head not complete after {} ms", self.options.head_timeout_ms)
                };
                self.time_out(key, reason, Version::Http11);
            }
            State::Body(receiving) => {
                let received = receiving.collector.received();
                let earned =
                    received.saturating_mul(1000).checked_div(self.options.body_min_rate).unwrap_or(0);
                let deadline = receiving.began_ms + self.options.body_timeout_ms + earned;
                let version = receiving.request.exchange.version;
                if deadline > now {
                    return self.set_deadline(key, Some(deadline));
                }
                let reason = format!(
                    "request body too slow: {received} bytes in {} ms (--body-timeout, --body-min-rate)",
                    now - receiving.began_ms
                );
                self.time_out(key, reason, version);
            }
            // Nothing waits to be read: it is the client that has closed its side, and has had its time.
            State::Busy(_) | State::Native(_) if !connection.has_output() => self.lose_client(key),
            State::Busy(_) | State::Draining(_) | State::Native(_) => {
                self.log_server(&format!(
                    "write timeout: the client has read nothing for {} ms (client {})",
                    self.options.write_stall_ms,
                    describe(peer)
                ));
                self.lose_client(key);
            }
            State::Parked(_) => {}
        }
    }

    /// How long a head may take from its first byte on.
    fn head_timeout_ms(&self) -> u64 {
        let timeout = self.options.head_timeout_ms;
        if self.draining { timeout.min(LAST_HEADS_MS) } else { timeout }
    }

    /// The worker stops: a head that has begun gets a little time.
    pub(crate) fn hurry_head(&mut self, key: Key) {
        let at = self.reactor.now_ms() + self.head_timeout_ms();
        let Some(connection) = self.connections.get(key) else { return };
        let at = connection.deadline_ms.map_or(at, |deadline| deadline.min(at));
        self.set_deadline(key, Some(at));
    }

    fn time_out(&mut self, key: Key, reason: String, version: Version) {
        let Some(connection) = self.connections.get(key) else { return };
        let is_http = self.protocol_of(connection.listener) == Protocol::Http;
        let refusal = Refusal { status: is_http.then_some(408), reason };
        self.refuse(key, &refusal, version, false, false);
    }
}

/// A peer, for log lines.
pub(crate) fn describe(peer: net::Peer) -> String {
    match peer {
        net::Peer::Ip(address, port) => std::net::SocketAddr::new(address, port).to_string(),
        net::Peer::Unix => "unix".to_owned(),
    }
}

/// Text that may hold bytes of a client, safe for one line of a log.
pub(crate) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
