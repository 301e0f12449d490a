//! What master and workers say to each other over a worker's control socket.
//!
//! Owns the bytes: a kind, the payload's length (two bytes, little-endian), the payload. Both ends are the same program,
//! so a frame that does not parse is a defect: [`Frames::next`] skips what it does not know. The processes' side of it
//! (who sends when, and what follows) is the master's and the worker's.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes before the payload.
const HEAD: usize = 3;

/// From the master to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToWorker {
    /// The instance stops: close the listeners, finish the requests, leave.
    Drain,
    /// Other workers accept now: give them the listeners' queue and every connection without a request, finish the
    /// requests, give their connections away, too, and leave.
    HandOver,
    /// Leave at once.
    Quit,
    /// A uwsgi signal for this worker.
    Signal(u8),
    /// The log file was renamed: open it anew.
    ReopenLog,
}

/// From a worker to the master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromWorker {
    /// It accepts connections.
    Ready,
    /// It wants to make room for a fresh process, for this reason (a line of the log).
    Recycle(String),
    /// The application asks for a reload of the instance.
    Reload,
    /// The application asks for a stop of the instance.
    Stop,
    /// Its requests set deadlines for themselves, here and now for the first time.
    Deadlines,
    /// The application raises a uwsgi signal.
    Signal(u8),
    /// The loop has taken a [`ToWorker::Signal`] of this number: it is the worker's business from now on. Until it says so, the
    /// master gives it to another process if this one dies, and gives this one but a few more.
    SignalTaken(u8),
    /// The application registers something with the signal framework.
    Register(Registration),
}

/// What an application registers with the signal framework. Numbers are uwsgi signals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// A handler, and who is to run it (`worker`, `workers`, `worker2`... as in uWSGI).
    Handler {
        /// The signal.
        number: u8,
        /// Who runs it.
        target: String,
    },
    /// Raise the signal at intervals.
    Timer {
        /// The signal.
        number: u8,
        /// Milliseconds between two.
        interval_ms: u64,
        /// How often; 0 is for ever.
        iterations: u32,
    },
    /// Raise the signal at these times: minute, hour, day, month, weekday; -1 is any, -n is every n.
    Cron {
        /// The signal.
        number: u8,
        /// The five fields.
        fields: [i32; 5],
    },
    /// Raise the signal when the file or directory changes.
    FileMonitor {
        /// The signal.
        number: u8,
        /// Its path, absolute.
        path: Vec<u8>,
    },
}

impl ToWorker {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Drain => frame(b'd', &[]),
            Self::HandOver => frame(b'h', &[]),
            Self::Quit => frame(b'q', &[]),
            Self::Signal(number) => frame(b's', &[*number]),
            Self::ReopenLog => frame(b'l', &[]),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        match (kind, payload) {
            (b'd', []) => Some(Self::Drain),
            (b'h', []) => Some(Self::HandOver),
            (b'q', []) => Some(Self::Quit),
            (b's', [number]) => Some(Self::Signal(*number)),
            (b'l', []) => Some(Self::ReopenLog),
            _ => None,
        }
    }
}

impl FromWorker {
    /// The frame. A text that is too long for one is cut.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready => frame(b'r', &[]),
            Self::Recycle(reason) => frame(b'm', reason.as_bytes()),
            Self::Reload => frame(b'R', &[]),
            Self::Stop => frame(b'S', &[]),
            Self::Deadlines => frame(b'D', &[]),
            Self::Signal(number) => frame(b's', &[*number]),
            Self::SignalTaken(number) => frame(b't', &[*number]),
            Self::Register(registration) => frame(b'g', &registration.encode()),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        match (kind, payload) {
            (b'r', []) => Some(Self::Ready),
            (b'm', reason) => Some(Self::Recycle(String::from_utf8_lossy(reason).into_owned())),
            (b'R', []) => Some(Self::Reload),
            (b'S', []) => Some(Self::Stop),
            (b'D', []) => Some(Self::Deadlines),
            (b's', [number]) => Some(Self::Signal(*number)),
            (b't', [number]) => Some(Self::SignalTaken(*number)),
            (b'g', registration) => Registration::decode(registration).map(Self::Register),
            _ => None,
        }
    }
}

impl Registration {
    /// The signal it is about.
    pub fn number(&self) -> u8 {
        match self {
            Self::Handler { number, .. }
            | Self::Timer { number, .. }
            | Self::Cron { number, .. }
            | Self::FileMonitor { number, .. } => *number,
        }
    }

    /// The bytes that stand for it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Handler { number, target } => {
                bytes.extend_from_slice(&[b'h', *number]);
                bytes.extend_from_slice(target.as_bytes());
            }
            Self::Timer { number, interval_ms, iterations } => {
                bytes.extend_from_slice(&[b't', *number]);
                bytes.extend_from_slice(&interval_ms.to_le_bytes());
                bytes.extend_from_slice(&iterations.to_le_bytes());
            }
            Self::Cron { number, fields } => {
                bytes.extend_from_slice(&[b'c', *number]);
                for field in fields {
                    bytes.extend_from_slice(&field.to_le_bytes());
                }
            }
            Self::FileMonitor { number, path } => {
                bytes.extend_from_slice(&[b'f', *number]);
                bytes.extend_from_slice(path);
            }
        }
        bytes
    }

    /// The reverse of [`Self::encode`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[kind, number], rest) = bytes.split_first_chunk()?;
        match kind {
            b'h' => Some(Self::Handler { number, target: core::str::from_utf8(rest).ok()?.into() }),
            b't' => {
                let (interval, rest) = rest.split_first_chunk()?;
                let iterations = u32::from_le_bytes(rest.try_into().ok()?);
                Some(Self::Timer { number, interval_ms: u64::from_le_bytes(*interval), iterations })
            }
            b'c' => {
                let words: &[u8; 20] = rest.try_into().ok()?;
                let mut fields = [0; 5];
                for (field, word) in fields.iter_mut().zip(words.as_chunks().0) {
                    *field = i32::from_le_bytes(*word);
                }
                Some(Self::Cron { number, fields })
            }
            b'f' => Some(Self::FileMonitor { number, path: rest.into() }),
            _ => None,
        }
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&payload[..usize::from(length)]);
    bytes
}

/// Takes frames out of a stream of bytes, however it is cut.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame for a worker.
    pub fn next_to_worker(&mut self) -> Option<ToWorker> {
        self.next(ToWorker::decode)
    }

    /// The next whole frame for the master.
    pub fn next_from_worker(&mut self) -> Option<FromWorker> {
        self.next(FromWorker::decode)
    }

    fn next<T>(&mut self, decode: impl Fn(u8, &[u8]) -> Option<T>) -> Option<T> {
        loop {
            let (&[kind, low, high], rest) = self.bytes.split_first_chunk()?;
            let length = usize::from(u16::from_le_bytes([low, high]));
            let decoded = decode(kind, rest.get(..length)?);
            self.bytes.drain(..HEAD + length);
            if decoded.is_some() {
                return decoded;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn orders() -> Vec<ToWorker> {
        vec![ToWorker::Drain, ToWorker::HandOver, ToWorker::Quit, ToWorker::Signal(255), ToWorker::ReopenLog]
    }

    fn reports() -> Vec<FromWorker> {
        let registrations = [
            Registration::Handler { number: 17, target: "workers".into() },
            Registration::Timer { number: 1, interval_ms: 1 << 40, iterations: 3 },
            Registration::Cron { number: 2, fields: [59, 2, -1, -5, i32::MIN] },
            Registration::FileMonitor { number: 3, path: b"/tmp/\xff".to_vec() },
        ];
        let mut reports: Vec<_> = registrations.into_iter().map(FromWorker::Register).collect();
        reports.extend([
            FromWorker::Ready,
            FromWorker::Recycle("10 requests".into()),
            FromWorker::Reload,
            FromWorker::Stop,
            FromWorker::Deadlines,
            FromWorker::Signal(0),
            FromWorker::SignalTaken(255),
        ]);
        reports
    }

    #[test]
    fn frames_survive_every_cut() {
        let sent: Vec<u8> = reports().iter().flat_map(FromWorker::encode).collect();
        for size in 1..sent.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in sent.chunks(size) {
                frames.push(piece);
                got.extend(core::iter::from_fn(|| frames.next_from_worker()));
            }
            assert_eq!(got, reports(), "in pieces of {size}");
        }
        let mut frames = Frames::default();
        for order in orders() {
            frames.push(&order.encode());
        }
        assert_eq!(core::iter::from_fn(|| frames.next_to_worker()).collect::<Vec<_>>(), orders());
    }

    #[test]
    fn what_is_unknown_is_skipped() {
        let mut frames = Frames::default();
        frames.push(&frame(b'?', b"news"));
        frames.push(&frame(b'd', b"with a payload"));
        frames.push(&frame(b'g', b"t"));
        frames.push(&ToWorker::Drain.encode());
        assert_eq!(frames.next_to_worker(), Some(ToWorker::Drain));
        assert_eq!(frames.next_to_worker(), None);
    }
}
