//! The typed, validated result of all configuration: what the rest of the server reads.
//!
//! Owns the shape of the settings and their defaults. How they are written, looked up and checked is the
//! business of `options`, `sources` and `validate`; whoever holds a [`Settings`] need not check anything again.

use std::path::PathBuf;

use crate::engines::{Engine, LoopEngine, SuspendEngine};
use crate::origin::Origin;

/// Everything the server needs to know to start. Plain data: no field refers to the configuration's text,
/// except through an [`Origin`] kept for messages.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a switch of the user's, independent of the others"
)]
pub struct Settings {
    /// Everything that was given, by name, in order: what `uwsgi.opt` shows. `None` is an option without a value.
    pub given: Vec<(String, Option<Vec<u8>>)>,
    /// What to listen on, in order of appearance: the index is the listener's number. Never empty when it
    /// comes from [`crate::load`] with [`crate::Action::Run`] or [`crate::Action::Check`].
    pub listeners: Vec<ListenerSpec>,
    /// Mode bits of UNIX listeners (`--chmod-socket`); `None` leaves them to the umask.
    pub chmod_socket: Option<u32>,
    /// Backlog of each listener (`--listen`). Default 100.
    pub listen_backlog: u32,
    /// `SO_REUSEPORT` on TCP listeners. Default off.
    pub reuse_port: bool,
    /// `TCP_DEFER_ACCEPT` on TCP listeners. Default on.
    pub defer_accept: bool,
    /// `SO_KEEPALIVE` on accepted TCP connections. Default off.
    pub so_keepalive: bool,
    /// `TCP_NODELAY` on accepted TCP connections. Default on.
    pub tcp_nodelay: bool,

    /// Who owns the event loop and what coroutines are made of; always a legal pair that is built.
    pub engine: Engine,
    /// Cores per worker: requests that may be in progress at once. At least 1.
    pub cores: u32,
    /// Address space of each uGreen stack (`--ugreen-stacksize`, in pages). Default 8 MiB, at least 96 KiB.
    pub ugreen_stack_bytes: u64,
    /// Whether the worker is asynchronous: `--async N` with N >= 1, or a loop engine's shortcut.
    pub async_mode: bool,

    /// Workers. At least 1.
    pub processes: u32,
    /// Whether a master process supervises the workers. Default on; off runs one worker in this process.
    pub master: bool,
    /// Load the application in each worker instead of once before forking. Default off.
    pub lazy_apps: bool,
    /// Whether the start fails when no application loads. Default on.
    pub need_app: bool,

    /// What concerns the Python application.
    pub python: PythonSettings,
    /// Directory to change to before the application is loaded.
    pub chdir: Option<PathBuf>,
    /// Environment variables to set before the application is loaded, in order.
    pub env: Vec<(String, String)>,
    /// Names given to `--plugin`, without `0:` prefixes: each one is a part greenloom has.
    pub plugins: Vec<String>,

    /// Sizes and times.
    pub limits: Limits,
    /// Where log lines go.
    pub log: LogSettings,

    /// File that receives the master's process id.
    pub pidfile: Option<PathBuf>,
    /// Remove UNIX sockets and the pid file at exit. Default on.
    pub vacuum: bool,
}

/// One socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSpec {
    /// Where.
    pub address: Address,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Which configuration entry asked for it.
    pub origin: Origin,
}

/// Address of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address. `host` is an IPv4 or IPv6 address or a name, without brackets; an empty host in the
    /// configuration has become `0.0.0.0`. Port 0 lets the kernel choose.
    Tcp {
        /// Address or name.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// A UNIX socket in the file system.
    Unix(PathBuf),
    /// A socket in Linux's abstract namespace, without the leading NUL.
    Abstract(Vec<u8>),
    /// A listening socket that is open already, by its descriptor (`fd://N`).
    Inherited(i32),
}

/// Protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http,
    /// The binary uwsgi protocol, as spoken by nginx's `uwsgi_pass`.
    Uwsgi,
}

impl Protocol {
    /// The name used in options and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Uwsgi => "uwsgi",
        }
    }
}

/// What concerns the Python application.
#[derive(Clone, Debug)]
pub struct PythonSettings {
    /// `pkg.mod` or `pkg.mod:callable` (`--module`).
    pub module: Option<String>,
    /// File to run as a module (`--wsgi-file`).
    pub wsgi_file: Option<PathBuf>,
    /// Name of the application object where none is written after a `:`; `None` means `application`.
    pub callable: Option<String>,
    /// Further applications by path prefix, in order.
    pub mounts: Vec<Mount>,
    /// Directories to insert at the front of `sys.path`, one by one (the last ends up first). Glob patterns
    /// have been expanded; a pattern without a match and a plain path stand as they were written.
    pub pythonpath: Vec<PathBuf>,
    /// Virtual environment to use (`--virtualenv`, `--home`).
    pub virtualenv: Option<PathBuf>,
    /// `sys.argv` after its first element.
    pub pyargv: Vec<String>,
    /// Modules (or files ending in `.py`) to import before the applications, in order.
    pub imports: Vec<String>,
    /// Chunks of frames kept for the next green threads (`--chunk-cache`), 16 KiB each; 0 keeps none. Default 256.
    pub chunk_cache: u32,
}

/// One `--mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Path prefix: empty for the whole site, otherwise it begins with `/` and does not end with one.
    pub prefix: String,
    /// `x.py` or `x.wsgi` (a file), `mod`, or `mod:callable`.
    pub app: String,
    /// Which configuration entry asked for it.
    pub origin: Origin,
}

/// Sizes in bytes, times in milliseconds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request head or uwsgi packet (`--buffer-size`). Default 16384, at most 65535.
    pub head_bytes: u32,
    /// Most variables per request (`--max-vars`; uWSGI's 64 has room for 128, so that is the default).
    pub max_vars: u32,
    /// Largest request body (`--limit-post`); 0 is no limit, the default.
    pub limit_post: u64,
    /// Bodies above this size go to a temporary file (`--post-buffering`). Default 1 MiB.
    pub post_buffering: u64,
    /// A request head must be complete within this time in total. Default 10 s.
    pub head_timeout_ms: u64,
    /// Time a body has on top of what `body_min_rate` allows it. Default 20 s.
    pub body_timeout_ms: u64,
    /// Bytes per second a client must deliver on average: a body has to be complete within
    /// `body_timeout + received / body_min_rate`. 0 demands no rate (then `body_timeout` is the whole time).
    /// Default 500.
    pub body_min_rate: u64,
    /// How long a connection may idle between requests; 0 turns keep-alive off. Default 75 s.
    pub keep_alive_ms: u64,
    /// How long a write may stand still before the client is given up (`--socket-timeout`). Default 30 s.
    pub socket_timeout_ms: u64,
    /// How long a request may have its core, by path prefix as in [`Mount::prefix`] (`--request-timeout`); 0 is no
    /// deadline, and neither has a path without a prefix here. Each prefix at most once. Default empty.
    pub request_timeouts: Vec<(String, u64)>,
    /// Output held for one connection before its producer must wait (`--output-buffer`). Default 64 KiB.
    pub high_water_bytes: u64,
    /// Whether yields without a pending wait may be sent together. Default on.
    pub coalesce: bool,
    /// Whether a client that closes its sending side may wait for its answer as long as that takes. Default off.
    pub half_close: bool,
    /// Mount prefixes whose requests start at the head and read their body as it comes.
    pub body_early: Vec<String>,
    /// Bound of draining at stop: what is left then is cut. Default 60 s.
    pub worker_reload_mercy_ms: u64,
    /// Open file limit to set; `None` leaves the process's own.
    pub max_fd: Option<u64>,
}

/// Where log lines go.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    /// No request lines. Default off.
    pub disable_logging: bool,
    /// File for all output; `None` is standard error.
    pub logto: Option<PathBuf>,
}

impl Default for Settings {
    /// What a start without any option has: no listener, no application, one core in one worker.
    fn default() -> Self {
        Self {
            given: Vec::new(),
            listeners: Vec::new(),
            chmod_socket: None,
            listen_backlog: 100,
            reuse_port: false,
            defer_accept: true,
            so_keepalive: false,
            tcp_nodelay: true,
            engine: Engine { loop_engine: LoopEngine::Native, suspend: SuspendEngine::None },
            cores: 1,
            ugreen_stack_bytes: 8 << 20,
            async_mode: false,
            processes: 1,
            master: true,
            lazy_apps: false,
            need_app: true,
            python: PythonSettings::default(),
            chdir: None,
            env: Vec::new(),
            plugins: Vec::new(),
            limits: Limits::default(),
            log: LogSettings::default(),
            pidfile: None,
            vacuum: true,
        }
    }
}

impl Default for PythonSettings {
    fn default() -> Self {
        Self {
            module: None,
            wsgi_file: None,
            callable: None,
            mounts: Vec::new(),
            pythonpath: Vec::new(),
            virtualenv: None,
            pyargv: Vec::new(),
            imports: Vec::new(),
            chunk_cache: 256,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16_384,
            max_vars: 128,
            limit_post: 0,
            post_buffering: 1 << 20,
            head_timeout_ms: 10_000,
            body_timeout_ms: 20_000,
            body_min_rate: 500,
            keep_alive_ms: 75_000,
            socket_timeout_ms: 30_000,
            request_timeouts: Vec::new(),
            high_water_bytes: 64 << 10,
            coalesce: true,
            half_close: false,
            body_early: Vec::new(),
            worker_reload_mercy_ms: 60_000,
            max_fd: None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::Inherited(fd) => write!(f, "fd://{fd}"),
        }
    }
}
