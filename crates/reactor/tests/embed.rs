//! The reactor inside somebody else's loop: the smallest host that can be written, poll(2) on one descriptor.

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::{AsRawFd as _, BorrowedFd};
    use std::os::unix::net::UnixStream;

    use greenloom_reactor::Reactor;
    use greenloom_sys::epoll;

    fn host_loop(reactor: &mut Reactor, mut done: impl FnMut(&mut Reactor) -> bool) {
        let outer = epoll::Epoll::new().unwrap();
        outer.add(reactor.fd(), epoll::IN, 1).unwrap();
        let outer_fd = std::os::fd::AsFd::as_fd(&outer);
        let mut events = [epoll::Event::EMPTY; 1];
        loop {
            epoll::wait(BorrowedFd::as_raw_fd(&outer_fd), &mut events, Some(5000)).unwrap();
            reactor.poll().unwrap();
            if done(reactor) {
                return;
            }
            reactor.settle().unwrap();
        }
    }

    #[test]
    fn one_descriptor_carries_readiness_and_timers() {
        let mut reactor = Reactor::new().unwrap();
        reactor.embed().unwrap();
        let (a, mut b) = UnixStream::pair().unwrap();
        reactor.add(a.as_raw_fd(), epoll::IN | epoll::ET, 5).unwrap();
        reactor.arm(reactor.now_ms() + 5, 99);
        reactor.settle().unwrap();
        let mut order = Vec::new();
        host_loop(&mut reactor, |reactor| {
            while let Some(event) = reactor.next_event() {
                order.push(event.token);
            }
            while let Some(key) = reactor.next_expired() {
                order.push(key);
                if key == 99 {
                    b.write_all(b"x").unwrap();
                }
            }
            order.len() == 2
        });
        assert_eq!(order, [99, 5]);
    }
}
