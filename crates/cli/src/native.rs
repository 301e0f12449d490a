//! A server without an interpreter: files and CGI scripts, which the worker answers by itself. Its driver has nothing to
//! perform.

use std::io;

use greenloom_config::Settings;
use greenloom_master::{
    Application, CANNOT_SERVE, Fork, LoadError, WorkerContext, fork_single_threaded, log,
};
use greenloom_worker::{Action, Leave, Listen, Worker, WorkerOptions};

use crate::Shared;

/// Exit code of a worker whose reactor fails: nothing it could do would help.
const BROKEN: i32 = 1;

/// The application that there is without any.
#[derive(Debug)]
pub struct Native {
    settings: Settings,
}

impl Native {
    /// For these settings.
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone() }
    }

    fn worker(&self, context: WorkerContext) -> io::Result<Worker> {
        let instance = Shared::new(&context);
        let listeners = context
            .listeners
            .into_iter()
            .map(|listener| Listen { fd: listener.fd, protocol: listener.protocol })
            .collect();
        let options = WorkerOptions {
            worker_id: context.id,
            has_app: false,
            ..WorkerOptions::from_settings(&self.settings)
        };
        let mut worker = Worker::new(options, listeners, Some(context.control), Box::new(instance))?;
        if let Some(handover) = context.handover {
            worker.share_connections(handover.give, handover.take)?;
        }
        Ok(worker)
    }
}

impl Application for Native {
    fn load(&mut self) -> Result<(), LoadError> {
        let python = &self.settings.python;
        let refuse = |message: &str| Err(LoadError { message: message.to_owned() });
        if python.module.is_some() || python.wsgi_file.is_some() || !python.mounts.is_empty() {
            return refuse(
                "this program has no interpreter in it and runs no Python application: start it as python3 -m greenloom, \
                 where the package greenloom is installed",
            );
        }
        if !self.settings.serves_without_application() {
            return refuse(
                "nothing to serve: name scripts with --cgi, or files with --static-map or --check-static; Python \
                 applications are served by python3 -m greenloom",
            );
        }
        Ok(())
    }

    fn fork(&mut self) -> io::Result<Fork> {
        fork_single_threaded()
    }

    fn serve(&mut self, context: WorkerContext) -> i32 {
        let id = context.id;
        let mut worker = match self.worker(context) {
            Ok(worker) => worker,
            Err(error) => {
                log::line(format_args!("cannot set up worker {id}: {error}"));
                return CANNOT_SERVE;
            }
        };
        worker.announce_ready();
        let left = loop {
            match turn(&mut worker) {
                Ok(None) => {}
                left => break left,
            }
        };
        let code = match left {
            Ok(Some(Leave::Drained) | None) => 0,
            Ok(Some(_)) => {
                worker.cancel_all();
                0
            }
            Err(error) => {
                log::line(format_args!("the worker's event loop failed: {error}"));
                BROKEN
            }
        };
        worker.flush_log();
        worker.rest();
        code
    }
}

/// A turn, and the wait for the next.
fn turn(worker: &mut Worker) -> io::Result<Option<Leave>> {
    worker.turn()?;
    while let Some(action) = worker.next_action() {
        match action {
            Action::Leave(why) => return Ok(Some(why)),
            // Nothing has a core here; a uwsgi signal has no handler.
            Action::Signal(core, _) => worker.end_handler(core, true),
            Action::Start(core) | Action::Abandon(core) | Action::Resume(core, _) => {
                worker.fail(core);
            }
            Action::News(..) => {}
        }
    }
    let timeout_ms = worker.timeout_ms();
    let Some(mut batch) = worker.take_batch() else { return Ok(None) };
    let waited = batch.wait(timeout_ms);
    worker.give_batch(batch);
    waited.map(|()| None)
}
