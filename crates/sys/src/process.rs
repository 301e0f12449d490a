//! Processes: forking, starting another program that inherits descriptors, waiting, killing, and the small things a
//! process does to itself (subreaper, session, standard streams, leaving at once, threads that take no posix signals).
//!
//! Owns the system calls only. Which process is a master or a worker, and what happens when one dies, is decided by
//! their users.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{DumpableBehavior, PidfdFlags, Signal, WaitOptions, WaitStatus};

/// The id of a process: positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZero<i32>);

impl Pid {
    /// A process id as the kernel reports it; `None` unless positive.
    pub fn new(raw: i32) -> Option<Self> {
        NonZero::new(raw).filter(|raw| raw.get() > 0).map(Self)
    }

    /// The calling process.
    pub fn current() -> Self {
        Self(rustix::process::getpid().as_raw_nonzero())
    }

    /// The parent of the calling process; `None` in the first process of a pid namespace.
    pub fn parent() -> Option<Self> {
        rustix::process::getppid().map(|pid| Self(pid.as_raw_nonzero()))
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0.get()
    }

    pub(crate) fn rustix(self) -> Option<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.get())
    }
}

impl std::fmt::Display for Pid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What `fork(2)` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The caller, with its new child.
    Parent(Pid),
    /// The child.
    Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It left with this code.
    Exited(i32),
    /// This posix signal ended it.
    Signaled(i32),
    /// Somebody else collected its status.
    Unknown,
}

impl Ending {
    fn from_status(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Signaled(signal),
            (None, None) => Self::Unknown,
        }
    }
}

/// `fork(2)` for a process of one thread, where the child may do whatever its parent may.
///
/// # Errors
/// `InvalidInput` when the process has more than one thread (a lock held by another thread would stay locked in the
/// child); otherwise the reason of fork(2).
pub fn fork_single_threaded() -> io::Result<Fork> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("fork needs a process of one thread, this one has {threads}"),
        ));
    }
    // SAFETY: the count above says that this is the only thread, and nothing between the two starts another, so the
    // child inherits no lock held elsewhere.
    unsafe { fork() }
}

/// `fork(2)`; the child has the calling thread and no other.
///
/// # Safety
/// What other threads may be doing at this moment must not matter to the child: locks that they hold stay locked there,
/// and what they were changing stays half changed, unless the code they run prepares for a fork (`pthread_atfork(3)`).
///
/// # Errors
/// The reason of fork(2).
pub unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: the caller's business, as the description says.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::new(pid).map(Fork::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// A program to start as a child that must not outlive its parent.
#[derive(Debug)]
pub struct Heir<'a> {
    /// The program's path, or a name looked up in `PATH`.
    pub program: &'a OsStr,
    /// Its arguments, without the program itself.
    pub args: &'a [OsString],
    /// One variable added to its environment.
    pub variable: (&'a str, &'a str),
    /// Where it starts.
    pub directory: &'a Path,
    /// Descriptors that stay open in it under the same numbers.
    pub inherited: &'a [BorrowedFd<'a>],
}

impl Heir<'_> {
    /// Starts the program. It is killed (`SIGKILL`) by the kernel when the calling *thread* ends, so the caller is the
    /// process's main thread. Reaping is the caller's business.
    pub fn spawn(&self) -> io::Result<Pid> {
        let mut command = Command::new(self.program);
        command.args(self.args).env(self.variable.0, self.variable.1).current_dir(self.directory);
        let inherited: Vec<RawFd> = self.inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = Pid::current();
        let before_exec = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above took effect.
            if Pid::parent() != Some(parent) {
                return Err(io::Error::from(Errno::SRCH));
            }
            for &fd in &inherited {
                // SAFETY: the caller's borrow keeps the descriptor open until `spawn` returns, in the child as well.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only (no allocation, no lock), as the child of a fork must.
        unsafe { command.pre_exec(before_exec) };
        let child = command.spawn()?;
        i32::try_from(child.id()).ok().and_then(Pid::new).ok_or_else(|| io::Error::from(Errno::SRCH))
    }
}

/// Replaces the program of this process by another one, which keeps the process id, the children and `inherited` (under
/// the same numbers). All posix signals are blocked across the change, so that none is lost or kills the new program
/// before it has its handlers: it calls [`crate::signals::unblock_all`]. Returns only if that fails, with everything as
/// before.
pub fn replace_program(
    program: &OsStr,
    args: &[OsString],
    variables: &[(&str, &OsStr)],
    inherited: &[BorrowedFd<'_>],
) -> io::Error {
    let keep_open = |flags| {
        inherited.iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, flags)).map_err(io::Error::from)
    };
    if let Err(error) = keep_open(rustix::io::FdFlags::empty()) {
        return error;
    }
    let mut command = Command::new(program);
    command.args(args).envs(variables.iter().copied());
    // SAFETY: runs in this process right before the exec; it makes a system call and nothing else.
    unsafe { command.pre_exec(crate::signals::block_all) };
    let error = command.exec();
    // What could not be undone would only leave descriptors open in later children.
    let _ = keep_open(rustix::io::FdFlags::CLOEXEC);
    let _ = crate::signals::unblock_all();
    crate::signals::ignore_broken_pipes();
    error
}

/// A file without a name that holds `bytes`, open for reading from its start; closed on exec. `name` shows in
/// /proc/PID/fd.
pub fn unnamed_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rustix::io::write(&file, rest)?;
        rest = &rest[n..];
    }
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file)
}

/// Makes the calling process the one that orphaned descendants are given to (`PR_SET_CHILD_SUBREAPER`).
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Collects one dead child, whichever; `None` when none is dead (or there is none at all). Never blocks.
pub fn reap_any() -> Option<(Pid, Ending)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return Some((Pid(pid.as_raw_nonzero()), Ending::from_status(status))),
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Collects the child `pid` if it is dead. [`Ending::Unknown`] when it is no child of ours any more, which happens when
/// an application ignores `SIGCHLD` or waits for every child. Never blocks.
pub fn reap(pid: Pid) -> Option<Ending> {
    loop {
        match rustix::process::waitpid(pid.rustix(), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => return Some(Ending::from_status(status)),
            Ok(None) => return None,
            Err(Errno::INTR) => {}
            Err(_) => return Some(Ending::Unknown),
        }
    }
}

/// A descriptor that stands for the process `pid` however often the number is reused, readable when it has died
/// (`pidfd_open(2)`, Linux 5.3).
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    let pid = pid.rustix().ok_or(Errno::SRCH)?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends `SIGKILL` to the process behind `pidfd`.
pub fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, Signal::KILL)?)
}

/// Sends `SIGUSR2` to the process behind `pidfd`.
pub fn ask_by_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, Signal::USR2)?)
}

/// Sends `SIGUSR2` to `pid`: for one's own children that were not reaped yet, whose number nobody else can have.
pub fn ask(pid: Pid) -> io::Result<()> {
    let pid = pid.rustix().ok_or(Errno::SRCH)?;
    Ok(rustix::process::kill_process(pid, Signal::USR2)?)
}

/// Sends `SIGKILL` to `pid`: for one's own children that were not reaped yet, whose number nobody else can have.
pub fn kill(pid: Pid) -> io::Result<()> {
    let pid = pid.rustix().ok_or(Errno::SRCH)?;
    Ok(rustix::process::kill_process(pid, Signal::KILL)?)
}

/// Address space and resident memory of a process, in bytes (proc(5), `statm`).
pub fn memory(pid: Pid) -> io::Result<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let mut pages = text.split(' ').map(|word| word.parse::<u64>().unwrap_or(0));
    let page = rustix::param::page_size() as u64;
    Ok((pages.next().unwrap_or(0) * page, pages.next().unwrap_or(0) * page))
}

/// Whether a process of that number exists, dead but not yet collected included.
pub fn exists(pid: Pid) -> bool {
    pid.rustix().is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// Waits until one of `fds` is readable (data, the end of the stream, an error), `timeout_ms` have passed (`None`: for
/// ever; more than a day counts as a day), or a posix signal arrived. One flag for each descriptor, in their order.
pub fn wait_readable(fds: &[BorrowedFd<'_>], timeout_ms: Option<u64>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = timeout_ms.map(|ms| {
        let ms = ms.min(86_400_000);
        Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(86_400),
            tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
        }
    });
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(errno) => Err(errno.into()),
    }
}

/// Two connected sockets that keep message boundaries, closed on exec. The first never blocks, the second does.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let pair =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_nonblocking(pair.0.as_fd())?;
    Ok(pair)
}

/// Makes reads and writes on this *open file* (all its duplicates) return instead of waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Reads what is there. `Ok(0)`: the end of the stream.
pub fn read(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(fd, bytes)?)
}

/// Writes to a pipe what it takes. A reader that is gone is an error, and never a `SIGPIPE`.
pub fn write_pipe(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    crate::signals::sparing_broken_pipes(|| Ok(rustix::io::write(fd, bytes)?))
}

/// Sends to a socket without `SIGPIPE`.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL)?)
}

/// Takes possession of descriptor number `fd`, which was open when this program started, and closes it on exec.
///
/// # Errors
/// `InvalidInput` when the number is one of the three standard streams or was claimed before, `EBADF` when it is not
/// open.
pub fn claim_inherited(fd: RawFd) -> io::Result<OwnedFd> {
    static CLAIMED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    if fd <= 2 || !CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).insert(fd) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {fd} is a standard stream or already in use"),
        ));
    }
    // SAFETY: only `fcntl` uses the number before the next block, and it reports a closed one.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open (the call above), was made by the parent for this program to find, and the set says that
    // nobody in this process took it before.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Removes an environment variable and returns its value. To be called before other threads exist.
pub fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: callers do this first thing in a program, while no other thread reads the environment.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// Puts `file` in the place of standard output and standard error.
pub fn redirect_output(file: BorrowedFd<'_>) -> io::Result<()> {
    for target in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: plain system call; the standard streams are owned by nobody, so replacing them breaks no owner.
        if unsafe { libc::dup2(file.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Puts `file` in the place of standard input.
pub fn redirect_input(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: as above.
    if unsafe { libc::dup2(file.as_raw_fd(), libc::STDIN_FILENO) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Leaves the terminal and the process group: the process leads a new session. Fails for a leader of a group, which the
/// child of a fork is not.
pub fn begin_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Lets other processes of the same user look into this one (debuggers, /proc), which the kernel has stopped when the
/// process changed its user.
pub fn allow_inspection() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}

/// Waits until the child `pid` has ended. [`Ending::Unknown`] when it is no child of ours any more.
pub fn wait_for(pid: Pid) -> Ending {
    loop {
        match rustix::process::waitpid(pid.rustix(), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ending::from_status(status),
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return Ending::Unknown,
        }
    }
}

/// Ends the process at once: no destructors, no exit handlers, whatever the other threads do.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no precondition.
    unsafe { libc::_exit(code) }
}

/// Starts a thread that receives no posix signal, so that those of the process go on reaching its main thread.
pub fn spawn_thread<F: FnOnce() + Send + 'static>(name: &str, run: F) -> io::Result<JoinHandle<()>> {
    // SAFETY: an all-zero signal set is a valid value (integers).
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both pointers are to live locals.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(run);
    // SAFETY: as above; the mask is the one this thread had before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    thread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_positive() {
        assert_eq!(Pid::new(0), None);
        assert_eq!(Pid::new(-4), None);
        assert_eq!(Pid::new(7).map(Pid::get), Some(7));
        assert!(exists(Pid::current()));
    }

    #[test]
    fn messages_keep_their_boundaries_and_the_first_end_never_blocks() {
        let (ours, theirs) = message_pair().unwrap();
        let mut bytes = [0; 8];
        assert_eq!(read(ours.as_fd(), &mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        send(theirs.as_fd(), b"one").unwrap();
        send(theirs.as_fd(), b"three").unwrap();
        assert_eq!(wait_readable(&[ours.as_fd()], Some(0)).unwrap(), [true]);
        assert_eq!(read(ours.as_fd(), &mut bytes).unwrap(), 3);
        assert_eq!(read(ours.as_fd(), &mut bytes).unwrap(), 5);
    }

    #[test]
    fn an_heir_inherits_descriptors_and_its_end_is_reported() {
        let (ours, theirs) = message_pair().unwrap();
        let script = format!("printf %s \"$GREETING\" >&{}; exit 7", theirs.as_raw_fd());
        let pid = Heir {
            program: OsStr::new("/bin/bash"),
            args: &["-c".into(), script.into()],
            variable: ("GREETING", "hello"),
            directory: Path::new("/"),
            inherited: &[theirs.as_fd()],
        }
        .spawn()
        .unwrap();
        let pidfd = pidfd(pid).unwrap();
        assert_eq!(wait_readable(&[pidfd.as_fd()], Some(10_000)).unwrap(), [true]);
        assert_eq!(reap(pid), Some(Ending::Exited(7)));
        assert_eq!(reap(pid), Some(Ending::Unknown), "it can be collected once");
        let mut bytes = [0; 8];
        assert_eq!(read(ours.as_fd(), &mut bytes).unwrap(), 5);
        assert_eq!(&bytes[..5], b"hello");
    }

    #[test]
    fn an_inherited_number_is_claimed_once() {
        let (ours, theirs) = message_pair().unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(theirs);
        let claimed = claim_inherited(number).unwrap();
        assert!(claim_inherited(number).is_err());
        assert!(claim_inherited(1).is_err());
        send(claimed.as_fd(), b"x").unwrap();
        assert_eq!(read(ours.as_fd(), &mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn forking_a_process_of_many_threads_is_refused() {
        let (started, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(fork_single_threaded().is_err());
        drop(started);
        assert!(thread.join().unwrap().is_err());
    }
}
