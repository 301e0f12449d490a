//! What a resume and a suspend cost, in nanoseconds, and a start on a stack that is there:
//! `cargo run --release -p greenloom-ugreen --example switch_cost`
#![forbid(unsafe_code)]

use std::time::Instant;

use greenloom_ugreen::{Coroutine, Stack};

const ROUNDS: u32 = 20_000_000;
const CORES: usize = 1_000;

#[expect(clippy::print_stdout, reason = "a program whose output is its result")]
fn main() -> std::io::Result<()> {
    let mut one = endless()?;
    let pair = each(ROUNDS, || {
        one.resume();
    });
    println!("resume + suspend, one coroutine:        {pair:6.2} ns");

    let mut many = (0..CORES).map(|_| endless()).collect::<Result<Vec<_>, _>>()?;
    let mut at = 0;
    let robin = each(ROUNDS, || {
        many[at].resume();
        at = (at + 1) % CORES;
    });
    println!("the same, {CORES} coroutines round robin:  {robin:6.2} ns");

    let mut pooled = Some(Stack::new(8 << 20)?);
    let start = each(ROUNDS, || {
        let Some(stack) = pooled.take() else { return };
        let mut coroutine = Coroutine::start(stack, |_| {});
        coroutine.resume();
        let mut stack = coroutine.into_stack();
        stack.trim();
        pooled = Some(stack);
    });
    println!("start, end, trim, on a pooled stack:    {start:6.2} ns");

    let fresh = each(ROUNDS / 1_000, || {
        if let Ok(stack) = Stack::new(8 << 20) {
            Coroutine::start(stack, |_| {}).resume();
        }
    });
    println!("start, end, on a stack of its own:      {fresh:6.0} ns");
    Ok(())
}

fn endless() -> std::io::Result<Coroutine> {
    Ok(Coroutine::start(Stack::new(8 << 20)?, |yielder| {
        loop {
            yielder.suspend();
        }
    }))
}

fn each(rounds: u32, mut work: impl FnMut()) -> f64 {
    let before = Instant::now();
    for _ in 0..rounds {
        work();
    }
    before.elapsed().as_secs_f64() * 1e9 / f64::from(rounds)
}
