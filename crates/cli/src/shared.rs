//! The worker's numbers over the scoreboard: what the worker says, in the words of the process tree.
//!
//! Here because this crate knows both: a worker has never heard of a process tree, nor the tree of requests.

use std::sync::atomic::Ordering;

use greenloom_master::scoreboard::{self, CoreState, LoopState, RemoteAddress, Seat, SeatState, Sum};
use greenloom_master::{Scoreboard, Totals, WorkerContext};
use greenloom_worker::{Activity, Address, Begun, CoreId, Ended, Instance, Load, NoCore, Standing, WaitKind};

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// `None`: the process tree has none for this process, which cannot be.
    seat: Option<Seat<'static>>,
    /// Those of the other processes of the generation.
    others: Vec<Seat<'static>>,
    totals: Totals,
}

impl Shared {
    /// The numbers of the worker that `context` is for.
    pub fn new(context: &WorkerContext) -> Self {
        // For as long as the process: whoever sits there serves until its end. Looking the seat up at each call was half
        // of what the calls cost.
        let scoreboard: &'static Scoreboard = Box::leak(Box::new(context.scoreboard.clone()));
        let others = (0..scoreboard.seats()).filter(|&number| number != context.seat);
        Self {
            seat: scoreboard.seat(context.seat),
            others: others.filter_map(|number| scoreboard.seat(number)).collect(),
            totals: context.totals.clone(),
        }
    }

    /// Says which application has that number, where it is mounted and how many seconds it took to load.
    pub fn name_app(&self, app: usize, mount: &str, loading_s: u64) {
        if let Ok(app) = u32::try_from(app) {
            self.with_seat(|seat| seat.set_app(app, mount.as_bytes(), loading_s));
        }
    }

    fn with_seat(&self, then: impl FnOnce(Seat<'_>)) {
        if let Some(seat) = self.seat {
            then(seat);
        }
    }
}

impl Instance for Shared {
    fn set_busy(&self, cores: u32) {
        self.with_seat(|seat| seat.busy_cores().store(u64::from(cores), Ordering::Relaxed));
    }

    fn count_request(&self) -> u64 {
        self.totals.next_request()
    }

    fn stamp(&self, now_ms: u64, activity: Activity) {
        let state = match activity {
            Activity::Waits => LoopState::Waiting,
            Activity::Works => LoopState::Working,
            Activity::Runs(core) => LoopState::Running(core.0),
        };
        self.with_seat(|seat| seat.stamp(now_ms, state));
    }

    fn blame(&self, core: CoreId) {
        self.with_seat(|seat| seat.set_loop_state(LoopState::Running(core.0)));
    }

    fn deadline(&self, at_ms: u64) {
        self.with_seat(|seat| {
            seat.deadline_ms().store(at_ms, Ordering::Relaxed);
            seat.sets_deadlines().store(1, Ordering::Relaxed);
        });
    }

    fn stacks_printed(&self) {
        // Only this process writes there. What it has printed must have left before.
        self.with_seat(|seat| {
            seat.stacks_printed().fetch_add(1, Ordering::Release);
        });
    }

    fn began(&self, core: CoreId, begun: &Begun<'_>) {
        self.with_seat(|seat| {
            let Some(record) = seat.core(core.0) else { return };
            seat.note_core(core.0);
            let identity = &begun.identity;
            record.begin(&scoreboard::Begun {
                unix_us: begun.unix_us,
                now_ms: begun.now_ms,
                method: identity.method,
                uri: identity.uri,
                host: identity.host,
                address: match identity.address {
                    Address::None => RemoteAddress::None,
                    Address::Ip(address) => RemoteAddress::Ip(address),
                    Address::Text(text) => RemoteAddress::Text(text),
                },
            });
        });
    }

    fn suspended(&self, core: CoreId, wait: WaitKind, switches: u64) {
        let state = match wait {
            WaitKind::Turn => CoreState::Queued,
            WaitKind::Events => CoreState::Waiting,
            WaitKind::Drain => CoreState::Draining,
            WaitKind::Body => CoreState::Reading,
        };
        self.with_seat(|seat| {
            if let Some(record) = seat.core(core.0) {
                record.set_state(state, switches);
            }
        });
    }

    fn ended(&self, core: CoreId, ended: &Ended) {
        self.with_seat(|seat| {
            seat.ended(ended.status, ended.sent_bytes, ended.us, ended.switches);
            let (write, read) = (u64::from(ended.write_failed), u64::from(ended.read_failed));
            if write | read != 0 {
                seat.add(Sum::WriteErrors, write);
                seat.add(Sum::ReadErrors, read);
            }
            if let Some(record) = seat.core(core.0) {
                record.ended(write, read);
            }
        });
    }

    fn ended_without_core(&self, what: NoCore, ended: &Ended) {
        self.with_seat(|seat| {
            let what = match what {
                NoCore::File => Some(Sum::Files),
                NoCore::Script => Some(Sum::Scripts),
                NoCore::Nothing => None,
            };
            seat.ended_without_core(what, ended.status, ended.sent_bytes, ended.us);
            let (write, read) = (u64::from(ended.write_failed), u64::from(ended.read_failed));
            if write | read != 0 {
                seat.add(Sum::WriteErrors, write);
                seat.add(Sum::ReadErrors, read);
            }
        });
    }

    fn app_called(&self, app: u32, requests: u64) {
        self.with_seat(|seat| seat.set_app_requests(app, requests));
    }

    fn exception(&self, app: Option<u32>) {
        self.with_seat(|seat| seat.count_exception(app));
    }

    fn stands(&self, standing: &Standing) {
        self.with_seat(|seat| {
            seat.set_state(&SeatState {
                busy_cores: u64::from(standing.busy_cores),
                connections: u64::from(standing.connections),
                idle: u64::from(standing.idle),
                reading: u64::from(standing.reading),
                busy: u64::from(standing.busy),
                draining: u64::from(standing.draining),
                parked: u64::from(standing.parked),
                oldest_parked_ms: standing.oldest_parked_ms,
                lag_us: standing.lag_us,
                lag_at_ms: standing.now_ms,
                average_us: 0,
                accepting: u64::from(standing.accepting),
            });
            let counters = &standing.counters;
            seat.set(Sum::Accepted, counters.accepted);
            seat.set(Sum::QueueFull, counters.queue_full);
            seat.set(Sum::ClientsGone, counters.clients_gone);
            seat.set(Sum::Deadlines, counters.deadlines);
            seat.set(Sum::Abandoned, counters.abandoned);
            seat.set(Sum::Refused, counters.refused);
            seat.set(Sum::StaleWakes, counters.stale_wakes);
            seat.set(Sum::Signals, counters.signals);
            seat.set(Sum::SignalsFailed, counters.signals_failed);
            seat.set(Sum::SignalsDropped, counters.signals_dropped);
            seat.set(Sum::Given, counters.given);
            seat.set(Sum::Taken, counters.taken);
            seat.set(Sum::Orphaned, counters.orphaned);
        });
    }

    fn set_load(&self, accepts: bool, connections: u64) {
        self.with_seat(|seat| seat.set_load(accepts, connections));
    }

    fn others(&self, look: &mut dyn FnMut(Load)) {
        for seat in &self.others {
            look(if seat.is_used() { load_of(*seat) } else { Load::default() });
        }
    }
}

/// How a worker stands, as its seat says.
fn load_of(seat: Seat<'_>) -> Load {
    let (accepts, connections) = seat.load();
    Load {
        accepts: accepts && seat.pid().load(Ordering::Relaxed) != 0,
        connections,
        stamp_ms: seat.stamp_ms().load(Ordering::Relaxed),
    }
}
