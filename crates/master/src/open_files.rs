//! The limit of open files: every connection is one, and so is every file the application opens.

use greenloom_config::Settings;
use greenloom_sys::limits::{self, OpenFiles};

use crate::error::MasterError;

/// Without `--max-fd` the limit is raised to this, if the hard limit allows: the usual 1024 exists for `select(2)`, and
/// is less than the connections one worker is meant to hold. Not higher: programs that close every possible
/// descriptor one by one take their time with a limit of a thousand million.
const ENOUGH: u64 = 65_536;

/// Sets the limit for this process and those it starts.
///
/// # Errors
/// `--max-fd` is above the hard limit and the process may not raise that.
pub fn adjust(settings: &Settings) -> Result<(), MasterError> {
    let limit = limits::open_files();
    if let Some(asked) = settings.limits.max_fd {
        return limits::set_open_files(asked).map_err(|reason| MasterError::OpenFiles {
            asked,
            hard: limit.hard,
            reason,
        });
    }
    if let Some(soft) = wanted(limit) {
        // A limit that cannot be raised stays as it is: the banner shows it.
        let _ = limits::set_open_files(soft);
    }
    Ok(())
}

fn wanted(limit: OpenFiles) -> Option<u64> {
    let soft = limit.soft?;
    let possible = limit.hard.unwrap_or(ENOUGH).min(ENOUGH);
    (possible > soft).then_some(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_within_reason() {
        let limit = |soft, hard| OpenFiles { soft, hard };
        assert_eq!(wanted(limit(Some(1024), Some(4096))), Some(4096));
        assert_eq!(wanted(limit(Some(1024), Some(1_000_000_000))), Some(ENOUGH));
        assert_eq!(wanted(limit(Some(1024), None)), Some(ENOUGH));
        assert_eq!(wanted(limit(Some(100_000), Some(200_000))), None, "never lowered");
        assert_eq!(wanted(limit(None, None)), None);
    }
}
