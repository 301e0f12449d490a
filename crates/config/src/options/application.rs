//! Options: the application and what surrounds it.

use std::path::PathBuf;

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Asked, Draft};
use crate::settings::{Interface, Mount};
use crate::values::{self, Parsed, Refusal};
use crate::world;

pub(super) const CATEGORY: Category = Category {
    word: "application",
    title: "Application",
    intro: "What to run. A positional argument x.py or x.wsgi is a --wsgi-file, mod:callable a --module.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("module", Arg::Required("MODULE[:CALLABLE]"), module, "import the application from a module")
        .aliases(&["wsgi"])
        .short('w')
        .details("The callable may end in (): then it is called once, and its result is the application."),
    OptionDef::set("wsgi-file", Arg::Required("FILE"), wsgi_file, "run a Python file that defines the application")
        .aliases(&["file"]),
    OptionDef::set("callable", Arg::Required("NAME"), callable, "name of the application object")
        .default_value("application"),
    OptionDef::set("mount", Arg::Required("/PREFIX=APP"), mount, "serve APP below a path prefix")
        .repeatable()
        .details("APP is x.py, x.wsgi, a module or module:callable. The longest prefix wins, and a prefix ends at a slash: /shop serves /shop and /shop/a, not /shopping."),
    OptionDef::set("asgi", Arg::OptionalNext("[/PREFIX=]APP"), asgi, "serve APP, an ASGI application")
        .repeatable()
        .details("APP is named as for mount; without a prefix it has the whole site. Without a value, the application of module or wsgi-file is ASGI. Needs the loop of asyncio, uvloop or Tornado. WSGI applications can be mounted beside it."),
    OptionDef::set("pythonpath", Arg::Required("DIRECTORY"), pythonpath, "add a directory to sys.path")
        .aliases(&["python-path", "pp"])
        .repeatable()
        .details("May be a shell pattern. Each one goes to the front, so the last one given is searched first."),
    OptionDef::set("virtualenv", Arg::Required("DIRECTORY"), virtualenv, "use this virtual environment")
        .aliases(&["home", "venv", "pyhome"])
        .short('H'),
    OptionDef::set("pyargv", Arg::Required("WORDS"), pyargv, "sys.argv after its first element, split at blanks"),
    OptionDef::set("import", Arg::Required("MODULE"), import, "import a module before the application")
        .aliases(&["pyimport", "py-import", "python-import", "shared-import", "pyshared-import", "py-shared-import", "python-shared-import"])
        .repeatable(),
    OptionDef::switch("need-app", |draft, on, _| draft.settings.need_app = on, "fail when no application loads").default_value("true"),
    OptionDef::switch("no-need-app", |draft, on, _| draft.settings.need_app = !on, "go on when no application loads"),
    OptionDef::switch("lazy-apps", |draft, on, _| draft.settings.lazy_apps = on, "load the application in each worker")
        .aliases(&["lazy"])
        .details("By default it is loaded once, and the workers are forked from there and share its memory."),
    OptionDef::set("chdir", Arg::Required("DIRECTORY"), chdir, "change to a directory before loading"),
    OptionDef::set("env", Arg::Required("NAME=VALUE"), env, "set an environment variable").repeatable(),
    OptionDef::set("plugin", Arg::Required("NAMES"), plugin, "check that parts are there, separated by commas")
        .aliases(&["plugins", "need-plugin", "need-plugins"])
        .repeatable()
        .details("All parts are built in, so there is nothing to load: a name greenloom does not have stops the start."),
];

fn module(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let (module, callable) = given.value.split_once(':').unwrap_or((given.value, "application"));
    if module.is_empty() || callable.is_empty() || module.chars().any(char::is_whitespace) {
        return Err(Refusal::new("not a module", "write pkg.mod or pkg.mod:callable"));
    }
    if module.contains('/') || has_extension(module, "py") {
        return Err(Refusal::new(
            "this is a file, not a module",
            format!("write wsgi-file = {module} and callable = {callable}"),
        ));
    }
    draft.settings.python.module = Some(given.value.to_owned());
    Ok(())
}

fn wsgi_file(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.python.wsgi_file = Some(path(given)?);
    Ok(())
}

fn callable(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if given.value.is_empty() {
        return Err(Refusal::new("no name", "write the name of the application object, for example app"));
    }
    draft.settings.python.callable = Some(given.value.to_owned());
    Ok(())
}

fn mount(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add_mount(draft, given, Interface::Wsgi)
}

fn asgi(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if given.value.is_empty() || values::is_flag(given.value) {
        let on = given.value.is_empty() || values::flag(given.value);
        draft.settings.python.site_is_asgi = on;
        draft.site_is_asgi = on.then(|| Asked::new((), given));
        return Ok(());
    }
    add_mount(draft, given, Interface::Asgi)?;
    draft.asgi.push(Asked::new((), given));
    Ok(())
}

fn add_mount(draft: &mut Draft<'_>, given: &Given<'_>, interface: Interface) -> Parsed<()> {
    let (prefix, app) = match given.value.split_once('=') {
        Some((prefix, app)) => (prefix.trim(), app.trim()),
        None => ("", given.value),
    };
    let prefix = prefix.trim_end_matches('/');
    if app.is_empty() || !(prefix.is_empty() || prefix.starts_with('/')) {
        return Err(Refusal::new(
            "not a mount",
            match interface {
                Interface::Wsgi => "write /prefix=module:callable or /prefix=file.py",
                Interface::Asgi => "write module:callable, file.py or /prefix=module:callable",
            },
        ));
    }
    if draft.settings.python.mounts.iter().any(|other| other.prefix == prefix) {
        return Err(Refusal::new(
            "this prefix is mounted already",
            "give each application a prefix of its own",
        ));
    }
    draft.settings.python.mounts.push(Mount {
        prefix: prefix.to_owned(),
        app: app.to_owned(),
        interface,
        origin: given.origin.clone(),
    });
    Ok(())
}

fn pythonpath(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let directory = path(given)?;
    let found =
        if world::is_pattern(given.value) { world::glob(draft.world, given.value) } else { Vec::new() };
    if found.is_empty() {
        draft.settings.python.pythonpath.push(directory);
    } else {
        draft.settings.python.pythonpath.extend(found.into_iter().map(PathBuf::from));
    }
    Ok(())
}

fn virtualenv(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.python.virtualenv = Some(path(given)?);
    Ok(())
}

fn pyargv(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    if given.value.contains('\0') {
        return Err(Refusal::new("a NUL byte", "write words separated by blanks"));
    }
    draft.settings.python.pyargv =
        given.value.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Ok(())
}

fn import(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    path(given)?;
    draft.settings.python.imports.push(given.value.to_owned());
    Ok(())
}

fn chdir(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.chdir = Some(path(given)?);
    Ok(())
}

fn env(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let refusal = || Refusal::new("not a variable", "write NAME=VALUE");
    let (name, value) = given.value.split_once('=').ok_or_else(refusal)?;
    let name = name.trim_end();
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err(refusal());
    }
    draft.settings.env.push((name.to_owned(), value.to_owned()));
    Ok(())
}

fn plugin(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    for name in given.value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let name = match name.split_once(':') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
            _ => name,
        };
        if !is_part(name) {
            return Err(Refusal::new(
                format!("greenloom has no part \"{name}\""),
                format!("remove it; the parts are built in: {}", PARTS.join(", ")),
            ));
        }
        if let Some(engine) = ENGINE_PARTS.iter().find(|engine| name.starts_with(**engine)) {
            return Err(Refusal::new(
                format!("the part \"{engine}\" is not in this version"),
                format!("remove it; what there is: {}", PARTS.join(", ")),
            ));
        }
        draft.settings.plugins.push(name.to_owned());
    }
    Ok(())
}

/// What `--plugin` may name.
const PARTS: &[&str] =
    &["python", "http", "corerouter", "cgi", "ugreen", "greenlet", "gevent", "asyncio", "tornado"];

/// Parts that uWSGI has as plugins and greenloom will have: their engines are not built yet. Each moves up with its
/// engine.
const ENGINE_PARTS: &[&str] = &["stackless"];

/// Whether greenloom has a part of that name; any of Python's version suffixes will do.
pub(crate) fn is_part(name: &str) -> bool {
    let name = name.strip_suffix("_plugin.so").unwrap_or(name);
    PARTS.contains(&name)
        || ENGINE_PARTS.contains(&name)
        || ["python", "gevent_python", "gevent_py", "greenlet_py", "asyncio_py", "tornado_py", "py"]
            .iter()
            .any(|start| {
                name.strip_prefix(start).is_some_and(|rest| {
                    rest.starts_with('3') && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                })
            })
}

fn path(given: &Given<'_>) -> Parsed<PathBuf> {
    if given.value.is_empty() || given.value.contains('\0') {
        return Err(Refusal::new("not a path", "write the path of a file or directory"));
    }
    Ok(PathBuf::from(given.value))
}

fn has_extension(text: &str, extension: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(_, end)| end == extension)
}

#[cfg(test)]
mod tests {
    use super::is_part;

    #[test]
    fn parts_have_the_names_distributions_gave_them() {
        for name in
            ["python", "python3", "python311", "python3.12", "http", "cgi", "gevent", "greenlet", "ugreen"]
        {
            assert!(is_part(name), "{name}");
        }
        for name in ["python2", "python27", "php", "lua", "pythonx", "", "cgid"] {
            assert!(!is_part(name), "{name}");
        }
    }
}
