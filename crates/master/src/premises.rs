//! What an instance has in the outside world: listeners, pipes and sockets for commands, the pid file. Taken before anything else
//! happens, while the process still has the rights it was started with; left at the end.

use greenloom_config::Settings;

use crate::activation::Activation;
use crate::error::MasterError;
use crate::fifo::{Fifos, Predecessors};
use crate::listeners::Listeners;
use crate::made_file::Quietly;
use crate::pidfile::Pidfile;
use crate::privileges::Privileges;
use crate::status::{Endpoint, Status};
use crate::upgrade::Adoption;

/// The instance's place.
#[derive(Debug)]
pub(crate) struct Premises {
    pub(crate) listeners: Listeners,
    /// `None` without `--master-fifo`, or without a master.
    pub(crate) fifos: Option<Fifos>,
    pub(crate) pidfile: Option<Pidfile>,
    /// Statistics, metrics, health and commands.
    pub(crate) status: Status,
}

impl Premises {
    /// Takes the place, and then gives up the rights that only this needed (`--uid`, `--gid`): what is made later belongs to
    /// the user the instance runs as. With `adoption` an earlier program of this process had it already.
    ///
    /// # Errors
    /// What keeps the server from starting; nothing is left behind then.
    pub(crate) fn take(
        settings: &Settings,
        activation: Activation,
        adoption: Option<&Adoption>,
    ) -> Result<Self, MasterError> {
        let privileges = Privileges::of(settings)?;
        let (listeners, predecessors) = match adoption {
            Some(adoption) => (adoption.listeners()?, Predecessors::Ours),
            None => (Listeners::bind(settings, activation, privileges.owner())?, Predecessors::Others),
        };
        let endpoints = adoption.map(Adoption::endpoints).transpose()?;
        let mut premises = Self { listeners, fifos: None, pidfile: None, status: Status::new()? };
        match premises.furnish(settings, privileges, predecessors, endpoints) {
            Ok(()) => Ok(premises),
            Err(error) => {
                premises.leave(Quietly::Yes);
                Err(error)
            }
        }
    }

    /// Removes from the file system what is still the instance's own.
    pub(crate) fn leave(&mut self, quietly: Quietly) {
        self.listeners.vacuum(quietly);
        if let Some(fifos) = &self.fifos {
            fifos.vacuum(quietly);
        }
        if let Some(pidfile) = &self.pidfile {
            pidfile.vacuum(quietly);
        }
        self.status.vacuum(quietly);
    }

    fn furnish(
        &mut self,
        settings: &Settings,
        privileges: Privileges,
        predecessors: Predecessors,
        endpoints: Option<Vec<Endpoint>>,
    ) -> Result<(), MasterError> {
        if settings.master {
            self.fifos = Fifos::create(&settings.master_process.fifos, privileges.owner(), predecessors)?;
            self.status.bind(settings, privileges.owner(), endpoints)?;
        }
        self.pidfile = settings.pidfile.as_deref().map(Pidfile::write).transpose()?;
        privileges.hand_over_log(settings);
        privileges.give_up()
    }
}
