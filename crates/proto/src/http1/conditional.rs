//! Entity tags and preconditions (RFC 9110 §8.8.3, §13): whether a request is answered with a representation, with
//! 304, with 412, or with the part it asks for.
//!
//! Field values come in as sent, the validators of the representation from whoever knows it. What a field says
//! wrongly is ignored, member by member; a condition that cannot be read is never one that holds.

use alloc::vec::Vec;

use super::chars::trim;
use super::date::parse_http_date;
use crate::text::push_hex;

/// What a representation is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators<'a> {
    /// The entity tag as it stands in `ETag`: with its quotes, and `W/` in front of a weak one. Empty when there is
    /// none.
    pub etag: &'a [u8],
    /// When it was last modified, in seconds since 1970.
    pub modified_s: u64,
}

/// The preconditions of a request: the values of these fields, the lines of one name joined with `, `; `None` when
/// the request has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// `If-Match` (RFC 9110 §13.1.1).
    pub if_match: Option<&'a [u8]>,
    /// `If-None-Match` (RFC 9110 §13.1.2).
    pub if_none_match: Option<&'a [u8]>,
    /// `If-Modified-Since` (RFC 9110 §13.1.3).
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since` (RFC 9110 §13.1.4).
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range` (RFC 9110 §13.1.5).
    pub if_range: Option<&'a [u8]>,
}

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request is answered as if it had none.
    Proceed,
    /// 304: the client has this representation.
    NotModified,
    /// 412: the client wants another one, or none.
    Failed,
}

impl Conditions<'_> {
    /// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 §13.2.2, for a representation that
    /// exists. Dates that are none are ignored, entity tags that are none match nothing. `now_s`, in seconds since
    /// 1970, is for dates with a year of two digits.
    pub fn evaluate(&self, validators: &Validators<'_>, now_s: u64) -> Verdict {
        let is_unmodified_since =
            |value| parse_http_date(trim(value), now_s).map(|date_s| validators.modified_s <= date_s);
        let may_proceed = match (self.if_match, self.if_unmodified_since) {
            (Some(tags), _) => lists(tags, validators.etag, Tag::is_strongly),
            (None, Some(date)) => is_unmodified_since(date).unwrap_or(true),
            (None, None) => true,
        };
        if !may_proceed {
            return Verdict::Failed;
        }
        let is_known = match (self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => lists(tags, validators.etag, Tag::is_weakly),
            (None, Some(date)) => is_unmodified_since(date).unwrap_or(false),
            (None, None) => false,
        };
        if is_known { Verdict::NotModified } else { Verdict::Proceed }
    }

    /// Whether `Range` counts (RFC 9110 §13.1.5): without `If-Range`, with an entity tag that is strongly the same, or
    /// with exactly the date of the last modification. That date counts only once its second is over: before, the
    /// file may change without a change of the date, which is then no strong validator (RFC 9110 §8.8.2.2).
    pub fn range_applies(&self, validators: &Validators<'_>, now_s: u64) -> bool {
        let Some(value) = self.if_range.map(trim) else { return true };
        match (Tag::whole(value), Tag::whole(validators.etag)) {
            (Some(tag), Some(own)) => tag.is_strongly(own),
            (Some(_), None) => false,
            (None, _) => {
                validators.modified_s < now_s && parse_http_date(value, now_s) == Some(validators.modified_s)
            }
        }
    }
}

/// Appends an entity tag made of time of modification (seconds since 1970, and the nanoseconds of that second) and
/// length in bytes. Other times or lengths give other tags. A weak one is for files that may still change
/// without a change of either (RFC 9110 §8.8.1).
pub fn push_etag(out: &mut Vec<u8>, modified_s: u64, modified_ns: u32, length: u64, is_weak: bool) {
    if is_weak {
        out.extend_from_slice(b"W/");
    }
    out.push(b'"');
    push_hex(out, modified_s);
    out.push(b'-');
    push_hex(out, u64::from(modified_ns));
    out.push(b'-');
    push_hex(out, length);
    out.push(b'"');
}

/// Whether `value` of `If-Match` or `If-None-Match` is `*` or has a member that is the `same` as `etag`.
fn lists<'a>(value: &'a [u8], etag: &'a [u8], same: fn(Tag<'a>, Tag<'a>) -> bool) -> bool {
    if trim(value) == b"*" {
        return true;
    }
    let Some(own) = Tag::whole(etag) else { return false };
    Members { rest: value }.any(|tag| same(tag, own))
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tag<'a> {
    /// With its quotes.
    opaque: &'a [u8],
    is_weak: bool,
}

impl<'a> Tag<'a> {
    /// Reads the tag that `text` begins with; whether there is one, and what follows what was read of it.
    fn first(text: &'a [u8]) -> (Option<Self>, &'a [u8]) {
        let (is_weak, text) = text.strip_prefix(b"W/").map_or((false, text), |rest| (true, rest));
        if text.first() != Some(&b'"') {
            return (None, text);
        }
        // The first byte that may not stand between the quotes, which should be the second quote.
        let is_end = |&byte: &u8| byte <= b' ' || byte == b'"' || byte == 0x7f;
        let end = text[1..].iter().position(is_end).map_or(text.len(), |end| end + 1);
        match text.get(end) {
            Some(b'"') => (Some(Self { opaque: &text[..=end], is_weak }), &text[end + 1..]),
            _ => (None, &text[end..]),
        }
    }

    /// `text` as one tag.
    fn whole(text: &'a [u8]) -> Option<Self> {
        match Self::first(text) {
            (tag, []) => tag,
            _ => None,
        }
    }

    /// RFC 9110 §8.8.3.2.
    fn is_strongly(self, other: Tag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// RFC 9110 §8.8.3.2.
    fn is_weakly(self, other: Tag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// The members of a list of entity tags (RFC 9110 §5.6.1). Behind a member that is no tag, reading goes on after the
/// next comma, so that a quote too many hides tags but never makes some.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        while !self.rest.is_empty() {
            let (tag, rest) = Tag::first(trim(self.rest));
            let comma = rest.iter().position(|&byte| byte == b',').unwrap_or(rest.len());
            self.rest = rest.get(comma + 1..).unwrap_or_default();
            if tag.is_some() && trim(&rest[..comma]).is_empty() {
                return tag;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_000_000_000;
    /// The date of [`OWN`], a second before it, and one after it.
    const SAME: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &[u8] = b"Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &[u8] = b"Sun, 06 Nov 1994 08:49:38 GMT";
    const OWN: Validators<'static> = Validators { etag: b"\"a\"", modified_s: 784_111_777 };
    const WEAK: Validators<'static> = Validators { etag: b"W/\"a\"", ..OWN };

    fn evaluate(conditions: Conditions<'_>) -> Verdict {
        conditions.evaluate(&OWN, NOW_S)
    }

    fn if_match(value: &str, own: &Validators<'_>) -> Verdict {
        Conditions { if_match: Some(value.as_bytes()), ..Conditions::default() }.evaluate(own, NOW_S)
    }

    fn if_none_match(value: &str, own: &Validators<'_>) -> Verdict {
        Conditions { if_none_match: Some(value.as_bytes()), ..Conditions::default() }.evaluate(own, NOW_S)
    }

    fn if_range(value: &[u8], own: &Validators<'_>) -> bool {
        Conditions { if_range: Some(value), ..Conditions::default() }.range_applies(own, NOW_S)
    }

    #[test]
    fn no_conditions() {
        assert_eq!(evaluate(Conditions::default()), Verdict::Proceed);
        assert!(Conditions::default().range_applies(&OWN, NOW_S));
    }

    #[test]
    fn rfc9110_8_8_3_tags() {
        let opaque = |text: &'static str| Tag::whole(text.as_bytes()).map(|tag| (tag.is_weak, tag.opaque));
        assert_eq!(opaque("\"\""), Some((false, &b"\"\""[..])));
        assert_eq!(opaque("\"a,b\\\""), Some((false, &b"\"a,b\\\""[..])), "a backslash escapes nothing");
        assert_eq!(opaque("W/\"\u{e9}!\""), Some((true, "\"\u{e9}!\"".as_bytes())));
        for bad in
            ["", "a", "\"", "\"a", "a\"", "\"a\"b", "\"a b\"", "\"a\tb\"", "w/\"a\"", "W/", "W/a", "\"a\" "]
        {
            assert_eq!(opaque(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc9110_8_8_3_2_comparison() {
        let tag = |text: &'static str| Tag::whole(text.as_bytes()).unwrap();
        for (one, other, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!((tag(one).is_strongly(tag(other)), tag(one).is_weakly(tag(other))), (strong, weak));
        }
    }

    #[test]
    fn rfc9110_13_1_1_if_match() {
        for value in ["\"a\"", "*", " * ", "\"x\", \"a\"", "\"x\" ,\t\"a\" , \"y\"", ",, \"a\",", "x, \"a\""]
        {
            assert_eq!(if_match(value, &OWN), Verdict::Proceed, "{value}");
        }
        for value in ["\"b\"", "W/\"a\"", "\"A\"", "", "a", "\"a", "*, \"b\"", "\"a\"\"a\"", "\"x,\"a\""] {
            assert_eq!(if_match(value, &OWN), Verdict::Failed, "{value}");
        }
        assert_eq!(if_match("W/\"a\"", &WEAK), Verdict::Failed, "weak tags match nothing strongly");
        assert_eq!(if_match("*", &Validators { etag: b"", ..OWN }), Verdict::Proceed);
        assert_eq!(if_match("\"\"", &Validators { etag: b"", ..OWN }), Verdict::Failed);
    }

    #[test]
    fn rfc9110_13_1_2_if_none_match() {
        for value in ["\"a\"", "W/\"a\"", "*", "\"x\", W/\"a\"", "garbage, \"a\"", "\"x y\", \"a\""] {
            assert_eq!(if_none_match(value, &OWN), Verdict::NotModified, "{value}");
            assert_eq!(if_none_match(value, &WEAK), Verdict::NotModified, "{value}");
        }
        for value in
            ["\"b\"", "", ",", "a", "W/a", "\"a", "\"a\"x", "\"x,\"a\"", "\"x, \"a\"", "**", "* \"a\""]
        {
            assert_eq!(if_none_match(value, &OWN), Verdict::Proceed, "{value}");
        }
        let with_comma = Validators { etag: b"\"a,b\"", ..OWN };
        assert_eq!(if_none_match("\"x\",\"a,b\"", &with_comma), Verdict::NotModified);
        assert_eq!(if_none_match("\"a\", \"b\"", &with_comma), Verdict::Proceed);
        assert_eq!(if_none_match("\"a,b\"", &OWN), Verdict::Proceed);
    }

    #[test]
    fn rfc9110_13_1_3_if_modified_since() {
        let verdict =
            |value| evaluate(Conditions { if_modified_since: Some(value), ..Conditions::default() });
        assert_eq!(verdict(BEFORE), Verdict::Proceed);
        assert_eq!(verdict(SAME), Verdict::NotModified);
        assert_eq!(verdict(AFTER), Verdict::NotModified);
        assert_eq!(verdict(b"Sunday, 06-Nov-94 08:49:37 GMT"), Verdict::NotModified);
        assert_eq!(verdict(b"Sun Nov  6 08:49:37 1994"), Verdict::NotModified);
        for bad in [&b""[..], b"today", b"0", b"Sun, 30 Feb 2020 00:00:00 GMT"] {
            assert_eq!(verdict(bad), Verdict::Proceed);
        }
        assert_eq!(verdict(&[SAME, SAME].join(&b", "[..])), Verdict::Proceed, "more than one member");
    }

    #[test]
    fn rfc9110_13_1_4_if_unmodified_since() {
        let verdict =
            |value| evaluate(Conditions { if_unmodified_since: Some(value), ..Conditions::default() });
        assert_eq!(verdict(BEFORE), Verdict::Failed);
        assert_eq!(verdict(SAME), Verdict::Proceed);
        assert_eq!(verdict(AFTER), Verdict::Proceed);
        assert_eq!(verdict(b"yesterday"), Verdict::Proceed, "ignored");
    }

    #[test]
    fn rfc9110_13_1_5_if_range() {
        assert!(if_range(b"\"a\"", &OWN));
        assert!(if_range(SAME, &OWN));
        assert!(if_range(b"Sun Nov  6 08:49:37 1994", &OWN), "the same date in another form");
        for value in [&b"\"b\""[..], b"W/\"a\"", BEFORE, AFTER, b"", b"a", b"\"a", b"*", b"\"a\", \"b\""] {
            assert!(!if_range(value, &OWN), "{value:?}");
        }
        assert!(!if_range(b"W/\"a\"", &WEAK));
        assert!(!if_range(b"\"a\"", &Validators { etag: b"", ..OWN }));
    }

    #[test]
    fn rfc9110_8_8_2_2_a_date_of_this_second_is_weak() {
        let conditions = Conditions { if_range: Some(SAME), ..Conditions::default() };
        assert!(!conditions.range_applies(&OWN, OWN.modified_s));
        assert!(conditions.range_applies(&OWN, OWN.modified_s + 1));
    }

    #[test]
    fn rfc9110_13_2_2_order() {
        let (same, other) = (Some(&b"\"a\""[..]), Some(&b"\"b\""[..]));
        let all = Conditions {
            if_match: same,
            if_none_match: same,
            if_modified_since: Some(SAME),
            if_unmodified_since: Some(SAME),
            if_range: None,
        };
        assert_eq!(evaluate(all), Verdict::NotModified);
        assert_eq!(evaluate(Conditions { if_match: other, ..all }), Verdict::Failed, "before If-None-Match");
        assert_eq!(
            evaluate(Conditions { if_unmodified_since: Some(BEFORE), ..all }),
            Verdict::NotModified,
            "If-Unmodified-Since does not count beside If-Match"
        );
        assert_eq!(
            evaluate(Conditions { if_match: None, if_unmodified_since: Some(BEFORE), ..all }),
            Verdict::Failed
        );
        assert_eq!(
            evaluate(Conditions { if_none_match: other, ..all }),
            Verdict::Proceed,
            "If-Modified-Since does not count beside If-None-Match"
        );
        assert_eq!(
            evaluate(Conditions { if_none_match: Some(b"unreadable"), ..all }),
            Verdict::Proceed,
            "nor beside one that cannot be read"
        );
        assert_eq!(evaluate(Conditions { if_none_match: None, ..all }), Verdict::NotModified);
    }

    #[test]
    fn rfc9110_8_8_3_own_tags() {
        let mut out = b"ETag: ".to_vec();
        push_etag(&mut out, 784_111_777, 500_000_000, 4096, false);
        assert_eq!(out, b"ETag: \"2ebc98a1-1dcd6500-1000\"");
        out.clear();
        push_etag(&mut out, u64::MAX, 0, u64::MAX, true);
        assert_eq!(out, b"W/\"ffffffffffffffff-0-ffffffffffffffff\"");
        assert!(Tag::whole(&out).is_some_and(|tag| tag.is_weak));
    }
}
