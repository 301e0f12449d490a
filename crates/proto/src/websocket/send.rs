//! Frames to a client (RFC 6455 §5.2): never masked, never fragmented.

use alloc::vec::Vec;

use super::{CONTROL_BYTES, Opcode, code};

/// Most bytes in front of a payload.
const HEADER_BYTES: usize = 10;
/// The bit that says that a message is compressed (RFC 7692 §6).
const COMPRESSED: u8 = 0x40;

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    bytes: [u8; HEADER_BYTES],
    len: u8,
}

impl FrameHeader {
    /// The bytes to send in front of the payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a frame that is a whole message, or a control frame, for payloads that are not copied together.
/// `len` counts what follows the header, compressed if `compressed`. A control frame has at most
/// [`CONTROL_BYTES`], and is never compressed.
pub fn frame_header(opcode: Opcode, len: usize, compressed: bool) -> FrameHeader {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0] = 0x80 | opcode as u8 | if compressed { COMPRESSED } else { 0 };
    let len = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..=125), _) => {
            bytes[1] = short;
            2
        }
        (_, Ok(middle)) => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&middle.to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    FrameHeader { bytes, len }
}

/// Appends a frame that is not compressed. The payload of a control frame is cut at [`CONTROL_BYTES`].
pub fn push_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let most = if opcode.is_control() { CONTROL_BYTES } else { usize::MAX };
    let payload = &payload[..payload.len().min(most)];
    out.extend_from_slice(frame_header(opcode, payload.len(), false).as_bytes());
    out.extend_from_slice(payload);
}

/// Appends a ping (RFC 6455 §5.5.2); `payload` comes back in the pong.
pub fn push_ping(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, Opcode::Ping, payload);
}

/// Appends a pong (RFC 6455 §5.5.3) with the payload of the ping that it answers.
pub fn push_pong(out: &mut Vec<u8>, payload: &[u8]) {
    push_frame(out, Opcode::Pong, payload);
}

/// Appends a close frame (RFC 6455 §5.5.1). `reason` is cut where it no longer fits, between two characters. Without a
/// code, or with one that must not be sent (1005 says that there was none), the frame is empty.
pub fn push_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let Some(code) = code.filter(|&code| code::may_be_sent(code)) else {
        return push_frame(out, Opcode::Close, b"");
    };
    let reason = &reason.as_bytes()[..floor_char_boundary(reason, CONTROL_BYTES - 2)];
    out.extend_from_slice(frame_header(Opcode::Close, 2 + reason.len(), false).as_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// The end of the last character that ends within `most` bytes.
fn floor_char_boundary(text: &str, most: usize) -> usize {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn rfc6455_5_7_examples() {
        assert_eq!(written(|out| push_frame(out, Opcode::Text, b"Hello")), b"\x81\x05Hello");
        assert_eq!(written(|out| push_ping(out, b"Hello")), b"\x89\x05Hello");
        assert_eq!(written(|out| push_pong(out, b"Hello")), b"\x8a\x05Hello");
        let binary = |len| frame_header(Opcode::Binary, len, false);
        assert_eq!(binary(256).as_bytes(), b"\x82\x7e\x01\x00");
        assert_eq!(binary(65_536).as_bytes(), b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
    }

    #[test]
    fn rfc6455_5_2_lengths_are_minimal() {
        for (len, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (255, b"\x82\x7e\x00\xff"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
        ] {
            assert_eq!(frame_header(Opcode::Binary, len, false).as_bytes(), header, "{len}");
        }
    }

    #[test]
    fn rfc7692_6_the_bit_of_compressed_messages() {
        assert_eq!(frame_header(Opcode::Text, 7, true).as_bytes(), b"\xc1\x07");
    }

    #[test]
    fn rfc6455_5_5_control_frames_are_short() {
        let long = written(|out| push_ping(out, &[b'x'; 126]));
        assert_eq!((long.len(), long[1]), (127, 125));
    }

    #[test]
    fn rfc6455_5_5_1_close_frames() {
        assert_eq!(written(|out| push_close(out, Some(1000), "bye")), b"\x88\x05\x03\xe8bye");
        assert_eq!(written(|out| push_close(out, None, "lost")), b"\x88\x00");
        for never in [0, 1005, 1006, 1015, 2000, 5000] {
            assert_eq!(written(|out| push_close(out, Some(never), "x")), b"\x88\x00", "{never}");
        }
        for (reason, kept) in [
            ("x".repeat(200), 123),
            ("\u{e9}".repeat(100), 122),
            (alloc::format!("{}\u{1f600}", "x".repeat(120)), 120),
        ] {
            let frame = written(|out| push_close(out, Some(3000), &reason));
            assert_eq!((frame.len(), usize::from(frame[1])), (4 + kept, 2 + kept));
            assert_eq!(core::str::from_utf8(&frame[4..]).unwrap(), &reason[..kept]);
        }
    }
}
