//! The command line of `cargo xtask`: one word chooses what to do.
//!
//! Owns the list of commands and the exit code. What each command does lives in its own module:
//! [`ci`] runs the steps of `make test`, [`contract`] the one that needs several [`interpreters`] and
//! [`lanes`], [`tidy`] checks what no compiler checks, [`layers`] compares
//! who depends on whom with the table, [`generated`] writes and checks files made from the sources.

mod ci;
mod contract;
mod counts;
mod generated;
mod interpreters;
mod lanes;
mod layers;
mod repository;
mod source_text;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci                all steps below in this order, pytest and contract side by side; shows every failure
  fmt               rustfmt, checked
  lint              clippy and ruff, warnings are errors
  tidy              layers, file heads, where unsafe may live, generated files
  test [ARGS]       cargo test over every crate but the extension module
  wheel             builds the extension module (release) into the virtual environment, and target/release/greenloom
  pytest [ARGS]     pytest over tests/, conformance/ and examples/
  contract [ARGS]   pytest over tests/contract/ on every CPython from 3.11 to 3.14 that is there
  interpreters      lists those CPythons, and which are missing; `make interpreters` sees to them
  options           writes docs/options.md and the table of engines in README.md anew

VENV=DIR names the virtual environment (default: .venv, which `make build` creates).
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let outcome = match command.as_str() {
        "ci" => ci::run_all(),
        "tidy" => tidy::run(),
        "options" => generated::write(),
        "interpreters" => {
            ci::Checkout::here().and_then(|here| interpreters::list(here.root(), &here.python()))
        }
        "" | "-h" | "--help" | "help" => {
            say(USAGE);
            Ok(())
        }
        name => match ci::Step::named(name) {
            Some(step) => ci::run_one(step, &rest),
            None => Err(format!("no command {name:?}\n\n{USAGE}")),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}

/// Prints to the person who typed the command.
#[expect(clippy::print_stdout, reason = "a command line tool speaks on stdout")]
fn say(text: &str) {
    println!("{}", text.trim_end());
}

/// Prints why the command failed.
#[expect(clippy::print_stderr, reason = "a command line tool complains on stderr")]
fn complain(reason: &str) {
    eprintln!("xtask: {}", reason.trim_end());
}
