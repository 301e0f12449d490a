//! A generation that does not get ready: an application that hangs while it is loaded, workers that fail again and again.
//!
//! Nobody waits for it for ever: what serves goes on serving, and once it has had its time a reload or an upgrade that
//! was asked for meanwhile takes its place. Without one it may take as long as it needs: applications know best.

use crate::generations::Occasion;
use crate::lifecycle::{Event, Life};
use crate::log::say;
use crate::master::{Coming, Master};

/// How long a generation may take before a reload takes its place: far longer than most applications need, so that a series of
/// quick reloads does not keep every single one from its end.
const PATIENCE_MS: u64 = 20_000;
/// One that is known to be slow has so many times what the last one needed.
const PATIENCE_FACTOR: u64 = 3;

/// How long a generation may take if the last one took `last_ms`.
fn patience_ms(last_ms: u64) -> u64 {
    last_ms.saturating_mul(PATIENCE_FACTOR).max(PATIENCE_MS)
}

impl Master<'_> {
    /// When the generation that is coming has had its time. `None`: it may go on, nobody asks for another one.
    pub(crate) fn hanging_at_ms(&self) -> Option<u64> {
        let asked = self.reload_again || self.upgrade_waits();
        let coming = self.coming.as_ref().filter(|coming| asked && coming.number.is_some())?;
        Some(coming.at_ms.saturating_add(patience_ms(self.last_load_ms)))
    }

    /// Gives up a generation that has had its time, for the reload that was asked for.
    pub(crate) fn replace_the_hanging(&mut self, now_ms: u64) {
        if self.hanging_at_ms().is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        let Some((number, at_ms, occasion, settings)) = self.coming.as_ref().and_then(|coming| {
            Some((coming.number?, coming.at_ms, coming.occasion, coming.settings.clone()))
        }) else {
            return;
        };
        let seconds = now_ms.saturating_sub(at_ms) / 1000;
        let why =
            format!("generation {number} was not ready after {seconds} s, and another one is asked for");
        if let Some(g) = self.index_of(number) {
            let generation = &mut self.generations[g];
            for index in 0..generation.workers.len() {
                let accepts = matches!(generation.workers[index].lifecycle.life(), Life::Accepting { .. });
                // Those that serve do so until somebody else does.
                let event = if accepts { Event::Retire } else { Event::LeaveNow };
                generation.feed(index, event, now_ms);
            }
        }
        if occasion == Occasion::Reload {
            return self.coming_failed(&why, 1, 0, now_ms);
        }
        say!("{why}");
        self.coming = Some(Coming { occasion, settings, at_ms: now_ms, number: None });
        self.reload_again_if_asked(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_have_more_time() {
        assert_eq!(patience_ms(0), PATIENCE_MS);
        assert_eq!(patience_ms(PATIENCE_MS), 3 * PATIENCE_MS);
        assert_eq!(patience_ms(u64::MAX), u64::MAX);
    }
}
