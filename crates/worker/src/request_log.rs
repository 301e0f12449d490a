//! The line of the request log: uWSGI's text, field by field, so that what reads those logs reads ours.
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
//! client can produce. Whether a line is written, and where to, is decided elsewhere; this file only formats, without
//! allocation beyond the caller's buffer.

use std::io::Write as _;

use greenloom_proto::text::push_decimal;

use crate::Cancel;

/// Most bytes of each text in a line, escapes counted. With all numbers at their longest, and the fixed text, a
/// line stays below 4096 bytes: what a pipe takes in one piece (`PIPE_BUF`), and uWSGI's bound.
const ADDR_BYTES: usize = 256;
const USER_BYTES: usize = 256;
const DATE_BYTES: usize = 32;
const METHOD_BYTES: usize = 64;
const URI_BYTES: usize = 2900;
const PROTOCOL_BYTES: usize = 32;
/// Stands where a text was cut.
const CUT: &[u8] = b"\\...";

/// What the log says about one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// Process id of the worker.
    pub(crate) pid: u32,
    /// Number of the app; negative when no app was involved.
    pub(crate) app_id: i64,
    /// Requests started on the app in this worker; printed as -1 without an app.
    pub(crate) app_requests: u64,
    /// Requests of the whole instance.
    pub(crate) total_requests: u64,
    /// The client's address, or the whole of `X-Forwarded-For` where that is asked for.
    pub(crate) addr: &'a [u8],
    /// `REMOTE_USER`.
    pub(crate) user: &'a [u8],
    /// Number of the request's variables, keys and values counted.
    pub(crate) vars: u32,
    /// Bytes of the request's variables.
    pub(crate) vars_bytes: u64,
    /// When the request began, local time as `ctime` writes it, 24 bytes.
    pub(crate) started_local: &'a [u8],
    /// The method.
    pub(crate) method: &'a [u8],
    /// The request-target as sent.
    pub(crate) uri: &'a [u8],
    /// The protocol and version as sent.
    pub(crate) protocol: &'a [u8],
    /// Bytes of the response's body.
    pub(crate) body_bytes: u64,
    /// From the first byte of the request to the last of the response, in milliseconds.
    pub(crate) elapsed_ms: u64,
    /// Status of the response.
    pub(crate) status: u16,
    /// Fields of the response's head.
    pub(crate) header_count: u32,
    /// Bytes of the response's head, status line and final line end included.
    pub(crate) header_bytes: u64,
    /// Yields, suspends and blocking waits of the request.
    pub(crate) switches: u64,
    /// The core the request ran on.
    pub(crate) core: u32,
    /// The body went out by `sendfile`.
    pub(crate) via_sendfile: bool,
    /// Why the request was ended before its time.
    pub(crate) cancelled: Option<Cancel>,
    /// Its coroutine would not end and was given up.
    pub(crate) abandoned: bool,
}

/// Appends the line of `record` to `out`, its line end included.
pub(crate) fn append_line(out: &mut Vec<u8>, record: &Record<'_>) {
    out.reserve(256 + record.uri.len().min(URI_BYTES));
    out.extend_from_slice(b"[pid: ");
    push_decimal(out, u64::from(record.pid));
    out.extend_from_slice(b"|app: ");
    push_signed(out, record.app_id);
    out.extend_from_slice(b"|req: ");
    if record.app_id < 0 {
        out.extend_from_slice(b"-1");
    } else {
        push_decimal(out, record.app_requests);
    }
    out.push(b'/');
    push_decimal(out, record.total_requests);
    out.extend_from_slice(b"] ");
    push_text(out, record.addr, ADDR_BYTES, b'(');
    out.extend_from_slice(b" (");
    push_text(out, record.user, USER_BYTES, b')');
    out.extend_from_slice(b") {");
    push_decimal(out, u64::from(record.vars));
    out.extend_from_slice(b" vars in ");
    push_decimal(out, record.vars_bytes);
    out.extend_from_slice(b" bytes} [");
    push_text(out, record.started_local, DATE_BYTES, b']');
    out.extend_from_slice(b"] ");
    push_text(out, record.method, METHOD_BYTES, b' ');
    out.push(b' ');
    push_text(out, record.uri, URI_BYTES, b' ');
    out.extend_from_slice(b" => generated ");
    push_decimal(out, record.body_bytes);
    out.extend_from_slice(b" bytes in ");
    push_decimal(out, record.elapsed_ms);
    out.extend_from_slice(if record.via_sendfile { b" msecs via sendfile() (" } else { b" msecs (" });
    push_text(out, record.protocol, PROTOCOL_BYTES, b' ');
    out.push(b' ');
    push_decimal(out, u64::from(record.status));
    out.extend_from_slice(b") ");
    push_decimal(out, u64::from(record.header_count));
    out.extend_from_slice(b" headers in ");
    push_decimal(out, record.header_bytes);
    out.extend_from_slice(b" bytes (");
    push_decimal(out, record.switches);
    out.extend_from_slice(b" switches on core ");
    push_decimal(out, u64::from(record.core));
    out.push(b')');
    if let Some(why) = record.cancelled {
        // Writing into memory cannot fail.
        let _ = write!(out, " [cancelled: {why}]");
    }
    if record.abandoned {
        out.extend_from_slice(b" [abandoned]");
    }
    out.push(b'\n');
}

fn push_signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    push_decimal(out, number.unsigned_abs());
}

/// Appends `text`, at most `most` bytes of it and the mark [`CUT`]. Escaped are all bytes that are not printable
/// ASCII, the backslash, and `end`, the byte by which a reader of the line finds the end of this text.
fn push_text(out: &mut Vec<u8>, text: &[u8], most: usize, end: u8) {
    let limit = out.len() + most;
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|&byte| is_escaped(byte, end)).unwrap_or(rest.len());
        let room = limit - out.len();
        if plain > room {
            out.extend_from_slice(&rest[..room]);
            break out.extend_from_slice(CUT);
        }
        out.extend_from_slice(&rest[..plain]);
        let Some(&byte) = rest.get(plain) else { break };
        if room - plain < 4 {
            break out.extend_from_slice(CUT);
        }
        out.extend_from_slice(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        rest = &rest[plain + 1..];
    }
}

#[inline]
fn is_escaped(byte: u8, end: u8) -> bool {
    !(0x20..0x7f).contains(&byte) || byte == b'\\' || byte == end
}

/// `nibble` is below 16.
fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE_BYTES: usize = 4096;

    /// The request of the sample line in the reference of uWSGI's log.
    const SAMPLE: Record<'static> = Record {
        pid: 10862,
        app_id: 0,
        app_requests: 1,
        total_requests: 7,
        addr: b"127.0.0.1",
        user: b"ann",
        vars: 20,
        vars_bytes: 194,
        started_local: b"Sat Nov 21 19:27:38 2026",
        method: b"GET",
        uri: b"/plain?a=1",
        protocol: b"HTTP/1.1",
        body_bytes: 5,
        elapsed_ms: 12,
        status: 200,
        header_count: 1,
        header_bytes: 45,
        switches: 1,
        core: 0,
        via_sendfile: false,
        cancelled: None,
        abandoned: false,
    };

    fn line(record: &Record<'_>) -> String {
        let mut out = Vec::new();
        append_line(&mut out, record);
        String::from_utf8(out).expect("lines are ASCII")
    }

    #[test]
    fn the_line_of_uwsgi() {
        assert_eq!(
            line(&SAMPLE),
            "[pid: 10862|app: 0|req: 1/7] 127.0.0.1 (ann) {20 vars in 194 bytes} [Sat Nov 21 19:27:38 2026] \
             GET /plain?a=1 => generated 5 bytes in 12 msecs (HTTP/1.1 200) 1 headers in 45 bytes \
             (1 switches on core 0)\n"
        );
    }

    #[test]
    fn sendfile_is_named_behind_the_unit() {
        let text = line(&Record { via_sendfile: true, ..SAMPLE });
        assert!(text.contains(" in 12 msecs via sendfile() (HTTP/1.1 200) "), "{text}");
    }

    #[test]
    fn what_ended_before_its_time_says_why() {
        for (why, text) in
            [(Cancel::ClientGone, "client gone"), (Cancel::Deadline, "deadline"), (Cancel::Stop, "stop")]
        {
            let record = Record { cancelled: Some(why), ..SAMPLE };
            let end = format!(" (1 switches on core 0) [cancelled: {text}]");
            assert!(line(&record).ends_with(&format!("{end}\n")), "{}", line(&record));
            let record = Record { abandoned: true, ..record };
            assert!(line(&record).ends_with(&format!("{end} [abandoned]\n")), "{}", line(&record));
        }
    }

    #[test]
    fn without_an_app_both_numbers_are_minus_one() {
        let text = line(&Record { app_id: -1, app_requests: 9, total_requests: 3, ..SAMPLE });
        assert!(text.starts_with("[pid: 10862|app: -1|req: -1/3] "), "{text}");
    }

    #[test]
    fn an_empty_request_keeps_its_blanks() {
        let empty =
            Record { addr: b"", user: b"", method: b"", uri: b"", protocol: b"", status: 0, ..SAMPLE };
        let text = line(&empty);
        assert!(text.contains("]  () {20 vars"), "{text}");
        assert!(text.contains("2026]   => generated"), "{text}");
        assert!(text.contains(" msecs ( 0) "), "{text}");
    }

    #[test]
    fn bytes_that_could_forge_are_escaped() {
        let text = line(&Record { uri: b"/a\nb\r\t\x1b[31m\x7f\xc3\xa9\\x41 => c\0", ..SAMPLE });
        assert!(
            text.contains("GET /a\\x0Ab\\x0D\\x09\\x1B[31m\\x7F\\xC3\\xA9\\x5Cx41\\x20=>\\x20c\\x00 => gen"),
            "{text}"
        );
        let text = line(&Record { user: b"x) {0 vars", addr: b"1.2.3.4, 5.6.7.8 (y", ..SAMPLE });
        assert!(text.contains("] 1.2.3.4, 5.6.7.8 \\x28y (x\\x29 {0 vars) {20 vars"), "{text}");
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        let uri = vec![b'a'; 5000];
        let text = line(&Record { uri: &uri, ..SAMPLE });
        let expected = format!("GET {}\\... => generated", "a".repeat(URI_BYTES));
        assert!(text.contains(&expected), "{text}");
        // No escape is cut in two, whatever its place.
        for shift in 0..4 {
            let mut uri = vec![b'a'; URI_BYTES - shift];
            uri.extend_from_slice(&[0xff, 0xff]);
            let text = line(&Record { uri: &uri, ..SAMPLE });
            assert!(text.contains(&format!("{}\\... => ", "a".repeat(URI_BYTES - shift))), "{shift}: {text}");
        }
        let exact = vec![b'a'; URI_BYTES];
        assert!(!line(&Record { uri: &exact, ..SAMPLE }).contains("\\..."));
    }

    #[test]
    fn the_longest_line_is_below_the_bound() {
        let long = vec![0xff; 10_000];
        for text in [&long[..], &[b'a'; 10_000]] {
            let record = Record {
                pid: u32::MAX,
                app_id: i64::MAX,
                app_requests: u64::MAX,
                total_requests: u64::MAX,
                addr: text,
                user: text,
                vars: u32::MAX,
                vars_bytes: u64::MAX,
                started_local: text,
                method: text,
                uri: text,
                protocol: text,
                body_bytes: u64::MAX,
                elapsed_ms: u64::MAX,
                status: u16::MAX,
                header_count: u32::MAX,
                header_bytes: u64::MAX,
                switches: u64::MAX,
                core: u32::MAX,
                via_sendfile: true,
                cancelled: Some(Cancel::ClientGone),
                abandoned: true,
            };
            let length = line(&record).len();
            assert!(length < LINE_BYTES, "{length}");
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

    fn unescape(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((plain, escape)) = rest.split_once("\\x") {
            out.extend_from_slice(plain.as_bytes());
            out.push(u8::from_str_radix(&escape[..2], 16).expect("two digits"));
            rest = &escape[2..];
        }
        out.extend_from_slice(rest.as_bytes());
        out
    }

    /// Texts made of what could do harm, from a fixed sequence: every run sees the same.
    fn hostile_texts() -> impl Iterator<Item = Vec<u8>> {
        const PIECES: [&[u8]; 16] = [
            b"a",
            b" ",
            b"(",
            b")",
            b"\\",
            b"\\x41",
            b"\n",
            b"\r\n",
            b"] ",
            b") {",
            b" => generated ",
            b"[pid: 1|",
            b"\0",
            b"\x7f",
            b"\xff",
            b"\x1b[2J",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits")
        };
        std::iter::from_fn(move || {
            let length = next() % 6;
            Some((0..length).flat_map(|_| PIECES[next() % PIECES.len()].to_vec()).collect())
        })
    }

    #[test]
    fn whatever_is_sent_can_be_read_back_from_one_line() {
        let mut texts = hostile_texts();
        for _ in 0..20_000 {
            let [addr, user, method, uri] = std::array::from_fn(|_| texts.next().expect("endless"));
            let protocol: Vec<u8> = texts.next().expect("endless").into_iter().take(7).collect();
            let record = Record {
                addr: &addr,
                user: &user,
                method: &method[..method.len().min(15)],
                uri: &uri,
                protocol: &protocol,
                ..SAMPLE
            };
            let text = line(&record);
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{text:?}");
            let expected =
                [record.addr, record.user, record.method, record.uri, record.protocol].map(<[u8]>::to_vec);
            assert_eq!(read_back(&text), Some(expected), "{text:?}");
        }
    }
}
