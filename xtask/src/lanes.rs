//! Jobs side by side: each goes into the first lane that is free, in the order of the list.
//!
//! Owns who runs when, and that every job runs whatever became of the others. What a job is, and what
//! its result means, is the caller's.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Runs `run` for every job, at most `lanes` at once. `ended` gets each result as soon as it is there,
/// one at a time, on the caller's thread; `None` for a job that panicked.
pub(crate) fn side_by_side<J: Sync, R: Send>(
    lanes: usize,
    jobs: &[J],
    run: impl Fn(&J) -> R + Sync,
    mut ended: impl FnMut(&J, Option<R>),
) {
    let next = AtomicUsize::new(0);
    let (results, arrived) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..lanes.min(jobs.len()) {
            let (next, run, results) = (&next, &run, results.clone());
            scope.spawn(move || {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = panic::catch_unwind(AssertUnwindSafe(|| run(job))).ok();
                    if results.send((job, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        for (job, result) in arrived {
            ended(job, result);
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn every_job_runs_once_whatever_became_of_the_others() {
        let mut found = Vec::new();
        side_by_side(
            2,
            &[1, 2, 3, 4, 5],
            |job| {
                assert!(*job != 2, "one that panics");
                job * 10
            },
            |job, result| found.push((*job, result)),
        );
        found.sort_unstable();
        assert_eq!(found, [(1, Some(10)), (2, None), (3, Some(30)), (4, Some(40)), (5, Some(50))]);
    }

    #[test]
    fn as_many_run_at_once_as_there_are_lanes() {
        // Each waits for two others: with fewer lanes this would never end.
        let together = Barrier::new(3);
        let mut ended = 0;
        side_by_side(3, &[(); 6], |()| together.wait().is_leader(), |(), _| ended += 1);
        assert_eq!(ended, 6);
    }

    #[test]
    fn one_lane_keeps_the_order() {
        let mut found = Vec::new();
        side_by_side(1, &["a", "b", "c"], |job| *job, |_, result| found.extend(result));
        assert_eq!(found, ["a", "b", "c"]);
    }
}
