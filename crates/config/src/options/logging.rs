//! Options: which lines are written, where, and what they look like.

use std::path::PathBuf;

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Asked, Draft};
use crate::log_format::LogFormat;
use crate::values::{self, Parsed, Refusal};

const FILE: Arg = Arg::Required("FILE");
const BYTES: Arg = Arg::Required("SIZE");

pub(super) const CATEGORY: Category = Category {
    word: "logging",
    title: "Logging",
    intro: "Each request is one line, in uWSGI's format unless log-format or log-json says otherwise; all lines go to standard error unless a file is named. With disable-logging, log-zero, log-slow and the like name the requests that are logged all the same.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::switch("disable-logging", |draft, on, _| draft.settings.log.disable_logging = on, "no request lines but those that another option asks for")
        .short('L'),
    OptionDef::set("log-format", Arg::Required("TEMPLATE"), format, "what request lines look like")
        .aliases(&["logformat"])
        .details("%(name) stands for a value: uri, method, user, addr, host, proto, uagent, referer, status, size, rsize, hsize, cl, msecs, micros, secs, ltime, ctime, epoch, pid, wid, core, switches, var.NAME and more. In an ini file only %(name) of an option is replaced before. Control characters that a client sends are escaped."),
    OptionDef::switch("log-format-strftime", |draft, on, _| draft.settings.log.format_strftime = on, "the template also goes through strftime")
        .aliases(&["logformat-strftime"]),
    OptionDef::switch("log-json", |draft, on, _| draft.settings.log.json = on, "each request line is a JSON object"),
    OptionDef::set("log-date", Arg::Optional("STRFTIME"), date, "put the date before lines of the server")
        .aliases(&["logdate", "log-prefix"])
        .details("Without a value as ctime writes it. In an ini file each % of the format is written %%."),
    OptionDef::switch("log-micros", |draft, on, _| draft.settings.log.micros = on, "times of request lines in microseconds"),
    OptionDef::switch("log-x-forwarded-for", |draft, on, _| draft.settings.log.x_forwarded_for = on, "log the whole X-Forwarded-For as the address")
        .details("Clients can write what they like there: only behind a proxy that sets it."),
    OptionDef::switch("memory-report", |draft, on, _| draft.settings.log.memory_report = on, "put the worker's memory before request lines")
        .short('m'),
    OptionDef::switch("log-zero", |draft, on, _| draft.settings.log.if_zero = on, "log requests whose answer has no body"),
    OptionDef::set("log-slow", Arg::Required("MILLISECONDS"), slow, "log requests that took so long")
        .details("In milliseconds, as in uWSGI; a unit may stand behind it: 1500, 1.5s. 0 is off."),
    OptionDef::switch("log-4xx", |draft, on, _| draft.settings.log.if_4xx = on, "log requests answered with 4xx"),
    OptionDef::switch("log-5xx", |draft, on, _| draft.settings.log.if_5xx = on, "log requests answered with 5xx"),
    OptionDef::set("log-big", BYTES, big, "log requests whose answer is so large").details("0 is off."),
    OptionDef::switch("log-sendfile", |draft, on, _| draft.settings.log.if_sendfile = on, "log requests answered by sendfile"),
    OptionDef::switch("log-ioerror", |draft, on, _| draft.settings.log.if_ioerror = on, "log requests whose connection failed"),
    OptionDef::set("logto", FILE, logto, "write all lines to a file").aliases(&["logto2"]),
    OptionDef::set("logger", Arg::Required("KIND:WHERE"), logger, "uWSGI's way to name the log: file:FILE, or stdio")
        .details("The same as logto = FILE."),
    OptionDef::set("req-logger", Arg::Required("KIND:WHERE"), request_logger, "where request lines go: only where all other lines go")
        .details("Accepted where it names what logto or logger name: there is one log. Lines of requests can be told apart by their form, with log-json by their first character."),
    OptionDef::set("logfile-chmod", Arg::Required("MODE"), file_mode, "mode of the log file")
        .default_value("640")
        .details("Three octal digits."),
    OptionDef::set("log-maxsize", BYTES, max_size, "rename the log file when it is longer, and begin a new one")
        .default_value("0")
        .details("0 is never. logrotate does it, too: with touch-logreopen, or greenloom ctl, behind the renaming."),
    OptionDef::set("log-backupname", FILE, backup_name, "name of a log file that was too long")
        .details("By default its own with the time in seconds behind it. One that is there already is replaced."),
    OptionDef::switch("log-truncate", |draft, on, _| draft.settings.log.truncate = on, "empty the log file at start"),
    OptionDef::switch("log-reopen", |draft, on, _| draft.settings.log.reopen_on_reload = on, "open the log file anew at a reload")
        .details("Without it a reload goes on writing to the file that is open, also when it has been renamed."),
    OptionDef::set("touch-logreopen", FILE, touch_reopen, "open the log file anew when this file changes").repeatable(),
];

/// Path of a file for lines; refuses uWSGI's other spelling, a UDP address.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    let is_udp = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if is_udp && !text.starts_with('/') {
        return Err(Refusal::new(
            "logging to a UDP address is not in this version",
            "log to a file, or to standard error and let the service manager forward it",
        ));
    }
    values::path(text)
}

fn logto(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.log.logto = file_or_stderr(given.value)?;
    Ok(())
}

/// `None` is standard error.
fn file_or_stderr(text: &str) -> Parsed<Option<PathBuf>> {
    if matches!(text, "/dev/stderr" | "-") { Ok(None) } else { file(text).map(Some) }
}

fn logger(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if values::is_off(given.value) {
        return Ok(());
    }
    let place = place(given.value)?;
    if draft.logger.as_ref().is_some_and(|other| other.what != place) {
        return Err(Refusal::new(
            "there is a logger already, and lines go to one place",
            "write one logger, or let the service manager send lines to several places",
        ));
    }
    draft.logger = Some(Asked::new(place, given));
    Ok(())
}

fn request_logger(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if !values::is_off(given.value) {
        draft.request_loggers.push(Asked::new(place(given.value)?, given));
    }
    Ok(())
}

/// What a logger names; `None` is standard error.
fn place(text: &str) -> Parsed<Option<PathBuf>> {
    let (kind, at) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "file" => file_or_stderr(at),
        "stdio" => Ok(None),
        _ if kind.contains(char::is_whitespace) => Err(Refusal::unavailable(
            "loggers with names, to which log-route sends lines, are not in this version",
            "write logto = FILE for all lines",
        )),
        _ => Err(Refusal::unavailable(
            format!("a logger of the kind \"{kind}\" is not in this version"),
            "log to a file with logto, or to standard error and let the service manager (systemd, Docker) forward it",
        )),
    }
}

fn format(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.log.format = match given.value {
        "" => {
            return Err(Refusal::new(
                "each request line would be empty",
                "write a template, or disable-logging for no request lines",
            ));
        }
        text if values::is_off(text) => None,
        text => match LogFormat::parse(text) {
            Ok(_) => Some(text.to_owned()),
            Err(error) => return Err(Refusal::new(error.reason, error.remedy)),
        },
    };
    Ok(())
}

fn date(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.log.date = match given.value {
        "" | "true" | "on" | "yes" | "1" => Some(String::new()),
        text if values::is_off(text) => None,
        text if text.replace("%%", "").ends_with('%') => {
            return Err(Refusal::new(
                "the last % stands for nothing",
                "write it as strftime reads it, such as %Y-%m-%d %H:%M:%S; in an ini file each % is written %%",
            ));
        }
        text => Some(text.to_owned()),
    };
    Ok(())
}

fn slow(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let time = if values::is_off(given.value) { 0 } else { values::bare_millis(given.value)? };
    draft.settings.log.if_slow_ms = (time > 0).then_some(time);
    Ok(())
}

fn big(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let bytes = if values::is_off(given.value) { 0 } else { values::size(given.value)? };
    draft.settings.log.if_big = (bytes > 0).then_some(bytes);
    Ok(())
}

fn file_mode(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.log.file_mode = Some(values::mode(given.value)?);
    Ok(())
}

fn max_size(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.log.max_size = if values::is_off(given.value) { 0 } else { values::size(given.value)? };
    Ok(())
}

fn backup_name(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.log.backup_name =
        if values::is_off(given.value) { None } else { Some(values::path(given.value)?) };
    Ok(())
}

fn touch_reopen(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if !values::is_off(given.value) {
        draft.settings.master_process.touch_logreopen.push(values::path(given.value)?);
    }
    Ok(())
}
