//! Helper threads: they wait for disks so that the loop need not. They touch no interpreter and nothing of the worker; a job
//! goes in, what it has done comes out through the reactor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use greenloom_sys::eventfd::EventFd;
use greenloom_sys::process;

use crate::connection::output::FilePart;
use crate::native::cgi::find::Refusal;
use crate::native::cgi::run::Started;
use crate::native::statics::Found;
use crate::slots::Key;
use crate::worker::{Worker, kind};

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// What a helper does; on behalf of the connection that is named beside it.
pub(crate) type Job = Box<dyn FnOnce() -> Done + Send>;

/// What it has done.
#[derive(Debug)]
pub(crate) enum Done {
    /// Looked for a file; with lines for the log.
    Looked(io::Result<Found>, Vec<String>),
    /// Started a script.
    Started(Result<Box<Started>, Refusal>),
    /// Read a part of a file, so that the kernel has it in memory.
    Read(FilePart),
}

/// The helpers of one worker; threads start when there is work for them.
#[derive(Debug)]
pub(crate) struct Helpers {
    shared: Arc<Shared>,
    threads: u32,
    most: u32,
}

#[derive(Debug)]
struct Shared {
    jobs: Mutex<Jobs>,
    comes: Condvar,
    done: Mutex<Vec<(Key, Done)>>,
    bell: EventFd,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<(Key, Job)>,
    idle: u32,
    ended: bool,
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs")
            .field("waiting", &self.waiting.len())
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

/// A helper that panics holds nothing that others need.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Helpers {
    /// At most so many threads.
    fn new(most: u32) -> io::Result<Self> {
        let shared = Shared {
            jobs: Mutex::default(),
            comes: Condvar::new(),
            done: Mutex::default(),
            bell: EventFd::new()?,
        };
        Ok(Self { shared: Arc::new(shared), threads: 0, most: most.max(1) })
    }

    fn bell(&self) -> RawFd {
        self.shared.bell.as_fd().as_raw_fd()
    }

    fn run(&mut self, key: Key, job: Job) -> io::Result<()> {
        let mut jobs = lock(&self.shared.jobs);
        let must_grow = jobs.idle as usize <= jobs.waiting.len() && self.threads < self.most;
        jobs.waiting.push_back((key, job));
        drop(jobs);
        if must_grow {
            let shared = Arc::clone(&self.shared);
            match process::spawn_thread("greenloom-helper", move || shared.work()) {
                Ok(_) => self.threads += 1,
                Err(error) if self.threads == 0 => return Err(error),
                Err(_) => {} // The others do it.
            }
        }
        self.shared.comes.notify_one();
        Ok(())
    }

    fn take_done(&self) -> Vec<(Key, Done)> {
        self.shared.bell.clear();
        std::mem::take(&mut *lock(&self.shared.done))
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        lock(&self.shared.jobs).ended = true;
        self.shared.comes.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut jobs = lock(&self.jobs);
        loop {
            if jobs.ended {
                return;
            }
            let Some((key, job)) = jobs.waiting.pop_front() else {
                jobs.idle += 1;
                jobs = self.comes.wait(jobs).unwrap_or_else(PoisonError::into_inner);
                jobs.idle -= 1;
                continue;
            };
            drop(jobs);
            let done = job();
            lock(&self.done).push((key, done));
            self.bell.notify();
            jobs = lock(&self.jobs);
        }
    }
}

/// The job that brings a part of a file into memory.
pub(crate) fn read_part(part: FilePart) -> Job {
    Box::new(move || {
        let mut buffer = vec![0; PIECE];
        let mut at = part.offset;
        let end = part.offset + part.len;
        while at < end {
            let most = PIECE.min(usize::try_from(end - at).unwrap_or(PIECE));
            // Its end, or an error, shows when it is sent.
            match part.file.read_at(&mut buffer[..most], at) {
                Ok(n) if n > 0 => at += n as u64,
                _ => break,
            }
        }
        Done::Read(part)
    })
}

impl Worker {
    /// Has a helper do something for a connection. On error it is not done.
    pub(crate) fn help(&mut self, key: Key, job: Job) -> io::Result<()> {
        let helpers = if let Some(helpers) = &mut self.helpers {
            helpers
        } else {
            let helpers = Helpers::new(self.options.helper_threads)?;
            self.reactor.add(helpers.bell(), greenloom_sys::epoll::IN, u64::from(kind::HELPERS) << 56)?;
            self.helpers.insert(helpers)
        };
        helpers.run(key, job)
    }

    /// Helpers have done something.
    pub(crate) fn on_helpers(&mut self) {
        let Some(helpers) = &self.helpers else { return };
        for (key, done) in helpers.take_done() {
            match done {
                Done::Looked(found, notes) => self.looked(key, found, &notes),
                Done::Started(started) => self.script_started(key, started),
                Done::Read(part) => self.part_is_read(key, &part),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let mut helpers = Helpers::new(2).unwrap();
        let mut slots = crate::slots::Slots::default();
        let keys: Vec<Key> = (0..20).map(|_| slots.insert(())).collect();
        for &key in &keys {
            let job: Job = Box::new(|| Done::Looked(Ok(Found::Nothing), Vec::new()));
            helpers.run(key, job).unwrap();
        }
        assert!(helpers.threads <= 2);
        let mut seen = Vec::new();
        while seen.len() < keys.len() {
            process::wait_readable(&[helpers.shared.bell.as_fd()], Some(20_000)).unwrap();
            seen.extend(helpers.take_done().into_iter().map(|(key, _)| key));
        }
        seen.sort_by_key(|key| keys.iter().position(|other| other == key));
        assert_eq!(seen, keys);
    }
}
