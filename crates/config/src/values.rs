//! Strict readers for the kinds of values options take: flags, counts, sizes, times, paths, regular expressions,
//! addresses.
//!
//! They know nothing of options or origins; a [`Refusal`] gets both from whoever asked.

use std::path::PathBuf;

pub(crate) use regex::bytes::Regex;
use regex::bytes::RegexBuilder;

use crate::settings::Address;

/// Why a value was refused, and how to write it: parts of a sentence, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) remedy: String,
    /// The option does not exist here at all, rather than having a bad value.
    pub(crate) unavailable: bool,
}

pub(crate) type Parsed<T> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), unavailable: false }
    }

    pub(crate) fn unavailable(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { unavailable: true, ..Self::new(reason, remedy) }
    }
}

/// `false`, `off`, `no` and `0` in any case are off; anything else, and nothing, is on (uWSGI's rule).
pub(crate) fn flag(text: &str) -> bool {
    !is_off(text)
}

/// Whether the text is one of those that switch an option off.
pub(crate) fn is_off(text: &str) -> bool {
    ["false", "off", "no", "0"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether the text is one of those that are commonly written to switch an option on or off, and stands for nothing else.
pub(crate) fn is_flag(text: &str) -> bool {
    is_off(text) || ["true", "on", "yes", "1"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A whole number within bounds.
pub(crate) fn count(text: &str, min: u64, max: u64) -> Parsed<u64> {
    let remedy = || {
        if max == u64::MAX {
            format!("write a whole number, {min} or more")
        } else {
            format!("write a whole number from {min} to {max}")
        }
    };
    let value = digits(text).ok_or_else(|| Refusal::new("not a whole number", remedy()))?;
    if value < min || value > max {
        return Err(Refusal::new("out of range", remedy()));
    }
    Ok(value)
}

/// As [`count`], for the fields that hold 32 bits.
pub(crate) fn count32(text: &str, min: u32, max: u32) -> Parsed<u32> {
    let value = count(text, u64::from(min), u64::from(max))?;
    u32::try_from(value).map_err(|_| Refusal::new("out of range", format!("write at most {max}")))
}

/// A size in bytes: a whole number with an optional `k`, `m` or `g` (powers of 1024).
pub(crate) fn size(text: &str) -> Parsed<u64> {
    let refusal = |reason: &str| {
        Refusal::new(
            reason,
            "write bytes as a whole number, with k, m or g behind it if you like: 65536, 64k, 1m",
        )
    };
    let lower = text.to_ascii_lowercase();
    let trimmed = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match trimmed.as_bytes().last() {
        Some(b'k') => (&trimmed[..trimmed.len() - 1], 10),
        Some(b'm') => (&trimmed[..trimmed.len() - 1], 20),
        Some(b'g') => (&trimmed[..trimmed.len() - 1], 30),
        _ => (trimmed, 0),
    };
    let number = digits(number.trim_end()).ok_or_else(|| refusal("not a size"))?;
    number.checked_mul(1 << shift).ok_or_else(|| refusal("too large"))
}

/// A time in milliseconds, written in seconds with optional fractions, or with `ms`, `s`, `m` or `h` behind it.
/// Fractions below a millisecond round up, so that a positive time never becomes none at all.
pub(crate) fn millis(text: &str) -> Parsed<u64> {
    const LONGEST_MS: u64 = 1000 * 86_400 * 365 * 10;
    let refusal = |reason: &str| {
        Refusal::new(
            reason,
            "write seconds, fractions allowed, or a unit behind it: 30, 0.5, 250ms, 10s, 2m, 1h",
        )
    };
    let (number, unit_ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1000)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60_000)
    } else if let Some(number) = text.strip_suffix('h') {
        (number, 3_600_000)
    } else {
        (text, 1000)
    };
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = digits(whole).ok_or_else(|| refusal("not a time"))?;
    if fraction.len() > 9 {
        return Err(refusal("more than nine decimals"));
    }
    let parts = digits(fraction).ok_or_else(|| refusal("not a time"))?;
    let scale = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(9));
    whole
        .checked_mul(unit_ms)
        .and_then(|whole_ms| whole_ms.checked_add((parts * unit_ms).div_ceil(scale)))
        .filter(|&total| total <= LONGEST_MS)
        .ok_or_else(|| refusal("longer than ten years"))
}

/// As [`millis`], where a time of none switches off what it belongs to, and so does `false`. At most a year.
pub(crate) fn millis_or_never(text: &str) -> Parsed<u64> {
    const YEAR_MS: u64 = 1000 * 86_400 * 366;
    if is_off(text) {
        return Ok(0);
    }
    match millis(text)? {
        longer if longer > YEAR_MS => Err(Refusal::new("longer than a year", "write 0 for never")),
        time => Ok(time),
    }
}

/// Milliseconds, as uWSGI counts where it looks at single requests; any other unit stands behind the number.
pub(crate) fn bare_millis(text: &str) -> Parsed<u64> {
    match digits(text) {
        Some(_) => millis(&format!("{text}ms")),
        None if text.ends_with(['s', 'm', 'h']) => millis(text),
        None => Err(Refusal::new(
            "not a time",
            "write milliseconds as a whole number, or put the unit behind it: 500, 500ms, 1.5s",
        )),
    }
}

/// Memory in bytes, written in megabytes, or with `k`, `m` or `g` behind it; `0` and `false` are none.
pub(crate) fn megabytes(text: &str) -> Parsed<u64> {
    /// Nobody has so much for one process: bytes were meant where megabytes are read.
    const MOST: u64 = 16 << 40;
    const REMEDY: &str = "write megabytes as a whole number, or put a unit behind it: 512, 512m, 2g";
    if is_off(text) {
        return Ok(0);
    }
    let bytes = match digits(text) {
        Some(number) => number.checked_mul(1 << 20),
        None => Some(size(text).map_err(|refusal| Refusal::new(refusal.reason, REMEDY))?),
    };
    bytes.filter(|bytes| *bytes <= MOST).ok_or_else(|| Refusal::new("more than 16 TiB", REMEDY))
}

/// Path of a file, which need not exist.
pub(crate) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text == "true" || text.contains('\0') {
        return Err(Refusal::new("not a path", "write the path of a file"));
    }
    Ok(PathBuf::from(text))
}

/// A path prefix and what is behind it: `/prefix=target`, as in `example`. The prefix loses the slash at its end, so that
/// of the whole site is empty.
pub(crate) fn prefixed<'t>(text: &'t str, example: &str) -> Parsed<(String, &'t str)> {
    let refusal = |reason: &str| Refusal::new(reason, format!("write /prefix=path, for example {example}"));
    let (prefix, target) = text.split_once('=').ok_or_else(|| refusal("no path stands behind a prefix"))?;
    let (prefix, target) = (prefix.trim(), target.trim());
    if !prefix.starts_with('/') {
        return Err(refusal("the prefix does not begin with a slash"));
    }
    if target.is_empty() || text.contains('\0') {
        return Err(refusal("no path stands behind the prefix"));
    }
    Ok((prefix.trim_end_matches('/').to_owned(), target))
}

/// A regular expression over bytes, as uWSGI has it compiled: `\d`, `\w` and `(?i)` know ASCII.
pub(crate) fn regex(text: &str) -> Parsed<Regex> {
    RegexBuilder::new(text).unicode(false).build().map_err(|error| {
        let error = error.to_string();
        // Above the last line stands the expression, with a mark below it.
        let reason = error.lines().last().unwrap_or_default().trim().trim_end_matches('.');
        Refusal::new(
            format!("not a regular expression: {}", reason.strip_prefix("error: ").unwrap_or(reason)),
            "correct it: signs that stand for themselves need a backslash (\\.), and there is no look-around and no back reference",
        )
    })
}

/// Number of a uwsgi signal.
pub(crate) fn signal(text: &str) -> Parsed<u8> {
    digits(text)
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| Refusal::new("not a signal", "write the number of a uwsgi signal, from 0 to 255"))
}

/// Mode bits of a socket: three octal digits, with or without a leading zero.
pub(crate) fn mode(text: &str) -> Parsed<u32> {
    let octal = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let well_formed = octal.len() == 3 && octal.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    if !well_formed {
        return Err(Refusal::new("not a mode", "write three octal digits, for example 660"));
    }
    u32::from_str_radix(octal, 8).map_err(|_| Refusal::new("not a mode", "write three octal digits"))
}

/// Where something else than requests is served: as [`address`], without descriptors. `false` is nowhere.
pub(crate) fn side_address(text: &str) -> Parsed<Option<Address>> {
    if is_off(text) {
        return Ok(None);
    }
    match address(text)? {
        Address::Inherited(_) => Err(Refusal::new(
            "only listeners for requests can be inherited",
            "write host:port, :port, [ipv6]:port, /path/to.sock or @abstract",
        )),
        address => Ok(Some(address)),
    }
}

/// Where to listen.
pub(crate) fn address(text: &str) -> Parsed<Address> {
    /// `sun_path` has 108 bytes, the last one a NUL.
    const UNIX_PATH_MAX: usize = 107;
    const FORMS: &str = "write host:port, :port, [ipv6]:port, /path/to.sock, @abstract or fd://N";

    if text.is_empty() {
        return Err(Refusal::new("no address", FORMS));
    }
    if let Some(number) = text.strip_prefix("fd://") {
        let fd = count(number, 0, 0x7fff_ffff)?;
        return i32::try_from(fd)
            .map(Address::Inherited)
            .map_err(|_| Refusal::new("not a descriptor", FORMS));
    }
    if let Some(name) = text.strip_prefix('@').or_else(|| text.strip_prefix("\\0")) {
        if name.is_empty() || name.len() > UNIX_PATH_MAX {
            return Err(Refusal::new("an abstract name has 1 to 107 bytes", "choose another name"));
        }
        return Ok(Address::Abstract(name.as_bytes().to_vec()));
    }
    if text.starts_with('=') {
        return Err(Refusal::new(
            "shared sockets are not in this version",
            "write the address here, and start greenloom with the rights to bind it",
        ));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(Refusal::new(
            format!("\"{scheme}://\" is not part of an address"),
            format!("write {}", rest.trim_end_matches('/')),
        ));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => tcp(host, port),
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(Refusal::new(
            "a port needs a colon",
            format!("write :{text} for the TCP port, ./{text} for a UNIX socket of that name"),
        )),
        None if text.len() > UNIX_PATH_MAX => Err(Refusal::new(
            format!(
                "the path of a UNIX socket has at most {UNIX_PATH_MAX} bytes, this one has {}",
                text.len()
            ),
            "use a shorter path",
        )),
        None => Ok(Address::Unix(PathBuf::from(text))),
    }
}

fn tcp(host: &str, port: &str) -> Parsed<Address> {
    let port = count(port, 0, 65_535)
        .map_err(|_| Refusal::new("the port is not a number from 0 to 65535", "write host:port or :port"))?;
    let port = u16::try_from(port).map_err(|_| Refusal::new("port out of range", "write host:port"))?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| Refusal::new("a bracket is missing", "write [ipv6 address]:port"))?,
        None if host.contains(':') => {
            return Err(Refusal::new("an IPv6 address needs brackets", format!("write [{host}]:{port}")));
        }
        None => host,
    };
    let host = if host.is_empty() || host == "*" { "0.0.0.0" } else { host };
    if host.contains(|letter: char| letter.is_whitespace() || matches!(letter, '/' | '*' | ',')) {
        return Err(Refusal::new(
            format!("\"{host}\" is neither a name nor an address"),
            "write the address of one interface, or :port for all of them",
        ));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// Digits only: no sign, no blank, nothing behind them.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("64k"), Ok(65_536));
        assert_eq!(size("2M"), Ok(2 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for bad in ["", "k", "-1", "1.5m", "12x", "99999999999g", "1 2", "0x10"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(millis("30"), Ok(30_000));
        assert_eq!(millis("0.05"), Ok(50));
        assert_eq!(millis("250ms"), Ok(250));
        assert_eq!(millis("1.5m"), Ok(90_000));
        assert_eq!(millis("2h"), Ok(7_200_000));
        assert_eq!(millis("0.0001"), Ok(1));
        for bad in ["", "abc", "-1", "1e3", ".5", "5.", "10 days", "99999999999h", "1..2"] {
            assert!(millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_that_may_be_never() {
        assert_eq!(millis_or_never("0"), Ok(0));
        assert_eq!(millis_or_never("off"), Ok(0));
        assert_eq!(millis_or_never("1.5"), Ok(1500));
        assert_eq!(millis_or_never("31536000"), Ok(31_536_000_000));
        assert!(millis_or_never("40000000").unwrap_err().reason.contains("a year"));
    }

    #[test]
    fn times_of_requests() {
        assert_eq!(bare_millis("1500"), Ok(1500));
        assert_eq!(bare_millis("1.5s"), Ok(1500));
        assert_eq!(bare_millis("250ms"), Ok(250));
        for bad in ["", "1.5", "s", "-5", "99999999999999999999"] {
            assert!(bare_millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory() {
        assert_eq!(megabytes("512"), Ok(512 << 20));
        assert_eq!(megabytes("2g"), Ok(2 << 30));
        assert_eq!(megabytes("0"), Ok(0));
        assert_eq!(megabytes("false"), Ok(0));
        assert!(megabytes("536870912").unwrap_err().remedy.contains("megabytes"));
        for bad in ["", "1.5g", "much", "18446744073709551615", "99999999g"] {
            assert!(megabytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_with_targets() {
        let prefixed = |text| prefixed(text, "/a=/b");
        assert_eq!(prefixed("/static=/srv/a=b"), Ok(("/static".to_owned(), "/srv/a=b")));
        assert_eq!(prefixed("/static/ = srv"), Ok(("/static".to_owned(), "srv")));
        assert_eq!(prefixed("/=/srv"), Ok((String::new(), "/srv")));
        for bad in ["", "/static", "static=/srv", "=/srv", "/static=", "/a=/srv\0"] {
            assert!(prefixed(bad).unwrap_err().remedy.contains("/a=/b"), "{bad}");
        }
    }

    #[test]
    fn regular_expressions() {
        for (pattern, text, matches) in [
            ("/*.html", "/srv/a.html", true),
            ("/*.html", "html", false),
            (r"\.(css|js)$", "/srv/a.js", true),
            (r"^/v\d+/\w+$", "/v12/x_1", true),
            ("(?i)\\.jpe?g$", "/A.JPG", true),
            ("[[:alpha:]]+", "123", false),
            ("é", "/é", true),
        ] {
            assert_eq!(regex(pattern).unwrap().is_match(text.as_bytes()), matches, "{pattern}");
        }
        assert!(regex("a.b").unwrap().is_match(b"a\xffb"));
        for bad in ["(", "*a", "[z-a]", "(?=a)", r"(a)\1", r"\pL", "(a{1000}){1000}", "\\"] {
            let reason = regex(bad).unwrap_err().reason;
            assert!(!reason.contains('\n') && reason.len() > 30, "{bad}: {reason}");
        }
    }

    #[test]
    fn signals() {
        assert_eq!((signal("0"), signal("255")), (Ok(0), Ok(255)));
        for bad in ["", "256", "-1", "SIGHUP"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_strict_and_say_their_bounds() {
        assert_eq!(count("10", 1, 10), Ok(10));
        assert!(count("11", 1, 10).unwrap_err().remedy.contains("from 1 to 10"));
        for bad in ["", "abc", "4x", "-4", "+4", "99999999999999999999"] {
            assert!(count(bad, 0, u64::MAX).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(mode("660"), Ok(0o660));
        assert_eq!(mode("0664"), Ok(0o664));
        for bad in ["", "66", "688", "06600", "rw-"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let tcp = |host: &str, port| Ok(Address::Tcp { host: host.to_owned(), port });
        assert_eq!(address(":3031"), tcp("0.0.0.0", 3031));
        assert_eq!(address("*:80"), tcp("0.0.0.0", 80));
        assert_eq!(address("localhost:0"), tcp("localhost", 0));
        assert_eq!(address("[::1]:8080"), tcp("::1", 8080));
        assert_eq!(address("run/x.sock"), Ok(Address::Unix("run/x.sock".into())));
        assert_eq!(address("@shop"), Ok(Address::Abstract(b"shop".to_vec())));
        assert_eq!(address("fd://3"), Ok(Address::Inherited(3)));
        assert_eq!(address("[::1]:8080").unwrap().to_string(), "[::1]:8080");
    }

    #[test]
    fn addresses_that_would_surprise_are_refused_with_the_right_spelling() {
        assert!(address("8080").unwrap_err().remedy.contains(":8080"));
        assert!(address("::1:8080").unwrap_err().remedy.contains("[::1]:8080"));
        assert!(address("http://127.0.0.1:80/").unwrap_err().remedy.contains("127.0.0.1:80"));
        assert!(address("=0").unwrap_err().reason.contains("shared sockets"));
        assert!(address("192.168.*:80").is_err());
        assert!(address(":80,cert.pem").is_err());
        assert!(address(&"x".repeat(108)).is_err());
    }

    proptest! {
        #[test]
        fn no_reader_panics(text in "\\PC{0,24}") {
            let _ = (count(&text, 0, 10), size(&text), millis(&text), mode(&text), address(&text));
            let _ = (millis_or_never(&text), bare_millis(&text), megabytes(&text), signal(&text), path(&text));
        }

        #[test]
        fn numbers_with_units_never_panic(text in "[0-9]{0,21}[.]?[0-9]{0,21} ?(ms|s|m|h|k|M|g|kib|b)?") {
            let _ = (count(&text, 0, 10), size(&text), millis(&text), mode(&text), address(&text));
            let _ = (millis_or_never(&text), bare_millis(&text), megabytes(&text), signal(&text));
        }

        #[test]
        fn whole_seconds_survive(seconds in 0_u64..1_000_000) {
            prop_assert_eq!(millis(&seconds.to_string()), Ok(seconds * 1000));
        }
    }
}
