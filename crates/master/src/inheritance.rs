//! How a generation learns what it is: one environment variable, written by the master, read and removed first thing.
//!
//! Owns the variable's form: `version;master pid;generation;channel fd;scoreboard fd;totals fd;locks fd;handover fds;fd=protocol,fd=protocol...`. The
//! listeners' protocols travel with their descriptors because the configuration is read anew and may have changed.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use greenloom_config::Protocol;
use greenloom_sys::process::{self, Pid};

use crate::application::{BoundListener, Handover};
use crate::error::MasterError;
use crate::listeners;
use crate::scoreboard::{Scoreboard, Totals};
use crate::user_locks::UserLocks;

/// The variable's name. A language runtime that copies the environment at its start removes it from the copy.
pub const INHERITANCE_VARIABLE: &str = "GREENLOOM_GENERATION";

/// Both processes run the same program; another version in between (an upgrade on disk) is refused by this number.
const VERSION: &str = "4";

/// What a generation inherits from its master.
#[derive(Debug)]
pub struct Inheritance {
    pub(crate) generation: u32,
    pub(crate) channel: OwnedFd,
    pub(crate) scoreboard: Scoreboard,
    pub(crate) totals: Totals,
    pub(crate) locks: UserLocks,
    pub(crate) handover: Handover,
    pub(crate) listeners: Vec<BoundListener>,
}

impl Inheritance {
    /// Reads and removes the variable. `None`: this process is not a generation. A variable that another master left
    /// in the environment (an application that starts a server of its own) counts as none.
    ///
    /// To be called before the process has other threads.
    pub fn take() -> Result<Option<Self>, MasterError> {
        let Some(value) = process::take_variable(INHERITANCE_VARIABLE) else { return Ok(None) };
        let Some(parsed) = value.to_str().and_then(Parsed::parse) else {
            return Err(MasterError::Inheritance {
                reason: format!("{INHERITANCE_VARIABLE} is {}", value.display()),
            });
        };
        if Pid::parent().map(Pid::get) != Some(parsed.master) {
            return Ok(None);
        }
        let claim = |fd| {
            process::claim_inherited(fd).map_err(|error| MasterError::Inheritance {
                reason: format!("descriptor {fd} is not there ({error})"),
            })
        };
        let scoreboard =
            Scoreboard::open(claim(parsed.scoreboard)?).map_err(MasterError::system("map the scoreboard"))?;
        let totals = Totals::open(claim(parsed.totals)?).map_err(MasterError::system("map the totals"))?;
        let locks =
            UserLocks::open(claim(parsed.locks)?).map_err(MasterError::system("map the user locks"))?;
        let mut bound = Vec::new();
        for (fd, protocol) in &parsed.listeners {
            let listener = listeners::from_master(claim(*fd)?, *protocol)
                .map_err(MasterError::system("name an inherited listener"))?;
            bound.push(listener);
        }
        let channel = claim(parsed.channel)?;
        let handover = Handover { give: claim(parsed.handover.0)?, take: claim(parsed.handover.1)? };
        Ok(Some(Self {
            generation: parsed.generation,
            channel,
            scoreboard,
            totals,
            locks,
            handover,
            listeners: bound,
        }))
    }
}

/// The variable's value for a new generation.
pub(crate) fn value(
    generation: u32,
    channel: &OwnedFd,
    scoreboard: &Scoreboard,
    totals: &Totals,
    locks: &UserLocks,
    handover: &Handover,
    listeners: &[&BoundListener],
) -> String {
    let listeners: Vec<(RawFd, Protocol)> =
        listeners.iter().map(|listener| (listener.fd.as_raw_fd(), listener.protocol)).collect();
    Parsed {
        master: Pid::current().get(),
        generation,
        channel: channel.as_raw_fd(),
        scoreboard: scoreboard.as_fd().as_raw_fd(),
        totals: totals.as_fd().as_raw_fd(),
        locks: locks.as_fd().as_raw_fd(),
        handover: (handover.give.as_raw_fd(), handover.take.as_raw_fd()),
        listeners,
    }
    .print()
}

#[derive(Debug, PartialEq, Eq)]
struct Parsed {
    master: i32,
    generation: u32,
    channel: RawFd,
    scoreboard: RawFd,
    totals: RawFd,
    locks: RawFd,
    handover: (RawFd, RawFd),
    listeners: Vec<(RawFd, Protocol)>,
}

impl Parsed {
    fn print(&self) -> String {
        let listeners: Vec<String> =
            self.listeners.iter().map(|(fd, protocol)| format!("{fd}={}", protocol.name())).collect();
        let Self { master, generation, channel, scoreboard, totals, locks, handover: (give, take), .. } =
            self;
        format!(
            "{VERSION};{master};{generation};{channel};{scoreboard};{totals};{locks};{give},{take};{}",
            listeners.join(",")
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        if parts.next()? != VERSION {
            return None;
        }
        let master = parts.next()?.parse().ok()?;
        let generation = parts.next()?.parse().ok()?;
        let channel = parts.next()?.parse().ok()?;
        let scoreboard = parts.next()?.parse().ok()?;
        let totals = parts.next()?.parse().ok()?;
        let locks = parts.next()?.parse().ok()?;
        let (give, take) = parts.next()?.split_once(',')?;
        let handover = (give.parse().ok()?, take.parse().ok()?);
        let listeners = parts.next()?.split(',').map(parse_listener).collect::<Option<Vec<_>>>()?;
        parts.next().is_none().then_some(Self {
            master,
            generation,
            channel,
            scoreboard,
            totals,
            locks,
            handover,
            listeners,
        })
    }
}

fn parse_listener(text: &str) -> Option<(RawFd, Protocol)> {
    let (fd, name) = text.split_once('=')?;
    Some((fd.parse().ok()?, Protocol::from_name(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_parsed() {
        let parsed = Parsed {
            master: 7,
            generation: 2,
            channel: 5,
            scoreboard: 6,
            totals: 10,
            locks: 11,
            handover: (8, 9),
            listeners: vec![(3, Protocol::Http), (4, Protocol::Uwsgi)],
        };
        assert_eq!(parsed.print(), "4;7;2;5;6;10;11;8,9;3=http,4=uwsgi");
        assert_eq!(Parsed::parse(&parsed.print()), Some(parsed));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = "4;7;2;5;6;10;11;8,9;3=http";
        assert!(Parsed::parse(good).is_some());
        for (old, new) in
            [("4;7", "1;7"), ("8,9", "8"), ("3=http", ""), ("http", "gopher"), ("http", "http;more")]
        {
            let text = good.replacen(old, new, 1);
            assert_eq!(Parsed::parse(&text), None, "{text}");
        }
        assert_eq!(Parsed::parse(""), None);
    }
}
