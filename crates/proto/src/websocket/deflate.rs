//! Negotiation of compressed messages: the extension `permessage-deflate` (RFC 7692 §5, §7.1).
//!
//! A client makes offers, the one it likes best first; the first that can be kept as it stands is taken. An offer with
//! anything that is unknown, twice there, or has no right value is declined and the next one looked at.

use core::fmt;
use core::iter;

use crate::http1::chars::{TOKEN, all, trim};

/// The largest window of deflate, as a power of two; the one meant where none is said.
const MOST_BITS: u8 = 15;

/// What this server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether messages to the client may build on earlier ones. Costs a [`Compressor`](super::Compressor) for each
    /// connection.
    pub server_context: bool,
    /// Whether messages of the client may build on earlier ones. Costs a window for each connection.
    pub client_context: bool,
    /// The largest window of a client, as a power of two from 8 to 15; clients that cannot be told use 15.
    pub client_window_bits: u8,
}

impl Default for Policy {
    /// Messages stand alone: an idle connection costs nothing.
    fn default() -> Self {
        Self { server_context: false, client_context: false, client_window_bits: MOST_BITS }
    }
}

/// What was agreed with one client. Its `Display` is the value of `Sec-WebSocket-Extensions` in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Messages to the client may build on earlier ones (no `server_no_context_takeover`, RFC 7692 §7.1.1.1).
    pub server_context: bool,
    /// Messages of the client may build on earlier ones (no `client_no_context_takeover`, RFC 7692 §7.1.1.2).
    pub client_context: bool,
    /// `server_max_window_bits` (RFC 7692 §7.1.2.1), 8 to 15, when the client has asked for it.
    pub server_window_bits: Option<u8>,
    /// `client_max_window_bits` (RFC 7692 §7.1.2.2), 8 to 15, when the client is told one.
    pub client_window_bits: Option<u8>,
}

impl Deflate {
    /// Messages stand alone in both directions, and nobody asks for smaller windows.
    pub const ALONE: Self = Self {
        server_context: false,
        client_context: false,
        server_window_bits: None,
        client_window_bits: None,
    };

    /// Bytes that a message to the client may look back.
    pub fn server_window(self) -> usize {
        1 << self.server_window_bits.unwrap_or(MOST_BITS)
    }

    /// Bytes that a message of the client may look back.
    pub fn client_window(self) -> usize {
        1 << self.client_window_bits.unwrap_or(MOST_BITS)
    }
}

impl fmt::Display for Deflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("permessage-deflate")?;
        if !self.server_context {
            f.write_str("; server_no_context_takeover")?;
        }
        if !self.client_context {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if let Some(bits) = self.client_window_bits {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

/// Reads `value` of `Sec-WebSocket-Extensions`, its lines joined with `, `; `None` when messages stay as they are.
pub fn negotiate(value: &[u8], policy: Policy) -> Option<Deflate> {
    split(value, b',').find_map(|element| Some(agree(&offer(element)?, policy)))
}

/// One offer that has been understood.
#[derive(Debug, Default)]
struct Offer {
    server_no_context: bool,
    client_no_context: bool,
    server_bits: Option<u8>,
    /// 15 when the client only says that it can be told.
    client_bits: Option<u8>,
}

/// The answer to `offer`. Both sides may be told to forget whatever the client offers (RFC 7692 §7.1.1).
fn agree(offer: &Offer, policy: Policy) -> Deflate {
    // The compressor keeps to a smaller window by forgetting; see compress.rs.
    let has_full_window = offer.server_bits.is_none_or(|bits| bits == MOST_BITS);
    let policy_bits = policy.client_window_bits.clamp(8, MOST_BITS);
    Deflate {
        server_context: policy.server_context && !offer.server_no_context && has_full_window,
        client_context: policy.client_context && !offer.client_no_context,
        server_window_bits: offer.server_bits,
        client_window_bits: offer
            .client_bits
            .map(|bits| bits.min(policy_bits))
            .filter(|&bits| bits < MOST_BITS),
    }
}

fn offer(element: &[u8]) -> Option<Offer> {
    let mut parts = split(element, b';');
    if !trim(parts.next()?).eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut offer = Offer::default();
    for part in parts {
        let (name, value) = match part.iter().position(|&byte| byte == b'=') {
            None => (trim(part), None),
            Some(at) => (trim(&part[..at]), Some(unquote(trim(&part[at + 1..]))?)),
        };
        let is_new = match (name, value) {
            (b"server_no_context_takeover", None) => !core::mem::replace(&mut offer.server_no_context, true),
            (b"client_no_context_takeover", None) => !core::mem::replace(&mut offer.client_no_context, true),
            (b"server_max_window_bits", Some(value)) => offer.server_bits.replace(bits(value)?).is_none(),
            (b"client_max_window_bits", None) => offer.client_bits.replace(MOST_BITS).is_none(),
            (b"client_max_window_bits", Some(value)) => offer.client_bits.replace(bits(value)?).is_none(),
            _ => false,
        };
        if !is_new {
            return None;
        }
    }
    Some(offer)
}

/// 8 to 15 without zeros in front (RFC 7692 §7.1.2).
fn bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// A parameter's value: a token, or one in quotes (RFC 6455 §9.1). With a backslash it would be no number.
fn unquote(value: &[u8]) -> Option<&[u8]> {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    all(inner, TOKEN).then_some(inner)
}

/// The parts of `value` between separators that do not stand in quotes.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    iter::from_fn(move || {
        let bytes = rest?;
        let (mut in_quotes, mut is_escaped) = (false, false);
        let end = bytes.iter().position(|&byte| {
            let found = !in_quotes && byte == separator;
            in_quotes ^= byte == b'"' && !is_escaped;
            is_escaped = in_quotes && byte == b'\\' && !is_escaped;
            found
        });
        rest = end.map(|end| &bytes[end + 1..]);
        Some(&bytes[..end.unwrap_or(bytes.len())])
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    const GENEROUS: Policy = Policy { server_context: true, client_context: true, client_window_bits: 15 };

    fn answer(value: &str, policy: Policy) -> String {
        negotiate(value.as_bytes(), policy).map(|deflate| deflate.to_string()).unwrap_or_default()
    }

    fn generous(value: &str) -> String {
        answer(value, GENEROUS)
    }

    #[test]
    fn rfc7692_7_1_what_browsers_offer() {
        const FORGETFUL: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        for offer in ["permessage-deflate; client_max_window_bits", "permessage-deflate"] {
            assert_eq!(answer(offer, Policy::default()), FORGETFUL);
            assert_eq!(generous(offer), "permessage-deflate");
        }
        assert_eq!(generous("x-webkit-deflate-frame, Permessage-Deflate"), "permessage-deflate");
    }

    #[test]
    fn rfc7692_7_1_1_context_takeover() {
        assert_eq!(
            generous("permessage-deflate; server_no_context_takeover"),
            "permessage-deflate; server_no_context_takeover"
        );
        assert_eq!(
            generous("permessage-deflate;client_no_context_takeover"),
            "permessage-deflate; client_no_context_takeover"
        );
    }

    #[test]
    fn rfc7692_7_1_2_window_bits() {
        assert_eq!(
            generous("permessage-deflate; server_max_window_bits=10"),
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10"
        );
        assert_eq!(
            generous("permessage-deflate; server_max_window_bits=15"),
            "permessage-deflate; server_max_window_bits=15",
            "asked for, so it is said"
        );
        assert_eq!(
            generous("permessage-deflate; client_max_window_bits=\"9\""),
            "permessage-deflate; client_max_window_bits=9"
        );
        let small = Policy { client_window_bits: 11, ..GENEROUS };
        assert_eq!(answer("permessage-deflate", small), "permessage-deflate", "it cannot be told");
        let told = "permessage-deflate; client_max_window_bits=11";
        assert_eq!(answer("permessage-deflate; client_max_window_bits", small), told);
        assert_eq!(answer("permessage-deflate; client_max_window_bits=12", small), told);
        let agreed = negotiate(b"permessage-deflate; client_max_window_bits=8", small).unwrap();
        assert_eq!((agreed.client_window(), agreed.server_window()), (256, 32_768));
    }

    #[test]
    fn rfc7692_7_1_what_is_declined() {
        for bad in [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=08",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"1\\0\"",
            "permessage-deflate; client_max_window_bits=1000",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate;",
            "permessage-deflate; x=\", permessage-deflate, \"",
            "permessage-deflate; x=\"\\\", permessage-deflate",
        ] {
            assert_eq!(generous(bad), "", "{bad}");
            if !bad.contains("\\\"") {
                let next = alloc::format!("{bad}, permessage-deflate; client_max_window_bits=10");
                assert_eq!(generous(&next), "permessage-deflate; client_max_window_bits=10", "behind {bad}");
            }
        }
    }

    /// The example of RFC 7692 §7: the first offer that can be kept.
    #[test]
    fn rfc7692_5_2_several_offers() {
        assert_eq!(
            generous(
                "permessage-deflate; client_max_window_bits; server_max_window_bits=10, permessage-deflate"
            ),
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10"
        );
        assert_eq!(generous("a; b=c, permessage-deflate; q=1 , permessage-deflate"), "permessage-deflate");
    }
}
