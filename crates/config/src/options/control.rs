//! Options: stop, reload, and who may ask for them.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::values::{self, Parsed, Refusal};

/// Commands `0` to `9` choose among the pipes.
const FIFOS_MAX: usize = 10;

const TIME: Arg = Arg::Required("TIME");
const FILE: Arg = Arg::Required("FILE");

pub(super) const CATEGORY: Category = Category {
    word: "control",
    title: "Stop, reload and control",
    intro: "SIGTERM and SIGINT stop after the requests in progress have been served, or at once when they come a second time. SIGHUP reloads: the configuration is read again and the application loaded anew, and only when the new workers are ready do the old ones finish what they have and leave.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("worker-reload-mercy", TIME, mercy, "how long requests may take to end when their worker leaves")
        .default_value("60")
        .details("At stop, reload and recycling. What is not finished then is cut."),
    OptionDef::set("shutdown-delay", TIME, shutdown_delay, "how long to go on serving after a stop was asked for")
        .default_value("0")
        .details("/readyz (see metrics) says no from the first moment, so that a balancer can take this server out before it stops accepting."),
    OptionDef::switch("die-on-term", |draft, on, _| draft.die_on_term = on, "SIGTERM stops")
        .default_value("true")
        .details("This is so anyway. Switched off it changes nothing: sigterm-reload asks for uWSGI's old meaning."),
    OptionDef::switch("sigterm-reload", |draft, on, _| draft.settings.master_process.sigterm_reload = on, "SIGTERM reloads, as in uWSGI without die-on-term")
        .default_value("false")
        .details("Then SIGINT stops, and SIGQUIT does at once. Not for systemd and containers, which stop a service with SIGTERM."),
    OptionDef::switch("exit-on-reload", |draft, on, _| draft.settings.master_process.exit_on_reload = on, "stop where a reload is asked for")
        .default_value("false")
        .details("For service managers that start the server again."),
    OptionDef::set("touch-reload", FILE, touch_reload, "reload when this file changes")
        .aliases(&["touch-workers-reload", "touch-chain-reload", "fs-reload"])
        .repeatable()
        .details("Touched, written, replaced, made or removed. uWSGI's kinds of reload are one here: a new generation of workers takes over from the old one."),
    OptionDef::set("master-fifo", FILE, master_fifo, "pipe that takes commands of one byte")
        .repeatable()
        .details("Made with mode 600. uWSGI's bytes: r reload, q stop, Q stop at once, + and - workers, l reopen the log, and more in docs/deployment.md. With several, 0 to 9 choose the one that listens, at most 10."),
    OptionDef::set("control-socket", FILE, control_socket, "UNIX socket for greenloom ctl")
        .details("Made with mode 600: status, stacks, reload, drain, stop, log reopen."),
];

fn mercy(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.worker_reload_mercy_ms = values::millis(given.value)?;
    Ok(())
}

fn shutdown_delay(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.master_process.shutdown_delay_ms = values::millis_or_never(given.value)?;
    Ok(())
}

fn touch_reload(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if !values::is_off(given.value) {
        draft.settings.master_process.touch_reload.push(values::path(given.value)?);
    }
    Ok(())
}

fn master_fifo(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let fifos = &mut draft.settings.master_process.fifos;
    if values::is_off(given.value) {
        return Ok(());
    }
    if fifos.len() == FIFOS_MAX {
        return Err(Refusal::new("an eleventh pipe could not be chosen", "write at most ten"));
    }
    fifos.push(values::path(given.value)?);
    Ok(())
}

fn control_socket(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.status.control_socket = match values::side_address(given.value)? {
        None => None,
        Some(crate::settings::Address::Unix(path)) => Some(path),
        Some(_) => {
            return Err(Refusal::new(
                "commands are only taken where the file system says who may give them",
                "write the path of a UNIX socket, such as /run/shop/control.sock",
            ));
        }
    };
    Ok(())
}
