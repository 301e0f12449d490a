//! Who serves: generations that start and take over, reloads that fail, workers that make room for fresh ones.
//!
//! The rule of every change: whoever takes a place serves before whoever leaves it stops accepting.

use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use greenloom_config::Settings;
use greenloom_sys::process::{self, Heir};

use crate::commands::{Answer, Asker, Change};
use crate::generations::{Generation, Occasion, Stage};
use crate::inheritance::{self, INHERITANCE_VARIABLE};
use crate::lifecycle::{Event, Farewell, Process};
use crate::log::say;
use crate::master::{Coming, Master, Phase};
use crate::scoreboard::{Count, Scoreboard};
use crate::user_locks::UserLocks;

/// Generations that may drain at the same time: the requests of the oldest are cancelled when there are more.
const DRAINING_GENERATIONS: usize = 2;
/// Workers that are started for a reload may end before they serve so often in a row; then it has failed.
pub(crate) const EARLY_DEATHS: u32 = 3;
/// Seats beyond one for each worker: for those that overlap while they are recycled, and for more workers later on.
const SPARE_SEATS: u32 = 32;
/// No server needs more workers.
const WORKERS_MAX: u32 = 4096;

impl Master<'_> {
    // --- generations ---

    pub(crate) fn start_generation_if_due(&mut self, now_ms: u64) {
        let Some(coming) = &mut self.coming else { return };
        if coming.number.is_some() || coming.at_ms > now_ms {
            return;
        }
        if coming.occasion == Occasion::Loss {
            // The process reads the configuration as it is now, and so does the master. One that is refused is refused
            // there, too, with the reason in the log.
            if let Ok(settings) = (self.reread)()
                && self.listeners.prepare(&settings).is_ok()
            {
                coming.settings = Rc::new(settings);
            }
        }
        self.last_number += 1;
        let number = self.last_number;
        coming.number = Some(number);
        coming.at_ms = now_ms;
        let settings = Rc::clone(&coming.settings);
        match self.spawn_generation(number, settings, now_ms) {
            Ok(generation) => self.generations.push(generation),
            Err(error) => {
                let why = format!(
                    "cannot start generation {number} ({}): {error}; the user of the instance must be able to run it",
                    self.recipe.program.display()
                );
                say!("{why}");
                self.coming_failed(&why, 1, 0, now_ms);
            }
        }
    }

    fn spawn_generation(
        &mut self,
        number: u32,
        settings: Rc<Settings>,
        now_ms: u64,
    ) -> std::io::Result<Generation> {
        if settings.signals.locks >= self.locks.count() {
            say!(
                "more user locks than before: until the old workers have left, they and the new ones do not exclude each other"
            );
            self.locks = UserLocks::create(settings.signals.locks.saturating_add(1))?;
        }
        let (ours, theirs) = process::message_pair()?;
        let seats = settings.processes.saturating_mul(2).saturating_add(SPARE_SEATS);
        let scoreboard = Scoreboard::create(seats, settings.cores)?;
        let bound = self.listeners.bound();
        let mut inherited: Vec<BorrowedFd<'_>> = vec![
            theirs.as_fd(),
            scoreboard.as_fd(),
            self.totals.as_fd(),
            self.locks.as_fd(),
            self.handover.give.as_fd(),
            self.handover.take.as_fd(),
        ];
        inherited.extend(bound.iter().map(|bound| bound.listener.fd.as_fd()));
        let listeners: Vec<_> = bound.iter().map(|bound| &bound.listener).collect();
        let value = inheritance::value(
            number,
            &theirs,
            &scoreboard,
            &self.totals,
            &self.locks,
            &self.handover,
            &listeners,
        );
        let pid = Heir {
            program: self.recipe.program,
            args: self.recipe.arguments,
            variable: (INHERITANCE_VARIABLE, &value),
            directory: self.recipe.directory,
            inherited: &inherited,
        }
        .spawn()?;
        say!("spawned greenloom generation {number} (pid: {pid})");
        let process = Process { pid, since_ms: now_ms };
        Ok(Generation::new(number, settings, scoreboard, process, ours))
    }

    /// The workers of the generation that is coming accept for the first time: older ones may go.
    pub(crate) fn take_over_if_ready(&mut self, g: usize, now_ms: u64) {
        let generation = &mut self.generations[g];
        let number = generation.number;
        let is_coming = self.coming.as_ref().is_some_and(|coming| coming.number == Some(number));
        if generation.stage != Stage::Starting || !is_coming || !generation.is_ready() {
            return;
        }
        generation.stage = Stage::Serving;
        self.settings = Rc::clone(&generation.settings);
        let count = generation.workers.len();
        self.serving = Some(number);
        if let Some(coming) = self.coming.take() {
            self.last_load_ms = now_ms.saturating_sub(coming.at_ms);
            if coming.occasion == Occasion::Reload {
                self.totals.count(Count::ReloadsDone);
            }
        }
        self.listeners.take_over();
        if self.phase == Phase::Starting {
            self.phase = Phase::Serving;
        }
        for older in 0..g {
            self.generations[older].stop_listening();
            self.drain(older, Farewell::HandOver, now_ms);
        }
        self.cancel_the_oldest(now_ms);
        let plural = if count == 1 { "" } else { "s" };
        say!("greenloom is ready (generation {number}, {count} worker{plural})");
        self.notifier.ready(&format!("generation {number}, {count} worker{plural}"));
        for asker in self.askers.drain(..) {
            asker.answer(Ok(format!("generation {number} serves")));
        }
        self.reload_again_if_asked(now_ms);
    }

    /// Only so many generations drain: memory must stay bounded however often somebody reloads.
    fn cancel_the_oldest(&mut self, now_ms: u64) {
        let serving = self.serving;
        let mut draining: Vec<&mut Generation> = self
            .generations
            .iter_mut()
            .filter(|generation| Some(generation.number) != serving && !generation.is_deserted())
            .collect();
        let surplus = draining.len().saturating_sub(DRAINING_GENERATIONS);
        for generation in &mut draining[..surplus] {
            say!(
                "generation {} still drains and two newer ones do so, too: its requests are cancelled",
                generation.number
            );
            generation.leave_now(now_ms);
        }
    }

    /// The generation that was to take over will not. `code`: what the instance exits with if it never served.
    pub(crate) fn coming_failed(&mut self, why: &str, code: i32, lived_ms: u64, now_ms: u64) {
        let Some(coming) = self.coming.take() else { return };
        match coming.occasion {
            Occasion::Start => self.stop(code, now_ms),
            Occasion::Reload => {
                self.totals.count(Count::ReloadsFailed);
                self.listeners.give_up();
                let serving = self.serving.unwrap_or_default();
                say!("reload failed: {why}; generation {serving} serves on");
                self.notifier.ready(&format!("reload failed: {why}; generation {serving} serves on"));
                for asker in self.askers.drain(..) {
                    asker.answer(Err(format!("{why}; generation {serving} serves on")));
                }
                if let Some(g) = coming.number.and_then(|number| self.index_of(number)) {
                    self.drain(g, Farewell::HandOver, now_ms);
                }
                let lost = self.serving.and_then(|number| self.index_of(number));
                if lost.is_none_or(|g| self.generations[g].process.is_none()) {
                    self.replace_the_lost(Rc::clone(&self.settings), 0, now_ms);
                }
                self.reload_again_if_asked(now_ms);
            }
            Occasion::Loss => {
                self.replace_the_lost(coming.settings, lived_ms, now_ms);
                // With the configuration as it is now: the old one may be what fails.
                self.reload_again_if_asked(now_ms);
            }
        }
    }

    /// Nobody can fork workers any more: another generation starts as soon as patience allows.
    pub(crate) fn replace_the_lost(&mut self, settings: Rc<Settings>, lived_ms: u64, now_ms: u64) {
        let wait_ms = self.backoff.died(lived_ms);
        if wait_ms > 0 {
            let deaths = self.backoff.early_deaths();
            say!("{deaths} generations ended early in a row, the next one starts in {wait_ms} ms");
        }
        // In its first start an instance has nothing that could be lost, and goes on trying.
        let occasion = Occasion::Loss;
        self.coming = Some(Coming { occasion, settings, at_ms: now_ms + wait_ms, number: None });
    }

    pub(crate) fn index_of(&self, number: u32) -> Option<usize> {
        self.generations.iter().position(|generation| generation.number == number)
    }

    // --- reloads ---

    pub(crate) fn reload(&mut self, asker: Asker, now_ms: u64) {
        if let Phase::Stopping { .. } = self.phase {
            return asker.answer(Err("the instance stops".to_owned()));
        }
        if self.settings.master_process.exit_on_reload {
            say!("a reload is a stop here (--exit-on-reload)");
            let answer = self.begin_stop(now_ms);
            return asker.answer(Ok(answer));
        }
        if self.coming.as_ref().is_some_and(|coming| coming.number.is_some()) {
            if !self.reload_again {
                say!("a generation is starting already: another one follows it");
            }
            self.reload_again = true;
            return self.askers_again.push(asker);
        }
        let serving = self.serving.unwrap_or_default();
        let mut refuse = |why: String, asker: Asker| {
            say!("reload refused, generation {serving} serves on: {why}");
            self.totals.count(Count::ReloadsFailed);
            self.notifier.reloading();
            self.notifier.ready(&format!("reload refused: {why}; generation {serving} serves on"));
            asker.answer(Err(format!("{why}; generation {serving} serves on")));
        };
        let settings = match (self.reread)() {
            Ok(settings) => settings,
            Err(why) => return refuse(why, asker),
        };
        if let Err(error) = self.listeners.prepare(&settings) {
            return refuse(error.to_string(), asker);
        }
        for option in fixed_options_that_changed(&self.settings, &settings) {
            say!("--{option} has changed: that takes effect when the instance is stopped and started");
        }
        if self.settings.log.reopen_on_reload {
            // Before the next generation inherits it. What went wrong is in the log.
            let _ = self.reopen_log();
        }
        say!("...gracefully reloading: generation {serving} serves until the next one is ready");
        self.notifier.reloading();
        self.askers.push(asker);
        // A generation that is to replace a lost one is due now, with the new configuration.
        let occasion = self.coming.take().map_or(Occasion::Reload, |coming| coming.occasion);
        let settings = Rc::new(settings);
        self.coming = Some(Coming { occasion, settings, at_ms: now_ms, number: None });
    }

    pub(crate) fn reload_again_if_asked(&mut self, now_ms: u64) {
        if std::mem::take(&mut self.reload_again) {
            let askers = std::mem::take(&mut self.askers_again);
            self.reload(Asker::nobody(), now_ms);
            if self.coming.is_some() {
                self.askers.extend(askers);
            } else {
                for asker in askers {
                    asker.answer(Err("the reload was refused; the log says why".to_owned()));
                }
            }
        }
    }

    // --- workers ---

    /// Recycles the workers that have asked for it or have had their time, where the generation can fork others.
    pub(crate) fn recycle_due(&mut self, now_ms: u64) {
        if self.coming.is_some() || !matches!(self.phase, Phase::Serving | Phase::Leaving { .. }) {
            return;
        }
        let Some(g) = self.serving.and_then(|number| self.index_of(number)) else { return };
        let generation = &mut self.generations[g];
        if generation.process.is_none() {
            return;
        }
        for index in 0..generation.workers.len() {
            let lifetime_at_ms = generation.lifetime_at_ms(index);
            let worker = &mut generation.workers[index];
            let Some(process) = worker.lifecycle.process().filter(|_| worker.accepts() && !worker.retires)
            else {
                continue;
            };
            let reason = if let Some(reason) = worker.recycle.take() {
                reason
            } else if lifetime_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                format!(
                    "lifetime reached, it was running for {} second(s)",
                    (now_ms - process.since_ms) / 1000
                )
            } else {
                continue;
            };
            let id = worker.id;
            if generation.add_worker(id).is_none() {
                // Everybody has left his seat late: asked again when one is free.
                generation.workers[index].recycle = Some(reason);
                continue;
            }
            say!("The work of worker {id} (pid: {}) is done: {reason}. Its successor starts", process.pid);
            self.totals.count(Count::Recycled(id));
            generation.workers[index].retires = true;
            generation.feed(index, Event::Retire, now_ms);
            let successor = generation.workers.len() - 1;
            generation.feed(successor, Event::Tick, now_ms);
        }
    }

    /// When the next worker has had its time.
    pub(crate) fn recycling_deadline_ms(&self) -> Option<u64> {
        if self.coming.is_some() || !matches!(self.phase, Phase::Serving | Phase::Leaving { .. }) {
            return None;
        }
        let g = self.serving.and_then(|number| self.index_of(number))?;
        let generation = &self.generations[g];
        let of = |index: usize| {
            let worker = &generation.workers[index];
            generation.lifetime_at_ms(index).filter(|_| worker.accepts() && !worker.retires)
        };
        (0..generation.workers.len()).filter_map(of).min()
    }

    /// A worker accepts: the one whose place it takes may go.
    pub(crate) fn let_the_predecessor_go(&mut self, g: usize, w: usize, now_ms: u64) {
        let generation = &mut self.generations[g];
        let mercy_ms = generation.settings.limits.worker_reload_mercy_ms;
        let id = generation.workers[w].id;
        for index in 0..generation.workers.len() {
            let worker = &generation.workers[index];
            if index != w && worker.id == id && worker.retires {
                generation.feed(index, Event::Leave { mercy_ms, farewell: Farewell::HandOver }, now_ms);
            }
        }
    }

    /// Adds workers, or lets some go.
    pub(crate) fn change_workers(&mut self, change: Change, now_ms: u64) -> Answer {
        let Some(g) = self.serving.and_then(|number| self.index_of(number)) else {
            return Err("no generation serves yet".to_owned());
        };
        let generation = &mut self.generations[g];
        let before = generation.settings.processes;
        let wanted = match change {
            Change::By(more) => before.saturating_add_signed(more),
            Change::To(count) => count,
        };
        if !(1..=WORKERS_MAX).contains(&wanted) {
            return Err(format!("{wanted} workers: at least 1 and at most {WORKERS_MAX} are possible"));
        }
        let free = generation.free_seats();
        if wanted.saturating_sub(before) > free {
            let refusal = format!(
                "there is room for {free} more workers until the next reload: raise --processes and reload"
            );
            say!("{refusal}");
            return Err(refusal);
        }
        for id in before + 1..=wanted {
            generation.add_worker(id);
        }
        let mercy_ms = generation.settings.limits.worker_reload_mercy_ms;
        for index in 0..generation.workers.len() {
            if generation.workers[index].id > wanted {
                generation.workers[index].retires = true;
                generation.feed(index, Event::Leave { mercy_ms, farewell: Farewell::HandOver }, now_ms);
            }
        }
        Rc::make_mut(&mut generation.settings).processes = wanted;
        self.settings = Rc::clone(&generation.settings);
        say!("{wanted} workers instead of {before}");
        Ok(format!("{wanted} workers instead of {before}"))
    }
}

/// Options that a reload cannot follow, because what they made is the master's own, and that have changed.
fn fixed_options_that_changed(before: &Settings, after: &Settings) -> Vec<&'static str> {
    let (old, new) = (&before.master_process, &after.master_process);
    let changed = [
        ("uid", old.uid != new.uid),
        ("gid", old.gid != new.gid),
        ("umask", old.umask != new.umask),
        ("daemonize", old.daemonize != new.daemonize),
        ("master-fifo", old.fifos != new.fifos),
        ("pidfile", before.pidfile != after.pidfile),
        ("stats", before.status.stats != after.status.stats),
        ("metrics", before.status.metrics != after.status.metrics),
        ("control-socket", before.status.control_socket != after.status.control_socket),
    ];
    changed.into_iter().filter_map(|(option, has_changed)| has_changed.then_some(option)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_follow_is_named() {
        let before = Settings::default();
        let mut after = Settings { processes: 7, ..before.clone() };
        assert!(fixed_options_that_changed(&before, &after).is_empty());
        after.master_process.uid = Some(33);
        after.pidfile = Some("/run/x.pid".into());
        assert_eq!(fixed_options_that_changed(&before, &after), ["uid", "pidfile"]);
    }
}
