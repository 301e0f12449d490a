//! Texts of clients and applications in lines of the log: whatever their bytes are, they cannot end a line, end the place
//! they stand in, or pass for another text, and the bytes can be told from the line alone.
//!
//! Two alphabets: that of plain lines, all printable ASCII with `\xNN` for the rest, and JSON strings.

/// Stands where a text was cut: no text can produce it, since a backslash is always escaped.
pub(super) const CUT: &[u8] = b"\\...";
/// The same inside a JSON string.
const CUT_JSON: &[u8] = b"\\\\...";

/// Appends `text`, at most `most` bytes of it and the mark [`CUT`]. Escaped are all bytes that are not printable
/// ASCII, the backslash, and `end`, the byte by which a reader of the line finds the end of this text.
pub(super) fn push_text(out: &mut Vec<u8>, text: &[u8], most: usize, end: u8) {
    let limit = out.len() + most;
    let mut rest = text;
    loop {
        let plain = rest.iter().position(|&byte| is_escaped(byte, end)).unwrap_or(rest.len());
        let room = limit - out.len();
        if plain > room {
            out.extend_from_slice(&rest[..room]);
            break out.extend_from_slice(CUT);
        }
        out.extend_from_slice(&rest[..plain]);
        let Some(&byte) = rest.get(plain) else { break };
        if room - plain < 4 {
            break out.extend_from_slice(CUT);
        }
        out.extend_from_slice(&[b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        rest = &rest[plain + 1..];
    }
}

#[inline]
fn is_escaped(byte: u8, end: u8) -> bool {
    !(0x20..0x7f).contains(&byte) || byte == b'\\' || byte == end
}

/// Appends `text` as a JSON string in ASCII, quotes included, of which at most `most` bytes stand between the quotes,
/// and the mark. Text in UTF-8 reads as that text; in the string that a JSON reader gets, `\xNN` is a byte that is no part
/// of such a text, or a backslash.
pub(super) fn push_json(out: &mut Vec<u8>, text: &[u8], most: usize) {
    out.push(b'"');
    let limit = out.len() + most;
    for chunk in text.utf8_chunks() {
        let whole = push_valid(out, chunk.valid(), limit)
            && chunk.invalid().iter().all(|&byte| {
                // Two backslashes are one to the reader.
                push_if_fits(out, limit, &[b'\\', b'\\', b'x', hex_digit(byte >> 4), hex_digit(byte & 15)])
            });
        if !whole {
            out.extend_from_slice(CUT_JSON);
            break;
        }
    }
    out.push(b'"');
}

/// `false`: there was no room for all of it.
fn push_valid(out: &mut Vec<u8>, text: &str, limit: usize) -> bool {
    let mut rest = text;
    loop {
        let plain = rest
            .bytes()
            .position(|byte| !(0x20..0x7f).contains(&byte) || byte == b'\\' || byte == b'"')
            .unwrap_or(rest.len());
        let fits = plain.min(limit - out.len());
        out.extend_from_slice(&rest.as_bytes()[..fits]);
        if fits < plain {
            return false;
        }
        let Some(char) = rest[plain..].chars().next() else { return true };
        let fits = match char {
            '"' => push_if_fits(out, limit, b"\\\""),
            '\\' => push_if_fits(out, limit, b"\\\\x5C"),
            _ => {
                let mut units = [0; 2];
                let units = char.encode_utf16(&mut units);
                let mut escapes = [0; 12];
                for (unit, escape) in units.iter().zip(escapes.chunks_exact_mut(6)) {
                    let [high, low] = unit.to_be_bytes();
                    let digits = [high >> 4, high & 15, low >> 4, low & 15].map(hex_digit);
                    escape[..2].copy_from_slice(b"\\u");
                    escape[2..].copy_from_slice(&digits);
                }
                push_if_fits(out, limit, &escapes[..units.len() * 6])
            }
        };
        if !fits {
            return false;
        }
        rest = &rest[plain + char.len_utf8()..];
    }
}

fn push_if_fits(out: &mut Vec<u8>, limit: usize, bytes: &[u8]) -> bool {
    let fits = limit - out.len() >= bytes.len();
    if fits {
        out.extend_from_slice(bytes);
    }
    fits
}

/// `nibble` is below 16.
fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::unescape;
    use super::*;

    fn json(text: &[u8], most: usize) -> String {
        let mut out = Vec::new();
        push_json(&mut out, text, most);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn json_strings_by_example() {
        assert_eq!(json(b"/a?b=c", 100), r#""/a?b=c""#);
        assert_eq!(json("é€😀".as_bytes(), 100), r#""\u00E9\u20AC\uD83D\uDE00""#);
        assert_eq!(json(b"a\"b\\c\n\x7f", 100), r#""a\"b\\x5Cc\u000A\u007F""#);
        assert_eq!(json(b"\xc3(\xff", 100), r#""\\xC3(\\xFF""#);
    }

    #[test]
    fn json_strings_are_cut_between_characters() {
        assert_eq!(json(b"abcdef", 6), r#""abcdef""#);
        assert_eq!(json(b"abcdefg", 6), r#""abcdef\\...""#);
        assert_eq!(json("abcé".as_bytes(), 8), r#""abc\\...""#);
        assert_eq!(json("😀".as_bytes(), 11), r#""\\...""#);
        assert_eq!(json(b"\xff\xff", 7), r#""\\xFF\\...""#);
        assert_eq!(json(b"x", 0), r#""\\...""#);
        assert_eq!(json(b"", 0), r#""""#);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_json(text in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            any::<String>().prop_map(String::into_bytes),
            "[\\\\x0-9\"é\n]{0,20}".prop_map(String::into_bytes),
        ]) {
            let written = json(&text, 10_000);
            prop_assert!(written.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let read: String = serde_json::from_str(&written).expect("valid JSON");
            prop_assert_eq!(unescape(&read), text);
        }

        #[test]
        fn what_is_cut_is_the_beginning(
            text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\\'), Just(0xc3)], 0..60),
            most in 0..80_usize,
        ) {
            let written = json(&text, most);
            prop_assert!(written.len() <= most + 2 + CUT_JSON.len());
            let read: String = serde_json::from_str(&written).expect("valid JSON");
            if let Some(begin) = read.strip_suffix("\\...") {
                prop_assert!(text.starts_with(&unescape(begin)) && unescape(begin) != text);
            } else {
                prop_assert_eq!(unescape(&read), text);
            }
        }
    }
}
