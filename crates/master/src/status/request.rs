//! What is asked over the control socket: one line, words or a JSON object; the answer is one line of JSON.
//!
//! Owns the grammar. Pure: bytes in, a request or a sentence about what is wrong with it out. What a client sends is
//! never trusted, although only the user's own programs can connect.
//!
//! ```text
//! reload                                      {"command": "reload"}
//! reload --no-wait                            {"command": "reload", "wait": false}
//! stop --now                                  {"command": "stop", "now": true}
//! workers 4 | +1 | -1                         {"command": "workers", "count": "+1"}
//! status | stacks | statistics | upgrade | drain | undrain | stop | reopen-log | write-pidfile
//! ```

use serde::Deserialize;

use crate::commands::{Change, Command};

/// Bytes of a request: the longest that makes sense has less than a hundred.
pub(crate) const LINE_BYTES: usize = 4096;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Show how things stand; the thread answers by itself.
    Status,
    /// Something for the master's loop. `wait`: the answer comes when it is done, and not when it has begun.
    Command { command: Command, wait: bool },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    command: String,
    #[serde(default)]
    wait: Option<bool>,
    #[serde(default)]
    now: Option<bool>,
    #[serde(default)]
    count: Option<Count>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u32),
    Text(String),
}

impl Request {
    /// Reads a line, without its end.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|_| "the request is not UTF-8".to_owned())?.trim();
        if text.starts_with('{') {
            let object: Object = serde_json::from_str(text)
                .map_err(|error| format!("the request is not understood: {error}"))?;
            let count = object.count.map(|count| match count {
                Count::Number(count) => count.to_string(),
                Count::Text(text) => text,
            });
            return Self::new(&object.command, object.wait.unwrap_or(true), object.now, count.as_deref());
        }
        let mut words = text.split_ascii_whitespace();
        let command = words.next().ok_or("the request is empty")?;
        let (mut wait, mut now, mut count) = (true, None, None);
        for word in words {
            match word {
                "--no-wait" => wait = false,
                "--now" => now = Some(true),
                count_word if count.is_none() => count = Some(count_word),
                more => return Err(format!("too many words: {}", more.escape_debug())),
            }
        }
        Self::new(command, wait, now, count)
    }

    fn new(command: &str, wait: bool, now: Option<bool>, count: Option<&str>) -> Result<Self, String> {
        if count.is_some() && command != "workers" {
            return Err(format!("{} takes no number", command.escape_debug()));
        }
        if now.is_some() && command != "stop" {
            return Err(format!("{} knows no \"now\"", command.escape_debug()));
        }
        let command = match command {
            "status" => return Ok(Self::Status),
            "reload" => Command::Reload,
            "upgrade" => Command::Upgrade,
            "stop" if now == Some(true) => Command::StopNow,
            "stop" => Command::Stop,
            "drain" => Command::Drain(true),
            "undrain" => Command::Drain(false),
            "reopen-log" => Command::ReopenLog,
            "stacks" => Command::Stacks,
            "statistics" => Command::Statistics,
            "write-pidfile" => Command::WritePidfile,
            "workers" => Command::Workers(change(count.ok_or("workers needs a number: 4, +1 or -1")?)?),
            other => return Err(format!("there is no command {}", other.escape_debug())),
        };
        Ok(Self::Command { command, wait })
    }
}

fn change(count: &str) -> Result<Change, String> {
    let refuse = |_| format!("{} is no number of workers: write 4, +1 or -1", count.escape_debug());
    if count.starts_with(['+', '-']) {
        count.parse().map(Change::By).map_err(refuse)
    } else {
        count.parse().map(Change::To).map_err(refuse)
    }
}

/// For fuzzing: no bytes make the parser panic, and what it refuses it explains in one line without control characters.
///
/// # Panics
/// When that is not so.
pub fn fuzz_control_request(data: &[u8]) {
    match Request::parse(data) {
        Ok(Request::Status | Request::Command { .. }) => {}
        Err(reason) => assert!(!reason.is_empty() && !reason.contains(char::is_control), "{reason:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn command(command: Command) -> Request {
        Request::Command { command, wait: true }
    }

    #[test]
    fn words_and_objects_mean_the_same() {
        for (words, object, meaning) in [
            ("reload", r#"{"command":"reload"}"#, command(Command::Reload)),
            ("stop --now", r#"{"command":"stop","now":true}"#, command(Command::StopNow)),
            ("stop", r#"{"command":"stop","now":false}"#, command(Command::Stop)),
            ("workers 4", r#"{"command":"workers","count":4}"#, command(Command::Workers(Change::To(4)))),
            (
                "workers -2",
                r#"{"command":"workers","count":"-2"}"#,
                command(Command::Workers(Change::By(-2))),
            ),
            (" status \r", r#"{"command":"status"}"#, Request::Status),
            ("undrain", r#"{"command":"undrain","wait":true}"#, command(Command::Drain(false))),
            (
                "reload --no-wait",
                r#"{"command":"reload","wait":false}"#,
                Request::Command { command: Command::Reload, wait: false },
            ),
        ] {
            assert_eq!(Request::parse(words.as_bytes()), Ok(meaning), "{words}");
            assert_eq!(Request::parse(object.as_bytes()), Ok(meaning), "{object}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, why) in [
            ("", "empty"),
            ("dance", "no command dance"),
            ("reload 4", "takes no number"),
            ("reload --now", "knows no"),
            ("workers", "needs a number"),
            ("workers many", "many is no number"),
            ("workers +", "+ is no number"),
            ("workers 1 2", "too many words"),
            ("{", "not understood"),
            (r#"{"command":"reload","x":1}"#, "unknown field"),
            ("a\u{1b}b", "u{1b}"),
        ] {
            let refusal = Request::parse(line.as_bytes()).unwrap_err();
            assert!(refusal.contains(why), "{line}: {refusal}");
        }
        assert!(Request::parse(b"\xff").is_err());
    }

    #[test]
    fn the_corpus_passes() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/control");
        let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 9, "the corpus is part of the repository");
        for file in files.iter().filter(|file| file.is_file()) {
            fuzz_control_request(&std::fs::read(file).unwrap());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_control_request(&data);
        }

        #[test]
        fn any_words_are_a_request_or_refused(
            line in "(reload|stop|workers|status|\\{\"command\":)( |\"|--now|--no-wait|[+-]?[0-9]{0,12}|\\}|[^a]){0,6}"
        ) {
            fuzz_control_request(line.as_bytes());
        }
    }
}
