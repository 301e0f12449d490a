//! Signals when a file or directory changes.
//!
//! The kernel says at once what happens to a file that is there, and to the entries of a directory (not below). Once a
//! second each path is also looked at: that finds a file that is created later, a symbolic link that now leads
//! elsewhere, and changes that the kernel does not report (network file systems; more watches than the user may have).
//! What changes within [`COALESCE_MS`] is one signal.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use greenloom_sys::inotify::{Change, Inotify, WatchId};

use crate::touch::{Fingerprint, LOOK_INTERVAL_MS};

/// Monitors of one application.
pub(crate) const MOST_MONITORS: usize = 64;
/// Changes within this time of the first are one signal. The kernel is asked as often at most: a directory that is written to
/// all the time does not keep the master busy.
const COALESCE_MS: u64 = 100;

/// Who asked for a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The configuration.
    Options,
    /// The application of this generation.
    Generation(u32),
}

/// All monitors of an instance.
#[derive(Debug, Default)]
pub(crate) struct FileMonitors {
    monitors: Vec<Monitor>,
    /// Made with the first monitor; `None` after that: the kernel gives none, and looking has to do.
    inotify: Option<Inotify>,
    /// Until then the kernel is not asked.
    quiet_until_ms: Option<u64>,
    look_at_ms: u64,
}

#[derive(Debug)]
struct Monitor {
    owner: Owner,
    number: u8,
    path: PathBuf,
    watch: Option<WatchId>,
    last: Option<Fingerprint>,
    /// When its signal is to be raised.
    due_ms: Option<u64>,
}

impl FileMonitors {
    /// Adds a monitor; the same one of the same owner is there once. A path with nothing behind it is fine.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn add(&mut self, owner: Owner, number: u8, path: &Path, now_ms: u64) -> Result<(), String> {
        let mut of_owner = self.monitors.iter().filter(|monitor| monitor.owner == owner);
        if of_owner.clone().any(|monitor| monitor.number == number && monitor.path == path) {
            return Ok(());
        }
        if of_owner.nth(MOST_MONITORS - 1).is_some() {
            return Err(format!("you can register max {MOST_MONITORS} file monitors !!!"));
        }
        if self.monitors.is_empty() {
            self.inotify = Inotify::new().ok();
            self.look_at_ms = now_ms.saturating_add(LOOK_INTERVAL_MS);
        }
        // Watched first: what happens in between is noticed twice rather than not at all.
        let watch = self.inotify.as_ref().and_then(|inotify| inotify.watch(path).ok());
        let last = Fingerprint::of(path);
        self.monitors.push(Monitor { owner, number, path: path.to_owned(), watch, last, due_ms: None });
        Ok(())
    }

    /// Removes those monitors of `owner` for whose signal and path `which` says so.
    pub(crate) fn remove(&mut self, owner: Owner, which: impl Fn(u8, &Path) -> bool) {
        let removed: Vec<Monitor> = self
            .monitors
            .extract_if(.., |monitor| monitor.owner == owner && which(monitor.number, &monitor.path))
            .collect();
        for watch in removed.into_iter().filter_map(|monitor| monitor.watch) {
            self.unwatch_if_unused(watch);
        }
        if self.monitors.is_empty() {
            self.inotify = None;
            self.quiet_until_ms = None;
        }
    }

    /// To be waited for; then [`Self::on_readable`].
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        let inotify = self.inotify.as_ref().filter(|_| self.quiet_until_ms.is_none())?;
        Some(inotify.as_fd())
    }

    /// The kernel has something to say.
    pub(crate) fn on_readable(&mut self, now_ms: u64) {
        let Some(inotify) = &self.inotify else { return };
        let changes = inotify.changes();
        if changes.is_empty() {
            return;
        }
        self.quiet_until_ms = Some(now_ms.saturating_add(COALESCE_MS));
        for change in changes {
            for monitor in &mut self.monitors {
                let concerned = match &change {
                    Change::At(watch, _) => monitor.watch == Some(*watch),
                    Change::Unwatched(watch) => {
                        let its_own = monitor.watch == Some(*watch);
                        if its_own {
                            monitor.watch = None;
                        }
                        its_own
                    }
                    Change::Overflow => true,
                };
                if concerned {
                    monitor.note_change(now_ms);
                }
            }
        }
        self.watch_what_is_there_now();
    }

    /// The numbers of the signals that are due. Those of generations other than `active` wait until theirs is: its
    /// application has loaded what the file was before.
    pub(crate) fn tick(&mut self, active: Option<u32>, now_ms: u64) -> Vec<u8> {
        if self.quiet_until_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.quiet_until_ms = None;
            self.on_readable(now_ms);
        }
        if !self.monitors.is_empty() && self.look_at_ms <= now_ms {
            self.look_at_ms = now_ms.saturating_add(LOOK_INTERVAL_MS);
            for monitor in self.monitors.iter_mut().filter(|monitor| monitor.due_ms.is_none()) {
                if Fingerprint::of(&monitor.path) != monitor.last {
                    monitor.note_change(now_ms);
                }
            }
            self.watch_what_is_there_now();
        }
        let mut due = Vec::new();
        for monitor in self.monitors.iter_mut().filter(|monitor| monitor.owner.is_active(active)) {
            if monitor.due_ms.is_some_and(|at_ms| at_ms <= now_ms) {
                monitor.due_ms = None;
                monitor.last = Fingerprint::of(&monitor.path);
                due.push(monitor.number);
            }
        }
        due
    }

    /// When [`Self::tick`] has something to do.
    pub(crate) fn deadline_ms(&self, active: Option<u32>) -> Option<u64> {
        let active = self.monitors.iter().filter(|monitor| monitor.owner.is_active(active));
        let look_at_ms = (!self.monitors.is_empty()).then_some(self.look_at_ms);
        active.filter_map(|monitor| monitor.due_ms).chain(self.quiet_until_ms).chain(look_at_ms).min()
    }

    /// Watches the files that have come to the paths, and no longer those that have left them.
    fn watch_what_is_there_now(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut left = Vec::new();
        for monitor in self.monitors.iter_mut().filter(|monitor| monitor.due_ms.is_some()) {
            // The same file keeps its watch.
            let watch = inotify.watch(&monitor.path).ok();
            if watch != monitor.watch {
                left.extend(std::mem::replace(&mut monitor.watch, watch));
            }
        }
        for watch in left {
            self.unwatch_if_unused(watch);
        }
    }

    fn unwatch_if_unused(&self, watch: WatchId) {
        if let Some(inotify) = &self.inotify
            && self.monitors.iter().all(|monitor| monitor.watch != Some(watch))
        {
            inotify.unwatch(watch);
        }
    }
}

impl Monitor {
    fn note_change(&mut self, now_ms: u64) {
        self.due_ms = self.due_ms.or_else(|| Some(now_ms.saturating_add(COALESCE_MS)));
    }
}

impl Owner {
    fn is_active(self, active: Option<u32>) -> bool {
        match self {
            Self::Options => active.is_some(),
            Self::Generation(number) => active == Some(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NOTHING: [u8; 0] = [];

    /// A directory of its own for one test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("greenloom-monitors-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const OWNER: Owner = Owner::Generation(1);

    fn monitoring(path: &Path) -> FileMonitors {
        let mut monitors = FileMonitors::default();
        monitors.add(OWNER, 1, path, 0).unwrap();
        monitors
    }

    /// What comes of the changes that the kernel reports at this time.
    fn signals(monitors: &mut FileMonitors, now_ms: u64) -> Vec<u8> {
        monitors.on_readable(now_ms);
        assert_eq!(monitors.tick(Some(1), now_ms), NOTHING);
        monitors.tick(Some(1), now_ms + COALESCE_MS)
    }

    #[test]
    fn changes_within_100_ms_are_one_signal() {
        let directory = Directory::new("coalesce");
        let file = directory.0.join("file");
        fs::write(&file, "1").unwrap();
        let mut monitors = monitoring(&file);
        assert!(monitors.fd().is_some());
        fs::write(&file, "22").unwrap();
        monitors.on_readable(10);
        // Nobody waits for the kernel until the signal is raised, and what comes in the meantime belongs to it.
        assert!(monitors.fd().is_none());
        assert_eq!(monitors.deadline_ms(Some(1)), Some(110));
        fs::write(&file, "333").unwrap();
        assert_eq!(monitors.tick(Some(1), 109), NOTHING);
        assert_eq!(monitors.tick(Some(1), 110), [1]);
        assert_eq!(monitors.tick(Some(1), 210), NOTHING);
        assert!(monitors.fd().is_some());
        assert_eq!(monitors.tick(Some(1), 1000), NOTHING, "a look finds nothing new");
    }

    #[test]
    fn a_file_that_is_replaced_is_watched_on() {
        let directory = Directory::new("replace");
        let (file, new) = (directory.0.join("file"), directory.0.join("new"));
        fs::write(&file, "1").unwrap();
        let mut monitors = monitoring(&file);
        for round in 1..4 {
            fs::write(&new, "same size").unwrap();
            fs::rename(&new, &file).unwrap();
            assert_eq!(signals(&mut monitors, round * 10_000), [1]);
            fs::write(&file, "written to the new one").unwrap();
            assert_eq!(signals(&mut monitors, round * 10_000 + 5000), [1]);
        }
    }

    #[test]
    fn a_file_may_go_and_come() {
        let directory = Directory::new("come");
        let file = directory.0.join("not/here/yet");
        let mut monitors = monitoring(&file);
        assert_eq!(monitors.tick(Some(1), 1000), NOTHING);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "1").unwrap();
        assert_eq!(monitors.tick(Some(1), 2000), NOTHING);
        assert_eq!(monitors.tick(Some(1), 2100), [1]);
        // From now on the kernel says it.
        fs::write(&file, "22").unwrap();
        assert_eq!(signals(&mut monitors, 2300), [1]);
        fs::remove_file(&file).unwrap();
        assert_eq!(signals(&mut monitors, 2500), [1]);
        assert_eq!(monitors.tick(Some(1), 3500), NOTHING);
        fs::write(&file, "1").unwrap();
        assert_eq!(monitors.tick(Some(1), 4500), NOTHING);
        assert_eq!(monitors.tick(Some(1), 4600), [1]);
    }

    #[test]
    fn a_symbolic_link_that_is_swapped_is_a_change() {
        let directory = Directory::new("link");
        let at = |name: &str| directory.0.join(name);
        for release in ["1", "2"] {
            fs::create_dir(at(release)).unwrap();
            fs::write(at(release).join("file"), release).unwrap();
        }
        std::os::unix::fs::symlink("1", at("current")).unwrap();
        let mut monitors = monitoring(&at("current").join("file"));
        std::os::unix::fs::symlink("2", at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
        assert_eq!(monitors.tick(Some(1), 1000), NOTHING);
        assert_eq!(monitors.tick(Some(1), 1100), [1]);
        fs::write(at("1/file"), "nobody cares").unwrap();
        assert_eq!(signals(&mut monitors, 1200), NOTHING);
        fs::write(at("2/file"), "somebody does").unwrap();
        assert_eq!(signals(&mut monitors, 1400), [1]);
    }

    #[test]
    fn a_directory_is_its_entries_and_two_monitors_may_share_a_file() {
        let directory = Directory::new("directory");
        let mut monitors = monitoring(&directory.0);
        monitors.add(Owner::Options, 2, &directory.0, 0).unwrap();
        monitors.add(OWNER, 3, &directory.0.join("entry"), 0).unwrap();
        fs::write(directory.0.join("entry"), "1").unwrap();
        assert_eq!(signals(&mut monitors, 10), [1, 2]);
        monitors.remove(OWNER, |_, _| true);
        fs::remove_file(directory.0.join("entry")).unwrap();
        assert_eq!(signals(&mut monitors, 2000), [2]);
        monitors.remove(Owner::Options, |_, _| true);
        assert!(monitors.fd().is_none());
        assert_eq!(monitors.deadline_ms(Some(1)), None);
    }

    #[test]
    fn a_generation_that_does_not_serve_yet_hears_of_changes_when_it_does() {
        let directory = Directory::new("generations");
        let file = directory.0.join("file");
        fs::write(&file, "1").unwrap();
        let mut monitors = monitoring(&file);
        monitors.add(Owner::Generation(2), 2, &file, 0).unwrap();
        fs::write(&file, "22").unwrap();
        assert_eq!(signals(&mut monitors, 10), [1]);
        assert_eq!(monitors.deadline_ms(Some(1)), Some(1000));
        assert_eq!(monitors.tick(Some(2), 200), [2]);
    }

    #[test]
    fn without_the_kernels_help_files_are_looked_at() {
        let directory = Directory::new("look");
        let file = directory.0.join("file");
        fs::write(&file, "1").unwrap();
        let mut monitors = monitoring(&file);
        monitors.inotify = None;
        fs::write(&file, "22").unwrap();
        monitors.on_readable(10);
        assert_eq!(monitors.tick(Some(1), 1000), NOTHING);
        assert_eq!(monitors.tick(Some(1), 1100), [1]);
    }

    #[test]
    fn the_same_monitor_is_one_and_there_is_a_limit() {
        let directory = Directory::new("limit");
        let mut monitors = monitoring(&directory.0);
        monitors.add(OWNER, 1, &directory.0, 0).unwrap();
        assert_eq!(monitors.monitors.len(), 1);
        for number in 2..=64 {
            monitors.add(OWNER, number, &directory.0, 0).unwrap();
        }
        let reason = monitors.add(OWNER, 65, &directory.0, 0).unwrap_err();
        assert_eq!(reason, "you can register max 64 file monitors !!!");
        monitors.add(Owner::Generation(2), 65, &directory.0, 0).unwrap();
    }
}
