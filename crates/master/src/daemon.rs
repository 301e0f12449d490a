//! The way into the background (`--daemonize FILE`): the command's own process waits until the server serves or has
//! failed, and leaves with what came of it.
//!
//! ```text
//! command -- fork --> (leads a new session) -- fork --> daemon: no terminal, and never one again
//!    |                        leaves at once                |
//!    `-------- waits for one byte: 0 or an exit code -------'
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use greenloom_sys::process::{self, Fork};
use greenloom_sys::signals::{self, PosixSignal};

use crate::error::MasterError;
use crate::log::say;

/// Which process returns from [`detach`].
#[derive(Debug)]
pub enum Detached {
    /// The command's own: it ends with this code.
    Command(i32),
    /// The daemon: it goes on to serve.
    Daemon(Arrival),
}

/// Tells the command how the start has ended: once, whichever copy is asked first.
#[derive(Clone, Debug, Default)]
pub struct Arrival(Arc<Mutex<Option<UnixStream>>>);

impl Arrival {
    /// The server serves.
    pub(crate) fn ready(&self) {
        self.tell(0);
    }

    /// The server ends with this code. Without a meaning when it was ready before.
    pub fn ended(&self, code: i32) {
        // Told to stop before it was ready: a good end of the daemon, but no server for the one who waits.
        self.tell(u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(1));
    }

    fn tell(&self, byte: u8) {
        if let Some(command) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A command that was interrupted does not wait any more.
            let _ = process::send(command.as_fd(), &[byte]);
        }
    }
}

/// Splits the calling process: see the drawing above. Standard output and error of the daemon go to the end of `log`,
/// standard input has nothing. The current directory stays. `fork` makes a child that may do all that the caller may.
///
/// # Errors
/// What keeps the daemon from being made, said by the process that was called, with its own standard error.
pub(crate) fn detach(
    log: &Path,
    fork: &mut dyn FnMut() -> io::Result<Fork>,
) -> Result<Detached, MasterError> {
    let fail = |reason| MasterError::LogFile { path: log.to_owned(), reason };
    // Everything that can be refused is asked for while somebody still looks.
    let output = OpenOptions::new().append(true).create(true).mode(0o640).open(log).map_err(fail)?;
    let nothing = File::open("/dev/null").map_err(MasterError::system("open /dev/null"))?;
    let (waiting, arrival) = UnixStream::pair().map_err(MasterError::system("create a pair of sockets"))?;
    match fork().map_err(MasterError::system("fork"))? {
        Fork::Parent(child) => {
            drop(arrival);
            // Before the interpreter had its say: an interrupt ends the waiting, not the daemon.
            signals::restore_default(&[PosixSignal::Interrupt]);
            process::wait_for(child);
            Ok(Detached::Command(wait(waiting, log)))
        }
        Fork::Child => {
            drop(waiting);
            let second = process::begin_session().and_then(|()| fork());
            match second {
                Ok(Fork::Child) => {}
                Ok(Fork::Parent(_)) => process::exit_now(0),
                Err(error) => {
                    say!("greenloom: cannot become a daemon: {error}");
                    process::exit_now(1);
                }
            }
            process::redirect_input(nothing.as_fd())
                .map_err(MasterError::system("redirect standard input"))?;
            process::redirect_output(output.as_fd()).map_err(fail)?;
            Ok(Detached::Daemon(Arrival(Arc::new(Mutex::new(Some(arrival))))))
        }
    }
}

/// Waits for the daemon's word; the code the command ends with.
fn wait(mut waiting: UnixStream, log: &Path) -> i32 {
    let mut byte = [0];
    // `read_exact` goes on after interruptions.
    let said = waiting.read_exact(&mut byte).map(|()| byte[0]);
    match said {
        Ok(0) => 0,
        Ok(code) => {
            say!(
                "greenloom: the daemon did not start (exit code {code}); why is at the end of {}",
                log.display()
            );
            i32::from(code)
        }
        Err(_) => {
            say!("greenloom: the daemon died while it started; see the end of {}", log.display());
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Forks are tested on the real command, in tests/test_daemonize.py.

    fn arrival() -> (UnixStream, Arrival) {
        let (waiting, arrival) = UnixStream::pair().unwrap();
        (waiting, Arrival(Arc::new(Mutex::new(Some(arrival)))))
    }

    #[test]
    fn the_first_word_counts() {
        let (waiting, arrival) = arrival();
        arrival.clone().ready();
        arrival.ended(22);
        assert_eq!(wait(waiting, Path::new("x.log")), 0);
        Arrival::default().ready();
    }

    #[test]
    fn an_end_before_that_is_a_failure_with_its_code() {
        for (code, expected) in [(22, 22), (1, 1), (0, 1), (-1, 1), (300, 1)] {
            let (waiting, arrival) = arrival();
            arrival.ended(code);
            assert_eq!(wait(waiting, Path::new("x.log")), expected, "{code}");
        }
        let (waiting, arrival) = arrival();
        drop(arrival);
        assert_eq!(wait(waiting, Path::new("x.log")), 1);
    }
}
