//! Loading of applications: from the settings to callables with their mount points.
//!
//! Owns the order of the steps, the identity of apps and the lines that report them. The interpreter's
//! surroundings are prepared in `surroundings.rs`, one module or file is loaded in `source.rs`, which interface a
//! callable has is looked at in `interface.rs`, what can go wrong is said in `failure.rs`, and `route.rs` chooses the app of a request. The server decides when to
//! load (before the fork, or in each worker) and ends the start when [`load`] fails.

mod failure;
mod interface;
mod route;
mod source;
mod surroundings;

use std::time::Instant;

use greenloom_worker::config::{Interface, PythonSettings, Settings};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

pub(crate) use failure::LoadFailure;
pub(crate) use route::route;

use crate::traceback::log_line;
use source::{Loader, Source};

/// A loaded application.
#[derive(Debug)]
pub(crate) struct App {
    /// Its place in the order of loading, and in the list [`load`] returns.
    pub(crate) id: usize,
    /// Path prefix: empty for the whole site, otherwise it begins with `/` and does not end with one.
    pub(crate) mount: String,
    /// How it is called.
    pub(crate) interface: Interface,
    /// What is called: with `(environ, start_response)`, or with `(scope, receive, send)`.
    pub(crate) callable: Py<PyAny>,
    /// How long loading took, in whole seconds.
    pub(crate) seconds: u64,
}

impl AsRef<str> for App {
    fn as_ref(&self) -> &str {
        &self.mount
    }
}

/// Prepares the interpreter (working directory, environment, `sys.path`, `sys.argv`, virtual environment) and
/// loads every application the settings name. To be called once in a process, with the `uwsgi` module in
/// place.
///
/// The application's own tracebacks go to the log here; the failure, which names what was asked for, where it
/// broke and what to do, is the caller's to print. Without `need_app` an application that fails to load is
/// reported and left out.
pub(crate) fn load(py: Python<'_>, settings: &Settings) -> Result<Vec<App>, LoadFailure> {
    surroundings::prepare(py, settings)?;
    let mut loading = Loading { loader: Loader::default(), apps: Vec::new() };
    for request in requests(&settings.python) {
        match loading.perform(py, &request) {
            Ok(()) => {}
            Err(failure) if settings.need_app => return Err(failure),
            Err(failure) => log_line(&failure.to_string()),
        }
    }
    let apps = loading.apps;
    if apps.is_empty() && !settings.serves_without_application() {
        if settings.need_app {
            return Err(LoadFailure::NothingAskedFor);
        }
        log_line("*** no app loaded: every request is answered with an error page ***");
    }
    report(&apps);
    Ok(apps)
}

/// One thing the settings ask for.
#[derive(Debug)]
enum Request {
    /// `--import`: for its effects only.
    Import { asked: String, source: Source },
    /// An application for a path prefix.
    App { asked: String, mount: String, source: Source, interface: Interface },
}

/// What to load, in uWSGI's order: imports, module, file, mounts.
fn requests(python: &PythonSettings) -> Vec<Request> {
    let callable = python.callable.as_deref();
    let interface = if python.site_is_asgi { Interface::Asgi } else { Interface::Wsgi };
    let whole_site = |asked, source| Request::App { asked, mount: String::new(), source, interface };
    let mut requests: Vec<Request> = python
        .imports
        .iter()
        .map(|name| Request::Import { asked: format!("--import {name}"), source: Source::import(name) })
        .collect();
    if let Some(module) = &python.module {
        let source = Source::module(module, callable);
        requests.push(whole_site(format!("--module {module}"), source));
    }
    if let Some(path) = &python.wsgi_file {
        let source = Source::file(path.clone(), callable);
        requests.push(whole_site(format!("--wsgi-file {}", path.display()), source));
    }
    requests.extend(python.mounts.iter().map(|mount| Request::App {
        asked: match mount.interface {
            Interface::Asgi if mount.prefix.is_empty() => format!("--asgi {} ({})", mount.app, mount.origin),
            Interface::Asgi => format!("--asgi {}={} ({})", mount.prefix, mount.app, mount.origin),
            Interface::Wsgi => format!("--mount {}={} ({})", mount.prefix, mount.app, mount.origin),
        },
        mount: mount.prefix.clone(),
        source: Source::mounted(&mount.app, callable),
        interface: mount.interface,
    }));
    requests
}

struct Loading {
    loader: Loader,
    apps: Vec<App>,
}

impl Loading {
    fn perform(&mut self, py: Python<'_>, request: &Request) -> Result<(), LoadFailure> {
        let started = Instant::now();
        match request {
            Request::Import { asked, source } => self.loader.module(py, source, asked).map(drop),
            Request::App { asked, mount, source, interface } => {
                let label = self.label(mount, asked);
                let module = self.loader.module(py, source, &label)?;
                if mount.is_empty()
                    && let Some(applications) = several(&module, source)
                {
                    return self.add_several(&module, &applications, *interface, asked, started);
                }
                let callable = source::callable(&module, source.callable(), &label)?;
                self.add(mount, callable, *interface, asked, started)
            }
        }
    }

    /// The apps of a module's `applications = {"/prefix": callable or name}`.
    fn add_several(
        &mut self,
        module: &Bound<'_, PyModule>,
        applications: &Bound<'_, PyDict>,
        interface: Interface,
        asked: &str,
        started: Instant,
    ) -> Result<(), LoadFailure> {
        // A list first: resolving a name may run code that changes the dict.
        for (key, value) in applications.iter().collect::<Vec<_>>() {
            let mount =
                key.extract::<String>().ok().and_then(|key| source::mount_point(&key)).ok_or_else(|| {
                    LoadFailure::BadMountPoint { asked: asked.to_owned(), given: key.to_string() }
                })?;
            let label = self.label(&mount, asked);
            let callable = match value.cast::<PyString>() {
                Ok(name) => {
                    source::callable(module, &source::Callable::named(&name.to_string_lossy()), &label)?
                }
                Err(_) => source::check_callable(&value, &format!("applications[{key:?}]"), &label)?,
            };
            self.add(&mount, callable, interface, asked, started)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        mount: &str,
        callable: Bound<'_, PyAny>,
        interface: Interface,
        asked: &str,
        started: Instant,
    ) -> Result<(), LoadFailure> {
        interface::check(&callable, interface, &self.label(mount, asked))?;
        if let Some(first) = self.apps.iter().find(|app| app.mount == mount) {
            return Err(LoadFailure::MountTaken {
                asked: asked.to_owned(),
                mount: mount.to_owned(),
                first: first.id,
            });
        }
        self.apps.push(App {
            id: self.apps.len(),
            mount: mount.to_owned(),
            interface,
            callable: callable.unbind(),
            seconds: started.elapsed().as_secs(),
        });
        Ok(())
    }

    /// How a failure names the app: uWSGI's line, then what asked for it.
    fn label(&self, mount: &str, asked: &str) -> String {
        let id = self.apps.len();
        format!(
            "unable to load app {id} (mountpoint='{mount}') (callable not found or import error)\n{asked}"
        )
    }
}

/// The `applications` dict of a module, or the one it gave to `uwsgi.applications`; only asked for when no
/// callable and no prefix was named.
fn several<'py>(module: &Bound<'py, PyModule>, source: &Source) -> Option<Bound<'py, PyDict>> {
    if source.callable().is_explicit() {
        return None;
    }
    let py = module.py();
    let own = module.getattr("applications").ok();
    let of_server = || crate::api::module(py)?.getattr("applications").ok();
    let applications = own.filter(|dict| !dict.is_none()).or_else(of_server)?.cast_into::<PyDict>().ok()?;
    Some(applications).filter(|dict| !dict.is_empty())
}

/// One line for each app; the default app serves what no mount point matches.
fn report(apps: &[App]) {
    // SAFETY: the thread is attached (a `Python` token led here), which is all the call asks for.
    let interpreter = unsafe { ffi::PyInterpreterState_Get() };
    let pid = std::process::id();
    let default = apps.iter().position(|app| app.mount.is_empty()).unwrap_or(0);
    for App { id, mount, interface, seconds, .. } in apps {
        let suffix = if *id == default { " (default app)" } else { "" };
        log_line(&format!(
            "{} app {id} (mountpoint='{mount}') ready in {seconds} seconds on interpreter {interpreter:p} \
             pid: {pid}{suffix}",
            interface.name()
        ));
    }
}
