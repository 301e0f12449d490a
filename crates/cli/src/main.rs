//! The executable without an interpreter: CGI scripts and files. Applications have executables of their own, in their own
//! language.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use greenloom_cli::{Launch, Native};
use greenloom_master::log;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let program = match std::env::current_exe() {
        Ok(program) => program.into_os_string(),
        Err(error) => {
            log::line(format_args!("greenloom: cannot find out which program this is: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let launch = Launch { program, args: Vec::new() };
    let code = greenloom_cli::main(&args, &launch, &mut |settings| Box::new(Native::new(settings)));
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
