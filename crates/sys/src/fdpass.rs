//! Descriptors handed to another process over a UNIX socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// More descriptors than this are never sent in one message.
pub const MAX_FDS: usize = 32;

/// Sends `bytes` and, riding on the first of them, `fds` (at most [`MAX_FDS`]). Returns how many bytes were taken.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MAX_FDS || (!fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors in one message"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Taken,
    /// The queue is full for now: wait until the socket is writable.
    Full,
    /// The socket never takes a packet of that size.
    TooLarge,
}

/// Sends `bytes` as one packet with one descriptor, without waiting: all of it or nothing.
pub fn send_packet(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<Sent> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no room for a descriptor"));
    }
    loop {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        return match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => Ok(Sent::Taken),
            Err(Errno::AGAIN) => Ok(Sent::Full),
            Err(Errno::MSGSIZE) => Ok(Sent::TooLarge),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Receives bytes and descriptors (closed on exec). `Ok((0, _))`: the peer has closed.
pub fn recv(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_bytes_and_works() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(send(left.as_fd(), b"unread", &[theirs.as_fd()]).unwrap(), 6);
        drop(theirs);
        let mut bytes = [0; 64];
        let (n, mut fds) = recv(right.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..n], fds.len()), (&b"unread"[..], 1));
        let mut theirs = UnixStream::from(fds.remove(0));
        ours.write_all(b"ping").unwrap();
        let mut got = [0; 4];
        theirs.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ping");
    }

    #[test]
    fn a_packet_is_taken_whole_or_not_at_all() {
        let (give, take) = crate::process::message_pair().unwrap();
        let (connection, _client) = UnixStream::pair().unwrap();
        let huge = vec![0; 16 << 20];
        assert_eq!(send_packet(give.as_fd(), &huge, connection.as_fd()).unwrap(), Sent::TooLarge);
        let mut sent = 0;
        while send_packet(give.as_fd(), &[sent; 1000], connection.as_fd()).unwrap() == Sent::Taken {
            sent += 1;
        }
        assert!(sent > 0);
        let mut bytes = [0; 2000];
        for index in 0..sent {
            let (n, fds) = recv(take.as_fd(), &mut bytes).unwrap();
            assert_eq!((n, fds.len(), bytes[0]), (1000, 1, index));
        }
        assert_eq!(send_packet(give.as_fd(), b"x", connection.as_fd()).unwrap(), Sent::Taken);
    }
}
