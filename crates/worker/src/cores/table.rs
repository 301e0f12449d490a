//! The table of cores, and its free lists, which are LIFO: a lone client stays on one core, whose memory stays warm.
//!
//! Behind the cores of requests stand *signal cores*, made when they are needed: handlers of uwsgi signals run in them, so
//! that they need no request's core. They have no request and no connection; everything else is as in any core.

use std::os::fd::RawFd;

use greenloom_proto::http1::response::{self, BodyMode};

use crate::Cancel;
use crate::cores::CoreId;
use crate::incoming::Incoming;
use crate::native::answer::Handed;
use crate::request::Request;
use crate::slots::Key;

/// A deadline that never comes.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// What a core is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// No request.
    Free,
    /// Its code runs, or an action for it is on its way to the driver.
    Running,
    /// Suspended, in the run queue.
    Queued,
    /// Suspended until a descriptor it watches is ready or its deadline is over.
    Waiting,
    /// It waits in a call of the loop that hosts this worker, which resumes it.
    InLoop,
    /// Suspended until its output has drained.
    Stalled,
    /// Suspended until its request's body has bytes, an end or a failure.
    Reading,
    /// Suspended in a call until somebody else lets it go on (a user lock, a uwsgi signal).
    Blocked,
}

/// How far the response of a core has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// The head has been written.
    pub(crate) begun: bool,
    /// Its end has been written: the client has, or will have, what it came for.
    pub(crate) complete: bool,
    pub(crate) body: BodyMode,
    pub(crate) keep_alive: bool,
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    pub(crate) field_count: u32,
    pub(crate) header_bytes: u64,
}

impl Response {
    pub(crate) const NONE: Self = Self {
        begun: false,
        complete: false,
        body: BodyMode::None,
        keep_alive: false,
        status: 500,
        body_bytes: 0,
        field_count: 0,
        header_bytes: 0,
    };
}

/// One slot.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts; the state is an enum")]
pub(crate) struct Core {
    pub(crate) state: State,
    /// The connection that gets the response; `None` once the client is gone.
    pub(crate) connection: Option<Key>,
    pub(crate) request: Box<Request>,
    /// The request's body, if it is read as it comes.
    pub(crate) incoming: Option<Box<Incoming>>,
    pub(crate) response: Response,
    /// Counts suspensions and requests: an action that was decided earlier is recognised by it.
    pub(crate) epoch: u32,
    /// Why its request has to end, once that is decided; the first reason stays.
    pub(crate) cancelled: Option<Cancel>,
    /// How often its coroutine has been told so.
    pub(crate) told: u8,
    /// Its coroutine would not end and was given up.
    pub(crate) abandoned: bool,
    /// When its request's time is over, or [`NEVER_MS`].
    pub(crate) expires_ms: u64,
    /// When the time is over that the request has allowed itself, or [`NEVER_MS`].
    pub(crate) user_deadline_ms: u64,
    /// Earliest timer for the earlier of the two in the heap. It outlives requests: on a busy core each one finds that of an
    /// earlier one, which is early enough.
    pub(crate) expiry_armed_ms: Option<u64>,
    /// Counts waits: a wake-up that was meant for an earlier one is recognised by it.
    pub(crate) sequence: u32,
    /// Watches registered for the next or current wait.
    pub(crate) watches: Vec<Key>,
    /// Earliest deadline asked for, by the monotonic clock.
    pub(crate) deadline_ns: Option<u64>,
    /// Earliest timer for `deadline_ns` in the heap.
    pub(crate) armed_ms: Option<u64>,
    /// What it registered became ready before it began to wait.
    pub(crate) early: Option<RawFd>,
    /// The application has ended the connection to its client and goes on alone.
    pub(crate) detached: bool,
    /// Whether a sleep set the deadline (and not the timeout of a wait for a descriptor).
    pub(crate) sleeping: bool,
    /// A task waits for room to write.
    pub(crate) wants_room: bool,
    /// How the last wait ended.
    pub(crate) ready_fd: Option<RawFd>,
    pub(crate) timed_out: bool,
    pub(crate) switches: u64,
    /// Its request has not been suspended yet.
    pub(crate) first_slice: bool,
    /// When its slice began, in nanoseconds: with the first yield after it was given the worker.
    pub(crate) slice_ns: Option<u64>,
    /// Number of the application that serves it and how many requests that has had.
    pub(crate) app: Option<(u32, u64)>,
    /// Its request line is written even when they are off.
    pub(crate) log_always: bool,
    /// What the application has set for the log, by name.
    pub(crate) logvars: Vec<(Vec<u8>, Vec<u8>)>,
    /// The application has answered with a file.
    pub(crate) sent_file: bool,
    /// A file that the application has handed over in place of a body, and its own head.
    pub(crate) handed: Option<Box<(response::Handed, Handed)>>,
    /// The application has not made a whole response.
    pub(crate) failed: bool,
    /// When its request took it, nanoseconds of the monotonic clock.
    pub(crate) taken_ns: u64,
    /// Sending to its client has failed.
    pub(crate) write_failed: bool,
    /// Receiving its request's body has failed.
    pub(crate) read_failed: bool,
    /// The uwsgi signal whose handler runs in it; only in signal cores.
    pub(crate) signal: Option<u8>,
    /// The uwsgi signal that ended its last wait for one.
    pub(crate) received_signal: Option<u8>,
}

impl Core {
    fn new() -> Self {
        Self {
            state: State::Free,
            connection: None,
            request: Box::new(Request::new()),
            incoming: None,
            response: Response::NONE,
            epoch: 0,
            cancelled: None,
            told: 0,
            abandoned: false,
            expires_ms: NEVER_MS,
            user_deadline_ms: NEVER_MS,
            expiry_armed_ms: None,
            sequence: 0,
            watches: Vec::new(),
            deadline_ns: None,
            armed_ms: None,
            early: None,
            detached: false,
            sleeping: false,
            wants_room: false,
            ready_fd: None,
            timed_out: false,
            switches: 0,
            first_slice: false,
            slice_ns: None,
            app: None,
            log_always: false,
            logvars: Vec::new(),
            sent_file: false,
            handed: None,
            failed: false,
            taken_ns: 0,
            write_failed: false,
            read_failed: false,
            signal: None,
            received_signal: None,
        }
    }

    /// Something new runs in it.
    fn begin(&mut self) {
        self.state = State::Running;
        self.response = Response::NONE;
        self.cancelled = None;
        self.told = 0;
        self.abandoned = false;
        self.switches = 0;
        self.ready_fd = None;
        self.timed_out = false;
        self.app = None;
        self.detached = false;
        self.first_slice = true;
        self.slice_ns = None;
        self.log_always = false;
        self.logvars.clear();
        self.sent_file = false;
        self.handed = None;
        self.failed = false;
        self.write_failed = false;
        self.read_failed = false;
        self.signal = None;
        self.received_signal = None;
        self.wants_room = false;
    }
}

/// All cores of a worker.
#[derive(Debug)]
pub(crate) struct Table {
    cores: Vec<Core>,
    /// Cores of requests: the first so many.
    requests: u32,
    free: Vec<CoreId>,
    /// Signal cores at most.
    signals: u32,
    free_signals: Vec<CoreId>,
}

impl Table {
    pub(crate) fn new(requests: u32, signals: u32) -> Self {
        let cores = (0..requests).map(|_| Core::new()).collect();
        let free = (0..requests).map(CoreId).collect();
        Self { cores, requests, free, signals, free_signals: Vec::new() }
    }

    /// Whether a core is free.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Cores with a request.
    pub(crate) fn busy(&self) -> u32 {
        self.requests - u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    /// Gives a free core to a connection.
    pub(crate) fn take(&mut self, connection: Key) -> Option<CoreId> {
        let id = self.free.pop()?;
        let core = &mut self.cores[id.at()];
        core.begin();
        core.connection = Some(connection);
        Some(id)
    }

    /// Whether a handler of a uwsgi signal could run.
    pub(crate) fn has_free_signal(&self) -> bool {
        !self.free_signals.is_empty() || self.made_signals() < self.signals
    }

    /// Signal cores in which a handler runs.
    pub(crate) fn busy_signals(&self) -> u32 {
        self.made_signals() - u32::try_from(self.free_signals.len()).unwrap_or(u32::MAX)
    }

    fn made_signals(&self) -> u32 {
        u32::try_from(self.cores.len()).unwrap_or(u32::MAX) - self.requests
    }

    /// Gives a signal core to the handler of a uwsgi signal.
    pub(crate) fn take_signal(&mut self, number: u8) -> Option<CoreId> {
        let id = match self.free_signals.pop() {
            Some(id) => id,
            None if self.made_signals() < self.signals => {
                self.cores.push(Core::new());
                CoreId(u32::try_from(self.cores.len() - 1).unwrap_or(u32::MAX))
            }
            None => return None,
        };
        let core = &mut self.cores[id.at()];
        core.begin();
        core.signal = Some(number);
        // No client of it can leave.
        core.detached = true;
        Some(id)
    }

    /// What the core ran has ended.
    pub(crate) fn release(&mut self, id: CoreId) {
        let core = &mut self.cores[id.at()];
        debug_assert_ne!(core.state, State::Free, "{id:?} released twice");
        core.state = State::Free;
        core.connection = None;
        core.epoch = core.epoch.wrapping_add(1);
        core.expires_ms = NEVER_MS;
        core.user_deadline_ms = NEVER_MS;
        core.sequence = core.sequence.wrapping_add(1);
        core.request.body = crate::Body::Empty;
        core.incoming = None;
        if id.0 < self.requests {
            self.free.push(id);
        } else {
            self.free_signals.push(id);
        }
    }

    /// The core with that number, if there is one.
    pub(crate) fn get_mut(&mut self, id: CoreId) -> Option<&mut Core> {
        self.cores.get_mut(id.at())
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..u32::try_from(self.cores.len()).unwrap_or(u32::MAX)).map(CoreId)
    }

    /// The core with that number, if there is one.
    pub(crate) fn get(&self, id: CoreId) -> Option<&Core> {
        self.cores.get(id.at())
    }
}

impl std::ops::Index<CoreId> for Table {
    type Output = Core;

    fn index(&self, id: CoreId) -> &Core {
        &self.cores[id.at()]
    }
}

impl std::ops::IndexMut<CoreId> for Table {
    fn index_mut(&mut self, id: CoreId) -> &mut Core {
        &mut self.cores[id.at()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    #[test]
    fn the_core_freed_last_is_taken_first() {
        let mut connections = Slots::default();
        let client = connections.insert(());
        let mut table = Table::new(3, 0);
        let first = table.take(client).unwrap();
        assert_eq!(first, CoreId(2));
        assert_eq!(table.take(client), Some(CoreId(1)));
        table.release(first);
        assert_eq!(table.take(client), Some(first));
        assert_eq!(table.take(client), Some(CoreId(0)));
        assert_eq!((table.take(client), table.busy(), table.has_free()), (None, 3, false));
    }

    #[test]
    fn signal_cores_stand_behind_those_of_requests() {
        let mut connections = Slots::default();
        let client = connections.insert(());
        let mut table = Table::new(1, 2);
        assert_eq!(table.take(client), Some(CoreId(0)));
        assert_eq!((table.take_signal(7), table.take_signal(8)), (Some(CoreId(1)), Some(CoreId(2))));
        assert_eq!((table.take_signal(9), table.has_free_signal()), (None, false));
        assert_eq!((table.busy(), table.busy_signals(), table[CoreId(2)].signal), (1, 2, Some(8)));
        table.release(CoreId(2));
        assert!(!table.has_free(), "a request never gets a signal core");
        assert_eq!((table.busy_signals(), table.take_signal(9)), (1, Some(CoreId(2))));
    }
}
