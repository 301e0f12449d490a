//! The request log's side of the worker: collects what there is to say about a request when it ends, and what its
//! application has said about it before. What a line looks like is `request_log/`.

use greenloom_sys::clock;

use crate::cores::table::Response;
use crate::request_log::Record;
use crate::worker::Worker;
use crate::{Cancel, CoreId, Request};

/// The status logged for a request whose client left before it had any of the answer, as nginx has it: no failure of
/// the server.
const NOBODY_LISTENS: u16 = 499;

/// What the log has to say of a request, besides the request itself and its response.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Account {
    /// Number of the app and requests started on it in this worker; `None`: no app was involved.
    pub(crate) app: Option<(u32, u64)>,
    /// What the application has set with `uwsgi.set_logvar`.
    pub(crate) logvars: Vec<(Vec<u8>, Vec<u8>)>,
    /// Yields, suspends and blocking waits.
    pub(crate) switches: u64,
    /// The core it ran on; `None`: it needed none.
    pub(crate) core: Option<u32>,
    /// When its work began, nanoseconds of the monotonic clock.
    pub(crate) taken_ns: u64,
    /// Its line is written even when they are off.
    pub(crate) log_always: bool,
    /// The body is a file.
    pub(crate) sent_file: bool,
    /// Why the request was ended before its time.
    pub(crate) cancelled: Option<Cancel>,
    /// Its coroutine would not end and was given up.
    pub(crate) abandoned: bool,
    /// The application has not made a whole response.
    pub(crate) failed: bool,
    /// Receiving its body has failed.
    pub(crate) read_failed: bool,
    /// Sending to the client has failed.
    pub(crate) write_failed: bool,
}

impl Account {
    /// The status of a response, for logs and statistics.
    pub(crate) fn logged_status(&self, response: &Response) -> u16 {
        logged_status(self.cancelled, response)
    }
}

pub(crate) fn logged_status(cancelled: Option<Cancel>, response: &Response) -> u16 {
    if cancelled == Some(Cancel::ClientGone) && !response.begun { NOBODY_LISTENS } else { response.status }
}

impl Worker {
    /// Writes the request line of a core whatever the conditions are.
    pub fn log_always(&mut self, core: CoreId) {
        self.cores[core].log_always = true;
    }

    /// Sets a variable of the request in a core for its line.
    pub fn set_logvar(&mut self, core: CoreId, name: Vec<u8>, value: Vec<u8>) {
        let logvars = &mut self.cores[core].logvars;
        match logvars.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => logvars.push((name, value)),
        }
    }

    /// A variable set by [`Self::set_logvar`].
    pub fn logvar(&self, core: CoreId, name: &[u8]) -> Option<&[u8]> {
        self.cores[core].logvars.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    /// Notes that the application of a core answers with a file, for `--log-sendfile`.
    pub fn note_file(&mut self, core: CoreId) {
        self.cores[core].sent_file = true;
    }

    /// Takes what the log has to say of the request in a core, besides the request itself and its response.
    pub(crate) fn take_account(&mut self, core: CoreId) -> Account {
        let slot = &mut self.cores[core];
        Account {
            app: slot.app,
            logvars: std::mem::take(&mut slot.logvars),
            switches: slot.switches,
            core: Some(core.0),
            taken_ns: slot.taken_ns,
            log_always: slot.log_always,
            sent_file: slot.sent_file,
            cancelled: slot.cancelled,
            abandoned: slot.abandoned,
            failed: slot.failed,
            read_failed: slot.read_failed,
            write_failed: slot.write_failed,
        }
    }

    /// Writes the line of a request that has ended, if it has one; the clock has just been looked at.
    pub(crate) fn write_request_line(&mut self, request: &Request, response: &Response, account: &Account) {
        let total_requests = self.instance.count_request();
        let elapsed_us = self.reactor.now_ns().saturating_sub(request.began_ns) / 1000;
        let record = Record {
            request,
            account,
            total_requests,
            began_unix_us: clock::unix_us().saturating_sub(elapsed_us),
            elapsed_us,
            wait_us: account.taken_ns.saturating_sub(request.began_ns) / 1000,
            status: account.logged_status(response),
            body_bytes: response.body_bytes,
            header_count: response.field_count,
            header_bytes: response.header_bytes,
        };
        if account.log_always || self.request_log.wants(&record) {
            self.request_log.append(&mut self.log, &record);
            self.flush_full_log();
        }
    }
}
