//! How many tests ran, and which failed: read off the lines of cargo's test harness and of pytest.

use std::fmt;
use std::ops::AddAssign;
use std::path::Path;

/// The outcome of test runs, added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// `12 passed, 0 failed`, with `, 1 skipped` when there is one: the last line of a run.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// What `line` says when it closes a test binary of cargo (`test result: ok. 3 passed; 0 failed; ...`).
pub(crate) fn cargo_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    Some(count(numbers.split(';')))
}

/// What `line` says when it closes a run of pytest (`==== 3 passed, 1 skipped in 0.12s ====`).
pub(crate) fn pytest_line(line: &str) -> Option<Counts> {
    let (numbers, duration) = line.trim().trim_matches('=').trim().rsplit_once(" in ")?;
    duration.split_whitespace().next()?.strip_suffix('s')?.parse::<f64>().ok()?;
    let counts = count(numbers.split(','));
    (counts != Counts::default()).then_some(counts)
}

/// Whether `line` names a test that failed: `test a::b ... FAILED` of cargo, and of pytest's summary
/// `FAILED a.py::b - why`, or `ERROR a.py` when it was not even collected.
pub(crate) fn names_a_failure(line: &str) -> bool {
    if line.starts_with("test ") {
        return line.ends_with(" ... FAILED");
    }
    let test = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "));
    let file = test.and_then(|test| test.split([':', ' ']).next());
    file.is_some_and(|file| Path::new(file).extension().is_some_and(|extension| extension == "py"))
}

/// Adds up `N word` items; words that are no outcome (`measured`, `warnings`) are passed over.
fn count<'a>(items: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for item in items {
        let mut words = item.split_whitespace();
        let Some(Ok(number)) = words.next().map(str::parse::<u64>) else { continue };
        match words.next() {
            Some("passed" | "xfailed") => counts.passed += number,
            Some("failed" | "error" | "errors" | "xpassed") => counts.failed += number,
            Some("skipped" | "ignored") => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn cargo_closes_each_binary() {
        let line =
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(cargo_line(line), Some(counts(3, 0, 1)));
        let line =
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(cargo_line(line), Some(counts(2, 1, 0)));
    }

    #[test]
    fn pytest_closes_the_run() {
        assert_eq!(pytest_line("====== 12 passed, 1 skipped in 0.50s ======"), Some(counts(12, 0, 1)));
        assert_eq!(
            pytest_line("2 failed, 10 passed, 3 warnings in 61.20s (0:01:01)"),
            Some(counts(10, 2, 0))
        );
        assert_eq!(pytest_line("1 passed, 1 error in 0.1s"), Some(counts(1, 1, 0)));
        assert_eq!(pytest_line("5 passed, 1 xfailed in 0.1s"), Some(counts(6, 0, 0)));
    }

    #[test]
    fn other_lines_say_nothing() {
        for line in
            ["", "running 3 tests", "collected 5 items", "no tests ran in 0.01s", "3 passed in the end"]
        {
            assert_eq!(pytest_line(line).or_else(|| cargo_line(line)), None, "{line}");
        }
    }

    #[test]
    fn a_test_that_failed_is_named() {
        for line in [
            "test machine::tests::a_name ... FAILED",
            "FAILED tests/contract/test_locks.py::test_a[native+greenlet] - AssertionError: 3",
            "ERROR tests/test_api.py - ImportError: no module",
            "ERROR tests/test_api.py::test_log - AssertionError",
        ] {
            assert!(names_a_failure(line), "{line}");
        }
        for line in ["test a::b ... ok", "FAILED", "ERROR: relation does not exist", "FAILED (failures=1)"] {
            assert!(!names_a_failure(line), "{line}");
        }
    }

    #[test]
    fn the_summary_names_skips_only_when_there_are_some() {
        assert_eq!(pytest_line("3 passed in 1.0s").unwrap().to_string(), "3 passed, 0 failed");
        assert_eq!(
            pytest_line("3 passed, 2 skipped in 1s").unwrap().to_string(),
            "3 passed, 0 failed, 2 skipped"
        );
    }
}
