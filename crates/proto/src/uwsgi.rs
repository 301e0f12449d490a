//! The uwsgi packet: four bytes of header, then variables; a body may follow, raw.
//!
//! ```text
//! 0         1              3         4                                     4 + size
//! +---------+--------------+---------+--- repeated ------------------------+-----------------------+
//! |modifier1| size, LE u16 |modifier2| LE u16 n, n key bytes, the same for | body, CONTENT_LENGTH  |
//! |         |              |         | the value                           | bytes                 |
//! +---------+--------------+---------+-------------------------------------+-----------------------+
//! ```
//!
//! This file finds the variables where they lie; what they mean, and whether the peer may be believed, is
//! decided elsewhere.

use alloc::vec::Vec;
use core::fmt;

use crate::Span;
use crate::http1::chars;

/// Bytes of a packet's header.
pub const HEADER_BYTES: usize = 4;
/// `modifier1` of the health probe.
pub const PING: u8 = 100;
/// `modifier1` of a packet that raises a signal: the one that `modifier2` says. Variables mean nothing there.
pub const SIGNAL: u8 = 110;
/// `modifier1` of an answer.
const ANSWER: u8 = 255;

/// The first four bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketHeader {
    /// Which language or service is asked for.
    pub modifier1: u8,
    /// Bytes of variables that follow.
    pub size: u16,
    /// Argument of `modifier1`.
    pub modifier2: u8,
}

/// Reads a packet's header; `None` while there are fewer than four bytes.
pub fn parse_header(buf: &[u8]) -> Option<PacketHeader> {
    let [modifier1, low, high, modifier2, ..] = *buf else { return None };
    Some(PacketHeader { modifier1, size: u16::from_le_bytes([low, high]), modifier2 })
}

/// Finds the variables of `block`, the bytes behind the header, and puts (key, value) into `out`, which is
/// cleared first and left empty after an error. `base` is added to the spans: the offset of `block` in the
/// buffer they are to be used with. Keys and values take a slot each of `max_slots`, as in uWSGI.
pub fn parse_vars(
    block: &[u8],
    base: usize,
    max_slots: usize,
    out: &mut Vec<(Span, Span)>,
) -> Result<(), PacketError> {
    out.clear();
    let result = collect_vars(block, base, max_slots / 2, out);
    if result.is_err() {
        out.clear();
    }
    result
}

fn collect_vars(
    block: &[u8],
    base: usize,
    most: usize,
    out: &mut Vec<(Span, Span)>,
) -> Result<(), PacketError> {
    let mut at = 0;
    while at < block.len() {
        let key = string_at(block, at)?;
        if key.is_empty() {
            return Err(PacketError::EmptyKey);
        }
        let value = string_at(block, key.end)?;
        if out.len() >= most {
            return Err(PacketError::TooManyVariables);
        }
        out.push((
            Span::new(base.saturating_add(key.start), base.saturating_add(key.end)),
            Span::new(base.saturating_add(value.start), base.saturating_add(value.end)),
        ));
        at = value.end;
    }
    Ok(())
}

/// The bytes of the string whose length stands at `at`.
fn string_at(block: &[u8], at: usize) -> Result<core::ops::Range<usize>, PacketError> {
    let Some(&[low, high]) = block.get(at..at + 2) else { return Err(PacketError::LengthBeyondEnd) };
    let start = at + 2;
    let end = start + usize::from(u16::from_le_bytes([low, high]));
    if end > block.len() {
        return Err(PacketError::LengthBeyondEnd);
    }
    Ok(start..end)
}

/// The value of `CONTENT_LENGTH`: decimal digits; nothing at all means 0 (nginx sends it empty).
pub fn content_length(value: &[u8]) -> Result<u64, PacketError> {
    if value.is_empty() {
        return Ok(0);
    }
    chars::decimal(value).ok_or(PacketError::BadContentLength)
}

/// The answer to a ping: a packet with the warning `message` (cut at what a packet holds) instead of variables.
pub fn ping_reply(message: &[u8]) -> Vec<u8> {
    let message = &message[..message.len().min(usize::from(u16::MAX))];
    let mut out = Vec::with_capacity(HEADER_BYTES + message.len());
    push_header(&mut out, PING, message.len(), 1);
    out.extend_from_slice(message);
    out
}

/// The answer to a packet that raises a signal: whether it was accepted.
pub fn signal_reply(accepted: bool) -> [u8; HEADER_BYTES] {
    [ANSWER, 0, 0, u8::from(accepted)]
}

/// A packet with these variables, as a client sends it. Strings beyond 65,535 bytes are cut; a variable for
/// which there is no room in the packet is left out, with all that follow.
pub fn encode(modifier1: u8, modifier2: u8, vars: &[(&[u8], &[u8])]) -> Vec<u8> {
    const MOST: usize = u16::MAX as usize;
    let mut out = alloc::vec![0; HEADER_BYTES];
    for (key, value) in vars {
        let key = &key[..key.len().min(MOST)];
        let value = &value[..value.len().min(MOST)];
        if out.len() - HEADER_BYTES + key.len() + value.len() + 4 > MOST {
            break;
        }
        push_string(&mut out, key);
        push_string(&mut out, value);
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    push_header(&mut header, modifier1, out.len() - HEADER_BYTES, modifier2);
    out[..HEADER_BYTES].copy_from_slice(&header);
    out
}

fn push_header(out: &mut Vec<u8>, modifier1: u8, size: usize, modifier2: u8) {
    out.push(modifier1);
    push_length(out, size);
    out.push(modifier2);
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    push_length(out, text.len());
    out.extend_from_slice(text);
}

/// `length` was cut by the caller.
fn push_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
}

/// Why a packet is refused. The connection is closed, without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketError {
    /// The length of a key or value runs past the end of the packet.
    LengthBeyondEnd,
    /// A key has no bytes.
    EmptyKey,
    /// More variables than allowed.
    TooManyVariables,
    /// `CONTENT_LENGTH` is no plain number.
    BadContentLength,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LengthBeyondEnd => "a length in the uwsgi packet runs past its end",
            Self::EmptyKey => "a variable of the uwsgi packet has an empty name",
            Self::TooManyVariables => "the uwsgi packet has more variables than allowed",
            Self::BadContentLength => "CONTENT_LENGTH of the uwsgi packet is not a decimal number",
        })
    }
}

impl core::error::Error for PacketError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

    /// The worked example of the protocol's description: `A=b`, modifier1 0.
    const EXAMPLE: &[u8] = &[0, 6, 0, 0, 1, 0, b'A', 1, 0, b'b'];

    fn vars(block: &[u8], max_slots: usize) -> Result<Pairs<'_>, PacketError> {
        let mut out = alloc::vec![(Span::EMPTY, Span::EMPTY)];
        let result = parse_vars(block, 0, max_slots, &mut out);
        if result.is_err() {
            assert!(out.is_empty(), "nothing of a refused packet is kept");
        }
        result.map(|()| out.iter().map(|(key, value)| (key.of(block), value.of(block))).collect())
    }

    #[test]
    fn header() {
        assert_eq!(parse_header(EXAMPLE), Some(PacketHeader { modifier1: 0, size: 6, modifier2: 0 }));
        assert_eq!(
            parse_header(&[7, 0x34, 0x12, 9]),
            Some(PacketHeader { modifier1: 7, size: 0x1234, modifier2: 9 })
        );
        for length in 0..4 {
            assert_eq!(parse_header(&EXAMPLE[..length]), None);
        }
    }

    #[test]
    fn worked_example_both_ways() {
        assert_eq!(vars(&EXAMPLE[4..], 2).unwrap(), [(&b"A"[..], &b"b"[..])]);
        assert_eq!(encode(0, 0, &[(b"A", b"b")]), EXAMPLE);
    }

    #[test]
    fn spans_count_from_the_base() {
        let mut out = Vec::new();
        parse_vars(&EXAMPLE[4..], 4, 10, &mut out).unwrap();
        assert_eq!((out[0].0.of(EXAMPLE), out[0].1.of(EXAMPLE)), (&b"A"[..], &b"b"[..]));
    }

    #[test]
    fn empty_block_and_empty_value() {
        assert_eq!(vars(b"", 0).unwrap(), []);
        assert_eq!(vars(b"\x01\0A\0\0", 2).unwrap(), [(&b"A"[..], &b""[..])]);
    }

    #[test]
    fn lengths_stay_inside_the_packet() {
        for bad in [&b"\x01"[..], b"\x02\0A", b"\x01\0A", b"\x01\0A\x01", b"\x01\0A\x02\0b", b"\xff\xffA\0\0"]
        {
            assert_eq!(vars(bad, 10), Err(PacketError::LengthBeyondEnd), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_not_empty() {
        assert_eq!(vars(b"\0\0\x01\0b", 10), Err(PacketError::EmptyKey));
    }

    #[test]
    fn slots_are_bounded() {
        let two = encode(0, 0, &[(b"A", b"b"), (b"C", b"d")]);
        assert_eq!(vars(&two[4..], 4).unwrap().len(), 2);
        assert_eq!(vars(&two[4..], 3), Err(PacketError::TooManyVariables));
    }

    #[test]
    fn content_length_is_strict() {
        assert_eq!(content_length(b""), Ok(0));
        assert_eq!(content_length(b"42"), Ok(42));
        for bad in [&b"5x"[..], b"+5", b"-5", b" 5", b"5,5", b"99999999999999999999"] {
            assert_eq!(content_length(bad), Err(PacketError::BadContentLength), "{bad:?}");
        }
    }

    #[test]
    fn ping_replies() {
        assert_eq!(ping_reply(b""), [100, 0, 0, 1]);
        assert_eq!(ping_reply(b"low"), [100, 3, 0, 1, b'l', b'o', b'w']);
        assert_eq!(ping_reply(&alloc::vec![b'x'; 70_000]).len(), 4 + 65_535);
    }

    /// As uWSGI answers.
    #[test]
    fn signal_replies() {
        assert_eq!(signal_reply(true), [255, 0, 0, 1]);
        assert_eq!(signal_reply(false), [255, 0, 0, 0]);
    }

    #[test]
    fn encode_leaves_out_what_does_not_fit() {
        let long = alloc::vec![b'x'; 40_000];
        let packet = encode(0, 0, &[(b"A", &long), (b"B", &long), (b"C", b"d")]);
        let size = usize::from(parse_header(&packet).unwrap().size);
        assert_eq!(size, packet.len() - HEADER_BYTES);
        assert_eq!(vars(&packet[4..], 10).unwrap(), [(&b"A"[..], &long[..])]);
    }

    proptest! {
        #[test]
        fn round_trip(
            modifiers in any::<(u8, u8)>(),
            pairs in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 0..50)), 0..20),
        ) {
            let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            let packet = encode(modifiers.0, modifiers.1, &pairs);
            let header = parse_header(&packet).unwrap();
            prop_assert_eq!((header.modifier1, header.modifier2), modifiers);
            prop_assert_eq!(usize::from(header.size), packet.len() - HEADER_BYTES);
            prop_assert_eq!(vars(&packet[4..], 40).unwrap(), pairs);
        }

        #[test]
        fn no_block_panics(block in prop::collection::vec(prop::sample::select(&[0_u8, 1, 2, 3, b'A', 255][..]), 0..40)) {
            if let Ok(found) = vars(&block, 10) {
                let bytes: usize = found.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
                prop_assert_eq!(bytes, block.len(), "every byte belongs to a variable");
            }
        }
    }
}
