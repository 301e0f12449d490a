//! The server's log: its lines, each one a single write to standard error, so that lines of several processes never mix;
//! and the file they go to.
//!
//! Every process of the tree has the file open as its standard output and error, to append. To open it anew each of them
//! opens the path and puts the new file in the place of the old one, which the kernel does at once: a line goes to the one
//! or to the other, whole. When a file is too long is `rotation.rs`, whose it is `privileges.rs`; request lines are the
//! worker's.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use greenloom_config::Settings;
use greenloom_sys::clock::{self, LocalTime};
use greenloom_sys::process;

use crate::error::MasterError;

/// Mode bits of a new log file.
const MODE: u32 = 0o640;

/// What this process knows of the log, from [`configure`] on.
#[derive(Debug)]
struct Known {
    file: Option<LogFile>,
    /// See [`greenloom_config::LogSettings::date`].
    date: Option<String>,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// Says how the lines of this process look, and which file they go to. To be called once the settings are known, and
/// before the process changes its directory: paths are taken from here.
pub fn configure(settings: &Settings) {
    let known = Known { file: LogFile::of(settings), date: settings.log.date.clone() };
    // A second configuration in one process is none: what it has said so far stays true.
    let _ = KNOWN.set(known);
}

/// Writes one line, the date in front if that is asked for. A log that cannot be written to (a closed pipe, a full disk)
/// is no reason to stop serving.
pub fn line(text: fmt::Arguments<'_>) {
    write(format!("{text}\n").as_bytes());
}

/// Writes lines whose first one has the date in front if that is asked for; the last one's end is the caller's.
pub fn write(text: &[u8]) {
    let format = KNOWN.get().and_then(|known| known.date.as_deref());
    let whole = format.map(|format| [&date(format, clock::unix_seconds()), text].concat());
    let _ = io::stderr().write_all(whole.as_deref().unwrap_or(text));
}

/// What stands in front of a line. An empty format is ctime's.
fn date(format: &str, unix_seconds: u64) -> Vec<u8> {
    let moment = LocalTime::at(unix_seconds);
    let mut text = if format.is_empty() { moment.ctime().into_bytes() } else { moment.strftime(format) };
    text.extend_from_slice(b" - ");
    text
}

/// Opens the log file anew, if there is one: for every process but the master. A failure keeps the file that is open, and
/// says so. Whether there is a new one.
pub(crate) fn reopen() -> bool {
    let Some(file) = KNOWN.get().and_then(|known| known.file.as_ref()) else { return false };
    let opened = file.take_output(Begin::Append);
    if let Err(error) = &opened {
        say!("{error}; lines of process {} still go to the file that was open", process::Pid::current());
    }
    opened.is_ok()
}

/// Where the log begins in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Behind what is there.
    Append,
    /// Empty (`--log-truncate`).
    Truncate,
}

/// The file that lines go to (`--logto`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Absolute.
    path: PathBuf,
    /// Mode bits that it is to have, new or not.
    mode: Option<u32>,
}

impl LogFile {
    /// The file of these settings; `None`: lines go wherever standard error goes.
    pub fn of(settings: &Settings) -> Option<Self> {
        let path = settings.log.logto.as_ref()?;
        Some(Self {
            // Fails only for an empty path, or when there is no current directory: opening it will say so.
            path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
            mode: settings.log.file_mode,
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends standard output and standard error of this process, and of those it starts from now on, to the file.
    ///
    /// # Errors
    /// It cannot be opened; then everything goes where it went before.
    pub fn take_output(&self, begin: Begin) -> Result<(), MasterError> {
        let fail = |reason| MasterError::LogFile { path: self.path.clone(), reason };
        let file = self.open(begin).map_err(fail)?;
        process::redirect_output(file.as_fd()).map_err(fail)
    }

    fn open(&self, begin: Begin) -> io::Result<File> {
        let file =
            OpenOptions::new().append(true).create(true).mode(self.mode.unwrap_or(MODE)).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(file);
        }
        if begin == Begin::Truncate {
            file.set_len(0)?;
        }
        // Workers open it, too, when it already has its mode, and may not change it.
        if let Some(mode) = self.mode
            && metadata.mode() & 0o777 != mode
        {
            file.set_permissions(PermissionsExt::from_mode(mode))?;
        }
        Ok(file)
    }
}

/// [`line`] with `format!`'s arguments.
macro_rules! say {
    ($($argument:tt)*) => { $crate::log::line(format_args!($($argument)*)) };
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn of(path: &Path, change: impl FnOnce(&mut Settings)) -> LogFile {
        let mut settings = Settings::default();
        settings.log.logto = Some(path.to_owned());
        change(&mut settings);
        LogFile::of(&settings).expect("a file")
    }

    #[test]
    fn dates_in_front_of_lines() {
        let text = |format| String::from_utf8(date(format, 1_795_290_458)).expect("ASCII");
        assert_eq!(text("%s"), "1795290458 - ");
        assert_eq!(text(""), format!("{} - ", clock::ctime(1_795_290_458)));
    }

    #[test]
    fn the_file_is_appended_to_or_emptied() {
        let scratch = Scratch::new("log-file");
        let path = scratch.path().join("server.log");
        let log = of(&path, |_| {});
        log.open(Begin::Append).expect("a new file").write_all(b"one\n").expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777 & !MODE, 0);
        log.open(Begin::Append).expect("the same").write_all(b"two\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "one\ntwo\n");
        log.open(Begin::Truncate).expect("the same").write_all(b"three\n").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "three\n");
        let log = of(&path, |settings| settings.log.file_mode = Some(0o604));
        log.open(Begin::Append).expect("the same");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o604);
    }

    #[test]
    fn paths_are_absolute_and_what_is_no_file_is_left_alone() {
        assert!(of(Path::new("x.log"), |_| {}).path().is_absolute());
        let log = of(Path::new("/dev/null"), |settings| settings.log.file_mode = Some(0o600));
        log.open(Begin::Truncate).expect("a device");
        assert_eq!(LogFile::of(&Settings::default()), None);
        let error =
            of(Path::new("/nonexistent/x.log"), |_| {}).open(Begin::Append).expect_err("no directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
