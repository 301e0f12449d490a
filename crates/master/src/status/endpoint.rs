//! The side doors: where statistics, metrics and commands are served. Bound by the master beside its listeners, and inherited
//! by its next program alone.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use greenloom_config::{Address, Settings};
use greenloom_sys::listen::{self, Accept, TcpOptions};
use greenloom_sys::process;
use serde::{Deserialize, Serialize};

use crate::error::MasterError;
use crate::listeners::{SavedAddress, make_way, resolved};
use crate::log::say;
use crate::made_file::{MadeFile, Quietly};
use crate::privileges::Owner;

/// Connections that may wait: nobody else does.
const BACKLOG: u32 = 64;
/// Only the server's own user, and root, may give commands.
const COMMANDS_MODE: u32 = 0o600;

/// What is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Service {
    /// A document for whoever connects.
    Stats,
    /// HTTP.
    Metrics,
    /// Lines.
    Control,
}

/// One door.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) service: Service,
    pub(crate) socket: OwnedFd,
    /// What was asked for.
    address: Address,
    /// The file this process created for it.
    pub(crate) file: Option<MadeFile>,
}

/// One door, as the master's next program finds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedEndpoint {
    service: Service,
    fd: RawFd,
    address: SavedAddress,
    file: Option<MadeFile>,
}

impl Endpoint {
    /// What the next program has to know.
    pub(crate) fn saved(&self) -> SavedEndpoint {
        SavedEndpoint {
            service: self.service,
            fd: self.socket.as_raw_fd(),
            address: SavedAddress::from(&self.address),
            file: self.file.clone(),
        }
    }
}

impl SavedEndpoint {
    /// The reverse.
    pub(crate) fn adopt(&self) -> Result<Endpoint, MasterError> {
        let socket = process::claim_inherited(self.fd).map_err(|error| MasterError::Inheritance {
            reason: format!("descriptor {} is not there ({error})", self.fd),
        })?;
        let (address, file) = (Address::from(self.address.clone()), self.file.clone());
        Ok(Endpoint { service: self.service, socket, address, file })
    }
}

/// Binds those that the settings name. `old` are those of an earlier program of this process, if there was one: the ones that
/// are still named go on, the others are closed.
pub(crate) fn bind(
    settings: &Settings,
    owner: Owner,
    old: Option<Vec<Endpoint>>,
) -> Result<Vec<Endpoint>, MasterError> {
    let status = &settings.status;
    let control = status.control_socket.clone().map(Address::Unix);
    let is_upgrade = old.is_some();
    let mut old = old.unwrap_or_default();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (service, option, address) in [
        (Service::Stats, "--stats", &status.stats),
        (Service::Metrics, "--metrics", &status.metrics),
        (Service::Control, "--control-socket", &control),
    ] {
        let Some(address) = address else { continue };
        let address = resolved(address, settings);
        let kept = old.iter().position(|old| old.service == service && old.address == address);
        if let Some(kept) = kept {
            endpoints.push(old.swap_remove(kept));
            continue;
        }
        match bind_one(service, option, address, owner) {
            Ok(endpoint) => endpoints.push(endpoint),
            // An instance that serves is not ended for the sake of those who look at it.
            Err(error) if is_upgrade => say!("{error}; going on without {option}"),
            Err(error) => {
                let files = endpoints.iter().filter_map(|endpoint| endpoint.file.as_ref());
                files.for_each(|file| file.vacuum("unix socket", Quietly::Yes));
                return Err(error);
            }
        }
    }
    for file in old.iter().filter_map(|endpoint| endpoint.file.as_ref()) {
        file.vacuum("unix socket", Quietly::No);
    }
    Ok(endpoints)
}

fn bind_one(service: Service, option: &str, address: Address, owner: Owner) -> Result<Endpoint, MasterError> {
    let fail = |reason| MasterError::Bind { address: address.to_string(), origin: option.to_owned(), reason };
    let mut file = None;
    let socket = match &address {
        Address::Tcp { host, port } => tcp(host, *port).map_err(fail)?,
        Address::Unix(path) => {
            make_way(path, &address, option)?;
            let (socket, created) = unix(path, service, owner).map_err(fail)?;
            file = Some(created);
            socket
        }
        Address::Abstract(name) => {
            let socket = listen::bind_abstract(name).map_err(fail)?;
            listen::listen(socket.as_fd(), BACKLOG).map_err(fail)?;
            socket
        }
        Address::Inherited(_) => return Err(fail(io::Error::from(io::ErrorKind::InvalidInput))),
    };
    let name = match listen::local_address(socket.as_fd()) {
        // The kernel has chosen the port, perhaps.
        Ok(listen::LocalAddress::Tcp(address)) => address.to_string(),
        _ => address.to_string(),
    };
    match service {
        Service::Stats => say!("*** Stats server enabled on {name} ***"),
        Service::Metrics => say!("*** metrics, /healthz and /readyz on {name} ***"),
        Service::Control => say!("*** commands (greenloom ctl --socket {name}) ***"),
    }
    Ok(Endpoint { service, socket, address, file })
}

fn tcp(host: &str, port: u16) -> io::Result<OwnedFd> {
    let address: SocketAddr = (host, port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"))?;
    let options = TcpOptions {
        backlog: BACKLOG,
        accept: Accept::Established,
        nodelay: true,
        keepalive: false,
        reuse_port: false,
    };
    listen::tcp(address, options)
}

fn unix(path: &Path, service: Service, owner: Owner) -> io::Result<(OwnedFd, MadeFile)> {
    let socket = match service {
        Service::Control => listen::bind_unix_with_mode(path, COMMANDS_MODE)?,
        Service::Stats | Service::Metrics => listen::bind_unix(path)?,
    };
    let file = MadeFile::note(path, owner)?;
    listen::listen(socket.as_fd(), BACKLOG)?;
    Ok((socket, file))
}
