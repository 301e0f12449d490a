//! What the process tree asks of a language: load the application, fork, serve. The tree knows nothing else of it.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use greenloom_config::Protocol;
use greenloom_sys::process::Fork;

use crate::scoreboard::Scoreboard;

/// One language's side of the process tree.
pub trait Application {
    /// Loads the applications: once in the generation, or in each worker with `lazy-apps`. Prints its own log lines
    /// (tracebacks included).
    fn load(&mut self) -> Result<(), LoadError>;

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
    /// A socket the worker watches together with its connections; never blocking. It reads [`DRAIN`] (finish the
    /// requests and leave) and [`QUIT`] (leave at once); the end of the stream means that the master is gone: leave at
    /// once. It writes [`READY`] when it accepts connections.
    pub control: OwnedFd,
    /// The numbers shared with the other processes.
    pub scoreboard: Scoreboard,
}

/// Read from [`WorkerContext::control`]: stop accepting, finish the requests, leave.
pub const DRAIN: u8 = b'd';
/// Read from [`WorkerContext::control`]: leave at once.
pub const QUIT: u8 = b'q';
/// Written to [`WorkerContext::control`]: the worker accepts connections.
pub const READY: u8 = b'r';

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
