//! Options that need nothing done: what they ask for is so anyway, or has no counterpart that could differ.
//!
//! Files written for uWSGI carry them, so they are accepted. Where somebody could expect more than happens, the
//! start says so.

use super::{Arg, Category, OptionDef, Role};

pub(super) const CATEGORY: Category = Category {
    word: "compatibility",
    title: "Accepted for compatibility",
    intro: "These do nothing: each one says why. They are accepted so that files written for uWSGI start unchanged.",
    options: OPTIONS,
};

const fn so_anyway(name: &'static str, arg: Arg, why: &'static str) -> OptionDef {
    OptionDef::with_role(name, arg, Role::Nothing, why)
}

const fn said(name: &'static str, arg: Arg, why: &'static str) -> OptionDef {
    OptionDef::with_role(name, arg, Role::NothingButSaid, why)
}

const FLAG: Arg = Arg::Flag;
const N: Arg = Arg::Required("N");
const TIME: Arg = Arg::Required("TIME");
const ANY: Arg = Arg::Required("VALUE");

const OPTIONS: &[OptionDef] = &[
    so_anyway("enable-threads", FLAG, "the application's own threads always run").short('T'),
    so_anyway("single-interpreter", FLAG, "there is always one interpreter per worker").short('i'),
    so_anyway("thunder-lock", FLAG, "connections are shared among workers without a lock"),
    so_anyway("manage-script-name", FLAG, "mounts always split SCRIPT_NAME and PATH_INFO"),
    so_anyway("no-orphans", FLAG, "workers never outlive the master"),
    so_anyway("close-on-exec", FLAG, "descriptors are always closed on exec").aliases(&["close-on-exec2"]),
    so_anyway("no-threads-wait", FLAG, "there are no request threads to wait for"),
    so_anyway("ignore-sigpipe", FLAG, "SIGPIPE is always ignored"),
    so_anyway("ignore-write-errors", FLAG, "a client that leaves is no error"),
    so_anyway("disable-write-exception", FLAG, "a client that leaves ends its request alone"),
    so_anyway("write-errors-exception-only", FLAG, "a client that leaves ends its request alone"),
    so_anyway("write-errors-tolerance", N, "a client that leaves ends its request alone"),
    so_anyway("py-call-osafterfork", FLAG, "the interpreter's fork hooks always run"),
    so_anyway("wsgi-env-behaviour", Arg::Required("NAME"), "each request has a new environ")
        .aliases(&["wsgi-env-behavior"]),
    so_anyway("wsgi-strict", FLAG, "PEP 3333 is always followed"),
    so_anyway("plugins-dir", Arg::Required("DIRECTORY"), "all parts are built in")
        .aliases(&["plugin-dir"])
        .repeatable(),
    so_anyway("autoload", FLAG, "all parts are built in"),
    so_anyway("log-master", FLAG, "lines of all processes go to the same place"),
    so_anyway("threaded-logger", FLAG, "lines of all processes go to the same place"),
    so_anyway("log-master-bufsize", N, "lines are not passed through a buffer of that kind"),
    so_anyway("post-buffering-bufsize", N, "buffers of bodies grow as needed")
        .aliases(&["post-buffering-buffer-size"]),
    so_anyway("http-auto-chunked", FLAG, "responses of unknown length are chunked"),
    so_anyway("http-chunked-input", FLAG, "chunked bodies are always decoded"),
    so_anyway("http-raw-body", FLAG, "no router stands between client and application"),
    so_anyway("http-websockets", FLAG, "no router stands between client and application"),
    so_anyway("http-manage-expect", Arg::Optional("N"), "100-continue is always answered; sizes: limit-post"),
    so_anyway("http-buffer-size", N, "there is no router with a buffer; see buffer-size"),
    so_anyway("http-events", N, "there is no router with an event queue"),
    so_anyway("disable-sendfile", FLAG, "a matter of implementation"),
    so_anyway("honour-range", FLAG, "ranges of static files are always served"),
    so_anyway("static-cache-paths", TIME, "paths of static files are found without a cache"),
    so_anyway("cgi-optimize", FLAG, "a matter of implementation").aliases(&["cgi-optimized"]),
    so_anyway("cgi-path-info", FLAG, "what follows a script in the path is always its PATH_INFO"),
    so_anyway("cgi-async-max-attempts", Arg::Optional("N"), "the end of a script is an event, not asked for"),
    so_anyway("cgi-close-stdin-on-eof", FLAG, "a script's standard input always ends with the body"),
    so_anyway("skip-atexit-teardown", FLAG, "a matter of implementation"),
    so_anyway("reload-mercy", TIME, "no other processes wait; see worker-reload-mercy"),
    so_anyway("stats-no-metrics", FLAG, "there are no metrics among the statistics"),
    so_anyway("max-apps", N, "mounts are not limited"),
    so_anyway("check-interval", N, "the master acts on events, not in intervals"),
    so_anyway("reaper", FLAG, "the master always collects its children"),
    so_anyway("auto-procname", FLAG, "cosmetic"),
    said("procname", ANY, "processes keep their names").aliases(&["procname-master"]),
    said("procname-prefix", ANY, "processes keep their names").aliases(&["procname-prefix-spaced"]),
    said("procname-append", ANY, "processes keep their names"),
    said("http-timeout", TIME, "no router waits: head-timeout, body-timeout and socket-timeout do")
        .aliases(&["http-connect-timeout"]),
    said("http-processes", N, "HTTP is served by the workers, there are no router processes")
        .aliases(&["http-workers"]),
    said("signal-bufsize", N, "the queue of uwsgi signals has a size of its own")
        .aliases(&["signals-bufsize"]),
    said("body-read-warning", N, "bodies above post-buffering are in a file, whatever read() collects"),
    said("threads-stacksize", N, "there are no request threads").aliases(&[
        "thread-stacksize",
        "thread-stack-size",
        "threads-stack-size",
    ]),
    said("mode", ANY, "uwsgi.mode is not in this version"),
];
