//! Files the master makes for others to find (sockets, pipes with a name): remembered by place and identity, so that only
//! that very file is ever given away or removed.

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use greenloom_sys::made_files;
use serde::{Deserialize, Serialize};

use crate::log::say;
use crate::privileges::Owner;

/// A file this process has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeFile {
    /// Absolute: the current directory may change before the file is removed.
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Whether removals are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quietly {
    Yes,
    No,
}

impl MadeFile {
    /// Remembers the file at `path`, which has just been made, and gives it to `owner`.
    pub(crate) fn note(path: &Path, owner: Owner) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        // One handle for both, since whoever may write to the directory can exchange the file at any time: root must not
        // be made to give away another one.
        let handle = made_files::handle(&path)?;
        let found = handle.metadata()?;
        if !owner.is_nobody_else() && found.nlink() == 1 && !found.is_file() {
            made_files::give_to(handle.as_fd(), owner.uid, owner.gid)?;
        }
        Ok(Self { path, device: found.dev(), inode: found.ino() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers the file at `path` that an earlier program of this process has made.
    pub(crate) fn recall(path: &Path) -> io::Result<Self> {
        Self::note(path, Owner::default())
    }

    /// Removes the file, unless another one stands in its place by now. `kind` is its name in the log.
    pub(crate) fn vacuum(&self, kind: &str, quietly: Quietly) {
        if !self.path.symlink_metadata().is_ok_and(|found| self.is(&found)) {
            return;
        }
        match std::fs::remove_file(&self.path) {
            Ok(()) if quietly == Quietly::No => say!("VACUUM: {kind} {} removed.", self.path.display()),
            Ok(()) => {}
            Err(reason) => say!("VACUUM: {kind} {} stays: {reason}", self.path.display()),
        }
    }

    fn is(&self, found: &Metadata) -> bool {
        !found.is_file() && found.dev() == self.device && found.ino() == self.inode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_name_is_left_alone() {
        let path = std::env::temp_dir().join(format!("greenloom-made-{}", std::process::id()));
        made_files::make_fifo(&path, 0o600).unwrap();
        let made = MadeFile::note(&path, Owner::default()).unwrap();
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        made_files::make_fifo(&path, 0o600).unwrap();
        made.vacuum("fifo", Quietly::Yes);
        assert!(path.exists());
        std::fs::rename(&aside, &path).unwrap();
        made.vacuum("fifo", Quietly::Yes);
        assert!(!path.exists());
    }
}
