//! Rust source without its comments and literals, so that a search finds code only.
//!
//! A small lexer, not a parser: it knows line and nested block comments, string, raw string and
//! character literals, and lifetimes. What is removed becomes spaces; line numbers stay.

/// `text` with comments and the insides of literals replaced by spaces.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The lines (from 1) of `code` that hold `word`, not as a part of a longer identifier.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let holds = |line: &str| {
        line.match_indices(word).any(|(start, _)| {
            let before = line[..start].chars().next_back();
            let after = line[start + word.len()..].chars().next();
            !before.is_some_and(is_name) && !after.is_some_and(is_name)
        })
    };
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(index, _)| index + 1).collect()
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none starts there.
fn skip(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => end_of_line(chars, at),
        '/' if next == Some('*') => end_of_block_comment(chars, at),
        '"' => end_of_string(chars, at),
        'r' | 'b' | 'c' if !continues_a_name(chars, at) => end_of_prefixed(chars, at),
        '\'' => end_of_char(chars, at),
        _ => at,
    }
}

fn continues_a_name(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len())
}

fn end_of_block_comment(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0_usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

/// `at` is the opening quote.
fn end_of_string(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// Strings with a prefix: `r"`, `r#"`, `b"`, `br#"`, `c"`, `b'`. Anything else is no literal.
fn end_of_prefixed(chars: &[char], at: usize) -> usize {
    let mut i = at;
    let mut raw = false;
    while let Some('r' | 'b' | 'c') = chars.get(i) {
        raw |= chars[i] == 'r';
        i += 1;
        if i - at > 2 {
            return at;
        }
    }
    let hashes = chars[i..].iter().take_while(|&&c| c == '#').count();
    match chars.get(i + hashes) {
        Some('"') if raw => end_of_raw_string(chars, i + hashes, hashes),
        Some('"') if hashes == 0 => end_of_string(chars, i),
        _ => at,
    }
}

/// `at` is the opening quote; the string ends at a quote with as many hashes.
fn end_of_raw_string(chars: &[char], at: usize, hashes: usize) -> usize {
    (at + 1..chars.len())
        .find(|&i| chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes)
        .map_or(chars.len(), |i| i + 1 + hashes)
}

/// A character literal; a lifetime (`'a` without a closing quote) is left alone.
fn end_of_char(chars: &[char], at: usize) -> usize {
    match chars.get(at + 1) {
        Some('\\') => {
            // The escaped character may itself be a quote.
            (at + 3..chars.len()).find(|&i| chars[i] == '\'').map_or(chars.len(), |i| i + 1)
        }
        Some(_) if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsafe_lines(text: &str) -> Vec<usize> {
        lines_with_word(&code_only(text), "unsafe")
    }

    #[test]
    fn sees_code() {
        assert_eq!(unsafe_lines("fn a() {\n    unsafe { b() }\n}\n"), [2]);
        assert_eq!(unsafe_lines("let q = '\"'; unsafe {}"), [1]);
        assert_eq!(unsafe_lines("fn f<'a>(x: &'a u8) { unsafe {} }"), [1]);
        assert_eq!(unsafe_lines(r"let c = '\''; unsafe {}"), [1]);
    }

    #[test]
    fn sees_no_comment_or_literal() {
        for text in [
            "// unsafe\n",
            "//! unsafe\n",
            "/* a /* nested */ unsafe */",
            "let s = \"unsafe \\\" unsafe\";",
            "let s = r#\"unsafe \" unsafe\"#;",
            "let s = b\"unsafe\";",
            "let s = br##\"unsafe\"# unsafe\"##;",
        ] {
            assert_eq!(unsafe_lines(text), Vec::<usize>::new(), "{text}");
        }
    }

    #[test]
    fn code_after_a_literal_is_code_again() {
        assert_eq!(unsafe_lines("let s = r#\"x\"#;\nlet t = \"y\";\nunsafe {}"), [3]);
    }

    #[test]
    fn longer_names_are_other_words() {
        assert_eq!(unsafe_lines("#![allow(unsafe_code)]\nlet not_unsafe = 1;"), Vec::<usize>::new());
    }
}
