//! One request: its head or packet, its body, and where it came from. Heads of both protocols answer the same questions.

use std::io::Write as _;

use greenloom_proto::Span;
use greenloom_proto::http1::head::{Framing, Head, Version, percent_decode};
use greenloom_proto::http1::response::Exchange;
use greenloom_proto::text::push_decimal;
use greenloom_sys::net::Peer;

use crate::Body;
use crate::incoming::Incoming;
use crate::instance::{Address, Identity};

/// What the head was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An HTTP/1 head: [`Request::head`] holds it.
    Http,
    /// A uwsgi packet: [`Request::vars`] holds it.
    Uwsgi,
}

/// A complete request on its way to or in a core. The value is reused, so that a request allocates nothing of it.
#[derive(Debug)]
pub struct Request {
    /// uWSGI's `modifier1`: whom the request is for.
    pub modifier1: u8,
    /// Which of `head` and `vars` counts.
    pub source: Source,
    /// The bytes that all spans refer to.
    pub bytes: Vec<u8>,
    /// The HTTP head.
    pub head: Head,
    /// The variables of the uwsgi packet.
    pub vars: Vec<(Span, Span)>,
    /// The path, decoded, when it had `%` in it (HTTP only).
    pub decoded_path: Vec<u8>,
    /// The body; complete. Empty when it is read as it comes.
    pub body: Body,
    /// The body that is read as it comes, until the request has a core.
    pub(crate) incoming: Option<Box<Incoming>>,
    /// How many bytes the body has; `None`: the client announced none.
    pub content_length: Option<u64>,
    /// Who asks.
    pub peer: Peer,
    /// Number of the listener that the connection came through.
    pub listener: usize,
    /// What the response must know.
    pub exchange: Exchange,
    /// When the first byte came, in nanoseconds of the monotonic clock.
    pub began_ns: u64,
    /// When it began to wait for a core, if it did.
    pub(crate) parked_ms: u64,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self {
            modifier1: 0,
            source: Source::Http,
            bytes: Vec::new(),
            head: Head::default(),
            vars: Vec::new(),
            decoded_path: Vec::new(),
            body: Body::Empty,
            incoming: None,
            content_length: None,
            peer: Peer::Unix,
            listener: 0,
            exchange: Exchange { version: Version::Http11, is_head: false, keep_alive: false, cgi: false },
            began_ns: 0,
            parked_ms: 0,
        }
    }

    /// The bytes of a span of this request.
    pub fn text(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    /// A variable of the uwsgi packet; the last one of that name counts.
    pub fn var(&self, name: &[u8]) -> Option<&[u8]> {
        if self.source == Source::Http {
            return None;
        }
        self.vars.iter().rev().find(|(key, _)| self.text(*key) == name).map(|(_, value)| self.text(*value))
    }

    fn part(&self, of_head: impl Fn(&Head) -> Span, name: &[u8]) -> &[u8] {
        match self.source {
            Source::Http => self.text(of_head(&self.head)),
            Source::Uwsgi => self.var(name).unwrap_or_default(),
        }
    }

    /// The method.
    pub fn method(&self) -> &[u8] {
        self.part(|head| head.method, b"REQUEST_METHOD")
    }

    /// The target as the client sent it.
    pub fn uri(&self) -> &[u8] {
        self.part(|head| head.target, b"REQUEST_URI")
    }

    /// The path, percent-decoded.
    pub fn path(&self) -> &[u8] {
        match self.source {
            Source::Http if !self.head.path_is_plain => &self.decoded_path,
            Source::Http => self.text(self.head.path),
            Source::Uwsgi => self.var(b"PATH_INFO").unwrap_or_default(),
        }
    }

    /// What follows the `?`.
    pub fn query(&self) -> &[u8] {
        self.part(|head| head.query, b"QUERY_STRING")
    }

    /// `HTTP/1.1` and the like.
    pub fn protocol(&self) -> &[u8] {
        match self.source {
            Source::Http => self.head.version.as_bytes(),
            Source::Uwsgi => self.var(b"SERVER_PROTOCOL").unwrap_or(b"HTTP/1.0"),
        }
    }

    /// Who asks, and for what: what is shown of a request while it runs.
    pub(crate) fn identity(&self) -> Identity<'_> {
        if self.source == Source::Http {
            return Identity {
                method: self.text(self.head.method),
                uri: self.text(self.head.target),
                host: self.text(self.head.host),
                address: match self.peer {
                    Peer::Ip(address, _) => Address::Ip(address),
                    Peer::Unix => Address::None,
                },
            };
        }
        let mut identity = Identity { method: b"", uri: b"", host: b"", address: Address::None };
        // One pass for all; of two variables with one name the last one counts.
        for &(key, value) in &self.vars {
            match self.text(key) {
                b"REQUEST_METHOD" => identity.method = self.text(value),
                b"REQUEST_URI" => identity.uri = self.text(value),
                b"HTTP_HOST" => identity.host = self.text(value),
                b"REMOTE_ADDR" => identity.address = Address::Text(self.text(value)),
                _ => {}
            }
        }
        identity
    }

    /// Appends the variable that a front end would have sent for this request under `name` (RFC 3875), as far as the
    /// request itself knows it; whether there is one.
    pub(crate) fn append_variable(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        if self.source == Source::Uwsgi {
            let value = self.var(name);
            out.extend_from_slice(value.unwrap_or_default());
            return value.is_some();
        }
        let text = match name {
            b"REQUEST_METHOD" => self.method(),
            b"REQUEST_URI" => self.uri(),
            b"PATH_INFO" => self.path(),
            b"QUERY_STRING" => self.query(),
            b"SERVER_PROTOCOL" => self.protocol(),
            b"REMOTE_ADDR" | b"REMOTE_PORT" => {
                let Peer::Ip(address, port) = self.peer else { return false };
                // Writing into memory cannot fail.
                let _ = if name == b"REMOTE_ADDR" { write!(out, "{address}") } else { write!(out, "{port}") };
                return true;
            }
            b"CONTENT_LENGTH" => {
                let Some(length) = self.content_length else { return false };
                push_decimal(out, length);
                return true;
            }
            _ => return self.append_fields(name, out),
        };
        out.extend_from_slice(text);
        true
    }

    /// Appends the fields that become the variable `name`, joined as in the environ.
    fn append_fields(&self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let separator: &[u8] = if name == b"HTTP_COOKIE" { b"; " } else { b", " };
        let mut found = false;
        for field in self.head.fields.iter().filter(|field| becomes(self.text(field.name), name)) {
            if std::mem::replace(&mut found, true) {
                out.extend_from_slice(separator);
            }
            out.extend_from_slice(self.text(field.value));
        }
        found
    }

    /// Makes it the request of a local redirect (RFC 3875 §6.2.2): GET, no body, another path and query. What the client has
    /// asked for stays in `REQUEST_URI` and in the log.
    pub(crate) fn go_to(&mut self, target: &[u8]) {
        let (path, query) = match target.iter().position(|&byte| byte == b'?') {
            Some(at) => (&target[..at], &target[at + 1..]),
            None => (target, &b""[..]),
        };
        self.body = Body::Empty;
        self.incoming = None;
        self.content_length = None;
        let is_head = self.method() == b"HEAD";
        let mut decoded = Vec::new();
        percent_decode(path, &mut decoded);
        let method = self.append(if is_head { b"HEAD" } else { b"GET" });
        let query = self.append(query);
        match self.source {
            Source::Http => {
                let path = self.append(path);
                self.head.method = method;
                self.head.path = path;
                self.head.path_is_plain = false;
                self.head.query = query;
                self.head.framing = Framing::None;
                self.decoded_path = decoded;
                let bytes = &self.bytes;
                self.head.fields.retain(|field| {
                    let name = field.name.of(bytes);
                    !name.eq_ignore_ascii_case(b"Content-Length")
                        && !name.eq_ignore_ascii_case(b"Content-Type")
                        && !name.eq_ignore_ascii_case(b"Transfer-Encoding")
                });
            }
            Source::Uwsgi => {
                let path = self.append(&decoded);
                let bytes = &self.bytes;
                self.vars.retain(|(name, _)| !matches!(name.of(bytes), b"CONTENT_LENGTH" | b"CONTENT_TYPE"));
                for (name, value) in
                    [(&b"REQUEST_METHOD"[..], method), (b"PATH_INFO", path), (b"QUERY_STRING", query)]
                {
                    let name = self.append(name);
                    self.vars.push((name, value));
                }
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Span::new(start, self.bytes.len())
    }

    /// Number of variables a gateway makes of it and the bytes they take in a uwsgi packet, for the request log.
    pub fn variables(&self) -> (u32, u64) {
        match self.source {
            Source::Uwsgi => {
                let bytes: usize = self.vars.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
                (u32::try_from(self.vars.len()).unwrap_or(u32::MAX), bytes as u64)
            }
            Source::Http => {
                // REQUEST_METHOD, REQUEST_URI, PATH_INFO, QUERY_STRING, SERVER_PROTOCOL, SCRIPT_NAME, SERVER_NAME,
                // SERVER_PORT, REMOTE_ADDR, REMOTE_PORT: 121 bytes of names, 4 bytes of lengths each.
                let head = &self.head;
                let fixed = 10 * 4 + 121 + 8 + 2 * head.target.len() + head.method.len() + head.query.len();
                let fields: usize =
                    head.fields.iter().map(|field| field.name.len() + field.value.len() + 4 + 5).sum();
                (u32::try_from(10 + head.fields.len()).unwrap_or(u32::MAX), (fixed + fields) as u64)
            }
        }
    }
}

/// Whether a field of this name becomes this variable, without making the variable's name (see
/// [`greenloom_proto::http1::head::variable_name`]).
fn becomes(field: &[u8], variable: &[u8]) -> bool {
    let name = match variable.strip_prefix(b"HTTP_") {
        // These two have names without a prefix.
        Some(b"CONTENT_TYPE" | b"CONTENT_LENGTH") => return false,
        Some(name) => name,
        None if variable == b"CONTENT_TYPE" => variable,
        None => return false,
    };
    let as_variable = |byte: &u8| if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    field.len() == name.len() && field.iter().map(as_variable).eq(name.iter().copied())
}

#[cfg(test)]
impl Request {
    /// The request that an HTTP head is.
    pub(crate) fn sample(bytes: &[u8]) -> Self {
        use greenloom_proto::http1::head::{Limits, Parsed};

        let mut request = Self::new();
        let parsed = request.head.parse(bytes, &Limits { head_bytes: 4096, fields: 32 });
        assert_eq!(parsed, Ok(Parsed::Complete));
        request.bytes = bytes.to_vec();
        if !request.head.path_is_plain {
            let path = request.head.path.of(bytes).to_vec();
            percent_decode(&path, &mut request.decoded_path);
        }
        request.exchange.is_head = request.head.is_head;
        request.exchange.keep_alive = true;
        request
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use greenloom_proto::http1::head::variable_name;

    use super::*;

    fn variable(request: &Request, name: &str) -> Option<String> {
        let mut out = Vec::new();
        let found = request.append_variable(name.as_bytes(), &mut out);
        assert!(found || out.is_empty(), "{name}");
        found.then(|| String::from_utf8(out).expect("the samples are ASCII"))
    }

    #[test]
    fn variables_of_an_http_request() {
        let mut request = Request::sample(
            b"GET /a?b HTTP/1.1\r\nHost: x\r\nAccept-Language: de\r\ncookie: a=1\r\nContent-Type: t\r\n\
              X-A: 1\r\nx-a: 2\r\nCookie: b=2\r\n\r\n",
        );
        request.peer = Peer::Ip(IpAddr::V6(Ipv6Addr::LOCALHOST), 4711);
        for (name, value) in [
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/a?b"),
            ("PATH_INFO", "/a"),
            ("QUERY_STRING", "b"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REMOTE_ADDR", "::1"),
            ("REMOTE_PORT", "4711"),
            ("HTTP_HOST", "x"),
            ("HTTP_ACCEPT_LANGUAGE", "de"),
            ("CONTENT_TYPE", "t"),
            ("HTTP_X_A", "1, 2"),
            ("HTTP_COOKIE", "a=1; b=2"),
        ] {
            assert_eq!(variable(&request, name).as_deref(), Some(value), "{name}");
        }
        for name in ["HTTP_CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X", "HOST", "HTTP_", "", "REMOTE_USER"] {
            assert_eq!(variable(&request, name), None, "{name}");
        }
        request.content_length = Some(12);
        assert_eq!(variable(&request, "CONTENT_LENGTH").as_deref(), Some("12"));
    }

    #[test]
    fn a_field_becomes_the_variable_that_the_environ_has() {
        for field in
            ["Host", "X-Forwarded-For", "content-type", "Content-Length", "a_b", "Content-Typ", "!#$"]
        {
            let mut name = Vec::new();
            variable_name(field.as_bytes(), &mut name);
            let expected = name != b"CONTENT_LENGTH";
            assert_eq!(becomes(field.as_bytes(), &name), expected, "{field}");
            assert!(!becomes(field.as_bytes(), b"HTTP_OTHER"), "{field}");
        }
    }

    fn uwsgi(vars: &[(&str, &str)]) -> Request {
        let mut request = Request { source: Source::Uwsgi, ..Request::new() };
        for (name, value) in vars {
            let pair = (request.append(name.as_bytes()), request.append(value.as_bytes()));
            request.vars.push(pair);
        }
        request
    }

    #[test]
    fn rfc3875_6_2_2_a_local_redirect_is_a_get_of_another_path() {
        let mut http = Request::sample(
            b"POST /cgi-bin/a?x=1 HTTP/1.1\r\nHost: x\r\nContent-Type: t\r\nContent-Length: 3\r\nA: b\r\n\r\n",
        );
        let mut packet = uwsgi(&[
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", "/cgi-bin/a?x=1"),
            ("PATH_INFO", "/cgi-bin/a"),
            ("QUERY_STRING", "x=1"),
            ("CONTENT_TYPE", "t"),
            ("CONTENT_LENGTH", "3"),
            ("HTTP_A", "b"),
        ]);
        for request in [&mut http, &mut packet] {
            request.content_length = Some(3);
            request.body = Body::Memory(b"abc".to_vec());
            request.go_to(b"/other%20path?y=2");
            for (name, value) in [
                ("REQUEST_METHOD", Some("GET")),
                ("REQUEST_URI", Some("/cgi-bin/a?x=1")),
                ("PATH_INFO", Some("/other path")),
                ("QUERY_STRING", Some("y=2")),
                ("CONTENT_LENGTH", None),
                ("CONTENT_TYPE", None),
                ("HTTP_A", Some("b")),
            ] {
                assert_eq!(variable(request, name).as_deref(), value, "{name}");
            }
            assert!(matches!(request.body, Body::Empty) && request.path() == b"/other path");
            request.go_to(b"/plain");
            assert_eq!((request.path(), request.query()), (&b"/plain"[..], &b""[..]));
        }
    }
}
