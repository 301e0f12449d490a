//! Options: sizes and times.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::values::{self, Parsed, Refusal};

const SIZE: Arg = Arg::Required("SIZE");
const TIME: Arg = Arg::Required("TIME");

pub(super) const CATEGORY: Category = Category {
    word: "limits",
    title: "Limits and times",
    intro: "SIZE is in bytes, or with k, m or g behind it. TIME is in seconds, with fractions if you like, or with ms, s, m or h behind it.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("buffer-size", SIZE, buffer_size, "longest request head or uwsgi packet, up to 65535")
        .short('b')
        .default_value("16384"),
    OptionDef::set("max-vars", Arg::Required("N"), max_vars, "variables per request, in pairs")
        .short('v')
        .default_value("64")
        .details("As in uWSGI, N makes room for 2 N variables."),
    OptionDef::set("limit-post", SIZE, limit_post, "largest request body; 0 is no limit").default_value("0"),
    OptionDef::set("post-buffering", SIZE, post_buffering, "bodies above this size go to a temporary file")
        .default_value("1m")
        .details("Bodies are always received before the application starts, so 0 and 1 do not switch that off: they put every body into a file."),
    OptionDef::set("head-timeout", TIME, head_timeout, "a request's head must be complete within this time")
        .aliases(&["http-headers-timeout"])
        .default_value("10"),
    OptionDef::set("body-timeout", TIME, body_timeout, "time a request's body has besides body-min-rate")
        .default_value("20"),
    OptionDef::set("body-min-rate", SIZE, body_min_rate, "bytes per second a client must send of a body")
        .default_value("500")
        .details("A body must be complete within body-timeout plus what has been received divided by this rate. 0 leaves body-timeout alone."),
    OptionDef::set("keep-alive-timeout", TIME, keep_alive, "idle time between two requests; 0 closes each connection")
        .default_value("75"),
    OptionDef::set("http-keepalive", Arg::Optional("TIME"), http_keepalive, "uWSGI's name of keep-alive-timeout")
        .details("Without a value it keeps what is set: keep-alive is on by default."),
    OptionDef::set("socket-timeout", TIME, socket_timeout, "a write that stands still this long is given up")
        .short('z')
        .default_value("30"),
    OptionDef::set("request-timeout", Arg::Required("[/PREFIX=]TIME"), request_timeout, "end a request that takes longer")
        .repeatable()
        .details("The time begins when the application starts, not when the client connects. The request is ended where it waits or yields, with 504 if nothing has been sent; others notice nothing. The longest prefix counts, a prefix ends at a slash, and 0 is no deadline. By default there is none."),
    OptionDef::set("output-buffer", SIZE, output_buffer, "output held for a slow client before the core waits")
        .default_value("64k"),
    OptionDef::switch("half-close", |draft, on, _| draft.settings.limits.half_close = on, "work on for clients that have closed their sending side")
        .default_value("false")
        .details("Such a client may still read, and has half a second for its answer: nearly always it has left. With this option it has all the time in the world."),
    OptionDef::switch("coalesce", |draft, on, _| draft.settings.limits.coalesce = on, "send yields together while nobody else can run")
        .default_value("true")
        .details("A yield after a registered wait always switches and sends. --coalesce=false makes each yield do so."),
    OptionDef::set("body-early", Arg::Required("/PREFIX"), body_early, "start these requests before their body is there")
        .repeatable()
        .details("The application reads the body as it comes; this needs a suspend engine. CGI scripts need none: without one it is about them alone."),
    OptionDef::set("max-fd", Arg::Required("N"), max_fd, "limit of open files to set")
        .details("By default the limit is what the process was started with."),
];

fn buffer_size(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let bytes = values::size(given.value)?;
    // uWSGI clamps at 65535; files that say 65536 mean "as large as it gets".
    let bytes = if bytes == 65_536 { 65_535 } else { bytes };
    if !(1024..=65_535).contains(&bytes) {
        return Err(Refusal::new("out of range", "write a size from 1024 to 65535"));
    }
    draft.settings.limits.head_bytes =
        u32::try_from(bytes).map_err(|_| Refusal::new("out of range", "write a size up to 65535"))?;
    Ok(())
}

fn max_vars(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.max_vars = 2 * values::count32(given.value, 8, 32_767)?;
    Ok(())
}

fn limit_post(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.limit_post = values::size(given.value)?;
    Ok(())
}

fn post_buffering(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.post_buffering = values::size(given.value)?;
    Ok(())
}

fn head_timeout(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.head_timeout_ms = positive(given)?;
    Ok(())
}

fn body_timeout(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.body_timeout_ms = positive(given)?;
    Ok(())
}

fn body_min_rate(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.body_min_rate = values::size(given.value)?;
    Ok(())
}

fn keep_alive(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.keep_alive_ms = values::millis(given.value)?;
    Ok(())
}

fn http_keepalive(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    match given.value {
        // "1" is what files write to switch it on; nobody means one second.
        "" | "1" | "true" | "on" | "yes" => {}
        text if values::is_off(text) => draft.settings.limits.keep_alive_ms = 0,
        text => draft.settings.limits.keep_alive_ms = values::millis(text)?,
    }
    Ok(())
}

fn socket_timeout(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.socket_timeout_ms = positive(given)?;
    Ok(())
}

fn request_timeout(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let (prefix, time) = match given.value.rsplit_once('=') {
        Some((prefix, time)) => (prefix.trim(), time.trim()),
        None => ("/", given.value),
    };
    if !prefix.starts_with('/') {
        return Err(Refusal::new("not a path prefix", "write /prefix=TIME, or TIME alone for every path"));
    }
    let prefix = prefix.trim_end_matches('/');
    let millis = values::millis(time)?;
    let timeouts = &mut draft.settings.limits.request_timeouts;
    if timeouts.iter().any(|(other, _)| other == prefix) {
        return Err(Refusal::new(
            "this prefix has a deadline already",
            "write one TIME for every path, and one for each prefix that differs",
        ));
    }
    timeouts.push((prefix.to_owned(), millis));
    Ok(())
}

fn output_buffer(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let bytes = values::size(given.value)?;
    if !(4096..=1 << 30).contains(&bytes) {
        return Err(Refusal::new("out of range", "write a size from 4k to 1g"));
    }
    draft.settings.limits.high_water_bytes = bytes;
    Ok(())
}

fn body_early(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if !given.value.starts_with('/') {
        return Err(Refusal::new(
            "not a prefix",
            "write a path that begins with /, such as /upload, or / for the whole site",
        ));
    }
    draft.settings.limits.body_early.push(given.value.trim_end_matches('/').to_owned());
    draft.body_early = Some(crate::draft::Asked::new((), given));
    Ok(())
}

fn max_fd(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.limits.max_fd = Some(values::count(given.value, 64, 1 << 30)?);
    Ok(())
}

/// A time that must not be 0: without it a slow client could hold its connection for ever.
pub(super) fn positive(given: &Given<'_>) -> Parsed<u64> {
    match values::millis(given.value)? {
        0 => {
            Err(Refusal::new("this time cannot be switched off", "write a long time instead, for example 1h"))
        }
        millis => Ok(millis),
    }
}
