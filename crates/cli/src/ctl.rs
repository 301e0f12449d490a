//! `greenloom ctl`: the other end of `--control-socket`, for people and scripts.
//!
//! Owns the command line, the words for what goes wrong on the way, and how answers look. What commands do is the
//! master's business; it is asked in JSON, one line there and one back.

mod table;

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The server has done it.
const DONE: i32 = 0;
/// The server has not done it, and says why.
const FAILED: i32 = 1;
/// The command line makes no sense.
const MISUSED: i32 = 2;
/// There is no server, or it does not let us in.
const UNREACHABLE: i32 = 3;

/// How long an upgrade may take until the new program answers and its generation serves.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(120);
const UPGRADE_INTERVAL: Duration = Duration::from_millis(50);

const HELP: &str = "\
usage: greenloom ctl --socket PATH COMMAND

  status [--json]     workers, generations and listeners
  reload [--no-wait]  load the application and the configuration anew, without losing a request
  upgrade [--no-wait] replace the server's program, then reload
  workers N|+N|-N     so many workers, more or fewer
  drain, undrain      readiness says no, or yes again; everything else goes on
  stacks              write into the log what requests in flight do
  statistics          write the numbers of the instance into the log
  reopen-log          open the log file anew
  stop [--now]        stop when requests have ended, or at once

PATH is what the server was given as --control-socket; only its own user and root are let in.
Exit code: 0 done, 1 refused or failed, 2 wrong usage, 3 no server there.
";

/// One run of the command.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    socket: PathBuf,
    /// What is sent.
    request: Value,
    /// `--json`: the answer as it comes.
    raw: bool,
}

/// Runs the command with what stands behind `ctl`; the exit code.
pub(crate) fn main(args: &[OsString]) -> i32 {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        return say(HELP, DONE);
    }
    let call = match Call::parse(args) {
        Ok(call) => call,
        Err(refusal) => return complain(&format!("{refusal}; try greenloom ctl --help"), MISUSED),
    };
    let is_upgrade = call.request["command"] == "upgrade" && call.request["wait"] == true;
    let before = if is_upgrade { ask(&call.socket, &json!({ "command": "status" })).ok() } else { None };
    match ask(&call.socket, &call.request) {
        Ok(answer) if is_upgrade && answer["ok"] == true => upgraded(&call.socket, before.as_ref()),
        // The old program had no time for the answer.
        Err(error) if is_upgrade && error.kind() == io::ErrorKind::UnexpectedEof => {
            upgraded(&call.socket, before.as_ref())
        }
        Ok(answer) => show(&call, &answer),
        Err(error) => complain(&trouble(&call.socket, &error), UNREACHABLE),
    }
}

impl Call {
    fn parse(args: &[OsString]) -> Result<Self, String> {
        let mut socket = None;
        let mut words: Vec<&str> = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if arg == "--socket" {
                socket = Some(PathBuf::from(rest.next().ok_or("--socket needs a path")?));
            } else if let Some(path) = path_of(arg) {
                socket = Some(path);
            } else {
                words.push(arg.to_str().ok_or_else(|| format!("{} is not UTF-8", arg.display()))?);
            }
        }
        let socket = socket.ok_or("say where the server is: --socket PATH")?;
        let (&command, options) = words.split_first().ok_or("a command is missing")?;
        let mut request = json!({ "command": command });
        let mut raw = false;
        for option in options {
            match (command, *option) {
                ("status", "--json") => raw = true,
                ("reload" | "upgrade", "--no-wait") => request["wait"] = false.into(),
                ("stop", "--now") => request["now"] = true.into(),
                ("workers", count) if request["count"].is_null() => request["count"] = count.into(),
                (command, option) => return Err(format!("{command} does not know {option}")),
            }
        }
        match command {
            "reload" | "upgrade" if request["wait"].is_null() => request["wait"] = true.into(),
            "workers" if request["count"].is_null() => {
                return Err("workers needs a number: 4, +1 or -1".to_owned());
            }
            "status" | "reload" | "upgrade" | "workers" | "drain" | "undrain" | "stacks" | "statistics"
            | "reopen-log" | "stop" => {}
            other => return Err(format!("there is no command {other}")),
        }
        Ok(Self { socket, request, raw })
    }
}

fn path_of(arg: &OsStr) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = arg.as_bytes().strip_prefix(b"--socket=")?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

fn ask(socket: &Path, request: &Value) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server has ended"));
    }
    serde_json::from_str(&line)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "what answers there is no greenloom"))
}

/// The program is being replaced: waits for the new one, and for its generation.
fn upgraded(socket: &Path, before: Option<&Value>) -> i32 {
    let number = |status: &Value, key: &str| status["status"][key].as_u64().unwrap_or(0);
    let was = |key: &str| before.map_or(0, |before| number(before, key));
    let begin = Instant::now();
    while begin.elapsed() < UPGRADE_PATIENCE {
        if let Ok(now) = ask(socket, &json!({ "command": "status" }))
            && number(&now, "upgrades") > was("upgrades")
        {
            let generation = number(&now, "generation");
            if generation > was("generation") {
                return say(&format!("the program was replaced, generation {generation} serves\n"), DONE);
            }
            if number(&now, "failed_reloads") > was("failed_reloads") {
                let text = "the program was replaced, but the reload has failed: the log says why";
                return complain(text, FAILED);
            }
        }
        thread::sleep(UPGRADE_INTERVAL);
    }
    complain("the new program does not say that it serves: look at the log", FAILED)
}

fn show(call: &Call, answer: &Value) -> i32 {
    if answer["ok"] != true {
        return complain(answer["message"].as_str().unwrap_or("the server refuses"), FAILED);
    }
    match &answer["status"] {
        Value::Null => say(&format!("{}\n", answer["message"].as_str().unwrap_or("done")), DONE),
        status if call.raw => say(&format!("{status}\n"), DONE),
        status => say(&table::print(status), DONE),
    }
}

fn trouble(socket: &Path, error: &io::Error) -> String {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("no server at {path}: is it running, and with --control-socket {path}?")
        }
        io::ErrorKind::ConnectionRefused => {
            format!("nobody listens at {path}: the server has ended and left the file behind")
        }
        io::ErrorKind::PermissionDenied => {
            format!("not allowed to talk to {path}: only the server's user and root are")
        }
        _ => format!("cannot talk to the server at {path}: {error}"),
    }
}

/// A reader that leaves early is no error.
fn say(text: &str, code: i32) -> i32 {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => FAILED,
        _ => code,
    }
}

fn complain(text: &str, code: i32) -> i32 {
    // Nowhere to report a broken standard error to.
    let _ = io::stderr().write_all(format!("greenloom ctl: {text}\n").as_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Call, String> {
        let args: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        Call::parse(&args)
    }

    #[test]
    fn what_is_typed_becomes_a_request() {
        for (words, request) in [
            ("--socket /x status", json!({ "command": "status" })),
            ("status --json --socket=/x", json!({ "command": "status" })),
            ("--socket /x reload", json!({ "command": "reload", "wait": true })),
            ("--socket /x reload --no-wait", json!({ "command": "reload", "wait": false })),
            ("--socket /x stop --now", json!({ "command": "stop", "now": true })),
            ("--socket /x workers -2", json!({ "command": "workers", "count": "-2" })),
            ("--socket /x drain", json!({ "command": "drain" })),
        ] {
            let call = parse(words).unwrap();
            assert_eq!((call.request, call.socket), (request, PathBuf::from("/x")), "{words}");
            assert_eq!(call.raw, words.contains("--json"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (words, why) in [
            ("status", "--socket PATH"),
            ("--socket", "needs a path"),
            ("--socket /x", "command is missing"),
            ("--socket /x dance", "no command dance"),
            ("--socket /x reload --now", "does not know --now"),
            ("--socket /x workers", "needs a number"),
            ("--socket /x workers 1 2", "does not know 2"),
        ] {
            let refusal = parse(words).unwrap_err();
            assert!(refusal.contains(why), "{words}: {refusal}");
        }
    }

    #[test]
    fn trouble_says_what_to_do() {
        let path = std::env::temp_dir().join(format!("greenloom-ctl-{}", std::process::id()));
        let error = ask(&path, &Value::Null).unwrap_err();
        assert!(trouble(&path, &error).contains("is it running"));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = ask(&path, &Value::Null).unwrap_err();
        assert!(trouble(&path, &error).contains("left the file behind"));
        std::fs::remove_file(&path).unwrap();
    }
}
