//! The request log's side of the worker: collects what there is to say about a request when it ends, and what its
//! application has said about it before. What a line looks like is `request_log/`.

use greenloom_sys::clock;

use crate::CoreId;
use crate::request_log::Record;
use crate::worker::Worker;

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

    /// The request of a core has ended; the clock has just been looked at.
    pub(crate) fn write_request_line(&mut self, core: CoreId) {
        let total_requests = self.instance.count_request();
        let status = self.logged_status(core);
        let slot = &self.cores[core];
        let elapsed_us = self.reactor.now_ns().saturating_sub(slot.request.began_ns) / 1000;
        let record = Record {
            request: &slot.request,
            logvars: &slot.logvars,
            app: slot.app,
            total_requests,
            began_unix_us: clock::unix_us().saturating_sub(elapsed_us),
            elapsed_us,
            wait_us: slot.taken_ns.saturating_sub(slot.request.began_ns) / 1000,
            status,
            body_bytes: slot.response.body_bytes,
            header_count: slot.response.field_count,
            header_bytes: slot.response.header_bytes,
            switches: slot.switches,
            core: core.0,
            sent_file: slot.sent_file,
            cancelled: slot.cancelled,
            abandoned: slot.abandoned,
            failed: slot.failed,
            read_failed: slot.read_failed,
            write_failed: slot.write_failed,
        };
        if slot.log_always || self.request_log.wants(&record) {
            self.request_log.append(&mut self.log, &record);
            self.flush_full_log();
        }
    }
}
