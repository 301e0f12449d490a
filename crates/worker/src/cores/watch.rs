//! Descriptors of the application that suspended cores wait for.
//!
//! The application may close, reuse or duplicate such a descriptor at any time. What keeps that from waking the wrong
//! core or spinning the loop:
//!
//! - every registration is one-shot: the kernel reports it once and then keeps quiet until it is armed again;
//! - the epoll token names a [`Watch`] with its generation; a watch that was replaced is told apart from its successor;
//! - arming tries `EPOLL_CTL_MOD` first: `ENOENT` says that the number now means another file, and then the old watch
//!   is left to those who still wait for the old file, and a new one is made.
//!
//! A watch whose wait ended otherwise is left armed: disarming would cost a system call for every wait, and the one
//! event it can still produce finds nobody and is ignored.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use greenloom_reactor::Reactor;
use greenloom_sys::epoll;

use crate::cores::{CoreId, Interest};
use crate::slots::{Key, Slots};

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

/// A core that waits, and in which of its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) core: CoreId,
    pub(crate) sequence: u32,
    interest: u32,
}

#[derive(Debug)]
struct Watch {
    fd: RawFd,
    /// Set when the application's own number is in the epoll set already (its client's connection, a listener): then
    /// this duplicate is registered instead, and goes with the last waiter.
    duplicate: Option<OwnedFd>,
    waiters: Vec<Waiter>,
}

impl Watch {
    fn registered(&self) -> RawFd {
        self.duplicate.as_ref().map_or(self.fd, AsRawFd::as_raw_fd)
    }

    fn mask(&self) -> u32 {
        self.waiters.iter().fold(epoll::ONESHOT, |mask, waiter| mask | waiter.interest)
    }
}

/// All watches of a worker.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    slots: Slots<Watch>,
    by_fd: HashMap<RawFd, Key>,
}

impl Watches {
    /// Lets `core` wait for `fd` in its wait number `sequence`. On error nothing has changed.
    pub(crate) fn add(
        &mut self,
        reactor: &Reactor,
        kind: u8,
        (core, sequence): (CoreId, u32),
        fd: RawFd,
        interest: Interest,
    ) -> io::Result<Key> {
        let interest = match interest {
            Interest::Read => epoll::IN | epoll::RDHUP,
            Interest::Write => epoll::OUT,
        };
        let waiter = Waiter { core, sequence, interest };
        if let Some(&key) = self.by_fd.get(&fd)
            && let Some(watch) = self.slots.get_mut(key)
        {
            match reactor.modify(fd, watch.mask() | interest, key.token(kind)) {
                Ok(()) => {
                    watch.waiters.push(waiter);
                    return Ok(key);
                }
                Err(error) if error.raw_os_error() == Some(ENOENT) => {
                    self.by_fd.remove(&fd);
                    if watch.waiters.is_empty() {
                        self.slots.remove(key);
                    }
                }
                Err(error) => {
                    // The number means nothing any more (EBADF): forget the idle watch, too.
                    if watch.waiters.is_empty() {
                        self.by_fd.remove(&fd);
                        self.slots.remove(key);
                    }
                    return Err(error);
                }
            }
        }
        let key = self.slots.insert(Watch { fd, duplicate: None, waiters: vec![waiter] });
        match reactor.add(fd, interest | epoll::ONESHOT, key.token(kind)) {
            Ok(()) => {
                self.by_fd.insert(fd, key);
                Ok(key)
            }
            // Somebody else's registration must stay as it is.
            Err(error) if error.raw_os_error() == Some(EEXIST) => {
                self.register_duplicate(reactor, kind, key).inspect_err(|_| drop(self.slots.remove(key)))?;
                Ok(key)
            }
            Err(error) => {
                self.slots.remove(key);
                Err(error)
            }
        }
    }

    fn register_duplicate(&mut self, reactor: &Reactor, kind: u8, key: Key) -> io::Result<()> {
        let Some(watch) = self.slots.get_mut(key) else { return Ok(()) };
        let copy = epoll::duplicate(watch.fd)?;
        reactor.add(copy.as_raw_fd(), watch.mask(), key.token(kind))?;
        watch.duplicate = Some(copy);
        Ok(())
    }

    /// The owner of `fd` needs its place in the epoll set: who waits for it goes on with a duplicate.
    pub(crate) fn make_room(&mut self, reactor: &Reactor, kind: u8, fd: RawFd) -> io::Result<()> {
        let Some(key) = self.by_fd.remove(&fd) else { return Ok(()) };
        if self.slots.get(key).is_some_and(|watch| watch.waiters.is_empty()) {
            self.slots.remove(key);
            return Ok(());
        }
        self.register_duplicate(reactor, kind, key)
    }

    /// `core` no longer waits for this one.
    pub(crate) fn leave(&mut self, reactor: &Reactor, key: Key, core: CoreId) {
        let Some(watch) = self.slots.get_mut(key) else { return };
        watch.waiters.retain(|waiter| waiter.core != core);
        self.forget_unless_kept(reactor, key);
    }

    /// A watch without waiters is kept for the next wait, unless it is an orphan (its number means another file by
    /// now) or has a duplicate.
    fn forget_unless_kept(&mut self, reactor: &Reactor, key: Key) {
        let Some(watch) = self.slots.get(key) else { return };
        if !watch.waiters.is_empty() || self.by_fd.get(&watch.fd) == Some(&key) {
            return;
        }
        if let Some(copy) = &watch.duplicate {
            // Closing it is not enough: the file stays open elsewhere, and its registration with it.
            let _ = reactor.delete(copy.as_raw_fd());
        }
        self.slots.remove(key);
    }

    /// What `core` waits for by this watch.
    pub(crate) fn waits_of(&self, key: Key, core: CoreId) -> Vec<(RawFd, Interest)> {
        let Some(watch) = self.slots.get(key) else { return Vec::new() };
        let interest = |waiter: &Waiter| {
            if waiter.interest & epoll::OUT == 0 { Interest::Read } else { Interest::Write }
        };
        let waiters = watch.waiters.iter().filter(|waiter| waiter.core == core);
        waiters.map(|waiter| (watch.fd, interest(waiter))).collect()
    }

    /// An event came: takes out those whose interest it meets and arms the watch for the rest.
    pub(crate) fn fired(
        &mut self,
        reactor: &Reactor,
        kind: u8,
        token: u64,
        mask: u32,
        woken: &mut Vec<Waiter>,
    ) -> Option<RawFd> {
        let key = Key::from_token(token);
        let watch = self.slots.get_mut(key)?;
        let fd = watch.fd;
        let broken = mask & (epoll::ERR | epoll::HUP) != 0;
        watch.waiters.retain(|waiter| {
            let met = broken || mask & waiter.interest != 0;
            if met {
                woken.push(*waiter);
            }
            !met
        });
        let is_ours = watch.duplicate.is_some() || self.by_fd.get(&fd) == Some(&key);
        if !watch.waiters.is_empty() && is_ours {
            // Fails only when the number means another file by now; then nothing more can come of this watch.
            let _ = reactor.modify(watch.registered(), watch.mask(), key.token(kind));
        }
        self.forget_unless_kept(reactor, key);
        Some(fd)
    }

    /// How many cores wait for descriptors.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.slots.keys().iter().filter_map(|&key| self.slots.get(key)).map(|watch| watch.waiters.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    const KIND: u8 = 3;

    fn ready(reactor: &mut Reactor, watches: &mut Watches) -> Vec<(u32, u32)> {
        let mut woken = Vec::new();
        reactor.poll().unwrap();
        while let Some(event) = reactor.next_event() {
            watches.fired(reactor, KIND, event.token, event.mask, &mut woken);
        }
        woken.iter().map(|waiter| (waiter.core.0, waiter.sequence)).collect()
    }

    fn world() -> (Reactor, Watches) {
        (Reactor::new().unwrap(), Watches::default())
    }

    #[test]
    fn two_cores_wait_for_one_descriptor_one_to_read_one_to_write() {
        let (mut reactor, mut watches) = world();
        let (a, mut b) = UnixStream::pair().unwrap();
        watches.add(&reactor, KIND, (CoreId(1), 7), a.as_raw_fd(), Interest::Read).unwrap();
        watches.add(&reactor, KIND, (CoreId(2), 9), a.as_raw_fd(), Interest::Write).unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), [(2, 9)]);
        assert_eq!(ready(&mut reactor, &mut watches), []);
        b.write_all(b"x").unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), [(1, 7)]);
        assert_eq!(watches.waiting(), 0);
    }

    #[test]
    fn a_failed_wait_leaves_nothing_behind() {
        let (reactor, mut watches) = world();
        assert!(watches.add(&reactor, KIND, (CoreId(0), 1), 999_999, Interest::Read).is_err());
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(watches.add(&reactor, KIND, (CoreId(0), 1), file.as_raw_fd(), Interest::Read).is_err());
        assert_eq!((watches.slots.len(), watches.by_fd.len()), (0, 0));
    }

    #[test]
    fn a_closed_and_reused_number_wakes_only_who_waits_for_the_new_file() {
        let (mut reactor, mut watches) = world();
        let (old, mut old_peer) = UnixStream::pair().unwrap();
        let kept = old.try_clone().unwrap();
        let mut number = OwnedFd::from(old);
        watches.add(&reactor, KIND, (CoreId(1), 1), number.as_raw_fd(), Interest::Read).unwrap();
        // The application closes its descriptor and the number is reused; a duplicate keeps the old file, and so the
        // registration, alive.
        let (new, mut new_peer) = UnixStream::pair().unwrap();
        rustix::io::dup2(&new, &mut number).unwrap();
        watches.add(&reactor, KIND, (CoreId(2), 5), number.as_raw_fd(), Interest::Read).unwrap();
        new_peer.write_all(b"x").unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), [(2, 5)]);
        // The old file still belongs to the first core's wait, and reports once only.
        old_peer.write_all(b"x").unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), [(1, 1)]);
        assert_eq!(ready(&mut reactor, &mut watches), []);
        drop(kept);
    }

    #[test]
    fn a_descriptor_that_is_watched_for_somebody_else_can_be_waited_for() {
        let (mut reactor, mut watches) = world();
        let (a, mut b) = UnixStream::pair().unwrap();
        reactor.add(a.as_raw_fd(), epoll::IN | epoll::ET, 42).unwrap();
        watches.add(&reactor, KIND, (CoreId(1), 1), a.as_raw_fd(), Interest::Read).unwrap();
        b.write_all(b"x").unwrap();
        let mut tokens = Vec::new();
        let mut woken = Vec::new();
        reactor.poll().unwrap();
        while let Some(event) = reactor.next_event() {
            tokens.push(event.token);
            watches.fired(&reactor, KIND, event.token, event.mask, &mut woken);
        }
        assert!(tokens.contains(&42), "the other registration is as it was");
        assert_eq!((woken.len(), watches.slots.len()), (1, 0), "the duplicate goes with its wait");
    }

    #[test]
    fn who_waits_goes_on_when_the_owner_needs_the_place() {
        let (mut reactor, mut watches) = world();
        let (a, mut b) = UnixStream::pair().unwrap();
        watches.add(&reactor, KIND, (CoreId(1), 1), a.as_raw_fd(), Interest::Read).unwrap();
        watches.make_room(&reactor, KIND, a.as_raw_fd()).unwrap();
        reactor.modify(a.as_raw_fd(), epoll::OUT | epoll::ET, 42).unwrap();
        b.write_all(b"x").unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), [(1, 1)]);
    }

    #[test]
    fn an_event_after_the_wait_ended_finds_nobody_and_comes_once() {
        let (mut reactor, mut watches) = world();
        let (a, mut b) = UnixStream::pair().unwrap();
        let key = watches.add(&reactor, KIND, (CoreId(1), 1), a.as_raw_fd(), Interest::Read).unwrap();
        watches.leave(&reactor, key, CoreId(1));
        b.write_all(b"x").unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), []);
        assert!(!reactor.poll().unwrap(), "one-shot: no second event");
        // The same descriptor can be waited for again, and is ready at once.
        watches.add(&reactor, KIND, (CoreId(4), 2), a.as_raw_fd(), Interest::Read).unwrap();
        assert_eq!(ready(&mut reactor, &mut watches), [(4, 2)]);
    }
}
