//! How the instance stops, and how generations and workers that nobody needs any more leave.

use greenloom_sys::process;

use crate::generations::{Generation, Stage};
use crate::lifecycle::{Event, Farewell, Life};
use crate::log::say;
use crate::master::{Master, Phase};

/// How long a generation without workers may take to leave: it only has to end its loop and its interpreter.
const DISMISSAL_GRACE_MS: u64 = 1000;

impl Master<'_> {
    /// Somebody asked for a stop: the first time it is prepared, the second time it begins, the third time it ends.
    pub(crate) fn begin_stop(&mut self, now_ms: u64) -> String {
        let delay_ms = self.settings.master_process.shutdown_delay_ms;
        match self.phase {
            Phase::Stopping { .. } => {
                say!("SIGINT/SIGTERM received again...killing workers at once...");
                self.leave_now(now_ms);
                return "stopping at once".to_owned();
            }
            Phase::Serving if delay_ms > 0 => {
                say!("SIGINT/SIGTERM received...stopping in {} s, readiness says no", delay_ms / 1000);
                self.phase = Phase::Leaving { stop_at_ms: now_ms.saturating_add(delay_ms) };
                return format!("stopping in {} s", delay_ms / 1000);
            }
            _ => {}
        }
        say!("SIGINT/SIGTERM received...killing workers...");
        let mercy_s = self.settings.limits.worker_reload_mercy_ms / 1000;
        say!("requests in flight have {mercy_s} s to end; a second signal ends them at once");
        self.stop(0, now_ms);
        "stopping".to_owned()
    }

    /// Begins to stop: workers drain, no generation starts.
    pub(crate) fn stop(&mut self, code: i32, now_ms: u64) {
        if let Phase::Stopping { .. } = self.phase {
            return;
        }
        self.phase = Phase::Stopping { code, since_ms: now_ms };
        self.notifier.stopping();
        self.coming = None;
        self.reload_again = false;
        for asker in self.askers.drain(..).chain(self.askers_again.drain(..)) {
            asker.answer(Err("the instance stops".to_owned()));
        }
        // A client that comes now is to be refused at once, not to wait in a queue that nobody empties: every process
        // closes its copy of the listeners, the workers theirs when they have accepted what was queued.
        self.listeners.close();
        self.generations.iter().for_each(Generation::stop_listening);
        // One that loads hears nothing, and clients would go on queueing at its copies.
        self.generations
            .iter_mut()
            .filter(|generation| generation.stage == Stage::Loading)
            .for_each(|generation| generation.dismiss(now_ms));
        for g in 0..self.generations.len() {
            for w in 0..self.generations[g].workers.len() {
                // One that has just become ready may have requests already.
                self.read_control(g, w, now_ms);
                let generation = &mut self.generations[g];
                if let Life::Starting { .. } = generation.workers[w].lifecycle.life() {
                    generation.feed(w, Event::LeaveNow, now_ms);
                }
            }
            self.drain(g, Farewell::Stop, now_ms);
        }
    }

    /// Ends whatever is left without waiting.
    pub(crate) fn leave_now(&mut self, now_ms: u64) {
        for generation in &mut self.generations {
            generation.leave_now(now_ms);
            if generation.is_deserted() {
                generation.kill_at_ms = Some(now_ms);
            }
        }
    }

    /// Has the workers of a generation finish their requests and leave.
    pub(crate) fn drain(&mut self, g: usize, farewell: Farewell, now_ms: u64) {
        let generation = &mut self.generations[g];
        let mercy_ms = generation.settings.limits.worker_reload_mercy_ms;
        for index in 0..generation.workers.len() {
            generation.feed(index, Event::Leave { mercy_ms, farewell }, now_ms);
        }
    }

    /// Sends generations home that nobody needs any more, and forgets those that are gone.
    pub(crate) fn retire(&mut self, now_ms: u64) {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let coming = self.coming.as_ref().and_then(|coming| coming.number);
        for generation in &mut self.generations {
            generation.forget_the_gone();
            let number = Some(generation.number);
            if generation.is_deserted() && (stopping || (number != self.serving && number != coming)) {
                generation.dismiss(now_ms + DISMISSAL_GRACE_MS);
            }
            if let (Some(at_ms), Some(process)) = (generation.kill_at_ms, generation.process)
                && at_ms <= now_ms
            {
                // Our own child, not yet collected: the number is still its own. Its death ends this state.
                let _ = process::kill(process.pid);
                generation.kill_at_ms = Some(u64::MAX);
            }
        }
        let serving = self.serving;
        self.generations.retain(|generation| {
            generation.process.is_some()
                || !generation.is_deserted()
                // Its configuration is what its successor starts with.
                || (Some(generation.number) == serving && !stopping)
        });
    }
}
