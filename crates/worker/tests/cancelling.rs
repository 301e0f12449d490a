//! Requests that end before their time, and coroutines that the application switches by itself: deadlines, clients that
//! leave, a worker that leaves, coroutines that will not end; through the toy driver.

#[cfg(test)]
mod toy;

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use greenloom_worker::config::{Protocol, Settings};
    use greenloom_worker::{
        Action, Alone, Cancel, CoreId, Doing, Failure, Interest, Listen, Wakeup, Worker, WorkerOptions,
        Written, Yielded,
    };

    use crate::toy::{Step, connect, count, drive, hello, ready, received, worker};

    #[test]
    fn a_request_whose_time_is_over_gets_504_and_its_neighbours_notice_nothing() {
        fn late(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if worker.request(core).path().starts_with(b"/late/") || worker.request(core).path() == b"/late" {
                match why {
                    None => assert_eq!(worker.cancelled(core), None),
                    Some(why) => {
                        assert_eq!(why, Wakeup::Cancelled(Cancel::Deadline));
                        assert_eq!(worker.cancelled(core), Some(Cancel::Deadline));
                        return Step::Done;
                    }
                }
                worker.sleep(core, 60_000);
            } else if step < 3 {
                worker.sleep(core, 20);
            } else {
                assert_eq!(why, Some(Wakeup::Wait));
                return hello(worker, core, step, why);
            }
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|options| {
            options.request_timeouts = vec![
                (String::new(), 60_000),
                ("/late".to_owned(), 10),
                ("/late/r".to_owned(), 0),
                ("/later".to_owned(), 1),
                ("/later/still".to_owned(), 0),
            ];
        });
        let mut client = connect(address);
        let mut others = [connect(address), connect(address)];
        others[0].write_all(b"GET /later/still HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        others[1].write_all(b"GET /rest HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        // The prefix is compared with the decoded path.
        client
            .write_all(b"GET /l%61te/a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /late/b HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        client.write_all(b"GET /late HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let (mut got, mut got_others) = (Vec::new(), [Vec::new(), Vec::new()]);
        drive(&mut worker, late, &mut |_| {
            for (other, got) in others.iter_mut().zip(&mut got_others) {
                received(other, got);
            }
            received(&mut client, &mut got) && got_others.iter().all(|got| count(got, b"hello /") == 1)
        });
        let text = String::from_utf8(got).unwrap();
        assert_eq!(text.matches("HTTP/1.1 504 Gateway Timeout\r\n").count(), 3, "{text}");
        assert_eq!(text.matches("\r\n\r\nGateway Timeout").count(), 2, "no body for HEAD: {text}");
        assert_eq!((worker.counters().deadlines, worker.counters().abandoned), (3, 0));
        assert_eq!(worker.busy_cores(), 0);
    }

    #[test]
    fn each_request_of_a_core_has_its_own_time() {
        thread_local! { static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) }; }
        fn one_after_another(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            match (worker.request(core).path(), step) {
                (b"/first", 0) => worker.sleep(core, 20),
                (b"/second", 0) => {
                    BEGAN.set(Some(Instant::now()));
                    worker.sleep(core, 60_000);
                }
                (b"/first", _) => return hello(worker, core, step, why),
                _ => {
                    assert_eq!(why, Some(Wakeup::Cancelled(Cancel::Deadline)));
                    // The worker counts whole milliseconds.
                    let elapsed = BEGAN.get().unwrap().elapsed();
                    assert!(elapsed >= Duration::from_millis(398), "{elapsed:?}");
                    return Step::Failed;
                }
            }
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|options| {
            options.cores = 1;
            options.request_timeouts = vec![(String::new(), 400)];
        });
        let mut client = connect(address);
        // The timer of the first one is over in the middle of the second.
        client
            .write_all(b"GET /first HTTP/1.1\r\nHost: h\r\n\r\nGET /second HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut got = Vec::new();
        drive(&mut worker, one_after_another, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"Gateway Timeout") == 2
        });
        assert_eq!(count(&got, b"hello /first"), 1);
    }

    #[test]
    fn a_deadline_ends_with_its_request() {
        fn rests(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if worker.request(core).path() == b"/quick" || step == 1 {
                assert!(!matches!(why, Some(Wakeup::Cancelled(_))), "the deadline of another request");
                return hello(worker, core, step, why);
            }
            worker.sleep(core, 30);
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|options| {
            options.cores = 1;
            options.request_timeouts = vec![("/quick".to_owned(), 10)];
        });
        let mut client = connect(address);
        client
            .write_all(b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\nGET /rest HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut got = Vec::new();
        drive(&mut worker, rests, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"hello /") == 2
        });
        assert_eq!(worker.counters().deadlines, 0);
    }

    #[test]
    fn a_timer_that_comes_while_the_core_runs_is_not_lost() {
        let (mut worker, address) = worker(|options| options.request_timeouts = vec![(String::new(), 5)]);
        let mut client = connect(address);
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let core = loop {
            assert!(Instant::now() < until);
            worker.turn().unwrap();
            if let Some(Action::Start(core)) = worker.next_action() {
                break core;
            }
        };
        // The core runs while the worker has turns: its code has called the loop, or is on its way.
        let over = Instant::now() + Duration::from_millis(8);
        let mut is_over = false;
        while !is_over {
            is_over = Instant::now() >= over;
            worker.turn().unwrap();
            assert_eq!(worker.next_action(), None);
        }
        worker.suspend(core);
        let told = Action::Resume(core, Wakeup::Cancelled(Cancel::Deadline));
        assert_eq!(worker.next_action(), Some(told));
        assert_eq!(worker.fail(core), Failure::Answered);
    }

    #[test]
    fn whoever_is_about_to_be_resumed_cannot_leave() {
        let (mut worker, _clients, cores) = away(&["/a", "/b"]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        for &core in &cores {
            worker.wait_fd(core, ours.as_raw_fd(), Interest::Read, None).unwrap();
        }
        (&theirs).write_all(b"x").unwrap();
        worker.turn().unwrap();
        assert_eq!(worker.next_action(), Some(Action::Resume(cores[0], Wakeup::Wait)));
        worker.away(cores[1]);
        assert_eq!(worker.next_action(), Some(Action::Resume(cores[1], Wakeup::Wait)));
        assert_eq!(worker.outcome(cores[1]).ready_fd, Some(ours.as_raw_fd()));
    }

    #[test]
    fn what_was_sent_before_the_deadline_is_cut() {
        fn stream(worker: &mut Worker, core: CoreId, _: u32, why: Option<Wakeup>) -> Step {
            if why.is_some() {
                // An application that goes on all the same reaches nobody.
                worker.respond(core, b"500 Oops", None, |_| Ok(())).unwrap();
                assert_eq!(worker.write(core, b"more"), Written::Gone);
                assert_eq!(worker.write_through(core, b"more").unwrap(), Written::Gone);
                assert_eq!(worker.write_raw(core, b"more").unwrap(), Written::Gone);
                worker.complete(core);
                return Step::Done;
            }
            let known = (worker.request(core).path() == b"/whole").then_some(4);
            worker.respond(core, b"200 OK", known, |_| Ok(())).unwrap();
            worker.write(core, b"part");
            worker.sleep(core, 60_000);
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|options| options.request_timeouts = vec![(String::new(), 5)]);
        let mut client = connect(address);
        for path in ["/whole", "/stream", "/never"] {
            client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        }
        let mut got = Vec::new();
        drive(&mut worker, stream, &mut |_| received(&mut client, &mut got));
        assert!(got.ends_with(b"\r\n\r\n4\r\npart\r\n"), "no last chunk, and nothing behind it");
        // A body that was whole is, and the connection goes on.
        assert_eq!((count(&got, b"200 OK"), count(&got, b"\r\n\r\npart")), (2, 1));
    }

    #[test]
    fn a_request_that_runs_past_its_deadline_learns_of_it_when_it_suspends() {
        fn computes(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            let begins = step == 0;
            if begins {
                let until = Instant::now() + Duration::from_millis(8);
                while Instant::now() < until {}
            }
            if worker.request(core).path() == b"/in-time" {
                return hello(worker, core, step, why);
            }
            match why {
                Some(Wakeup::Cancelled(why)) => {
                    assert_eq!(why, Cancel::Deadline);
                    return Step::Done;
                }
                Some(_) => assert_eq!(step, 1, "resumed although its time is over"),
                None => {}
            }
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|options| options.request_timeouts = vec![(String::new(), 2)]);
        let mut client = connect(address);
        client
            .write_all(b"GET /in-time HTTP/1.1\r\nHost: h\r\n\r\nGET /late HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut got = Vec::new();
        drive(&mut worker, computes, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"Gateway Timeout") == 2
        });
        assert_eq!((count(&got, b"hello /in-time"), count(&got, b"HTTP/1.1 504 ")), (1, 1));
    }

    #[test]
    fn the_uwsgi_protocol_gets_the_page_as_cgi() {
        fn never(worker: &mut Worker, core: CoreId, _: u32, why: Option<Wakeup>) -> Step {
            if why.is_some() {
                return Step::Done;
            }
            worker.sleep(core, 60_000);
            worker.suspend(core);
            Step::Suspended
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = WorkerOptions::from_settings(&Settings::default());
        options.log_requests = false;
        options.request_timeouts = vec![("/slow".to_owned(), 2)];
        let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Uwsgi };
        let mut worker = Worker::new(options, vec![listen], None, Box::new(Alone::default())).unwrap();
        let mut packet = Vec::new();
        for (name, value) in
            [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/slow/a"), ("SERVER_PROTOCOL", "HTTP/1.1")]
        {
            for text in [name, value] {
                packet.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
                packet.extend_from_slice(text.as_bytes());
            }
        }
        let size = u16::try_from(packet.len()).unwrap().to_le_bytes();
        let mut client = connect(address);
        client.write_all(&[&[0, size[0], size[1], 0], &packet[..]].concat()).unwrap();
        let mut got = Vec::new();
        drive(&mut worker, never, &mut |_| received(&mut client, &mut got));
        let text = String::from_utf8(got).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 504 Gateway Timeout\r\n") || text.starts_with("Status: 504"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\nGateway Timeout") && !text.contains("Connection"), "{text}");
    }

    /// Suspends whenever it is told to end, each time in another way. What it was resumed with is noted.
    fn stubborn(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
        if worker.request(core).path() != b"/stubborn" {
            if let Some(Wakeup::Cancelled(_)) = why {
                return Step::Failed;
            }
            TOLD.with_borrow_mut(|told| told.push((core, why)));
            worker.suspend(core);
            return Step::Suspended;
        }
        TOLD.with_borrow_mut(|told| told.push((core, why)));
        let cancelled = worker.cancelled(core).is_some();
        match step % 5 {
            _ if !cancelled => worker.suspend(core),
            0 => worker.suspend(core),
            1 => worker.give_way(core),
            2 => worker.stall(core),
            3 => assert_eq!(worker.yielded(core), Yielded::Suspended),
            _ => worker.away(core),
        }
        Step::Suspended
    }

    thread_local! { static TOLD: RefCell<Vec<(CoreId, Option<Wakeup>)>> = const { RefCell::new(Vec::new()) }; }

    #[test]
    fn a_coroutine_that_will_not_end_is_told_eight_times_and_given_up_once() {
        let (mut worker, address) =
            worker(|options| options.request_timeouts = vec![("/stubborn".to_owned(), 3)]);
        let (mut client, mut other) = (connect(address), connect(address));
        client.write_all(b"GET /stubborn HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        other.write_all(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        drive(&mut worker, stubborn, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"HTTP/1.1 504 ") == 1
        });
        assert_eq!((worker.counters().deadlines, worker.counters().abandoned), (1, 1));
        assert_eq!(worker.busy_cores(), 1, "the core is free for others");
        let told = TOLD.take();
        let deadline = Some(Wakeup::Cancelled(Cancel::Deadline));
        let times: Vec<_> = (0..told.len()).filter(|&at| told[at].1 == deadline).collect();
        assert_eq!(times.len(), 8);
        assert!(
            times.windows(2).all(|pair| pair[1] > pair[0] + 1),
            "others have their turns meanwhile: {told:?}"
        );
    }

    #[test]
    fn the_first_reason_stays() {
        thread_local! { static CLIENT: RefCell<Option<TcpStream>> = const { RefCell::new(None) }; }
        fn leaves(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            if why == Some(Wakeup::Cancelled(Cancel::Deadline)) {
                // The connection breaks between the first time and the second.
                CLIENT.with_borrow_mut(|client| {
                    if let Some(stream) = client.take() {
                        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                    }
                });
            }
            stubborn(worker, core, step, why)
        }
        let (mut worker, address) =
            worker(|options| options.request_timeouts = vec![("/stubborn".to_owned(), 3)]);
        let mut client = connect(address);
        client.write_all(b"GET /stubborn HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        CLIENT.set(Some(client));
        drive(&mut worker, leaves, &mut |worker| worker.counters().abandoned == 1);
        let counters = worker.counters();
        assert_eq!((counters.deadlines, counters.clients_gone, worker.busy_cores()), (1, 1, 0));
        let reasons: Vec<_> =
            TOLD.take().iter().filter_map(|(_, why)| *why).filter(|why| *why != Wakeup::Turn).collect();
        assert_eq!(reasons, [Wakeup::Cancelled(Cancel::Deadline); 8]);
    }

    #[test]
    fn a_client_that_has_its_whole_response_may_leave() {
        fn works_on(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            match step {
                0 => {
                    hello(worker, core, step, why);
                    worker.complete(core);
                    worker.flush(core);
                    worker.sleep(core, 60);
                }
                1 | 2 => {
                    assert_eq!(why, Some(Wakeup::Wait), "nothing of it was for the client");
                    worker.sleep(core, 10);
                }
                _ => {
                    assert_eq!(why, Some(Wakeup::Wait));
                    assert_eq!(worker.cancelled(core), None);
                    return Step::Done;
                }
            }
            worker.suspend(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|_| {});
        let mut client = Some(connect(address));
        client.as_mut().unwrap().write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        drive(&mut worker, works_on, &mut |worker| {
            if let Some(stream) = &mut client {
                received(stream, &mut got);
                if count(&got, b"hello /") == 1 {
                    client = None;
                }
            }
            client.is_none() && worker.busy_cores() == 0
        });
        assert_eq!(worker.counters().clients_gone, 0);
    }

    #[test]
    fn a_worker_that_leaves_answers_503_and_gives_up_who_will_not_end() {
        let (mut worker, address) = worker(|_| ());
        let (mut client, mut other) = (connect(address), connect(address));
        client.write_all(b"GET /stubborn HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        other.write_all(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        drive(&mut worker, stubborn, &mut |worker| worker.busy_cores() == 2);
        worker.cancel_all();
        // The last actions of a worker that was told to leave: no turn comes any more.
        let mut steps: HashMap<CoreId, u32> = HashMap::new();
        worker.turn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while worker.busy_cores() > 0 {
            assert!(Instant::now() < deadline, "a core is left");
            match worker.next_action() {
                Some(Action::Resume(core, why)) => {
                    assert_eq!(why, Wakeup::Cancelled(Cancel::Stop));
                    let step = *steps.entry(core).and_modify(|n| *n += 1).or_insert(0);
                    if let Step::Failed = stubborn(&mut worker, core, step, Some(why)) {
                        worker.fail(core);
                    }
                }
                Some(Action::Abandon(core)) => assert_eq!(worker.fail(core), Failure::Answered),
                Some(action) => panic!("{action:?}"),
                None => worker.turn().unwrap(),
            }
        }
        assert_eq!((worker.counters().abandoned, worker.counters().deadlines), (1, 0));
        for client in [&mut client, &mut other] {
            let mut got = Vec::new();
            client.set_nonblocking(false).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.read_to_end(&mut got).unwrap();
            let text = String::from_utf8(got).unwrap();
            assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
            assert!(text.contains("Connection: close\r\n"), "{text}");
        }
    }

    /// What a core does, if it has a request.
    fn doing(worker: &Worker, core: CoreId) -> Option<Doing> {
        worker.in_flight().into_iter().find(|request| request.core == core).map(|request| request.doing)
    }

    #[test]
    fn whoever_left_by_a_switch_of_its_own_is_woken_by_its_waits() {
        thread_local! {
            static PIPE: (UnixStream, UnixStream) = UnixStream::pair().unwrap();
            static AWAY: Cell<u32> = const { Cell::new(0) };
        }
        fn goes(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            let fd = PIPE.with(|pipe| pipe.0.as_raw_fd());
            match (worker.request(core).path(), step) {
                (b"/fd", 0) => worker.wait_fd(core, fd, Interest::Read, None).unwrap(),
                (b"/time", 0) => worker.sleep(core, 5),
                (b"/nothing" | b"/late", 0) => {}
                (b"/late", 1) => {
                    assert_eq!(why, Some(Wakeup::Cancelled(Cancel::Deadline)));
                    return Step::Done;
                }
                (b"/fd", 1) => {
                    assert_eq!((why, worker.outcome(core).ready_fd), (Some(Wakeup::Wait), Some(fd)));
                    return hello(worker, core, step, why);
                }
                (b"/time", 1) => {
                    assert_eq!((why, worker.outcome(core).timed_out), (Some(Wakeup::Wait), true));
                    return hello(worker, core, step, why);
                }
                // Nothing resumes it until its client goes.
                _ => {
                    assert_eq!(why, Some(Wakeup::Cancelled(Cancel::ClientGone)));
                    return Step::Done;
                }
            }
            assert_eq!(doing(worker, core), Some(Doing::Runs));
            worker.away(core);
            assert!(!matches!(doing(worker, core), None | Some(Doing::Runs)));
            // Once is enough.
            worker.away(core);
            AWAY.set(AWAY.get() + 1);
            Step::Suspended
        }
        let (mut worker, address) =
            worker(|options| options.request_timeouts = vec![("/late".to_owned(), 5)]);
        let paths = ["/fd", "/time", "/late", "/nothing"];
        let mut clients: Vec<_> = paths
            .iter()
            .map(|path| {
                let mut client = connect(address);
                client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
                Some(client)
            })
            .collect();
        let mut got = vec![Vec::new(); clients.len()];
        drive(&mut worker, goes, &mut |worker| {
            for (client, got) in clients.iter_mut().zip(&mut got) {
                if let Some(client) = client {
                    received(client, got);
                }
            }
            let left = worker.busy_cores();
            if AWAY.get() == 4 && left == 2 {
                PIPE.with(|pipe| (&pipe.1).write_all(b"x").unwrap());
            } else if left == 1 && clients[3].is_some() {
                assert_eq!(worker.in_flight()[0].doing, Doing::OwnSwitch);
                let client = clients[3].take().unwrap();
                rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            }
            left == 0 && AWAY.get() == 4
        });
        for (got, expected) in got.iter().zip(["hello /fd", "hello /time", "Gateway Timeout"]) {
            assert!(got.ends_with(expected.as_bytes()), "{expected}: {}", String::from_utf8_lossy(got));
        }
        assert_eq!(worker.counters().clients_gone, 1);
    }

    #[test]
    fn a_core_that_waits_in_the_workers_eyes_may_register_more() {
        thread_local! { static PIPE: (UnixStream, UnixStream) = UnixStream::pair().unwrap(); }
        fn adds(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            let fd = PIPE.with(|pipe| pipe.0.as_raw_fd());
            match step {
                0 => {
                    worker.away(core);
                    // The application has come back to it by itself, and leaves again.
                    worker.sleep(core, 5);
                    worker.away(core);
                }
                1 => {
                    assert!(worker.outcome(core).timed_out && why == Some(Wakeup::Wait));
                    worker.wait_fd(core, fd, Interest::Write, None).unwrap();
                    // Ready before it leaves: it comes back at once.
                    worker.give_way(core);
                }
                2 => worker.away(core),
                _ => {
                    assert_eq!(worker.outcome(core).ready_fd, Some(fd));
                    return hello(worker, core, step, why);
                }
            }
            Step::Suspended
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        client.write_all(b"GET /more HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        drive(&mut worker, adds, &mut |_| {
            received(&mut client, &mut got);
            count(&got, b"hello /more") == 1
        });
    }

    #[test]
    fn nobody_but_the_loop_ends_a_wait_in_it() {
        thread_local! {
            static PIPE: (UnixStream, UnixStream) = UnixStream::pair().unwrap();
            static RESUMED: Cell<bool> = const { Cell::new(false) };
        }
        fn goes(worker: &mut Worker, core: CoreId, step: u32, why: Option<Wakeup>) -> Step {
            let fd = PIPE.with(|pipe| pipe.0.as_raw_fd());
            if step > 0 {
                assert!(RESUMED.get(), "by the loop only: {why:?}");
                assert_eq!((why, worker.outcome(core).ready_fd), (Some(Wakeup::Wait), Some(fd)));
                return hello(worker, core, step, why);
            }
            worker.sleep(core, 1);
            worker.wait_fd(core, fd, Interest::Write, None).unwrap();
            worker.away_in_loop(core);
            Step::Suspended
        }
        let (mut worker, address) = worker(|_| ());
        let mut client = connect(address);
        client.write_all(b"GET /loop HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut got = Vec::new();
        let mut other = None;
        drive(&mut worker, goes, &mut |worker| {
            let core = worker.in_flight().first().map(|found| found.core);
            if let Some(core) = core
                && other.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(20))
            {
                other.get_or_insert_with(Instant::now);
                assert_eq!(doing(worker, core), Some(Doing::OwnSwitch));
            } else if let Some(core) = core
                && !RESUMED.replace(true)
            {
                // Both waits are over. The loop resumes it, and the application suspends.
                worker.suspend(core);
            }
            received(&mut client, &mut got);
            count(&got, b"hello /loop") == 1
        });
    }

    /// A worker with as many cores as there are paths, all of them away by a switch of their own.
    fn away(paths: &[&str]) -> (Worker, Vec<TcpStream>, Vec<CoreId>) {
        let (mut worker, address) = worker(|options| options.cores = u32::try_from(paths.len()).unwrap());
        let clients: Vec<_> = paths
            .iter()
            .map(|path| {
                let mut client = connect(address);
                client.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
                client
            })
            .collect();
        let mut cores = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while cores.len() < paths.len() {
            assert!(Instant::now() < deadline);
            worker.turn().unwrap();
            while let Some(action) = worker.next_action() {
                let Action::Start(core) = action else { panic!("{action:?}") };
                worker.away(core);
                cores.push(core);
            }
        }
        cores
            .sort_by_key(|&core| paths.iter().position(|path| path.as_bytes() == worker.request(core).uri()));
        (worker, clients, cores)
    }

    #[test]
    fn a_decision_is_dropped_when_the_application_was_faster() {
        let (mut worker, _clients, mut cores) = away(&["/a", "/b", "/c"]);
        // The order in which they are told.
        cores.sort_by_key(|core| core.0);
        let [first, ended, suspended] = cores[..] else { panic!("{cores:?}") };
        worker.cancel_all();
        worker.turn().unwrap();
        let stop = Wakeup::Cancelled(Cancel::Stop);
        assert_eq!(worker.next_action(), Some(Action::Resume(first, stop)));
        // The first one ends the second, whose core may get another request, and goes on with the third, which
        // suspends: what was decided for them is void.
        worker.fail(ended);
        assert_eq!(doing(&worker, ended), None);
        worker.suspend(suspended);
        worker.fail(first);
        assert_eq!(worker.next_action(), Some(Action::Resume(suspended, stop)), "told in its turn");
        worker.fail(suspended);
        assert_eq!(worker.next_action(), None);
        assert_eq!(worker.busy_cores(), 0);
    }

    #[test]
    fn a_queued_core_that_the_application_has_ended_is_in_the_queue_no_more() {
        let (mut worker, mut clients, cores) = away(&["/a", "/b"]);
        worker.suspend(cores[0]);
        worker.suspend(cores[1]);
        // In the worker's eyes both wait for their turns.
        hello(&mut worker, cores[0], 0, None);
        worker.finish(cores[0]);
        worker.suspend(cores[1]);
        worker.turn().unwrap();
        assert_eq!(worker.next_action(), Some(Action::Resume(cores[1], Wakeup::Turn)));
        hello(&mut worker, cores[1], 0, None);
        worker.finish(cores[1]);
        assert_eq!(worker.next_action(), None);
        for client in &mut clients {
            let mut got = Vec::new();
            received(client, &mut got);
            assert_eq!(count(&got, b"hello /"), 1);
        }
    }

    #[test]
    fn coalesced_parts_of_coroutines_that_were_left_without_a_suspension_reach_their_own_clients() {
        let (mut worker, mut clients, cores) = away(&["/a", "/b", "/c"]);
        for client in &clients {
            client.set_nonblocking(false).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        let says = |worker: &mut Worker, core: CoreId| {
            worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
            let part = [b"part of ", worker.request(core).path()].concat();
            assert_eq!(worker.write(core, &part), Written::Taken(part.len()));
            // Here the application switches to somebody else, and the worker is not told.
            assert_eq!(worker.yielded(core), Yielded::GoOn);
        };
        let mut gets = |number: usize, part: &[u8]| {
            let mut got = Vec::new();
            while count(&got, part) == 0 {
                let mut piece = [0; 1024];
                let n = clients[number].read(&mut piece).unwrap();
                assert!(n > 0, "closed after {}", got.escape_ascii());
                got.extend_from_slice(&piece[..n]);
            }
            assert_eq!(count(&got, b"part of "), 1, "{}", got.escape_ascii());
        };
        // Both ways: when the flusher has sent the other one's bytes, and while it still has them.
        says(&mut worker, cores[0]);
        gets(0, b"part of /a");
        says(&mut worker, cores[1]);
        says(&mut worker, cores[2]);
        gets(2, b"part of /c");
        gets(1, b"part of /b");
        worker.cancel_all();
    }

    #[test]
    fn requests_in_flight_say_what_they_wait_for() {
        let (mut worker, _clients, cores) = away(&["/waits?x=1", "/queued", "/away", "/drains", "/runs"]);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let fd = ours.as_raw_fd();
        worker.wait_fd(cores[0], fd, Interest::Read, Some(60_000)).unwrap();
        worker.wait_fd(cores[0], fd, Interest::Write, None).unwrap();
        worker.suspend(cores[0]);
        worker.suspend(cores[1]);
        worker.respond(cores[3], b"200 OK", None, |_| Ok(())).unwrap();
        let block = vec![b'z'; 65_536];
        let fill = |worker: &mut Worker| {
            while worker.write(cores[3], &block) == Written::Taken(block.len()) {}
            worker.stall(cores[3]);
        };
        fill(&mut worker);
        worker.suspend(cores[4]);
        let (mut resumed, mut writable) = (Vec::new(), false);
        let deadline = Instant::now() + Duration::from_secs(10);
        while resumed.len() < 2 || !writable {
            assert!(Instant::now() < deadline, "{resumed:?}, {writable}");
            worker.turn().unwrap();
            while let Some(action) = worker.next_action() {
                match action {
                    Action::Resume(core, Wakeup::Wait) => {
                        assert_eq!(core, cores[0]);
                        writable = true;
                        worker.wait_fd(core, fd, Interest::Read, Some(60_000)).unwrap();
                        worker.suspend(core);
                    }
                    Action::Resume(core, Wakeup::Turn) => resumed.push(core),
                    // The socket has found room for more.
                    Action::Resume(_, Wakeup::Drained) => fill(&mut worker),
                    action => panic!("{action:?}"),
                }
            }
        }
        assert_eq!(resumed, [cores[1], cores[4]]);
        worker.suspend(cores[1]);
        let flight = worker.in_flight();
        assert_eq!(flight.len(), 5);
        let of = |core: CoreId| flight.iter().find(|request| request.core == core).unwrap();
        assert_eq!((&of(cores[0]).method[..], &of(cores[0]).uri[..]), (&b"GET"[..], &b"/waits?x=1"[..]));
        assert!(
            matches!(&of(cores[0]).doing, Doing::Waits { fds, left_ms: Some(50_000..=60_000) }
            if *fds == [(fd, Interest::Read)]),
            "{:?}",
            of(cores[0])
        );
        assert_eq!(of(cores[1]).doing, Doing::Queued);
        assert_eq!(of(cores[2]).doing, Doing::OwnSwitch);
        assert_eq!(of(cores[3]).doing, Doing::Drains);
        assert_eq!(of(cores[4]).doing, Doing::Runs);
        assert!(flight.iter().all(|request| request.cancelled.is_none() && request.age_ms < 20_000));
        worker.cancel_all();
        assert!(
            worker
                .in_flight()
                .iter()
                .filter(|request| request.core != cores[4])
                .all(|request| request.cancelled == Some(Cancel::Stop) && request.doing == Doing::Queued)
        );
        for core in cores {
            worker.fail(core);
        }
        assert_eq!(worker.in_flight(), []);
    }

    #[test]
    fn a_wakeup_descriptor_ends_a_wait_and_nothing_else() {
        let (mut worker, _) = worker(|_| ());
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        worker.watch_wakeup(ours.into()).unwrap();
        assert_eq!(ready(&worker, 0), 0);
        for _ in 0..2 {
            (&theirs).write_all(b"\x0a").unwrap();
            assert_eq!(ready(&worker, 10_000), 1);
            worker.turn().unwrap();
            assert_eq!(worker.next_action(), None);
            assert_eq!(ready(&worker, 0), 0, "drained");
        }
        // Its end does not make the worker spin.
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(ready(&worker, 10_000), 1);
        worker.turn().unwrap();
        assert_eq!(worker.next_action(), None);
        assert_eq!(ready(&worker, 0), 0);
        theirs.set_nonblocking(true).unwrap();
        assert_eq!((&theirs).read(&mut [0]).unwrap(), 0, "it is closed");
    }
}
