//! Sockets of connections: accept, receive, send, peer addresses. Binding listeners is `listen.rs`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, acceptfrom_with, sendmsg, sockopt,
};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client; an IPv4-mapped IPv6 address is given as IPv4.
    Ip(IpAddr, u16),
    /// A client of a UNIX socket.
    Unix,
}

/// Accepts one connection, non-blocking and closed on exec. `Ok(None)`: nobody waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Peer)>> {
    match acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((fd, address)) => Ok(Some((fd, address.map_or(Peer::Unix, |a| peer_of(&a))))),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn peer_of(address: &SocketAddrAny) -> Peer {
    match SocketAddr::try_from(address.clone()) {
        Ok(SocketAddr::V4(v4)) => Peer::Ip(IpAddr::V4(*v4.ip()), v4.port()),
        Ok(SocketAddr::V6(v6)) => Peer::Ip(v6.ip().to_canonical(), v6.port()),
        Err(_) => Peer::Unix,
    }
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The peer has closed its sending side.
    End,
}

/// Receives without blocking.
pub fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    loop {
        return match rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Ok(Received::End),
            Ok((n, _)) => Ok(Received::Bytes(n)),
            Err(rustix::io::Errno::AGAIN) => Ok(Received::Nothing),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Sends without blocking and without SIGPIPE; `Ok(0)`: the socket's buffer is full.
pub fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    send_with(fd, bytes, SendFlags::empty())
}

/// As [`send`]; more follows at once, and a packet that is not full may wait for it (`MSG_MORE`).
pub fn send_more(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    send_with(fd, bytes, SendFlags::MORE)
}

fn send_with(fd: BorrowedFd<'_>, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
    loop {
        return match rustix::net::send(fd, bytes, flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => Ok(n),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Sends several pieces in one system call, like [`send`].
pub fn send_vectored(fd: BorrowedFd<'_>, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
    loop {
        let mut control = SendAncillaryBuffer::default();
        return match sendmsg(fd, pieces, &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => Ok(n),
            Err(rustix::io::Errno::AGAIN) => Ok(0),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Says the end of our side to the peer.
pub fn shutdown_write(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(fd, rustix::net::Shutdown::Write)?)
}

/// `SO_KEEPALIVE`.
pub fn set_keepalive(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_socket_keepalive(fd, on)?)
}
