//! Listening sockets: TCP (v4, v6), UNIX (paths and the abstract namespace), and ones that were inherited.
//!
//! Owns the system calls and their options. Which addresses to bind, what to do with an old socket file and what to
//! tell the user is decided by the master.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// What a listening socket's clients are told before the server accepts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// A connection can be accepted as soon as it is established.
    Established,
    /// A connection can be accepted when its first bytes are there (`TCP_DEFER_ACCEPT`), which saves a wake-up and a
    /// failed read for each.
    FirstBytes,
}

/// Options of a TCP listener. Those of connections are set on the listener and inherited by what it accepts (tcp(7)).
#[derive(Clone, Copy, Debug)]
pub struct TcpOptions {
    /// Connections waiting to be accepted, at most.
    pub backlog: u32,
    /// When a connection can be accepted.
    pub accept: Accept,
    /// `TCP_NODELAY` on accepted connections.
    pub nodelay: bool,
    /// `SO_KEEPALIVE` on accepted connections.
    pub keepalive: bool,
    /// `SO_REUSEPORT`: other processes may listen on the same address.
    pub reuse_port: bool,
}

/// For how long the kernel keeps a silent connection from a listener with [`Accept::FirstBytes`]. The shortest it
/// knows (one retransmission, about a second): a client that sends nothing shall meet the server's own limits and
/// show in its counters, rather than hide in the kernel.
const DEFER_SECONDS: libc::c_int = 1;

/// A TCP socket bound to `address` and listening.
pub fn tcp(address: SocketAddr, options: TcpOptions) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = new_socket(family)?;
    // An address whose last owner left connections in TIME_WAIT can be bound again at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    set_for_connections(socket.as_fd(), options.nodelay, options.keepalive)?;
    if options.accept == Accept::FirstBytes {
        set_defer_accept(socket.as_fd())?;
    }
    rustix::net::bind(&socket, &address)?;
    listen(socket.as_fd(), options.backlog)?;
    Ok(socket)
}

/// Sets on a TCP listener what its connections inherit: `TCP_NODELAY` and `SO_KEEPALIVE`.
pub fn set_for_connections(listener: BorrowedFd<'_>, nodelay: bool, keepalive: bool) -> io::Result<()> {
    sockopt::set_tcp_nodelay(listener, nodelay)?;
    Ok(sockopt::set_socket_keepalive(listener, keepalive)?)
}

/// A UNIX socket bound to `path`, not yet listening: nobody can connect before its mode is set.
pub fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket(AddressFamily::UNIX)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The same with this mode, less the bits of the umask, from the first moment on: nobody finds the file with another one, and no
/// other file gets it.
pub fn bind_unix_with_mode(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let socket = new_socket(AddressFamily::UNIX)?;
    // Linux makes the file with the mode that the socket has.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(mode))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// A UNIX socket bound to a name in the abstract namespace (unix(7)), not yet listening.
pub fn bind_abstract(name: &[u8]) -> io::Result<OwnedFd> {
    let socket = new_socket(AddressFamily::UNIX)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Starts listening with a queue of `backlog` connections.
pub fn listen(socket: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    Ok(rustix::net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

/// Whether somebody accepts connections on the UNIX socket at `path`. Never waits for them.
pub fn somebody_listens(path: &Path) -> io::Result<bool> {
    let socket = new_socket(AddressFamily::UNIX)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // AGAIN: a full queue is somebody's queue. PROTOTYPE: a datagram socket is alive there.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether `socket` is a socket in the listening state.
pub fn is_listening(socket: BorrowedFd<'_>) -> bool {
    sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// How many connections wait in the queue of a TCP listener, and how many may; `None` for other sockets, where the kernel
/// does not tell.
pub fn queue(socket: BorrowedFd<'_>) -> Option<(u32, u32)> {
    // linux/tcp.h: of a listener, `tcpi_unacked` is the length of the queue and `tcpi_sacked` its limit. Older kernels give
    // less than the whole structure, but these fields have been there since Linux 2.6.
    const TCPI_UNACKED_AT: usize = 24;
    let mut info = [0_u8; 104];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: `info` is a live local of `length` bytes, and the call writes at most as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let field = |at: usize| info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    (result == 0 && is_listening(socket)).then_some(())?;
    Some((field(TCPI_UNACKED_AT)?, field(TCPI_UNACKED_AT + 4)?))
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// TCP, the port as the kernel chose it.
    Tcp(SocketAddr),
    /// A UNIX socket with a path.
    Unix(PathBuf),
    /// A UNIX socket in the abstract namespace.
    Abstract(Vec<u8>),
    /// Another family, or no name.
    Other,
}

/// The address `socket` is bound to.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<LocalAddress> {
    let address = rustix::net::getsockname(socket)?;
    Ok(match address.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => {
            SocketAddr::try_from(address).map_or(LocalAddress::Other, LocalAddress::Tcp)
        }
        AddressFamily::UNIX => unix_address(address),
        _ => LocalAddress::Other,
    })
}

fn unix_address(address: SocketAddrAny) -> LocalAddress {
    let Ok(address) = SocketAddrUnix::try_from(address) else { return LocalAddress::Other };
    if let Some(name) = address.abstract_name() {
        return LocalAddress::Abstract(name.to_vec());
    }
    address
        .path_bytes()
        .map_or(LocalAddress::Other, |path| LocalAddress::Unix(PathBuf::from(OsStr::from_bytes(path))))
}

fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}

fn set_defer_accept(socket: BorrowedFd<'_>) -> io::Result<()> {
    let seconds = DEFER_SECONDS;
    let length = libc::socklen_t::try_from(size_of_val(&seconds)).unwrap_or(4);
    // SAFETY: the option's value is a live integer whose size is passed along.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_made_with_its_mode() {
        use std::os::unix::fs::MetadataExt as _;
        let path = std::env::temp_dir().join(format!("greenloom-mode-{}", std::process::id()));
        let socket = bind_unix_with_mode(&path, 0o600).unwrap();
        let mode = path.symlink_metadata().unwrap().mode() & 0o777;
        std::fs::remove_file(&path).unwrap();
        drop(socket);
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn the_queue_of_a_tcp_listener_is_counted() {
        let options = TcpOptions {
            backlog: 7,
            accept: Accept::Established,
            nodelay: true,
            keepalive: false,
            reuse_port: false,
        };
        let listener = tcp("127.0.0.1:0".parse().unwrap(), options).unwrap();
        assert_eq!(queue(listener.as_fd()), Some((0, 7)));
        let LocalAddress::Tcp(address) = local_address(listener.as_fd()).unwrap() else { panic!("TCP") };
        let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert_eq!(queue(listener.as_fd()), Some((3, 7)));
        assert_eq!(queue(clients[0].as_fd()), None);
    }

    #[test]
    fn a_tcp_listener_has_the_port_the_kernel_chose() {
        let accept = Accept::FirstBytes;
        let options = TcpOptions { backlog: 16, accept, nodelay: true, keepalive: true, reuse_port: false };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = tcp(address.parse().unwrap(), options).unwrap();
            let LocalAddress::Tcp(bound) = local_address(socket.as_fd()).unwrap() else { panic!("not TCP") };
            assert_ne!(bound.port(), 0);
            assert!(is_listening(socket.as_fd()));
            assert!(tcp(bound, options).is_err(), "one listener for one address");
        }
    }

    #[test]
    fn a_live_unix_socket_is_told_from_a_dead_one() {
        let path = std::env::temp_dir().join(format!("greenloom-listen-{}.sock", std::process::id()));
        assert!(!somebody_listens(&path).unwrap(), "no file");
        let socket = bind_unix(&path).unwrap();
        assert!(!somebody_listens(&path).unwrap(), "bound, not listening");
        listen(socket.as_fd(), 1).unwrap();
        assert!(somebody_listens(&path).unwrap());
        assert_eq!(local_address(socket.as_fd()).unwrap(), LocalAddress::Unix(path.clone()));
        drop(socket);
        assert!(!somebody_listens(&path).unwrap(), "left behind");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_abstract_name_leaves_no_file() {
        let name = format!("greenloom-listen-{}", std::process::id());
        let socket = bind_abstract(name.as_bytes()).unwrap();
        assert_eq!(local_address(socket.as_fd()).unwrap(), LocalAddress::Abstract(name.into_bytes()));
    }
}
