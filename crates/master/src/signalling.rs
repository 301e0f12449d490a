//! Where the master's loop and the signal framework meet: registrations and raised signals in, signals for workers out.
//! What is made of them is `uwsgi_signals/`'s.

use greenloom_proto::control::{Registration, ToWorker};

use crate::lifecycle::Life;
use crate::log::say;
use crate::master::Master;
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
        if let Err(why) = self.uwsgi_signals.register(generation.number, by, registration, Now::read()) {
            say!("[uwsgi-signal] {why}");
        }
    }

    /// Raises what is due, and sends what can be taken.
    pub(crate) fn deliver_signals(&mut self) {
        let now = Now::read();
        self.uwsgi_signals.tick(now);
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
        for (view, number) in self.uwsgi_signals.deliver(now, &views) {
            let (g, w) = places[view];
            self.generations[g].workers[w].tell(&ToWorker::Signal(number));
        }
    }
}
