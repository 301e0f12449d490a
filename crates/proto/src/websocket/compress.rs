//! Compression of messages to clients (RFC 7692 §7.2.1).
//!
//! Deflate's state is large, so it is one for all connections wherever messages stand alone, which is the default.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use miniz_oxide::deflate::core::{
    CompressionStrategy, CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
};

use super::send::{frame_header, push_frame};
use super::{Deflate, Kind};

/// Shorter messages are sent as they are: half of 256 bytes is saved at 4 us, nearly all of it for forgetting.
const LEAST_BYTES: usize = 256;
/// On the scale of zlib. Level 3 saves a tenth more of chat-like text, and takes two to four times as long.
const LEVEL: i32 = 1;
/// Raw deflate, without zlib's frame (negative bits of window).
const FLAGS: u32 = create_comp_flags_from_zip_params(LEVEL, -15, CompressionStrategy::Default as i32);
/// Room for the largest header of a frame.
const HEADER_ROOM: usize = 10;
/// The end of each message, which is not sent.
const TAIL: &[u8] = &[0, 0, 0xff, 0xff];
/// The window of the engine.
const FULL_WINDOW: usize = 32_768;
/// The smallest window that longer messages are cut into: forgetting costs the same for each.
const LEAST_WINDOW: usize = 4096;

/// Deflate's state for messages to clients: about 320 KiB, allocated with the first message that is compressed.
///
/// One that [forgets](Self::forgetful) may serve every connection of a worker, since nothing of a message stays in it.
/// One that [remembers](Self::remembering) belongs to one connection.
#[derive(Default)]
pub struct Compressor {
    engine: Option<Box<CompressorOxide>>,
    remembers: bool,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("is_allocated", &self.engine.is_some())
            .field("remembers", &self.remembers)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor that forgets each message, whatever was agreed on, as a server always may (RFC 7692 §7.1.1.1).
    pub const fn forgetful() -> Self {
        Self { engine: None, remembers: false }
    }

    /// A compressor for one connection, whose messages build on earlier ones if that was agreed on.
    pub const fn remembering() -> Self {
        Self { engine: None, remembers: true }
    }

    /// Gives the memory back. The next message builds on none.
    pub fn release(&mut self) {
        self.engine = None;
    }

    /// Appends a message as one frame; compressed if `deflate` was agreed on and it becomes smaller by that. True if it
    /// is compressed.
    pub fn push_message(
        &mut self,
        out: &mut Vec<u8>,
        kind: Kind,
        payload: &[u8],
        deflate: Option<Deflate>,
    ) -> bool {
        let begin = out.len();
        if let Some(deflate) = deflate.filter(|&deflate| is_worth_it(payload, deflate)) {
            out.extend_from_slice(&[0; HEADER_ROOM]);
            let from = out.len();
            let is_complete = self.deflate(out, payload, deflate);
            let len = out.len() - from;
            if is_complete && len < payload.len() {
                let header = frame_header(kind.opcode(), len, true);
                let header = header.as_bytes();
                // The payload moves down to its header.
                out.copy_within(from.., begin + header.len());
                out.truncate(begin + header.len() + len);
                out[begin..begin + header.len()].copy_from_slice(header);
                return true;
            }
            // The client has not seen what the engine would build on.
            if let Some(engine) = &mut self.engine {
                engine.reset();
            }
            out.truncate(begin);
        }
        push_frame(out, kind.opcode(), payload);
        false
    }

    /// Appends `payload` compressed, without its tail; false when that failed.
    fn deflate(&mut self, out: &mut Vec<u8>, payload: &[u8], deflate: Deflate) -> bool {
        let window = deflate.server_window();
        let may_look_back = self.remembers && deflate.server_context && window == FULL_WINDOW;
        let engine = match &mut self.engine {
            Some(engine) => {
                if !may_look_back {
                    engine.reset();
                }
                engine
            }
            None => self.engine.insert(Box::new(CompressorOxide::new(FLAGS))),
        };
        // The engine knows windows of 32 KiB only. A smaller one is kept to by forgetting everything that often.
        let step = if window < FULL_WINDOW { window } else { payload.len() };
        let mut pieces = payload.chunks(step).peekable();
        while let Some(piece) = pieces.next() {
            let flush = if pieces.peek().is_some() { TDEFLFlush::Full } else { TDEFLFlush::Sync };
            let (_, used) = compress_to_output(engine, piece, flush, |bytes| {
                out.extend_from_slice(bytes);
                true
            });
            if used != piece.len() {
                return false;
            }
        }
        let is_complete = out.ends_with(TAIL);
        if is_complete {
            out.truncate(out.len() - TAIL.len());
        }
        is_complete
    }
}

/// Whether compression is tried.
fn is_worth_it(payload: &[u8], deflate: Deflate) -> bool {
    let window = deflate.server_window();
    payload.len() >= LEAST_BYTES && (payload.len() <= window || window >= LEAST_WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: Deflate = Deflate {
        server_context: true,
        client_context: true,
        server_window_bits: None,
        client_window_bits: None,
    };

    /// The sizes of frames for the same message, three times.
    fn sizes(compressor: &mut Compressor, payload: &[u8], deflate: Deflate) -> [usize; 3] {
        [(); 3].map(|()| {
            let mut out = Vec::new();
            compressor.push_message(&mut out, Kind::Text, payload, Some(deflate));
            out.len()
        })
    }

    #[test]
    fn rfc7692_7_1_1_1_context_only_where_it_was_agreed_on() {
        let text: Vec<u8> = (0..2000_u32).map(|at| b' ' + u8::try_from(at * at % 89).unwrap_or(0)).collect();
        let [first, second, third] = sizes(&mut Compressor::remembering(), &text, AGREED);
        assert!(second < first / 2 && third < first / 2, "{first} {second} {third}");
        let alone = Deflate { server_context: false, ..AGREED };
        assert_eq!(sizes(&mut Compressor::remembering(), &text, alone), [first; 3]);
        assert_eq!(sizes(&mut Compressor::forgetful(), &text, AGREED), [first; 3]);
        let small = Deflate { server_window_bits: Some(12), ..AGREED };
        assert_eq!(
            sizes(&mut Compressor::remembering(), &text, small),
            [first; 3],
            "smaller than the engine's window"
        );
    }

    #[test]
    fn what_does_not_become_smaller_is_sent_as_it_is() {
        let mut compressor = Compressor::remembering();
        let mut push = |payload: &[u8], deflate| {
            let mut out = b"before".to_vec();
            let is_compressed = compressor.push_message(&mut out, Kind::Binary, payload, deflate);
            assert!(out.starts_with(b"before") && is_compressed == (out[6] == 0xc2));
            (is_compressed, out.len() - 6)
        };
        let mut random = 1_u32;
        let noise: Vec<u8> = (0..5000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                random.to_be_bytes()[0]
            })
            .collect();
        assert_eq!(push(&noise, Some(AGREED)), (false, 5004));
        assert_eq!(push(&[b'x'; 1000], None), (false, 1004));
        assert_eq!(push(&[b'x'; LEAST_BYTES - 1], Some(AGREED)), (false, LEAST_BYTES + 3));
        assert!(push(&[b'x'; LEAST_BYTES], Some(AGREED)).0);
        let tiny = Deflate { server_window_bits: Some(8), ..AGREED };
        assert!(!push(&[b'x'; 257], Some(tiny)).0 && push(&[b'x'; 256], Some(tiny)).0);
    }

    #[test]
    fn sizes_of_what_is_idle() {
        assert!(size_of::<Compressor>() <= 16);
        let mut compressor = Compressor::forgetful();
        compressor.push_message(&mut Vec::new(), Kind::Text, &[b'x'; 1000], Some(AGREED));
        assert!(compressor.engine.is_some());
        compressor.release();
        assert!(compressor.engine.is_none());
    }
}
