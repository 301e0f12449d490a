//! The flusher thread: what makes coalesced yields harmless.
//!
//! An iterable that yields without waiting for anything may be asked for its next part at once, and the parts go out
//! together: one small packet per yield is nearly all that a stream costs. But PEP 3333 wants no part to wait for the
//! next one, and the application may compute, sleep or block between two yields. So the bytes that the reactor's
//! thread holds back lie in one slot shared with this thread, which sends them while the application has control:
//! within [`TICK`], whatever the application does. It needs no interpreter and touches nothing but the slot.
//!
//! Only one core can have bytes here: a core that is suspended has its bytes sent first.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenloom_sys::{OwnedFd, net};

/// How often the thread looks while there is something to do.
const TICK: Duration = Duration::from_micros(500);
/// Empty ticks after which it sleeps until it is called.
const PATIENCE: u32 = 40;

#[derive(Debug, Default)]
struct Slot {
    /// Whose bytes these are; `None`: the slot is empty.
    fd: Option<Arc<OwnedFd>>,
    bytes: Vec<u8>,
    /// The socket does not take them for now, or for ever: the reactor's thread will find out.
    refused: bool,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    called: Condvar,
    asleep: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot and its thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread. To be called after the last fork.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("greenloom-flusher".to_owned()).spawn(move || run(&theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Leaves `bytes` to the thread; `bytes` is empty afterwards. Returns how many bytes wait in the slot.
    pub(crate) fn hold(&self, fd: &Arc<OwnedFd>, bytes: &mut Vec<u8>) -> usize {
        let mut slot = self.shared.lock();
        if slot.bytes.is_empty() {
            std::mem::swap(&mut slot.bytes, bytes);
        } else {
            slot.bytes.append(bytes);
        }
        if slot.fd.is_none() {
            slot.fd = Some(Arc::clone(fd));
        }
        let held = slot.bytes.len();
        drop(slot);
        if self.shared.asleep.load(Ordering::Acquire) {
            self.shared.called.notify_one();
        }
        held
    }

    /// Takes back what was not sent: `bytes`, which must be empty, holds it afterwards.
    pub(crate) fn take_back(&self, bytes: &mut Vec<u8>) {
        let mut slot = self.shared.lock();
        std::mem::swap(&mut slot.bytes, bytes);
        slot.fd = None;
        slot.refused = false;
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.called.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut idle = 0;
    let mut slot = shared.lock();
    loop {
        if slot.stop {
            return;
        }
        idle = if send(&mut slot) { 0 } else { idle + 1 };
        slot = if idle < PATIENCE {
            shared.called.wait_timeout(slot, TICK).unwrap_or_else(PoisonError::into_inner).0
        } else {
            shared.asleep.store(true, Ordering::Release);
            // Bytes may have come between the look and the flag; whoever brings some later sees the flag.
            let woken = shared
                .called
                .wait_while(slot, |slot| !slot.stop && slot.fd.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            shared.asleep.store(false, Ordering::Release);
            idle = 0;
            // The first bytes after a quiet time get the same chance to be joined by others.
            shared.called.wait_timeout(woken, TICK).unwrap_or_else(PoisonError::into_inner).0
        };
    }
}

/// Whether there was something to send.
fn send(slot: &mut Slot) -> bool {
    let Some(fd) = slot.fd.as_ref() else { return false };
    if slot.bytes.is_empty() || slot.refused {
        return !slot.bytes.is_empty();
    }
    match net::send(fd.as_fd(), &slot.bytes) {
        Ok(0) | Err(_) => slot.refused = true,
        Ok(n) => drop(slot.bytes.drain(..n)),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn held_bytes_leave_although_nobody_asks() {
        let flusher = Flusher::start().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let fd = Arc::new(OwnedFd::from(ours));
        for round in 0..3 {
            let mut bytes = b"part".to_vec();
            assert_eq!(flusher.hold(&fd, &mut bytes), 4);
            let mut got = [0; 4];
            theirs.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"part", "round {round}");
            // The bytes are seen by the peer before the thread has taken them out of the slot.
            let mut rest = Vec::new();
            flusher.take_back(&mut rest);
            assert!(rest.is_empty(), "sent bytes must not come back");
        }
    }

    #[test]
    fn what_was_not_sent_comes_back_in_order() {
        let flusher = Flusher::start().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let fd = Arc::new(OwnedFd::from(ours));
        let sent: Vec<u8> = (0u8..=255).cycle().take(4 << 20).collect();
        flusher.hold(&fd, &mut sent.clone());
        let mut rest = Vec::new();
        flusher.take_back(&mut rest);
        drop(flusher);
        drop(fd);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        got.append(&mut rest);
        assert!(got == sent);
    }
}
