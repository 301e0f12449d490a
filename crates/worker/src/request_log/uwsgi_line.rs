//! uWSGI's line, field by field, so that what reads those logs reads ours.
//!
//! ```text
//! [pid: 10862|app: 0|req: 1/7] 127.0.0.1 (ann) {20 vars in 194 bytes} [Sat Nov 21 19:27:38 2026] GET /plain?a=1
//!     => generated 5 bytes in 12 msecs (HTTP/1.1 200) 1 headers in 45 bytes (1 switches on core 0)
//! ```
//!
//! (One line; broken here.) A request that was ended before its time has the reason behind it: ` [cancelled: client gone]`,
//! ` [cancelled: deadline]` or ` [cancelled: stop]`, and ` [abandoned]` if its coroutine would not end.
//!
//! Unlike uWSGI's, no line can be forged or broken by what a client sends: every byte that could is written as `\xNN`,
//! the backslash too, so that the bytes sent can be told from the line alone; and what is cut ends in `\...`, which no
//! client can produce.

use std::io::Write as _;

use greenloom_proto::text::push_decimal;

use super::escape::push_text;
use super::{Line, Record};

/// Most bytes of each text in a line, escapes counted. With all numbers at their longest, and the fixed text, a
/// line stays below its bound.
const ADDR_BYTES: usize = 256;
const USER_BYTES: usize = 256;
const METHOD_BYTES: usize = 64;
const URI_BYTES: usize = 2900;
const PROTOCOL_BYTES: usize = 32;

/// Appends the line, its line end included.
pub(super) fn append(out: &mut Vec<u8>, line: &Line<'_>) {
    let Line { record, addr, scene } = line;
    let request = record.request;
    let uri = request.uri();
    out.reserve(256 + uri.len().min(URI_BYTES));
    if let Some(memory) = scene.memory {
        out.extend_from_slice(b"{address space usage: ");
        push_memory(out, memory.address_space);
        out.extend_from_slice(b"} {rss usage: ");
        push_memory(out, memory.resident);
        out.extend_from_slice(b"} ");
    }
    out.extend_from_slice(b"[pid: ");
    push_decimal(out, u64::from(scene.pid));
    push_app(out, record);
    push_decimal(out, record.total_requests);
    out.extend_from_slice(b"] ");
    push_text(out, addr, ADDR_BYTES, b'(');
    out.extend_from_slice(b" (");
    push_text(out, request.var(b"REMOTE_USER").unwrap_or_default(), USER_BYTES, b')');
    out.extend_from_slice(b") {");
    let (vars, vars_bytes) = request.variables();
    push_decimal(out, u64::from(vars) * 2);
    out.extend_from_slice(b" vars in ");
    push_decimal(out, vars_bytes);
    out.extend_from_slice(b" bytes} [");
    out.extend_from_slice(scene.dates.ctime());
    out.extend_from_slice(b"] ");
    push_text(out, request.method(), METHOD_BYTES, b' ');
    out.push(b' ');
    push_text(out, uri, URI_BYTES, b' ');
    out.extend_from_slice(b" => generated ");
    push_decimal(out, record.body_bytes);
    out.extend_from_slice(b" bytes in ");
    if scene.micros {
        push_decimal(out, record.elapsed_us);
        out.extend_from_slice(b" micros");
    } else {
        push_decimal(out, record.elapsed_us / 1000);
        out.extend_from_slice(b" msecs");
    }
    out.extend_from_slice(if record.account.sent_file { b" via sendfile() (" } else { b" (" });
    push_text(out, request.protocol(), PROTOCOL_BYTES, b' ');
    out.push(b' ');
    push_decimal(out, u64::from(record.status));
    out.extend_from_slice(b") ");
    push_decimal(out, u64::from(record.header_count));
    out.extend_from_slice(b" headers in ");
    push_decimal(out, record.header_bytes);
    out.extend_from_slice(b" bytes (");
    push_decimal(out, record.account.switches);
    out.extend_from_slice(b" switches on core ");
    match record.account.core {
        Some(core) => push_decimal(out, u64::from(core)),
        None => out.extend_from_slice(b"-1"),
    }
    out.push(b')');
    if let Some(why) = record.account.cancelled {
        // Writing into memory cannot fail.
        let _ = write!(out, " [cancelled: {why}]");
    }
    if record.account.abandoned {
        out.extend_from_slice(b" [abandoned]");
    }
    out.push(b'\n');
}

/// The app's number and its requests; both are -1 without an app.
fn push_app(out: &mut Vec<u8>, record: &Record<'_>) {
    match record.account.app {
        Some((app, requests)) => {
            out.extend_from_slice(b"|app: ");
            push_decimal(out, u64::from(app));
            out.extend_from_slice(b"|req: ");
            push_decimal(out, requests);
            out.push(b'/');
        }
        None => out.extend_from_slice(b"|app: -1|req: -1/"),
    }
}

fn push_memory(out: &mut Vec<u8>, bytes: u64) {
    push_decimal(out, bytes);
    out.extend_from_slice(b" bytes/");
    push_decimal(out, bytes >> 20);
    out.extend_from_slice(b"MB");
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::super::samples::{self, Sample, hostile_texts, unescape};
    use super::super::{LINE_BYTES, escape};
    use super::*;
    use crate::Cancel;

    fn line(sample: &Sample) -> String {
        sample.line(append)
    }

    #[test]
    fn the_line_of_uwsgi() {
        let sample = Sample::default();
        assert_eq!(
            line(&sample),
            format!(
                "[pid: 10862|app: 0|req: 1/7] 127.0.0.1 (ann) {{20 vars in 227 bytes}} [{}] GET /plain?a=1 => \
                 generated 5 bytes in 12 msecs (HTTP/1.1 200) 1 headers in 45 bytes (1 switches on core 0)\n",
                greenloom_sys::clock::ctime(samples::BEGAN_US / 1_000_000)
            )
        );
    }

    #[test]
    fn microseconds_and_memory_when_asked_for() {
        let mut sample = Sample { micros: true, ..Sample::default() };
        assert!(line(&sample).contains(" bytes in 12345 micros (HTTP/1.1 200) "), "{}", line(&sample));
        sample.memory = Some(Memory { resident: 13_332_480, address_space: 136_597_504 });
        let expected =
            "{address space usage: 136597504 bytes/130MB} {rss usage: 13332480 bytes/12MB} [pid: 10862|";
        assert!(line(&sample).starts_with(expected), "{}", line(&sample));
    }

    #[test]
    fn what_ended_before_its_time_says_why() {
        for (why, text) in
            [(Cancel::ClientGone, "client gone"), (Cancel::Deadline, "deadline"), (Cancel::Stop, "stop")]
        {
            let mut sample = Sample { cancelled: Some(why), ..Sample::default() };
            let end = format!(" (1 switches on core 0) [cancelled: {text}]");
            assert!(line(&sample).ends_with(&format!("{end}\n")), "{}", line(&sample));
            sample.abandoned = true;
            assert!(line(&sample).ends_with(&format!("{end} [abandoned]\n")), "{}", line(&sample));
        }
    }

    #[test]
    fn without_an_app_both_numbers_are_minus_one() {
        let text = line(&Sample { app: None, total_requests: 3, ..Sample::default() });
        assert!(text.starts_with("[pid: 10862|app: -1|req: -1/3] "), "{text}");
    }

    #[test]
    fn an_empty_request_keeps_its_blanks() {
        let mut sample = Sample { status: 0, ..Sample::default() };
        for name in samples::TEXTS {
            sample.set(name, b"");
        }
        let text = line(&sample);
        assert!(text.contains("]  () {20 vars"), "{text}");
        assert!(text.contains("]   => generated"), "{text}");
        assert!(text.contains(" msecs ( 0) "), "{text}");
    }

    #[test]
    fn bytes_that_could_forge_are_escaped() {
        let mut sample = Sample::default();
        sample.set("REQUEST_URI", b"/a\nb\r\t\x1b[31m\x7f\xc3\xa9\\x41 => c\0");
        let text = line(&sample);
        assert!(
            text.contains("GET /a\\x0Ab\\x0D\\x09\\x1B[31m\\x7F\\xC3\\xA9\\x5Cx41\\x20=>\\x20c\\x00 => gen"),
            "{text}"
        );
        let mut sample = Sample::default();
        sample.set("REMOTE_USER", b"x) {0 vars");
        sample.set("REMOTE_ADDR", b"1.2.3.4, 5.6.7.8 (y");
        let text = line(&sample);
        assert!(text.contains("] 1.2.3.4, 5.6.7.8 \\x28y (x\\x29 {0 vars) {20 vars"), "{text}");
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        let with_uri = |uri: &[u8]| {
            let mut sample = Sample::default();
            sample.set("REQUEST_URI", uri);
            line(&sample)
        };
        let text = with_uri(&[b'a'; 5000]);
        let expected = format!("GET {}\\... => generated", "a".repeat(URI_BYTES));
        assert!(text.contains(&expected), "{text}");
        // No escape is cut in two, whatever its place.
        for shift in 0..4 {
            let mut uri = vec![b'a'; URI_BYTES - shift];
            uri.extend_from_slice(&[0xff, 0xff]);
            let text = with_uri(&uri);
            assert!(text.contains(&format!("{}\\... => ", "a".repeat(URI_BYTES - shift))), "{shift}: {text}");
        }
        assert!(!with_uri(&[b'a'; URI_BYTES]).contains("\\..."));
        assert_eq!(escape::CUT, b"\\...");
    }

    #[test]
    fn the_longest_line_is_below_the_bound() {
        for text in [&[0xff; 10_000], &[b'a'; 10_000]] {
            let mut sample = Sample::longest();
            for name in samples::TEXTS {
                sample.set(name, text);
            }
            for micros in [false, true] {
                sample.micros = micros;
                let length = line(&sample).len();
                assert!(length < LINE_BYTES, "{length}");
            }
        }
    }

    /// What a reader of the log does: finds each text by the bytes around it.
    fn read_back(line: &str) -> Option<[Vec<u8>; 5]> {
        let rest = line.strip_suffix('\n')?;
        let (_, rest) = rest.split_once("] ")?;
        let (addr, rest) = rest.split_once('(')?;
        let (user, rest) = rest.split_once(") {")?;
        let (_, rest) = rest.split_once("} [")?;
        let (_, rest) = rest.split_once("] ")?;
        let (method, rest) = rest.split_once(' ')?;
        let (uri, rest) = rest.split_once(' ')?;
        let rest = rest.strip_prefix("=> generated ")?;
        let (_, rest) = rest.split_once(" (")?;
        let (protocol, _) = rest.split_once(' ')?;
        Some([addr.strip_suffix(' ')?, user, method, uri, protocol].map(unescape))
    }

    #[test]
    fn whatever_is_sent_can_be_read_back_from_one_line() {
        let mut texts = hostile_texts();
        for _ in 0..20_000 {
            let mut sample = Sample::default();
            let expected = samples::TEXTS.map(|name| {
                let mut text = texts.next().expect("endless");
                text.truncate(match name {
                    "REQUEST_METHOD" => 15,
                    "SERVER_PROTOCOL" => 7,
                    _ => usize::MAX,
                });
                sample.set(name, &text);
                text
            });
            let text = line(&sample);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{text:?}");
            assert_eq!(read_back(&text), Some(expected), "{text:?}");
        }
    }
}
