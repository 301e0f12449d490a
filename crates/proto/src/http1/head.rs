//! The request head: one pass over the received bytes, strict as RFC 9112 asks of a server that others rely on
//! not to be confused (§2.2, §3, §5, §6.3, §11.2).
//!
//! A head is judged line by line, and a line only when its end has arrived; so it does not matter in which
//! pieces the bytes come. The one exception looks at an unfinished request line, in the order in which the
//! finished one would be judged, so that a TLS hello or another protocol is answered at once instead of after
//! the timeout. What the fields mean together is in `meaning.rs`, what a target consists of in `target.rs`;
//! when to read, wait and answer is the connection's business.

use alloc::vec::Vec;
use core::fmt;

use memchr::memchr;

use super::chars;
use super::meaning::Meaning;
use super::target;
pub use super::target::percent_decode;
use crate::Span;

/// Longest method that is looked at; the longest registered one has 17 bytes (RFC 9112 §3: 501 beyond that).
const METHOD_BYTES: usize = 32;
/// Empty lines tolerated in front of a request (RFC 9112 §2.2).
const EMPTY_LINES: usize = 2;

/// Parsing this much is not worth the question whether it can be left out.
const CHEAP_BYTES: usize = 256;

/// Bounds of a request head, or of the head of a CGI script's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a head, first line and final empty line included.
    pub head_bytes: usize,
    /// Most field lines, those included that are dropped.
    pub fields: usize,
}

/// The version a request names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

impl Version {
    /// The version as it stands in a request or status line.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"HTTP/1.0",
            Self::Http11 => b"HTTP/1.1",
        }
    }
}

/// How the end of the request's body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// This many bytes follow the head.
    Length(u64),
    /// Chunks follow the head: [`ChunkedDecoder`](super::body::ChunkedDecoder).
    Chunked,
}

/// One field line, as ranges of the parsed buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without the blanks around it.
    pub value: Span,
}

/// A parsed request head. One value serves request after request: [`parse`](Self::parse) clears it first.
/// What it holds is only meaningful after `parse` returned [`Parsed::Complete`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one request, not a state")]
pub struct Head {
    /// The method, a token.
    pub method: Span,
    /// The request-target as sent.
    pub target: Span,
    /// The target up to `?`, still percent-encoded; of an absolute-form target its path, `/` when that is
    /// empty; `*` for a server-wide OPTIONS.
    pub path: Span,
    /// What follows the first `?` of the target; empty also when there is none.
    pub query: Span,
    /// The version of the request.
    pub version: Version,
    /// The field lines in the order sent, without those named `Proxy` (it would become `HTTP_PROXY`) or with a
    /// low line in the name (`X_A` would become the same variable as `X-A`).
    pub fields: Vec<Field>,
    /// How the body is framed.
    pub framing: Framing,
    /// The client allows another request on the connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1); never set without a
    /// body.
    pub expect_continue: bool,
    /// The client offers another protocol (RFC 9110 §7.8).
    pub upgrade: bool,
    /// Host and port the request is for; from an absolute-form target, otherwise from the `Host` field, whose
    /// value in `fields` is replaced by the former (RFC 9112 §3.2.2).
    pub host: Span,
    /// The method is HEAD.
    pub is_head: bool,
    /// Some name occurs more than once in `fields`.
    pub repeats: bool,
    /// There is no `%` in `path`.
    pub path_is_plain: bool,
    /// Bytes of the head, from the first byte of the buffer to the end of the empty line.
    pub len: usize,
}

/// Whether a head is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed; call again with all of them.
    Partial,
    /// The head is complete; the body or the next request begins behind its `len` bytes.
    Complete,
}

impl Head {
    /// Parses the head at the start of `buf`. Reads at most `limits.head_bytes` of it, so that the answer does
    /// not depend on how much more has arrived. After an error the connection cannot be used for another
    /// request, for nobody knows where that begins.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed, HeadError> {
        self.clear();
        let most = limits.head_bytes.min(u32::MAX as usize);
        let cannot_grow = buf.len() >= most;
        let buf = &buf[..buf.len().min(most)];
        let unfinished = |error| if cannot_grow { Err(error) } else { Ok(Parsed::Partial) };

        let Some(start) = skip_empty_lines(buf)? else { return unfinished(HeadError::TargetTooLong) };
        let Some(end) = memchr(b'\n', &buf[start..]).map(|newline| start + newline) else {
            let seen = buf.strip_suffix(b"\r").unwrap_or(buf).len().max(start);
            self.request_line(buf, start, seen, Line::Unfinished)?;
            return unfinished(HeadError::TargetTooLong);
        };
        let has_return = end > start && buf[end - 1] == b'\r';
        self.request_line(buf, start, if has_return { end - 1 } else { end }, Line::Whole)?;
        if !has_return {
            return Err(HeadError::BareLineFeed);
        }

        let parts = target::split(self.method.of(buf), self.target.of(buf))?;
        let base = self.target.start as usize;
        let span = |range: core::ops::Range<usize>| Span::new(base + range.start, base + range.end);
        self.path = span(parts.path);
        self.query = span(parts.query);
        self.host = parts.host.map_or(Span::EMPTY, span);
        self.path_is_plain = memchr(b'%', self.path.of(buf)).is_none();
        self.is_head = self.method.of(buf) == b"HEAD";

        let mut meaning = Meaning::default();
        let mut count = 0;
        let mut at = end + 1;
        loop {
            let rest = &buf[at..];
            let Some(newline) = memchr(b'\n', rest) else { return unfinished(HeadError::HeadTooLarge) };
            if newline == 0 || rest[newline - 1] != b'\r' {
                return Err(HeadError::BareLineFeed);
            }
            let line = &rest[..newline - 1];
            let line_start = at;
            at += newline + 1;
            if line.is_empty() {
                break;
            }
            count += 1;
            if count > limits.fields {
                return Err(HeadError::TooManyFields);
            }
            self.field_line(buf, line, line_start, &mut meaning)?;
        }
        self.len = at;
        meaning.conclude(self)?;
        Ok(Parsed::Complete)
    }

    /// Whether parsing `buf` can give another answer than `Partial`, which it gave for its first `seen` bytes.
    /// Without this question, a client that sends a long head byte by byte would have all of it parsed for each
    /// byte. Only garbage in a long request line is then noticed later: at the end of the line.
    pub fn may_decide(buf: &[u8], seen: usize, limits: &Limits) -> bool {
        buf.len() <= CHEAP_BYTES
            || buf.len() >= limits.head_bytes
            || buf.get(seen..).is_none_or(|new| memchr(b'\n', new).is_some())
    }

    fn clear(&mut self) {
        let mut fields = core::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Judges the request line `buf[start..end]` from left to right (RFC 9112 §3). Of an unfinished one only
    /// what is there, and nothing that more bytes could still change.
    fn request_line(&mut self, buf: &[u8], start: usize, end: usize, line: Line) -> Result<(), HeadError> {
        let text = &buf[start..end];
        let ran_out = || match line {
            Line::Whole => Err(HeadError::BadRequestLine),
            Line::Unfinished => Ok(()),
        };
        let method = text.iter().position(|&b| !chars::is(b, chars::TOKEN)).unwrap_or(text.len());
        if method > METHOD_BYTES {
            return Err(HeadError::MethodNotImplemented);
        }
        match text.get(method) {
            None => return ran_out(),
            Some(b' ') if method > 0 => {}
            // The content type of a TLS handshake record (RFC 8446 §5.1).
            Some(0x16) if method == 0 => return Err(HeadError::TlsHandshake),
            Some(_) => return Err(HeadError::BadMethod),
        }
        self.method = Span::new(start, start + method);

        let text = &text[method + 1..];
        let target = text.iter().position(|&b| !chars::is(b, chars::TARGET)).unwrap_or(text.len());
        match text.get(target) {
            None => return ran_out(),
            Some(b' ') if target > 0 => {}
            Some(b' ') => return Err(HeadError::BadRequestLine),
            Some(_) => return Err(HeadError::BadTarget),
        }
        let target_start = start + method + 1;
        self.target = Span::new(target_start, target_start + target);

        let version = &text[target + 1..];
        if !fits_version(version) || (line == Line::Whole && version.len() != VERSION.len()) {
            return Err(HeadError::BadVersion);
        }
        if line == Line::Whole {
            self.version = match version {
                b"HTTP/1.1" => Version::Http11,
                b"HTTP/1.0" => Version::Http10,
                _ => return Err(HeadError::VersionNotSupported),
            };
        }
        Ok(())
    }

    /// Judges one field line (RFC 9112 §5) that begins at `start` and keeps it.
    fn field_line(
        &mut self,
        buf: &[u8],
        line: &[u8],
        start: usize,
        meaning: &mut Meaning,
    ) -> Result<(), HeadError> {
        let mut classes = 0;
        let mut hash = 0_u32;
        let mut name_len = 0;
        for &byte in line {
            let class = chars::CLASS[byte as usize];
            if class & chars::TOKEN == 0 {
                break;
            }
            classes |= class;
            // Equal for names that differ in case only; it need not be good, `is_repeated` looks closer.
            hash = hash.wrapping_mul(31) ^ u32::from(byte | 0x20);
            name_len += 1;
        }
        match line.get(name_len) {
            Some(b':') if name_len > 0 => {}
            Some(b' ' | b'\t') if name_len == 0 => return Err(HeadError::FoldedLine),
            Some(b' ' | b'\t') => return Err(HeadError::BlankBeforeColon),
            _ => return Err(HeadError::BadFieldName),
        }
        let value = chars::trim(&line[name_len + 1..]);
        if chars::has_control(value) {
            return Err(HeadError::BadFieldValue);
        }
        let name = &line[..name_len];
        if classes & chars::LOW_LINE != 0 || name.eq_ignore_ascii_case(b"Proxy") {
            return Ok(());
        }
        // `value` lies in `line`: what `trim` took off the end and off the front gives its place.
        let value_start = start + name_len + 1 + leading_blanks(&line[name_len + 1..], value);
        let field = Field {
            name: Span::new(start, start + name_len),
            value: Span::new(value_start, value_start + value.len()),
        };
        if meaning.may_repeat(hash) && !self.repeats {
            self.repeats = self.fields.iter().any(|other| other.name.of(buf).eq_ignore_ascii_case(name));
        }
        meaning.field(name, value, self.fields.len())?;
        self.fields.push(field);
        Ok(())
    }
}

/// Whether the end of the request line has arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Unfinished,
    Whole,
}

/// `None` while it cannot be told what follows the empty lines.
fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut at = 0;
    for _ in 0..EMPTY_LINES {
        match &buf[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [b'\n', ..] => return Err(HeadError::BareLineFeed),
            [] | [b'\r'] => return Ok(None),
            _ => break,
        }
    }
    Ok(Some(at))
}

/// The shape of every version (RFC 9112 §2.3); 0 stands for any digit.
const VERSION: &[u8; 8] = b"HTTP/0.0";

/// True when `text` is a version or the beginning of one.
fn fits_version(text: &[u8]) -> bool {
    text.len() <= VERSION.len()
        && text.iter().zip(VERSION).all(
            |(&byte, &wanted)| {
                if wanted == b'0' { byte.is_ascii_digit() } else { byte == wanted }
            },
        )
}

/// How many blanks precede `value` in `text`; the whole of it when `value` is empty.
fn leading_blanks(text: &[u8], value: &[u8]) -> usize {
    if value.is_empty() {
        return text.len();
    }
    text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count()
}

/// Appends the name of the CGI variable a field becomes (RFC 3875 §4.1.18): `Accept-Language` gives
/// `HTTP_ACCEPT_LANGUAGE`; `Content-Type` and `Content-Length` get no prefix.
pub fn variable_name(field: &[u8], out: &mut Vec<u8>) {
    let is_content = match field.len() {
        12 => field.eq_ignore_ascii_case(b"Content-Type"),
        14 => field.eq_ignore_ascii_case(b"Content-Length"),
        _ => false,
    };
    if !is_content {
        out.extend_from_slice(b"HTTP_");
    }
    out.extend(field.iter().map(|&byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
}

/// Why a head is refused. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadError {
    /// The first bytes are a TLS handshake.
    TlsHandshake,
    /// The request line does not begin with a method and a blank.
    BadMethod,
    /// CONNECT, or a method longer than any that exists.
    MethodNotImplemented,
    /// The request line lacks its target or its version, or has blanks too many.
    BadRequestLine,
    /// The target has a forbidden byte or a form that does not fit the method.
    BadTarget,
    /// The request line alone exceeds the limit.
    TargetTooLong,
    /// The request line does not end with a version.
    BadVersion,
    /// The version is neither 1.0 nor 1.1.
    VersionNotSupported,
    /// A line ends with LF instead of CR LF.
    BareLineFeed,
    /// A field line continues the one before.
    FoldedLine,
    /// There is a blank between a field's name and the colon.
    BlankBeforeColon,
    /// A field line has no colon, no name, or a forbidden byte in the name.
    BadFieldName,
    /// There is a control byte in a field's value.
    BadFieldValue,
    /// More field lines than allowed.
    TooManyFields,
    /// The head exceeds the limit.
    HeadTooLarge,
    /// An HTTP/1.1 request without `Host`.
    MissingHost,
    /// `Host` occurs twice.
    RepeatedHost,
    /// `Host` is no host.
    BadHost,
    /// `Content-Length` is no plain number.
    BadContentLength,
    /// `Content-Length` occurs twice.
    RepeatedContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` are there.
    LengthAndCoding,
    /// `Transfer-Encoding` does not end with a single `chunked`, or is sent in HTTP/1.0.
    BadTransferEncoding,
    /// `Transfer-Encoding` has more than `chunked`.
    CodingNotImplemented,
    /// `Expect` asks for something else than `100-continue`.
    UnknownExpectation,
}

impl HeadError {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::UnknownExpectation => 417,
            Self::TooManyFields | Self::HeadTooLarge => 431,
            Self::MethodNotImplemented | Self::CodingNotImplemented => 501,
            Self::VersionNotSupported => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsHandshake => "the client speaks TLS to a listener that speaks plain HTTP",
            Self::BadMethod => "the request does not begin with an HTTP method",
            Self::MethodNotImplemented => "the method is not implemented",
            Self::BadRequestLine => {
                "the request line is not METHOD TARGET VERSION, separated by single blanks"
            }
            Self::BadTarget => {
                "the request-target has a forbidden byte or a form that does not fit the method"
            }
            Self::TargetTooLong => "the request line is longer than a whole head may be",
            Self::BadVersion => "the request line does not end with an HTTP version",
            Self::VersionNotSupported => "the HTTP version is neither 1.0 nor 1.1",
            Self::BareLineFeed => "a line of the head ends with LF instead of CR LF",
            Self::FoldedLine => "a field line begins with a blank (line folding is obsolete)",
            Self::BlankBeforeColon => "there is a blank between a field's name and its colon",
            Self::BadFieldName => "a field line has no valid name before a colon",
            Self::BadFieldValue => "a field's value has a control byte",
            Self::TooManyFields => "the head has more fields than allowed",
            Self::HeadTooLarge => "the head is longer than allowed",
            Self::MissingHost => "an HTTP/1.1 request needs a Host field",
            Self::RepeatedHost => "the Host field occurs more than once",
            Self::BadHost => "the Host field is not a host with an optional port",
            Self::BadContentLength => "the Content-Length field is not a decimal number",
            Self::RepeatedContentLength => "the Content-Length field occurs more than once",
            Self::LengthAndCoding => "Content-Length and Transfer-Encoding exclude each other",
            Self::BadTransferEncoding => {
                "the Transfer-Encoding does not end with chunked, or is sent in HTTP/1.0"
            }
            Self::CodingNotImplemented => "transfer codings other than chunked are not implemented",
            Self::UnknownExpectation => "the Expect field asks for something else than 100-continue",
        })
    }
}

impl core::error::Error for HeadError {}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 4096, fields: 64 };

    /// Parses in all prefixes as well: every shorter one must ask for more or give the same answer.
    fn parse(text: &str) -> Result<Head, HeadError> {
        let mut head = Head::default();
        let result = head.parse(text.as_bytes(), &LIMITS);
        assert_ne!(result, Ok(Parsed::Partial), "{text:?} is complete");
        crate::fuzz_entry::fuzz_head(text.as_bytes());
        result.map(|_| head)
    }

    fn error(text: &str) -> HeadError {
        parse(text).expect_err(text)
    }

    /// A GET with these further lines, each without its end.
    fn get(lines: &[&str]) -> String {
        let mut text = String::from("GET / HTTP/1.1\r\nHost: h\r\n");
        for line in lines {
            text += line;
            text += "\r\n";
        }
        text + "\r\n"
    }

    fn fields(head: &Head, text: &str) -> Vec<(String, String)> {
        let text = |span: Span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned();
        head.fields.iter().map(|field| (text(field.name), text(field.value))).collect()
    }

    #[test]
    fn a_request_of_a_browser() {
        let text = "GET /a%20b?c=d HTTP/1.1\r\nHost: example.org:8080\r\nAccept: */*\r\nX-Empty:\r\n\
                    X-Blank: \t a b \t\r\n\r\nrest";
        let head = parse(text).unwrap();
        let bytes = text.as_bytes();
        assert_eq!(head.method.of(bytes), b"GET");
        assert_eq!(head.target.of(bytes), b"/a%20b?c=d");
        assert_eq!(head.path.of(bytes), b"/a%20b");
        assert_eq!(head.query.of(bytes), b"c=d");
        assert_eq!(head.host.of(bytes), b"example.org:8080");
        assert_eq!((head.version, head.framing), (Version::Http11, Framing::None));
        assert_eq!(head.len, text.len() - 4);
        assert!(head.keep_alive && !head.is_head && !head.path_is_plain && !head.repeats);
        assert!(!head.upgrade && !head.expect_continue);
        let expected = [("Host", "example.org:8080"), ("Accept", "*/*"), ("X-Empty", ""), ("X-Blank", "a b")];
        assert_eq!(fields(&head, text), expected.map(|(name, value)| (name.into(), value.into())));
    }

    #[test]
    fn a_head_is_reused_and_cleared() {
        let mut head = Head::default();
        let first = b"HEAD http://h/?q HTTP/1.0\r\nA: b\r\nA: c\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(head.parse(first, &LIMITS), Ok(Parsed::Complete));
        assert!(head.is_head && head.repeats);
        let capacity = head.fields.capacity();
        assert_eq!(head.parse(b"", &LIMITS), Ok(Parsed::Partial));
        assert_eq!(head, Head::default());
        assert_eq!(head.fields.capacity(), capacity, "no new allocation for the next request");
    }

    #[test]
    fn rfc9112_2_2_empty_lines_before_the_request() {
        let text = "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let head = parse(text).unwrap();
        assert_eq!((head.len, head.target.of(text.as_bytes())), (text.len(), &b"/"[..]));
        assert_eq!(error("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), HeadError::BadRequestLine);
        assert_eq!(error("\nGET / HTTP/1.1\r\n"), HeadError::BareLineFeed);
    }

    #[test]
    fn rfc9112_2_2_bare_line_feeds_and_returns() {
        for text in [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
        ] {
            assert_eq!(error(text), HeadError::BareLineFeed, "{text:?}");
        }
        assert_eq!(error(&get(&["A: b\rc"])), HeadError::BadFieldValue);
        assert_eq!(error(&get(&["A: b\r"])), HeadError::BadFieldValue);
        assert_eq!(error(&get(&["\rA: b"])), HeadError::BadFieldName);
        assert_eq!(error("GET /\r HTTP/1.1\r\n"), HeadError::BadTarget);
        assert_eq!(error("GET / HTTP/1.1\r\r\n"), HeadError::BadVersion);
    }

    #[test]
    fn rfc9112_2_3_versions() {
        assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().version, Version::Http10);
        for text in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.2\r\n\r\n", "GET / HTTP/0.9\r\n\r\n"] {
            assert_eq!(error(text), HeadError::VersionNotSupported, "{text:?}");
        }
        for text in [
            "GET / http/1.1\r\n",
            "GET / HTTP/1\r\n",
            "GET / HTTP/1.1 \r\n",
            "GET / HTTP/11.1\r\n",
            "GET / x\r\n",
            "GET / a HTTP/1.1\r\n",
        ] {
            assert_eq!(error(text), HeadError::BadVersion, "{text:?}");
        }
    }

    #[test]
    fn rfc9112_3_request_lines() {
        for text in ["GET\r\n", "GET \r\n", "GET /\r\n", "GET  / HTTP/1.1\r\n"] {
            assert_eq!(error(text), HeadError::BadRequestLine, "{text:?}");
        }
        for text in [
            " GET / HTTP/1.1\r\n",
            "G(T / HTTP/1.1\r\n",
            "GET\t/ HTTP/1.1\r\n",
            "GE\0 / HTTP/1.1\r\n",
            "{}\r\n",
        ] {
            assert_eq!(error(text), HeadError::BadMethod, "{text:?}");
        }
        assert_eq!(parse("M-SEARCH / HTTP/1.0\r\n\r\n").unwrap().method, Span::new(0, 8));
    }

    #[test]
    fn rfc9112_3_2_targets() {
        for text in [
            "GET /a\0 HTTP/1.1\r\n",
            "GET /a\tb HTTP/1.1\r\n",
            "GET /a\x7f HTTP/1.1\r\n",
            "GET /a#b HTTP/1.1\r\n",
        ] {
            assert_eq!(error(text), HeadError::BadTarget, "{text:?}");
        }
        assert!(parse("GET /\u{e9}<>\" HTTP/1.0\r\n\r\n").is_ok());
        assert_eq!(error("GET x HTTP/1.0\r\n"), HeadError::BadTarget);
        assert_eq!(error("GET * HTTP/1.0\r\n"), HeadError::BadTarget);
        assert_eq!(error("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n"), HeadError::MethodNotImplemented);
        assert_eq!(parse("OPTIONS * HTTP/1.0\r\n\r\n").unwrap().path, Span::new(8, 9));
    }

    #[test]
    fn rfc9112_3_2_host() {
        assert_eq!(error("GET / HTTP/1.1\r\n\r\n"), HeadError::MissingHost);
        assert!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().host.is_empty());
        assert!(parse("GET / HTTP/1.1\r\nHost:\r\n\r\n").unwrap().host.is_empty());
        assert_eq!(error(&get(&["host: h"])), HeadError::RepeatedHost);
        for host in ["a b", "a/b", "h:x", "u@h", "a,,b c"] {
            assert_eq!(
                error(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")),
                HeadError::BadHost,
                "{host}"
            );
        }
    }

    #[test]
    fn rfc9112_3_2_2_the_authority_of_the_target_wins() {
        let text = "GET http://right:1/x?y HTTP/1.1\r\nA: b\r\nHost: wrong\r\n\r\n";
        let head = parse(text).unwrap();
        assert_eq!(head.host.of(text.as_bytes()), b"right:1");
        assert_eq!(fields(&head, text)[1].1, "right:1");
        assert_eq!((head.path.of(text.as_bytes()), head.query.of(text.as_bytes())), (&b"/x"[..], &b"y"[..]));
        assert_eq!(error("GET http://h/ HTTP/1.1\r\n\r\n"), HeadError::MissingHost);
        let text = "GET http://h HTTP/1.0\r\n\r\n";
        let head = parse(text).unwrap();
        assert_eq!((head.path.of(text.as_bytes()), head.host.of(text.as_bytes())), (&b"/"[..], &b"h"[..]));
    }

    #[test]
    fn rfc9112_5_1_field_lines() {
        assert_eq!(error(&get(&["A : b"])), HeadError::BlankBeforeColon);
        assert_eq!(error(&get(&["A\t: b"])), HeadError::BlankBeforeColon);
        for line in ["A", ": b", "A(: b", "A\0: b", "\u{e9}: b", "A/b: c"] {
            assert_eq!(error(&get(&[line])), HeadError::BadFieldName, "{line:?}");
        }
        for value in ["\0", "a\x01b", "a\x7f", "\x0b", "\x1b"] {
            assert_eq!(error(&get(&[&format!("A: {value}")])), HeadError::BadFieldValue, "{value:?}");
        }
        assert!(parse(&get(&["A: \u{e9}\tb"])).is_ok());
    }

    #[test]
    fn rfc9112_5_2_no_folding() {
        assert_eq!(error(&get(&["A: b", " c"])), HeadError::FoldedLine);
        assert_eq!(error(&get(&["A: b", "\t"])), HeadError::FoldedLine);
        assert_eq!(error("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), HeadError::FoldedLine);
    }

    #[test]
    fn rfc9112_6_2_content_length() {
        assert_eq!(parse(&get(&["Content-Length: 42"])).unwrap().framing, Framing::Length(42));
        assert_eq!(parse(&get(&["content-length:0 "])).unwrap().framing, Framing::Length(0));
        for value in ["", "+5", "-5", "5,5", "5, 5", "5 5", "0x5", "5;a", "99999999999999999999", "\u{665}"] {
            let text = get(&[&format!("Content-Length: {value}")]);
            assert_eq!(error(&text), HeadError::BadContentLength, "{value:?}");
        }
        for second in ["5", "6"] {
            let text = get(&["Content-Length: 5", &format!("CONTENT-LENGTH: {second}")]);
            assert_eq!(error(&text), HeadError::RepeatedContentLength, "{second}");
        }
    }

    #[test]
    fn rfc9112_6_1_transfer_encoding() {
        for value in ["chunked", "Chunked", " chunked\t"] {
            let head = parse(&get(&[&format!("Transfer-Encoding: {value}")])).unwrap();
            assert_eq!(head.framing, Framing::Chunked, "{value:?}");
        }
        for value in ["gzip, chunked", "gzip,br , chunked"] {
            let text = get(&[&format!("Transfer-Encoding: {value}")]);
            assert_eq!(error(&text), HeadError::CodingNotImplemented, "{value:?}");
        }
        for value in [
            "",
            "gzip",
            "identity",
            "xchunked",
            "chunked, gzip",
            "chunked, chunked",
            "gzip, chunked, chunked",
            "chunked,",
            ",chunked",
            "\"chunked\"",
            "chunked;q=1",
            "chunked identity",
            "gzip;level=1, chunked",
        ] {
            let text = get(&[&format!("Transfer-Encoding: {value}")]);
            assert_eq!(error(&text), HeadError::BadTransferEncoding, "{value:?}");
        }
        let two = |a, b| get(&[&format!("Transfer-Encoding: {a}"), &format!("Transfer-Encoding: {b}")]);
        assert_eq!(error(&two("gzip", "chunked")), HeadError::CodingNotImplemented);
        assert_eq!(error(&two("chunked", "gzip")), HeadError::BadTransferEncoding);
        assert_eq!(error(&two("chunked", "chunked")), HeadError::BadTransferEncoding);
        let text = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(error(text), HeadError::BadTransferEncoding);
    }

    #[test]
    fn rfc9112_6_3_and_11_2_length_and_coding() {
        for lines in [
            ["Content-Length: 5", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", "Content-Length: 5"],
            ["Transfer-Encoding: x", "Content-Length: 0"],
        ] {
            assert_eq!(error(&get(&lines)), HeadError::LengthAndCoding, "{lines:?}");
        }
        assert_eq!(error(&get(&["Transfer-Encoding : chunked"])), HeadError::BlankBeforeColon);
        assert_eq!(error(&get(&["Transfer-Encoding:\x0bchunked"])), HeadError::BadFieldValue);
    }

    #[test]
    fn rfc9112_9_3_persistence() {
        let keeps = |version, lines: &str| {
            parse(&format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n")).unwrap().keep_alive
        };
        assert!(keeps("1.1", ""));
        assert!(!keeps("1.0", ""));
        assert!(!keeps("1.1", "Connection: close\r\n"));
        assert!(!keeps("1.1", "Connection: x, Close\r\n"));
        assert!(!keeps("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
        assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
        assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
        assert!(keeps("1.1", "Connection: closed\r\n"));
    }

    #[test]
    fn rfc9110_7_8_upgrade() {
        let upgrades = |text: &str| parse(text).unwrap().upgrade;
        assert!(upgrades(&get(&["Connection: keep-alive, Upgrade", "Upgrade: websocket"])));
        assert!(!upgrades(&get(&["Upgrade: websocket"])));
        assert!(!upgrades(&get(&["Connection: upgrade"])));
        assert!(!upgrades("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"));
    }

    #[test]
    fn rfc9110_10_1_1_expect() {
        let expects = |text: &str| parse(text).unwrap().expect_continue;
        assert!(expects(&get(&["Expect: 100-Continue", "Content-Length: 1"])));
        assert!(expects(&get(&["Expect: 100-continue", "Transfer-Encoding: chunked"])));
        assert!(!expects(&get(&["Expect: 100-continue"])), "there is no body to wait for");
        assert!(!expects(&get(&["Expect: 100-continue", "Content-Length: 0"])));
        assert!(!expects("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
        for value in ["", "x", "100-continue, x", "100-continued"] {
            assert_eq!(
                error(&get(&[&format!("Expect: {value}")])),
                HeadError::UnknownExpectation,
                "{value:?}"
            );
        }
        assert_eq!(error(&get(&["Expect: 100-continue", "Expect: x"])), HeadError::UnknownExpectation);
    }

    #[test]
    fn fields_that_would_pass_for_others_are_dropped() {
        let text =
            get(&["Content_Length: 5", "X_A: 1", "Proxy: evil", "pROXY: evil", "X-A: 2", "Proxy-A: 3"]);
        let head = parse(&text).unwrap();
        let names: Vec<String> = fields(&head, &text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Host", "X-A", "Proxy-A"]);
        assert_eq!(head.framing, Framing::None);
        assert!(!head.repeats);
    }

    #[test]
    fn repeated_names_are_noticed() {
        assert!(parse(&get(&["Cookie: a", "B: c", "cookie: d"])).unwrap().repeats);
        let many: Vec<String> = (0..60).map(|number| format!("X-{number}: a")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(!parse(&get(&many)).unwrap().repeats, "equal hashes are not equal names");
    }

    #[test]
    fn bounds() {
        let text = get(&["A: b"]);
        let parse = |bytes: &str, head_bytes, fields| {
            Head::default().parse(bytes.as_bytes(), &Limits { head_bytes, fields })
        };
        assert_eq!(parse(&text, text.len(), 2), Ok(Parsed::Complete));
        assert_eq!(parse(&text, text.len() - 1, 2), Err(HeadError::HeadTooLarge));
        assert_eq!(parse(&text, text.len(), 1), Err(HeadError::TooManyFields));
        assert_eq!(
            parse(&text[..20], 20, 2),
            Err(HeadError::HeadTooLarge),
            "noticed before the head is there"
        );
        assert_eq!(parse(&text[..19], 20, 2), Ok(Parsed::Partial));
        assert_eq!(parse(&text[..10], 10, 2), Err(HeadError::TargetTooLong));
        assert_eq!(parse(&text, 0, 2), Err(HeadError::TargetTooLong));
        assert_eq!(parse("\r", 1, 2), Err(HeadError::TargetTooLong));
        let method = "A".repeat(33);
        assert_eq!(parse(&method, 4096, 2), Err(HeadError::MethodNotImplemented));
        assert_eq!(parse(&method[..32], 4096, 2), Ok(Parsed::Partial));
    }

    #[test]
    fn a_head_that_drips_is_parsed_once_for_each_line() {
        let text = format!("GET /{} HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n", "a".repeat(3000));
        let bytes = text.as_bytes();
        let mut head = Head::default();
        let parsed: Vec<usize> = (CHEAP_BYTES + 1..=bytes.len())
            .filter(|&end| Head::may_decide(&bytes[..end], end - 1, &LIMITS))
            .filter(|&end| head.parse(&bytes[..end], &LIMITS).is_ok())
            .collect();
        assert_eq!(parsed.len(), 4, "{parsed:?}");
        assert_eq!(head.len, bytes.len());
        assert!(Head::may_decide(&[b'a'; 4096], 4095, &LIMITS), "the limit is reached");
    }

    #[test]
    fn other_protocols_are_noticed_at_once() {
        let parse = |bytes: &[u8]| Head::default().parse(bytes, &LIMITS);
        assert_eq!(parse(b"\x16\x03\x01"), Err(HeadError::TlsHandshake));
        assert_eq!(parse(b"\x80\x2e\x01"), Err(HeadError::BadMethod));
        assert_eq!(parse(b"\0\x06\0\0"), Err(HeadError::BadMethod));
        assert_eq!(parse(b"GET /\x01"), Err(HeadError::BadTarget));
        assert_eq!(parse(b"SSH-2.0-OpenSSH_9.6 x y"), Err(HeadError::BadVersion));
        assert_eq!(parse(b"GET / HTTP/1.1x"), Err(HeadError::BadVersion));
        assert_eq!(parse(b"GET / HTTP/1.1\r"), Ok(Parsed::Partial));
    }

    #[test]
    fn statuses() {
        for (error, status) in [
            (HeadError::TlsHandshake, 400),
            (HeadError::MissingHost, 400),
            (HeadError::TargetTooLong, 414),
            (HeadError::UnknownExpectation, 417),
            (HeadError::TooManyFields, 431),
            (HeadError::HeadTooLarge, 431),
            (HeadError::CodingNotImplemented, 501),
            (HeadError::MethodNotImplemented, 501),
            (HeadError::VersionNotSupported, 505),
        ] {
            assert_eq!(error.status(), status, "{error}");
        }
    }

    #[test]
    fn rfc3875_4_1_18_variable_names() {
        let name = |field: &str| {
            let mut out = b"+".to_vec();
            variable_name(field.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(name("Accept-Language"), "+HTTP_ACCEPT_LANGUAGE");
        assert_eq!(name("content-TYPE"), "+CONTENT_TYPE");
        assert_eq!(name("Content-Length"), "+CONTENT_LENGTH");
        assert_eq!(name("Content-Md5"), "+HTTP_CONTENT_MD5");
        assert_eq!(name("X.y"), "+HTTP_X.Y");
    }
}
