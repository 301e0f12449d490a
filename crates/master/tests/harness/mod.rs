//! Starts the toy server, reads its log, talks to it, and looks around afterwards: no process is left.
#![expect(clippy::unwrap_used, reason = "a harness that cannot do its work fails the test")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use greenloom_sys::process::{self, Pid};

/// Far beyond anything a healthy server needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct Server {
    child: Mutex<Child>,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    text: Mutex<(String, Ended)>,
    grown: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Ended {
    #[default]
    No,
    Yes,
}

/// The answer to `who`.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) pid: u32,
    pub(crate) id: u32,
    pub(crate) request: u64,
}

/// A request in progress.
pub(crate) struct Held {
    stream: Box<dyn Stream>,
}

pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(toy_server()).args(arguments))
    }

    pub(crate) fn start_with_variable(arguments: &[&str], variable: (&str, &str)) -> Self {
        Self::spawn(Command::new(toy_server()).args(arguments).env(variable.0, variable.1))
    }

    /// Leaves `listener` open in the server as descriptor `number`.
    pub(crate) fn start_with_listener(arguments: &[&str], listener: &UnixListener, number: i32) -> Self {
        let path = format!("/proc/{}/fd/{}", std::process::id(), listener.as_raw_fd());
        assert!(std::path::Path::new(&path).exists());
        // A shell would have to open the socket, which cannot be; it inherits it as its standard input instead.
        let script = format!("exec {number}<&0 </dev/null; exec \"$0\" \"$@\"");
        let stdin = Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        Self::spawn(Command::new("bash").args(["-c", &script]).arg(toy_server()).args(arguments).stdin(stdin))
    }

    fn spawn(command: &mut Command) -> Self {
        // What a killed master leaves behind is collected here, not by whoever the first process of the machine is.
        process::become_subreaper().unwrap();
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            loop {
                let mut line = String::new();
                let ended = if lines.read_line(&mut line).unwrap() == 0 { Ended::Yes } else { Ended::No };
                let mut text = writer.text.lock().unwrap();
                text.0.push_str(&line);
                text.1 = ended;
                writer.grown.notify_all();
                if ended == Ended::Yes {
                    return;
                }
            }
        });
        Self { child: Mutex::new(child), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.text.lock().unwrap().0.clone()
    }

    /// Waits for a piece of the log.
    pub(crate) fn wait_for(&self, piece: &str) {
        let text = self.log_until(|text, _| text.contains(piece));
        assert!(text.0.contains(piece), "no {piece:?} in the log:\n{}", text.0);
    }

    pub(crate) fn wait_ready(&self, generation: u32, workers: u32) {
        let plural = if workers == 1 { "" } else { "s" };
        self.wait_for(&format!("greenloom is ready (generation {generation}, {workers} worker{plural})"));
    }

    fn log_until(&self, done: impl Fn(&str, Ended) -> bool) -> (String, Ended) {
        let text = self.log.text.lock().unwrap();
        let waiting = |text: &mut (String, Ended)| text.1 == Ended::No && !done(&text.0, text.1);
        self.log.grown.wait_timeout_while(text, PATIENCE, waiting).unwrap().0.clone()
    }

    /// The exit code, 128 + N for signal N. The log is complete then: every process that could write to it is gone.
    pub(crate) fn wait_exit(&self) -> i32 {
        let mut code = None;
        eventually("the server exits", || {
            let status = self.child.lock().unwrap().try_wait().unwrap();
            code = status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            code.is_some()
        });
        let text = self.log_until(|_, ended| ended == Ended::Yes);
        assert!(text.1 == Ended::Yes, "a process of the server is left:\n{}", text.0);
        code.unwrap()
    }

    pub(crate) fn stop(&self, signal: &str) -> i32 {
        send_signal(self.pid(), signal);
        self.wait_exit()
    }

    /// Pids of the present workers, from the log.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let pids = spawned(&self.log(), "greenloom worker ");
        pids.into_iter().filter(|pid| is_alive(*pid)).collect()
    }

    /// The address of listener `index`, from the log.
    fn address(&self, index: usize) -> String {
        let start = format!("greenloom socket {index} ");
        let text = self.log_until(|text, _| text.contains(&start));
        let line = text.0.lines().find(|line| line.starts_with(&start)).expect("a bound socket");
        line.split_once(" address ").unwrap().1.rsplit_once(" fd ").unwrap().0.to_owned()
    }

    pub(crate) fn port(&self, index: usize) -> u16 {
        self.address(index).rsplit_once(':').unwrap().1.parse().unwrap()
    }

    fn connect(&self, index: usize) -> Box<dyn Stream> {
        let address = self.address(index);
        if let Some(name) = address.strip_prefix('@') {
            let stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        } else if address.starts_with('/') {
            let stream = UnixStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        } else {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(stream)
        }
    }

    pub(crate) fn ask(&self, index: usize, question: &str) -> String {
        let mut stream = self.connect(index);
        writeln!(stream, "{question}").unwrap();
        read_line(&mut stream)
    }

    pub(crate) fn who(&self) -> Who {
        let answer = self.ask(0, "who");
        let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
        let [pid, id, request] = numbers[..] else { panic!("{answer}") };
        Who { pid: pid.try_into().unwrap(), id: id.try_into().unwrap(), request }
    }

    pub(crate) fn hold(&self) -> Held {
        let mut stream = self.connect(0);
        stream.write_all(b"hold\n").unwrap();
        assert_eq!(read_line(&mut stream), "held");
        Held { stream }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap();
        // Fails when it has ended already.
        let _ = child.kill();
        let _ = child.wait();
        // Not in a test that failed already: its own message matters.
        if !std::thread::panicking() {
            let text = self.log_until(|_, ended| ended == Ended::Yes);
            assert!(text.1 == Ended::Yes, "a process of the server is left:\n{}", text.0);
        }
        // What a killed master left behind became this process's children; all others were collected by the master.
        for pid in spawned(&self.log(), "greenloom ") {
            let pid = i32::try_from(pid).ok().and_then(Pid::new).unwrap();
            if !std::thread::panicking() {
                eventually("the process is collected", || process::reap(pid).is_some());
            }
        }
    }
}

impl Held {
    /// Lets the request end; its last line, empty if it was cut off.
    pub(crate) fn finish(mut self) -> String {
        // Fails when the worker is gone.
        let _ = self.stream.write_all(b"go\n");
        read_line(&mut self.stream)
    }
}

/// One line without its end; empty at the end of the stream.
fn read_line(stream: &mut Box<dyn Stream>) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|n| n == 1) && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// A folder of this test's own, removed afterwards.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("greenloom-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The pids of what a log says was spawned or respawned.
fn spawned(log: &str, what: &str) -> Vec<u32> {
    let pid = |line: &str| {
        let (_, rest) = line.split_once("pawned ")?;
        let (_, pid) = rest.strip_prefix(what)?.split_once("pid: ")?;
        pid.split([',', ')']).next()?.parse().ok()
    };
    log.lines().filter_map(pid).collect()
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn send_signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// Whether the process exists and is not merely waiting to be collected.
pub(crate) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

pub(crate) fn parent_of(pid: u32) -> u32 {
    stat(pid).expect("a process")[1].parse().unwrap()
}

/// What the descriptors of a process are: `socket:[1234]`, `/memfd:name`, `anon_inode:[pidfd]`.
pub(crate) fn open_files(pid: u32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect()
}

/// The fields of /proc/PID/stat from the state on (proc(5)).
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Cargo builds examples together with the tests, beside them.
fn toy_server() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/toy_server");
    assert!(path.exists(), "build it first: cargo build -p greenloom-master --examples");
    path
}
