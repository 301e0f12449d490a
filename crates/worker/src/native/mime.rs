//! Media types by the ends of names: from mime files, and for what these do not know, or where there is none, from a list
//! of common ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where most systems have theirs.
const SYSTEM: &str = "/etc/mime.types";

/// Types by ending.
#[derive(Debug, Default)]
pub(crate) struct Types(HashMap<Vec<u8>, String>);

impl Types {
    /// Reads mime files, the later ones weighing more; the system's where none is given. One that cannot be read is left
    /// out: that was said at the start.
    pub(crate) fn read(files: &[PathBuf]) -> Self {
        let mut types = Self::default();
        let system = [PathBuf::from(SYSTEM)];
        for file in if files.is_empty() { &system } else { files } {
            types.add(&read(file));
        }
        types
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(media_type) = words.next() else { continue };
            for ending in words {
                self.0.insert(ending.as_bytes().to_vec(), media_type.to_owned());
            }
        }
    }

    /// The type of a file of this name.
    pub(crate) fn of(&self, name: &[u8]) -> Option<&str> {
        let name = name.rsplit(|&byte| byte == b'/').next()?;
        let dot = name.iter().rposition(|&byte| byte == b'.')?;
        let ending = &name[dot + 1..];
        let lower = ending.to_ascii_lowercase();
        let known = self.0.get(ending).or_else(|| self.0.get(&lower)).map(String::as_str);
        known.or_else(|| mime_guess::from_ext(std::str::from_utf8(&lower).ok()?).first_raw())
    }
}

fn read(file: &Path) -> String {
    std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_first_then_what_everybody_knows() {
        let mut types = Types::default();
        types.add("# a comment\ntext/x-own own OWN2 # behind\n\nnonsense\ntext/x-html html\n");
        types.add("text/later own");
        for (name, expected) in [
            ("/srv/a.own", Some("text/later")),
            ("/srv/a.OWN", Some("text/later")),
            ("/srv/a.OWN2", Some("text/x-own")),
            ("/srv/a.html", Some("text/x-html")),
            ("/srv/a.css", Some("text/css")),
            ("/srv/a.tar.gz", Some("application/gzip")),
            ("/srv/a.", None),
            ("/srv/a", None),
            ("/srv.css/a", None),
            ("/srv/a.nobodyknows", None),
        ] {
            assert_eq!(types.of(name.as_bytes()), expected, "{name}");
        }
        assert!(Types::read(&["/nonexistent".into()]).of(b"a.own").is_none());
    }
}
