//! As much of HTTP as a scraper, a load balancer and a person with curl need: one GET for each connection.
//!
//! Owns which path is answered with what. Bytes in, bytes out.

use greenloom_proto::http1::head::{Head, Limits, Parsed};

use super::metrics::{self, Format};
use super::snapshot::Picture;

/// Heads of scrapers are short.
const LIMITS: Limits = Limits { head_bytes: HEAD_BYTES, fields: 64 };
pub(crate) const HEAD_BYTES: usize = 8192;

/// The answer to what has been received; `None`: the head is not complete. `picture` is made when it is needed.
pub(crate) fn answer(received: &[u8], picture: impl FnOnce() -> Picture) -> Option<Vec<u8>> {
    let mut head = Head::default();
    match head.parse(received, &LIMITS) {
        Ok(Parsed::Partial) => return None,
        Ok(Parsed::Complete) => {}
        Err(_) => return Some(response(400, "Bad Request", TEXT, "this is no HTTP request\n", false)),
    }
    let bare = head.is_head;
    if !bare && head.method.of(received) != b"GET" {
        return Some(response(405, "Method Not Allowed", TEXT, "only GET and HEAD\n", bare));
    }
    Some(match head.path.of(received) {
        b"/metrics" => {
            let accept =
                head.fields.iter().filter(|field| field.name.of(received).eq_ignore_ascii_case(b"accept"));
            let accept: Vec<u8> =
                accept.flat_map(|field| [field.value.of(received), b","].concat()).collect();
            let format = Format::accepted(&accept);
            let text = metrics::text(picture(), format);
            response(200, "OK", format.content_type(), &text, bare)
        }
        b"/healthz" => {
            if picture().is_alive() {
                response(200, "OK", TEXT, "ok\n", bare)
            } else {
                response(503, "Service Unavailable", TEXT, "no worker accepts\n", bare)
            }
        }
        b"/readyz" => {
            let picture = picture();
            if picture.is_ready() {
                response(200, "OK", TEXT, "ok\n", bare)
            } else {
                let why = format!("{}\n", picture.why_not_ready());
                response(503, "Service Unavailable", TEXT, &why, bare)
            }
        }
        _ => response(404, "Not Found", TEXT, "/metrics, /healthz and /readyz are served here\n", bare),
    })
}

/// The head that stands before the statistics with `--stats-http`: uWSGI's.
pub(crate) const STATS_HEAD: &[u8] = b"HTTP/1.0 200 OK\r\nConnection: close\r\n\
    Access-Control-Allow-Origin: *\r\nContent-Type: application/json\r\n\r\n";

const TEXT: &str = "text/plain; charset=utf-8";

fn response(status: u16, reason: &str, content_type: &str, body: &str, bare: bool) -> Vec<u8> {
    let allow = if status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let length = body.len();
    let body = if bare { "" } else { body };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::{Phase, tests::tree};

    fn ask(request: &[u8], phase: Phase) -> Option<String> {
        let (mut tree, totals) = tree();
        tree.phase = phase;
        let answer = answer(request, || Picture::take(&tree, &totals, false))?;
        Some(String::from_utf8(answer).unwrap())
    }

    fn status(request: &str, phase: Phase) -> u16 {
        let answer = ask(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), phase).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn paths_and_phases() {
        for (request, phase, expected) in [
            ("GET /healthz", Phase::Serving, 200),
            ("GET /readyz", Phase::Serving, 200),
            ("GET /readyz?x", Phase::Serving, 200),
            ("GET /healthz", Phase::Leaving, 200),
            ("GET /readyz", Phase::Leaving, 503),
            ("GET /readyz", Phase::Starting, 503),
            ("GET /readyz", Phase::Stopping, 503),
            ("GET /metrics", Phase::Stopping, 200),
            ("GET /", Phase::Serving, 404),
            ("POST /metrics", Phase::Serving, 405),
            ("HEAD /metrics", Phase::Serving, 200),
        ] {
            assert_eq!(status(request, phase), expected, "{request} {phase:?}");
        }
    }

    #[test]
    fn a_head_has_no_body_and_an_incomplete_one_no_answer() {
        let answer = ask(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", Phase::Serving).unwrap();
        assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(ask(b"GET /metrics HTTP/1.1\r\n", Phase::Serving), None);
        assert!(ask(b"\x16\x03\x01\r\n\r\n", Phase::Serving).unwrap().starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn the_accept_field_decides() {
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\naccept: text/plain\r\nAccept: application/openmetrics-text\r\n\r\n";
        assert!(
            ask(request, Phase::Serving).unwrap().contains("Content-Type: application/openmetrics-text;")
        );
        let request = b"GET /metrics HTTP/1.0\r\n\r\n";
        assert!(ask(request, Phase::Serving).unwrap().contains("Content-Type: text/plain; version=0.0.4;"));
    }
}
