//! What must go together among the options of processes, control, recycling, logs, status and signals.
//!
//! Part of the draft's last look, in a file of its own: the draft itself looks at engines, listeners and applications.

use std::path::PathBuf;

use crate::draft::{Asked, Draft};
use crate::error::ConfigError;
use crate::settings::{Address, Settings};

/// Whether an option asks for anything, in settings that are complete.
type Asks = fn(&Settings) -> bool;

/// Options that the master carries out.
const OF_THE_MASTER: &[(&str, Asks)] = &[
    ("sigterm-reload", |settings| settings.master_process.sigterm_reload),
    ("exit-on-reload", |settings| settings.master_process.exit_on_reload),
    ("shutdown-delay", |settings| settings.master_process.shutdown_delay_ms > 0),
    ("touch-reload", |settings| !settings.master_process.touch_reload.is_empty()),
    ("touch-logreopen", |settings| !settings.master_process.touch_logreopen.is_empty()),
    ("master-fifo", |settings| !settings.master_process.fifos.is_empty()),
    ("control-socket", |settings| settings.status.control_socket.is_some()),
    ("harakiri", |settings| settings.master_process.harakiri_ms > 0),
    ("max-requests", |settings| settings.recycling.max_requests > 0),
    ("max-worker-lifetime", |settings| settings.recycling.max_lifetime_ms > 0),
    ("reload-on-rss", |settings| settings.recycling.rss_bytes > 0),
    ("reload-on-as", |settings| settings.recycling.address_space_bytes > 0),
    ("evil-reload-on-rss", |settings| settings.recycling.evil_rss_bytes > 0),
    ("evil-reload-on-as", |settings| settings.recycling.evil_address_space_bytes > 0),
    ("log-maxsize", |settings| settings.log.max_size > 0),
    ("log-reopen", |settings| settings.log.reopen_on_reload),
    ("stats", |settings| settings.status.stats.is_some()),
    ("metrics", |settings| settings.status.metrics.is_some()),
    ("timer", |settings| !settings.signals.timers.is_empty()),
    ("touch-signal", |settings| !settings.signals.file_monitors.is_empty()),
];

/// Options that only say more about another one, which stands behind them.
const ADDITIONS: &[(&str, Asks, Asks, &str)] = &[
    (
        "harakiri-verbose",
        |it| it.master_process.harakiri_verbose,
        |it| it.master_process.harakiri_ms > 0,
        "harakiri",
    ),
    (
        "max-requests-delta",
        |it| it.recycling.max_requests_delta > 0,
        |it| it.recycling.max_requests > 0,
        "max-requests",
    ),
    (
        "max-worker-lifetime-delta",
        |it| it.recycling.max_lifetime_delta_ms > 0,
        |it| it.recycling.max_lifetime_ms > 0,
        "max-worker-lifetime",
    ),
    ("stats-http", |it| it.status.stats_http, |it| it.status.stats.is_some(), "stats"),
    ("stats-minified", |it| it.status.stats_minified, |it| it.status.stats.is_some(), "stats"),
    ("stats-no-cores", |it| it.status.stats_no_cores, |it| it.status.stats.is_some(), "stats"),
    ("log-format-strftime", |it| it.log.format_strftime, |it| it.log.format.is_some(), "log-format"),
    ("log-backupname", |it| it.log.backup_name.is_some(), |it| it.log.max_size > 0, "log-maxsize"),
    ("logfile-chmod", |it| it.log.file_mode.is_some(), has_log_file, "logto"),
    ("log-maxsize", |it| it.log.max_size > 0, has_log_file, "logto"),
    ("log-truncate", |it| it.log.truncate, has_log_file, "logto"),
    ("log-reopen", |it| it.log.reopen_on_reload, has_log_file, "logto"),
    ("touch-logreopen", |it| !it.master_process.touch_logreopen.is_empty(), has_log_file, "logto"),
];

fn has_log_file(settings: &Settings) -> bool {
    settings.log.logto.is_some() || settings.master_process.daemonize.is_some()
}

/// Completes the settings and says what contradicts itself.
pub(crate) fn check(draft: &mut Draft<'_>, errors: &mut Vec<ConfigError>) {
    loggers(draft, errors);
    master(draft, errors);
    sigterm(draft, errors);
    lifetimes(draft, errors);
    places(draft, errors);
    // A daemon's output is its log: to be opened anew, limited and given away as any other.
    if draft.settings.log.logto.is_none() {
        draft.settings.log.logto.clone_from(&draft.settings.master_process.daemonize);
    }
    if draft.settings.log.json
        && draft.settings.log.format.is_some()
        && let Some(asked) = draft.last.get("log-json")
    {
        errors.push(asked.bad(
            format!("log-format{} gives request lines another form", at(draft, "log-format")),
            "remove one of the two",
        ));
    }
}

/// Lines for the log about options whose other half is missing.
pub(crate) fn without_effect(draft: &Draft<'_>) -> Vec<String> {
    let settings = &draft.settings;
    ADDITIONS
        .iter()
        .filter(|(_, asks, other, _)| asks(settings) && !other(settings))
        .filter_map(|(name, .., other)| {
            let asked = draft.last.get(name)?;
            Some(format!("{}: \"{}\" has no effect without {other}", asked.origin, asked.name))
        })
        .collect()
}

/// One log: loggers are other names of it.
fn loggers(draft: &mut Draft<'_>, errors: &mut Vec<ConfigError>) {
    if let Some(logger) = &draft.logger {
        if draft.last.contains_key("logto") && draft.settings.log.logto != logger.what {
            errors.push(logger.bad(
                format!("logto{} names another place, and lines go to one", at(draft, "logto")),
                "remove one of the two",
            ));
            return;
        }
        draft.settings.log.logto.clone_from(&logger.what);
    }
    for requests in &draft.request_loggers {
        if draft.settings.log.logto != requests.what {
            errors.push(requests.bad(
                "request lines go where all other lines go",
                "remove it, or name that place with logto, too; log-json and grep tell the lines apart",
            ));
        }
    }
}

fn master(draft: &Draft<'_>, errors: &mut Vec<ConfigError>) {
    if draft.settings.master {
        return;
    }
    for (name, asks) in OF_THE_MASTER {
        if asks(&draft.settings)
            && let Some(asked) = draft.last.get(name)
        {
            errors.push(asked.bad(
                format!("this needs a master, which is switched off{}", at(draft, "master")),
                "remove master = false, or this",
            ));
        }
    }
}

fn sigterm(draft: &Draft<'_>, errors: &mut Vec<ConfigError>) {
    if draft.die_on_term
        && draft.settings.master_process.sigterm_reload
        && let Some(asked) = draft.last.get("sigterm-reload")
    {
        errors.push(asked.bad(
            format!("die-on-term{} says that SIGTERM stops", at(draft, "die-on-term")),
            "remove one of the two",
        ));
    }
}

fn lifetimes(draft: &Draft<'_>, errors: &mut Vec<ConfigError>) {
    let recycling = &draft.settings.recycling;
    if recycling.max_lifetime_ms > 0
        && recycling.min_lifetime_ms >= recycling.max_lifetime_ms
        && let Some(asked) = draft.last.get("min-worker-lifetime")
    {
        errors.push(asked.bad(
            format!("not shorter than max-worker-lifetime{}", at(draft, "max-worker-lifetime")),
            "write a shorter time, or remove it",
        ));
    }
}

/// Two things in one place: the second to be made would fail, or remove the first.
fn places(draft: &Draft<'_>, errors: &mut Vec<ConfigError>) {
    let settings = &draft.settings;
    let file = |path: &Option<PathBuf>| path.clone().map(Address::Unix);
    let wanted: [(&str, Option<Address>); 6] = [
        ("pidfile", file(&settings.pidfile)),
        ("logto", file(&settings.log.logto)),
        ("daemonize", file(&settings.master_process.daemonize)),
        ("control-socket", file(&settings.status.control_socket)),
        ("stats", settings.status.stats.clone()),
        ("metrics", settings.status.metrics.clone()),
    ];
    let fifos =
        settings.master_process.fifos.iter().map(|path| ("master-fifo", Some(Address::Unix(path.clone()))));
    let mut taken: Vec<(&Address, String)> = settings
        .listeners
        .iter()
        .map(|listener| {
            (&listener.address, format!("there is a listener on this address already ({})", listener.origin))
        })
        .collect();
    let wanted: Vec<(&str, Option<Address>)> = wanted.into_iter().chain(fifos).collect();
    for (name, address) in &wanted {
        let Some(address) = address.as_ref().filter(|address| !chosen_by_kernel(address)) else { continue };
        match taken.iter().find(|(other, _)| *other == address) {
            // Lines that a daemon writes may well go where logto says.
            Some((_, reason))
                if !(*name == "daemonize" && file(&settings.log.logto).as_ref() == Some(address)) =>
            {
                if let Some(asked) = draft.last.get(name) {
                    errors
                        .push(asked.bad(reason.clone(), "write another address or path for one of the two"));
                }
            }
            Some(_) => {}
            None => taken.push((address, format!("{name}{} is there already", at(draft, name)))),
        }
    }
}

fn chosen_by_kernel(address: &Address) -> bool {
    matches!(address, Address::Tcp { port: 0, .. })
}

/// Where an option was last given, in parentheses behind a blank; nothing when it was not.
fn at(draft: &Draft<'_>, name: &str) -> String {
    draft.last.get(name).map_or_else(String::new, |asked: &Asked<()>| format!(" ({})", asked.origin))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use crate::settings::{Address, Settings};
    use crate::world::fake::FakeWorld;
    use crate::{ConfigError, Loaded, load};

    /// Loads an ini file with these lines below a listener and an application: its first line has number 4.
    fn with(lines: &[&str]) -> Result<Loaded, ConfigError> {
        let text = format!("[uwsgi]\nhttp-socket = :8000\nmodule = shop\n{}\n", lines.join("\n"));
        let world = FakeWorld::default()
            .file("x.ini", &text)
            .file("/etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/false\n")
            .file("/etc/group", "root:x:0:\nweb:x:34:\n");
        load(&[OsString::from("x.ini")], &world)
    }

    fn settings(lines: &[&str]) -> Settings {
        with(lines).unwrap().settings
    }

    /// Every line of the refusal; each names the file.
    fn refused(lines: &[&str]) -> String {
        let error = with(lines).unwrap_err();
        assert!(error.parts().iter().all(|part| part.to_string().starts_with("x.ini:")), "{error}");
        error.to_string()
    }

    /// What the start says has no effect.
    fn notices(lines: &[&str]) -> Vec<String> {
        let notices = with(lines).unwrap().notices;
        notices.into_iter().filter(|line| line.contains("no effect")).collect()
    }

    #[test]
    fn accounts() {
        let master = |lines: &[&str]| settings(lines).master_process;
        assert_eq!(master(&["uid = web", "gid = web"]).uid, Some(33));
        assert_eq!(master(&["uid = web", "gid = web"]).gid, Some(34));
        assert_eq!(master(&["uid = 4000", "gid = 0"]).uid, Some(4000));
        assert_eq!((master(&[]).uid, master(&[]).gid, master(&[]).umask), (None, None, None));
        for (line, reason) in [
            ("uid = nobody-here", "no such user"),
            ("gid = wheel", "no such group"),
            ("uid = 4294967295", "out of range"),
            ("uid = -1", "no such user"),
            ("uid =", "not a whole number"),
            ("umask = 22", "not a mode"),
            ("umask = 999", "not a mode"),
        ] {
            let error = refused(&[line]);
            assert!(error.starts_with("x.ini:4:") && error.contains(reason), "{line}: {error}");
        }
        assert_eq!(master(&["umask = 027"]).umask, Some(0o27));
        assert_eq!(master(&["umask = 0077"]).umask, Some(0o77));
    }

    #[test]
    fn stop_and_reload() {
        let given = settings(&[
            "shutdown-delay = 1.5",
            "exit-on-reload = true",
            "sigterm-reload = true",
            "touch-reload = /a",
            "touch-workers-reload = /b",
            "touch-chain-reload = /c",
            "fs-reload = /d",
            "touch-logreopen = /e",
            "master-fifo = /one",
            "master-fifo = /two",
            "control-socket = /run/x.ctl",
            "daemonize2 = /var/log/x.log",
        ]);
        let master = given.master_process;
        assert_eq!(master.shutdown_delay_ms, 1500);
        assert!(master.exit_on_reload && master.sigterm_reload);
        assert_eq!(master.touch_reload, ["/a", "/b", "/c", "/d"].map(PathBuf::from));
        assert_eq!(master.touch_logreopen, [PathBuf::from("/e")]);
        assert_eq!(master.fifos, ["/one", "/two"].map(PathBuf::from));
        assert_eq!(master.daemonize, Some(PathBuf::from("/var/log/x.log")));
        assert_eq!(given.status.control_socket, Some(PathBuf::from("/run/x.ctl")));
        for line in ["control-socket = 127.0.0.1:9000", "control-socket = @x", "control-socket = fd://3"] {
            assert!(refused(&[line]).contains("control-socket"), "{line}");
        }
        assert!(refused(&["daemonize = 10.0.0.1:514"]).contains("UDP"));
        assert!(refused(&["touch-reload ="]).contains("path of a file"));
        let fifos: Vec<String> = (0..11).map(|number| format!("master-fifo = /fifo{number}")).collect();
        let fifos: Vec<&str> = fifos.iter().map(String::as_str).collect();
        assert!(refused(&fifos).starts_with("x.ini:14:") && with(&fifos[..10]).is_ok());
    }

    #[test]
    fn sigterm_has_one_meaning() {
        let error = refused(&["die-on-term = true", "sigterm-reload = true"]);
        assert!(error.starts_with("x.ini:5:") && error.contains("die-on-term (x.ini:4)"), "{error}");
        assert!(settings(&["die-on-term = false", "sigterm-reload = true"]).master_process.sigterm_reload);
        assert!(!settings(&["die-on-term = true"]).master_process.sigterm_reload);
    }

    #[test]
    fn harakiri_and_recycling() {
        let given = settings(&[
            "harakiri = 30",
            "harakiri-verbose = true",
            "max-requests = 1000",
            "max-requests-delta = 50",
            "max-worker-lifetime = 1h",
            "max-worker-lifetime-delta = 60",
            "min-worker-lifetime = 10",
            "reload-on-rss = 512",
            "reload-on-as = 4g",
            "evil-reload-on-rss = 1024",
            "evil-reload-on-as = 8g",
        ]);
        assert_eq!((given.master_process.harakiri_ms, given.master_process.harakiri_verbose), (30_000, true));
        let it = given.recycling;
        assert_eq!((it.max_requests, it.max_requests_delta), (1000, 50));
        assert_eq!(
            (it.max_lifetime_ms, it.max_lifetime_delta_ms, it.min_lifetime_ms),
            (3_600_000, 60_000, 10_000)
        );
        assert_eq!((it.rss_bytes, it.address_space_bytes), (512 << 20, 4 << 30));
        assert_eq!((it.evil_rss_bytes, it.evil_address_space_bytes), (1 << 30, 8 << 30));
        assert_eq!(settings(&["max-requests = 10"]).recycling.min_lifetime_ms, 0);
        assert_eq!(settings(&["harakiri = 500ms", "harakiri = off"]).master_process.harakiri_ms, 0);
        for line in [
            "harakiri = 50ms",
            "harakiri = 2y",
            "harakiri = 99999999",
            "max-requests = -1",
            "reload-on-as = 2t",
        ] {
            assert!(refused(&[line]).starts_with("x.ini:4:"), "{line}");
        }
        let error = refused(&["min-worker-lifetime = 60", "max-worker-lifetime = 60"]);
        assert!(error.contains("not shorter than max-worker-lifetime (x.ini:5)"), "{error}");
    }

    #[test]
    fn timers_monitors_and_locks() {
        let given = settings(&[
            "timer = 17 0.5",
            "rbtimer = 0   2m",
            "touch-signal = /etc/my shop.conf 255",
            "fs-signal = /x 1",
            "locks = 8",
        ]);
        assert_eq!(given.signals.timers, [(17, 500), (0, 120_000)]);
        assert_eq!(given.signals.file_monitors, [(255, "/etc/my shop.conf".into()), (1, "/x".into())]);
        assert_eq!(given.signals.locks, 8);
        for line in [
            "timer = 17",
            "timer = 17 0",
            "timer = 256 1",
            "timer = 1 2 3",
            "touch-signal = /x",
            "touch-signal = /x y",
            "fs-signal = 17",
            "locks = many",
        ] {
            assert!(refused(&[line]).starts_with("x.ini:4:"), "{line}");
        }
    }

    #[test]
    fn status() {
        let given =
            settings(&["stats = :9191", "stats-http = true", "stats-min = true", "stats-no-cores = true"])
                .status;
        assert_eq!(given.stats, Some(Address::Tcp { host: "0.0.0.0".to_owned(), port: 9191 }));
        assert!(given.stats_http && given.stats_minified && given.stats_no_cores);
        let given = settings(&["stats-server = /run/x.sock", "metrics = @shop"]).status;
        assert_eq!(given.stats, Some(Address::Unix("/run/x.sock".into())));
        assert_eq!(given.metrics, Some(Address::Abstract(b"shop".to_vec())));
        assert_eq!(settings(&["stats = :1", "stats = false"]).status.stats, None);
        assert!(refused(&["metrics = 9191"]).contains(":9191"));
        assert!(refused(&["metrics = fd://5"]).contains("inherited"));
    }

    #[test]
    fn logs() {
        let log = settings(&[
            "log-format = %(addr) %(status)",
            "log-format-strftime = true",
            "log-date",
            "log-micros = true",
            "log-x-forwarded-for = true",
            "memory-report = true",
            "log-zero = true",
            "log-slow = 1500",
            "log-4xx = true",
            "log-5xx = true",
            "log-big = 1m",
            "log-sendfile = true",
            "log-ioerror = true",
            "logto = /var/log/x.log",
            "logfile-chmod = 600",
            "log-maxsize = 10m",
            "log-backupname = /var/log/x.old",
            "log-truncate = true",
            "log-reopen = true",
        ])
        .log;
        assert_eq!(log.format.as_deref(), Some("%(addr) %(status)"));
        assert_eq!(log.date.as_deref(), Some(""));
        assert_eq!((log.if_slow_ms, log.if_big, log.max_size), (Some(1500), Some(1 << 20), 10 << 20));
        assert!(log.format_strftime && log.micros && log.x_forwarded_for && log.memory_report && log.if_zero);
        assert!(
            log.if_4xx
                && log.if_5xx
                && log.if_sendfile
                && log.if_ioerror
                && log.truncate
                && log.reopen_on_reload
        );
        assert_eq!((log.file_mode, log.backup_name), (Some(0o600), Some("/var/log/x.old".into())));
        assert_eq!(settings(&["log-date = true"]).log.date.as_deref(), Some(""));
        assert_eq!(settings(&["logdate = %%H"]).log.date.as_deref(), Some("%H"));
        assert_eq!(settings(&["log-prefix = x", "log-date = false"]).log.date, None);
        assert_eq!(settings(&["log-slow = 0", "log-big = 0"]).log.if_slow_ms, None);
        assert!(settings(&["log-json = true"]).log.json);
        let error = refused(&["log-json = true", "log-format = x"]);
        assert!(error.contains("log-format (x.ini:5)"), "{error}");
        assert!(refused(&["logto = 127.0.0.1:5140"]).contains("UDP"));
        assert!(refused(&["log-date = %%H:%%"]).contains("stands for nothing"));
        assert!(refused(&["log-format ="]).contains("disable-logging"));
    }

    #[test]
    fn loggers_are_other_names_of_the_log() {
        let logto = |lines: &[&str]| settings(lines).log.logto;
        let file = Some(PathBuf::from("/l"));
        assert_eq!(logto(&["logger = file:/l"]), file);
        assert_eq!(logto(&["logger = file:/l", "req-logger = file:/l", "logto = /l"]), file);
        assert_eq!(logto(&["logto = /l", "req-logger = file:/l"]), file);
        assert_eq!(logto(&["logger = stdio", "req-logger = stdio:"]), None);
        assert!(refused(&["logger = file:/l", "logto = /m"]).contains("logto (x.ini:5)"));
        assert!(refused(&["logger = file:/l", "logger = file:/m"]).contains("logger already"));
        assert!(refused(&["logger = file:/l", "req-logger = file:/m"]).starts_with("x.ini:5:"));
        assert!(refused(&["req-logger = file:/l"]).contains("all other lines"));
        for kind in ["syslog:shop", "socket:10.0.0.1:514", "rsyslog:h,t", "pipe:cat", "app file:/l", "syslog"]
        {
            let error = refused(&[&format!("logger = {kind}")]);
            assert!(error.contains("not in this version") && error.contains("logto"), "{kind}: {error}");
        }
    }

    #[test]
    fn what_a_master_does_needs_one() {
        for line in [
            "stats = :9191",
            "metrics = :9192",
            "control-socket = /run/x",
            "master-fifo = /run/y",
            "touch-reload = /z",
            "max-requests = 5",
            "reload-on-rss = 500",
            "harakiri = 30",
            "timer = 1 1",
            "shutdown-delay = 5",
        ] {
            let error = refused(&["master = false", line]);
            assert!(
                error.starts_with("x.ini:5:") && error.contains("switched off (x.ini:4)"),
                "{line}: {error}"
            );
        }
        for line in
            ["daemonize = /l", "uid = web", "umask = 022", "locks = 4", "harakiri = 0", "stats = false"]
        {
            assert!(with(&["master = false", line]).is_ok(), "{line}");
        }
    }

    #[test]
    fn two_things_do_not_share_a_place() {
        for (one, other) in [
            ("stats = :9191", "metrics = 0.0.0.0:9191"),
            ("http-socket = /run/x", "stats = /run/x"),
            ("control-socket = /run/x", "metrics = /run/x"),
            ("pidfile = /run/x", "control-socket = /run/x"),
            ("master-fifo = /run/x", "master-fifo = /run/x"),
            ("control-socket = /run/x", "master-fifo = /run/x"),
            ("logto = /run/x", "pidfile = /run/x"),
        ] {
            assert!(refused(&[one, other]).contains("another address or path"), "{one}, {other}");
        }
        assert!(with(&["stats = 127.0.0.1:0", "metrics = 127.0.0.1:0"]).is_ok());
        assert!(with(&["daemonize = /var/log/x", "logto = /var/log/x"]).is_ok());
    }

    #[test]
    fn halves_without_their_other_half_are_said() {
        for (line, other) in [
            ("harakiri-verbose = true", "harakiri"),
            ("max-requests-delta = 5", "max-requests"),
            ("max-worker-lifetime-delta = 5", "max-worker-lifetime"),
            ("stats-min = true", "stats"),
            ("log-format-strftime = true", "log-format"),
            ("log-truncate = true", "logto"),
            ("log-backupname = /x", "log-maxsize"),
        ] {
            let said = notices(&[line]);
            assert!(
                said.len() == 1
                    && said[0].starts_with("x.ini:4: ")
                    && said[0].ends_with(&format!("without {other}")),
                "{line}: {said:?}"
            );
        }
        assert_eq!(
            notices(&["harakiri = 5", "harakiri-verbose = true", "logto = /x", "log-truncate = true"]),
            [""; 0]
        );
        assert_eq!(notices(&["logto = /x", "log-truncate = false", "stats-http = false"]), [""; 0]);
    }

    #[test]
    fn what_stays_out_is_refused_by_its_name() {
        for line in [
            "cron = 59 2 -1 -1 -1 /bin/true",
            "harakiri-graceful-timeout = 5",
            "py-autoreload = 1",
            "fs-brutal-reload = /x",
            "touch-exec = /x /bin/true",
            "touch-logrotate = /x",
            "stats-push = file:/x",
            "metric = name=x",
            "reload-on-exception = true",
            "log-syslog = true",
            "http-harakiri = 5",
            "touch-mules-reload = /x",
        ] {
            let name = line.split(' ').next().unwrap();
            assert!(refused(&[line]).starts_with(&format!("x.ini:4: option \"{name}\"")), "{line}");
        }
        assert!(refused(&["cron = 1"]).contains("uwsgi.add_cron"));
    }
}
