//! One module or file of an application, and the callable in it.
//!
//! Owns the forms an application may be named in, the import, and the explanation of what is missing. Modules
//! are imported and files executed straight from here, so that tracebacks begin in the application.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyType};

use super::failure::LoadFailure;

/// The name looked for where none is given.
const DEFAULT_CALLABLE: &str = "application";
/// Most names of a module listed in a message.
const NAMES_LISTED: usize = 10;

/// Where an application's code is.
#[derive(Debug)]
pub(super) enum Source {
    Module { name: String, callable: Callable },
    File { path: PathBuf, callable: Callable },
}

/// Which object of a module is the application.
#[derive(Debug)]
pub(super) struct Callable {
    name: String,
    /// Written as `name()`: call it once, its result is the application.
    is_factory: bool,
    is_explicit: bool,
}

impl Source {
    /// `pkg.mod`, `pkg.mod:callable` or `pkg.mod:factory()`.
    pub(super) fn module(text: &str, default: Option<&str>) -> Self {
        let (name, callable) = split_callable(text, default);
        Self::Module { name: name.to_owned(), callable }
    }

    /// A file, whatever its name.
    pub(super) fn file(path: PathBuf, default: Option<&str>) -> Self {
        Self::File { path, callable: default.map_or_else(Callable::default_name, Callable::named) }
    }

    /// `--mount`: a file by its ending, with or without `:callable`, else a module.
    pub(super) fn mounted(text: &str, default: Option<&str>) -> Self {
        let (name, callable) = split_callable(text, default);
        if looks_like_file(name) {
            Self::File { path: PathBuf::from(name), callable }
        } else {
            Self::Module { name: name.to_owned(), callable }
        }
    }

    /// `--import`: a file by its ending or a `/` in it, else a module.
    pub(super) fn import(text: &str) -> Self {
        let callable = Callable::default_name();
        if looks_like_file(text) {
            Self::File { path: PathBuf::from(text), callable }
        } else {
            Self::Module { name: text.to_owned(), callable }
        }
    }

    pub(super) fn callable(&self) -> &Callable {
        match self {
            Self::Module { callable, .. } | Self::File { callable, .. } => callable,
        }
    }
}

impl Callable {
    /// A name the user wrote, `()` at its end included.
    pub(super) fn named(text: &str) -> Self {
        let factory = text.strip_suffix("()");
        let name = factory.unwrap_or(text).to_owned();
        Self { name, is_factory: factory.is_some(), is_explicit: true }
    }

    pub(super) fn is_explicit(&self) -> bool {
        self.is_explicit
    }

    fn default_name() -> Self {
        Self { name: DEFAULT_CALLABLE.to_owned(), is_factory: false, is_explicit: false }
    }
}

/// Loads each file once, however often it is mounted.
#[derive(Debug, Default)]
pub(super) struct Loader {
    files: HashMap<PathBuf, Py<PyModule>>,
}

impl Loader {
    pub(super) fn module<'py>(
        &mut self,
        py: Python<'py>,
        source: &Source,
        label: &str,
    ) -> Result<Bound<'py, PyModule>, LoadFailure> {
        match source {
            Source::Module { name, .. } => import(py, name, label),
            Source::File { path, .. } => self.file(py, path, label),
        }
    }

    fn file<'py>(
        &mut self,
        py: Python<'py>,
        path: &Path,
        label: &str,
    ) -> Result<Bound<'py, PyModule>, LoadFailure> {
        let unreadable = |reason: io::Error| LoadFailure::UnreadableFile {
            label: label.to_owned(),
            path: path.to_path_buf(),
            remedy: file_remedy(path),
            reason,
        };
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        if let Some(module) = self.files.get(&absolute) {
            return Ok(module.bind(py).clone());
        }
        let code = fs::read(&absolute).map_err(unreadable)?;
        let name = module_name(path);
        let module = execute(py, &name, &absolute, &code).map_err(|err| {
            let remedy = neighbour_remedy(py, &err, &absolute);
            LoadFailure::raised(py, err, label, remedy)
        })?;
        self.files.insert(absolute, module.clone().unbind());
        Ok(module)
    }
}

/// The application object of a module, its factory called.
pub(super) fn callable<'py>(
    module: &Bound<'py, PyModule>,
    wanted: &Callable,
    label: &str,
) -> Result<Bound<'py, PyAny>, LoadFailure> {
    let py = module.py();
    let Ok(object) = module.getattr(wanted.name.as_str()) else {
        return Err(missing_callable(module, &wanted.name, label));
    };
    let object = check_callable(&object, &wanted.name, label)?;
    if !wanted.is_factory {
        return Ok(object);
    }
    let made = object.call0().map_err(|err| LoadFailure::raised(py, err, label, None))?;
    check_callable(&made, &format!("{}()", wanted.name), label)
}

/// `object` again if it can be called; `name` is for the message.
pub(super) fn check_callable<'py>(
    object: &Bound<'py, PyAny>,
    name: &str,
    label: &str,
) -> Result<Bound<'py, PyAny>, LoadFailure> {
    if object.is_callable() {
        return Ok(object.clone());
    }
    let kind = object.get_type().fully_qualified_name().map(|name| name.to_string_lossy().into_owned());
    Err(LoadFailure::NotCallable {
        label: label.to_owned(),
        name: name.to_owned(),
        kind: match kind {
            Ok(kind) if kind == "NoneType" => "None".to_owned(),
            Ok(kind) => format!("a '{kind}'"),
            Err(_) => "an object".to_owned(),
        },
    })
}

/// A key of `applications` as a mount point: `/` and the empty string are the whole site.
pub(super) fn mount_point(key: &str) -> Option<String> {
    let mount = key.trim_end_matches('/');
    (mount.is_empty() || mount.starts_with('/')).then(|| mount.to_owned())
}

/// The name uWSGI gives the module of a file, which applications find in `__name__` and their loggers.
fn module_name(path: &Path) -> String {
    let path = path.to_string_lossy().replace(['/', '.'], "_");
    format!("uwsgi_file_{path}")
}

fn split_callable<'a>(text: &'a str, default: Option<&str>) -> (&'a str, Callable) {
    match (text.split_once(':'), default) {
        (Some((name, callable)), _) => (name, Callable::named(callable)),
        (None, Some(callable)) => (text, Callable::named(callable)),
        (None, None) => (text, Callable::default_name()),
    }
}

/// `x.py`, anything with a `/`, and `x.wsgi` if there is such a file: `site.wsgi` is as often a module.
fn looks_like_file(name: &str) -> bool {
    let path = Path::new(name);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("py") => true,
        Some("wsgi") => name.contains('/') || path.is_file(),
        _ => name.contains('/'),
    }
}

fn import<'py>(py: Python<'py>, name: &str, label: &str) -> Result<Bound<'py, PyModule>, LoadFailure> {
    py.import(name).map_err(|err| {
        if !is_absence_of(py, &err, name) {
            return LoadFailure::raised(py, err, label, None);
        }
        LoadFailure::MissingModule {
            label: label.to_owned(),
            module: missing_name(py, &err).unwrap_or_else(|| name.to_owned()),
            searched: search_path(py),
            remedy: module_remedy(py, name),
        }
    })
}

/// Runs the code of a file as a new module, registered before it runs as `import` would do it.
fn execute<'py>(py: Python<'py>, name: &str, file: &Path, code: &[u8]) -> PyResult<Bound<'py, PyModule>> {
    let file = file.as_os_str();
    let loader = py.import("importlib.machinery")?.getattr("SourceFileLoader")?.call1((name, file))?;
    let options = PyDict::new(py);
    options.set_item("loader", loader)?;
    let util = py.import("importlib.util")?;
    let spec = util.call_method("spec_from_file_location", (name, file), Some(&options))?;
    let module = util.call_method1("module_from_spec", (spec,))?.cast_into::<PyModule>()?;
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item(name, &module)?;
    let builtins = py.import("builtins")?;
    let options = PyDict::new(py);
    options.set_item("dont_inherit", true)?;
    let run = builtins
        .call_method("compile", (PyBytes::new(py, code), file, "exec"), Some(&options))
        .and_then(|compiled| builtins.call_method1("exec", (compiled, module.dict())));
    if let Err(err) = run {
        // The module may have removed or replaced itself; its own error matters more.
        drop(modules.del_item(name));
        return Err(err);
    }
    // A module may put something else in its place, as `import` allows.
    Ok(modules.get_item(name).ok().and_then(|now| now.cast_into().ok()).unwrap_or(module))
}

/// Whether the error says that `name` itself, or a package it is in, does not exist.
fn is_absence_of(py: Python<'_>, err: &PyErr, name: &str) -> bool {
    err.is_instance_of::<PyModuleNotFoundError>(py)
        && err.traceback(py).is_none()
        && missing_name(py, err).is_some_and(|missing| {
            name.strip_prefix(&missing).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

fn missing_name(py: Python<'_>, err: &PyErr) -> Option<String> {
    err.value(py).getattr("name").ok()?.extract().ok()
}

fn search_path(py: Python<'_>) -> Vec<String> {
    let path = py.import("sys").and_then(|sys| sys.getattr("path"));
    let entries = path.and_then(|path| path.extract::<Vec<Bound<'_, PyAny>>>()).unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let mut searched: Vec<String> = entries
        .iter()
        .map(|entry| match entry.to_string() {
            entry if entry.is_empty() || entry == "." => format!("{} (.)", here.display()),
            entry => entry,
        })
        .collect();
    searched.dedup();
    searched
}

fn module_remedy(py: Python<'_>, name: &str) -> String {
    if looks_like_file(name) || Path::new(name).is_file() {
        return format!("'{name}' looks like a file: use --wsgi-file {name}");
    }
    let executable = py.import("sys").and_then(|sys| sys.getattr("executable")?.extract::<String>());
    let executable = executable.unwrap_or_else(|_| "this interpreter".to_owned());
    format!(
        "name the directory that holds it with --chdir or --pythonpath, or, if it is to be installed, install \
         it for {executable} or name its environment with --virtualenv"
    )
}

fn file_remedy(path: &Path) -> String {
    let as_module = path.with_extension("py");
    if path.extension().is_none() && as_module.is_file() {
        return format!("there is {}: name it with its ending", as_module.display());
    }
    match path.to_str() {
        Some(name) if name.contains(':') => "a file takes no ':callable': name it with --callable".to_owned(),
        _ if path.is_relative() => format!(
            "the path is relative to {}; use --chdir or an absolute path",
            std::env::current_dir().unwrap_or_default().display()
        ),
        _ => "name a file the server may read".to_owned(),
    }
}

/// For a file that imports its neighbour: unlike a script's, its directory is not searched by itself.
fn neighbour_remedy(py: Python<'_>, err: &PyErr, file: &Path) -> Option<String> {
    if !err.is_instance_of::<PyModuleNotFoundError>(py) {
        return None;
    }
    let missing = missing_name(py, err)?;
    let directory = file.parent()?;
    let neighbour = directory.join(missing.split('.').next()?);
    let there = neighbour.is_dir() || neighbour.with_extension("py").is_file();
    there.then(|| {
        let directory = directory.display();
        format!("'{missing}' lies beside the file: add --pythonpath {directory} or --chdir {directory}")
    })
}

fn missing_callable(module: &Bound<'_, PyModule>, name: &str, label: &str) -> LoadFailure {
    let place = module.getattr("__file__").and_then(|file| file.extract::<String>());
    let own_name = module.name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut others = callables(module, &own_name);
    let nearest = nearest(module.py(), name, &others).ok().flatten();
    others.truncate(NAMES_LISTED);
    LoadFailure::MissingCallable {
        label: label.to_owned(),
        name: name.to_owned(),
        place: place.map_or_else(|_| format!("module {own_name}"), |file| format!("file {file}")),
        nearest,
        others,
    }
}

/// Public names that could be meant: instances, and functions and classes of the module itself.
fn callables(module: &Bound<'_, PyModule>, own_name: &str) -> Vec<String> {
    let could_be = |object: &Bound<'_, PyAny>| {
        let is_definition = object.is_instance_of::<PyType>() || object.is_instance_of::<PyFunction>();
        let is_imported = || {
            let home = object.getattr("__module__").and_then(|home| home.extract::<String>());
            home.map_or(true, |home| home != own_name)
        };
        object.is_callable() && !(is_definition && is_imported())
    };
    let entries: Vec<_> = module.dict().iter().collect();
    entries
        .iter()
        .filter_map(|(name, object)| Some((name.extract::<String>().ok()?, object)))
        .filter(|(name, object)| !name.starts_with('_') && could_be(object))
        .map(|(name, _)| name)
        .collect()
}

fn nearest(py: Python<'_>, name: &str, others: &[String]) -> PyResult<Option<String>> {
    let matches = py.import("difflib")?.call_method1("get_close_matches", (name, others, 1))?;
    Ok(matches.extract::<Vec<String>>()?.into_iter().next())
}
