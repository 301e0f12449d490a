//! What a watchdog outside is given: signs of life while a request is here, and the deadlines that requests set themselves.

#[cfg(test)]
#[expect(dead_code, reason = "these tests make workers of their own")]
mod toy;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    use greenloom_worker::config::{Protocol, Settings};
    use greenloom_worker::proto::control::{Frames, FromWorker, ToWorker};
    use greenloom_worker::{
        Activity, Cancel, CoreId, Instance, Listen, Wakeup, Worker, WorkerOptions, clock,
    };

    use crate::toy::{Step, connect, count, drive, hello, received};

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        Runs(u32),
        Deadline(u64),
    }

    /// Notes what it is told of these.
    #[derive(Clone, Debug, Default)]
    struct Notes(Rc<RefCell<Vec<Said>>>);

    impl Instance for Notes {
        fn set_busy(&self, _cores: u32) {}

        fn count_request(&self) -> u64 {
            1
        }

        fn stamp(&self, _now_ms: u64, activity: Activity) {
            if let Activity::Runs(core) = activity {
                self.0.borrow_mut().push(Said::Runs(core.0));
            }
        }

        fn deadline(&self, at_ms: u64) {
            self.0.borrow_mut().push(Said::Deadline(at_ms));
        }
    }

    struct World {
        worker: Worker,
        address: SocketAddr,
        master: UnixStream,
        notes: Notes,
    }

    fn world(change: impl FnOnce(&mut WorkerOptions)) -> World {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (control, master) = UnixStream::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        master.set_nonblocking(true).unwrap();
        let mut options = WorkerOptions::from_settings(&Settings::default());
        options.cores = 2;
        options.log_requests = false;
        change(&mut options);
        let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Http };
        let notes = Notes::default();
        let instance = Box::new(notes.clone());
        let worker = Worker::new(options, vec![listen], Some(control.into()), instance).unwrap();
        World { worker, address, master, notes }
    }

    impl World {
        fn get(&self, path: &str) -> TcpStream {
            let mut client = connect(self.address);
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
            client
        }

        fn reports(&mut self) -> Vec<FromWorker> {
            let mut frames = Frames::default();
            let mut bytes = [0; 256];
            if let Ok(n) = self.master.read(&mut bytes) {
                frames.push(&bytes[..n]);
            }
            std::iter::from_fn(|| frames.next_from_worker()).collect()
        }
    }

    /// The path says how many milliseconds the request allows itself, one number after the other (0: that is taken back);
    /// then it sleeps for long, or as many milliseconds as the query says.
    fn bounded(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
        match why {
            None if worker.signal_of(core).is_some() => worker.set_user_deadline(core, Some(10), true),
            None => {
                let path = String::from_utf8(worker.request(core).path().to_vec()).unwrap();
                for ms in path.split('/').filter_map(|ms| ms.parse().ok()) {
                    worker.set_user_deadline(core, (ms > 0).then_some(ms), true);
                }
            }
            Some(Wakeup::Cancelled(why)) => {
                assert_eq!(why, Cancel::Deadline);
                return Step::Failed;
            }
            Some(_) => return hello(worker, core, step, why),
        }
        let sleep = String::from_utf8(worker.request(core).uri().to_vec()).unwrap();
        worker.sleep(core, sleep.split_once('?').map_or(60_000, |(_, ms)| ms.parse().unwrap()));
        worker.suspend(core);
        Step::Suspended
    }

    fn answer(world: &mut World, client: &mut TcpStream) -> Vec<u8> {
        let mut got = Vec::new();
        drive(&mut world.worker, bounded, &mut |_| {
            received(client, &mut got);
            count(&got, b"\r\n\r\n") == 1
        });
        got
    }

    #[test]
    fn no_wait_is_longer_than_the_heartbeat_while_a_request_is_here() {
        for (heartbeat_ms, expected) in [(20, true), (0, false)] {
            let mut world = world(|options| options.heartbeat_ms = heartbeat_ms);
            let client = world.get("/");
            let began_ms = clock::monotonic_ms();
            drive(&mut world.worker, bounded, &mut |worker| worker.busy_cores() == 1);
            // More often than the timers that anything else needs.
            let mut beats = 0;
            drive(&mut world.worker, bounded, &mut |worker| {
                beats += u32::from(worker.timeout_ms().is_some_and(|ms| ms <= 20));
                clock::monotonic_ms() > began_ms + 500
            });
            assert_eq!(beats >= 5, expected, "{beats}");
            drop(client);
        }
    }

    #[test]
    fn nothing_beats_for_nobody() {
        let mut world = world(|options| options.heartbeat_ms = 5);
        let mut client = world.get("/?1");
        assert_eq!(count(&answer(&mut world, &mut client), b"hello"), 1);
        drive(&mut world.worker, bounded, &mut |worker| worker.timeout_ms().is_some_and(|ms| ms > 1000));
    }

    #[test]
    fn a_request_that_is_suspended_when_its_own_time_is_over_ends() {
        let mut world = world(|options| options.request_timeouts = vec![(String::new(), 60_000)]);
        let mut client = world.get("/30");
        assert!(answer(&mut world, &mut client).starts_with(b"HTTP/1.1 504 "));
        assert_eq!(world.worker.counters().deadlines, 1);
        let said = world.notes.0.take();
        // It began, set the deadline, and had none any more when it was told to end.
        assert!(
            matches!(said[..], [Said::Runs(1), Said::Deadline(1..), Said::Deadline(0), Said::Runs(1)]),
            "{said:?}"
        );
        assert_eq!(world.reports(), [FromWorker::Deadlines]);
    }

    #[test]
    fn the_last_call_counts_and_the_configured_time_stays() {
        let mut world = world(|options| options.request_timeouts = vec![("/9".to_owned(), 40)]);
        for path in ["/10/0?60", "/10/60000?60", "/0?1"] {
            let mut client = world.get(path);
            assert_eq!(count(&answer(&mut world, &mut client), b"hello"), 1, "{path}");
        }
        for path in ["/60000/10", "/9/0", "/9/60000"] {
            let mut client = world.get(path);
            assert!(answer(&mut world, &mut client).starts_with(b"HTTP/1.1 504 "), "{path}");
        }
        assert_eq!(world.reports(), [FromWorker::Deadlines], "said once");
    }

    #[test]
    fn a_deadline_is_that_of_one_request() {
        let mut world = world(|options| options.cores = 1);
        let mut client = world.get("/50?1");
        assert_eq!(count(&answer(&mut world, &mut client), b"hello"), 1);
        // The timer of the one before comes in the middle of it.
        let mut client = world.get("/none?120");
        assert_eq!(count(&answer(&mut world, &mut client), b"hello"), 1);
        let said = world.notes.0.take();
        let last: Vec<_> = said.iter().filter(|said| matches!(said, Said::Deadline(_))).collect();
        assert!(matches!(last[..], [Said::Deadline(1..), Said::Deadline(0)]), "{said:?}");
    }

    #[test]
    fn whoever_gets_control_brings_its_own_deadline() {
        let mut world = world(|_| {});
        let mut clients = [world.get("/60000?40"), world.get("/none?20")];
        let mut got = [Vec::new(), Vec::new()];
        drive(&mut world.worker, bounded, &mut |_| {
            clients.iter_mut().zip(&mut got).for_each(|(client, got)| {
                received(client, got);
            });
            got.iter().all(|got| count(got, b"hello") == 1)
        });
        let said = world.notes.0.take();
        // Whoever came first.
        let mut deadlines = std::collections::HashMap::new();
        let mut now = 0;
        for said in said {
            match said {
                Said::Deadline(at_ms) => now = at_ms,
                Said::Runs(core) => {
                    deadlines.insert(core, now);
                }
            }
        }
        let mut found: Vec<_> = deadlines.into_values().map(|at_ms| at_ms > 0).collect();
        found.sort_unstable();
        assert_eq!(found, [false, true]);
    }

    #[test]
    fn a_handler_of_a_signal_bounds_itself_too() {
        let mut world = world(|_| {});
        world.master.write_all(&ToWorker::Signal(7).encode()).unwrap();
        drive(&mut world.worker, bounded, &mut |worker| worker.counters().signals == 1 && worker.is_idle());
        assert_eq!(world.worker.counters().deadlines, 1);
        assert!(world.reports().contains(&FromWorker::Deadlines));
    }
}
