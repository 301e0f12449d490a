//! Websockets (RFC 6455): the handshake, the server's side.
//!
//! [`handshake`] judges the request that asks for a websocket, [`deflate`] the extensions that it offers.

pub mod deflate;
pub mod handshake;

pub use deflate::Deflate;
