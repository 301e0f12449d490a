//! The pid file: written when the listeners are bound, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

use greenloom_sys::process::Pid;

use crate::error::MasterError;
use crate::log::say;

/// A pid file this process wrote.
#[derive(Debug)]
pub(crate) struct Pidfile {
    path: PathBuf,
}

impl Pidfile {
    /// Writes this process's id and a newline; whatever the file held before is gone (a crash leaves one behind).
    pub(crate) fn write(path: &Path) -> Result<Self, MasterError> {
        fs::write(path, format!("{}\n", Pid::current()))
            .map_err(|reason| MasterError::Pidfile { path: path.to_owned(), reason })?;
        Ok(Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) })
    }

    /// Removes the file, unless another process has written its own id there in the meantime.
    pub(crate) fn vacuum(&self) {
        let ours =
            fs::read_to_string(&self.path).is_ok_and(|text| text.trim().parse() == Ok(Pid::current().get()));
        if ours && fs::remove_file(&self.path).is_ok() {
            say!("VACUUM: pidfile removed.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_content_is_replaced_and_another_pid_is_left_alone() {
        let path = std::env::temp_dir().join(format!("greenloom-pidfile-{}", std::process::id()));
        fs::write(&path, "99999999\nmore than a pid\n").unwrap();
        let pidfile = Pidfile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        fs::write(&path, "1\n").unwrap();
        pidfile.vacuum();
        assert!(path.exists());
        Pidfile::write(&path).unwrap().vacuum();
        assert!(!path.exists());
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = Pidfile::write(Path::new("/nonexistent/x.pid")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.pid"), "{error}");
    }
}
