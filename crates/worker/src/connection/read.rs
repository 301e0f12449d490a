//! Bytes to requests: one head or packet at a time, and the body behind it. Pure: no socket, no clock.

use greenloom_proto::http1::body::{BodyError, ChunkEvent};
use greenloom_proto::http1::head::percent_decode;
use greenloom_proto::http1::head::{Framing, Head, HeadError, Limits, Parsed, Version};
use greenloom_proto::http1::response::Exchange;
use greenloom_proto::uwsgi;

use super::{BodyFraming, Receiving};
use crate::native::cgi::MODIFIER;
use crate::options::WorkerOptions;
use crate::request::{Request, Source};

/// Modifiers of the Python gateway; 30 is the same with another way of cutting `SCRIPT_NAME`.
const PYTHON_MODIFIERS: [u8; 2] = [0, 30];

/// What a look at the bytes of a head gave.
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    Partial,
    /// The head is complete and took so many bytes; its body follows like this.
    Head(usize, Framing),
    /// A health probe over the uwsgi protocol; took so many bytes.
    Ping(usize),
    /// A packet that raises a uwsgi signal; took so many bytes.
    Signal(usize, u8),
    /// The connection must end.
    Refuse(Refusal),
}

/// Why a connection must end, and what its client is told.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Status of the answer; `None`: no answer (the uwsgi protocol has none for bytes that do not parse).
    pub(crate) status: Option<u16>,
    /// For the log.
    pub(crate) reason: String,
}

/// Looks for an HTTP head at the start of `bytes` and, if it is complete, moves it into `request`.
pub(crate) fn http_head(bytes: &[u8], options: &WorkerOptions, request: &mut Request) -> Step {
    let limits = Limits { head_bytes: options.head_bytes, fields: options.max_vars };
    match request.head.parse(bytes, &limits) {
        Ok(Parsed::Partial) => return Step::Partial,
        Ok(Parsed::Complete) => {}
        Err(error) => return Step::Refuse(refused_head(error)),
    }
    let Head { len, framing, version, is_head, keep_alive, path_is_plain, path, .. } = request.head;
    request.source = Source::Http;
    request.modifier1 = options.http_modifier1;
    request.bytes.clear();
    request.bytes.extend_from_slice(&bytes[..len]);
    if !path_is_plain {
        request.decoded_path.clear();
        percent_decode(path.of(&request.bytes), &mut request.decoded_path);
    }
    request.exchange =
        Exchange { version, is_head, keep_alive: keep_alive && options.keep_alive_ms > 0, cgi: false };
    request.content_length = match framing {
        Framing::Length(length) => Some(length),
        Framing::None | Framing::Chunked => None,
    };
    Step::Head(len, framing)
}

fn refused_head(error: HeadError) -> Refusal {
    Refusal { status: Some(error.status()), reason: format!("invalid HTTP request: {error}") }
}

/// Looks for a uwsgi packet at the start of `bytes` and, if it is complete, moves it into `request`.
pub(crate) fn uwsgi_packet(bytes: &[u8], options: &WorkerOptions, request: &mut Request) -> Step {
    let Some(header) = uwsgi::parse_header(bytes) else { return Step::Partial };
    let close = |reason| Step::Refuse(Refusal { status: None, reason });
    if header.modifier1 == uwsgi::PING {
        return Step::Ping(uwsgi::HEADER_BYTES);
    }
    let raises_signal = header.modifier1 == uwsgi::SIGNAL;
    let is_for_script = header.modifier1 == MODIFIER && options.has_scripts();
    if !raises_signal && !is_for_script && !PYTHON_MODIFIERS.contains(&header.modifier1) {
        return close(format!("-- unavailable modifier requested: {} --", header.modifier1));
    }
    let size = usize::from(header.size);
    if size > options.head_bytes {
        return close(format!(
            "invalid request block size: {size} (max {})...skip; raise --buffer-size",
            options.head_bytes
        ));
    }
    let len = uwsgi::HEADER_BYTES + size;
    if bytes.len() < len {
        return Step::Partial;
    }
    if raises_signal {
        return Step::Signal(len, header.modifier2);
    }
    request.source = Source::Uwsgi;
    request.modifier1 = header.modifier1;
    request.bytes.clear();
    request.bytes.extend_from_slice(&bytes[..len]);
    let block = request.bytes.get(uwsgi::HEADER_BYTES..).unwrap_or_default();
    let parsed = uwsgi::parse_vars(block, uwsgi::HEADER_BYTES, options.max_vars * 2, &mut request.vars);
    if let Err(error) = parsed {
        return close(format!("invalid uwsgi request: {error}"));
    }
    if request.vars.is_empty() {
        return close("Empty python request. skip.".to_owned());
    }
    let length = match request.var(b"CONTENT_LENGTH").map(uwsgi::content_length) {
        None => None,
        Some(Ok(length)) => Some(length),
        Some(Err(error)) => return close(format!("invalid uwsgi request: {error}")),
    };
    let version = if request.protocol() == b"HTTP/1.0" { Version::Http10 } else { Version::Http11 };
    let is_head = request.method() == b"HEAD";
    request.exchange = Exchange { version, is_head, keep_alive: false, cgi: true };
    request.content_length = length;
    Step::Head(len, length.filter(|&n| n > 0).map_or(Framing::None, Framing::Length))
}

/// What feeding a body gave.
#[derive(Debug)]
pub(crate) enum Fed {
    /// All bytes were taken and the body goes on.
    More,
    /// The body is complete; so many bytes of the input belonged to it.
    Complete(usize),
    /// The connection must end.
    Refused(Refusal),
}

impl BodyFraming {
    /// Looks at `input`, the bytes behind those consumed so far: how many are consumed now, and what they are. To be
    /// called with the rest until all is consumed or the end is found; after an error never again.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), BodyError> {
        match self {
            Self::Chunked(decoder) => decoder.next(input),
            Self::Length(0) => Ok((0, ChunkEvent::End)),
            Self::Length(_) if input.is_empty() => Ok((0, ChunkEvent::NeedMore)),
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= here as u64;
                Ok((here, ChunkEvent::Data(0..here)))
            }
        }
    }
}

impl Receiving {
    /// Takes body bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8], options: &WorkerOptions) -> Fed {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match self.framing.next(rest) {
                Ok((_, ChunkEvent::NeedMore)) => return Fed::More,
                Ok((n, ChunkEvent::End)) => return Fed::Complete(used + n),
                Ok((n, ChunkEvent::Data(range))) => {
                    if let Err(refusal) = self.keep(rest.get(range).unwrap_or_default(), options) {
                        return Fed::Refused(refusal);
                    }
                    used += n;
                }
                Err(error) => return Fed::Refused(malformed(error)),
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], options: &WorkerOptions) -> Result<(), Refusal> {
        let total = self.collector.received() + bytes.len() as u64;
        if options.limit_post.is_some_and(|limit| total > limit) {
            return Err(too_large(total, options));
        }
        self.collector.push(bytes, &options.spool_directory).map_err(|error| Refusal {
            status: Some(500),
            reason: format!(
                "cannot spool a request body of {total} bytes to {}: {error}; free space there, or raise \
                 --post-buffering",
                options.spool_directory.display()
            ),
        })
    }
}

/// A body whose chunks do not parse.
pub(crate) fn malformed(error: BodyError) -> Refusal {
    Refusal { status: Some(error.status()), reason: format!("invalid request body: {error}") }
}

/// A body over `--limit-post`.
pub(crate) fn too_large(length: u64, options: &WorkerOptions) -> Refusal {
    let limit = options.limit_post.unwrap_or(u64::MAX);
    Refusal {
        status: Some(413),
        reason: format!("Invalid (too big) CONTENT_LENGTH. skip. {length} bytes, --limit-post is {limit}"),
    }
}
