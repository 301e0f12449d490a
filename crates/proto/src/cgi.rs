//! CGI/1.1 (RFC 3875): the head of a script's output (§6), and the words of a query that go to its command line (§4.4).
//!
//! Scripts are programs of the server's own users and written by hand: their lines may end with LF alone, and they
//! may begin with a status line as if they spoke HTTP themselves. What could mean two things is refused, with a
//! reason that their author understands. How the response goes on the wire is `http1/response.rs`'s business; what
//! becomes of redirects and of files handed over is the gateway's.

use alloc::vec::Vec;
use core::fmt;

use memchr::memchr;

use crate::Span;
use crate::http1::chars;
use crate::http1::head::percent_decode;
pub use crate::http1::head::{Limits, Parsed};

/// The parsed head of a script's output. One value serves script after script: [`parse`](Self::parse) clears it
/// first. What it holds is only meaningful after `parse` returned [`Parsed::Complete`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, from the first one to the end of the empty line; the body follows.
    pub len: usize,
    /// The value of `Status` (RFC 3875 §6.3.3), or what a status line has behind the version: three digits, alone or
    /// with a blank and a reason. Never 1xx, which would be no final answer.
    pub status: Option<Span>,
    /// The value of `Location` (RFC 3875 §6.3.2), never empty. The field is in `fields`, too.
    pub location: Option<Span>,
    /// The value of `Content-Length`.
    pub content_length: Option<u64>,
    /// The value of `X-Sendfile`: the path of a file that is to be the body.
    pub hand_over: Option<Span>,
    /// The value of `X-Accel-Redirect`: a location that is to answer instead.
    pub accel: Option<Span>,
    /// Name and value of all fields in the order given, without those that the server acts upon: `Status`,
    /// `Content-Length`, `Transfer-Encoding` (framing is the server's, RFC 3875 §6.3.4), `X-Sendfile`,
    /// `X-Accel-Redirect`. Whoever does not act upon the last two has to write them.
    pub fields: Vec<(Span, Span)>,
}

impl ResponseHead {
    /// Parses the head at the start of `bytes`, which is all that the script has written so far; called again with
    /// more, in whatever pieces they come, the answer is the same. Reads at most `limits.head_bytes`.
    /// [`Head::may_decide`](crate::http1::head::Head::may_decide) says when another call can be left out.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Parsed, CgiHeadError> {
        self.clear();
        let most = limits.head_bytes.min(u32::MAX as usize);
        let cannot_grow = bytes.len() >= most;
        let bytes = &bytes[..bytes.len().min(most)];
        let (mut at, mut count) = (0, 0);
        while let Some(newline) = memchr(b'\n', &bytes[at..]) {
            let start = at;
            at += newline + 1;
            let end = if bytes[start..at - 1].ends_with(b"\r") { at - 2 } else { at - 1 };
            if start == end {
                self.len = at;
                return if start == 0 { Err(CgiHeadError::NoField) } else { Ok(Parsed::Complete) };
            }
            let line = &bytes[start..end];
            if start == 0 && line.starts_with(b"HTTP/") {
                self.status = Some(status_of_line(line)?);
                continue;
            }
            count += 1;
            if count > limits.fields {
                return Err(CgiHeadError::TooManyFields);
            }
            self.field_line(bytes, Span::new(start, end))?;
        }
        if cannot_grow { Err(CgiHeadError::HeadTooLarge) } else { Ok(Parsed::Partial) }
    }

    /// Whether the request is to be answered by another location of this server, without the client's knowledge
    /// (RFC 3875 §6.2.2): `Location` is a path and the only field. A path with bytes that no request-target may have
    /// (RFC 9112 §3.2), a fragment included, is for the client. `bytes` are those that were parsed.
    pub fn is_local_redirect(&self, bytes: &[u8]) -> bool {
        let is_alone = self.fields.len() == 1
            && self.status.is_none()
            && self.content_length.is_none()
            && self.hand_over.is_none()
            && self.accel.is_none();
        let Some(path) = self.location.filter(|_| is_alone).map(|span| span.of(bytes)) else { return false };
        path.starts_with(b"/") && !path.starts_with(b"//") && chars::all(path, chars::TARGET)
    }

    /// The status of the response: the script's own, otherwise that of a redirect to the client when there is a
    /// `Location` (RFC 3875 §6.2.3), otherwise success (§6.3.3). `bytes` are those that were parsed.
    pub fn status_line<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match (self.status, self.location) {
            (Some(status), _) => status.of(bytes),
            (None, Some(_)) => b"302 Found",
            (None, None) => b"200 OK",
        }
    }

    fn clear(&mut self) {
        let mut fields = core::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Judges one line (RFC 3875 §6.3), given without its end, and keeps what it says.
    fn field_line(&mut self, bytes: &[u8], line: Span) -> Result<(), CgiHeadError> {
        let text = line.of(bytes);
        if let [b' ' | b'\t', ..] = text {
            return Err(CgiHeadError::FoldedLine);
        }
        let colon = memchr(b':', text).ok_or(CgiHeadError::NoColon)?;
        let name = &text[..colon];
        if !chars::all(name, chars::TOKEN) {
            let is_blank_only = chars::all(chars::trim(name), chars::TOKEN);
            return Err(if is_blank_only {
                CgiHeadError::BlankBeforeColon
            } else {
                CgiHeadError::BadFieldName
            });
        }
        let value = chars::trim(&text[colon + 1..]);
        if chars::has_control(value) {
            return Err(CgiHeadError::BadFieldValue);
        }
        let name_span = Span::new(line.start as usize, line.start as usize + colon);
        let value_start = name_span.end as usize + 1 + blanks(&text[colon + 1..]);
        let value_span = Span::new(value_start, value_start + value.len());

        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        match name.len() {
            6 if is(b"Status") => return self.take_status(bytes, value_span),
            8 if is(b"Location") && !value.is_empty() => {
                let is_new = once(&mut self.location, value_span, bytes)?;
                if !is_new {
                    return Ok(());
                }
            }
            10 if is(b"X-Sendfile") => return once(&mut self.hand_over, value_span, bytes).map(drop),
            14 if is(b"Content-Length") => return self.take_length(value),
            16 if is(b"X-Accel-Redirect") => return once(&mut self.accel, value_span, bytes).map(drop),
            17 if is(b"Transfer-Encoding") => return Ok(()),
            _ => {}
        }
        self.fields.push((name_span, value_span));
        Ok(())
    }

    /// Two that have the same code are one; the first one's reason counts.
    fn take_status(&mut self, bytes: &[u8], value: Span) -> Result<(), CgiHeadError> {
        let Some(code) = status_code(value.of(bytes)) else { return Err(CgiHeadError::BadStatus) };
        match self.status {
            Some(other) if status_code(other.of(bytes)) != Some(code) => Err(CgiHeadError::TwoStatuses),
            Some(_) => Ok(()),
            None => {
                self.status = Some(value);
                Ok(())
            }
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), CgiHeadError> {
        let length = chars::decimal(value).ok_or(CgiHeadError::BadContentLength)?;
        if self.content_length.is_some_and(|other| other != length) {
            return Err(CgiHeadError::TwoLengths);
        }
        self.content_length = Some(length);
        Ok(())
    }
}

/// Keeps `value` in `slot`; false when the same was already there.
fn once(slot: &mut Option<Span>, value: Span, bytes: &[u8]) -> Result<bool, CgiHeadError> {
    match *slot {
        Some(other) if other.of(bytes) == value.of(bytes) => Ok(false),
        Some(_) => Err(CgiHeadError::TwoTargets),
        None => {
            *slot = Some(value);
            Ok(true)
        }
    }
}

/// The status in a line such as `HTTP/1.1 200 OK` at the very start of the output. That is how scripts that speak to
/// the client themselves begin (RFC 3875 §5), which no server lets them do any more; many others copied it.
fn status_of_line(line: &[u8]) -> Result<Span, CgiHeadError> {
    let version = line.strip_prefix(b"HTTP/").unwrap_or_default();
    let ([b'0'..=b'9', b' ', rest @ ..] | [b'0'..=b'9', b'.', b'0'..=b'9', b' ', rest @ ..]) = version else {
        return Err(CgiHeadError::BadStatus);
    };
    let start = line.len() - rest.len() + blanks(rest);
    let status = chars::trim(rest);
    status_code(status).ok_or(CgiHeadError::BadStatus)?;
    Ok(Span::new(start, start + status.len()))
}

/// How many blanks and tabs `text` begins with: what [`chars::trim`] takes off the front of what is not all blank.
fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count()
}

/// The digits of a status (RFC 3875 §6.3.3) that ends the exchange, with or without a reason.
fn status_code(status: &[u8]) -> Option<&[u8]> {
    match status.split_at_checked(3)? {
        (code @ [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9'], [] | [b' ', ..]) if !chars::has_control(status) => {
            Some(code)
        }
        _ => None,
    }
}

/// The words of a query that is a search (RFC 3875 §4.4), for the command line of a script: what is between its `+`,
/// each decoded. `None` when it has a `=` that is not encoded and thus is a form, when it is empty, and when a word
/// could not be an argument: it has a NUL, or an escape that is none.
///
/// A word may begin with `-`. An interpreter that gets it instead of the script takes it for an option
/// (CVE-2012-1823).
pub fn query_words(query: &[u8]) -> Option<Vec<Vec<u8>>> {
    if query.is_empty() || memchr(b'=', query).is_some() {
        return None;
    }
    query.split(|&byte| byte == b'+').map(decoded_word).collect()
}

fn decoded_word(word: &[u8]) -> Option<Vec<u8>> {
    let escapes_are_whole = word.iter().enumerate().filter(|&(_, &byte)| byte == b'%').all(|(at, _)| {
        word.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let mut out = Vec::with_capacity(word.len());
    percent_decode(word, &mut out);
    (escapes_are_whole && !out.contains(&0)).then_some(out)
}

/// Why the output of a script is no response. The script is at fault; its text is for the author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgiHeadError {
    /// The output begins with an empty line.
    NoField,
    /// A line of the head has no colon.
    NoColon,
    /// A line begins with a blank.
    FoldedLine,
    /// There is a blank between a field's name and the colon.
    BlankBeforeColon,
    /// A field's name is not a token.
    BadFieldName,
    /// There is a control byte in a field's value.
    BadFieldValue,
    /// `Status`, or the status line, is no status of a final response.
    BadStatus,
    /// `Content-Length` is no plain number.
    BadContentLength,
    /// Two statuses differ.
    TwoStatuses,
    /// Two `Content-Length` differ.
    TwoLengths,
    /// Two `Location`, `X-Sendfile` or `X-Accel-Redirect` differ.
    TwoTargets,
    /// More field lines than allowed.
    TooManyFields,
    /// The head exceeds the limit.
    HeadTooLarge,
}

impl fmt::Display for CgiHeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoField => {
                "the script's output begins with an empty line instead of a header such as Content-Type: text/plain"
            }
            Self::NoColon => {
                "the script wrote a header line without a colon (is the empty line after the headers missing?)"
            }
            Self::FoldedLine => {
                "the script wrote a header line that begins with a blank (headers cannot be continued)"
            }
            Self::BlankBeforeColon => "the script wrote a header with a blank before its colon",
            Self::BadFieldName => {
                "the script wrote a header whose name has other bytes than letters, digits and !#$%&'*+-.^_`|~"
            }
            Self::BadFieldValue => "the script wrote a header whose value has a control byte",
            Self::BadStatus => "the script's Status is not three digits from 200 on, a blank and a reason",
            Self::BadContentLength => "the script's Content-Length is not a decimal number",
            Self::TwoStatuses => "the script wrote two Status headers that differ",
            Self::TwoLengths => "the script wrote two Content-Length headers that differ",
            Self::TwoTargets => {
                "the script wrote two Location, X-Sendfile or X-Accel-Redirect headers that differ"
            }
            Self::TooManyFields => "the script wrote more headers than allowed",
            Self::HeadTooLarge => {
                "the script's headers are longer than allowed (is the empty line after them missing?)"
            }
        })
    }
}

impl core::error::Error for CgiHeadError {}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 2048, fields: 32 };

    /// Parses in all pieces as well.
    fn parse(text: &str) -> Result<ResponseHead, CgiHeadError> {
        crate::fuzz_entry::fuzz_cgi(text.as_bytes());
        let mut head = ResponseHead::default();
        let result = head.parse(text.as_bytes(), &LIMITS);
        assert_ne!(result, Ok(Parsed::Partial), "{text:?} is complete");
        result.map(|_| head)
    }

    fn error(text: &str) -> CgiHeadError {
        parse(text).expect_err(text)
    }

    fn fields(head: &ResponseHead, text: &str) -> String {
        let text = |span: &Span| String::from_utf8_lossy(span.of(text.as_bytes())).into_owned();
        head.fields.iter().map(|(name, value)| text(name) + "=" + &text(value) + ";").collect()
    }

    fn status(text: &str) -> String {
        let head = parse(text).expect(text);
        String::from_utf8_lossy(head.status_line(text.as_bytes())).into_owned()
    }

    fn is_local(text: &str) -> bool {
        parse(text).expect(text).is_local_redirect(text.as_bytes())
    }

    #[test]
    fn rfc3875_6_2_1_document_response() {
        let text = "Content-Type: text/plain\nX-A:\nx-b: \t c d \t\n\nbody\n\n";
        let head = parse(text).unwrap();
        assert_eq!(&text[head.len..], "body\n\n");
        assert_eq!(fields(&head, text), "Content-Type=text/plain;X-A=;x-b=c d;");
        assert_eq!((head.status, head.location, head.content_length), (None, None, None));
        assert_eq!(status(text), "200 OK");
    }

    #[test]
    fn rfc3875_6_2_2_local_redirect() {
        assert!(is_local("Location: /a?b=c\n\n"));
        assert!(is_local("LOCATION:/a\r\n\r\n"));
        assert!(is_local("Location: /a\nLocation: /a\n\n"));
        for text in [
            "Location: //h/a\n\n",
            "Location: http://h/a\n\n",
            "Location: a\n\n",
            "Location: /a b\n\n",
            "Location: /a#b\n\n",
            "Location:\n\n",
            "Location: /a\nStatus: 302 Found\n\n",
            "HTTP/1.0 302 Found\nLocation: /a\n\n",
            "Location: /a\nContent-Type: text/plain\n\n",
            "Location: /a\nContent-Length: 0\n\n",
            "Location: /a\nX-Sendfile: /b\n\n",
            "Location: /a\nX-Accel-Redirect: /b\n\n",
            "A: /a\n\n",
        ] {
            assert!(!is_local(text), "{text:?}");
        }
    }

    #[test]
    fn rfc3875_6_2_3_client_redirect() {
        let text = "Location: http://h/a#b\nContent-Type: text/html\n\n";
        assert_eq!(status(text), "302 Found");
        let head = parse(text).unwrap();
        assert_eq!(head.location.map(|span| span.of(text.as_bytes())), Some(&b"http://h/a#b"[..]));
        assert_eq!(fields(&head, text), "Location=http://h/a#b;Content-Type=text/html;");
        assert_eq!(status("Location: http://h/\nStatus: 303 See Other\n\n"), "303 See Other", "§6.2.4");
        assert_eq!(status("Location:\n\n"), "200 OK", "an empty one leads nowhere");
    }

    #[test]
    fn rfc3875_6_3_3_status() {
        assert_eq!(status("Status: 404 Not Found\nA: b\n\n"), "404 Not Found");
        assert_eq!(status("status:404\n\n"), "404");
        assert_eq!(status("Status: 404\nSTATUS: 404 Not Found\n\n"), "404");
        assert_eq!(error("Status: 404\nStatus: 200\n\n"), CgiHeadError::TwoStatuses);
        for bad in [
            "",
            "OK",
            "4",
            "40",
            "4040",
            "404Not Found",
            "404\tNot Found",
            "100 Continue",
            "101",
            "099",
            "-404",
        ] {
            assert_eq!(error(&["Status: ", bad, "\n\n"].concat()), CgiHeadError::BadStatus, "{bad}");
        }
    }

    #[test]
    fn rfc3875_5_a_status_line_of_http() {
        assert_eq!(status("HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n"), "404 Not Found");
        assert_eq!(status("HTTP/1.0 200\n\n"), "200", "and no field");
        assert_eq!(status("HTTP/2  500 Oh \n\n"), "500 Oh");
        assert_eq!(status("HTTP/1.1 200 OK\nStatus: 200\n\n"), "200 OK");
        assert_eq!(error("HTTP/1.1 200 OK\nStatus: 404\n\n"), CgiHeadError::TwoStatuses);
        for bad in [
            "HTTP/",
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1 OK",
            "HTTP/x 200 OK",
            "HTTP/1.1 101 A",
            "HTTP/1.1: 200",
        ] {
            assert_eq!(error(&[bad, "\n\n"].concat()), CgiHeadError::BadStatus, "{bad}");
        }
        assert_eq!(error("A: b\nHTTP/1.1 200 OK\n\n"), CgiHeadError::NoColon, "only as the first line");
        assert_eq!(error("http/1.1 200 OK\n\n"), CgiHeadError::NoColon);
    }

    #[test]
    fn rfc3875_6_3_lines_end_either_way() {
        for text in ["A: b\nC: d\n\n.", "A: b\r\nC: d\r\n\r\n.", "A: b\r\nC: d\n\r\n.", "A: b\nC: d\r\n\n."] {
            let head = parse(text).unwrap();
            assert_eq!(fields(&head, text), "A=b;C=d;");
            assert_eq!(&text[head.len..], ".");
        }
        assert_eq!(error("A: b\r\r\n\n"), CgiHeadError::BadFieldValue);
        assert_eq!(error("A: b\n\r\r\n\n"), CgiHeadError::NoColon);
    }

    #[test]
    fn rfc3875_6_3_at_least_one_field() {
        assert_eq!(error("\n"), CgiHeadError::NoField);
        assert_eq!(error("\r\n<html>"), CgiHeadError::NoField);
    }

    #[test]
    fn rfc3875_6_3_what_is_no_field() {
        for (text, wanted) in [
            ("<html>\n", CgiHeadError::NoColon),
            ("Traceback (most recent call last)\n", CgiHeadError::NoColon),
            ("A: b\n<p>\n", CgiHeadError::NoColon),
            ("A: b\n c\n", CgiHeadError::FoldedLine),
            ("A: b\n\tc: d\n", CgiHeadError::FoldedLine),
            (" A: b\n", CgiHeadError::FoldedLine),
            (" \n", CgiHeadError::FoldedLine),
            ("A : b\n", CgiHeadError::BlankBeforeColon),
            ("A\t: b\n", CgiHeadError::BlankBeforeColon),
            (": b\n", CgiHeadError::BadFieldName),
            ("A b: c\n", CgiHeadError::BadFieldName),
            ("<p style=\"a: b\">\n", CgiHeadError::BadFieldName),
            ("\u{e9}: b\n", CgiHeadError::BadFieldName),
            ("A\0: b\n", CgiHeadError::BadFieldName),
            ("A: b\0\n", CgiHeadError::BadFieldValue),
            ("A: b\rc\n", CgiHeadError::BadFieldValue),
            ("A: \x7f\n", CgiHeadError::BadFieldValue),
        ] {
            assert_eq!(error(text), wanted, "{text:?}");
            assert!(wanted.to_string().contains("the script"));
        }
        assert!(parse("A: \u{e9}\tb\n\n").is_ok());
    }

    #[test]
    fn rfc3875_6_3_4_framing_is_the_servers() {
        let text = "Content-Length: 5\nTransfer-Encoding: chunked\nA: b\ncontent-length: 05\n\n";
        let head = parse(text).unwrap();
        assert_eq!((head.content_length, fields(&head, text)), (Some(5), "A=b;".into()));
        assert_eq!(error("Content-Length: 5\nContent-Length: 6\n\n"), CgiHeadError::TwoLengths);
        for bad in ["", "x", "-1", "5,5", "0x5", "18446744073709551616"] {
            assert_eq!(error(&["Content-Length: ", bad, "\n\n"].concat()), CgiHeadError::BadContentLength);
        }
    }

    #[test]
    fn files_handed_over() {
        let text = "x-sendfile: /srv/a b\nX-ACCEL-REDIRECT: /c\nA: b\n\n";
        let head = parse(text).unwrap();
        let of = |span: Option<Span>| span.map(|span| span.of(text.as_bytes()));
        assert_eq!((of(head.hand_over), of(head.accel)), (Some(&b"/srv/a b"[..]), Some(&b"/c"[..])));
        assert_eq!(fields(&head, text), "A=b;");
        assert_eq!(error("X-Sendfile: a\nX-Sendfile: b\n\n"), CgiHeadError::TwoTargets);
        assert_eq!(error("Location: /a\nLocation: /b\n\n"), CgiHeadError::TwoTargets);
    }

    #[test]
    fn limits() {
        let mut head = ResponseHead::default();
        let limits = Limits { head_bytes: 10, fields: 2 };
        assert_eq!(head.parse(b"A:b\nC:d\n\n", &limits), Ok(Parsed::Complete));
        assert_eq!(head.parse(b"A:b\nC:dd\n\n", &limits), Ok(Parsed::Complete), "exactly");
        assert_eq!(head.parse(b"A:b\nC:ddd\n\n", &limits), Err(CgiHeadError::HeadTooLarge));
        assert_eq!(head.parse(b"A:b\nC:ddd", &limits), Ok(Parsed::Partial));
        assert_eq!(head.parse(b"A:\nB:\nC:\n", &limits), Err(CgiHeadError::TooManyFields));
        assert_eq!(head.parse(b"", &limits), Ok(Parsed::Partial));
    }

    #[test]
    fn a_head_is_reused_and_cleared() {
        let mut head = ResponseHead::default();
        let first = b"Status: 404\nLocation: /\nContent-Length: 3\nX-Sendfile: /a\nX-Accel-Redirect: /b\n\n";
        assert_eq!(head.parse(first, &LIMITS), Ok(Parsed::Complete));
        let capacity = head.fields.capacity();
        assert_eq!(head.parse(b"", &LIMITS), Ok(Parsed::Partial));
        assert_eq!(head, ResponseHead::default());
        assert_eq!(head.fields.capacity(), capacity, "no new allocation for the next script");
    }

    fn words(query: &str) -> Option<Vec<String>> {
        crate::fuzz_entry::fuzz_query_words(query.as_bytes());
        let words = query_words(query.as_bytes())?;
        Some(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn rfc3875_4_4_words_of_a_search() {
        let some = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(words("a"), some(&["a"]));
        assert_eq!(words("a+b%20c+%2B%3d%25"), some(&["a", "b c", "+=%"]));
        assert_eq!(words("+a+"), some(&["", "a", ""]));
        assert_eq!(words("%252B"), some(&["%2B"]), "decoded once");
        assert_eq!(words("-s"), some(&["-s"]));
    }

    #[test]
    fn rfc3875_4_4_no_search() {
        for query in ["", "a=b", "=", "a+b=c", "%", "%4", "%4+1", "a+%zz", "%00", "a+b%00c", "\0"] {
            assert_eq!(words(query), None, "{query}");
        }
    }
}
