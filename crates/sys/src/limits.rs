//! What the kernel allows: open files, processes, mappings, the longest listen queue; and the machine's name for itself.

use std::io;

use rustix::process::{Resource, Rlimit};

/// How many files this process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force; `None`: no limit.
    pub soft: Option<u64>,
    /// What `soft` may be raised to; `None`: no limit.
    pub hard: Option<u64>,
}

/// The limit of open files (`RLIMIT_NOFILE`).
pub fn open_files() -> OpenFiles {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    OpenFiles { soft: limit.current, hard: limit.maximum }
}

/// Sets the limit of open files, up to the hard one; a process with privileges may go above it.
pub fn set_open_files(soft: u64) -> io::Result<()> {
    let hard = open_files().hard.map(|hard| hard.max(soft));
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: hard })?)
}

/// How many processes the user may have (`RLIMIT_NPROC`); `None`: no limit.
pub fn processes() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nproc).current
}

/// The longest listen queue the kernel grants (`net.core.somaxconn`); `None` when it does not say.
pub fn somaxconn() -> Option<u32> {
    kernel_value("net/core/somaxconn")?.parse().ok()
}

/// How many mappings of memory a process may have (`vm.max_map_count`); `None` when the kernel does not say.
pub fn max_map_count() -> Option<u64> {
    kernel_value("vm/max_map_count")?.parse().ok()
}

/// The kernel's release, as `uname -r` prints it.
pub fn kernel_release() -> Option<String> {
    kernel_value("kernel/osrelease")
}

/// The host's name.
pub fn host_name() -> Option<String> {
    kernel_value("kernel/hostname")
}

/// Bytes in a page of memory.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// Whether the process runs with root's powers.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn kernel_value(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers() {
        assert!(somaxconn().is_some_and(|limit| limit > 0));
        assert!(max_map_count().is_some_and(|limit| limit > 0));
        assert!(kernel_release().is_some_and(|release| !release.is_empty()));
        assert!(page_size().is_power_of_two());
    }

    #[test]
    fn the_soft_limit_of_open_files_can_be_set_to_itself() {
        let before = open_files();
        if let Some(soft) = before.soft {
            set_open_files(soft).unwrap();
        }
        assert_eq!(open_files(), before);
    }
}
