//! Properties of both directions over generated messages, fragments, cuts and compression.

use greenloom_proto::fuzz_entry::{fuzz_websocket, fuzz_websocket_offers};
use greenloom_proto::websocket::send::{push_close, push_ping, push_pong};
use greenloom_proto::websocket::{Compressor, Deflate, Kind, Receiver};
use miniz_oxide::deflate::core::CompressorOxide;
use proptest::prelude::*;
use proptest::sample::select;

use super::client::{Received, Window, compress, feed, frames, push_frame};

/// Raw deflate with zlib's usual effort.
const FLAGS: u32 = 128;
const MOST: usize = 200_000;

/// One thing that a client sends.
#[derive(Clone, Debug)]
enum Sent {
    Message { is_text: bool, text: String, cuts: Vec<usize>, is_compressed: bool },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z ]{0,40}",
        4 => "\\PC{0,30}",
        4 => ("[a-z]{1,20}", 1_usize..3000).prop_map(|(text, times)| text.repeat(times)),
        2 => (any::<u32>(), 1_usize..40_000).prop_map(|(seed, length)| noise(seed, length)),
        1 => Just(String::new()),
    ]
}

/// Text with matches at all distances.
fn noise(seed: u32, length: usize) -> String {
    let mut state = seed | 1;
    let words = std::iter::from_fn(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        Some(format!("{:x} ", state % 5000))
    });
    words.take(length / 4).collect()
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = || prop::collection::vec(any::<u8>(), 0..126);
    prop_oneof![
        4 => (any::<[bool; 2]>(), text(), prop::collection::vec(any::<usize>(), 0..5)).prop_map(
            |([is_text, is_compressed], text, cuts)| Sent::Message { is_text, text, cuts, is_compressed }),
        1 => payload().prop_map(Sent::Ping),
        1 => payload().prop_map(Sent::Pong),
    ]
}

fn deflate() -> impl Strategy<Value = Option<Deflate>> {
    prop::option::of((any::<[bool; 2]>(), prop::option::of(8_u8..16)).prop_map(
        |([server_context, client_context], server_window_bits)| Deflate {
            server_context,
            client_context,
            server_window_bits,
            client_window_bits: None,
        },
    ))
}

/// The bytes of a client that sends `all`, and what they mean. Between fragments stand pings.
fn encode(all: &[Sent], deflate: Option<Deflate>, mask: [u8; 4]) -> (Vec<u8>, Vec<Received>) {
    let (mut out, mut meaning) = (Vec::new(), Vec::new());
    let mut engine = CompressorOxide::new(FLAGS);
    for (index, sent) in all.iter().enumerate() {
        match sent {
            Sent::Ping(payload) => {
                push_frame(&mut out, 0x89, payload, mask);
                meaning.push(Received::Ping(payload.clone()));
            }
            Sent::Pong(payload) => {
                push_frame(&mut out, 0x8a, payload, mask);
                meaning.push(Received::Pong(payload.clone()));
            }
            Sent::Message { is_text, text, cuts, is_compressed } => {
                let mut payload = text.clone().into_bytes();
                let mut first = if *is_text { 1 } else { 2 };
                if let Some(deflate) = deflate.filter(|_| *is_compressed) {
                    if !deflate.client_context {
                        engine = CompressorOxide::new(FLAGS);
                    }
                    payload = compress(&mut engine, &payload);
                    first |= 0x40;
                }
                let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
                cuts.sort_unstable();
                let mut from = 0;
                for cut in cuts {
                    push_frame(&mut out, first, &payload[from..cut], mask);
                    push_frame(&mut out, 0x89, &[u8::try_from(index).unwrap()], mask);
                    meaning.push(Received::Ping(vec![u8::try_from(index).unwrap()]));
                    (first, from) = (0, cut);
                }
                push_frame(&mut out, 0x80 | first, &payload[from..], mask);
                meaning.push(if *is_text {
                    Received::Text(text.clone())
                } else {
                    Received::Binary(text.clone().into_bytes())
                });
            }
        }
    }
    push_frame(&mut out, 0x88, b"\x03\xe9bye", mask);
    meaning.push(Received::Close(Some(1001), "bye".to_owned()));
    (out, meaning)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_client_sends_arrives_in_any_pieces(
        all in prop::collection::vec(sent(), 0..6),
        deflate in deflate(),
        mask in any::<[u8; 4]>(),
        steps in prop::collection::vec(prop_oneof![1_usize..8, 1_usize..5000], 1..6),
    ) {
        let (input, meaning) = encode(&all, deflate, mask);
        let mut receiver = Receiver::new(MOST, deflate);
        prop_assert_eq!(feed(&mut receiver, &input, &[usize::MAX]), (meaning.clone(), None));
        let mut receiver = Receiver::new(MOST, deflate);
        prop_assert_eq!(feed(&mut receiver, &input, &steps), (meaning, None));
        prop_assert_eq!(receiver.heap_bytes(), 0);
    }

    #[test]
    fn two_connections_fed_in_turn_never_mix(
        one in prop::collection::vec(sent(), 1..5),
        other in prop::collection::vec(sent(), 1..5),
        deflate in deflate(),
        step in 1_usize..40,
    ) {
        let (one, other) = (encode(&one, deflate, [1, 2, 3, 4]), encode(&other, deflate, [9, 8, 7, 6]));
        let mut receivers = [Receiver::new(MOST, deflate), Receiver::new(MOST, deflate)];
        let mut found = [Vec::new(), Vec::new()];
        let mut rests = [&one.0[..], &other.0[..]];
        while !rests.iter().all(|rest| rest.is_empty()) {
            for side in 0..2 {
                let (piece, rest) = rests[side].split_at(step.min(rests[side].len()));
                rests[side] = rest;
                let (events, failure) = feed(&mut receivers[side], piece, &[usize::MAX]);
                prop_assert_eq!(failure, None);
                found[side].extend(events);
            }
        }
        prop_assert_eq!(found, [one.1, other.1]);
    }

    #[test]
    fn what_a_server_sends_is_what_was_meant(
        texts in prop::collection::vec(text(), 1..6),
        deflate in deflate(),
        remembers in any::<bool>(),
    ) {
        let mut compressor = if remembers { Compressor::remembering() } else { Compressor::forgetful() };
        let mut out = Vec::new();
        for text in &texts {
            compressor.push_message(&mut out, Kind::Text, text.as_bytes(), deflate);
            push_ping(&mut out, text.as_bytes());
        }
        push_pong(&mut out, b"");
        push_close(&mut out, Some(1000), "bye");
        let frames = frames(&out);
        prop_assert_eq!(frames.len(), 2 * texts.len() + 2);
        let mut window = deflate.map(|deflate| Window::new(deflate.server_window()));
        for (pair, text) in frames.chunks(2).zip(&texts) {
            let (first, payload) = pair[0];
            if first == 0xc1 {
                let agreed = deflate.expect("compressed only where it was agreed on");
                let window = window.as_mut().expect("the same");
                if !agreed.server_context {
                    *window = Window::new(agreed.server_window());
                }
                prop_assert!(payload.len() < text.len());
                prop_assert!(window.decompress(payload) == text.as_bytes());
            } else {
                prop_assert_eq!((first, payload), (0x81, text.as_bytes()));
            }
            prop_assert_eq!(pair[1], (0x89, &text.as_bytes()[..text.len().min(125)]));
        }
    }

    #[test]
    fn frames_of_pieces_are_bounded_and_mean_the_same_in_any_pieces(
        choice in 0_u8..32,
        pieces in prop::collection::vec(
            prop_oneof![
                (
                    select(&[0_u8, 1, 2, 0x41, 0x42, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0xc2, 0x83][..]),
                    prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..20),
                        Just(vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
                        (0_usize..400).prop_map(|length| vec![b'x'; length]),
                    ],
                    any::<[u8; 4]>(),
                )
                    .prop_map(|(first, payload, mask)| {
                        let mut out = Vec::new();
                        push_frame(&mut out, first, &payload, mask);
                        out
                    }),
                prop::collection::vec(any::<u8>(), 0..12),
            ],
            0..8,
        ),
    ) {
        fuzz_websocket(&[&[choice][..], &pieces.concat()].concat());
    }

    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_websocket(&data);
        fuzz_websocket_offers(&data);
    }

    #[test]
    fn offers_of_pieces(
        choice in any::<u8>(),
        pieces in prop::collection::vec(select(&[
            "permessage-deflate", "server_max_window_bits", "client_max_window_bits", "server_no_context_takeover",
            "client_no_context_takeover", ";", ",", "=", "8", "10", "15", "\"", "\\", " ",
        ][..]), 0..14),
    ) {
        fuzz_websocket_offers(&[&[choice][..], pieces.concat().as_bytes()].concat());
    }
}
