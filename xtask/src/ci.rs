//! The steps of `make test`, in order; one that fails hides none of the others.
//!
//! Owns which program each step runs, what counts as a failure (a skipped test does in CI), and the
//! closing lines. Installing what the steps need is the Makefile's part.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contract::{self, Occasion};
use crate::counts::{Counts, cargo_line, names_a_failure, pytest_line};
use crate::{complain, repository, say, tidy};

/// Where tests in Python are.
pub(crate) const FOLDERS: [&str; 3] = ["tests", "conformance", "examples"];

/// One thing that must hold before a change lands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Fmt,
    Lint,
    Tidy,
    Test,
    Wheel,
    Pytest,
    Contract,
}

impl Step {
    const IN_ORDER: [Self; 7] =
        [Self::Fmt, Self::Lint, Self::Tidy, Self::Test, Self::Wheel, Self::Pytest, Self::Contract];

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Lint => "lint",
            Self::Tidy => "tidy",
            Self::Test => "test",
            Self::Wheel => "wheel",
            Self::Pytest => "pytest",
            Self::Contract => "contract",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::IN_ORDER.into_iter().find(|step| step.name() == name)
    }

    /// Takes in a line of the step's output: cargo closes every test binary, pytest the whole run.
    fn count(self, line: &str, counts: &mut Counts) {
        if self == Self::Test {
            *counts += cargo_line(line).unwrap_or_default();
        } else if let Some(whole_run) = pytest_line(line) {
            *counts = whole_run;
        }
    }
}

/// Runs all steps and prints `N passed, N failed` as the last line.
///
/// # Errors
/// Any step that fails; in CI (`CI=true`) also any skipped test.
pub(crate) fn run_all() -> Result<(), String> {
    let checkout = Checkout::here()?;
    let mut output = Output::new(std::io::stdout());
    let mut total = Counts::default();
    let mut failures = Vec::new();
    for step in Step::IN_ORDER {
        if step == Step::Pytest {
            // It runs beside the contract.
            continue;
        }
        say(&format!("\n==> {}", step.name()));
        let outcome = checkout.run(step, Occasion::Everything, &[], &mut output);
        let (Ok(counts) | Err(Failure { counts, .. })) = &outcome;
        total += *counts;
        if let Err(failure) = outcome {
            complain(&failure.reason);
            failures.push(failure.reason);
            if step == Step::Wheel {
                // What follows would test an older one.
                break;
            }
        }
    }
    output.sum_up();
    if let Err(skipped) = judge_skips(total, in_ci()) {
        failures.push(skipped);
    }
    say(&total.to_string());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Runs one step; `extra` is handed to the program that runs it.
///
/// # Errors
/// The step fails.
pub(crate) fn run_one(step: Step, extra: &[String]) -> Result<(), String> {
    let mut output = Output::new(std::io::stdout());
    let outcome = Checkout::here()?.run(step, Occasion::Alone, extra, &mut output);
    if step == Step::Contract {
        output.sum_up();
    }
    let (Ok(counts) | Err(Failure { counts, .. })) = &outcome;
    if step == Step::Contract && *counts != Counts::default() {
        say(&counts.to_string());
    }
    outcome.map(|_| ()).map_err(|failure| failure.reason)
}

/// Whether everything is supposed to be installed, so that nothing may be left out.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Says skipped tests loudly; they are a failure where everything is supposed to be installed.
fn judge_skips(total: Counts, in_ci: bool) -> Result<(), String> {
    if total.skipped == 0 {
        return Ok(());
    }
    let reason = format!("!!! {} tests were SKIPPED; their reasons stand above !!!", total.skipped);
    if in_ci {
        return Err(format!("{reason}\nin CI nothing may be skipped: install what they need"));
    }
    say(&reason);
    Ok(())
}

/// Where the lines of test runs go, and those that are worth a second look at the end.
pub(crate) struct Output {
    /// None while the lines are kept: for what runs beside something else.
    out: Option<Box<dyn Write + Send>>,
    kept: Vec<String>,
    failed: Vec<String>,
    summary: Vec<String>,
}

impl Output {
    fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Some(Box::new(out)), ..Self::kept() }
    }

    /// One whose lines are kept until another takes them in.
    pub(crate) fn kept() -> Self {
        Self { out: None, kept: Vec::new(), failed: Vec::new(), summary: Vec::new() }
    }

    /// Puts out what `other` has kept, as if it came now.
    pub(crate) fn take_in(&mut self, other: Self) {
        other.kept.into_iter().for_each(|line| self.put(line));
        self.failed.extend(other.failed);
        self.summary.extend(other.summary);
    }

    /// A line of the run called `title`.
    fn line(&mut self, title: &str, line: String) {
        if names_a_failure(&line) {
            self.failed.push(format!("{title}: {line}"));
        }
        // tests/contract/conftest.py closes each run with a line for each pair of engines.
        if line.starts_with("contract: CPython") {
            self.summary.push(line.clone());
        }
        self.put(line);
    }

    fn put(&mut self, line: String) {
        let Some(out) = &mut self.out else { return self.kept.push(line) };
        // A reader that has gone is no reason to stop the tests.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Prints the tests that failed and the lines of the summary again, all together.
    fn sum_up(&mut self) {
        let failed = std::mem::take(&mut self.failed);
        let summary = std::mem::take(&mut self.summary);
        failed.into_iter().chain(summary).for_each(|line| self.put(line));
    }
}

/// Why a step failed, and what its tests counted until then.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) counts: Counts,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, counts: Counts::default() }
    }
}

/// The checkout and its virtual environment.
#[derive(Debug)]
pub(crate) struct Checkout {
    root: PathBuf,
    venv: PathBuf,
}

impl Checkout {
    pub(crate) fn here() -> Result<Self, String> {
        let root = repository::root();
        let venv = root.join(std::env::var_os("VENV").unwrap_or_else(|| ".venv".into()));
        if !venv.join("bin/python").exists() {
            return Err(format!("{}: no virtual environment there; `make build` creates it", venv.display()));
        }
        Ok(Self { root, venv })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.venv.join("bin/python")
    }

    fn run(
        &self,
        step: Step,
        occasion: Occasion,
        extra: &[String],
        output: &mut Output,
    ) -> Result<Counts, Failure> {
        match step {
            Step::Fmt => self.quiet(self.cargo(&["fmt", "--all", "--check"]).args(extra))?,
            Step::Lint => self.lint()?,
            Step::Tidy => tidy::run()?,
            Step::Wheel => self.build_own()?,
            Step::Test => {
                // The extension module is left out: its test binary would have to link an interpreter.
                let arguments = ["test", "--workspace", "--exclude", "greenloom-python", "--no-fail-fast"];
                return self.counted(step, step.name(), self.cargo(&arguments).args(extra), output);
            }
            Step::Pytest => return self.counted(step, step.name(), self.pytest().args(extra), output),
            Step::Contract => return contract::run(self, occasion, extra, output),
        }
        Ok(Counts::default())
    }

    fn lint(&self) -> Result<(), String> {
        self.quiet(&mut self.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
        self.quiet(&mut self.tool("ruff", &["check", "."]))?;
        self.quiet(&mut self.tool("ruff", &["format", "--check", "."]))
    }

    /// Builds the extension module for the environment's own interpreter, and the executable that needs none
    /// (target/release/greenloom).
    pub(crate) fn build_own(&self) -> Result<(), String> {
        self.build_into(&self.venv)?;
        let arguments = ["build", "--release", "--quiet", "--package", "greenloom-cli", "--bin", "greenloom"];
        self.quiet(&mut self.cargo(&arguments))
    }

    /// Builds the extension module for the interpreter of `venv`, into it.
    pub(crate) fn build_into(&self, venv: &Path) -> Result<(), String> {
        let mut command = self.tool("maturin", &["develop", "--release", "--quiet"]);
        command.env("VIRTUAL_ENV", venv);
        if let Some(folder) = own_target(venv) {
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            command.env("CARGO_TARGET_DIR", self.root.join(target).join(folder));
        }
        self.quiet(&mut command)
    }

    /// pytest over all of [`FOLDERS`]; `-ra` prints the reason of every test that did not pass.
    fn pytest(&self) -> Command {
        let mut command = self.tool("python", &["-m", "pytest", "-q", "-ra"]);
        command.args(FOLDERS);
        command
    }

    /// A cargo command; PyO3 is pointed at the environment's interpreter, so that no step rebuilds it.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(&self.root).env("PYO3_PYTHON", self.venv.join("bin/python"));
        command
    }

    /// A program of the virtual environment.
    fn tool(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.venv.join("bin").join(name));
        command.args(arguments);
        command
    }

    /// Any program, in the root of the checkout.
    pub(crate) fn program(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.current_dir(&self.root);
        command
    }

    /// Runs a step that counts nothing.
    fn quiet(&self, command: &mut Command) -> Result<(), String> {
        let status = command.status().map_err(|error| not_started(command, &error))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{} failed: {status}", shown(command, &self.root)))
        }
    }

    /// Runs the tests called `title`: passes their output on and counts by their closing lines.
    pub(crate) fn counted(
        &self,
        step: Step,
        title: &str,
        command: &mut Command,
        output: &mut Output,
    ) -> Result<Counts, Failure> {
        let mut child =
            command.stdout(Stdio::piped()).spawn().map_err(|error| not_started(command, &error))?;
        let mut counts = Counts::default();
        if let Some(lines) = child.stdout.take() {
            for line in BufReader::new(lines).split(b'\n') {
                let line = line.map_err(|error| format!("{title}: {error}"))?;
                let line = String::from_utf8_lossy(&line).into_owned();
                step.count(&line, &mut counts);
                output.line(title, line);
            }
        }
        let status = child.wait().map_err(|error| format!("{title}: {error}"))?;
        output.put(format!("{title}: {counts}"));
        let fail = |reason: String| Err(Failure { reason, counts });
        if !status.success() {
            return fail(format!("{} failed: {status}", shown(command, &self.root)));
        }
        if counts.failed > 0 {
            return fail(format!("{title}: {} tests failed", counts.failed));
        }
        if counts.passed == 0 {
            return fail(format!("{title}: no test ran"));
        }
        Ok(counts)
    }
}

/// The folder for the build output of an environment beside `.venv`: as `.venv-3.12` is another
/// interpreter's, `py3.12`. In a folder of both each build would compile `PyO3` and what uses it anew,
/// for half a minute.
fn own_target(venv: &Path) -> Option<String> {
    let name = venv.file_name()?.to_str()?;
    Some(format!("py{}", name.strip_prefix(".venv-")?))
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    format!("{}: {error}; `make build` installs the tools", command.get_program().to_string_lossy())
}

/// The command as one would type it in the root of the checkout.
fn shown(command: &Command, root: &Path) -> String {
    let program = Path::new(command.get_program());
    let program = program.strip_prefix(root).unwrap_or(program).display().to_string();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_a_command_of_its_own() {
        for step in Step::IN_ORDER {
            assert_eq!(Step::named(step.name()), Some(step));
        }
        assert_eq!(Step::named("deploy"), None);
    }

    #[test]
    fn skips_fail_only_in_ci() {
        let skipped = Counts { passed: 5, failed: 0, skipped: 1 };
        assert!(judge_skips(skipped, true).is_err());
        assert!(judge_skips(skipped, false).is_ok());
        assert!(judge_skips(Counts { skipped: 0, ..skipped }, true).is_ok());
    }

    #[test]
    fn a_counted_step_must_count() {
        let checkout = Checkout { root: repository::root(), venv: PathBuf::new() };
        let run = |script: &str| {
            let mut output = Output::new(std::io::sink());
            checkout.counted(Step::Pytest, "pytest", Command::new("sh").args(["-c", script]), &mut output)
        };
        assert_eq!(run("echo '3 passed in 0.1s'").unwrap().passed, 3);
        assert!(run("true").unwrap_err().reason.contains("no test ran"));
        assert!(run("echo '3 passed in 0.1s'; exit 1").unwrap_err().reason.contains("failed"));
        assert_eq!(run("echo '2 passed, 1 failed in 0.1s'").unwrap_err().counts.failed, 1);
    }

    #[test]
    fn failures_and_lines_of_the_contract_tests_are_kept_for_the_end() {
        let (mut output, mut beside) = (Output::kept(), Output::kept());
        let pair = "contract: CPython 3.12.1, native+none: 2 passed, 0 failed, 0 skipped";
        for line in [pair, "contract: 2 passed", "FAILED tests/test_a.py::test_b - assert 0"] {
            beside.line("on 3.12", line.to_owned());
        }
        output.take_in(beside);
        assert_eq!(output.kept.len(), 3);
        output.sum_up();
        assert_eq!(output.kept[3..], ["on 3.12: FAILED tests/test_a.py::test_b - assert 0", pair]);
    }

    #[test]
    fn only_further_environments_have_build_output_of_their_own() {
        assert_eq!(own_target(Path::new("/checkout/.venv")), None);
        assert_eq!(own_target(Path::new("/checkout/.venv-3.12")).as_deref(), Some("py3.12"));
    }

    #[test]
    fn cargo_counts_add_up_and_pytest_has_the_last_word() {
        let after = |step: Step, lines: &[&str]| {
            let mut counts = Counts::default();
            for line in lines {
                step.count(line, &mut counts);
            }
            counts.passed
        };
        let binaries = ["test result: ok. 2 passed; 0 failed", "test result: ok. 3 passed; 0 failed"];
        assert_eq!(after(Step::Test, &binaries), 5);
        assert_eq!(after(Step::Test, &["9 passed in 1s"]), 0);
        assert_eq!(after(Step::Pytest, &["9 passed in 1s", "4 passed in 2s"]), 4);
    }
}
