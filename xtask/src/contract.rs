//! The step `contract`: what every engine must do alike, on every version of CPython that is there; in
//! `make test` all other tests in Python run beside it.
//!
//! Owns which tests run on which interpreter, and that they run side by side. Where interpreters come
//! from is [`crate::interpreters`]', how a step is run and counted [`crate::ci`]'s.

use crate::ci::{Checkout, FOLDERS, Failure, Output, Step, in_ci};
use crate::counts::Counts;
use crate::interpreters::{self, Interpreter};
use crate::lanes::side_by_side;
use crate::say;

const CONTRACT: &str = "tests/contract";

/// What every loop must do alike for ASGI applications: a go of its own, and one on the newest CPython, where tasks begin in
/// another way, with the first of the loops and without frameworks, which are the environment's.
const ASGI: &str = "tests/asgi";
const FRAMEWORKS: [&str; 6] = [
    "--ignore",
    "tests/asgi/test_django.py",
    "--ignore",
    "tests/asgi/test_fastapi.py",
    "--ignore",
    "tests/asgi/test_starlette.py",
];

/// Tests that meet the interpreter itself at every line, most without knowing an engine: its allocator, greenlets that an
/// application switches, a driver written in C that lets go of the interpreter and is suspended. They take seconds.
const BESIDE: [&str; 9] = [
    "tests/asyncio_loops",
    "tests/test_api.py",
    "tests/test_chunk_cache.py",
    "tests/test_foreign_switches.py",
    "tests/test_input.py",
    "tests/test_postgres.py",
    "tests/test_wsgi_environ.py",
    "tests/test_wsgi_errors.py",
    "tests/test_wsgi_responses.py",
];

/// What is the worker's own, seen from each pair of engines: on the environment's CPython alone.
const FILES: [&str; 2] = ["--ignore", "tests/contract/files"];

/// Pairs whose loops have asyncio's interface: a go of their own. What they do differently from one CPython to the next is
/// asyncio's own, so on the newest one the first of them stands for all, and on those between nothing but their own tests.
const ON_ASYNCIO: &str = "asyncio+greenlet or uvloop+greenlet or tornado+greenlet";
const NOT_ON_ASYNCIO: &str = "not (asyncio+greenlet or uvloop+greenlet or tornado+greenlet)";
const ONE_ON_ASYNCIO: &str = "asyncio+greenlet";

/// On the versions between the environment's own and the newest only the pairs whose coroutines are bound to CPython's
/// insides: thread states and frames. What else changes from one to the next shows on the newest.
const BOUND_TO_CPYTHON: &str =
    "not (asyncio+greenlet or uvloop+greenlet or tornado+greenlet or gevent or native+none)";

/// How many goes run at once: most of the tests wait for something most of the time.
const LANES: usize = 5;

/// What is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// `make test`: also all that the step pytest would run. The extension module has just been built.
    Everything,
    /// Somebody wants just the contract, perhaps some tests of it.
    Alone,
}

/// One go of pytest.
#[derive(Debug, PartialEq, Eq)]
struct Go<'a> {
    name: &'static str,
    interpreter: &'a Interpreter,
    /// CPython's debugging allocator fills what is freed, and checks what lies around a block.
    debug_allocator: bool,
    arguments: Vec<&'a str>,
}

/// Runs the tests on every interpreter that can be used, also after one has failed.
///
/// # Errors
/// A required interpreter is missing in CI, one has no environment, or tests fail.
pub(crate) fn run(
    checkout: &Checkout,
    occasion: Occasion,
    extra: &[String],
    output: &mut Output,
) -> Result<Counts, Failure> {
    let own = interpreters::own_interpreter(&checkout.python())?;
    let mut further = interpreters::further(checkout.root(), &own);
    let mut failures = Vec::from_iter(interpreters::judge(&own, &further, in_ci()).err());
    if occasion == Occasion::Alone {
        checkout.build_own()?;
    }
    further.retain(|interpreter| match prepare(checkout, interpreter) {
        Ok(()) => true,
        Err(reason) => {
            failures.push(reason);
            false
        }
    });
    let goes = plan(&own, &further, occasion, extra);
    say("side by side, the output of each when it has ended:");
    for go in &goes {
        say(&format!("    {}", go.title()));
    }
    let mut total = Counts::default();
    let run = |go: &Go<'_>| {
        let mut output = Output::kept();
        (run_one(checkout, &own, go, &mut output), output)
    };
    side_by_side(LANES, &goes, run, |go, ended| {
        let Some((result, kept)) = ended else {
            failures.push(format!("{}: a thread of the runner panicked", go.title()));
            return;
        };
        say(&format!("\n--> {}", go.title()));
        output.take_in(kept);
        let (Ok(counts) | Err(Failure { counts, .. })) = &result;
        total += *counts;
        if let Err(failure) = result {
            failures.push(format!("{}: {}", go.title(), failure.reason));
        }
    });
    if failures.is_empty() { Ok(total) } else { Err(Failure { reason: failures.join("\n"), counts: total }) }
}

/// Builds the extension module into the environment of a further interpreter.
fn prepare(checkout: &Checkout, interpreter: &Interpreter) -> Result<(), String> {
    let venv = interpreter.venv(checkout.root());
    if !venv.join("bin/python").exists() {
        let shown = venv.strip_prefix(checkout.root()).unwrap_or(&venv).display().to_string();
        let version = &interpreter.version;
        return Err(format!("CPython {version} has no {shown} yet: `make interpreters` creates it"));
    }
    checkout.build_into(&venv)
}

/// Runs the tests of one go.
fn run_one(
    checkout: &Checkout,
    own: &Interpreter,
    go: &Go<'_>,
    output: &mut Output,
) -> Result<Counts, Failure> {
    let venv = go.interpreter.venv(checkout.root());
    let python = if go.interpreter == own { checkout.python() } else { venv.join("bin/python") };
    let mut command = checkout.program(&python);
    command.args(["-m", "pytest", "-q", "-ra"]).args(&go.arguments);
    if go.debug_allocator {
        command.env("PYTHONMALLOC", "debug");
    }
    checkout.counted(Step::Contract, &go.title(), &mut command, output)
}

impl Go<'_> {
    fn title(&self) -> String {
        let allocator = if self.debug_allocator { " with PYTHONMALLOC=debug" } else { "" };
        format!("{} on CPython {}{allocator}", self.name, self.interpreter.version)
    }
}

/// Which goes there are, the longest first: in `make test` the tests beside the contract, and those of ASGI; the contract
/// on each interpreter, without a choice of tests with those of [`BESIDE`] on all but the environment's
/// own, where [`ON_ASYNCIO`] goes by itself; and then the nasty ones once more, on the newest, with the
/// debugging allocator.
fn plan<'a>(
    own: &'a Interpreter,
    further: &'a [Interpreter],
    occasion: Occasion,
    extra: &'a [String],
) -> Vec<Go<'a>> {
    let chosen: Vec<&str> = extra.iter().map(String::as_str).collect();
    let go = |name, interpreter, arguments| Go { name, interpreter, debug_allocator: false, arguments };
    let mut goes = Vec::new();
    if occasion == Occasion::Everything {
        let arguments = [&FOLDERS[..], &["--ignore", CONTRACT, "--ignore", ASGI]].concat();
        goes.push(go("everything else", own, arguments));
    }
    if !chosen.is_empty() {
        let all = further.iter().chain([own]);
        goes.extend(all.map(|interpreter| go("contract", interpreter, [&[CONTRACT], &chosen[..]].concat())));
        return goes;
    }
    let newest = further.iter().fold(own, |best, next| if next.minor > best.minor { next } else { best });
    for interpreter in further {
        let pairs = if interpreter == newest { NOT_ON_ASYNCIO } else { BOUND_TO_CPYTHON };
        let arguments = [&[CONTRACT], &BESIDE[..], &FILES, &["-k", pairs]].concat();
        goes.push(go("contract", interpreter, arguments));
    }
    goes.push(go("contract", own, vec![CONTRACT, "-k", NOT_ON_ASYNCIO]));
    goes.push(go("contract (asyncio)", own, vec![CONTRACT, "-k", ON_ASYNCIO]));
    if occasion == Occasion::Everything {
        goes.push(go("asgi", own, vec![ASGI]));
    }
    if newest != own {
        let arguments = [&[CONTRACT], &FILES[..], &["-k", ONE_ON_ASYNCIO]].concat();
        goes.push(go("contract (asyncio)", newest, arguments));
    }
    let nasty = go("contract (nasty)", newest, vec![CONTRACT, "-m", "nasty", "-k", NOT_ON_ASYNCIO]);
    goes.push(Go { debug_allocator: true, ..nasty });
    if newest != own {
        let arguments = [&[ASGI, "-k", "asyncio"], &FRAMEWORKS[..]].concat();
        goes.push(go("asgi (asyncio)", newest, arguments));
    }
    goes
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::repository;

    fn interpreter(minor: u32) -> Interpreter {
        Interpreter { minor, version: format!("3.{minor}.0"), python: PathBuf::new() }
    }

    fn titles(goes: &[Go<'_>]) -> Vec<String> {
        goes.iter().map(Go::title).collect()
    }

    #[test]
    fn everything_is_the_contract_on_all_and_the_rest_once() {
        let (own, further) = (interpreter(11), [interpreter(12), interpreter(13)]);
        let contract = [
            "contract on CPython 3.12.0",
            "contract on CPython 3.13.0",
            "contract on CPython 3.11.0",
            "contract (asyncio) on CPython 3.11.0",
            "contract (asyncio) on CPython 3.13.0",
            "contract (nasty) on CPython 3.13.0 with PYTHONMALLOC=debug",
            "asgi (asyncio) on CPython 3.13.0",
        ];
        assert_eq!(titles(&plan(&own, &further, Occasion::Alone, &[])), contract);
        let goes = plan(&own, &further, Occasion::Everything, &[]);
        assert_eq!(goes[0].title(), "everything else on CPython 3.11.0");
        let beside = ["--ignore", "tests/contract", "--ignore", "tests/asgi"];
        assert_eq!(goes[0].arguments, [&["tests", "conformance", "examples"], &beside[..]].concat());
        let (rest, asgi): (Vec<_>, Vec<_>) =
            titles(&goes[1..]).into_iter().partition(|title| title != "asgi on CPython 3.11.0");
        assert_eq!((rest, asgi.len()), (contract.map(str::to_owned).to_vec(), 1));
    }

    #[test]
    fn what_stands_beside_the_contract_runs_once_on_each() {
        let (own, further) = (interpreter(11), [interpreter(12)]);
        let goes = plan(&own, &further, Occasion::Everything, &[]);
        let beside: Vec<_> = goes.iter().map(|go| go.arguments.contains(&BESIDE[0])).collect();
        let once = [false, true, false, false, false, false, false, false];
        assert_eq!(beside, once, "the first go has them in its folders");
    }

    #[test]
    fn the_debugging_allocator_runs_on_the_newest() {
        let (own, further) = (interpreter(14), [interpreter(11), interpreter(12)]);
        let goes = plan(&own, &further, Occasion::Everything, &[]);
        let debugged: Vec<_> = goes.iter().filter(|go| go.debug_allocator).collect();
        assert_eq!(debugged.len(), 1);
        assert_eq!(debugged[0].interpreter, &own);
    }

    #[test]
    fn a_choice_of_tests_is_handed_to_every_interpreter_and_nothing_is_added() {
        let (own, further) = (interpreter(11), [interpreter(13)]);
        let extra = ["-k".to_owned(), "cancel".to_owned()];
        let goes = plan(&own, &further, Occasion::Alone, &extra);
        assert_eq!(titles(&goes), ["contract on CPython 3.13.0", "contract on CPython 3.11.0"]);
        for go in goes {
            assert_eq!(go.arguments, ["tests/contract", "-k", "cancel"]);
        }
    }

    #[test]
    fn what_is_run_exists() {
        let ignored = FRAMEWORKS.into_iter().filter(|word| !word.starts_with('-'));
        let files = FILES.into_iter().filter(|word| !word.starts_with('-'));
        for path in BESIDE.into_iter().chain([CONTRACT, ASGI]).chain(ignored).chain(files) {
            assert!(repository::root().join(path).exists(), "{path}");
        }
    }
}
