//! One request: its head or packet, its body, and where it came from. Heads of both protocols answer the same questions.

use greenloom_proto::Span;
use greenloom_proto::http1::head::{Head, Version};
use greenloom_proto::http1::response::Exchange;
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
    /// When the first byte came, in milliseconds of the monotonic clock.
    pub began_ms: u64,
    /// When it began to wait for a core, if it did.
    pub(crate) parked_ms: u64,
}

impl Request {
    pub(crate) fn new() -> Self {
        Self {
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
            began_ms: 0,
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
