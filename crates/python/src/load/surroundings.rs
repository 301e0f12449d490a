//! What an application finds around it: working directory, environment, `sys.path`, `sys.argv`, and the
//! virtual environment it was told to live in.
//!
//! Owns these preparations and the lines that report them. The interpreter itself is the one greenloom was
//! installed for; a virtual environment lends its packages, not its interpreter.

use std::fs;
use std::path::{Path, PathBuf};

use greenloom_worker::config::Settings;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::failure::LoadFailure;
use crate::traceback::log_line;

/// Prepares everything, in this order: a relative `--pythonpath` or `--virtualenv` counts from `--chdir`.
pub(super) fn prepare(py: Python<'_>, settings: &Settings) -> Result<(), LoadFailure> {
    if let Some(directory) = &settings.chdir {
        std::env::set_current_dir(directory)
            .map_err(|reason| LoadFailure::Chdir { directory: directory.clone(), reason })?;
    }
    describe_interpreter(py)
        .and_then(|()| set_environment(py, &settings.env))
        .and_then(|()| set_arguments(py, &settings.python.pyargv))
        .and_then(|()| extend_path(py, &settings.python.pythonpath))
        .map_err(|err| LoadFailure::interpreter(py, &err))?;
    match &settings.python.virtualenv {
        Some(directory) => use_virtualenv(py, directory),
        None => Ok(()),
    }
}

fn describe_interpreter(py: Python<'_>) -> PyResult<()> {
    let version: String = py.import("sys")?.getattr("version")?.extract()?;
    log_line(&format!("Python version: {}", version.replace('\n', " ")));
    // SAFETY: the thread is attached (`py` proves it), which is all the call asks for.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    log_line(&format!("Python main interpreter initialized at {interpreter:p}"));
    Ok(())
}

/// Through `os.environ`, so that Python's copy and the process's own agree.
fn set_environment(py: Python<'_>, variables: &[(String, String)]) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    variables.iter().try_for_each(|(name, value)| environ.set_item(name, value))
}

/// The first element is uWSGI's: applications look for it.
fn set_arguments(py: Python<'_>, rest: &[String]) -> PyResult<()> {
    let arguments = std::iter::once("uwsgi").chain(rest.iter().map(String::as_str));
    py.import("sys")?.setattr("argv", PyList::new(py, arguments.collect::<Vec<_>>())?)
}

/// `.` first, then each directory in front of it, so that the last one given is searched first.
fn extend_path(py: Python<'_>, directories: &[PathBuf]) -> PyResult<()> {
    let path = py.import("sys")?.getattr("path")?;
    path.call_method1("insert", (0, "."))?;
    for directory in directories {
        path.call_method1("insert", (0, directory.as_os_str()))?;
    }
    Ok(())
}

fn use_virtualenv(py: Python<'_>, given: &Path) -> Result<(), LoadFailure> {
    let refuse = |reason: String, remedy: String| LoadFailure::Virtualenv {
        directory: given.to_path_buf(),
        reason,
        remedy,
    };
    let interpreter = Interpreter::running(py).map_err(|err| LoadFailure::interpreter(py, &err))?;
    let (major, minor) = interpreter.version;
    let create = format!("make one with: {} -m venv {}", interpreter.executable, given.display());
    let directory = fs::canonicalize(given).map_err(|error| refuse(error.to_string(), create.clone()))?;
    let is_own = |prefix: &PathBuf| fs::canonicalize(prefix).is_ok_and(|prefix| prefix == directory);
    if interpreter.prefixes.iter().any(is_own) {
        return Ok(());
    }
    let Ok(configuration) = fs::read_to_string(directory.join("pyvenv.cfg")) else {
        return Err(refuse("it is no virtual environment (there is no pyvenv.cfg in it)".to_owned(), create));
    };
    if let Some((its_major, its_minor)) = version_of(&configuration)
        && (its_major, its_minor) != (major, minor)
    {
        return Err(refuse(
            format!(
                "it was made for Python {its_major}.{its_minor}, and this server runs on Python {major}.{minor}"
            ),
            format!(
                "start the greenloom of that environment ({}/bin/greenloom), or {create}",
                given.display()
            ),
        ));
    }
    let packages = directory.join(format!("lib/python{major}.{minor}/site-packages"));
    if !packages.is_dir() {
        return Err(refuse(format!("there is no {} in it", packages.display()), create));
    }
    log_line(&format!("PEP 405 virtualenv detected: {}", directory.display()));
    adopt(py, &directory, &packages).map_err(|err| LoadFailure::interpreter(py, &err))?;
    log_line(&format!("Set PythonHome to {}", directory.display()));
    Ok(())
}

/// The running interpreter, as far as a virtual environment must agree with it.
struct Interpreter {
    version: (u32, u32),
    executable: String,
    prefixes: [PathBuf; 2],
}

impl Interpreter {
    fn running(py: Python<'_>) -> PyResult<Self> {
        let sys = py.import("sys")?;
        let info = py.version_info();
        Ok(Self {
            version: (info.major.into(), info.minor.into()),
            executable: sys
                .getattr("executable")?
                .extract::<Option<_>>()?
                .unwrap_or_else(|| "python3".to_owned()),
            prefixes: [sys.getattr("prefix")?.extract()?, sys.getattr("base_prefix")?.extract()?],
        })
    }
}

/// `version = 3.11.7` (venv) or `version_info = 3.11.7.final.0` (virtualenv).
fn version_of(configuration: &str) -> Option<(u32, u32)> {
    let value = configuration.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim())
    })?;
    let mut numbers = value.split('.').map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Puts the environment's packages (its `.pth` files included) before the interpreter's own, which stay
/// visible behind them because greenloom itself lives there.
fn adopt(py: Python<'_>, directory: &Path, packages: &Path) -> PyResult<()> {
    let sys = py.import("sys")?;
    let path = sys.getattr("path")?.cast_into::<PyList>()?;
    let before: Vec<Bound<'_, PyAny>> = path.iter().collect();
    py.import("site")?.call_method1("addsitedir", (packages.as_os_str(),))?;
    let (mut entries, mut added) = (Vec::new(), Vec::new());
    for entry in path.iter() {
        let known = before.iter().any(|old| old.is(&entry) || old.eq(&entry).unwrap_or(false));
        if known { entries.push(entry) } else { added.push(entry) }
    }
    let is_packages = |entry: &Bound<'_, PyAny>| {
        let name = entry.to_string();
        name.ends_with("site-packages") || name.ends_with("dist-packages")
    };
    let at = entries.iter().position(is_packages).unwrap_or(entries.len());
    entries.splice(at..at, added);
    path.set_slice(0, path.len(), PyList::new(py, entries)?.as_any())?;
    sys.setattr("prefix", directory.as_os_str())?;
    sys.setattr("exec_prefix", directory.as_os_str())?;
    let executable = directory.join("bin/python");
    if executable.is_file() {
        sys.setattr("executable", executable.as_os_str())?;
    }
    Ok(())
}
