//! Random sequences of everything that can happen to a worker: clients that connect, send whole requests or parts,
//! read or do not, close or reset; applications that answer, yield, sleep, wait for a descriptor or stall, that leave their
//! coroutine or go on with another one by themselves, whose time runs out, and that will not end when they are told to.
//! Whatever the order: every complete request whose client stays is answered once and rightly, or cut where it may be,
//! and in the end no core, no connection and no wait is left.

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
    /// How often a coroutine is told to end before it is given up.
    const TOLD: usize = 8;

    /// What a client asks for; the path of its request.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Ask {
        Now,
        Yields,
        Sleeps,
        Waits,
        Big,
        Never,
        /// Waits after its coroutine has given control back.
        Away,
        /// Waits, and then goes on with all other coroutines by itself.
        Meddles,
        /// Its deadline and its sleep are over at about the same time.
        LateSleeps,
        /// Stays away for ever.
        LateAway,
        /// Writes a part, and waits for ever.
        LateStreams,
        /// May be in time.
        LateBig,
        /// Suspends so many times when it is told to end.
        LateStays(usize),
    }

    /// What an ask may lead to.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Answer {
        Whole,
        /// 504: not a byte of the application.
        Page,
        /// A part, and the end of the connection.
        Cut,
    }

    impl Ask {
        const ALL: [Self; 15] = [
            Self::Now,
            Self::Yields,
            Self::Sleeps,
            Self::Waits,
            Self::Big,
            Self::Never,
            Self::Away,
            Self::Meddles,
            Self::LateSleeps,
            Self::LateAway,
            Self::LateStreams,
            Self::LateBig,
            Self::LateStays(1),
            Self::LateStays(TOLD - 1),
            Self::LateStays(TOLD + 1),
        ];

        fn answers(self) -> &'static [Answer] {
            match self {
                Self::LateSleeps => &[Answer::Whole, Answer::Page],
                // Somebody who meddles with it lets it go on.
                Self::LateAway => &[Answer::Page, Answer::Whole],
                Self::LateStreams => &[Answer::Cut],
                Self::LateBig => &[Answer::Whole, Answer::Cut],
                Self::LateStays(_) => &[Answer::Page],
                _ => &[Answer::Whole],
            }
        }

        fn path(self) -> &'static str {
            match self {
                Self::Now => "/now",
                Self::Yields => "/yields",
                Self::Sleeps => "/sleeps",
                Self::Waits => "/waits",
                Self::Big => "/big",
                Self::Never => "/never",
                Self::Away => "/away",
                Self::Meddles => "/meddles",
                Self::LateSleeps => "/late/sleeps",
                Self::LateAway => "/late/away",
                Self::LateStreams => "/late/streams",
                Self::LateBig => "/late/big",
                Self::LateStays(1) => "/late/1",
                Self::LateStays(2..TOLD) => "/late/some",
                Self::LateStays(_) => "/late/for/ever",
            }
        }

        fn body(self) -> Vec<u8> {
            match self {
                Self::Now => b"now".to_vec(),
                Self::Yields => b"part".repeat(5),
                Self::Sleeps | Self::LateSleeps => b"slept".to_vec(),
                Self::Waits => b"waited".to_vec(),
                Self::Big | Self::LateBig => vec![b'b'; BIG],
                Self::Away | Self::LateAway => b"was away".to_vec(),
                Self::Meddles => b"meddled".to_vec(),
                Self::LateStreams => b"part".to_vec(),
                Self::Never | Self::LateStays(_) => Vec::new(),
            }
        }

        fn is_chunked(self) -> bool {
            matches!(self, Self::Yields | Self::LateStreams)
        }

        /// Bytes of the body that comes after a head of status 200.
        fn on_the_wire(self) -> Vec<u8> {
            match self {
                Self::Yields => [b"4\r\npart\r\n".repeat(5), b"0\r\n\r\n".to_vec()].concat(),
                Self::LateStreams => b"4\r\npart\r\n".to_vec(),
                _ => self.body(),
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Send {
            client: usize,
            ask: Ask,
            cut: usize,
        },
        SendRest {
            client: usize,
        },
        Garbage {
            client: usize,
        },
        Read {
            client: usize,
        },
        Close {
            client: usize,
        },
        Reset {
            client: usize,
        },
        /// Wakes everybody who waits for the gate, all in one turn.
        Poke,
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
            2 => Just(Op::Poke),
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
        /// The server has closed the connection.
        ended: bool,
        spoilt: bool,
    }

    struct World {
        worker: Worker,
        address: SocketAddr,
        clients: Vec<Client>,
        /// Steps of the application in each core.
        steps: HashMap<CoreId, (Ask, usize)>,
        /// How often the application in each core was told to end.
        told: HashMap<CoreId, usize>,
        /// The coroutines that run: one has switched to the next.
        running: Vec<CoreId>,
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
                request_timeouts: vec![(String::new(), 60_000), ("/late".to_owned(), 3)],
                ..WorkerOptions::from_settings(&Settings::default())
            };
            let listen = Listen { fd: OwnedFd::from(listener), protocol: Protocol::Http };
            let worker = Worker::new(options, vec![listen], None, Box::new(Alone::default())).unwrap();
            let clients = (0..CLIENTS).map(|_| Client::default()).collect();
            let (steps, told) = (HashMap::new(), HashMap::new());
            let gate = UnixStream::pair().unwrap();
            Self { worker, address, clients, steps, told, running: Vec::new(), gate }
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
                Op::Poke => {
                    (&self.gate.1).write_all(b"x").unwrap();
                    self.turn();
                    (&self.gate.0).read_exact(&mut [0]).unwrap();
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
                        self.told.insert(core, 0);
                        self.go_on(core, None);
                    }
                    Action::Resume(core, why) => self.go_on(core, Some(why)),
                    Action::Abandon(core) => {
                        assert_eq!(self.told[&core], TOLD, "given up too early or too late");
                        self.steps.remove(&core).expect("a core without a request was given up");
                        self.worker.fail(core);
                    }
                    Action::News(..) | Action::Signal(..) | Action::Leave(_) => {
                        unreachable!("nobody asked for it")
                    }
                }
            }
            for core in self.steps.keys() {
                let knows = self.worker.client_is_there(*core) || self.worker.cancelled(*core).is_some();
                assert!(knows, "{core:?} was not told that its client has gone");
            }
            assert_eq!(self.worker.in_flight().len(), self.steps.len());
        }

        fn go_on(&mut self, core: CoreId, why: Option<Wakeup>) {
            let (ask, step) = self.steps.get(&core).copied().expect("a core without a request was resumed");
            if let Some(Wakeup::Cancelled(why)) = why {
                assert_eq!(self.worker.cancelled(core), Some(why));
                let told = self.told.get_mut(&core).unwrap();
                *told += 1;
                match ask {
                    Ask::LateStays(times) if *told <= times => {
                        let way = *told;
                        self.stay(core, way);
                    }
                    _ => {
                        self.steps.remove(&core);
                        self.worker.fail(core);
                    }
                }
                return;
            }
            self.running.push(core);
            let ended = self.run(core, ask, step);
            self.running.pop();
            if ended {
                self.steps.remove(&core);
                self.worker.finish(core);
            } else {
                // Harmless, unless it only left.
                self.worker.away(core);
            }
        }

        /// Swallows the exception and suspends again, in one of the ways there are.
        fn stay(&mut self, core: CoreId, way: usize) {
            let worker = &mut self.worker;
            worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
            assert_eq!(worker.write(core, b"nobody may see this"), Written::Gone);
            assert_eq!(worker.write_through(core, b"nor this").unwrap(), Written::Gone);
            assert_eq!(worker.write_raw(core, b"nor that").unwrap(), Written::Gone);
            match way % 6 {
                0 => worker.give_way(core),
                1 => worker.suspend(core),
                2 => worker.stall(core),
                3 => worker.away(core),
                4 => assert_eq!(worker.yielded(core), Yielded::Suspended),
                _ => {
                    worker.wait_fd(core, self.gate.0.as_raw_fd(), Interest::Read, Some(1000)).unwrap();
                    worker.sleep(core, 60_000);
                    worker.suspend(core);
                }
            }
        }

        /// Goes on with everybody else who waits, behind the worker's back.
        fn meddle(&mut self) {
            let mut others: Vec<CoreId> = self.steps.keys().copied().collect();
            others.sort_by_key(|core| core.0);
            for core in others {
                let meddles_or_stays = matches!(self.steps[&core].0, Ask::Meddles | Ask::LateStays(_));
                if !self.running.contains(&core) && !meddles_or_stays {
                    self.go_on(core, None);
                }
            }
        }

        /// Runs the application until it suspends (`false`) or has ended (`true`).
        fn run(&mut self, core: CoreId, ask: Ask, mut step: usize) -> bool {
            if ask == Ask::Meddles && step > 0 {
                self.meddle();
            }
            let worker = &mut self.worker;
            if step == 0 && matches!(ask, Ask::LateStreams) {
                worker.respond(core, b"200 OK", None, |_| Ok(())).unwrap();
                worker.write(core, b"part");
            }
            let fd = self.gate.0.as_raw_fd();
            match ask {
                Ask::Sleeps | Ask::LateSleeps if step == 0 => worker.sleep(core, 3),
                Ask::Waits | Ask::Meddles if step == 0 => {
                    worker.wait_fd(core, fd, Interest::Read, Some(5)).unwrap();
                }
                Ask::Away if step == 0 => {
                    worker.wait_fd(core, fd, Interest::Read, None).unwrap();
                    worker.sleep(core, 4);
                }
                Ask::Never if step == 0 => worker.wait_fd(core, fd, Interest::Read, None).unwrap(),
                Ask::LateStays(_) | Ask::LateStreams => worker.sleep(core, 60_000),
                Ask::LateAway if step == 0 => {}
                _ => return self.answer(core, ask, step),
            }
            if !matches!(ask, Ask::Away | Ask::LateAway) {
                worker.suspend(core);
            }
            step += 1;
            self.steps.insert(core, (ask, step));
            false
        }

        /// Writes the response until it has to suspend (`false`) or is complete (`true`).
        fn answer(&mut self, core: CoreId, ask: Ask, mut step: usize) -> bool {
            let worker = &mut self.worker;
            if !worker.response_begun(core) {
                let known = (!ask.is_chunked()).then(|| ask.body().len() as u64);
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
                Ask::Big | Ask::LateBig => {
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
                client.read();
            }
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
            assert_eq!(self.worker.in_flight(), []);
            assert_eq!(self.worker.counters().stale_wakes, 0, "a wait was left behind");
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
                    Ok(0) => return self.ended = true,
                    Ok(n) => self.got.extend_from_slice(&piece[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                    // A connection that was cut, or that garbage has ended, is reset by bytes that come behind.
                    Err(_) => return self.ended = true,
                }
            }
        }

        /// Everything asked for has been answered, as far as it can be.
        fn is_satisfied(&self) -> bool {
            self.stream.is_none() || self.spoilt || self.is_answered()
        }

        /// Whether everything has been answered that can be; each answer must be a right one.
        fn is_answered(&self) -> bool {
            let mut rest = &self.got[..];
            for ask in &self.asked {
                let Some(head) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
                    assert!(!self.ended, "no answer to {ask:?}");
                    return false;
                };
                let (head, body) = rest.split_at(head + 4);
                let expected = if head.starts_with(b"HTTP/1.1 200 OK\r\n") {
                    ask.on_the_wire()
                } else {
                    let text = String::from_utf8_lossy(head);
                    assert!(head.starts_with(b"HTTP/1.1 504 Gateway Timeout\r\n"), "{ask:?}: {text}");
                    assert!(ask.answers().contains(&Answer::Page), "{ask:?} has no deadline: {text}");
                    b"Gateway Timeout".to_vec()
                };
                if body.len() < expected.len() || *ask == Ask::LateStreams {
                    assert!(expected.starts_with(body), "wrong bytes for {ask:?}");
                    assert!(!self.ended || ask.answers().contains(&Answer::Cut), "{ask:?} was cut");
                    return self.ended;
                }
                assert!(body.starts_with(&expected), "wrong bytes for {ask:?}");
                rest = &body[expected.len()..];
            }
            assert!(rest.is_empty(), "more bytes than answers");
            true
        }

        fn check(&self) {
            assert!(self.is_satisfied());
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
