//! Fuzzes requests to the control socket; the properties are in the crate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| greenloom_master::fuzz_control_request(data));
