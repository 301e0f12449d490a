//! Requests that are tasks of a hosting loop: news instead of suspensions, telling in time, and connections that part from
//! their core.

#[cfg(test)]
#[expect(dead_code, reason = "its driver runs coroutines")]
mod toy;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::time::{Duration, Instant};

    use greenloom_worker::{Action, BodyRead, Cancel, CoreId, Doing, News, Wakeup, Worker, Written};

    use crate::toy::{connect, count, received, worker};

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

    /// The next action, whenever it comes.
    fn next(worker: &mut Worker) -> Action {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < until, "no action comes");
            if let Some(action) = worker.next_action() {
                return action;
            }
            worker.turn().unwrap();
        }
    }

    /// What is decided without anything happening outside.
    fn decided(worker: &mut Worker) -> Vec<Action> {
        let mut found = Vec::new();
        for _ in 0..3 {
            worker.turn().unwrap();
            found.extend(std::iter::from_fn(|| worker.next_action()));
        }
        found
    }

    fn embedded() -> (Worker, SocketAddr) {
        let (mut worker, address) = worker(|options| {
            options.streaming = vec![(String::new(), true), ("/wsgi".to_owned(), false)];
            options.coalesce = false;
        });
        worker.embed().unwrap();
        (worker, address)
    }

    fn start(worker: &mut Worker, client: &mut TcpStream, request: &[u8]) -> CoreId {
        client.write_all(request).unwrap();
        match next(worker) {
            Action::Start(core) => core,
            other => panic!("{other:?}"),
        }
    }

    fn answer(worker: &mut Worker, core: CoreId) {
        worker.respond(core, b"200 OK", Some(2), |_| Ok(())).unwrap();
        assert_eq!(worker.write(core, b"ok"), Written::Taken(2));
        worker.complete(core);
        worker.flush(core);
    }

    fn answers(client: &mut TcpStream, number: usize) {
        let (mut got, until) = (Vec::new(), Instant::now() + Duration::from_secs(20));
        while count(&got, b"200 OK") < number {
            assert!(Instant::now() < until);
            received(client, &mut got);
        }
    }

    fn doing(worker: &Worker, core: CoreId) -> Option<Doing> {
        worker.in_flight().into_iter().find(|found| found.core == core).map(|found| found.doing)
    }

    #[test]
    fn a_connection_whose_response_is_complete_goes_on_without_its_core() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let first = start(&mut worker, &mut client, GET);
        answer(&mut worker, first);
        worker.task_waits(first);
        assert!(!worker.client_is_there(first));
        let second = start(&mut worker, &mut client, GET);
        assert_ne!(first, second);
        answer(&mut worker, second);
        worker.finish(second);
        answers(&mut client, 2);
        // It may leave: what is done behind a response is not for it.
        drop(client);
        assert_eq!(decided(&mut worker), []);
        worker.task_goes_on(first);
        worker.finish(first);
        assert_eq!((worker.busy_cores(), worker.counters().clients_gone), (0, 0));
    }

    #[test]
    fn a_response_that_is_not_complete_keeps_its_connection() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let core = start(&mut worker, &mut client, GET);
        worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
        let _ = worker.write(core, b"part");
        worker.task_waits(core);
        assert!(worker.client_is_there(core));
        assert_eq!(doing(&worker, core), Some(Doing::OwnSwitch));
    }

    #[test]
    fn a_task_is_told_once_and_again_when_it_has_had_time() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let core = start(&mut worker, &mut client, GET);
        worker.task_waits(core);
        drop(client);
        let told = Action::Resume(core, Wakeup::Cancelled(Cancel::ClientGone));
        assert_eq!(next(&mut worker), told);
        let began = Instant::now();
        worker.task_was_told(core);
        // It cleans up, and awaits something for that.
        for _ in 0..5 {
            worker.task_goes_on(core);
            worker.task_waits(core);
            assert_eq!(decided(&mut worker), []);
        }
        assert_eq!(next(&mut worker), told);
        assert!(began.elapsed() >= Duration::from_millis(990));
        worker.task_was_told(core);
        worker.task_goes_on(core);
        worker.fail(core);
        assert_eq!(worker.busy_cores(), 0);
        assert_eq!(decided(&mut worker), [], "what was to come belongs to nobody");
    }

    #[test]
    fn what_a_task_finds_out_when_it_waits_is_told() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let core = start(&mut worker, &mut client, GET);
        worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
        drop(client);
        let until = Instant::now() + Duration::from_secs(20);
        while worker.write(core, &vec![b'x'; 65536]) != Written::Gone {
            assert!(Instant::now() < until);
            worker.flush(core);
        }
        worker.task_waits(core);
        assert_eq!(next(&mut worker), Action::Resume(core, Wakeup::Cancelled(Cancel::ClientGone)));
    }

    #[test]
    fn room_comes_in_the_next_turn_or_when_output_has_drained() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let core = start(&mut worker, &mut client, GET);
        worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
        assert_eq!(worker.next_action(), None);
        worker.want_room(core);
        worker.task_waits(core);
        assert_eq!(worker.next_action(), None, "others have their turn first");
        assert_eq!(next(&mut worker), Action::News(core, News::Room));
        // The main task rests, another one sends.
        while worker.write(core, &vec![b'x'; 65536]) != Written::Taken(0) {
            worker.flush(core);
        }
        worker.want_room(core);
        assert_eq!(decided(&mut worker), []);
        let mut buffer = vec![0; 1 << 20];
        let news = loop {
            let _ = client.read(&mut buffer);
            worker.turn().unwrap();
            if let Some(action) = worker.next_action() {
                break action;
            }
        };
        assert_eq!(news, Action::News(core, News::Room));
        assert_eq!(decided(&mut worker), [], "said once");
    }

    #[test]
    fn a_body_is_asked_for_and_comes_as_news() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let head = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let core = start(&mut worker, &mut client, head);
        let mut buffer = [0; 100];
        assert_eq!(worker.read_body(core, &mut buffer), BodyRead::Wait);
        worker.want_body(core);
        worker.want_body(core);
        worker.task_waits(core);
        assert_eq!(decided(&mut worker), []);
        client.write_all(b"3\r\nabc\r\n").unwrap();
        assert_eq!(next(&mut worker), Action::News(core, News::Body));
        assert_eq!(decided(&mut worker), []);
        assert_eq!(worker.read_body(core, &mut buffer), BodyRead::Bytes(3));
        assert!(!worker.body_has_ended(core));
        // Asked for when it is here already.
        client.write_all(b"0\r\n\r\n").unwrap();
        worker.want_body(core);
        assert_eq!(next(&mut worker), Action::News(core, News::Body));
        assert_eq!(worker.read_body(core, &mut buffer), BodyRead::End);
        assert!(worker.body_has_ended(core));
    }

    #[test]
    fn the_end_of_a_client_is_news_of_its_body_first() {
        let (mut worker, address) = embedded();
        let mut client = connect(address);
        let head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc";
        let core = start(&mut worker, &mut client, head);
        let mut buffer = [0; 100];
        assert_eq!(worker.read_body(core, &mut buffer), BodyRead::Bytes(3));
        worker.want_body(core);
        worker.task_waits(core);
        drop(client);
        assert_eq!(next(&mut worker), Action::News(core, News::Body));
        assert!(matches!(worker.read_body(core, &mut buffer), BodyRead::Failed(_)));
    }

    #[test]
    fn bodies_stream_where_applications_do_and_small_ones_are_complete() {
        let (mut worker, address) = embedded();
        let post = |path: &str, length: usize| {
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").into_bytes()
        };
        for (path, length, early) in [
            ("/a", 65_537, true),
            ("/a", 65_536, false),
            ("/wsgi", 65_537, false),
            ("/wsgi/a", 1 << 20, false),
            ("/wsgiless", 1 << 20, true),
        ] {
            let mut client = connect(address);
            client.write_all(&post(path, length)).unwrap();
            if early {
                let Action::Start(core) = next(&mut worker) else { panic!("{path}") };
                assert!(worker.body_is_incoming(core), "{path}");
                worker.fail(core);
            } else {
                assert_eq!(decided(&mut worker), [], "{path}");
                client.set_nonblocking(false).unwrap();
                let body = vec![b'x'; length];
                let sender = std::thread::spawn(move || client.write_all(&body).map(|()| client));
                let Action::Start(core) = next(&mut worker) else { panic!("{path}") };
                assert!(!worker.body_is_incoming(core), "{path}");
                worker.fail(core);
                drop(sender.join().unwrap().unwrap());
            }
        }
    }
}
