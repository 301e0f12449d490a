//! Connections that change workers at random points of whatever their clients do.

use proptest::prelude::*;

use super::world::{Client, World, answer_to};

const CLIENTS: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Ask {
    Get(&'static str),
    /// With a body of so many bytes; whether the client would wait for `100 Continue`.
    Post(&'static str, usize, bool),
    Chunked(&'static str),
}

#[derive(Clone, Debug)]
enum Op {
    /// A request, perhaps behind others; the last bytes of it later.
    Send {
        client: usize,
        ask: Ask,
        kept: usize,
    },
    /// What was kept.
    SendRest {
        client: usize,
    },
    Read {
        client: usize,
    },
    /// The client leaves.
    Close {
        client: usize,
    },
    /// The client has nothing more to send.
    Shut {
        client: usize,
    },
    Turns {
        worker: usize,
        turns: u8,
    },
    /// The worker makes room; a fresh one comes.
    Retire {
        worker: usize,
    },
}

fn ask() -> impl Strategy<Value = Ask> {
    let path = prop::sample::select(vec!["/now", "/slow", "/big", "/early", "/early/slow"]);
    let body = (0usize..5).prop_map(|power| 7usize.pow(u32::try_from(power).unwrap()));
    prop_oneof![
        4 => path.clone().prop_map(Ask::Get),
        2 => (path.clone(), body, any::<bool>()).prop_map(|(path, size, waits)| Ask::Post(path, size, waits)),
        1 => path.prop_map(Ask::Chunked),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let worker = 0..2usize;
    prop_oneof![
        6 => (client.clone(), ask(), prop_oneof![2 => Just(0), 3 => 0usize..80])
            .prop_map(|(client, ask, kept)| Op::Send { client, ask, kept }),
        4 => client.clone().prop_map(|client| Op::SendRest { client }),
        3 => client.clone().prop_map(|client| Op::Read { client }),
        1 => client.clone().prop_map(|client| Op::Close { client }),
        1 => client.prop_map(|client| Op::Shut { client }),
        8 => (worker.clone(), 1u8..5).prop_map(|(worker, turns)| Op::Turns { worker, turns }),
        3 => worker.prop_map(|worker| Op::Retire { worker }),
    ]
}

impl Ask {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Get(path) => format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes(),
            Self::Post(path, size, waits) => {
                let expect = if waits { "Expect: 100-continue\r\n" } else { "" };
                let head =
                    format!("POST {path} HTTP/1.1\r\nHost: h\r\n{expect}Content-Length: {size}\r\n\r\n");
                [head.into_bytes(), vec![b'b'; size]].concat()
            }
            Self::Chunked(path) => {
                let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
                [head.as_bytes(), b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"].concat()
            }
        }
    }

    fn answer(self) -> Vec<u8> {
        match self {
            Self::Get(path) => answer_to(path.as_bytes(), b""),
            Self::Post(path, size, _) => answer_to(path.as_bytes(), &vec![b'b'; size]),
            Self::Chunked(path) => answer_to(path.as_bytes(), b"abcde"),
        }
    }
}

#[derive(Default)]
struct Actor {
    client: Option<Client>,
    kept: Vec<u8>,
    shut: bool,
}

fn apply(world: &mut World, actors: &mut [Actor], op: &Op) {
    match *op {
        Op::Send { client, ask, kept } => {
            let actor = &mut actors[client];
            if !actor.kept.is_empty() || actor.shut {
                return;
            }
            let address = world.http();
            let client = actor.client.get_or_insert_with(|| Client::connect(address));
            let bytes = ask.bytes();
            let at = bytes.len().saturating_sub(kept);
            client.send(&bytes[..at]);
            client.expect(ask.answer());
            actor.kept = bytes[at..].to_vec();
        }
        Op::SendRest { client } => {
            let rest = std::mem::take(&mut actors[client].kept);
            if let Some(client) = &mut actors[client].client {
                client.send(&rest);
            }
        }
        Op::Read { client } => {
            if let Some(client) = &mut actors[client].client {
                client.is_satisfied();
            }
        }
        Op::Close { client } => actors[client] = Actor::default(),
        Op::Shut { client } => {
            let actor = &mut actors[client];
            if let (Some(client), true) = (&actor.client, actor.kept.is_empty() && !actor.shut) {
                client.stream.shutdown(std::net::Shutdown::Write).unwrap();
                actor.shut = true;
            }
        }
        Op::Turns { worker, turns } => (0..turns).for_each(|_| world.turn(worker)),
        Op::Retire { worker } => {
            world.hosts[worker].worker.make_room();
            let at = world.hosts.len();
            world.add();
            // The fresh one has that number from now on; the old one goes on behind the others until it has left.
            world.hosts.swap(worker, at);
        }
    }
}

/// Whether everything has come; everybody reads, for one who does not may keep a core from the others.
fn are_satisfied(actors: &mut [Actor]) -> bool {
    actors
        .iter_mut()
        .filter_map(|actor| actor.client.as_mut())
        .fold(true, |all, client| client.is_satisfied() & all)
}

/// Lets everything end and looks at what is left.
fn settle(mut world: World, mut actors: Vec<Actor>) {
    world.let_go();
    for actor in &mut actors {
        let rest = std::mem::take(&mut actor.kept);
        if let Some(client) = &mut actor.client {
            client.send(&rest);
        }
    }
    world.run(|_| are_satisfied(&mut actors));
    for actor in &mut actors {
        if let Some(client) = actor.client.as_mut().filter(|_| !actor.shut) {
            client.check_open();
            client.get("/last");
        }
    }
    world.run(|_| are_satisfied(&mut actors));
    let open = actors.iter().filter(|actor| actor.client.is_some() && !actor.shut).count();
    // Those who were told to make room have left, and only they.
    world.run(|world| {
        world.connections()[..2].iter().sum::<usize>() == open
            && world.hosts[2..].iter().all(|host| host.left.is_some())
    });
    assert!(world.hosts[..2].iter().all(|host| host.left.is_none()));
    let orphaned: u64 = world.hosts.iter().map(|host| host.worker.counters().orphaned).sum();
    assert_eq!(orphaned, 0);
    // Nobody has a descriptor any more once the workers and the queue are gone.
    drop(world);
    for client in actors.iter_mut().filter_map(|actor| actor.client.as_mut()) {
        client.stream.set_nonblocking(false).unwrap();
        client.stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        assert_eq!(std::io::Read::read(&mut client.stream, &mut [0; 16]).unwrap(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_whenever_connections_move(
        ops in prop::collection::vec(op(), 1..60),
        cores in 1u32..4,
    ) {
        CORES.set(cores);
        let mut world = World::new(2, |options| {
            options.cores = CORES.get();
            // A client that has closed its side still gets its answers.
            options.half_close = true;
        });
        let mut actors: Vec<Actor> = (0..CLIENTS).map(|_| Actor::default()).collect();
        for op in &ops {
            apply(&mut world, &mut actors, op);
        }
        settle(world, actors);
    }
}

thread_local! { static CORES: std::cell::Cell<u32> = const { std::cell::Cell::new(1) }; }
