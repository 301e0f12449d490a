//! One behaviour after the other.

use std::io::Write as _;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use greenloom_worker::config::Protocol;
use greenloom_worker::{BodyFailure, Cancel};

use super::world::{
    Do, Ended, GET, World, chunked_post, chunks, find, pattern, post, read_all, receive, reset, text,
};

#[test]
fn a_request_starts_at_its_head_and_reads_what_drips() {
    let mut world = World::new(read_all, |_| ());
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e/x", 4)).unwrap();
    for (times, byte) in (1..).zip(b"abcd") {
        world.until_waiting(times);
        assert_eq!(world.worker.busy_cores(), 1);
        client.write_all(&[*byte]).unwrap();
    }
    world.until_got(&mut client, &mut got, "\r\n\r\nabcd");
    assert!(find(&got, b"Connection: close").is_none(), "it is kept alive: {}", text(&got));
    client.write_all(&post("/e/again", 2)).unwrap();
    client.write_all(b"ef").unwrap();
    world.until_got(&mut client, &mut got, "\r\n\r\nef");
    let paths: Vec<_> = world.ended.iter().map(|ended| &ended.path[..]).collect();
    assert_eq!((paths, world.worker.connection_count()), (vec!["/e/x", "/e/again"], 1));
}

#[test]
fn elsewhere_a_request_starts_with_its_complete_body() {
    let mut world = World::new(read_all, |_| ());
    let mut clients: Vec<_> = ["/x", "/early", "/", "/x/e"].map(|path| (path, world.connect())).into();
    for (path, client) in &mut clients {
        client.write_all(&post(path, 4)).unwrap();
        client.write_all(b"abc").unwrap();
    }
    let (mut early, mut got) = (world.connect(), Vec::new());
    early.write_all(&post("/%65", 4)).unwrap();
    early.write_all(b"abcd").unwrap();
    world.until_got(&mut early, &mut got, "abcd");
    assert_eq!((world.ended.len(), world.worker.busy_cores()), (1, 0));
}

#[test]
fn requests_behind_a_body_are_neither_lost_nor_misread() {
    let mut world = World::new(read_all, |_| ());
    let mut stream = chunked_post("/e/1");
    stream.extend(chunks(b"first body", 3));
    stream.extend(post("/e/2", 6));
    stream.extend(b"second");
    stream.extend(GET);
    stream.extend(chunked_post("/e/3"));
    stream.extend(chunks(b"third", 1));
    for cut in 1..stream.len() {
        world.ended.clear();
        let mut client = world.connect();
        client.write_all(&stream[..cut]).unwrap();
        for _ in 0..3 {
            world.turn();
        }
        client.write_all(&stream[cut..]).unwrap();
        world.until_ended(4);
        let bodies: Vec<_> = world.ended.iter().map(|ended| text(&ended.got)).collect();
        assert_eq!(bodies, ["first body", "second", "", "third"], "cut at {cut}");
    }
}

#[test]
fn an_application_that_does_not_read_stops_its_client() {
    fn late(path: &str) -> Vec<Do> {
        if path == "/e" { vec![Do::Sleep(100), Do::ReadAll(100_000), Do::Echo] } else { vec![Do::Echo] }
    }
    let mut world = World::new(late, |options| options.limit_post = None);
    let body = pattern(64 << 20);
    let mut client = world.connect();
    client.write_all(&chunked_post("/e")).unwrap();
    let wire = chunks(&body, 50_000);
    let mut sent = 0;
    let mut push = |world: &mut World| {
        let before = world.ended.is_empty() && world.waits == 0;
        while let Ok(n) = client.write(&wire[sent..]) {
            sent += n;
            if sent == wire.len() {
                break;
            }
        }
        assert!(!before || sent < wire.len() / 2, "nobody reads, and {sent} bytes were taken");
        sent == wire.len()
    };
    world.until(|world| push(world));
    world.until_ended(1);
    assert!(world.ended[0].got == body);
}

#[test]
fn a_fast_upload_lets_others_have_their_turn() {
    let mut world = World::new(read_all, |_| ());
    let body = pattern(4 << 20);
    let mut client = world.connect();
    let wire = [post("/e", body.len()), body.clone()].concat();
    client.set_nonblocking(false).unwrap();
    let sender = std::thread::spawn(move || client.write_all(&wire).map(|()| client));
    world.until_ended(1);
    assert!(world.ended[0].got == body);
    assert!(world.waits >= 15, "{} waits for 4 MiB", world.waits);
    let _client = sender.join().unwrap().unwrap();
}

#[test]
fn a_client_that_leaves_in_the_middle_fails_the_read() {
    let mut world = World::new(read_all, |_| ());
    let (mut closes, mut got) = (world.connect(), Vec::new());
    closes.write_all(&post("/e/closes", 10)).unwrap();
    closes.write_all(b"abc").unwrap();
    let mut resets = world.connect();
    resets.write_all(&post("/e/resets", 10)).unwrap();
    world.until(|world| world.waits >= 2 && world.runs.len() == 2);
    closes.shutdown(Shutdown::Write).unwrap();
    world.until_ended(1);
    world.until(|_| receive(&mut closes, &mut got));
    assert!(got.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "{}", text(&got));
    assert!(find(&got, b"Connection: close").is_some());
    reset(resets);
    world.until_ended(2);
    let failure = Some(BodyFailure::ClientClosed);
    let ended =
        |path: &str, got: &[u8]| Ended { path: path.to_owned(), got: got.to_vec(), failure, cancelled: None };
    assert_eq!(world.ended, [ended("/e/closes", b"abc"), ended("/e/resets", b"")]);
    assert_eq!((world.worker.busy_cores(), world.worker.counters().clients_gone), (0, 1));
    world.until(|world| world.worker.connection_count() == 0);
}

#[test]
fn a_departure_between_reads_cancels_unless_the_body_may_be_whole() {
    fn sleeps(path: &str) -> Vec<Do> {
        let rest = [Do::ReadAll(3), Do::Sleep(1), Do::Echo];
        if path == "/e/long" {
            vec![Do::Begin, Do::Sleep(60_000)]
        } else {
            [vec![Do::Begin, Do::Read(2), Do::Sleep(50)], rest.to_vec()].concat()
        }
    }
    let mut world = World::new(sleeps, |_| ());
    let (mut whole, mut got) = (world.connect(), Vec::new());
    whole.write_all(&post("/e/whole", 10)).unwrap();
    whole.write_all(b"0123456789").unwrap();
    whole.shutdown(Shutdown::Write).unwrap();
    let mut cut = world.connect();
    cut.write_all(&post("/e/long", 10)).unwrap();
    cut.write_all(b"01234").unwrap();
    let mut gone = world.connect();
    gone.write_all(&post("/e/long", 10)).unwrap();
    world.until(|world| world.runs.len() == 3);
    cut.shutdown(Shutdown::Write).unwrap();
    reset(gone);
    world.until_ended(3);
    let ended = |path: &str| world.ended.iter().filter(|ended| ended.path == path).collect::<Vec<_>>();
    assert_eq!(ended("/e/whole")[0].got, b"0123456789", "closing its side is not leaving");
    for ended in ended("/e/long") {
        assert_eq!((ended.failure, ended.cancelled), (None, Some(Cancel::ClientGone)));
    }
    world.until(|_| receive(&mut whole, &mut got));
    assert!(find(&got, b"begun").is_some());
}

#[test]
fn a_body_that_is_too_large_or_malformed_fails_with_the_bytes_before_it_read() {
    let mut world = World::new(read_all, |options| options.limit_post = Some(8));
    let large = [chunked_post("/e/large"), b"6\r\n012345\r\n6\r\n678901\r\n0\r\n\r\n".to_vec()].concat();
    let bad = [chunked_post("/e/bad"), b"3\r\nabc\r\nzz\r\n".to_vec(), GET.to_vec()].concat();
    let announced = post("/e/announced", 9);
    for (wire, status, body) in
        [(large, "413 Content Too Large", "012345"), (bad, "400 Bad Request", "abc"), (announced, "413 ", "")]
    {
        let (mut client, mut got) = (world.connect(), Vec::new());
        client.write_all(&wire).unwrap();
        world.until(|_| receive(&mut client, &mut got));
        assert!(got.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", text(&got));
        assert_eq!(got.windows(9).filter(|window| window == b"HTTP/1.1 ").count(), 1, "{}", text(&got));
        if !body.is_empty() {
            assert_eq!(text(&world.ended.pop().unwrap().got), body);
        }
    }
    assert!(world.ended.is_empty(), "what announces too much takes no core");
    assert_eq!(world.worker.counters().refused, 3);
}

#[test]
fn only_time_spent_waiting_for_the_client_makes_it_slow() {
    fn slow(path: &str) -> Vec<Do> {
        if path == "/e/patient" { vec![Do::Sleep(150), Do::ReadAll(1), Do::Echo] } else { read_all(path) }
    }
    let mut world = World::new(slow, |options| {
        options.body_timeout_ms = 60;
        options.body_min_rate = 1_000_000;
    });
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e/patient", 3)).unwrap();
    client.write_all(b"abc").unwrap();
    world.until_got(&mut client, &mut got, "\r\n\r\nabc");
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e/drips", 3)).unwrap();
    client.write_all(b"ab").unwrap();
    let began = Instant::now();
    world.until(|_| receive(&mut client, &mut got));
    // The worker counts whole milliseconds.
    assert!(began.elapsed() >= Duration::from_millis(55));
    assert!(got.starts_with(b"HTTP/1.1 408 "), "{}", text(&got));
    assert_eq!(world.ended[1].failure, Some(BodyFailure::TooSlow));
}

#[test]
fn a_wait_for_bytes_can_be_given_up() {
    let mut world = World::new(
        |_| vec![Do::Await(30), Do::Await(10), Do::Read(3), Do::Await(60_000), Do::Await(10), Do::Echo],
        |_| (),
    );
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e", 10)).unwrap();
    let began = Instant::now();
    world.until_waiting(1);
    assert!(began.elapsed() >= Duration::from_millis(35));
    client.write_all(b"abc").unwrap();
    world.until(|world| world.runs.values().any(|run| run.at == 3));
    client.write_all(b"d").unwrap();
    world.until_got(&mut client, &mut got, "\r\n\r\nabc");
    assert_eq!(world.ended[0].failure, None);
}

#[test]
fn dripping_earns_time_and_waits_add_up() {
    let mut world = World::new(read_all, |options| {
        options.body_timeout_ms = 40;
        options.body_min_rate = 100; // A byte earns 10 ms.
    });
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e", 1000)).unwrap();
    let began = Instant::now();
    let mut next = began;
    world.until(|_| {
        // Slower than the rate, so it ends; the bytes that came have earned time, so not after 40 ms.
        if Instant::now() >= next && client.write(b"x").is_ok() {
            next += Duration::from_millis(20);
        }
        receive(&mut client, &mut got)
    });
    assert!(got.starts_with(b"HTTP/1.1 408 "), "{}", text(&got));
    let bytes = world.ended[0].got.len() as u64;
    // The worker counts whole milliseconds.
    let earned = Duration::from_millis(40 + 10 * bytes - 5);
    assert!(began.elapsed() >= earned, "{:?} for {bytes} bytes", began.elapsed());
}

#[test]
fn continue_is_sent_with_the_first_read_only() {
    fn some(path: &str) -> Vec<Do> {
        match path {
            "/e/never" => vec![Do::Sleep(10), Do::Echo],
            "/e/late" => vec![Do::Sleep(30), Do::ReadAll(10), Do::Echo],
            _ => read_all(path),
        }
    }
    fn expecting(path: &str) -> String {
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    }
    let mut world = World::new(some, |_| ());
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(expecting("/e/never").as_bytes()).unwrap();
    world.until(|_| receive(&mut client, &mut got));
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", text(&got));
    assert!(find(&got, b"Connection: close").is_some(), "the body may come or not: {}", text(&got));
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(expecting("/e/reads").as_bytes()).unwrap();
    world.until_got(&mut client, &mut got, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"abc").unwrap();
    world.until_got(&mut client, &mut got, "abc");
    assert_eq!(got.windows(4).filter(|window| window == b" 100").count(), 1);
    assert!(find(&got, b"Connection: close").is_none());
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(format!("{}abc", expecting("/e/impatient")).as_bytes()).unwrap();
    world.until_got(&mut client, &mut got, "abc");
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"), "it has not waited: {}", text(&got));
    // Nor is it sent to a client that has begun to send before the first read.
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(expecting("/e/late").as_bytes()).unwrap();
    world.until(|world| world.runs.len() == 1);
    client.write_all(b"a").unwrap();
    let waits = world.waits;
    world.until_waiting(waits + 1);
    client.write_all(b"bc").unwrap();
    world.until_got(&mut client, &mut got, "abc");
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"), "it had begun: {}", text(&got));
}

#[test]
fn a_body_that_nobody_reads_is_thrown_away_or_ends_the_connection() {
    let mut world = World::new(|_| vec![Do::Echo], |_| ());
    let (mut client, mut got) = (world.connect(), Vec::new());
    client
        .write_all(&[post("/e", 6), b"GET /x".to_vec(), chunked_post("/e"), chunks(b"GET", 2)].concat())
        .unwrap();
    client.write_all(GET).unwrap();
    world.until(|_| {
        receive(&mut client, &mut got);
        got.windows(9).filter(|window| window == b"HTTP/1.1 ").count() == 3
    });
    assert!(find(&got, b"Connection: close").is_none(), "{}", text(&got));
    // A large one, of which little is there: the client can finish sending and read the answer.
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e", 1 << 20)).unwrap();
    world.until_got(&mut client, &mut got, "\r\n\r\n");
    assert!(find(&got, b"Connection: close").is_some(), "{}", text(&got));
    let rest = [pattern(1 << 20), GET.to_vec()].concat();
    let mut sent = 0;
    world.until(|_| {
        sent += client.write(&rest[sent..]).unwrap_or(0);
        sent == rest.len()
    });
    client.shutdown(Shutdown::Write).unwrap();
    world.until(|world| receive(&mut client, &mut got) && world.worker.connection_count() == 2);
    assert_eq!(got.windows(9).filter(|window| window == b"HTTP/1.1 ").count(), 1, "{}", text(&got));
}

#[test]
fn an_order_to_leave_reaches_a_core_that_reads() {
    let mut world = World::new(read_all, |_| ());
    let mut client = world.connect();
    client.write_all(&post("/e", 5)).unwrap();
    world.until_waiting(1);
    world.worker.cancel_all();
    world.until_ended(1);
    assert_eq!(world.ended[0].cancelled, Some(Cancel::Stop));
    assert_eq!(world.worker.busy_cores(), 0);
}

#[test]
fn a_deadline_ends_a_core_that_reads_whether_bytes_come_or_not() {
    let mut world = World::new(read_all, |options| options.request_timeouts = vec![(String::new(), 50)]);
    let (mut idle, mut got) = (world.connect(), Vec::new());
    idle.write_all(&post("/e/idle", 5)).unwrap();
    let mut busy = world.connect();
    busy.write_all(&chunked_post("/e/busy")).unwrap();
    let wire = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    world.until(|world| {
        while let Ok(n) = busy.write(&wire[sent..]) {
            sent = (sent + n) % wire.len();
        }
        world.ended.len() == 2
    });
    for ended in &world.ended {
        assert_eq!((ended.failure, ended.cancelled), (None, Some(Cancel::Deadline)), "{}", ended.path);
    }
    world.until(|_| receive(&mut idle, &mut got));
    assert!(got.starts_with(b"HTTP/1.1 504 "), "{}", text(&got));
    assert!(find(&got, b"Connection: close").is_some(), "the body may still come: {}", text(&got));
}

#[test]
fn a_request_that_has_to_wait_for_a_core_loses_nothing() {
    fn first_sleeps(path: &str) -> Vec<Do> {
        if path == "/first" { vec![Do::Sleep(30), Do::Echo] } else { read_all(path) }
    }
    let mut world = World::new(first_sleeps, |options| options.cores = 1);
    let mut first = world.connect();
    first.write_all(b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    world.until(|world| world.worker.busy_cores() == 1);
    let body = pattern(300_000);
    let (mut client, mut got) = (world.connect(), Vec::new());
    let wire = [post("/e", body.len()), body.clone()].concat();
    let mut sent = 0;
    world.until(|world| {
        sent += client.write(&wire[sent..]).unwrap_or(0);
        receive(&mut client, &mut got);
        world.ended.len() == 2
    });
    assert!(world.ended[1].got == body);
}

#[test]
fn who_disconnects_reads_no_further_and_others_see_no_difference() {
    let mut world = World::new(|_| vec![Do::Read(2), Do::Begin, Do::Disconnect, Do::ReadAll(5)], |_| ());
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&post("/e", 10)).unwrap();
    client.write_all(b"abc").unwrap();
    world.until_ended(1);
    assert_eq!(world.ended[0].failure, Some(BodyFailure::Disconnected));
    assert_eq!(world.ended[0].got, b"abc");
    client.write_all(b"defghij").unwrap();
    world.until(|_| receive(&mut client, &mut got));
    assert!(find(&got, b"begun").is_some(), "{}", text(&got));
}

#[test]
fn over_the_uwsgi_protocol_the_body_follows_the_packet() {
    let mut world = World::speaking(Protocol::Uwsgi, read_all, |_| ());
    let mut vars = Vec::new();
    for (key, value) in [
        ("REQUEST_METHOD", "POST"),
        ("PATH_INFO", "/e/x"),
        ("REQUEST_URI", "/e/x"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("CONTENT_LENGTH", "6"),
    ] {
        for text in [key, value] {
            vars.extend_from_slice(&u16::try_from(text.len()).unwrap().to_le_bytes());
            vars.extend_from_slice(text.as_bytes());
        }
    }
    let [low, high] = u16::try_from(vars.len()).unwrap().to_le_bytes();
    let (mut client, mut got) = (world.connect(), Vec::new());
    client.write_all(&[&[0, low, high, 0], &vars[..], b"abc"].concat()).unwrap();
    world.until(|world| world.runs.values().any(|run| run.got == b"abc"));
    client.write_all(b"def").unwrap();
    world.until(|_| receive(&mut client, &mut got));
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n") && got.ends_with(b"abcdef"), "{}", text(&got));
}
