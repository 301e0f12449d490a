//! The client's side of a websocket, as simple as it can be: for tests only.

use greenloom_proto::websocket::{Event, Failure, Kind, Receiver};
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// What a side has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// Feeds `input` to a receiver in pieces, whose sizes are `steps`, over and over.
pub(crate) fn feed(
    receiver: &mut Receiver,
    mut input: &[u8],
    steps: &[usize],
) -> (Vec<Received>, Option<Failure>) {
    let mut out = Vec::new();
    let mut steps = steps.iter().cycle();
    while !input.is_empty() {
        let step = steps.next().map_or(1, |&step| step.clamp(1, input.len()));
        let (mut piece, rest) = input.split_at(step);
        input = rest;
        loop {
            let (used, event) = match receiver.next(piece) {
                Ok(found) => found,
                Err(failure) => return (out, Some(failure)),
            };
            piece = &piece[used..];
            out.push(match event {
                Event::NeedMore => break,
                Event::Message(message) => match message.kind {
                    Kind::Text => Received::Text(String::from_utf8(message.payload).expect("it was checked")),
                    Kind::Binary => Received::Binary(message.payload),
                },
                Event::Ping(payload) => Received::Ping(payload.to_vec()),
                Event::Pong(payload) => Received::Pong(payload.to_vec()),
                Event::Close { code, reason } => Received::Close(code, reason.to_owned()),
            });
        }
    }
    (out, None)
}

/// Appends a frame with `first` as its first byte.
pub(crate) fn push_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | u8::try_from(short).expect("short")),
        middle @ 126..=0xffff => {
            out.push(0xfe);
            out.extend(u16::try_from(middle).expect("middle").to_be_bytes());
        }
        long => {
            out.push(0xff);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Compresses messages; one value for all of a connection when they build on each other.
pub(crate) fn compress(engine: &mut CompressorOxide, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress_to_output(engine, payload, TDEFLFlush::Sync, |bytes| {
        out.extend_from_slice(bytes);
        true
    });
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// Decompresses messages of a server with a window that is no larger than agreed on: what looks back further reads
/// wrong bytes, or none.
pub(crate) struct Window {
    state: DecompressorOxide,
    ring: Vec<u8>,
    at: usize,
}

impl Window {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { state: DecompressorOxide::new(), ring: vec![0; bytes], at: 0 }
    }

    pub(crate) fn decompress(&mut self, payload: &[u8]) -> Vec<u8> {
        const HAS_MORE_INPUT: u32 = 2;
        let input = [payload, &[0, 0, 0xff, 0xff]].concat();
        let (mut done, mut out) = (0, Vec::new());
        loop {
            let (status, used, made) =
                decompress(&mut self.state, &input[done..], &mut self.ring, self.at, HAS_MORE_INPUT);
            done += used;
            out.extend_from_slice(&self.ring[self.at..self.at + made]);
            self.at = (self.at + made) % self.ring.len();
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if done == input.len() => return out,
                _ => panic!("{status:?}"),
            }
        }
    }
}

/// Splits what a server sent into frames: the first byte and the payload.
pub(crate) fn frames(mut input: &[u8]) -> Vec<(u8, &[u8])> {
    let mut out = Vec::new();
    while let [first, short, rest @ ..] = input {
        let (length, rest) = match short {
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("the length is there");
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("the length is there");
                (usize::try_from(u64::from_be_bytes(*length)).expect("it is short"), rest)
            }
            _ => (usize::from(*short), rest),
        };
        let (payload, rest) = rest.split_at(length);
        out.push((*first, payload));
        input = rest;
    }
    out
}
