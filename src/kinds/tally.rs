//! How many commits there were, counted so that it only grows though State forgets old ones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommitState, CommitStatus};

/// Bounds of the buckets of how long commits take, in seconds.
pub const COMMIT_SECONDS: [f64; 10] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Commits by what became of them, each counted once it is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CommitTally {
    /// Those that became healthy or made place for a later one.
    pub succeeded: u64,
    /// Those that were not taken.
    pub refused: u64,
    /// Those whose rollout failed, by the reason.
    pub failed: BTreeMap<String, u64>,
    /// Those that took at most as long as the bound with the same place, and all that took longer.
    pub took: Vec<u64>,
    /// What they took together, in milliseconds.
    pub took_ms: i64,
}

impl CommitTally {
    /// Adds a commit, and those that its status stands for.
    pub fn add(&mut self, status: &CommitStatus) {
        match status.state {
            CommitState::Refused => self.refused += 1,
            _ if status.failure.is_some() => {
                *self.failed.entry(status.reason.clone()).or_default() += 1;
            }
            CommitState::Superseded => self.succeeded += 1,
            _ if status.timings.healthy_at.is_some() => self.succeeded += 1,
            _ => {}
        }
        let timings = &status.timings;
        // Whichever came first stays: what recovers later was over before.
        let end = timings.healthy_at.into_iter().chain(timings.failed_at).min();
        if let (Some(start), Some(end)) = (timings.seen_at, end) {
            self.add_time(end.saturating_sub(start).max(0));
        }
        if let Some(before) = &status.before {
            self.join(before);
        }
    }

    fn add_time(&mut self, ms: i64) {
        let within = |bound: &f64| ms as f64 <= bound * 1000.0;
        let bucket = COMMIT_SECONDS.iter().position(within).unwrap_or(COMMIT_SECONDS.len());
        self.took.resize(COMMIT_SECONDS.len() + 1, 0);
        self.took[bucket] += 1;
        self.took_ms += ms;
    }

    fn join(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.refused += other.refused;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason.clone()).or_default() += count;
        }
        self.took.resize(self.took.len().max(other.took.len()), 0);
        self.took.iter_mut().zip(&other.took).for_each(|(own, more)| *own += more);
        self.took_ms += other.took_ms;
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{CommitFailure, CommitTimings};

    fn status(state: CommitState, times: [Option<i64>; 3]) -> CommitStatus {
        let [seen_at, healthy_at, failed_at] = times;
        let timings = CommitTimings { seen_at, healthy_at, failed_at, ..CommitTimings::default() };
        CommitStatus { state, timings, ..CommitStatus::default() }
    }

    fn told(tally: &CommitTally) -> (u64, u64, u64, u64, i64) {
        let (failed, took) = (tally.failed.values().sum(), tally.took.iter().sum());
        (tally.succeeded, failed, tally.refused, took, tally.took_ms)
    }

    /// What must not happen: a count that falls while a commit goes its way.
    #[test]
    fn a_commit_counts_once_it_is_over_and_stays_counted() {
        use CommitState::{Admitted, Degraded, Healthy, Progressing, Refused, Superseded};
        let check = |status: CommitStatus, expect| {
            let mut tally = CommitTally::default();
            tally.add(&status);
            assert_eq!(told(&tally), expect, "{status:?}");
        };
        let (start, end, late) = (Some(1_000), Some(3_000), Some(9_000));
        check(status(Admitted, [start, None, None]), (0, 0, 0, 0, 0));
        check(status(Progressing, [start, None, None]), (0, 0, 0, 0, 0));
        check(status(Healthy, [start, end, None]), (1, 0, 0, 1, 2_000));
        check(status(Degraded, [start, end, late]), (1, 0, 0, 1, 2_000));
        check(status(Superseded, [start, end, None]), (1, 0, 0, 1, 2_000));
        check(status(Refused, [start, None, end]), (0, 0, 1, 1, 2_000));
        // Late, and well after all.
        check(status(Degraded, [start, None, end]), (0, 0, 0, 1, 2_000));
        check(status(Healthy, [start, late, end]), (1, 0, 0, 1, 2_000));
        let failure = Some(CommitFailure::default());
        let failed = CommitStatus { failure, ..status(Degraded, [start, None, end]) };
        check(failed, (0, 1, 0, 1, 2_000));
    }

    #[test]
    fn what_was_forgotten_is_counted_with_what_stands_for_it() {
        let (mut first, mut all) = (CommitTally::default(), CommitTally::default());
        first.add(&status(CommitState::Healthy, [Some(0), Some(700_000), None]));
        first.add(&status(CommitState::Refused, [None; 3]));
        assert_eq!(first.took.last(), Some(&1), "longer than the last bound");
        let mut next = status(CommitState::Healthy, [Some(0), Some(100), None]);
        next.before = Some(first);
        all.add(&next);
        assert_eq!(told(&all), (2, 0, 1, 2, 700_100));
        assert_eq!(all.took, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
