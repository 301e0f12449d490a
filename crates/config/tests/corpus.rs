//! Files as people write them for uWSGI: each starts unchanged, or is refused for exactly the options its first line
//! names, with reason and remedy. Nothing is started: paths in the files need not exist.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;
    use std::io;
    use std::path::{Path, PathBuf};

    use greenloom_config::{ConfigError, Origin, PathKind, RealWorld, World, load};

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus/ini");

    /// The real files, seen by an ordinary user on a machine that is the same everywhere.
    #[derive(Debug)]
    struct Somewhere;

    impl World for Somewhere {
        fn read(&self, path: &str) -> io::Result<Vec<u8>> {
            match path {
                "/proc/sys/net/core/somaxconn" => Ok(b"4096\n".to_vec()),
                "/etc/passwd" | "/etc/group" => Ok(b"www-data:x:33:33::/:/bin/false\n".to_vec()),
                _ => RealWorld.read(path),
            }
        }
        fn kind(&self, path: &str) -> Option<PathKind> {
            RealWorld.kind(path)
        }
        fn canonical(&self, path: &str) -> io::Result<PathBuf> {
            RealWorld.canonical(path)
        }
        fn list(&self, directory: &str) -> Vec<String> {
            RealWorld.list(directory)
        }
        fn inode(&self, _path: &str) -> u64 {
            1
        }
        fn variables(&self) -> Vec<(String, String)> {
            Vec::new()
        }
        fn current_directory(&self) -> String {
            "/".to_owned()
        }
        fn hostname(&self) -> String {
            "somewhere".to_owned()
        }
        fn cpus(&self) -> usize {
            4
        }
        fn ids(&self) -> (u32, u32) {
            (1000, 1000)
        }
        fn unix_micros(&self) -> u128 {
            1_700_000_000_000_000
        }
        fn program(&self) -> String {
            "greenloom".to_owned()
        }
    }

    fn files() -> Vec<PathBuf> {
        let mut files: Vec<_> =
            std::fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    /// The options a file's first line expects to be refused; none means that it starts.
    fn expected(path: &Path) -> BTreeSet<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let first = text.lines().next().unwrap();
        let expectation = first.strip_prefix("; expect: ").unwrap_or_else(|| panic!("{first}"));
        match expectation.split_once(' ') {
            Some(("refuse", names)) => names.split(' ').map(str::to_owned).collect(),
            None if expectation == "start" => BTreeSet::new(),
            _ => panic!("{}: {first}", path.display()),
        }
    }

    fn explained(error: &ConfigError) -> bool {
        match error {
            ConfigError::NotAvailable { reason, remedy, origin, .. }
            | ConfigError::BadValue { reason, remedy, origin, .. } => {
                reason.len() > 10 && remedy.len() > 10 && matches!(origin, Origin::File { .. })
            }
            ConfigError::UnknownOption { nearest, .. } => nearest.is_some(),
            _ => false,
        }
    }

    #[test]
    fn every_file_starts_or_is_refused_for_what_it_says() {
        let files = files();
        assert!(files.len() >= 24, "{}", files.len());
        for path in files {
            let args = [OsString::from(&path)];
            let refused: BTreeSet<String> = match load(&args, &Somewhere) {
                Ok(_) => BTreeSet::new(),
                Err(error) => {
                    for part in error.parts() {
                        assert!(explained(part), "{part}");
                    }
                    error.parts().iter().filter_map(ConfigError::option).map(str::to_owned).collect()
                }
            };
            assert_eq!(refused, expected(&path), "{}", path.display());
        }
    }

    #[test]
    fn both_kinds_are_there() {
        let starts = files().iter().filter(|path| expected(path).is_empty()).count();
        assert!(starts >= 10, "{starts}");
        assert!(files().len() - starts >= 10);
    }
}
