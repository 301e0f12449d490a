//! Options: where log lines go.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::values::{Parsed, Refusal};

pub(super) const CATEGORY: Category = Category {
    word: "logging",
    title: "Logging",
    intro: "Each request is one line, in uWSGI's format; all lines go to standard error unless a file is named.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::switch(
        "disable-logging",
        |draft, on, _| draft.settings.log.disable_logging = on,
        "no request lines",
    )
    .short('L'),
    OptionDef::set("logto", Arg::Required("FILE"), logto, "write all lines to a file").aliases(&["logto2"]),
];

fn logto(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let is_udp = given.value.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if is_udp && !given.value.starts_with('/') {
        return Err(Refusal::new(
            "logging to a UDP address is not in this version",
            "log to a file, or to standard error and let the service manager forward it",
        ));
    }
    draft.settings.log.logto = match given.value {
        "" => return Err(Refusal::new("not a path", "write the path of a file")),
        "/dev/stderr" | "-" => None,
        path => Some(path.into()),
    };
    Ok(())
}
