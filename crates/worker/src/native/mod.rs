//! Requests that need no core: files and CGI scripts. They are answered in the connection, by the reactor alone, whatever
//! engine runs beside it.
//!
//! | file | owns |
//! | --- | --- |
//! | `statics.rs` | which file a path means; opening it |
//! | `mime.rs` | media types by the ends of names |
//! | `answer.rs` | the response for an open file |
//! | `cgi/` | scripts |
//!
//! A request whose application has answered with a file ([`Worker::send_file`], `X-Sendfile`) ends in here, too: its core is
//! free as soon as the application has ended, and its line is written when the file has left.

pub(crate) mod answer;
pub(crate) mod cgi;
pub(crate) mod mime;
pub(crate) mod statics;

use std::fs::File;
use std::io;
use std::sync::Arc;

use greenloom_config::Settings;
use greenloom_proto::http1::response::{
    self as proto_response, BodyMode, CHUNK_END, Exchange, FileFields, Page, chunk_header, error_page,
};
use greenloom_sys::clock;
use greenloom_sys::files::{self, Patience};

use crate::connection::output::FilePart;
use crate::connection::{After, Connection, State};
use crate::cores::table::Response;
use crate::helpers::{Done, read_part};
use crate::inbound::{describe, printable};
use crate::instance::{Ended, NoCore};
use crate::request::Request;
use crate::request_lines::Account;
use crate::slots::Key;
use crate::worker::{Worker, kind};
use crate::{Cancel, CoreId, Written};
use answer::{Answer, Handed, Scene};
use cgi::run::Run;
use statics::{Found, FoundFile, Look, Roots, Statics, Wanted};

/// What of a worker's settings is about requests without a core.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(crate) statics: Arc<Statics>,
    pub(crate) cgi: Option<Arc<cgi::Rules>>,
}

impl Rules {
    /// `None`: every request is the application's.
    pub fn from_settings(settings: &Settings) -> Option<Self> {
        let statics = Statics::new(&settings.static_files, &settings.cgi)?;
        Some(Self { statics, cgi: cgi::Rules::new(&settings.cgi).map(Arc::new) })
    }
}

/// A request without a core.
#[derive(Debug)]
pub(crate) struct Native {
    pub(crate) request: Box<Request>,
    pub(crate) response: Response,
    pub(crate) account: Account,
    /// What follows its response.
    pub(crate) after: After,
    pub(crate) work: Work,
    pub(crate) what: NoCore,
}

/// A file of an application that is no larger leaves with its head in one send: cheaper than sendfile(2).
const SMALL: u64 = 16 * 1024;

/// What is being done for it.
#[derive(Debug)]
pub(crate) enum Work {
    /// A helper looks for its file: for an application that has said the rest, or after so many local redirects.
    Looking(Option<Box<Handed>>, u8),
    /// All of its response is in the connection's output.
    Sending,
    /// A script makes its response.
    Script(Box<Run>),
}

impl Native {
    fn new(request: Box<Request>, taken_ns: u64) -> Box<Self> {
        let account = Account { taken_ns, ..Account::default() };
        Box::new(Self {
            request,
            response: Response::NONE,
            account,
            after: After::Close,
            work: Work::Sending,
            what: NoCore::Nothing,
        })
    }

    /// Whether its client is to send more of a body.
    pub(crate) fn wants_body(&self, high_water: usize) -> bool {
        matches!(&self.work, Work::Script(run) if run.wants_body(high_water))
    }

    /// Whether it is a script that is waited for, with nothing more to come from the client.
    pub(crate) fn waits_for_script(&self) -> bool {
        matches!(&self.work, Work::Script(run) if run.has_whole_body())
    }
}

impl Worker {
    /// Answers a complete request without a core, or gives it back for one.
    fn without_core(&mut self, key: Key, request: Box<Request>, redirects: u8) -> Option<Box<Request>> {
        let Some(rules) = &self.options.native else { return Some(request) };
        let statics = Arc::clone(&rules.statics);
        let look = if request.incoming.is_none() { statics.look_for(&request) } else { None };
        let Some(look) = look else { return self.behind_files(key, request, redirects) };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.deadline_ms = None;
        }
        let native = Native::new(request, self.reactor.now_ns());
        let mut roots = std::mem::take(&mut self.roots);
        let mut notes = Vec::new();
        let found = statics.find(&look, &mut roots, Patience::None, self.reactor.now_ms(), &mut notes);
        self.roots = roots;
        self.arm_roots();
        match found {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.look(key, native, look, None, redirects);
            }
            Ok(Found::Nothing) => return self.behind_files(key, native.request, redirects),
            found => self.found(key, native, found, None, &notes),
        }
        None
    }

    /// Sees to it that directories which were opened are closed when nobody has asked for a while.
    fn arm_roots(&mut self) {
        if let (Some(at_ms), false) = (self.roots.old_at_ms(), self.roots_armed) {
            self.roots_armed = true;
            self.reactor.arm(at_ms, u64::from(kind::ROOTS) << 56);
        }
    }

    pub(crate) fn on_roots_timer(&mut self) {
        self.roots_armed = false;
        self.roots.forget_old(self.reactor.now_ms());
        self.arm_roots();
    }

    /// What no file is the answer to.
    fn behind_files(&mut self, key: Key, request: Box<Request>, redirects: u8) -> Option<Box<Request>> {
        let has_app = self.options.has_app;
        let scripts = self.options.native.as_ref().and_then(|rules| rules.cgi.as_ref());
        let base = scripts.and_then(|scripts| scripts.base(&request, has_app));
        if base.is_none() && has_app && request.modifier1 != cgi::MODIFIER {
            return Some(request);
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.deadline_ms = None;
        }
        let mut native = Native::new(request, self.reactor.now_ns());
        if let Some(base) = base {
            self.run_script(key, native, base, redirects);
            return None;
        }
        if native.request.incoming.take().is_some() {
            // Nobody reads what is still to come.
            native.request.exchange.keep_alive = false;
            native.after = After::Linger;
        }
        self.refuse_native(key, native, 404, None);
        None
    }

    /// Whether a request that no file is the answer to is for a script.
    pub(crate) fn is_for_script(&self, request: &Request) -> bool {
        let scripts = self.options.native.as_ref().and_then(|rules| rules.cgi.as_ref());
        scripts.is_some_and(|scripts| scripts.base(request, self.options.has_app).is_some())
    }

    /// Answers a request: without a core, or with one.
    pub(crate) fn dispatch(&mut self, key: Key, request: Box<Request>, redirects: u8) {
        if let Some(request) = self.without_core(key, request, redirects) {
            self.take_core(key, request);
        }
    }

    /// Has a helper look for a file.
    fn look(
        &mut self,
        key: Key,
        mut native: Box<Native>,
        look: Look,
        handed: Option<Box<Handed>>,
        redirects: u8,
    ) {
        let Some(statics) = self.options.native.as_ref().map(|rules| Arc::clone(&rules.statics)) else {
            return;
        };
        let job = move || {
            let (mut roots, mut notes) = (Roots::default(), Vec::new());
            let found = statics.find(&look, &mut roots, Patience::Wait, 0, &mut notes);
            Done::Looked(found, notes)
        };
        match self.help(key, Box::new(job)) {
            Ok(()) => {
                native.work = Work::Looking(handed, redirects);
                self.hold_native(key, native);
            }
            Err(error) => {
                let reason = format!("cannot start a helper thread: {error}");
                self.refuse_native(key, native, 503, Some(reason));
            }
        }
    }

    /// A helper has looked.
    pub(crate) fn looked(&mut self, key: Key, found: io::Result<Found>, notes: &[String]) {
        let Some(mut native) = self.take_native(key) else { return };
        let Work::Looking(handed, redirects) = std::mem::replace(&mut native.work, Work::Sending) else {
            return self.hold_native(key, native);
        };
        if handed.is_none() && matches!(found, Ok(Found::Nothing)) {
            self.log_notes(notes);
            if let Some(request) = self.behind_files(key, native.request, redirects) {
                self.take_core(key, request);
            }
            return;
        }
        self.found(key, native, found, handed.as_deref(), notes);
    }

    fn found(
        &mut self,
        key: Key,
        native: Box<Native>,
        found: io::Result<Found>,
        handed: Option<&Handed>,
        notes: &[String],
    ) {
        self.log_notes(notes);
        match found {
            Ok(Found::File(file)) => self.send_found(key, native, *file, handed),
            Ok(Found::Nothing) => {
                let reason = "the application hands over a file that is not there, or that it may not hand over \
                              (--x-sendfile, --x-accel-redirect)";
                self.refuse_native(key, native, 404, Some(reason.to_owned()));
            }
            Ok(Found::Refused(status, reason)) => self.refuse_native(key, native, status, Some(reason)),
            Err(error) => {
                let reason = format!("cannot look for a file: {error}");
                self.refuse_native(key, native, 500, Some(reason));
            }
        }
    }

    fn log_notes(&mut self, notes: &[String]) {
        for note in notes {
            self.log_server(&printable(note));
        }
    }

    fn send_found(&mut self, key: Key, mut native: Box<Native>, found: FoundFile, handed: Option<&Handed>) {
        let Some(rules) = self.options.native.clone() else { return };
        let mut exchange = native.request.exchange;
        exchange.keep_alive &= !self.draining;
        let date = self.date();
        let shown = found.shown();
        let scene = Scene {
            request: &native.request,
            exchange,
            types: &rules.statics.types,
            expires: &rules.statics.settings().expires,
            handed,
            date: &date,
            now_ns: clock::unix_us().saturating_mul(1000),
        };
        let Answer { status, framed, bytes, body_here, parts } = match answer::answer(&scene, found) {
            Ok(answer) => answer,
            Err(error) => {
                let reason = format!("cannot send {shown}: {error}");
                return self.refuse_native(key, native, 500, Some(reason));
            }
        };
        let in_files: u64 = parts.iter().map(|(part, behind)| part.len + behind.len() as u64).sum();
        native.response = Response {
            begun: true,
            complete: true,
            body: BodyMode::None,
            keep_alive: framed.keep_alive,
            status,
            body_bytes: body_here + in_files,
            field_count: framed.field_count,
            header_bytes: framed.header_bytes as u64,
        };
        native.what = NoCore::File;
        native.account.sent_file = native.response.body_bytes > 0;
        native.after = if framed.keep_alive { After::KeepAlive } else { After::Close };
        native.work = Work::Sending;
        self.hold_native(key, native);
        if parts.is_empty() {
            self.send_pieces(key, &[&bytes]);
        } else {
            self.send_parts(key, &bytes, parts);
        }
        self.native_may_be_over(key);
    }

    /// Answers with an error page, and says why in the log.
    fn refuse_native(&mut self, key: Key, mut native: Box<Native>, status: u16, reason: Option<String>) {
        if let Some(reason) = reason {
            let peer = describe(native.request.peer);
            let uri = String::from_utf8_lossy(native.request.uri()).escape_debug().to_string();
            self.log_server(&format!("{} (for {uri}, client {peer}, answered {status})", printable(&reason)));
        }
        let exchange = native.request.exchange;
        let keep_alive = exchange.keep_alive && !self.draining;
        let date = self.date();
        let mut page = Vec::new();
        let Page { body_bytes: body, field_count } =
            error_page(&mut page, Exchange { keep_alive, ..exchange }, status, &date);
        native.response = Response {
            begun: true,
            complete: true,
            status,
            keep_alive,
            body_bytes: body,
            header_bytes: page.len() as u64 - body,
            field_count,
            ..Response::NONE
        };
        self.send_made(key, native, &page);
    }

    /// Tells the client to come again elsewhere.
    fn send_elsewhere(&mut self, key: Key, mut native: Box<Native>, status: u16, location: &[u8]) {
        let mut exchange = native.request.exchange;
        exchange.keep_alive &= !self.draining;
        let date = self.date();
        let mut head = Vec::new();
        let written = proto_response::begin(&mut head, &exchange, status.to_string().as_bytes()).and_then(
            |mut writer| {
                writer.field(b"Location", location)?;
                writer.field(b"Content-Length", b"0")?;
                Ok(writer.end(Some(0), &date))
            },
        );
        let Ok(framed) = written else { return self.refuse_native(key, native, 404, None) };
        native.response = Response {
            begun: true,
            complete: true,
            status,
            keep_alive: framed.keep_alive,
            field_count: framed.field_count,
            header_bytes: head.len() as u64,
            ..Response::NONE
        };
        self.send_made(key, native, &head);
    }

    /// Sends a response that is complete.
    fn send_made(&mut self, key: Key, mut native: Box<Native>, bytes: &[u8]) {
        native.after = match (native.response.keep_alive, native.after) {
            (true, _) => After::KeepAlive,
            (false, After::Linger) => After::Linger,
            (false, _) => After::Close,
        };
        native.work = Work::Sending;
        self.hold_native(key, native);
        self.send_pieces(key, &[bytes]);
        self.native_may_be_over(key);
    }

    pub(crate) fn hold_native(&mut self, key: Key, native: Box<Native>) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.state = State::Native(native);
        }
    }

    pub(crate) fn take_native(&mut self, key: Key) -> Option<Box<Native>> {
        let connection = self.connections.get_mut(key)?;
        match std::mem::replace(&mut connection.state, State::Idle) {
            State::Native(native) => Some(native),
            other => {
                connection.state = other;
                None
            }
        }
    }

    /// Output has left: if that was all of a response, the request has ended.
    pub(crate) fn native_may_be_over(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        let State::Native(native) = &connection.state else { return };
        if connection.has_output() || !matches!(native.work, Work::Sending) {
            return;
        }
        let Some(native) = self.take_native(key) else { return };
        let after = native.after;
        self.end_native(*native);
        self.after_response(key, after);
    }

    /// The client has gone, or is sent away: there is no connection any more. `unsent`: bytes of the response that wait for
    /// ever now.
    pub(crate) fn native_lost(&mut self, mut native: Native, unsent: u64) {
        if let Work::Script(run) = std::mem::replace(&mut native.work, Work::Sending) {
            self.leave_run(run, true);
        }
        if !native.account.failed && native.account.cancelled.is_none() {
            native.account.cancelled = Some(Cancel::ClientGone);
            self.counters.clients_gone += 1;
        }
        native.response.body_bytes = native.response.body_bytes.saturating_sub(unsent);
        self.end_native(native);
    }

    /// Tells everybody that a request has ended.
    fn end_native(&mut self, native: Native) {
        let Native { request, response, account, what: native_what, .. } = native;
        self.reactor.refresh_now();
        let now_ns = self.reactor.now_ns();
        if account.core.is_none() {
            let ended = Ended {
                status: account.logged_status(&response),
                sent_bytes: response.header_bytes + response.body_bytes,
                us: now_ns.saturating_sub(request.began_ns) / 1000,
                switches: 0,
                write_failed: account.write_failed,
                read_failed: account.read_failed,
            };
            self.instance.ended_without_core(native_what, &ended);
        }
        self.write_request_line(&request, &response, &account);
        self.keep_spare(request);
        if account.core.is_none() {
            self.recycle_if_due();
        }
    }

    /// The worker leaves at once: nothing of these requests comes any more.
    pub(crate) fn stop_natives(&mut self) {
        self.kill_scripts();
        for key in self.connections.keys() {
            let Some(mut native) = self.take_native(key) else { continue };
            native.account.cancelled = native.account.cancelled.or(Some(Cancel::Stop));
            if native.response.begun {
                self.hold_native(key, native);
                self.lose_client(key);
                continue;
            }
            if let Work::Script(run) = std::mem::replace(&mut native.work, Work::Sending) {
                self.leave_run(run, true);
            }
            native.request.exchange.keep_alive = false;
            self.refuse_native(key, native, 503, None);
        }
    }

    /// Sends a part of a file as a part of the body of a core's response, behind what the core has written. Takes all of it
    /// at once, so whoever may write more stalls before that ([`Self::has_queued_output`]).
    pub fn send_file(&mut self, core: CoreId, file: File, offset: u64, len: u64) -> Written {
        let slot = &mut self.cores[core];
        if slot.cancelled.is_some() {
            return Written::Gone;
        }
        let has_body = slot.response.body != BodyMode::None && len > 0;
        slot.sent_file |= has_body;
        if has_body
            && len <= SMALL
            && let Some(bytes) = read_small(&file, offset, len)
        {
            // With the head, in one send.
            match self.write(core, &bytes) {
                Written::Taken(n) if n < bytes.len() => {
                    let n = n as u64;
                    return self.queue_file(core, file, offset + n, len - n);
                }
                written => return written,
            }
        }
        self.queue_file(core, file, offset, len)
    }

    fn queue_file(&mut self, core: CoreId, file: File, offset: u64, len: u64) -> Written {
        let slot = &mut self.cores[core];
        let taken = Written::Taken(usize::try_from(len).unwrap_or(usize::MAX));
        let Some(key) = slot.connection else { return if slot.detached { taken } else { Written::Gone } };
        let (fits, over) = match &mut slot.response.body {
            BodyMode::None => return taken,
            BodyMode::Length(left) => {
                let fits = len.min(*left);
                *left -= fits;
                (fits, len > fits)
            }
            BodyMode::Chunked | BodyMode::UntilClose => (len, false),
        };
        slot.response.body_bytes += fits;
        let chunked = slot.response.body == BodyMode::Chunked;
        self.flush(core);
        if fits > 0 {
            let (mut before, mut behind) = (Vec::new(), Vec::new());
            if chunked {
                chunk_header(&mut before, usize::try_from(fits).unwrap_or(usize::MAX));
                behind.extend_from_slice(CHUNK_END);
            }
            let part = FilePart { file: Arc::new(file), offset, len: fits };
            self.send_parts(key, &before, vec![(part, behind)]);
        }
        if self.cores[core].connection.is_none() {
            return Written::Gone;
        }
        if over {
            self.cut_off(core);
        }
        taken
    }

    /// Queues bytes and parts of files, and sends what the socket takes at once.
    fn send_parts(&mut self, key: Key, bytes: &[u8], parts: Vec<(FilePart, Vec<u8>)>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let waited = connection.has_output();
        let output = connection.output.get_or_insert_with(Box::default);
        let mut pushed = output.push(bytes);
        for (part, behind) in parts {
            output.push_file(part);
            pushed = pushed.and_then(|()| output.push(&behind));
        }
        if pushed.is_err() {
            // The spool file is full: what follows would be out of order.
            return self.lose_client(key);
        }
        if waited {
            return;
        }
        self.drain_output(key);
        if self.connections.get(key).is_some_and(Connection::has_output) {
            self.output_begins_to_wait(key);
        }
    }

    /// What comes next of a connection's output has to be read from a disk.
    pub(crate) fn read_ahead(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.flags.reading_disk {
            return;
        }
        let Some(part) = connection.output.as_ref().and_then(|output| output.cold()) else { return };
        connection.flags.reading_disk = true;
        if let Err(error) = self.help(key, read_part(part.clone())) {
            // Then the loop waits for the disk: better than no answer.
            self.log_server(&format!("cannot start a helper thread: {error}"));
            self.part_is_read(key, &part);
        }
    }

    /// A part of a file is in memory now.
    pub(crate) fn part_is_read(&mut self, key: Key, part: &FilePart) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.flags.reading_disk = false;
        if let Some(output) = connection.output.as_mut() {
            output.warmed(part);
        }
        // The disk's time is not the client's.
        if connection.deadline_ms.is_some() {
            let at = self.reactor.refresh_now() + self.options.write_stall_ms;
            self.set_deadline(key, Some(at));
        }
        self.drain_output(key);
    }

    /// Fields with which applications may hand files over; `None`: they may not.
    pub(crate) fn file_fields(&self) -> Option<FileFields> {
        let (sendfile, accel) = self.options.native.as_ref()?.statics.hands_over();
        (sendfile || accel).then_some(FileFields { sendfile, accel })
    }

    /// The application of a core has handed over a file, and has ended: sends the file.
    pub(crate) fn send_handed(
        &mut self,
        key: Key,
        mut native: Box<Native>,
        (given, handed): (proto_response::Handed, Handed),
    ) {
        native.request.exchange.keep_alive &= native.after == After::KeepAlive;
        let wanted = match given {
            proto_response::Handed::Sendfile(path) => Wanted::HandedPath(path),
            proto_response::Handed::Accel(name) => Wanted::HandedName(name),
        };
        native.response = Response::NONE;
        self.look(key, native, Look { wanted, accept_encoding: None }, Some(Box::new(handed)), 0);
    }
}

/// A small part of a file, if it is in memory and whole.
fn read_small(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let n = files::read_cached(file, &mut bytes, offset).ok()?;
    (n == bytes.len()).then_some(bytes)
}
