//! Readiness of descriptors, and timers: the part of a worker that could serve any program.
//!
//! One [`Reactor`] owns one epoll set. It is driven in one of two ways:
//!
//! - natively: [`Reactor::wait`] blocks until something happens or the next timer is due;
//! - embedded in a foreign loop: that loop watches [`Reactor::fd`], which is readable whenever a pass would find work,
//!   timers included once [`Reactor::embed`] has put them behind a timerfd in the same set.
//!
//! Either way [`Reactor::poll`] then collects what is ready without blocking, [`Reactor::next_event`] hands it out one
//! event at a time, and [`Reactor::next_expired`] hands out due timers. The reactor has never heard of HTTP, of cores
//! or of languages: tokens in, tokens out.

#![forbid(unsafe_code)]

mod reactor;
mod timers;
mod wake;

pub use reactor::{Batch, Event, MAX_BATCH, Reactor, Token};
pub use timers::Timers;
pub use wake::Wake;
