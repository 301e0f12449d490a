//! Fuzzes queries for the command line of a CGI script; the properties are in the crate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| greenloom_proto::fuzz_entry::fuzz_query_words(data));
