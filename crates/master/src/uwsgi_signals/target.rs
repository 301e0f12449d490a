//! Who runs a signal's handler: the texts applications write, and what they stand for here.

use std::fmt;

/// Who runs a signal's handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// One worker, whichever: an empty text, `worker`, `worker0`.
    Any,
    /// The worker of this number, which is at least 1.
    Worker(u32),
    /// Every worker. One that is being replaced gets it as soon as its new process accepts.
    Workers,
    /// Every worker that accepts at the moment.
    ActiveWorkers,
}

impl Target {
    /// What `text` stands for.
    ///
    /// # Errors
    /// Why it stands for nobody.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number_behind = |word: &str| {
            let digits = text.strip_prefix(word)?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()).flatten()
        };
        match text {
            "" | "worker" => return Ok(Self::Any),
            "workers" => return Ok(Self::Workers),
            "active-workers" => return Ok(Self::ActiveWorkers),
            _ => {}
        }
        if let Some(number) = number_behind("worker") {
            return Ok(if number == 0 { Self::Any } else { Self::Worker(number) });
        }
        for (word, whose) in [("mule", "mules"), ("farm", "farms of mules"), ("spooler", "a spooler")] {
            if text.starts_with(word) {
                return Err(format!(
                    "signal target {text:?}: greenloom has no {whose}; a handler on a worker may suspend and blocks \
                     no request, so use worker, workers or workerN"
                ));
            }
        }
        Err(format!(
            "UNSUPPORTED SIGNAL TARGET: {text:?}; there are an empty text (any worker), worker, worker1 and so on, \
             workers, active-workers"
        ))
    }
}

/// As a line of the log has it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("default, any worker"),
            Self::Worker(number) => write!(f, "worker{number}"),
            Self::Workers => f.write_str("workers"),
            Self::ActiveWorkers => f.write_str("active-workers"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_what_they_stand_for() {
        for text in ["", "worker", "worker0", "worker00"] {
            assert_eq!(Target::parse(text), Ok(Target::Any), "{text}");
        }
        assert_eq!(Target::parse("worker2"), Ok(Target::Worker(2)));
        assert_eq!(Target::parse("worker017"), Ok(Target::Worker(17)));
        assert_eq!(Target::parse("workers"), Ok(Target::Workers));
        assert_eq!(Target::parse("active-workers"), Ok(Target::ActiveWorkers));
    }

    #[test]
    fn what_is_not_here_is_refused_with_what_is() {
        for text in ["mule", "mule0", "mule2", "mules", "farm1", "farm_name", "spooler"] {
            let reason = Target::parse(text).unwrap_err();
            assert!(reason.contains(text) && reason.contains("greenloom has no"), "{reason}");
        }
        for text in
            ["subscribed", "Worker", "worker-1", "worker+1", "worker 1", "worker1x", "worker99999999999"]
        {
            let reason = Target::parse(text).unwrap_err();
            assert!(reason.contains("UNSUPPORTED") && reason.contains(text), "{reason}");
        }
    }
}
