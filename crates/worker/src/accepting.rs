//! Listeners: accepting one connection at a time, so that a request starts while its bytes are in the cache, and not
//! accepting at all while nothing could be done for more clients, or while it is the turn of other workers (who decides
//! that is `balance.rs`). Connections that other workers give away (`handover.rs`) come in by the same rules.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use greenloom_config::Protocol;
use greenloom_sys::net::Peer;
use greenloom_sys::{epoll, net};

use crate::Listen;
use crate::balance::{ASIDE_MS, Share};
use crate::connection::Connection;
use crate::handover::name_of;
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
    /// Where it is bound; what a connection that changes workers finds it by.
    pub(crate) name: Vec<u8>,
    watched: bool,
    /// Connections still to accept in this turn.
    budget: u32,
    /// It has given a connection in this turn.
    gave: bool,
}

/// Where connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The listener of this number.
    Listener(usize),
    /// The queue of connections that other workers give away.
    Handover,
}

impl Listener {
    pub(crate) fn new(listen: Listen) -> Self {
        Self {
            protocol: listen.protocol,
            name: name_of(listen.fd.as_fd()),
            fd: Some(listen.fd),
            watched: false,
            budget: 0,
            gave: false,
        }
    }
}

impl Worker {
    /// Registers all listeners that are not watched, and the queue of other workers' connections.
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
        let leaves = self.draining || self.makes_room();
        if let Some(handover) = self.handover.as_mut().filter(|handover| !handover.watched && !leaves) {
            let token = u64::from(kind::TAKE) << 56;
            self.reactor.add(handover.take.as_raw_fd(), epoll::IN, token)?;
            handover.watched = true;
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
        if let Some(handover) = &mut self.handover {
            handover.budget = 0;
            if std::mem::take(&mut handover.watched) {
                let _ = self.reactor.delete(handover.take.as_raw_fd());
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
        if self.draining
            || self.makes_room()
            || self.is_crowded()
            || self.reactor.now_ms() < self.paused_until_ms
        {
            return;
        }
        if let Err(error) = self.watch_listeners() {
            self.log_server(&format!("cannot watch a listener: {error}"));
            self.pause_accepting(RETRY_MS);
        }
    }

    /// Stops accepting for a moment.
    fn pause_accepting(&mut self, ms: u64) {
        self.unwatch_listeners();
        self.paused_until_ms = self.reactor.now_ms() + ms;
        self.reactor.arm(self.paused_until_ms, u64::from(kind::LISTENER) << 56);
    }

    /// No connection can be accepted for now, for want of descriptors or memory.
    pub(crate) fn accept_failed(&mut self, error: &io::Error) {
        self.log_server(&format!(
            "cannot accept connections: {error}; trying again in {RETRY_MS} ms (raise --max-fd or the limit of open \
             files if this stays)"
        ));
        self.pause_accepting(RETRY_MS);
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
        let budget = self.budget();
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.budget = budget;
        }
    }

    /// Other workers have given connections away.
    pub(crate) fn on_take(&mut self) {
        let budget = if self.makes_room() { 0 } else { self.budget() };
        if let Some(handover) = &mut self.handover {
            handover.budget = budget;
        }
    }

    /// Connections to take at most, now that there are some. While it is the turn of others, 0: then nothing is watched.
    fn budget(&mut self) -> u32 {
        if !self.options.shares_listeners {
            return ACCEPTS_PER_TURN;
        }
        self.look_at_others();
        match self.balance.share(self.connections.len() as u64, self.reactor.now_ms()) {
            Share::Usual => SHARED_ACCEPTS_PER_TURN,
            Share::One => 1,
            Share::Nothing => {
                self.pause_accepting(ASIDE_MS);
                0
            }
        }
    }

    fn look_at_others(&mut self) {
        let others = &mut self.balance.others;
        others.clear();
        self.instance.others(&mut |load| others.push(load));
    }

    /// At the end of a turn: tells the other workers how this one stands, and lets them come first at the listeners that have given this one a connection.
    pub(crate) fn let_others_come(&mut self) {
        if !self.options.shares_listeners {
            return;
        }
        let accepts = !self.draining && !self.makes_room() && self.cores.has_free();
        let connections = self.connections.len() as u64;
        if self.balance.said != (accepts, connections) {
            self.balance.said = (accepts, connections);
            self.instance.set_load(accepts, connections);
        }
        if self.balance.accepted < SHARED_ACCEPTS_PER_TURN {
            return;
        }
        self.balance.accepted = 0;
        self.look_at_others();
        let goes = !self.accepting_paused && self.balance.goes_to_the_end(connections);
        for (index, listener) in (0u64..).zip(&mut self.listeners) {
            let gave = std::mem::take(&mut listener.gave);
            let Some(fd) = listener.fd.as_ref().filter(|_| gave && goes && listener.watched) else {
                continue;
            };
            let token = u64::from(kind::LISTENER) << 56 | index;
            let moved = self
                .reactor
                .delete(fd.as_raw_fd())
                .and_then(|()| self.reactor.add(fd.as_raw_fd(), epoll::IN | epoll::EXCLUSIVE, token));
            listener.watched = moved.is_ok();
        }
        if self.listeners.iter().any(|listener| listener.fd.is_some() && !listener.watched) && goes {
            self.pause_accepting(RETRY_MS);
        }
    }

    /// Takes one connection of a source that is ready; `false`: none is.
    pub(crate) fn accept_more(&mut self) -> bool {
        let queue = self.handover.as_ref().is_some_and(|handover| handover.budget > 0);
        let source = match self.listeners.iter().position(|listener| listener.budget > 0) {
            Some(index) => Source::Listener(index),
            None if queue => Source::Handover,
            None => return false,
        };
        if self.is_crowded() {
            // Whoever was woken for a client must take it: nobody else will hear of it.
            let woken = self.options.shares_listeners && !self.accepting_paused;
            self.unwatch_listeners();
            return woken && self.take_from(source);
        }
        let taken = self.take_from(source);
        let budget = match source {
            Source::Listener(index) => self.listeners.get_mut(index).map(|listener| &mut listener.budget),
            Source::Handover => self.handover.as_mut().map(|handover| &mut handover.budget),
        };
        if let Some(budget) = budget {
            *budget = if taken { budget.saturating_sub(1) } else { 0 };
        }
        true
    }

    fn take_from(&mut self, source: Source) -> bool {
        match source {
            Source::Listener(index) => self.accept_one(index),
            Source::Handover => self.take_one(),
        }
    }

    fn accept_one(&mut self, index: usize) -> bool {
        let Some(listener) = self.listeners.get_mut(index) else { return false };
        let Some(fd) = listener.fd.as_ref() else { return false };
        match net::accept(fd.as_fd()) {
            Ok(Some((fd, peer))) => {
                listener.gave = true;
                self.balance.accepted += 1;
                self.counters.accepted += 1;
                if self.options.so_keepalive && peer != Peer::Unix {
                    // A client that has gone already: its connection will say so.
                    let _ = net::set_keepalive(fd.as_fd(), true);
                }
                let connection = Connection::new(fd, peer, u32::try_from(index).unwrap_or(u32::MAX));
                self.adopt(connection, self.reactor.now_ms() + self.options.head_timeout_ms);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.accept_failed(&error);
                false
            }
        }
    }

    /// A connection begins here: accepted, or taken over.
    pub(crate) fn adopt(&mut self, connection: Connection, deadline_ms: u64) {
        let key = self.connections.insert(connection);
        self.set_deadline(key, Some(deadline_ms));
        if !self.makes_room() || !self.offer(key) {
            self.advance(key);
        }
    }

    /// What is spoken on connections of that listener.
    pub(crate) fn protocol_of(&self, listener: u32) -> Protocol {
        self.listeners.get(listener as usize).map_or(Protocol::Http, |listener| listener.protocol)
    }
}
