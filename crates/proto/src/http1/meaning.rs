//! What the fields of a head mean together: framing, host, persistence, expectations.
//!
//! The head parser shows each field once; when the head is complete, `conclude` decides. Nothing here looks at
//! bytes that the head parser has not yet accepted.

use super::chars;
use super::head::{Framing, Head, HeadError, Version};
use super::target;

/// What was learned from the fields seen so far.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one request, not a state")]
pub(super) struct Meaning {
    length: Option<u64>,
    codings: Codings,
    /// Index of the `Host` field.
    host: Option<usize>,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade_field: bool,
    expectation: Expectation,
    /// One bit per hash of a name: a filter without false negatives in front of the exact comparison.
    names: [u64; 4],
}

/// The transfer codings of all `Transfer-Encoding` fields in a row (RFC 9112 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Codings {
    #[default]
    Absent,
    /// Nothing but `chunked`.
    Chunked,
    /// Others, so far without `chunked`.
    Others,
    /// Others, and `chunked` last.
    OthersThenChunked,
    /// `chunked` before the end or twice, an empty element, parameters, or no token.
    Broken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expectation {
    #[default]
    Absent,
    Continue,
    Unknown,
}

impl Meaning {
    /// Notes a name by its hash; true when it may have been there before.
    #[inline]
    pub(super) fn may_repeat(&mut self, hash: u32) -> bool {
        let word = &mut self.names[(hash >> 6) as usize & 3];
        let bit = 1 << (hash & 63);
        let seen = *word & bit != 0;
        *word |= bit;
        seen
    }

    /// Takes in one field that will get the place `index`.
    #[inline]
    pub(super) fn field(&mut self, name: &[u8], value: &[u8], index: usize) -> Result<(), HeadError> {
        // The length of a name decides nearly always that it is none of ours.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"Host") => self.take_host(value, index),
            6 if name.eq_ignore_ascii_case(b"Expect") => {
                self.take_expectation(value);
                Ok(())
            }
            7 if name.eq_ignore_ascii_case(b"Upgrade") => {
                self.upgrade_field = true;
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"Connection") => {
                self.take_connection(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"Content-Length") => self.take_length(value),
            17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => {
                self.take_codings(value);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Decides what the complete head means and writes it there.
    pub(super) fn conclude(&self, head: &mut Head) -> Result<(), HeadError> {
        let is_11 = head.version == Version::Http11;
        head.framing = self.framing(is_11)?;
        match self.host.and_then(|index| head.fields.get_mut(index)) {
            // RFC 9112 §3.2.2: the authority of the target replaces the field.
            Some(field) if !head.host.is_empty() => field.value = head.host,
            Some(field) => head.host = field.value,
            None if is_11 => return Err(HeadError::MissingHost),
            None => {}
        }
        // RFC 9112 §9.3.
        head.keep_alive = !self.close && (is_11 || self.keep_alive);
        // RFC 9110 §7.8 and §10.1.1: both are to be ignored in HTTP/1.0.
        head.upgrade = is_11 && self.upgrade_option && self.upgrade_field;
        if is_11 {
            match self.expectation {
                Expectation::Absent => {}
                Expectation::Continue => {
                    head.expect_continue = !matches!(head.framing, Framing::None | Framing::Length(0));
                }
                Expectation::Unknown => return Err(HeadError::UnknownExpectation),
            }
        }
        Ok(())
    }

    /// RFC 9112 §6.1, §6.3: whatever two readers could understand in two ways is refused.
    fn framing(&self, is_11: bool) -> Result<Framing, HeadError> {
        match (self.codings, self.length) {
            (Codings::Absent, None) => Ok(Framing::None),
            (Codings::Absent, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(HeadError::LengthAndCoding),
            (_, None) if !is_11 => Err(HeadError::BadTransferEncoding),
            (Codings::Chunked, None) => Ok(Framing::Chunked),
            (Codings::OthersThenChunked, None) => Err(HeadError::CodingNotImplemented),
            (Codings::Others | Codings::Broken, None) => Err(HeadError::BadTransferEncoding),
        }
    }

    fn take_host(&mut self, value: &[u8], index: usize) -> Result<(), HeadError> {
        if self.host.is_some() {
            return Err(HeadError::RepeatedHost);
        }
        if !target::is_host(value) {
            return Err(HeadError::BadHost);
        }
        self.host = Some(index);
        Ok(())
    }

    /// Equal repeated lengths would be allowed (RFC 9110 §8.6), but nobody honest sends them, and they would
    /// reach the application as `5, 5`.
    fn take_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.length.is_some() {
            return Err(HeadError::RepeatedContentLength);
        }
        self.length = Some(chars::decimal(value).ok_or(HeadError::BadContentLength)?);
        Ok(())
    }

    fn take_codings(&mut self, value: &[u8]) {
        for coding in value.split(|&byte| byte == b',').map(chars::trim) {
            self.codings = match (self.codings, coding.eq_ignore_ascii_case(b"chunked")) {
                (Codings::Absent, true) => Codings::Chunked,
                (Codings::Others, true) => Codings::OthersThenChunked,
                (Codings::Absent | Codings::Others, false) if chars::all(coding, chars::TOKEN) => {
                    Codings::Others
                }
                _ => Codings::Broken,
            };
        }
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(chars::trim) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn take_expectation(&mut self, value: &[u8]) {
        self.expectation =
            if self.expectation == Expectation::Absent && value.eq_ignore_ascii_case(b"100-continue") {
                Expectation::Continue
            } else {
                Expectation::Unknown
            };
    }
}
