//! Options: cores and engines. Which go together is decided by the table in `engines`, which versions have
//! which engine, too.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Asked, Draft};
use crate::engines::{LoopEngine, SuspendEngine};
use crate::settings::Patching;
use crate::values::{self, Parsed, Refusal};
use crate::world;

/// More cores than this in one worker can only be a mistake: each one holds a request.
const CORES_MAX: u32 = 1_000_000;

/// With 64 KiB CPython's parser refuses every import as too deep; with this much it works.
const STACK_BYTES_MIN: u64 = 96 << 10;
/// More than this can only be a mistake: the address space has room for 128,000 such stacks.
const STACK_BYTES_MAX: u64 = 1 << 30;

/// 16 GiB of chunks.
const CHUNKS_MAX: u32 = 1_000_000;

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
    OptionDef::set("ugreen-stacksize", Arg::Required("PAGES"), ugreen_stacksize, "address space of each uGreen stack")
        .aliases(&["ugreen-stack-size"])
        .default_value("2048")
        .details("In the system's pages, mostly of 4096 bytes: 8 MiB, as much as a thread has. Only what is touched takes memory, so a smaller stack saves none; with less, before Python 3.14, an endless recursion that a thread survives as RecursionError may end the worker."),
    OptionDef::switch("greenlet", |draft, on, given| suspend(draft, on, given, SuspendEngine::Greenlet), "suspend engine: greenlets (Python)"),
    OptionDef::switch("stackless", |draft, on, given| suspend(draft, on, given, SuspendEngine::Stackless), "suspend engine: tasklets (Stackless Python)"),
    OptionDef::switch("fiber", |draft, on, given| suspend(draft, on, given, SuspendEngine::Fiber), "suspend engine: fibers (Ruby)"),
    OptionDef::set("chunk-cache", N, chunk_cache, "16 KiB chunks of Python frames kept for the next requests")
        .default_value("256")
        .details("From Python 3.11 on each green thread has its frames in such a chunk; a kept one saves each request two calls of the kernel. 0 keeps none."),
    OptionDef::set("gevent", N, gevent, "N cores on gevent's loop")
        .details("Each request runs on a gevent.Greenlet of its own, so libraries that gevent has patched wait without holding anybody up. Needs the package gevent."),
    OptionDef::switch("gevent-monkey-patch", |draft, on, given| patching(draft, on, given, Patching::BeforeLoading), "gevent.monkey.patch_all() before the application is loaded")
        .aliases(&["gevent-early-monkey-patch"])
        .details("What the application imports finds the patched standard library. uWSGI patches only when the worker starts: gevent-late-monkey-patch."),
    OptionDef::switch("gevent-late-monkey-patch", |draft, on, given| patching(draft, on, given, Patching::BeforeServing), "gevent.monkey.patch_all() when a worker starts, after loading"),
    OptionDef::switch("gevent-wait-for-hub", wait_for_hub, "a worker that leaves waits for background greenlets")
        .details("As long as worker-reload-mercy lets it. Without it they end with their worker."),
    OptionDef::set("block-warning", Arg::Required("TIME"), block_warning, "log where code blocks the loop longer than this")
        .default_value("0.1 under a loop engine, else 0")
        .details("The line has the stack of the code that did not give control back, at most once a minute for each place. The time counts as loop lag, too. 0 is never."),
    OptionDef::set("asyncio", N, asyncio, "N cores on asyncio's loop")
        .details("Each request runs on a greenlet of its own, below the one that runs the loop. Needs the package greenlet."),
    OptionDef::set("asyncio-loop", Arg::Required("NAME"), asyncio_loop, "which loop that is: asyncio's own, or uvloop")
        .default_value("asyncio")
        .details("uvloop needs the package uvloop."),
    OptionDef::set("tornado", N, tornado, "N cores on Tornado's loop")
        .details("IOLoop.current() in a request is the loop that serves. Needs the packages tornado and greenlet."),
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

fn patching(draft: &mut Draft<'_>, on: bool, given: &Given<'_>, when: Patching) {
    let gevent = &mut draft.settings.python.gevent;
    if on {
        gevent.patching = Some(when);
        draft.gevent.push(Asked::new((), given));
    } else if gevent.patching == Some(when) {
        gevent.patching = None;
    }
}

fn wait_for_hub(draft: &mut Draft<'_>, on: bool, given: &Given<'_>) {
    draft.settings.python.gevent.wait_for_hub = on;
    if on {
        draft.gevent.push(Asked::new((), given));
    }
}

fn asyncio(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::Asyncio)
}

fn asyncio_loop(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let engine = match given.value {
        "asyncio" => LoopEngine::Asyncio,
        "uvloop" => LoopEngine::Uvloop,
        _ => return Err(Refusal::new("no loop of asyncio's has this name", "write asyncio or uvloop")),
    };
    draft.asyncio_loop = Some(Asked::new(engine, given));
    Ok(())
}

fn tornado(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::Tornado)
}

fn coroae(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    shortcut(draft, given, LoopEngine::CoroAnyEvent)
}

fn block_warning(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.block_warning_ms = Some(values::millis_or_never(given.value)?);
    Ok(())
}

fn ugreen_stacksize(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let page = world::page_bytes(draft.world);
    let least = STACK_BYTES_MIN.div_ceil(page);
    // Small numbers have an error of their own, which says more than a range does.
    let pages = match given.value.parse() {
        Ok(few) if (1..least).contains(&few) => few,
        _ => values::count(given.value, least, STACK_BYTES_MAX / page)?,
    };
    let bytes = pages * page;
    if bytes < STACK_BYTES_MIN {
        return Err(Refusal::new(
            format!("a stack of {} KiB is too small for Python to import a module", bytes >> 10),
            format!("write {least} or more (pages of {page} bytes), or remove it for 8 MiB"),
        ));
    }
    draft.settings.ugreen_stack_bytes = bytes;
    draft.ugreen_stacksize = Some(Asked::new((), given));
    Ok(())
}

fn chunk_cache(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.python.chunk_cache = values::count32(given.value, 0, CHUNKS_MAX)?;
    Ok(())
}

fn threads(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    let threads = values::count32(given.value, 0, u32::MAX)?;
    draft.threads = (threads > 1).then(|| Asked::new(threads, given));
    Ok(())
}
