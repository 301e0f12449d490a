//! epoll(7). Descriptors are plain numbers here, because an application may wait for any number it likes, open or not;
//! the kernel checks them and says `EBADF`, `EPERM` or `ENOENT`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Readable.
pub const IN: u32 = libc::EPOLLIN.cast_unsigned();
/// Writable.
pub const OUT: u32 = libc::EPOLLOUT.cast_unsigned();
/// The peer has closed its sending side.
pub const RDHUP: u32 = libc::EPOLLRDHUP.cast_unsigned();
/// Hang-up; always reported.
pub const HUP: u32 = libc::EPOLLHUP.cast_unsigned();
/// Error; always reported.
pub const ERR: u32 = libc::EPOLLERR.cast_unsigned();
/// Edge-triggered.
pub const ET: u32 = libc::EPOLLET.cast_unsigned();
/// Disarmed by its first event.
pub const ONESHOT: u32 = libc::EPOLLONESHOT.cast_unsigned();
/// Wakes one of the epoll sets that watch a listener, not all.
pub const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE.cast_unsigned();

/// An epoll set.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// One event: the mask of what happened and the token given at registration.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    /// No event; fills buffers.
    pub const EMPTY: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    /// What happened: an or of the constants of this module.
    pub fn mask(&self) -> u32 {
        self.0.events
    }

    /// The token of the registration.
    pub fn token(&self) -> u64 {
        self.0.u64
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event({:#x}, {:#x})", self.mask(), self.token())
    }
}

impl Epoll {
    /// A new, empty set; closed on exec.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the kernel returns a new descriptor or -1.
        let fd = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just returned by the kernel and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers `fd`. Errors: `EEXIST` (this file under this number is registered), `EBADF`, `EPERM` (a regular file).
    pub fn add(&self, fd: RawFd, mask: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask, token)
    }

    /// Changes a registration. `ENOENT`: the number now means another file.
    pub fn modify(&self, fd: RawFd, mask: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask, token)
    }

    /// Drops a registration.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, mask: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: mask, u64: token };
        // SAFETY: `event` is a live local that the kernel only reads; any number is allowed as `fd`.
        cvt(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for events of `epoll` (the descriptor of an [`Epoll`]) and returns how many were stored.
/// `timeout_ms`: 0 returns at once, `None` waits for ever. `EINTR` is an error like any other.
pub fn wait(epoll: RawFd, events: &mut [Event], timeout_ms: Option<u32>) -> io::Result<usize> {
    let timeout = timeout_ms.map_or(-1, |ms| libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX));
    let room = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel writes at most `room` events; `Event` is transparent over `epoll_event`.
    let n = cvt(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr().cast(), room, timeout) })?;
    Ok(usize::try_from(n).unwrap_or(0))
}

/// Another descriptor for the file that `fd` means now; closed on exec. Fails with `EBADF` when it means none.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer; any number is allowed as `fd`.
    let copy = cvt(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: `copy` was just returned by the kernel and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

pub(crate) fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn reports_the_token_of_a_ready_descriptor() {
        let epoll = Epoll::new().unwrap();
        let (a, mut b) = UnixStream::pair().unwrap();
        epoll.add(a.as_raw_fd(), IN, 77).unwrap();
        let mut events = [Event::EMPTY; 4];
        assert_eq!(wait(epoll.as_fd().as_raw_fd(), &mut events, Some(0)).unwrap(), 0);
        b.write_all(b"x").unwrap();
        assert_eq!(wait(epoll.as_fd().as_raw_fd(), &mut events, Some(1000)).unwrap(), 1);
        assert_eq!((events[0].token(), events[0].mask() & IN), (77, IN));
    }

    #[test]
    fn refuses_what_cannot_be_waited_for() {
        let epoll = Epoll::new().unwrap();
        assert_eq!(epoll.add(-1, IN, 0).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(epoll.add(file.as_raw_fd(), IN, 0).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}
