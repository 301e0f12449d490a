//! Options: processes, and what they are allowed.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Asked, Draft};
use crate::values::{self, Parsed, Refusal};

/// A machine that could use more workers than this is not known to us.
const PROCESSES_MAX: u32 = 4096;

pub(super) const CATEGORY: Category = Category {
    word: "processes",
    title: "Processes",
    intro: "A master supervises the workers and runs no application code.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("processes", Arg::Required("N"), processes, "number of workers")
        .aliases(&["workers"])
        .short('p')
        .default_value("1"),
    OptionDef::switch("master", |draft, on, _| draft.settings.master = on, "supervise the workers from a process of its own")
        .short('M')
        .default_value("true")
        .details("--master=false runs one worker in the process itself, for debugging."),
    OptionDef::set("pidfile", Arg::Required("FILE"), pidfile, "write the master's process id to a file")
        .aliases(&["pidfile2", "safe-pidfile", "safe-pidfile2"]),
    OptionDef::switch("vacuum", |draft, on, _| draft.settings.vacuum = on, "remove UNIX sockets and the pid file at exit")
        .default_value("true"),
    OptionDef::set("uid", Arg::Required("USER"), uid, "user to become once the listeners are bound, by name or number")
        .details("Needs the right to change the user, as root has it. The application is loaded as this user."),
    OptionDef::set("gid", Arg::Required("GROUP"), gid, "group to become once the listeners are bound, by name or number"),
    OptionDef::set("umask", Arg::Required("MODE"), umask, "mode bits that new files and sockets do not get")
        .details("Three octal digits. By default the umask is what the process was started with."),
    OptionDef::set("daemonize", Arg::Required("FILE"), daemonize, "leave the terminal, and write all lines to a file")
        .aliases(&["daemonize2"])
        .short('d')
        .details("Not for systemd, supervisord or Docker, which want to see the process they have started. A file named by logto comes before this one."),
];

fn processes(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let processes = values::count32(given.value, 1, PROCESSES_MAX)?;
    draft.settings.processes = processes;
    draft.processes = Some(Asked::new(processes, given));
    Ok(())
}

fn pidfile(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.pidfile = Some(values::path(given.value)?);
    Ok(())
}

fn uid(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let id = account(given.value, |name| draft.world.user_id(name), "there is no such user")?;
    draft.settings.master_process.uid = Some(id);
    Ok(())
}

fn gid(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let id = account(given.value, |name| draft.world.group_id(name), "there is no such group")?;
    draft.settings.master_process.gid = Some(id);
    Ok(())
}

/// A number stands for itself, whether or not it has a name. The highest one is the kernel's word for "as it is".
fn account(text: &str, by_name: impl Fn(&str) -> Option<u32>, unknown: &str) -> Parsed<u32> {
    const REMEDY: &str = "write the name or number of an account of this machine";
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return values::count32(text, 0, u32::MAX - 1)
            .map_err(|refusal| Refusal::new(refusal.reason, REMEDY));
    }
    by_name(text).ok_or_else(|| Refusal::new(unknown, REMEDY))
}

fn umask(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.master_process.umask = Some(values::mode(given.value)?);
    Ok(())
}

fn daemonize(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.master_process.daemonize = match given.value {
        text if values::is_off(text) => None,
        text => Some(super::logging::file(text)?),
    };
    Ok(())
}
