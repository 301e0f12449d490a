//! From options to a running server: reads the configuration, answers questions about it, and otherwise starts the
//! part of the process tree that this process is.
//!
//! The same command line serves three roles. Typed by a user it is the master (or, without one, the only worker);
//! started by a master it is a generation, which an environment variable says. What the roles do is the master
//! crate's; what the application is comes from the caller, who knows the language. A fourth one is no server at all:
//! `greenloom ctl` talks to one.
#![forbid(unsafe_code)]

mod ctl;
mod native;
mod shared;
mod workers;

use std::ffi::OsString;
use std::io::Write as _;

use greenloom_config::{ConfigError, RealWorld, Settings};
use greenloom_master::log::{Begin, LogFile};
use greenloom_master::{
    Adoption, Application, Arrival, Detached, Inheritance, MasterError, Surroundings, banner,
    fork_single_threaded, log, open_files, set_umask,
};

pub use greenloom_master as master;
pub use greenloom_master::Launch;
pub use native::Native;
pub use shared::Shared;
pub use workers::{WorkerNumbers, Workers};

/// The exit code of a configuration or an address that does not work, uWSGI's as well.
const REFUSED: i32 = 1;

/// Runs the command whose arguments (without the program's name) are `args`; the exit code. To be called first thing
/// on the process's main thread. `launch` is how to start the same program again; `app` makes the application once
/// the settings are known.
///
/// It returns in every process of the tree: in the master, in a generation, and in each worker forked from it. The
/// caller ends the process with the code in all of them.
pub fn main(
    args: &[OsString],
    launch: &Launch,
    app: &mut dyn FnMut(&Settings) -> Box<dyn Application>,
) -> i32 {
    if let Some(("ctl", rest)) = args.split_first().map(|(first, rest)| (first.to_str().unwrap_or(""), rest))
    {
        return ctl::main(rest);
    }
    let inheritance = match Inheritance::take() {
        Ok(inheritance) => inheritance,
        Err(error) => return refuse(&error),
    };
    let (adoption, is_asked) = match Adoption::check().and_then(|asked| Ok((Adoption::take()?, asked))) {
        Ok(found) => found,
        Err(error) => return refuse(&error),
    };
    let loaded = if inheritance.is_some() || adoption.is_some() || is_asked {
        // The listeners of the instance are there already, perhaps without any option that names them.
        greenloom_config::load_inheriting(args, &RealWorld)
    } else {
        greenloom_config::load(args, &RealWorld)
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return refuse_configuration(&error),
    };
    if let Some(text) = loaded.action.text() {
        return print(text);
    }
    let settings = loaded.settings;
    log::configure(&settings);
    if let Some(inheritance) = inheritance {
        return greenloom_master::run_generation(inheritance, &settings, &mut *app(&settings));
    }
    let mut arrival = Arrival::default();
    let code = match start(&settings, &loaded.notices, args, launch, adoption, app, &mut arrival) {
        Ok(code) => code,
        Err(error) => refuse(&error),
    };
    arrival.ended(code);
    code
}

fn start(
    settings: &Settings,
    notices: &[String],
    args: &[OsString],
    launch: &Launch,
    adoption: Option<Adoption>,
    app: &mut dyn FnMut(&Settings) -> Box<dyn Application>,
    arrival: &mut Arrival,
) -> Result<i32, MasterError> {
    if let Some(mask) = settings.master_process.umask {
        set_umask(mask);
    }
    let mut surroundings = Surroundings::take();
    // With a master nothing of the application is ever in this process.
    let mut single = (!settings.master).then(|| app(settings));
    // A program that replaced another one is where it should be, and has its output already.
    if let Some(log) = settings.master_process.daemonize.as_ref().filter(|_| adoption.is_none()) {
        let mut fork = || single.as_mut().map_or_else(fork_single_threaded, |app| app.fork());
        match surroundings.detach(log, &mut fork)? {
            Detached::Command(code) => return Ok(code),
            Detached::Daemon(told) => *arrival = told,
        }
    }
    let directory = std::env::current_dir()
        .map_err(|reason| MasterError::System { what: "find the current directory", reason })?;
    // A program that replaced another one has its output already.
    if let Some(file) = LogFile::of(settings).filter(|_| adoption.is_none()) {
        let is_daemons = settings.log.logto == settings.master_process.daemonize;
        if !is_daemons {
            // The last words on the terminal: whoever waits there for a start that fails must know where to look. (To
            // keep the terminal open for the failure itself would hold up whoever waits for its end.)
            log::line(format_args!("greenloom: all further lines go to {}", file.path().display()));
        }
        file.take_output(if settings.log.truncate { Begin::Truncate } else { Begin::Append })?;
    }
    open_files::adjust(settings)?;
    banner::print(env!("CARGO_PKG_VERSION"), settings, launch);
    for notice in notices {
        log::line(format_args!("{notice}"));
    }
    if let Some(app) = &mut single {
        greenloom_master::run_single(settings, &mut **app, surroundings)
    } else {
        let reread = || match greenloom_config::load_inheriting(args, &RealWorld) {
            Ok(loaded) => Ok(loaded.settings),
            Err(error) => Err(error.to_string()),
        };
        greenloom_master::run_master(settings, launch, args, &directory, &reread, adoption, surroundings)
    }
}

/// Answers on standard output, in full or not at all: a reader that leaves early is no error.
fn print(text: &str) -> i32 {
    let mut output = std::io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => REFUSED,
        _ => 0,
    }
}

fn refuse_configuration(error: &ConfigError) -> i32 {
    for part in error.parts() {
        refuse(part);
    }
    REFUSED
}

fn refuse(error: &dyn std::error::Error) -> i32 {
    log::line(format_args!("greenloom: {error}"));
    REFUSED
}
