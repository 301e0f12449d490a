//! The listeners: bound by the master or a service manager (`activation.rs`), inherited by every generation, removed at the end. A reload keeps those that the
//! new configuration still names, binds what is new, and lets go of the rest when the new generation serves.
//!
//! Owns addresses, old socket files and the messages about both; the system calls are `greenloom_sys::listen`'s.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use greenloom_config::{Address, ListenerSpec, Protocol, Settings};
use greenloom_sys::listen::{self, Accept, LocalAddress, TcpOptions};
use greenloom_sys::{limits, process};
use serde::{Deserialize, Serialize};

use crate::activation::{Activated, Activation};
use crate::application::BoundListener;
use crate::error::MasterError;
use crate::log::say;
use crate::made_file::{MadeFile, Quietly};
use crate::privileges::Owner;

/// The master's listeners.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Those of the generation that serves.
    serving: Vec<Rc<Bound>>,
    /// Those of the generation that is to take over.
    coming: Option<Vec<Rc<Bound>>>,
    /// Socket files of listeners that are closed already.
    files: Vec<MadeFile>,
    /// Sockets of a service manager that no configuration has named yet.
    activation: Activation,
    /// Whom new socket files belong to.
    owner: Owner,
}

/// A listener, and what asked for it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) listener: BoundListener,
    address: Address,
    /// The socket file this process created.
    file: Option<MadeFile>,
}

/// A listener, as the master's next program finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedListener {
    fd: RawFd,
    protocol: String,
    address: SavedAddress,
    file: Option<MadeFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SavedAddress {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
    Abstract(Vec<u8>),
    Inherited(RawFd),
}

impl From<&Address> for SavedAddress {
    fn from(address: &Address) -> Self {
        match address.clone() {
            Address::Tcp { host, port } => Self::Tcp { host, port },
            Address::Unix(path) => Self::Unix(path),
            Address::Abstract(name) => Self::Abstract(name),
            Address::Inherited(fd) => Self::Inherited(fd),
        }
    }
}

impl From<SavedAddress> for Address {
    fn from(address: SavedAddress) -> Self {
        match address {
            SavedAddress::Tcp { host, port } => Self::Tcp { host, port },
            SavedAddress::Unix(path) => Self::Unix(path),
            SavedAddress::Abstract(name) => Self::Abstract(name),
            SavedAddress::Inherited(fd) => Self::Inherited(fd),
        }
    }
}

impl Listeners {
    /// Binds everything the settings name, in order, unless it is among the sockets of `activation`, and logs each address.
    /// Socket files belong to `owner`.
    pub(crate) fn bind(
        settings: &Settings,
        activation: Activation,
        owner: Owner,
    ) -> Result<Self, MasterError> {
        let mut listeners = Self { activation, owner, ..Self::default() };
        listeners.prepare(settings)?;
        for (name, unit) in listeners.activation.names() {
            if !settings.listeners.is_empty() {
                say!("socket activation also passed {name} ({unit}), which no option names: it is not used");
            }
        }
        listeners.take_over();
        Ok(listeners)
    }

    /// Binds what the settings name and nobody has bound yet, for a generation that is to take over.
    pub(crate) fn prepare(&mut self, settings: &Settings) -> Result<(), MasterError> {
        if settings.listeners.is_empty() {
            return self.prepare_what_was_passed(settings);
        }
        if let Some(limit) = limits::somaxconn().filter(|limit| settings.listen_backlog > *limit) {
            return Err(MasterError::Backlog { asked: settings.listen_backlog, limit });
        }
        // What was bound for a generation that this one replaces before it came.
        let previous = self.coming.take().unwrap_or_default();
        let mut coming: Vec<Rc<Bound>> = Vec::new();
        for (index, spec) in settings.listeners.iter().enumerate() {
            let address = resolved(&spec.address, settings);
            let known = self.serving.iter().chain(&previous).find(|bound| {
                bound.address == address
                    && bound.listener.protocol == spec.protocol
                    && !coming.iter().any(|taken| Rc::ptr_eq(taken, bound))
            });
            let bound = match known {
                Some(bound) => {
                    // Only the length of its queue can change while it is open; a failure leaves the old one.
                    let _ = listen::listen(bound.listener.fd.as_fd(), settings.listen_backlog);
                    Ok(Rc::clone(bound))
                }
                None => match self.activation.take_for(&address) {
                    Some(socket) => take_activated(index, socket, spec.protocol, Some(address), settings),
                    None => bind_one(index, spec, address, settings, self.owner),
                }
                .map(Rc::new),
            };
            match bound {
                Ok(bound) => coming.push(bound),
                Err(error) => {
                    self.let_go(coming, Quietly::Yes);
                    self.let_go(previous, Quietly::Yes);
                    return Err(error);
                }
            }
        }
        let unused = previous.into_iter().filter(|old| !coming.iter().any(|kept| Rc::ptr_eq(kept, old)));
        self.let_go(unused.collect(), Quietly::Yes);
        self.coming = Some(coming);
        Ok(())
    }

    /// No option names a listener: whatever the service manager has passed is listened on, and it stays so over reloads.
    fn prepare_what_was_passed(&mut self, settings: &Settings) -> Result<(), MasterError> {
        let was_passed = |bound: &&Rc<Bound>| matches!(bound.address, Address::Inherited(_));
        let mut coming: Vec<Rc<Bound>> = self.serving.iter().filter(was_passed).cloned().collect();
        for socket in self.activation.take_rest() {
            let protocol = socket.protocol();
            coming.push(Rc::new(take_activated(coming.len(), socket, protocol, None, settings)?));
        }
        if coming.is_empty() {
            return Err(MasterError::NoListener);
        }
        self.coming = Some(coming);
        Ok(())
    }

    /// The generation that was to take over serves now: what it does not listen on is closed.
    pub(crate) fn take_over(&mut self) {
        if let Some(coming) = self.coming.take() {
            let old = std::mem::replace(&mut self.serving, coming);
            self.let_go(old, Quietly::No);
        }
    }

    /// The generation that was to take over will not come: what was bound for it is closed.
    pub(crate) fn give_up(&mut self) {
        if let Some(coming) = self.coming.take() {
            self.let_go(coming, Quietly::Yes);
        }
    }

    fn let_go(&self, listeners: Vec<Rc<Bound>>, quietly: Quietly) {
        for bound in listeners {
            if !self.serving.iter().any(|kept| Rc::ptr_eq(kept, &bound)) {
                if quietly == Quietly::No {
                    say!("greenloom socket {} is closed", bound.listener.name);
                }
                if let Some(file) = &bound.file {
                    file.vacuum("unix socket", Quietly::Yes);
                }
            }
        }
    }

    /// Those of the generation that serves.
    pub(crate) fn serving(&self) -> &[Rc<Bound>] {
        &self.serving
    }

    /// The sockets of the generation that starts next, in order.
    pub(crate) fn bound(&self) -> &[Rc<Bound>] {
        self.coming.as_deref().unwrap_or(&self.serving)
    }

    /// The sockets themselves, for a process without a master.
    pub(crate) fn take_bound(&mut self) -> Vec<BoundListener> {
        let sockets = self.serving.iter().map(|bound| {
            let BoundListener { fd, protocol, name, port } = &bound.listener;
            let fd = fd.try_clone()?;
            Ok(BoundListener { fd, protocol: *protocol, name: name.clone(), port: port.clone() })
        });
        sockets.filter_map(io::Result::ok).collect()
    }

    /// What the master's next program has to know of those that serve.
    pub(crate) fn saved(&self) -> Vec<SavedListener> {
        let saved = self.serving.iter().map(|bound| SavedListener {
            fd: bound.listener.fd.as_raw_fd(),
            protocol: bound.listener.protocol.name().to_owned(),
            address: SavedAddress::from(&bound.address),
            file: bound.file.clone(),
        });
        saved.collect()
    }

    /// Takes those over that [`Self::saved`] described.
    pub(crate) fn adopt(saved: &[SavedListener]) -> Result<Self, MasterError> {
        let mut listeners = Self::default();
        for listener in saved {
            let lost = |reason: String| MasterError::Inheritance { reason };
            let protocol = Protocol::from_name(&listener.protocol)
                .ok_or_else(|| lost(format!("unknown protocol {}", listener.protocol)))?;
            let fd = process::claim_inherited(listener.fd)
                .map_err(|error| lost(format!("descriptor {} is not there ({error})", listener.fd)))?;
            let (bound, kind) =
                describe(fd, protocol).map_err(MasterError::system("name an inherited listener"))?;
            say!("greenloom socket inherited {kind} address {} fd {}", bound.name, listener.fd);
            listeners.serving.push(Rc::new(Bound {
                listener: bound,
                address: Address::from(listener.address.clone()),
                file: listener.file.clone(),
            }));
        }
        Ok(listeners)
    }

    /// Closes all sockets: nobody is to come any more. Their files stay until [`Self::vacuum`].
    pub(crate) fn close(&mut self) {
        self.give_up();
        self.files.extend(self.serving.drain(..).filter_map(|bound| bound.file.clone()));
    }

    /// Removes the socket files that are still the ones this process made.
    pub(crate) fn vacuum(&mut self, quietly: Quietly) {
        self.close();
        for file in self.files.drain(..) {
            file.vacuum("unix socket", quietly);
        }
    }
}

/// Relative paths count from the directory the application will run in, as in uWSGI; and absolutely, because the
/// directory may change before the file is removed.
pub(crate) fn resolved(address: &Address, settings: &Settings) -> Address {
    match address {
        Address::Unix(path) => {
            let path = settings.chdir.as_ref().map_or_else(|| path.clone(), |chdir| chdir.join(path));
            Address::Unix(std::path::absolute(&path).unwrap_or(path))
        }
        other => other.clone(),
    }
}

fn bind_one(
    index: usize,
    spec: &ListenerSpec,
    address: Address,
    settings: &Settings,
    owner: Owner,
) -> Result<Bound, MasterError> {
    let fail = |reason| MasterError::Bind {
        address: spec.address.to_string(),
        origin: spec.origin.to_string(),
        reason,
    };
    let mut file = None;
    let (fd, how) = match &address {
        Address::Tcp { host, port } => (bind_tcp(host, *port, settings).map_err(fail)?, "bound to"),
        Address::Unix(path) => {
            make_way(path, &spec.address, &spec.origin.to_string())?;
            let (socket, created) = bind_unix(path, settings, owner).map_err(fail)?;
            file = Some(created);
            (socket, "bound to")
        }
        Address::Abstract(name) => {
            let socket = listen::bind_abstract(name).map_err(fail)?;
            listen::listen(socket.as_fd(), settings.listen_backlog).map_err(fail)?;
            (socket, "bound to")
        }
        Address::Inherited(fd) => (adopt(*fd, spec, settings)?, "inherited"),
    };
    let (listener, kind) = describe(fd, spec.protocol).map_err(fail)?;
    let number = listener.fd.as_raw_fd();
    say!("greenloom socket {index} {how} {kind} address {} fd {number}", listener.name);
    Ok(Bound { listener, address, file })
}

fn bind_unix(path: &Path, settings: &Settings, owner: Owner) -> io::Result<(OwnedFd, MadeFile)> {
    let socket = listen::bind_unix(path)?;
    let file = MadeFile::note(path, owner)?;
    if let Some(mode) = settings.chmod_socket {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    listen::listen(socket.as_fd(), settings.listen_backlog)?;
    Ok((socket, file))
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
pub(crate) fn make_way(path: &Path, address: &Address, origin: &str) -> Result<(), MasterError> {
    let fail = |reason| MasterError::Bind { address: address.to_string(), origin: origin.to_owned(), reason };
    let Ok(file) = path.symlink_metadata() else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(MasterError::NotASocket { path: path.to_owned(), origin: origin.to_owned() });
    }
    if listen::somebody_listens(path).map_err(fail)? {
        return Err(fail(io::Error::from(io::ErrorKind::AddrInUse)));
    }
    std::fs::remove_file(path).map_err(fail)
}

fn adopt(fd: i32, spec: &ListenerSpec, settings: &Settings) -> Result<OwnedFd, MasterError> {
    let not_listening =
        || MasterError::NotListening { address: spec.address.to_string(), origin: spec.origin.to_string() };
    let socket = process::claim_inherited(fd).map_err(|_| not_listening())?;
    if !listen::is_listening(socket.as_fd()) {
        return Err(not_listening());
    }
    fit_for_use(socket.as_fd(), settings).map_err(|_| not_listening())?;
    Ok(socket)
}

/// What a listener that somebody else has made still needs.
fn fit_for_use(socket: BorrowedFd<'_>, settings: &Settings) -> io::Result<()> {
    process::set_nonblocking(socket)?;
    match listen::local_address(socket)? {
        LocalAddress::Tcp(_) => {
            listen::set_for_connections(socket, settings.tcp_nodelay, settings.so_keepalive)
        }
        _ => Ok(()),
    }
}

/// A socket of the service manager's, in the place of one to bind. `address` is what the configuration calls it.
fn take_activated(
    index: usize,
    socket: Activated,
    protocol: Protocol,
    address: Option<Address>,
    settings: &Settings,
) -> Result<Bound, MasterError> {
    let Activated { fd, name } = socket;
    let number = fd.as_raw_fd();
    if !listen::is_listening(fd.as_fd()) {
        return Err(MasterError::NotListening {
            address: format!("fd://{number}"),
            origin: format!("socket activation, {name}"),
        });
    }
    let (listener, kind) = fit_for_use(fd.as_fd(), settings)
        .and_then(|()| describe(fd, protocol))
        .map_err(MasterError::system("use a socket of the service manager"))?;
    say!(
        "greenloom socket {index} inherited {kind} address {} fd {number} (socket activation, {name}, {})",
        listener.name,
        protocol.name()
    );
    Ok(Bound { listener, address: address.unwrap_or(Address::Inherited(number)), file: None })
}

fn describe(fd: OwnedFd, protocol: Protocol) -> io::Result<(BoundListener, &'static str)> {
    let (name, port, kind) = name_of(fd.as_fd())?;
    Ok((BoundListener { fd, protocol, name, port }, kind))
}

pub(crate) fn name_of(fd: BorrowedFd<'_>) -> io::Result<(String, String, &'static str)> {
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
