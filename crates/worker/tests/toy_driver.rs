//! A second driver, in a foreign `poll(2)` loop: proves that the worker is a leaf, and tries the worker's promises with
//! real sockets but no language. What ends a request before its time is in `cancelling.rs`.

#[cfg(test)]
mod toy;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use greenloom_worker::config::{Protocol, Settings};
    use greenloom_worker::proto::control::ToWorker;
    use greenloom_worker::{
        Alone, CoreId, Interest, Leave, Listen, Wakeup, Worker, WorkerOptions, Written, Yielded,
    };

    use crate::toy::{Step, connect, count, drive, hello, received, worker};

    #[test]
    fn pipelined_and_split_requests_on_one_connection() {
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        client
            .write_all(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c HT")
            .unwrap();
        let mut got = Vec::new();
        let mut sent = false;
        drive(&mut worker, hello, &mut |_| {
            received(&mut client, &mut got);
            if count(&got, b"hello /") == 2 && !sent {
                sent = true;
                client.write_all(b"TP/1.1\r\nHost: h\r\n\r\n").unwrap();
            }
            count(&got, b"hello /c") == 1
        });
        assert_eq!((count(&got, b"HTTP/1.1 200 OK\r\n"), worker.busy_cores()), (3, 0));
        assert_eq!(worker.connection_count(), 1);
    }

    #[test]
    fn full_cores_park_requests_and_nothing_is_lost() {
        fn two_turns(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if step < 3 {
                worker.suspend(core);
                return Step::Suspended;
            }
            hello(worker, core, step, why)
        }
        let (mut worker, address) = worker(|options| options.cores = 2);
        let mut clients: Vec<_> = (0..100).map(|_| connect(address)).collect();
        for client in &mut clients {
            client.write_all(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        }
        let mut got = vec![Vec::new(); clients.len()];
        drive(&mut worker, two_turns, &mut |_| {
            clients.iter_mut().zip(&mut got).map(|(c, got)| received(c, got)).fold(true, |all, end| all & end)
        });
        assert!(got.iter().all(|got| count(got, b"hello /x") == 1));
        assert!(worker.counters().queue_full > 0);
        assert_eq!((worker.busy_cores(), worker.connection_count()), (0, 0));
    }

    #[test]
    fn a_wait_with_a_timeout_ends_with_the_first_event() {
        thread_local! { static PIPE: (UnixStream, UnixStream) = UnixStream::pair().unwrap(); }
        fn waits(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            let fd = PIPE.with(|pipe| pipe.0.as_raw_fd());
            match step {
                0 => {
                    worker.wait_fd(core, fd, Interest::Read, Some(10)).unwrap();
                    assert_eq!(
                        worker.yielded(core),
                        Yielded::Suspended,
                        "a yield after a wait always suspends"
                    );
                    Step::Suspended
                }
                1 => {
                    assert_eq!(why, Some(Wakeup::Wait));
                    assert!(worker.outcome(core).timed_out && worker.outcome(core).ready_fd.is_none());
                    PIPE.with(|pipe| (&pipe.1).write_all(b"x").unwrap());
                    worker.wait_fd(core, fd, Interest::Read, Some(60_000)).unwrap();
                    worker.wait_fd(core, fd, Interest::Read, None).unwrap();
                    assert!(worker.wait_fd(core, 999_999, Interest::Write, Some(1)).is_err());
                    worker.suspend(core);
                    Step::Suspended
                }
                _ => {
                    assert_eq!(worker.outcome(core).ready_fd, Some(fd));
                    assert!(!worker.outcome(core).timed_out);
                    hello(worker, core, 0, None)
                }
            }
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        client.write_all(b"GET /w HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        drive(&mut worker, waits, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"hello /w") == 1
        });
    }

    #[test]
    fn a_slow_reader_stalls_its_core_and_its_departure_cancels_it() {
        fn endless(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if let Some(Wakeup::Cancelled(_)) = why {
                assert_eq!(worker.write(core, b"x"), Written::Gone);
                return Step::Done;
            }
            if step == 0 {
                worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
            }
            let block = vec![b'z'; 65536];
            loop {
                match worker.write(core, &block) {
                    Written::Taken(n) if n < block.len() => {
                        worker.stall(core);
                        return Step::Suspended;
                    }
                    Written::Taken(_) => {}
                    Written::Gone => return Step::Done,
                }
            }
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = Some(connect(address));
        client.as_mut().unwrap().write_all(b"GET /e HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut quiet_turns = 0;
        drive(&mut worker, endless, &mut |worker| {
            quiet_turns += u32::from(worker.busy_cores() == 1);
            if quiet_turns == 20 {
                client = None;
            }
            client.is_none() && worker.busy_cores() == 0
        });
        assert_eq!((worker.connection_count(), worker.counters().clients_gone), (0, 1));
    }

    #[test]
    fn a_driver_learns_that_nobody_gets_the_body() {
        fn endless(worker: &mut Worker, core: CoreId, _: u32, _: Option<Wakeup>) -> Step {
            assert!(!worker.body_is_dropped(core), "undecided before the head");
            let status: &[u8] =
                if worker.request(core).path() == b"/204" { b"204 No Content" } else { b"200 OK" };
            worker.respond(core, status, None, |_| Ok(())).unwrap();
            assert_eq!(worker.body_is_dropped(core), worker.request(core).path() != b"/get");
            assert_eq!(worker.write(core, b"part"), Written::Taken(4));
            Step::Done
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        for line in ["HEAD /head", "GET /204", "GET /get"] {
            client.write_all(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        }
        let mut got = Vec::new();
        drive(&mut worker, endless, &mut |_| {
            received(&mut client, &mut got);
            got.ends_with(b"0\r\n\r\n")
        });
        assert_eq!((count(&got, b"HTTP/1.1 "), count(&got, b"part")), (3, 1));
    }

    #[test]
    fn a_body_ends_at_the_length_it_announced() {
        fn too_long(worker: &mut Worker, core: CoreId, _: u32, _: Option<Wakeup>) -> Step {
            worker.respond(core, b"200 OK", None, |head| head.field(b"Content-Length", b"6")).unwrap();
            assert_eq!(worker.write(core, b"part"), Written::Taken(4));
            if worker.request(core).path() == b"/exact" {
                assert_eq!(worker.write(core, b"en"), Written::Taken(2));
                assert!(!worker.body_is_dropped(core), "complete, but nothing was too much");
            } else if worker.request(core).path() == b"/write" {
                assert_eq!(worker.write_through(core, b"ends").unwrap(), Written::Taken(4));
                assert!(worker.body_is_dropped(core));
            } else {
                assert_eq!(worker.write(core, b"ends"), Written::Taken(4));
                assert!(worker.body_is_dropped(core));
            }
            Step::Done
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        for path in ["/exact", "/write", "/over"] {
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        }
        let mut got = Vec::new();
        drive(&mut worker, too_long, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"parten") == 3
        });
        assert_eq!((count(&got, b"HTTP/1.1 "), count(&got, b"partend")), (3, 0));
    }

    #[test]
    fn a_part_as_long_as_the_head_is_not_taken_for_it() {
        fn fails(worker: &mut Worker, core: CoreId, _: u32, _: Option<Wakeup>) -> Step {
            // `HTTP/1.1 200 OK`, `Content-Length: 1000`, `Date: Sun, 06 Nov 1994 08:49:37 GMT`, and an empty line.
            let head = 17 + 22 + 37 + 2;
            worker.respond(core, b"200 OK", Some(1000), |_| Ok(())).unwrap();
            worker.flush(core);
            worker.write(core, &vec![b'p'; head]);
            Step::Failed
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        drive(&mut worker, fails, &mut |_| received(&mut client, &mut got));
        assert_eq!(got.len(), 2 * count(&got, b"p"), "the length was meant");
        assert_eq!((count(&got, b"HTTP/1.1 "), count(&got, b" 500 ")), (1, 0));
    }

    #[test]
    fn no_sleep_ends_early() {
        thread_local! { static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) }; }
        fn naps(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if let Some(began) = BEGAN.get() {
                assert!(began.elapsed() >= Duration::from_millis(3), "{:?}", began.elapsed());
            }
            if step == 20 {
                return hello(worker, core, step, why);
            }
            BEGAN.set(Some(Instant::now()));
            worker.sleep(core, 3);
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        client.write_all(b"GET /rested HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        drive(&mut worker, naps, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"hello /rested") == 1
        });
    }

    #[test]
    fn draining_finishes_what_has_begun_and_then_leaves() {
        fn slow(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if step == 0 {
                worker.sleep(core, 30);
                worker.suspend(core);
                return Step::Suspended;
            }
            hello(worker, core, step, why)
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (control, mut master) = UnixStream::pair().unwrap();
        control.set_nonblocking(true).unwrap();
        let options =
            WorkerOptions { log_requests: false, ..WorkerOptions::from_settings(&Settings::default()) };
        let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Http };
        let mut worker =
            Worker::new(options, vec![listen], Some(control.into()), Box::new(Alone::default())).unwrap();
        let mut client = connect(address);
        client.write_all(b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut ordered = false;
        let left = drive(&mut worker, slow, &mut |worker| {
            if worker.busy_cores() == 1 && !ordered {
                ordered = true;
                master.write_all(&ToWorker::Drain.encode()).unwrap();
            }
            false
        });
        assert_eq!(left, Some(Leave::Drained));
        let mut got = Vec::new();
        assert!(received(&mut client, &mut got), "the connection is closed");
        assert_eq!((count(&got, b"hello /last"), count(&got, b"Connection: close")), (1, 1));
    }

    #[test]
    fn slow_heads_and_bodies_hold_no_core_and_are_told_when_their_time_is_up() {
        let (mut worker, address) = worker(|options| {
            options.cores = 1;
            options.head_timeout_ms = 60;
            options.body_timeout_ms = 60;
        });
        let mut slow: Vec<_> = (0..20).map(|_| connect(address)).collect();
        for (i, client) in slow.iter_mut().enumerate() {
            let begin: &[u8] = if i % 2 == 0 {
                b"GET /never HTTP/1.1\r\nHo"
            } else {
                b"POST /never HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc"
            };
            client.write_all(begin).unwrap();
        }
        let mut quick = connect(address);
        quick.write_all(b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut got = vec![Vec::new(); slow.len()];
        drive(&mut worker, hello, &mut |_| {
            received(&mut quick, &mut answer);
            let all = slow.iter_mut().zip(&mut got).map(|(c, got)| received(c, got)).fold(true, |a, b| a & b);
            all && count(&answer, b"hello /quick") == 1
        });
        assert!(got.iter().all(|got| got.starts_with(b"HTTP/1.1 408 ")));
        assert_eq!(worker.busy_cores(), 0);
    }
}
