//! Options: workers that hang, have grown old or have grown large.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::values::{self, Parsed, Refusal};

/// More requests than a worker can serve in its life; small enough that one delta for each worker can be added.
const REQUESTS_MAX: u64 = 1 << 40;

const N: Arg = Arg::Required("N");
const TIME: Arg = Arg::Required("TIME");
const MEGABYTES: Arg = Arg::Required("MEGABYTES");

pub(super) const CATEGORY: Category = Category {
    word: "recycling",
    title: "Watching and recycling workers",
    intro: "TIME is as below Limits and times; MEGABYTES may have another unit behind it (512m, 2g). 0 is never. A worker that is recycled serves on until its replacement is ready, finishes its requests and loses no connection; one that is killed loses its requests.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("harakiri", TIME, harakiri, "kill a worker that holds a request and shows no sign of life")
        .short('t')
        .default_value("0")
        .details("The time begins anew whenever a core takes a request, and stands still while the worker's loop has control: a request that waits in a suspend engine is never the reason, one that computes or blocks is. Where it stood and what else was in progress is in the log. To end single requests that take too long see request-timeout."),
    OptionDef::switch("harakiri-verbose", |draft, on, _| draft.settings.master_process.harakiri_verbose = on, "also log what the kernel knows of a worker that is killed")
        .details("Its system call and what it sleeps on."),
    OptionDef::set("max-requests", N, max_requests, "recycle a worker after so many requests")
        .short('R')
        .default_value("0"),
    OptionDef::set("max-requests-delta", N, max_requests_delta, "so many requests more for each further worker")
        .default_value("0")
        .details("So that they do not all leave together: worker N leaves after max-requests + (N - 1) * delta."),
    OptionDef::set("max-worker-lifetime", TIME, max_lifetime, "recycle a worker at this age").default_value("0"),
    OptionDef::set("max-worker-lifetime-delta", TIME, max_lifetime_delta, "so much longer for each further worker")
        .default_value("0"),
    OptionDef::set("min-worker-lifetime", TIME, min_lifetime, "recycle no worker younger than this")
        .default_value("0")
        .details("uWSGI has 10 s here, so that max-requests = 10 leaves workers alone that are busy. Here max-requests means what it says, since recycling costs no request."),
    OptionDef::set("reload-on-rss", MEGABYTES, rss, "recycle a worker with more resident memory").default_value("0"),
    OptionDef::set("reload-on-as", MEGABYTES, address_space, "recycle a worker with more address space")
        .default_value("0")
        .details("With ugreen each core has 8 MiB of address space, whatever it uses of them: reload-on-rss fits better."),
    OptionDef::set("evil-reload-on-rss", MEGABYTES, evil_rss, "kill a worker with more resident memory").default_value("0"),
    OptionDef::set("evil-reload-on-as", MEGABYTES, evil_address_space, "kill a worker with more address space")
        .default_value("0"),
];

fn harakiri(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    /// A healthy worker shows itself several times in this time, also on a machine that has too much to do.
    const LEAST_MS: u64 = 100;
    let time = values::millis_or_never(given.value)?;
    if (1..LEAST_MS).contains(&time) {
        return Err(Refusal::new(
            "a healthy worker may not show itself that often",
            "write 100ms or more, or 0 for never",
        ));
    }
    draft.settings.master_process.harakiri_ms = time;
    Ok(())
}

fn max_requests(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.max_requests = requests(given.value)?;
    Ok(())
}

fn max_requests_delta(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.max_requests_delta = requests(given.value)?;
    Ok(())
}

fn requests(text: &str) -> Parsed<u64> {
    if values::is_off(text) { Ok(0) } else { values::count(text, 0, REQUESTS_MAX) }
}

fn max_lifetime(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.max_lifetime_ms = values::millis_or_never(given.value)?;
    Ok(())
}

fn max_lifetime_delta(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.max_lifetime_delta_ms = values::millis_or_never(given.value)?;
    Ok(())
}

fn min_lifetime(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.min_lifetime_ms = values::millis_or_never(given.value)?;
    Ok(())
}

fn rss(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.rss_bytes = values::megabytes(given.value)?;
    Ok(())
}

fn address_space(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.address_space_bytes = values::megabytes(given.value)?;
    Ok(())
}

fn evil_rss(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.evil_rss_bytes = values::megabytes(given.value)?;
    Ok(())
}

fn evil_address_space(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.recycling.evil_address_space_bytes = values::megabytes(given.value)?;
    Ok(())
}
