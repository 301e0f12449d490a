//! The only crate with system calls: epoll, eventfd, timerfd, sockets, descriptor passing, clocks, spool files, and
//! (for the master) processes, signals, shared memory, listeners, (for coroutines) memory of stacks.
//!
//! Everything here is a thin, safe function over one system call or one idiom of them. Nothing here decides: no
//! protocol, no timer policy, no process life. Errors are [`std::io::Error`], which name the call's reason; callers
//! add where and what for.
#![allow(unsafe_code, reason = "this crate owns the system calls; every block argues")]

pub mod clock;
pub mod epoll;
pub mod eventfd;
pub mod fdpass;
pub mod files;
pub mod identity;
pub mod inotify;
pub mod limits;
pub mod listen;
pub mod made_files;
pub mod net;
pub mod process;
pub mod question;
pub mod script;
pub mod shared_memory;
pub mod signals;
pub mod spool;
pub mod stack_memory;
pub mod timerfd;

pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
