//! Who a process is to the kernel: user, groups, and the mode bits its new files do not get.
//!
//! Owns the system calls and the look-up of a user's name and group. Which user to become, and when, is decided by the
//! master.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

use rustix::fs::Mode;

/// Real, effective and saved id of a user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Who started the process.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// Whose rights it may take again.
    pub saved: u32,
}

impl Ids {
    /// Whether all three are `id`.
    pub fn are(self, id: u32) -> bool {
        [self.real, self.effective, self.saved] == [id; 3]
    }
}

/// A user as the user database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: CString,
    /// The number.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
}

/// The process's user ids.
pub fn user_ids() -> io::Result<Ids> {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: the three pointers are to live locals of the right type.
    if unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Ids { real, effective, saved })
}

/// The process's group ids, without the supplementary ones.
pub fn group_ids() -> io::Result<Ids> {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: as above.
    if unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Ids { real, effective, saved })
}

/// The user of this number; `None` when the database has none.
pub fn user(uid: u32) -> io::Result<Option<User>> {
    // Longer entries exist only on purpose; the C library says `ERANGE` for them, and we say it on.
    let mut bytes = vec![0; 64 * 1024];
    let mut entry = MaybeUninit::<libc::passwd>::zeroed();
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: entry and buffer are live locals, the buffer's size is passed along, `found` is a live local.
    let code =
        unsafe { libc::getpwuid_r(uid, entry.as_mut_ptr(), bytes.as_mut_ptr(), bytes.len(), &raw mut found) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    if found.is_null() {
        return Ok(None);
    }
    // SAFETY: the call succeeded and found an entry, so it has filled `entry`.
    let entry = unsafe { entry.assume_init() };
    // SAFETY: a filled entry's name is a NUL-terminated string in `bytes`, which lives on.
    let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_owned();
    Ok(Some(User { name, uid, gid: entry.pw_gid }))
}

/// Sets the supplementary groups to those the group database gives `user`, and `gid`.
pub fn set_groups_of(user: &CStr, gid: u32) -> io::Result<()> {
    // SAFETY: the name is a NUL-terminated string.
    check(unsafe { libc::initgroups(user.as_ptr(), gid) })
}

/// Sets the supplementary groups to these alone.
pub fn set_groups(gids: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live slice.
    check(unsafe { libc::setgroups(gids.len(), gids.as_ptr()) })
}

/// Makes `gid` the real, effective and saved group of all threads of the process.
pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: plain system call; the C library does it for every thread.
    check(unsafe { libc::setresgid(gid, gid, gid) })
}

/// Makes `uid` the real, effective and saved user of all threads of the process. Leaving root gives up all capabilities.
pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::setresuid(uid, uid, uid) })
}

/// Whether the process may make itself root; one that may has become root by this question.
pub fn can_become_root() -> bool {
    // SAFETY: plain system call.
    unsafe { libc::setuid(0) == 0 }
}

/// Sets the mode bits that new files of this process, and of those it starts, do not get.
pub fn set_umask(mask: u32) {
    let _before = rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_knows_root_and_not_everybody() {
        let root = user(0).unwrap().unwrap();
        assert_eq!((root.name.as_c_str(), root.uid, root.gid), (c"root", 0, 0));
        assert_eq!(user(3_999_999_999).unwrap(), None);
    }

    #[test]
    fn ids_are_those_the_kernel_shows() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let shown = |name: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(3).map(|id| id.parse().unwrap()).collect()
        };
        let Ids { real, effective, saved } = user_ids().unwrap();
        assert_eq!(shown("Uid:"), [real, effective, saved]);
        let Ids { real, effective, saved } = group_ids().unwrap();
        assert_eq!(shown("Gid:"), [real, effective, saved]);
        assert!(user_ids().unwrap().are(real) || real != effective || real != user_ids().unwrap().real);
    }
}
