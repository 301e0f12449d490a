//! Which content codings a client takes (RFC 9110 §12.5.3), of those a server may have a file in.
//!
//! This file reads `Accept-Encoding`; whether there is such a file, and `Vary`, is the caller's business.

use core::array;
use core::cmp::Reverse;
use core::iter::Take;

use super::chars::{TOKEN, all, trim};

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878).
    Zstd,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All, in the order in which they are taken when a client does not care.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What is added to the name of a file for its coded form.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings that are better than none for a client, best first. Iterate over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    codings: [Coding; 3],
    count: usize,
}

impl Accepted {
    /// The codings, best first.
    pub fn as_slice(&self) -> &[Coding] {
        &self.codings[..self.count]
    }

    /// True when the client is best served without a coding.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl IntoIterator for Accepted {
    type Item = Coding;
    type IntoIter = Take<array::IntoIter<Coding, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        self.codings.into_iter().take(self.count)
    }
}

/// Reads `value` of `Accept-Encoding`, its lines joined with `, `; `None` when there is no such field, which says
/// that the client does not care (RFC 9110 §12.5.3), and gets no coding. Malformed members are ignored. Left out are
/// codings with a weight of 0 and those with a lower weight than `identity`. Of a coding named twice, the lower
/// weight counts.
pub fn accepted(value: Option<&[u8]>) -> Accepted {
    let mut weights = Weights::default();
    for member in value.unwrap_or_default().split(|&byte| byte == b',') {
        weights.take(trim(member));
    }
    let identity = weights.identity.or(weights.others).unwrap_or(0);
    let weight = |coding: Coding| weights.codings[coding as usize].or(weights.others).unwrap_or(0);
    let mut accepted = Accepted { codings: Coding::ALL, count: 0 };
    for coding in Coding::ALL {
        if weight(coding) > 0 && weight(coding) >= identity {
            accepted.codings[accepted.count] = coding;
            accepted.count += 1;
        }
    }
    // Stable: what weighs the same stays in the order of `ALL`.
    accepted.codings[..accepted.count].sort_by_key(|&coding| Reverse(weight(coding)));
    // What is behind `count` must not make equal values differ.
    accepted.codings[accepted.count..].fill(Coding::Gzip);
    accepted
}

/// The weights given, in thousandths.
#[derive(Debug, Default)]
struct Weights {
    /// In the order of [`Coding::ALL`].
    codings: [Option<u16>; 3],
    identity: Option<u16>,
    /// Of everything that is not named, `identity` included: `*`.
    others: Option<u16>,
}

impl Weights {
    fn take(&mut self, member: &[u8]) {
        let (name, weight) = match member.iter().position(|&byte| byte == b';') {
            None => (member, Some(1000)),
            Some(at) => (trim(&member[..at]), read_weight(trim(&member[at + 1..]))),
        };
        let Some(weight) = weight.filter(|_| all(name, TOKEN)) else { return };
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let slot = if name == b"*" {
            &mut self.others
        } else if is(b"identity") {
            &mut self.identity
        } else if is(b"br") {
            &mut self.codings[Coding::Brotli as usize]
        } else if is(b"zstd") {
            &mut self.codings[Coding::Zstd as usize]
        } else if is(b"gzip") || is(b"x-gzip") {
            // RFC 9110 §8.4.1.3: the same coding.
            &mut self.codings[Coding::Gzip as usize]
        } else {
            return;
        };
        *slot = Some(slot.map_or(weight, |other| other.min(weight)));
    }
}

/// `q=0.5` in thousandths (RFC 9110 §12.4.2).
fn read_weight(text: &[u8]) -> Option<u16> {
    let ([b'q' | b'Q', b'=', whole @ (b'0' | b'1')], fraction) = text.split_at_checked(3)? else {
        return None;
    };
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let mut weight = u16::from(*whole - b'0');
    for place in 0..3 {
        weight = weight * 10 + digits.get(place).map_or(0, |digit| u16::from(digit - b'0'));
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    fn of(value: &str) -> String {
        let accepted = accepted(Some(value.as_bytes()));
        let names: Vec<&str> = accepted.into_iter().map(Coding::name).collect();
        assert_eq!(accepted.is_empty(), names.is_empty());
        assert_eq!(accepted.as_slice().len(), names.len());
        names.join(" ")
    }

    #[test]
    fn rfc9110_12_5_3_examples() {
        assert_eq!(of("compress, gzip"), "gzip");
        assert_eq!(of(""), "");
        assert_eq!(of("*"), "br zstd gzip");
        assert_eq!(of("compress;q=0.5, gzip;q=1.0"), "gzip");
        assert_eq!(of("gzip;q=1.0, identity; q=0.5, *;q=0"), "gzip");
    }

    #[test]
    fn rfc9110_12_5_3_no_field() {
        assert!(accepted(None).is_empty());
    }

    #[test]
    fn rfc9110_12_5_3_what_browsers_send() {
        assert_eq!(of("gzip, deflate, br, zstd"), "br zstd gzip");
        assert_eq!(of("gzip, deflate"), "gzip");
        assert_eq!(of("GZIP,Br"), "br gzip");
    }

    #[test]
    fn rfc9110_12_4_2_weights() {
        assert_eq!(of("br;q=0.1, zstd;q=0.9, gzip;q=0.5"), "zstd gzip br");
        assert_eq!(of("br;q=0.999, gzip"), "gzip br");
        assert_eq!(of("gzip;q=0.50, br;q=0.5"), "br gzip", "the same weight");
        assert_eq!(of("gzip;q=0, br;q=0.000, zstd;q=0.001"), "zstd");
        assert_eq!(of("gzip \t; \tQ=1.000"), "gzip");
        assert_eq!(of("gzip;q=0., br;q=1."), "br", "the dot may stand alone");
    }

    #[test]
    fn rfc9110_12_4_2_malformed_members_are_ignored() {
        for bad in [
            "gzip;q=1.1",
            "gzip;q=2",
            "gzip;q=-1",
            "gzip;q=0.1234",
            "gzip;q=.5",
            "gzip;q",
            "gzip;q=",
            "gzip;",
            "gzip;q =1",
            "gzip;q= 1",
            "gzip;x=1",
            "gzip;q=1;x=1",
            "gzip br",
            "\"gzip\"",
            ";q=1",
            "gz\u{e9}ip",
            "**",
            ",,",
        ] {
            assert_eq!(of(bad), "", "{bad}");
            assert_eq!(of(&[bad, "br"].join(",")), "br", "{bad}");
        }
    }

    #[test]
    fn rfc9110_12_5_3_identity() {
        assert_eq!(of("identity"), "");
        assert_eq!(of("identity, gzip;q=0.5"), "", "the client likes it better plain");
        assert_eq!(of("identity;q=0.5, gzip;q=0.5, br;q=0.4"), "gzip");
        assert_eq!(of("identity;q=0, gzip;q=0.1"), "gzip");
    }

    #[test]
    fn rfc9110_12_5_3_the_rest() {
        assert_eq!(of("*;q=0"), "");
        assert_eq!(of("*;q=0, br"), "br");
        assert_eq!(of("gzip;q=0, *"), "br zstd");
        assert_eq!(of("gzip, *;q=0.5"), "gzip br zstd");
        assert_eq!(of("gzip;q=0.3, *;q=0.5"), "br zstd", "`*` weighs the plain form, too");
    }

    #[test]
    fn rfc9110_8_4_1_3_x_gzip() {
        assert_eq!(of("x-gzip"), "gzip");
        assert_eq!(of("X-Gzip;q=0.5, br;q=0.4"), "gzip br");
        assert_eq!(of("gzip, x-gzip;q=0"), "", "named twice: the lower weight");
    }

    #[test]
    fn names_and_suffixes() {
        let all = Coding::ALL.map(|coding| (coding.name(), coding.suffix()));
        assert_eq!(all, [("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz")]);
    }
}
