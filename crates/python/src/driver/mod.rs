//! The driver: what turns the worker's actions into running Python code.

pub(crate) mod context;
pub(crate) mod drive;
pub(crate) mod posix_signals;
pub(crate) mod server;
pub(crate) mod switch;
