//! What the master can be asked to do, whoever asks: posix signals, the control socket, the command pipe, the application.

use std::fmt;

/// One request to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Read the configuration anew, load the application in a new generation, and let that one take over.
    Reload,
    /// Stop when the requests in flight have ended; a second time: at once.
    Stop,
    /// Stop without waiting for anything.
    StopNow,
    /// Replace the master's own program, then reload.
    Upgrade,
    /// Open the log file anew.
    ReopenLog,
    /// Have the workers print what their requests do.
    Stacks,
    /// Print the numbers of the instance.
    Statistics,
    /// More or fewer workers.
    Workers(Change),
    /// Whether readiness says no, while everything else goes on.
    Drain(bool),
    /// Write the pid file anew.
    WritePidfile,
}

/// A change of the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// So many more, or fewer.
    By(i32),
    /// So many.
    To(u32),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload"),
            Self::Stop => f.write_str("stop"),
            Self::StopNow => f.write_str("stop at once"),
            Self::Upgrade => f.write_str("upgrade"),
            Self::ReopenLog => f.write_str("reopen the log"),
            Self::Stacks => f.write_str("stacks"),
            Self::Statistics => f.write_str("statistics"),
            Self::Workers(Change::By(more)) => write!(f, "workers {more:+}"),
            Self::Workers(Change::To(count)) => write!(f, "workers {count}"),
            Self::Drain(true) => f.write_str("drain"),
            Self::Drain(false) => f.write_str("undrain"),
            Self::WritePidfile => f.write_str("write the pid file"),
        }
    }
}

/// How a command went: a line for whoever asked, or why it could not be done.
pub(crate) type Answer = Result<String, String>;

/// Who waits for an answer.
pub(crate) struct Asker(Option<Box<dyn FnOnce(Answer)>>);

impl Asker {
    /// Nobody: the log says what happens.
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    /// Somebody.
    pub(crate) fn somebody(answer: impl FnOnce(Answer) + 'static) -> Self {
        Self(Some(Box::new(answer)))
    }

    /// Tells how it went.
    pub(crate) fn answer(self, answer: Answer) {
        if let Some(tell) = self.0 {
            tell(answer);
        }
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "somebody" } else { "nobody" })
    }
}
