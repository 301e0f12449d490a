//! The command line around the smallest application: every connection is told who serves it. Driven by
//! `tests/command_line.rs`.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use greenloom_cli::Launch;
use greenloom_master::{
    Application, Fork, LoadError, WorkerContext, control::FromWorker, fork_single_threaded, log,
};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Ok(program) = std::env::current_exe() else { return ExitCode::FAILURE };
    let launch = Launch { program: program.into_os_string(), args: Vec::new() };
    let code = greenloom_cli::main(&args, &launch, &mut |_settings| Box::new(Hello));
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

struct Hello;

impl Application for Hello {
    fn load(&mut self) -> Result<(), LoadError> {
        let left = std::env::vars_os().any(|(name, _)| name == greenloom_master::INHERITANCE_VARIABLE);
        log::line(format_args!(
            "hello loaded, {} in the environment",
            if left { "traces" } else { "no traces" }
        ));
        Ok(())
    }

    fn fork(&mut self) -> io::Result<Fork> {
        fork_single_threaded()
    }

    fn serve(&mut self, context: WorkerContext) -> i32 {
        let mut control = UnixStream::from(context.control);
        control.set_nonblocking(false).expect("a socket");
        for listener in context.listeners {
            let listener = TcpListener::from(listener.fd);
            listener.set_nonblocking(false).expect("a socket");
            std::thread::spawn(move || {
                while let Ok((mut connection, _)) = listener.accept() {
                    // A client that went away is no concern of this one's.
                    let _ = connection.write_all(format!("hello from {}\n", std::process::id()).as_bytes());
                }
            });
        }
        control.write_all(&FromWorker::Ready.encode()).expect("a live socket");
        // Whatever the master says, there is nothing to finish.
        i32::from(control.read(&mut [0]).is_err())
    }
}
