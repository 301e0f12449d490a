//! Chores of the master: the log file, the pid file, the numbers for people.

use greenloom_proto::control::ToWorker;

use crate::commands::Answer;
use crate::generations::Worker;
use crate::log::{self, say};
use crate::master::Master;
use crate::messages::Order;
use crate::pidfile::Pidfile;
use crate::scoreboard::Sum;

impl Master<'_> {
    /// Has every process open the log file anew.
    pub(crate) fn reopen_log(&self) -> Answer {
        let Some(path) = &self.settings.log.logto else {
            return Err("there is no log file (--logto): lines go to standard error".to_owned());
        };
        log::redirect(path).map_err(|error| error.to_string())?;
        for generation in &self.generations {
            generation.order(Order::ReopenLog);
            generation.workers.iter().for_each(|worker| worker.tell(&ToWorker::ReopenLog));
        }
        say!("the log file {} was opened anew", path.display());
        Ok(format!("{} was opened anew", path.display()))
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
                self.say_worker(generation.number, worker, generation.scoreboard.seat(worker.seat));
            }
        }
    }

    fn say_worker(&self, generation: u32, worker: &Worker, seat: Option<crate::scoreboard::Seat<'_>>) {
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
}
