//! The processes of scripts: how many run at a time, who waits for a place, and who is collected when.
//!
//! A process outlives its request (it closes its output and goes on), or the other way round (it has ended, and its output
//! is still on its way to the client). It has its place among those that run until it ends; it is collected when both are
//! over, so that its number means nobody else while its group may have to be signalled. Of a group that was asked to end its
//! leader may do so, and others not: they are killed all the same.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd as _;

use greenloom_sys::epoll;
use greenloom_sys::script::Script;

use crate::slots::{Key, Slots};
use crate::worker::{Worker, kind};

/// What was asked to end has so long to do so.
const GRACE_MS: u64 = 1000;

/// All processes of scripts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Children {
    all: Slots<Child>,
    /// Those that have a place: being started, or running.
    running: u32,
    /// Connections whose script has to wait for a place.
    pub(super) waiting: VecDeque<Key>,
}

#[derive(Debug)]
struct Child {
    script: Script,
    /// The connection whose request it works for, as long as it does.
    connection: Option<Key>,
    has_ended: bool,
    fate: Fate,
}

/// What was done to end a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Lives,
    /// Its group was asked to end, and is killed in a while.
    Asked,
    /// Its group was killed.
    Killed,
}

impl Children {
    /// Takes a place, if there is one; `most` in all.
    pub(super) fn take_place(&mut self, most: u32) -> bool {
        let free = self.running < most;
        self.running += u32::from(free);
        free
    }
}

impl Worker {
    /// A script was started. `Err`: nobody would hear of its end; it is ended.
    pub(super) fn add_child(&mut self, script: Script, connection: Option<Key>) -> io::Result<Key> {
        let fd = script.pidfd().as_raw_fd();
        let child = Child { script, connection, has_ended: false, fate: Fate::Lives };
        let key = self.children.all.insert(child);
        if let Err(error) = self.reactor.add(fd, epoll::IN, key.token(kind::CHILD)) {
            if let Some(child) = self.children.all.remove(key) {
                child.script.kill();
            }
            self.give_place_back();
            return Err(error);
        }
        Ok(key)
    }

    /// A script that was being started is none.
    pub(super) fn give_place_back(&mut self) {
        self.children.running = self.children.running.saturating_sub(1);
        while let Some(key) = self.children.waiting.pop_front() {
            if self.start_waiting_script(key) {
                break;
            }
        }
    }

    /// A script's process has ended.
    pub(crate) fn on_child(&mut self, token: u64) {
        let key = Key::from_token(token);
        let Some(child) = self.children.all.get_mut(key) else { return };
        if std::mem::replace(&mut child.has_ended, true) {
            return;
        }
        // Level-triggered: it would be ready until it is collected.
        let _ = self.reactor.delete(child.script.pidfd().as_raw_fd());
        match child.connection {
            Some(connection) => self.script_ended(connection),
            // Others of its group may go on.
            None if child.fate == Fate::Asked => {}
            None => self.collect(key),
        }
        self.give_place_back();
    }

    fn collect(&mut self, key: Key) {
        if let Some(child) = self.children.all.remove(key) {
            child.script.reap();
        }
    }

    /// The request of a script needs it no longer. `kill`: and nobody does.
    pub(super) fn leave_child(&mut self, key: Key, kill: bool) {
        let Some(child) = self.children.all.get_mut(key) else { return };
        child.connection = None;
        if kill && child.fate == Fate::Lives {
            child.fate = Fate::Asked;
            child.script.terminate();
            let at = self.reactor.refresh_now() + GRACE_MS;
            self.reactor.arm(at, key.token(kind::CHILD));
        } else if child.has_ended {
            self.collect(key);
        }
    }

    /// It was asked to end a while ago.
    pub(crate) fn on_child_timer(&mut self, token: u64) {
        let key = Key::from_token(token);
        let Some(child) = self.children.all.get_mut(key) else { return };
        child.script.kill();
        child.fate = Fate::Killed;
        if child.has_ended {
            self.collect(key);
        }
    }

    /// The worker leaves: ends every script that works for a request.
    pub(crate) fn kill_scripts(&mut self) {
        for key in self.children.all.keys() {
            if let Some(child) = self.children.all.get(key)
                && (child.connection.is_some() || child.fate == Fate::Asked)
            {
                child.script.kill();
            }
        }
    }
}
