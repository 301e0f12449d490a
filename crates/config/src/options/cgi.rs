//! Options: CGI scripts.

use std::path::PathBuf;

use super::limits::positive;
use super::static_files::{add_ending, add_index, add_path};
use super::{Arg, Category, Given, OptionDef};
use crate::draft::Draft;
use crate::settings::CgiMount;
use crate::values::{self, Parsed, Refusal};

const DIRECTORY: Arg = Arg::Required("DIRECTORY");
const NAME: Arg = Arg::Required("NAME");

pub(super) const CATEGORY: Category = Category {
    word: "cgi",
    title: "CGI scripts",
    intro: "Programs that answer one request each (RFC 3875). Requests below a prefix are for them; without a prefix all are, if there is no application, or else those whose modifier is 9: nginx sets it with uwsgi_modifier1, http-socket-modifier1 = 9 does for all listeners of HTTP. Relative paths count from chdir, or else from where the server was started.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("cgi", Arg::Required("[/PREFIX=]PATH"), cgi, "run the scripts in a directory, or one script, below a path prefix")
        .repeatable()
        .details("The longest prefix counts, and a prefix ends at a slash."),
    OptionDef::switch("cgi-from-docroot", |draft, on, _| draft.settings.cgi.from_docroot = on, "run scripts in the DOCUMENT_ROOT that a request of the uwsgi protocol has"),
    OptionDef::set("cgi-helper", Arg::Required(".EXT=PROGRAM"), helper, "run scripts whose path ends so by a program, such as php-cgi")
        .aliases(&["cgi-map-helper"])
        .repeatable()
        .details("PROGRAM is a path, or a name that is looked up in PATH; the first one that fits counts. Other scripts have to be executable."),
    OptionDef::set("cgi-allowed-ext", Arg::Required(".EXT"), allowed_ext, "run scripts whose path ends so, and no others").repeatable(),
    OptionDef::set("cgi-index", NAME, index, "run this script where a path is a directory").repeatable(),
    OptionDef::set("cgi-safe", DIRECTORY, safe, "symbolic links may lead into this directory")
        .repeatable()
        .details("By default a script has to lie below the directory in which it was looked for, wherever links lead."),
    OptionDef::set("cgi-env", Arg::Required("NAME[=VALUE]"), env, "give scripts this variable; without a value, the server's own")
        .repeatable()
        .details("Of the server's environment scripts get only PATH."),
    OptionDef::set("cgi-unset", NAME, unset, "do not give scripts this variable").repeatable(),
    OptionDef::set("cgi-buffer-size", Arg::Required("SIZE"), buffer_size, "longest head of a script's response")
        .default_value("64k"),
    OptionDef::set("cgi-timeout", Arg::Required("TIME"), timeout, "a script that is silent so long is ended").default_value("60"),
    OptionDef::set("cgi-max-processes", Arg::Required("N"), max_processes, "scripts per worker that run at the same time; others wait")
        .default_value("64"),
    OptionDef::switch("cgi-do-not-kill-on-error", |draft, on, _| draft.settings.cgi.kill_on_error = !on, "let a script go on whose response cannot be read"),
];

fn cgi(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if values::is_off(given.value) {
        return Ok(());
    }
    let (prefix, path) = if given.value.contains('=') {
        values::prefixed(given.value, "/cgi-bin=/usr/lib/cgi-bin")?
    } else {
        values::path(given.value).map_err(|refusal| {
            Refusal::new(
                refusal.reason,
                "write the path of a directory or script, for example /usr/lib/cgi-bin",
            )
        })?;
        (String::new(), given.value)
    };
    let mounts = &mut draft.settings.cgi.mounts;
    if let Some(other) = mounts.iter().find(|other| other.prefix == prefix) {
        let reason = match prefix.as_str() {
            "" => format!("there are scripts without a prefix already ({})", other.origin),
            prefix => format!("there are scripts below {prefix} already ({})", other.origin),
        };
        return Err(Refusal::new(reason, "give it a prefix of its own: cgi = /prefix=PATH"));
    }
    mounts.push(CgiMount { prefix, path: PathBuf::from(path), origin: given.origin.clone() });
    Ok(())
}

fn helper(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let refusal =
        || Refusal::new("not an ending with a program", "write .ext=program, for example .php=php-cgi");
    let (ending, program) = given.value.split_once('=').ok_or_else(refusal)?;
    let (ending, program) = (ending.trim(), program.trim());
    if program.starts_with("sym://") {
        return Err(Refusal::unavailable(
            "functions within the server do not run as scripts",
            "name a program, for example .php=php-cgi",
        ));
    }
    if ending.is_empty() || program.is_empty() || given.value.contains('\0') {
        return Err(refusal());
    }
    draft.settings.cgi.helpers.push((ending.to_owned(), program.to_owned()));
    Ok(())
}

fn allowed_ext(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_ending(&mut draft.settings.cgi.allowed_ext, given)
}

fn index(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_index(&mut draft.settings.cgi.index, given)
}

fn safe(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_path(&mut draft.settings.cgi.safe, given)
}

fn env(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let (name, value) = match given.value.split_once('=') {
        Some((name, value)) => (name.trim_end(), Some(value)),
        None => (given.value, None),
    };
    let variable = (variable(name)?, value.map(str::to_owned));
    if given.value.contains('\0') {
        return Err(Refusal::new("a NUL byte", "write NAME=VALUE"));
    }
    draft.settings.cgi.env.push(variable);
    Ok(())
}

fn unset(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.cgi.unset.push(variable(given.value)?);
    Ok(())
}

fn variable(name: &str) -> Parsed<String> {
    if name.is_empty() || name.contains(['=', '\0']) || name.contains(char::is_whitespace) {
        return Err(Refusal::new("not a variable", "write its name, for example LANG"));
    }
    Ok(name.to_owned())
}

fn buffer_size(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let refusal = || Refusal::new("out of range", "write a size from 1k to 16m");
    let bytes = usize::try_from(values::size(given.value)?).map_err(|_| refusal())?;
    if !(1 << 10..=16 << 20).contains(&bytes) {
        return Err(refusal());
    }
    draft.settings.cgi.buffer_bytes = bytes;
    Ok(())
}

fn timeout(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.cgi.timeout_ms = positive(given)?;
    Ok(())
}

fn max_processes(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.cgi.max_processes = values::count32(given.value, 1, 65_536)?;
    Ok(())
}
