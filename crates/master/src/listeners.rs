//! The listeners: bound once by the master, inherited by every generation, removed at the end.
//!
//! Owns addresses, old socket files and the messages about both; the system calls are `greenloom_sys::listen`'s.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use greenloom_config::{Address, ListenerSpec, Protocol, Settings};
use greenloom_sys::listen::{self, Accept, LocalAddress, TcpOptions};
use greenloom_sys::{limits, process};

use crate::application::BoundListener;
use crate::error::MasterError;
use crate::log::say;

/// The master's listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    bound: Vec<BoundListener>,
    /// Socket files this process created.
    files: Vec<SocketFile>,
}

/// A socket file, by its place and its identity: only that very file is ever removed.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listeners {
    /// Binds everything the settings name, in order, and logs each address.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, MasterError> {
        if settings.listeners.is_empty() {
            return Err(MasterError::NoListener);
        }
        if let Some(limit) = limits::somaxconn().filter(|limit| settings.listen_backlog > *limit) {
            return Err(MasterError::Backlog { asked: settings.listen_backlog, limit });
        }
        let mut listeners = Self { bound: Vec::new(), files: Vec::new() };
        for (index, spec) in settings.listeners.iter().enumerate() {
            if let Err(error) = listeners.bind_one(index, spec, settings) {
                listeners.vacuum(Quietly::Yes);
                return Err(error);
            }
        }
        Ok(listeners)
    }

    /// The sockets, in order.
    pub(crate) fn bound(&self) -> &[BoundListener] {
        &self.bound
    }

    /// The sockets themselves: for a process without a master, or to close them.
    pub(crate) fn take_bound(&mut self) -> Vec<BoundListener> {
        std::mem::take(&mut self.bound)
    }

    /// Removes the socket files that are still the ones this process made.
    pub(crate) fn vacuum(&mut self, quietly: Quietly) {
        for file in self.files.drain(..) {
            if file.is_ours() && std::fs::remove_file(&file.path).is_ok() && quietly == Quietly::No {
                say!("VACUUM: unix socket {} removed.", file.path.display());
            }
        }
    }

    fn bind_one(
        &mut self,
        index: usize,
        spec: &ListenerSpec,
        settings: &Settings,
    ) -> Result<(), MasterError> {
        let fail = |reason| MasterError::Bind {
            address: spec.address.to_string(),
            origin: spec.origin.to_string(),
            reason,
        };
        let (fd, how) = match &spec.address {
            Address::Tcp { host, port } => (bind_tcp(host, *port, settings).map_err(fail)?, "bound to"),
            Address::Unix(path) => {
                // Relative paths count from the directory the application will run in, as in uWSGI.
                let path = settings.chdir.as_ref().map_or_else(|| path.clone(), |chdir| chdir.join(path));
                make_way(&path, spec)?;
                (self.bind_unix(&path, settings).map_err(fail)?, "bound to")
            }
            Address::Abstract(name) => {
                let socket = listen::bind_abstract(name).map_err(fail)?;
                listen::listen(socket.as_fd(), settings.listen_backlog).map_err(fail)?;
                (socket, "bound to")
            }
            Address::Inherited(fd) => (adopt(*fd, spec)?, "inherited"),
        };
        let (listener, kind) = describe(fd, spec.protocol).map_err(fail)?;
        let number = listener.fd.as_raw_fd();
        say!("greenloom socket {index} {how} {kind} address {} fd {number}", listener.name);
        self.bound.push(listener);
        Ok(())
    }

    fn bind_unix(&mut self, path: &Path, settings: &Settings) -> io::Result<OwnedFd> {
        let socket = listen::bind_unix(path)?;
        // Absolute: the directory may change before the file is removed.
        let path = std::path::absolute(path)?;
        let file = path.symlink_metadata()?;
        self.files.push(SocketFile { path: path.clone(), device: file.dev(), inode: file.ino() });
        if let Some(mode) = settings.chmod_socket {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        }
        listen::listen(socket.as_fd(), settings.listen_backlog)?;
        Ok(socket)
    }
}

impl SocketFile {
    fn is_ours(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|file| {
            file.file_type().is_socket() && file.dev() == self.device && file.ino() == self.inode
        })
    }
}

/// Whether removals are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quietly {
    Yes,
    No,
}

/// A socket that this process inherited from its master, described by what the kernel says about it.
pub(crate) fn from_master(fd: OwnedFd, protocol: Protocol) -> io::Result<BoundListener> {
    Ok(describe(fd, protocol)?.0)
}

fn bind_tcp(host: &str, port: u16, settings: &Settings) -> io::Result<OwnedFd> {
    let address: SocketAddr = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"))?;
    let accept = if settings.defer_accept { Accept::FirstBytes } else { Accept::Established };
    let options = TcpOptions {
        backlog: settings.listen_backlog,
        accept,
        nodelay: settings.tcp_nodelay,
        keepalive: settings.so_keepalive,
        reuse_port: settings.reuse_port,
    };
    listen::tcp(address, options)
}

/// Removes a socket file that nobody listens on any more. Anything else in the way is an error.
fn make_way(path: &Path, spec: &ListenerSpec) -> Result<(), MasterError> {
    let fail = |reason| MasterError::Bind {
        address: spec.address.to_string(),
        origin: spec.origin.to_string(),
        reason,
    };
    let Ok(file) = path.symlink_metadata() else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(MasterError::NotASocket { path: path.to_owned(), origin: spec.origin.to_string() });
    }
    if listen::somebody_listens(path).map_err(fail)? {
        return Err(fail(io::Error::from(io::ErrorKind::AddrInUse)));
    }
    std::fs::remove_file(path).map_err(fail)
}

fn adopt(fd: i32, spec: &ListenerSpec) -> Result<OwnedFd, MasterError> {
    let not_listening =
        || MasterError::NotListening { address: spec.address.to_string(), origin: spec.origin.to_string() };
    let socket = process::claim_inherited(fd).map_err(|_| not_listening())?;
    if !listen::is_listening(socket.as_fd()) {
        return Err(not_listening());
    }
    process::set_nonblocking(socket.as_fd()).map_err(|_| not_listening())?;
    Ok(socket)
}

fn describe(fd: OwnedFd, protocol: Protocol) -> io::Result<(BoundListener, &'static str)> {
    let (name, port, kind) = name_of(fd.as_fd())?;
    Ok((BoundListener { fd, protocol, name, port }, kind))
}

fn name_of(fd: BorrowedFd<'_>) -> io::Result<(String, String, &'static str)> {
    Ok(match listen::local_address(fd)? {
        LocalAddress::Tcp(address) => {
            let kind = if address.is_ipv4() { "TCP" } else { "TCP6" };
            (address.to_string(), address.port().to_string(), kind)
        }
        LocalAddress::Unix(path) => (path.display().to_string(), String::new(), "UNIX"),
        LocalAddress::Abstract(name) => {
            (format!("@{}", String::from_utf8_lossy(&name)), String::new(), "UNIX")
        }
        LocalAddress::Other => (String::from("unnamed"), String::new(), "UNKNOWN"),
    })
}
