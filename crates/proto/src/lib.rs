//! The protocols of greenloom as machines without I/O: bytes in, events out.
//!
//! This crate owns what bytes on a connection mean: HTTP/1.1 heads, bodies and responses ([`http1`]), the
//! uwsgi packet ([`uwsgi`]), websockets ([`websocket`]), the head of a CGI script's output ([`cgi`]), what master and workers tell each other
//! ([`control`]), and what a connection takes along from one worker to another ([`handover`]). It has no socket, no clock and
//! no file: the caller reads, measures time and writes. No input panics it, and no call allocates once
//! the caller's buffers have grown to their usual size (but [`cgi::query_words`], whose words go to a new process, and
//! [`websocket`], whose messages become the caller's).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cgi;
pub mod control;
#[doc(hidden)]
pub mod fuzz_entry;
pub mod handover;
pub mod http1;
mod span;
pub mod text;
pub mod uwsgi;
pub mod websocket;

pub use span::Span;
