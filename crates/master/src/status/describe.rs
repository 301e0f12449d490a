//! The description of the tree: what the master's loop knows, in the words of `snapshot.rs`.
//!
//! The one file here that knows the loop's own types. The loop calls [`Master::describe`] before each wait.

use std::os::fd::AsFd as _;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::snapshot::{GenerationStatus, ListenerStatus, Phase, TreeStatus, WorkerState, WorkerStatus};
use crate::generations::{Generation, Stage, Worker};
use crate::lifecycle::Life;
use crate::listeners::Bound;
use crate::master::{self, Master};
use crate::scoreboard::Count;

/// What is kept from one description to the next.
#[derive(Debug, Default)]
pub(crate) struct Describer {
    /// Duplicates of the listeners' descriptors, made once for each.
    listeners: Vec<(Weak<Bound>, Arc<ListenerStatus>)>,
    /// Signals nobody could take that are among the totals already.
    dropped: u64,
}

impl Master<'_> {
    /// Tells those who look from outside how the tree looks now.
    pub(crate) fn describe(&mut self) {
        let backlog = self.settings.listen_backlog;
        self.describer.follow(self.listeners.serving(), backlog);
        let dropped = self.uwsgi_signals.counts().map(|(_, counts)| counts.dropped).sum::<u64>();
        let before = std::mem::replace(&mut self.describer.dropped, dropped);
        self.totals.count_many(Count::SignalsDropped, dropped.saturating_sub(before));
        let status = TreeStatus {
            phase: match self.phase {
                master::Phase::Starting => Phase::Starting,
                master::Phase::Serving => Phase::Serving,
                master::Phase::Leaving { .. } => Phase::Leaving,
                master::Phase::Stopping { .. } => Phase::Stopping,
            },
            drained: self.drained,
            serving: self.serving,
            processes: self.settings.processes,
            generations: self.generations.iter().map(generation).collect(),
            listeners: self.describer.listeners.iter().map(|(_, listener)| Arc::clone(listener)).collect(),
            locks: Some(self.locks.clone()),
        };
        self.status.board.set(status);
    }
}

impl Describer {
    fn follow(&mut self, bound: &[Rc<Bound>], backlog: u32) {
        let old = std::mem::take(&mut self.listeners);
        for bound in bound {
            let known = old.iter().find(|(known, _)| std::ptr::eq(known.as_ptr(), Rc::as_ptr(bound)));
            if let Some(known) = known {
                self.listeners.push(known.clone());
            } else if let Ok(socket) = bound.listener.fd.as_fd().try_clone_to_owned() {
                let name = bound.listener.name.clone();
                let protocol = bound.listener.protocol.name();
                let status = ListenerStatus { name, protocol, backlog, socket };
                self.listeners.push((Rc::downgrade(bound), Arc::new(status)));
            }
        }
    }
}

fn generation(generation: &Generation) -> GenerationStatus {
    GenerationStatus {
        number: generation.number,
        pid: generation.process.map_or(0, |process| process.pid.get()),
        stage: match generation.stage {
            Stage::Loading => "loading",
            Stage::Starting => "starting",
            Stage::Serving => "serving",
        },
        scoreboard: generation.scoreboard.clone(),
        workers: generation.workers.iter().map(worker).collect(),
    }
}

fn worker(worker: &Worker) -> WorkerStatus {
    let process = worker.lifecycle.process();
    WorkerStatus {
        id: worker.id,
        seat: worker.seat,
        pid: process.map_or(0, |process| process.pid.get()),
        state: match worker.lifecycle.life() {
            Life::Waiting { .. } | Life::Gone => WorkerState::Down,
            Life::Forking { .. } | Life::Starting { .. } => WorkerState::Starting,
            Life::Accepting { .. } => WorkerState::Accepting,
            Life::Draining { .. } | Life::Quitting { .. } | Life::Killed { .. } => WorkerState::Draining,
        },
        since_ms: process.map_or(0, |process| process.since_ms),
    }
}
