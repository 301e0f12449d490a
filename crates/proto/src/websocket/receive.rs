//! Frames of a client (RFC 6455 §5): bytes in any pieces, whole messages out.
//!
//! ```text
//!            header complete                payload complete
//!   Header ------------------> Payload ---------------------> Header    message, ping, pong, or a fragment more
//!                                      \--(close frame)-----> Closed    what follows means nothing
//!   any error --------------------------------------------> Closed
//! ```
//!
//! Memory follows what has arrived, never what is announced, and goes away with the message; fragments leave no trace
//! but their bytes. Text is checked as it comes, so that the first wrong byte ends it.

use alloc::vec::Vec;
use core::str;

use super::inflate::Inflater;
use super::mask::unmask;
use super::{CONTROL_BYTES, Deflate, Failure, Kind, Opcode, code};

/// Most bytes of a client's header: two, eight of length, four of mask.
const HEADER_BYTES: usize = 14;
/// Compressed bytes are unmasked in pieces of this size.
const PIECE_BYTES: usize = 1024;
/// The smallest buffer of a message that is not complete.
const LEAST_CAPACITY: usize = 128;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// All input was consumed.
    NeedMore,
    /// A whole message, of however many fragments.
    Message(Message),
    /// A ping: a pong with the same payload is due, of the latest one at least (RFC 6455 §5.5.3).
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The client says good-bye: no event follows.
    Close {
        /// Its reason as a number, one that may be sent.
        code: Option<u16>,
        /// Its reason in words.
        reason: &'a str,
    },
}

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its bytes; UTF-8 if it is text.
    pub payload: Vec<u8>,
}

/// Decodes what one client sends.
#[derive(Debug)]
pub struct Receiver {
    /// Most bytes of a message, fragments joined, decompressed.
    most: usize,
    state: State,
    /// The message of which fragments have come.
    partial: Option<Partial>,
    /// With permessage-deflate.
    inflater: Option<Inflater>,
    /// Bytes of a header that is not complete.
    header_len: u8,
    header: [u8; HEADER_BYTES],
    /// The payload of a control frame: it comes between the fragments of a message.
    control_len: u8,
    control: [u8; CONTROL_BYTES],
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header,
    Payload(Frame),
    /// After a close frame or a failure.
    Closed,
}

/// A frame whose header was read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    is_final: bool,
    is_compressed: bool,
    /// Turned so that it fits the next byte.
    mask: [u8; 4],
    /// Bytes of payload that have not come.
    left: u64,
}

/// A message in the making.
#[derive(Debug)]
struct Partial {
    kind: Kind,
    is_compressed: bool,
    /// From here on `bytes` is the message; in front of it is what a compressed one may look back to.
    start: usize,
    bytes: Vec<u8>,
    /// Up to here text is UTF-8; at most three bytes of a character behind it have come.
    checked: usize,
}

/// What the end of a frame means.
#[derive(Debug)]
enum Ended {
    Fragment,
    Message(Message),
    Ping,
    Pong,
    Close(Option<u16>),
}

impl Receiver {
    /// A receiver for messages of at most `message_bytes`, fragments joined and decompressed, with the extension that
    /// the handshake has agreed on.
    pub fn new(message_bytes: usize, deflate: Option<Deflate>) -> Self {
        Self {
            most: message_bytes.min(isize::MAX as usize / 2),
            state: State::Header,
            partial: None,
            inflater: deflate.map(Inflater::new),
            header_len: 0,
            header: [0; HEADER_BYTES],
            control_len: 0,
            control: [0; CONTROL_BYTES],
        }
    }

    /// Looks at `input`, the bytes not consumed so far, and returns how many are consumed now and what they came to.
    /// Call it again with the rest until it says [`Event::NeedMore`]. Behind a close frame or an error everything is
    /// consumed and means nothing, as RFC 6455 §1.4 wants it.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, Event<'_>), Failure> {
        let mut at = 0;
        let ended = loop {
            match self.advance(input, &mut at) {
                Ok(Some(Ended::Fragment)) => {}
                Ok(Some(ended)) => break ended,
                Ok(None) => return Ok((input.len(), Event::NeedMore)),
                Err(failure) => {
                    self.abandon();
                    return Err(failure);
                }
            }
        };
        let control = &self.control[..usize::from(self.control_len)];
        let event = match ended {
            Ended::Message(message) => Event::Message(message),
            Ended::Ping => Event::Ping(control),
            Ended::Pong => Event::Pong(control),
            Ended::Close(code) => {
                let reason = str::from_utf8(control.get(2..).unwrap_or_default()).unwrap_or_default();
                Event::Close { code, reason }
            }
            Ended::Fragment => Event::NeedMore,
        };
        Ok((at, event))
    }

    /// Whether nothing of a frame or message is waiting for its rest.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Header) && self.header_len == 0 && self.partial.is_none()
    }

    /// Bytes on the heap: a message that is not complete, and what decompression keeps.
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.bytes.capacity())
            + self.inflater.as_ref().map_or(0, Inflater::heap_bytes)
    }

    /// One header or one piece of payload; `None` when the input is at its end.
    fn advance(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Ended>, Failure> {
        if matches!(self.state, State::Header) {
            let Some(frame) = self.take_header(input, at)? else { return Ok(None) };
            self.begin(frame);
            self.state = State::Payload(frame);
        }
        let State::Payload(mut frame) = self.state else { return Ok(None) };
        let here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(input.len() - *at);
        let piece = &input[*at..*at + here];
        *at += here;
        if !piece.is_empty() {
            self.take_payload(&mut frame, piece)?;
        }
        if frame.left > 0 {
            self.state = State::Payload(frame);
            return Ok(None);
        }
        self.state = State::Header;
        self.end(frame).map(Some)
    }

    /// Reads a header, right from the input where all of it is there.
    fn take_header(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Frame>, Failure> {
        let rest = &input[*at..];
        if self.header_len == 0
            && let Some((frame, used)) = self.judge_header(rest)?
        {
            *at += used;
            return Ok(Some(frame));
        }
        for &byte in rest {
            *at += 1;
            self.header[usize::from(self.header_len)] = byte;
            self.header_len += 1;
            // Never full without being complete: the length says where the mask ends.
            if let Some((frame, _)) = self.judge_header(&self.header[..usize::from(self.header_len)])? {
                self.header_len = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Judges a header as far as it has come (RFC 6455 §5.2); `None` when there is nothing wrong yet, otherwise the
    /// frame and the bytes of its header. What is wrong with a beginning stays wrong.
    fn judge_header(&self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, Failure> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        let opcode =
            Opcode::from_number(first & 0x0f).ok_or(Failure::protocol("a frame has a reserved opcode"))?;
        let is_final = first & 0x80 != 0;
        let is_compressed = first & 0x40 != 0;
        let starts_message = matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & 0x30 != 0 || is_compressed && !(starts_message && self.inflater.is_some()) {
            return Err(Failure::protocol("a frame has a reserved bit"));
        }
        if second & 0x80 == 0 {
            return Err(Failure::protocol("a frame of a client is not masked"));
        }
        let short = second & 0x7f;
        if opcode.is_control() {
            if !is_final {
                return Err(Failure::protocol("a control frame is fragmented"));
            }
            if usize::from(short) > CONTROL_BYTES {
                return Err(Failure::protocol("a control frame is longer than 125 bytes"));
            }
        } else if starts_message && self.partial.is_some() {
            return Err(Failure::protocol("a message begins inside another"));
        } else if opcode == Opcode::Continuation && self.partial.is_none() {
            return Err(Failure::protocol("a continuation continues nothing"));
        }
        let Some((left, at)) = length(short, &bytes[2..])? else { return Ok(None) };
        self.judge_length(opcode, is_compressed, left)?;
        let Some(&mask) = bytes[2 + at..].first_chunk::<4>() else { return Ok(None) };
        Ok(Some((Frame { opcode, is_final, is_compressed, mask, left }, 2 + at + 4)))
    }

    /// Refuses a frame with which the message would become too large, before anything of it is kept.
    fn judge_length(&self, opcode: Opcode, is_compressed: bool, left: u64) -> Result<(), Failure> {
        if opcode.is_control() {
            return Ok(());
        }
        let is_too_large = match (&self.partial, &self.inflater) {
            (Some(Partial { is_compressed: true, .. }), Some(inflater)) => inflater.exceeds(left, self.most),
            (None, Some(inflater)) if is_compressed => inflater.exceeds(left, self.most),
            (Some(partial), _) => left > (self.most - partial.bytes.len()) as u64,
            (None, _) => left > self.most as u64,
        };
        if is_too_large { Err(Failure::TOO_LARGE) } else { Ok(()) }
    }

    fn begin(&mut self, frame: Frame) {
        let kind = match frame.opcode {
            Opcode::Text => Kind::Text,
            Opcode::Binary => Kind::Binary,
            Opcode::Continuation => return,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.control_len = 0;
                return;
            }
        };
        let bytes = match &mut self.inflater {
            Some(inflater) if frame.is_compressed => inflater.begin(),
            _ => Vec::new(),
        };
        let start = bytes.len();
        self.partial =
            Some(Partial { kind, is_compressed: frame.is_compressed, start, bytes, checked: start });
    }

    /// Takes a piece of a frame's payload.
    fn take_payload(&mut self, frame: &mut Frame, piece: &[u8]) -> Result<(), Failure> {
        if frame.opcode.is_control() {
            frame.left -= piece.len() as u64;
            let end = usize::from(self.control_len) + piece.len();
            let place = &mut self.control[usize::from(self.control_len)..end];
            place.copy_from_slice(piece);
            unmask(place, &mut frame.mask);
            // A control frame is short: its header was judged.
            self.control_len = u8::try_from(end).unwrap_or_default();
            return Ok(());
        }
        let Some(partial) = &mut self.partial else { return Ok(()) };
        if let Some(inflater) = self.inflater.as_mut().filter(|_| partial.is_compressed) {
            let mut scratch = [0; PIECE_BYTES];
            for part in piece.chunks(PIECE_BYTES) {
                let plain = &mut scratch[..part.len()];
                plain.copy_from_slice(part);
                unmask(plain, &mut frame.mask);
                let inflated = inflater.push(plain, &mut partial.bytes, partial.start, self.most);
                // What comes first is what is wrong, whatever the pieces.
                partial.check_text()?;
                inflated?;
            }
            frame.left -= piece.len() as u64;
            return Ok(());
        }
        let from = partial.bytes.len();
        // With the last frame the size of the message is known. The header was judged: it is allowed.
        let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let most = if frame.is_final { from + left } else { self.most };
        reserve(&mut partial.bytes, piece.len(), most);
        partial.bytes.extend_from_slice(piece);
        unmask(&mut partial.bytes[from..], &mut frame.mask);
        frame.left -= piece.len() as u64;
        partial.check_text()
    }

    fn end(&mut self, frame: Frame) -> Result<Ended, Failure> {
        match frame.opcode {
            Opcode::Ping => Ok(Ended::Ping),
            Opcode::Pong => Ok(Ended::Pong),
            Opcode::Close => {
                let code = close_code(&self.control[..usize::from(self.control_len)])?;
                self.abandon();
                Ok(Ended::Close(code))
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation if frame.is_final => self.end_message(),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => Ok(Ended::Fragment),
        }
    }

    fn end_message(&mut self) -> Result<Ended, Failure> {
        let Some(partial) = self.partial.take() else { return Ok(Ended::Fragment) };
        if partial.kind == Kind::Text && partial.checked != partial.bytes.len() {
            return Err(NOT_UTF8);
        }
        let payload = match &mut self.inflater {
            Some(inflater) if partial.is_compressed => {
                inflater.finish(partial.bytes, partial.start, self.most)?
            }
            _ => partial.bytes,
        };
        Ok(Ended::Message(Message { kind: partial.kind, payload }))
    }

    /// Nothing more is decoded.
    fn abandon(&mut self) {
        self.state = State::Closed;
        self.partial = None;
        self.inflater = None;
    }
}

const NOT_UTF8: Failure = Failure::payload("a text is not UTF-8");

impl Partial {
    /// Checks what has come of a text (RFC 6455 §8.1). A character that is not complete may still become one.
    fn check_text(&mut self) -> Result<(), Failure> {
        if self.kind == Kind::Binary {
            return Ok(());
        }
        match str::from_utf8(&self.bytes[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(NOT_UTF8),
        }
        Ok(())
    }
}

/// The length of a payload, and how many of `bytes`, which stand behind the first two of the header, say it.
fn length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, Failure> {
    const NOT_MINIMAL: Failure = Failure::protocol("the length of a frame has more bytes than it needs");
    match short {
        126 => {
            let Some(&long) = bytes.first_chunk() else { return Ok(None) };
            let long = u16::from_be_bytes(long);
            if long < 126 { Err(NOT_MINIMAL) } else { Ok(Some((u64::from(long), 2))) }
        }
        127 => {
            let Some(&long) = bytes.first_chunk() else { return Ok(None) };
            let long = u64::from_be_bytes(long);
            if long >> 63 != 0 {
                return Err(Failure::protocol("the length of a frame has its first bit set"));
            }
            if u16::try_from(long).is_ok() { Err(NOT_MINIMAL) } else { Ok(Some((long, 8))) }
        }
        _ => Ok(Some((u64::from(short), 0))),
    }
}

/// The code of a close frame with this payload (RFC 6455 §5.5.1, §7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Failure> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Failure::protocol("a close frame has half a code")),
        };
    };
    let code = u16::from_be_bytes(code);
    if !code::may_be_sent(code) {
        return Err(Failure::protocol("a close frame has a code that is never sent"));
    }
    if str::from_utf8(reason).is_err() {
        return Err(Failure::payload("the reason in a close frame is not UTF-8"));
    }
    Ok(Some(code))
}

/// Makes room for `more` bytes in a buffer that holds at most `most`: doubling, but never past that.
pub(super) fn reserve(bytes: &mut Vec<u8>, more: usize, most: usize) {
    let needed = bytes.len() + more;
    if needed > bytes.capacity() {
        let doubled = bytes.capacity().saturating_mul(2).max(LEAST_CAPACITY).min(most).max(needed);
        bytes.reserve_exact(doubled - bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    const FINAL: u8 = 0x80;
    const COMPRESSED: u8 = 0x40;

    /// A frame as a client sends it; `first` is the first byte.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let server = crate::websocket::send::frame_header(Opcode::Binary, payload.len(), false);
        let mut out = server.as_bytes().to_vec();
        out[0] = first;
        out[1] |= 0x80;
        out.extend_from_slice(&MASK);
        let at = out.len();
        out.extend_from_slice(payload);
        unmask(&mut out[at..], &mut MASK.clone());
        out
    }

    /// What came of `input`, in pieces of `step` bytes: one line for each event, and for the failure.
    fn lines(receiver: &mut Receiver, input: &[u8], step: usize) -> String {
        let mut out = String::new();
        for mut piece in input.chunks(step) {
            loop {
                let (used, event) = match receiver.next(piece) {
                    Ok(found) => found,
                    Err(failure) => return out + &format!("{}\n", failure.code),
                };
                piece = &piece[used..];
                match event {
                    Event::NeedMore => break assert!(piece.is_empty()),
                    Event::Message(Message { kind, payload }) => {
                        out.extend([format!("{kind:?} {}\n", payload.escape_ascii())]);
                    }
                    Event::Ping(payload) => out.extend([format!("ping {}\n", payload.escape_ascii())]),
                    Event::Pong(payload) => out.extend([format!("pong {}\n", payload.escape_ascii())]),
                    Event::Close { code, reason } => out.extend([format!("close {code:?} {reason}\n")]),
                }
            }
        }
        out
    }

    fn events(frames: &[Vec<u8>]) -> String {
        let input = frames.concat();
        let at_once = lines(&mut Receiver::new(1000, None), &input, usize::MAX);
        assert_eq!(lines(&mut Receiver::new(1000, None), &input, 1), at_once);
        at_once
    }

    fn compressed(frames: &[Vec<u8>]) -> String {
        let input = frames.concat();
        let at_once = lines(&mut Receiver::new(1000, Some(Deflate::ALONE)), &input, usize::MAX);
        assert_eq!(lines(&mut Receiver::new(1000, Some(Deflate::ALONE)), &input, 1), at_once);
        at_once
    }

    #[test]
    fn rfc6455_5_7_examples() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(events(&[hello.to_vec()]), "Text Hello\n");
        let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(events(&[pong.to_vec()]), "pong Hello\n");
    }

    #[test]
    fn rfc6455_5_1_masking() {
        assert_eq!(events(&[b"\x81\x05Hello".to_vec()]), "1002\n");
        assert_eq!(events(&[b"\x88\x00".to_vec()]), "1002\n");
    }

    #[test]
    fn rfc6455_5_2_reserved_bits_and_opcodes() {
        for bit in [0x10, 0x20, 0x40] {
            assert_eq!(events(&[frame(FINAL | bit | 1, b"")]), "1002\n");
        }
        assert_eq!(compressed(&[frame(FINAL | COMPRESSED | 9, b"")]), "1002\n");
        assert_eq!(compressed(&[frame(COMPRESSED | 1, b""), frame(FINAL | COMPRESSED, b"")]), "1002\n");
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(events(&[frame(FINAL | opcode, b"")]), "1002\n");
        }
    }

    #[test]
    fn rfc6455_5_2_lengths() {
        for length in [0, 1, 125, 126, 127, 1000] {
            let payload = vec![b'x'; length];
            assert_eq!(events(&[frame(0x82, &payload)]), format!("Binary {}\n", "x".repeat(length)));
        }
        let mut large = Receiver::new(70_000, None);
        for length in [65_535, 65_536] {
            assert_eq!(lines(&mut large, &frame(0x82, &vec![b'x'; length]), 999).len(), length + 8);
        }
        for longer_than_needed in
            [&b"\x82\xfe\x00\x7d"[..], b"\x82\xff\0\0\0\0\0\0\xff\xff", b"\x82\xff\x80\0\0\0\0\0\0\0"]
        {
            assert_eq!(events(&[longer_than_needed.to_vec()]), "1002\n");
        }
    }

    #[test]
    fn rfc6455_5_4_fragments() {
        let fragments = [
            frame(0x01, b"Hel"),
            frame(0x89, b"?"),
            frame(0x00, b""),
            frame(0x00, b"l"),
            frame(0x8a, b"!"),
            frame(0x80, b"o"),
            frame(0x82, b"\xff"),
        ];
        assert_eq!(events(&fragments), "ping ?\npong !\nText Hello\nBinary \\xff\n");
        assert_eq!(events(&[frame(0x80, b"x")]), "1002\n");
        assert_eq!(events(&[frame(0x00, b"x")]), "1002\n");
        assert_eq!(events(&[frame(0x01, b"x"), frame(0x81, b"x")]), "1002\n");
        assert_eq!(events(&[frame(0x81, b"x"), frame(0x80, b"x")]), "Text x\n1002\n");
    }

    #[test]
    fn rfc6455_5_5_control_frames() {
        let longest = "x".repeat(125);
        assert_eq!(events(&[frame(0x89, longest.as_bytes())]), format!("ping {longest}\n"));
        assert_eq!(events(&[b"\x89\xfe".to_vec()]), "1002\n");
        assert_eq!(events(&[frame(0x09, b"")]), "1002\n");
        assert_eq!(events(&[frame(0x89, b""), frame(0x8a, b"")]), "ping \npong \n");
    }

    #[test]
    fn rfc6455_5_5_1_close() {
        let rest = frame(0x81, b"more");
        assert_eq!(events(&[frame(0x88, b""), rest.clone()]), "close None \n");
        assert_eq!(events(&[frame(0x88, b"\x03\xe8bye"), rest.clone()]), "close Some(1000) bye\n");
        assert_eq!(events(&[frame(0x01, b"x"), frame(0x88, b"\x0f\xa0")]), "close Some(4000) \n");
        assert_eq!(events(&[frame(0x88, b"\x03")]), "1002\n");
        assert_eq!(events(&[frame(0x88, b"\x03\xed")]), "1002\n", "1005");
        assert_eq!(events(&[frame(0x88, b"\x03\xe8\xff")]), "1007\n");
        assert_eq!(events(&[frame(0x88, b"\x03\xe8\xc3")]), "1007\n", "half a character");
    }

    #[test]
    fn rfc6455_8_1_text_fails_at_the_first_wrong_byte() {
        let kappa = "\u{3ba}\u{1f600}".as_bytes();
        for cut in 0..=kappa.len() {
            let fragments = [frame(0x01, &kappa[..cut]), frame(0x80, &kappa[cut..])];
            assert_eq!(events(&fragments), format!("Text {}\n", kappa.escape_ascii()));
        }
        for bad in [
            &b"\xff"[..],
            b"\x80",
            b"\xc0",
            b"\xe0\x80",
            b"\xed\xa0",
            b"\xf4\x90",
            b"\xf5",
            b"ab\xc3(",
            b"\xce\xbae\xed\xa0\x80",
        ] {
            let mut open = frame(0x01, bad);
            assert_eq!(events(&[open.clone()]), "1007\n", "{bad:?}");
            // Nor does it matter that the frame is not complete.
            open = frame(0x01, &[bad, b"0123456789"].concat());
            open.truncate(open.len() - 10);
            assert_eq!(events(&[open]), "1007\n", "{bad:?}");
            assert!(events(&[frame(0x82, bad)]).starts_with("Binary "));
        }
        assert_eq!(events(&[frame(0x81, b"a\xc3")]), "1007\n");
        assert_eq!(events(&[frame(0x01, b"a\xe2\x82")]), "");
    }

    #[test]
    fn rfc6455_10_4_sizes_are_refused_before_they_come() {
        assert_eq!(events(&[b"\x82\xfe\x03\xe9".to_vec()]), "1009\n", "1001 bytes announced");
        assert_eq!(events(&[b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec()]), "1009\n");
        assert_eq!(events(&[frame(0x02, &[0; 600]), b"\x80\xfe\x01\x91".to_vec()]), "1009\n");
        assert!(events(&[frame(0x02, &[b'x'; 600]), frame(0x80, &[b'x'; 400])]).starts_with("Binary xxx"));
        assert_eq!(compressed(&[b"\xc2\xff\x7f\xff\xff\xff\xff\xff\xff\xff".to_vec()]), "1009\n");
        let mut receiver = Receiver::new(1 << 20, None);
        assert_eq!(lines(&mut receiver, b"\x82\xff\0\0\0\0\0\x10\0\0abcdefgh", 100), "");
        assert!(receiver.heap_bytes() <= 128, "{}: announced is not arrived", receiver.heap_bytes());
    }

    #[test]
    fn a_million_empty_fragments_cost_nothing() {
        let mut receiver = Receiver::new(1000, Some(Deflate::ALONE));
        assert_eq!(lines(&mut receiver, &frame(0x01, b""), 100), "");
        let many = frame(0x00, b"").repeat(1000);
        for _ in 0..1000 {
            assert_eq!(lines(&mut receiver, &many, usize::MAX), "");
        }
        assert_eq!(receiver.heap_bytes(), 0);
        assert_eq!(lines(&mut receiver, &frame(0x80, b"x"), 100), "Text x\n");
        // Nor do compressed ones that come to nothing: they end at the bound of compressed bytes.
        let nothing = [frame(0x41, b""), frame(0x00, &[0, 0, 0, 0xff, 0xff]).repeat(1000)];
        assert_eq!(compressed(&nothing), "1009\n");
    }

    #[test]
    fn rfc7692_7_2_3_examples() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(compressed(&[frame(0xc1, &hello)]), "Text Hello\n");
        let fragments = [frame(0x41, &hello[..3]), frame(0x89, b"?"), frame(0x80, &hello[3..])];
        assert_eq!(compressed(&fragments), "ping ?\nText Hello\n");
        assert_eq!(compressed(&[frame(0x81, b"plain"), frame(0xc1, &hello)]), "Text plain\nText Hello\n");
        let context = Deflate { client_context: true, ..Deflate::ALONE };
        let input =
            [frame(0xc1, &hello), frame(0x81, b"plain"), frame(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])]
                .concat();
        for step in [1, 5, 100] {
            let mut receiver = Receiver::new(1000, Some(context));
            assert_eq!(lines(&mut receiver, &input, step), "Text Hello\nText plain\nText Hello\n");
        }
    }

    #[test]
    fn rfc7692_8_bombs_stop_at_the_bound() {
        let packed = miniz_oxide::deflate::compress_to_vec(&vec![b'x'; 10_000_000], 6);
        let mut receiver = Receiver::new(20_000, Some(Deflate::ALONE));
        assert_eq!(lines(&mut receiver, &frame(0xc2, &packed), 1 << 20), "1009\n");
        assert_eq!(receiver.heap_bytes(), 0);
        let text = miniz_oxide::deflate::compress_to_vec(b"good \xff bad", 6);
        assert_eq!(compressed(&[frame(0xc1, &text)]), "1007\n");
        assert_eq!(compressed(&[frame(0xc1, b"\xff\xff")]), "1007\n", "no deflate at all");
    }

    #[test]
    fn after_a_failure_nothing_is_decoded() {
        let mut receiver = Receiver::new(1000, None);
        let failure = receiver.next(b"\x83\x80").unwrap_err();
        assert_eq!(failure.to_string(), "a frame has a reserved opcode (1002)");
        assert_eq!(receiver.next(&frame(0x81, b"x")), Ok((7, Event::NeedMore)));
    }

    #[test]
    fn idle_sizes() {
        assert!(size_of::<Receiver>() <= 320, "{}", size_of::<Receiver>());
        let mut receiver = Receiver::new(1 << 20, Some(Deflate::ALONE));
        assert!(receiver.is_idle());
        let large = vec![b'x'; 500_000];
        assert_eq!(lines(&mut receiver, &frame(0x81, &large), 1000).len(), 500_006);
        assert!(receiver.is_idle() && receiver.heap_bytes() == 0);
        assert_eq!(lines(&mut receiver, b"\x81", 1), "");
        assert!(!receiver.is_idle());
    }

    #[test]
    fn whole_messages_have_no_room_to_spare() {
        let mut receiver = Receiver::new(1 << 20, None);
        let input = frame(0x82, &vec![7; 100_000]);
        for piece in input.chunks(4096) {
            if let (_, Event::Message(message)) = receiver.next(piece).unwrap() {
                assert_eq!(message.payload.capacity(), 100_000);
            }
        }
        assert!(receiver.is_idle());
    }
}
