//! What the service manager is told (`sd_notify(3)`), and the command that waits for a daemon: ready, reloading, stopping,
//! still alive.
//!
//! Owns the protocol: datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. When which word is due is
//! the master's to know; nothing here waits, and a service manager that does not listen is no reason to stop serving.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use greenloom_sys::clock;
use greenloom_sys::process::{self, Pid};

use crate::daemon::Arrival;
use crate::log::say;

/// The socket's name: a path, or `@` and a name in the abstract namespace.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How often the watchdog wants to hear from us, in microseconds.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// Which process it means; absent: any.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The variables a notifier takes out of the environment: applications are not to speak for the server.
pub(crate) const NOTIFY_VARIABLES: [&str; 3] = [SOCKET, WATCHDOG, WATCHDOG_PID];

/// The line to the service manager; silent where there is none.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    manager: Option<Manager>,
    watchdog: Option<Watchdog>,
    arrival: Arrival,
    /// As they were found.
    variables: Vec<(&'static str, OsString)>,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// A failure has been logged.
    complained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watchdog {
    /// How long silence may last.
    patience_ms: u64,
    /// When the next word is due; 0: at once.
    due_ms: u64,
}

impl Notifier {
    /// Takes the variables out of the environment. To be called before the process has other threads.
    pub(crate) fn take() -> Self {
        let variables: Vec<(&'static str, OsString)> = NOTIFY_VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, process::take_variable(name)?)))
            .collect();
        let value =
            |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_os_str());
        let manager = value(SOCKET).and_then(Manager::at);
        let watchdog = manager
            .as_ref()
            .and_then(|_| Watchdog::of(value(WATCHDOG)?, value(WATCHDOG_PID), Pid::current()));
        Self { manager, watchdog, arrival: Arrival::default(), variables }
    }

    /// From now on the command that waits for the daemon is told, too.
    pub(crate) fn set_arrival(&mut self, arrival: Arrival) {
        self.arrival = arrival;
    }

    /// A generation serves: the first one, or the one a reload was for. Also right after a reload that has failed, since the
    /// older generation serves on. `status` is for people.
    ///
    /// The master calls this where it writes the ready line, and where it says that a reload has failed.
    pub(crate) fn ready(&mut self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
        self.arrival.ready();
    }

    /// A reload begins, even one that is refused at once: a service manager that asked for it (`Type=notify-reload`) waits
    /// for this word and then for [`Notifier::ready`].
    pub(crate) fn reloading(&mut self) {
        // By this it tells the reload from an earlier one.
        let now_us = clock::monotonic_ns() / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading"));
    }

    /// The stop begins.
    pub(crate) fn stopping(&mut self) {
        self.watchdog = None;
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// To be called in each round of the master's loop: tells the watchdog that the server lives, if that is due and
    /// `accepting` is true, which means that at least one worker accepts connections. Without that the watchdog hears nothing and, in
    /// the end, restarts the server.
    pub(crate) fn watchdog(&mut self, now_ms: u64, accepting: bool) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if watchdog.is_due(now_ms, accepting) {
            self.tell("WATCHDOG=1");
        }
    }

    /// When [`Notifier::watchdog`] wants to be called at the latest.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.watchdog.map(|watchdog| watchdog.due_ms)
    }

    /// What has to be in the environment of a program that takes over from this one under the same process id (an upgrade).
    /// No other program gets them.
    pub(crate) fn variables(&self) -> &[(&'static str, OsString)] {
        &self.variables
    }

    fn tell(&mut self, message: &str) {
        if let Some(manager) = &mut self.manager {
            manager.tell(message);
        }
    }
}

impl Manager {
    fn at(name: &OsStr) -> Option<Self> {
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
            [b'/', ..] => SocketAddr::from_pathname(name),
            _ => {
                say!(
                    "{SOCKET} is {}, which is neither a path nor an abstract name: the service manager is not told",
                    name.display()
                );
                return None;
            }
        };
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // Its queue may be full: the loop must not wait for it.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match socket {
            Ok((socket, address)) => Some(Self { socket, address, complained: false }),
            Err(error) => {
                say!("cannot reach the service manager at {}: {error}", name.display());
                None
            }
        }
    }

    fn tell(&mut self, message: &str) {
        match self.socket.send_to_addr(message.as_bytes(), &self.address) {
            Ok(_) => self.complained = false,
            Err(error) if !std::mem::replace(&mut self.complained, true) => {
                say!("cannot tell the service manager: {error}");
            }
            Err(_) => {}
        }
    }
}

impl Watchdog {
    fn of(microseconds: &OsStr, pid: Option<&OsStr>, own: Pid) -> Option<Self> {
        let microseconds: u64 = microseconds.to_str()?.parse().ok()?;
        let is_meant = pid.is_none_or(|pid| pid.to_str().and_then(|pid| pid.parse().ok()) == Some(own.get()));
        let patience_ms = microseconds / 1000;
        (is_meant && patience_ms > 0).then_some(Self { patience_ms, due_ms: 0 })
    }

    /// Half the time it allows, as `sd_watchdog_enabled(3)` advises; asked again soon while nobody accepts.
    fn is_due(&mut self, now_ms: u64, accepting: bool) -> bool {
        if self.due_ms > now_ms {
            return false;
        }
        let pause_ms = if accepting { self.patience_ms / 2 } else { self.patience_ms / 16 };
        self.due_ms = now_ms + pause_ms.max(1);
        accepting
    }
}

/// Lines separate the protocol's words: a text for people must not become one.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(name: &str) -> (UnixDatagram, Notifier) {
        let name = format!("greenloom-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        let notifier =
            Notifier { manager: Manager::at(OsStr::new(&format!("@{name}"))), ..Notifier::default() };
        (manager, notifier)
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_has_its_words() {
        let (manager, mut notifier) = listening("words");
        notifier.ready("generation 1\nREADY=0");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=generation 1 READY=0");
        notifier.reloading();
        let reloading = heard(&manager);
        let (time, status) = reloading.split_once("\nSTATUS").unwrap();
        assert_eq!(status, "=reloading");
        let now_us: u64 = time.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((1..=(clock::monotonic_ns() / 1000)).contains(&now_us));
        notifier.stopping();
        assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=stopping");
        assert!(manager.recv(&mut [0; 1]).is_err(), "nothing else was said");
    }

    #[test]
    fn a_manager_that_is_gone_or_full_holds_nobody_up() {
        let (manager, mut notifier) = listening("full");
        for _ in 0..10_000 {
            notifier.ready("again");
        }
        drop(manager);
        notifier.ready("nobody hears this");
        assert!(notifier.manager.unwrap().complained);
        Notifier::default().ready("nor this");
    }

    #[test]
    fn the_watchdog_hears_from_a_server_that_accepts() {
        let (manager, mut notifier) = listening("watchdog");
        notifier.watchdog = Some(Watchdog { patience_ms: 1600, due_ms: 0 });
        notifier.watchdog(5000, true);
        assert_eq!(heard(&manager), "WATCHDOG=1");
        assert_eq!(notifier.deadline_ms(), Some(5800));
        notifier.watchdog(5799, true);
        notifier.watchdog(5800, false);
        assert!(manager.recv(&mut [0; 1]).is_err(), "early, and then with nobody who accepts");
        assert_eq!(notifier.deadline_ms(), Some(5900), "asked again soon, without spinning");
        notifier.watchdog(5900, true);
        assert_eq!(heard(&manager), "WATCHDOG=1");
        notifier.stopping();
        assert_eq!(notifier.deadline_ms(), None, "a stop may take longer");
    }

    #[test]
    fn the_watchdog_is_meant_for_one_process() {
        let own = Pid::current();
        let of = |time: &str, pid: Option<&str>| Watchdog::of(OsStr::new(time), pid.map(OsStr::new), own);
        let pid = own.to_string();
        assert_eq!(of("3000000", Some(&pid)).map(|watchdog| watchdog.patience_ms), Some(3000));
        assert!(of("3000000", None).is_some());
        for (time, pid) in [("3000000", "1"), ("3000000", ""), ("0", &pid), ("-1", &pid), ("soon", &pid)] {
            assert_eq!(of(time, Some(pid)), None, "{time} {pid}");
        }
    }

    #[test]
    fn other_names_of_sockets_are_not_used() {
        assert!(Manager::at(OsStr::new("vsock:2:1234")).is_none());
        assert!(Manager::at(OsStr::new("")).is_none());
        assert!(Manager::at(OsStr::new(&format!("/{}", "x".repeat(200)))).is_none());
    }
}
