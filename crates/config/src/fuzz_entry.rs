//! What the fuzzer calls; the target in fuzz/ only passes the bytes on. Replayed over the corpus of ini files by an
//! ordinary test.

use std::io;
use std::path::PathBuf;

use crate::{PathKind, World, load};

/// Reads `data` as an ini file, in a world that has nothing else, which also includes itself when it is asked to.
/// Whatever the bytes are, the answer is settings or an error that says where, what and how to fix it.
pub fn fuzz_ini(data: &[u8]) {
    match load(&["--no-need-app".into(), "--http-socket=:0".into(), "fuzz.ini".into()], &OneFile(data)) {
        Ok(loaded) => assert!(loaded.settings.cores >= 1 && loaded.settings.processes >= 1),
        Err(error) => assert!(!error.to_string().trim().is_empty()),
    }
}

#[derive(Debug)]
struct OneFile<'a>(&'a [u8]);

impl World for OneFile<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        if path.ends_with("fuzz.ini") { Ok(self.0.to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn kind(&self, path: &str) -> Option<PathKind> {
        path.ends_with("fuzz.ini").then_some(PathKind::File)
    }

    fn canonical(&self, path: &str) -> io::Result<PathBuf> {
        Ok(PathBuf::from("/").join(path))
    }

    fn list(&self, _directory: &str) -> Vec<String> {
        vec!["fuzz.ini".to_owned()]
    }

    fn inode(&self, _path: &str) -> u64 {
        1
    }

    fn variables(&self) -> Vec<(String, String)> {
        vec![("HOME".to_owned(), "/home/user".to_owned())]
    }

    fn current_directory(&self) -> String {
        "/".to_owned()
    }

    fn hostname(&self) -> String {
        "host".to_owned()
    }

    fn cpus(&self) -> usize {
        2
    }

    fn ids(&self) -> (u32, u32) {
        (1000, 1000)
    }

    fn unix_micros(&self) -> u128 {
        0
    }

    fn program(&self) -> String {
        "greenloom".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_of_ini_files_passes() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus/ini");
        let mut files = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let text = std::fs::read(entry.unwrap().path()).unwrap();
            fuzz_ini(&text);
            // Cut and damaged, too.
            fuzz_ini(&text[..text.len() / 2]);
            fuzz_ini(&text.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
            files += 1;
        }
        assert!(files >= 20, "only {files} files in {corpus}");
    }
}
