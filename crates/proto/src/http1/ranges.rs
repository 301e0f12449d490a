//! Parts of a representation: `Range`, `Content-Range` and multipart/byteranges (RFC 9110 §14).
//!
//! A set of ranges asks for work that its sender pays little for. So few are served, and sets that overlap or add
//! up to more than the whole are answered with the whole, as RFC 9110 §14.2 and §17.15 allow. Whether a range
//! counts at all is decided in `conditional.rs`; sending the bytes is the caller's business.

use alloc::vec::Vec;

use super::chars::trim;
use crate::text::push_decimal;

/// Most ranges of one request that are served; with more it gets the whole.
pub const MAX_RANGES: usize = 16;
/// Most pairs of ranges that overlap. RFC 9110 §14.2 calls more than two overlapping ranges a sign of a broken
/// client or of an attack.
const MAX_OVERLAPS: usize = 2;

/// The only unit there is (RFC 9110 §14.1.2).
const UNIT: &[u8] = b"bytes";

/// Bytes of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, not of the one behind it; less than the length of the representation.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes; there is at least one.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// How a request with `Range` is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// 200 with everything, as if there were no `Range`.
    Whole,
    /// 206 with these ranges: one as the body, several as multipart/byteranges.
    Ranges,
    /// 416: no range has a byte of the representation. Goes with [`push_unsatisfied`].
    Unsatisfiable,
}

/// Reads `value` of a `Range` field (RFC 9110 §14.2) against a representation of `length` bytes. The ranges to send
/// are put into `out`, in the order asked for, at most [`MAX_RANGES`] of them with at most `length` bytes together;
/// each that continues or overlaps the one before is joined with it. `out` is cleared first and stays empty unless
/// the answer is [`Wanted::Ranges`].
///
/// Other units, malformed and abusive sets are ignored, and so is any set when there is no byte to send.
pub fn parse_ranges(value: &[u8], length: u64, out: &mut Vec<ByteRange>) -> Wanted {
    out.clear();
    let wanted = read_set(value, length, out);
    if wanted != Wanted::Ranges {
        out.clear();
    }
    wanted
}

fn read_set(value: &[u8], length: u64, out: &mut Vec<ByteRange>) -> Wanted {
    // RFC 9110 §14.1: names of units are case-insensitive.
    let set = match value.split_at_checked(UNIT.len()) {
        Some((unit, [b'=', set @ ..])) if unit.eq_ignore_ascii_case(UNIT) => set,
        _ => return Wanted::Whole,
    };
    let mut is_empty = true;
    for text in set.split(|&byte| byte == b',').map(trim).filter(|text| !text.is_empty()) {
        is_empty = false;
        let Some(spec) = Spec::read(text) else { return Wanted::Whole };
        if let Some(range) = spec.of(length) {
            if out.len() == MAX_RANGES {
                return Wanted::Whole;
            }
            out.push(range);
        }
    }
    if is_empty || length == 0 {
        return Wanted::Whole;
    }
    if out.is_empty() {
        return Wanted::Unsatisfiable;
    }
    if overlaps(out) > MAX_OVERLAPS {
        return Wanted::Whole;
    }
    out.dedup_by(|next, kept| {
        let continues = kept.first <= next.first && next.first <= kept.last.saturating_add(1);
        if continues {
            kept.last = kept.last.max(next.last);
        }
        continues
    });
    let sum = out.iter().try_fold(0_u64, |sum, range| sum.checked_add(range.len()));
    if sum.is_none_or(|sum| sum > length) { Wanted::Whole } else { Wanted::Ranges }
}

/// How many pairs of `ranges` overlap.
fn overlaps(ranges: &[ByteRange]) -> usize {
    let mut count = 0;
    for (index, range) in ranges.iter().enumerate() {
        count += ranges[..index].iter().filter(|other| other.overlaps(*range)).count();
    }
    count
}

/// A range as the client gives it (RFC 9110 §14.1.2). Numbers beyond 64 bits are as large as possible: no
/// representation reaches there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// `first-last`, or `first-` with the largest possible last.
    From(u64, u64),
    /// `-length`.
    Suffix(u64),
}

impl Spec {
    /// `None` also when the last byte precedes the first (RFC 9110 §14.1.1).
    fn read(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        match (&text[..dash], &text[dash + 1..]) {
            ([], length) => Some(Self::Suffix(saturating_decimal(length)?)),
            (first, []) => Some(Self::From(saturating_decimal(first)?, u64::MAX)),
            (first, last) => {
                let (first, last) = (saturating_decimal(first)?, saturating_decimal(last)?);
                (first <= last).then_some(Self::From(first, last))
            }
        }
    }

    /// The bytes a representation of `length` has of it; `None` when it has none.
    fn of(self, length: u64) -> Option<ByteRange> {
        let end = length.checked_sub(1)?;
        match self {
            Self::Suffix(0) => None,
            Self::Suffix(count) => Some(ByteRange { first: length.saturating_sub(count), last: end }),
            Self::From(first, _) if first > end => None,
            Self::From(first, last) => Some(ByteRange { first, last: last.min(end) }),
        }
    }
}

/// A number of one digit or more, the largest possible when it exceeds 64 bits.
fn saturating_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, &digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(text.iter().fold(0, add))
}

/// Appends the value of `Content-Range` for a range of a representation of `length` bytes, such as `bytes 0-9/100`
/// (RFC 9110 §14.4).
pub fn push_content_range(out: &mut Vec<u8>, range: ByteRange, length: u64) {
    out.extend_from_slice(b"bytes ");
    push_decimal(out, range.first);
    out.push(b'-');
    push_decimal(out, range.last);
    out.push(b'/');
    push_decimal(out, length);
}

/// Appends the value of `Content-Range` in a 416, such as `bytes */100` (RFC 9110 §14.4).
pub fn push_unsatisfied(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"bytes */");
    push_decimal(out, length);
}

/// Appends what precedes the bytes of one range in multipart/byteranges (RFC 9110 §14.6, RFC 2046 §5.1.1): the
/// delimiter and the part's fields. `boundary` must not occur in any range and is a token; `content_type` is that of
/// the whole representation, `None` when it is not known.
pub fn push_part_head(
    out: &mut Vec<u8>,
    boundary: &[u8],
    content_type: Option<&[u8]>,
    range: ByteRange,
    length: u64,
    is_first: bool,
) {
    if !is_first {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"--");
    out.extend_from_slice(boundary);
    out.extend_from_slice(b"\r\n");
    if let Some(content_type) = content_type {
        out.extend_from_slice(CONTENT_TYPE);
        out.extend_from_slice(content_type);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(CONTENT_RANGE);
    push_content_range(out, range, length);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends what follows the bytes of the last range (RFC 2046 §5.1.1).
pub fn push_parts_end(out: &mut Vec<u8>, boundary: &[u8]) {
    out.extend_from_slice(b"\r\n--");
    out.extend_from_slice(boundary);
    out.extend_from_slice(b"--\r\n");
}

const CONTENT_TYPE: &[u8] = b"Content-Type: ";
const CONTENT_RANGE: &[u8] = b"Content-Range: ";

/// Bytes of the whole body: what [`push_part_head`] writes for each range, the bytes of the ranges, and what
/// [`push_parts_end`] writes.
pub fn multipart_length(
    boundary: &[u8],
    content_type: Option<&[u8]>,
    ranges: &[ByteRange],
    length: u64,
) -> u64 {
    let add = u64::saturating_add;
    let delimiter = add(boundary.len() as u64, 4);
    let type_line = content_type.map_or(0, |text| add((CONTENT_TYPE.len() + 2) as u64, text.len() as u64));
    let fixed = (CONTENT_RANGE.len() + "bytes -/".len() + 4) as u64 + digits(length);
    let each = add(add(delimiter, type_line), fixed);
    // The first delimiter has no line end in front; in its place, the last one has two dashes and a line end behind.
    let ends = add(delimiter, 4);
    ranges.iter().enumerate().fold(ends, |sum, (index, range)| {
        let line_end = if index > 0 { 2 } else { 0 };
        let head = add(each, line_end + digits(range.first) + digits(range.last));
        add(add(sum, head), range.len())
    })
}

/// How many digits `number` has in decimal.
fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    use super::*;

    const WHOLE: Result<Vec<(u64, u64)>, Wanted> = Err(Wanted::Whole);
    const UNSATISFIABLE: Result<Vec<(u64, u64)>, Wanted> = Err(Wanted::Unsatisfiable);

    fn of(value: &str, length: u64) -> Result<Vec<(u64, u64)>, Wanted> {
        let mut out = vec![ByteRange { first: 7, last: 7 }];
        match parse_ranges(value.as_bytes(), length, &mut out) {
            Wanted::Ranges => Ok(out.iter().map(|range| (range.first, range.last)).collect()),
            other => {
                assert!(out.is_empty());
                Err(other)
            }
        }
    }

    #[test]
    fn rfc9110_14_1_2_byte_ranges() {
        assert_eq!(of("bytes=0-499", 10_000), Ok(vec![(0, 499)]));
        assert_eq!(of("bytes=500-999", 10_000), Ok(vec![(500, 999)]));
        assert_eq!(of("bytes=-500", 10_000), Ok(vec![(9500, 9999)]));
        assert_eq!(of("bytes=9500-", 10_000), Ok(vec![(9500, 9999)]));
        assert_eq!(of("bytes=0-0,-1", 10_000), Ok(vec![(0, 0), (9999, 9999)]));
        assert_eq!(
            of("bytes= 0-999, 4500-5499, -1000", 10_000),
            Ok(vec![(0, 999), (4500, 5499), (9000, 9999)])
        );
        assert_eq!(of("bytes=0-", 1), Ok(vec![(0, 0)]));
        assert_eq!(of("bytes=9-5000", 10), Ok(vec![(9, 9)]), "cut at the end");
        assert_eq!(of("bytes=-5000", 10), Ok(vec![(0, 9)]), "a suffix longer than the whole");
        assert_eq!(of("BYTES=007-08", 10), Ok(vec![(7, 8)]));
    }

    #[test]
    fn rfc9110_14_1_2_unsatisfiable() {
        assert_eq!(of("bytes=10-", 10), UNSATISFIABLE);
        assert_eq!(of("bytes=10-20, 30-40", 10), UNSATISFIABLE);
        assert_eq!(of("bytes=-0", 10), UNSATISFIABLE);
        assert_eq!(of("bytes=-0, 10-, 3-4", 10), Ok(vec![(3, 4)]), "one is enough");
    }

    #[test]
    fn rfc9110_14_2_nothing_to_send_a_part_of() {
        for value in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-"] {
            assert_eq!(of(value, 0), WHOLE, "{value}");
        }
    }

    #[test]
    fn rfc9110_14_1_1_malformed_sets_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes= , ,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=0-1,5-4",
            "bytes=0-1 2-3",
            "bytes=0 - 1",
            "bytes=0-1-2",
            "bytes=--1",
            "bytes=+0-1",
            "bytes=0x0-1",
            "bytes=1",
            "bytes=0-1;2-3",
            "bytes =0-1",
            " bytes=0-1",
            "bytes:0-1",
            "byte=0-1",
            "items=0-1",
            "seconds=1-2",
            "bytesx=0-1",
            "bytes=0-1\u{e9}",
        ] {
            assert_eq!(of(value, 10), WHOLE, "{value}");
        }
    }

    #[test]
    fn rfc9110_5_6_1_lists() {
        assert_eq!(of("bytes=,0-1\t ,, \t4-5,", 10), Ok(vec![(0, 1), (4, 5)]));
    }

    #[test]
    fn numbers_beyond_64_bits() {
        let large = "99999999999999999999999999999999";
        assert_eq!(of(&format!("bytes=0-{large}"), 10), Ok(vec![(0, 9)]));
        assert_eq!(of(&format!("bytes={large}-"), 10), UNSATISFIABLE);
        assert_eq!(of(&format!("bytes={large}-{large}"), u64::MAX), UNSATISFIABLE);
        assert_eq!(of(&format!("bytes={large}-5"), 10), WHOLE);
        assert_eq!(of(&format!("bytes=-{large}"), 10), Ok(vec![(0, 9)]));
        assert_eq!(of(&format!("bytes=-1,-{large}"), u64::MAX), WHOLE, "their sum");
        assert_eq!(of("bytes=0-", u64::MAX), Ok(vec![(0, u64::MAX - 1)]));
        assert_eq!(of("bytes=18446744073709551615-", u64::MAX), UNSATISFIABLE);
        assert_eq!(of("bytes=18446744073709551614-", u64::MAX), Ok(vec![(u64::MAX - 1, u64::MAX - 1)]));
    }

    #[test]
    fn rfc9110_17_15_too_many_ranges() {
        let set = |count: u64| (0..count).map(|at| format!("{0}-{0}", at * 2)).collect::<Vec<_>>().join(",");
        assert_eq!(of(&format!("bytes={}", set(16)), 100).map(|ranges| ranges.len()), Ok(16));
        assert_eq!(of(&format!("bytes={}", set(17)), 100), WHOLE);
        assert_eq!(
            of(&format!("bytes={}", set(60)), 32).map(|ranges| ranges.len()),
            Ok(16),
            "those that count"
        );
    }

    #[test]
    fn rfc9110_17_15_overlaps() {
        assert_eq!(of("bytes=5-7,0-5", 100), Ok(vec![(5, 7), (0, 5)]), "one overlap");
        assert_eq!(of("bytes=10-20,5-10,0-5", 100), Ok(vec![(10, 20), (5, 10), (0, 5)]), "two");
        assert_eq!(of("bytes=15-20,10-15,5-10,0-5", 100), WHOLE, "three");
        assert_eq!(of("bytes=0-,0-,0-", 100), WHOLE);
        assert_eq!(of("bytes=50-,0-60", 100), WHOLE, "more bytes than there are");
    }

    #[test]
    fn rfc9110_15_3_7_2_ranges_that_continue_are_joined() {
        assert_eq!(of("bytes=0-4,5-9", 100), Ok(vec![(0, 9)]));
        assert_eq!(of("bytes=0-4,2-3,6-7", 100), Ok(vec![(0, 4), (6, 7)]));
        assert_eq!(of("bytes=0-59,50-99", 100), Ok(vec![(0, 99)]), "joined before they are added up");
        assert_eq!(of("bytes=5-9,0-4", 100), Ok(vec![(5, 9), (0, 4)]), "the order asked for stays");
        assert_eq!(of("bytes=1-2,3-4,0-0,5-5", 100), Ok(vec![(1, 4), (0, 0), (5, 5)]));
    }

    #[test]
    fn rfc9110_14_4_content_range() {
        let mut out = Vec::new();
        push_content_range(&mut out, ByteRange { first: 0, last: 9 }, 100);
        out.push(b' ');
        push_unsatisfied(&mut out, 100);
        assert_eq!(out, b"bytes 0-9/100 bytes */100");
    }

    #[test]
    fn rfc9110_14_6_multipart_byteranges() {
        let (boundary, content_type) = (&b"SEPARATOR"[..], Some(&b"text/plain"[..]));
        let ranges = [ByteRange { first: 0, last: 1 }, ByteRange { first: 7, last: 9 }];
        let mut out = Vec::new();
        push_part_head(&mut out, boundary, content_type, ranges[0], 10, true);
        out.extend_from_slice(b"ab");
        push_part_head(&mut out, boundary, content_type, ranges[1], 10, false);
        out.extend_from_slice(b"hij");
        push_parts_end(&mut out, boundary);
        let expected = "--SEPARATOR\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\nab\r\n\
            --SEPARATOR\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\nhij\r\n--SEPARATOR--\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(multipart_length(boundary, content_type, &ranges, 10), expected.len() as u64);
    }
}
