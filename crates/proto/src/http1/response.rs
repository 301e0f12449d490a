//! Response heads and the framing of response bodies (RFC 9112 §4, §6, §7.1, §9).
//!
//! The gateway says what the application said; this file decides what goes on the wire around it: length or
//! chunks, `Date`, persistence, and whether a body may be sent at all. It writes into the caller's buffer and
//! knows nothing of sockets. Names, values and status are checked here, so that no application can write a
//! second response into its own (RFC 9112 §11.1).

use alloc::vec::Vec;
use core::fmt;

use super::chars;
pub use super::date::http_date;
use super::head::Version;
pub use super::status::reason;
use crate::text::{push_decimal, push_hex};

/// What follows the bytes of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The chunk that ends a body, with the empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim response that asks for the body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a response must know about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The version of the request. It decides what the client understands; the status line names the server's own
    /// (RFC 9110 §2.5), towards a gateway the request's.
    pub version: Version,
    /// The method was HEAD.
    pub is_head: bool,
    /// Request and server both allow another request on the connection.
    pub keep_alive: bool,
    /// The answer goes to a gateway over the uwsgi protocol: HTTP text that ends with the connection, without
    /// chunks, `Date` and `Connection`, which the gateway adds as it likes.
    pub cgi: bool,
}

/// How the bytes of the body go on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyMode {
    /// No body is sent: HEAD, 1xx, 204, 304. Bytes the application produces are dropped.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks: [`chunk_header`], the bytes, [`CHUNK_END`]; at the end [`LAST_CHUNK`].
    Chunked,
    /// As they come; the end of the connection is the end of the body. Also what follows a 101.
    UntilClose,
}

/// What [`HeadWriter::end`] decided, and what the request log says about the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed {
    /// How the body goes on the wire.
    pub body: BodyMode,
    /// Whether the connection takes another request after the body.
    pub keep_alive: bool,
    /// Number of fields.
    pub field_count: u32,
    /// Bytes of the head, status line and final CRLF included.
    pub header_bytes: usize,
}

/// A response head being written; made by [`begin`].
#[derive(Debug)]
#[must_use = "a head without its end is no response"]
pub struct HeadWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the head begins in `out`.
    start: usize,
    exchange: Exchange,
    status: u16,
    field_count: u32,
    /// The application's `Content-Length`.
    length: Option<u64>,
    has_date: bool,
    /// The application asked for the end of the connection.
    close: bool,
    /// Fields that hand a file over are understood; see [`HeadWriter::watch_for_files`].
    watches: Option<FileFields>,
    handed: Option<Handed>,
    failed: Option<ResponseError>,
}

/// Fields with which an application asks the server to send a file in place of its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileFields {
    /// `X-Sendfile`: a path of the file system.
    pub sendfile: bool,
    /// `X-Accel-Redirect`: a path of the server's own.
    pub accel: bool,
}

/// A file that an application has handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The value of its `X-Sendfile`.
    Sendfile(Vec<u8>),
    /// The value of its `X-Accel-Redirect`.
    Accel(Vec<u8>),
}

/// Begins a response head at the end of `out`. `status` is three digits, alone (the registered reason is added)
/// or followed by a blank and a reason. When this or any later call fails, `out` is again as it was before.
pub fn begin<'a>(
    out: &'a mut Vec<u8>,
    exchange: &Exchange,
    status: &[u8],
) -> Result<HeadWriter<'a>, ResponseError> {
    let (&[hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9'], given) =
        status.split_first_chunk::<3>().ok_or(ResponseError::BadStatus)?
    else {
        return Err(ResponseError::BadStatus);
    };
    let code = u16::from(hundreds - b'0') * 100 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0');
    let phrase = match given {
        [] | [b' '] => reason(code).as_bytes(),
        [b' ', phrase @ ..] if !chars::has_control(phrase) => phrase,
        _ => return Err(ResponseError::BadStatus),
    };
    Ok(open(out, *exchange, code, &status[..3], phrase))
}

/// Writes the status line (RFC 9112 §4).
fn open<'a>(
    out: &'a mut Vec<u8>,
    exchange: Exchange,
    status: u16,
    digits: &[u8],
    phrase: &[u8],
) -> HeadWriter<'a> {
    let start = out.len();
    let version = if exchange.cgi { exchange.version } else { Version::Http11 };
    out.extend_from_slice(version.as_bytes());
    out.push(b' ');
    out.extend_from_slice(digits);
    out.push(b' ');
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
    HeadWriter {
        out,
        start,
        exchange,
        status,
        field_count: 0,
        length: None,
        has_date: false,
        close: false,
        watches: None,
        handed: None,
        failed: None,
    }
}

impl HeadWriter<'_> {
    /// From now on these fields are taken out and understood: see [`Self::take_handed`].
    pub fn watch_for_files(&mut self, fields: FileFields) {
        self.watches = Some(fields);
    }

    /// The file that the application has handed over, if it has, and its other fields, each with its line end: the head is
    /// taken back, for that of the file. Its `Content-Length` is that of a body which is not sent; its `Connection: close` is
    /// among them.
    pub fn take_handed(&mut self) -> Option<(Handed, Vec<u8>)> {
        let handed = self.handed.take().filter(|_| self.failed.is_none())?;
        let head = self.out.split_off(self.start);
        let mut lines = head.split_inclusive(|&byte| byte == b'\n');
        let _status = lines.next();
        let is_length =
            |line: &&[u8]| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"Content-Length:"));
        let mut kept: Vec<u8> = lines.filter(|line| !is_length(line)).flatten().copied().collect();
        if self.close {
            kept.extend_from_slice(CLOSE_LINE);
        }
        Some((handed, kept))
    }

    /// Adds fields that [`Self::take_handed`] gave: checked, and whole lines.
    pub fn checked_lines(&mut self, lines: &[u8]) {
        let lines = match lines.strip_suffix(CLOSE_LINE) {
            Some(lines) => {
                self.close = true;
                lines
            }
            None => lines,
        };
        self.out.extend_from_slice(lines);
        let count = lines.split_inclusive(|&byte| byte == b'\n').count();
        self.field_count += u32::try_from(count).unwrap_or(u32::MAX);
        self.has_date |= has_field(lines, b"Date");
    }

    /// Adds a field of the application. Those that say how the message is framed are understood instead of
    /// copied: `Content-Length` must be a number and is left out where no length may stand (1xx, 204),
    /// `Transfer-Encoding` is left out, of `Connection` only `close` counts (but a 101 keeps it).
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !chars::all(name, chars::TOKEN) {
            return Err(self.fail(ResponseError::BadFieldName));
        }
        if chars::has_control(value) {
            return Err(self.fail(ResponseError::BadFieldValue));
        }
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"Date") => self.has_date = true,
            10 if name.eq_ignore_ascii_case(b"Connection") && self.status != 101 => {
                self.close |= value
                    .split(|&b| b == b',')
                    .any(|option| chars::trim(option).eq_ignore_ascii_case(b"close"));
                return Ok(());
            }
            10 if self.watches.is_some_and(|w| w.sendfile) && name.eq_ignore_ascii_case(b"X-Sendfile") => {
                self.handed = Some(Handed::Sendfile(value.to_vec()));
                return Ok(());
            }
            16 if self.watches.is_some_and(|w| w.accel) && name.eq_ignore_ascii_case(b"X-Accel-Redirect") => {
                self.handed = Some(Handed::Accel(value.to_vec()));
                return Ok(());
            }
            14 if name.eq_ignore_ascii_case(b"Content-Length") => return self.length(value),
            17 if name.eq_ignore_ascii_case(b"Transfer-Encoding") => return Ok(()),
            _ => {}
        }
        self.push(name, value);
        Ok(())
    }

    /// Fields written so far.
    pub fn field_count(&self) -> u32 {
        self.field_count
    }

    /// Bytes written so far, the status line included.
    pub fn header_bytes(&self) -> usize {
        self.out.len() - self.start
    }

    /// Ends the head. `known_length` is the length of the whole body when the gateway knows it; it is announced
    /// when the application did not announce one itself. `date` is an IMF-fixdate ([`http_date`]), added unless
    /// the application gave one. After a failed call to [`field`](Self::field) nothing is written.
    pub fn end(mut self, known_length: Option<u64>, date: &[u8]) -> Framed {
        if self.failed.is_some() {
            return Framed { body: BodyMode::None, keep_alive: false, field_count: 0, header_bytes: 0 };
        }
        let Exchange { version, is_head, keep_alive, cgi } = self.exchange;
        let length = self.length.or_else(|| known_length.filter(|&length| self.may_announce(length)));
        if let (None, Some(length)) = (self.length, length) {
            self.push_length(length);
        }
        let body = match (self.status, length) {
            // RFC 9112 §6.3: these end with the head, whatever their fields say.
            _ if is_head => BodyMode::None,
            (101, _) => BodyMode::UntilClose,
            (100..=199 | 204 | 304, _) => BodyMode::None,
            (_, Some(length)) => BodyMode::Length(length),
            (_, None) if cgi || version == Version::Http10 => BodyMode::UntilClose,
            (_, None) => {
                self.push(b"Transfer-Encoding", b"chunked");
                BodyMode::Chunked
            }
        };
        // A 1xx is no final answer: after it the client would take the next answer for this one.
        let keep_alive =
            keep_alive && !self.close && !cgi && self.status >= 200 && body != BodyMode::UntilClose;
        if !cgi {
            if !self.has_date {
                self.push(b"Date", date);
            }
            if !keep_alive && self.status != 101 {
                self.push(b"Connection", b"close");
            } else if keep_alive && version == Version::Http10 {
                self.push(b"Connection", b"keep-alive");
            }
        }
        self.out.extend_from_slice(b"\r\n");
        Framed { body, keep_alive, field_count: self.field_count, header_bytes: self.header_bytes() }
    }

    /// RFC 9110 §8.6: where the server itself may announce the length of the body. A body of no bytes says
    /// nothing about the length that GET would have had when the method is HEAD: many applications leave the
    /// body out then.
    fn may_announce(&self, length: u64) -> bool {
        let is_silent = matches!(self.status, 100..=199 | 204 | 304);
        !is_silent && (!self.exchange.is_head || length > 0)
    }

    fn length(&mut self, value: &[u8]) -> Result<(), ResponseError> {
        let Some(length) = chars::decimal(chars::trim(value)) else {
            return Err(self.fail(ResponseError::BadContentLength));
        };
        if self.length.is_some_and(|other| other != length) {
            return Err(self.fail(ResponseError::BadContentLength));
        }
        // RFC 9110 §8.6: no length in 1xx and 204.
        if self.length.is_none() && !matches!(self.status, 100..=199 | 204) {
            self.length = Some(length);
            self.push_length(length);
        }
        Ok(())
    }

    fn push_length(&mut self, length: u64) {
        self.out.extend_from_slice(b"Content-Length: ");
        push_decimal(self.out, length);
        self.out.extend_from_slice(b"\r\n");
        self.field_count += 1;
    }

    #[inline]
    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.out.reserve(name.len() + value.len() + 4);
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
        self.field_count += 1;
    }

    #[cold]
    fn fail(&mut self, error: ResponseError) -> ResponseError {
        self.out.truncate(self.start);
        self.failed = Some(error);
        error
    }
}

/// What an application's wish to end the connection is kept as.
const CLOSE_LINE: &[u8] = b"Connection: close\r\n";

/// Whether whole field lines have one of this name.
pub fn has_field(lines: &[u8], name: &[u8]) -> bool {
    lines.split_inclusive(|&byte| byte == b'\n').any(|line| {
        line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            && line.get(name.len()) == Some(&b':')
    })
}

/// The value of the first of whole field lines that has this name.
pub fn field_value<'a>(lines: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines.split_inclusive(|&byte| byte == b'\n').find_map(|line| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":").filter(|_| start.eq_ignore_ascii_case(name))?;
        Some(chars::trim(value.strip_suffix(b"\r\n").unwrap_or(value)))
    })
}

/// Whole field lines without those of this name.
pub fn without_field(lines: &[u8], name: &[u8]) -> Vec<u8> {
    let lines = lines.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !has_field(line, name)).flatten().copied().collect()
}

/// Appends the line in front of a chunk of `len` bytes (RFC 9112 §7.1). Nothing for 0: that would be the end.
#[inline]
pub fn chunk_header(out: &mut Vec<u8>, len: usize) {
    if len > 0 {
        push_hex(out, len as u64);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a complete answer of the server itself: plain text, the reason phrase as body (none for HEAD).
/// A status that ends no exchange (1xx) or has no body (204, 304) becomes 500.
pub fn error_page(out: &mut Vec<u8>, exchange: Exchange, status: u16, date: &[u8]) -> Page {
    let status = if matches!(status, 200..=203 | 205..=303 | 305..=999) { status } else { 500 };
    let mut digits = [b'0'; 3];
    for (place, divisor) in digits.iter_mut().zip([100, 10, 1]) {
        let digit = (status / divisor % 10) as u8;
        *place += digit;
    }
    let page = reason(status).as_bytes();
    let mut head = open(out, exchange, status, &digits, page);
    head.push(b"Content-Type", b"text/plain");
    let framed = head.end(Some(page.len() as u64), date);
    let has_body = framed.body != BodyMode::None;
    if has_body {
        out.extend_from_slice(page);
    }
    Page { body_bytes: if has_body { page.len() as u64 } else { 0 }, field_count: framed.field_count }
}

/// What the request log says about an [`error_page`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Bytes of its body.
    pub body_bytes: u64,
    /// Number of its fields.
    pub field_count: u32,
}

/// Why a head is refused; the application is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// The status is not three digits, optionally followed by a blank and a reason without control bytes.
    BadStatus,
    /// A field's name is not a token.
    BadFieldName,
    /// A field's value has a control byte, such as a line end.
    BadFieldValue,
    /// A `Content-Length` is no number, or differs from another one.
    BadContentLength,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadStatus => "the status must be three digits, a blank and a reason without control bytes",
            Self::BadFieldName => "a header name must consist of letters, digits and !#$%&'*+-.^_`|~",
            Self::BadFieldValue => "a header value must not contain control bytes such as line ends",
            Self::BadContentLength => "Content-Length must be one decimal number",
        })
    }
}

impl core::error::Error for ResponseError {}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const HTTP11: Exchange =
        Exchange { version: Version::Http11, is_head: false, keep_alive: true, cgi: false };
    const HTTP10: Exchange = Exchange { version: Version::Http10, ..HTTP11 };
    const HEAD: Exchange = Exchange { is_head: true, ..HTTP11 };
    const CGI: Exchange = Exchange { cgi: true, ..HTTP11 };

    /// Writes a head behind other bytes and returns it as text.
    fn head(
        exchange: Exchange,
        status: &str,
        fields: &[(&str, &str)],
        known: Option<u64>,
    ) -> (String, BodyMode, bool) {
        let mut out = b"before".to_vec();
        let mut writer = begin(&mut out, &exchange, status.as_bytes()).unwrap();
        for (name, value) in fields {
            writer.field(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let framed = writer.end(known, DATE);
        let text = String::from_utf8(out).unwrap();
        let text = text.strip_prefix("before").unwrap();
        assert_eq!(framed.header_bytes, text.len());
        assert_eq!(framed.field_count as usize, text.matches("\r\n").count() - 2, "{text}");
        (text.into(), framed.body, framed.keep_alive)
    }

    fn refused(status: &str, name: &[u8], value: &[u8]) -> ResponseError {
        let mut out = b"before".to_vec();
        let error = match begin(&mut out, &HTTP11, status.as_bytes()) {
            Err(error) => error,
            Ok(mut writer) => {
                writer.field(b"A", b"b").unwrap();
                let error = writer.field(name, value).unwrap_err();
                assert_eq!(writer.field(b"A", b"b"), Err(error), "no field after a refused one");
                let framed = writer.end(Some(1), DATE);
                assert_eq!((framed.body, framed.keep_alive), (BodyMode::None, false));
                error
            }
        };
        assert_eq!(out, b"before");
        error
    }

    #[test]
    fn known_length_on_http11() {
        let (text, body, keep_alive) = head(HTTP11, "200 OK", &[("Content-Type", "text/plain")], Some(5));
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
        assert_eq!((body, keep_alive), (BodyMode::Length(5), true));
    }

    #[test]
    fn rfc9112_4_status_lines() {
        assert!(head(HTTP11, "200", &[], None).0.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(head(HTTP11, "404 ", &[], None).0.starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(head(HTTP11, "299", &[], None).0.starts_with("HTTP/1.1 299 Unknown\r\n"));
        assert!(head(HTTP10, "200 Fine, thanks", &[], None).0.starts_with("HTTP/1.1 200 Fine, thanks\r\n"));
        for bad in ["", "20", "2x0 OK", "200OK", "099 Low", "2000", "200 a\r\nb: c", "200 a\0", "OK 200"] {
            assert_eq!(refused(bad, b"", b""), ResponseError::BadStatus, "{bad:?}");
        }
    }

    #[test]
    fn rfc9112_11_1_no_response_splitting() {
        for value in [&b"a\r\nb: c"[..], b"a\nb", b"a\r", b"\0", b"a\x7f", b"\x1b[0m"] {
            assert_eq!(refused("200 OK", b"X", value), ResponseError::BadFieldValue, "{value:?}");
        }
        for name in [&b""[..], b"a b", b"a:", b"a\r\n", b"\xe9", b"a\0"] {
            assert_eq!(refused("200 OK", name, b"x"), ResponseError::BadFieldName, "{name:?}");
        }
        assert!(head(HTTP11, "200 OK", &[("X", "a\tb \u{e9}")], None).0.contains("X: a\tb \u{e9}\r\n"));
    }

    #[test]
    fn rfc9110_8_6_content_length_of_the_application() {
        let (text, body, _) = head(HTTP11, "200 OK", &[("content-length", " 7 ")], Some(9));
        assert!(text.contains("Content-Length: 7\r\n") && !text.contains(": 9"), "{text}");
        assert_eq!(body, BodyMode::Length(7));
        let (text, ..) = head(HTTP11, "200 OK", &[("Content-Length", "7"), ("Content-Length", "07")], None);
        assert_eq!(text.matches("Content-Length").count(), 1);
        for bad in ["", "x", "-1", "+1", "1, 1", "1 1"] {
            assert_eq!(
                refused("200 OK", b"Content-Length", bad.as_bytes()),
                ResponseError::BadContentLength,
                "{bad}"
            );
        }
        let mut out = Vec::new();
        let mut writer = begin(&mut out, &HTTP11, b"200 OK").unwrap();
        writer.field(b"Content-Length", b"1").unwrap();
        assert_eq!(writer.field(b"Content-Length", b"2"), Err(ResponseError::BadContentLength));
        assert!(out.is_empty());
    }

    #[test]
    fn rfc9112_6_3_statuses_without_body() {
        for status in ["100 Continue", "103 Early Hints", "204 No Content"] {
            let (text, body, _) = head(HTTP11, status, &[("Content-Length", "3")], Some(3));
            assert!(!text.contains("Content-Length") && !text.contains("chunked"), "{text}");
            assert_eq!(body, BodyMode::None);
        }
        let (text, body, keep_alive) = head(HTTP11, "304 Not Modified", &[], Some(0));
        assert!(!text.contains("Content-Length") && !text.contains("chunked"), "{text}");
        assert_eq!((body, keep_alive), (BodyMode::None, true));
        let (text, ..) = head(HTTP11, "304 Not Modified", &[("Content-Length", "3")], None);
        assert!(text.contains("Content-Length: 3\r\n"), "what GET would have had may be said");
        assert!(!head(HTTP11, "103 Early Hints", &[], None).2, "no answer may follow an unfinished one");
    }

    #[test]
    fn rfc9110_9_3_2_head() {
        let (text, body, keep_alive) = head(HEAD, "200 OK", &[], Some(5));
        assert!(text.contains("Content-Length: 5\r\n"), "{text}");
        assert_eq!((body, keep_alive), (BodyMode::None, true));
        for known in [None, Some(0)] {
            let (text, body, keep_alive) = head(HEAD, "200 OK", &[], known);
            assert!(!text.contains("Content-Length") && !text.contains("chunked"), "{text}");
            assert_eq!((body, keep_alive), (BodyMode::None, true));
        }
        let (text, ..) = head(HEAD, "200 OK", &[("Content-Length", "12")], Some(0));
        assert!(text.contains("Content-Length: 12\r\n"), "{text}");
    }

    #[test]
    fn rfc9112_7_1_unknown_length_is_chunked_on_http11_only() {
        let (text, body, keep_alive) = head(HTTP11, "200 OK", &[], None);
        assert!(text.contains("Transfer-Encoding: chunked\r\n"), "{text}");
        assert_eq!((body, keep_alive), (BodyMode::Chunked, true));
        let (text, body, keep_alive) = head(HTTP10, "200 OK", &[], None);
        assert!(!text.contains("chunked") && text.contains("Connection: close\r\n"), "{text}");
        assert_eq!((body, keep_alive), (BodyMode::UntilClose, false));
    }

    #[test]
    fn rfc9112_9_persistence() {
        let (text, _, keep_alive) = head(HTTP10, "200 OK", &[], Some(1));
        assert!(text.contains("Connection: keep-alive\r\n") && keep_alive, "{text}");
        let closing = Exchange { keep_alive: false, ..HTTP11 };
        let (text, _, keep_alive) = head(closing, "200 OK", &[("Connection", "keep-alive")], Some(1));
        assert!(
            text.contains("Connection: close\r\n") && !text.contains("keep-alive") && !keep_alive,
            "{text}"
        );
        let (text, body, keep_alive) = head(HTTP11, "200 OK", &[("connection", "x, Close")], None);
        assert_eq!(text.matches("onnection").count(), 1, "{text}");
        assert!(text.contains("Connection: close\r\n") && !keep_alive, "{text}");
        assert_eq!(body, BodyMode::Chunked, "the end of the body is still marked");
    }

    #[test]
    fn transfer_encoding_of_the_application_is_left_out() {
        let fields = [("Transfer-Encoding", "gzip, chunked"), ("Content-Length", "3")];
        let (text, body, _) = head(HTTP11, "200 OK", &fields, None);
        assert!(!text.contains("Transfer-Encoding"), "{text}");
        assert_eq!(body, BodyMode::Length(3));
    }

    #[test]
    fn a_date_of_the_application_is_kept() {
        let (text, ..) = head(HTTP11, "200 OK", &[("date", "yesterday")], None);
        assert!(text.contains("date: yesterday\r\n") && !text.contains("Date"), "{text}");
    }

    #[test]
    fn rfc9110_15_2_2_switching_protocols() {
        let fields = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        let (text, body, keep_alive) = head(HTTP11, "101 Switching Protocols", &fields, None);
        assert!(
            text.contains("Connection: Upgrade\r\nUpgrade: websocket\r\n") && !text.contains("close"),
            "{text}"
        );
        assert_eq!((body, keep_alive), (BodyMode::UntilClose, false));
    }

    #[test]
    fn behind_a_gateway_nothing_is_added() {
        let (text, body, keep_alive) = head(CGI, "200 OK", &[("Connection", "close"), ("A", "b")], None);
        assert_eq!(text, "HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        assert_eq!((body, keep_alive), (BodyMode::UntilClose, false));
        let (text, body, keep_alive) = head(CGI, "200 OK", &[], Some(2));
        assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        assert_eq!((body, keep_alive), (BodyMode::Length(2), false));
    }

    #[test]
    fn chunk_headers() {
        let mut out = Vec::new();
        chunk_header(&mut out, 255);
        chunk_header(&mut out, 0);
        assert_eq!(out, b"ff\r\n", "an empty chunk would end the body");
    }

    #[test]
    fn error_pages() {
        let mut out = b"before".to_vec();
        let exchange = Exchange { version: Version::Http11, is_head: false, keep_alive: false, cgi: false };
        error_page(&mut out, exchange, 500, DATE);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "beforeHTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 21\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\nInternal Server Error"
        );
        let page = |status, is_head, keep_alive, cgi| {
            let mut out = Vec::new();
            error_page(&mut out, Exchange { is_head, keep_alive, cgi, ..exchange }, status, DATE);
            String::from_utf8(out).unwrap()
        };
        assert!(page(404, false, true, false).ends_with("GMT\r\n\r\nNot Found"), "kept alive");
        assert!(page(404, true, true, false).ends_with("GMT\r\n\r\n"), "no body for HEAD");
        assert!(page(404, true, true, false).contains("Content-Length: 9\r\n"));
        assert!(page(404, false, true, true).ends_with("Content-Length: 9\r\n\r\nNot Found"), "uwsgi");
        for odd in [0, 99, 100, 204, 304, 1000, u16::MAX] {
            assert!(page(odd, false, true, false).starts_with("HTTP/1.1 500 "), "{odd}");
        }
    }
}
