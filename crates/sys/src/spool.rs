//! Spool files: unlinked files for bytes that are too many for memory.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

/// A file without a name in `directory`: it vanishes with its last descriptor.
///
/// `O_TMPFILE` where the file system has it, else a created and at once unlinked file.
pub fn create(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, directory, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => return Ok(File::from(fd)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::NOENT)
            if directory.is_dir() => {}
        Err(error) => return Err(error.into()),
    }
    for attempt in 0..100u32 {
        let name = format!("greenloom-{}-{}-{attempt}", std::process::id(), crate::clock::monotonic_ns());
        let path = directory.join(name);
        match rustix::fs::openat(
            CWD,
            &path,
            flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        ) {
            Ok(fd) => {
                std::fs::remove_file(&path)?;
                return Ok(File::from(fd));
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a spool file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn a_spool_file_has_no_name_and_keeps_bytes() {
        let file = create(&std::env::temp_dir()).unwrap();
        file.write_all_at(b"spooled", 0).unwrap();
        let mut bytes = [0; 7];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes, file.metadata().unwrap().nlink()), (b"spooled", 0));
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert!(create(Path::new("/nonexistent/spool")).is_err());
    }
}
