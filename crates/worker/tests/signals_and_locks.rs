//! uwsgi signals and user locks: handlers in signal cores, whoever waits for a signal, cores that wait for a lock; through
//! the toy driver.

#[cfg(test)]
mod toy;

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use greenloom_worker::config::{Protocol, Settings};
    use greenloom_worker::proto::control::{Frames, FromWorker, ToWorker};
    use greenloom_worker::{
        Action, Alone, Cancel, CoreId, Doing, Leave, Listen, Locked, UserLocks, Wakeup, Worker, WorkerOptions,
    };

    use proptest::prelude::*;

    use crate::toy::{Step, connect, count, drive, hello, received};

    /// A worker with two cores, and the master's end of its control socket.
    fn obedient(signal_cores: u32) -> (Worker, SocketAddr, UnixStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (control, master) = UnixStream::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        let options = WorkerOptions {
            cores: 2,
            signal_cores,
            log_requests: false,
            ..WorkerOptions::from_settings(&Settings::default())
        };
        let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Http };
        let worker =
            Worker::new(options, vec![listen], Some(control.into()), Box::new(Alone::default())).unwrap();
        (worker, address, master)
    }

    fn raise(master: &mut UnixStream, number: u8) {
        master.write_all(&ToWorker::Signal(number).encode()).unwrap();
    }

    fn get(address: SocketAddr, path: &str) -> TcpStream {
        let mut client = connect(address);
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        client
    }

    fn has_answer(client: &mut TcpStream, got: &mut Vec<u8>, answer: &[u8]) -> bool {
        received(client, got);
        count(got, answer) == 1
    }

    /// Requests sleep for ever, except `/`; handlers sleep a little, more than once.
    fn sleepy(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
        let ms = match worker.signal_of(core) {
            Some(_) if step >= 3 => return Step::Done,
            Some(200) if why.is_none() => return Step::Failed,
            Some(_) => 10,
            None if worker.request(core).path() == b"/" => return hello(worker, core, step, why),
            None => 60_000,
        };
        worker.sleep(core, ms);
        worker.suspend(core);
        Step::Suspended
    }

    fn endless(worker: &mut Worker, core: CoreId, _: u32, why: Option<Wakeup>) -> Step {
        if let Some(why) = why {
            assert_eq!(why, Wakeup::Cancelled(Cancel::Stop));
            return Step::Failed;
        }
        worker.sleep(core, 60_000);
        worker.suspend(core);
        Step::Suspended
    }

    fn forever(worker: &mut Worker, core: CoreId, _: u32, _: Option<Wakeup>) -> Step {
        worker.sleep(core, 60_000);
        worker.suspend(core);
        Step::Suspended
    }

    #[test]
    fn handlers_run_and_overlap_while_all_cores_are_busy() {
        let (mut worker, address, mut master) = obedient(8);
        let clients = [get(address, "/sleep"), get(address, "/sleep")];
        drive(&mut worker, sleepy, &mut |worker| worker.busy_cores() == 2);
        for number in [1, 2, 200, 3] {
            raise(&mut master, number);
        }
        let mut most = 0;
        drive(&mut worker, sleepy, &mut |worker| {
            let handlers = worker.in_flight().iter().filter(|one| one.signal.is_some()).count();
            most = most.max(handlers);
            worker.counters().signals == 4 && handlers == 0
        });
        assert_eq!(most, 3, "the fourth has failed at once");
        assert_eq!(worker.counters().signals_failed, 1);
        assert_eq!((worker.busy_cores(), worker.is_idle()), (2, false));
        drop(clients);
    }

    #[test]
    fn with_one_signal_core_handlers_run_one_after_the_other_in_order() {
        thread_local!(static RAN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
        fn note(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if why.is_none() {
                RAN.with_borrow_mut(|ran| ran.push(worker.signal_of(core).unwrap()));
            }
            sleepy(worker, core, step, why)
        }
        let (mut worker, _, mut master) = obedient(1);
        for number in [3, 1, 2] {
            raise(&mut master, number);
        }
        master.set_nonblocking(true).unwrap();
        drive(&mut worker, note, &mut |worker| {
            let in_flight = worker.in_flight();
            assert!(in_flight.len() <= 1, "{in_flight:?}");
            worker.counters().signals == 3 && in_flight.is_empty()
        });
        assert_eq!(RAN.take(), [3, 1, 2]);
        let mut said = Frames::default();
        let mut bytes = [0; 100];
        let n = master.read(&mut bytes).unwrap();
        said.push(&bytes[..n]);
        let taken: Vec<_> = std::iter::from_fn(|| said.next_from_worker()).collect();
        assert_eq!(taken, [3, 1, 2].map(FromWorker::SignalTaken));
    }

    #[test]
    fn who_waits_for_a_signal_goes_on_when_its_handler_has_ended() {
        thread_local!(static HANDLED: Cell<u32> = const { Cell::new(0) });
        fn wait(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if worker.signal_of(core).is_some() {
                let done = sleepy(worker, core, step, why);
                HANDLED.set(HANDLED.get() + u32::from(matches!(done, Step::Done)));
                return done;
            }
            let any = worker.request(core).path() == b"/any";
            if why.is_none() {
                worker.wait_signal(core, (!any).then_some(17));
                return Step::Suspended;
            }
            assert_eq!(why, Some(Wakeup::Turn));
            assert_eq!(worker.received_signal(core), Some(if any { 5 } else { 17 }));
            assert_eq!(
                HANDLED.get(),
                if any { 1 } else { 2 },
                "its handler has ended, and no other one counts"
            );
            hello(worker, core, step, why)
        }
        let (mut worker, address, mut master) = obedient(8);
        let (mut any, mut one) = (get(address, "/any"), get(address, "/one"));
        drive(&mut worker, wait, &mut |worker| {
            let in_flight = worker.in_flight();
            in_flight.len() == 2 && in_flight.iter().all(|one| one.doing == Doing::Blocked)
        });
        raise(&mut master, 5);
        let (mut got_any, mut got_one) = (Vec::new(), Vec::new());
        drive(&mut worker, wait, &mut |_| has_answer(&mut any, &mut got_any, b"hello /any"));
        received(&mut one, &mut got_one);
        assert_eq!(got_one, b"");
        raise(&mut master, 17);
        drive(&mut worker, wait, &mut |_| has_answer(&mut one, &mut got_one, b"hello /one"));
    }

    #[test]
    fn a_worker_that_drains_lets_handlers_end_and_one_that_leaves_cancels_them() {
        let (mut worker, _, mut master) = obedient(8);
        raise(&mut master, 1);
        master.write_all(&ToWorker::Drain.encode()).unwrap();
        assert_eq!(drive(&mut worker, sleepy, &mut |_| false), Some(Leave::Drained));
        assert_eq!((worker.counters().signals, worker.is_idle()), (1, true));
        let (mut worker, _, mut master) = obedient(8);
        raise(&mut master, 1);
        drive(&mut worker, endless, &mut |worker| !worker.is_idle());
        master.write_all(&ToWorker::Quit.encode()).unwrap();
        assert_eq!(drive(&mut worker, endless, &mut |_| false), Some(Leave::Ordered));
        worker.cancel_all();
        let Some(Action::Resume(core, why)) = worker.next_action() else { panic!("nothing to cancel") };
        assert_eq!(why, Wakeup::Cancelled(Cancel::Stop));
        worker.end_handler(core, true);
        assert!(worker.is_idle());
    }

    #[test]
    fn a_handler_that_will_not_end_is_given_up_and_its_core_serves_again() {
        thread_local!(static GIVEN_UP: Cell<u32> = const { Cell::new(0) });
        let (mut worker, _, mut master) = obedient(1);
        raise(&mut master, 1);
        drive(&mut worker, endless, &mut |worker| !worker.is_idle());
        for _ in 0..20 {
            worker.cancel_all();
            worker.turn().unwrap();
            while let Some(action) = worker.next_action() {
                match action {
                    // It swallows what it is told.
                    Action::Resume(core, Wakeup::Cancelled(Cancel::Stop)) => {
                        worker.sleep(core, 60_000);
                        worker.suspend(core);
                    }
                    Action::Abandon(core) => {
                        GIVEN_UP.set(GIVEN_UP.get() + 1);
                        worker.end_handler(core, true);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!((GIVEN_UP.get(), worker.counters().abandoned, worker.is_idle()), (1, 1, true));
        raise(&mut master, 2);
        drive(&mut worker, sleepy, &mut |worker| worker.counters().signals == 2 && worker.is_idle());
    }

    #[test]
    fn a_request_that_ends_while_it_waits_is_not_woken_in_its_successor() {
        let (mut worker, address, mut master) = obedient(1);
        let mut client = get(address, "/");
        let core = loop {
            worker.turn().unwrap();
            if let Some(Action::Start(core)) = worker.next_action() {
                break core;
            }
        };
        worker.wait_signal(core, None);
        // The application has come back to it by itself, and it ends.
        hello(&mut worker, core, 0, None);
        worker.finish(core);
        let mut got = Vec::new();
        drive(&mut worker, sleepy, &mut |_| has_answer(&mut client, &mut got, b"hello /"));
        let successor = get(address, "/sleep");
        drive(&mut worker, sleepy, &mut |worker| worker.in_flight().iter().any(|one| one.core == core));
        raise(&mut master, 1);
        drive(&mut worker, sleepy, &mut |worker| {
            worker.counters().signals == 1 && worker.in_flight().len() == 1
        });
        assert_ne!(worker.in_flight()[0].doing, Doing::Runs);
        drop(successor);
    }

    #[test]
    fn signals_that_nobody_handles_in_time_are_dropped_and_counted() {
        let (mut worker, _, mut master) = obedient(1);
        let flood = ToWorker::Signal(1).encode().repeat(3000);
        let sender = std::thread::spawn(move || {
            master.write_all(&flood).unwrap();
            master
        });
        drive(&mut worker, forever, &mut |worker| worker.counters().signals_dropped == 3000 - 1024 - 1);
        assert_eq!(worker.counters().signals, 1);
        drop(sender.join().unwrap());
    }

    /// Locks of an instance in which a second process does what the test says.
    #[derive(Debug, Default)]
    struct Shared {
        ours: Cell<bool>,
        in_line: Cell<bool>,
        theirs: Cell<bool>,
        they_wait: Cell<bool>,
        /// Times that the lock has gone from here to the other process.
        passed: Cell<u32>,
    }

    impl UserLocks for Shared {
        fn count(&self) -> u32 {
            1
        }

        fn acquire(&self, _: u32) -> bool {
            if self.ours.get() || self.theirs.get() {
                self.in_line.set(!self.ours.get());
                return false;
            }
            self.in_line.set(false);
            self.ours.set(true);
            true
        }

        fn withdraw(&self, _: u32) {
            self.in_line.set(false);
        }

        fn release(&self, _: u32) {
            if self.ours.replace(false) && self.they_wait.replace(false) {
                self.theirs.set(true);
                self.passed.set(self.passed.get() + 1);
            }
        }

        fn is_ours(&self, _: u32) -> bool {
            self.ours.get()
        }

        fn others_wait(&self, _: u32) -> bool {
            self.they_wait.get()
        }
    }

    impl Shared {
        fn is_locked(&self) -> bool {
            self.ours.get() || self.theirs.get()
        }
    }

    thread_local! {
        static INSIDE: Cell<u32> = const { Cell::new(0) };
        static ORDER: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }

    /// Sleeps for 5 ms with the lock.
    fn careful(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
        let locked = match why {
            None => worker.lock(core, 0) == Locked::Now,
            Some(Wakeup::Wait) => {
                INSIDE.set(INSIDE.get() - 1);
                worker.unlock(0);
                return hello(worker, core, step, why);
            }
            Some(Wakeup::Cancelled(_)) => {
                if worker.lock_outcome(core, 0) {
                    worker.unlock(0);
                }
                return Step::Failed;
            }
            Some(_) => worker.lock_outcome(core, 0),
        };
        if locked {
            INSIDE.set(INSIDE.get() + 1);
            assert_eq!(INSIDE.get(), 1, "two are inside");
            ORDER.with_borrow_mut(|order| order.push(worker.request(core).path().to_vec()));
            worker.sleep(core, 5);
            worker.suspend(core);
        }
        Step::Suspended
    }

    fn locking(cores: u32) -> (Worker, SocketAddr, Rc<Shared>) {
        let (mut worker, address) = crate::toy::worker(|options| options.cores = cores);
        let shared = Rc::new(Shared::default());
        worker.set_locks(Rc::clone(&shared) as Rc<dyn UserLocks>);
        (worker, address, shared)
    }

    #[test]
    fn one_core_at_a_time_has_a_lock_in_the_order_of_asking() {
        let (mut worker, address, shared) = locking(8);
        let mut clients = Vec::new();
        for n in 0..8 {
            clients.push(get(address, &format!("/{n}")));
        }
        let mut got = vec![Vec::new(); 8];
        drive(&mut worker, careful, &mut |_| {
            clients.iter_mut().zip(&mut got).all(|(client, got)| has_answer(client, got, b"hello /"))
        });
        let expected: Vec<_> = (0..8).map(|n| format!("/{n}").into_bytes()).collect();
        assert_eq!(ORDER.take(), expected);
        assert!(!shared.is_locked() && !shared.in_line.get());
    }

    #[test]
    fn a_lock_of_another_process_is_got_once_that_gives_it_back() {
        let (mut worker, address, shared) = locking(4);
        shared.theirs.set(true);
        let (mut a, mut b) = (get(address, "/a"), get(address, "/b"));
        drive(&mut worker, careful, &mut |worker| {
            worker.in_flight().iter().filter(|one| one.doing == Doing::Blocked).count() == 2
        });
        assert!(shared.in_line.get());
        shared.theirs.set(false);
        let (mut got_a, mut got_b) = (Vec::new(), Vec::new());
        drive(&mut worker, careful, &mut |_| {
            // Both of those that waited have their turn before the other process has its own.
            shared.they_wait.set(shared.passed.get() == 0);
            let a = has_answer(&mut a, &mut got_a, b"hello /a");
            has_answer(&mut b, &mut got_b, b"hello /b") && a
        });
        assert_eq!(shared.passed.get(), 1);
        assert!(shared.theirs.get(), "it has gone on to the other process");
    }

    #[test]
    fn a_lock_that_others_want_goes_to_them_before_it_comes_back() {
        let (mut worker, address, shared) = locking(4);
        let mut clients = [get(address, "/a"), get(address, "/b"), get(address, "/c")];
        drive(&mut worker, careful, &mut |worker| {
            worker.in_flight().iter().filter(|one| one.doing == Doing::Blocked).count() == 2
        });
        shared.they_wait.set(true);
        drive(&mut worker, careful, &mut |_| shared.theirs.get());
        assert_eq!(ORDER.take().len(), 1, "only the one that had it");
        shared.theirs.set(false);
        let mut got = vec![Vec::new(); 3];
        drive(&mut worker, careful, &mut |_| {
            clients.iter_mut().zip(&mut got).all(|(client, got)| has_answer(client, got, b"hello /"))
        });
        assert!(!shared.is_locked());
    }

    #[test]
    fn who_is_cancelled_while_it_waits_leaves_the_line() {
        let (mut worker, address, shared) = locking(4);
        shared.theirs.set(true);
        let clients = [get(address, "/a"), get(address, "/b")];
        drive(&mut worker, careful, &mut |worker| {
            worker.in_flight().iter().filter(|one| one.doing == Doing::Blocked).count() == 2
        });
        drop(clients);
        drive(&mut worker, careful, &mut |worker| worker.busy_cores() == 0);
        assert!(!shared.in_line.get() && !shared.ours.get());
    }

    /// What may happen to a lock.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// A request asks for it.
        Ask,
        /// Whoever has it gives it back, and ends.
        GiveBack,
        /// The application throws into a request that waits.
        Interrupt(usize),
        /// The other process takes it if it is free, or stands in line.
        TheyAsk,
        TheyGiveBack,
    }

    fn step() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => Just(Event::Ask),
            3 => Just(Event::GiveBack),
            1 => (0..8_usize).prop_map(Event::Interrupt),
            1 => Just(Event::TheyAsk),
            2 => Just(Event::TheyGiveBack),
        ]
    }

    /// A worker whose requests do what a story says.
    struct Story {
        worker: Worker,
        address: SocketAddr,
        shared: Rc<Shared>,
        clients: Vec<TcpStream>,
        /// The request that has the lock.
        holder: Option<CoreId>,
        waiting: Vec<CoreId>,
    }

    impl Story {
        fn new() -> Self {
            let (worker, address, shared) = locking(8);
            Self { worker, address, shared, clients: Vec::new(), holder: None, waiting: Vec::new() }
        }

        /// Turns until nothing is left to do; notes who goes on with the lock.
        fn settle(&mut self) {
            loop {
                self.worker.turn().unwrap();
                let mut quiet = true;
                while let Some(action) = self.worker.next_action() {
                    quiet = false;
                    match action {
                        Action::Start(core) => match self.worker.lock(core, 0) {
                            Locked::Now => self.enters(core),
                            Locked::Suspended => self.waiting.push(core),
                        },
                        Action::Resume(core, why) => {
                            let at = self.waiting.iter().position(|&other| other == core);
                            self.waiting.remove(at.expect("only who waits is resumed"));
                            let has_it = self.worker.lock_outcome(core, 0);
                            if matches!(why, Wakeup::Cancelled(_)) {
                                if has_it {
                                    self.worker.unlock(0);
                                }
                                self.worker.fail(core);
                            } else {
                                assert!(has_it, "woken for nothing");
                                self.enters(core);
                            }
                        }
                        other => panic!("{other:?}"),
                    }
                }
                if quiet && !self.worker.has_work() {
                    return;
                }
            }
        }

        fn enters(&mut self, core: CoreId) {
            assert!(self.shared.ours.get() && !self.shared.theirs.get(), "two processes have it");
            assert_eq!(self.holder.replace(core), None, "two requests have it");
        }

        fn happens(&mut self, event: Event) {
            match event {
                Event::Ask if self.worker.busy_cores() < 8 => {
                    let before = self.worker.busy_cores();
                    self.clients.push(get(self.address, "/"));
                    let deadline = Instant::now() + Duration::from_secs(8);
                    while self.worker.busy_cores() == before {
                        assert!(Instant::now() < deadline, "the request has not come");
                        self.settle();
                    }
                }
                Event::GiveBack => {
                    if let Some(core) = self.holder.take() {
                        self.worker.unlock(0);
                        self.worker.fail(core);
                    }
                }
                Event::Interrupt(n) if !self.waiting.is_empty() => {
                    let core = self.waiting.remove(n % self.waiting.len());
                    self.worker.interrupted(core);
                    assert!(!self.worker.lock_outcome(core, 0), "nobody has given it the lock");
                    self.worker.fail(core);
                }
                Event::TheyAsk if self.shared.ours.get() => self.shared.they_wait.set(true),
                Event::TheyAsk => self.shared.theirs.set(true),
                Event::TheyGiveBack => self.shared.theirs.set(false),
                Event::Ask | Event::Interrupt(_) => {}
            }
            self.settle();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_happens_one_has_the_lock_and_everybody_gets_it(
            events in prop::collection::vec(step(), 1..60),
        ) {
            let mut story = Story::new();
            for event in events {
                story.happens(event);
            }
            // The other process is done for good: everybody who waits gets his turn.
            let deadline = Instant::now() + Duration::from_secs(8);
            while story.worker.busy_cores() > 0 {
                story.shared.they_wait.set(false);
                story.happens(Event::TheyGiveBack);
                story.happens(Event::GiveBack);
                prop_assert!(Instant::now() < deadline, "{:?} wait for ever", story.waiting);
            }
            prop_assert!(!story.shared.ours.get() && !story.shared.in_line.get());
        }
    }
}
