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
use crate::log::say;
use crate::made_file::Quietly;
use crate::master::{Coming, Master, Phase, Recipe, Reread};
use crate::notifier::Notifier;
use crate::premises::Premises;
use crate::rotation::Rotation;
use crate::scoreboard::Totals;
use crate::status::Describer;
use crate::surroundings::Surroundings;
use crate::touch::TouchWatch;
use crate::upgrade::Adoption;
use crate::user_locks::UserLocks;
use crate::uwsgi_signals::{Now, UwsgiSignals};
use crate::watchdog::Watchdog;

/// How the program was started, so that it can be started again as a generation.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, for example the user's Python.
    pub program: OsString,
    /// What stands before the user's own arguments, for example `-m greenloom`.
    pub args: Vec<OsString>,
}

/// Runs the master until it is told to stop; its exit code. `arguments` are the user's own, `directory` is where they
/// were given, `reread` reads the configuration anew, `adoption` is what the process was before its program was replaced,
/// `surroundings` what else was found at the start.
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
    surroundings: Surroundings,
) -> Result<i32, MasterError> {
    // First of all: a stop that comes while the instance is being set up is to leave nothing behind either, and the first
    // process of a pid namespace never gets what it does not catch.
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
    signals::ignore_broken_pipes();
    process::become_subreaper().map_err(MasterError::system("become the reaper of orphans"))?;
    let Surroundings { notifier, activation } = surroundings;
    let mut premises = Premises::take(settings, activation, adoption.as_ref())?;
    let arguments = [&launch.args, arguments].concat();
    let recipe = Recipe { program: &launch.program, arguments: &arguments, directory };
    let outside = Outside { premises: &mut premises, signals, notifier };
    let result = run_on(outside, settings, recipe, reread, adoption);
    if settings.vacuum || result.is_err() {
        premises.leave(if result.is_ok() { Quietly::No } else { Quietly::Yes });
    }
    if result.is_ok() {
        say!("goodbye to greenloom.");
    }
    // What is left is the end of the runtime, which gives posix signals their default meaning back: a stop that somebody
    // asks for once more is not to change the exit code.
    let _ = signals::block_all();
    result
}

/// Whatever comes from outside of the process tree.
struct Outside<'a> {
    premises: &'a mut Premises,
    signals: SignalPipe,
    notifier: Notifier,
}

fn run_on(
    outside: Outside<'_>,
    settings: &Settings,
    recipe: Recipe<'_>,
    reread: Reread<'_>,
    adoption: Option<Adoption>,
) -> Result<i32, MasterError> {
    let Outside { premises, signals, notifier } = outside;
    let settings = Rc::new(settings.clone());
    let now_ms = monotonic_ms();
    let mut master = Master {
        reread,
        listeners: &mut premises.listeners,
        fifos: premises.fifos.as_mut(),
        status: &mut premises.status,
        describer: Describer::default(),
        notifier,
        recipe,
        handover: Handover::create().map_err(MasterError::system("create a pair of sockets"))?,
        totals: Totals::create().map_err(MasterError::system("create the totals"))?,
        locks: UserLocks::create(settings.signals.locks.saturating_add(1))
            .map_err(MasterError::system("create the user locks"))?,
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
        uwsgi_signals: UwsgiSignals::new(&settings.signals, Now::read()),
        touch_reload: TouchWatch::new(&settings.master_process.touch_reload, now_ms),
        touch_logreopen: TouchWatch::new(&settings.master_process.touch_logreopen, now_ms),
        rotation: Rotation::default(),
        memory_at_ms: 0,
        watchdog: Watchdog::default(),
        backoff: Backoff::default(),
        last_load_ms: 0,
        phase: Phase::Starting,
        settings: Rc::clone(&settings),
    };
    if let Some(adoption) = adoption {
        adoption.adopt_into(&mut master)?;
        if let Some(serving) = master.serving {
            master.uwsgi_signals.adopt(serving);
        }
        say!("gracefully (RE)spawned greenloom master process (pid: {})", Pid::current());
        master.command(Command::Reload, Asker::nobody(), now_ms);
    } else {
        say!("spawned greenloom master process (pid: {})", Pid::current());
        let occasion = Occasion::Start;
        master.coming = Some(Coming { occasion, settings: Rc::clone(&settings), at_ms: 0, number: None });
    }
    // A thread: what is started from here on are other programs, no forks of this one.
    master.status.start(&master.totals)?;
    Ok(master.run())
}
