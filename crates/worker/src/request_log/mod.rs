//! The request log: which requests have a line, and what it says.
//!
//! | file | owns |
//! | --- | --- |
//! | `uwsgi_line.rs` | uWSGI's line, the one without any option |
//! | `template.rs` | lines after the user's own template (`--log-format`) |
//! | `json.rs` | lines that are JSON objects (`--log-json`) |
//! | `value.rs` | what the names in templates and objects stand for |
//! | `escape.rs` | texts of clients inside a line |
//! | `dates.rs` | local time |
//!
//! Whatever a client sends, every request is one line in ASCII of less than 4096 bytes: what a pipe takes in one piece
//! (`PIPE_BUF`), and uWSGI's bound. Where lines go is decided elsewhere: they are appended to the caller's buffer.

mod dates;
mod escape;
mod json;
#[cfg(test)]
mod samples;
mod template;
mod uwsgi_line;
mod value;

use std::io::{self, Write as _};

use greenloom_config::{LogFormat, LogSettings};
use greenloom_sys::limits::host_name;
use greenloom_sys::net::Peer;
use greenloom_sys::process::{self, Pid};

use crate::request_lines::Account;
use crate::{Cancel, Request, Source, WorkerOptions};
use dates::Dates;
use template::Template;

/// Every line is shorter, its line end included.
const LINE_BYTES: usize = 4096;
/// How long each text of a line may be, escapes counted: the first of these with which the line stays below its bound,
/// so that the longest texts are cut first.
const TEXT_BYTES: [usize; 9] = [2900, 1400, 700, 350, 170, 80, 40, 20, 0];

/// What the log can say about one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// The request itself.
    pub(crate) request: &'a Request,
    /// What its core, or its connection, has noted of it.
    pub(crate) account: &'a Account,
    /// Number of the request in the whole instance.
    pub(crate) total_requests: u64,
    /// When the request began, in microseconds since the Unix epoch.
    pub(crate) began_unix_us: u64,
    /// From the first byte of the request to the last of the response, in microseconds.
    pub(crate) elapsed_us: u64,
    /// How much of that was before the request had a core.
    pub(crate) wait_us: u64,
    /// Status of the response.
    pub(crate) status: u16,
    /// Bytes of the response's body.
    pub(crate) body_bytes: u64,
    /// Fields of the response's head.
    pub(crate) header_count: u32,
    /// Bytes of the response's head, status line and final line end included.
    pub(crate) header_bytes: u64,
}

impl Record<'_> {
    /// Whether the connection has failed the request.
    fn io_failed(&self) -> bool {
        let account = self.account;
        account.read_failed || account.write_failed || account.cancelled == Some(Cancel::ClientGone)
    }
}

/// Writes the lines of one worker.
#[derive(Debug)]
pub(crate) struct RequestLog {
    conditions: Conditions,
    form: Form,
    scene: Scene,
    x_forwarded_for: bool,
    /// Lines tell of the worker's memory.
    memory_report: bool,
    /// The address in the line; empty but for its capacity.
    addr: Vec<u8>,
}

/// What a line looks like.
#[derive(Debug)]
enum Form {
    Uwsgi,
    Template(Box<Template>),
    Json,
}

/// What lines say besides the facts of the request.
#[derive(Debug)]
struct Scene {
    pid: u32,
    worker: u32,
    /// Durations of uWSGI's line are in microseconds.
    micros: bool,
    /// As of the line that is written; `None`: not asked for.
    memory: Option<Memory>,
    dates: Dates,
    host_name: Vec<u8>,
    /// `SERVER_PORT` of each listener.
    ports: Vec<Vec<u8>>,
}

impl RequestLog {
    /// The log of a worker; to be made in its process. `ports`: the text of `SERVER_PORT` for each listener.
    ///
    /// # Errors
    /// A template that is none.
    pub(crate) fn new(options: &WorkerOptions, ports: Vec<Vec<u8>>) -> io::Result<Self> {
        let settings = &options.log;
        let form = match &settings.format {
            _ if settings.json => Form::Json,
            None => Form::Uwsgi,
            Some(format) => {
                let format = LogFormat::parse(format).map_err(io::Error::other)?;
                Form::Template(Box::new(Template::new(format, settings.format_strftime)))
            }
        };
        Ok(Self {
            conditions: Conditions::new(options.log_requests, settings),
            form,
            scene: Scene {
                pid: std::process::id(),
                worker: options.worker_id,
                micros: settings.micros,
                memory: None,
                dates: Dates::new(settings.date.clone()),
                host_name: host_name().unwrap_or_default().into_bytes(),
                ports,
            },
            x_forwarded_for: settings.x_forwarded_for,
            memory_report: settings.memory_report,
            addr: Vec::new(),
        })
    }

    /// Whether a request has a line.
    pub(crate) fn wants(&self, record: &Record<'_>) -> bool {
        self.conditions.hold(record)
    }

    /// Appends the line of a request to `out`.
    pub(crate) fn append(&mut self, out: &mut Vec<u8>, record: &Record<'_>) {
        let local = self.scene.dates.set(record.began_unix_us / 1_000_000);
        self.scene.memory = self.memory_report.then(Memory::now);
        self.addr.clear();
        let forwarded =
            self.x_forwarded_for && record.request.append_variable(b"HTTP_X_FORWARDED_FOR", &mut self.addr);
        if !forwarded {
            append_address(record.request, &mut self.addr);
        }
        let line = Line { record, addr: &self.addr, scene: &self.scene };
        match &mut self.form {
            Form::Uwsgi => uwsgi_line::append(out, &line),
            Form::Template(template) => template.append(out, &line, local),
            Form::Json => json::append(out, &line),
        }
    }
}

/// Memory of the worker's process in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    resident: u64,
    address_space: u64,
}

impl Memory {
    /// Zeros if the kernel does not say.
    fn now() -> Self {
        let (address_space, resident) = process::memory(Pid::current()).unwrap_or_default();
        Self { resident, address_space }
    }
}

/// All there is to say in one line.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    record: &'a Record<'a>,
    /// The client's address, or the whole of `X-Forwarded-For` where that is asked for.
    addr: &'a [u8],
    scene: &'a Scene,
}

fn append_address(request: &Request, out: &mut Vec<u8>) {
    match (request.source, request.peer) {
        (Source::Uwsgi, _) => out.extend_from_slice(request.var(b"REMOTE_ADDR").unwrap_or_default()),
        (Source::Http, Peer::Ip(address, _)) => {
            // Writing into memory cannot fail.
            let _ = write!(out, "{address}");
        }
        (Source::Http, Peer::Unix) => {}
    }
}

/// Which requests have a line: those for which any of these holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the user's")]
struct Conditions {
    every: bool,
    zero: bool,
    slow_ms: Option<u64>,
    of_4xx: bool,
    of_5xx: bool,
    big: Option<u64>,
    sendfile: bool,
    io_error: bool,
}

impl Conditions {
    fn new(every: bool, settings: &LogSettings) -> Self {
        Self {
            every,
            zero: settings.if_zero,
            slow_ms: settings.if_slow_ms,
            of_4xx: settings.if_4xx,
            of_5xx: settings.if_5xx,
            big: settings.if_big,
            sendfile: settings.if_sendfile,
            io_error: settings.if_ioerror,
        }
    }

    fn hold(&self, record: &Record<'_>) -> bool {
        self.every
            || (self.zero && record.body_bytes == 0)
            || self.slow_ms.is_some_and(|ms| record.elapsed_us / 1000 >= ms)
            || (self.of_4xx && record.status / 100 == 4)
            || (self.of_5xx && record.status / 100 == 5)
            || self.big.is_some_and(|bytes| record.body_bytes >= bytes)
            || (self.sendfile && record.account.sent_file)
            || (self.io_error && record.io_failed())
    }
}

/// Appends a line: what `write` appends for the first length of texts with which it is short enough.
fn append_bounded(out: &mut Vec<u8>, mut write: impl FnMut(&mut Vec<u8>, usize)) {
    let start = out.len();
    for most in TEXT_BYTES {
        out.truncate(start);
        write(out, most);
        if out.len() - start < LINE_BYTES - 1 {
            break;
        }
    }
    if out.len() - start >= LINE_BYTES - 1 {
        // What is too long without any text of a client is the user's own.
        out.truncate(start + LINE_BYTES - 2 - escape::CUT.len());
        out.extend_from_slice(escape::CUT);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use greenloom_config::Settings;

    use super::samples::Sample;
    use super::*;

    fn options(change: impl FnOnce(&mut LogSettings)) -> WorkerOptions {
        let mut settings = Settings::default();
        change(&mut settings.log);
        WorkerOptions::from_settings(&settings)
    }

    /// Whether the sample, changed, has a line under these settings.
    fn logs(change: impl FnOnce(&mut LogSettings), sample: &Sample) -> bool {
        let log = RequestLog::new(&options(change), Vec::new()).expect("good settings");
        !sample
            .line(|out, line| {
                if log.wants(line.record) {
                    out.extend_from_slice(b"it does");
                }
            })
            .is_empty()
    }

    #[test]
    fn every_request_or_those_that_a_condition_names() {
        type Change = fn(&mut LogSettings);
        let plain = Sample::default();
        let conditions: [(Change, Sample); 8] = [
            (|log| log.if_zero = true, Sample { body_bytes: 0, ..plain.clone() }),
            (|log| log.if_slow_ms = Some(1000), Sample { elapsed_us: 1_000_000, ..plain.clone() }),
            (|log| log.if_4xx = true, Sample { status: 404, ..plain.clone() }),
            (|log| log.if_5xx = true, Sample { status: 500, ..plain.clone() }),
            (|log| log.if_big = Some(6), Sample { body_bytes: 6, ..plain.clone() }),
            (|log| log.if_sendfile = true, Sample { sent_file: true, ..plain.clone() }),
            (|log| log.if_ioerror = true, Sample { failed: true, ..plain.clone() }),
            (|log| log.if_ioerror = true, Sample { cancelled: Some(Cancel::ClientGone), ..plain.clone() }),
        ];
        for (index, (condition, sample)) in conditions.iter().enumerate() {
            let only = |log: &mut LogSettings| {
                log.disable_logging = true;
                condition(log);
            };
            assert!(logs(only, sample), "{index}");
            assert!(!logs(only, &plain), "{index}");
            assert!(!logs(|log| log.disable_logging = true, sample), "{index}");
            // With all requests logged a condition takes none away.
            assert!(logs(condition, &plain), "{index}");
        }
        let slow = |log: &mut LogSettings| (log.disable_logging, log.if_slow_ms) = (true, Some(1000));
        assert!(!logs(slow, &Sample { elapsed_us: 999_999, ..plain }));
    }

    #[test]
    fn a_template_that_is_none_keeps_a_worker_from_starting() {
        let error = RequestLog::new(&options(|log| log.format = Some("%(uri".to_owned())), Vec::new());
        assert!(error.expect_err("no template").to_string().contains("has no end"));
        assert!(RequestLog::new(&options(|log| log.format = Some("%(uri)".to_owned())), Vec::new()).is_ok());
    }

    /// The whole way, from the settings to a line.
    fn line(change: impl FnOnce(&mut LogSettings), sample: &Sample) -> String {
        let mut log = RequestLog::new(&options(change), Vec::new()).expect("good settings");
        sample.line(|out, line| log.append(out, line.record))
    }

    #[test]
    fn forms_and_prefixes() {
        let mut sample = Sample::default();
        sample.set("HTTP_X_FORWARDED_FOR", b"6.6.6.6, 7.7.7.7");
        let pid = std::process::id();
        let plain = line(|_| {}, &sample);
        assert!(plain.starts_with(&format!("[pid: {pid}|app: 0|req: 1/7] 127.0.0.1 (ann) {{")), "{plain}");
        let forwarded = line(|log| log.x_forwarded_for = true, &sample);
        assert!(forwarded.contains("] 6.6.6.6, 7.7.7.7 (ann) {"), "{forwarded}");
        let direct = line(|log| log.x_forwarded_for = true, &Sample::default());
        assert!(direct.contains("] 127.0.0.1 (ann) {"), "{direct}");
        let template = line(|log| log.format = Some("%(addr) %(rss) %(wid)".to_owned()), &sample);
        assert_eq!(template, "127.0.0.1 0 1\n");
        let memory = line(|log| log.memory_report = true, &sample);
        assert!(memory.starts_with("{address space usage: "), "{memory}");
        let json = line(|log| (log.json, log.memory_report) = (true, true), &sample);
        assert!(json.starts_with("{\"ltime\":\"") && json.contains(",\"rss\":"), "{json}");
    }
}
