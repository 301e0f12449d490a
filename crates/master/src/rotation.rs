//! Log files that are too long (`--log-maxsize`): when one is, and what it is called from then on.
//!
//! The file is renamed, which the processes that have it open do not notice: what they write until they have opened the new
//! one is in the renamed file, and no line is lost. That they open it is the master's order (`upkeep.rs`).

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use greenloom_config::LogSettings;
use greenloom_sys::clock;

use crate::log::{LogFile, say};

/// How often the length is looked at.
const INTERVAL_MS: u64 = 1000;
/// ... and how long after a renaming that failed: the reason is somebody's to remove, and each attempt is a line.
const FAILED_INTERVAL_MS: u64 = 60_000;

/// The master's clock for this.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    at_ms: u64,
}

impl Rotation {
    /// Renames the log file if it is too long; `true`: it has to be opened anew now. To be called in every round of the
    /// master's loop.
    pub(crate) fn is_due(&mut self, settings: &LogSettings, file: Option<&LogFile>, now_ms: u64) -> bool {
        if settings.max_size == 0 || self.at_ms > now_ms {
            return false;
        }
        self.at_ms = now_ms + INTERVAL_MS;
        let Some(file) = file else { return false };
        match rotate(settings, file.path(), open_file()) {
            Ok(renamed) => renamed,
            Err(error) => {
                let path = file.path().display();
                say!(
                    "cannot rename the log file {path}: {error}; it grows on. Make its directory writable for the \
                     server, or rotate it with other means than --log-maxsize"
                );
                self.at_ms = now_ms + FAILED_INTERVAL_MS;
                false
            }
        }
    }

    /// When the length is looked at next.
    pub(crate) fn deadline_ms(&self, settings: &LogSettings) -> Option<u64> {
        (settings.max_size > 0).then_some(self.at_ms)
    }
}

/// The file behind standard error.
fn open_file() -> io::Result<Metadata> {
    File::from(io::stderr().as_fd().try_clone_to_owned()?).metadata()
}

/// Renames the file at `path` if it is the one that is open, and too long; whether it did.
fn rotate(settings: &LogSettings, path: &Path, open: io::Result<Metadata>) -> io::Result<bool> {
    let Ok(open) = open else { return Ok(false) };
    if !open.is_file() || open.len() <= settings.max_size {
        return Ok(false);
    }
    let same = |there: &Metadata| (there.dev(), there.ino()) == (open.dev(), open.ino());
    if !fs::metadata(path).is_ok_and(|there| same(&there)) {
        // Somebody else has renamed or removed it, and will say when it is to be opened anew.
        return Ok(false);
    }
    let backup = backup_path(path, settings.backup_name.as_deref(), clock::unix_seconds(), Path::exists);
    // While this line still goes to the file it is about.
    say!("logsize: {}, triggering rotation to {}...", open.len(), backup.display());
    fs::rename(path, backup)?;
    Ok(true)
}

/// What the file is called from now on. A name of the user's own is used again each time; others are never in use yet.
fn backup_path(
    path: &Path,
    own: Option<&Path>,
    unix_seconds: u64,
    exists: impl Fn(&Path) -> bool,
) -> PathBuf {
    if let Some(own) = own {
        return own.to_owned();
    }
    let with = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let first = with(format!(".{unix_seconds}"));
    if !exists(&first) {
        return first;
    }
    (1..1000_u32)
        .map(|n| with(format!(".{unix_seconds}.{n}")))
        .find(|candidate| !exists(candidate))
        .unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn names_of_renamed_files() {
        let path = Path::new("/var/log/app.log");
        let taken = |names: &'static [&'static str]| {
            backup_path(path, None, 1_795_290_309, |path: &Path| {
                names.iter().any(|name| path == Path::new(name))
            })
        };
        assert_eq!(taken(&[]), Path::new("/var/log/app.log.1795290309"));
        assert_eq!(taken(&["/var/log/app.log.1795290309"]), Path::new("/var/log/app.log.1795290309.1"));
        let two = &["/var/log/app.log.1795290309", "/var/log/app.log.1795290309.1"];
        assert_eq!(taken(two), Path::new("/var/log/app.log.1795290309.2"));
        let own = Path::new("/var/log/old.log");
        assert_eq!(backup_path(path, Some(own), 1, |_: &Path| true), own);
    }

    #[test]
    fn a_file_is_renamed_when_it_is_too_long_and_the_one_that_is_open() {
        let scratch = Scratch::new("rotation");
        let path = scratch.path().join("app.log");
        let open = |path: &Path| fs::metadata(path);
        let settings = |max_size| LogSettings {
            max_size,
            backup_name: Some(scratch.path().join("old.log")),
            ..LogSettings::default()
        };
        fs::write(&path, "12345").expect("written");
        assert!(!rotate(&settings(5), &path, open(&path)).expect("no error"));
        // Another file has taken its place.
        let other = scratch.path().join("other.log");
        fs::write(&other, "1234567").expect("written");
        assert!(!rotate(&settings(5), &path, open(&other)).expect("no error"));
        assert!(rotate(&settings(4), &path, open(&path)).expect("no error"));
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(scratch.path().join("old.log")).expect("renamed"), "12345");
        // It is gone: whoever took it away says when it is to be opened anew.
        assert!(!rotate(&settings(4), &path, open(&other)).expect("no error"));
        assert!(
            !rotate(&settings(4), Path::new("/dev/null"), open(Path::new("/dev/null"))).expect("no error")
        );
    }

    #[test]
    fn the_length_is_looked_at_once_a_second() {
        let settings = LogSettings { max_size: 1, ..LogSettings::default() };
        let mut rotation = Rotation::default();
        assert_eq!(rotation.deadline_ms(&settings), Some(0));
        assert!(!rotation.is_due(&settings, None, 5000));
        assert_eq!(rotation.deadline_ms(&settings), Some(6000));
        assert_eq!(rotation.deadline_ms(&LogSettings::default()), None);
    }
}
