//! Posix signals: caught into a pipe that a loop can wait for, or caught and forgotten.
//!
//! The handlers are set with sigaction(2) and replace whatever the language runtime had installed: who decides what
//! an interrupt means is the server's process tree, not the interpreter in one of its processes. A handler, unlike
//! `SIG_IGN`, is not inherited by the programs an application starts.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::PipeFlags;

/// The posix signals the server gives a meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PosixSignal {
    /// `SIGHUP`.
    Hangup,
    /// `SIGINT`.
    Interrupt,
    /// `SIGQUIT`.
    Quit,
    /// `SIGTERM`.
    Terminate,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
    /// `SIGCHLD`.
    Child,
}

impl PosixSignal {
    const ALL: [Self; 7] =
        [Self::Hangup, Self::Interrupt, Self::Quit, Self::Terminate, Self::User1, Self::User2, Self::Child];

    fn number(self) -> libc::c_int {
        match self {
            Self::Hangup => libc::SIGHUP,
            Self::Interrupt => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Terminate => libc::SIGTERM,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
            Self::Child => libc::SIGCHLD,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.number() == libc::c_int::from(number))
    }
}

/// The write end the handler uses, -1 while there is none. Never closed once set: a handler may be about to use it.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The read end of the pipe that caught signals arrive through.
#[derive(Debug)]
pub struct SignalPipe {
    read_end: OwnedFd,
}

impl SignalPipe {
    /// Catches `signals` from now on. A second pipe in the same process (after a fork) takes over from the first.
    pub fn catch(signals: &[PosixSignal]) -> io::Result<Self> {
        let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        PIPE.store(write_end.into_raw_fd(), Ordering::SeqCst);
        for signal in signals {
            set_handler(*signal, write_to_pipe)?;
        }
        Ok(Self { read_end })
    }

    /// The signals caught since the last call, in order. A full pipe (65,536 unread signals) drops the rest.
    pub fn take(&self) -> Vec<PosixSignal> {
        let mut taken = Vec::new();
        let mut bytes = [0; 64];
        while let Ok(n @ 1..) = rustix::io::read(&self.read_end, &mut bytes) {
            taken.extend(bytes[..n].iter().filter_map(|number| PosixSignal::from_number(*number)));
        }
        taken
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }
}

/// Catches `signals` and does nothing: the process survives them, and the programs it starts have the default.
pub fn catch_and_forget(signals: &[PosixSignal]) -> io::Result<()> {
    signals.iter().try_for_each(|signal| set_handler(*signal, forget))
}

/// Writes to a closed pipe or socket fail with an error instead of ending the process.
pub fn ignore_broken_pipes() {
    // SAFETY: `SIG_IGN` is a valid disposition for `SIGPIPE`; no handler code is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Whether writes to a closed pipe or socket only fail: the application may have given `SIGPIPE` its default meaning back,
/// which ends the process.
fn survives_broken_pipes() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only (no new action), and writes to the value given.
    let asked = unsafe { libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeros is a valid value of it, and the call has written another one.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction != libc::SIG_DFL
}

/// Makes a call that may write to a closed pipe or socket: then it fails, whatever `SIGPIPE` means in this process.
pub fn sparing_broken_pipes<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if survives_broken_pipes() {
        return call();
    }
    // SAFETY: `sigset_t` is plain data, filled by the next call.
    let mut broken_pipe = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: a valid pointer to a set of our own.
    unsafe { libc::sigemptyset(&raw mut broken_pipe) };
    // SAFETY: as above, and a valid number.
    unsafe { libc::sigaddset(&raw mut broken_pipe, libc::SIGPIPE) };
    // SAFETY: as above.
    let mut before = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: two valid sets.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const broken_pipe, &raw mut before) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    let result = call();
    if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        // It was sent to this thread, and waits: taken back before anybody can get it.
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a valid set and time; nothing is asked about the signal.
        unsafe { libc::sigtimedwait(&raw const broken_pipe, std::ptr::null_mut(), &raw const at_once) };
    }
    set_mask(&before)?;
    result
}

/// Gives `signals` their default meaning again.
pub fn restore_default(signals: &[PosixSignal]) {
    for signal in signals {
        // SAFETY: `SIG_DFL` is a valid disposition for each of them; no handler code is involved.
        unsafe { libc::signal(signal.number(), libc::SIG_DFL) };
    }
}

/// Blocks every posix signal in the calling thread. Async-signal-safe.
pub fn block_all() -> io::Result<()> {
    // SAFETY: `sigset_t` is plain data, filled by the next call.
    let mut all = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: a valid pointer to a set of our own.
    unsafe { libc::sigfillset(&raw mut all) };
    set_mask(&all)
}

/// Lets every posix signal through in the calling thread.
pub fn unblock_all() -> io::Result<()> {
    // SAFETY: as above.
    let mut none = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: as above.
    unsafe { libc::sigemptyset(&raw mut none) };
    set_mask(&none)
}

/// The posix signals that the calling thread blocked before; blocked again when this is dropped.
#[derive(Debug)]
pub struct Mask(libc::sigset_t);

impl Mask {
    /// Lets every posix signal through in the calling thread for a while.
    pub fn none_blocked() -> io::Result<Self> {
        // SAFETY: `sigset_t` is plain data, filled by the next call.
        let mut before = unsafe { std::mem::zeroed::<libc::sigset_t>() };
        // SAFETY: asks only: no new set, and a valid place for the present one.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut before) } {
            0 => unblock_all().map(|()| Self(before)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // It was the mask a moment ago: it is a valid one.
        let _ = set_mask(&self.0);
    }
}

fn set_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: a valid set, and no old one asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

extern "C" fn forget(_number: libc::c_int) {}

extern "C" fn write_to_pipe(number: libc::c_int) {
    let fd = PIPE.load(Ordering::SeqCst);
    let byte = number.to_ne_bytes();
    let byte = if cfg!(target_endian = "little") { byte[0] } else { byte[3] };
    // SAFETY: returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid for the life of the thread.
    let before = unsafe { errno.read() };
    // SAFETY: write(2) is async-signal-safe, the buffer is one live byte; a closed or full pipe is an error we ignore.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
    // SAFETY: as for the read; the interrupted code must find its errno unchanged.
    unsafe { errno.write(before) };
}

fn set_handler(signal: PosixSignal, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    let action_ptr = action.as_mut_ptr();
    // SAFETY: the pointer is to a live local; all-zero bytes are a valid `sigaction` (integers, null pointers).
    let action = unsafe { &mut *action_ptr };
    action.sa_sigaction = handler as *const () as libc::sighandler_t;
    // SA_ONSTACK: signals may arrive while a coroutine's small stack is in use.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the pointer is to a live local.
    unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
    // SAFETY: the action is initialised, and both handlers only do what is allowed in one (see them).
    if unsafe { libc::sigaction(signal.number(), action, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::wait_readable;

    #[test]
    fn a_caught_signal_arrives_through_the_pipe() {
        let pipe = SignalPipe::catch(&[PosixSignal::Hangup]).unwrap();
        assert_eq!(pipe.take(), []);
        // SAFETY: sends a signal that is caught to this process.
        unsafe { libc::raise(libc::SIGHUP) };
        assert_eq!(wait_readable(&[pipe.as_fd()], Some(5000)).unwrap(), [true]);
        assert_eq!(pipe.take(), [PosixSignal::Hangup]);
        assert_eq!(pipe.take(), []);
    }

    #[test]
    fn a_forgotten_signal_is_survived() {
        catch_and_forget(&[PosixSignal::Quit]).unwrap();
        // SAFETY: sends a signal that is caught to this process.
        assert_eq!(unsafe { libc::raise(libc::SIGQUIT) }, 0);
    }
}
