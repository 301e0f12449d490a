//! The response for an open file: what the client has of it already, which parts it wants, and the head that says so.
//! Pure: bytes and numbers in, a head and parts of the file out.

use std::io;
use std::sync::Arc;

use greenloom_config::{ExpiresRule, ExpiresSubject};
use greenloom_proto::http1::conditional::{Conditions, Validators, Verdict, push_etag};
use greenloom_proto::http1::date::parse_http_date;
use greenloom_proto::http1::ranges::{self, ByteRange, Wanted};
use greenloom_proto::http1::response::{
    Exchange, Framed, ResponseError, begin, field_value, has_field, http_date, without_field,
};
use greenloom_sys::files;

use super::mime::Types;
use super::statics::FoundFile;
use crate::Request;
use crate::connection::output::FilePart;

/// A file that is sent whole and is no larger leaves with its head in one send: cheaper than sendfile(2).
const SMALL: u64 = 32 * 1024;
/// A file that was changed so lately may change again without any difference in its time: its tag is a weak one. In
/// nanoseconds; the clocks of file systems tick every 4 ms or so.
const SETTLED_NS: u64 = 20_000_000;

/// An application that says so has answered the request's `Range` by itself.
const PARTIAL: &[u8] = b"206";

/// What an application has said of a file that it has handed over.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Its status, with the reason.
    pub(crate) status: Vec<u8>,
    /// Its fields, whole lines.
    pub(crate) fields: Vec<u8>,
}

/// What is known when a response is made.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) request: &'a Request,
    pub(crate) exchange: Exchange,
    pub(crate) types: &'a Types,
    pub(crate) expires: &'a [ExpiresRule],
    pub(crate) handed: Option<&'a Handed>,
    pub(crate) date: &'a [u8],
    pub(crate) now_ns: u64,
}

/// A response that is ready to leave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) framed: Framed,
    /// The head, and the body as far as it is here.
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the body in `bytes`, of those that are sent.
    pub(crate) body_here: u64,
    /// What follows: a part of the file, and what stands behind it.
    pub(crate) parts: Vec<(FilePart, Vec<u8>)>,
}

/// What is sent of the file.
enum Plan {
    /// Nothing: the client has it (304).
    Nothing,
    /// Nothing: it is not what the client wants to have (412).
    Empty,
    /// No part is as the client wants it.
    Unsatisfiable,
    Whole,
    One(ByteRange),
    Several(Vec<ByteRange>, Vec<u8>),
}

/// Makes the response.
///
/// # Errors
/// Fields of the application that cannot stand in a head.
pub(crate) fn answer(scene: &Scene<'_>, found: FoundFile) -> Result<Answer, ResponseError> {
    let now_s = scene.now_ns / 1_000_000_000;
    let facts = found.facts;
    let modified_ns =
        facts.modified_s.saturating_mul(1_000_000_000).saturating_add(u64::from(facts.modified_ns));
    let is_weak = scene.now_ns.saturating_sub(modified_ns) < SETTLED_NS;
    let mut etag = Vec::new();
    push_etag(&mut etag, facts.modified_s, facts.modified_ns, facts.len, is_weak);
    if let (Some(coding), Some(b'"')) = (found.coding, etag.pop()) {
        // §8.8.3.3: forms of one file may be alike in time and length.
        etag.push(b'-');
        etag.extend_from_slice(coding.name().as_bytes());
    }
    etag.push(b'"');
    let handed = scene.handed.map(|handed| handed.fields.as_slice()).unwrap_or_default();
    // What the application says of its file is what clients know.
    let own_etag = field_value(handed, b"ETag");
    let own_modified = field_value(handed, b"Last-Modified").and_then(|text| parse_http_date(text, now_s));
    let validators =
        Validators { etag: own_etag.unwrap_or(&etag), modified_s: own_modified.unwrap_or(facts.modified_s) };
    let (status, plan) = plan(scene, &validators, facts.len, now_s);
    let own_type = field_value(handed, b"Content-Type").map(<[u8]>::to_vec);
    let content_type = match &own_type {
        Some(own) => Some(own.as_slice()),
        None => scene.types.of(&found.name).map(str::as_bytes),
    };

    let mut bytes = Vec::with_capacity(512);
    let mut head = begin(&mut bytes, &scene.exchange, &status)?;
    let mut own_fields = handed.to_vec();
    if scene.handed.is_some_and(|handed| handed.status.starts_with(PARTIAL)) {
        // It has answered a range already, as Flask does, and means a part of this file: of which the server knows more.
        own_fields = without_field(&own_fields, b"Content-Range");
    }
    if matches!(plan, Plan::Several(..)) {
        own_fields = without_field(&own_fields, b"Content-Type");
    }
    head.checked_lines(&own_fields);
    let says = |name: &[u8]| has_field(handed, name);
    let mut line = Vec::new();
    if let Some(expires_s) = expires(scene, &found, content_type).filter(|_| !says(b"Expires")) {
        head.field(b"Expires", &http_date(expires_s))?;
    }
    if let Some(coding) = found.coding {
        head.field(b"Content-Encoding", coding.name().as_bytes())?;
    }
    if let Plan::Several(_, boundary) = &plan {
        line.extend_from_slice(b"multipart/byteranges; boundary=");
        line.extend_from_slice(boundary);
        head.field(b"Content-Type", &line)?;
    } else if own_type.is_none()
        && let (Some(media_type), false) =
            (content_type, matches!(plan, Plan::Nothing | Plan::Empty | Plan::Unsatisfiable))
    {
        head.field(b"Content-Type", media_type)?;
    }
    line.clear();
    match &plan {
        Plan::One(range) => ranges::push_content_range(&mut line, *range, facts.len),
        Plan::Unsatisfiable => ranges::push_unsatisfied(&mut line, facts.len),
        _ => {}
    }
    if !line.is_empty() {
        head.field(b"Content-Range", &line)?;
    }
    if !says(b"Last-Modified") {
        // §8.8.2.1: never later than the response itself, whatever clocks have said.
        let sent_s = parse_http_date(scene.date, now_s).unwrap_or(now_s);
        head.field(b"Last-Modified", &http_date(facts.modified_s.min(sent_s)))?;
    }
    if !says(b"ETag") {
        head.field(b"ETag", &etag)?;
    }
    if !says(b"Accept-Ranges") {
        head.field(b"Accept-Ranges", b"bytes")?;
    }
    if found.varies && !says(b"Vary") {
        head.field(b"Vary", b"Accept-Encoding")?;
    }
    let length = match &plan {
        Plan::Nothing => None,
        Plan::Empty | Plan::Unsatisfiable => Some(0),
        Plan::Whole => Some(facts.len),
        Plan::One(range) => Some(range.len()),
        Plan::Several(wanted, boundary) => {
            Some(ranges::multipart_length(boundary, content_type, wanted, facts.len))
        }
    };
    if let Some(0) = length {
        // Said even to HEAD: an empty file has a length.
        head.field(b"Content-Length", b"0")?;
    }
    let framed = head.end(length, scene.date);
    let status =
        status.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(500);
    let mut answer = Answer { status, framed, bytes, body_here: 0, parts: Vec::new() };
    if framed.body != greenloom_proto::http1::response::BodyMode::None {
        answer.add_body(plan, found, content_type);
    }
    Ok(answer)
}

/// RFC 9110 §13.2.2, then §14.2. What an application has handed over with a status of its own is sent as it says.
fn plan(scene: &Scene<'_>, validators: &Validators<'_>, length: u64, now_s: u64) -> (Vec<u8>, Plan) {
    if let Some(handed) = scene.handed
        && !handed.status.starts_with(b"200")
        && !handed.status.starts_with(PARTIAL)
    {
        return (handed.status.clone(), Plan::Whole);
    }
    let fields: Vec<Option<Vec<u8>>> = [
        &b"HTTP_IF_MATCH"[..],
        b"HTTP_IF_NONE_MATCH",
        b"HTTP_IF_MODIFIED_SINCE",
        b"HTTP_IF_UNMODIFIED_SINCE",
        b"HTTP_IF_RANGE",
        b"HTTP_RANGE",
    ]
    .iter()
    .map(|name| {
        let mut value = Vec::new();
        scene.request.append_variable(name, &mut value).then_some(value)
    })
    .collect();
    let field = |at: usize| fields.get(at).and_then(|value| value.as_deref());
    let conditions = Conditions {
        if_match: field(0),
        if_none_match: field(1),
        if_modified_since: field(2),
        if_unmodified_since: field(3),
        if_range: field(4),
    };
    match conditions.evaluate(validators, now_s) {
        Verdict::NotModified => return (b"304".to_vec(), Plan::Nothing),
        Verdict::Failed => return (b"412".to_vec(), Plan::Empty),
        Verdict::Proceed => {}
    }
    let ok = scene
        .handed
        .filter(|handed| !handed.status.starts_with(PARTIAL))
        .map_or_else(|| b"200".to_vec(), |handed| handed.status.clone());
    // §14.2: of GET alone.
    let Some(range) = field(5).filter(|_| scene.request.method() == b"GET") else { return (ok, Plan::Whole) };
    if !conditions.range_applies(validators, now_s) {
        return (ok, Plan::Whole);
    }
    let mut wanted = Vec::new();
    match ranges::parse_ranges(range, length, &mut wanted) {
        Wanted::Whole => (ok, Plan::Whole),
        Wanted::Unsatisfiable => (b"416".to_vec(), Plan::Unsatisfiable),
        Wanted::Ranges => {
            let plan = if let [only] = wanted[..] {
                Plan::One(only)
            } else {
                // Told from the file's bytes by its length and the time, as others do.
                let unlikely = scene.now_ns.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Plan::Several(wanted, format!("greenloom-{unlikely:016x}").into_bytes())
            };
            (b"206".to_vec(), plan)
        }
    }
}

/// When the response is stale, if a rule says so: the first one that fits.
fn expires(scene: &Scene<'_>, found: &FoundFile, content_type: Option<&[u8]>) -> Option<u64> {
    let fits = |rule: &&ExpiresRule| match &rule.subject {
        ExpiresSubject::File(pattern) => pattern.is_match(&found.name),
        ExpiresSubject::PathInfo(pattern) => pattern.is_match(scene.request.path()),
        ExpiresSubject::Uri(pattern) => pattern.is_match(scene.request.uri()),
        ExpiresSubject::Type(media_type) => content_type == Some(media_type.as_bytes()),
    };
    let rule = scene.expires.iter().find(fits)?;
    let from_s = if rule.from_mtime { found.facts.modified_s } else { scene.now_ns / 1_000_000_000 };
    Some(from_s.saturating_add(rule.seconds))
}

impl Answer {
    fn add_body(&mut self, plan: Plan, found: FoundFile, content_type: Option<&[u8]>) {
        let length = found.facts.len;
        let part = |file: &Arc<std::fs::File>, range: ByteRange| FilePart {
            file: Arc::clone(file),
            offset: range.first,
            len: range.len(),
        };
        let file = Arc::new(found.file);
        match plan {
            Plan::Nothing | Plan::Empty | Plan::Unsatisfiable => {}
            Plan::Whole if length == 0 => {}
            Plan::Whole if length <= SMALL && self.read_here(&file, length) => {}
            Plan::Whole => {
                self.parts.push((part(&file, ByteRange { first: 0, last: length - 1 }), Vec::new()));
            }
            Plan::One(range) => self.parts.push((part(&file, range), Vec::new())),
            Plan::Several(wanted, boundary) => {
                let before = self.bytes.len();
                for (at, &range) in wanted.iter().enumerate() {
                    let mut head = Vec::new();
                    ranges::push_part_head(&mut head, &boundary, content_type, range, length, at == 0);
                    match self.parts.last_mut() {
                        None => self.bytes.extend_from_slice(&head),
                        Some((_, behind)) => behind.extend_from_slice(&head),
                    }
                    self.parts.push((part(&file, range), Vec::new()));
                }
                self.body_here = (self.bytes.len() - before) as u64;
                if let Some((_, behind)) = self.parts.last_mut() {
                    ranges::push_parts_end(behind, &boundary);
                }
            }
        }
    }

    /// Reads a small file behind the head, if that needs no disk; `false`: nothing was read.
    fn read_here(&mut self, file: &std::fs::File, length: u64) -> bool {
        let before = self.bytes.len();
        self.bytes.resize(before + usize::try_from(length).unwrap_or(0), 0);
        let read: io::Result<usize> = files::read_cached(file, &mut self.bytes[before..], 0);
        let whole = read.is_ok_and(|n| n as u64 == length);
        if whole {
            self.body_here = length;
        } else {
            // It has to be read from a disk, or has changed: whoever sends it finds out.
            self.bytes.truncate(before);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use greenloom_config::Regex;
    use greenloom_proto::http1::accept_encoding::Coding;
    use greenloom_sys::files::{Facts, Kind};
    use greenloom_sys::spool;

    use super::*;

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    /// A day after the file was changed.
    const NOW_S: u64 = 784_111_777 + 86_400;

    fn file(bytes: &[u8]) -> File {
        let file = spool::create(&std::env::temp_dir()).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn found(name: &str, bytes: &[u8]) -> FoundFile {
        let facts = Facts {
            kind: Kind::File,
            len: bytes.len() as u64,
            modified_s: 784_111_777,
            modified_ns: 0,
            is_executable: false,
        };
        FoundFile { file: file(bytes), facts, name: name.as_bytes().to_vec(), coding: None, varies: false }
    }

    struct Case<'a> {
        found: FoundFile,
        expires: &'a [ExpiresRule],
        handed: Option<Handed>,
    }

    impl Case<'_> {
        fn of(found: FoundFile) -> Self {
            Self { found, expires: &[], handed: None }
        }

        /// Head and body of the answer to a request with these fields, the body put together as it would leave.
        fn ask(self, method: &str, fields: &str) -> (String, Vec<u8>) {
            let request =
                Request::sample(format!("{method} /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n").as_bytes());
            let types = Types::default();
            let scene = Scene {
                request: &request,
                exchange: request.exchange,
                types: &types,
                expires: self.expires,
                handed: self.handed.as_ref(),
                date: DATE,
                now_ns: NOW_S * 1_000_000_000,
            };
            let answer = answer(&scene, self.found).unwrap();
            let head_len = answer.framed.header_bytes;
            assert_eq!(answer.bytes.len() - head_len, usize::try_from(answer.body_here).unwrap());
            let head = String::from_utf8(answer.bytes[..head_len].to_vec()).unwrap();
            let mut body = answer.bytes[head_len..].to_vec();
            for (part, behind) in answer.parts {
                let mut bytes = vec![0; usize::try_from(part.len).unwrap()];
                part.file.read_exact_at(&mut bytes, part.offset).unwrap();
                body.extend(bytes);
                body.extend(behind);
            }
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", answer.status)), "{head}");
            (head, body)
        }
    }

    #[test]
    fn a_small_file_leaves_with_its_head() {
        let (head, body) = Case::of(found("/srv/a.txt", b"hello, world")).ask("GET", "");
        assert!(head.contains("\r\nContent-Type: text/plain\r\n"), "{head}");
        assert!(head.contains("\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{head}");
        assert!(head.contains("\r\nAccept-Ranges: bytes\r\n") && head.contains("Content-Length: 12\r\n"));
        assert!(!head.contains("Vary") && !head.contains("Expires"), "{head}");
        assert_eq!(body, b"hello, world");
    }

    #[test]
    fn a_large_or_an_empty_one() {
        let large = vec![b'x'; 100_000];
        let (head, body) = Case::of(found("/srv/a", &large)).ask("GET", "");
        assert!(head.contains("Content-Length: 100000\r\n") && !head.contains("Content-Type"), "{head}");
        assert!(body == large);
        let (head, body) = Case::of(found("/srv/a", b"")).ask("GET", "Range: bytes=0-5\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 0\r\n"), "{head}");
        assert!(body.is_empty());
    }

    #[test]
    fn rfc9110_9_3_2_head_says_what_get_would() {
        let (get, _) = Case::of(found("/srv/a.txt", b"hello, world")).ask("GET", "");
        let (head, body) = Case::of(found("/srv/a.txt", b"hello, world")).ask("HEAD", "");
        assert_eq!((get, Vec::new()), (head, body));
    }

    #[test]
    fn rfc9110_13_what_the_client_has_is_not_sent() {
        let (plain, _) = Case::of(found("/srv/a", b"hello, world")).ask("GET", "");
        let tag = plain.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned();
        for fields in [
            format!("If-None-Match: {tag}\r\n"),
            format!("If-None-Match: \"x\", {tag}\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
            "If-None-Match: *\r\n".to_owned(),
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(),
        ] {
            let (head, body) = Case::of(found("/srv/a", b"hello, world")).ask("GET", &fields);
            assert!(head.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{fields}{head}");
            assert!(head.contains(&tag) && !head.contains("Content-Length") && body.is_empty(), "{head}");
        }
        let (head, body) = Case::of(found("/srv/a", b"hello, world")).ask("GET", "If-Match: \"x\"\r\n");
        assert!(head.starts_with("HTTP/1.1 412 ") && head.contains("Content-Length: 0\r\n"), "{head}");
        assert!(body.is_empty() && !head.contains("Content-Range"));
    }

    #[test]
    fn rfc9110_14_parts() {
        let ask = |fields: &str| Case::of(found("/srv/a.txt", b"hello, world")).ask("GET", fields);
        let (head, body) = ask("Range: bytes=7-\r\n");
        assert!(head.starts_with("HTTP/1.1 206 ") && head.contains("Content-Range: bytes 7-11/12\r\n"));
        assert_eq!(body, b"world");
        let (head, body) = ask("Range: bytes=12-\r\n");
        assert!(
            head.starts_with("HTTP/1.1 416 ") && head.contains("Content-Range: bytes */12\r\n"),
            "{head}"
        );
        assert!(body.is_empty() && head.contains("Content-Length: 0\r\n"));
        let (head, body) = ask("Range: bytes=0-0,-1\r\n");
        let boundary =
            head.lines().find_map(|line| line.strip_prefix("Content-Type: multipart/byteranges; boundary="));
        let text = String::from_utf8(body).unwrap();
        assert_eq!(text.matches(&format!("--{}", boundary.unwrap())).count(), 3, "{text}");
        assert!(text.contains("bytes 0-0/12\r\n\r\nh\r\n") && text.contains("bytes 11-11/12\r\n\r\nd\r\n"));
        assert!(head.contains(&format!("Content-Length: {}\r\n", text.len())), "{head}{text}");
        let (head, body) = ask("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && body == b"hello, world");
        let (head, _) = Case::of(found("/srv/a", b"hello, world")).ask("HEAD", "Range: bytes=0-1\r\n");
        assert!(head.starts_with("HTTP/1.1 200 "), "ranges are for GET: {head}");
    }

    #[test]
    fn the_first_rule_that_fits_says_how_long_it_is_fresh() {
        let rule = |subject, from_mtime| ExpiresRule { subject, seconds: 60, from_mtime };
        let pattern = |text: &str| Regex::new(text).unwrap();
        let asked = |rules: &[ExpiresRule]| {
            let case = Case { found: found("/srv/a.txt", b"x"), expires: rules, handed: None };
            let (head, _) = case.ask("GET", "");
            head.lines().find_map(|line| line.strip_prefix("Expires: ").map(str::to_owned))
        };
        let date = |seconds| String::from_utf8(http_date(seconds).to_vec()).unwrap();
        assert_eq!(asked(&[rule(ExpiresSubject::File(pattern("txt$")), false)]), Some(date(NOW_S + 60)));
        assert_eq!(asked(&[rule(ExpiresSubject::Uri(pattern("^/a$")), true)]), Some(date(784_111_777 + 60)));
        assert_eq!(asked(&[rule(ExpiresSubject::PathInfo(pattern("b")), true)]), None);
        let of_type = rule(ExpiresSubject::Type("text/plain".to_owned()), true);
        let both = [rule(ExpiresSubject::Uri(pattern("a")), false), of_type.clone()];
        assert_eq!(asked(&both), Some(date(NOW_S + 60)));
        assert_eq!(asked(&[of_type]), Some(date(784_111_777 + 60)));
    }

    #[test]
    fn a_form_of_it_keeps_its_type() {
        let form = FoundFile { coding: Some(Coding::Gzip), varies: true, ..found("/srv/a.css", b"zipped") };
        let (head, body) = Case::of(form).ask("GET", "");
        assert!(head.contains("Content-Encoding: gzip\r\nContent-Type: text/css\r\n"), "{head}");
        assert!(head.contains("Vary: Accept-Encoding\r\n") && body == b"zipped");
    }

    #[test]
    fn what_the_application_says_counts() {
        let handed = |status: &str, fields: &str| Case {
            found: found("/srv/a.txt", b"hello"),
            expires: &[],
            handed: Some(Handed { status: status.as_bytes().to_vec(), fields: fields.as_bytes().to_vec() }),
        };
        let fields = "Content-Type: x/y\r\nSet-Cookie: a=b\r\nETag: \"own\"\r\n";
        let (head, body) = handed("200 Fine", fields).ask("GET", "Range: bytes=0-0\r\n");
        assert!(head.starts_with("HTTP/1.1 206 ") && body == b"h", "{head}");
        assert!(head.contains(fields) && head.matches("Content-Type").count() == 1, "{head}");
        assert_eq!(head.matches("ETag").count(), 1, "{head}");
        let (head, body) = handed("403 Paywall", "").ask("GET", "Range: bytes=0-0\r\n");
        assert!(head.starts_with("HTTP/1.1 403 Paywall\r\n") && body == b"hello", "{head}");
    }
}
