//! Chunked request bodies (RFC 9112 §7.1), decoded in place.
//!
//! The decoder says which ranges of the input are body; nothing is copied and nothing is kept but a state of a
//! few words. Extensions and trailer fields are bounded and skipped. How many body bytes are too many, and
//! when to stop waiting, is the connection's business.
//!
//! ```text
//! Size -> Blank -> Extension -> SizeEnd -> Data -> DataReturn -> DataEnd -> Size ...
//!    \______\__________________/ |
//!                                 `-(size 0)-> Trailer -> TrailerName -> TrailerValue -> TrailerEnd -> Trailer
//!                                                 `-> LastEnd -> Done
//! ```

use core::fmt;
use core::ops::Range;

use super::chars;

/// Most digits of a chunk's size: what fits in 64 bits.
const SIZE_DIGITS: u8 = 16;
/// Most bytes between a chunk's size and the end of its line (RFC 9112 §7.1.1 asks for a bound).
const EXTENSION_BYTES: u16 = 1024;
/// Most bytes of the trailer section.
const TRAILER_BYTES: u16 = 8192;

/// Decodes one chunked body. Begin each body with a new value.
#[derive(Clone, Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// Size of the chunk while its digits are read, then what of it is still to come.
    remaining: u64,
    /// Digits, extension bytes or trailer bytes seen so far.
    seen: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// After a blank behind the size: only an extension may follow.
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    LastEnd,
    Done,
}

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// All input was consumed and the body goes on.
    NeedMore,
    /// These bytes of the input are body; never empty.
    Data(Range<usize>),
    /// The body is complete. What was not consumed belongs to the next request.
    End,
}

impl ChunkedDecoder {
    /// Looks at `input`, the bytes not consumed so far, and returns how many are consumed now and why it
    /// stopped. Call it again with the rest until it says `NeedMore` or `End`; after an error never again.
    /// After `End` it consumes nothing and says `End`.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), BodyError> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let here = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - at);
                    self.remaining -= here as u64;
                    if self.remaining == 0 {
                        self.state = State::DataReturn;
                    }
                    return Ok((at + here, ChunkEvent::Data(at..at + here)));
                }
                State::Done => break,
                _ => self.step(byte)?,
            }
            at += 1;
        }
        Ok((at, if self.state == State::Done { ChunkEvent::End } else { ChunkEvent::NeedMore }))
    }

    /// Bytes of the current chunk that have not arrived; for refusing a chunk that announces too much.
    pub fn remaining(&self) -> u64 {
        if self.state == State::Data { self.remaining } else { 0 }
    }

    /// Takes in one byte that is not body.
    fn step(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match (self.state, byte) {
            (State::Size, _) => return self.size(byte),
            (State::Blank, b' ' | b'\t') => self.count(EXTENSION_BYTES, State::Blank)?,
            (State::Blank, b';') => self.count(EXTENSION_BYTES, State::Extension)?,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, _) if !chars::has_control(&[byte]) => {
                self.count(EXTENSION_BYTES, State::Extension)?
            }
            (State::SizeEnd, b'\n') => {
                self.seen = 0;
                if self.remaining == 0 { State::Trailer } else { State::Data }
            }
            (State::Blank | State::Extension | State::SizeEnd, _) => return Err(BodyError::BadSizeLine),
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size,
            (State::DataReturn | State::DataEnd, _) => return Err(BodyError::BadChunkEnd),
            (State::Trailer, b'\r') => State::LastEnd,
            (State::LastEnd, b'\n') => State::Done,
            (State::Trailer | State::TrailerName, _) if chars::is(byte, chars::TOKEN) => {
                self.count(TRAILER_BYTES, State::TrailerName)?
            }
            (State::TrailerName, b':') => self.count(TRAILER_BYTES, State::TrailerValue)?,
            (State::TrailerValue, b'\r') => State::TrailerEnd,
            (State::TrailerValue, _) if !chars::has_control(&[byte]) => {
                self.count(TRAILER_BYTES, State::TrailerValue)?
            }
            (State::TrailerEnd, b'\n') => self.count(TRAILER_BYTES, State::Trailer)?,
            // `Data` and `Done` take no steps.
            (
                State::Trailer
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerEnd
                | State::LastEnd
                | State::Data
                | State::Done,
                _,
            ) => return Err(BodyError::BadTrailer),
        };
        Ok(())
    }

    fn size(&mut self, byte: u8) -> Result<(), BodyError> {
        if let Some(digit) = chars::hex_digit(byte) {
            if self.seen >= u16::from(SIZE_DIGITS) {
                return Err(BodyError::SizeTooLong);
            }
            self.seen += 1;
            self.remaining = self.remaining << 4 | u64::from(digit);
            return Ok(());
        }
        if self.seen == 0 {
            return Err(BodyError::BadSizeLine);
        }
        self.seen = 0;
        self.state = match byte {
            b'\r' => State::SizeEnd,
            b';' => State::Extension,
            // RFC 9112 §7.1.1 knows "bad" white space in front of an extension, not in front of the line's end.
            b' ' | b'\t' => State::Blank,
            _ => return Err(BodyError::BadSizeLine),
        };
        Ok(())
    }

    /// Counts a skipped byte and goes to `next`.
    fn count(&mut self, most: u16, next: State) -> Result<State, BodyError> {
        self.seen += 1;
        if self.seen <= most {
            return Ok(next);
        }
        Err(if most == TRAILER_BYTES { BodyError::TrailerTooLong } else { BodyError::ExtensionTooLong })
    }
}

/// Why a chunked body is refused. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// A size line is not hexadecimal digits, extensions, CR LF.
    BadSizeLine,
    /// A size has more than 16 digits.
    SizeTooLong,
    /// The extensions of one chunk exceed 1 KiB.
    ExtensionTooLong,
    /// A chunk's bytes are not followed by CR LF.
    BadChunkEnd,
    /// The trailer section is not field lines and an empty line.
    BadTrailer,
    /// The trailer section exceeds 8 KiB.
    TrailerTooLong,
}

impl BodyError {
    /// The status to answer with, when nothing was answered yet.
    pub fn status(&self) -> u16 {
        match self {
            Self::TrailerTooLong => 431,
            _ => 400,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadSizeLine => "a chunk does not begin with its size in hexadecimal digits and CR LF",
            Self::SizeTooLong => "the size of a chunk has more than 16 digits",
            Self::ExtensionTooLong => "the extensions of a chunk are longer than 1024 bytes",
            Self::BadChunkEnd => "a chunk is not followed by CR LF",
            Self::BadTrailer => "the trailer section of a chunked body is malformed",
            Self::TrailerTooLong => "the trailer section of a chunked body is longer than 8192 bytes",
        })
    }
}

impl core::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Body, bytes left over, and whether the end was seen; the input arrives in pieces of `step` bytes.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let mut decoder = ChunkedDecoder::default();
        let mut body = Vec::new();
        let mut done = 0;
        let mut arrived = 0;
        loop {
            let (used, event) = decoder.next(&input[done..arrived])?;
            let rest = &input[done..arrived];
            done += used;
            match event {
                ChunkEvent::Data(range) => body.extend_from_slice(&rest[range]),
                ChunkEvent::End => return Ok((body, input.len() - done, true)),
                ChunkEvent::NeedMore => {
                    assert_eq!(done, arrived, "all input is consumed before more is asked for");
                    if arrived == input.len() {
                        return Ok((body, 0, false));
                    }
                    arrived = (arrived + step).min(input.len());
                }
            }
        }
    }

    fn refused(input: &str) -> BodyError {
        let at_once = decode(input.as_bytes(), usize::MAX - input.len()).unwrap_err();
        assert_eq!(decode(input.as_bytes(), 1).unwrap_err(), at_once, "bytewise, {input:?}");
        at_once
    }

    fn accepted(input: &str) -> Vec<u8> {
        let (body, left, ended) = decode(input.as_bytes(), 1).unwrap();
        assert!(ended && left == 0, "{input:?}");
        body
    }

    #[test]
    fn rfc9112_7_1_chunks() {
        assert_eq!(accepted("0\r\n\r\n"), b"");
        assert_eq!(accepted("3\r\nabc\r\n0\r\n\r\n"), b"abc");
        assert_eq!(accepted("A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n"), b"01234567890123456789");
    }

    #[test]
    fn rfc9112_7_1_bytes_behind_the_end_stay() {
        assert_eq!(decode(b"1\r\na\r\n0\r\n\r\nGET /", 100).unwrap(), (b"a".to_vec(), 5, true));
    }

    #[test]
    fn rfc9112_7_1_sizes_are_hexadecimal_digits_only() {
        for bad in [
            "\r\n", " 3\r\n", "+3\r\n", "-3\r\n", "0x3\r\n", "g\r\n", "3 \r\n", "3\t\r\n", ";a\r\n",
            "3_0\r\n", "3,\r\n",
        ] {
            assert_eq!(refused(bad), BodyError::BadSizeLine, "{bad:?}");
        }
        assert_eq!(refused("00000000000000003\r\nabc\r\n"), BodyError::SizeTooLong);
        let mut decoder = ChunkedDecoder::default();
        assert_eq!(decoder.next(b"ffffffffffffffff\r\n").unwrap(), (18, ChunkEvent::NeedMore));
        assert_eq!(decoder.remaining(), u64::MAX);
        assert_eq!(decoder.next(b"abc").unwrap(), (3, ChunkEvent::Data(0..3)));
        assert_eq!(decoder.remaining(), u64::MAX - 3);
    }

    #[test]
    fn rfc9112_7_1_line_ends_are_cr_lf() {
        for bad in ["3\nabc", "3\rabc", "3;x\nabc", "3\r\r\nabc", "3;a\rb\r\n"] {
            assert_eq!(refused(bad), BodyError::BadSizeLine, "{bad:?}");
        }
        for bad in ["3\r\nabcd\r\n", "3\r\nabc\n0", "3\r\nabc\rx", "3\r\nabc0\r\n"] {
            assert_eq!(refused(bad), BodyError::BadChunkEnd, "{bad:?}");
        }
    }

    #[test]
    fn rfc9112_7_1_1_extensions_are_skipped_and_bounded() {
        assert_eq!(accepted("3;a=b;c=\"d e\"\r\nabc\r\n0;last\r\n\r\n"), b"abc");
        assert_eq!(accepted("3 \t;a\r\nabc\r\n0\r\n\r\n"), b"abc");
        assert_eq!(refused("3;a\0b\r\n"), BodyError::BadSizeLine);
        let long = |bytes| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(bytes));
        assert_eq!(accepted(&long(1024)), b"x");
        assert_eq!(refused(&long(1025)), BodyError::ExtensionTooLong);
        let blanks = format!("1{};a\r\n", " ".repeat(1025));
        assert_eq!(refused(&blanks), BodyError::ExtensionTooLong);
    }

    #[test]
    fn rfc9112_7_1_2_trailers_are_skipped_and_bounded() {
        assert_eq!(accepted("1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n"), b"x");
        for bad in [
            "0\r\nA b\r\n\r\n",
            "0\r\n: b\r\n",
            "0\r\n b\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: \0\r\n",
            "0\r\n\rx",
            "0\r\n\n",
            "0\r\nA: b\rc",
        ] {
            assert_eq!(refused(bad), BodyError::BadTrailer, "{bad:?}");
        }
        let long = |bytes| format!("0\r\nA:{}\r\n\r\n", "a".repeat(bytes));
        assert_eq!(accepted(&long(8192 - 3)), b"");
        assert_eq!(refused(&long(8192)), BodyError::TrailerTooLong);
        let many = format!("0\r\n{}", "A:b\r\n".repeat(3000));
        assert_eq!(refused(&many), BodyError::TrailerTooLong);
    }

    #[test]
    fn after_the_end_nothing_is_consumed() {
        let mut decoder = ChunkedDecoder::default();
        assert_eq!(decoder.next(b"0\r\n\r\nxyz").unwrap(), (5, ChunkEvent::End));
        assert_eq!(decoder.next(b"xyz").unwrap(), (0, ChunkEvent::End));
        assert_eq!(decoder.next(b"").unwrap(), (0, ChunkEvent::End));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            tail in prop::collection::vec(any::<u8>(), 0..10),
            step in 1_usize..20,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                crate::http1::response::chunk_header(&mut wire, chunk.len());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(crate::http1::response::CHUNK_END);
            }
            wire.extend_from_slice(crate::http1::response::LAST_CHUNK);
            let length = wire.len();
            wire.extend_from_slice(&tail);
            let expected = chunks.concat();
            prop_assert_eq!(decode(&wire, usize::MAX - wire.len()).unwrap(), (expected.clone(), tail.len(), true));
            let (body, _, ended) = decode(&wire[..length], step).unwrap();
            prop_assert_eq!((body, ended), (expected, true));
        }

        #[test]
        fn no_bytes_panic_and_splits_agree(
            input in prop::collection::vec(prop::sample::select(&b"012aF;= \t\r\n:x\0\xff"[..]), 0..60),
            step in 1_usize..8,
        ) {
            prop_assert_eq!(
                decode(&input, step).map(|(body, _, ended)| (body, ended)),
                decode(&input, usize::MAX - input.len()).map(|(body, _, ended)| (body, ended))
            );
        }
    }
}
