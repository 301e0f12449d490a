//! ASGI 3.0 applications: a request is a task of the loop that hosts the worker.
//!
//! | file | room of |
//! | --- | --- |
//! | `gateway.rs` | a request from its task to its end |
//! | `run.rs` | what that task runs: the application's coroutine, step by step |
//! | `scope.rs` | the connection scope |
//! | `channel.rs` | `receive` and `send`, as far as they are called from Python |
//! | `incoming.rs` | messages to the application: the body, and that the client is gone |
//! | `outgoing.rs` | messages from the application: head, body, files, and back-pressure |
//! | `futures.rs` | what waits in `receive` and `send` |
//!
//! Any coroutine of the application may call `receive` and `send`, and each of them in its own time. So nothing here
//! suspends the core: a call that has to wait gets a future of the loop, and the worker says when it is done
//! (`Action::News`). The coroutines themselves are `greenloom/engines/asgi.py`.

pub(crate) mod channel;
mod futures;
pub(crate) mod gateway;
mod incoming;
mod outgoing;
pub(crate) mod run;
pub(crate) mod scope;

use std::cell::{Cell, RefCell};

use pyo3::prelude::*;

use channel::Calls;
use futures::Futures;
use incoming::Incoming;
use outgoing::Outgoing;

/// What a core keeps of its ASGI request.
#[derive(Default)]
pub(crate) struct Exchange {
    /// Whether a task has the core.
    runs: Cell<bool>,
    /// The task: a loop refers to its tasks only weakly.
    task: Cell<Option<Py<PyAny>>>,
    /// Whether the task was told that its request is over, by a message or by being cancelled.
    told: Cell<bool>,
    /// Whether the application has asked for messages behind the body: it wants to hear of its client's leave.
    listens: Cell<bool>,
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Outgoing>,
    /// Calls of `receive` that wait.
    readers: Futures,
    /// Calls of `send` that wait.
    writers: Futures,
    /// `receive` and `send` of the last request, for the next one if nobody has kept them.
    calls: Cell<Option<Calls>>,
}

impl Exchange {
    /// Whether a task has the core.
    pub(crate) fn runs(&self) -> bool {
        self.runs.get()
    }
}
