//! What stacks cost: address space when reserved, memory only where touched, and given back after a deep use.
//!
//! A file of its own: the process's resident memory is measured, and other tests beside would move it.

#[cfg(test)]
mod tests {
    use greenloom_ugreen::{Coroutine, Stack, State, Yielder};

    const LARGE: usize = 8 * 1024 * 1024;

    #[test]
    fn ten_thousand_stacks_of_8_mib_use_little_memory() {
        let before = resident_bytes();
        let mut suspended: Vec<Coroutine> =
            (0..10_000).map(|_| Coroutine::start(Stack::new(LARGE).unwrap(), Yielder::suspend)).collect();
        for coroutine in &mut suspended {
            assert_eq!(coroutine.resume(), State::Suspended);
        }
        let each = (resident_bytes() - before) / suspended.len();
        for mut coroutine in suspended {
            assert_eq!(coroutine.resume(), State::Ended);
        }
        // One page of the stack, and its share of the rest (page tables are not counted as resident).
        assert!(each <= 3 * page(), "{each} bytes each");
        a_deep_use_is_given_back_and_a_shallow_one_kept();
    }

    /// Runs after the other half: both look at the same process.
    fn a_deep_use_is_given_back_and_a_shallow_one_kept() {
        let stack = Stack::new(LARGE).unwrap();
        let before = resident_bytes();
        let mut stack = used(stack, 4 << 20);
        assert!(resident_bytes() >= before + (4 << 20), "the deep use did not touch the stack");
        stack.trim();
        let after = resident_bytes();
        assert!(after <= before + (256 << 10), "{} bytes stayed", after - before);

        // Below the threshold nothing is given back: the next request finds its pages there.
        let mut stack = used(stack, 32 << 10);
        let before = minor_faults();
        for _ in 0..200 {
            stack.trim();
            stack = used(stack, 32 << 10);
        }
        let faults = minor_faults() - before;
        assert!(faults < 200, "{faults} page faults in 200 shallow uses");

        // And again, on the same stack.
        let mut stack = used(stack, 2 << 20);
        let deep = resident_bytes();
        stack.trim();
        assert!(resident_bytes() + (1 << 20) < deep);
    }

    /// Runs a coroutine on `stack` that uses about `bytes` of it.
    fn used(stack: Stack, bytes: usize) -> Stack {
        let mut coroutine = Coroutine::start(stack, move |_| {
            descend(bytes / FRAME);
        });
        assert_eq!(coroutine.resume(), State::Ended);
        coroutine.into_stack()
    }

    const FRAME: usize = 256;

    #[inline(never)]
    fn descend(depth: usize) -> usize {
        let frame = std::hint::black_box([depth; FRAME / size_of::<usize>()]);
        if depth == 0 {
            return 0;
        }
        descend(depth - 1) + std::hint::black_box(&frame).len()
    }

    fn resident_bytes() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * page()
    }

    /// `minflt` of /proc/self/stat; the fields are counted from behind the program's name, which may hold anything.
    fn minor_faults() -> usize {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (_, behind_name) = stat.rsplit_once(") ").unwrap();
        behind_name.split(' ').nth(7).unwrap().parse().unwrap()
    }

    fn page() -> usize {
        greenloom_sys::limits::page_size()
    }
}
