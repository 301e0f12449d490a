//! What the process tree asks of a language: load the application, fork, serve. The tree knows nothing else of it.

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use greenloom_config::Protocol;
use greenloom_proto::control::Registration;
use greenloom_sys::process::Fork;

use crate::scoreboard::{Scoreboard, Totals};
use crate::user_locks::UserLocks;

/// One language's side of the process tree.
pub trait Application {
    /// Loads the applications: once in the generation, or in each worker with `lazy-apps`. Prints its own log lines
    /// (tracebacks included).
    fn load(&mut self) -> Result<(), LoadError>;

    /// The user locks of the instance, before [`Self::load`]; once per process that is started, inherited by those that it
    /// forks. Without a call the workers of this generation have locks of their own.
    fn share_locks(&mut self, _locks: UserLocks) {}

    /// What the application has registered with the signal framework while it was loaded, each thing once; for the
    /// process that loads it before it forks, which tells the master. What nobody has asked for here each worker sends
    /// over its control socket.
    fn registrations(&mut self) -> Vec<Registration> {
        Vec::new()
    }

    /// `fork(2)` with the language's own hooks before and after. The process has one thread of the server's.
    fn fork(&mut self) -> io::Result<Fork>;

    /// Serves until told to stop through `context.control`; the worker's exit code. [`CANNOT_SERVE`]: it has said why
    /// it cannot, and nor could another one.
    fn serve(&mut self, context: WorkerContext) -> i32;
}

/// Why no application was loaded: one line for the log, after the language's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// What failed, and where.
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {}

/// What a worker gets to serve with.
#[derive(Debug)]
pub struct WorkerContext {
    /// The worker's number, from 1; the same after a respawn.
    pub id: u32,
    /// The listeners, in the configuration's order; shared with the other workers, never blocking.
    pub listeners: Vec<BoundListener>,
    /// A socket the worker watches together with its connections; never blocking. It carries the frames of
    /// [`greenloom_proto::control`]; the end of the stream means that the master is gone: leave at once.
    pub control: OwnedFd,
    /// Where connections go that this worker gives away, and where it finds those of others; `None`: it is alone.
    pub handover: Option<Handover>,
    /// The numbers shared with the other processes of the generation.
    pub scoreboard: Scoreboard,
    /// This process's seat there, which says who it is already.
    pub seat: u32,
    /// The numbers of the instance.
    pub totals: Totals,
}

/// The two ends of the instance's queue of connections on their way from one worker to another: a pair of packet sockets
/// that every process of the tree shares, so that nothing in it is lost when one of them ends. Never blocking.
#[derive(Debug)]
pub struct Handover {
    /// Connections are sent here, one in each packet.
    pub give: OwnedFd,
    /// And received here, by whichever worker comes first.
    pub take: OwnedFd,
}

impl Handover {
    pub(crate) fn create() -> io::Result<Self> {
        let (give, take) = greenloom_sys::process::message_pair()?;
        greenloom_sys::process::set_nonblocking(take.as_fd())?;
        Ok(Self { give, take })
    }
}

/// The exit code of a worker that cannot serve what it was asked to, on this machine or with this interpreter: the
/// first start fails with it instead of trying again for ever.
pub const CANNOT_SERVE: i32 = 23;

/// A listening socket.
#[derive(Debug)]
pub struct BoundListener {
    /// The socket; never blocking.
    pub fd: OwnedFd,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Its address for people: `127.0.0.1:8080`, `[::1]:8080`, `/run/app.sock`, `@name`.
    pub name: String,
    /// The TCP port in decimal; empty for UNIX sockets.
    pub port: String,
}
