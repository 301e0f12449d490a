//! What the process tree asks of a language, answered by CPython: load, fork, serve.

use std::ffi::OsString;
use std::os::fd::AsRawFd as _;

use greenloom_cli::master::control::{FromWorker, Registration};
use greenloom_cli::master::{
    Application, CANNOT_SERVE, Fork, INHERITANCE_VARIABLE, LoadError, Surroundings, UserLocks, WorkerContext,
    fork,
};
use greenloom_cli::{Launch, Shared, Workers};
use greenloom_worker::config::{Interface, LoopEngine, Settings};
use greenloom_worker::{Listen, Worker, WorkerOptions, clock, question};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::api;
use crate::api::info::{ServerInfo, set_server_info};
use crate::chunk_cache;
use crate::driver::posix_signals;
use crate::driver::server::{self, Listener, Server};
use crate::load::{self, App};
use crate::traceback::{log_exception, log_line};
use crate::{blockers, engine, fork_guard, locks, loops, outbox, signals};

/// Runs the command; see [`greenloom_cli::main`].
pub(crate) fn main(args: &[OsString], mut launch: Vec<OsString>) -> i32 {
    let program = if launch.is_empty() { OsString::from("python3") } else { launch.remove(0) };
    greenloom_cli::main(args, &Launch { program, args: launch }, &mut |settings| {
        // Called in the generation, which the master has started; or, without a master, in the only process.
        let master_pid = if settings.master { std::os::unix::process::parent_id() } else { 0 };
        Box::new(Python { settings: settings.clone(), apps: Vec::new(), master_pid, threads_told: false })
    })
}

/// CPython as the process tree knows it.
struct Python {
    settings: Settings,
    apps: Vec<App>,
    /// 0: there is none.
    master_pid: u32,
    /// The line about threads has been written, or was not needed.
    threads_told: bool,
}

/// The token of the thread's attachment.
fn attached<'py>() -> pyo3::Python<'py> {
    // SAFETY: everything here runs inside the pyfunction `main`, whose thread stays attached; the one place that
    // detaches (`drive.rs`) calls nothing of this file meanwhile.
    unsafe { pyo3::Python::assume_attached() }
}

impl Python {
    fn info(&self) -> ServerInfo {
        let settings = &self.settings;
        ServerInfo {
            options: settings.given.clone(),
            loop_engine: match settings.engine.loop_engine {
                LoopEngine::Native => None,
                hosted => Some(hosted.name().to_owned()),
            },
            processes: settings.processes,
            cores: settings.cores,
            buffer_size_bytes: settings.limits.head_bytes,
            started_on_s: clock::unix_seconds(),
            listeners: Vec::new(),
            is_reload: false,
            master_pid: i32::try_from(self.master_pid).unwrap_or(0),
            worker_id: 0,
            #[expect(clippy::cast_precision_loss, reason = "a timeout in milliseconds")]
            socket_timeout_s: settings.limits.socket_timeout_ms as f64 / 1000.0,
            pidfile: settings.pidfile.as_ref().map(|path| path.as_os_str().as_encoded_bytes().to_vec()),
            ready: false,
        }
    }

    fn try_serve(&mut self, py: pyo3::Python<'_>, context: WorkerContext) -> Result<i32, String> {
        chunk_cache::install(py, self.settings.python.chunk_cache);
        loops::before_serving(py, &self.settings)?;
        let info = ServerInfo {
            listeners: context.listeners.iter().map(|listener| listener.fd.as_raw_fd()).collect(),
            worker_id: context.id,
            ready: true,
            ..self.info()
        };
        set_server_info(py, info).map_err(|error| format!("cannot set up the uwsgi module: {error}"))?;
        let addresses: Vec<_> = context
            .listeners
            .iter()
            .map(|listener| Listener { name: listener.name.clone(), port: listener.port.clone() })
            .collect();
        let instance = Shared::new(&context);
        api::workers::set(Workers::new(&context));
        for app in &self.apps {
            instance.name_app(app.id, &app.mount, app.seconds);
        }
        let listeners = context
            .listeners
            .into_iter()
            .map(|listener| Listen { fd: listener.fd, protocol: listener.protocol })
            .collect();
        let streaming = |app: &App| (app.mount.clone(), app.interface == Interface::Asgi);
        let options = WorkerOptions {
            worker_id: context.id,
            has_app: !self.apps.is_empty() || !self.settings.serves_without_application(),
            streaming: self.apps.iter().map(streaming).collect(),
            ..WorkerOptions::from_settings(&self.settings)
        };
        let mut worker = Worker::new(options, listeners, Some(context.control), Box::new(instance))
            .map_err(|error| format!("cannot set up worker {}: {error}", context.id))?;
        if let Some(locks) = locks::for_worker() {
            worker.set_locks(locks);
        }
        if let Some(handover) = context.handover {
            worker
                .share_connections(handover.give, handover.take)
                .map_err(|error| format!("cannot set up worker {}: {error}", context.id))?;
        }
        let apps = std::mem::take(&mut self.apps);
        let signals = posix_signals::install(py, self.settings.cores)
            .map_err(|error| format!("cannot set up handlers of posix signals: {error}"))?;
        worker.watch_wakeup(signals).map_err(|error| format!("cannot watch for posix signals: {error}"))?;
        let engine = engine::make(py, &self.settings)?;
        fork_guard::install();
        if let Err(error) = enable_faulthandler(py) {
            log_exception(py, error, "cannot enable faulthandler; a crash will leave no traceback:");
        }
        let server = server::start(py, &self.settings, worker, engine, apps, &addresses, context.totals)
            .map_err(|error| format!("cannot set up worker {}: {error}", context.id))?;
        loops::prepare(py, server, &self.settings)
            .map_err(|error| format!("cannot set up the loop of worker {}: {error}", context.id))?;
        outbox::open(server);
        api::call_hook(py, "post_fork_hook");
        if self.settings.python.block_warning_ms > 0 {
            blockers::look_out(server, self.settings.python.block_warning_ms)
                .map_err(|error| format!("cannot start a thread of worker {}: {error}", context.id))?;
        }
        if context.id == 1
            && let Some(introduction) = server.engine.introduction(py)
        {
            log_line(&introduction);
        } else if context.id == 1 && self.settings.async_mode {
            log_line("*** DANGER *** async mode without coroutine/greenthread engine loaded !!!");
        }
        let code = loops::run(py, server, &self.settings);
        // Also one that has refused to serve: nobody is to look out for its loop, which does not run any more.
        server.worker.borrow().rest();
        api::call_hook(py, "atexit");
        Ok(code)
    }
}

/// Tells the process tree that this worker accepts connections.
pub(crate) fn announce(server: &Server) {
    let mut worker = server.worker.borrow_mut();
    // What the application registered while it was loaded here (--lazy-apps).
    for registration in signals::take_untold() {
        worker.tell_master(&FromWorker::Register(registration));
    }
    worker.announce_ready();
}

/// The process's environment has lost the variables that were meant for the server; Python copied them at its start.
fn forget_own_variables(py: pyo3::Python<'_>) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    for name in Surroundings::variables().chain([INHERITANCE_VARIABLE]) {
        environ.call_method1("pop", (name, py.None()))?;
    }
    Ok(())
}

/// Makes the server's modules importable under the names that uWSGI has for them. Nothing that is installed under one of
/// these can get in front.
fn publish_modules(py: pyo3::Python<'_>) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    if let Some(module) = api::module(py) {
        modules.set_item("uwsgi", module)?;
    }
    modules.set_item("uwsgidecorators", py.import("greenloom.uwsgidecorators")?)
}

/// What an application prints is in the log line by line, also where the log is no terminal: a worker may be killed at any
/// time, and a fork would copy what is still in a buffer.
fn buffer_lines(py: pyo3::Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    let keywords = PyDict::new(py);
    keywords.set_item("line_buffering", true)?;
    for name in ["stdout", "stderr"] {
        let stream = sys.getattr(name)?;
        // An interpreter without standard streams has None here.
        if stream.hasattr("reconfigure")? {
            stream.call_method("reconfigure", (), Some(&keywords))?;
        }
    }
    Ok(())
}

/// Hands what the application has printed without ending the line to the log, before a fork copies it.
fn flush_output(py: pyo3::Python<'_>) {
    let flush = |name: &str| py.import("sys")?.getattr(name)?.call_method0("flush");
    for name in ["stdout", "stderr"] {
        // An application may have put anything in their place; what that does with its buffer is its own business.
        drop(flush(name));
    }
}

/// Threads that an application has started while it was loaded stay behind in the process that loaded it.
fn tell_of_threads(py: pyo3::Python<'_>) {
    let count = py
        .import("threading")
        .and_then(|threading| threading.call_method0("active_count"))
        .and_then(|count| count.extract::<usize>());
    if let Ok(2..) = count {
        log_line(
            "the application has started threads while it was loaded: workers are forked from there, and a fork takes \
             no threads along; start them in uwsgi.post_fork_hook, or load with --lazy-apps",
        );
    }
}

/// A crash prints the Python stacks of the process, under uGreen those of suspended cores, too; an application's own
/// choice of where it goes stays.
fn enable_faulthandler(py: pyo3::Python<'_>) -> PyResult<()> {
    let module = py.import("faulthandler")?;
    if !module.call_method0("is_enabled")?.is_truthy()? {
        // Not `sys.stderr`, which an application may have replaced by something without a descriptor.
        module.call_method1("enable", (2,))?;
    }
    Ok(())
}

impl Application for Python {
    fn share_locks(&mut self, locks: UserLocks) {
        locks::share(locks);
    }

    fn registrations(&mut self) -> Vec<Registration> {
        signals::take_untold()
    }

    fn load(&mut self) -> Result<(), LoadError> {
        let py = attached();
        locks::ensure(self.settings.signals.locks);
        let prepared = set_server_info(py, self.info()).and_then(|()| publish_modules(py));
        let prepared = prepared.and_then(|()| forget_own_variables(py)).and_then(|()| buffer_lines(py));
        if let Err(error) = prepared {
            log_exception(py, error, "cannot set up the uwsgi module");
            return Err(LoadError { message: "no uwsgi module".to_owned() });
        }
        loops::before_loading(py, &self.settings).map_err(|message| LoadError { message })?;
        self.apps =
            load::load(py, &self.settings).map_err(|failure| LoadError { message: failure.to_string() })?;
        Ok(())
    }

    fn fork(&mut self) -> std::io::Result<Fork> {
        // The application may be loaded in the workers, who are to have the same ones.
        locks::ensure(self.settings.signals.locks);
        if !std::mem::replace(&mut self.threads_told, true) {
            tell_of_threads(attached());
        }
        flush_output(attached());
        // SAFETY: attached, on the thread that runs the process tree; paired with one of the two calls below.
        unsafe { ffi::PyOS_BeforeFork() };
        // SAFETY: the server's own code has one thread here. Others are of the application and of its libraries, which
        // must be ready for a fork as they must be for os.fork(); the interpreter's locks are prepared by the calls around
        // this one, those of the allocator by the C library.
        let forked = unsafe { fork() };
        if let Ok(Fork::Child) = forked {
            // SAFETY: in the child, once, after PyOS_BeforeFork.
            unsafe { ffi::PyOS_AfterFork_Child() };
        } else {
            // SAFETY: in the parent (also when there is no child), once, after PyOS_BeforeFork.
            unsafe { ffi::PyOS_AfterFork_Parent() };
        }
        forked
    }

    fn serve(&mut self, context: WorkerContext) -> i32 {
        let py = attached();
        let code = self.try_serve(py, context).unwrap_or_else(|message| {
            log_line(&message);
            CANNOT_SERVE
        });
        // The interpreter takes its handlers away before it has ended, which may take a while on a busy machine; a question of
        // the lookout's or the master's that comes then would end the process by a signal, and that means something else.
        if let Err(error) = question::refuse() {
            log_line(&format!("cannot block posix signals: {error}"));
        }
        code
    }
}
