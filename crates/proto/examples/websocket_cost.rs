//! What messages of websockets cost, in nanoseconds:
//! `cargo run --release -p greenloom-proto --example websocket_cost`
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "the tests need the rest of it")]
#[path = "../tests/websocket/client.rs"]
mod client;

use std::hint::black_box;
use std::time::Instant;

use greenloom_proto::websocket::{Compressor, Deflate, Event, Kind, Receiver};
use miniz_oxide::deflate::core::CompressorOxide;

use client::{compress, push_frame};

/// Nanoseconds of one call, the best of some rounds.
fn ns(times: u32, mut call: impl FnMut()) -> u128 {
    let round = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..times {
            call();
        }
        start.elapsed().as_nanos() / u128::from(times)
    };
    (0..5).map(|_| round(&mut call)).min().unwrap_or_default()
}

/// Text as chats and feeds send it.
fn json(bytes: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0_u64.. {
        if text.len() >= bytes {
            break;
        }
        let (a, b) = (number * number % 997, number * 7919 % 1009);
        text.extend([format!(
            "{{\"id\":{number},\"user\":\"user{a}\",\"text\":\"message number {b}\",\"at\":{}}},",
            a * b
        )]);
    }
    text.truncate(bytes);
    text.into_bytes()
}

#[expect(clippy::print_stdout, reason = "a program whose output is its result")]
fn main() {
    for (bytes, times) in [(20, 200_000), (1_000, 20_000), (65_536, 1_000)] {
        let plain = json(bytes);
        let mut frame = Vec::new();
        push_frame(&mut frame, 0x81, &plain, [0x37, 0xfa, 0x21, 0x3d]);
        let mut packed = Vec::new();
        let compressed = compress(&mut CompressorOxide::new(128), &plain);
        push_frame(&mut packed, 0xc1, &compressed, [0x37, 0xfa, 0x21, 0x3d]);
        for (what, input) in [("plain", &frame), ("compressed", &packed)] {
            let mut receiver = Receiver::new(1 << 20, Some(Deflate::ALONE));
            let time = ns(times, || match receiver.next(black_box(input)) {
                Ok((_, Event::Message(message))) => drop(black_box(message)),
                other => panic!("{other:?}"),
            });
            println!("receive {bytes} bytes, {what} ({} on the wire): {time} ns", input.len());
        }
        let mut compressor = Compressor::forgetful();
        let mut out = Vec::new();
        for (what, deflate) in [("plain", None), ("compressed", Some(Deflate::ALONE))] {
            let time = ns(times / 10, || {
                out.clear();
                compressor.push_message(&mut out, Kind::Text, black_box(&plain), deflate);
            });
            println!("send {bytes} bytes, {what} ({} on the wire): {time} ns", out.len());
        }
        let time = ns(200, || {
            out.clear();
            compressor.release();
            compressor.push_message(&mut out, Kind::Text, black_box(&plain), Some(Deflate::ALONE));
        });
        println!("send {bytes} bytes, a new compressor each: {time} ns");
    }
    println!("Receiver: {} bytes, Compressor: {} bytes", size_of::<Receiver>(), size_of::<Compressor>());
}
