//! The worker: reactor, connections and cores put together. A turn becomes actions, pulled one by one.
//!
//! What happens to one connection is in `inbound.rs` (bytes to a core), `outbound.rs` (a core's bytes to the client),
//! `suspension.rs` (waits), `signals.rs` (handlers of uwsgi signals) and `accepting.rs` (listeners); here is what they share and the order in which a turn
//! looks at things.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use greenloom_proto::control::{Frames, FromWorker, ToWorker};
use greenloom_proto::http1::response::http_date;
use greenloom_reactor::{Batch, Reactor, Wake};
use greenloom_sys::clock::LocalTime;
use greenloom_sys::limits::host_name;
use greenloom_sys::listen::{self, LocalAddress};
use greenloom_sys::{clock, epoll, net, process};

use crate::accepting::Listener;
use crate::balance::Balance;
use crate::connection::{Connection, State};
use crate::cores::table::Table;
use crate::cores::watch::{Waiter, Watches};
use crate::flusher::Flusher;
use crate::handover::Handover;
use crate::helpers::Helpers;
use crate::locks::Locks;
use crate::lookout::Beacon;
use crate::native::cgi::children::Children;
use crate::native::statics::Roots;
use crate::options::WorkerOptions;
use crate::recycling::Recycler;
use crate::report::Reports;
use crate::request::Request;
use crate::request_log::RequestLog;
use crate::schedule::Schedule;
use crate::signals::Signals;
use crate::slots::{Key, Slots};
use crate::standing::Watch;
use crate::vitals::Vitals;
use crate::{Action, CoreId, Instance, Leave, Listen, Wakeup};

/// Kinds of epoll tokens and timer keys.
pub(crate) mod kind {
    pub(crate) const CONNECTION: u8 = 1;
    pub(crate) const LISTENER: u8 = 2;
    pub(crate) const WATCH: u8 = 3;
    pub(crate) const CONTROL: u8 = 4;
    pub(crate) const CORE: u8 = 5;
    pub(crate) const EXPIRY: u8 = 6;
    pub(crate) const WAKEUP: u8 = 7;
    pub(crate) const BODY: u8 = 8;
    pub(crate) const STANDING: u8 = 9;
    pub(crate) const LOCKS: u8 = 10;
    pub(crate) const TAKE: u8 = 11;
    pub(crate) const GIVE: u8 = 12;
    pub(crate) const HEARTBEAT: u8 = 13;
    pub(crate) const MEMORY: u8 = 14;
    pub(crate) const HELPERS: u8 = 15;
    pub(crate) const SCRIPT: u8 = 16;
    pub(crate) const SCRIPT_INPUT: u8 = 17;
    pub(crate) const SCRIPT_OUTPUT: u8 = 18;
    pub(crate) const CHILD: u8 = 19;
    pub(crate) const ROOTS: u8 = 20;
}

/// Bytes one receive can bring. One buffer serves all connections.
const BUFFER: usize = 64 * 1024;
/// How long turns of cores that only take turns may go on before the kernel is asked what has happened on sockets: as
/// long as the wake-up of a process takes. Asking in each turn doubles the cost of a lone switch.
const POLL_INTERVAL_NS: u64 = 20_000;
/// Connections with buffered input that one turn serves.
const READY_PER_TURN: usize = 64;
/// Request lines are written at the latest when so many bytes have gathered.
const LOG_BYTES: usize = 16 * 1024;

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Events,
    Timers,
    /// uwsgi signals that wait for their handlers.
    Signals,
    /// Connections with input that came earlier; so many are left to this turn.
    Ready(usize),
    /// Requests that wait for a core.
    Parked,
    Run,
    Over,
}

/// An action on its way to the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) action: Action,
    /// Its core's epoch at that time.
    epoch: u32,
}

/// What a worker has seen since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Requests that found all cores busy.
    pub queue_full: u64,
    /// Requests whose client left before the end of the response.
    pub clients_gone: u64,
    /// Requests that were cancelled by their deadline.
    pub deadlines: u64,
    /// Requests whose coroutine was given up because it would not end.
    pub abandoned: u64,
    /// Connections refused for bytes that do not parse or limits that do not hold.
    pub refused: u64,
    /// Wake-ups that were meant for a wait that was over.
    pub stale_wakes: u64,
    /// uwsgi signals whose handlers were run.
    pub signals: u64,
    /// Handlers of uwsgi signals that have failed.
    pub signals_failed: u64,
    /// uwsgi signals that found too many waiting and were dropped.
    pub signals_dropped: u64,
    /// Connections given to other workers.
    pub given: u64,
    /// Connections taken over from other workers.
    pub taken: u64,
    /// Connections of other workers that could not go on here.
    pub orphaned: u64,
}

/// See the crate's description.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts; the states are `Phase` and those of the parts"
)]
pub struct Worker {
    pub(crate) options: WorkerOptions,
    pub(crate) reactor: Reactor,
    embedded: bool,
    /// Another turn was asked for: see [`Self::ask_for_turn`].
    turn_asked: bool,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) connections: Slots<Connection>,
    pub(crate) cores: Table,
    pub(crate) watches: Watches,
    pub(crate) schedule: Schedule,
    pub(crate) flusher: Option<Flusher>,
    pub(crate) instance: Box<dyn Instance>,
    pub(crate) control: Option<OwnedFd>,
    /// Orders of the master that came in part.
    orders: Frames,
    /// See [`Self::watch_wakeup`].
    wakeups: Vec<Option<OwnedFd>>,
    phase: Phase,
    /// Actions decided and not pulled yet.
    pub(crate) pending: VecDeque<Decided>,
    /// Connections that have something to do although nothing happens on their socket.
    pub(crate) ready: VecDeque<Key>,
    /// Connections with a complete request, in the order in which they get cores.
    pub(crate) parked: VecDeque<Key>,
    /// Request values that no core has.
    #[expect(clippy::vec_box, reason = "they go into cores and connections as boxes, by pointer")]
    pub(crate) spare: Vec<Box<Request>>,
    /// The receive buffer.
    pub(crate) buffer: Vec<u8>,
    /// Response bytes of `holder` that have not been sent.
    pub(crate) scratch: Vec<u8>,
    pub(crate) holder: Option<CoreId>,
    /// The core whose bytes the flusher holds.
    pub(crate) flushing: Option<CoreId>,
    /// Bytes taken back from the flusher; empty but for its capacity.
    pub(crate) taken: Vec<u8>,
    woken: Vec<Waiter>,
    pub(crate) reports: Reports,
    pub(crate) signals: Signals,
    pub(crate) locks: Locks,
    pub(crate) request_log: RequestLog,
    /// Lines to be written.
    pub(crate) log: Vec<u8>,
    date: [u8; 29],
    date_at_ms: u64,
    full_logged_ms: Option<u64>,
    pub(crate) sleep_warned: bool,
    pub(crate) draining: bool,
    /// The listeners are not watched for now.
    pub(crate) accepting_paused: bool,
    /// ... and at least until then.
    pub(crate) paused_until_ms: u64,
    pub(crate) balance: Balance,
    pub(crate) handover: Option<Handover>,
    pub(crate) recycler: Recycler,
    pub(crate) orphan_logged_ms: Option<u64>,
    /// An action was handed out and its performance may have taken long.
    acted: bool,
    left: bool,
    pub(crate) counters: Counters,
    pub(crate) watch: Watch,
    pub(crate) vitals: Vitals,
    /// Threads that wait for disks, once there was work for them.
    pub(crate) helpers: Option<Helpers>,
    /// Directories of files that are served.
    pub(crate) roots: Roots,
    pub(crate) roots_armed: bool,
    /// Processes of CGI scripts.
    pub(crate) children: Children,
    /// `SERVER_NAME` where no client says it.
    pub(crate) host_name: Vec<u8>,
    /// `SERVER_PORT` of each listener; empty where there is none.
    pub(crate) ports: Vec<Vec<u8>>,
    /// See [`Self::look_out`].
    pub(crate) beacon: Option<std::sync::Arc<Beacon>>,
}

impl Worker {
    /// A worker that accepts from `listeners` and obeys `control` (see the process tree): the frames of
    /// [`greenloom_proto::control`], or its end. To be made after the last fork.
    pub fn new(
        mut options: WorkerOptions,
        listeners: Vec<Listen>,
        control: Option<OwnedFd>,
        instance: Box<dyn Instance>,
    ) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        if let Some(control) = &control {
            reactor.add(control.as_raw_fd(), epoll::IN | epoll::RDHUP, u64::from(kind::CONTROL) << 56)?;
        }
        let flusher = if options.coalesce { Some(Flusher::start()?) } else { None };
        let now = reactor.now_ms();
        let ports: Vec<_> = listeners.iter().map(port_of).collect();
        let request_log = RequestLog::new(&options, ports.clone())?;
        options.request_timeouts.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let recycler = Recycler::new(&options.recycling, options.worker_id, now);
        let mut worker = Self {
            cores: Table::new(options.cores, options.signal_cores),
            options,
            reactor,
            embedded: false,
            turn_asked: false,
            listeners: listeners.into_iter().map(Listener::new).collect(),
            connections: Slots::default(),
            watches: Watches::default(),
            schedule: Schedule::default(),
            flusher,
            instance,
            control,
            orders: Frames::default(),
            wakeups: Vec::new(),
            phase: Phase::Over,
            pending: VecDeque::new(),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            spare: Vec::new(),
            buffer: vec![0; BUFFER],
            scratch: Vec::new(),
            holder: None,
            flushing: None,
            taken: Vec::new(),
            woken: Vec::new(),
            reports: Reports::default(),
            signals: Signals::default(),
            locks: Locks::default(),
            request_log,
            log: Vec::new(),
            date: http_date(clock::unix_seconds()),
            date_at_ms: now,
            full_logged_ms: None,
            sleep_warned: false,
            draining: false,
            accepting_paused: false,
            paused_until_ms: 0,
            balance: Balance::default(),
            handover: None,
            recycler,
            orphan_logged_ms: None,
            acted: false,
            left: false,
            counters: Counters::default(),
            watch: Watch::default(),
            vitals: Vitals::default(),
            helpers: None,
            roots: Roots::default(),
            roots_armed: false,
            children: Children::default(),
            host_name: host_name().unwrap_or_default().into_bytes(),
            ports,
            beacon: None,
        };
        worker.watch_listeners()?;
        Ok(worker)
    }

    /// The descriptor a foreign loop watches for reading; call [`Self::embed`] first.
    pub fn fd(&self) -> RawFd {
        self.reactor.fd()
    }

    /// The same, borrowed.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.reactor.as_fd()
    }

    /// Makes [`Self::fd`] ready for everything a turn has to do, timers and work left over included.
    pub fn embed(&mut self) -> io::Result<()> {
        self.embedded = true;
        self.reactor.embed()
    }

    /// A handle that makes the next wait end, from any thread.
    pub fn wake_handle(&self) -> Wake {
        self.reactor.wake_handle()
    }

    /// Lets everything that arrives on `fd`, a pipe or socket, end a wait, and does nothing else with it: so a driver
    /// gets control to run the handlers of posix signals that an interpreter has noted there.
    pub fn watch_wakeup(&mut self, fd: OwnedFd) -> io::Result<()> {
        let token = u64::from(kind::WAKEUP) << 56 | self.wakeups.len() as u64;
        self.reactor.add(fd.as_raw_fd(), epoll::IN, token)?;
        self.wakeups.push(Some(fd));
        Ok(())
    }

    /// Tells the process tree that this worker accepts connections.
    pub fn announce_ready(&mut self) {
        self.tell_master(&FromWorker::Ready);
    }

    /// What has been seen since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Cores with a request.
    pub fn busy_cores(&self) -> u32 {
        self.cores.busy()
    }

    /// Whether no request and no handler of a uwsgi signal is here, running or about to.
    pub fn is_idle(&self) -> bool {
        self.cores.busy() == 0 && self.cores.busy_signals() == 0 && !self.has_handler_to_start()
    }

    /// Open connections.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Begins a turn: collects what is ready, without blocking.
    pub fn turn(&mut self) -> io::Result<()> {
        self.turn_asked = false;
        self.phase = Phase::Events;
        let polled = if self.schedule.is_empty() {
            self.reactor.poll()
        } else {
            self.reactor.poll_at_intervals(POLL_INTERVAL_NS)
        };
        self.turn_begins();
        polled.map(drop)
    }

    /// The next thing a driver has to do in this turn. `None` ends the turn.
    pub fn next_action(&mut self) -> Option<Action> {
        if std::mem::take(&mut self.acted) {
            // The application has run since the clock was last looked at.
            self.reactor.refresh_now();
            self.take_over();
        }
        loop {
            if let Some(decided) = self.pending.pop_front() {
                if self.still_holds(decided) {
                    self.acted = true;
                    self.hand_over(decided.action);
                    return Some(decided.action);
                }
                continue;
            }
            if self.left {
                // Nothing begins any more; what is cancelled comes to its end.
                let core = self.schedule.take_first(|core| self.cores[core].cancelled.is_some())?;
                self.resume_queued(core);
                continue;
            }
            match self.phase {
                Phase::Events => match self.reactor.next_event() {
                    Some(event) => self.on_event(event.token, event.mask),
                    None => {
                        if !self.accept_more() {
                            self.phase = Phase::Timers;
                        }
                    }
                },
                Phase::Timers => match self.reactor.next_expired() {
                    Some(key) => self.on_timer(key),
                    None => self.phase = Phase::Signals,
                },
                Phase::Signals => {
                    if !self.start_handler() {
                        self.phase = Phase::Ready(self.ready.len().min(READY_PER_TURN));
                    }
                }
                Phase::Ready(0) => self.phase = Phase::Parked,
                Phase::Ready(left) => {
                    self.phase = Phase::Ready(left - 1);
                    if let Some(key) = self.ready.pop_front() {
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.flags.queued = false;
                        }
                        if self.connections.get(key).is_some_and(|connection| connection.flags.writable) {
                            self.drain_output(key);
                        }
                        self.advance(key);
                        self.room_in_turn(key);
                        self.pump(key);
                    }
                }
                Phase::Parked => {
                    if !self.start_parked() {
                        self.schedule.begin_round();
                        self.phase = Phase::Run;
                    }
                }
                Phase::Run => {
                    if let Some(core) = self.schedule.next_of_round() {
                        self.resume_queued(core);
                    } else {
                        self.phase = Phase::Over;
                        self.end_turn();
                    }
                }
                Phase::Over => return None,
            }
        }
    }

    /// Has the loop that hosts this worker come back to it. Application code that such a loop has resumed runs outside of
    /// turns, and what it leaves behind (a core in the run queue, the end of a request, lines of the log) would wait for
    /// whatever happens next on a socket.
    pub(crate) fn ask_for_turn(&mut self) {
        if self.embedded && !self.turn_asked && !self.is_in_turn() {
            self.turn_asked = true;
            self.reactor.wake();
        }
    }

    /// Sends an action for a core on its way.
    pub(crate) fn decide(&mut self, core: CoreId, action: Action) {
        self.ask_for_turn();
        self.pending.push_back(Decided { action, epoch: self.cores[core].epoch });
    }

    /// Whether an action is still to be performed: the application may have gone on with that core by itself, which then
    /// waits for something else, or has ended and even made room for another request.
    fn still_holds(&mut self, decided: Decided) -> bool {
        let (Action::Start(core) | Action::Resume(core, _) | Action::Abandon(core)) = decided.action else {
            return true;
        };
        let slot = &mut self.cores[core];
        if slot.epoch != decided.epoch {
            return false;
        }
        match decided.action {
            Action::Resume(_, Wakeup::Cancelled(_)) => slot.told += 1,
            Action::Abandon(_) => self.note_abandoned(core),
            _ => {}
        }
        true
    }

    /// Whether an action for a core is on its way.
    pub(crate) fn is_decided(&self, core: CoreId) -> bool {
        let epoch = self.cores[core].epoch;
        self.pending.iter().any(|decided| {
            decided.epoch == epoch
                && matches!(decided.action,
                    Action::Start(other) | Action::Signal(other, _) | Action::Resume(other, _) | Action::Abandon(other)
                        if other == core)
        })
    }

    fn end_turn(&mut self) {
        self.give_away();
        self.flush_log();
        self.leave_accepting_to_others();
        self.let_others_come();
        let leaves = self.draining || self.makes_room();
        if leaves && !self.left && self.connections.len() == 0 && self.is_idle() {
            self.leave(Leave::Drained);
        }
        self.turn_ends();
        if self.embedded {
            if self.has_work() {
                self.turn_asked = true;
                self.reactor.wake();
            }
            // Without its timerfd an embedded worker would sleep through deadlines.
            if let Err(error) = self.reactor.settle() {
                self.log_server(&format!("timerfd: {error}"));
            }
        }
    }

    /// Whether a turn would find something to do at once: then a wait must not block.
    pub fn has_work(&self) -> bool {
        !self.schedule.is_empty()
            || !self.ready.is_empty()
            || !self.pending.is_empty()
            || (!self.parked.is_empty() && self.cores.has_free())
            || self.has_handler_to_start()
            || self.has_offers()
    }

    /// Milliseconds a wait may take at most; `None`: for ever.
    pub fn timeout_ms(&self) -> Option<u32> {
        if self.has_work() { Some(0) } else { self.reactor.timeout_ms() }
    }

    /// Takes the event buffer out, so that a driver can wait with it while it borrows nothing of the worker.
    pub fn take_batch(&mut self) -> Option<Batch> {
        self.reactor.take_batch()
    }

    /// Puts the buffer back after the wait; its events belong to the next turn.
    pub fn give_batch(&mut self, batch: Batch) {
        self.reactor.give_batch(batch);
        self.turn_begins();
    }

    fn on_event(&mut self, token: u64, mask: u32) {
        match u8::try_from(token >> 56).unwrap_or(0) {
            kind::CONNECTION => self.on_connection(Key::from_token(token), mask),
            kind::LISTENER => self.on_listener(token),
            kind::WATCH => self.on_watch(token, mask),
            kind::CONTROL => {
                self.send_reports();
                self.on_control();
            }
            kind::WAKEUP => self.on_wakeup(token),
            kind::TAKE => self.on_take(),
            kind::GIVE => self.on_give(),
            kind::HELPERS => self.on_helpers(),
            kind::SCRIPT_INPUT => self.on_script_pipe(token, false),
            kind::SCRIPT_OUTPUT => self.on_script_pipe(token, true),
            kind::CHILD => self.on_child(token),
            _ => {}
        }
    }

    fn on_timer(&mut self, key: u64) {
        match u8::try_from(key >> 56).unwrap_or(0) {
            kind::CONNECTION => self.on_connection_timer(Key::from_token(key)),
            kind::LISTENER => self.resume_accepting(),
            kind::CORE => self.on_core_timer(core_of(key)),
            kind::EXPIRY => self.on_expiry(core_of(key)),
            kind::BODY => self.on_body_timer(Key::from_token(key)),
            kind::STANDING => self.standing_is_due(),
            kind::LOCKS => self.on_lock_timer(),
            kind::GIVE => self.on_give(),
            kind::HEARTBEAT => self.on_heartbeat(),
            kind::MEMORY => self.look_at_memory(),
            kind::ROOTS => self.on_roots_timer(),
            kind::SCRIPT => self.on_script_timer(key),
            kind::CHILD => self.on_child_timer(key),
            _ => {}
        }
    }

    fn on_watch(&mut self, token: u64, mask: u32) {
        let mut woken = std::mem::take(&mut self.woken);
        if let Some(fd) = self.watches.fired(&self.reactor, kind::WATCH, token, mask, &mut woken) {
            for waiter in woken.drain(..) {
                self.wake_waiter(waiter, fd);
            }
        }
        self.woken = woken;
    }

    fn on_wakeup(&mut self, token: u64) {
        let index = usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        let Some(slot) = self.wakeups.get_mut(index) else { return };
        let Some(fd) = slot else { return };
        // One read: what is left makes the next wait end, too.
        let ended = match process::read(fd.as_fd(), &mut [0; 512]) {
            Ok(n) => n == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        if ended {
            // It would be ready for ever. Somebody may have a duplicate, so closing it is not enough.
            let _ = self.reactor.delete(fd.as_raw_fd());
            *slot = None;
        }
    }

    pub(crate) fn on_control(&mut self) {
        let Some(control) = &self.control else { return };
        let mut bytes = [0; 4096];
        match net::recv(control.as_fd(), &mut bytes) {
            Ok(net::Received::Nothing) => {}
            Ok(net::Received::Bytes(n)) => {
                self.orders.push(&bytes[..n]);
                while let Some(order) = self.orders.next_to_worker() {
                    match order {
                        ToWorker::Quit => self.leave(Leave::Ordered),
                        ToWorker::Drain => self.drain(),
                        ToWorker::HandOver => self.make_room(),
                        ToWorker::Signal(number) => self.signal_came(number),
                        ToWorker::ReopenLog => {}
                    }
                }
            }
            Ok(net::Received::End) | Err(_) => {
                self.control = None;
                self.leave(Leave::MasterGone);
            }
        }
    }

    /// Stops accepting; [`Action::Leave`] comes once all requests have ended.
    pub fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.close_listeners();
        self.take_all();
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            match connection.state {
                State::Idle => {
                    // A request may already be in the socket: one more look before the end.
                    connection.flags.readable = true;
                    self.advance(key);
                    if self.connections.get(key).is_some_and(|c| matches!(c.state, State::Idle)) {
                        self.close(key);
                    }
                }
                State::Head => self.hurry_head(key),
                _ => {}
            }
        }
    }

    /// Whether it was told to leave, and nothing begins any more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.left
    }

    fn leave(&mut self, why: Leave) {
        if !self.left {
            self.left = true;
            self.pending.push_back(Decided { action: Action::Leave(why), epoch: 0 });
        }
    }

    /// The Date field's value.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        // Twice a second is often enough for a value with whole seconds.
        let now = self.now_ms();
        if now >= self.date_at_ms + 500 {
            self.date_at_ms = now;
            self.date = http_date(clock::unix_seconds());
        }
        self.date
    }

    /// A line of the server's log, with the date in front: ctime's unless `--log-date` has a form.
    pub fn log_server(&mut self, text: &str) {
        self.ask_for_turn();
        let now = LocalTime::at(clock::unix_seconds());
        match self.options.log.date.as_deref() {
            Some(format) if !format.is_empty() => self.log.extend_from_slice(&now.strftime(format)),
            _ => self.log.extend_from_slice(now.ctime().as_bytes()),
        }
        self.log.extend_from_slice(b" - ");
        self.log.extend_from_slice(text.as_bytes());
        self.log.push(b'\n');
    }

    /// Writes the log lines if many have gathered.
    pub(crate) fn flush_full_log(&mut self) {
        if self.log.len() > LOG_BYTES {
            self.flush_log();
        }
    }

    /// Writes the log lines that have gathered; done at the end of every turn.
    pub fn flush_log(&mut self) {
        if !self.log.is_empty() {
            // Nowhere to report a broken log to.
            let _ = io::stderr().write_all(&self.log);
            self.log.clear();
        }
    }

    /// All cores are busy: says so, at most once a second.
    pub(crate) fn note_full(&mut self) {
        self.counters.queue_full += 1;
        let now = self.reactor.now_ms();
        if self.options.cores > 1 && self.full_logged_ms.is_none_or(|at| now >= at + 1000) {
            self.full_logged_ms = Some(now);
            self.log_server("[DANGER] async queue is full !!!");
        }
    }
}

/// The port of a listener in decimal; empty when it has none.
fn port_of(listener: &Listen) -> Vec<u8> {
    match listen::local_address(listener.fd.as_fd()) {
        Ok(LocalAddress::Tcp(address)) => address.port().to_string().into_bytes(),
        _ => Vec::new(),
    }
}

/// Names a core in the timer heap.
pub(crate) fn timer_key(kind: u8, core: CoreId) -> u64 {
    u64::from(kind) << 56 | u64::from(core.0)
}

fn core_of(key: u64) -> CoreId {
    CoreId(u32::try_from(key & u64::from(u32::MAX)).unwrap_or(u32::MAX))
}
