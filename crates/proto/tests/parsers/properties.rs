//! Properties of the parsers over generated input: well-formed heads, heads with something wrong in them, and
//! bytes that are neither. The properties themselves are in `fuzz_entry.rs` and in the oracle.

use greenloom_proto::fuzz_entry::{fuzz_chunked, fuzz_handover, fuzz_head, fuzz_response, fuzz_uwsgi};
use greenloom_proto::http1::head::{Head, Limits, Parsed, Version};
use greenloom_proto::http1::response::Exchange;
use proptest::prelude::*;
use proptest::sample::select;

use super::oracle;

/// What heads are made of: valid pieces, nearly valid ones, and line ends of every kind.
const HEAD_PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "OPTIONS * ",
    "/",
    "/a?b=c",
    "http://h:80/x",
    "http://[::1]",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/2.0\r\n",
    "Host: h\r\n",
    "Host: a b\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "X_A: b\r\n",
    "Proxy: x\r\n",
    "A: b\r\n",
    "a: \t c \r\n",
    "A : b\r\n",
    " folded\r\n",
    "A:\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    "\u{7f}",
    "\u{e9}",
    "%41",
    "#",
    "_",
];
/// The same for chunked bodies.
const CHUNK_PIECES: &[&str] = &[
    "0", "1", "a", "5", "10", "\r\n", "\r", "\n", ";x=y", " ", "hello", "0\r\n", "\r\n\r\n", "A: b\r\n", ":",
    "\0", "ffff",
];

fn joined(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat().into_bytes())
}

/// Requests that are right, so that the properties of accepted heads are tried often.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let name = "[A-Za-z][A-Za-z0-9-]{0,12}";
    let value = "[!-~]([ -~\\t]{0,20}[!-~])?";
    (
        select(&["GET", "HEAD", "POST", "x-Y"][..]),
        "/[!-\"$-~]{0,20}",
        select(&["1.0", "1.1"][..]),
        prop::collection::vec((name, value), 0..12),
        prop::option::of(0_u64..10_000),
    )
        .prop_map(|(method, target, version, fields, length)| {
            let mut text = format!("{method} {target} HTTP/{version}\r\nHost: example.org\r\n");
            for (name, value) in fields {
                if !["host", "expect"].contains(&name.to_ascii_lowercase().as_str()) {
                    text.extend([&name, ": ", &value, "\r\n"]);
                }
            }
            if let Some(length) = length {
                text.extend(["Content-Length: ", &length.to_string(), "\r\n"]);
            }
            (text + "\r\n").into_bytes()
        })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    any::<[bool; 4]>().prop_map(|[is_11, is_head, keep_alive, cgi]| Exchange {
        version: if is_11 { Version::Http11 } else { Version::Http10 },
        is_head,
        keep_alive,
        cgi,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn good_requests_are_accepted_in_any_pieces(data in request()) {
        let mut head = Head::default();
        let limits = Limits { head_bytes: 2048, fields: 32 };
        prop_assert_eq!(head.parse(&data, &limits), Ok(Parsed::Complete));
        prop_assert_eq!(head.len, data.len());
        fuzz_head(&data);
        oracle::head(&data);
    }

    #[test]
    fn heads_of_pieces(data in joined(HEAD_PIECES, 14)) {
        fuzz_head(&data);
        oracle::head(&data);
    }

    #[test]
    fn good_requests_with_one_byte_changed(mut data in request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let at = at.index(data.len());
        data[at] = byte;
        fuzz_head(&data);
        oracle::head(&data);
    }

    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_head(&data);
        fuzz_chunked(&data);
        fuzz_uwsgi(&data);
        fuzz_response(&data);
        fuzz_handover(&data);
    }

    #[test]
    fn handover_packets_of_any_fields(
        kinds in (1u8..4, 0u8..4, select(vec![0u8, 4, 6, 9])),
        rest in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..60),
    ) {
        let mut data = vec![1, kinds.1, kinds.0, kinds.2];
        data.extend_from_slice(&rest);
        fuzz_handover(&data);
    }

    #[test]
    fn chunked_bodies_of_pieces(data in joined(CHUNK_PIECES, 16)) {
        fuzz_chunked(&data);
    }

    #[test]
    fn accepted_responses_read_the_same_elsewhere(
        exchange in exchange(),
        status in "[1-5][0-9]{2}( [ -~]{0,10})?",
        fields in prop::collection::vec((
            prop_oneof!["[A-Za-z-]{1,8}", select(&["Date", "Connection", "Transfer-Encoding"][..]).prop_map(Into::into)],
            "[ -~\\t\u{e9}]{0,12}"), 0..6),
        length in prop::option::of(0_u64..100),
        known in prop::option::of(0_u64..100),
    ) {
        let length = length.map(|length| length.to_string());
        let mut fields: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        if let Some(length) = &length {
            fields.push((b"Content-Length", length.as_bytes()));
        }
        prop_assume!(!status.starts_with("101"));
        prop_assert!(oracle::response(exchange, status.as_bytes(), &fields, known));
    }

    #[test]
    fn no_response_is_split(
        exchange in exchange(),
        status in prop::collection::vec(select(&b"2000 OK\r\n\0:"[..]), 0..8),
        fields in prop::collection::vec((
            prop::collection::vec(select(&b"ab-: \r\n\0\xe9"[..]), 0..4),
            prop::collection::vec(select(&b"ab: \t\r\n\0\xe9"[..]), 0..6)), 0..4),
        known in prop::option::of(0_u64..100),
    ) {
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        oracle::response(exchange, &status, &fields, known);
        oracle::response(exchange, b"200 OK", &fields, known);
    }
}
