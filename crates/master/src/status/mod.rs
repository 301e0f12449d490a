//! What can be seen of the instance, and asked of it, from outside: statistics, metrics, health and commands.
//!
//! | file | does |
//! | --- | --- |
//! | `endpoint.rs` | binds the sockets |
//! | `server.rs` | the thread that serves them all |
//! | `snapshot.rs` | the tree as the master's loop describes it, and all numbers at one moment |
//! | `stats.rs`, `metrics.rs`, `report.rs` | the forms in which that is shown |
//! | `http.rs`, `request.rs` | what clients send |
//! | `describe.rs` | the description of the tree, for the loop |
//!
//! The loop and the thread share three things: the description (a lock that nobody holds for long), commands in the one
//! direction and answers in the other. What must not be here: decisions about processes.

mod describe;
mod endpoint;
mod http;
mod metrics;
mod report;
mod request;
mod server;
mod snapshot;
mod stats;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use greenloom_config::{Settings, StatusSettings};
use greenloom_sys::eventfd::EventFd;
use greenloom_sys::process;

use crate::commands::{Answer, Asker, Command};
use crate::error::MasterError;
use crate::made_file::Quietly;
use crate::privileges::Owner;
use crate::scoreboard::Totals;
use server::{Order, Reply, Server, Wires};
use snapshot::Board;

pub(crate) use describe::Describer;
pub(crate) use endpoint::{Endpoint, SavedEndpoint};
pub use request::fuzz_control_request;

/// The master's end of it.
#[derive(Debug)]
pub(crate) struct Status {
    board: Board,
    settings: StatusSettings,
    /// Shared with the thread.
    endpoints: Arc<Vec<Endpoint>>,
    orders: (Sender<Order>, Receiver<Order>),
    replies: (Sender<Reply>, Option<Receiver<Reply>>),
    wake_master: Arc<EventFd>,
    wake_thread: Arc<EventFd>,
}

impl Status {
    /// One that nobody can see.
    pub(crate) fn new() -> Result<Self, MasterError> {
        let eventfd = || EventFd::new().map(Arc::new).map_err(MasterError::system("create an eventfd"));
        let (send_reply, replies) = mpsc::channel();
        Ok(Self {
            board: Board::default(),
            settings: StatusSettings::default(),
            endpoints: Arc::default(),
            orders: mpsc::channel(),
            replies: (send_reply, Some(replies)),
            wake_master: eventfd()?,
            wake_thread: eventfd()?,
        })
    }

    /// Binds what the settings name, with files for `owner`; see [`endpoint::bind`].
    pub(crate) fn bind(
        &mut self,
        settings: &Settings,
        owner: Owner,
        old: Option<Vec<Endpoint>>,
    ) -> Result<(), MasterError> {
        self.settings = settings.status.clone();
        self.endpoints = Arc::new(endpoint::bind(settings, owner, old)?);
        Ok(())
    }

    /// What the master's next program has to know of the sockets.
    pub(crate) fn saved(&self) -> Vec<SavedEndpoint> {
        self.endpoints.iter().map(Endpoint::saved).collect()
    }

    /// The sockets, to be inherited by that program.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.endpoints.iter().map(|endpoint| endpoint.socket.as_fd())
    }

    /// Removes the files that are still the ones this process made.
    pub(crate) fn vacuum(&self, quietly: Quietly) {
        let files = self.endpoints.iter().filter_map(|endpoint| endpoint.file.as_ref());
        files.for_each(|file| file.vacuum("unix socket", quietly));
    }

    /// Starts the thread, if there is anything for it to serve. To be called once, when the process forks no more and has
    /// its final user, group and directory.
    pub(crate) fn start(&mut self, totals: &Totals) -> Result<(), MasterError> {
        let Some(replies) = self.replies.1.take().filter(|_| !self.endpoints.is_empty()) else {
            return Ok(());
        };
        let wires = Wires {
            orders: self.orders.0.clone(),
            replies,
            wake_master: Arc::clone(&self.wake_master),
            wake_us: Arc::clone(&self.wake_thread),
        };
        let endpoints = Arc::clone(&self.endpoints);
        let host = host();
        let server =
            Server::new(endpoints, self.board.clone(), totals.clone(), host, self.settings.clone(), wires)
                .map_err(MasterError::system("watch the sockets of statistics and commands"))?;
        // It lives as long as the process: nobody joins it.
        process::spawn_thread("greenloom-status", move || server.run())
            .map(drop)
            .map_err(MasterError::system("start a thread"))
    }

    /// Readable when [`Self::take`] has something.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_master.as_fd()
    }

    /// The commands that have come since the last call, with those who wait for an answer.
    pub(crate) fn take(&self) -> Vec<(Command, Asker)> {
        self.wake_master.clear();
        let orders = self.orders.1.try_iter();
        orders
            .map(|order| {
                let asker = match order.client {
                    None => Asker::nobody(),
                    Some(client) => {
                        let mut teller = Teller {
                            client,
                            replies: self.replies.0.clone(),
                            wake: Arc::clone(&self.wake_thread),
                            told: false,
                        };
                        Asker::somebody(move |answer| teller.tell(answer))
                    }
                };
                (order.command, asker)
            })
            .collect()
    }
}

/// Brings one answer to the thread. Dropped without having told, it says so: nobody waits for ever.
struct Teller {
    client: u64,
    replies: Sender<Reply>,
    wake: Arc<EventFd>,
    told: bool,
}

impl Teller {
    fn tell(&mut self, answer: Answer) {
        self.told = true;
        // Without the thread nobody waits.
        let _ = self.replies.send(Reply { client: self.client, answer });
        self.wake.notify();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Err("the master has not done it, and does not say why; look at the log".to_owned()));
        }
    }
}

fn host() -> stats::Host {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let directory = std::env::current_dir().unwrap_or_default();
    stats::Host {
        pid: std::process::id(),
        uid: effective("Uid:").unwrap_or(0),
        gid: effective("Gid:").unwrap_or(0),
        directory: directory.to_string_lossy().into_owned(),
    }
}
