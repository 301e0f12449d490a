//! Root is for binding; applications run as somebody else (`--uid`, `--gid`).
//!
//! Owns whom to become, the order, and the proof that there is no way back. The master calls [`Privileges::give_up`] when
//! its listeners and other files are there and nothing of the application is: all other processes of the instance start
//! from it and inherit what it has become.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use greenloom_config::Settings;
use greenloom_sys::identity::{self, User};
use greenloom_sys::{limits, made_files, process};

use crate::error::MasterError;
use crate::log::say;

/// Whom the files belong to that are made before the privileges go. `None` leaves what the kernel has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

impl Owner {
    pub(crate) fn is_nobody_else(self) -> bool {
        self == Self::default()
    }
}

/// What the process is about to become.
#[derive(Debug)]
pub(crate) struct Privileges {
    is_root: bool,
    uid: Option<u32>,
    gid: Option<u32>,
    /// The user database's entry of `uid`.
    user: Option<User>,
}

impl Privileges {
    /// Looks up what the settings ask for.
    pub(crate) fn of(settings: &Settings) -> Result<Self, MasterError> {
        let is_root = limits::is_root();
        let uid = settings.master_process.uid;
        let user = match uid.filter(|_| is_root) {
            Some(uid) => identity::user(uid).map_err(failed("look up user", uid))?,
            None => None,
        };
        let gid = settings.master_process.gid.or_else(|| user.as_ref().map(|user| user.gid));
        Ok(Self { is_root, uid, gid, user })
    }

    /// Whom files made from now on shall belong to.
    pub(crate) fn owner(&self) -> Owner {
        if self.is_root { Owner { uid: self.uid, gid: self.gid } } else { Owner::default() }
    }

    /// Gives standard error to the user as well, if it is a log file: the log is to be opened anew later.
    pub(crate) fn hand_over_log(&self, settings: &Settings) {
        let to_file = settings.log.logto.is_some() || settings.master_process.daemonize.is_some();
        if !to_file || self.owner().is_nobody_else() {
            return;
        }
        let stderr = io::stderr();
        let given = stderr.as_fd().try_clone_to_owned().and_then(|log| {
            let log = std::fs::File::from(log);
            let found = log.metadata()?;
            // Another name of it may be another user's way to be given a file of root's.
            if found.is_file() && found.nlink() == 1 {
                made_files::give_to(log.as_fd(), self.uid, self.gid)?;
            }
            Ok(())
        });
        if let Err(reason) = given {
            say!("the log file stays with its owner: {reason}");
        }
    }

    /// Becomes the user and the group, for good. Anybody but root stays who they are, and the log says so.
    ///
    /// # Errors
    /// The kernel refuses, or root could be had back: the server must not start then.
    pub(crate) fn give_up(self) -> Result<(), MasterError> {
        if !self.is_root {
            self.say_what_cannot_be();
            return Ok(());
        }
        if self.uid.is_none() && self.gid.is_none() {
            return Ok(());
        }
        // Groups while still root: nobody else may set them.
        match (&self.user, self.gid) {
            (Some(user), Some(gid)) => identity::set_groups_of(&user.name, gid),
            (None, Some(gid)) => identity::set_groups(&[gid]),
            (_, None) => identity::set_groups(&[]),
        }
        .map_err(failed("set the groups of user", self.uid.unwrap_or(0)))?;
        match self.gid {
            Some(gid) => {
                identity::set_group(gid).map_err(failed("become group", gid))?;
                say!("setgid() to {gid}");
            }
            None => {
                say!("*** WARNING: the group is still root's: this user has none of its own, give --gid ***");
            }
        }
        if let Some(uid) = self.uid {
            identity::set_user(uid).map_err(failed("become user", uid))?;
            say!("setuid() to {uid}");
        }
        self.prove()?;
        // The kernel hides processes that have changed their user from that user; nothing of root's is in this one.
        process::allow_inspection().map_err(MasterError::system("be inspected by the new user"))
    }

    /// Trusts no return value: asks who we are, and tries to become root.
    fn prove(&self) -> Result<(), MasterError> {
        let wrong =
            |what: &'static str, id| failed(what, id)(io::Error::from(io::ErrorKind::PermissionDenied));
        if let Some(gid) = self.gid
            && !identity::group_ids().map_err(MasterError::system("ask for the groups"))?.are(gid)
        {
            return Err(wrong("become group", gid));
        }
        if let Some(uid) = self.uid
            && (!identity::user_ids().map_err(MasterError::system("ask for the user"))?.are(uid)
                || (uid != 0 && identity::can_become_root()))
        {
            return Err(wrong("leave root for user", uid));
        }
        Ok(())
    }

    fn say_what_cannot_be(&self) {
        let is = |id: u32, ids: io::Result<identity::Ids>| ids.is_ok_and(|ids| ids.effective == id);
        if let Some(uid) = self.uid.filter(|uid| !is(*uid, identity::user_ids())) {
            say!("cannot setuid() to {uid} as non-root user: going on as the user who started greenloom");
        }
        if let Some(gid) = self.gid.filter(|gid| !is(*gid, identity::group_ids())) {
            say!(
                "cannot setgid() to {gid} as non-root user: going on with the group greenloom was started with"
            );
        }
    }
}

fn failed(what: &'static str, id: u32) -> impl FnOnce(io::Error) -> MasterError {
    move |reason| MasterError::Privileges { what, id, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Giving up privileges cannot be taken back: that is tested on the real server, in tests/test_privileges.py.

    #[test]
    fn without_an_option_nothing_changes_hands() {
        let privileges = Privileges::of(&Settings::default()).unwrap();
        assert!(privileges.owner().is_nobody_else());
        privileges.give_up().unwrap();
    }

    #[test]
    fn only_root_gives_files_away() {
        let mut settings = Settings::default();
        settings.master_process.uid = Some(4711);
        settings.master_process.gid = Some(4712);
        let mut privileges = Privileges::of(&settings).unwrap();
        privileges.is_root = true;
        assert_eq!(privileges.owner(), Owner { uid: Some(4711), gid: Some(4712) });
        privileges.is_root = false;
        assert_eq!(privileges.owner(), Owner::default());
    }

    #[test]
    fn a_user_brings_the_group_along() {
        if !limits::is_root() {
            return;
        }
        let Some(nobody) = identity::user(65_534).unwrap() else { return };
        let mut settings = Settings::default();
        settings.master_process.uid = Some(65_534);
        assert_eq!(Privileges::of(&settings).unwrap().gid, Some(nobody.gid));
        settings.master_process.gid = Some(7);
        assert_eq!(Privileges::of(&settings).unwrap().gid, Some(7));
    }
}
