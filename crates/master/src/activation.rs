//! Socket activation: listening sockets that a service manager has opened before it started us (`sd_listen_fds(3)`).
//!
//! Owns the variables, which of the sockets stands for which configured address, and what a socket's name says about its
//! protocol. Binding the rest is `listeners.rs`'s business.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use greenloom_config::{Address, Protocol};
use greenloom_sys::listen::{self, LocalAddress};
use greenloom_sys::process::{self, Pid};

use crate::listeners;
use crate::log::say;

/// How many there are; they are numbered from [`FIRST`] on.
const COUNT: &str = "LISTEN_FDS";
/// Which process they are meant for.
const PROCESS: &str = "LISTEN_PID";
/// What the units call them, separated by colons.
const NAMES: &str = "LISTEN_FDNAMES";
const FIRST: RawFd = 3;

/// The variables that are taken out of the environment: the sockets are for the server, not for what it starts.
pub(crate) const LISTEN_VARIABLES: [&str; 3] = [COUNT, PROCESS, NAMES];

/// The sockets that have not found their listener yet, in order.
#[derive(Debug, Default)]
pub(crate) struct Activation {
    sockets: Vec<Activated>,
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Activated {
    pub(crate) fd: OwnedFd,
    /// The unit's name for it, `FileDescriptorName=`; without one the name of the unit.
    pub(crate) name: String,
}

impl Activation {
    /// Takes the variables out of the environment, and the sockets into possession if they are meant for this process. To
    /// be called before the process has other threads.
    pub(crate) fn take() -> Self {
        let [count, process, names] = LISTEN_VARIABLES
            .map(|name| process::take_variable(name).and_then(|value| value.into_string().ok()));
        let mut sockets = Vec::new();
        for (fd, name) in announced(count.as_deref(), process.as_deref(), names.as_deref(), Pid::current()) {
            match process::claim_inherited(fd) {
                Ok(fd) => sockets.push(Activated { fd, name }),
                Err(error) => {
                    say!("{COUNT} promises descriptor {fd}, which cannot be used: {error}");
                    break;
                }
            }
        }
        Self { sockets }
    }

    /// What is there, for people: the addresses, and the units' names for them.
    pub(crate) fn names(&self) -> impl Iterator<Item = (String, &str)> {
        self.sockets.iter().map(|socket| {
            let address = listeners::name_of(socket.fd.as_fd());
            (address.map_or_else(|_| String::from("?"), |(address, _, _)| address), socket.name.as_str())
        })
    }

    /// The socket that is bound to what the configuration calls `address`; paths are absolute.
    pub(crate) fn take_for(&mut self, address: &Address) -> Option<Activated> {
        if self.sockets.is_empty() {
            return None;
        }
        let wanted = Wanted::of(address)?;
        let position = |exactly| {
            self.sockets.iter().position(|socket| {
                listen::local_address(socket.fd.as_fd()).is_ok_and(|found| wanted.is(&found, exactly))
            })
        };
        position(true).or_else(|| position(false)).map(|index| self.sockets.remove(index))
    }

    /// All that are left.
    pub(crate) fn take_rest(&mut self) -> Vec<Activated> {
        std::mem::take(&mut self.sockets)
    }
}

impl Activated {
    /// What is spoken there when no option says: the end of the name does, and otherwise it is uwsgi as for `--socket`.
    pub(crate) fn protocol(&self) -> Protocol {
        protocol_by_name(&self.name)
    }
}

fn protocol_by_name(name: &str) -> Protocol {
    let name = name.strip_suffix(".socket").unwrap_or(name);
    if name.ends_with(Protocol::Http.name()) { Protocol::Http } else { Protocol::Uwsgi }
}

/// The descriptors and their names, if they are for process `own`.
fn announced(
    count: Option<&str>,
    process: Option<&str>,
    names: Option<&str>,
    own: Pid,
) -> Vec<(RawFd, String)> {
    if process.and_then(|pid| pid.parse().ok()) != Some(own.get()) {
        return Vec::new();
    }
    let count = count.and_then(|count| count.parse::<u16>().ok()).unwrap_or(0);
    let mut names = names.unwrap_or_default().split(':');
    (FIRST..FIRST + RawFd::from(count))
        .map(|fd| (fd, names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned()))
        .collect()
}

/// A configured address, as the kernel would name it.
#[derive(Debug)]
enum Wanted {
    /// A host's name may have several.
    Tcp(Vec<SocketAddr>),
    Local(LocalAddress),
}

impl Wanted {
    fn of(address: &Address) -> Option<Self> {
        Some(match address {
            Address::Tcp { host, port } => {
                // A name that cannot be looked up is told by whoever binds it.
                Self::Tcp((host.as_str(), *port).to_socket_addrs().ok()?.collect())
            }
            Address::Unix(path) => Self::Local(LocalAddress::Unix(path.clone())),
            Address::Abstract(name) => Self::Local(LocalAddress::Abstract(name.clone())),
            Address::Inherited(_) => return None,
        })
    }

    /// Not `exactly`: "all addresses" of IPv4 is served by "all addresses" of IPv6, which is what a unit's
    /// `ListenStream=8080` binds.
    fn is(&self, found: &LocalAddress, exactly: bool) -> bool {
        match (self, found) {
            (Self::Tcp(wanted), LocalAddress::Tcp(found)) if exactly => wanted.contains(found),
            (Self::Tcp(wanted), LocalAddress::Tcp(found)) => {
                let everywhere = |one: &SocketAddr| one.ip().is_unspecified() && found.ip().is_unspecified();
                wanted.iter().any(|one| everywhere(one) && one.port() == found.port())
            }
            (Self::Local(wanted), found) => wanted == found,
            (Self::Tcp(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn names(found: &[(RawFd, String)]) -> Vec<(RawFd, &str)> {
        found.iter().map(|(fd, name)| (*fd, name.as_str())).collect()
    }

    #[test]
    fn sockets_are_numbered_from_three_and_meant_for_one_process() {
        let own = Pid::current();
        let pid = own.to_string();
        let found = announced(Some("3"), Some(&pid), Some("web-http::x"), own);
        assert_eq!(names(&found), [(3, "web-http"), (4, "unknown"), (5, "x")]);
        assert_eq!(names(&announced(Some("1"), Some(&pid), None, own)), [(3, "unknown")]);
        for (count, pid) in [
            (Some("2"), Some("1")),
            (Some("2"), None),
            (Some("-1"), Some(pid.as_str())),
            (Some("99999999"), Some(pid.as_str())),
            (None, Some(pid.as_str())),
        ] {
            assert_eq!(announced(count, pid, None, own), [], "{count:?} {pid:?}");
        }
    }

    #[test]
    fn the_end_of_a_name_is_the_protocol() {
        for name in ["http", "web-http", "web-http.socket"] {
            assert_eq!(protocol_by_name(name), Protocol::Http, "{name}");
        }
        for name in ["web.socket", "unknown", "uwsgi", "http-front", ""] {
            assert_eq!(protocol_by_name(name), Protocol::Uwsgi, "{name}");
        }
    }

    fn activation(sockets: Vec<OwnedFd>) -> Activation {
        let name = |fd| Activated { fd, name: String::from("x") };
        Activation { sockets: sockets.into_iter().map(name).collect() }
    }

    fn port_of(activated: Option<Activated>) -> Option<u16> {
        match listen::local_address(activated?.fd.as_fd()) {
            Ok(LocalAddress::Tcp(address)) => Some(address.port()),
            _ => None,
        }
    }

    #[test]
    fn an_address_finds_the_socket_bound_to_it() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let everywhere = TcpListener::bind("[::]:0").unwrap();
        let ports = [&here, &everywhere].map(|listener| listener.local_addr().unwrap().port());
        let mut activation = activation(vec![here.into(), everywhere.into()]);
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        assert!(activation.take_for(&tcp("127.0.0.1", ports[1])).is_none());
        assert!(activation.take_for(&tcp("127.0.0.1", 0)).is_none(), "any port is not that port");
        assert!(activation.take_for(&tcp("0.0.0.0", ports[0])).is_none(), "everywhere is not here");
        assert_eq!(port_of(activation.take_for(&tcp("127.0.0.1", ports[0]))), Some(ports[0]));
        assert_eq!(port_of(activation.take_for(&tcp("0.0.0.0", ports[1]))), Some(ports[1]));
        assert!(activation.take_rest().is_empty());
    }

    #[test]
    fn a_path_finds_its_socket() {
        let path = std::env::temp_dir().join(format!("greenloom-activated-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let mut activation = activation(vec![listener.into()]);
        let names: Vec<(String, &str)> = activation.names().collect();
        assert_eq!(names, [(path.display().to_string(), "x")]);
        assert!(activation.take_for(&Address::Unix("/elsewhere".into())).is_none());
        assert!(activation.take_for(&Address::Unix(path.clone())).is_some());
        std::fs::remove_file(&path).unwrap();
    }
}
