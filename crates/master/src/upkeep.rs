//! Chores of the master: the log file, the pid file, the numbers for people.

use std::rc::Rc;

use greenloom_config::Recycling;
use greenloom_proto::control::ToWorker;
use greenloom_sys::process;

use crate::commands::Answer;
use crate::generations::Worker;
use crate::log::{Begin, LogFile, say};
use crate::master::Master;
use crate::messages::Order;
use crate::pidfile::Pidfile;
use crate::scoreboard::Sum;

/// How often the memory of workers is looked at.
const MEMORY_INTERVAL_MS: u64 = 1000;

fn has_memory_limit(recycling: &Recycling) -> bool {
    recycling.evil_rss_bytes > 0 || recycling.evil_address_space_bytes > 0
}

impl Master<'_> {
    /// Has every process open the log file anew. This one is the first: the others find it as it has to be.
    pub(crate) fn reopen_log(&self) -> Answer {
        let Some(file) = LogFile::of(&self.settings) else {
            let refusal = "there is no log file (--logto): lines go to standard error";
            say!("cannot open the log anew: {refusal}");
            return Err(refusal.to_owned());
        };
        if let Err(error) = file.take_output(Begin::Append) {
            say!("{error}; lines still go to the file that was open");
            return Err(error.to_string());
        }
        let path = file.path();
        for generation in &self.generations {
            generation.order(Order::ReopenLog);
            generation.workers.iter().for_each(|worker| worker.tell(&ToWorker::ReopenLog));
        }
        say!("the log file {} was opened anew", path.display());
        Ok(format!("{} was opened anew", path.display()))
    }

    /// Begins a new log file when the one that is open is too long (`--log-maxsize`).
    pub(crate) fn rotate_log(&mut self, now_ms: u64) {
        let settings = Rc::clone(&self.settings);
        if settings.log.max_size > 0
            && self.rotation.is_due(&settings.log, LogFile::of(&settings).as_ref(), now_ms)
        {
            // What went wrong is in the log.
            let _ = self.reopen_log();
        }
    }

    /// Kills workers that use more memory than they may (`--evil-reload-on-rss`, `--evil-reload-on-as`), looked at once a
    /// second; others take their place.
    pub(crate) fn kill_the_greedy(&mut self, now_ms: u64) {
        let recycling = &self.settings.recycling;
        if !has_memory_limit(recycling) {
            return;
        }
        if self.memory_at_ms > now_ms {
            return;
        }
        self.memory_at_ms = now_ms + MEMORY_INTERVAL_MS;
        for worker in self.generations.iter().flat_map(|generation| &generation.workers) {
            let Some(process) = worker.lifecycle.process() else { continue };
            let Ok((address_space, resident)) = process::memory(process.pid) else { continue };
            for (what, used, limit) in [
                ("RSS", resident, recycling.evil_rss_bytes),
                ("AS", address_space, recycling.evil_address_space_bytes),
            ] {
                if limit > 0 && used >= limit {
                    say!("*** EVIL RELOAD ON WORKER {} {what}: {used} (pid: {}) ***", worker.id, process.pid);
                    worker.kill();
                    break;
                }
            }
        }
    }

    /// When memory is looked at next.
    pub(crate) fn memory_deadline_ms(&self) -> Option<u64> {
        has_memory_limit(&self.settings.recycling).then_some(self.memory_at_ms)
    }

    pub(crate) fn write_pidfile(&self) -> Answer {
        let Some(path) = &self.settings.pidfile else {
            return Err("there is no pid file (--pidfile)".to_owned());
        };
        Pidfile::write(path).map_err(|error| error.to_string())?;
        Ok(format!("{} was written", path.display()))
    }

    /// The numbers of the instance, for people.
    pub(crate) fn say_statistics(&self) {
        say!("instance total requests: {}", self.totals.requests());
        for generation in &self.generations {
            for worker in generation.workers.iter().filter(|worker| worker.lifecycle.process().is_some()) {
                say_worker(generation.number, worker, generation.scoreboard.seat(worker.seat));
            }
        }
    }
}

fn say_worker(generation: u32, worker: &Worker, seat: Option<crate::scoreboard::Seat<'_>>) {
    let Some((process, seat)) = worker.lifecycle.process().zip(seat) else { return };
    let sums = seat.sums();
    say!(
        "worker {} (pid: {}, generation {generation}) requests: {} exceptions: {} busy cores: {}",
        worker.id,
        process.pid,
        sums.of(Sum::Requests),
        sums.of(Sum::Exceptions),
        seat.busy_cores().load(std::sync::atomic::Ordering::Relaxed)
    );
}
