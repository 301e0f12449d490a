//! Properties of the parsers of single fields and of CGI heads over generated input; those that hold for any bytes are
//! in `fuzz_entry.rs`, here are second opinions that are simpler than the parsers.

use std::cmp::Reverse;

use greenloom_proto::cgi::{Limits, Parsed, ResponseHead};
use greenloom_proto::fuzz_entry::{
    fuzz_accept_encoding, fuzz_cgi, fuzz_conditional, fuzz_date, fuzz_query_words, fuzz_ranges,
};
use greenloom_proto::http1::accept_encoding::{Coding, accepted};
use greenloom_proto::http1::conditional::{Conditions, Validators, Verdict};
use greenloom_proto::http1::date::{http_date, parse_http_date};
use greenloom_proto::http1::ranges::{
    ByteRange, Wanted, multipart_length, parse_ranges, push_part_head, push_parts_end,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const DATE_PIECES: &[&str] = &[
    "Sun", "Sunday", ", ", ",", " ", "  ", "06", "6", "31", "-", "Nov", "Feb", "1994", "94", "08:49:37",
    "23:59:60", ":", " GMT", "GMT",
];
const TAG_PIECES: &[&str] =
    &["\"a\"", "W/\"a\"", "W/", "\"a,b\"", "\"", "a", ",", ", ", " ", "\t", "*", "\u{e9}", "\"\"", "\0"];
const RANGE_PIECES: &[&str] = &[
    "0",
    "1",
    "9",
    "10",
    "99",
    "18446744073709551615",
    "00000000000000000000001",
    "-",
    "-",
    "-",
    ",",
    ",",
    " ",
    "x",
];
const CODING_PIECES: &[&str] = &[
    "gzip",
    "x-gzip",
    "br",
    "zstd",
    "identity",
    "*",
    "deflate",
    ",",
    ",",
    ", ",
    ";q=0",
    ";q=1",
    ";q=0.5",
    "; Q=0.001",
    ";q=1.5",
    ";",
    "=",
    " ",
    "\u{e9}",
];
const CGI_PIECES: &[&str] = &[
    "Status: 404 Not Found",
    "Status: 200",
    "HTTP/1.1 200 OK",
    "Location: /a",
    "Location: http://h/",
    "Content-Length: 5",
    "Content-Length: 6",
    "Transfer-Encoding: chunked",
    "X-Sendfile: /a",
    "X-Accel-Redirect: /b",
    "A: b",
    "a:",
    ":",
    " ",
    "\t",
    "\n",
    "\n",
    "\n",
    "\n",
    "\r\n",
    "\r\n",
    "\r",
    "\0",
    "\u{e9}",
    "<p>",
];
const QUERY_PIECES: &[&str] = &["a", "+", "%20", "%2b", "%3D", "%00", "%", "%4", "=", "-s", "&", "\u{e9}"];

fn joined(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

/// A time of any year that has four digits.
fn time() -> impl Strategy<Value = u64> {
    0..=253_402_300_799_u64
}

/// A date in the form of RFC 850 or of asctime, made from the one that is written.
fn in_other_forms(imf_fixdate: &str) -> [String; 2] {
    let [weekday, day, month, year, clock, _] =
        imf_fixdate.split(' ').collect::<Vec<_>>().try_into().expect("six words");
    let weekday = weekday.trim_end_matches(',');
    let long = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
        .into_iter()
        .find(|long| long.starts_with(weekday))
        .expect("a day of the week");
    let number: u8 = day.parse().expect("a number");
    [
        format!("{long}, {day}-{month}-{} {clock} GMT", &year[2..]),
        format!("{weekday} {month} {number:>2} {clock} {year}"),
    ]
}

/// What a set of well-formed ranges comes to, before any is left out for the server's protection.
fn satisfiable(specs: &[(Option<u64>, Option<u64>)], length: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for spec in specs {
        let (first, last) = match *spec {
            (Some(first), Some(last)) => (first, last),
            (Some(first), None) => (first, u64::MAX),
            (None, count) => {
                let count = count.unwrap_or(0);
                (length.saturating_sub(count), if count == 0 { 0 } else { u64::MAX })
            }
        };
        if first < length && (spec.0.is_some() || last > 0) {
            found.push((first, last.min(length - 1)));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn dates_are_read_as_they_are_written(seconds in time(), now in time()) {
        let text = String::from_utf8(http_date(seconds).to_vec()).unwrap();
        prop_assert_eq!(parse_http_date(text.as_bytes(), now), Some(seconds));
        let [rfc850, asctime] = in_other_forms(&text);
        prop_assert_eq!(parse_http_date(asctime.as_bytes(), now), Some(seconds));
        prop_assert_eq!(parse_http_date(rfc850.as_bytes(), seconds), Some(seconds), "{}", rfc850);
        fuzz_date(rfc850.as_bytes());
    }

    #[test]
    fn short_years_are_at_most_fifty_years_off(now in 2_000_000_000..=200_000_000_000_u64, other in time()) {
        let year = |seconds| -> u64 { std::str::from_utf8(&http_date(seconds)[12..16]).unwrap().parse().unwrap() };
        let [rfc850, _] = in_other_forms(std::str::from_utf8(&http_date(other)).unwrap());
        if let Some(read) = parse_http_date(rfc850.as_bytes(), now) {
            prop_assert_eq!(year(read) % 100, year(other) % 100);
            prop_assert!(year(read) <= year(now) + 50 && year(read) + 50 >= year(now), "{} {}", rfc850, read);
        } else {
            prop_assert!(rfc850.contains("29-Feb-00"), "{}", rfc850);
        }
    }

    #[test]
    fn dates_of_pieces(data in joined(DATE_PIECES, 12)) {
        fuzz_date(data.as_bytes());
    }

    #[test]
    fn tags_of_lists_are_found(
        before in prop::collection::vec("(W/)?\"[!#-~]{0,5}\"", 0..4),
        after in prop::collection::vec("(W/)?\"[!#-~]{0,5}\"", 0..4),
        own in "\"[!#-~]{0,5}\"",
        separator in select(&[",", ", ", " ,\t", ",,", " , ,"][..]),
    ) {
        let validators = Validators { etag: own.as_bytes(), modified_s: 1 };
        let others = [before.clone(), after.clone()].concat();
        let value = [before, vec![own.clone()], after].concat().join(separator);
        let with = Conditions { if_match: Some(value.as_bytes()), ..Conditions::default() };
        prop_assert_eq!(with.evaluate(&validators, 2), Verdict::Proceed);
        let with = Conditions { if_none_match: Some(value.as_bytes()), ..Conditions::default() };
        prop_assert_eq!(with.evaluate(&validators, 2), Verdict::NotModified);
        let without = others.join(separator);
        let is_among = others.iter().any(|other| other.trim_start_matches("W/") == own);
        let with = Conditions { if_none_match: Some(without.as_bytes()), ..Conditions::default() };
        prop_assert_eq!(with.evaluate(&validators, 2) == Verdict::NotModified, is_among);
    }

    #[test]
    fn conditions_of_pieces(
        own in select(&["\"a\"", "W/\"a\"", "\"a,b\"", "\"\"", "", "a"][..]),
        names in prop::collection::vec(select(&["If-Match", "If-None-Match", "If-Range", "If-Modified-Since"][..]), 0..4),
        values in prop::collection::vec(joined(TAG_PIECES, 8), 4),
    ) {
        let mut text = format!("{own}\n784111777");
        for (name, value) in names.iter().zip(&values) {
            text.extend(["\n", name, ": ", value]);
        }
        fuzz_conditional(text.as_bytes());
    }

    #[test]
    fn ranges_are_those_asked_for(
        specs in prop::collection::vec((prop::option::of(0..120_u64), prop::option::of(0..120_u64)), 1..6),
        length in 1..110_u64,
        separator in select(&[",", ", ", " ,\t", ",,"][..]),
    ) {
        let texts: Vec<String> = specs
            .iter()
            .map(|(first, last)| {
                let text = |number: &Option<u64>| number.map_or(String::new(), |number| number.to_string());
                format!("{}-{}", text(first), text(last))
            })
            .collect();
        let mut out = Vec::new();
        let wanted = parse_ranges(format!("bytes={}", texts.join(separator)).as_bytes(), length, &mut out);
        let is_malformed = |spec: &(Option<u64>, Option<u64>)| {
            matches!(spec, (None, None)) || matches!(spec, (Some(first), Some(last)) if last < first)
        };
        let expected = satisfiable(&specs, length);
        if specs.iter().any(is_malformed) {
            prop_assert_eq!(wanted, Wanted::Whole);
        } else if expected.is_empty() {
            prop_assert_eq!(wanted, Wanted::Unsatisfiable);
        } else if expected.len() == 1 {
            prop_assert_eq!(wanted, Wanted::Ranges);
            prop_assert_eq!((out[0].first, out[0].last), expected[0]);
        } else if wanted == Wanted::Ranges {
            for byte in 0..length {
                let is_in_found = out.iter().any(|range| (range.first..=range.last).contains(&byte));
                let is_in_expected = expected.iter().any(|(first, last)| (*first..=*last).contains(&byte));
                prop_assert_eq!(is_in_found, is_in_expected, "byte {}", byte);
            }
        } else {
            // Only sets that repeat bytes may be answered with the whole.
            prop_assert_eq!(wanted, Wanted::Whole);
            let sum: u64 = expected.iter().map(|(first, last)| last - first + 1).sum();
            let distinct = (0..length).filter(|byte| expected.iter().any(|(a, b)| (*a..=*b).contains(byte)));
            prop_assert!(sum > distinct.count() as u64);
        }
    }

    #[test]
    fn ranges_of_pieces(data in joined(RANGE_PIECES, 20), length in prop_oneof![0..30_u64, Just(u64::MAX)]) {
        fuzz_ranges(format!("{length}\nbytes={data}").as_bytes());
    }

    #[test]
    fn bodies_of_several_ranges_are_as_long_as_announced(
        boundary in "[a-z0-9]{1,40}",
        content_type in prop::option::of("[a-z/+.-]{0,40}"),
        ranges in prop::collection::vec((0..2000_u64, 0..50_u64), 1..8),
        length in prop_oneof![2100..3000_u64, any::<u64>()],
    ) {
        let content_type = content_type.as_ref().map(String::as_bytes);
        let ranges: Vec<ByteRange> =
            ranges.iter().map(|(first, more)| ByteRange { first: *first, last: first + more }).collect();
        let mut body = Vec::new();
        for (index, range) in ranges.iter().enumerate() {
            push_part_head(&mut body, boundary.as_bytes(), content_type, *range, length, index == 0);
            body.extend((range.first..=range.last).map(|_| b'x'));
        }
        push_parts_end(&mut body, boundary.as_bytes());
        prop_assert_eq!(multipart_length(boundary.as_bytes(), content_type, &ranges, length), body.len() as u64);
    }

    #[test]
    fn codings_are_those_of_the_highest_weight(
        weights in prop::collection::hash_map(select(&["br", "zstd", "gzip", "identity", "*"][..]), 0..=1000_u32, 0..5),
    ) {
        let members: Vec<String> = weights
            .iter()
            .map(|(name, weight)| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
            .collect();
        let weight = |name: &str| weights.get(name).or_else(|| weights.get("*")).copied().unwrap_or(0);
        let found = accepted(Some(members.join(", ").as_bytes()));
        let found: Vec<&str> = found.into_iter().map(Coding::name).collect();
        let mut expected = vec!["br", "zstd", "gzip"];
        expected.retain(|name| weight(name) > 0 && weight(name) >= weight("identity"));
        expected.sort_by_key(|name| Reverse(weight(name)));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn codings_of_pieces(data in joined(CODING_PIECES, 12)) {
        fuzz_accept_encoding(data.as_bytes());
    }

    #[test]
    fn good_heads_of_scripts_are_accepted_in_any_pieces(
        fields in prop::collection::vec(("[A-Za-z][A-Za-z0-9_-]{0,12}", "([!-~]([ -~\\t]{0,20}[!-~])?)?"), 1..12),
        ends in prop::collection::vec(select(&["\n", "\r\n"][..]), 13),
        body in "[ -~\\n]{0,10}",
        cut in any::<Index>(),
    ) {
        let special = ["status", "location", "content-length", "x-sendfile", "x-accel-redirect", "transfer-encoding"];
        let fields: Vec<_> =
            fields.into_iter().filter(|(name, _)| !special.contains(&&*name.to_ascii_lowercase())).collect();
        prop_assume!(!fields.is_empty());
        let mut text = String::new();
        for ((name, value), end) in fields.iter().zip(&ends) {
            text.extend([name, ":", value, end]);
        }
        text.extend([ends[12], &body]);
        let limits = Limits { head_bytes: 2048, fields: 32 };
        let mut head = ResponseHead::default();
        let cut = cut.index(text.len() - body.len());
        prop_assert_eq!(head.parse(&text.as_bytes()[..cut], &limits), Ok(Parsed::Partial));
        prop_assert_eq!(head.parse(text.as_bytes(), &limits), Ok(Parsed::Complete));
        prop_assert_eq!(head.len, text.len() - body.len());
        let read: Vec<(&[u8], &[u8])> = head
            .fields
            .iter()
            .map(|(name, value)| (name.of(text.as_bytes()), value.of(text.as_bytes())))
            .collect();
        let given: Vec<(&[u8], &[u8])> =
            fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        prop_assert_eq!(read, given);
        fuzz_cgi(text.as_bytes());
    }

    #[test]
    fn heads_of_scripts_of_pieces(data in joined(CGI_PIECES, 16)) {
        fuzz_cgi(data.as_bytes());
    }

    #[test]
    fn queries_of_pieces(data in joined(QUERY_PIECES, 12)) {
        fuzz_query_words(data.as_bytes());
    }

    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz_date(&data);
        fuzz_conditional(&data);
        fuzz_ranges(&data);
        fuzz_accept_encoding(&data);
        fuzz_cgi(&data);
        fuzz_query_words(&data);
    }
}
