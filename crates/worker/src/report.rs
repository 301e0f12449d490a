//! What a worker tells the master: frames over its control socket, in order, without ever blocking. What the socket does
//! not take waits here.

use std::os::fd::{AsFd as _, AsRawFd as _};

use greenloom_proto::control::FromWorker;
use greenloom_sys::{epoll, net};

use crate::worker::{Worker, kind};

/// Bytes on their way to the master that have not been sent.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    unsent: Vec<u8>,
    /// The control socket is watched for room.
    waits: bool,
}

impl Worker {
    /// Sends the master a report, now or as soon as its socket takes it. Without a master nobody gets it.
    pub fn tell_master(&mut self, report: &FromWorker) {
        self.reports.unsent.extend_from_slice(&report.encode());
        self.send_reports();
    }

    /// Sends what waits for the control socket.
    pub(crate) fn send_reports(&mut self) {
        let Some(control) = &self.control else {
            self.reports.unsent.clear();
            return;
        };
        let mut sent = 0;
        while let Some(rest) = self.reports.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match net::send(control.as_fd(), rest) {
                Ok(n) if n > 0 => sent += n,
                // Full; or broken, which shows when it is read.
                Ok(_) | Err(_) => break,
            }
        }
        self.reports.unsent.drain(..sent);
        let waits = !self.reports.unsent.is_empty();
        if waits != self.reports.waits {
            self.reports.waits = waits;
            let room = if waits { epoll::OUT } else { 0 };
            // Failing leaves them to the next report.
            let _ = self.reactor.modify(
                control.as_raw_fd(),
                epoll::IN | epoll::RDHUP | room,
                u64::from(kind::CONTROL) << 56,
            );
        }
    }
}
