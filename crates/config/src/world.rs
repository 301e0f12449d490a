//! The little that configuration asks of the outside: files, environment, names of this machine.
//!
//! Everything goes through [`World`], so tests need no real files and no process-wide environment.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What exists at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// The outside, as configuration sees it.
pub trait World: std::fmt::Debug {
    /// Content of a file; `-` is standard input.
    ///
    /// # Errors
    /// Those of opening and reading.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// What exists at the path, following symbolic links.
    fn kind(&self, path: &str) -> Option<PathKind>;
    /// Absolute path without symbolic links.
    ///
    /// # Errors
    /// Those of realpath(3).
    fn canonical(&self, path: &str) -> io::Result<PathBuf>;
    /// Names in a directory, in any order; empty when it cannot be read.
    fn list(&self, directory: &str) -> Vec<String>;
    /// Inode number of a path; 0 when there is none.
    fn inode(&self, path: &str) -> u64;
    /// All environment variables whose name and value are UTF-8.
    fn variables(&self) -> Vec<(String, String)>;
    /// Current directory.
    fn current_directory(&self) -> String;
    /// Host name.
    fn hostname(&self) -> String;
    /// CPUs this process may use.
    fn cpus(&self) -> usize;
    /// Effective user and group id.
    fn ids(&self) -> (u32, u32);
    /// Microseconds since 1970.
    fn unix_micros(&self) -> u128;
    /// Path of the running program.
    fn program(&self) -> String;

    /// Number of a user; from `/etc/passwd` where the outside is made up.
    fn user_id(&self, name: &str) -> Option<u32> {
        number_of(&self.read("/etc/passwd").ok()?, name)
    }
    /// Number of a group; from `/etc/group` where the outside is made up.
    fn group_id(&self, name: &str) -> Option<u32> {
        number_of(&self.read("/etc/group").ok()?, name)
    }

    /// One environment variable.
    fn variable(&self, name: &str) -> Option<String> {
        self.variables().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// The machine and process we run in.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealWorld;

impl World for RealWorld {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        if path == "-" {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
        std::fs::read(path)
    }

    fn kind(&self, path: &str) -> Option<PathKind> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(if metadata.is_file() {
            PathKind::File
        } else if metadata.is_dir() {
            PathKind::Directory
        } else {
            PathKind::Other
        })
    }

    fn canonical(&self, path: &str) -> io::Result<PathBuf> {
        Path::new(path).canonicalize()
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return Vec::new();
        };
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn inode(&self, path: &str) -> u64 {
        std::fs::metadata(path).map_or(0, |metadata| metadata.ino())
    }

    fn variables(&self) -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn current_directory(&self) -> String {
        std::env::current_dir().map_or_else(|_| ".".to_owned(), |path| path.to_string_lossy().into_owned())
    }

    fn hostname(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "localhost".to_owned(), |name| name.trim_end().to_owned())
    }

    fn cpus(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    fn ids(&self) -> (u32, u32) {
        // The kernel gives /proc/self to the effective user: the safe way to ask without a syscall crate.
        std::fs::metadata("/proc/self").map_or((0, 0), |metadata| (metadata.uid(), metadata.gid()))
    }

    fn user_id(&self, name: &str) -> Option<u32> {
        nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    }

    fn unix_micros(&self) -> u128 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_micros())
    }

    fn program(&self) -> String {
        std::env::current_exe()
            .map_or_else(|_| "greenloom".to_owned(), |path| path.to_string_lossy().into_owned())
    }
}

/// Name of a user or group id, from the text of `/etc/passwd` or `/etc/group`; the number where there is none.
pub(crate) fn account_name(world: &dyn World, file: &str, id: u32) -> String {
    accounts(&world.read(file).unwrap_or_default())
        .into_iter()
        .find(|(_, number)| *number == id)
        .map_or_else(|| id.to_string(), |(name, _)| name)
}

/// Number behind a name in the text of `/etc/passwd` or `/etc/group`.
fn number_of(text: &[u8], name: &str) -> Option<u32> {
    accounts(text).into_iter().find(|(known, _)| known == name).map(|(_, number)| number)
}

fn accounts(text: &[u8]) -> Vec<(String, u32)> {
    String::from_utf8_lossy(text)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name.to_owned(), fields.nth(1)?.parse().ok()?))
        })
        .collect()
}

/// Bytes in a page of memory, from the vector of facts that the kernel gives each program; 4096 where it cannot be read.
pub(crate) fn page_bytes(world: &dyn World) -> u64 {
    /// `AT_PAGESZ` of getauxval(3).
    const PAGE_SIZE: usize = 6;
    const WORD: usize = size_of::<usize>();
    let vector = world.read("/proc/self/auxv").unwrap_or_default();
    let words: Vec<usize> =
        vector.as_chunks::<WORD>().0.iter().map(|bytes| usize::from_ne_bytes(*bytes)).collect();
    let pairs = words.as_chunks::<2>().0;
    let found = pairs.iter().find(|[kind, value]| *kind == PAGE_SIZE && value.is_power_of_two());
    found.and_then(|[_, value]| u64::try_from(*value).ok()).unwrap_or(4096)
}

/// Paths that match a shell pattern (`*`, `?`, `[a-z]`), sorted. A name that begins with a dot is only matched
/// by a pattern that does.
pub(crate) fn glob(world: &dyn World, pattern: &str) -> Vec<String> {
    let (mut found, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (vec!["/".to_owned()], rest),
        None => (vec![String::new()], pattern),
    };
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for directory in found {
            if is_pattern(part) {
                let listed = if directory.is_empty() { "." } else { &directory };
                let mut names = world.list(listed);
                names.retain(|name| {
                    name.starts_with('.') == part.starts_with('.') && matches_glob(part, name)
                });
                next.extend(names.into_iter().map(|name| join(&directory, &name)));
            } else {
                let path = join(&directory, part);
                if world.kind(&path).is_some() {
                    next.push(path);
                }
            }
        }
        found = next;
    }
    found.sort();
    found
}

/// Whether the text has characters that make it a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() || directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
    }
}

/// Iterative matcher with one point of return, so the time is bounded by pattern times name.
fn matches_glob(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, seen));
            at += 1;
        } else if let Some(length) = matches_one(&pattern[at.min(pattern.len())..], name[seen]) {
            at += length;
            seen += 1;
        } else if let Some((star_at, star_seen)) = star {
            star = Some((star_at, star_seen + 1));
            at = star_at + 1;
            seen = star_seen + 1;
        } else {
            return false;
        }
    }
    pattern[at.min(pattern.len())..].iter().all(|letter| *letter == '*')
}

/// How much of the pattern stands for this one letter; `None` when it does not match.
fn matches_one(pattern: &[char], letter: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            let Some(close) = pattern.iter().skip(2).position(|other| *other == ']').map(|at| at + 2) else {
                return (letter == '[').then_some(1);
            };
            let negated = matches!(pattern[1], '!' | '^');
            let set = &pattern[if negated { 2 } else { 1 }..close];
            let mut inside = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == '-' {
                    inside |= (set[at]..=set[at + 2]).contains(&letter);
                    at += 3;
                } else {
                    inside |= set[at] == letter;
                    at += 1;
                }
            }
            (inside != negated).then_some(close + 1)
        }
        plain => (*plain == letter).then_some(1),
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A world in memory.

    use super::{PathKind, World};
    use std::collections::BTreeMap;
    use std::io;
    use std::path::PathBuf;

    /// Files, variables and fixed facts.
    #[derive(Debug, Default)]
    pub(crate) struct FakeWorld {
        pub(crate) files: BTreeMap<String, Vec<u8>>,
        pub(crate) variables: Vec<(String, String)>,
    }

    impl FakeWorld {
        pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
            self.files.insert(path.to_owned(), text.as_bytes().to_vec());
            self
        }

        pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
            self.variables.push((name.to_owned(), value.to_owned()));
            self
        }
    }

    impl World for FakeWorld {
        fn read(&self, path: &str) -> io::Result<Vec<u8>> {
            self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn kind(&self, path: &str) -> Option<PathKind> {
            let directory = format!("{}/", path.trim_end_matches('/'));
            if self.files.contains_key(path) {
                Some(PathKind::File)
            } else if self.files.keys().any(|name| name.starts_with(&directory)) {
                Some(PathKind::Directory)
            } else {
                None
            }
        }

        fn canonical(&self, path: &str) -> io::Result<PathBuf> {
            Ok(if path.starts_with('/') { path.into() } else { format!("/srv/shop/{path}").into() })
        }

        fn list(&self, directory: &str) -> Vec<String> {
            let prefix = if directory == "." {
                String::new()
            } else {
                format!("{}/", directory.trim_end_matches('/'))
            };
            let mut names: Vec<_> = self
                .files
                .keys()
                .filter_map(|path| path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned))
                .filter(|name| !name.is_empty())
                .collect();
            names.dedup();
            names
        }

        fn inode(&self, _path: &str) -> u64 {
            77
        }

        fn variables(&self) -> Vec<(String, String)> {
            self.variables.clone()
        }

        fn current_directory(&self) -> String {
            "/srv/shop".to_owned()
        }

        fn hostname(&self) -> String {
            "loom1".to_owned()
        }

        fn cpus(&self) -> usize {
            4
        }

        fn ids(&self) -> (u32, u32) {
            (1000, 1000)
        }

        fn unix_micros(&self) -> u128 {
            1_700_000_000_123_456
        }

        fn program(&self) -> String {
            "/usr/bin/greenloom".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::FakeWorld;
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.ini", "a.ini", true),
            ("*.ini", "a.ini~", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("[", "[", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn globs_walk_directories() {
        let world = FakeWorld::default()
            .file("/etc/sites/b.ini", "")
            .file("/etc/sites/a.ini", "")
            .file("/etc/sites/.hidden.ini", "")
            .file("/etc/other/c.ini", "");
        assert_eq!(glob(&world, "/etc/sites/*.ini"), ["/etc/sites/a.ini", "/etc/sites/b.ini"]);
        assert_eq!(glob(&world, "/etc/*/c.ini"), ["/etc/other/c.ini"]);
        assert!(glob(&world, "/none/*").is_empty());
    }

    #[test]
    fn the_kernel_says_how_large_a_page_is() {
        assert_eq!(page_bytes(&FakeWorld::default()), 4096);
        assert_eq!(page_bytes(&FakeWorld::default().file("/proc/self/auxv", "short")), 4096);
        assert!(page_bytes(&RealWorld).is_power_of_two() && RealWorld.read("/proc/self/auxv").is_ok());
    }

    #[test]
    fn accounts_are_found_both_ways() {
        let world = FakeWorld::default()
            .file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/false\n");
        assert_eq!(world.user_id("web"), Some(33));
        assert_eq!(world.user_id("nobody"), None);
        assert_eq!(world.group_id("web"), None);
        assert_eq!((RealWorld.user_id("root"), RealWorld.group_id("root")), (Some(0), Some(0)));
        assert_eq!((RealWorld.user_id("no such user"), RealWorld.user_id("ro\0ot")), (None, None));
        assert_eq!(account_name(&world, "/etc/passwd", 33), "web");
        assert_eq!(account_name(&world, "/etc/passwd", 1), "1");
    }
}
