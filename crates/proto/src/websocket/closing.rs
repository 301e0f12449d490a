//! The closing handshake (RFC 6455 §5.5.1, §7.1): each side sends one close frame, and no message behind it.

use alloc::vec::Vec;

use super::Failure;
use super::send::push_close;

/// Where a connection stands. Whoever waits for the peer in [`WeClosed`](Self::WeClosed), or for the end of the
/// connection in [`Done`](Self::Done), sets a deadline.
///
/// ```text
///        close()               peer_closed()
///   Open ---------> WeClosed ------------------> Done
///    |  \                                        ^  ^
///    |   `--peer_closed()--> PeerClosed --answer()  |
///    |                                   or close() |
///    `------------------- fail() -------------------'
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closing {
    /// Nobody has sent a close frame.
    #[default]
    Open,
    /// Our close frame is sent, the peer's has not come. What it sends until then still counts.
    WeClosed,
    /// The peer's close frame has come: an answer is due, with its code.
    PeerClosed(Option<u16>),
    /// Nothing is sent any more: what is written goes out, then the connection is closed, by the server first
    /// (RFC 6455 §7.1.1).
    Done,
}

impl Closing {
    /// Whether messages and pings may be sent. Behind the peer's close frame nobody would read them.
    pub fn may_send(&self) -> bool {
        *self == Self::Open
    }

    /// Appends our close frame, unless one was sent; true if it was appended. Where the peer's has come already, ours
    /// is the answer.
    pub fn close(&mut self, out: &mut Vec<u8>, code: Option<u16>, reason: &str) -> bool {
        *self = match self {
            Self::Open => Self::WeClosed,
            Self::PeerClosed(_) => Self::Done,
            Self::WeClosed | Self::Done => return false,
        };
        push_close(out, code, reason);
        true
    }

    /// The peer's close frame has come, with this code.
    pub fn peer_closed(&mut self, code: Option<u16>) {
        *self = match self {
            Self::Open => Self::PeerClosed(code),
            Self::WeClosed => Self::Done,
            Self::PeerClosed(_) | Self::Done => return,
        };
    }

    /// Appends the answer to the peer's close frame, if it is due: its code comes back (RFC 6455 §5.5.1). True if it
    /// was appended.
    pub fn answer(&mut self, out: &mut Vec<u8>) -> bool {
        let Self::PeerClosed(code) = *self else { return false };
        self.close(out, code, "")
    }

    /// The connection fails (RFC 6455 §7.1.7): appends a close frame that says why, unless one was sent, and waits for
    /// none. True if it was appended.
    pub fn fail(&mut self, out: &mut Vec<u8>, failure: Failure) -> bool {
        let appended = self.close(out, Some(failure.code), failure.reason);
        *self = Self::Done;
        appended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6455_5_5_1_we_close() {
        let (mut closing, mut out) = (Closing::default(), Vec::new());
        assert!(closing.may_send());
        assert!(closing.close(&mut out, Some(1001), "restart"));
        assert_eq!(out, b"\x88\x09\x03\xe9restart");
        assert!(!closing.may_send() && closing == Closing::WeClosed);
        assert!(!closing.close(&mut out, Some(1000), "") && !closing.answer(&mut out), "once");
        closing.peer_closed(Some(1001));
        assert_eq!(closing, Closing::Done);
        assert!(!closing.answer(&mut out) && out.len() == 11);
    }

    #[test]
    fn rfc6455_5_5_1_the_peer_closes() {
        for (code, answer) in
            [(Some(1000), &b"\x88\x02\x03\xe8"[..]), (Some(4321), b"\x88\x02\x10\xe1"), (None, b"\x88\x00")]
        {
            let (mut closing, mut out) = (Closing::Open, Vec::new());
            closing.peer_closed(code);
            assert_eq!(closing, Closing::PeerClosed(code));
            assert!(!closing.may_send());
            assert!(closing.answer(&mut out) && out == answer);
            assert!(closing == Closing::Done && !closing.answer(&mut out));
        }
    }

    #[test]
    fn rfc6455_5_5_1_both_close() {
        let (mut closing, mut out) = (Closing::PeerClosed(Some(1000)), Vec::new());
        assert!(closing.close(&mut out, Some(1008), "no"));
        assert_eq!((closing, &out[..]), (Closing::Done, &b"\x88\x04\x03\xf0no"[..]));
        closing.peer_closed(None);
        assert_eq!(closing, Closing::Done);
    }

    #[test]
    fn rfc6455_7_1_7_failing() {
        let failure = Failure::TOO_LARGE;
        let (mut closing, mut out) = (Closing::Open, Vec::new());
        assert!(closing.fail(&mut out, failure) && closing == Closing::Done);
        assert_eq!(&out[2..4], 1009_u16.to_be_bytes());
        assert_eq!(&out[4..], failure.reason.as_bytes());
        let (mut closing, mut out) = (Closing::WeClosed, Vec::new());
        assert!(!closing.fail(&mut out, failure) && out.is_empty() && closing == Closing::Done);
    }
}
