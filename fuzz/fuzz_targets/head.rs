//! Fuzzes request heads: the properties in the crate, and a second opinion about what was accepted.

#![no_main]

#[path = "../../crates/proto/tests/parsers/oracle.rs"]
#[expect(dead_code, reason = "of the second opinions only the one about requests is asked for")]
mod oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    greenloom_proto::fuzz_entry::fuzz_head(data);
    oracle::head(data);
});
