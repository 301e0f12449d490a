//! Options: processes and their lives.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Asked, Draft};
use crate::values::{self, Parsed, Refusal};
use crate::world;

/// A machine that could use more workers than this is not known to us.
const PROCESSES_MAX: u32 = 4096;

pub(super) const CATEGORY: Category = Category {
    word: "processes",
    title: "Processes",
    intro: "A master supervises the workers and runs no application code. SIGTERM and SIGINT stop after the requests in progress have been served, or at once when they come a second time.",
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
    OptionDef::set(
        "worker-reload-mercy",
        Arg::Required("TIME"),
        mercy,
        "how long requests may take to end at stop",
    )
    .default_value("60")
    .details("What is not finished then is cut."),
    OptionDef::set("uid", Arg::Required("USER"), uid, "only the user greenloom runs as is accepted")
        .details("Greenloom does not change its user in this version: start it as the user it shall run as, for example with User= in a systemd unit."),
    OptionDef::set("gid", Arg::Required("GROUP"), gid, "only the group greenloom runs as is accepted"),
];

fn processes(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let processes = values::count32(given.value, 1, PROCESSES_MAX)?;
    draft.settings.processes = processes;
    draft.processes = Some(Asked::new(processes, given));
    Ok(())
}

fn pidfile(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if given.value.is_empty() {
        return Err(Refusal::new("not a path", "write the path of a file"));
    }
    draft.settings.pidfile = Some(given.value.into());
    Ok(())
}

fn mercy(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.worker_reload_mercy_ms = values::millis(given.value)?;
    Ok(())
}

fn uid(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let (current, _) = draft.world.ids();
    same_account(draft, given, "/etc/passwd", draft.world.user_id(given.value), current, "User=")
}

fn gid(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let (_, current) = draft.world.ids();
    same_account(draft, given, "/etc/group", draft.world.group_id(given.value), current, "Group=")
}

/// Asking for the account we run under changes nothing; any other needs privileges we do not use.
fn same_account(
    draft: &Draft<'_>,
    given: &Given<'_>,
    file: &str,
    named: Option<u32>,
    current: u32,
    systemd: &str,
) -> Parsed<()> {
    if given.value.parse().ok().or(named) == Some(current) {
        return Ok(());
    }
    Err(Refusal::unavailable(
        format!(
            "greenloom runs as {} and does not change to {} in this version",
            world::account_name(draft.world, file, current),
            given.value
        ),
        format!(
            "remove it and start greenloom under that account, for example with {systemd}{} in a systemd unit",
            given.value
        ),
    ))
}
