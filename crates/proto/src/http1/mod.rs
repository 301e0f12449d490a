//! HTTP/1.1 and HTTP/1.0 (RFC 9112, RFC 9110) as a server speaks them.
//!
//! One file for each direction and part; whoever holds the connection decides when each is called.

pub mod accept_encoding;
pub mod body;
pub(crate) mod chars;
pub mod conditional;
pub mod date;
pub mod head;
mod meaning;
pub mod ranges;
pub mod response;
mod status;
mod target;
