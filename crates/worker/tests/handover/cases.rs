//! What a connection can be doing when its worker makes room for others. None may be closed, and no byte lost.

use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use greenloom_sys::fdpass::{self, Sent};
use greenloom_worker::Leave;
use greenloom_worker::proto::handover::{Packet, Spoken};

use super::world::{BIG, Client, World, answer_to};

/// Connects, and sees to it that worker `at` has the connection.
fn client_of(world: &mut World, at: usize) -> Client {
    let before = world.hosts[at].worker.connection_count();
    let client = Client::connect(world.http());
    while world.hosts[at].worker.connection_count() == before {
        world.turn(at);
    }
    client
}

fn settle(world: &mut World, client: &mut Client) {
    world.run(|_| client.is_satisfied());
    client.check_open();
}

/// Nobody has a descriptor of a connection any more once the workers and the queue are gone.
fn check_ends(world: World, clients: &mut [Client]) {
    drop(world);
    for client in clients {
        client.stream.set_nonblocking(false).unwrap();
        client.stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let n = std::io::Read::read(&mut client.stream, &mut [0; 16]).unwrap_or(0);
        assert_eq!(n, 0, "bytes that nobody asked for");
    }
}

#[test]
fn idle_connections_move_and_go_on() {
    let mut world = World::new(2, |_| ());
    let mut fresh = client_of(&mut world, 0);
    let mut served = client_of(&mut world, 0);
    served.get("/first");
    settle(&mut world, &mut served);
    world.retire(0);
    assert_eq!(world.hosts[0].left, Some(Leave::Drained));
    assert_eq!(world.hosts[0].worker.counters().given, 2);
    world.run(|world| world.connections() == [0, 2]);
    for client in [&mut fresh, &mut served] {
        client.get("/second");
        settle(&mut world, client);
    }
    assert_eq!((world.hosts[0].served, world.hosts[1].served), (1, 2));
    check_ends(world, &mut [fresh, served]);
}

#[test]
fn bytes_that_arrive_on_the_way_travel_with_the_socket() {
    let mut world = World::new(2, |_| ());
    let mut client = client_of(&mut world, 0);
    client.get("/before");
    settle(&mut world, &mut client);
    // In the kernel, unseen by the first worker; and more while the connection is in the queue.
    client.send(b"GET /on/the/way HT");
    world.hosts[0].worker.make_room();
    world.turn(0);
    assert_eq!((world.hosts[0].left, world.connections()), (Some(Leave::Drained), vec![0, 0]));
    client.send(b"TP/1.1\r\nHost: h\r\n\r\n");
    client.expect(answer_to(b"/on/the/way", b""));
    settle(&mut world, &mut client);
    check_ends(world, &mut [client]);
}

#[test]
fn the_beginning_of_a_head_goes_along() {
    let mut world = World::new(2, |options| options.head_timeout_ms = 60_000);
    let mut client = client_of(&mut world, 0);
    client.send(b"GET /half HTTP/1.1\r\nX: ");
    for _ in 0..3 {
        world.turn(0);
    }
    world.retire(0);
    client.send(b"y\r\nHost: h\r\n\r\n");
    client.expect(answer_to(b"/half", b""));
    settle(&mut world, &mut client);
    assert_eq!(world.hosts[1].served, 1);
    check_ends(world, &mut [client]);
}

#[test]
fn a_head_gets_no_new_time_by_moving() {
    let mut world = World::new(2, |options| options.head_timeout_ms = 200);
    let mut client = client_of(&mut world, 0);
    let began = std::time::Instant::now();
    client.send(b"GET /half HTTP/1.1\r\nX: ");
    for _ in 0..3 {
        world.turn(0);
    }
    // Back and forth: with a new time each time it would never end.
    let mut at = 0;
    while world.connections().iter().sum::<usize>() > 0 {
        assert!(began.elapsed().as_secs() < 10, "the head never times out");
        world.retire(at);
        world.run(|world| world.connections()[1 - at] == 1 || began.elapsed().as_millis() > 200);
        world.replace(at);
        at = 1 - at;
        (0..20).for_each(|_| world.turn(at));
    }
    let mut answer = Vec::new();
    client.stream.set_nonblocking(false).unwrap();
    std::io::Read::read_to_end(&mut client.stream, &mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_request_ends_where_it_began_and_what_was_sent_behind_it_moves() {
    let mut world = World::new(2, |_| ());
    let mut client = client_of(&mut world, 0);
    client.get("/slow");
    client.get("/second");
    client.get("/third");
    client.send(b"GET /fourth HT");
    world.run(|world| world.hosts[0].worker.busy_cores() == 1);
    world.hosts[0].worker.make_room();
    for _ in 0..5 {
        world.turn(0);
    }
    assert_eq!(world.connections(), [1, 0], "its request still runs");
    world.let_go();
    world.run(|world| world.hosts[0].left.is_some());
    client.send(b"TP/1.1\r\nHost: h\r\n\r\n");
    client.expect(answer_to(b"/fourth", b""));
    settle(&mut world, &mut client);
    assert_eq!((world.hosts[0].served, world.hosts[1].served), (1, 3));
    check_ends(world, &mut [client]);
}

#[test]
fn uploads_stay_until_they_are_answered() {
    let mut world = World::new(2, |_| ());
    for path in ["/upload", "/early"] {
        let mut client = client_of(&mut world, 0);
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
        client.send(head.as_bytes());
        for _ in 0..5 {
            world.turn(0);
        }
        world.hosts[0].worker.make_room();
        client.send(b"01234");
        for _ in 0..5 {
            world.turn(0);
        }
        assert_eq!(world.connections(), [1, 0], "{path}");
        client.send(b"56789");
        client.expect(answer_to(path.as_bytes(), b"0123456789"));
        world.run(|world| world.hosts[0].left.is_some());
        client.get("/next");
        settle(&mut world, &mut client);
        assert_eq!((world.hosts[0].served, world.hosts[1].served), (1, 1));
        check_ends(world, &mut [client]);
        world = World::new(2, |_| ());
    }
}

#[test]
fn a_response_drains_before_its_connection_moves() {
    let mut world = World::new(2, |_| ());
    let mut client = client_of(&mut world, 0);
    client.get("/big");
    for _ in 0..5 {
        world.turn(0);
    }
    world.hosts[0].worker.make_room();
    client.get("/small");
    for _ in 0..5 {
        world.turn(0);
    }
    assert_eq!(world.connections(), [1, 0]);
    settle(&mut world, &mut client);
    assert_eq!((world.hosts[0].left, world.hosts[1].served), (Some(Leave::Drained), 1));
    assert_eq!(answer_to(b"/big", b"").len(), BIG);
    check_ends(world, &mut [client]);
}

#[test]
fn a_uwsgi_packet_goes_on_at_the_same_listener() {
    let mut world = World::new(2, |_| ());
    let address = world.uwsgi();
    let mut stream = TcpStream::connect(address).unwrap();
    let vars: &[(&[u8], &[u8])] = &[
        (b"REQUEST_METHOD", b"GET"),
        (b"PATH_INFO", b"/packet"),
        (b"REQUEST_URI", b"/packet"),
        (b"SERVER_PROTOCOL", b"HTTP/1.1"),
    ];
    let packet = greenloom_worker::proto::uwsgi::encode(0, 0, vars);
    std::io::Write::write_all(&mut stream, &packet[..20]).unwrap();
    while world.hosts[0].worker.connection_count() == 0 {
        world.turn(0);
    }
    world.turn(0);
    world.retire(0);
    std::io::Write::write_all(&mut stream, &packet[20..]).unwrap();
    world.run(|world| world.hosts[1].served == 1 && world.connections() == [0, 0]);
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).unwrap();
    assert!(answer.ends_with(b"\r\n\r\nhello /packet "), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn what_waits_at_the_listener_is_given_away_unread() {
    let mut world = World::new(2, |_| ());
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(world.http())).collect();
    for client in &mut clients {
        client.get("/queued");
    }
    world.retire(0);
    assert_eq!((world.hosts[0].served, world.hosts[0].worker.counters().given), (0, 10));
    world.run(|_| clients.iter_mut().all(Client::is_satisfied));
    clients.iter_mut().for_each(Client::check_open);
    check_ends(world, &mut clients);
}

#[test]
fn while_nobody_takes_connections_they_are_served_where_they_are() {
    let mut world = World::new(1, |_| ());
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..600 {
        let client = client_of(&mut world, 0);
        clients.push(client);
    }
    world.hosts[0].worker.make_room();
    for _ in 0..5 {
        world.turn(0);
    }
    let given = usize::try_from(world.hosts[0].worker.counters().given).unwrap();
    assert!((1..600).contains(&given), "{given} were given: the queue has an end");
    for round in 0..3 {
        // The last ones are still here: one request each, and they wait again.
        for client in &mut clients[given..] {
            client.get(&format!("/round/{round}"));
        }
        world.run(|_| clients[given..].iter_mut().all(Client::is_satisfied));
    }
    assert_eq!((world.hosts[0].served, world.hosts[0].left), ((600 - given) * 3, None));
    assert!(!world.hosts[0].worker.has_work(), "it waits for the queue, and does not try again and again");
    // A request that was in the packets all the time.
    clients[0].get("/at/last");
    world.add();
    world.run(|world| world.connections() == [0, 600]);
    assert_eq!(world.hosts[0].left, Some(Leave::Drained));
    for client in &mut clients {
        client.get("/after");
    }
    world.run(|_| clients.iter_mut().all(Client::is_satisfied));
    clients.iter_mut().for_each(Client::check_open);
    check_ends(world, &mut clients);
}

#[test]
fn more_bytes_than_a_packet_takes_are_served_first() {
    let mut world = World::new(2, |_| ());
    rustix::net::sockopt::set_socket_send_buffer_size(&world.queue.0, 1).unwrap();
    let mut client = client_of(&mut world, 0);
    let paths: Vec<String> = std::iter::once("/slow".to_owned())
        .chain((0..500).map(|number| format!("/behind/{number}")))
        .collect();
    let mut requests = Vec::new();
    for path in &paths {
        requests.extend_from_slice(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        client.expect(answer_to(path.as_bytes(), b""));
    }
    // At once, so that all is read with the first request.
    client.send(&[&requests[..], b"GET /last HTTP/1.1\r\nHo"].concat());
    world.run(|world| world.hosts[0].worker.busy_cores() == 1);
    world.hosts[0].worker.make_room();
    world.let_go();
    settle_partly(&mut world, &mut client);
    client.send(b"st: h\r\n\r\n");
    client.expect(answer_to(b"/last", b""));
    settle(&mut world, &mut client);
    let served = (world.hosts[0].served, world.hosts[1].served);
    assert!(served.0 > 1 && served.1 > 1 && served.0 + served.1 == 502, "{served:?}");
    check_ends(world, &mut [client]);
}

fn settle_partly(world: &mut World, client: &mut Client) {
    world.run(|world| client.is_satisfied() && world.hosts[0].left.is_some());
}

#[test]
fn what_is_no_connection_of_ours_is_closed_and_counted() {
    let mut world = World::new(1, |_| ());
    let listener = world.http().to_string().into_bytes();
    let good = Packet {
        spoken: Spoken::Http,
        listener: &listener,
        peer: None,
        served: true,
        head_age_ms: None,
        left_ms: 10_000,
        unread: b"",
    };
    let packet = |packet: &Packet<'_>| {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        bytes
    };
    let mut peers = Vec::new();
    let bad = [
        b"?".to_vec(),
        b"\x01\x02\x03".to_vec(),
        packet(&Packet { spoken: Spoken::Uwsgi, ..good }),
        packet(&Packet { listener: b"192.0.2.1:80", ..good }),
        packet(&good)[..20].to_vec(),
    ];
    for bytes in &bad {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sent = fdpass::send_packet(world.queue.0.as_fd(), bytes, theirs.as_fd()).unwrap();
        assert_eq!(sent, Sent::Taken);
        peers.push(ours);
    }
    // No descriptor, and too many.
    let (ours, theirs) = UnixStream::pair().unwrap();
    fdpass::send(world.queue.0.as_fd(), &packet(&good), &[]).unwrap();
    fdpass::send(world.queue.0.as_fd(), &packet(&good), &[theirs.as_fd(), theirs.as_fd()]).unwrap();
    drop(theirs);
    peers.push(ours);
    world.run(|world| world.hosts[0].worker.counters().orphaned == 7);
    for mut peer in peers {
        assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap(), 0, "it was closed");
    }
    assert_eq!(world.connections(), [0]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    fdpass::send_packet(world.queue.0.as_fd(), &packet(&good), theirs.as_fd()).unwrap();
    world.run(|world| world.connections() == [1]);
    drop(ours);
    world.run(|world| world.connections() == [0]);
}

#[test]
fn a_stop_takes_back_what_is_in_the_queue() {
    let mut world = World::new(1, |_| ());
    let mut idle = client_of(&mut world, 0);
    let mut asks = client_of(&mut world, 0);
    let mut slow = client_of(&mut world, 0);
    slow.get("/slow");
    world.run(|world| world.hosts[0].worker.busy_cores() == 1);
    world.hosts[0].worker.make_room();
    world.turn(0);
    assert_eq!(world.connections(), [1]);
    // Its request is in the queue when the instance stops: it is still answered.
    std::io::Write::write_all(&mut asks.stream, b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    world.hosts[0].worker.drain();
    world.let_go();
    world.run(|world| world.hosts[0].left.is_some());
    let rest = |client: &mut Client| {
        let mut all = Vec::new();
        client.stream.set_nonblocking(false).unwrap();
        std::io::Read::read_to_end(&mut client.stream, &mut all).unwrap();
        String::from_utf8(all).unwrap()
    };
    assert_eq!(rest(&mut idle), "");
    let answer = rest(&mut asks);
    assert!(answer.ends_with("hello /late ") && answer.contains("Connection: close"), "{answer}");
    assert!(rest(&mut slow).contains("Connection: close"));
}
