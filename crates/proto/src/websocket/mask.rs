//! Masking of what clients send (RFC 6455 §5.3).

/// Takes the mask off `bytes`, or puts it on, which is the same, and turns `mask` so that it fits what follows them.
///
/// Eight bytes at a time in safe code; the compiler makes vectors of it.
pub(super) fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let [a, b, c, d] = *mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(rest.len() % 4);
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// The RFC's own words: octet i is combined with octet i modulo 4 of the key.
    #[test]
    fn rfc6455_5_3_masking() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..70_u8 {
            let plain: Vec<u8> = (0..length).collect();
            let expected: Vec<u8> =
                plain.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            for cut in 0..=plain.len() {
                let (mut bytes, mut mask) = (plain.clone(), key);
                let (before, after) = bytes.split_at_mut(cut);
                unmask(before, &mut mask);
                unmask(after, &mut mask);
                assert_eq!(bytes, expected, "{length} bytes, cut at {cut}");
            }
        }
    }
}
