//! Fuzzes frames of a websocket's client; the properties are in the crate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| greenloom_proto::fuzz_entry::fuzz_websocket(data));
