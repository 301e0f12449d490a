//! Settings while options are being applied, and the checks that need all of them.
//!
//! An option's setter changes the draft; [`Draft::finish`] chooses the engine, gives the listeners their protocol,
//! and refuses what does not go together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::engines::{Engine, LoopEngine, SuspendEngine};
use crate::error::ConfigError;
use crate::files;
use crate::operations;
use crate::options::Given;
use crate::origin::Origin;
use crate::settings::{Address, ListenerSpec, Protocol, Settings};
use crate::world::World;

/// `--block-warning` under a loop that others share.
const HOSTED_BLOCK_WARNING_MS: u64 = 100;

/// Settings in the making.
#[derive(Debug)]
pub(crate) struct Draft<'w> {
    pub(crate) world: &'w dyn World,
    pub(crate) settings: Settings,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) protocol: Protocol,
    pub(crate) async_cores: Option<Asked<u32>>,
    pub(crate) loop_engine: Option<Asked<LoopEngine>>,
    pub(crate) suspends: Vec<Asked<SuspendEngine>>,
    pub(crate) threads: Option<Asked<u32>>,
    pub(crate) processes: Option<Asked<u32>>,
    pub(crate) body_early: Option<Asked<()>>,
    pub(crate) ugreen_stacksize: Option<Asked<()>>,
    pub(crate) block_warning_ms: Option<u64>,
    /// Which loop `asyncio` means.
    pub(crate) asyncio_loop: Option<Asked<LoopEngine>>,
    /// `asgi` without a value.
    pub(crate) site_is_asgi: Option<Asked<()>>,
    /// `asgi` with one.
    pub(crate) asgi: Vec<Asked<()>>,
    /// Options that belong to the gevent loop engine.
    pub(crate) gevent: Vec<Asked<()>>,
    pub(crate) die_on_term: bool,
    /// The process has listening sockets that no option names.
    pub(crate) has_listeners: bool,
    /// Where a logger sends all lines; `None` within is standard error.
    pub(crate) logger: Option<Asked<Option<PathBuf>>>,
    pub(crate) request_loggers: Vec<Asked<Option<PathBuf>>>,
    /// The last use of each option that changes settings, by the option's first name.
    pub(crate) last: BTreeMap<&'static str, Asked<()>>,
}

/// A listener whose protocol may still depend on an option to come.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) address: Address,
    /// `None`: whatever `--protocol` says in the end.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

/// Something that was asked for, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Asked<T> {
    pub(crate) what: T,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

impl<T> Asked<T> {
    pub(crate) fn new(what: T, given: &Given<'_>) -> Self {
        Self {
            what,
            name: given.name.to_owned(),
            value: given.value.to_owned(),
            origin: given.origin.clone(),
        }
    }

    pub(crate) fn bad(&self, reason: impl Into<Box<str>>, remedy: impl Into<Box<str>>) -> ConfigError {
        let given = Given { name: &self.name, value: &self.value, origin: &self.origin };
        ConfigError::bad_value(&given, reason, remedy)
    }

    fn not_available(&self, reason: impl Into<Box<str>>, remedy: impl Into<Box<str>>) -> ConfigError {
        ConfigError::not_available(&self.name, &self.origin, reason, remedy)
    }
}

impl<'w> Draft<'w> {
    pub(crate) fn new(world: &'w dyn World) -> Self {
        Self {
            world,
            settings: Settings::default(),
            sockets: Vec::new(),
            protocol: Protocol::Uwsgi,
            async_cores: None,
            loop_engine: None,
            suspends: Vec::new(),
            threads: None,
            processes: None,
            body_early: None,
            ugreen_stacksize: None,
            block_warning_ms: None,
            asyncio_loop: None,
            site_is_asgi: None,
            asgi: Vec::new(),
            gevent: Vec::new(),
            die_on_term: false,
            has_listeners: false,
            logger: None,
            request_loggers: Vec::new(),
            last: BTreeMap::new(),
        }
    }

    /// The settings, what does not go together, and lines for the log about what has no effect.
    pub(crate) fn finish(mut self) -> (Settings, Vec<ConfigError>, Vec<String>) {
        let mut errors = Vec::new();
        self.engine(&mut errors);
        self.processes(&mut errors);
        self.listeners(&mut errors);
        self.application(&mut errors);
        operations::check(&mut self, &mut errors);
        files::check(&mut self, &mut errors);
        let mut notices = self.without_effect();
        notices.extend(operations::without_effect(&self));
        notices.extend(files::notices(&self));
        (self.settings, errors, notices)
    }

    fn engine(&mut self, errors: &mut Vec<ConfigError>) {
        self.settings.async_mode = self.async_cores.is_some();
        self.settings.cores = self.async_cores.as_ref().map_or(1, |asked| asked.what);
        let asked_loop = self.loop_engine.as_ref().filter(|asked| asked.what != LoopEngine::Native);

        if let Some(threads) = &self.threads {
            let (reason, remedy) = if self.async_cores.is_some() || asked_loop.is_some() {
                (
                    "request threads and async cores exclude each other",
                    "remove it: cores come from async alone",
                )
            } else {
                (
                    "greenloom has no request threads",
                    "write processes = N for workers in parallel, or async = N for requests that mostly wait",
                )
            };
            errors.push(threads.not_available(reason, remedy));
        }
        if let [one, other, ..] = self.suspends.as_slice() {
            errors.push(other.bad(
                format!("{} is asked for already ({})", one.name, one.origin),
                "choose one suspend engine",
            ));
            return;
        }
        let asked_suspend = self.suspends.first();
        let loop_engine = match (asked_loop.map(|asked| asked.what), &self.asyncio_loop) {
            (Some(LoopEngine::Asyncio), Some(asked)) => asked.what,
            (asked, _) => asked.unwrap_or(LoopEngine::Native),
        };
        let asgi = self.site_is_asgi.iter().chain(&self.asgi).next();
        let suspend = match (asked_suspend, loop_engine) {
            // Its WSGI applications and signal handlers run on greenlets.
            (None, engine) if engine.is_asyncio() && asgi.is_some() => SuspendEngine::Tasks,
            (Some(asked), engine)
                if engine.is_asyncio() && asgi.is_some() && asked.what == SuspendEngine::Greenlet =>
            {
                SuspendEngine::Tasks
            }
            (Some(asked), _) => asked.what,
            (None, LoopEngine::Gevent | LoopEngine::CoroAnyEvent) => SuspendEngine::Own,
            (None, engine) if engine.is_asyncio() => SuspendEngine::Greenlet,
            (None, _) => SuspendEngine::None,
        };
        let engine = Engine { loop_engine, suspend };
        if let Err((reason, remedy)) = engine.check() {
            // Name what the engine hangs on: the loop, or else the suspend engine.
            match (asked_loop, asked_suspend) {
                (Some(asked), _) => errors.push(asked.not_available(reason, remedy)),
                (None, Some(asked)) => errors.push(asked.not_available(reason, remedy)),
                (None, None) => errors.push(ConfigError::missing(reason, remedy)),
            }
            return;
        }
        if let Some(asked) = asgi
            && !loop_engine.is_asyncio()
        {
            errors.push(asked.bad(
                format!(
                    "ASGI applications need a loop of asyncio's interface, and {} has none",
                    engine.name()
                ),
                "add asyncio = N (with asyncio-loop = uvloop, if you like) or tornado = N",
            ));
        }
        if self.async_cores.is_none() {
            if let Some(asked) = asked_loop {
                let reason = format!("the {} loop engine requires async mode", asked.what.name());
                errors.push(asked.bad(reason, "add async = N"));
            }
            if let Some(asked) = asked_suspend {
                let reason = format!("the {} suspend engine requires async mode", asked.what.name());
                errors.push(asked.bad(reason, "add async = N"));
            }
        }
        self.settings.engine = engine;
        let usual_ms = if loop_engine == LoopEngine::Native { 0 } else { HOSTED_BLOCK_WARNING_MS };
        self.settings.python.block_warning_ms = self.block_warning_ms.unwrap_or(usual_ms);
        if let Some(asked) = &self.body_early
            && engine.suspend == SuspendEngine::None
            && !self.settings.cgi.has_scripts()
        {
            errors.push(asked.bad(
                "reading a body as it comes needs a suspend engine, and there is none",
                "add async = N with ugreen or greenlet, or remove it: the body is complete then when the application starts",
            ));
        }
    }

    /// What was asked for, is right, and changes nothing, because what it belongs to was not asked for.
    fn without_effect(&self) -> Vec<String> {
        let stacks = self.settings.engine.suspend == SuspendEngine::UGreen;
        let gevent = self.settings.engine.loop_engine == LoopEngine::Gevent;
        let of_ugreen = self.ugreen_stacksize.iter().filter(|_| !stacks).map(|asked| (asked, "ugreen"));
        let of_gevent = self.gevent.iter().filter(|_| !gevent).map(|asked| (asked, "gevent"));
        let without = |origin: &Origin, name: &str, engine: &str| {
            format!("{origin}: \"{name}\" has no effect: it belongs to {engine}")
        };
        let asyncio = matches!(self.settings.engine.loop_engine, LoopEngine::Asyncio | LoopEngine::Uvloop);
        let of_asyncio = self.asyncio_loop.iter().filter(|_| !asyncio);
        of_ugreen
            .chain(of_gevent)
            .map(|(asked, engine)| without(&asked.origin, &asked.name, engine))
            .chain(of_asyncio.map(|asked| without(&asked.origin, &asked.name, "asyncio")))
            .collect()
    }

    fn processes(&mut self, errors: &mut Vec<ConfigError>) {
        if let Some(processes) = &self.processes
            && processes.what > 1
            && !self.settings.master
        {
            errors.push(processes.bad(
                "without a master there is one worker, in the process itself",
                "remove master = false, or write processes = 1",
            ));
        }
    }

    fn listeners(&mut self, errors: &mut Vec<ConfigError>) {
        for socket in std::mem::take(&mut self.sockets) {
            let chosen_by_kernel = matches!(socket.address, Address::Tcp { port: 0, .. });
            let listeners = &mut self.settings.listeners;
            if let Some(other) = listeners.iter().find(|other| other.address == socket.address)
                && !chosen_by_kernel
            {
                let given = Given { name: &socket.name, value: &socket.value, origin: &socket.origin };
                errors.push(ConfigError::bad_value(
                    &given,
                    format!("there is a listener on this address already ({})", other.origin),
                    "remove one of the two, or change its address",
                ));
                continue;
            }
            listeners.push(ListenerSpec {
                address: socket.address,
                protocol: socket.protocol.unwrap_or(self.protocol),
                origin: socket.origin,
            });
        }
        if self.settings.listeners.is_empty() && errors.is_empty() && !self.has_listeners {
            errors.push(ConfigError::missing(
                "nothing to listen on",
                "add --http-socket 127.0.0.1:8000 (or --socket for the uwsgi protocol)",
            ));
        }
    }

    fn application(&mut self, errors: &mut Vec<ConfigError>) {
        let python = &self.settings.python;
        let none = python.module.is_none() && python.wsgi_file.is_none() && python.mounts.is_empty();
        if let Some(asked) = &self.site_is_asgi
            && python.module.is_none()
            && python.wsgi_file.is_none()
        {
            errors.push(asked.bad(
                "it names no application, and neither module nor wsgi-file does",
                "write asgi = module:callable, or add module = module:callable",
            ));
        } else if none && self.settings.need_app && !self.settings.serves_without_application() {
            errors.push(ConfigError::missing(
                "no application",
                "add --module mod:callable, --wsgi-file app.py, --asgi mod:callable or --mount /prefix=app; --static-map or --cgi to serve files or scripts alone (or --no-need-app)",
            ));
        }
    }
}
