//! A new program for the master, without a moment in which nobody listens: the process execs the program again and finds
//! its children, listeners and sockets where they were. Then it reloads, so that everybody runs the new program.
//!
//! ```text
//! ask:   PROGRAM ARGUMENTS --check, with the version of what would be saved     (a child; a refusal changes nothing)
//! save:  everything that is a number or a descriptor, as JSON in an unnamed file
//! exec:  the same process id; posix signals are blocked until the new program has its handlers
//! adopt: descriptors claimed, workers taken for what they were, then a reload
//! ```
//!
//! What belongs to a configuration is not saved: the new program reads it anew.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::Command as Program;
use std::rc::Rc;

use greenloom_config::Settings;
use greenloom_sys::process::{self, Ending, Pid};
use greenloom_sys::signals;
use serde::{Deserialize, Serialize};

use crate::application::Handover;
use crate::commands::Asker;
use crate::error::MasterError;
use crate::generations::{Generation, SavedWorker, Stage, Worker};
use crate::lifecycle::{Life, Process};
use crate::listeners::{Listeners, SavedListener};
use crate::log::say;
use crate::master::{Master, Phase, Recipe};
use crate::scoreboard::{Count, Scoreboard, Totals};
use crate::status::{Endpoint, SavedEndpoint};
use crate::user_locks::UserLocks;

/// Holds the number of the descriptor that the saved state is in.
const STATE_VARIABLE: &str = "GREENLOOM_MASTER_STATE";
/// Holds [`VERSION`] for a program that is asked whether it could take over.
const CHECK_VARIABLE: &str = "GREENLOOM_UPGRADE_FROM";
/// Version of [`Saved`].
const VERSION: u32 = 1;

/// An upgrade under way.
#[derive(Debug)]
pub(crate) struct Upgrade {
    asker: Asker,
    /// The child that is asked; `None` when it has said yes.
    check: Option<Pid>,
}

/// Everything the next program has to know.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u32,
    /// The process that saved it: a child that inherits the variable by mistake is another one.
    pid: i32,
    last_number: u32,
    serving: Option<u32>,
    drained: bool,
    handover: (RawFd, RawFd),
    totals: RawFd,
    locks: RawFd,
    listeners: Vec<SavedListener>,
    status: Vec<SavedEndpoint>,
    generations: Vec<SavedGeneration>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedGeneration {
    number: u32,
    /// Process id, and since when.
    process: Option<(i32, u64)>,
    channel: Option<RawFd>,
    kill_at_ms: Option<u64>,
    scoreboard: RawFd,
    processes: u32,
    workers: Vec<SavedWorker>,
}

/// What this process was before its program was replaced.
#[derive(Debug)]
pub struct Adoption {
    saved: Saved,
}

impl Adoption {
    /// Reads and removes the variable. `None`: this is an ordinary start.
    ///
    /// To be called before the process has other threads.
    pub fn take() -> Result<Option<Self>, MasterError> {
        let Some(value) = process::take_variable(STATE_VARIABLE) else { return Ok(None) };
        let fail = |reason: String| MasterError::Inheritance { reason };
        let number = value.to_str().and_then(|text| text.parse().ok());
        let number: RawFd = number.ok_or_else(|| fail(format!("{STATE_VARIABLE} is {}", value.display())))?;
        let file = process::claim_inherited(number)
            .map_err(|error| fail(format!("descriptor {number} is not there ({error})")))?;
        let mut text = String::new();
        std::fs::File::from(file)
            .read_to_string(&mut text)
            .map_err(|error| fail(format!("the saved state cannot be read ({error})")))?;
        let saved: Saved = serde_json::from_str(&text)
            .map_err(|error| fail(format!("the saved state is of another version ({error})")))?;
        Ok((saved.pid == Pid::current().get()).then_some(Self { saved }))
    }

    /// What a program that is only asked (`--check`) would refuse; whether it was asked. To be called with the same patience
    /// as [`Self::take`].
    pub fn check() -> Result<bool, MasterError> {
        match process::take_variable(CHECK_VARIABLE) {
            None => Ok(false),
            Some(version) if version != OsString::from(VERSION.to_string()) => {
                Err(MasterError::Inheritance {
                    reason: format!(
                        "the running master saves version {}, this program reads version {VERSION}: stop it and start anew",
                        version.display()
                    ),
                })
            }
            Some(_) => Ok(true),
        }
    }

    /// Takes the listeners over.
    pub(crate) fn listeners(&self) -> Result<Listeners, MasterError> {
        Listeners::adopt(&self.saved.listeners)
    }

    /// Takes the sockets of statistics, metrics and commands over.
    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, MasterError> {
        self.saved.status.iter().map(SavedEndpoint::adopt).collect()
    }

    /// Takes the processes over, into a master that was just made.
    pub(crate) fn adopt_into(self, master: &mut Master<'_>) -> Result<(), MasterError> {
        let saved = self.saved;
        master.handover = Handover { give: claim(saved.handover.0)?, take: claim(saved.handover.1)? };
        master.totals = Totals::open(claim(saved.totals)?).map_err(MasterError::system("map the totals"))?;
        master.totals.count(Count::Upgrades);
        master.locks =
            UserLocks::open(claim(saved.locks)?).map_err(MasterError::system("map the user locks"))?;
        master.last_number = saved.last_number;
        master.serving = saved.serving;
        master.drained = saved.drained;
        master.phase = Phase::Serving;
        for generation in saved.generations {
            let mut adopted = generation.adopt(&master.settings)?;
            if saved.serving == Some(adopted.number) && adopted.process.is_some() {
                // Those that waited for their next process were not saved; the reload that follows may fail.
                adopted.fill_up();
            }
            master.generations.push(adopted);
        }
        // The new program serves what the old one served.
        if let Some(g) = master.serving.and_then(|number| master.index_of(number)) {
            master.settings = Rc::clone(&master.generations[g].settings);
        }
        Ok(())
    }
}

impl SavedGeneration {
    fn of(generation: &Generation) -> Self {
        Self {
            number: generation.number,
            process: generation.process.map(|process| (process.pid.get(), process.since_ms)),
            channel: generation.channel().map(AsRawFd::as_raw_fd),
            kill_at_ms: generation.kill_at_ms,
            scoreboard: generation.scoreboard.as_fd().as_raw_fd(),
            processes: generation.settings.processes,
            workers: generation.workers.iter().filter_map(Worker::saved).collect(),
        }
    }

    fn adopt(self, settings: &Settings) -> Result<Generation, MasterError> {
        let scoreboard =
            Scoreboard::open(claim(self.scoreboard)?).map_err(MasterError::system("map the scoreboard"))?;
        let settings = Rc::new(Settings { processes: self.processes, ..settings.clone() });
        let process =
            self.process.and_then(|(pid, since_ms)| Some(Process { pid: Pid::new(pid)?, since_ms }));
        let workers = self.workers.into_iter().filter_map(|saved| Worker::adopt(saved, claim).transpose());
        Ok(Generation {
            number: self.number,
            stage: Stage::Serving,
            settings,
            scoreboard,
            process,
            channel: self.channel.map(claim).transpose()?,
            kill_at_ms: self.kill_at_ms,
            workers: workers.collect::<Result<_, _>>()?,
        })
    }
}

fn claim(fd: RawFd) -> Result<OwnedFd, MasterError> {
    process::claim_inherited(fd).map_err(|error| MasterError::Inheritance {
        reason: format!("descriptor {fd} is not there ({error})"),
    })
}

impl Master<'_> {
    /// Asks the program on disk whether it could take over; the rest follows when it has answered.
    pub(crate) fn upgrade(&mut self, asker: Asker) {
        if self.phase != Phase::Serving {
            return asker.answer(Err("only an instance that serves can be upgraded".to_owned()));
        }
        if self.upgrade.is_some() {
            return asker.answer(Err("an upgrade is under way".to_owned()));
        }
        let checked = Program::new(self.recipe.program)
            .args(self.recipe.arguments)
            .arg("--check")
            .env(CHECK_VARIABLE, VERSION.to_string())
            .current_dir(self.recipe.directory)
            .spawn();
        let pid = checked.map(|child| i32::try_from(child.id()).ok().and_then(Pid::new));
        match pid {
            Ok(check) => {
                say!("upgrade: asking {} whether it could take over", self.recipe.program.display());
                self.upgrade = Some(Upgrade { asker, check });
            }
            Err(error) => {
                let why = format!("cannot start {}: {error}", self.recipe.program.display());
                say!("upgrade refused: {why}");
                asker.answer(Err(why));
            }
        }
    }

    /// A child that is no worker and no generation has ended: the program that was asked, perhaps.
    pub(crate) fn upgrade_check_ended(&mut self, pid: Pid, ending: Ending) {
        let Some(upgrade) = self.upgrade.take_if(|upgrade| upgrade.check == Some(pid)) else { return };
        if ending == Ending::Exited(0) {
            self.upgrade = Some(Upgrade { check: None, ..upgrade });
        } else {
            say!("upgrade refused: the program on disk does not start with this configuration; see above");
            upgrade.asker.answer(Err("the program on disk refuses; the log says why".to_owned()));
        }
    }

    /// Replaces the program if somebody wants that, the new one is willing, and nothing is in the middle of a change.
    pub(crate) fn upgrade_if_possible(&mut self, now_ms: u64) {
        // A generation that only waits for its next attempt may fail for the very reason of the upgrade.
        let starts = self.coming.as_ref().is_some_and(|coming| coming.number.is_some());
        if !self.upgrade_waits() || self.phase != Phase::Serving || starts {
            return;
        }
        let settled = |worker: &Worker| {
            !matches!(worker.lifecycle.life(), Life::Forking { .. } | Life::Starting { .. })
        };
        if !self.generations.iter().flat_map(|generation| &generation.workers).all(settled) {
            return;
        }
        // From here on posix signals wait for the new program. Those that were caught before would be lost with this one.
        if let Err(error) = signals::block_all() {
            return say!("upgrade failed: {error}; the old program goes on");
        }
        let caught = self.signals.take();
        if !caught.is_empty() {
            Self::let_signals_through();
            for signal in caught {
                self.signal(signal, now_ms);
            }
            self.reap(now_ms);
            // One of them may have been a stop.
            return self.upgrade_if_possible(now_ms);
        }
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.asker.answer(Ok("the program is replaced now; a reload follows".to_owned()));
        }
        let error = match self.exec() {
            Ok(error) | Err(error) => error,
        };
        Self::let_signals_through();
        say!("upgrade failed: {error}; the old program goes on");
    }

    /// Whether an upgrade only waits for the end of another change.
    pub(crate) fn upgrade_waits(&self) -> bool {
        self.upgrade.as_ref().is_some_and(|upgrade| upgrade.check.is_none())
    }

    fn let_signals_through() {
        // It fails only for arguments that do not exist.
        let _ = signals::unblock_all();
    }

    /// Returns only when it fails.
    fn exec(&self) -> std::io::Result<std::io::Error> {
        let saved = Saved {
            version: VERSION,
            pid: Pid::current().get(),
            last_number: self.last_number,
            serving: self.serving,
            drained: self.drained,
            handover: (self.handover.give.as_raw_fd(), self.handover.take.as_raw_fd()),
            totals: self.totals.as_fd().as_raw_fd(),
            locks: self.locks.as_fd().as_raw_fd(),
            listeners: self.listeners.saved(),
            status: self.status.saved(),
            generations: self.generations.iter().map(SavedGeneration::of).collect(),
        };
        let state = process::unnamed_file("greenloom-master", &serde_json::to_vec(&saved)?)?;
        let bound = self.listeners.bound();
        let mut inherited: Vec<BorrowedFd<'_>> = vec![
            state.as_fd(),
            self.totals.as_fd(),
            self.locks.as_fd(),
            self.handover.give.as_fd(),
            self.handover.take.as_fd(),
        ];
        inherited.extend(bound.iter().map(|bound| bound.listener.fd.as_fd()));
        inherited.extend(self.status.descriptors());
        for generation in &self.generations {
            inherited.push(generation.scoreboard.as_fd());
            inherited.extend(generation.channel().map(|fd| fd.as_fd()));
            inherited.extend(generation.workers.iter().flat_map(Worker::descriptors));
        }
        say!("upgrade: replacing the program of the master (pid: {})", Pid::current());
        std::env::set_current_dir(self.recipe.directory)?;
        let number = OsString::from(state.as_raw_fd().to_string());
        // Only for the new program: they are in the environment of nothing else.
        let mut variables = vec![(STATE_VARIABLE, number.as_os_str())];
        variables.extend(self.notifier.variables().iter().map(|(name, value)| (*name, value.as_os_str())));
        let Recipe { program, arguments, .. } = self.recipe;
        Ok(process::replace_program(program, arguments, &variables, &inherited))
    }
}
