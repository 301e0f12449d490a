//! The smallest application there is: a process tree whose workers answer lines, without protocol or language.
//!
//! Owns what the tests of the process tree need to see and to provoke; it is driven by `tests/process_tree.rs`. Each
//! argument is `key=value`, see `Toy::configure`. A client sends one line: `who` is answered with the worker's pid, id and the
//! number of the request; `hold` with `held`, and with `done` after another line; `orphan` with the pid of a process
//! that outlives its parent; `raise N` with `raised`, once uwsgi signal N is on its way to the master. A worker that gets a
//! signal says so in the log.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use greenloom_config::{Address, ListenerSpec, Origin, Protocol, Settings};
use greenloom_master::control::{Frames, FromWorker, Registration, ToWorker};
use greenloom_master::{
    Application, BoundListener, Fork, Inheritance, Launch, LoadError, MasterError, Surroundings,
    WorkerContext, fork_single_threaded, log,
};
use greenloom_sys::process::wait_readable;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let code = match run(&arguments) {
        Ok(code) => u8::try_from(code).unwrap_or(255),
        Err(error) => {
            log::line(format_args!("{error}"));
            1
        }
    };
    ExitCode::from(code)
}

fn run(arguments: &[OsString]) -> Result<i32, MasterError> {
    let inheritance = Inheritance::take()?;
    let mut settings = Settings { vacuum: false, ..Settings::default() };
    let mut toy = Toy::default();
    for (index, argument) in arguments.iter().enumerate() {
        let (key, value) = argument.to_str().and_then(|text| text.split_once('=')).unwrap_or(("", ""));
        toy.configure(&mut settings, index, key, value);
    }
    if let Some(inheritance) = inheritance {
        return Ok(greenloom_master::run_generation(inheritance, &settings, &mut toy));
    }
    let surroundings = Surroundings::take();
    if !settings.master {
        return greenloom_master::run_single(&settings, &mut toy, surroundings);
    }
    let system = |what| move |reason| MasterError::System { what, reason };
    let program = std::env::current_exe().map_err(system("find the program"))?.into_os_string();
    let directory = std::env::current_dir().map_err(system("find the directory"))?;
    let reread = || Ok(settings.clone());
    let launch = Launch { program, args: Vec::new() };
    greenloom_master::run_master(&settings, &launch, arguments, &directory, &reread, None, surroundings)
}

#[derive(Default)]
struct Toy {
    /// Loading fails while this file exists.
    fail_load: Option<PathBuf>,
    /// Loading does not end while this file exists.
    slow_load: Option<PathBuf>,
    /// Workers leave with code 3 at once while this file exists.
    crash: Option<PathBuf>,
    /// Workers sleep in a system call and never look at their control socket.
    block: bool,
    /// What is registered with the signal framework: while it is loaded, or with `lazy-apps` by each worker.
    registrations: Vec<Registration>,
    /// Workers take no signals while this file exists.
    deaf: Option<PathBuf>,
    lazy: bool,
}

impl Toy {
    fn configure(&mut self, settings: &mut Settings, index: usize, key: &str, value: &str) {
        let mut listen = |address| {
            let origin = Origin::CommandLine { index: index + 1 };
            settings.listeners.push(ListenerSpec { address, protocol: Protocol::Http, origin });
        };
        match key {
            "tcp" => {
                let (host, port) = value.rsplit_once(':').expect("tcp=host:port");
                let port = port.parse().expect("a port");
                listen(Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port });
            }
            "unix" => listen(Address::Unix(value.into())),
            "abstract" => listen(Address::Abstract(value.as_bytes().to_vec())),
            "fd" => listen(Address::Inherited(value.parse().expect("a number"))),
            "backlog" => settings.listen_backlog = value.parse().expect("a number"),
            "chmod" => settings.chmod_socket = u32::from_str_radix(value, 8).ok(),
            "pidfile" => settings.pidfile = Some(value.into()),
            "vacuum" => settings.vacuum = value == "true",
            "master" => settings.master = value == "true",
            "processes" => settings.processes = value.parse().expect("a number"),
            "lazy-apps" => {
                settings.lazy_apps = value == "true";
                self.lazy = settings.lazy_apps;
            }
            "need-app" => settings.need_app = value == "true",
            "mercy-ms" => settings.limits.worker_reload_mercy_ms = value.parse().expect("a number"),
            "fail-load" => self.fail_load = Some(value.into()),
            "slow-load" => self.slow_load = Some(value.into()),
            "crash" => self.crash = Some(value.into()),
            "block" => self.block = value == "true",
            "touch-reload" => settings.master_process.touch_reload.push(value.into()),
            "deaf" => self.deaf = Some(value.into()),
            "handler" | "timer" | "monitor" => {
                let (number, what) = value.split_once(':').expect("number:what");
                let number = number.parse().expect("a number");
                self.registrations.push(match key {
                    "handler" => Registration::Handler { number, target: what.to_owned() },
                    "timer" => {
                        let interval_ms = what.parse().expect("milliseconds");
                        Registration::Timer { number, interval_ms, iterations: 0 }
                    }
                    _ => Registration::FileMonitor { number, path: what.as_bytes().to_vec() },
                });
            }
            _ => panic!("unknown argument {key}"),
        }
    }
}

impl Application for Toy {
    fn load(&mut self) -> Result<(), LoadError> {
        while self.slow_load.as_ref().is_some_and(|file| file.exists()) {
            std::thread::park_timeout(std::time::Duration::from_millis(2));
        }
        match &self.fail_load {
            Some(file) if file.exists() => {
                Err(LoadError { message: format!("cannot load the toy: {} exists", file.display()) })
            }
            _ => Ok(()),
        }
    }

    fn registrations(&mut self) -> Vec<Registration> {
        if self.lazy { Vec::new() } else { self.registrations.clone() }
    }

    fn fork(&mut self) -> io::Result<Fork> {
        fork_single_threaded()
    }

    fn serve(&mut self, context: WorkerContext) -> i32 {
        if self.crash.as_ref().is_some_and(|file| file.exists()) {
            return 3;
        }
        let mut control = UnixStream::from(context.control.try_clone().expect("a descriptor"));
        for registration in self.registrations.iter().filter(|_| self.lazy) {
            let frame = FromWorker::Register(registration.clone()).encode();
            control.write_all(&frame).expect("a live socket");
        }
        control.write_all(&FromWorker::Ready.encode()).expect("a live socket");
        if self.block {
            loop {
                std::thread::park();
            }
        }
        serve(&context, &mut control, self.deaf.as_deref()).expect("a working kernel")
    }
}

/// Accepts until told to drain, then until the last connection is answered.
fn serve(context: &WorkerContext, control: &mut UnixStream, deaf: Option<&Path>) -> io::Result<i32> {
    let listeners: Vec<Listener> = context.listeners.iter().map(Listener::new).collect::<io::Result<_>>()?;
    let (mut finished, finish) = UnixStream::pair()?;
    let mut open = 0;
    let mut draining = false;
    let mut orders = Frames::default();
    while !draining || open > 0 {
        let mut fds: Vec<BorrowedFd<'_>> = vec![control.as_fd(), finished.as_fd()];
        if !draining {
            fds.extend(context.listeners.iter().map(|listener| listener.fd.as_fd()));
        }
        let ready = wait_readable(&fds, None)?;
        if ready[0] {
            let mut bytes = [0; 64];
            match control.read(&mut bytes) {
                Ok(0) => return Ok(4),
                Ok(n) => orders.push(&bytes[..n]),
                Err(_) => {}
            }
            while let Some(order) = orders.next_to_worker() {
                match order {
                    ToWorker::Drain | ToWorker::HandOver => draining = true,
                    ToWorker::Quit => return Ok(0),
                    ToWorker::Signal(_) if deaf.is_some_and(Path::exists) => {}
                    ToWorker::Signal(number) => {
                        control.write_all(&FromWorker::SignalTaken(number).encode())?;
                        let pid = std::process::id();
                        log::line(format_args!("worker {} runs signal {number} (pid: {pid})", context.id));
                    }
                    ToWorker::ReopenLog => {}
                }
            }
        }
        if ready[1] {
            finished.read_exact(&mut [0])?;
            open -= 1;
        }
        for (listener, _) in listeners.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
            let Ok(connection) = listener.accept() else { continue };
            open += 1;
            let greeting =
                format!("{} {} {}\n", std::process::id(), context.id, context.totals.next_request());
            let mut finish = finish.try_clone()?;
            let control = control.try_clone()?;
            std::thread::spawn(move || {
                // A client that went away is no concern of the toy's.
                let _ = answer(connection, &greeting, control);
                finish.write_all(&[1])
            });
        }
    }
    Ok(0)
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(bound: &BoundListener) -> io::Result<Self> {
        let fd = bound.fd.try_clone()?;
        Ok(if bound.port.is_empty() { Self::Unix(fd.into()) } else { Self::Tcp(fd.into()) })
    }

    fn accept(&self) -> io::Result<std::fs::File> {
        let fd: OwnedFd = match self {
            Self::Tcp(listener) => listener.accept()?.0.into(),
            Self::Unix(listener) => listener.accept()?.0.into(),
        };
        Ok(fd.into())
    }
}

fn answer(connection: std::fs::File, greeting: &str, mut control: UnixStream) -> io::Result<()> {
    let mut writer = connection.try_clone()?;
    let mut lines = BufReader::new(connection).lines();
    match lines.next().transpose()?.as_deref() {
        Some("who") => writer.write_all(greeting.as_bytes()),
        Some("hold") => {
            writer.write_all(b"held\n")?;
            lines.next().transpose()?;
            writer.write_all(b"done\n")
        }
        Some("orphan") => {
            let output = Command::new("sh").args(["-c", "sleep 0.05 >/dev/null & echo $!"]).output()?;
            writer.write_all(&output.stdout)
        }
        Some(line) if line.starts_with("raise ") => {
            let number = line["raise ".len()..].parse().map_err(io::Error::other)?;
            control.write_all(&FromWorker::Signal(number).encode())?;
            writer.write_all(b"raised\n")
        }
        _ => Ok(()),
    }
}
