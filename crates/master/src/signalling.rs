//! Where the master's loop and the signal framework meet: registrations and raised signals in, signals for workers out; and
//! files whose touch asks for something. What is made of signals is `uwsgi_signals/`'s.

use greenloom_proto::control::{Registration, ToWorker};
use greenloom_sys::clock;

use crate::commands::{Asker, Command};
use crate::lifecycle::Life;
use crate::log::say;
use crate::master::{Master, Phase};
use crate::uwsgi_signals::{Now, Registrant, WorkerView};

impl Master<'_> {
    /// The application of a generation registers something while it is loaded (`worker`: none), or in a worker.
    pub(crate) fn register(&mut self, g: usize, worker: Option<usize>, registration: Registration) {
        let generation = &self.generations[g];
        let by = worker.map_or(Registrant::Generation, |w| {
            let worker = &generation.workers[w];
            let loading = matches!(worker.lifecycle.life(), Life::Starting { .. });
            Registrant::Worker { id: worker.id, loading }
        });
        let (number, workers) = (generation.number, generation.settings.processes);
        let now = Now::read();
        if let Err(why) = self.uwsgi_signals.register(number, workers, by, registration, now) {
            let date = clock::ctime(now.unix_ms / 1000);
            say!("{date} - [uwsgi-signal] {by} of generation {number}: {why}");
        }
    }

    /// Raises what is due, and sends what can be taken.
    pub(crate) fn deliver_signals(&mut self) {
        if let Phase::Stopping { .. } = self.phase {
            return;
        }
        let now = Now::read();
        let numbers: Vec<u32> = self.generations.iter().map(|generation| generation.number).collect();
        self.uwsgi_signals.keep_generations(&numbers);
        if let Some(serving) = self.serving {
            let workers = self.settings.processes;
            self.uwsgi_signals.generation_serves(serving, &self.settings.signals, workers, now);
        }
        self.uwsgi_signals.tick(now);
        let (places, views) = self.worker_processes();
        for (view, number) in self.uwsgi_signals.deliver(now, &views) {
            let (g, w) = places[view];
            self.generations[g].workers[w].tell(&ToWorker::Signal(number));
        }
    }

    /// Every worker process, and where it is; of two of the same worker the younger one comes last.
    fn worker_processes(&self) -> (Vec<(usize, usize)>, Vec<WorkerView>) {
        let mut places = Vec::new();
        let mut views = Vec::new();
        for (g, generation) in self.generations.iter().enumerate() {
            for (w, worker) in generation.workers.iter().enumerate() {
                let Some(process) = worker.lifecycle.process() else { continue };
                places.push((g, w));
                views.push(WorkerView {
                    generation: generation.number,
                    id: worker.id,
                    pid: process.pid,
                    accepts: worker.accepts(),
                });
            }
        }
        (places, views)
    }

    /// When [`Self::deliver_signals`] has something to do.
    pub(crate) fn signals_deadline_ms(&self) -> Option<u64> {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        if stopping { None } else { self.uwsgi_signals.deadline_ms(Now::read()) }
    }

    /// Does what a touch of a file asks for (`--touch-reload`, `--touch-logreopen`).
    pub(crate) fn look_at_touched_files(&mut self, now_ms: u64) {
        if let Phase::Stopping { .. } = self.phase {
            return;
        }
        let watched = &self.settings.master_process;
        self.touch_reload.watch(&watched.touch_reload);
        self.touch_logreopen.watch(&watched.touch_logreopen);
        let date = || clock::ctime(clock::unix_seconds());
        let touched = self.touch_logreopen.touched(now_ms);
        for path in &touched {
            say!("{} - *** {} has been touched... reopening the log file !!! ***", date(), path.display());
        }
        if !touched.is_empty() {
            self.command(Command::ReopenLog, Asker::nobody(), now_ms);
        }
        let touched = self.touch_reload.touched(now_ms);
        for path in &touched {
            say!("{} - *** {} has been touched... grace them all !!! ***", date(), path.display());
        }
        if !touched.is_empty() {
            self.command(Command::Reload, Asker::nobody(), now_ms);
        }
    }

    /// When [`Self::look_at_touched_files`] has something to do.
    pub(crate) fn touch_deadline_ms(&self) -> Option<u64> {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let deadlines = [self.touch_reload.deadline_ms(), self.touch_logreopen.deadline_ms()];
        deadlines.into_iter().flatten().min().filter(|_| !stopping)
    }
}
