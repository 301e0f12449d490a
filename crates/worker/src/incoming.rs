//! Bodies that are read while they come (`--body-early`): such a request has its core from the head on.
//!
//! [`Incoming`] holds what the client has sent and the application has not read: pure, no socket and no clock. Below it
//! are the calls of the worker: reading without waiting, and suspending the core until there is something to read.
//! Receiving itself is `inbound.rs`; what a suspension means is `suspension.rs`.
//!
//! - **Bounds.** At most `--output-buffer` bytes lie here unread (besides one receive's worth that has not been decoded);
//!   then the socket is left alone, and TCP tells the client.
//! - **Whose time it is.** Only the time in which the core stands in [`Worker::await_body`], or its task waits for what it
//!   has asked for ([`Worker::want_body`]), counts against
//!   `--body-timeout` and `--body-min-rate`: a client that was ready to send while the application did something else
//!   has nothing to answer for. Every byte earns its time, whenever it came.
//! - **The client leaves.** A body that can no longer become complete fails: bytes that came before are read first, then
//!   the failure. A core that waits for bytes is not cancelled then: its read ends with the failure, and the core is
//!   cancelled at its next suspension, if its client is gone by then as `suspension.rs` means it. A client that has closed
//!   its side is not gone while the application has not read the body to its end: it may simply have sent all it had to
//!   send.
//! - **What is not read.** At the end of the request the rest is thrown away if it is here already and small. Otherwise
//!   the connection ends, with lingering; an answer whose head is made before the body is complete says so.
//!
//! A connection with such a request is busy, and is not exported; neither is any other with a request.

use std::fmt;

use greenloom_proto::http1::body::{BodyError, ChunkEvent};
use greenloom_proto::http1::response::CONTINUE;

use crate::connection::{After, BodyFraming, State as ConnectionState};
use crate::cores::table::State;
use crate::request::Request;
use crate::slots::Key;
use crate::suspension::covers;
use crate::worker::{Worker, kind};
use crate::{Action, CoreId, News, Wakeup};

/// Bytes a core may read in a row before others get their turn: about as long as a slice of yields (100 us).
const SLICE_BYTES: usize = 256 * 1024;

/// A body up to so many announced bytes is complete before even a streaming application starts.
const COLLECTED_BYTES: u64 = 64 * 1024;

/// What [`Worker::read_body`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The body is complete, and has been read.
    End,
    /// Nothing for now, or it is the turn of others: [`Worker::await_body`], suspend, and try again.
    Wait,
    /// It will never be complete. What came before has been read.
    Failed(BodyFailure),
}

/// Why a body will not be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFailure {
    /// The client has left in the middle of it.
    ClientClosed,
    /// The application itself has ended the connection.
    Disconnected,
    /// It has more bytes than `--limit-post` allows.
    TooLarge,
    /// Its chunks do not parse.
    Malformed(BodyError),
    /// The application has waited too long for too few bytes.
    TooSlow,
}

impl BodyFailure {
    /// The answer, if the application has none.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::ClientClosed | Self::Disconnected => 400,
            Self::TooLarge => 413,
            Self::Malformed(error) => error.status(),
            Self::TooSlow => 408,
        }
    }
}

impl fmt::Display for BodyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientClosed => {
                f.write_str("the client closed the connection in the middle of the request body")
            }
            Self::Disconnected => {
                f.write_str("the application ended the connection in the middle of the request body")
            }
            Self::TooLarge => f.write_str("the request body has more bytes than --limit-post allows"),
            Self::Malformed(error) => write!(f, "invalid request body: {error}"),
            Self::TooSlow => f.write_str("request body too slow (--body-timeout, --body-min-rate)"),
        }
    }
}

impl std::error::Error for BodyFailure {}

/// How a body goes on behind the bytes that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// More is to come.
    Open,
    /// All is here.
    Complete,
    /// Nothing will come.
    Failed(BodyFailure),
}

/// A body on its way to an application that reads it as it comes.
#[derive(Debug)]
pub(crate) struct Incoming {
    framing: BodyFraming,
    tail: Tail,
    bytes: Vec<u8>,
    /// Where the bytes begin that have not been read.
    start: usize,
    /// Bytes of the body so far, read or not.
    received: u64,
    /// The client waits for a word before it sends the body.
    continue_due: bool,
    /// Bytes read since the core last gave way.
    slice: usize,
    /// A task waits for bytes.
    wanted: bool,
    /// When the core began to wait for bytes, and how long it has waited before.
    wait_began_ms: u64,
    waited_ms: u64,
    /// When the core gives the wait up, if it has said so.
    gives_up_ms: Option<u64>,
    /// Earliest timer of this body in the heap.
    armed_ms: Option<u64>,
}

impl Incoming {
    /// `continue_due`: the client waits for `100 Continue`.
    pub(crate) fn new(framing: BodyFraming, continue_due: bool) -> Self {
        Self {
            framing,
            tail: Tail::Open,
            bytes: Vec::new(),
            start: 0,
            received: 0,
            continue_due,
            slice: 0,
            wanted: false,
            wait_began_ms: 0,
            waited_ms: 0,
            gives_up_ms: None,
            armed_ms: None,
        }
    }

    /// Bytes that have not been read.
    fn held(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn is_open(&self) -> bool {
        self.tail == Tail::Open
    }

    /// Whether a read would find anything: bytes, the end, or a failure.
    fn has_news(&self) -> bool {
        self.held() > 0 || !self.is_open()
    }

    /// Whether nothing is to be had of it any more.
    pub(crate) fn is_over(&self) -> bool {
        match self.tail {
            Tail::Open => false,
            Tail::Complete => self.held() == 0,
            Tail::Failed(_) => true,
        }
    }

    /// Whether more of it may come, and there is room for it.
    pub(crate) fn has_room(&self, high_water: usize) -> bool {
        self.is_open() && self.held() < high_water
    }

    /// Whether all of it has been received.
    pub(crate) fn is_received(&self) -> bool {
        self.tail == Tail::Complete
    }

    /// Bytes of it so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Why it will never be complete.
    pub(crate) fn failure(&self) -> Option<BodyFailure> {
        if let Tail::Failed(failure) = self.tail { Some(failure) } else { None }
    }

    /// Nothing more of it comes, for this reason, unless all has come.
    pub(crate) fn fail(&mut self, failure: BodyFailure) {
        if self.is_open() {
            self.tail = Tail::Failed(failure);
        }
    }

    /// Whether the client waits for `100 Continue`; says so once.
    pub(crate) fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.continue_due)
    }

    /// Decodes received bytes, as many as there is room for; returns how many were used. What is behind the end of the
    /// body is not.
    pub(crate) fn feed(&mut self, input: &[u8], high_water: usize, limit: Option<u64>) -> usize {
        let mut used = 0;
        while self.is_open() {
            // A chunk's frame takes no room, but decoding looks no further than the body could fill.
            let room = high_water.saturating_sub(self.held()).min(input.len() - used);
            let window = &input[used..used + room];
            match self.framing.next(window) {
                Ok((n, ChunkEvent::NeedMore)) => {
                    used += n;
                    if n == 0 {
                        break;
                    }
                }
                Ok((n, ChunkEvent::End)) => {
                    used += n;
                    self.tail = Tail::Complete;
                }
                Ok((n, ChunkEvent::Data(range))) => {
                    used += n;
                    self.received += range.len() as u64;
                    if limit.is_some_and(|limit| self.received > limit) {
                        self.tail = Tail::Failed(BodyFailure::TooLarge);
                    } else {
                        self.push(window.get(range).unwrap_or_default());
                    }
                }
                Err(error) => self.tail = Tail::Failed(BodyFailure::Malformed(error)),
            }
        }
        used
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start >= self.bytes.len() / 2 {
            // Moves fewer bytes than have been read since the last time.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn take(&mut self, into: &mut [u8]) -> usize {
        let n = self.held().min(into.len());
        into[..n].copy_from_slice(&self.bytes[self.start..self.start + n]);
        self.start += n;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
        self.slice = self.slice.saturating_add(n);
        n
    }
}

impl Worker {
    /// Whether the body of the request in a core is read as it comes: by [`Self::read_body`], and not taken.
    pub fn body_is_incoming(&self, core: CoreId) -> bool {
        self.cores[core].incoming.is_some()
    }

    /// Reads bytes of an incoming body into `into`, which has room for at least one: at once, those that are here. The
    /// first read sends `100 Continue` to a client that waits for it.
    pub fn read_body(&mut self, core: CoreId, into: &mut [u8]) -> BodyRead {
        match &self.cores[core].incoming {
            Some(incoming) if incoming.slice >= SLICE_BYTES && !incoming.is_over() => BodyRead::Wait,
            _ => self.read_body_now(core, into),
        }
    }

    /// As [`Self::read_body`], but it is nobody else's turn: [`BodyRead::Wait`] means that nothing is here.
    pub fn read_body_now(&mut self, core: CoreId, into: &mut [u8]) -> BodyRead {
        if self.cores[core].incoming.as_ref().is_some_and(|incoming| !incoming.has_news()) {
            self.send_continue(core);
            self.receive_body(core);
        }
        let Some(incoming) = &mut self.cores[core].incoming else { return BodyRead::End };
        match incoming.tail {
            _ if incoming.held() > 0 => BodyRead::Bytes(incoming.take(into)),
            Tail::Open => BodyRead::Wait,
            Tail::Complete => BodyRead::End,
            Tail::Failed(failure) => BodyRead::Failed(failure),
        }
    }

    /// Suspends a core until its body has bytes, its end or a failure, or until `timeout_ms` are over: then a read finds
    /// nothing. Registered waits stay for the suspend that is still to come.
    pub fn await_body(&mut self, core: CoreId, timeout_ms: Option<u64>) {
        if let Some(incoming) = &mut self.cores[core].incoming {
            incoming.slice = 0;
        }
        if !self.begin_suspension(core) {
            return;
        }
        if self.body_has_news(core) {
            self.cores[core].state = State::Queued;
            self.schedule.push(core);
            return;
        }
        self.cores[core].state = State::Reading;
        self.begin_body_wait(core, timeout_ms);
    }

    /// A task waits for its body; `false`: there is no need to, and the news are on their way.
    pub(crate) fn body_is_wanted(&mut self, core: CoreId) -> bool {
        let news = self.body_has_news(core);
        if let Some(incoming) = &mut self.cores[core].incoming {
            incoming.slice = 0;
            if std::mem::replace(&mut incoming.wanted, !news) {
                return true;
            }
        }
        if news {
            self.decide(core, Action::News(core, News::Body));
            return false;
        }
        self.begin_body_wait(core, None);
        true
    }

    /// Nobody waits for a body any more, and how long somebody has is not known.
    pub(crate) fn body_is_unwanted(&mut self, core: CoreId) {
        if let Some(incoming) = &mut self.cores[core].incoming {
            incoming.wanted = false;
        }
    }

    fn begin_body_wait(&mut self, core: CoreId, timeout_ms: Option<u64>) {
        let now_ms = self.reactor.refresh_now();
        if let Some(incoming) = &mut self.cores[core].incoming {
            incoming.wait_began_ms = now_ms;
            incoming.gives_up_ms = timeout_ms.map(|timeout| now_ms.saturating_add(timeout));
        }
        self.arm_body(core);
        // Bytes that are here already make no event.
        if let Some(key) = self.cores[core].connection
            && let Some(connection) = self.connections.get(key)
            && (connection.flags.readable || !connection.unread.is_empty())
        {
            self.enqueue(key);
        }
    }

    /// Whether the body of a core has been read to its end.
    pub fn body_has_ended(&self, core: CoreId) -> bool {
        let incoming = self.cores[core].incoming.as_ref();
        incoming.is_none_or(|body| body.tail == Tail::Complete && body.held() == 0)
    }

    fn body_has_news(&self, core: CoreId) -> bool {
        self.cores[core].incoming.as_ref().is_none_or(|incoming| incoming.has_news())
    }

    /// Whether a request starts before its body is there, of which so many bytes were announced.
    pub(crate) fn starts_early(&self, request: &Request, announced: Option<u64>) -> bool {
        let path = request.path();
        if self.options.body_early.iter().any(|prefix| covers(prefix.as_bytes(), path)) {
            return self.options.early_applications || self.is_for_script(request);
        }
        let app = self.options.streaming.iter().filter(|(mount, _)| covers(mount.as_bytes(), path));
        let streams = app.max_by_key(|(mount, _)| mount.len()).is_some_and(|&(_, streams)| streams);
        // A body that is small anyway gives its client no core to hold.
        streams && announced.is_none_or(|length| length > COLLECTED_BYTES)
    }

    /// Whether a core has room for more of its body.
    pub(crate) fn wants_body(&self, core: CoreId) -> bool {
        let incoming = self.cores[core].incoming.as_ref();
        incoming.is_some_and(|body| body.is_open() && body.held() < self.options.high_water)
    }

    /// Gives received bytes to a core's body; returns how many were used.
    pub(crate) fn feed_incoming(&mut self, core: CoreId, bytes: &[u8]) -> usize {
        let Some(incoming) = &mut self.cores[core].incoming else { return 0 };
        if !incoming.is_open() {
            return 0;
        }
        let used = incoming.feed(bytes, self.options.high_water, self.options.limit_post);
        if let Tail::Failed(failure) = incoming.tail {
            self.note_body_failure(core, failure);
        }
        self.body_came(core);
        used
    }

    /// The body of a core will not be complete.
    pub(crate) fn fail_body(&mut self, core: CoreId, failure: BodyFailure) {
        let Some(incoming) = &mut self.cores[core].incoming else { return };
        if incoming.is_open() {
            incoming.tail = Tail::Failed(failure);
            self.note_body_failure(core, failure);
            self.body_came(core);
        }
    }

    /// Why the body of a core has failed, if it has.
    pub fn body_failure(&self, core: CoreId) -> Option<BodyFailure> {
        match self.cores[core].incoming.as_ref()?.tail {
            Tail::Failed(failure) => Some(failure),
            Tail::Open | Tail::Complete => None,
        }
    }

    /// Whether all of a core's body has come; looks once more if it has not.
    pub(crate) fn body_is_complete(&mut self, core: CoreId) -> bool {
        if self.cores[core].incoming.as_ref().is_some_and(|incoming| incoming.is_open()) {
            self.receive_body(core);
        }
        self.cores[core].incoming.as_ref().is_none_or(|incoming| incoming.tail == Tail::Complete)
    }

    /// The request has ended: what it has not read is thrown away. Returns what follows the response.
    pub(crate) fn end_body(&mut self, core: CoreId, after: After) -> After {
        let Some(incoming) = &mut self.cores[core].incoming else { return after };
        incoming.bytes.clear();
        incoming.start = 0;
        let complete = self.body_is_complete(core);
        self.cores[core].incoming = None;
        if complete { after } else { After::Linger }
    }

    /// The timer of a connection's incoming body.
    pub(crate) fn on_body_timer(&mut self, key: Key) {
        let now_ms = self.reactor.now_ms();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let ConnectionState::Busy(core) = connection.state else { return };
        let Some(incoming) = &mut self.cores[core].incoming else { return };
        if incoming.armed_ms.is_none_or(|armed| armed > now_ms) {
            return; // An entry of an earlier body.
        }
        incoming.armed_ms = None;
        if self.body_timer_ms(core).is_some_and(|at| at <= now_ms) {
            // What has arrived in time may not have been looked at yet.
            self.receive_body(core);
        }
        let late = self.body_due_ms(core).is_some_and(|due| due <= now_ms);
        if late && self.cores[core].incoming.as_ref().is_some_and(|incoming| incoming.wanted) {
            self.decide(core, Action::News(core, News::Late));
        } else if late {
            self.fail_body(core, BodyFailure::TooSlow);
        } else if self.body_timer_ms(core).is_some_and(|at| at <= now_ms) {
            self.end_body_wait(core);
        } else {
            self.arm_body(core);
        }
    }

    /// When the time of a body is up for which a core waits.
    fn body_due_ms(&self, core: CoreId) -> Option<u64> {
        let slot = &self.cores[core];
        let incoming =
            slot.incoming.as_ref().filter(|incoming| slot.state == State::Reading || incoming.wanted)?;
        let earned =
            incoming.received.saturating_mul(1000).checked_div(self.options.body_min_rate).unwrap_or(0);
        let left = (self.options.body_timeout_ms + earned).saturating_sub(incoming.waited_ms);
        Some(incoming.wait_began_ms + left)
    }

    /// When something has to be done about a wait for a body.
    fn body_timer_ms(&self, core: CoreId) -> Option<u64> {
        let due_ms = self.body_due_ms(core)?;
        let gives_up_ms = self.cores[core].incoming.as_ref()?.gives_up_ms;
        Some(gives_up_ms.map_or(due_ms, |at| at.min(due_ms)))
    }

    /// Sees to it that a wait is looked at when its time is up. One entry in the heap serves wait after wait: the time of
    /// the body never comes nearer.
    fn arm_body(&mut self, core: CoreId) {
        let (Some(at_ms), Some(key)) = (self.body_timer_ms(core), self.cores[core].connection) else {
            return;
        };
        if let Some(incoming) = &mut self.cores[core].incoming
            && incoming.armed_ms.is_none_or(|armed| armed > at_ms)
        {
            incoming.armed_ms = Some(at_ms);
            self.reactor.arm(at_ms, key.token(kind::BODY));
        }
    }

    /// There is something to read: a core that waits for it goes on.
    fn body_came(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        let waits = slot.state == State::Reading || slot.incoming.as_ref().is_some_and(|body| body.wanted);
        if waits && self.body_has_news(core) {
            self.end_body_wait(core);
        }
    }

    fn end_body_wait(&mut self, core: CoreId) {
        let mut wanted = false;
        if let Some(incoming) = &mut self.cores[core].incoming {
            incoming.waited_ms += self.reactor.now_ms().saturating_sub(incoming.wait_began_ms);
            wanted = std::mem::take(&mut incoming.wanted);
        }
        if wanted {
            self.decide(core, Action::News(core, News::Body));
        } else {
            self.go_on(core, Wakeup::Input);
        }
    }

    /// Looks at the socket, although nothing may have happened there.
    fn receive_body(&mut self, core: CoreId) {
        if let Some(key) = self.cores[core].connection
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.flags.readable = true;
            self.advance(key);
        }
    }

    /// The application wants the body: a client that waits for that is told, unless it has sent it or been answered.
    fn send_continue(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        let Some(incoming) = &mut slot.incoming else { return };
        let due = std::mem::take(&mut incoming.continue_due) && incoming.received == 0;
        if let Some(key) = slot.connection
            && due
            && !slot.response.begun
            && slot.cancelled.is_none()
        {
            self.send_pieces(key, &[CONTINUE]);
        }
    }

    fn note_body_failure(&mut self, core: CoreId, failure: BodyFailure) {
        let slot = &self.cores[core];
        let Some(incoming) = &slot.incoming else { return };
        if failure == BodyFailure::Disconnected {
            return;
        }
        if failure != BodyFailure::ClientClosed {
            self.counters.refused += 1;
        }
        let (received, peer) = (incoming.received, crate::inbound::describe(slot.request.peer));
        self.log_server(&format!("{failure}, after {received} bytes of it (client {peer})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenloom_proto::http1::body::ChunkedDecoder;

    /// Feeds `input` piece by piece and reads as slowly as can be; returns what was read and what was not used.
    fn read_through(mut body: Incoming, input: &[u8], high_water: usize, piece: usize) -> (Vec<u8>, usize) {
        let (mut read, mut used) = (Vec::new(), 0);
        loop {
            let end = (used + piece).min(input.len());
            used += body.feed(&input[used..end], high_water, None);
            assert!(body.held() <= high_water, "{} bytes held", body.held());
            let mut byte = [0];
            match body.take(&mut byte) {
                1 => read.push(byte[0]),
                _ if body.is_over() => return (read, input.len() - used),
                _ => assert!(used < input.len(), "the end was not found"),
            }
        }
    }

    #[test]
    fn never_more_is_held_than_may_be_and_nothing_behind_the_end_is_used() {
        for piece in [1, 2, 5, 1000] {
            for high_water in [1, 2, 3, 100] {
                let length = Incoming::new(BodyFraming::Length(10), false);
                assert_eq!(
                    read_through(length, b"0123456789GET", high_water, piece),
                    (b"0123456789".to_vec(), 3)
                );
                let chunked = Incoming::new(BodyFraming::Chunked(ChunkedDecoder::default()), false);
                let input = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\nGET ";
                assert_eq!(read_through(chunked, input, high_water, piece), (b"abcde".to_vec(), 4));
            }
        }
    }

    #[test]
    fn what_came_before_a_failure_is_read() {
        let mut body = Incoming::new(BodyFraming::Chunked(ChunkedDecoder::default()), false);
        assert_eq!(body.feed(b"3\r\nabc\r\n3\r\ndef\r\n", 100, Some(5)), 14);
        assert_eq!(body.tail, Tail::Failed(BodyFailure::TooLarge));
        let mut bytes = [0; 10];
        assert_eq!((body.take(&mut bytes), &bytes[..3]), (3, &b"abc"[..]));
        assert_eq!(body.feed(b"0\r\n\r\n", 100, Some(5)), 0, "nothing is decoded behind a failure");
    }
}
