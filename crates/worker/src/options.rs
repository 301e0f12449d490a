//! What a worker needs to know of the configuration, in the units it works with.

use greenloom_config::{LogSettings, Recycling, Settings, SuspendEngine};

use crate::native::Rules;

/// Each one that waits costs a stack; more would only say that handlers pile up.
const SIGNAL_CORES: u32 = 64;

/// Limits and times of one worker. Times are milliseconds, sizes bytes.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct WorkerOptions {
    /// Number of cores.
    pub cores: u32,
    /// Handlers of uwsgi signals that run at the same time.
    pub signal_cores: u32,
    /// Longest request head or uwsgi packet.
    pub head_bytes: usize,
    /// Most variables of a uwsgi packet, most fields of an HTTP head.
    pub max_vars: usize,
    /// Largest body; `None`: no limit.
    pub limit_post: Option<u64>,
    /// Bodies above this size are spooled to a file.
    pub post_buffering: u64,
    /// A head must be complete so long after its first byte (or after accept).
    pub head_timeout_ms: u64,
    /// See [`greenloom_config::Limits::body_min_rate`].
    pub body_timeout_ms: u64,
    /// Bytes per second; 0: no rate.
    pub body_min_rate: u64,
    /// Requests below these paths start before their body is there; a prefix ends where a slash or the path does.
    pub body_early: Vec<String>,
    /// Whether applications can read a body as it comes: with a suspend engine. Scripts always can.
    pub early_applications: bool,
    /// Mount points of the applications, and whether those read bodies as they come; the longest that covers a path counts.
    pub streaming: Vec<(String, bool)>,
    /// Idle time between requests; 0: one request per connection.
    pub keep_alive_ms: u64,
    /// Longest time without progress of a write.
    pub write_stall_ms: u64,
    /// How long a request may have its core, by path prefix (empty: every path; otherwise it ends at a slash or the
    /// path's end). The longest prefix counts; 0 is no deadline.
    pub request_timeouts: Vec<(String, u64)>,
    /// While a request has a core, the loop looks around at least this often, so that a watchdog outside sees it live; 0: there
    /// is none.
    pub heartbeat_ms: u64,
    /// Output held for one connection before its core has to wait; input before it is left in the socket.
    pub high_water: usize,
    /// Whether yields may be sent together (see `flusher.rs`).
    pub coalesce: bool,
    /// Whether a client that has closed its side may wait for its answer as long as that takes.
    pub half_close: bool,
    /// `SO_KEEPALIVE` on connections.
    pub so_keepalive: bool,
    /// Whether other workers accept from the same listeners.
    pub shares_listeners: bool,
    /// Whether a master takes signals and gives them out.
    pub has_master: bool,
    /// Whether every request has a line; without, those have one that `log` or the application names.
    pub log_requests: bool,
    /// What request lines look like.
    pub log: LogSettings,
    /// The worker's number, for the log; the process tree knows it.
    pub worker_id: u32,
    /// When the worker asks for a fresh process in its place.
    pub recycling: Recycling,
    /// Where spool files live.
    pub spool_directory: std::path::PathBuf,
    /// Requests that are answered without a core; `None`: none.
    pub native: Option<Rules>,
    /// uWSGI's `modifier1` of requests over HTTP.
    pub http_modifier1: u8,
    /// Whether there is an application for all others.
    pub has_app: bool,
    /// Threads that wait for disks, at most; started when they are needed.
    pub helper_threads: u32,
}

impl WorkerOptions {
    /// Cores of both kinds: what a driver keeps something for.
    pub fn all_cores(&self) -> u32 {
        self.cores + self.signal_cores
    }

    /// Whether there are CGI scripts.
    pub(crate) fn has_scripts(&self) -> bool {
        self.native.as_ref().is_some_and(|rules| rules.cgi.is_some())
    }

    /// The worker's part of the settings.
    pub fn from_settings(settings: &Settings) -> Self {
        let limits = &settings.limits;
        Self {
            cores: settings.cores.max(1),
            signal_cores: match settings.engine.suspend {
                // One runs to its end before the next begins.
                SuspendEngine::None => 1,
                _ => SIGNAL_CORES,
            },
            head_bytes: limits.head_bytes as usize,
            max_vars: limits.max_vars as usize,
            limit_post: (limits.limit_post > 0).then_some(limits.limit_post),
            post_buffering: limits.post_buffering,
            head_timeout_ms: limits.head_timeout_ms,
            body_timeout_ms: limits.body_timeout_ms,
            body_min_rate: limits.body_min_rate,
            body_early: limits.body_early.clone(),
            early_applications: settings.engine.suspend != SuspendEngine::None,
            streaming: Vec::new(),
            keep_alive_ms: limits.keep_alive_ms,
            write_stall_ms: limits.socket_timeout_ms,
            request_timeouts: limits.request_timeouts.clone(),
            heartbeat_ms: settings.master_process.harakiri_ms.div_ceil(4),
            high_water: usize::try_from(limits.high_water_bytes).unwrap_or(usize::MAX).max(4096),
            coalesce: limits.coalesce,
            half_close: limits.half_close,
            so_keepalive: settings.so_keepalive,
            shares_listeners: settings.processes > 1,
            has_master: settings.master,
            log_requests: !settings.log.disable_logging,
            log: settings.log.clone(),
            worker_id: 1,
            recycling: settings.recycling.clone(),
            spool_directory: std::env::temp_dir(),
            native: Rules::from_settings(settings),
            http_modifier1: settings.http_modifier1,
            has_app: true,
            helper_threads: settings.static_files.threads,
        }
    }
}
