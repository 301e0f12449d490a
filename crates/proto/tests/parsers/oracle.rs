//! A second opinion: what another parser, httparse, reads in the same bytes. Used by the property tests, by the
//! replay of the fuzz corpus and by the fuzz targets.

use greenloom_proto::http1::head::{Head, Limits, Parsed, Version};
use greenloom_proto::http1::response::{self, Exchange};

/// Whatever `Head` accepts, httparse accepts and reads as the same request.
pub(crate) fn head(data: &[u8]) {
    let mut head = Head::default();
    if head.parse(data, &Limits { head_bytes: 2048, fields: 32 }) != Ok(Parsed::Complete) {
        return;
    }
    if !head.target.of(data).is_ascii() {
        // httparse wants UTF-8 there, RFC 3986 ASCII; a server has to live with anything.
        return;
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut other = httparse::Request::new(&mut fields);
    assert_eq!(other.parse(data), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(other.method.map(str::as_bytes), Some(head.method.of(data)));
    assert_eq!(other.path.map(str::as_bytes), Some(head.target.of(data)));
    assert_eq!(other.version, Some(u8::from(head.version == Version::Http11)));
    let is_absolute = !head.target.of(data).starts_with(b"/") && head.target.of(data) != b"*";
    let expected: Vec<(&[u8], &[u8])> = other
        .headers
        .iter()
        .filter(|field| !field.name.contains('_') && !field.name.eq_ignore_ascii_case("proxy"))
        .map(|field| {
            let is_replaced = is_absolute && field.name.eq_ignore_ascii_case("host");
            (field.name.as_bytes(), if is_replaced { head.host.of(data) } else { field.value })
        })
        .collect();
    let ours: Vec<(&[u8], &[u8])> =
        head.fields.iter().map(|field| (field.name.of(data), field.value.of(data))).collect();
    assert_eq!(ours, expected);
}

/// Whatever a `HeadWriter` accepts, httparse reads as exactly the fields that were given, then those the server
/// adds. Returns false when something was refused.
pub(crate) fn response(
    exchange: Exchange,
    status: &[u8],
    fields: &[(&[u8], &[u8])],
    known: Option<u64>,
) -> bool {
    let mut out = Vec::new();
    let Ok(mut writer) = response::begin(&mut out, &exchange, status) else {
        assert!(out.is_empty());
        return false;
    };
    for (name, value) in fields {
        if writer.field(name, value).is_err() {
            let _ = writer.end(known, b"now");
            assert!(out.is_empty());
            return false;
        }
    }
    let framed = writer.end(known, b"now");
    out.extend_from_slice(b"body");

    let mut storage = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Response::new(&mut storage);
    assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(framed.header_bytes)));
    // RFC 9110 §2.5: the server names its own version; only a gateway gets the one it named.
    let names_11 = !exchange.cgi || exchange.version == Version::Http11;
    assert_eq!(other.version, Some(u8::from(names_11)));
    assert_eq!(other.code.map(|code| code.to_string().into_bytes()), Some(status[..3].to_vec()));
    assert_eq!(other.headers.len(), framed.field_count as usize);

    let is_framing = |name: &[u8]| {
        [&b"content-length"[..], b"transfer-encoding", b"connection"]
            .iter()
            .any(|framing| name.eq_ignore_ascii_case(framing))
    };
    let given: Vec<(&[u8], &[u8])> = fields
        .iter()
        .filter(|(name, _)| !is_framing(name))
        .map(|(name, value)| (*name, trim(value)))
        .collect();
    let mut read: Vec<(&[u8], &[u8])> = other
        .headers
        .iter()
        .filter(|field| !is_framing(field.name.as_bytes()))
        .map(|field| (field.name.as_bytes(), field.value))
        .collect();
    if !exchange.cgi && !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"date")) {
        assert_eq!(read.pop(), Some((&b"Date"[..], &b"now"[..])));
    }
    assert_eq!(read, given);
    true
}

/// The blanks around a value are no part of it (RFC 9110 §5.5).
fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(is_text) else { return b"" };
    let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
    &value[start..end]
}
