//! Special files a process makes for others to find: pipes with a name, and whom a file belongs to.
//!
//! Owns the system calls only; where such files lie and when they go is decided by the master.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid};

/// Makes a pipe with a name (`mkfifo(3)`). An existing file of that name is an error.
pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkfifoat(CWD, path, Mode::from_raw_mode(mode))?)
}

/// Opens a pipe with a name for reading, never blocking. It is open for writing as well, so that it has no end when the
/// last of its writers leaves.
pub fn open_fifo(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)
}

/// A handle on the file at `path` itself, a symbolic link included, without opening what it stands for: what is asked
/// and changed through it cannot be exchanged in between.
pub fn handle(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)
}

/// Gives the open file, or the one a [`handle`] stands for, to another user and group; `None` leaves the one it has.
pub fn give_to(file: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    Ok(rustix::fs::chownat(file, "", uid, gid, AtFlags::EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_fifo_has_no_end_when_its_writer_leaves() {
        let path = std::env::temp_dir().join(format!("greenloom-fifo-{}", std::process::id()));
        make_fifo(&path, 0o600).unwrap();
        assert_eq!(make_fifo(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut fifo = open_fifo(&path).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(fifo.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        File::options().write(true).open(&path).unwrap().write_all(b"rq").unwrap();
        assert_eq!(fifo.read(&mut bytes).unwrap(), 2);
        assert_eq!(fifo.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_handle_is_of_the_name_and_not_of_what_it_points_to() {
        let folder = std::env::temp_dir().join(format!("greenloom-handle-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (file, link) = (folder.join("file"), folder.join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(handle(&link).unwrap().metadata().unwrap().file_type().is_symlink());
        let found = handle(&file).unwrap();
        assert_eq!(found.metadata().unwrap().ino(), file.metadata().unwrap().ino());
        assert!(!found.metadata().unwrap().file_type().is_fifo());
        give_to(found.as_fd(), None, None).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
