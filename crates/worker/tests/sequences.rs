//! Random sequences of everything that can happen to a worker: clients that connect, send whole requests or parts,
//! read or do not, close or reset; applications that answer, yield, sleep, wait for a descriptor or stall. Whatever the
//! order: every complete request whose client stays is answered once and rightly, and in the end no core, no connection
//! and no wait is left.

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::{AsRawFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use greenloom_worker::config::{Protocol, Settings};
    use greenloom_worker::{
        Action, Alone, CoreId, Interest, Listen, Wakeup, Worker, WorkerOptions, Written, Yielded,
    };
    use proptest::prelude::*;

    const CLIENTS: usize = 6;
    const BIG: usize = 600_000;

    /// What a client asks for; the path of its request.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Ask {
        Now,
        Yields,
        Sleeps,
        Waits,
        Big,
        Never,
    }

    impl Ask {
        const ALL: [Self; 6] = [Self::Now, Self::Yields, Self::Sleeps, Self::Waits, Self::Big, Self::Never];

        fn path(self) -> &'static str {
            match self {
                Self::Now => "/now",
                Self::Yields => "/yields",
                Self::Sleeps => "/sleeps",
                Self::Waits => "/waits",
                Self::Big => "/big",
                Self::Never => "/never",
            }
        }

        fn body(self) -> Vec<u8> {
            match self {
                Self::Now => b"now".to_vec(),
                Self::Yields => b"part".repeat(5),
                Self::Sleeps => b"slept".to_vec(),
                Self::Waits => b"waited".to_vec(),
                Self::Big => vec![b'b'; BIG],
                Self::Never => Vec::new(),
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Send { client: usize, ask: Ask, cut: usize },
        SendRest { client: usize },
        Garbage { client: usize },
        Read { client: usize },
        Close { client: usize },
        Reset { client: usize },
        Turns(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        let client = 0..CLIENTS;
        prop_oneof![
            4 => (client.clone(), 0..Ask::ALL.len(), 0usize..60)
                .prop_map(|(client, ask, cut)| Op::Send { client, ask: Ask::ALL[ask], cut }),
            3 => client.clone().prop_map(|client| Op::SendRest { client }),
            1 => client.clone().prop_map(|client| Op::Garbage { client }),
            3 => client.clone().prop_map(|client| Op::Read { client }),
            1 => client.clone().prop_map(|client| Op::Close { client }),
            1 => client.prop_map(|client| Op::Reset { client }),
            6 => (1u8..6).prop_map(Op::Turns),
        ]
    }

    #[derive(Default)]
    struct Client {
        stream: Option<TcpStream>,
        /// What it asked for and has not been answered.
        asked: Vec<Ask>,
        unsent: Vec<u8>,
        got: Vec<u8>,
        spoilt: bool,
    }

    struct World {
        worker: Worker,
        address: SocketAddr,
        clients: Vec<Client>,
        /// Steps of the application in each core.
        steps: HashMap<CoreId, (Ask, usize)>,
        /// Becomes readable when everybody is to be let go.
        gate: (UnixStream, UnixStream),
    }

    impl World {
        fn new(cores: u32, coalesce: bool) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let options = WorkerOptions {
                cores,
                coalesce,
                log_requests: false,
                ..WorkerOptions::from_settings(&Settings::default())
            };
            let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Http };
            let worker = Worker::new(options, vec![listen], None, Box::new(Alone::default())).unwrap();
            let clients = (0..CLIENTS).map(|_| Client::default()).collect();
            Self { worker, address, clients, steps: HashMap::new(), gate: UnixStream::pair().unwrap() }
        }

        fn apply(&mut self, op: &Op) {
            match *op {
                Op::Send { client, ask, cut } => {
                    let address = self.address;
                    let client = &mut self.clients[client];
                    if client.spoilt || !client.unsent.is_empty() {
                        return;
                    }
                    let stream = client.stream.get_or_insert_with(|| {
                        let stream = TcpStream::connect(address).unwrap();
                        stream.set_nonblocking(true).unwrap();
                        stream
                    });
                    let request = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", ask.path()).into_bytes();
                    let at = cut.min(request.len());
                    if stream.write_all(&request[..at]).is_ok() {
                        client.unsent = request[at..].to_vec();
                        client.asked.push(ask);
                    }
                }
                Op::SendRest { client } => {
                    let client = &mut self.clients[client];
                    let rest = std::mem::take(&mut client.unsent);
                    if let Some(stream) = &mut client.stream {
                        let _ = stream.write_all(&rest);
                    }
                }
                Op::Garbage { client } => {
                    let client = &mut self.clients[client];
                    if let Some(stream) = &mut client.stream {
                        client.spoilt = true;
                        let _ = stream.write_all(b"\x00\x01 garbage\r\n\r\n");
                    }
                }
                Op::Read { client } => self.clients[client].read(),
                Op::Close { client } => self.clients[client] = Client::default(),
                Op::Reset { client } => {
                    if let Some(stream) = &self.clients[client].stream {
                        rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
                    }
                    self.clients[client] = Client::default();
                }
                Op::Turns(turns) => (0..turns).for_each(|_| self.turn()),
            }
        }

        fn turn(&mut self) {
            self.worker.turn().unwrap();
            while let Some(action) = self.worker.next_action() {
                match action {
                    Action::Start(core) => {
                        let path = self.worker.request(core).path().to_vec();
                        let ask = Ask::ALL.into_iter().find(|ask| ask.path().as_bytes() == path).unwrap();
                        assert!(self.steps.insert(core, (ask, 0)).is_none(), "{core:?} was given twice");
                        self.go_on(core, None);
                    }
                    Action::Resume(core, why) => self.go_on(core, Some(why)),
                    Action::Leave(_) => unreachable!("nobody asked for it"),
                }
            }
            for core in self.steps.keys() {
                assert!(self.worker.client_is_there(*core), "{core:?} was not told that its client has gone");
            }
        }

        fn go_on(&mut self, core: CoreId, why: Option<Wakeup>) {
            let (ask, step) = self.steps.get(&core).copied().expect("a core without a request was resumed");
            if let Some(Wakeup::Cancelled(_)) = why {
                self.steps.remove(&core);
                self.worker.fail(core);
                return;
            }
            if self.run(core, ask, step) {
                self.steps.remove(&core);
                self.worker.finish(core);
            }
        }

        /// Runs the application until it suspends (`false`) or has ended (`true`).
        fn run(&mut self, core: CoreId, ask: Ask, mut step: usize) -> bool {
            let worker = &mut self.worker;
            if step == 0 && matches!(ask, Ask::Sleeps | Ask::Waits | Ask::Never) {
                let fd = self.gate.0.as_raw_fd();
                match ask {
                    Ask::Sleeps => worker.sleep(core, 3),
                    Ask::Waits => worker.wait_fd(core, fd, Interest::Read, Some(5)).unwrap(),
                    _ => worker.wait_fd(core, fd, Interest::Read, None).unwrap(),
                }
                worker.suspend(core);
                self.steps.insert(core, (ask, 1));
                return false;
            }
            if !worker.response_begun(core) {
                let known = (ask != Ask::Yields).then(|| ask.body().len() as u64);
                worker.respond(core, b"200 OK", known, |_| Ok(())).unwrap();
            }
            match ask {
                Ask::Yields => {
                    while step < 5 {
                        step += 1;
                        self.steps.insert(core, (ask, step));
                        if self.worker.write(core, b"part") == Written::Gone {
                            return true;
                        }
                        if self.worker.yielded(core) == Yielded::Suspended {
                            return false;
                        }
                    }
                    true
                }
                Ask::Big => {
                    let body = ask.body();
                    while step < body.len() {
                        match self.worker.write(core, &body[step..]) {
                            Written::Gone => return true,
                            Written::Taken(0) => {
                                self.steps.insert(core, (ask, step));
                                self.worker.stall(core);
                                return false;
                            }
                            Written::Taken(n) => step += n,
                        }
                    }
                    true
                }
                _ => {
                    self.worker.write(core, &ask.body());
                    true
                }
            }
        }

        /// Lets everything end and looks at what is left.
        fn settle(mut self) {
            (&self.gate.1).write_all(b"go").unwrap();
            for client in &mut self.clients {
                let rest = std::mem::take(&mut client.unsent);
                if let Some(stream) = &mut client.stream {
                    let _ = stream.write_all(&rest);
                }
            }
            let deadline = Instant::now() + Duration::from_secs(20);
            while !self.clients.iter().all(Client::is_satisfied) {
                assert!(Instant::now() < deadline, "a request was not answered: {}", self.report());
                self.turn();
                self.clients.iter_mut().for_each(Client::read);
            }
            for client in &mut self.clients {
                client.check();
                *client = Client::default();
            }
            while self.worker.busy_cores() > 0 || self.worker.connection_count() > 0 {
                assert!(Instant::now() < deadline, "something is left: {}", self.report());
                self.turn();
            }
            assert!(self.steps.is_empty());
        }

        fn report(&self) -> String {
            let clients: Vec<_> = self.clients.iter().map(|c| (&c.asked, c.got.len(), c.spoilt)).collect();
            let (cores, connections) = (self.worker.busy_cores(), self.worker.connection_count());
            format!("{cores} cores, {connections} connections, {clients:?}")
        }
    }

    impl Client {
        fn read(&mut self) {
            let Some(stream) = &mut self.stream else { return };
            let mut piece = vec![0; 65536];
            loop {
                match stream.read(&mut piece) {
                    Ok(0) => return,
                    Ok(n) => self.got.extend_from_slice(&piece[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    // Garbage ends a connection, and bytes behind it may reset it.
                    Err(_) => return,
                }
            }
        }

        /// Everything asked for has been answered, as far as it can be.
        fn is_satisfied(&self) -> bool {
            self.stream.is_none() || self.spoilt || self.answers().is_some_and(|n| n == self.asked.len())
        }

        /// Whole answers so far; each must be the right one.
        fn answers(&self) -> Option<usize> {
            let mut rest = &self.got[..];
            for (index, ask) in self.asked.iter().enumerate() {
                let Some(head) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
                    return Some(index);
                };
                assert!(
                    rest.starts_with(b"HTTP/1.1 200 OK\r\n"),
                    "{}",
                    String::from_utf8_lossy(&rest[..head])
                );
                let body = &rest[head + 4..];
                let expected = if *ask == Ask::Yields {
                    [b"4\r\npart\r\n".repeat(5), b"0\r\n\r\n".to_vec()].concat()
                } else {
                    ask.body()
                };
                if body.len() < expected.len() {
                    assert!(expected.starts_with(body), "wrong bytes for {ask:?}");
                    return Some(index);
                }
                assert!(body.starts_with(&expected), "wrong bytes for {ask:?}");
                rest = &body[expected.len()..];
            }
            rest.is_empty().then_some(self.asked.len())
        }

        fn check(&self) {
            if self.stream.is_some() && !self.spoilt {
                assert_eq!(self.answers(), Some(self.asked.len()), "more bytes than answers");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 200, ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_in_whatever_order(
            ops in prop::collection::vec(op(), 1..60),
            cores in 1u32..4,
            coalesce in any::<bool>(),
        ) {
            let mut world = World::new(cores, coalesce);
            for op in &ops {
                world.apply(op);
            }
            world.settle();
        }
    }
}
