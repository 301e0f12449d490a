//! Files whose change asks for something: looked at once a second (`--touch-reload`, `--touch-logreopen`).
//!
//! Looking works wherever the file lies: behind a symbolic link that is swapped, on a network's file system, in a
//! directory that does not exist yet. What follows from a touch is decided by the caller.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Between two looks.
pub(crate) const LOOK_INTERVAL_MS: u64 = 1000;

/// What tells one state of a file from the next: also a file of the same age that took the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

impl Fingerprint {
    /// The state of what is at `path` now, symbolic links followed; `None`: nothing.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: metadata.len(),
        })
    }
}

/// A list of files and how they looked last.
#[derive(Clone, Debug)]
pub(crate) struct TouchWatch {
    files: Vec<(PathBuf, Option<Fingerprint>)>,
    look_at_ms: u64,
}

impl TouchWatch {
    /// How `paths` look now is how they are.
    pub(crate) fn new(paths: &[PathBuf], now_ms: u64) -> Self {
        let files = paths.iter().map(|path| (path.clone(), Fingerprint::of(path))).collect();
        Self { files, look_at_ms: now_ms.saturating_add(LOOK_INTERVAL_MS) }
    }

    /// Watches `paths` from now on; those that it watched before go on as they were.
    pub(crate) fn watch(&mut self, paths: &[PathBuf]) {
        if self.files.iter().map(|(path, _)| path).eq(paths) {
            return;
        }
        let known = |path: &PathBuf| self.files.iter().find(|(known, _)| known == path).cloned();
        self.files = paths
            .iter()
            .map(|path| known(path).unwrap_or_else(|| (path.clone(), Fingerprint::of(path))))
            .collect();
    }

    /// Which files were touched since the last look: written, replaced or created. One that has gone away counts
    /// when it is back. Looks only when it is time to.
    pub(crate) fn touched(&mut self, now_ms: u64) -> Vec<PathBuf> {
        let mut touched = Vec::new();
        if now_ms < self.look_at_ms {
            return touched;
        }
        self.look_at_ms = now_ms.saturating_add(LOOK_INTERVAL_MS);
        for (path, last) in &mut self.files {
            let now = Fingerprint::of(path);
            if now.is_some() && now != *last {
                touched.push(path.clone());
            }
            *last = now;
        }
        touched
    }

    /// When the next look is due.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        (!self.files.is_empty()).then_some(self.look_at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn written_replaced_and_created_files_are_touched_files() {
        let directory = std::env::temp_dir().join(format!("greenloom-touch-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let (here, later) = (directory.join("here"), directory.join("later"));
        std::fs::write(&here, "1").unwrap();
        let mut watch = TouchWatch::new(&[here.clone(), later.clone()], 0);
        assert_eq!(watch.deadline_ms(), Some(1000));
        assert_eq!(watch.touched(1000), Vec::<PathBuf>::new());

        let touch = |path: &Path, seconds| {
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
        };
        touch(&here, 5);
        assert_eq!(watch.touched(1999), Vec::<PathBuf>::new());
        assert_eq!(watch.touched(2000), vec![here.clone()]);
        assert_eq!(watch.touched(3000), Vec::<PathBuf>::new());

        std::fs::write(&later, "").unwrap();
        assert_eq!(watch.touched(4000), vec![later.clone()]);
        // Another file of the same size and age.
        let age = std::fs::metadata(&here).unwrap().modified().unwrap();
        let other = directory.join("other");
        std::fs::write(&other, "2").unwrap();
        std::fs::File::options().append(true).open(&other).unwrap().set_modified(age).unwrap();
        std::fs::rename(&other, &here).unwrap();
        assert_eq!(watch.touched(5000), vec![here.clone()]);

        std::fs::remove_file(&here).unwrap();
        assert_eq!(watch.touched(6000), Vec::<PathBuf>::new());
        std::fs::write(&here, "3").unwrap();
        assert_eq!(watch.touched(7000), vec![here.clone()]);
        assert_eq!(watch.deadline_ms(), Some(8000));

        // Another list keeps what it knows: this touch is not lost.
        touch(&here, 50);
        watch.watch(&[later.clone(), here.clone()]);
        assert_eq!(watch.touched(9000), vec![here.clone()]);
        watch.watch(&[later]);
        touch(&here, 60);
        assert_eq!(watch.touched(10_000), Vec::<PathBuf>::new());
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(TouchWatch::new(&[], 0).deadline_ms(), None);
    }
}
