//! Watches for changes of files and directories (`inotify(7)`).
//!
//! Owns the system calls and the taking apart of their events. What a change means, and to whom, is decided by users.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Room for some dozens of events with names of ordinary length, and for one with the longest name.
const BUFFER_BYTES: usize = 8192;

/// One watched file or directory. The kernel gives the same number for two paths to the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i32);

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The watched file, or the directory and its entry of this name: contents, attributes, created, deleted, moved.
    At(WatchId, Option<OsString>),
    /// The watch is gone, with its file or by order.
    Unwatched(WatchId),
    /// More has happened than the kernel could note: anything may have changed.
    Overflow,
}

/// A set of watches; readable while changes are noted.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

impl Inotify {
    /// An empty set that never blocks. Fails when the user has too many already.
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    /// Watches the file or directory behind `path`. One that is watched already keeps its number.
    pub fn watch(&self, path: &Path) -> io::Result<WatchId> {
        let changes = WatchFlags::ATTRIB
            | WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF;
        Ok(WatchId(inotify::add_watch(&self.fd, path, changes)?))
    }

    /// Ends a watch. One that has ended by itself is no error.
    pub fn unwatch(&self, id: WatchId) {
        let _ = inotify::remove_watch(&self.fd, id.0);
    }

    /// What has happened since the last call.
    pub fn changes(&self) -> Vec<Change> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut changes = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    changes.push(Change::Overflow);
                }
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    changes.push(Change::Unwatched(WatchId(event.wd())));
                }
                Ok(event) => {
                    let name = event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec()));
                    changes.push(Change::At(WatchId(event.wd()), name));
                }
                Err(Errno::INTR) => {}
                Err(_) => return changes,
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_names_the_entry_that_changed() {
        let directory = std::env::temp_dir().join(format!("greenloom-inotify-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let inotify = Inotify::new().unwrap();
        let id = inotify.watch(&directory).unwrap();
        assert_eq!(inotify.changes(), []);
        std::fs::write(directory.join("a"), "1").unwrap();
        let changes = inotify.changes();
        assert!(changes.contains(&Change::At(id, Some("a".into()))), "{changes:?}");
        std::fs::remove_file(directory.join("a")).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        let changes = inotify.changes();
        assert_eq!(changes.last(), Some(&Change::Unwatched(id)), "{changes:?}");
        inotify.unwatch(id);
    }
}
