//! What the death of a process means.

use std::rc::Rc;

use greenloom_sys::process::{self, Ending, Pid};

use crate::application::CANNOT_SERVE;
use crate::generations::{Occasion, Stage};
use crate::lifecycle::{Event, Farewell, Life};
use crate::log::say;
use crate::master::{Master, Phase};
use crate::reload::EARLY_DEATHS;
use crate::worker_process::LOAD_FAILED;

impl Master<'_> {
    /// Collects the dead.
    pub(crate) fn reap(&mut self, now_ms: u64) {
        while let Some((pid, ending)) = process::reap_any() {
            // What a dead generation had still to say comes first: which workers there are.
            for g in 0..self.generations.len() {
                self.read_reports(g, now_ms);
            }
            if let Some(g) = self
                .generations
                .iter()
                .position(|generation| generation.process.is_some_and(|process| process.pid == pid))
            {
                self.generation_died(g, ending, now_ms);
            } else if let Some((g, w)) = self.find_worker(pid) {
                self.worker_died(g, w, ending, now_ms);
            } else {
                self.upgrade_check_ended(pid, ending);
            }
            // Anybody else: an orphan of the application, given to us as the subreaper.
        }
    }

    fn generation_died(&mut self, g: usize, ending: Ending, now_ms: u64) {
        let generation = &mut self.generations[g];
        let lived_ms = generation.process.map_or(0, |process| now_ms.saturating_sub(process.since_ms));
        let pid = generation.process.map_or(0, |process| process.pid.get());
        let (number, stage) = (generation.number, generation.stage);
        let dismissed = generation.kill_at_ms.is_some();
        generation.lost(now_ms);
        // A worker the generation had collected itself, and did not live to report.
        for w in 0..self.generations[g].workers.len() {
            let process = self.generations[g].workers[w].lifecycle.process();
            if process.is_some_and(|process| !process::exists(process.pid)) {
                self.worker_died(g, w, Ending::Unknown, now_ms);
            }
        }
        if dismissed || matches!(self.phase, Phase::Stopping { .. }) {
            return;
        }
        let how = describe(ending);
        if stage == Stage::Loading {
            say!("generation {number} (pid: {pid}) {how} while it loaded the application");
        } else {
            say!("DAMN ! generation {number} (pid: {pid}) {how} :( its workers serve on, trying respawn ...");
        }
        if stage != Stage::Serving && self.generations[..g].iter().any(|older| !older.is_deserted()) {
            // The older workers serve on, so these need not.
            self.drain(g, Farewell::HandOver, now_ms);
        }
        if self.coming.as_ref().is_some_and(|coming| coming.number == Some(number)) {
            let load_failed = ending == Ending::Exited(LOAD_FAILED);
            if stage != Stage::Loading
                && let Some(coming) = self.coming.as_mut().filter(|coming| coming.occasion == Occasion::Start)
            {
                // The application loads: what killed the process may pass.
                coming.occasion = Occasion::Loss;
            }
            let starts = self.coming.as_ref().is_some_and(|coming| coming.occasion == Occasion::Start);
            if starts && load_failed {
                say!("need-app requested, destroying the instance...");
            }
            let why = if load_failed {
                format!("generation {number} could not load the application")
            } else {
                format!("generation {number} {how}")
            };
            self.coming_failed(&why, if load_failed { LOAD_FAILED } else { 1 }, lived_ms, now_ms);
        } else if self.serving == Some(number) && self.coming.is_none() {
            self.replace_the_lost(Rc::clone(&self.settings), lived_ms, now_ms);
        }
    }

    pub(crate) fn worker_died(&mut self, g: usize, w: usize, ending: Ending, now_ms: u64) {
        self.read_last_words(g, w, now_ms);
        let generation = &mut self.generations[g];
        let (number, stage) = (generation.number, generation.stage);
        let worker = &mut generation.workers[w];
        let Some(process) = worker.lifecycle.process() else { return };
        worker.forget_process();
        let was_starting = matches!(worker.lifecycle.life(), Life::Starting { .. });
        worker.lifecycle.on(Event::Died, now_ms);
        let (id, pid, life) = (worker.id, process.pid, worker.lifecycle.life());
        let (deaths, seat) = (worker.lifecycle.early_deaths(), worker.seat);
        self.locks.process_has_ended(pid);
        if let Some(seat) = generation.scoreboard.seat(seat) {
            self.totals.absorb(seat);
        }
        if let Phase::Stopping { since_ms, .. } = self.phase {
            say!("worker {id} buried after {} seconds", now_ms.saturating_sub(since_ms) / 1000);
            return;
        }
        let need_app = generation.settings.need_app;
        let load_failed = ending == Ending::Exited(LOAD_FAILED) && was_starting && need_app;
        let cannot_serve = ending == Ending::Exited(CANNOT_SERVE) && was_starting;
        match (life, ending) {
            (Life::Gone, Ending::Exited(0)) => {
                say!("worker {id} (pid: {pid}) of generation {number} has finished its requests and left");
            }
            (Life::Gone, _) => say!("worker {id} (pid: {pid}) of generation {number} {}", describe(ending)),
            (_, Ending::Exited(0)) => say!("worker {id} killed successfully (pid: {pid})"),
            _ if cannot_serve => say!("worker {id} (pid {pid}) cannot serve; its reason stands above"),
            _ if load_failed => say!("OOPS ! failed loading app in worker {id} (pid {pid})"),
            _ => say!("DAMN ! worker {id} (pid: {pid}) {} :( trying respawn ...", describe(ending)),
        }
        let occasion = self.coming.as_ref().filter(|coming| coming.number == Some(number));
        match occasion.map(|coming| coming.occasion).filter(|_| stage == Stage::Starting) {
            Some(Occasion::Start) if load_failed => {
                say!("need-app requested, destroying the instance...");
                self.stop(LOAD_FAILED, now_ms);
            }
            Some(Occasion::Start) if cannot_serve => self.stop(CANNOT_SERVE, now_ms),
            Some(Occasion::Reload) if load_failed || cannot_serve || deaths >= EARLY_DEATHS => {
                let why = if load_failed {
                    format!("worker {id} of generation {number} could not load the application")
                } else {
                    format!("worker {id} of generation {number} cannot serve")
                };
                self.coming_failed(&why, 1, 0, now_ms);
            }
            _ => {
                if let Life::Waiting { fork_at_ms } = life
                    && fork_at_ms > now_ms
                {
                    let wait_ms = fork_at_ms - now_ms;
                    say!(
                        "worker {id} ended early {deaths} times in a row, the next attempt is in {wait_ms} ms"
                    );
                }
            }
        }
    }

    fn find_worker(&self, pid: Pid) -> Option<(usize, usize)> {
        self.generations
            .iter()
            .enumerate()
            .find_map(|(g, generation)| generation.with_pid(pid).map(|w| (g, w)))
    }
}

fn describe(ending: Ending) -> String {
    match ending {
        Ending::Exited(code) => format!("died, exit code {code}"),
        Ending::Signaled(signal) => format!("died, killed by signal {signal}"),
        Ending::Unknown => String::from("died"),
    }
}
