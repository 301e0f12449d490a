//! Coroutines through the public interface: order, depth, reuse, abandoning, and what ends the process.
#![allow(unsafe_code, reason = "handles are used from below the closure, as a driver does")]

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Output};
    use std::rc::Rc;

    use greenloom_ugreen::{Coroutine, Stack, State, Yielder, YielderHandle};

    const SMALL: usize = 256 * 1024;
    const LARGE: usize = 8 * 1024 * 1024;

    /// Set in a child that is to run one test's dangerous half.
    const CHILD: &str = "GREENLOOM_UGREEN_TEST_CHILD";
    const SIGABRT: i32 = 6;
    const SIGSEGV: i32 = 11;

    fn stack(bytes: usize) -> Stack {
        Stack::new(bytes).unwrap()
    }

    #[test]
    fn a_thousand_coroutines_suspend_and_end_out_of_order() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let mut running: Vec<(usize, Coroutine)> = (0..1_000_usize)
            .map(|number| {
                let log = Rc::clone(&log);
                let body = move |yielder: &Yielder| {
                    // Locals live through every switch.
                    let rounds = number % 7;
                    let mut sum = number;
                    for round in 0..rounds {
                        yielder.suspend();
                        sum += round;
                    }
                    log.borrow_mut().push((number, sum));
                };
                (number, Coroutine::start(stack(SMALL), body))
            })
            .collect();
        let mut resumes = 0_usize;
        // A fixed stride through what is left: neither first in, first out nor the opposite.
        let mut at = 0;
        while !running.is_empty() {
            at = (at + 389) % running.len();
            resumes += 1;
            if running[at].1.resume() == State::Ended {
                let (_, coroutine) = running.swap_remove(at);
                assert!(coroutine.has_ended());
            }
        }
        let mut ended = log.take();
        assert_ne!(
            ended.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            (0..1_000).collect::<Vec<_>>()
        );
        ended.sort_unstable();
        let expected: Vec<_> =
            (0..1_000_usize).map(|number| (number, number + (0..number % 7).sum::<usize>())).collect();
        assert_eq!(ended, expected);
        assert_eq!(resumes, (0..1_000).map(|number| number % 7 + 1).sum::<usize>());
    }

    #[test]
    fn deep_recursion_suspends_at_the_bottom_and_comes_back() {
        let result = Rc::new(Cell::new(0));
        let out = Rc::clone(&result);
        let mut coroutine = Coroutine::start(stack(LARGE), move |yielder| {
            out.set(descend(20_000, &|| yielder.suspend()));
        });
        assert_eq!(coroutine.resume(), State::Suspended);
        assert_eq!(result.get(), 0);
        assert_eq!(coroutine.resume(), State::Ended);
        assert_eq!(result.get(), 20_000);
    }

    #[test]
    fn a_handle_suspends_from_code_that_never_saw_the_yielder() {
        thread_local!(static RUNNING: Cell<Option<YielderHandle>> = const { Cell::new(None) });
        fn api_call() {
            let handle = RUNNING.get().expect("a coroutine is running");
            // SAFETY: RUNNING holds the handle of the coroutine that was resumed last, and this runs on it.
            unsafe { handle.suspend() };
        }
        let handles: Rc<[Cell<Option<YielderHandle>>; 2]> = Rc::default();
        let done = Rc::new(RefCell::new(Vec::new()));
        let mut both: Vec<Coroutine> = (0..2)
            .map(|number| {
                let (handles, done) = (Rc::clone(&handles), Rc::clone(&done));
                Coroutine::start(stack(SMALL), move |yielder| {
                    handles[number].set(Some(yielder.handle()));
                    RUNNING.set(handles[number].get());
                    descend(100, &api_call);
                    done.borrow_mut().push(number);
                })
            })
            .collect();
        for (number, coroutine) in both.iter_mut().enumerate() {
            RUNNING.set(handles[number].get());
            assert_eq!(coroutine.resume(), State::Suspended);
        }
        for number in [1, 0] {
            RUNNING.set(handles[number].get());
            assert_eq!(both[number].resume(), State::Ended);
        }
        assert_eq!(done.take(), [1, 0]);
    }

    #[test]
    fn the_stack_of_an_ended_coroutine_serves_the_next() {
        let first = stack(SMALL);
        let limits = first.limits();
        let mut coroutine = Coroutine::start(first, Yielder::suspend);
        assert_eq!((coroutine.resume(), coroutine.resume()), (State::Suspended, State::Ended));
        let second = coroutine.into_stack();
        assert_eq!(second.limits(), limits);
        let address = Rc::new(Cell::new(0));
        let out = Rc::clone(&address);
        let mut coroutine = Coroutine::start(second, move |_| {
            let local = 0_u8;
            out.set(std::ptr::from_ref(&local).addr());
        });
        assert_eq!(coroutine.resume(), State::Ended);
        assert!((limits.0.get()..limits.0.get() + limits.1).contains(&address.get()));
    }

    #[test]
    #[should_panic(expected = "has not ended")]
    fn the_stack_of_a_suspended_coroutine_cannot_be_taken() {
        let mut coroutine = Coroutine::start(stack(SMALL), Yielder::suspend);
        coroutine.resume();
        let _ = coroutine.into_stack();
    }

    #[test]
    #[should_panic(expected = "completed")]
    fn an_ended_coroutine_cannot_be_resumed() {
        let mut coroutine = Coroutine::start(stack(SMALL), |_| {});
        coroutine.resume();
        coroutine.resume();
    }

    #[test]
    fn abandoned_means_neither_unwound_nor_unmapped() {
        for forget in [Coroutine::abandon, drop::<Coroutine>] {
            let owned = Rc::new(());
            let held = Rc::clone(&owned);
            let address = Rc::new(Cell::new(std::ptr::null()));
            let out = Rc::clone(&address);
            let mut coroutine = Coroutine::start(stack(SMALL), move |yielder| {
                let held = held;
                let local = Cell::new(7);
                out.set(&raw const local);
                yielder.suspend();
                local.set(8);
                drop(held);
            });
            assert_eq!(coroutine.resume(), State::Suspended);
            forget(coroutine);
            assert_eq!(Rc::strong_count(&owned), 2);
            // SAFETY: an abandoned stack stays mapped and its frames as they were; `local` lies on it.
            let local = unsafe { &*address.get() };
            assert_eq!(local.get(), 7);
        }
    }

    #[test]
    fn what_never_ran_is_dropped_properly() {
        let owned = Rc::new(());
        let held = Rc::clone(&owned);
        Coroutine::start(stack(SMALL), move |_| drop(held)).abandon();
        assert_eq!(Rc::strong_count(&owned), 1);
    }

    #[test]
    fn a_panic_caught_inside_stays_inside() {
        let mut coroutine = Coroutine::start(stack(SMALL), |yielder| {
            let caught = std::panic::catch_unwind(|| descend(10, &|| panic!("inside")));
            assert!(caught.is_err());
            yielder.suspend();
        });
        assert_eq!((coroutine.resume(), coroutine.resume()), (State::Suspended, State::Ended));
    }

    #[test]
    fn a_panic_that_leaves_the_closure_ends_the_process() {
        let child = in_a_child("tests::a_panic_that_leaves_the_closure_ends_the_process", || {
            let mut coroutine = Coroutine::start(stack(SMALL), |_| panic!("nobody catches this"));
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| coroutine.resume()));
        });
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.signal(), Some(SIGABRT), "{said}");
        assert!(said.contains("nobody catches this"), "{said}");
    }

    #[test]
    fn an_overflow_is_a_segmentation_fault() {
        let child = in_a_child("tests::an_overflow_is_a_segmentation_fault", || {
            // A neighbour on either side: without a guard page, the overflow would run into one of them.
            let (_below, middle, _above) = (stack(SMALL), stack(SMALL), stack(SMALL));
            let mut coroutine = Coroutine::start(middle, |_| {
                descend(u32::MAX, &|| ());
            });
            coroutine.resume();
        });
        assert_eq!(child.status.signal(), Some(SIGSEGV), "{}", String::from_utf8_lossy(&child.stderr));
    }

    /// Recurses with a frame of a few dozen bytes at least, calls `at_the_bottom`, and returns the depth.
    #[inline(never)]
    fn descend(depth: u32, at_the_bottom: &dyn Fn()) -> u32 {
        let mut frame = std::hint::black_box([depth; 8]);
        if depth == 0 {
            at_the_bottom();
            return 0;
        }
        frame[0] = descend(depth - 1, at_the_bottom) + 1;
        std::hint::black_box(&frame)[0]
    }

    /// Runs this test again in a process of its own, where it comes here with [`CHILD`] set and runs `dangerous`.
    fn in_a_child(test: &str, dangerous: impl FnOnce()) -> Output {
        if std::env::var_os(CHILD).is_some() {
            dangerous();
            panic!("the process went on");
        }
        let program = std::env::current_exe().unwrap();
        Command::new(program).args(["--exact", test, "--nocapture"]).env(CHILD, "1").output().unwrap()
    }
}
