//! What a process that is started finds around it, apart from its arguments: a service manager that wants to be told, and
//! sockets that it has opened already.

use std::io;
use std::path::Path;

use greenloom_sys::process::Fork;

use crate::activation::{Activation, LISTEN_VARIABLES};
use crate::daemon::{self, Arrival, Detached};
use crate::error::MasterError;
use crate::notifier::{NOTIFY_VARIABLES, Notifier};

/// Taken once, by the process that the user or a service manager has started.
#[derive(Debug, Default)]
pub struct Surroundings {
    pub(crate) notifier: Notifier,
    pub(crate) activation: Activation,
}

impl Surroundings {
    /// Reads and removes the variables by which a service manager speaks to what it starts. To be called before the process
    /// has other threads, and before it forks: the sockets are meant for one process id.
    pub fn take() -> Self {
        Self { notifier: Notifier::take(), activation: Activation::take() }
    }

    /// The names of those variables. A language runtime that copies the environment at its start removes them from the
    /// copy.
    pub fn variables() -> impl Iterator<Item = &'static str> {
        NOTIFY_VARIABLES.into_iter().chain(LISTEN_VARIABLES)
    }

    /// Goes into the background (`--daemonize`): splits the calling process into the command, which waits until the server
    /// serves or has failed, and the daemon, whose output goes to the end of `log`. `fork` makes a child that may do all that
    /// the caller may. What the daemon gets is to be told when it ends.
    ///
    /// # Errors
    /// What keeps the daemon from being made.
    pub fn detach(
        &mut self,
        log: &Path,
        fork: &mut dyn FnMut() -> io::Result<Fork>,
    ) -> Result<Detached, MasterError> {
        let detached = daemon::detach(log, fork)?;
        if let Detached::Daemon(arrival) = &detached {
            self.notifier.set_arrival(Arrival::clone(arrival));
        }
        Ok(detached)
    }
}
