//! The table of cores, and its free list, which is LIFO: a lone client stays on one core, whose memory stays warm.

use std::os::fd::RawFd;

use greenloom_proto::http1::response::BodyMode;

use crate::Cancel;
use crate::cores::CoreId;
use crate::incoming::Incoming;
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
    /// Suspended until its output has drained.
    Stalled,
    /// Suspended until its request's body has bytes, an end or a failure.
    Reading,
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
    /// Earliest timer for `expires_ms` in the heap. It outlives requests: on a busy core each one finds that of an
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
    /// When its request took it, nanoseconds of the monotonic clock.
    pub(crate) taken_ns: u64,
    /// Sending to its client has failed.
    pub(crate) write_failed: bool,
    /// Receiving its request's body has failed.
    pub(crate) read_failed: bool,
}

/// All cores of a worker.
#[derive(Debug)]
pub(crate) struct Table {
    cores: Vec<Core>,
    free: Vec<CoreId>,
}

impl Table {
    pub(crate) fn new(cores: u32) -> Self {
        let table = (0..cores)
            .map(|_| Core {
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
                expiry_armed_ms: None,
                sequence: 0,
                watches: Vec::new(),
                deadline_ns: None,
                armed_ms: None,
                early: None,
                detached: false,
                sleeping: false,
                ready_fd: None,
                timed_out: false,
                switches: 0,
                first_slice: false,
                slice_ns: None,
                app: None,
                log_always: false,
                taken_ns: 0,
                write_failed: false,
                read_failed: false,
            })
            .collect();
        Self { cores: table, free: (0..cores).map(CoreId).collect() }
    }

    /// Whether a core is free.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Cores with a request.
    pub(crate) fn busy(&self) -> u32 {
        u32::try_from(self.cores.len() - self.free.len()).unwrap_or(u32::MAX)
    }

    /// Gives a free core to a connection.
    pub(crate) fn take(&mut self, connection: Key) -> Option<CoreId> {
        let id = self.free.pop()?;
        let core = &mut self.cores[id.at()];
        core.state = State::Running;
        core.connection = Some(connection);
        core.response = Response::NONE;
        core.cancelled = None;
        core.told = 0;
        core.abandoned = false;
        core.switches = 0;
        core.ready_fd = None;
        core.timed_out = false;
        core.app = None;
        core.detached = false;
        core.first_slice = true;
        core.slice_ns = None;
        core.log_always = false;
        core.write_failed = false;
        core.read_failed = false;
        Some(id)
    }

    /// The core's request has ended.
    pub(crate) fn release(&mut self, id: CoreId) {
        let core = &mut self.cores[id.at()];
        debug_assert_ne!(core.state, State::Free, "{id:?} released twice");
        core.state = State::Free;
        core.connection = None;
        core.epoch = core.epoch.wrapping_add(1);
        core.expires_ms = NEVER_MS;
        core.sequence = core.sequence.wrapping_add(1);
        core.request.body = crate::Body::Empty;
        core.incoming = None;
        self.free.push(id);
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
        let mut table = Table::new(3);
        let first = table.take(client).unwrap();
        assert_eq!(first, CoreId(2));
        assert_eq!(table.take(client), Some(CoreId(1)));
        table.release(first);
        assert_eq!(table.take(client), Some(first));
        assert_eq!(table.take(client), Some(CoreId(0)));
        assert_eq!((table.take(client), table.busy(), table.has_free()), (None, 3, false));
    }
}
