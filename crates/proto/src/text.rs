//! Numbers as text, without the formatting machinery: it is on the path of every response and log line.

use alloc::vec::Vec;

/// Digits of the largest 64-bit number, in decimal.
const DECIMAL_DIGITS: usize = 20;
/// The same in hexadecimal.
const HEX_DIGITS: usize = 16;

/// Appends `number` in decimal.
#[inline]
pub fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; DECIMAL_DIGITS];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        let digit = (rest % 10) as u8;
        digits[at] = b'0' + digit;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `number` in hexadecimal, lower case.
#[inline]
pub fn push_hex(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; HEX_DIGITS];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(rest & 15) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_the_standard_library_writes_them(number in prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX)]) {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            out.push(b' ');
            push_hex(&mut out, number);
            prop_assert_eq!(out, format!("{number} {number:x}").into_bytes());
        }
    }
}
