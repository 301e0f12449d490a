//! Connections: bytes, timers, keep-alive and back-pressure. A connection holds a core only while a complete request
//! of it runs, or one that reads its body as it comes.

pub(crate) mod output;
mod read;

use std::sync::Arc;

use greenloom_proto::http1::body::ChunkedDecoder;
use greenloom_sys::OwnedFd;
use greenloom_sys::net::Peer;

use crate::body::Collector;
use crate::cores::CoreId;
use crate::native::Native;
use crate::request::Request;
use output::Output;

pub(crate) use read::{Fed, Refusal, Step, http_head, too_large, uwsgi_packet};

/// What a connection is doing. Each state says which timer runs in it.
#[derive(Debug)]
pub(crate) enum State {
    /// Waits for the first byte of a request. Timer: head timeout on a new connection, keep-alive afterwards.
    Idle,
    /// Has part of a head. Timer: head timeout, from its first byte on.
    Head,
    /// Receives the body. Timer: body timeout and minimum rate.
    Body(Box<Receiving>),
    /// Has a complete request and waits for a free core. No timer: it is our turn.
    Parked(Box<Request>),
    /// Its request is answered without a core. Timer: write stall, while output waits.
    Native(Box<Native>),
    /// A core works on its request. Timer: write stall, while output waits. A body that is still coming has a timer of
    /// its own.
    Busy(CoreId),
    /// The response is complete but not all sent. Timer: write stall.
    Draining(After),
    /// Our side is closed; what the client still sends is thrown away so that it can read our answer. Timer: linger.
    Lingering,
}

/// What follows a response that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    KeepAlive,
    /// The end.
    Close,
    /// The end, but the client may still be sending.
    Linger,
}

/// A body on its way in.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) request: Box<Request>,
    pub(crate) collector: Collector,
    pub(crate) framing: BodyFraming,
    pub(crate) began_ms: u64,
}

/// How the end of the body is found.
#[derive(Debug)]
pub(crate) enum BodyFraming {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked(ChunkedDecoder),
}

/// One client socket.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Shared with the flusher while it may send.
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) peer: Peer,
    pub(crate) listener: u32,
    pub(crate) state: State,
    /// Bytes received and not used yet.
    pub(crate) unread: Vec<u8>,
    /// Output that the socket would not take.
    pub(crate) output: Option<Box<Output>>,
    /// When the first byte of the current request came, in nanoseconds of the monotonic clock.
    pub(crate) began_ns: u64,
    /// Bytes of an incomplete head that have been looked at.
    pub(crate) seen: u32,
    /// When the state's timer is over, if one runs.
    pub(crate) deadline_ms: Option<u64>,
    /// Earliest timer of this connection in the heap.
    pub(crate) armed_ms: Option<u64>,
    pub(crate) flags: Flags,
}

/// Facts about a connection that are independent of each other and of its state.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state: the state is an enum")]
pub(crate) struct Flags {
    /// In the epoll set (edge-triggered: readiness is remembered here).
    pub(crate) registered: bool,
    /// The socket may have bytes for us.
    pub(crate) readable: bool,
    /// The socket takes output, as far as is known, and some waits.
    pub(crate) writable: bool,
    /// The client has closed its sending side.
    pub(crate) ended: bool,
    /// In the queue of connections that have something to do although nothing happens on their socket.
    pub(crate) queued: bool,
    /// It has had a response: its idle time is keep-alive.
    pub(crate) served: bool,
    /// A helper reads what comes next of its output from a disk.
    pub(crate) reading_disk: bool,
    /// In the queue of connections to be given to another worker.
    pub(crate) offered: bool,
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd, peer: Peer, listener: u32) -> Self {
        Self {
            fd: Arc::new(fd),
            peer,
            listener,
            state: State::Idle,
            unread: Vec::new(),
            output: None,
            began_ns: 0,
            seen: 0,
            deadline_ms: None,
            armed_ms: None,
            flags: Flags { readable: true, ..Flags::default() },
        }
    }

    /// Whether output waits for the socket.
    pub(crate) fn has_output(&self) -> bool {
        self.output.as_ref().is_some_and(|output| !output.is_empty())
    }
}
