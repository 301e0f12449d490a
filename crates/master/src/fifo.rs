//! `--master-fifo`: pipes with a name in the file system that take commands of one byte, as uWSGI's do.
//!
//! Owns the files, which of them is active, and which command each byte is. What the commands do is the master's business.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use greenloom_sys::made_files;

use crate::commands::{Asker, Change, Command};
use crate::error::MasterError;
use crate::log::say;
use crate::made_file::{MadeFile, Quietly};
use crate::master::Master;
use crate::privileges::Owner;

/// Only the owner may command the server.
const MODE: u32 = 0o600;

/// A byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Command(Command),
    /// The pipe of this number is the active one from now on.
    Slot(usize),
    /// A command of uWSGI's that has no meaning here; why.
    Refused(&'static str),
    /// Newlines of `echo`, and anything else.
    Nothing,
}

/// Whose a pipe is that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Predecessors {
    /// An earlier program of this process has made it.
    Ours,
    /// Somebody else's, most likely of a server that was killed.
    Others,
}

/// The pipes. Whoever opens one that is not active for writing waits until it is.
#[derive(Debug)]
pub(crate) struct Fifos {
    /// In the order of the options: their numbers.
    files: Vec<MadeFile>,
    active: File,
    owner: Owner,
}

impl Fifos {
    /// Makes a pipe at each path, with mode 0600, and opens the first; `None` without paths. A pipe that is there already
    /// is replaced, unless an earlier program of this very process has made it.
    ///
    /// The master calls this before it gives up its privileges. The loop waits for [`Fifos::as_fd`] to be readable and
    /// then performs what [`Fifos::take`] returns; at the end of the process comes [`Fifos::vacuum`].
    pub(crate) fn create(
        paths: &[PathBuf],
        owner: Owner,
        predecessors: Predecessors,
    ) -> Result<Option<Self>, MasterError> {
        let Some(first) = paths.first() else { return Ok(None) };
        let mut files = Vec::new();
        let made: Result<File, (&PathBuf, io::Error)> = (|| {
            for path in paths {
                let made = match predecessors {
                    Predecessors::Ours if is_fifo(path) => MadeFile::recall(path),
                    _ => make(path, owner),
                };
                files.push(made.map_err(|reason| (path, reason))?);
            }
            made_files::open_fifo(first).map_err(|reason| (first, reason))
        })();
        match made {
            Ok(active) => {
                say!("greenloom master fifo is {}", first.display());
                Ok(Some(Self { files, active, owner }))
            }
            Err((path, reason)) => {
                for file in &files {
                    file.vacuum("fifo", Quietly::Yes);
                }
                Err(MasterError::Fifo { path: path.clone(), reason })
            }
        }
    }

    /// Readable when there are commands.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.active.as_fd()
    }

    /// The commands that have come, in order. Switches between the pipes are done here.
    pub(crate) fn take(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let mut bytes = [0; 64];
        // One read in each round of the loop: a writer that never ends keeps nothing else from being done.
        let Ok(length) = self.active.read(&mut bytes) else { return commands };
        for byte in &bytes[..length] {
            match meaning(*byte) {
                Meaning::Command(command) => commands.push(command),
                Meaning::Slot(slot) => self.switch(slot),
                Meaning::Refused(why) => {
                    say!("master fifo: command {} is not available: {why}", char::from(*byte));
                }
                Meaning::Nothing => {}
            }
        }
        commands
    }

    /// Removes the files.
    pub(crate) fn vacuum(&self, quietly: Quietly) {
        for file in &self.files {
            file.vacuum("fifo", quietly);
        }
    }

    /// What was written to the old pipe and not read is lost with it, as for a pipe whose reader leaves.
    fn switch(&mut self, slot: usize) {
        let Some(file) = self.files.get_mut(slot) else {
            say!("master fifo: there is no fifo {slot}");
            return;
        };
        let path = file.path().to_owned();
        let opened = made_files::open_fifo(&path).or_else(|_| {
            // Somebody has removed it.
            *file = make(&path, self.owner)?;
            made_files::open_fifo(&path)
        });
        match opened {
            Ok(opened) => {
                self.active = opened;
                say!("active master fifo is now {}", path.display());
            }
            Err(reason) => say!("cannot open the master fifo {}: {reason}", path.display()),
        }
    }
}

impl Master<'_> {
    /// Does what the active pipe asks for.
    pub(crate) fn read_fifo(&mut self, now_ms: u64) {
        for command in self.fifos.as_mut().map(|fifos| fifos.take()).unwrap_or_default() {
            say!("master fifo: {command}");
            self.command(command, Asker::nobody(), now_ms);
        }
    }
}

fn is_fifo(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_fifo())
}

fn make(path: &Path, owner: Owner) -> io::Result<MadeFile> {
    // Only a pipe makes way: a wrong path must not cost anybody a file.
    if is_fifo(path) {
        std::fs::remove_file(path)?;
    }
    made_files::make_fifo(path, MODE)?;
    MadeFile::note(path, owner)
}

fn meaning(byte: u8) -> Meaning {
    Meaning::Command(match byte {
        b'+' => Command::Workers(Change::By(1)),
        b'-' => Command::Workers(Change::By(-1)),
        // All the ways of uWSGI to reload are one here: requests end, and nobody is refused meanwhile.
        b'c' | b'r' | b'R' | b'w' | b'W' => Command::Reload,
        b'l' => Command::ReopenLog,
        b'P' => Command::WritePidfile,
        b'q' => Command::Stop,
        b'Q' => Command::StopNow,
        b's' => Command::Statistics,
        b'0'..=b'9' => return Meaning::Slot(usize::from(byte - b'0')),
        b'C' => return Meaning::Refused("there is no cheap mode"),
        b'f' => return Meaning::Refused("there is no fork server; r starts a new generation"),
        b'L' => return Meaning::Refused("rename the log file, then write l"),
        b'p' => return Meaning::Refused("there is no pause"),
        b'B' | b'E' => return Meaning::Refused("there is no emperor"),
        b'S' => return Meaning::Refused("there are no subscriptions"),
        _ => return Meaning::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("greenloom-fifo-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write(path: &Path, bytes: &[u8]) {
        File::options().write(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn bytes_are_commands_and_the_pipe_survives_its_writers() {
        let folder = folder("bytes");
        let path = folder.join("a");
        let mut fifos = Fifos::create(std::slice::from_ref(&path), Owner::default(), Predecessors::Others)
            .unwrap()
            .unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fifos.take(), []);
        write(&path, b"r\n");
        write(&path, b"zCfq");
        assert_eq!(fifos.take(), [Command::Reload, Command::Stop]);
        assert_eq!(fifos.take(), []);
        let ready = greenloom_sys::process::wait_readable(&[fifos.as_fd()], Some(0)).unwrap();
        assert_eq!(ready, [false], "no end of the stream to spin on");
        fifos.vacuum(Quietly::Yes);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn digits_choose_the_pipe() {
        let folder = folder("slots");
        let paths = ["a", "b", "c"].map(|name| folder.join(name));
        let mut fifos = Fifos::create(&paths, Owner::default(), Predecessors::Others).unwrap().unwrap();
        write(&paths[0], b"1");
        assert_eq!(fifos.take(), []);
        write(&paths[1], b"l7");
        assert_eq!(fifos.take(), [Command::ReopenLog]);
        std::fs::remove_file(&paths[2]).unwrap();
        write(&paths[1], b"2");
        assert_eq!(fifos.take(), []);
        write(&paths[2], b"s");
        assert_eq!(fifos.take(), [Command::Statistics], "one that was removed is made again");
        fifos.vacuum(Quietly::Yes);
        std::fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn only_a_pipe_makes_way() {
        let folder = folder("way");
        let (stale, precious) = (folder.join("stale"), folder.join("precious"));
        made_files::make_fifo(&stale, 0o666).unwrap();
        let inode = stale.metadata().unwrap().ino();
        let kept = Fifos::create(std::slice::from_ref(&stale), Owner::default(), Predecessors::Ours);
        kept.unwrap().unwrap();
        assert_eq!(stale.metadata().unwrap().ino(), inode, "it is the same one");
        std::fs::write(&precious, "data").unwrap();
        assert!(Fifos::create(&[], Owner::default(), Predecessors::Others).unwrap().is_none());
        let error = Fifos::create(&[stale.clone(), precious.clone()], Owner::default(), Predecessors::Others)
            .unwrap_err();
        assert!(error.to_string().contains("precious"), "{error}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
        assert!(!stale.exists(), "a start that fails leaves nothing");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_byte_has_a_meaning_or_none() {
        let commands = (0..=u8::MAX).filter(|byte| matches!(meaning(*byte), Meaning::Command(_)));
        assert_eq!(commands.map(char::from).collect::<String>(), "+-PQRWclqrsw");
        assert_eq!(meaning(b'\n'), Meaning::Nothing);
        assert_eq!(meaning(b'9'), Meaning::Slot(9));
    }
}
