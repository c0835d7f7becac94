//! When to program and when to look, as a value.

use std::time::Duration;

use crate::model::Timestamp;

/// Least time between the starts of two programmings. A rolling update changes endpoints many times
/// a second; 200 ms keeps the cost at a few percent of a core and the delay below what a user
/// notices. The first change goes at once.
const PROGRAM_INTERVAL: Duration = Duration::from_millis(200);

/// Time between two looks at the host: how long a flush by hand may last. A look costs about 50 ms
/// of CPU.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Least time between two looks that were asked for: a look after each start of a pod would add up.
const CHECK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Wait after the first failure; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest wait after a failure: another holder of the lock is usually gone by then.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Program the newest desired state.
    Program,
    /// Look at the host.
    Check,
}

/// What is known of past and coming work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// There is a desired state that is not programmed.
    waiting: bool,
    /// Earliest moment for the next programming.
    program_at: Timestamp,
    /// Earliest moment after a failure, unless something new is wanted.
    retry_at: Timestamp,
    failures: u32,
    /// When to look next; at once after the start.
    check_at: Timestamp,
    /// Earliest moment for a look that is asked for.
    check_from: Timestamp,
    /// The host was looked at once. Before, nothing is programmed: a connection that is sent to a
    /// pod while the host does not let it through stays lost.
    looked: bool,
}

impl Pace {
    /// Something new is wanted: it may succeed where the old failed, so back-off ends.
    pub(super) fn wanted(&mut self) {
        self.waiting = true;
        self.retry_at = self.program_at;
    }

    /// A look is asked for.
    pub(super) fn nudged(&mut self) {
        self.check_at = self.check_at.min(self.check_from);
    }

    /// A programming ended.
    pub(super) fn programmed(&mut self, done: bool, now: Timestamp) {
        self.waiting = !done;
        self.program_at = now + PROGRAM_INTERVAL;
        self.failures = if done { 0 } else { self.failures.saturating_add(1) };
        let doubled = RETRY_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(8));
        self.retry_at = now + if done { PROGRAM_INTERVAL } else { doubled.min(RETRY_MAX) };
    }

    /// A look ended.
    pub(super) fn checked(&mut self, now: Timestamp) {
        self.looked = true;
        self.check_at = now + CHECK_INTERVAL;
        self.check_from = now + CHECK_INTERVAL_MIN;
    }

    /// What is due.
    pub(super) fn due(&self, now: Timestamp) -> Option<Work> {
        if !self.looked {
            Some(Work::Check)
        } else if self.waiting && now >= self.retry_at {
            Some(Work::Program)
        } else if now >= self.check_at {
            Some(Work::Check)
        } else {
            None
        }
    }

    /// When something is due if nothing happens before.
    pub(super) fn wake_at(&self) -> Timestamp {
        if self.waiting { self.retry_at.min(self.check_at) } else { self.check_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: i64) -> Timestamp {
        Timestamp(ms)
    }

    #[test]
    fn the_first_goes_at_once_and_a_burst_becomes_one() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(ms(0)), Some(Work::Check));
        pace.checked(ms(5));
        assert_eq!(pace.due(ms(5)), None);
        pace.wanted();
        assert_eq!(pace.due(ms(6)), Some(Work::Program));
        pace.programmed(true, ms(10));
        pace.wanted();
        pace.wanted();
        assert_eq!(pace.due(ms(11)), None);
        assert_eq!(pace.wake_at(), ms(210));
        assert_eq!(pace.due(ms(210)), Some(Work::Program));
        pace.programmed(true, ms(220));
        assert_eq!(pace.due(ms(9_000)), None);
        assert_eq!(pace.due(ms(10_005)), Some(Work::Check));
    }

    /// The host lets packets to pods through before the first rule sends any there.
    #[test]
    fn the_host_is_looked_at_before_anything_is_programmed() {
        let mut pace = Pace::default();
        pace.wanted();
        assert_eq!(pace.due(ms(0)), Some(Work::Check));
        pace.checked(ms(5));
        assert_eq!(pace.due(ms(5)), Some(Work::Program));
    }

    #[test]
    fn failures_wait_longer_until_something_new_is_wanted() {
        let mut pace = Pace::default();
        pace.checked(ms(0));
        pace.wanted();
        let mut waits = vec![];
        for _ in 0..6 {
            pace.programmed(false, ms(0));
            waits.push(pace.retry_at.0);
        }
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        assert_eq!(pace.due(ms(999)), None);
        pace.wanted();
        assert_eq!(pace.due(ms(200)), Some(Work::Program));
    }

    #[test]
    fn a_nudge_brings_the_look_forward_but_not_too_often() {
        let mut pace = Pace::default();
        pace.checked(ms(0));
        pace.nudged();
        pace.nudged();
        assert_eq!(pace.due(ms(999)), None);
        assert_eq!(pace.due(ms(1_000)), Some(Work::Check));
    }
}
