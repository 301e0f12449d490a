//! Options: cores and engines. Which go together is decided by the table in `engines`, which versions have
//! which engine, too.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Asked, Draft};
use crate::engines::{LoopEngine, SuspendEngine};
use crate::values::{self, Parsed, Refusal};

/// More cores than this in one worker can only be a mistake: each one holds a request.
const CORES_MAX: u32 = 1_000_000;

const N: Arg = Arg::Required("N");

pub(super) const CATEGORY: Category = Category {
    word: "engines",
    title: "Cores and engines",
    intro: "A core is the slot one request runs in: N cores serve N requests at once in each worker. --loop-list shows which engines go together and which of them this version has.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("async", N, async_cores, "serve N requests at once in each worker")
        .details("Without a suspend engine the iterable of a response is the coroutine: each yield hands the worker to somebody else. 1 is legal, 0 switches it off."),
    OptionDef::set("loop", Arg::Required("NAME"), loop_engine, "choose the loop engine by name").default_value("native"),
    OptionDef::switch("ugreen", |draft, on, given| suspend(draft, on, given, SuspendEngine::UGreen), "suspend engine: stacks of greenloom's own"),
    OptionDef::switch("greenlet", |draft, on, given| suspend(draft, on, given, SuspendEngine::Greenlet), "suspend engine: greenlets (Python)"),
    OptionDef::switch("stackless", |draft, on, given| suspend(draft, on, given, SuspendEngine::Stackless), "suspend engine: tasklets (Stackless Python)"),
    OptionDef::switch("fiber", |draft, on, given| suspend(draft, on, given, SuspendEngine::Fiber), "suspend engine: fibers (Ruby)"),
    OptionDef::set("gevent", N, gevent, "N cores on gevent's loop"),
    OptionDef::set("asyncio", N, asyncio, "N cores on asyncio's loop"),
    OptionDef::set("tornado", N, tornado, "N cores on Tornado's loop"),
    OptionDef::set("coroae", N, coroae, "N cores on Coro::AnyEvent (Perl)"),
    OptionDef::set("threads", N, threads, "only 1 is accepted: greenloom has no request threads"),
];

fn async_cores(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let cores = values::count32(given.value, 0, CORES_MAX)?;
    draft.async_cores = (cores > 0).then(|| Asked::new(cores, given));
    Ok(())
}

fn loop_engine(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let engine = LoopEngine::by_name(given.value).ok_or_else(|| {
        let names: Vec<_> = LoopEngine::ALL.iter().map(|engine| engine.name()).collect();
        Refusal::new("unavailable loop engine", format!("write one of: {}", names.join(", ")))
    })?;
    draft.loop_engine = Some(Asked::new(engine, given));
    Ok(())
}

fn suspend(draft: &mut Draft<'_>, on: bool, given: &Given<'_>, engine: SuspendEngine) {
    draft.suspends.retain(|asked| asked.what != engine);
    if on {
        draft.suspends.push(Asked::new(engine, given));
    }
}

/// `--gevent N` and its like: cores and loop in one.
fn shortcut(draft: &mut Draft<'_>, given: &Given<'_>, engine: LoopEngine) -> Parsed<()> {
    let cores = values::count32(given.value, 0, CORES_MAX)?;
    if cores > 0 {
        draft.async_cores = Some(Asked::new(cores, given));
        draft.loop_engine = Some(Asked::new(engine, given));
    }
    Ok(())
}

fn gevent(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::Gevent)
}

fn asyncio(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::Asyncio)
}

fn tornado(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::Tornado)
}

fn coroae(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::CoroAnyEvent)
}

fn threads(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let threads = values::count32(given.value, 0, u32::MAX)?;
    draft.threads = (threads > 1).then(|| Asked::new(threads, given));
    Ok(())
}
