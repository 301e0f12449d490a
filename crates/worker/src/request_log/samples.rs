//! Requests to try the forms of lines with.

use super::dates::Dates;
use super::{Line, Memory, Record, Scene};
use crate::request_lines::Account;
use crate::{Cancel, Request, Source};

/// The variables whose texts stand in uWSGI's line, in its order.
pub(super) const TEXTS: [&str; 5] =
    ["REMOTE_ADDR", "REMOTE_USER", "REQUEST_METHOD", "REQUEST_URI", "SERVER_PROTOCOL"];

/// When the samples begin.
pub(super) const BEGAN_US: u64 = 1_795_289_258_000_123;

/// A request as a record has it, with its variables by name.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct Sample {
    pub(super) vars: Vec<(String, Vec<u8>)>,
    pub(super) logvars: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) app: Option<(u32, u64)>,
    pub(super) numbers: u64,
    pub(super) total_requests: u64,
    pub(super) status: u16,
    pub(super) body_bytes: u64,
    pub(super) elapsed_us: u64,
    pub(super) cancelled: Option<Cancel>,
    pub(super) abandoned: bool,
    pub(super) failed: bool,
    pub(super) sent_file: bool,
    pub(super) micros: bool,
    pub(super) memory: Option<Memory>,
    pub(super) date: Option<String>,
}

impl Default for Sample {
    /// The request of the sample line in the reference of uWSGI's log.
    fn default() -> Self {
        let vars = [
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_USER", "ann"),
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/plain?a=1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("QUERY_STRING", "a=1"),
            ("HTTP_HOST", "example.org"),
            ("HTTP_USER_AGENT", "curl/8 (x)"),
            ("HTTP_REFERER", ""),
            ("HTTP_X_REQUEST_ID", "r-1"),
        ];
        Self {
            vars: vars.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec(),
            logvars: Vec::new(),
            app: Some((0, 1)),
            numbers: 0,
            total_requests: 7,
            status: 200,
            body_bytes: 5,
            elapsed_us: 12_345,
            cancelled: None,
            abandoned: false,
            failed: false,
            sent_file: false,
            micros: false,
            memory: None,
            date: None,
        }
    }
}

impl Sample {
    /// Every number as long as it can be; the texts are the caller's.
    pub(super) fn longest() -> Self {
        Self {
            app: Some((u32::MAX, u64::MAX)),
            numbers: u64::MAX,
            total_requests: u64::MAX,
            status: u16::MAX,
            body_bytes: u64::MAX,
            elapsed_us: u64::MAX,
            cancelled: Some(Cancel::ClientGone),
            abandoned: true,
            memory: Some(Memory { resident: u64::MAX, address_space: u64::MAX }),
            ..Self::default()
        }
    }

    pub(super) fn set(&mut self, name: &str, value: &[u8]) {
        match self.vars.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value.to_vec(),
            None => self.vars.push((name.to_owned(), value.to_vec())),
        }
    }

    pub(super) fn text(&self, name: &str) -> &[u8] {
        self.vars.iter().find(|(key, _)| key == name).map(|(_, value)| &value[..]).unwrap_or_default()
    }

    /// Its line in some form, without a byte of a client that has not become ASCII.
    pub(super) fn line(&self, append: impl FnOnce(&mut Vec<u8>, &Line<'_>)) -> String {
        let mut request = Request::new();
        request.source = Source::Uwsgi;
        for (name, value) in &self.vars {
            let mut span = |text: &[u8]| {
                let start = request.bytes.len();
                request.bytes.extend_from_slice(text);
                greenloom_proto::Span::new(start, request.bytes.len())
            };
            let pair = (span(name.as_bytes()), span(value));
            request.vars.push(pair);
        }
        let small = |number: u32| u32::try_from(self.numbers).unwrap_or(u32::MAX).max(number);
        let account = Account {
            app: self.app,
            logvars: self.logvars.clone(),
            switches: self.numbers.max(1),
            core: Some(small(0)),
            sent_file: self.sent_file,
            cancelled: self.cancelled,
            abandoned: self.abandoned,
            failed: self.failed,
            write_failed: self.failed,
            ..Account::default()
        };
        let record = Record {
            request: &request,
            account: &account,
            total_requests: self.total_requests,
            began_unix_us: BEGAN_US,
            elapsed_us: self.elapsed_us,
            wait_us: self.numbers.max(345).min(self.elapsed_us),
            status: self.status,
            body_bytes: self.body_bytes,
            header_count: small(1),
            header_bytes: self.numbers.max(45),
        };
        let mut dates = Dates::new(self.date.clone());
        let _ = dates.set(BEGAN_US / 1_000_000);
        let scene = Scene {
            pid: small(10_862),
            worker: small(2),
            micros: self.micros,
            memory: self.memory,
            dates,
            host_name: b"node".to_vec(),
            ports: vec![b"8080".to_vec()],
        };
        let addr = self.text("REMOTE_ADDR");
        let mut out = b"before\n".to_vec();
        append(&mut out, &Line { record: &record, addr, scene: &scene });
        let text = String::from_utf8(out).expect("lines are ASCII");
        text.strip_prefix("before\n").expect("what was there stays").to_owned()
    }
}

/// Undoes the escapes of a text.
pub(super) fn unescape(text: &str) -> Vec<u8> {
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
pub(super) fn hostile_texts() -> impl Iterator<Item = Vec<u8>> {
    const PIECES: [&[u8]; 18] = [
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
        b"\"",
        b"\xe2\x80\xa8",
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
