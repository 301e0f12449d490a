//! uWSGI's options that greenloom does not have, in groups: why, and what to do instead.
//!
//! A name that ends with `*` stands for all names that begin so. A value that switches the option off is
//! accepted, since that is how greenloom works anyway.

/// Options that are refused for one reason.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// Why it is not there; begins in lower case, without a full stop.
    pub(crate) reason: &'static str,
    /// What to do instead.
    pub(crate) remedy: &'static str,
    /// The names.
    names: &'static [&'static str],
    /// Their short letters.
    letters: &'static [char],
}

const fn group(reason: &'static str, remedy: &'static str, names: &'static [&'static str]) -> Elsewhere {
    Elsewhere { reason, remedy, names, letters: &[] }
}

impl Elsewhere {
    const fn letters(mut self, letters: &'static [char]) -> Self {
        self.letters = letters;
        self
    }

    /// Its names as they stand in the manual: whole names and `start*`.
    pub(crate) fn patterns(&self) -> &'static [&'static str] {
        self.names
    }
}

/// Finds the group of a whole name.
pub(crate) fn find(name: &str) -> Option<&'static Elsewhere> {
    GROUPS.iter().find(|group| group.names.contains(&name))
}

/// Finds the group of a name by its start. Weaker than [`find`]: a placeholder of the user's may look so, too.
pub(crate) fn find_by_start(name: &str) -> Option<&'static Elsewhere> {
    GROUPS.iter().find(|group| {
        group
            .names
            .iter()
            .any(|pattern| pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start)))
    })
}

/// Finds the group of a short letter.
pub(crate) fn find_short(letter: char) -> Option<&'static Elsewhere> {
    GROUPS.iter().find(|group| group.letters.contains(&letter))
}

/// Every whole name.
pub(crate) fn names() -> impl Iterator<Item = (&'static str, &'static Elsewhere)> {
    GROUPS
        .iter()
        .flat_map(|group| group.names.iter().map(move |name| (*name, group)))
        .filter(|(name, _)| !name.ends_with('*'))
}

/// All groups.
pub(crate) const GROUPS: &[Elsewhere] = &[
    group(
        "a worker that is blocked gets no other warning than harakiri",
        "remove it; the stack of such a worker and its requests are in the log before it is killed",
        &[
            "harakiri-graceful-timeout",
            "harakiri-graceful-signal",
            "harakiri-queue-threshold",
            "harakiri-no-arh",
            "no-harakiri-arh",
            "no-harakiri-after-req-hook",
        ],
    ),
    group(
        "recycling a worker because of an exception is not in this version",
        "remove it: an exception ends its request alone; if the application cannot go on, it calls uwsgi.reload()",
        &[
            "reload-on-exception",
            "reload-on-exception-type",
            "reload-on-exception-value",
            "reload-on-exception-repr",
        ],
    ),
    group(
        "scaling the number of workers is not in this version",
        "remove it and give the number of workers with processes; async cores cost little while idle",
        &["cheaper", "cheaper-*", "cheap", "idle", "die-on-idle"],
    ),
    group(
        "looking for changed Python files is not in this version",
        "write touch-reload = FILE and touch that file, or let a tool such as watchfiles send SIGHUP to the master",
        &[
            "py-autoreload",
            "py-auto-reload",
            "python-autoreload",
            "python-auto-reload",
            "py-auto-reload-ignore",
        ],
    ),
    group(
        "a reload never cuts requests off",
        "write touch-reload = FILE, and worker-reload-mercy = SECONDS for the time requests have to end",
        &["fs-brutal-reload"],
    ),
    group(
        "commands to a running server are not options here",
        "use greenloom ctl with control-socket, or send posix signals to the pid in pidfile: HUP reloads, TERM stops",
        &["stop", "reload", "pause", "suspend", "resume", "signal"],
    ),
    group(
        "sending statistics out, and metrics of the application's own, are not in this version",
        "let Prometheus or another collector fetch them: metrics = ADDRESS, or stats = ADDRESS for uWSGI's JSON",
        &["stats-push", "stats-pusher-default-freq", "enable-metrics", "metric", "metric-*", "metrics-*"],
    ),
    group(
        "log destinations besides a file and standard error are not in this version",
        "log to a file with logto, or to standard error and let the service manager (systemd, Docker) forward it",
        &[
            "log-syslog",
            "log-rsyslog",
            "log-socket",
            "log-encoder",
            "log-req-encoder",
            "log-drain",
            "log-filter",
            "log-route",
            "log-req-route",
            "log-master-stream",
            "log-master-req-stream",
        ],
    ),
    group(
        "this way to look after the log file is not in this version",
        "rotate with log-maxsize, or with logrotate and touch-logreopen; start greenloom as the owner the file shall have",
        &["logfile-chown", "touch-logrotate"],
    ),
    group(
        "greenloom sends static files itself, and no server in front is told to",
        "remove it, or map their prefix in the server in front (nginx: location and alias)",
        &["fileserve-mode", "file-serve-mode", "file-serve"],
    ),
    group(
        "paths of static files are not kept in a cache",
        "remove it; they are found without one",
        &["static-cache-paths-name"],
    ),
    group(
        "changing responses and routing inside the server are not in this version",
        "do it in the server in front or in the application",
        &[
            "add-header",
            "rem-header",
            "del-header",
            "collect-header",
            "pull-header",
            "check-cache",
            "error-page-*",
            "route",
            "route-*",
            "error-route*",
            "response-route*",
            "final-route*",
            "response-headers-limit",
            "http-auto-gzip",
            "allowed-modifiers",
            "remap-modifier",
            "http-socket-modifier2",
            "http-modifier2",
            "http-var",
        ],
    ),
    group(
        "TLS is not in this version",
        "let the server in front end TLS (nginx, HAProxy)",
        &[
            "https",
            "https2",
            "https-socket",
            "https-*",
            "http-to-https",
            "suwsgi-socket",
            "ssl-socket",
            "ssl-*",
            "sni*",
            "http2*",
        ],
    ),
    group(
        "this protocol is not in this version",
        "speak http (http-socket) or uwsgi (uwsgi-socket) to it",
        &[
            "fastcgi-socket",
            "fastcgi-nph-socket",
            "fastcgi-modifier1",
            "fastcgi-modifier2",
            "scgi-socket",
            "scgi-nph-socket",
            "scgi-modifier1",
            "scgi-modifier2",
            "raw-socket",
            "raw-modifier1",
            "raw-modifier2",
            "puwsgi-socket",
            "zeromq*",
            "zmq*",
            "mongrel2*",
        ],
    ),
    group(
        "the PROXY protocol is not in this version",
        "remove it here and in the balancer in front",
        &["enable-proxy-protocol", "http-enable-proxy-protocol"],
    ),
    group(
        "this way to set up a socket is not in this version",
        "write the address with http-socket, socket or uwsgi-socket",
        &[
            "shared-socket",
            "undeferred-shared-socket",
            "map-socket",
            "abstract-socket",
            "freebind",
            "tcp-fast-open",
            "tcp-fast-open-client",
            "socket-sndbuf",
            "socket-rcvbuf",
            "shutdown-sockets",
            "honour-stdin",
        ],
    )
    .letters(&['a']),
    group(
        "this time limit has another name here",
        "write socket-timeout: it bounds a write that stands still",
        &["so-send-timeout", "socket-send-timeout", "so-write-timeout", "socket-write-timeout"],
    ),
    group(
        "this way to change owners and privileges is not in this version",
        "write uid and gid, which apply once the listeners are bound, or start greenloom as the user it shall run as (systemd: User=, Group=)",
        &[
            "chown-socket",
            "add-gid",
            "no-initgroups",
            "drop-after-init",
            "drop-after-apps",
            "master-as-root",
            "immediate-uid",
            "immediate-gid",
            "chroot",
            "cap",
            "unshare",
            "unshare2",
            "pivot-root*",
            "pivot_root",
            "ns*",
            "namespace*",
            "cgroup*",
            "http-uid",
            "http-gid",
        ],
    ),
    group(
        "the HTTP router of uWSGI has no counterpart: the workers serve HTTP themselves",
        "remove it; to serve other machines' applications put nginx or HAProxy in front",
        &["http-to", "http-harakiri", "http-stats", "http-stats-server", "http-ss", "http-*", "httprouter-*", "rawrouter*", "sslrouter*", "router-*", "forkpty*", "tuntap*"],
    ),
    group(
        "greenloom runs one site per server",
        "run one greenloom per site under a service manager (a systemd template unit does it)",
        &["emperor", "emperor-*", "vassal*", "vassals-*", "zerg*", "broodlord*", "imperial-*", "heartbeat", "master-alive"],
    ),
    group(
        "background work belongs into processes of its own",
        "use a task queue (Celery, RQ, Dramatiq) or a service of its own",
        &["mule", "mules", "mule-*", "farm", "spooler", "spooler-*", "spoolers", "touch-mules-reload", "touch-spoolers-reload", "touch-spooler-*", "spool*"],
    ),
    group(
        "greenloom starts no other programs",
        "run commands from cron or systemd timers; for functions of the application there are uwsgi.add_cron and the decorators of uwsgidecorators",
        &["cron", "cron2", "cron-*", "legion-cron", "unique-cron", "unique-legion-cron"],
    ),
    group(
        "greenloom starts no other programs",
        "start them from the service manager, as services of their own",
        &[
            "attach-daemon*",
            "smart-attach-daemon*",
            "legion-attach-daemon",
            "legion-smart-attach-daemon",
            "hook-*",
            "exec-*",
            "call-*",
            "after-request-hook",
            "after-request-call",
            "worker-exec",
            "worker-exec2",
            "touch-exec",
            "as-*",
            "command-mode",
            "no-server",
            "python-worker-override",
            "py-worker-override",
            "pyrun",
            "pyshell*",
        ],
    ),
    group(
        "memory shared between workers (caches, queues, shared areas) is not part of greenloom",
        "use a server made for it (Redis, memcached)",
        &["cache", "cache2", "cache-*", "queue", "queue-*", "sharedarea", "py-sharedarea", "lock-*", "ftok", "flock*"],
    )
    .letters(&['A', 'q', 'Q']),
    group(
        "clusters, remote calls and subscriptions are not part of greenloom",
        "use the balancers you have (nginx, HAProxy, Kubernetes)",
        &[
            "legion*",
            "subscribe*",
            "subscription*",
            "unsubscribe*",
            "fastrouter*",
            "rpc*",
            "erlang*",
            "carbon*",
            "alarm*",
            "snmp*",
            "ping",
            "ping-timeout",
            "gossip*",
            "auto-weight",
            "cluster*",
        ],
    ),
    group(
        "Perl's PSGI is not in this version",
        "run the application under uWSGI or Starman for now",
        &["psgi", "psgi-*", "perl-*", "plshell", "plshell-oneshot"],
    ),
    group(
        "Ruby's Rack is not in this version",
        "run the application under Puma for now",
        &[
            "rack",
            "rails",
            "rb-*",
            "ruby-*",
            "rbrequire",
            "rubyrequire",
            "require",
            "shared-rb-require",
            "shared-ruby-require",
            "shared-rbrequire",
            "shared-rubyrequire",
            "shared-require",
            "gemset",
            "rvm",
            "rvm-path",
            "rbshell",
            "rbshell-oneshot",
        ],
    ),
    group(
        "functions within the server do not run as scripts",
        "remove it, and name a program with cgi-helper = .ext=program",
        &["cgi-loadlib"],
    ),
    group(
        "greenloom does not run this language",
        "run it on a server of its own",
        &["php*", "lua*", "jvm*", "mono*", "gccgo*", "v8*", "java*", "xslt*", "ssi*", "webdav*", "gridfs*", "rados*", "glusterfs*"],
    ),
    group(
        "paste files are not read in this version",
        "write a module that builds the application (paste.deploy.loadapp) and name it with module",
        &["paste", "paste-logger", "ini-paste", "ini-paste-logged", "pecan", "web3", "pump", "wsgi-lite", "eval-*"],
    ),
    group(
        "this way to load or test an application is not in this version",
        "write module, wsgi-file or mount",
        &["eval", "eval-wsgi", "test", "worker-mount", "no-default-app", "ignore-script-name", "spooler-import"],
    )
    .letters(&['J']),
    group(
        "this switch of the Python gateway is not in this version",
        "remove it; greenloom follows PEP 3333, and an error in the application is a plain 500 page with the traceback in the log",
        &[
            "catch-exceptions",
            "start_response-nodelay",
            "start-response-nodelay",
            "wsgi-accept-buffer",
            "wsgi-accept-buffers",
            "wsgi-disable-file-wrapper",
            "wsgi-manage-chunked-input",
            "py-tracebacker",
            "reload-os-env",
            "py-call-uwsgi-fork-hooks",
            "optimize",
            "py-executable",
            "py-programname",
            "py-program-name",
            "no-site",
            "pymodule-alias",
            "post-pymodule-alias",
            "python-raw",
            "python-version",
            "skip-atexit",
        ],
    )
    .letters(&['O']),
    group(
        "this engine is not in this version",
        "remove it; what works now is gevent = N, or async = N with ugreen or greenlet if you like (see greenloom --loop-list)",
        &[
            "greenlet-*",
            "uvloop",
            "libuv",
            "libev",
        ],
    ),
    group(
        "websockets are not in this version",
        "serve them from an asynchronous server beside it, on a path of their own",
        &["websocket-*", "websockets-*", "chunked-input-limit", "chunked-input-timeout"],
    ),
    group(
        "this kind of file is not read",
        "write the options as an ini file with a section [uwsgi]; the names stay the same",
        &["xml", "yaml", "yml", "json", "js", "zeus", "sqlite3", "ldap*", "emperor-pg"],
    )
    .letters(&['x', 'y', 'j']),
    group(
        "this way to compose a configuration is not in this version",
        "write the options into one file, or use include, for and if blocks",
        &[
            "inject-before",
            "inject-after",
            "blacklist",
            "end-blacklist",
            "whitelist",
            "end-whitelist",
            "fallback-config",
            "envdir",
            "early-envdir",
            "unenv",
            "resolve",
            "connect-and-read",
            "print",
            "iprint",
            "exit",
            "if-hostname-match",
            "if-not-hostname-match",
            "declare-option2",
            "pcre-jit",
        ],
    ),
    group(
        "this list has nothing to show here",
        "use greenloom --help, --loop-list or --print-config",
        &["plugins-list", "plugin-list", "logger-list", "loggers-list", "clock-list", "clocks-list", "cheaper-algo-list", "dump-options"],
    ),
    group(
        "this resource limit or tuning is not in this version",
        "set it in the service manager (systemd: LimitNOFILE=, CPUAffinity=, Nice=, MemoryMax=)",
        &["limit-as", "limit-nproc", "cpu-affinity", "prio", "forkbomb-delay", "ksm", "clock", "never-swap", "backtrace-depth", "cpu*"],
    ),
    group(
        "changing the directory after loading is not in this version",
        "write chdir, which applies before the application is loaded",
        &["chdir2"],
    ),
    group(
        "upload progress files are not in this version",
        "let the server in front or the client show progress",
        &["upload-progress"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_reason_and_remedy_in_the_form_of_a_sentence_part() {
        for group in GROUPS {
            for text in [group.reason, group.remedy] {
                assert!(text.len() > 15 && !text.ends_with('.'), "{text}");
            }
            assert!(!group.names.is_empty());
        }
    }

    #[test]
    fn names_are_found_whole_and_by_their_start() {
        assert!(find("stats-push").unwrap().reason.contains("statistics"));
        assert!(find("cheaper-busyness-max").is_none());
        assert!(find_by_start("cheaper-busyness-max").unwrap().reason.contains("scaling"));
        assert!(find_by_start("processes").is_none());
    }
}
