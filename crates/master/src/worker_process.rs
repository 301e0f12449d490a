//! A worker's process from its fork (or its start, without a master) to its exit code.

use std::os::fd::OwnedFd;

use greenloom_config::Settings;
use greenloom_sys::clock::{monotonic_ms, unix_seconds};
use greenloom_sys::signals::{self, PosixSignal, SignalPipe};

use crate::application::{Application, BoundListener, Handover, WorkerContext};
use crate::error::MasterError;
use crate::log::say;
use crate::made_file::Quietly;
use crate::notifier::Notifier;
use crate::premises::Premises;
use crate::relay::{self, Upstream};
use crate::scoreboard::{Count, Life, Scoreboard, Totals};
use crate::surroundings::Surroundings;
use crate::user_locks::UserLocks;

/// uWSGI's exit code of a process that could not load its application (`UWSGI_FAILED_APP_CODE`).
pub(crate) const LOAD_FAILED: i32 = 22;

/// What makes a process worker `id`.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) id: u32,
    pub(crate) generation: u32,
    pub(crate) listeners: Vec<BoundListener>,
    pub(crate) scoreboard: Scoreboard,
    /// Its seat there.
    pub(crate) seat: u32,
    pub(crate) totals: Totals,
    /// `None` without a master.
    pub(crate) handover: Option<Handover>,
}

/// Serves as worker of a master at the other end of `master`; the process's exit code.
pub(crate) fn run(part: Part, master: OwnedFd, settings: &Settings, app: &mut dyn Application) -> i32 {
    let id = part.id;
    let prepared =
        signals::catch_and_forget(&[PosixSignal::Hangup, PosixSignal::Interrupt, PosixSignal::Quit])
            .and_then(|()| SignalPipe::catch(&[PosixSignal::Terminate]))
            .and_then(|signals| {
                relay::start(Upstream::Master(master), signals, settings.limits.worker_reload_mercy_ms)
            });
    match prepared {
        Ok((control, relayed)) => {
            let code = serve(part, control, settings, app);
            relayed.finish();
            code
        }
        Err(error) => {
            say!("worker {id} cannot start: {error}");
            1
        }
    }
}

/// Runs the only worker in this process, without a master: for debugging. The process's exit code. `surroundings` is
/// what was found at the start.
///
/// # Errors
/// What keeps the server from starting.
pub fn run_single(
    settings: &Settings,
    app: &mut dyn Application,
    surroundings: Surroundings,
) -> Result<i32, MasterError> {
    if settings.processes > 1 {
        return Err(MasterError::NeedsMaster { processes: settings.processes });
    }
    let signals = SignalPipe::catch(&[
        PosixSignal::Hangup,
        PosixSignal::Interrupt,
        PosixSignal::Quit,
        PosixSignal::Terminate,
        PosixSignal::User1,
        // Until the application's language has a handler of its own.
        PosixSignal::User2,
    ])
    .map_err(MasterError::system("catch posix signals"))?;
    signals::ignore_broken_pipes();
    let Surroundings { notifier, activation } = surroundings;
    let mut premises = Premises::take(settings, activation, None)?;
    let result = run_on(&mut premises, settings, app, signals, notifier);
    if settings.vacuum || result.is_err() {
        premises.leave(if result.is_ok() { Quietly::No } else { Quietly::Yes });
    }
    if result.is_ok() {
        say!("goodbye to greenloom.");
    }
    result
}

fn run_on(
    premises: &mut Premises,
    settings: &Settings,
    app: &mut dyn Application,
    signals: SignalPipe,
    notifier: Notifier,
) -> Result<i32, MasterError> {
    let scoreboard =
        Scoreboard::create(1, settings.cores).map_err(MasterError::system("create the scoreboard"))?;
    let totals = Totals::create().map_err(MasterError::system("create the totals"))?;
    let locks = UserLocks::create(settings.signals.locks.saturating_add(1))
        .map_err(MasterError::system("create the user locks"))?;
    app.share_locks(locks);
    let (control, _) =
        relay::start(Upstream::Nobody(notifier), signals, settings.limits.worker_reload_mercy_ms)
            .map_err(MasterError::system("start a thread"))?;
    let listeners = premises.listeners.take_bound();
    let part = Part { id: 1, seat: 0, generation: 1, listeners, scoreboard, totals, handover: None };
    Ok(match load(settings, app) {
        Ok(()) => {
            say!(
                "spawned greenloom worker 1 (and the only) (pid: {}, cores: {})",
                std::process::id(),
                settings.cores
            );
            serve_loaded(part, control, settings, app)
        }
        Err(code) => code,
    })
}

fn serve(part: Part, control: OwnedFd, settings: &Settings, app: &mut dyn Application) -> i32 {
    if settings.lazy_apps
        && let Err(code) = load(settings, app)
    {
        return code;
    }
    serve_loaded(part, control, settings, app)
}

fn serve_loaded(part: Part, control: OwnedFd, settings: &Settings, app: &mut dyn Application) -> i32 {
    let Part { id, seat, generation, listeners, scoreboard, totals, handover } = part;
    if let Some(seat) = scoreboard.seat(seat) {
        seat.begin(&Life {
            pid: std::process::id(),
            worker: id,
            generation,
            spawn: u32::try_from(totals.counted(Count::Spawns(id))).unwrap_or(u32::MAX),
            started_ms: monotonic_ms(),
            started_unix_s: unix_seconds(),
            cores: settings.cores,
        });
    }
    app.serve(WorkerContext { id, listeners, control, handover, scoreboard, seat, totals })
}

/// Loads the application. `Err`: the code to exit with.
pub(crate) fn load(settings: &Settings, app: &mut dyn Application) -> Result<(), i32> {
    match app.load() {
        Ok(()) => Ok(()),
        Err(error) if settings.need_app => {
            say!("{error}");
            say!("no application, no server: repair it, or start with --no-need-app to go on without it");
            Err(LOAD_FAILED)
        }
        Err(error) => {
            say!("{error}");
            say!("going on without this application (--no-need-app)");
            Ok(())
        }
    }
}
