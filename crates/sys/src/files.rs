//! Files that are served: opened beneath a directory, read and sent without waiting for a disk where the kernel can say
//! that it would. Whoever may wait calls the same functions with [`Patience::Wait`].

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::signals::sparing_broken_pipes;

/// Whether a call may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// What the kernel does not have in memory is [`io::ErrorKind::WouldBlock`].
    None,
    /// It may take its time: not for the thread of a loop.
    Wait,
}

/// What there is to know of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Bytes in it.
    pub len: u64,
    /// When it was changed last: seconds since the epoch; 0 for earlier ones.
    pub modified_s: u64,
    /// ... and nanoseconds of that second.
    pub modified_ns: u32,
    /// Whether anybody may execute it.
    pub is_executable: bool,
}

/// Kinds of files, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A pipe, a socket, a device.
    Other,
}

/// Opens a directory as the root of [`open_beneath`]; it need not be readable.
pub fn open_root(path: &Path, patience: Patience) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if patience == Patience::None {
        match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {}
            other => return Ok(other?),
        }
    }
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

/// Opens `path` for reading, or a directory, strictly beneath `root`: neither `..` nor a link leads out of it. Never waits
/// for the other end of a pipe.
///
/// # Errors
/// [`io::ErrorKind::CrossesDevices`] (`EXDEV`) when the path leads out of `root`; `WouldBlock` without patience.
pub fn open_beneath(root: BorrowedFd<'_>, path: &[u8], patience: Patience) -> io::Result<File> {
    let path = Path::new(OsStr::from_bytes(path));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = match patience {
        Patience::None => beneath | ResolveFlags::CACHED,
        Patience::Wait => beneath,
    };
    // A rename somewhere else can make the kernel unsure whether `..` leads out.
    let mut attempts = 0;
    loop {
        attempts += 1;
        return match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(fd) => Ok(File::from(fd)),
            Err(Errno::AGAIN) if patience == Patience::Wait && attempts < 16 => continue,
            Err(Errno::INTR) => continue,
            // Before Linux 5.6, or forbidden by a sandbox: then as safely, but not without waiting.
            Err(Errno::NOSYS | Errno::PERM) if patience == Patience::None => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            // Before 5.12 the kernel cannot say what it has in memory.
            Err(Errno::INVAL) if patience == Patience::None => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::NOSYS | Errno::PERM) => open_and_verify(root, path, flags),
            Err(error) => Err(error.into()),
        };
    }
}

/// [`open_beneath`] without `openat2`: opens first, and asks then where that has led to.
fn open_and_verify(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<File> {
    if path.is_absolute() {
        return Err(io::ErrorKind::CrossesDevices.into());
    }
    let file = File::from(rustix::fs::openat(root, path, flags, Mode::empty())?);
    let (root, found) = (real_path(root)?, real_path(file.as_fd())?);
    if found.starts_with(&root) { Ok(file) } else { Err(io::ErrorKind::CrossesDevices.into()) }
}

/// Opens a file for reading without waiting for the other end of a pipe.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
}

/// The path of an open file, as the kernel has it.
pub fn real_path(fd: impl AsFd) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// What an open file is.
pub fn facts(file: impl AsFd) -> io::Result<Facts> {
    Ok(facts_of(&rustix::fs::fstat(file)?))
}

/// What a path means beneath an open directory, without opening it; a link at its end is followed.
pub fn facts_at(directory: BorrowedFd<'_>, path: &Path) -> io::Result<Facts> {
    Ok(facts_of(&rustix::fs::statat(directory, path, AtFlags::empty())?))
}

fn facts_of(stat: &rustix::fs::Stat) -> Facts {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    Facts {
        kind,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified_s: u64::try_from(stat.st_mtime).unwrap_or(0),
        modified_ns: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        is_executable: stat.st_mode & 0o111 != 0,
    }
}

/// Reads what the kernel has in memory of a file at `offset`; may be fewer bytes than there is room for. `Ok(0)`: the end.
///
/// # Errors
/// `WouldBlock` when it would have to be read from a disk, or the file system cannot say.
pub fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        let mut slices = [IoSliceMut::new(buffer)];
        return match rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(n),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error.into()),
        };
    }
}

/// What became of [`send_file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes have left, at least one.
    Bytes(usize),
    /// The socket is full.
    Full,
    /// The file ends before `offset`.
    End,
    /// This file or this socket cannot do it: read and send.
    Unable,
}

/// Sends from a file to a socket without copying, at most `count` bytes from `offset`.
///
/// A peer that has gone is an error, and never a `SIGPIPE`.
pub fn send_file(socket: BorrowedFd<'_>, file: &File, offset: u64, count: usize) -> io::Result<Sent> {
    let mut offset = offset;
    loop {
        let sent = sparing_broken_pipes(|| Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), count)?));
        return match sent.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(0) => Ok(Sent::End),
            Ok(n) => Ok(Sent::Bytes(n)),
            Err((Some(Errno::AGAIN), _)) => Ok(Sent::Full),
            Err((Some(Errno::INTR), _)) => continue,
            Err((Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP), _)) => Ok(Sent::Unable),
            Err((_, error)) => Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("greenloom-files-{}-{name}", std::process::id()));
            std::fs::create_dir_all(path.join("root/sub")).unwrap();
            std::fs::write(path.join("root/a"), b"inside").unwrap();
            std::fs::write(path.join("root/sub/b"), b"below").unwrap();
            std::fs::write(path.join("secret"), b"outside").unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text(opened: io::Result<File>) -> Result<String, Option<i32>> {
        let mut text = String::new();
        let read = opened.and_then(|mut file| file.read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.raw_os_error())
    }

    type Open<'a> = &'a dyn Fn(&str) -> io::Result<File>;

    #[test]
    fn nothing_leads_out_of_the_root() {
        let directory = Directory::new("beneath");
        let link = |target: &str, name: &str| symlink(target, directory.0.join("root").join(name)).unwrap();
        link("sub/b", "within");
        link("../secret", "out");
        link("/etc/passwd", "absolute");
        link("..", "up");
        let root = open_root(&directory.0.join("root"), Patience::Wait).unwrap();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let ways: [Open<'_>; 2] =
            [&|path| open_beneath(root.as_fd(), path.as_bytes(), Patience::Wait), &|path| {
                open_and_verify(root.as_fd(), Path::new(path), flags)
            }];
        for open in ways {
            assert_eq!(text(open("a")).as_deref(), Ok("inside"));
            assert_eq!(text(open("sub/../a")).as_deref(), Ok("inside"));
            assert_eq!(text(open("within")).as_deref(), Ok("below"));
            for path in ["../secret", "out", "absolute", "up/secret", "/etc/passwd", "sub/../../secret"] {
                assert!(open(path).is_err(), "{path}");
            }
            assert_eq!(open("nothing").unwrap_err().kind(), io::ErrorKind::NotFound);
            assert_eq!(open("a/b").unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        }
    }

    #[test]
    fn what_is_in_memory_is_there_without_waiting() {
        let directory = Directory::new("cached");
        let root = open_root(&directory.0.join("root"), Patience::Wait).unwrap();
        // Just written: names and bytes are in memory, where the kernel can say so.
        match open_beneath(root.as_fd(), b"a", Patience::None) {
            Ok(file) => {
                let facts = facts(&file).unwrap();
                assert_eq!((facts.kind, facts.len, facts.is_executable), (Kind::File, 6, false));
                let mut bytes = [0; 16];
                match read_cached(&file, &mut bytes, 2) {
                    Ok(n) => assert_eq!(&bytes[..n], b"side"),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        let sub = facts_at(root.as_fd(), Path::new("sub")).unwrap();
        assert_eq!(sub.kind, Kind::Directory);
    }

    #[test]
    fn a_file_goes_to_a_socket() {
        let directory = Directory::new("send");
        let root = open_root(&directory.0.join("root"), Patience::Wait).unwrap();
        let file = open_beneath(root.as_fd(), b"a", Patience::Wait).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        assert_eq!(send_file(ours.as_fd(), &file, 2, 3).unwrap(), Sent::Bytes(3));
        assert_eq!(send_file(ours.as_fd(), &file, 6, 3).unwrap(), Sent::End);
        let mut got = [0; 3];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"sid");
        (&ours).write_all(b"x").unwrap();
    }
}
