//! Options: uwsgi signals that the server raises by itself, and locks.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::values::{self, Parsed, Refusal};

/// Each lock is a word of shared memory that somebody may hold; nobody can tell more of them apart.
const LOCKS_MAX: u32 = 4096;

pub(super) const CATEGORY: Category = Category {
    word: "signals",
    title: "Signals, timers and locks",
    intro: "SIGNAL is the number of a uwsgi signal, from 0 to 255: the application says what happens then, with uwsgi.register_signal or the decorators of uwsgidecorators. The application can also add timers and file monitors itself.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("timer", Arg::Required("'SIGNAL TIME'"), timer, "raise a uwsgi signal again and again")
        .aliases(&["rbtimer"])
        .repeatable()
        .details("For example 17 0.5. uWSGI's two kinds of timers are one here, in milliseconds."),
    OptionDef::set(
        "touch-signal",
        Arg::Required("'FILE SIGNAL'"),
        file_monitor,
        "raise a uwsgi signal when this file changes",
    )
    .aliases(&["fs-signal"])
    .repeatable(),
    OptionDef::set("locks", Arg::Required("N"), locks, "locks of uwsgi.lock besides number 0")
        .default_value("0"),
];

fn timer(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    const FORM: &str = "write the signal and the time between two of them, with a blank in between: 17 0.5";
    if values::is_off(given.value) {
        return Ok(());
    }
    let Some((signal, time)) = given.value.split_once(char::is_whitespace) else {
        return Err(Refusal::new("not a signal and a time", FORM));
    };
    let signal = values::signal(signal)?;
    let every = values::millis_or_never(time.trim_start())?;
    if every == 0 {
        return Err(Refusal::new("a timer needs a time above 0", FORM));
    }
    draft.settings.signals.timers.push((signal, every));
    Ok(())
}

fn file_monitor(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if values::is_off(given.value) {
        return Ok(());
    }
    // The path may have blanks in it, the number has none.
    let Some((path, signal)) = given.value.rsplit_once(char::is_whitespace) else {
        return Err(Refusal::new(
            "not a file and a signal",
            "write the path and the number of the signal, with a blank in between: /etc/shop.conf 17",
        ));
    };
    let signal = values::signal(signal)?;
    draft.settings.signals.file_monitors.push((signal, values::path(path.trim_end())?));
    Ok(())
}

fn locks(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.signals.locks =
        if values::is_off(given.value) { 0 } else { values::count32(given.value, 0, LOCKS_MAX)? };
    Ok(())
}
