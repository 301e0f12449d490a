//! The pid file: there whole or not at all, written when the listeners are bound, removed at the end.
//!
//! It stays with whoever started the server, also when that was root and the server runs as somebody else: programs send
//! posix signals to what it says.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use greenloom_sys::process::Pid;

use crate::error::MasterError;
use crate::log::say;
use crate::made_file::Quietly;

/// A pid file this process wrote.
#[derive(Debug)]
pub(crate) struct Pidfile {
    /// Absolute: the current directory may change before the file is removed.
    path: PathBuf,
}

impl Pidfile {
    /// Writes this process's id and a newline; whatever the file held before is gone (a crash leaves one behind). Readers
    /// find the old content or the new one, never a part.
    pub(crate) fn write(path: &Path) -> Result<Self, MasterError> {
        let fail = |reason| MasterError::Pidfile { path: path.to_owned(), reason };
        let pidfile = Self { path: std::path::absolute(path).map_err(fail)? };
        pidfile.rewrite().map_err(fail)?;
        Ok(pidfile)
    }

    /// Writes it again, for those who have lost it.
    pub(crate) fn rewrite(&self) -> io::Result<()> {
        // After an upgrade the process has the same id, and perhaps not the right to write here any more.
        if self.is_ours() {
            return Ok(());
        }
        let text = format!("{}\n", Pid::current());
        self.replace(&text).or_else(|_| {
            // A directory of root's with a file prepared for us: it can be written to, not exchanged. Also what is no
            // file at all, /dev/stdout for one.
            fs::write(&self.path, &text)
        })
    }

    /// Removes the file, unless another process has written its own id there in the meantime.
    pub(crate) fn vacuum(&self, quietly: Quietly) {
        if !self.is_ours() {
            return;
        }
        match fs::remove_file(&self.path) {
            Ok(()) if quietly == Quietly::No => say!("VACUUM: pidfile removed."),
            Ok(()) => {}
            Err(reason) => say!("VACUUM: pidfile {} stays: {reason}", self.path.display()),
        }
    }

    /// Exchanges the file for a new one in one step.
    fn replace(&self, text: &str) -> io::Result<()> {
        if self.path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", Pid::current()));
        let aside = self.path.with_file_name(name);
        // What a killed process of this number has left.
        let _ = fs::remove_file(&aside);
        let written = fs::File::create_new(&aside)
            .and_then(|mut file| {
                // Whatever the umask: the number is no secret, and the server may be somebody else at its end.
                file.set_permissions(fs::Permissions::from_mode(0o644))?;
                file.write_all(text.as_bytes())
            })
            .and_then(|()| fs::rename(&aside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    fn is_ours(&self) -> bool {
        let is_file = self.path.metadata().is_ok_and(|found| found.is_file());
        is_file
            && fs::read_to_string(&self.path)
                .is_ok_and(|text| text.trim().parse() == Ok(Pid::current().get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("greenloom-pidfile-{name}-{}", std::process::id()))
    }

    fn own() -> String {
        format!("{}\n", std::process::id())
    }

    #[test]
    fn stale_content_is_replaced_and_another_pid_is_left_alone() {
        let path = place("stale");
        fs::write(&path, "99999999\nmore than a pid\n").unwrap();
        let before = fs::File::open(&path).unwrap();
        let pidfile = Pidfile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own());
        assert_eq!(io::read_to_string(before).unwrap(), "99999999\nmore than a pid\n", "never half of it");
        fs::write(&path, "1\n").unwrap();
        pidfile.vacuum(Quietly::Yes);
        assert!(path.exists());
        pidfile.rewrite().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own());
        fs::remove_file(&path).unwrap();
        pidfile.rewrite().unwrap();
        pidfile.vacuum(Quietly::Yes);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_file_is_written_to() {
        let (target, link) = (place("target"), place("link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let pidfile = Pidfile::write(&link).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), own());
        assert!(link.symlink_metadata().unwrap().is_symlink());
        pidfile.vacuum(Quietly::Yes);
        fs::remove_file(&target).unwrap();
        Pidfile::write(Path::new("/dev/null")).unwrap().vacuum(Quietly::Yes);
        assert!(Path::new("/dev/null").exists());
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = Pidfile::write(Path::new("/nonexistent/x.pid")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.pid"), "{error}");
    }
}
