//! Options: statistics and metrics.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::values::{self, Parsed};

const ADDRESS: Arg = Arg::Required("ADDRESS");

pub(super) const CATEGORY: Category = Category {
    word: "status",
    title: "Statistics and metrics",
    intro: "ADDRESS is host:port, :port, [ipv6]:port, /path/to.sock or @abstract. What is served there shows the requests in progress to everybody who can connect: 127.0.0.1:9191 or a UNIX socket shows them to this machine alone. The master serves it, so it answers while workers hang.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("stats", ADDRESS, stats, "serve the statistics as a JSON document")
        .aliases(&["stats-server"])
        .details("uWSGI's keys, for uwsgitop and other tools: one document for each connection, which is closed then."),
    OptionDef::switch("stats-http", |draft, on, _| draft.settings.status.stats_http = on, "put an HTTP head before the statistics"),
    OptionDef::switch("stats-minified", |draft, on, _| draft.settings.status.stats_minified = on, "statistics without white space")
        .aliases(&["stats-min"]),
    OptionDef::switch("stats-no-cores", |draft, on, _| draft.settings.status.stats_no_cores = on, "statistics without the cores of each worker"),
    OptionDef::set("metrics", ADDRESS, metrics, "serve /metrics, /healthz and /readyz over HTTP")
        .details("Metrics are in the OpenMetrics format, for Prometheus and others. /healthz says whether a worker accepts connections, /readyz whether clients are welcome: no drain and no stop has been asked for."),
];

fn stats(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.status.stats = values::side_address(given.value)?;
    Ok(())
}

fn metrics(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.status.metrics = values::side_address(given.value)?;
    Ok(())
}
