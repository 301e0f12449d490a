//! The step `contract`: what every engine must do alike, on every version of CPython that is there.
//!
//! Owns which tests run on which interpreter. Where interpreters come from is [`crate::interpreters`]',
//! how a step is run and counted [`crate::ci`]'s.

use std::thread;

use crate::ci::{Checkout, Failure, Output, Step, in_ci};
use crate::counts::Counts;
use crate::interpreters::{self, Interpreter};
use crate::say;

const CONTRACT: &str = "tests/contract";

/// Tests that meet the interpreter itself at every line, most without knowing an engine: its allocator, greenlets that an
/// application switches, a driver written in C that lets go of the interpreter and is suspended. They take seconds.
const BESIDE: [&str; 8] = [
    "tests/test_api.py",
    "tests/test_chunk_cache.py",
    "tests/test_foreign_switches.py",
    "tests/test_input.py",
    "tests/test_postgres.py",
    "tests/test_wsgi_environ.py",
    "tests/test_wsgi_errors.py",
    "tests/test_wsgi_responses.py",
];

/// What else runs in the same go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// The step pytest has run everything on the environment's own interpreter.
    AfterPytest,
    /// Somebody wants just this, perhaps some tests of it.
    Alone,
}

/// One go of pytest.
#[derive(Debug, PartialEq, Eq)]
struct Go<'a> {
    interpreter: &'a Interpreter,
    /// CPython's debugging allocator fills what is freed, and checks what lies around a block.
    debug_allocator: bool,
    arguments: Vec<&'a str>,
}

/// Runs the tests on every interpreter, also after one has failed.
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
    let further = interpreters::further(checkout.root(), &own);
    interpreters::judge(&own, &further, in_ci())?;
    if occasion == Occasion::Alone {
        checkout.build_own()?;
    }
    for interpreter in &further {
        let venv = interpreter.venv(checkout.root());
        if !venv.join("bin/python").exists() {
            let shown = venv.strip_prefix(checkout.root()).unwrap_or(&venv).display().to_string();
            let version = &interpreter.version;
            return Err(
                format!("CPython {version} has no {shown} yet: `make interpreters` creates it").into()
            );
        }
        checkout.build_into(&venv)?;
    }
    let own = &own;
    let mut total = Counts::default();
    let mut failures = Vec::new();
    // Two at a time: most of the tests wait for something most of the time.
    for pair in plan(own, &further, occasion, extra).chunks(2) {
        let [first, rest @ ..] = pair else { continue };
        let results = thread::scope(|scope| {
            let beside: Vec<_> = rest
                .iter()
                .map(|go| {
                    scope.spawn(move || {
                        let (mut output, lines) = Output::kept();
                        let result = run_one(checkout, own, go, &mut output);
                        (go, result, lines)
                    })
                })
                .collect();
            let mut results = vec![(first, run_one(checkout, own, first, output))];
            for run in beside {
                if let Ok((go, result, lines)) = run.join() {
                    lines.pass_on(output);
                    results.push((go, result));
                } else {
                    results.push((first, Err(String::from("a thread of the runner panicked").into())));
                }
            }
            results
        });
        for (go, result) in results {
            match result {
                Ok(counts) => total += counts,
                Err(failure) => {
                    total += failure.counts;
                    failures.push(format!("{}: {}", go.title(), failure.reason));
                }
            }
        }
    }
    if failures.is_empty() { Ok(total) } else { Err(Failure { reason: failures.join("\n"), counts: total }) }
}

/// Runs the tests of one go.
fn run_one(
    checkout: &Checkout,
    own: &Interpreter,
    go: &Go<'_>,
    output: &mut Output,
) -> Result<Counts, Failure> {
    say(&format!("\n--> contract: {}", go.title()));
    let venv = go.interpreter.venv(checkout.root());
    let python = if go.interpreter == own { checkout.python() } else { venv.join("bin/python") };
    let mut command = checkout.program(&python);
    command.args(["-m", "pytest", "-q", "-ra"]).args(&go.arguments);
    if go.debug_allocator {
        command.env("PYTHONMALLOC", "debug");
    }
    checkout.counted(Step::Contract, &mut command, output)
}

impl Go<'_> {
    fn title(&self) -> String {
        let allocator = if self.debug_allocator { " with PYTHONMALLOC=debug" } else { "" };
        format!("CPython {}{allocator}", self.interpreter.version)
    }
}

/// Which goes there are: contract tests on each interpreter; without a choice of tests also those
/// beside them, and the nasty ones once more, on the newest, with the debugging allocator.
fn plan<'a>(
    own: &'a Interpreter,
    further: &'a [Interpreter],
    occasion: Occasion,
    extra: &'a [String],
) -> Vec<Go<'a>> {
    let chosen: Vec<&str> = extra.iter().map(String::as_str).collect();
    let mut goes = Vec::new();
    if occasion == Occasion::Alone {
        let arguments = [&[CONTRACT], &chosen[..]].concat();
        goes.push(Go { interpreter: own, debug_allocator: false, arguments });
    }
    let beside: &[&str] = if chosen.is_empty() { &BESIDE } else { &[] };
    for interpreter in further {
        let arguments = [&[CONTRACT], beside, &chosen[..]].concat();
        goes.push(Go { interpreter, debug_allocator: false, arguments });
    }
    if chosen.is_empty() {
        let newest = further.iter().fold(own, |best, next| if next.minor > best.minor { next } else { best });
        let arguments = vec![CONTRACT, "-m", "nasty"];
        goes.push(Go { interpreter: newest, debug_allocator: true, arguments });
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

    fn shown(goes: &[Go<'_>]) -> Vec<(u32, bool, usize)> {
        goes.iter().map(|go| (go.interpreter.minor, go.debug_allocator, go.arguments.len())).collect()
    }

    #[test]
    fn after_pytest_the_own_interpreter_is_not_run_twice() {
        let (own, further) = (interpreter(11), [interpreter(12), interpreter(13)]);
        let goes = plan(&own, &further, Occasion::AfterPytest, &[]);
        assert_eq!(shown(&goes), [(12, false, 9), (13, false, 9), (13, true, 3)]);
        let goes = plan(&own, &further, Occasion::Alone, &[]);
        assert_eq!(shown(&goes), [(11, false, 1), (12, false, 9), (13, false, 9), (13, true, 3)]);
    }

    #[test]
    fn the_debugging_allocator_runs_on_the_newest() {
        let (own, further) = (interpreter(14), [interpreter(11), interpreter(12)]);
        let goes = plan(&own, &further, Occasion::AfterPytest, &[]);
        assert_eq!(shown(&goes).last(), Some(&(14, true, 3)));
    }

    #[test]
    fn a_choice_of_tests_is_handed_to_every_interpreter_and_nothing_is_added() {
        let (own, further) = (interpreter(11), [interpreter(13)]);
        let extra = ["-k".to_owned(), "cancel".to_owned()];
        let goes = plan(&own, &further, Occasion::Alone, &extra);
        assert_eq!(shown(&goes), [(11, false, 3), (13, false, 3)]);
        assert_eq!(goes[1].arguments, ["tests/contract", "-k", "cancel"]);
    }

    #[test]
    fn what_is_run_exists() {
        for path in BESIDE.into_iter().chain([CONTRACT]) {
            assert!(repository::root().join(path).exists(), "{path}");
        }
    }
}
