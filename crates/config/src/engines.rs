//! The one table of legal pairs: which loop engine goes with which suspend engine.
//!
//! Start-up checks, `--loop-list`, the README's table and the contract tests all read [`PAIRS`]. What an engine
//! does is written where it is built; here it is only a name, its partners and whether this version has it.

use std::fmt::Write as _;

/// Who owns the event loop of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoopEngine {
    /// The worker's own reactor.
    Native,
    /// gevent's hub (Python).
    Gevent,
    /// asyncio's default loop (Python).
    Asyncio,
    /// uvloop under asyncio (Python).
    Uvloop,
    /// Tornado's `IOLoop` (Python).
    Tornado,
    /// libuv.
    Libuv,
    /// libev.
    Libev,
    /// `Coro::AnyEvent` (Perl).
    CoroAnyEvent,
}

/// What a core's coroutine is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SuspendEngine {
    /// Nothing: without `--async` there is one core, with it the iterable of a response is the coroutine.
    None,
    /// Stacks of greenloom's own.
    UGreen,
    /// Greenlets (Python).
    Greenlet,
    /// Tasklets (Stackless Python).
    Stackless,
    /// Fibers (Ruby).
    Fiber,
    /// The green threads the loop engine brings along.
    Own,
    /// The loop's own tasks (ASGI applications).
    Tasks,
}

/// One loop engine with one suspend engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Engine {
    /// Who owns the event loop.
    pub loop_engine: LoopEngine,
    /// What coroutines are made of.
    pub suspend: SuspendEngine,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The pair itself.
    pub engine: Engine,
    /// How it is asked for on the command line.
    pub ask: &'static str,
    /// Languages of the applications it runs.
    pub languages: &'static str,
    /// What it is for, in a few words.
    pub purpose: &'static str,
    /// Whether this version has it.
    pub built: bool,
}

const fn pair(
    loop_engine: LoopEngine,
    suspend: SuspendEngine,
    ask: &'static str,
    languages: &'static str,
    purpose: &'static str,
    built: bool,
) -> Pair {
    Pair { engine: Engine { loop_engine, suspend }, ask, languages, purpose, built }
}

const ANY: &str = "any";
const PYTHON: &str = "Python";
const LIBRARY: &str = "sharing the worker with a library that lives on that loop";

/// Every legal pair; nothing else may start.
pub const PAIRS: &[Pair] = &[
    pair(
        LoopEngine::Native,
        SuspendEngine::None,
        "--async N, or nothing",
        ANY,
        "responses that yield; prefork without --async",
        true,
    ),
    pair(
        LoopEngine::Native,
        SuspendEngine::UGreen,
        "--async N --ugreen",
        "Python, Perl",
        "blocking style with uwsgi.suspend(), nothing to install",
        true,
    ),
    pair(
        LoopEngine::Native,
        SuspendEngine::Greenlet,
        "--async N --greenlet",
        PYTHON,
        "applications that use greenlets themselves",
        true,
    ),
    pair(
        LoopEngine::Native,
        SuspendEngine::Stackless,
        "--async N --stackless",
        "Stackless Python",
        "applications that use tasklets",
        false,
    ),
    pair(LoopEngine::Native, SuspendEngine::Fiber, "--async N --fiber", "Ruby", "Rack applications", false),
    pair(
        LoopEngine::Gevent,
        SuspendEngine::Own,
        "--gevent N",
        PYTHON,
        "ordinary blocking libraries, monkey patched",
        true,
    ),
    pair(
        LoopEngine::CoroAnyEvent,
        SuspendEngine::Own,
        "--coroae N",
        "Perl",
        "PSGI applications on AnyEvent",
        false,
    ),
    pair(
        LoopEngine::Asyncio,
        SuspendEngine::Greenlet,
        "--asyncio N",
        PYTHON,
        "WSGI applications that use asyncio's libraries",
        true,
    ),
    pair(
        LoopEngine::Asyncio,
        SuspendEngine::Tasks,
        "--asyncio N --asgi APP",
        PYTHON,
        "ASGI applications",
        true,
    ),
    pair(
        LoopEngine::Uvloop,
        SuspendEngine::Greenlet,
        "--asyncio N --asyncio-loop uvloop",
        PYTHON,
        "as asyncio, on uvloop (libuv)",
        true,
    ),
    pair(
        LoopEngine::Uvloop,
        SuspendEngine::Tasks,
        "--asyncio N --asyncio-loop uvloop --asgi APP",
        PYTHON,
        "ASGI applications on uvloop",
        true,
    ),
    pair(
        LoopEngine::Tornado,
        SuspendEngine::Greenlet,
        "--tornado N",
        PYTHON,
        "WSGI applications that use Tornado's clients",
        true,
    ),
    pair(
        LoopEngine::Tornado,
        SuspendEngine::Tasks,
        "--tornado N --asgi APP",
        PYTHON,
        "ASGI applications",
        true,
    ),
    pair(LoopEngine::Libuv, SuspendEngine::None, "--loop libuv --async N", ANY, LIBRARY, false),
    pair(
        LoopEngine::Libuv,
        SuspendEngine::UGreen,
        "--loop libuv --async N --ugreen",
        "Python, Perl",
        LIBRARY,
        false,
    ),
    pair(
        LoopEngine::Libuv,
        SuspendEngine::Greenlet,
        "--loop libuv --async N --greenlet",
        PYTHON,
        LIBRARY,
        false,
    ),
    pair(
        LoopEngine::Libuv,
        SuspendEngine::Stackless,
        "--loop libuv --async N --stackless",
        "Stackless Python",
        LIBRARY,
        false,
    ),
    pair(LoopEngine::Libuv, SuspendEngine::Fiber, "--loop libuv --async N --fiber", "Ruby", LIBRARY, false),
    pair(LoopEngine::Libev, SuspendEngine::None, "--loop libev --async N", ANY, LIBRARY, false),
    pair(
        LoopEngine::Libev,
        SuspendEngine::UGreen,
        "--loop libev --async N --ugreen",
        "Python, Perl",
        LIBRARY,
        false,
    ),
    pair(
        LoopEngine::Libev,
        SuspendEngine::Greenlet,
        "--loop libev --async N --greenlet",
        PYTHON,
        LIBRARY,
        false,
    ),
    pair(
        LoopEngine::Libev,
        SuspendEngine::Stackless,
        "--loop libev --async N --stackless",
        "Stackless Python",
        LIBRARY,
        false,
    ),
    pair(LoopEngine::Libev, SuspendEngine::Fiber, "--loop libev --async N --fiber", "Ruby", LIBRARY, false),
];

impl LoopEngine {
    /// Every loop engine, built or not.
    pub const ALL: &'static [Self] = &[
        Self::Native,
        Self::Gevent,
        Self::Asyncio,
        Self::Uvloop,
        Self::Tornado,
        Self::Libuv,
        Self::Libev,
        Self::CoroAnyEvent,
    ];

    /// The name used with `--loop` and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Gevent => "gevent",
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
            Self::Tornado => "tornado",
            Self::Libuv => "libuv",
            Self::Libev => "libev",
            Self::CoroAnyEvent => "coroae",
        }
    }

    /// Whether the loop has asyncio's interface.
    pub fn is_asyncio(self) -> bool {
        matches!(self, Self::Asyncio | Self::Uvloop | Self::Tornado)
    }

    /// Finds a loop engine by the name given to `--loop`; uWSGI's `simple` and `async` are the native loop.
    pub fn by_name(name: &str) -> Option<Self> {
        if matches!(name, "simple" | "async") {
            return Some(Self::Native);
        }
        Self::ALL.iter().copied().find(|engine| engine.name() == name)
    }
}

impl SuspendEngine {
    /// The name used in options and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::UGreen => "ugreen",
            Self::Greenlet => "greenlet",
            Self::Stackless => "stackless",
            Self::Fiber => "fiber",
            Self::Own => "its own",
            Self::Tasks => "tasks",
        }
    }
}

impl Engine {
    /// The row of this pair; `None` when the pair is not legal.
    pub fn pair(self) -> Option<&'static Pair> {
        PAIRS.iter().find(|pair| pair.engine == self)
    }

    /// Checks that the pair is legal and built.
    ///
    /// # Errors
    /// The reason and the remedy, as two sentences' parts without a full stop.
    pub fn check(self) -> Result<(), (String, String)> {
        match self.pair() {
            Some(pair) if pair.built => Ok(()),
            Some(pair) => Err((
                format!("{} (asked for with {}) is not in this version of greenloom", self.name(), pair.ask),
                format!("what can start now: {}", available_now()),
            )),
            None => Err(self.illegal()),
        }
    }

    /// Both names, as in `asyncio loop engine with greenlet suspend engine`.
    pub fn name(self) -> String {
        match (self.loop_engine, self.suspend) {
            (LoopEngine::Native, SuspendEngine::None) => "the native loop alone".to_owned(),
            (LoopEngine::Native, suspend) => format!("the {} suspend engine", suspend.name()),
            (own, SuspendEngine::Own | SuspendEngine::None) => format!("the {} loop engine", own.name()),
            (own, SuspendEngine::Tasks) => format!("the {} loop engine with tasks", own.name()),
            (own, suspend) => format!("the {} loop engine with {}", own.name(), suspend.name()),
        }
    }

    fn illegal(self) -> (String, String) {
        let of_loop = || PAIRS.iter().filter(|pair| pair.engine.loop_engine == self.loop_engine);
        let mut partners: Vec<_> = of_loop().filter(|pair| pair.built).map(|pair| pair.ask).collect();
        if partners.is_empty() {
            partners = of_loop().map(|pair| pair.ask).collect();
        }
        (
            format!(
                "the {} loop engine does not go with the {} suspend engine",
                self.loop_engine.name(),
                self.suspend.name()
            ),
            format!("ask for one of: {}", partners.join("; ")),
        )
    }
}

/// Whether the name is that of an engine of which no pair is built.
pub(crate) fn is_planned(name: &str) -> bool {
    let mut pairs = PAIRS
        .iter()
        .filter(|pair| pair.engine.loop_engine.name() == name || pair.engine.suspend.name() == name)
        .peekable();
    pairs.peek().is_some() && pairs.all(|pair| !pair.built)
}

/// The built pairs as they are asked for, joined by semicolons.
pub fn available_now() -> String {
    let asks: Vec<_> = PAIRS.iter().filter(|pair| pair.built).map(|pair| pair.ask).collect();
    asks.join("; ")
}

/// The text of `--loop-list`: one line per pair.
pub fn loop_list() -> String {
    let mut text = String::from("available loop engines, with their suspend engines:\n");
    for pair in PAIRS {
        let note = if pair.built { "" } else { "  (not in this version)" };
        let _ = writeln!(
            text,
            "    {:<8} {:<10} {:<36}{note}",
            pair.engine.loop_engine.name(),
            pair.engine.suspend.name(),
            pair.ask
        );
    }
    text
}

/// The table as Markdown, for the README.
pub fn engines_markdown() -> String {
    let mut text = String::from(
        "| loop engine | suspend engine | asked for with | applications | what it is for | state |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for pair in PAIRS {
        let _ = writeln!(
            text,
            "| {} | {} | `{}` | {} | {} | {} |",
            pair.engine.loop_engine.name(),
            pair.engine.suspend.name(),
            pair.ask,
            pair.languages,
            pair.purpose,
            if pair.built { "works" } else { "planned" }
        );
    }
    text
}

/// The table as a JSON array of objects, for tests written in other languages.
pub fn engines_json() -> String {
    let rows: Vec<_> = PAIRS
        .iter()
        .map(|pair| {
            format!(
                "{{\"loop\":\"{}\",\"suspend\":\"{}\",\"ask\":\"{}\",\"languages\":\"{}\",\"built\":{}}}",
                pair.engine.loop_engine.name(),
                pair.engine.suspend.name(),
                pair.ask,
                pair.languages,
                pair.built
            )
        })
        .collect();
    format!("[{}]\n", rows.join(",\n "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pair_appears_twice() {
        for (index, pair) in PAIRS.iter().enumerate() {
            assert!(PAIRS[index + 1..].iter().all(|other| other.engine != pair.engine), "{pair:?}");
        }
    }

    #[test]
    fn an_illegal_pair_names_the_legal_ones() {
        let engine = Engine { loop_engine: LoopEngine::Asyncio, suspend: SuspendEngine::UGreen };
        let (reason, remedy) = engine.check().unwrap_err();
        assert!(reason.contains("asyncio") && reason.contains("ugreen"), "{reason}");
        assert_eq!(
            remedy, "ask for one of: --asyncio N; --asyncio N --asgi APP",
            "the pairs of this version"
        );
    }

    #[test]
    fn an_engine_of_a_later_version_names_what_works_now() {
        let engine = Engine { loop_engine: LoopEngine::Libev, suspend: SuspendEngine::Fiber };
        let (reason, remedy) = engine.check().unwrap_err();
        assert!(reason.contains("not in this version"), "{reason}");
        assert!(remedy.contains("--async N"), "{remedy}");
    }

    #[test]
    fn every_name_is_found_again() {
        for engine in LoopEngine::ALL {
            assert_eq!(LoopEngine::by_name(engine.name()), Some(*engine));
        }
        assert_eq!(LoopEngine::by_name("simple"), Some(LoopEngine::Native));
        assert_eq!(LoopEngine::by_name("twisted"), None);
    }

    #[test]
    fn planned_engines_are_known_by_name() {
        assert!(!is_planned("native") && !is_planned("none") && !is_planned("http-socket"));
        for pair in PAIRS.iter().filter(|pair| !pair.built && pair.engine.suspend != SuspendEngine::None) {
            let built = |other: &Pair| other.built && other.engine.suspend == pair.engine.suspend;
            assert_eq!(is_planned(pair.engine.suspend.name()), !PAIRS.iter().any(built), "{pair:?}");
        }
    }

    #[test]
    fn texts_have_a_row_for_each_pair() {
        assert_eq!(loop_list().lines().count(), PAIRS.len() + 1);
        assert_eq!(engines_markdown().lines().count(), PAIRS.len() + 2);
        assert_eq!(engines_json().lines().count(), PAIRS.len());
    }
}
