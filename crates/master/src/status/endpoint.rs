//! The side doors: where statistics, metrics and commands are served. Bound by the master beside its listeners, and
//! inherited by nobody.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use greenloom_config::{Address, Settings};
use greenloom_sys::listen::{self, Accept, TcpOptions};

use crate::error::MasterError;
use crate::listeners::{make_way, resolved};
use crate::log::say;
use crate::made_file::{MadeFile, Quietly};
use crate::privileges::Owner;

/// Connections that may wait: nobody else does.
const BACKLOG: u32 = 64;
/// Only the server's own user, and root, may give commands.
const COMMANDS_MODE: u32 = 0o600;

/// What is spoken there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The file this process created for it.
    pub(crate) file: Option<MadeFile>,
}

/// Binds those that the settings name.
pub(crate) fn bind(settings: &Settings, owner: Owner) -> Result<Vec<Endpoint>, MasterError> {
    let status = &settings.status;
    let control = status.control_socket.clone().map(Address::Unix);
    let mut endpoints = Vec::new();
    for (service, option, address) in [
        (Service::Stats, "--stats", &status.stats),
        (Service::Metrics, "--metrics", &status.metrics),
        (Service::Control, "--control-socket", &control),
    ] {
        let Some(address) = address else { continue };
        match bind_one(service, option, address, settings, owner) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => {
                endpoints
                    .iter()
                    .filter_map(|endpoint| endpoint.file.as_ref())
                    .for_each(|file| file.vacuum("unix socket", Quietly::Yes));
                return Err(error);
            }
        }
    }
    Ok(endpoints)
}

fn bind_one(
    service: Service,
    option: &str,
    address: &Address,
    settings: &Settings,
    owner: Owner,
) -> Result<Endpoint, MasterError> {
    let address = resolved(address, settings);
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
    Ok(Endpoint { service, socket, file })
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
    let socket = listen::bind_unix(path)?;
    let file = MadeFile::note(path, owner)?;
    if service == Service::Control {
        // Before it listens: until then nobody can connect.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(COMMANDS_MODE))?;
    }
    listen::listen(socket.as_fd(), BACKLOG)?;
    Ok((socket, file))
}
