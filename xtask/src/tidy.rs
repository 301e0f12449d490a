//! What no compiler checks: layers, file heads, where `unsafe` and attaching may stand, sizes, news, words.
//!
//! Each check returns sentences that name file and line, what is wrong and what to do. The layering table
//! is in [`crate::layers`], generated files in [`crate::generated`].

use crate::repository::{self, Source};
use crate::source_text::{code_only, lines_with_word};
use crate::{generated, layers, say};

/// Where `unsafe` may stand.
const UNSAFE_FOLDERS: [&str; 5] =
    ["crates/sys/", "crates/python/", "crates/ugreen/", "crates/loops/", "crates/capi/"];

/// The one file that lets go of the interpreter and takes it again: where the native loop blocks.
const ATTACHING_FILE: &str = "crates/python/src/driver/drive.rs";

/// Past this many lines, the tests at its foot not counted, a file holds more than one idea.
const MOST_LINES: usize = 800;

/// What `changes/<topic>.<kind>.md` may be about.
const KINDS_OF_NEWS: [&str; 4] = ["added", "changed", "fixed", "removed"];

/// Runs every check and prints what it found.
///
/// # Errors
/// Anything is out of order.
pub(crate) fn run() -> Result<(), String> {
    let root = repository::root();
    let mut found = layers::check(&root)?;
    let rust = repository::sources(&root, &[".rs"])?;
    let python = repository::sources(&root, &[".py", ".pyi"])?;
    for source in &rust {
        found.extend(check_rust(source));
    }
    for source in rust.iter().chain(&python) {
        found.extend(check_any(source));
    }
    found.extend(check_news(&repository::file_names(&root.join("changes"))));
    found.extend(generated::check(&root)?);
    if found.is_empty() {
        say(&format!("tidy: {} files in order", rust.len() + python.len()));
        return Ok(());
    }
    Err(format!("tidy:\n  {}", found.join("\n  ")))
}

fn check_rust(source: &Source) -> Vec<String> {
    let code = code_only(&source.text);
    let mut found = Vec::new();
    found.extend(check_head(source));
    found.extend(check_unsafe(source, &code));
    found.extend(check_attaching(source, &code));
    found.extend(check_pure_protocols(source, &code));
    found
}

fn check_any(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(check_size(source));
    found.extend(check_names(source));
    found.extend(check_promises(source));
    found
}

fn check_head(source: &Source) -> Option<String> {
    let says = source.text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 12);
    (!says)
        .then(|| format!("{}:1: begin with `//!`: what the file owns, what it leaves to others", source.path))
}

fn check_unsafe(source: &Source, code: &str) -> Vec<String> {
    if UNSAFE_FOLDERS.iter().any(|folder| source.path.starts_with(folder)) {
        return Vec::new();
    }
    // `forbid(unsafe_code)` is welcome anywhere; what softens the workspace's lint is not.
    let softened = ["allow(unsafe_code", "expect(unsafe_code"];
    let softening = code.lines().enumerate().filter(|(_, line)| softened.iter().any(|s| line.contains(s)));
    let mut lines = lines_with_word(code, "unsafe");
    lines.extend(softening.map(|(index, _)| index + 1));
    lines
        .into_iter()
        .map(|line| {
            format!("{}:{line}: no unsafe outside the crates that own it: ask crate sys", source.path)
        })
        .collect()
}

fn check_attaching(source: &Source, code: &str) -> Vec<String> {
    if !source.path.starts_with("crates/python/") || source.path == ATTACHING_FILE {
        return Vec::new();
    }
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| line.contains("Python::attach") || line.contains(".detach("))
        .map(|(index, _)| {
            let path = &source.path;
            format!("{path}:{}: the interpreter is attached and detached in {ATTACHING_FILE} only", index + 1)
        })
        .collect()
}

/// Crate proto has no clock and no socket: it builds without the standard library, tests aside.
fn check_pure_protocols(source: &Source, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    if source.path == "crates/proto/src/lib.rs" && !code.contains("no_std") {
        found.push(format!("{}:1: crate proto is `#![no_std]`: bytes in, events out", source.path));
    }
    if source.path.starts_with("crates/proto/src/") {
        let lines: Vec<&str> = code.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let for_tests = index > 0 && lines[index - 1].contains("cfg(test)");
            if line.contains("extern crate std") && !for_tests {
                found.push(format!("{}:{}: crate proto must not link std", source.path, index + 1));
            }
        }
    }
    found
}

fn check_size(source: &Source) -> Option<String> {
    let lines = source.text.lines().take_while(|line| *line != "mod tests {").count();
    (lines > MOST_LINES)
        .then(|| format!("{}: {lines} lines, {MOST_LINES} at most: look for the seam", source.path))
}

/// A core is the slot of a request; Rust owns the name `core`, so the module is `cores`.
fn check_names(source: &Source) -> Option<String> {
    let stems = source.path.split('/').map(|part| part.split('.').next().unwrap_or_default());
    stems
        .into_iter()
        .any(|stem| stem == "core")
        .then(|| format!("{}: no file or folder is called `core`: say `cores`", source.path))
}

/// Work that is left over belongs into an issue, where somebody looks for it.
fn check_promises(source: &Source) -> Vec<String> {
    if source.path == "xtask/src/tidy.rs" {
        return Vec::new();
    }
    ["TODO", "FIXME", "XXX"]
        .iter()
        .flat_map(|word| lines_with_word(&source.text, word).into_iter().map(move |line| (line, word)))
        .map(|(line, word)| format!("{}:{line}: no {word}: do it, or open an issue", source.path))
        .collect()
}

fn check_news(names: &[String]) -> Vec<String> {
    let is_news = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        matches!(parts[..], [topic, kind, "md"] if !topic.is_empty() && KINDS_OF_NEWS.contains(&kind))
    };
    names
        .iter()
        .filter(|name| *name != "README.md" && !is_news(name))
        .map(|name| format!("changes/{name}: call it <topic>.<{}>.md", KINDS_OF_NEWS.join("|")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rust(path: &str, text: &str) -> Vec<String> {
        check_rust(&Source { path: path.to_owned(), text: text.to_owned() })
    }

    fn any(path: &str, text: &str) -> Vec<String> {
        check_any(&Source { path: path.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn a_file_says_what_it_owns() {
        assert_eq!(rust("crates/sys/src/a.rs", "//! Owns the first letter.\n"), Vec::<String>::new());
        assert_eq!(rust("crates/sys/src/a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(rust("crates/sys/src/a.rs", "").len(), 1);
    }

    #[test]
    fn unsafe_stays_in_its_crates() {
        let text = "//! Owns a thing.\nfn f() { unsafe { g() } }\n";
        assert_eq!(rust("crates/sys/src/a.rs", text), Vec::<String>::new());
        assert!(rust("crates/worker/src/a.rs", text)[0].contains("crates/worker/src/a.rs:2:"));
        let allowing = "//! Owns a thing.\n#![allow(unsafe_code)]\n";
        assert_eq!(rust("crates/worker/src/lib.rs", allowing).len(), 1);
        let forbidding = "//! Owns a thing.\n#![forbid(unsafe_code)]\n";
        assert_eq!(rust("crates/worker/src/lib.rs", forbidding), Vec::<String>::new());
    }

    #[test]
    fn one_file_attaches() {
        let text = "//! Owns the loop.\nfn f(py: Python<'_>) { py.detach(|| ()); Python::attach(|_| ()); }\n";
        assert_eq!(rust(ATTACHING_FILE, text), Vec::<String>::new());
        assert_eq!(rust("crates/python/src/api/waits.rs", text).len(), 1);
        assert_eq!(rust("crates/worker/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn protocols_are_pure() {
        assert_eq!(rust("crates/proto/src/lib.rs", "//! Protocols are pure.\n").len(), 1);
        let for_tests = "//! Protocols are pure.\n#![no_std]\n#[cfg(test)]\nextern crate std;\n";
        assert_eq!(rust("crates/proto/src/lib.rs", for_tests), Vec::<String>::new());
        assert_eq!(rust("crates/proto/src/a.rs", "//! Owns packets.\nextern crate std;\n").len(), 1);
    }

    #[test]
    fn files_stay_small_and_well_named() {
        assert_eq!(any("crates/a/src/long.rs", &"x\n".repeat(801)).len(), 1);
        assert_eq!(any("crates/a/src/long.rs", &"x\n".repeat(800)), Vec::<String>::new());
        let tested = format!("{}mod tests {{\n{}}}\n", "x\n".repeat(799), "y\n".repeat(100));
        assert_eq!(any("crates/a/src/tested.rs", &tested), Vec::<String>::new());
        assert_eq!(any("crates/worker/src/core.rs", "").len(), 1);
        assert_eq!(any("crates/worker/src/core/table.rs", "").len(), 1);
        assert_eq!(any("crates/worker/src/cores/table.rs", ""), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_put_off() {
        assert_eq!(any("tests/a.py", "# TODO: later\n").len(), 1);
    }

    #[test]
    fn news_has_a_topic_and_a_kind() {
        let names = ["README.md", "uwsgi-packet.added.md", "notes.md", "x.improved.md"].map(str::to_owned);
        assert_eq!(check_news(&names).len(), 2);
    }
}
