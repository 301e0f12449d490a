//! From a core to its client: head, body, the end of a request, and what the connection does then.

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;

use greenloom_proto::http1::response::{
    BodyMode, CHUNK_END, Exchange, HeadWriter, LAST_CHUNK, Page, ResponseError, begin, chunk_header,
    error_page,
};
use greenloom_sys::net;

use crate::connection::output::{DrainError, Drained};
use crate::connection::{After, State};
use crate::cores::table::{Response, State as CoreState};
use crate::inbound::describe;
use crate::incoming::BodyFailure;
use crate::instance::NoCore;
use crate::native::answer::Handed;
use crate::native::{Native, Work};
use crate::slots::Key;
use crate::worker::Worker;
use crate::{Cancel, CoreId, Request};

/// Parts of a body up to this size are copied behind the head and leave with it; larger ones are sent from where they
/// lie.
const COPIED: usize = 16 * 1024;
/// Pieces of one send at most: what waited, the chunk's head, the bytes, the chunk's end.
const PIECES: usize = 4;

/// What became of bytes given to [`Worker::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// So many were taken. Fewer than given: the client reads slowly; stall until [`crate::Wakeup::Drained`].
    Taken(usize),
    /// The client is gone, or the request is cancelled; nothing that is written will reach the client.
    Gone,
}

/// What is wrong with a response that ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was sent: the client got an error page (504 when the request's time was over, 503 when the worker leaves).
    Answered,
    /// Part of it was sent: the connection was cut so that the client can see that it is not complete.
    Cut,
    /// The client had gone before.
    Gone,
}

impl Worker {
    /// The request in a core.
    pub fn request(&self, core: CoreId) -> &Request {
        &self.cores[core].request
    }

    /// Takes the request out of a core for a while: a driver that makes objects of it borrows nothing meanwhile.
    /// Give it back with [`Self::return_request`].
    pub fn lend_request(&mut self, core: CoreId) -> Box<Request> {
        let blank = self.spare.pop().unwrap_or_else(|| Box::new(Request::new()));
        std::mem::replace(&mut self.cores[core].request, blank)
    }

    /// Puts the request back into its core.
    pub fn return_request(&mut self, core: CoreId, request: Box<Request>) {
        let blank = std::mem::replace(&mut self.cores[core].request, request);
        self.keep_spare(blank);
    }

    /// Takes the body out of the request in a core.
    pub fn take_body(&mut self, core: CoreId) -> crate::Body {
        std::mem::take(&mut self.cores[core].request.body)
    }

    /// Says which application serves the request in a core, for the log: its number and how many requests it has had.
    pub fn set_app(&mut self, core: CoreId, app: u32, requests: u64) {
        self.cores[core].app = Some((app, requests));
        self.instance.app_called(app, requests);
    }

    /// Whether the response head of a core has been written.
    pub fn response_begun(&self, core: CoreId) -> bool {
        self.cores[core].response.begun
    }

    /// Whether nobody will get what the application of a core still makes: its response has begun and has no body on
    /// the wire (HEAD, 204, 304), or was cut off at the length it announced.
    pub fn body_is_dropped(&self, core: CoreId) -> bool {
        let response = &self.cores[core].response;
        response.begun && response.body == BodyMode::None
    }

    /// Whether the client of a core is still there, as far as is known.
    pub fn client_is_there(&self, core: CoreId) -> bool {
        self.cores[core].connection.is_some()
    }

    /// Whether nobody gets what the application of a core makes from now on: its client has left, or the request was told to
    /// end.
    pub fn nobody_reads(&self, core: CoreId) -> bool {
        self.cores[core].cancelled.is_some() || self.cores[core].connection.is_none()
    }

    /// The number of the client's socket.
    pub fn client_fd(&self, core: CoreId) -> Option<std::os::fd::RawFd> {
        use std::os::fd::AsRawFd as _;
        Some(self.connections.get(self.cores[core].connection?)?.fd.as_raw_fd())
    }

    /// Writes the response head. `status` is `200 OK` or `200`; `fields` adds the fields and must not call back;
    /// `known_length`: the length of the whole body, if known. On error nothing is written and the head may be tried
    /// again. A cancelled request has no head of the application any more: then nothing happens.
    pub fn respond(
        &mut self,
        core: CoreId,
        status: &[u8],
        known_length: Option<u64>,
        fields: impl FnOnce(&mut HeadWriter<'_>) -> Result<(), ResponseError>,
    ) -> Result<(), ResponseError> {
        if self.cores[core].cancelled.is_some() {
            return Ok(());
        }
        let mut exchange = self.cores[core].request.exchange;
        // A body that is still to come may never be read: whatever is behind it could not be found.
        exchange.keep_alive = exchange.keep_alive && !self.draining && self.body_is_complete(core);
        self.own_scratch(core);
        let date = self.date();
        let file_fields = self.file_fields();
        let mut writer = begin(&mut self.scratch, &exchange, status)?;
        if let Some(file_fields) = file_fields {
            writer.watch_for_files(file_fields);
        }
        fields(&mut writer)?;
        if file_fields.is_some()
            && let Some((given, lines)) = writer.take_handed()
        {
            let handed = Handed { status: status.to_vec(), fields: lines };
            self.cores[core].handed = Some(Box::new((given, handed)));
            self.cores[core].response = Response {
                begun: true,
                keep_alive: exchange.keep_alive,
                status: code_of(status),
                ..Response::NONE
            };
            return Ok(());
        }
        let framed = writer.end(known_length, &date);
        let response = &mut self.cores[core].response;
        response.begun = true;
        response.body = framed.body;
        response.keep_alive = framed.keep_alive;
        response.status = code_of(status);
        response.field_count = framed.field_count;
        response.header_bytes = framed.header_bytes as u64;
        Ok(())
    }

    /// Writes body bytes. Small parts wait in memory until the core suspends, ends or is flushed.
    pub fn write(&mut self, core: CoreId, bytes: &[u8]) -> Written {
        if self.cores[core].cancelled.is_some() {
            return Written::Gone;
        }
        let Some(key) = self.cores[core].connection else {
            // An application that has disconnected may go on; what it yields goes nowhere.
            return if self.cores[core].detached { Written::Taken(bytes.len()) } else { Written::Gone };
        };
        let (take, over) = match self.cores[core].response.body {
            BodyMode::None => return Written::Taken(bytes.len()),
            BodyMode::Length(left) => {
                let fits = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                (fits, bytes.len() > fits)
            }
            BodyMode::Chunked | BodyMode::UntilClose => (bytes.len(), false),
        };
        if over && take == 0 {
            self.cut_off(core);
            return Written::Taken(bytes.len());
        }
        let Some(connection) = self.connections.get(key) else { return Written::Gone };
        let waiting =
            connection.output.as_ref().map_or(0, |o| if o.has_files() { usize::MAX } else { o.in_memory() });
        let room = self.options.high_water.saturating_sub(waiting);
        let n = take.min(room);
        if n == 0 {
            return Written::Taken(0);
        }
        self.own_scratch(core);
        let chunked = self.cores[core].response.body == BodyMode::Chunked;
        if let BodyMode::Length(left) = &mut self.cores[core].response.body {
            *left -= n as u64;
        }
        self.cores[core].response.body_bytes += n as u64;
        if chunked {
            chunk_header(&mut self.scratch, n);
        }
        if n <= COPIED {
            self.scratch.extend_from_slice(&bytes[..n]);
            if chunked {
                self.scratch.extend_from_slice(CHUNK_END);
            }
        } else {
            self.send_held(core, &[&bytes[..n], if chunked { CHUNK_END } else { b"" }]);
        }
        if self.cores[core].connection.is_none() {
            return Written::Gone;
        }
        if n < take {
            return Written::Taken(n);
        }
        if over {
            self.cut_off(core);
        }
        // What is cut off an over-long body counts as taken.
        Written::Taken(bytes.len())
    }

    /// The application has made more than it announced: says so, once, and takes no more of it.
    pub(crate) fn cut_off(&mut self, core: CoreId) {
        self.warn_length(core, "more");
        self.cores[core].response.body = BodyMode::None;
    }

    /// Writes body bytes whose producer can neither be suspended nor held back: what the client does not take goes
    /// to a spool file. Everything leaves at once.
    pub fn write_through(&mut self, core: CoreId, bytes: &[u8]) -> io::Result<Written> {
        let mut written = 0;
        if self.cores[core].detached || self.cores[core].cancelled.is_some() {
            return Ok(Written::Gone);
        }
        while written < bytes.len() {
            match self.write(core, &bytes[written..]) {
                Written::Gone => return Ok(Written::Gone),
                Written::Taken(0) => break,
                Written::Taken(n) => written += n,
            }
        }
        self.flush(core);
        let rest = &bytes[written..];
        if self.cores[core].connection.is_none() {
            return Ok(Written::Gone);
        }
        if rest.is_empty() {
            return Ok(Written::Taken(bytes.len()));
        }
        let response = &mut self.cores[core].response;
        let fits = match &mut response.body {
            BodyMode::Length(left) => {
                let fits = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= fits as u64;
                fits
            }
            _ => rest.len(),
        };
        let (rest, over) = rest.split_at(fits);
        response.body_bytes += rest.len() as u64;
        let mut framed = Vec::new();
        let chunked = response.body == BodyMode::Chunked;
        if chunked {
            chunk_header(&mut framed, rest.len());
        }
        self.send_or_spool(core, &[&framed, rest, if chunked { CHUNK_END } else { b"" }])?;
        if !over.is_empty() {
            self.cut_off(core);
        }
        Ok(Written::Taken(bytes.len()))
    }

    /// Sends bytes as they are, past head and framing: from then on the application answers for what the client
    /// sees, and the end of the connection ends the response.
    pub fn write_raw(&mut self, core: CoreId, bytes: &[u8]) -> io::Result<Written> {
        if self.cores[core].cancelled.is_some() {
            return Ok(Written::Gone);
        }
        let response = &mut self.cores[core].response;
        response.begun = true;
        response.body = BodyMode::UntilClose;
        response.keep_alive = false;
        response.body_bytes += bytes.len() as u64;
        self.flush(core);
        self.send_or_spool(core, &[bytes])?;
        Ok(if self.cores[core].connection.is_some() { Written::Taken(bytes.len()) } else { Written::Gone })
    }

    /// Sends what the socket takes and spools the rest.
    fn send_or_spool(&mut self, core: CoreId, pieces: &[&[u8]]) -> io::Result<()> {
        let Some(key) = self.cores[core].connection else { return Ok(()) };
        let queued_before = self.connections.get(key).is_some_and(crate::connection::Connection::has_output);
        for piece in pieces {
            let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
            let mut rest = *piece;
            if !connection.has_output() {
                let Ok(sent) = net::send(connection.fd.as_fd(), rest) else {
                    self.write_failed(key);
                    return Ok(());
                };
                rest = &rest[sent..];
            }
            if !rest.is_empty() {
                let output = connection.output.get_or_insert_with(Box::default);
                output.push_spooled(rest, &self.options.spool_directory)?;
            }
        }
        if !queued_before && self.connections.get(key).is_some_and(crate::connection::Connection::has_output)
        {
            self.output_begins_to_wait(key);
        }
        Ok(())
    }

    /// Ends the response and the connection of a core, which goes on without a client.
    pub fn disconnect(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        if slot.response.begun && slot.response.body == BodyMode::Chunked && slot.cancelled.is_none() {
            self.own_scratch(core);
            self.scratch.extend_from_slice(LAST_CHUNK);
        }
        self.flush(core);
        let after = if self.body_is_complete(core) { After::Close } else { After::Linger };
        self.cores[core].detached = true;
        self.fail_body(core, BodyFailure::Disconnected);
        if let Some(key) = self.cores[core].connection.take() {
            self.after_response(key, after);
        }
    }

    /// Sends what a core has written. A gone client shows at the next write.
    pub fn flush(&mut self, core: CoreId) {
        self.send_held(core, &[]);
    }

    /// Makes the scratch buffer this core's.
    fn own_scratch(&mut self, core: CoreId) {
        match self.holder {
            Some(holder) if holder == core => {}
            Some(holder) => {
                self.flush(holder);
                self.holder = Some(core);
            }
            None => self.holder = Some(core),
        }
    }

    /// Sends what waits for this core (with the flusher, in the scratch buffer), then `pieces`.
    fn send_held(&mut self, core: CoreId, pieces: &[&[u8]]) {
        let mut taken = std::mem::take(&mut self.taken);
        if self.flushing == Some(core) {
            self.flushing = None;
            if let Some(flusher) = &self.flusher {
                flusher.take_back(&mut taken);
            }
        }
        let mut scratch = Vec::new();
        if self.holder == Some(core) {
            self.holder = None;
            scratch = std::mem::take(&mut self.scratch);
        }
        if let Some(key) = self.cores[core].connection {
            let mut all: [&[u8]; PIECES] = [&taken, &scratch, b"", b""];
            for (slot, piece) in all[2..].iter_mut().zip(pieces) {
                *slot = piece;
            }
            self.send_pieces(key, &all);
        }
        if scratch.capacity() > 0 {
            scratch.clear();
            self.scratch = scratch;
        }
        taken.clear();
        self.taken = taken;
    }

    /// Sends in order; what the socket does not take waits in the connection. A broken connection loses its client.
    pub(crate) fn send_pieces(&mut self, key: Key, pieces: &[&[u8]]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total == 0 {
            return;
        }
        let mut sent = 0;
        let queued_before = connection.has_output();
        if !queued_before {
            let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
            let result = if let (Some(only), None) = (filled.next(), filled.next()) {
                net::send(connection.fd.as_fd(), only)
            } else {
                let mut slices = [IoSlice::new(b""); PIECES];
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                }
                net::send_vectored(connection.fd.as_fd(), &slices)
            };
            match result {
                Ok(n) => sent = n,
                Err(_) => return self.write_failed(key),
            }
        }
        if sent == total {
            return;
        }
        let output = connection.output.get_or_insert_with(Box::default);
        let mut skip = sent;
        for piece in pieces {
            let rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            if output.push(rest).is_err() {
                // The spool file is full: what follows would be out of order.
                return self.lose_client(key);
            }
        }
        if !queued_before {
            self.output_begins_to_wait(key);
        }
    }

    /// Nothing can be sent to the client any more.
    fn write_failed(&mut self, key: Key) {
        match self.connections.get_mut(key).map(|connection| &mut connection.state) {
            Some(&mut State::Busy(core)) => self.cores[core].write_failed = true,
            Some(State::Native(native)) => native.account.write_failed = true,
            _ => {}
        }
        self.lose_client(key);
    }

    /// From now on the client has to read for the response to go on. The application may have run for long since the
    /// clock was last looked at.
    pub(crate) fn output_begins_to_wait(&mut self, key: Key) {
        self.register(key);
        let at = self.reactor.refresh_now() + self.options.write_stall_ms;
        self.set_deadline(key, Some(at));
    }

    /// The socket takes bytes again.
    pub(crate) fn drain_output(&mut self, key: Key) {
        let low_water = self.options.high_water / 2;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.flags.reading_disk {
            connection.flags.writable = true;
            return;
        }
        connection.flags.writable = false;
        let Some(output) = connection.output.as_mut() else { return };
        let drained = match output.drain(connection.fd.as_fd()) {
            Ok(drained) => drained,
            Err(DrainError::Client) => return self.write_failed(key),
            Err(DrainError::Truncated) => {
                return self.cut_output(key, "it has become shorter since it was opened");
            }
            Err(DrainError::File(error)) => return self.cut_output(key, &error.to_string()),
        };
        let empty = output.is_empty();
        let low = !output.has_files() && output.in_memory() <= low_water;
        let is_cold = matches!(drained, Drained::Cold(_));
        connection.flags.writable = is_cold || drained == Drained::MayGoOn;
        if empty {
            connection.output = None;
        }
        // In other states the timer belongs to what the client has to send.
        let in_response = matches!(connection.state, State::Busy(_) | State::Draining(_) | State::Native(_));
        if in_response && empty {
            connection.deadline_ms = None;
        } else if in_response && !matches!(drained, Drained::Nothing | Drained::Cold(false)) {
            let at = self.now_ms() + self.options.write_stall_ms;
            self.set_deadline(key, Some(at));
        }
        if drained == Drained::MayGoOn {
            self.enqueue(key);
        }
        if is_cold {
            return self.read_ahead(key);
        }
        let Some(connection) = self.connections.get(key) else { return };
        match connection.state {
            State::Busy(core) if low => self.output_drained(core),
            State::Native(ref native) if low && matches!(native.work, Work::Script(_)) => {
                self.script_has_room(key);
            }
            State::Draining(after) if empty => self.after_response(key, after),
            State::Native(_) if empty => self.native_may_be_over(key),
            _ => {}
        }
    }

    /// The rest of a response cannot be had: the client sees it break off.
    fn cut_output(&mut self, key: Key, reason: &str) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let peer = describe(connection.peer);
        match &mut connection.state {
            State::Native(native) => native.account.failed = true,
            &mut State::Busy(core) => self.cores[core].write_failed = true,
            _ => {}
        }
        self.log_server(&format!(
            "cannot send the rest of a file: {reason} (client {peer}, the connection is cut)"
        ));
        self.lose_client(key);
    }

    /// Leaves what a core has written to the flusher while the core goes on; returns how many bytes wait there.
    pub(crate) fn hold(&mut self, core: CoreId) -> usize {
        if self.holder != Some(core) || self.scratch.is_empty() {
            return 0;
        }
        // An application that switches by itself leaves a coroutine without a suspension, and its bytes in the slot.
        if let Some(other) = self.flushing.filter(|other| *other != core) {
            self.flush(other);
        }
        let Some(flusher) = &self.flusher else { return 0 };
        let Some(connection) = self.cores[core].connection.and_then(|key| self.connections.get(key)) else {
            return 0;
        };
        debug_assert!(!connection.has_output(), "bytes would overtake those that wait in the connection");
        self.flushing = Some(core);
        self.holder = None;
        flusher.hold(&connection.fd, &mut self.scratch)
    }

    /// The response is complete: sends the rest, logs, frees the core.
    pub fn finish(&mut self, core: CoreId) {
        let slot = &self.cores[core];
        // What a cancelled application has made since is missing; a body that was whole before stays so.
        let breaks_off =
            slot.cancelled.is_some() && !matches!(slot.response.body, BodyMode::None | BodyMode::Length(0));
        if !slot.response.begun || slot.detached || breaks_off {
            self.fail(core);
            return;
        }
        self.complete(core);
        self.flush(core);
        let after = if self.cores[core].response.keep_alive { After::KeepAlive } else { After::Close };
        self.end(core, after);
    }

    /// Writes the end of the response body: nothing of it comes any more. Part of [`Self::finish`]; to be called
    /// earlier, and flushed, when the application does something between its last byte and its end.
    pub fn complete(&mut self, core: CoreId) {
        if self.cores[core].cancelled.is_some() {
            return; // It may be anything but complete.
        }
        match self.cores[core].response.body {
            BodyMode::Chunked => {
                self.own_scratch(core);
                self.scratch.extend_from_slice(LAST_CHUNK);
            }
            BodyMode::Length(left) if left > 0 => {
                // The client waits for bytes that will not come: the end of the connection tells it.
                self.cores[core].response.keep_alive = false;
                if self.cores[core].connection.is_some() {
                    self.warn_length(core, "fewer");
                }
            }
            _ => {}
        }
        self.cores[core].response.body = BodyMode::None;
        self.cores[core].response.complete = true;
    }

    /// The request has failed: an error page if nothing has been sent, else the connection is cut.
    pub fn fail(&mut self, core: CoreId) -> Failure {
        let mut failure = Failure::Gone;
        let cancelled = self.cores[core].cancelled;
        // One that has sent its client away may go on and end as it likes.
        self.cores[core].failed = !self.cores[core].detached;
        let begun = self.cores[core].response.begun;
        // A head that is still in our hands can be taken back. (A part of the body may be just as long.)
        let unsent = begun
            && self.cores[core].response.body_bytes == 0
            && self.holder == Some(core)
            && self.scratch.len() as u64 == self.cores[core].response.header_bytes;
        if unsent {
            self.scratch.clear();
        }
        let unsent = unsent || self.cores[core].handed.take().is_some();
        if self.cores[core].connection.is_some() {
            failure = if begun && !unsent { Failure::Cut } else { Failure::Answered };
        }
        let mut after = After::Close;
        if failure == Failure::Answered {
            let status = match cancelled {
                Some(Cancel::Deadline) => 504,
                Some(Cancel::Stop) => 503,
                Some(Cancel::ClientGone) | None => self.body_failure(core).map_or(500, BodyFailure::status),
            };
            let exchange = self.cores[core].request.exchange;
            let keep_alive = exchange.keep_alive
                && !self.draining
                && cancelled != Some(Cancel::Stop)
                && self.body_is_complete(core);
            self.own_scratch(core);
            let date = self.date();
            let before = self.scratch.len();
            let Page { body_bytes: body, field_count } =
                error_page(&mut self.scratch, Exchange { keep_alive, ..exchange }, status, &date);
            let page = (self.scratch.len() - before) as u64;
            let response = &mut self.cores[core].response;
            response.status = status;
            response.body_bytes = body;
            response.header_bytes = page - body;
            response.field_count = field_count;
            if keep_alive {
                after = After::KeepAlive;
            }
        }
        self.flush(core);
        self.end(core, after);
        failure
    }

    fn end(&mut self, core: CoreId, after: After) {
        // The application may have run for long since the clock was last looked at.
        self.reactor.refresh_now();
        self.leave_core(core);
        self.tell_ended(core);
        let after = self.end_body(core, after);
        let connection = self.cores[core].connection;
        let handed = self.cores[core].handed.take();
        let account = self.take_account(core);
        let response = self.cores[core].response;
        let request = self.lend_request(core);
        match connection {
            Some(key) if handed.is_some() || self.sends_a_file(key) => {
                let native = Box::new(Native {
                    request,
                    response,
                    account,
                    after,
                    work: Work::Sending,
                    what: NoCore::File,
                });
                match handed {
                    Some(handed) => self.send_handed(key, native, *handed),
                    None => self.hold_native(key, native),
                }
            }
            connection => {
                self.write_request_line(&request, &response, &account);
                self.return_request(core, request);
                if let Some(key) = connection {
                    self.after_response(key, after);
                }
            }
        }
        self.cores.release(core);
        self.instance.set_busy(self.cores.busy());
        if self.accepting_paused {
            self.resume_accepting();
        }
        self.recycle_if_due();
    }

    /// What a core ran has ended: nothing of it waits for anything any more.
    pub(crate) fn leave_core(&mut self, core: CoreId) {
        self.ask_for_turn();
        self.drop_waits(core);
        self.forget_locks(core);
        if self.cores[core].state == CoreState::Queued {
            // The application has gone on with it by itself.
            self.schedule.remove(core);
        }
    }

    /// The response has been handed over: keeps the connection for the next request, or ends it.
    pub(crate) fn after_response(&mut self, key: Key, after: After) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.has_output() {
            connection.state = State::Draining(after);
            return;
        }
        match after {
            After::KeepAlive if !self.draining => {
                connection.state = State::Idle;
                connection.flags.served = true;
                let more =
                    !connection.unread.is_empty() || connection.flags.readable || connection.flags.ended;
                let at = self.now_ms() + self.options.keep_alive_ms;
                self.set_deadline(key, Some(at));
                if self.makes_room() && self.offer(key) {
                    return;
                }
                if more {
                    self.enqueue(key);
                } else {
                    self.register(key);
                }
            }
            After::Linger => self.linger(key),
            // Bytes that nobody read would turn the close into a reset.
            After::Close | After::KeepAlive if !connection.unread.is_empty() || connection.flags.readable => {
                self.linger(key);
            }
            After::Close | After::KeepAlive => self.close(key),
        }
    }

    /// Whether a part of a file waits in a connection's output.
    fn sends_a_file(&self, key: Key) -> bool {
        let output = self.connections.get(key).and_then(|connection| connection.output.as_ref());
        output.is_some_and(|output| output.unsent_file_bytes() > 0)
    }

    fn warn_length(&mut self, core: CoreId, how: &str) {
        let request = &self.cores[core].request;
        let uri = String::from_utf8_lossy(request.uri()).escape_debug().to_string();
        self.log_server(&format!(
            "the application sends {how} bytes than its Content-Length announces for {uri}; the response is cut off"
        ));
    }
}

/// The number of a status with its reason.
pub(crate) fn code_of(status: &[u8]) -> u16 {
    status.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(500)
}
