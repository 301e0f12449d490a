//! Which bytes may stand where in a head (RFC 9110 §5.6.2, §5.5; RFC 9112 §3.2; RFC 3986 §3.2.2).
//!
//! One table of 256 entries with a bit per class, and the helpers that read it.

/// May stand in a token (RFC 9110 §5.6.2): methods and field names.
pub(crate) const TOKEN: u8 = 1;
/// May stand in a request-target: every visible byte but `#`, and everything from 0x80 on, which browsers of
/// old and many scripts send unescaped (RFC 9112 §3.2 has no fragment in any form).
pub(crate) const TARGET: u8 = 2;
/// May stand in a registered name (RFC 3986 §3.2.2), percent-encoding left out.
pub(super) const HOST: u8 = 4;
/// The low line: legal in a token, but `X_A` and `X-A` become the same variable.
pub(super) const LOW_LINE: u8 = 8;

/// The classes of every byte.
pub(super) static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0_u8; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "the loop ends at 256")]
        let byte = at as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        if alphanumeric || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            table[at] |= TOKEN;
        }
        if byte > 0x20 && byte != 0x7f && byte != b'#' {
            table[at] |= TARGET;
        }
        if alphanumeric || is_one_of(byte, b"-._~!$&'()*+,;=") {
            table[at] |= HOST;
        }
        if byte == b'_' {
            table[at] |= LOW_LINE;
        }
        at += 1;
    }
    table
}

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

/// True when `byte` belongs to one of the classes in `class`.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// True when there is at least one byte and all belong to `class`.
#[inline]
pub(crate) fn all(bytes: &[u8], class: u8) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is(byte, class))
}

/// True when a control byte other than the tab is in `bytes` (RFC 9110 §5.5). Written without an early exit,
/// because then it compiles to vector instructions.
#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "without branches; see above")]
pub(crate) fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |seen, &byte| seen | ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7f))
}

/// `bytes` without blanks and tabs at both ends (OWS, RFC 9110 §5.6.3).
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A decimal number of one digit or more and nothing else (RFC 9110 §8.6); `None` also when it exceeds 64 bits.
#[inline]
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The value of a hexadecimal digit.
#[inline]
pub(super) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_5_6_2_tokens() {
        assert!(all(b"!#$%&'*+-.^_`|~09azAZ", TOKEN));
        for byte in b"\"(),/:;<=>?@[\\]{} \t\x00\x7f\x80\xff" {
            assert!(!is(*byte, TOKEN), "{byte:#x}");
        }
    }

    #[test]
    fn rfc9110_5_5_controls() {
        assert!(!has_control(b"a\tb c\x80\xff"));
        for byte in (0..0x20).filter(|&byte| byte != b'\t').chain([0x7f]) {
            assert!(has_control(&[b'a', byte, b'b']), "{byte:#x}");
        }
    }

    #[test]
    fn rfc9110_8_6_decimals() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"00012"), Some(12));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"+5", b"-1", b" 5", b"5 ", b"5,5", b"0x5", b"5.0", b"18446744073709551616"] {
            assert_eq!(decimal(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_3_trim() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t"), b"");
    }
}
