//! Random sequences: clients that send pieces and leave, applications that read or do not.

use std::io::{ErrorKind, Write as _};
use std::net::{Shutdown, TcpStream};

use proptest::prelude::*;

use super::world::{Do, World, chunked_post, chunks, find, pattern, post, receive, reset, text};

const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    /// A request of `plan` with a body of `len` bytes, behind what the client has sent before.
    Ask {
        client: usize,
        plan: usize,
        len: usize,
        chunk: usize,
    },
    /// Sends so many of the bytes that are to be sent.
    Send {
        client: usize,
        bytes: usize,
    },
    Leave {
        client: usize,
        how: u8,
    },
    Turns(u8),
}

/// Plans by number: those that read all of it first.
const WHOLE: usize = 5;

fn plan_of(path: &str) -> Vec<Do> {
    match path.trim_start_matches("/e/").parse::<usize>().unwrap() {
        0 => vec![Do::ReadAll(1 << 20), Do::Echo],
        1 => vec![Do::ReadAll(7), Do::Echo],
        2 => vec![Do::Sleep(2), Do::ReadAll(1000), Do::Echo],
        3 => vec![Do::Read(3), Do::Sleep(1), Do::Read(50), Do::Sleep(1), Do::ReadAll(333), Do::Echo],
        4 => vec![Do::ReadAll(70_000), Do::Sleep(1), Do::Echo],
        // These answer before they have read all, or without.
        5 => vec![Do::Begin, Do::ReadAll(5000), Do::Echo],
        6 => vec![Do::Echo],
        _ => vec![Do::Read(10), Do::Echo],
    }
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    let len = prop_oneof![3 => 0usize..200, 1 => 0usize..200_000];
    let chunk = prop_oneof![Just(0usize), 1usize..20, 1usize..100_000];
    let bytes = prop_oneof![1usize..8, 1usize..300, Just(1 << 20)];
    prop_oneof![
        4 => (client.clone(), 0usize..8, len, chunk)
            .prop_map(|(client, plan, len, chunk)| Op::Ask { client, plan, len, chunk }),
        8 => (client.clone(), bytes).prop_map(|(client, bytes)| Op::Send { client, bytes }),
        1 => (client, 0u8..3).prop_map(|(client, how)| Op::Leave { client, how }),
        6 => (1u8..5).prop_map(Op::Turns),
    ]
}

#[derive(Default)]
struct Client {
    stream: Option<TcpStream>,
    unsent: Vec<u8>,
    /// Plan and length of what it has asked for on this connection.
    asked: Vec<(usize, usize)>,
    got: Vec<u8>,
    /// The server has said or shown that it ends the connection.
    closed: bool,
}

impl Client {
    fn send(&mut self, bytes: usize) {
        let Some(stream) = &mut self.stream else { return };
        let most = bytes.min(self.unsent.len());
        match stream.write(&self.unsent[..most]) {
            Ok(n) => drop(self.unsent.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                self.closed = true;
                self.unsent.clear();
            }
        }
    }

    fn read(&mut self) {
        if let Some(stream) = &mut self.stream {
            self.closed |= receive(stream, &mut self.got);
        }
    }

    /// Looks at the answers: each must be the right one. Whether nothing more is to come.
    fn is_satisfied(&mut self) -> bool {
        self.read();
        if self.stream.is_none() || self.closed {
            return true;
        }
        let mut rest = &self.got[..];
        for &(plan, len) in &self.asked {
            let Some(end) = find(rest, b"\r\n\r\n") else { return false };
            let (head, body) = (text(&rest[..end]), &rest[end + 4..]);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            if head.contains("Connection: close") {
                // What follows is of no interest, but the end must come: it is waited for.
                return false;
            }
            if plan <= WHOLE {
                let expected = pattern(len);
                let Some(n) = head.split("Content-Length: ").nth(1) else {
                    // Plan 5, whose body had come whole before it began to answer: chunked.
                    let Some(end) = find(body, b"\r\n0\r\n\r\n") else { return false };
                    rest = &body[end + 7..];
                    continue;
                };
                let n: usize = n.split("\r\n").next().unwrap().parse().unwrap();
                assert_eq!(n, len, "plan {plan}");
                if body.len() < n {
                    return false;
                }
                assert!(body[..n] == expected, "wrong bytes");
                rest = &body[n..];
            } else {
                let n: usize = head
                    .split("Content-Length: ")
                    .nth(1)
                    .unwrap()
                    .split("\r\n")
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                if body.len() < n {
                    return false;
                }
                assert!(pattern(len).starts_with(&body[..n]), "wrong bytes");
                rest = &body[n..];
            }
        }
        assert!(rest.is_empty(), "more bytes than answers");
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_sent(
        ops in prop::collection::vec(op(), 1..60),
        cores in 1u32..4,
        high_water in prop_oneof![Just(4096usize), Just(65536)],
    ) {
        let mut world = World::new(plan_of, |options| {
            options.cores = cores;
            options.high_water = high_water;
        });
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::default()).collect();
        for op in &ops {
            match *op {
                Op::Ask { client, plan, len, chunk } => {
                    let stream = world.connect();
                    let client = &mut clients[client];
                    if client.closed {
                        *client = Client::default();
                    }
                    client.stream.get_or_insert(stream);
                    let path = format!("/e/{plan}");
                    let body = pattern(len);
                    if chunk == 0 {
                        client.unsent.extend(post(&path, len));
                        client.unsent.extend(body);
                    } else {
                        client.unsent.extend(chunked_post(&path));
                        client.unsent.extend(chunks(&body, chunk));
                    }
                    client.asked.push((plan, len));
                }
                Op::Send { client, bytes } => clients[client].send(bytes),
                Op::Leave { client, how } => {
                    let client = std::mem::take(&mut clients[client]);
                    match (client.stream, how) {
                        (Some(stream), 0) => reset(stream),
                        (Some(stream), 1) => stream.shutdown(Shutdown::Both).unwrap_or(()),
                        _ => {}
                    }
                }
                Op::Turns(turns) => (0..turns).for_each(|_| world.turn()),
            }
        }
        world.until(|_| {
            for client in &mut clients {
                client.send(usize::MAX);
            }
            clients.iter_mut().fold(true, |all, client| client.is_satisfied() & all)
        });
        clients.clear();
        world.until(|world| world.worker.busy_cores() == 0 && world.worker.connection_count() == 0);
        assert!(world.runs.is_empty());
        for ended in &world.ended {
            assert!(ended.got == pattern(ended.got.len()), "{} read something else", ended.path);
        }
    }
}
