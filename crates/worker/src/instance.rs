//! What a worker says about itself to the rest of the instance, as it happens. Where it is kept (shared memory, or
//! nowhere) is the implementor's business.
//!
//! Every call is made on the hot path: an implementation stores a few words and returns.

use std::net::IpAddr;

use crate::CoreId;
use crate::worker::Counters;

/// The numbers of the whole instance, shared by its processes; implemented over the scoreboard.
pub trait Instance: std::fmt::Debug {
    /// A request has taken a core, or has given it back: so many are busy now.
    fn set_busy(&self, cores: u32);
    /// A request has ended: the instance's number of it, for the log.
    fn count_request(&self) -> u64;

    /// The loop has control; what it does now.
    fn stamp(&self, _now_ms: u64, _activity: Activity) {}
    /// The loop has had no control for a while, and that is because of this core; no sign of life.
    fn blame(&self, _core: CoreId) {}
    /// The code that has control, or gets it now, must have given it back by then (milliseconds of the monotonic clock); 0:
    /// nobody said so.
    fn deadline(&self, _at_ms: u64) {}
    /// The stacks of the requests in flight were printed, as somebody had asked.
    fn stacks_printed(&self) {}
    /// A request has taken a core.
    fn began(&self, _core: CoreId, _begun: &Begun<'_>) {}
    /// The coroutine of a core has given control back and has not ended; so many switches its request has had.
    fn suspended(&self, _core: CoreId, _wait: WaitKind, _switches: u64) {}
    /// A request has ended, and gives its core back.
    fn ended(&self, _core: CoreId, _ended: &Ended) {}
    /// A request has ended that needed no core.
    fn ended_without_core(&self, _what: NoCore, _ended: &Ended) {}
    /// An application is called, for the so manieth time.
    fn app_called(&self, _app: u32, _requests: u64) {}
    /// The application, if it is known which, has let an exception through.
    fn exception(&self, _app: Option<u32>) {}
    /// This is how things stand; several times a second while anything happens.
    fn stands(&self, _standing: &Standing) {}
    /// Whether this worker would take another connection, and how many it has: at the end of a turn that has changed it.
    fn set_load(&self, _accepts: bool, _connections: u64) {}
    /// Shows how the other workers of the generation stand, as far as they have said: always in the same order, the
    /// default where nobody is.
    fn others(&self, _look: &mut dyn FnMut(Load)) {}
}

/// How another worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Whether it would take a new connection.
    pub accepts: bool,
    /// Open connections.
    pub connections: u64,
    /// When its loop last had control: what it says now is new if this has changed.
    pub stamp_ms: u64,
}

/// What the loop does from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It waits for something to happen.
    Waits,
    /// It works by itself.
    Works,
    /// It gives control to the coroutine of this core.
    Runs(CoreId),
}

/// What a suspended core waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// Its turn.
    Turn,
    /// Descriptors, a time, a user lock or a uwsgi signal.
    Events,
    /// Its client, to read what was written.
    Drain,
    /// Its request's body.
    Body,
}

/// A request that begins.
#[derive(Clone, Copy, Debug)]
pub struct Begun<'a> {
    /// When it got its core, microseconds since the epoch.
    pub unix_us: u64,
    /// When it got its core, milliseconds of the monotonic clock.
    pub now_ms: u64,
    /// Who asks, and for what.
    pub identity: Identity<'a>,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// The target, as sent.
    pub uri: &'a [u8],
    /// The host the request is for; empty if the client did not say.
    pub host: &'a [u8],
    /// Who asks.
    pub address: Address<'a>,
}

/// The address of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// There is none: it has come over a UNIX socket.
    None,
    /// The peer of the connection.
    Ip(IpAddr),
    /// What the web server in front says (`REMOTE_ADDR` of a uwsgi packet).
    Text(&'a [u8]),
}

/// A request that ends.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The status of its response, as logged.
    pub status: u16,
    /// Bytes of its response, the head included.
    pub sent_bytes: u64,
    /// Microseconds from its first byte to its end.
    pub us: u64,
    /// Yields, suspends and blocking waits.
    pub switches: u64,
    /// The response could not be sent to its end.
    pub write_failed: bool,
    /// The body could not be read to its end.
    pub read_failed: bool,
}

/// What a request was answered with that needed no core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCore {
    /// A file.
    File,
    /// A CGI script.
    Script,
    /// That there is nothing, or why there is not.
    Nothing,
}

/// How things stand with a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What has been seen since the start.
    pub counters: Counters,
    /// Cores with a request.
    pub busy_cores: u32,
    /// Open connections.
    pub connections: u32,
    /// ... that wait for a request.
    pub idle: u32,
    /// ... in the middle of a head or body.
    pub reading: u32,
    /// ... whose request has a core.
    pub busy: u32,
    /// ... that send the rest of a response, or wait for the client's end.
    pub draining: u32,
    /// ... whose request waits for a core.
    pub parked: u32,
    /// Since when the one that has waited longest does, milliseconds of the monotonic clock; 0: none.
    pub oldest_parked_ms: u64,
    /// The longest time of about the last second in which the loop did not look at its descriptors.
    pub lag_us: u64,
    /// When the turn ended, milliseconds of the monotonic clock.
    pub now_ms: u64,
    /// Whether it takes new connections.
    pub accepting: bool,
}

/// Numbers for a worker that is alone in the world.
#[derive(Debug, Default)]
pub struct Alone(std::cell::Cell<u64>);

impl Instance for Alone {
    fn set_busy(&self, _cores: u32) {}

    fn count_request(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}
