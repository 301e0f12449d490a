//! harakiri: what the watchdog sees of the workers, and what becomes of its decisions.
//!
//! Owns the report: everything that is known of a blocked worker without its help comes from shared memory and from the
//! kernel, so that it is written also of a worker that is stopped, or sits in a call that never returns. Its stacks it prints
//! itself, if it can. Who is blocked is decided in `watchdog.rs`.
//!
//! [`Master::watch_workers`] belongs into every round of the loop, [`Master::watch_deadline_ms`] to what its wait
//! must not miss. A `FromWorker::Deadlines` needs nothing but the round it causes.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use greenloom_sys::clock;
use greenloom_sys::process::Pid;
use greenloom_sys::question::{self, KernelView, Question};

use crate::generations::{Generation, Worker};
use crate::lifecycle::Life;
use crate::log::say;
use crate::master::Master;
use crate::scoreboard::{CoreState, Count, LoopState, RecordView, Seat};
use crate::watchdog::{Cause, Decision, Sighting};

/// Requests that the report names at most.
const REQUESTS_NAMED: usize = 500;

impl Master<'_> {
    /// Looks at the workers, and kills those that are blocked.
    pub(crate) fn watch_workers(&mut self, now_ms: u64) {
        let seen: Vec<Sighting> = self.generations.iter().flat_map(sightings).collect();
        for decision in self.watchdog.check(now_ms, &seen) {
            let (Decision::Report { pid, .. }
            | Decision::Dump { pid }
            | Decision::Kill { pid }
            | Decision::Spare { pid }) = decision;
            let Some((generation, worker, seat)) = self.with_process(pid) else { continue };
            match decision {
                Decision::Report { cause, silent_ms, .. } => {
                    let master = &generation.settings.master_process;
                    let report = Report {
                        worker: worker.id,
                        pid,
                        cause,
                        silent_ms,
                        limit_ms: master.harakiri_ms,
                        kernel: question::kernel_view(pid),
                        verbose: master.harakiri_verbose,
                        now_unix_s: clock::unix_seconds(),
                    };
                    say!("{}", report.text(seat));
                    worker.ask(Question::Stacks);
                }
                Decision::Dump { .. } => {
                    if worker.ask(Question::Dump) {
                        say!("HARAKIRI: worker {} does not answer, the stacks of its thread:", worker.id);
                    } else {
                        say!("HARAKIRI: worker {} does not answer, and prints no stacks", worker.id);
                    }
                }
                Decision::Kill { .. } => {
                    say!("HARAKIRI: worker {} (pid: {pid}) is killed", worker.id);
                    worker.kill();
                    self.totals.count(Count::Harakiri(worker.id));
                }
                Decision::Spare { .. } => {
                    say!(
                        "HARAKIRI: the loop of worker {} (pid: {pid}) has control again, it lives",
                        worker.id
                    );
                }
            }
        }
    }

    /// When the workers have to be looked at again.
    pub(crate) fn watch_deadline_ms(&self) -> Option<u64> {
        self.watchdog.deadline_ms()
    }

    fn with_process(&self, pid: Pid) -> Option<(&Generation, &Worker, Seat<'_>)> {
        self.generations.iter().find_map(|generation| {
            let worker = &generation.workers[generation.with_pid(pid)?];
            Some((generation, worker, generation.scoreboard.seat(worker.seat)?))
        })
    }
}

/// What is seen of a generation's workers. One that loads the application may take as long as that needs, and one that was
/// told to leave at once is killed by its own deadline.
fn sightings(generation: &Generation) -> impl Iterator<Item = Sighting> + use<'_> {
    let limit_ms = generation.settings.master_process.harakiri_ms;
    generation.workers.iter().filter_map(move |worker| {
        let (Life::Accepting { process } | Life::Draining { process, .. }) = worker.lifecycle.life() else {
            return None;
        };
        let seat = generation.scoreboard.seat(worker.seat)?;
        sighting(process.pid, limit_ms, seat)
    })
}

fn sighting(pid: Pid, limit_ms: u64, seat: Seat<'_>) -> Option<Sighting> {
    if u32::try_from(pid.get()) != Ok(seat.life().pid) {
        return None;
    }
    let word = |word: &std::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
    let state = seat.loop_state();
    let runs = matches!(state, LoopState::Running(_));
    Some(Sighting {
        pid,
        limit_ms,
        stamp_ms: word(seat.stamp_ms()),
        occupied: word(seat.busy_cores()) > 0 || state != LoopState::Waiting,
        deadline_ms: if runs { word(seat.deadline_ms()) } else { 0 },
        sets_deadlines: word(seat.sets_deadlines()) > 0,
        stacks_printed: seat.stacks_printed().load(Ordering::Acquire),
    })
}

/// What is written before the worker prints its stacks.
struct Report {
    worker: u32,
    pid: Pid,
    cause: Cause,
    silent_ms: u64,
    limit_ms: u64,
    kernel: KernelView,
    verbose: bool,
    now_unix_s: u64,
}

impl Report {
    /// Many lines, without the last one's end: one write, so that nobody else's line comes in between.
    fn text(&self, seat: Seat<'_>) -> String {
        let Self { worker, pid, cause, silent_ms, limit_ms, kernel, now_unix_s, .. } = self;
        let date = clock::ctime(*now_unix_s);
        let mut text =
            format!("{date} - *** HARAKIRI ON WORKER {worker} (pid: {pid}, try: 1, graceful: no) ***\n");
        let does = match seat.loop_state() {
            LoopState::Waiting => "waited for something to happen".to_owned(),
            LoopState::Working => "worked by itself".to_owned(),
            LoopState::Running(core) if core >= seat.life().cores => {
                format!("gave control to core {core}, for a handler of a uwsgi signal,")
            }
            LoopState::Running(core) => format!("gave control to core {core}"),
        };
        let _ = write!(text, "HARAKIRI: its loop {does} {silent_ms} ms ago and has had no control since");
        match cause {
            Cause::Silence => {
                let _ = write!(text, " (harakiri: {limit_ms} ms)");
            }
            Cause::UserDeadline => text.push_str(" (the request's own deadline is over)"),
        }
        if let Some(state) = &kernel.state {
            let _ = write!(text, ", its process is {state}");
        }
        text.push('\n');
        if self.verbose {
            let unknown = String::from("the kernel does not tell");
            let _ = writeln!(text, "HARAKIRI: -- syscall> {}", kernel.syscall.as_ref().unwrap_or(&unknown));
            let _ = writeln!(text, "HARAKIRI: -- wchan> {}", kernel.wchan.as_ref().unwrap_or(&unknown));
        }
        let _ = writeln!(text, "{date} - HARAKIRI !!! worker {worker} status !!!");
        write_requests(&mut text, &date, seat);
        let _ = writeln!(text, "{date} - HARAKIRI !!! end of worker {worker} status !!!");
        let by = if *cause == Cause::UserDeadline { " (user)" } else { "" };
        let _ = match seat.loop_state() {
            LoopState::Running(core) => {
                write!(text, "{date} - HARAKIRI{by} triggered by worker {worker} core {core} !!!")
            }
            LoopState::Waiting | LoopState::Working => {
                write!(text, "{date} - HARAKIRI{by} triggered by worker {worker}, by none of its cores !!!")
            }
        };
        text
    }
}

/// A line for each request in flight, the one that has control first.
fn write_requests(text: &mut String, date: &str, seat: Seat<'_>) {
    let running = match seat.loop_state() {
        LoopState::Running(core) => Some(core),
        LoopState::Waiting | LoopState::Working => None,
    };
    let from = seat.first_used_core();
    let others = (from..).zip(seat.used_cores()).filter(|(core, _)| Some(*core) != running);
    let first = running.and_then(|core| Some((core, seat.core(core)?)));
    let mut busy = first
        .into_iter()
        .chain(others)
        .map(|(core, record)| (core, record.view()))
        .filter(|(_, view)| view.request.is_some());
    for (core, view) in busy.by_ref().take(REQUESTS_NAMED) {
        write_request(text, date, core, &view, Some(core) == running);
    }
    let more = busy.count();
    if more > 0 {
        let _ = writeln!(text, "{date} - HARAKIRI ... and {more} more");
    }
}

fn write_request(text: &mut String, date: &str, core: u32, view: &RecordView, runs: bool) {
    let Some(request) = &view.request else { return };
    // What a client sends must not look like a line of ours.
    let printable = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let does = match view.state {
        _ if runs => "has control",
        // It has not had its first turn, or its next one.
        CoreState::Running => CoreState::Queued.name(),
        state => state.name(),
    };
    let _ = writeln!(
        text,
        "{date} - HARAKIRI [core {core}] {} - {} {} since {} ({does})",
        printable(&request.address),
        printable(&request.method),
        printable(&request.uri),
        request.unix_us / 1_000_000,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::{Begun, Life as SeatLife, RemoteAddress, Scoreboard};

    fn board(cores: u32) -> Scoreboard {
        let board = Scoreboard::create(1, cores).unwrap();
        let pid = std::process::id();
        board.seat(0).unwrap().begin(&SeatLife { pid, worker: 1, cores, ..SeatLife::default() });
        board
    }

    fn begin(seat: Seat<'_>, core: u32, uri: &[u8]) {
        seat.note_core(core);
        let address = RemoteAddress::Ip("10.0.0.9".parse().unwrap());
        let (unix_us, now_ms) = (1_795_290_478_000_000, 5);
        let begun = Begun { unix_us, now_ms, method: b"GET", uri, host: b"", address };
        seat.core(core).unwrap().begin(&begun);
    }

    fn report(cause: Cause) -> Report {
        Report {
            worker: 1,
            pid: Pid::new(27002).unwrap(),
            cause,
            silent_ms: 3012,
            limit_ms: 3000,
            kernel: KernelView { state: Some("S (sleeping)".into()), ..KernelView::default() },
            verbose: false,
            now_unix_s: 1_795_290_481,
        }
    }

    #[test]
    fn the_report_names_the_guilty_core_and_all_requests() {
        let board = board(6);
        let seat = board.seat(0).unwrap();
        begin(seat, 2, b"/waits");
        seat.core(2).unwrap().set_state(CoreState::Waiting, 4);
        begin(seat, 3, b"/not\nyet");
        begin(seat, 5, b"/block?10");
        seat.stamp(7, LoopState::Running(5));
        let text = report(Cause::Silence).text(seat);
        let date = clock::ctime(1_795_290_481);
        let expected = [
            format!("{date} - *** HARAKIRI ON WORKER 1 (pid: 27002, try: 1, graceful: no) ***"),
            "HARAKIRI: its loop gave control to core 5 3012 ms ago and has had no control since \
             (harakiri: 3000 ms), its process is S (sleeping)"
                .to_owned(),
            format!("{date} - HARAKIRI !!! worker 1 status !!!"),
            format!("{date} - HARAKIRI [core 5] 10.0.0.9 - GET /block?10 since 1795290478 (has control)"),
            format!("{date} - HARAKIRI [core 2] 10.0.0.9 - GET /waits since 1795290478 (waiting)"),
            format!("{date} - HARAKIRI [core 3] 10.0.0.9 - GET /not\\nyet since 1795290478 (queued)"),
            format!("{date} - HARAKIRI !!! end of worker 1 status !!!"),
            format!("{date} - HARAKIRI triggered by worker 1 core 5 !!!"),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_report_that_no_core_is_to_blame_for() {
        let board = board(1);
        let seat = board.seat(0).unwrap();
        begin(seat, 0, b"/waits");
        seat.stamp(7, LoopState::Waiting);
        let text = Report { verbose: true, ..report(Cause::UserDeadline) }.text(seat);
        assert!(text.ends_with("HARAKIRI (user) triggered by worker 1, by none of its cores !!!"), "{text}");
        assert!(
            text.contains("HARAKIRI: -- syscall> the kernel does not tell\nHARAKIRI: -- wchan> "),
            "{text}"
        );
    }

    #[test]
    fn a_crowd_is_counted() {
        let cores = u32::try_from(REQUESTS_NAMED).unwrap() + 7;
        let board = board(cores);
        let seat = board.seat(0).unwrap();
        (0..cores).for_each(|core| begin(seat, core, b"/"));
        let mut text = String::new();
        write_requests(&mut text, "now", seat);
        assert_eq!(text.lines().count(), REQUESTS_NAMED + 1);
        assert!(text.ends_with("now - HARAKIRI ... and 7 more\n"));
    }

    #[test]
    fn what_is_seen_of_a_worker() {
        let board = board(2);
        let seat = board.seat(0).unwrap();
        let see = || sighting(Pid::current(), 500, seat).unwrap();
        assert!(!see().occupied && see().deadline_ms == 0);
        seat.deadline_ms().store(900, Ordering::Relaxed);
        seat.busy_cores().store(1, Ordering::Relaxed);
        seat.stamp(70, LoopState::Waiting);
        assert!(see().occupied && see().deadline_ms == 0 && see().stamp_ms == 70);
        seat.stamp(80, LoopState::Running(1));
        assert_eq!((see().deadline_ms, see().limit_ms), (900, 500));
        assert!(sighting(Pid::new(1).unwrap(), 500, seat).is_none(), "somebody else's seat");
    }
}
