//! Programs that a worker runs for a request: started with pipes at both ends, in a process group of their own, and
//! collected without SIGCHLD.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Spawner, Stdio};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::process::{self, Ending, Pid};
use crate::signals;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program's file.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The directory it starts in.
    pub directory: PathBuf,
    /// Whether it is given something to read.
    pub has_input: bool,
}

/// A running program. Its end shows at `pidfd`; until [`Self::reap`] its process id belongs to nobody else.
#[derive(Debug)]
pub struct Script {
    pid: Pid,
    pidfd: OwnedFd,
}

/// The ends of a new script's pipes; never blocking.
#[derive(Debug)]
pub struct Pipes {
    /// What is written here it reads; `None`: it finds its end at once.
    pub stdin: Option<OwnedFd>,
    /// What it writes is read here.
    pub stdout: OwnedFd,
}

impl Script {
    /// Starts a program; its standard error is that of this process. Takes a while (the kernel copies no memory, but
    /// waits for the new program): not for the thread of a loop.
    pub fn start(command: &Command) -> io::Result<(Self, Pipes)> {
        let (stdout, stdout_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK)?;
        let (input, stdin) = if command.has_input {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
            (Stdio::from(theirs), Some(ours))
        } else {
            (Stdio::null(), None)
        };
        let mut spawner = Spawner::new(&command.program);
        spawner
            .args(&command.args)
            .env_clear()
            .envs(command.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&command.directory)
            .process_group(0)
            .stdin(input)
            .stdout(Stdio::from(stdout_theirs));
        let child = spawn(&mut spawner)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::new).ok_or(Errno::SRCH)?;
        match process::pidfd(pid) {
            Ok(pidfd) => Ok((Self { pid, pidfd }, Pipes { stdin, stdout })),
            Err(error) => {
                // Nobody could tell when it ends.
                let _ = process::kill(pid);
                process::wait_for(pid);
                Err(error)
            }
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Asks its whole process group to end (`SIGTERM`).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends its whole process group (`SIGKILL`).
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // Somebody else may have collected it (an application that waits for every child): then its number may be that of
        // others by now. What the descriptor stands for tells; a continue harms nobody, and lets a stopped one hear the rest.
        if rustix::process::pidfd_send_signal(&self.pidfd, Signal::CONT) != Err(Errno::SRCH)
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid.get())
        {
            // An empty group is no error for us.
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    /// Collects it if it has ended. Never blocks.
    pub fn reap(&self) -> Option<Ending> {
        process::reap(self.pid)
    }
}

/// Starts a child with no posix signal blocked, whatever the calling thread blocks.
fn spawn(spawner: &mut Spawner) -> io::Result<std::process::Child> {
    let mask = signals::Mask::none_blocked()?;
    let child = spawner.spawn();
    drop(mask);
    child
}

/// Whether `path` is a program that this process may run.
pub fn may_execute(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use super::*;

    fn shell(line: &str) -> Command {
        Command {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), line.into()],
            environment: vec![("GREETING".into(), "hello".into())],
            directory: "/".into(),
            has_input: true,
        }
    }

    fn blocking(fd: OwnedFd) -> File {
        let flags = rustix::fs::fcntl_getfl(&fd).unwrap() - OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&fd, flags).unwrap();
        File::from(fd)
    }

    fn wait(script: &Script) -> Ending {
        process::wait_readable(&[script.pidfd()], Some(20_000)).unwrap();
        script.reap().expect("it has ended")
    }

    #[test]
    fn reads_and_writes_and_has_the_environment_that_it_was_given() {
        let (script, pipes) = Script::start(&shell("pwd; echo $GREETING $HOME.; cat; exit 3")).unwrap();
        blocking(pipes.stdin.unwrap()).write_all(b"input").unwrap();
        let mut output = String::new();
        blocking(pipes.stdout).read_to_string(&mut output).unwrap();
        assert_eq!(output, "/\nhello .\ninput");
        assert_eq!(wait(&script), Ending::Exited(3));
    }

    #[test]
    fn its_whole_group_hears_a_signal_even_after_its_own_end() {
        // The child in the background holds the pipe; its parent is dead and not collected.
        let (script, pipes) = Script::start(&shell("sleep 1000 & exit 0")).unwrap();
        process::wait_readable(&[script.pidfd()], Some(20_000)).unwrap();
        script.terminate();
        let mut output = String::new();
        blocking(pipes.stdout).read_to_string(&mut output).unwrap();
        assert_eq!(wait(&script), Ending::Exited(0));
        // And once it is collected nobody is signalled any more.
        script.kill();
    }

    #[test]
    fn without_input_it_finds_the_end() {
        let (script, pipes) =
            Script::start(&Command { has_input: false, ..shell("cat; echo over") }).unwrap();
        let mut output = String::new();
        blocking(pipes.stdout).read_to_string(&mut output).unwrap();
        assert!(pipes.stdin.is_none() && output == "over\n", "{output}");
        assert_eq!(wait(&script), Ending::Exited(0));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let command = Command { program: "/nonexistent/program".into(), ..shell("") };
        assert_eq!(Script::start(&command).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(may_execute(Path::new("/bin/sh")).is_ok() && may_execute(Path::new("/etc/passwd")).is_err());
    }
}
