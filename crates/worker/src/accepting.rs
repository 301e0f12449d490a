//! Listeners: accepting one connection at a time, so that a request starts while its bytes are in the cache, and not
//! accepting at all while nothing could be done for more clients. Also connections handed to or from another process.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use greenloom_config::Protocol;
use greenloom_sys::net::Peer;
use greenloom_sys::{epoll, net};

use crate::Listen;
use crate::connection::{Connection, State};
use crate::slots::Key;
use crate::worker::{Worker, kind};

/// Connections accepted in a row from one listener; the rest stay ready for the next turn.
const ACCEPTS_PER_TURN: u32 = 64;
/// The same when other workers accept from the listener, too: whoever takes few leaves some to the idle ones.
const SHARED_ACCEPTS_PER_TURN: u32 = 4;
/// Pause after an accept that failed for want of descriptors or memory.
const RETRY_MS: u64 = 100;
/// At least so many complete requests may wait for a core before the worker stops accepting.
const MIN_PARKED: usize = 64;

/// One listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: Option<OwnedFd>,
    pub(crate) protocol: Protocol,
    watched: bool,
    /// Connections still to accept in this turn.
    budget: u32,
}

impl Listener {
    pub(crate) fn new(listen: Listen) -> Self {
        Self { fd: Some(listen.fd), protocol: listen.protocol, watched: false, budget: 0 }
    }
}

/// A connection on its way to another process: everything that has to go with its descriptor.
#[derive(Debug)]
pub struct Exported {
    /// The socket.
    pub fd: OwnedFd,
    /// Bytes that were received and not used.
    pub unread: Vec<u8>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Who it is.
    pub peer: Peer,
}

impl Worker {
    /// Registers all listeners that are not watched.
    pub(crate) fn watch_listeners(&mut self) -> io::Result<()> {
        self.accepting_paused = true;
        let shared = if self.options.shares_listeners { epoll::EXCLUSIVE } else { 0 };
        for (index, listener) in (0u64..).zip(&mut self.listeners) {
            if let Some(fd) = listener.fd.as_ref().filter(|_| !listener.watched) {
                self.reactor.add(
                    fd.as_raw_fd(),
                    epoll::IN | shared,
                    u64::from(kind::LISTENER) << 56 | index,
                )?;
                listener.watched = true;
            }
        }
        self.accepting_paused = false;
        Ok(())
    }

    /// Takes the listeners out of the epoll set: new clients wait in the backlog, and nothing spins.
    fn unwatch_listeners(&mut self) {
        self.accepting_paused = true;
        for listener in &mut self.listeners {
            listener.budget = 0;
            if let Some(fd) = listener.fd.as_ref().filter(|_| listener.watched) {
                // A registration that is gone is what we want.
                let _ = self.reactor.delete(fd.as_raw_fd());
                listener.watched = false;
            }
        }
    }

    /// Whether taking more connections helps nobody: another worker may have a free core, or so many requests wait
    /// for one here that the backlog is the better place.
    fn is_crowded(&self) -> bool {
        if self.options.shares_listeners {
            return !self.cores.has_free();
        }
        self.parked.len() >= MIN_PARKED.max(self.options.cores as usize)
    }

    /// Accepts again, if it had stopped and there is no reason any more: a parked request has got its core, or the
    /// pause after a failure is over.
    pub(crate) fn resume_accepting(&mut self) {
        if self.draining || self.is_crowded() || self.reactor.now_ms() < self.paused_until_ms {
            return;
        }
        if let Err(error) = self.watch_listeners() {
            self.log_server(&format!("cannot watch a listener: {error}"));
            self.pause_accepting();
        }
    }

    /// Stops accepting for a moment, after a failure.
    fn pause_accepting(&mut self) {
        self.unwatch_listeners();
        self.paused_until_ms = self.reactor.now_ms() + RETRY_MS;
        self.reactor.arm(self.paused_until_ms, u64::from(kind::LISTENER) << 56);
    }

    /// Before a wait: while all cores here are busy, another worker must get the news of a new client. (The kernel
    /// wakes one of the epoll sets that wait, and only one.)
    pub(crate) fn leave_accepting_to_others(&mut self) {
        if self.options.shares_listeners && !self.accepting_paused && !self.cores.has_free() {
            self.unwatch_listeners();
        }
    }

    /// Accepts what is in the backlogs now, and nothing more from then on.
    pub(crate) fn close_listeners(&mut self) {
        self.unwatch_listeners();
        for index in 0..self.listeners.len() {
            while self.accept_one(index) {}
            self.listeners[index].fd = None;
        }
    }

    pub(crate) fn on_listener(&mut self, token: u64) {
        let index = usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        let budget = if self.options.shares_listeners { SHARED_ACCEPTS_PER_TURN } else { ACCEPTS_PER_TURN };
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.budget = budget;
        }
    }

    /// Accepts one connection of a listener that is ready; `false`: none is.
    pub(crate) fn accept_more(&mut self) -> bool {
        let Some(index) = self.listeners.iter().position(|listener| listener.budget > 0) else {
            return false;
        };
        if self.is_crowded() {
            // Whoever was woken for a client must take it: nobody else will hear of it.
            let woken = self.options.shares_listeners && !self.accepting_paused;
            self.unwatch_listeners();
            return woken && self.accept_one(index);
        }
        self.listeners[index].budget -= 1;
        if !self.accept_one(index) {
            self.listeners[index].budget = 0;
        }
        true
    }

    fn accept_one(&mut self, index: usize) -> bool {
        let Some(fd) = self.listeners.get(index).and_then(|listener| listener.fd.as_ref()) else {
            return false;
        };
        match net::accept(fd.as_fd()) {
            Ok(Some((fd, peer))) => {
                self.counters.accepted += 1;
                if self.options.so_keepalive && peer != Peer::Unix {
                    // A client that has gone already: its connection will say so.
                    let _ = net::set_keepalive(fd.as_fd(), true);
                }
                self.adopt(fd, peer, index, Vec::new());
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.log_server(&format!(
                    "cannot accept connections: {error}; trying again in {RETRY_MS} ms (raise --max-fd or the \
                     limit of open files if this stays)"
                ));
                self.pause_accepting();
                false
            }
        }
    }

    fn adopt(&mut self, fd: OwnedFd, peer: Peer, listener: usize, unread: Vec<u8>) -> Key {
        let mut connection = Connection::new(fd, peer, u32::try_from(listener).unwrap_or(u32::MAX));
        connection.unread = unread;
        let key = self.connections.insert(connection);
        self.set_deadline(key, Some(self.reactor.now_ms() + self.options.head_timeout_ms));
        self.advance(key);
        key
    }

    /// Takes a connection over from another process. It goes on as if it had been accepted here.
    /// Fails when no listener here speaks its protocol.
    pub fn import(&mut self, exported: Exported) -> Result<(), Exported> {
        let Some(listener) = self.listeners.iter().position(|l| l.protocol == exported.protocol) else {
            return Err(exported);
        };
        self.adopt(exported.fd, exported.peer, listener, exported.unread);
        Ok(())
    }

    /// Gives all connections away that no request holds: idle ones and those in the middle of a head. One whose body is
    /// still read by an application is not among them: its state cannot leave the core.
    /// They are closed here in any case when the value is dropped without being sent.
    pub fn export_idle(&mut self) -> Vec<Exported> {
        let mut exported = Vec::new();
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get(key) else { continue };
            if !matches!(connection.state, State::Idle | State::Head) || connection.has_output() {
                continue;
            }
            let protocol = self.protocol_of(connection.listener);
            let Some(connection) = self.connections.remove(key) else { continue };
            if connection.flags.registered {
                let _ = self.reactor.delete(connection.fd.as_raw_fd());
            }
            // Nobody else has it: only a running core's connection is shared with the flusher.
            if let Ok(fd) = std::sync::Arc::try_unwrap(connection.fd) {
                exported.push(Exported { fd, unread: connection.unread, protocol, peer: connection.peer });
            }
        }
        exported
    }

    /// What is spoken on connections of that listener.
    pub(crate) fn protocol_of(&self, listener: u32) -> Protocol {
        self.listeners.get(listener as usize).map_or(Protocol::Http, |listener| listener.protocol)
    }
}
