//! Requests and handlers of uwsgi signals that hold a core right now, and what each of them waits for: what an operator asks of a worker that stands
//! still. It only looks; whoever asks prints it, with what the language knows beside it (stacks).

use std::fmt;
use std::os::fd::RawFd;

use greenloom_sys::clock;

use crate::cores::table::State;
use crate::worker::Worker;
use crate::{Cancel, CoreId, Interest};

const NS_PER_MS: u64 = 1_000_000;

/// One request that holds a core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The core it holds.
    pub core: CoreId,
    /// The uwsgi signal, if this is its handler: it has neither method nor target.
    pub signal: Option<u8>,
    /// Its method, as sent.
    pub method: Vec<u8>,
    /// Its target, as sent: to be escaped before it is printed.
    pub uri: Vec<u8>,
    /// Milliseconds since its first byte came, as in the request line.
    pub age_ms: u64,
    /// What it does.
    pub doing: Doing,
    /// Why it has to end, if it was told to.
    pub cancelled: Option<Cancel>,
}

/// What a core with a request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its code runs.
    Runs,
    /// It waits for its turn.
    Queued,
    /// It waits for the first of these.
    Waits {
        /// Descriptors, to read or to write.
        fds: Vec<(RawFd, Interest)>,
        /// Milliseconds until its deadline.
        left_ms: Option<u64>,
    },
    /// It waits until its client has read what was written.
    Drains,
    /// It waits for bytes of its request's body.
    Reads,
    /// It waits for a user lock or a uwsgi signal.
    Blocked,
    /// The application has left its coroutine by a switch of its own, and will come back by one.
    OwnSwitch,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str("runs"),
            Self::Queued => f.write_str("queued"),
            Self::Drains => f.write_str("its output to drain"),
            Self::Reads => f.write_str("its body to come"),
            Self::Blocked => f.write_str("a lock or a signal"),
            Self::OwnSwitch => f.write_str("its own switch"),
            Self::Waits { fds, left_ms } => {
                let mut comma = "";
                for (fd, interest) in fds {
                    let verb = if *interest == Interest::Read { "reads" } else { "writes" };
                    write!(f, "{comma}{verb} fd {fd}")?;
                    comma = ", ";
                }
                left_ms.map_or(Ok(()), |ms| write!(f, "{comma}{ms} ms left"))
            }
        }
    }
}

impl Worker {
    /// The requests that hold a core, by its number.
    pub fn in_flight(&self) -> Vec<InFlight> {
        // The application that runs may have done so for long.
        let now_ns = clock::monotonic_ns();
        let busy = self.cores.ids().filter(|&core| self.cores[core].state != State::Free);
        busy.map(|core| {
            let slot = &self.cores[core];
            InFlight {
                core,
                signal: slot.signal,
                method: slot.request.method().to_vec(),
                uri: slot.request.uri().to_vec(),
                age_ms: now_ns.saturating_sub(slot.request.began_ns) / NS_PER_MS,
                doing: self.doing(core, now_ns),
                cancelled: slot.cancelled,
            }
        })
        .collect()
    }

    fn doing(&self, core: CoreId, now_ns: u64) -> Doing {
        let slot = &self.cores[core];
        match slot.state {
            State::Free | State::Running if !self.is_decided(core) => Doing::Runs,
            State::Free | State::Running | State::Queued => Doing::Queued,
            State::Stalled => Doing::Drains,
            State::Reading => Doing::Reads,
            State::Blocked => Doing::Blocked,
            State::InLoop => Doing::OwnSwitch,
            State::Waiting if slot.watches.is_empty() && slot.deadline_ns.is_none() => Doing::OwnSwitch,
            State::Waiting => {
                // Reading and writing of one descriptor share a watch, which stands in the list twice.
                let mut watches = slot.watches.clone();
                watches.dedup();
                let mut fds: Vec<_> =
                    watches.iter().flat_map(|&watch| self.watches.waits_of(watch, core)).collect();
                fds.dedup();
                let left_ms = slot.deadline_ns.map(|at| at.saturating_sub(now_ns).div_ceil(NS_PER_MS));
                Doing::Waits { fds, left_ms }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_core_does_in_words() {
        let waits =
            |fds: &[(RawFd, Interest)], left_ms| Doing::Waits { fds: fds.to_vec(), left_ms }.to_string();
        let (read, write) = ((7, Interest::Read), (9, Interest::Write));
        assert_eq!(waits(&[read, write], Some(120)), "reads fd 7, writes fd 9, 120 ms left");
        assert_eq!(waits(&[write], None), "writes fd 9");
        assert_eq!(waits(&[], Some(0)), "0 ms left");
        assert_eq!(Doing::Runs.to_string(), "runs");
        assert_eq!(Doing::Queued.to_string(), "queued");
        assert_eq!(Doing::Drains.to_string(), "its output to drain");
        assert_eq!(Doing::Reads.to_string(), "its body to come");
        assert_eq!(Doing::Blocked.to_string(), "a lock or a signal");
        assert_eq!(Doing::OwnSwitch.to_string(), "its own switch");
    }
}
