//! Engines: what a core's coroutine is made of.

pub(crate) mod none;
