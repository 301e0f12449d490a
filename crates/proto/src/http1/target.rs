//! Request-targets and hosts (RFC 9112 §3.2, RFC 3986 §3.2.2), and the percent-decoding of paths.
//!
//! The bytes of a target were checked by the head parser; this file decides which form a target has and where
//! its parts are.

use alloc::vec::Vec;
use core::ops::Range;

use memchr::memchr;

use super::chars;
use super::head::HeadError;

/// Where the parts of a request-target are, as offsets in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The authority of an absolute-form target.
    pub(super) host: Option<Range<usize>>,
    pub(super) path: Range<usize>,
    /// What follows the first `?`; empty when there is none.
    pub(super) query: Range<usize>,
}

/// Finds the form of `target` (RFC 9112 §3.2.1 to §3.2.4) and its parts.
pub(super) fn split(method: &[u8], target: &[u8]) -> Result<Parts, HeadError> {
    if method == b"CONNECT" {
        return Err(HeadError::MethodNotImplemented);
    }
    if target.first() == Some(&b'/') {
        return Ok(path_and_query(target, 0, None));
    }
    if target == b"*" {
        // RFC 9112 §3.2.4: only OPTIONS speaks about the server as a whole.
        return if method == b"OPTIONS" {
            Ok(Parts { host: None, path: 0..1, query: 1..1 })
        } else {
            Err(HeadError::BadTarget)
        };
    }
    absolute(target)
}

/// RFC 9112 §3.2.2. Only `http` and `https` have an authority that this server could answer for.
fn absolute(target: &[u8]) -> Result<Parts, HeadError> {
    let scheme_end = memchr(b':', target).ok_or(HeadError::BadTarget)?;
    let (scheme, rest) = target.split_at(scheme_end);
    if !(scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https"))
        || !rest.starts_with(b"://")
    {
        return Err(HeadError::BadTarget);
    }
    let start = scheme_end + 3;
    let authority = &target[start..];
    let end = start + authority.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(authority.len());
    if end == start || !is_host(&target[start..end]) {
        // RFC 9110 §4.2.1: an http URI with an empty host is invalid; §4.2.4: user information too.
        return Err(HeadError::BadTarget);
    }
    let mut parts = path_and_query(target, end, Some(start..end));
    if parts.path.is_empty() {
        // The path is then "/" (RFC 9112 §3.2.1). The second slash of "://" serves as its text.
        parts.path = start - 1..start;
    }
    Ok(parts)
}

fn path_and_query(target: &[u8], start: usize, host: Option<Range<usize>>) -> Parts {
    match memchr(b'?', &target[start..]) {
        Some(mark) => Parts { host, path: start..start + mark, query: start + mark + 1..target.len() },
        None => Parts { host, path: start..target.len(), query: target.len()..target.len() },
    }
}

/// True for `uri-host [ ":" port ]` (RFC 9110 §7.2), the empty host included.
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name_is_good, port) = if let [b'[', rest @ ..] = host {
        let Some(end) = memchr(b']', rest) else { return false };
        (is_ip_literal(&rest[..end]), &rest[end + 1..])
    } else {
        let end = memchr(b':', host).unwrap_or(host.len());
        (is_registered_name(&host[..end]), &host[end..])
    };
    name_is_good
        && match port {
            [] | [b':'] => true,
            [b':', digits @ ..] => chars::decimal(digits).is_some_and(|port| port <= 65_535),
            _ => false,
        }
}

/// What stands between the brackets: an IPv6 address, or the versioned form nobody has used yet.
fn is_ip_literal(address: &[u8]) -> bool {
    match address {
        [] => false,
        [b'v' | b'V', rest @ ..] => {
            let Some(dot) = memchr(b'.', rest) else { return false };
            dot > 0
                && rest[..dot].iter().all(u8::is_ascii_hexdigit)
                && dot + 1 < rest.len()
                && rest[dot + 1..].iter().all(|&b| b == b':' || chars::is(b, chars::HOST))
        }
        _ => address.iter().all(|&b| b.is_ascii_hexdigit() || b == b':' || b == b'.'),
    }
}

fn is_registered_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => tail,
            (&byte, _) if chars::is(byte, chars::HOST) => tail,
            _ => return false,
        };
    }
    true
}

/// Appends `path` to `out` with its percent-escapes decoded once (RFC 3986 §2.1), `%2F` and `%00` included;
/// escapes that are none stay as they are.
pub fn percent_decode(path: &[u8], out: &mut Vec<u8>) {
    let mut rest = path;
    while let Some(mark) = memchr(b'%', rest) {
        out.extend_from_slice(&rest[..mark]);
        rest = &rest[mark..];
        if let [_, high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = (chars::hex_digit(*high), chars::hex_digit(*low))
        {
            out.push(high << 4 | low);
            rest = tail;
        } else {
            out.push(b'%');
            rest = &rest[1..];
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, &'a str, &'a str), HeadError> {
        let parts = split(method.as_bytes(), target.as_bytes())?;
        Ok((parts.host.map(|host| &target[host]), &target[parts.path], &target[parts.query]))
    }

    #[test]
    fn rfc9112_3_2_1_origin_form() {
        assert_eq!(parts("GET", "/"), Ok((None, "/", "")));
        assert_eq!(parts("GET", "/a/b?c=d?e"), Ok((None, "/a/b", "c=d?e")));
        assert_eq!(parts("GET", "//host/x?"), Ok((None, "//host/x", "")));
    }

    #[test]
    fn rfc9112_3_2_2_absolute_form() {
        assert_eq!(parts("GET", "http://h:80/a?b"), Ok((Some("h:80"), "/a", "b")));
        assert_eq!(parts("GET", "HTTPS://h"), Ok((Some("h"), "/", "")));
        assert_eq!(parts("GET", "http://h?q"), Ok((Some("h"), "/", "q")));
        assert_eq!(parts("OPTIONS", "http://[::1]:9/"), Ok((Some("[::1]:9"), "/", "")));
        for bad in ["http:///x", "http:/x", "ftp://h/", "http://u@h/", "mailto:x", "x", "http://h:x/", "://h"]
        {
            assert_eq!(parts("GET", bad), Err(HeadError::BadTarget), "{bad}");
        }
    }

    #[test]
    fn rfc9112_3_2_3_authority_form_is_for_connect_only() {
        assert_eq!(parts("CONNECT", "h:80"), Err(HeadError::MethodNotImplemented));
        assert_eq!(parts("GET", "h:80"), Err(HeadError::BadTarget));
    }

    #[test]
    fn rfc9112_3_2_4_asterisk_form_is_for_options_only() {
        assert_eq!(parts("OPTIONS", "*"), Ok((None, "*", "")));
        assert_eq!(parts("GET", "*"), Err(HeadError::BadTarget));
    }

    #[test]
    fn rfc9110_7_2_hosts() {
        for good in [
            "",
            "h",
            "a.b-c:",
            "h:0",
            "h:65535",
            "127.0.0.1:80",
            "[::1]",
            "[::ffff:1.2.3.4]:8",
            "a%20b",
            "[v1.x:]",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@h",
            "h:x",
            "h:65536",
            "h:1:2",
            "h:-1",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "a%2",
            "a%zz",
            "a\\b",
            "[g]",
            "[v.x]",
            "[v1.]",
            "a\"b",
            "<a>",
            "h:99999999999999999999999",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn rfc3986_2_1_percent_decode() {
        let mut out = b"+".to_vec();
        percent_decode(b"/a%20b%2Fc%2fd%00%zz%4%", &mut out);
        assert_eq!(out, b"+/a b/c/d\0%zz%4%");
        out.clear();
        percent_decode(b"%2541%%41", &mut out);
        assert_eq!(out, b"%41%A", "decoded once, and again right after a lone percent sign");
    }
}
