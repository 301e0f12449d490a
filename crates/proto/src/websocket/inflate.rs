//! Decompression of one client's messages (RFC 7692 §7.2.2), never past the bound of a message.
//!
//! A message is inflated right into the buffer in which it is collected, behind the window of earlier messages if
//! there is one; so there is no dictionary beside it. Deflate's own state exists only while a message arrives.

use alloc::boxed::Box;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{Deflate, Failure};

/// What the sender takes off the end of each message (RFC 7692 §7.2.1), then an empty final block: its end is only
/// found when the message was complete.
const TAIL: &[u8] = &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// Room for output that is made at least.
const LEAST_ROOM: usize = 256;

const BROKEN: Failure = Failure::payload("a compressed message is malformed");

/// The state of decompression of one connection.
#[derive(Debug)]
pub(super) struct Inflater {
    /// Bytes that later messages may look back; 0 when each stands alone.
    window: usize,
    /// The last bytes of earlier messages, at most `window`.
    history: Vec<u8>,
    /// Deflate's state, 10 KiB, while a message arrives.
    engine: Option<Box<Engine>>,
    /// Compressed bytes of the current message so far.
    seen: usize,
}

struct Engine {
    state: DecompressorOxide,
    /// Between two streams: at the beginning, or right behind a final block.
    is_fresh: bool,
}

impl core::fmt::Debug for Engine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Engine").field("is_fresh", &self.is_fresh).finish_non_exhaustive()
    }
}

impl Inflater {
    pub(super) fn new(deflate: Deflate) -> Self {
        let window = if deflate.client_context { deflate.client_window() } else { 0 };
        Self { window, history: Vec::new(), engine: None, seen: 0 }
    }

    /// Begins a message: the buffer to inflate into. What is in it already belongs to earlier messages.
    pub(super) fn begin(&mut self) -> Vec<u8> {
        self.engine = Some(Box::new(Engine { state: DecompressorOxide::new(), is_fresh: true }));
        self.seen = 0;
        core::mem::take(&mut self.history)
    }

    /// Whether so many more compressed bytes are too many for a message of `most` bytes. Deflate may add an eighth
    /// (RFC 1951 §3.2.6); blocks without content would otherwise be free.
    pub(super) fn exceeds(&self, announced: u64, most: usize) -> bool {
        let seen = self.seen as u64;
        seen.saturating_add(announced) > (most as u64).saturating_add(most as u64 / 8 + 1024)
    }

    /// Inflates a piece into `out`, whose message begins at `start` and has at most `most` bytes.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        start: usize,
        most: usize,
    ) -> Result<(), Failure> {
        self.seen = self.seen.saturating_add(input.len());
        let Some(engine) = &mut self.engine else { return Err(BROKEN) };
        engine.run(input, out, start, most)
    }

    /// Ends a message that [`push`](Self::push) has put into `out` behind `start`, and returns it alone.
    pub(super) fn finish(&mut self, mut out: Vec<u8>, start: usize, most: usize) -> Result<Vec<u8>, Failure> {
        let Some(mut engine) = self.engine.take() else { return Err(BROKEN) };
        // A final block that ends exactly here needs no tail (RFC 7692 §7.2.3.4 adds a byte to be able to have one,
        // not every client does), and no block at all is a message without content.
        if !engine.is_fresh {
            let length = out.len();
            engine.run(TAIL, &mut out, start, most)?;
            if !engine.is_fresh || out.len() != length {
                return Err(BROKEN);
            }
        }
        if self.window == 0 {
            return Ok(out);
        }
        let message = out.split_off(start);
        self.remember(out, &message);
        Ok(message)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.history.capacity() + self.engine.as_ref().map_or(0, |_| size_of::<Engine>())
    }

    /// Keeps what the next message may look back to. `earlier` is the window of the one before.
    fn remember(&mut self, mut earlier: Vec<u8>, message: &[u8]) {
        let newest = &message[message.len().saturating_sub(self.window)..];
        let forget = (earlier.len() + newest.len()).saturating_sub(self.window);
        earlier.drain(..forget);
        // Room for a message is not kept, an ordinary window is allocated once.
        earlier.shrink_to(self.window);
        earlier.extend_from_slice(newest);
        self.history = earlier;
    }
}

impl Engine {
    fn run(&mut self, mut input: &[u8], out: &mut Vec<u8>, start: usize, most: usize) -> Result<(), Failure> {
        const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let mut room = input.len().saturating_mul(4);
        loop {
            let length = out.len();
            // One byte more than allowed, so that a message of exactly `most` bytes comes to its end.
            let left = (start + most + 1).saturating_sub(length);
            if left == 0 {
                return Err(Failure::TOO_LARGE);
            }
            extend(out, room.max(LEAST_ROOM).min(left), start + most + 1);
            self.is_fresh &= input.is_empty();
            let (status, used, made) = decompress(&mut self.state, input, out, length, FLAGS);
            out.truncate(length + made);
            input = &input[used..];
            if out.len() - start > most {
                return Err(Failure::TOO_LARGE);
            }
            match status {
                TINFLStatus::HasMoreOutput => room = out.len(),
                TINFLStatus::NeedsMoreInput if input.is_empty() => return Ok(()),
                // The end of a final block: what follows is a stream of its own (RFC 7692 §7.2.3.4), with the same
                // window.
                TINFLStatus::Done => {
                    self.state.init();
                    self.is_fresh = true;
                    if input.is_empty() {
                        return Ok(());
                    }
                }
                _ => return Err(BROKEN),
            }
        }
    }
}

/// Adds `more` zeros to `out`, whose capacity grows by doubling, but never past `most`.
fn extend(out: &mut Vec<u8>, more: usize, most: usize) {
    super::receive::reserve(out, more, most);
    out.resize(out.len() + more, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMEMBERING: Deflate = Deflate { client_context: true, ..Deflate::ALONE };

    /// One message, in pieces of `step` bytes.
    fn message(inflater: &mut Inflater, input: &[u8], step: usize, most: usize) -> Result<Vec<u8>, Failure> {
        let mut out = inflater.begin();
        let start = out.len();
        for piece in input.chunks(step) {
            inflater.push(piece, &mut out, start, most)?;
        }
        inflater.finish(out, start, most)
    }

    fn alone(input: &[u8]) -> Result<Vec<u8>, Failure> {
        let at_once = message(&mut Inflater::new(Deflate::ALONE), input, 1000, 1000);
        assert_eq!(message(&mut Inflater::new(Deflate::ALONE), input, 1, 1000), at_once);
        at_once
    }

    #[test]
    fn rfc7692_7_2_3_1_one_block() {
        assert_eq!(alone(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).unwrap(), b"Hello");
    }

    #[test]
    fn rfc7692_7_2_3_2_sharing_the_window() {
        let mut inflater = Inflater::new(REMEMBERING);
        let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(message(&mut inflater, &first, 3, 100).unwrap(), b"Hello");
        assert_eq!(message(&mut inflater, &second, 3, 100).unwrap(), b"Hello");
        assert_eq!(alone(&second), Err(BROKEN), "nothing to look back to");
    }

    #[test]
    fn rfc7692_7_2_3_3_no_compression() {
        assert_eq!(
            alone(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]).unwrap(),
            b"Hello"
        );
    }

    #[test]
    fn rfc7692_7_2_3_4_final_block() {
        assert_eq!(alone(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]).unwrap(), b"Hello");
        assert_eq!(
            alone(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).unwrap(),
            b"Hello",
            "without the byte added"
        );
        let twice = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00].repeat(2);
        assert_eq!(alone(&twice).unwrap(), b"HelloHello");
    }

    #[test]
    fn rfc7692_7_2_3_5_two_blocks() {
        let input = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(alone(&input).unwrap(), b"Hello");
    }

    #[test]
    fn rfc7692_7_2_3_6_no_content() {
        assert_eq!(alone(&[0x00]).unwrap(), b"");
        assert_eq!(alone(&[]).unwrap(), b"");
    }

    #[test]
    fn rfc7692_7_2_2_what_is_incomplete_or_broken() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for end in 1..hello.len() {
            assert_eq!(alone(&hello[..end]), Err(BROKEN), "the first {end} bytes");
        }
        assert_eq!(alone(&[0x06]), Err(BROKEN), "a kind of block that does not exist");
        assert_eq!(alone(&[0x00, 0x05, 0x00, 0x00, 0x00]), Err(BROKEN));
        assert_eq!(
            alone(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff]),
            Err(BROKEN),
            "tail left on"
        );
    }

    #[test]
    fn the_bound_is_exact_and_memory_stays_below_it() {
        let zeros = miniz_oxide::deflate::compress_to_vec(&alloc::vec![0; 100_000], 6);
        for step in [1, 7, 100_000] {
            assert_eq!(
                message(&mut Inflater::new(Deflate::ALONE), &zeros, step, 100_000).unwrap().len(),
                100_000
            );
            assert_eq!(
                message(&mut Inflater::new(Deflate::ALONE), &zeros, step, 99_999),
                Err(Failure::TOO_LARGE),
                "{step}"
            );
        }
        let mut inflater = Inflater::new(Deflate::ALONE);
        let mut out = inflater.begin();
        assert_eq!(inflater.push(&zeros, &mut out, 0, 5_000), Err(Failure::TOO_LARGE));
        assert!(out.capacity() <= 5_001, "{}", out.capacity());
        assert!(!inflater.exceeds(0, 0) && inflater.exceeds(u64::MAX, 5_000));
    }

    #[test]
    fn what_is_remembered_is_the_window() {
        let mut inflater = Inflater::new(Deflate { client_window_bits: Some(9), ..REMEMBERING });
        let mut all = Vec::new();
        for length in [0_usize, 100, 300, 200, 10, 5_000, 1, 511, 512] {
            let plain: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let packed = miniz_oxide::deflate::compress_to_vec(&plain, 6);
            assert_eq!(message(&mut inflater, &packed, 64, 10_000).unwrap(), plain);
            all.extend_from_slice(&plain);
            assert_eq!(inflater.history, &all[all.len().saturating_sub(512)..]);
            assert!(inflater.heap_bytes() <= 1024, "{}", inflater.heap_bytes());
        }
    }

    #[test]
    fn idle_sizes() {
        assert!(size_of::<Inflater>() <= 48, "{}", size_of::<Inflater>());
        assert!(size_of::<Engine>() <= 11 * 1024, "{}", size_of::<Engine>());
        assert_eq!(Inflater::new(REMEMBERING).heap_bytes(), 0);
    }
}
