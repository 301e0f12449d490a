//! The worker as a library: connections, cores and the schedule of one process. It knows no language and calls none.
//!
//! # Life of a request
//!
//! | step | file |
//! | --- | --- |
//! | 1. accept, or leave that to other workers | `accepting.rs`, `balance.rs` |
//! | 2. read the head and the body; refuse what does not parse | `inbound.rs`, `connection/read.rs`, `body.rs` |
//! |    answer without a core: files and CGI scripts | `native/`, `helpers.rs` |
//! | 3. take a core, or park until one is free | `inbound.rs`, `cores/table.rs` |
//! | 4. start: the driver gets [`Action::Start`] | `worker.rs` |
//! | 5. suspend and resume: waits, yields, back-pressure | `suspension.rs`, `cores/watch.rs`, `schedule.rs` |
//! |    read a body that is still coming (`--body-early`) | `incoming.rs` |
//! |    or let the hosting loop run it as a task | `tasks.rs` |
//! | 6. write the response | `outbound.rs`, `flusher.rs`, `connection/output.rs` |
//! | 7. log, free the core | `outbound.rs`, `request_lines.rs`, `request_log/` |
//! | 8. keep the connection alive, or close it | `outbound.rs`, `inbound.rs` |
//! |    ... or give it to another worker | `handover.rs` |
//! | what others are told of it meanwhile | `instance.rs`, `standing.rs`, `vitals.rs` |
//! | who notices that it blocks the others | `lookout.rs`; the master, for `--harakiri` |
//!
//! # A request that must end before its time
//!
//! Its client has gone, its deadline is over, or the worker leaves: then it is *cancelled* ([`Cancel`]; the first reason
//! stays). A core that is suspended is resumed with [`Wakeup::Cancelled`], which the driver makes an exception at the
//! place where the coroutine was suspended; one that runs finds out when it suspends. From then on the client gets
//! nothing more of the application. A coroutine that suspends again is told again, behind everybody who waits for a turn;
//! after eight times it gets [`Action::Abandon`]: the driver forgets the coroutine, and the core is free for others.
//!
//! # uwsgi signals
//!
//! A signal that the master sends makes [`Action::Signal`]: its handler runs in a *signal core*, of which there are some
//! behind those of requests, so that it needs none of these. It can be suspended and cancelled like a request; its end is
//! [`Worker::end_handler`] (`signals.rs`). User locks suspend whoever waits for them (`locks.rs`).
//!
//! # Who resumes whom
//!
//! An application may switch between its coroutines itself. So a core that is suspended in the worker's eyes may run, and
//! call; whatever had been decided for it is dropped as soon as it suspends anew or ends. The other way round, a coroutine
//! may give control back without suspending: the driver says so ([`Worker::away`]).
//!
//! # The worker is a leaf
//!
//! A driver (one per language) owns the interpreter and the engine. It calls
//!
//! ```text
//! turn(); while let Some(action) = next_action() { perform it }; wait
//! ```
//!
//! and while it performs an action nothing of the worker is borrowed: the application may call back at any point, from
//! any coroutine. The worker holds no object of any language, only numbers ([`CoreId`]).

#![forbid(unsafe_code)]

mod accepting;
mod balance;
mod body;
mod connection;
mod cores;
mod flusher;
mod handover;
mod helpers;
mod in_flight;
mod inbound;
mod incoming;
mod instance;
mod locks;
mod lookout;
mod native;
mod options;
mod outbound;
mod recycling;
mod report;
mod request;
mod request_lines;
mod request_log;
mod schedule;
mod signals;
mod slots;
mod standing;
mod suspension;
mod tasks;
mod vitals;
mod worker;

use std::os::fd::OwnedFd;

pub use body::Body;
pub use cores::{CoreId, Interest};
pub use greenloom_config as config;
pub use greenloom_proto as proto;
pub use greenloom_reactor::{Batch, Wake};
pub use greenloom_sys::clock;
pub use greenloom_sys::files::open_without_waiting;
pub use greenloom_sys::net::Peer;
pub use greenloom_sys::question::{self, Question, Thread};
pub use in_flight::{Doing, InFlight};
pub use incoming::{BodyFailure, BodyRead};
pub use instance::{
    Activity, Address, Alone, Begun, Ended, Identity, Instance, Load, NoCore, Standing, WaitKind,
};
pub use locks::{Locked, UserLocks};
pub use native::Rules;
pub use options::WorkerOptions;
pub use outbound::{Failure, Written};
pub use request::{Request, Source};
pub use signals::Orders;
pub use suspension::{Outcome, Yielded};
pub use tasks::News;
pub use worker::{Counters, Worker};

/// What a driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A request waits in this core, complete but for a body that is read as it comes: run it on a coroutine.
    Start(CoreId),
    /// A uwsgi signal has come: run its handler on a coroutine, in this signal core.
    Signal(CoreId, u8),
    /// The coroutine of this core goes on, for this reason.
    Resume(CoreId, Wakeup),
    /// Something that the application of this core has asked for; only tasks ask (see `tasks.rs`).
    News(CoreId, News),
    /// The coroutine of this core was told to end again and again, and has suspended every time: forget it where it
    /// stands, without running any of its code, and call [`Worker::fail`], or [`Worker::end_handler`].
    Abandon(CoreId),
    /// The worker is to end: with nothing left to do, or by order.
    Leave(Leave),
}

/// Why a suspended core goes on. How its wait ended is in [`Worker::outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// It is its turn again.
    Turn,
    /// What it waited for has happened, or its deadline is over.
    Wait,
    /// Its output has drained: it may write again.
    Drained,
    /// Its body has bytes, an end or a failure, or it has waited long enough: it may read again.
    Input,
    /// Its request is pointless from now on: it must end.
    Cancelled(Cancel),
}

/// Why a request is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Its client has left, or has not read for too long.
    ClientGone,
    /// It has had its core for longer than `--request-timeout` lets it, or than it has allowed itself.
    Deadline,
    /// The worker leaves.
    Stop,
}

/// As applications and readers of the log see it.
impl std::fmt::Display for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ClientGone => "client gone",
            Self::Deadline => "deadline",
            Self::Stop => "stop",
        })
    }
}

/// Why a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It was asked to drain, and has.
    Drained,
    /// It was told to leave at once.
    Ordered,
    /// The master is gone.
    MasterGone,
}

/// A listener to accept from.
#[derive(Debug)]
pub struct Listen {
    /// The listening socket; never blocking.
    pub fd: OwnedFd,
    /// What is spoken there.
    pub protocol: config::Protocol,
}
