//! What master and generation say to each other over their socket, one message each packet.
//!
//! Owns the bytes (16 of them, and a registration's own behind them; both ends are the same program). Descriptors ride
//! along: a worker's end of its control socket with [`Order::Fork`], its pidfd with [`Report::Forked`].

use greenloom_proto::control::Registration;
use greenloom_sys::process::{Ending, Pid};

/// Every message has at least this length.
const LENGTH: usize = 16;
/// And none is longer than this: a registration holds at most a path.
pub(crate) const LONGEST: usize = 8192;

/// From the master to a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Fork worker `id`, which has `seat` on the scoreboard.
    Fork { id: u32, seat: u32 },
    /// Close the listeners: the instance stops, or another generation has taken over.
    StopListening,
    /// The log file was renamed: open it anew.
    ReopenLog,
}

/// From a generation to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The application is loaded (or left to the workers): orders are welcome.
    Loaded,
    /// Worker `id` was forked.
    Forked { id: u32, pid: Pid },
    /// Worker `id` could not be forked; the error's number (errno), 0 if it had none.
    ForkFailed { id: u32, errno: i32 },
    /// Worker `id` has ended.
    Died { id: u32, pid: Pid, ending: Ending },
    /// The application has registered something with the signal framework while it was loaded.
    Registered(Registration),
}

impl Order {
    pub(crate) fn encode(self) -> [u8; LENGTH] {
        match self {
            Self::Fork { id, seat } => pack(1, id, 0, seat.cast_signed()),
            Self::StopListening => pack(2, 0, 0, 0),
            Self::ReopenLog => pack(3, 0, 0, 0),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        match unpack(bytes)? {
            (1, id, 0, seat) => Some(Self::Fork { id, seat: seat.cast_unsigned() }),
            (2, 0, 0, 0) => Some(Self::StopListening),
            (3, 0, 0, 0) => Some(Self::ReopenLog),
            _ => None,
        }
    }
}

impl Report {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = match *self {
            Self::Loaded => pack(16, 0, 0, 0),
            Self::Forked { id, pid } => pack(17, id, pid.get(), 0),
            Self::ForkFailed { id, errno } => pack(18, id, 0, errno),
            Self::Died { id, pid, ending: Ending::Exited(code) } => pack(19, id, pid.get(), code),
            Self::Died { id, pid, ending: Ending::Signaled(signal) } => pack(20, id, pid.get(), signal),
            Self::Died { id, pid, ending: Ending::Unknown } => pack(21, id, pid.get(), 0),
            Self::Registered(_) => pack(22, 0, 0, 0),
        };
        let mut bytes = head.to_vec();
        if let Self::Registered(registration) = self {
            bytes.extend_from_slice(&registration.encode());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(LENGTH)?;
        let (kind, id, pid, value) = unpack(head)?;
        let ending = match kind {
            16 => return Some(Self::Loaded),
            17 => return Some(Self::Forked { id, pid: Pid::new(pid)? }),
            18 => return Some(Self::ForkFailed { id, errno: value }),
            19 => Ending::Exited(value),
            20 => Ending::Signaled(value),
            21 => Ending::Unknown,
            22 => return Registration::decode(rest).map(Self::Registered),
            _ => return None,
        };
        Some(Self::Died { id, pid: Pid::new(pid)?, ending })
    }
}

fn pack(kind: u32, id: u32, pid: i32, value: i32) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&kind.to_ne_bytes());
    bytes[4..8].copy_from_slice(&id.to_ne_bytes());
    bytes[8..12].copy_from_slice(&pid.to_ne_bytes());
    bytes[12..].copy_from_slice(&value.to_ne_bytes());
    bytes
}

fn unpack(bytes: &[u8]) -> Option<(u32, u32, i32, i32)> {
    let word = |index: usize| <[u8; 4]>::try_from(bytes.get(index * 4..index * 4 + 4)?).ok();
    if bytes.len() != LENGTH {
        return None;
    }
    Some((
        u32::from_ne_bytes(word(0)?),
        u32::from_ne_bytes(word(1)?),
        i32::from_ne_bytes(word(2)?),
        i32::from_ne_bytes(word(3)?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let pid = Pid::new(4711).unwrap();
        for order in [Order::Fork { id: 3, seat: u32::MAX }, Order::StopListening, Order::ReopenLog] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        for report in [
            Report::Loaded,
            Report::Forked { id: 1, pid },
            Report::ForkFailed { id: 2, errno: 11 },
            Report::Died { id: 3, pid, ending: Ending::Exited(22) },
            Report::Died { id: 3, pid, ending: Ending::Signaled(9) },
            Report::Died { id: 3, pid, ending: Ending::Unknown },
            Report::Registered(Registration::Timer { number: 3, interval_ms: 100, iterations: 0 }),
            Report::Registered(Registration::FileMonitor { number: 4, path: vec![b'x'; 4096] }),
        ] {
            assert!(report.encode().len() <= LONGEST);
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }

    #[test]
    fn other_bytes_are_no_message() {
        assert_eq!(Order::decode(&[0; LENGTH]), None);
        assert_eq!(Order::decode(&[1, 0, 0, 0]), None);
        assert_eq!(Report::decode(&[255; LENGTH]), None);
        assert_eq!(Report::decode(&pack(17, 1, 0, 0)), None, "no process has the id 0");
    }
}
