//! Requests that are tasks of the loop which hosts the worker (ASGI applications).
//!
//! Such a request is more than one coroutine as often as not: one sends, another listens whether the client leaves, and a
//! third waits for both. So a core is not suspended for output or input here. What the application waits for is *news*
//! ([`crate::Action::News`]), and the driver knows who is to hear of it; the core itself is in the hands of the loop, which
//! says when its task goes on ([`Worker::task_goes_on`]) and when it waits ([`Worker::task_waits`]).
//!
//! - **Told to end.** A task is told once, and may clean up: it awaits what it likes. After a while it is told again, and
//!   after some times given up, like any coroutine.
//! - **After the response.** An application may go on for long when its response is complete. Its client need not wait for
//!   that: the connection parts from the core as soon as the task is suspended.

use greenloom_sys::clock;

use crate::connection::{After, State as ConnectionState};
use crate::cores::table::State;
use crate::slots::Key;
use crate::suspension::SLICE_BYTES;
use crate::worker::Worker;
use crate::{Action, BodyFailure, CoreId};

/// How long a task may clean up before it is told again to end.
const CLEAN_UP_NS: u64 = 1_000_000_000;

/// What an application can wait for that is no coroutine of the worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The client has taken output, or others have had their turn: there is room for more.
    Room,
    /// The body of the request has bytes, an end or a failure.
    Body,
    /// The body is late: the driver says by [`Worker::body_is_late`] whether anybody waits for it.
    Late,
}

impl Worker {
    /// The loop lets the task of a core go on.
    pub fn task_goes_on(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        match slot.state {
            State::Free | State::Running => return,
            State::Queued => self.schedule.remove(core),
            _ => {}
        }
        let slot = &mut self.cores[core];
        slot.state = State::Running;
        slot.slice_ns = None;
        if !self.is_in_turn() {
            self.reactor.refresh_now();
            self.gives_control(core);
        }
    }

    /// The task of a core waits for something of the loop's. Counts a switch; what was written leaves now.
    pub fn task_waits(&mut self, core: CoreId) {
        self.part_from_client(core);
        if self.cores[core].told > 0 {
            self.note_suspension(core);
            self.cores[core].state = State::Waiting;
            self.arm_core(core);
        } else if self.begin_suspension(core) {
            self.cores[core].state = State::InLoop;
            self.gives_up_client(core);
        }
        if !self.is_in_turn() {
            self.take_over();
        }
    }

    /// The task of a core has been told to end, and has not run since: it will be told again.
    pub fn task_was_told(&mut self, core: CoreId) {
        let slot = &mut self.cores[core];
        if slot.state == State::Running {
            slot.state = State::Waiting;
            slot.deadline_ns = Some(clock::monotonic_ns().saturating_add(CLEAN_UP_NS));
            self.arm_core(core);
        }
    }

    /// The application wants to write more than there is room for: [`News::Room`] will come. With room it comes in the next
    /// turn, when others have had theirs.
    pub fn want_room(&mut self, core: CoreId) {
        self.flush(core);
        self.cores[core].wants_room = true;
        if let Some(key) = self.cores[core].connection
            && !self.has_queued_output(core)
        {
            self.ask_for_turn();
            self.enqueue(key);
        }
    }

    /// The application wants to read, and there was nothing: [`News::Body`] will come.
    pub fn want_body(&mut self, core: CoreId) {
        self.ask_for_turn();
        if self.body_is_wanted(core)
            && let Some(key) = self.cores[core].connection
        {
            // Nobody else looks at the socket of a request that has not been suspended yet.
            self.register(key);
        }
    }

    /// The time of a body is up for which a task has asked; `waits`, whether it still waits for it.
    pub fn body_is_late(&mut self, core: CoreId, waits: bool) {
        if waits {
            self.fail_body(core, BodyFailure::TooSlow);
        } else {
            self.body_is_unwanted(core);
        }
    }

    /// Bytes that a task has written wait a moment for more of them, or leave.
    pub fn write_soon(&mut self, core: CoreId) {
        if self.flusher.is_none() || self.has_queued_output(core) || self.hold(core) >= SLICE_BYTES {
            self.flush(core);
        }
    }

    /// There is room for what a core writes.
    pub(crate) fn room_came(&mut self, core: CoreId) {
        if std::mem::take(&mut self.cores[core].wants_room) {
            self.decide(core, Action::News(core, News::Room));
        }
    }

    /// It is the turn of a connection whose task may have given way to others.
    pub(crate) fn room_in_turn(&mut self, key: Key) {
        if let Some(connection) = self.connections.get(key)
            && let ConnectionState::Busy(core) = connection.state
            && !connection.has_output()
        {
            self.room_came(core);
        }
    }

    /// The task of a core has given the last of its response, and all of it has been written.
    pub fn task_has_answered(&mut self, core: CoreId) {
        self.complete(core);
        self.flush(core);
        if self.cores[core].state != State::Running {
            // Another task has sent it: the core's own may rest for long.
            self.part_from_client(core);
        }
    }

    /// Lets the connection of a complete response go on without its core.
    fn part_from_client(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        if !slot.response.complete || slot.cancelled.is_some() || slot.connection.is_none() {
            return;
        }
        self.flush(core);
        let after = if self.cores[core].response.keep_alive { After::KeepAlive } else { After::Close };
        let after = self.end_body(core, after);
        if let Some(key) = self.cores[core].connection.take() {
            self.after_response(key, after);
        }
    }
}
