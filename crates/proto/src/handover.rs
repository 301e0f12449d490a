//! A connection on its way from one worker to another: the bytes that travel beside its descriptor.
//!
//! Owns the form of a packet. Which connections are handed over, and when, is the worker's; the sockets are the process
//! tree's. Sender and receiver are the same program, but one may be of the version before an upgrade: the first byte is
//! the form's version, and what does not parse is refused whole.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The form described here.
const VERSION: u8 = 1;
/// The connection has had a response.
const SERVED: u8 = 1;
/// The unread bytes are the beginning of a head.
const IN_HEAD: u8 = 2;

/// What is spoken on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http,
    /// The uwsgi protocol.
    Uwsgi,
}

/// Everything that has to go with a connection's descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What is spoken.
    pub spoken: Spoken,
    /// Where its listener is bound: the receiver looks for the same one.
    pub listener: &'a [u8],
    /// The client's address and port; `None`: it came over a UNIX socket.
    pub peer: Option<(IpAddr, u16)>,
    /// It has had a response: its idle time is keep-alive.
    pub served: bool,
    /// Milliseconds since the first byte of the head that is in `unread`, if its beginning has been looked at.
    pub head_age_ms: Option<u32>,
    /// Milliseconds its client has left for what it does now.
    pub left_ms: u32,
    /// Bytes that were received and not used.
    pub unread: &'a [u8],
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// It has another form, of this number.
    Version(u8),
    /// It is not what its form says.
    Malformed,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "form {version} of another version of greenloom"),
            Self::Malformed => f.write_str("malformed"),
        }
    }
}

impl core::error::Error for PacketError {}

impl<'a> Packet<'a> {
    /// Appends the packet to `out`. A listener's name of more than 64 KiB is cut: no address is that long.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags =
            if self.served { SERVED } else { 0 } | if self.head_age_ms.is_some() { IN_HEAD } else { 0 };
        let spoken = match self.spoken {
            Spoken::Http => 1,
            Spoken::Uwsgi => 2,
        };
        out.extend_from_slice(&[VERSION, flags, spoken]);
        match self.peer {
            None => out.push(0),
            Some((IpAddr::V4(address), port)) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
                out.extend_from_slice(&port.to_le_bytes());
            }
            Some((IpAddr::V6(address), port)) => {
                out.push(6);
                out.extend_from_slice(&address.octets());
                out.extend_from_slice(&port.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.head_age_ms.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&self.left_ms.to_le_bytes());
        let name = u16::try_from(self.listener.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&name.to_le_bytes());
        out.extend_from_slice(&self.listener[..usize::from(name)]);
        // The length again: a packet that was cut on its way is told from one with fewer bytes.
        out.extend_from_slice(&u32::try_from(self.unread.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(self.unread);
    }

    /// The packet that `bytes` are, all of them.
    ///
    /// # Errors
    /// When they are none: nothing of it may be used then.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, PacketError> {
        match bytes.first() {
            Some(&VERSION) => Self::decode_fields(&bytes[1..]).ok_or(PacketError::Malformed),
            Some(&other) => Err(PacketError::Version(other)),
            None => Err(PacketError::Malformed),
        }
    }

    fn decode_fields(bytes: &'a [u8]) -> Option<Self> {
        let (&[flags, spoken, peer], bytes) = bytes.split_first_chunk()?;
        let spoken = match spoken {
            1 => Spoken::Http,
            2 => Spoken::Uwsgi,
            _ => return None,
        };
        let (address, bytes) = match peer {
            0 => (None, bytes),
            4 => {
                let (octets, bytes) = bytes.split_first_chunk::<4>()?;
                (Some(IpAddr::V4(Ipv4Addr::from(*octets))), bytes)
            }
            6 => {
                let (octets, bytes) = bytes.split_first_chunk::<16>()?;
                (Some(IpAddr::V6(Ipv6Addr::from(*octets))), bytes)
            }
            _ => return None,
        };
        let (peer, bytes) = match address {
            None => (None, bytes),
            Some(address) => {
                let (port, bytes) = bytes.split_first_chunk()?;
                (Some((address, u16::from_le_bytes(*port))), bytes)
            }
        };
        let (age, bytes) = bytes.split_first_chunk()?;
        let (left, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        let (listener, bytes) = bytes.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (length, unread) = bytes.split_first_chunk()?;
        let age = u32::from_le_bytes(*age);
        let in_head = flags & IN_HEAD != 0;
        if flags & !(SERVED | IN_HEAD) != 0
            || u32::try_from(unread.len()) != Ok(u32::from_le_bytes(*length))
            || (!in_head && age != 0)
            || (in_head && unread.is_empty())
        {
            return None;
        }
        Some(Self {
            spoken,
            listener,
            peer,
            served: flags & SERVED != 0,
            head_age_ms: in_head.then_some(age),
            left_ms: u32::from_le_bytes(*left),
            unread,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn packets() -> Vec<Packet<'static>> {
        let idle = Packet {
            spoken: Spoken::Http,
            listener: b"127.0.0.1:8080",
            peer: Some(("192.0.2.1".parse().unwrap(), 4711)),
            served: true,
            head_age_ms: None,
            left_ms: 75_000,
            unread: b"",
        };
        vec![
            idle,
            Packet { unread: b"GET / HTTP/1.1\r\n\r\nGET", ..idle },
            Packet { unread: b"GET /half", head_age_ms: Some(7), served: false, ..idle },
            Packet { peer: Some(("2001:db8::1".parse().unwrap(), 65535)), ..idle },
            Packet { spoken: Spoken::Uwsgi, peer: None, listener: b"/run/app.sock", left_ms: 0, ..idle },
            Packet { listener: b"", unread: b"\x00\xff", ..idle },
        ]
    }

    #[test]
    fn a_packet_arrives_as_it_was_sent() {
        for packet in packets() {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            assert_eq!(Packet::decode(&bytes), Ok(packet));
        }
    }

    #[test]
    fn a_packet_that_was_cut_or_has_grown_is_refused() {
        for packet in packets() {
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            for end in 0..bytes.len() {
                assert_eq!(Packet::decode(&bytes[..end]), Err(PacketError::Malformed), "{end} of {packet:?}");
            }
            bytes.push(0);
            assert_eq!(Packet::decode(&bytes), Err(PacketError::Malformed));
        }
    }

    #[test]
    fn another_form_is_named() {
        assert_eq!(Packet::decode(&[2, 0, 0]), Err(PacketError::Version(2)));
    }
}
