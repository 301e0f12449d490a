//! The command as users type it: questions are answered on standard output, mistakes on standard error with exit
//! code 1, and everything else starts a server. The server is `examples/hello_server.rs`.
#![expect(clippy::tests_outside_test_module, clippy::unwrap_used, reason = "the whole file is a test")]

use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[test]
fn questions_are_answered_on_standard_output() {
    for (arguments, piece) in [
        (vec!["--version"], env!("CARGO_PKG_VERSION")),
        (vec!["--help"], "--http-socket"),
        (vec!["--loop-list"], "gevent"),
        (vec!["--http-socket", "127.0.0.1:0", "--module", "hello", "--check"], "OK"),
        (vec!["--http-socket", "127.0.0.1:0", "--module", "hello", "--print-config"], "127.0.0.1:0"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(piece), "{arguments:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn mistakes_are_named_and_nothing_starts() {
    for (arguments, piece) in [
        (vec!["--procesess", "2"], "processes"),
        (vec!["--http-socket", "127.0.0.1:0", "--module", "hello", "--processes", "no"], "processes"),
        (vec!["--http-socket", "127.0.0.1:0", "--module", "hello", "--listen", "2000000000"], "listen"),
        (
            vec!["--http-socket", "127.0.0.1:0", "--module", "hello", "--logto", "/nonexistent/log"],
            "/nonexistent/log",
        ),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        let complaint = errors.lines().find(|line| line.starts_with("greenloom: "));
        assert!(complaint.is_some_and(|line| line.contains(piece)), "{arguments:?}: {errors}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert!(!errors.contains("spawned"), "{errors}");
    }
}

#[test]
fn everything_else_starts_a_server_with_its_log_in_a_file() {
    let folder = std::env::temp_dir().join(format!("greenloom-command-line-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let log = folder.join("server.log");
    let mut server = Command::new(hello_server())
        .args([
            "--http-socket",
            "127.0.0.1:0",
            "--module",
            "hello",
            "--processes",
            "2",
            "--logto",
            "server.log",
        ])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let text = wait_for(&log, "greenloom is ready (generation 1, 2 workers)");
    for piece in [
        concat!("*** Starting greenloom ", env!("CARGO_PKG_VERSION"), " ("),
        "*** Operational MODE: preforking ***",
        "greenloom socket 0 bound to TCP address 127.0.0.1:",
        "hello loaded, no traces in the environment",
        &format!("spawned greenloom master process (pid: {})", server.id()),
        "spawned greenloom worker 1 (pid: ",
        "spawned greenloom worker 2 (pid: ",
    ] {
        assert!(text.contains(piece), "no {piece:?} in\n{text}");
    }
    assert_eq!(text.matches("hello loaded").count(), 1, "once for both workers");
    let (_, rest) = text.split_once("bound to TCP address ").unwrap();
    let mut answer = String::new();
    // The listener waits for the first bytes before it hands a connection over.
    let mut stream = TcpStream::connect(rest.split(' ').next().unwrap()).unwrap();
    std::io::Write::write_all(&mut stream, b"anybody?\n").unwrap();
    // The end is a reset: nobody reads the question.
    let _ = stream.read_to_string(&mut answer);
    let pid = answer.trim_end().strip_prefix("hello from ").expect("an answer");
    assert!(text.contains(&format!("(pid: {pid}, cores: 1)")), "{answer} is not from a worker of\n{text}");
    assert_eq!(terminate(&mut server), Some(0));
    wait_for(&log, "goodbye to greenloom.");
    std::fs::remove_dir_all(&folder).unwrap();
}

fn run(arguments: &[&str]) -> Output {
    Command::new(hello_server()).args(arguments).output().unwrap()
}

fn terminate(server: &mut Child) -> Option<i32> {
    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    server.wait().unwrap().code()
}

/// Waits for a piece of the log; the whole log.
fn wait_for(log: &Path, piece: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.contains(piece) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {piece:?} in\n{text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Cargo builds examples together with the tests, beside them.
fn hello_server() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/hello_server");
    assert!(path.exists(), "build it first: cargo build -p greenloom-cli --examples");
    path
}
