//! Entries for fuzzing: each takes any bytes, drives one machine with them, and panics when a promise of this
//! crate is broken. No part of the public interface; `fuzz/` and the replay of its corpus call them.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::str;

use crate::Span;
use crate::cgi::{ResponseHead, query_words};
use crate::handover::Packet;
use crate::http1::accept_encoding::accepted;
use crate::http1::body::{BodyError, ChunkEvent, ChunkedDecoder};
use crate::http1::chars;
use crate::http1::conditional::{Conditions, Validators, Verdict};
use crate::http1::date::{http_date, parse_http_date};
use crate::http1::head::{Field, Framing, Head, Limits, Parsed, Version, percent_decode, variable_name};
use crate::http1::ranges::{self, MAX_RANGES, Wanted, parse_ranges};
use crate::http1::response::{self, BodyMode, Exchange};
use crate::text::push_decimal;
use crate::uwsgi;
use crate::websocket::deflate::{self, Policy};
use crate::websocket::{Deflate, Event, Failure, Kind, Receiver, code, handshake};

/// Bounds as a server would set them, small enough for a fuzzer to reach.
const LIMITS: Limits = Limits { head_bytes: 2048, fields: 32 };

/// A head means the same in whatever pieces it arrives, and all its spans lie inside it.
pub fn fuzz_head(data: &[u8]) {
    let mut whole = Head::default();
    let result = whole.parse(data, &LIMITS);
    let mut decided_at = None;
    let mut head = Head::default();
    for end in 0..=data.len().min(LIMITS.head_bytes + 2) {
        let part = head.parse(&data[..end], &LIMITS);
        match (part, decided_at) {
            (Ok(Parsed::Partial), None) => {}
            (Ok(Parsed::Partial), Some(at)) => panic!("decided at {at}, undecided at {end}"),
            _ => {
                if decided_at.is_none() && !Head::may_decide(&data[..end], end.saturating_sub(1), &LIMITS) {
                    assert!(!data[..end].contains(&b'\n'), "decided without a new line at {end}");
                }
                assert_eq!(part, result, "the first {end} bytes against all {}", data.len());
                if part == Ok(Parsed::Complete) {
                    assert_eq!(head, whole);
                }
                decided_at.get_or_insert(end);
            }
        }
    }
    match result {
        Ok(Parsed::Complete) => check_head(&whole, data),
        Ok(Parsed::Partial) => assert!(data.len() < LIMITS.head_bytes, "the head can no longer fit"),
        Err(error) => assert!(error.status() >= 400, "{error}"),
    }
}

fn check_head(head: &Head, data: &[u8]) {
    assert!(head.len <= data.len().min(LIMITS.head_bytes));
    assert!(data[..head.len].ends_with(b"\r\n\r\n"));
    assert!(head.fields.len() <= LIMITS.fields);
    let lies_inside = |span: Span| span.start <= span.end && span.end as usize <= head.len;
    let spans = [head.method, head.target, head.path, head.query, head.host];
    assert!(spans.into_iter().all(lies_inside));
    assert!(!head.method.is_empty() && !head.path.is_empty());
    assert_eq!(head.path_is_plain, !head.path.of(data).contains(&b'%'));
    let mut out = Vec::new();
    percent_decode(head.path.of(data), &mut out);
    assert!(out.len() <= head.path.len());
    let mut repeats = false;
    for (index, Field { name, value }) in head.fields.iter().enumerate() {
        assert!(lies_inside(*name) && lies_inside(*value) && !name.is_empty());
        let bytes = value.of(data);
        assert!(!bytes.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n')));
        repeats |= head.fields[..index].iter().any(|f| f.name.of(data).eq_ignore_ascii_case(name.of(data)));
        out.clear();
        variable_name(name.of(data), &mut out);
        assert!(out.iter().all(|byte| !byte.is_ascii_lowercase() && *byte != b'-'));
    }
    assert_eq!(head.repeats, repeats);
    if head.version == Version::Http10 {
        assert!(head.framing != Framing::Chunked && !head.expect_continue && !head.upgrade);
    }
}

/// A chunked body means the same in whatever pieces it arrives, and asking for more consumes everything.
pub fn fuzz_chunked(data: &[u8]) {
    let at_once = decode(data, data.len());
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(decode(data, step), at_once, "pieces of {step} bytes");
    }
}

/// The body, and where it ended.
fn decode(data: &[u8], step: usize) -> Result<(Vec<u8>, Option<usize>), BodyError> {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut consumed, mut arrived) = (Vec::new(), 0, 0);
    loop {
        let input = &data[consumed..arrived];
        let (used, event) = decoder.next(input)?;
        assert!(used <= input.len());
        match event {
            ChunkEvent::Data(range) => {
                assert!(range.end == used && !range.is_empty());
                body.extend_from_slice(&input[range]);
            }
            ChunkEvent::NeedMore => assert_eq!(used, input.len()),
            ChunkEvent::End => return Ok((body, Some(consumed + used))),
        }
        consumed += used;
        if consumed == arrived {
            if arrived == data.len() {
                return Ok((body, None));
            }
            arrived = (arrived + step).min(data.len());
        }
    }
}

/// Every byte of an accepted packet belongs to a variable, and writing the variables gives the packet again.
pub fn fuzz_uwsgi(data: &[u8]) {
    let Some(header) = uwsgi::parse_header(data) else {
        assert!(data.len() < uwsgi::HEADER_BYTES);
        return;
    };
    let packet = &data[..data.len().min(uwsgi::HEADER_BYTES + usize::from(header.size))];
    let mut vars = Vec::new();
    if uwsgi::parse_vars(&packet[uwsgi::HEADER_BYTES..], uwsgi::HEADER_BYTES, 64, &mut vars).is_err() {
        assert!(vars.is_empty());
        return;
    }
    assert!(vars.len() <= 32);
    let pairs: Vec<(&[u8], &[u8])> =
        vars.iter().map(|(key, value)| (key.of(packet), value.of(packet))).collect();
    for (_, value) in &pairs {
        let length = uwsgi::content_length(value);
        assert!(length.is_err() || value.iter().all(u8::is_ascii_digit));
    }
    let written = uwsgi::encode(header.modifier1, header.modifier2, &pairs);
    assert_eq!(written[uwsgi::HEADER_BYTES..], packet[uwsgi::HEADER_BYTES..]);
}

/// Whatever an application gives, the head has the lines that were accepted and no others, and one way only to
/// find the end of the body. The first byte chooses the request; the lines that follow are the status, then
/// names and values in turn.
pub fn fuzz_response(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let exchange = Exchange {
        version: if choice & 1 == 0 { Version::Http11 } else { Version::Http10 },
        is_head: choice & 2 != 0,
        keep_alive: choice & 4 != 0,
        cgi: choice & 8 != 0,
    };
    let known_length = (choice & 16 != 0).then_some(u64::from(choice));
    let mut parts = rest.split(|&byte| byte == b'\n');
    let mut out = b"before".to_vec();
    let Ok(mut writer) = response::begin(&mut out, &exchange, parts.next().unwrap_or_default()) else {
        assert_eq!(out, b"before");
        return;
    };
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        if writer.field(name, value).is_err() {
            let framed = writer.end(known_length, b"now");
            assert!(out == b"before" && !framed.keep_alive);
            return;
        }
    }
    let framed = writer.end(known_length, b"now");
    let head = &out[b"before".len()..];
    assert_eq!(head.len(), framed.header_bytes);
    assert!(head.ends_with(b"\r\n\r\n"));
    let lines: Vec<&[u8]> = head[..head.len() - 4].split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), 1 + framed.field_count as usize, "one line for each field");
    assert!(!head.contains(&0));
    let count = |wanted: &[u8]| {
        lines
            .iter()
            .filter(|line| line.len() > wanted.len() && line[..wanted.len()].eq_ignore_ascii_case(wanted))
            .count()
    };
    let (lengths, codings) = (count(b"Content-Length:"), count(b"Transfer-Encoding:"));
    assert!(lengths + codings <= 1, "two ways to find the end");
    match framed.body {
        BodyMode::Length(_) => assert_eq!(lengths, 1),
        BodyMode::Chunked => assert!(codings == 1 && exchange.version == Version::Http11 && !exchange.cgi),
        BodyMode::UntilClose => assert!(!framed.keep_alive && codings == 0),
        BodyMode::None => assert_eq!(codings, 0),
    }
    assert!(exchange.keep_alive || !framed.keep_alive);
}

/// A packet that is accepted is the only way to write what it says.
pub fn fuzz_handover(data: &[u8]) {
    if let Ok(packet) = Packet::decode(data) {
        let mut written = Vec::new();
        packet.encode(&mut written);
        assert_eq!(written, data);
    }
}

/// A time that a date names can be written and read again, and is never far in the future because of a short year.
pub fn fuzz_date(data: &[u8]) {
    let now_s = data.len() as u64 * 100_000_000;
    let Some(seconds) = parse_http_date(data, now_s) else { return };
    assert!(matches!(data.len(), 24 | 29..=33), "{} bytes", data.len());
    assert_eq!(parse_http_date(&http_date(seconds), 0), Some(seconds));
    if data.contains(&b'-') {
        // 50 years with 13 leap days, and a leap second at their end.
        assert!(seconds <= now_s + (50 * 365 + 13) * 86_400 + 1);
    }
}

/// The parts of [`fuzz_conditional`]'s input: the first line is the entity tag, the second the time of modification,
/// then come fields with their names.
fn conditions(data: &[u8]) -> Option<(Validators<'_>, Conditions<'_>)> {
    let mut lines = data.split(|&byte| byte == b'\n');
    let validators = Validators { etag: lines.next()?, modified_s: chars::decimal(lines.next()?)? };
    let mut conditions = Conditions::default();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let slot = match &line[..colon] {
            b"If-Match" => &mut conditions.if_match,
            b"If-None-Match" => &mut conditions.if_none_match,
            b"If-Modified-Since" => &mut conditions.if_modified_since,
            b"If-Unmodified-Since" => &mut conditions.if_unmodified_since,
            b"If-Range" => &mut conditions.if_range,
            _ => return None,
        };
        *slot = Some(&line[colon + 1..]);
    }
    Some((validators, conditions))
}

/// Entity tags count more than dates, what holds strongly holds weakly, and nothing holds because of a tag that the
/// field does not have.
pub fn fuzz_conditional(data: &[u8]) {
    const NOW_S: u64 = 2_000_000_000;
    let Some((own, conditions)) = conditions(data) else { return };
    let verdict = |conditions: Conditions<'_>| conditions.evaluate(&own, NOW_S);
    let Conditions { if_match, if_none_match, if_range, .. } = conditions;
    let whole = verdict(conditions);
    if if_match.is_some() {
        assert_eq!(verdict(Conditions { if_unmodified_since: None, ..conditions }), whole);
    }
    if if_none_match.is_some() {
        assert_eq!(verdict(Conditions { if_modified_since: None, ..conditions }), whole);
    }
    let opaque = own.etag.strip_prefix(b"W/").unwrap_or(own.etag);
    let names_own = |value: &[u8]| {
        chars::trim(value) == b"*"
            || (opaque.len() > 1 && value.windows(opaque.len()).any(|part| part == opaque))
    };
    let holds_strongly =
        |if_match| verdict(Conditions { if_match, ..Conditions::default() }) == Verdict::Proceed;
    let holds_weakly = |if_none_match| {
        verdict(Conditions { if_none_match, ..Conditions::default() }) == Verdict::NotModified
    };
    for value in [if_match, if_none_match, if_range].into_iter().flatten() {
        if holds_strongly(Some(value)) {
            assert!(holds_weakly(Some(value)));
        }
        if holds_weakly(Some(value)) {
            assert!(names_own(value));
        }
    }
    let Some(value) = if_range else {
        assert!(conditions.range_applies(&own, NOW_S));
        return;
    };
    if conditions.range_applies(&own, NOW_S) {
        let is_date = parse_http_date(chars::trim(value), NOW_S) == Some(own.modified_s);
        assert!(is_date || holds_strongly(Some(value)));
    }
}

/// Ranges lie inside the representation, ask for no more than all of it, and mean the same when they are written
/// again; a body of several is as long as announced. The first line is the length, the second the value.
pub fn fuzz_ranges(data: &[u8]) {
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let (Some(Some(length)), Some(value)) = (lines.next().map(chars::decimal), lines.next()) else { return };
    let mut found = Vec::new();
    if parse_ranges(value, length, &mut found) != Wanted::Ranges {
        assert!(found.is_empty());
        return;
    }
    assert!(!found.is_empty() && found.len() <= MAX_RANGES);
    assert!(found.iter().all(|range| range.first <= range.last && range.last < length));
    let sum: u128 = found.iter().map(|range| u128::from(range.len())).sum();
    assert!(sum <= u128::from(length));

    let mut written = b"bytes=".to_vec();
    for range in &found {
        push_decimal(&mut written, range.first);
        written.push(b'-');
        push_decimal(&mut written, range.last);
        written.push(b',');
    }
    let mut again = Vec::new();
    assert_eq!(parse_ranges(&written, length, &mut again), Wanted::Ranges);
    assert_eq!(again, found);

    for (boundary, content_type) in [(&b"b"[..], None), (value, Some(value))] {
        let mut out = Vec::new();
        for (index, range) in found.iter().enumerate() {
            ranges::push_part_head(&mut out, boundary, content_type, *range, length, index == 0);
        }
        ranges::push_parts_end(&mut out, boundary);
        let expected = u64::try_from(sum + out.len() as u128).unwrap_or(u64::MAX);
        assert_eq!(ranges::multipart_length(boundary, content_type, &found, length), expected);
    }
}

/// A coding is accepted once, only when something in the field speaks for it, and whatever its case; members that are
/// not understood change nothing.
pub fn fuzz_accept_encoding(data: &[u8]) {
    let found = accepted(Some(data));
    let lower = data.to_ascii_lowercase();
    for (index, coding) in found.into_iter().enumerate() {
        assert!(!found.as_slice()[..index].contains(&coding));
        let name = coding.name().as_bytes();
        assert!(lower.contains(&b'*') || lower.windows(name.len()).any(|part| part == name));
    }
    assert_eq!(accepted(Some(&lower)), found);
    assert_eq!(accepted(Some(&[b"deflate, br;q=2, ", data, b" ,gzip;q"].concat())), found);
    assert!(accepted(Some(&[data, b",*;q=0,br;q=0,zstd;q=0,gzip;q=0"].concat())).is_empty());
}

/// The head of a script's output means the same in whatever pieces it arrives, all its spans lie inside it, and each
/// field can be written into a response.
pub fn fuzz_cgi(data: &[u8]) {
    let mut whole = ResponseHead::default();
    let result = whole.parse(data, &LIMITS);
    let mut is_decided = false;
    let mut head = ResponseHead::default();
    for end in 0..=data.len().min(LIMITS.head_bytes + 2) {
        let part = head.parse(&data[..end], &LIMITS);
        if part == Ok(Parsed::Partial) {
            assert!(!is_decided, "undecided again at {end}");
            continue;
        }
        let may_decide = is_decided || Head::may_decide(&data[..end], end.saturating_sub(1), &LIMITS);
        assert!(may_decide, "decided without a new line at {end}");
        is_decided = true;
        assert_eq!(part, result, "the first {end} bytes against all {}", data.len());
        if part == Ok(Parsed::Complete) {
            assert_eq!(head, whole);
        }
    }
    if result != Ok(Parsed::Complete) {
        assert!(result.is_err() || data.len() < LIMITS.head_bytes, "the head can no longer fit");
        return;
    }
    assert!(whole.len <= data.len().min(LIMITS.head_bytes) && data[..whole.len].ends_with(b"\n"));
    assert!(whole.fields.len() <= LIMITS.fields);
    let spans = [whole.status, whole.location, whole.hand_over, whole.accel];
    for span in
        spans.into_iter().flatten().chain(whole.fields.iter().flat_map(|&(name, value)| [name, value]))
    {
        assert!(span.start <= span.end && (span.end as usize) < whole.len);
    }
    assert!(!whole.is_local_redirect(data) || whole.status_line(data) == b"302 Found");
    let exchange = Exchange { version: Version::Http11, is_head: false, keep_alive: true, cgi: false };
    let mut out = Vec::new();
    let mut writer = response::begin(&mut out, &exchange, whole.status_line(data)).expect("it was checked");
    for (name, value) in &whole.fields {
        writer.field(name.of(data), value.of(data)).expect("it was checked");
    }
    assert!(writer.end(whole.content_length, b"now").header_bytes > 0);
}

/// Words are arguments of a process, and encoded again they give the same words.
pub fn fuzz_query_words(data: &[u8]) {
    let Some(words) = query_words(data) else { return };
    assert!(!data.is_empty() && !data.contains(&b'='));
    assert!(words.iter().all(|word| !word.contains(&0)));
    assert!(words.iter().map(|word| word.len() + 1).sum::<usize>() <= data.len() + 1);
    let mut written = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            written.push(b'+');
        }
        for byte in word {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
            written.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    if !written.is_empty() {
        assert_eq!(query_words(&written), Some(words));
    }
}

/// What a client's frames came to; payloads are kept as they are.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    Failure(Failure),
}

/// Frames mean the same in whatever pieces they arrive; messages keep to their bound and are what they say; memory
/// follows what has arrived; nothing comes behind the end. The first byte chooses extension and bound.
pub fn fuzz_websocket(data: &[u8]) {
    let Some((&choice, frames)) = data.split_first() else { return };
    let deflate = Deflate {
        client_context: choice & 2 != 0,
        client_window_bits: (choice & 4 != 0).then_some(8),
        ..Deflate::ALONE
    };
    let deflate = (choice & 1 != 0).then_some(deflate);
    let most = [16, 300, 5_000, 70_000][usize::from(choice >> 3 & 3)];
    let at_once = receive(frames, frames.len(), most, deflate);
    for step in [1, 2, 5, 64] {
        assert_eq!(receive(frames, step, most, deflate), at_once, "pieces of {step} bytes");
    }
}

fn receive(frames: &[u8], step: usize, most: usize, deflate: Option<Deflate>) -> Vec<Found> {
    // Deflate's state is less than this.
    const ENGINE: usize = 11 * 1024;
    let mut receiver = Receiver::new(most, deflate);
    let (mut found, mut arrived, mut is_over) = (Vec::new(), 0, false);
    for mut piece in frames.chunks(step.max(1)) {
        arrived += piece.len();
        loop {
            let (used, event) = match receiver.next(piece) {
                Ok(next) => next,
                Err(failure) => {
                    assert!(!is_over && code::may_be_sent(failure.code) && failure.reason.len() <= 123);
                    found.push(Found::Failure(failure));
                    is_over = true;
                    break;
                }
            };
            let next = match event {
                Event::NeedMore => {
                    assert_eq!(used, piece.len());
                    break;
                }
                Event::Message(message) => {
                    assert!(message.payload.len() <= most);
                    assert!(message.kind == Kind::Binary || str::from_utf8(&message.payload).is_ok());
                    Found::Message(message.kind, message.payload)
                }
                Event::Ping(payload) => Found::Ping(payload.to_vec()),
                Event::Pong(payload) => Found::Pong(payload.to_vec()),
                Event::Close { code, reason } => {
                    assert!(code.is_none_or(code::may_be_sent) && reason.len() <= 123);
                    Found::Close(code, reason.as_bytes().to_vec())
                }
            };
            assert!(!is_over, "{next:?} behind the end");
            is_over = matches!(next, Found::Close(..));
            found.push(next);
            piece = &piece[used..];
        }
        // Doubling and the smallest buffer; deflate makes at most 1032 bytes of one, and then there is its state.
        let allowed = match deflate {
            None => (2 * arrived).max(128).min(2 * most),
            Some(deflate) => {
                let window = if deflate.client_context { deflate.client_window() } else { 0 };
                (2 * most + 1).min(2064 * arrived + 256) + 2 * window + ENGINE
            }
        };
        assert!(receiver.heap_bytes() <= allowed.max(128), "{} of {allowed}", receiver.heap_bytes());
        assert!(!is_over || receiver.heap_bytes() == 0);
    }
    found
}

/// What is agreed on can be written, and read again as an offer that comes to the same; nothing of a client's list of
/// subprotocols could split an answer. The first byte is the policy.
pub fn fuzz_websocket_offers(data: &[u8]) {
    let Some((&choice, value)) = data.split_first() else { return };
    let policy = Policy {
        server_context: choice & 1 != 0,
        client_context: choice & 2 != 0,
        client_window_bits: choice >> 2,
    };
    if let Some(agreed) = deflate::negotiate(value, policy) {
        let text = agreed.to_string();
        let again = deflate::negotiate(text.as_bytes(), policy);
        assert_eq!(again, Some(agreed), "{text}");
        assert!(policy.server_context || !agreed.server_context);
        assert!(policy.client_context || !agreed.client_context);
        assert!((256..=32_768).contains(&agreed.client_window()));
        assert!((256..=32_768).contains(&agreed.server_window()));
        assert!(value.to_ascii_lowercase().windows(18).any(|part| part == b"permessage-deflate"));
    }
    for name in handshake::subprotocols(value) {
        assert!(chars::all(name, chars::TOKEN) && value.windows(name.len()).any(|part| part == name));
    }
    let fields = handshake::Fields {
        method: b"GET",
        http: Version::Http11,
        upgrade: Some(b"websocket"),
        connection: Some(b"upgrade"),
        version: Some(b"13"),
        key: Some(value),
    };
    if handshake::check(fields).is_ok() {
        assert_eq!(chars::trim(value).len(), 24);
    }
    assert!(handshake::accept_key(value).iter().all(u8::is_ascii));
}
