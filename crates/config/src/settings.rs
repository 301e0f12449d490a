//! The typed, validated result of all configuration: what the rest of the server reads.
//!
//! Owns the shape of the settings and their defaults. How they are written, looked up and checked is the
//! business of `options`, `sources` and `validate`; whoever holds a [`Settings`] need not check anything again.

mod cgi;
mod static_files;

pub use cgi::{CgiMount, CgiSettings};
pub use static_files::{ExpiresRule, ExpiresSubject, HandOver, Precompressed, StaticMap, StaticSettings};

use std::path::PathBuf;

use crate::engines::{Engine, LoopEngine, SuspendEngine};
use crate::origin::Origin;

/// First modifier of requests for CGI.
pub const CGI_MODIFIER: u8 = 9;

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
    /// comes from [`crate::load`] with [`crate::Action::Run`] or [`crate::Action::Check`], unless sockets come along
    /// that a service manager has opened.
    pub listeners: Vec<ListenerSpec>,
    /// First modifier of requests that come by HTTP (`--http-socket-modifier1`): 0, the application, or [`CGI_MODIFIER`].
    pub http_modifier1: u8,
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
    /// Files that are served without it.
    pub static_files: StaticSettings,
    /// CGI scripts.
    pub cgi: CgiSettings,
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

    /// How the master lives and what it watches.
    pub master_process: MasterSettings,
    /// When a worker makes room for a fresh one.
    pub recycling: Recycling,
    /// uwsgi signals raised by options, and locks.
    pub signals: SignalSettings,
    /// Statistics, metrics, health and control.
    pub status: StatusSettings,

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
    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Http, Self::Uwsgi].into_iter().find(|protocol| protocol.name() == name)
    }

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
    /// Whether that module or file has an ASGI application (`--asgi` without a value).
    pub site_is_asgi: bool,
    /// Further applications by path prefix, in order (`--mount`, `--asgi` with a value).
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
    /// The gevent loop engine.
    pub gevent: GeventSettings,
    /// How long code may keep the loop from its work before the log names it (`--block-warning`); 0: for ever. Default
    /// 100 ms under a loop engine, else 0.
    pub block_warning_ms: u64,
}

/// What concerns the gevent loop engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeventSettings {
    /// When the standard library is patched (`--gevent-monkey-patch`, `--gevent-late-monkey-patch`). Default never.
    pub patching: Option<Patching>,
    /// Whether a worker that leaves waits for greenlets that belong to no request (`--gevent-wait-for-hub`).
    pub wait_for_hub: bool,
}

/// When `gevent.monkey.patch_all()` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patching {
    /// Before the application is loaded.
    BeforeLoading,
    /// In each worker, after the application was loaded: uWSGI's order.
    BeforeServing,
}

/// How an application is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// PEP 3333.
    Wsgi,
    /// ASGI 3.0.
    Asgi,
}

impl Interface {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wsgi => "WSGI",
            Self::Asgi => "ASGI",
        }
    }
}

/// One `--mount`, or one `--asgi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which of the two.
    pub interface: Interface,
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

/// How the master lives and what it watches.
#[derive(Clone, Debug, Default)]
pub struct MasterSettings {
    /// User to become once the listeners are bound, by number (`--uid`).
    pub uid: Option<u32>,
    /// Group to become, by number (`--gid`).
    pub gid: Option<u32>,
    /// Mode bits that new files do not get (`--umask`).
    pub umask: Option<u32>,
    /// Detach from the terminal; all output goes to this file (`--daemonize`).
    pub daemonize: Option<PathBuf>,
    /// Files whose change reloads (`--touch-reload`).
    pub touch_reload: Vec<PathBuf>,
    /// Files whose change reopens the log (`--touch-logreopen`).
    pub touch_logreopen: Vec<PathBuf>,
    /// How long readiness says no before a stop begins (`--shutdown-delay`).
    pub shutdown_delay_ms: u64,
    /// `SIGTERM` reloads, as in uWSGI (`--sigterm-reload`). Default off: it stops.
    pub sigterm_reload: bool,
    /// A reload stops (`--exit-on-reload`).
    pub exit_on_reload: bool,
    /// Pipes that take commands of one byte (`--master-fifo`); the first is active.
    pub fifos: Vec<PathBuf>,
    /// A worker that holds a request and shows no sign of life for so long is killed (`--harakiri`); 0 is never.
    pub harakiri_ms: u64,
    /// Also log what the kernel knows of such a worker (`--harakiri-verbose`).
    pub harakiri_verbose: bool,
}

/// When a worker makes room for a fresh one. 0 is never.
#[derive(Clone, Debug, Default)]
pub struct Recycling {
    /// Requests (`--max-requests`).
    pub max_requests: u64,
    /// Requests more for each further worker (`--max-requests-delta`), so that they do not leave together.
    pub max_requests_delta: u64,
    /// Age (`--max-worker-lifetime`).
    pub max_lifetime_ms: u64,
    /// Age more for each further worker (`--max-worker-lifetime-delta`).
    pub max_lifetime_delta_ms: u64,
    /// No worker younger than this is recycled (`--min-worker-lifetime`).
    pub min_lifetime_ms: u64,
    /// Resident memory in bytes (`--reload-on-rss`).
    pub rss_bytes: u64,
    /// Address space in bytes (`--reload-on-as`).
    pub address_space_bytes: u64,
    /// Resident memory in bytes at which the worker is killed (`--evil-reload-on-rss`).
    pub evil_rss_bytes: u64,
    /// Address space in bytes at which the worker is killed (`--evil-reload-on-as`).
    pub evil_address_space_bytes: u64,
}

/// uwsgi signals raised by options, and locks.
#[derive(Clone, Debug, Default)]
pub struct SignalSettings {
    /// Signal and interval in milliseconds (`--timer`, `--rbtimer`).
    pub timers: Vec<(u8, u64)>,
    /// Signal and file whose change raises it (`--touch-signal`, `--fs-signal`).
    pub file_monitors: Vec<(u8, PathBuf)>,
    /// User locks beyond the first, number 0 (`--locks`).
    pub locks: u32,
}

/// Statistics, metrics, health and control.
#[derive(Clone, Debug, Default)]
pub struct StatusSettings {
    /// Where one JSON document per connection is served (`--stats`).
    pub stats: Option<Address>,
    /// Put an HTTP head before it (`--stats-http`).
    pub stats_http: bool,
    /// Without white space (`--stats-minified`).
    pub stats_minified: bool,
    /// Without the cores (`--stats-no-cores`).
    pub stats_no_cores: bool,
    /// Where `/metrics`, `/healthz` and `/readyz` are served over HTTP (`--metrics`).
    pub metrics: Option<Address>,
    /// UNIX socket of `greenloom ctl` (`--control-socket`).
    pub control_socket: Option<PathBuf>,
}

/// Where log lines go, and what they look like.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a switch of the user's, independent of the others"
)]
pub struct LogSettings {
    /// No request lines but those a condition below asks for. Default off.
    pub disable_logging: bool,
    /// File for all output; `None` is standard error.
    pub logto: Option<PathBuf>,
    /// Template of request lines (`--log-format`); `None` is uWSGI's default line.
    pub format: Option<String>,
    /// The template also goes through strftime (`--log-format-strftime`).
    pub format_strftime: bool,
    /// Request lines are JSON objects (`--log-json`).
    pub json: bool,
    /// Put the date before lines of the server: a strftime format, or empty for ctime's (`--log-date`).
    pub date: Option<String>,
    /// Times of request lines in microseconds (`--log-micros`).
    pub micros: bool,
    /// The address is the whole of `X-Forwarded-For` (`--log-x-forwarded-for`).
    pub x_forwarded_for: bool,
    /// Memory of the worker in front of request lines (`--memory-report`).
    pub memory_report: bool,
    /// Log requests without a body in the answer (`--log-zero`).
    pub if_zero: bool,
    /// Log requests that took so many milliseconds (`--log-slow`).
    pub if_slow_ms: Option<u64>,
    /// Log requests answered with 4xx (`--log-4xx`).
    pub if_4xx: bool,
    /// Log requests answered with 5xx (`--log-5xx`).
    pub if_5xx: bool,
    /// Log requests whose answer has so many bytes (`--log-big`).
    pub if_big: Option<u64>,
    /// Log requests answered by sendfile (`--log-sendfile`).
    pub if_sendfile: bool,
    /// Log requests whose connection failed (`--log-ioerror`).
    pub if_ioerror: bool,
    /// Mode bits of the log file (`--logfile-chmod`). Default 0640.
    pub file_mode: Option<u32>,
    /// Rename the log file when it is longer (`--log-maxsize`); 0 is never.
    pub max_size: u64,
    /// Name of the renamed file (`--log-backupname`); `None` appends the time.
    pub backup_name: Option<PathBuf>,
    /// Empty the log file at start (`--log-truncate`).
    pub truncate: bool,
    /// Reopen the log file at a reload (`--log-reopen`).
    pub reopen_on_reload: bool,
}

impl Settings {
    /// Whether there is something to serve when no application was asked for: files or scripts. A start without an
    /// application is right then, whatever `need_app` says.
    pub fn serves_without_application(&self) -> bool {
        self.static_files.looks_up_paths() || self.cgi.has_scripts()
    }
}

impl Default for Settings {
    /// What a start without any option has: no listener, no application, one core in one worker.
    fn default() -> Self {
        Self {
            given: Vec::new(),
            listeners: Vec::new(),
            http_modifier1: 0,
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
            static_files: StaticSettings::default(),
            cgi: CgiSettings::default(),
            chdir: None,
            env: Vec::new(),
            plugins: Vec::new(),
            limits: Limits::default(),
            log: LogSettings::default(),
            master_process: MasterSettings::default(),
            recycling: Recycling::default(),
            signals: SignalSettings::default(),
            status: StatusSettings::default(),
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
            site_is_asgi: false,
            mounts: Vec::new(),
            pythonpath: Vec::new(),
            virtualenv: None,
            pyargv: Vec::new(),
            imports: Vec::new(),
            chunk_cache: 256,
            gevent: GeventSettings::default(),
            block_warning_ms: 0,
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
