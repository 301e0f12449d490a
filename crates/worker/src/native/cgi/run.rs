//! One run of a script: the request's body goes in and the response comes out at the same time, each as fast as the other
//! side takes it.
//!
//! - **Whose time it is.** `--cgi-timeout` counts while the script is waited for: not while the client is slow to read or
//!   to send. `--request-timeout` counts from the start of the script, as for a core.
//! - **The end.** The response is complete when the script closes its output, or has ended and what it left in the pipe has
//!   been read: a process that it left behind may hold the pipe open for ever.
//! - **Before its head** a script that fails has an error page: 502, or 504 when it was silent for too long. After that the
//!   response breaks off, visibly.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use greenloom_proto::cgi::{self as proto_cgi, Parsed, ResponseHead};
use greenloom_proto::http1::response::{BodyMode, CHUNK_END, CONTINUE, LAST_CHUNK, begin, chunk_header};
use greenloom_sys::epoll;
use greenloom_sys::process;
use greenloom_sys::script::{Command, Pipes, Script};

use super::environment::Environment;
use super::find::{self, Base, Refusal};
use super::input::{Fed, Input};
use crate::connection::{After, Connection, State};
use crate::cores::table::{NEVER_MS, Response};
use crate::helpers::Done;
use crate::incoming::{BodyFailure, Incoming};
use crate::instance::NoCore;
use crate::native::answer::Handed;
use crate::native::{Native, Work};
use crate::request::Request;
use crate::request_lines::Account;
use crate::slots::{Key, Slots};
use crate::suspension::covers;
use crate::worker::{Worker, kind};

/// Reads in a row from one script: then others get their turn.
const READS: usize = 4;
/// Local redirects of one request (§6.2.2): more of them are a circle.
const REDIRECTS: u8 = 10;
/// Fields of a script's head.
const FIELDS: usize = 256;

/// A run, from the request's side.
#[derive(Debug)]
pub(crate) struct Run {
    base: Base,
    stage: Stage,
    body: Input,
    stdin: Option<Pipe>,
    stdout: Option<Pipe>,
    child: Option<Key>,
    /// Its process has ended.
    has_ended: bool,
    /// The beginning of its output, until its head is complete.
    head: Vec<u8>,
    /// Local redirects so far.
    redirects: u8,
    /// When something last went on that was up to the script; or was not.
    progress_ms: u64,
    /// Since when the client has been waited for, and how long before.
    client_since_ms: Option<u64>,
    client_waited_ms: u64,
    /// When the request's time is over, or [`NEVER_MS`].
    expires_ms: u64,
    armed_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for a place among those that run.
    Waiting,
    /// A helper finds and starts it.
    Starting,
    /// Its output is a head so far.
    Head,
    /// Its output goes to the client.
    Body,
}

#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    /// May be tried: nothing is known to the contrary.
    ready: bool,
}

/// A script that a helper has started.
#[derive(Debug)]
pub(crate) struct Started {
    script: Script,
    pipes: Pipes,
}

impl Run {
    /// Whether the client is to send: part of the body is missing, and there is room for it.
    pub(crate) fn wants_body(&self, high_water: usize) -> bool {
        self.stdin.is_some() && self.body.incoming().is_some_and(|incoming| incoming.has_room(high_water))
    }

    /// Whether the whole body has been received.
    pub(crate) fn has_whole_body(&self) -> bool {
        self.body.incoming().is_none_or(Incoming::is_received)
    }

    /// Whether the script is waited for, and not the client.
    fn waits_for_script(&self, has_room: bool) -> bool {
        has_room && self.client_since_ms.is_none()
    }
}

impl Worker {
    /// Runs the script that `base` has for a request.
    pub(in crate::native) fn run_script(
        &mut self,
        key: Key,
        mut native: Box<Native>,
        base: Base,
        redirects: u8,
    ) {
        native.what = NoCore::Script;
        let body = match (native.request.incoming.take(), std::mem::take(&mut native.request.body)) {
            (Some(_), _) if native.request.content_length.is_none() => {
                // §4.1.2: a script must be told how long its body is.
                native.request.exchange.keep_alive = false;
                native.after = After::Linger;
                let reason = "a CGI script needs a body with a Content-Length (--body-early)".to_owned();
                return self.refuse_native(key, native, 411, Some(reason));
            }
            (Some(incoming), _) => Input::coming(incoming),
            (None, body) => Input::whole(body),
        };
        let run = Run {
            base,
            stage: Stage::Waiting,
            body,
            stdin: None,
            stdout: None,
            child: None,
            has_ended: false,
            head: Vec::new(),
            redirects,
            progress_ms: 0,
            client_since_ms: None,
            client_waited_ms: 0,
            expires_ms: NEVER_MS,
            armed_ms: None,
        };
        native.work = Work::Script(Box::new(run));
        self.hold_native(key, native);
        if !self.start_waiting_script(key) {
            self.children.waiting.push_back(key);
        }
    }

    /// Starts the script of a connection, if there is a place for it; `false`: there is none, or nothing to start.
    pub(super) fn start_waiting_script(&mut self, key: Key) -> bool {
        let Some(rules) = self.options.native.as_ref().and_then(|rules| rules.cgi.clone()) else {
            return false;
        };
        let port = self.port_text(key);
        let Some((native, run)) = parts_of(&mut self.connections, key) else { return false };
        if run.stage != Stage::Waiting || !self.children.take_place(rules.settings.max_processes) {
            return false;
        }
        run.stage = Stage::Starting;
        native.account.taken_ns = self.reactor.now_ns();
        let has_input = !matches!(run.body, Input::None);
        let environment = Environment::of_request(native.request, &self.host_name, &port);
        let (base, path) = (run.base.clone(), native.request.path().to_vec());
        let query = native.request.query().to_vec();
        // §4.4
        let has_words = matches!(native.request.method(), b"GET" | b"HEAD");
        let job = move || {
            let found = find::find(&rules.settings, &base, &path, &query, has_words);
            let started = found.and_then(|target| {
                let environment = environment.complete(&rules.settings, &target);
                let command = Command {
                    program: target.program,
                    args: target.args,
                    environment,
                    directory: target.directory,
                    has_input,
                };
                let started = Script::start(&command).map(|(script, pipes)| Started { script, pipes });
                started.map_err(|error| cannot_start(&command, &error))
            });
            Done::Started(started.map(Box::new))
        };
        if let Err(error) = self.help(key, Box::new(job)) {
            let refusal = Refusal::because(503, format!("cannot start a helper thread: {error}"));
            self.script_started(key, Err(refusal));
        }
        true
    }

    /// A helper has started a script, or has not.
    pub(crate) fn script_started(&mut self, key: Key, started: Result<Box<Started>, Refusal>) {
        let now_ms = self.reactor.refresh_now();
        let started = match started {
            Ok(started) => started,
            Err(refusal) => {
                self.give_place_back();
                if let Some(native) = self.take_native(key) {
                    self.refuse_script(key, native, refusal);
                }
                return;
            }
        };
        let Started { script, pipes } = *started;
        let is_wanted = run_of(&mut self.connections, key).is_some_and(|run| run.stage == Stage::Starting);
        let child = match self.add_child(script, is_wanted.then_some(key)) {
            Ok(child) => child,
            Err(error) => return self.fail_script(key, 503, format!("cannot watch a CGI script: {error}")),
        };
        if !is_wanted {
            // The client has left meanwhile.
            return self.leave_child(child, true);
        }
        let mut watched =
            self.reactor.add(pipes.stdout.as_raw_fd(), epoll::IN | epoll::ET, key.token(kind::SCRIPT_OUTPUT));
        if let (Ok(()), Some(stdin)) = (&watched, &pipes.stdin) {
            let token = key.token(kind::SCRIPT_INPUT);
            watched = self.reactor.add(stdin.as_raw_fd(), epoll::OUT | epoll::ET, token);
        }
        let expires_ms = self.request_expires_ms(key, now_ms);
        if let Some(run) = run_of(&mut self.connections, key) {
            run.stage = Stage::Head;
            run.child = Some(child);
            run.stdin = pipes.stdin.map(|fd| Pipe { fd, ready: true });
            run.stdout = Some(Pipe { fd: pipes.stdout, ready: true });
            run.progress_ms = now_ms;
            run.expires_ms = expires_ms;
        }
        if let Err(error) = watched {
            return self.fail_script(key, 503, format!("cannot watch a CGI script: {error}"));
        }
        self.arm_script(key);
        self.pump(key);
    }

    fn request_expires_ms(&self, key: Key, now_ms: u64) -> u64 {
        let Some(State::Native(native)) = self.connections.get(key).map(|c| &c.state) else {
            return NEVER_MS;
        };
        let path = native.request.path();
        let timeout =
            self.options.request_timeouts.iter().find(|(prefix, _)| covers(prefix.as_bytes(), path));
        match timeout {
            Some(&(_, ms)) if ms > 0 => now_ms.saturating_add(ms).saturating_add(1),
            _ => NEVER_MS,
        }
    }

    /// Something happened on a pipe of a script.
    pub(crate) fn on_script_pipe(&mut self, token: u64, is_output: bool) {
        let key = Key::from_token(token);
        let Some(run) = run_of(&mut self.connections, key) else { return };
        let pipe = if is_output { &mut run.stdout } else { &mut run.stdin };
        if let Some(pipe) = pipe {
            pipe.ready = true;
        }
        self.pump(key);
    }

    /// The process of a script has ended: what it left in the pipe is the rest of its output.
    pub(super) fn script_ended(&mut self, key: Key) {
        if let Some(run) = run_of(&mut self.connections, key) {
            run.has_ended = true;
            if let Some(pipe) = &mut run.stdout {
                pipe.ready = true;
            }
        }
        self.pump(key);
    }

    /// A client sends more of a body that its script reads as it comes; how many bytes were taken.
    pub(crate) fn feed_script(&mut self, key: Key, bytes: &[u8]) -> usize {
        let (high_water, limit) = (self.options.high_water, self.options.limit_post);
        let Some(run) = run_of(&mut self.connections, key) else { return 0 };
        if !run.wants_body(high_water) {
            return 0;
        }
        let used = run.body.incoming_mut().map_or(0, |incoming| incoming.feed(bytes, high_water, limit));
        self.enqueue(key);
        used
    }

    /// The client has closed its side while part of a body was missing.
    pub(crate) fn script_body_ended(&mut self, key: Key) {
        let Some(run) = run_of(&mut self.connections, key) else { return };
        if let Some(incoming) = run.body.incoming_mut() {
            incoming.fail(BodyFailure::ClientClosed);
        }
        self.enqueue(key);
    }

    /// Moves what can be moved between a client and its script.
    pub(crate) fn pump(&mut self, key: Key) {
        if run_of(&mut self.connections, key).is_none() {
            return;
        }
        let now_ms = self.now_ms();
        self.pump_in(key, now_ms);
        self.pump_out(key, now_ms);
        // A client that has closed its side may be gone, as in `doubt_client`.
        if self.connections.get(key).is_some_and(|connection| connection.flags.ended) {
            self.doubt_client(key);
        }
    }

    fn pump_in(&mut self, key: Key, now_ms: u64) {
        let Some(run) = run_of(&mut self.connections, key) else { return };
        if run.stdin.is_some() && run.body.incoming_mut().is_some_and(Incoming::take_continue) {
            self.send_pieces(key, &[CONTINUE]);
        }
        let Some(run) = run_of(&mut self.connections, key) else { return };
        let Some(stdin) = &mut run.stdin else { return };
        let mut moved = false;
        let fed = loop {
            if !stdin.ready {
                break Fed::Script;
            }
            match run.body.feed(stdin.fd.as_fd()) {
                Ok(Some(fed)) => break fed,
                Ok(None) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stdin.ready = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It reads no more: its affair.
                Err(_) => break Fed::Over,
            }
        };
        let since = run.client_since_ms.take();
        if moved || since.is_some() {
            run.progress_ms = now_ms;
        }
        if let Some(since) = since {
            run.client_waited_ms += now_ms.saturating_sub(since);
        }
        match fed {
            Fed::Over => run.stdin = None,
            Fed::Script => {}
            Fed::Client => {
                run.client_since_ms = Some(now_ms);
                // Bytes that are here already make no event.
                if let Some(connection) = self.connections.get(key)
                    && (connection.flags.readable || !connection.unread.is_empty())
                {
                    self.enqueue(key);
                }
            }
            Fed::Failed(failure) => {
                return self.fail_script(key, failure.status(), failure.to_string());
            }
        }
        self.arm_script(key);
    }

    fn pump_out(&mut self, key: Key, now_ms: u64) {
        let Some(rules) = self.options.native.as_ref().and_then(|rules| rules.cgi.clone()) else { return };
        if self.buffer.is_empty() {
            // Somebody receives at this moment.
            return self.enqueue(key);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let most = buffer.len().min(rules.settings.buffer_bytes.max(1));
        for reads in 0.. {
            if !self.has_room(key) {
                break;
            }
            let Some(run) = run_of(&mut self.connections, key) else { break };
            let has_ended = run.has_ended;
            let Some(stdout) = run.stdout.as_mut().filter(|pipe| pipe.ready) else { break };
            if reads == READS {
                self.enqueue(key);
                break;
            }
            match process::read(stdout.fd.as_fd(), &mut buffer[..most]) {
                Ok(0) => {
                    self.output_ended(key);
                    break;
                }
                Ok(n) => {
                    run.progress_ms = now_ms;
                    self.take_output(key, &buffer[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stdout.ready = false;
                    if has_ended {
                        self.output_ended(key);
                    }
                    break;
                }
                Err(error) => {
                    self.fail_script(key, 502, format!("cannot read from a CGI script: {error}"));
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// Whether a client's output has room for more.
    fn has_room(&self, key: Key) -> bool {
        let output = self.connections.get(key).and_then(|connection| connection.output.as_ref());
        output.is_none_or(|output| !output.has_files() && output.in_memory() < self.options.high_water)
    }

    /// The client has read: the script may write again, and has had no chance to before.
    pub(crate) fn script_has_room(&mut self, key: Key) {
        let now_ms = self.now_ms();
        if let Some(run) = run_of(&mut self.connections, key) {
            run.progress_ms = now_ms;
            self.enqueue(key);
        }
    }

    fn take_output(&mut self, key: Key, bytes: &[u8]) {
        let Some(rules) = self.options.native.as_ref().and_then(|rules| rules.cgi.clone()) else { return };
        let Some(run) = run_of(&mut self.connections, key) else { return };
        if run.stage == Stage::Body {
            return self.forward(key, bytes);
        }
        run.head.extend_from_slice(bytes);
        let limits = proto_cgi::Limits { head_bytes: rules.settings.buffer_bytes, fields: FIELDS };
        let mut head = ResponseHead::default();
        match head.parse(&run.head, &limits) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete) => {
                let bytes = std::mem::take(&mut run.head);
                run.stage = Stage::Body;
                self.head_came(key, &head, &bytes);
            }
            Err(error) => self.fail_script(key, 502, format!("invalid CGI response !!! {error}")),
        }
    }

    /// The head of a script's response is complete, at the start of `bytes`.
    fn head_came(&mut self, key: Key, head: &ResponseHead, bytes: &[u8]) {
        if head.is_local_redirect(bytes) {
            let target = head.location.map(|span| span.of(bytes).to_vec()).unwrap_or_default();
            return self.redirect(key, &target);
        }
        let file_fields = self.file_fields();
        let (draining, date) = (self.draining, self.date());
        let Some((native, run)) = parts_of(&mut self.connections, key) else { return };
        let mut exchange = native.request.exchange;
        exchange.keep_alive &= !draining && run.has_whole_body();
        let status = head.status_line(bytes).to_vec();
        let mut out = Vec::new();
        let written = begin(&mut out, &exchange, &status).and_then(|mut writer| {
            if let Some(fields) = file_fields {
                writer.watch_for_files(fields);
            }
            for (name, value) in &head.fields {
                writer.field(name.of(bytes), value.of(bytes))?;
            }
            // Understood where they may be, else a front end's.
            for (name, value) in [(&b"X-Sendfile"[..], head.hand_over), (b"X-Accel-Redirect", head.accel)] {
                if let Some(value) = value {
                    writer.field(name, value.of(bytes))?;
                }
            }
            Ok(match writer.take_handed() {
                Some(handed) => Err(handed),
                None => Ok(writer.end(head.content_length, &date)),
            })
        });
        match written {
            Err(error) => self.fail_script(key, 502, format!("invalid CGI response !!! {error}")),
            Ok(Err((given, fields))) => {
                let Some((mut native, run)) = self.take_script(key) else { return };
                self.leave_run(run, false);
                native.response.keep_alive = exchange.keep_alive;
                native.after = if exchange.keep_alive { After::KeepAlive } else { After::Close };
                self.send_handed(key, native, (given, Handed { status, fields }));
            }
            Ok(Ok(framed)) => {
                *native.response = Response {
                    begun: true,
                    body: framed.body,
                    keep_alive: framed.keep_alive,
                    status: crate::outbound::code_of(&status),
                    field_count: framed.field_count,
                    header_bytes: framed.header_bytes as u64,
                    ..Response::NONE
                };
                if framed.body == BodyMode::None {
                    // Nobody gets what it still writes; it finds that out.
                    run.stdout = None;
                    self.send_pieces(key, &[&out]);
                    return self.output_ended(key);
                }
                let rest = bytes.get(head.len..).unwrap_or_default();
                // Head and first bytes leave together.
                let framed = self.frame(key, rest);
                self.send_pieces(key, &[&out, &framed.0, framed.1, framed.2]);
            }
        }
    }

    /// How bytes of the body go on the wire: what stands before them, themselves, what stands behind.
    fn frame<'a>(&mut self, key: Key, bytes: &'a [u8]) -> (Vec<u8>, &'a [u8], &'static [u8]) {
        let Some((native, _)) = parts_of(&mut self.connections, key) else { return (Vec::new(), b"", b"") };
        let response = native.response;
        let (n, mut before, mut behind): (usize, Vec<u8>, &[u8]) = (bytes.len(), Vec::new(), b"");
        let n = match &mut response.body {
            BodyMode::None => 0,
            BodyMode::UntilClose => n,
            BodyMode::Length(left) => {
                let n = n.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                n
            }
            BodyMode::Chunked => {
                chunk_header(&mut before, n);
                behind = if n > 0 { CHUNK_END } else { b"" };
                n
            }
        };
        response.body_bytes += n as u64;
        (before, &bytes[..n], behind)
    }

    fn forward(&mut self, key: Key, bytes: &[u8]) {
        let (before, bytes, behind) = self.frame(key, bytes);
        self.send_pieces(key, &[&before, bytes, behind]);
    }

    /// A script has written everything.
    fn output_ended(&mut self, key: Key) {
        let Some(run) = run_of(&mut self.connections, key) else { return };
        if run.stage != Stage::Body {
            let reason = if run.head.is_empty() {
                "invalid CGI response !!! it ended without any output".to_owned()
            } else {
                format!("invalid CGI response !!! its head has no end ({} bytes)", run.head.len())
            };
            return self.fail_script(key, 502, reason);
        }
        let Some((mut native, run)) = self.take_script(key) else { return };
        let has_whole_body = run.has_whole_body();
        self.leave_run(run, false);
        let mut last: &[u8] = b"";
        match native.response.body {
            BodyMode::Chunked => last = LAST_CHUNK,
            BodyMode::Length(left) if left > 0 => {
                native.response.keep_alive = false;
                self.log_script(&native, &format!("it ended {left} bytes before its Content-Length"));
            }
            _ => {}
        }
        native.response.complete = true;
        native.after = match (has_whole_body, native.response.keep_alive) {
            (false, _) => After::Linger,
            (true, true) => After::KeepAlive,
            (true, false) => After::Close,
        };
        self.hold_native(key, native);
        self.send_pieces(key, &[last]);
        self.native_may_be_over(key);
    }

    /// A run ends without what it was for: an error page, or the response breaks off.
    pub(crate) fn fail_script(&mut self, key: Key, status: u16, reason: String) {
        let kill = self
            .options
            .native
            .as_ref()
            .and_then(|r| r.cgi.as_ref())
            .is_none_or(|c| c.settings.kill_on_error)
            || status != 502;
        let Some((mut native, run)) = self.take_script(key) else { return };
        let has_whole_body = run.has_whole_body();
        self.leave_run(run, kill);
        if !has_whole_body {
            native.request.exchange.keep_alive = false;
        }
        if native.response.begun {
            native.account.failed = true;
            self.log_script(&native, &format!("{reason}; the response is cut off"));
            self.hold_native(key, native);
            return self.lose_client(key);
        }
        let linger = if has_whole_body { native.after } else { After::Linger };
        native.after = linger;
        native.account.failed = true;
        self.refuse_native(key, native, status, Some(reason));
    }

    /// The script that a helper looked for is none.
    fn refuse_script(&mut self, key: Key, mut native: Box<Native>, refusal: Refusal) {
        let Work::Script(run) = std::mem::replace(&mut native.work, Work::Sending) else {
            return self.hold_native(key, native);
        };
        if !run.has_whole_body() {
            native.request.exchange.keep_alive = false;
            native.after = After::Linger;
        }
        self.leave_run(run, true);
        match refusal.location {
            Some(location) => self.send_elsewhere(key, native, refusal.status, &location),
            None => self.refuse_native(key, native, refusal.status, refusal.reason),
        }
    }

    fn log_script(&mut self, native: &Native, what: &str) {
        let uri = String::from_utf8_lossy(native.request.uri()).escape_debug().to_string();
        self.log_server(&format!("CGI script of {uri}: {what}"));
    }

    fn take_script(&mut self, key: Key) -> Option<(Box<Native>, Box<Run>)> {
        let mut native = self.take_native(key)?;
        match std::mem::replace(&mut native.work, Work::Sending) {
            Work::Script(run) => Some((native, run)),
            other => {
                native.work = other;
                self.hold_native(key, native);
                None
            }
        }
    }

    /// A run is over, for its request; closes its pipes. `kill`: its process has nothing to live for.
    pub(crate) fn leave_run(&mut self, run: Box<Run>, kill: bool) {
        let child = run.child;
        drop(run);
        if let Some(child) = child {
            self.leave_child(child, kill);
        }
    }

    /// §6.2.2: the answer is what the server has at another path of its own.
    fn redirect(&mut self, key: Key, target: &[u8]) {
        let Some((mut native, run)) = self.take_script(key) else { return };
        let redirects = run.redirects + 1;
        let has_whole_body = run.has_whole_body();
        self.leave_run(run, false);
        if redirects > REDIRECTS {
            let reason =
                format!("CGI scripts redirect in a circle: {REDIRECTS} local redirects for one request");
            return self.refuse_native(key, native, 500, Some(reason));
        }
        if !has_whole_body {
            native.request.exchange.keep_alive = false;
        }
        native.request.go_to(target);
        self.dispatch(key, native.request, redirects);
    }

    /// Sees to it that a run is looked at when somebody's time is over.
    fn arm_script(&mut self, key: Key) {
        let Some(at) = self.script_due_ms(key) else { return };
        let Some(run) = run_of(&mut self.connections, key) else { return };
        if run.armed_ms.is_none_or(|armed| armed > at) {
            run.armed_ms = Some(at);
            self.reactor.arm(at, key.token(kind::SCRIPT));
        }
    }

    /// When somebody's time is over, as things are.
    fn script_due_ms(&mut self, key: Key) -> Option<u64> {
        let timeout_ms = self.options.native.as_ref()?.cgi.as_ref()?.settings.timeout_ms;
        let (body_timeout_ms, rate) = (self.options.body_timeout_ms, self.options.body_min_rate);
        let run = run_of(&mut self.connections, key)?;
        let due = match (run.client_since_ms, run.body.incoming().map_or(0, Incoming::received)) {
            (Some(since), received) => {
                let earned = received.saturating_mul(1000).checked_div(rate).unwrap_or(0);
                since.saturating_add((body_timeout_ms + earned).saturating_sub(run.client_waited_ms))
            }
            (None, _) => run.progress_ms.saturating_add(timeout_ms),
        };
        Some(due.min(run.expires_ms))
    }

    pub(crate) fn on_script_timer(&mut self, token: u64) {
        let key = Key::from_token(token);
        let now_ms = self.reactor.now_ms();
        let has_room = self.has_room(key);
        let Some(run) = run_of(&mut self.connections, key) else { return };
        if run.armed_ms.is_some_and(|armed| armed > now_ms) {
            return; // An entry that an earlier one has overtaken.
        }
        run.armed_ms = None;
        if !has_room {
            // The client's time, which has a timer of its own.
            run.progress_ms = now_ms;
        }
        let (expires_ms, waits_for_script) = (run.expires_ms, run.waits_for_script(has_room));
        if self.script_due_ms(key).is_some_and(|due| due > now_ms) {
            return self.arm_script(key);
        }
        if expires_ms <= now_ms {
            self.counters.deadlines += 1;
            if let Some((native, _)) = parts_of(&mut self.connections, key) {
                native.account.cancelled = Some(crate::Cancel::Deadline);
            }
            return self.fail_script(key, 504, "its time is over (--request-timeout)".to_owned());
        }
        if waits_for_script {
            let reason = "CGI timeout !!! it was silent for too long (--cgi-timeout)".to_owned();
            self.fail_script(key, 504, reason);
        } else {
            self.fail_script(key, BodyFailure::TooSlow.status(), BodyFailure::TooSlow.to_string());
        }
    }

    /// The number of the port that a connection came through, as text.
    fn port_text(&self, key: Key) -> Vec<u8> {
        let listener = self.connections.get(key).map_or(0, |connection| connection.listener as usize);
        match self.ports.get(listener) {
            Some(port) if !port.is_empty() => port.clone(),
            _ => b"80".to_vec(),
        }
    }
}

/// A request whose script runs, besides the run.
struct Parts<'a> {
    request: &'a mut Request,
    response: &'a mut Response,
    account: &'a mut Account,
}

fn parts_of(connections: &mut Slots<Connection>, key: Key) -> Option<(Parts<'_>, &mut Run)> {
    let State::Native(native) = &mut connections.get_mut(key)?.state else { return None };
    let Native { request, response, account, work: Work::Script(run), .. } = &mut **native else {
        return None;
    };
    Some((Parts { request, response, account }, run))
}

fn run_of(connections: &mut Slots<Connection>, key: Key) -> Option<&mut Run> {
    parts_of(connections, key).map(|(_, run)| run)
}

fn cannot_start(command: &Command, error: &io::Error) -> Refusal {
    // ENOEXEC, ENOENT: no program, or its interpreter (#!) is not there.
    let remedy = match error.raw_os_error() {
        Some(8) => "; its first line must name an interpreter, as in #!/bin/sh",
        Some(2) => "; is the interpreter that its first line names there?",
        _ => "",
    };
    Refusal::because(500, format!("cannot start {}: {error}{remedy}", command.program.display()))
}
