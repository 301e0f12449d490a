//! Websockets (RFC 6455) with compressed messages (RFC 7692), the server's side: one set of values per connection.
//!
//! [`handshake`] judges the request that asks for a websocket, [`deflate`] the extensions that it offers. From then on
//! bytes of the client go to a [`Receiver`], which says what they mean; [`send`] writes frames, a [`Compressor`]
//! compressed ones; [`Closing`] knows who has said good-bye. Sockets, timers, pings that are due, and what a message
//! means are the caller's business.

pub mod closing;
pub mod compress;
pub mod deflate;
pub mod handshake;
mod inflate;
mod mask;
pub mod receive;
pub mod send;

use core::fmt;

pub use closing::Closing;
pub use compress::Compressor;
pub use deflate::Deflate;
pub use receive::{Event, Message, Receiver};

/// Status codes of close frames (RFC 6455 §7.4.1).
pub mod code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server stops, or the page is left.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer does not keep to the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A message is not of the kind that it says, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// A message is larger than allowed.
    pub const TOO_LARGE: u16 = 1009;
    /// The server cannot go on.
    pub const INTERNAL_ERROR: u16 = 1011;

    /// Whether a close frame may carry `code` (RFC 6455 §7.4): those in use, with 1012 to 1014, which came to the
    /// registry later, and those from 3000 to 4999, which belong to libraries and applications.
    pub const fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What a message consists of (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl Kind {
    /// The opcode of a message's first frame.
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// What a frame is for, with its number on the wire (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// One more fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The end of what one side sends.
    Close = 8,
    /// A question whether the other side lives.
    Ping = 9,
    /// The answer to a ping, or a sign of life.
    Pong = 10,
}

impl Opcode {
    /// The opcode with this number; `None` for those reserved.
    const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Whether frames of this kind stand between the fragments of messages (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Most bytes of a control frame's payload (RFC 6455 §5.5).
pub const CONTROL_BYTES: usize = 125;

/// Why a connection fails (RFC 6455 §7.1.7): a close frame with `code` and `reason` is the last thing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A code of [`code`](mod@code).
    pub code: u16,
    /// What is wrong, for the peer and for the log; shorter than a close frame holds.
    pub reason: &'static str,
}

impl Failure {
    const fn protocol(reason: &'static str) -> Self {
        Self { code: code::PROTOCOL_ERROR, reason }
    }

    const fn payload(reason: &'static str) -> Self {
        Self { code: code::INVALID_PAYLOAD, reason }
    }

    const TOO_LARGE: Self = Self { code: code::TOO_LARGE, reason: "the message is larger than allowed" };
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn rfc6455_7_4_codes_in_close_frames() {
        for good in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert!(code::may_be_sent(good), "{good}");
        }
        for bad in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            assert!(!code::may_be_sent(bad), "{bad}");
        }
    }

    #[test]
    fn rfc6455_5_2_opcodes() {
        let known: alloc::vec::Vec<u8> = (0..16)
            .filter(|&number| Opcode::from_number(number).is_some_and(|found| found as u8 == number))
            .collect();
        assert_eq!(known, [0, 1, 2, 8, 9, 10]);
        assert!((0..255).filter(|&n| Opcode::from_number(n).is_some_and(Opcode::is_control)).eq(8..11));
    }

    #[test]
    fn failures_speak() {
        assert_eq!(Failure::TOO_LARGE.to_string(), "the message is larger than allowed (1009)");
    }
}
