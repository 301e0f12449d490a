//! What keeps the process tree from starting. Every message says where, what, why, and how to fix it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the server did not start. The process prints it and exits with code 1.
#[derive(Debug)]
#[non_exhaustive]
pub enum MasterError {
    /// A listener's address could not be bound.
    Bind {
        /// The address as configured.
        address: String,
        /// Which configuration entry asked for it.
        origin: String,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// A file stands where a UNIX socket should be created, and it is no socket.
    NotASocket {
        /// The file.
        path: PathBuf,
        /// Which configuration entry asked for it.
        origin: String,
    },
    /// An inherited descriptor is not a listening socket.
    NotListening {
        /// The address as configured.
        address: String,
        /// Which configuration entry asked for it.
        origin: String,
    },
    /// There is nothing to listen on.
    NoListener,
    /// The backlog asked for is longer than the kernel grants.
    Backlog {
        /// What was asked for.
        asked: u32,
        /// `net.core.somaxconn`.
        limit: u32,
    },
    /// The pid file could not be written.
    Pidfile {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// A pipe for commands could not be made.
    Fifo {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// Another user or group could not be become.
    Privileges {
        /// What was tried.
        what: &'static str,
        /// The number of the user or group.
        id: u32,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// The log file could not be opened.
    LogFile {
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// The limit of open files could not be set.
    OpenFiles {
        /// What was asked for.
        asked: u64,
        /// The hard limit; `None`: there is none.
        hard: Option<u64>,
        /// The kernel's reason.
        reason: io::Error,
    },
    /// Several workers were asked for without a master.
    NeedsMaster {
        /// How many.
        processes: u32,
    },
    /// What a generation inherited from its master is not what it should be.
    Inheritance {
        /// What is wrong.
        reason: String,
    },
    /// Something the kernel refused.
    System {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        reason: io::Error,
    },
}

impl MasterError {
    /// For `map_err`: what was tried when the kernel refused.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |reason| Self::System { what, reason }
    }
}

impl fmt::Display for MasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, origin, reason } if reason.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "probably another instance of greenloom is running on the same address ({address}).\n\
                 bind(): {reason}; stop the other server or choose another address ({origin})"
            ),
            Self::Bind { address, origin, reason } => {
                write!(f, "cannot listen on {address}: {reason}; {} ({origin})", bind_remedy(reason))
            }
            Self::NotASocket { path, origin } => write!(
                f,
                "cannot listen on {}: a file that is not a socket is in the way; remove it or choose another \
                 path ({origin})",
                path.display()
            ),
            Self::NotListening { address, origin } => write!(
                f,
                "cannot listen on {address}: the descriptor is not a listening socket; the program that starts \
                 greenloom must bind it, listen on it and leave it open ({origin})"
            ),
            Self::NoListener => f.write_str(
                "nothing to listen on; say where, for example --http-socket 127.0.0.1:8080 or --socket /run/app.sock",
            ),
            Self::Backlog { asked, limit } => write!(
                f,
                "Listen queue size is greater than the system max net.core.somaxconn ({limit}). Lower --listen \
                 {asked}, or raise the limit with: sysctl -w net.core.somaxconn={asked}"
            ),
            Self::Pidfile { path, reason } => write!(
                f,
                "cannot write the pid file {}: {reason}; {} or choose another path with --pidfile",
                path.display(),
                directory_remedy(reason)
            ),
            Self::Fifo { path, reason } if reason.kind() == io::ErrorKind::AlreadyExists => write!(
                f,
                "cannot make the fifo {}: a file that is not a fifo is in the way; remove it or choose another path \
                 with --master-fifo",
                path.display()
            ),
            Self::Fifo { path, reason } => write!(
                f,
                "cannot make the fifo {}: {reason}; {} or choose another path with --master-fifo",
                path.display(),
                directory_remedy(reason)
            ),
            Self::Privileges { what, id, reason } => write!(
                f,
                "cannot {what} {id}: {reason}; the process needs the right to change its user and groups \
                 (CAP_SETUID, CAP_SETGID), or start it as that user and leave out --uid and --gid"
            ),
            Self::LogFile { path, reason } => write!(
                f,
                "cannot write the log to {}: {reason}; {} or choose another file with --logto",
                path.display(),
                directory_remedy(reason)
            ),
            Self::OpenFiles { asked, hard, reason } => {
                write!(f, "cannot allow {asked} open files: {reason}; ")?;
                match hard {
                    Some(hard) => write!(f, "use --max-fd {hard} at most, or raise the hard limit (ulimit -Hn)"),
                    None => f.write_str("use a smaller --max-fd"),
                }
            }
            Self::NeedsMaster { processes } => write!(
                f,
                "{processes} processes need the master, and it is switched off; drop master=false or use \
                 --processes 1"
            ),
            Self::Inheritance { reason } => write!(
                f,
                "this process was started as a part of another greenloom and cannot go on: {reason}; start \
                 greenloom from a fresh environment"
            ),
            Self::System { what, reason } => write!(f, "cannot {what}: {reason}"),
        }
    }
}

/// What helps when a file cannot be made.
fn directory_remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::NotFound => "create its directory",
        _ => "make its directory writable",
    }
}

impl std::error::Error for MasterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { reason, .. } | Self::Pidfile { reason, .. } | Self::System { reason, .. } => {
                Some(reason)
            }
            _ => None,
        }
    }
}

fn bind_remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => {
            "use a port from 1024 up, a directory you may write to, or start with more rights"
        }
        io::ErrorKind::AddrNotAvailable => "the address must belong to this machine, or be 0.0.0.0 or [::]",
        io::ErrorKind::NotFound => "create its directory first",
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => {
            "a path of a socket may have 107 bytes at most"
        }
        _ => "check the address",
    }
}
