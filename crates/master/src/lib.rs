//! The process tree: who exists, who started whom, and what happens when one of them dies.
//!
//! ```text
//! master ------ owns listeners, pid file, lives; runs no application code        tree.rs, master.rs, generations.rs
//!   |  exec of the same command, `PR_SET_PDEATHSIG`, socket for orders and reports (messages.rs)
//! generation -- loads the application, forks workers from it                      generation.rs
//!   |  Application::fork
//! worker 1..N - serves; its helper thread listens to the master                   worker_process.rs, relay.rs
//! ```
//!
//! The master is child subreaper: when a generation dies its workers become the master's children and serve on until
//! the next generation's are ready. What a worker's life can look like is one pure state machine, `lifecycle.rs`.
//! Without a master, [`run_single`] serves in the calling process.
//!
//! What must not be here: requests, protocols, languages. The tree knows an [`Application`] and nothing about it.
#![forbid(unsafe_code)]

mod activation;
mod application;
pub mod banner;
mod commands;
mod daemon;
mod deaths;
mod error;
mod fifo;
mod generation;
mod generations;
mod hanging;
mod harakiri;
mod inheritance;
mod lifecycle;
mod listeners;
pub mod log;
mod made_file;
mod master;
mod messages;
mod notifier;
pub mod open_files;
mod pidfile;
mod premises;
mod privileges;
mod relay;
mod reload;
mod rotation;
pub mod scoreboard;
#[cfg(test)]
mod scratch;
mod signalling;
mod status;
mod stopping;
mod surroundings;
mod touch;
mod tree;
mod upgrade;
mod upkeep;
mod user_locks;
mod uwsgi_signals;
mod watchdog;
mod worker_process;

pub use application::{Application, BoundListener, CANNOT_SERVE, Handover, LoadError, WorkerContext};
pub use daemon::{Arrival, Detached};
pub use error::MasterError;
pub use generation::run_generation;
pub use greenloom_proto::control;
pub use greenloom_sys::identity::set_umask;
pub use greenloom_sys::process::{Fork, Pid, fork, fork_single_threaded, memory};
pub use inheritance::{INHERITANCE_VARIABLE, Inheritance};
pub use master::Reread;
pub use scoreboard::{Scoreboard, Totals};
pub use status::fuzz_control_request;
pub use surroundings::Surroundings;
pub use tree::{Launch, run_master};
pub use upgrade::Adoption;
pub use user_locks::UserLocks;
pub use worker_process::run_single;
