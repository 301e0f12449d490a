//! Fuzzes ini files; the properties are in the crate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| greenloom_config::fuzz_entry::fuzz_ini(data));
