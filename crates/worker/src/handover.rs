//! Connections that change workers: a worker that makes room for another gives every connection without a request to
//! the instance's queue, and whoever accepts connections takes them out of it. Their clients notice nothing.
//!
//! Owns which connections go, when, and how they begin elsewhere; the form of a packet is `greenloom_proto::handover`, the
//! queue is the process tree's: a pair of packet sockets that all workers share, so that a connection in it outlives
//! both its workers.
//!
//! - **What goes.** Idle connections, those in the middle of a head, those that have just been accepted: at once. One with a
//!   request (its body still comes, it waits for a core, it has one, its response drains) when its response has left.
//! - **No byte is lost.** What the kernel has received stays with the socket, what was read goes along. The other worker
//!   may be the first to look at either.
//! - **The queue is full, or takes no packet that large:** the connection stays, and is served here meanwhile.
//! - **Nobody is overlooked.** Every worker that accepts is woken for what is given away, not one as for a listener: that
//!   one may be leaving, too, and a connection with a request in it would lie in the queue until the next one comes.
//! - **No descriptor is lost.** A packet is not received while there is no room for its descriptor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use greenloom_config::Protocol;
use greenloom_proto::handover::{Packet, Spoken};
use greenloom_sys::fdpass::{self, Sent};
use greenloom_sys::listen::{self, LocalAddress};
use greenloom_sys::net::Peer;
use greenloom_sys::{BorrowedFd, epoll};

use crate::connection::{Connection, State};
use crate::inbound::printable;
use crate::slots::Key;
use crate::worker::{Worker, kind};

/// Largest packet. Two heads of the largest size and a receive's worth of bytes fit; so does the packet into a socket
/// of the kernel's usual size (`net.core.wmem_default`).
const PACKET: usize = 192 * 1024;
/// Pause after a failure that no event ends (descriptors in flight are bounded for each user).
const RETRY_MS: u64 = 20;
const NS_PER_MS: u64 = 1_000_000;

/// The instance's queue of connections, and this worker's part in it.
#[derive(Debug)]
pub(crate) struct Handover {
    give: OwnedFd,
    pub(crate) take: OwnedFd,
    /// This worker gives its connections away, and takes none.
    leaving: bool,
    /// Connections to give, in order. Some may have got a request, or have ended.
    offers: VecDeque<Key>,
    /// The queue takes nothing for now.
    blocked: bool,
    /// `take` is in the epoll set.
    pub(crate) watched: bool,
    /// Connections still to take in this turn.
    pub(crate) budget: u32,
    /// Room for a packet; empty until the first one.
    packet: Vec<u8>,
}

impl Worker {
    /// Shares the instance's queue of connections (see the process tree): packets given to `give` come out of `take`,
    /// in any of its processes. Both never block.
    pub fn share_connections(&mut self, give: OwnedFd, take: OwnedFd) -> io::Result<()> {
        self.handover = Some(Handover {
            give,
            take,
            leaving: false,
            offers: VecDeque::new(),
            blocked: false,
            watched: false,
            budget: 0,
            packet: Vec::new(),
        });
        if self.accepting_paused { Ok(()) } else { self.watch_listeners() }
    }

    /// Makes room for other workers: gives them what the listeners have and every connection without a request, and the
    /// others as their requests end. [`crate::Action::Leave`] comes when nothing is left. Without a queue it drains.
    pub fn make_room(&mut self) {
        if self.draining {
            return;
        }
        match &mut self.handover {
            None => return self.drain(),
            Some(handover) if handover.leaving => return,
            Some(handover) => handover.leaving = true,
        }
        self.close_listeners();
        for key in self.connections.keys() {
            if self.connections.get(key).is_some_and(holds_no_request) {
                self.offer(key);
            }
        }
    }

    /// Whether connections without a request are given away.
    pub(crate) fn makes_room(&self) -> bool {
        !self.draining && self.handover.as_ref().is_some_and(|handover| handover.leaving)
    }

    /// A connection without a request is to go to another worker at the end of this turn. `false`: that has to wait, so
    /// it has to be listened to meanwhile.
    pub(crate) fn offer(&mut self, key: Key) -> bool {
        let (Some(handover), Some(connection)) = (&mut self.handover, self.connections.get_mut(key)) else {
            return false;
        };
        if !connection.flags.offered {
            connection.flags.offered = true;
            handover.offers.push_back(key);
        }
        !handover.blocked
    }

    /// Whether the end of a turn would give something away.
    pub(crate) fn has_offers(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| !handover.blocked && !handover.offers.is_empty())
    }

    /// Gives away what is to go, as far as the queue takes it.
    pub(crate) fn give_away(&mut self) {
        loop {
            let Some(handover) = self.handover.as_mut().filter(|handover| !handover.blocked) else { return };
            let Some(key) = handover.offers.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.flags.offered = false;
            if !holds_no_request(connection) {
                continue; // It comes again when its response has left.
            }
            match self.give(key) {
                Ok(Sent::Taken) => {}
                // The bytes that make it too large are requests to be served here, or the head of one.
                Ok(Sent::TooLarge) => self.enqueue(key),
                full => return self.wait_to_give(key, full.err()),
            }
        }
    }

    fn give(&mut self, key: Key) -> io::Result<Sent> {
        let now_ms = self.reactor.now_ms();
        let Some(handover) = &self.handover else { return Ok(Sent::Full) };
        let Some(connection) = self.connections.get(key) else { return Ok(Sent::Taken) };
        let Some(listener) = self.listeners.get(connection.listener as usize) else {
            return Ok(Sent::TooLarge);
        };
        let to_u32 = |ms: u64| u32::try_from(ms).unwrap_or(u32::MAX);
        let packet = Packet {
            spoken: spoken(listener.protocol),
            listener: &listener.name,
            peer: match connection.peer {
                Peer::Ip(address, port) => Some((address, port)),
                Peer::Unix => None,
            },
            served: connection.flags.served,
            head_age_ms: matches!(connection.state, State::Head)
                .then(|| to_u32(self.reactor.now_ns().saturating_sub(connection.began_ns) / NS_PER_MS)),
            left_ms: connection.deadline_ms.map_or(u32::MAX, |at_ms| to_u32(at_ms.saturating_sub(now_ms))),
            unread: &connection.unread,
        };
        let mut bytes = Vec::with_capacity(128 + connection.unread.len());
        packet.encode(&mut bytes);
        if bytes.len() > PACKET {
            return Ok(Sent::TooLarge);
        }
        let sent = fdpass::send_packet(handover.give.as_fd(), &bytes, connection.fd.as_fd())?;
        if sent == Sent::Taken {
            // The socket lives on in the packet, so closing our descriptor would leave it in the epoll set.
            if connection.flags.registered {
                let _ = self.reactor.delete(connection.fd.as_raw_fd());
            }
            self.connections.remove(key);
            self.counters.given += 1;
        }
        Ok(sent)
    }

    /// The queue takes nothing for now: what is offered waits, and is listened to meanwhile.
    fn wait_to_give(&mut self, key: Key, error: Option<io::Error>) {
        let Some(handover) = &mut self.handover else { return };
        handover.blocked = true;
        handover.offers.push_front(key);
        let token = u64::from(kind::GIVE) << 56;
        let watched = match error {
            None => self.reactor.add(handover.give.as_raw_fd(), epoll::OUT, token),
            Some(error) => Err(error),
        };
        if watched.is_err() {
            self.reactor.arm(self.reactor.now_ms() + RETRY_MS, token);
        }
        let offers: Vec<Key> = handover.offers.iter().copied().collect();
        for key in offers {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.flags.offered = true;
            let flags = connection.flags;
            let unused = matches!(connection.state, State::Idle) && !connection.unread.is_empty();
            if holds_no_request(connection) && (!flags.registered || flags.readable || unused) {
                self.enqueue(key);
            }
        }
    }

    /// The queue may take connections again; it is tried at the end of the turn.
    pub(crate) fn on_give(&mut self) {
        if let Some(handover) = &mut self.handover {
            handover.blocked = false;
            // Not registered after a failure: then it is what we want.
            let _ = self.reactor.delete(handover.give.as_raw_fd());
        }
    }

    /// Takes all connections out of the queue: the instance stops, and nobody may come after us.
    pub(crate) fn take_all(&mut self) {
        while self.take_one() {}
    }

    /// Takes a connection out of the queue; `false`: there is none.
    pub(crate) fn take_one(&mut self) -> bool {
        let Some(handover) = &mut self.handover else { return false };
        // The kernel drops a descriptor for which there is no room.
        if let Err(error) = handover.take.try_clone() {
            self.accept_failed(&error);
            return false;
        }
        handover.packet.resize(PACKET, 0);
        let mut packet = std::mem::take(&mut handover.packet);
        let taken = match fdpass::recv(handover.take.as_fd(), &mut packet) {
            Ok((0, _)) => false,
            Ok((n, fds)) => {
                if let Err(reason) = self.import(&packet[..n], fds) {
                    self.note_orphan(&reason);
                }
                true
            }
            Err(error) => {
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                    self.accept_failed(&error);
                }
                false
            }
        };
        if let Some(handover) = &mut self.handover {
            handover.packet = packet;
        }
        taken
    }

    /// Goes on with a connection of another worker. `Err`: why it is closed instead.
    fn import(&mut self, packet: &[u8], mut fds: Vec<OwnedFd>) -> Result<(), String> {
        let packet = Packet::decode(packet).map_err(|error| error.to_string())?;
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
            return Err("not one descriptor".to_owned());
        };
        let listener = self
            .listeners
            .iter()
            .position(|l| spoken(l.protocol) == packet.spoken && l.name == packet.listener)
            .ok_or_else(|| {
                let name = String::from_utf8_lossy(packet.listener);
                format!("nobody listens on {} any more", printable(&name))
            })?;
        let peer = packet.peer.map_or(Peer::Unix, |(address, port)| Peer::Ip(address, port));
        let now_ms = self.reactor.now_ms();
        let mut connection = Connection::new(fd, peer, u32::try_from(listener).unwrap_or(u32::MAX));
        connection.unread = packet.unread.to_vec();
        connection.flags.served = packet.served;
        if let Some(age_ms) = packet.head_age_ms {
            connection.state = State::Head;
            connection.began_ns = self.reactor.now_ns().saturating_sub(u64::from(age_ms) * NS_PER_MS);
        }
        self.counters.taken += 1;
        self.adopt(connection, now_ms + u64::from(packet.left_ms));
        Ok(())
    }

    /// A connection of another worker had to be closed: says so, at most once a second.
    fn note_orphan(&mut self, reason: &str) {
        self.counters.orphaned += 1;
        let now_ms = self.reactor.now_ms();
        if self.orphan_logged_ms.is_none_or(|at_ms| now_ms >= at_ms + 1000) {
            self.orphan_logged_ms = Some(now_ms);
            self.log_server(&format!(
                "a connection of another worker cannot go on here and is closed: {reason} ({} so far)",
                self.counters.orphaned
            ));
        }
    }
}

/// Where a listener is bound, the same in every process that has it.
pub(crate) fn name_of(listener: BorrowedFd<'_>) -> Vec<u8> {
    match listen::local_address(listener) {
        Ok(LocalAddress::Tcp(address)) => address.to_string().into_bytes(),
        Ok(LocalAddress::Unix(path)) => path.into_os_string().into_encoded_bytes(),
        Ok(LocalAddress::Abstract(name)) => [b"@", &name[..]].concat(),
        Ok(LocalAddress::Other) | Err(_) => Vec::new(),
    }
}

fn spoken(protocol: Protocol) -> Spoken {
    match protocol {
        Protocol::Http => Spoken::Http,
        Protocol::Uwsgi => Spoken::Uwsgi,
    }
}

/// Whether all of a connection can go: nothing of a request or a response is here but received bytes.
fn holds_no_request(connection: &Connection) -> bool {
    matches!(connection.state, State::Idle | State::Head) && !connection.has_output()
}
