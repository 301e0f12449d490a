//! From settings to a running master: what is set up before its loop begins, and taken down behind it.

use std::ffi::OsString;
use std::path::Path;
use std::rc::Rc;

use greenloom_config::Settings;
use greenloom_sys::clock::monotonic_ms;
use greenloom_sys::process::{self, Pid};
use greenloom_sys::signals::{self, PosixSignal, SignalPipe};

use crate::application::Handover;
use crate::commands::{Asker, Command};
use crate::error::MasterError;
use crate::generations::Occasion;
use crate::lifecycle::Backoff;
use crate::listeners::{Listeners, Quietly};
use crate::log::say;
use crate::master::{Coming, Master, Phase, Recipe, Reread};
use crate::pidfile::Pidfile;
use crate::scoreboard::Totals;
use crate::touch::TouchWatch;
use crate::upgrade::Adoption;
use crate::uwsgi_signals::{Now, UwsgiSignals};

/// How the program was started, so that it can be started again as a generation.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, for example the user's Python.
    pub program: OsString,
    /// What stands before the user's own arguments, for example `-m greenloom`.
    pub args: Vec<OsString>,
}

/// Runs the master until it is told to stop; its exit code. `arguments` are the user's own, `directory` is where they
/// were given, `reread` reads the configuration anew, `adoption` is what the process was before its program was replaced.
/// To be called on the process's main thread: generations die with the thread that started them.
///
/// # Errors
/// What keeps the server from starting; nothing is left behind then.
pub fn run_master(
    settings: &Settings,
    launch: &Launch,
    arguments: &[OsString],
    directory: &Path,
    reread: Reread<'_>,
    adoption: Option<Adoption>,
) -> Result<i32, MasterError> {
    signals::ignore_broken_pipes();
    process::become_subreaper().map_err(MasterError::system("become the reaper of orphans"))?;
    let mut listeners = match &adoption {
        Some(adoption) => adoption.listeners()?,
        None => Listeners::bind(settings)?,
    };
    let arguments = [&launch.args, arguments].concat();
    let recipe = Recipe { program: &launch.program, arguments: &arguments, directory };
    let result = run_bound(settings, &mut listeners, recipe, reread, adoption);
    if settings.vacuum || result.is_err() {
        listeners.vacuum(if result.is_ok() { Quietly::No } else { Quietly::Yes });
    }
    if result.is_ok() {
        say!("goodbye to greenloom.");
    }
    result
}

fn run_bound(
    settings: &Settings,
    listeners: &mut Listeners,
    recipe: Recipe<'_>,
    reread: Reread<'_>,
    adoption: Option<Adoption>,
) -> Result<i32, MasterError> {
    let signals = SignalPipe::catch(&[
        PosixSignal::Hangup,
        PosixSignal::Interrupt,
        PosixSignal::Quit,
        PosixSignal::Terminate,
        PosixSignal::User1,
        PosixSignal::User2,
        PosixSignal::Child,
    ])
    .map_err(MasterError::system("catch posix signals"))?;
    // A program that replaced another one starts with all of them blocked.
    signals::unblock_all().map_err(MasterError::system("unblock posix signals"))?;
    let pidfile = settings.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let settings = Rc::new(settings.clone());
    let now_ms = monotonic_ms();
    let mut master = Master {
        reread,
        listeners,
        recipe,
        handover: Handover::create().map_err(MasterError::system("create a pair of sockets"))?,
        totals: Totals::create().map_err(MasterError::system("create the totals"))?,
        signals,
        generations: Vec::new(),
        last_number: 0,
        serving: None,
        coming: None,
        reload_again: false,
        askers: Vec::new(),
        askers_again: Vec::new(),
        drained: false,
        upgrade: None,
        uwsgi_signals: UwsgiSignals::new(&settings.signals, settings.processes, Now::read()),
        touch_reload: TouchWatch::new(&settings.master_process.touch_reload, now_ms),
        touch_logreopen: TouchWatch::new(&settings.master_process.touch_logreopen, now_ms),
        memory_at_ms: 0,
        backoff: Backoff::default(),
        phase: Phase::Starting,
        settings: Rc::clone(&settings),
    };
    if let Some(adoption) = adoption {
        adoption.adopt_into(&mut master)?;
        say!("gracefully (RE)spawned greenloom master process (pid: {})", Pid::current());
        master.command(Command::Reload, Asker::nobody(), now_ms);
    } else {
        say!("spawned greenloom master process (pid: {})", Pid::current());
        let occasion = Occasion::Start;
        master.coming = Some(Coming { occasion, settings: Rc::clone(&settings), at_ms: 0, number: None });
    }
    let code = master.run();
    if let Some(pidfile) = pidfile.filter(|_| settings.vacuum) {
        pidfile.vacuum();
    }
    Ok(code)
}
