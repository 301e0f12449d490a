//! From options to a running server: reads the configuration, answers questions about it, and otherwise starts the
//! part of the process tree that this process is.
//!
//! The same command line serves three roles. Typed by a user it is the master (or, without one, the only worker);
//! started by a master it is a generation, which an environment variable says. What the roles do is the master
//! crate's; what the application is comes from the caller, who knows the language.
#![forbid(unsafe_code)]

mod shared;

use std::ffi::OsString;
use std::io::Write as _;

use greenloom_config::{ConfigError, RealWorld, Settings};
use greenloom_master::{Adoption, Application, Inheritance, MasterError, banner, log, open_files};

pub use greenloom_master as master;
pub use greenloom_master::Launch;
pub use shared::Shared;

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
    let inheritance = match Inheritance::take() {
        Ok(inheritance) => inheritance,
        Err(error) => return refuse(&error),
    };
    let adoption = match Adoption::check().and_then(|()| Adoption::take()) {
        Ok(adoption) => adoption,
        Err(error) => return refuse(&error),
    };
    let loaded = match greenloom_config::load(args, &RealWorld) {
        Ok(loaded) => loaded,
        Err(error) => return refuse_configuration(&error),
    };
    if let Some(text) = loaded.action.text() {
        return print(text);
    }
    let settings = loaded.settings;
    if let Some(inheritance) = inheritance {
        return greenloom_master::run_generation(inheritance, &settings, &mut *app(&settings));
    }
    match start(&settings, &loaded.notices, args, launch, adoption, app) {
        Ok(code) => code,
        Err(error) => refuse(&error),
    }
}

fn start(
    settings: &Settings,
    notices: &[String],
    args: &[OsString],
    launch: &Launch,
    adoption: Option<Adoption>,
    app: &mut dyn FnMut(&Settings) -> Box<dyn Application>,
) -> Result<i32, MasterError> {
    let directory = std::env::current_dir()
        .map_err(|reason| MasterError::System { what: "find the current directory", reason })?;
    // A program that replaced another one has its output already.
    if let Some(path) = settings.log.logto.as_ref().filter(|_| adoption.is_none()) {
        // The last words on the terminal: whoever waits there for a start that fails must know where to look. (To
        // keep the terminal open for the failure itself would hold up whoever waits for its end.)
        log::line(format_args!("greenloom: all further lines go to {}", path.display()));
        log::redirect(path)?;
    }
    open_files::adjust(settings)?;
    banner::print(env!("CARGO_PKG_VERSION"), settings, launch);
    for notice in notices {
        log::line(format_args!("{notice}"));
    }
    if settings.master {
        let reread = || match greenloom_config::load(args, &RealWorld) {
            Ok(loaded) => Ok(loaded.settings),
            Err(error) => Err(error.to_string()),
        };
        greenloom_master::run_master(settings, launch, args, &directory, &reread, adoption)
    } else {
        greenloom_master::run_single(settings, &mut *app(settings))
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
