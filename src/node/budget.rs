//! How often the agent may say something about one pod.
//!
//! Each event is an entry of the log and a write on every server's disk; a probe that fails each
//! second must not fill it.

use std::time::Duration;

use crate::model::Timestamp;

/// How many events a pod may give at once (as client-go's filter against spam).
pub const BURST: u32 = 25;
/// How long it takes until one more may be given (as there).
pub const REFILL: Duration = Duration::from_secs(300);

/// The events a pod may still give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    left: u32,
    /// When the last one that was refilled came in.
    since: Timestamp,
}

impl Budget {
    /// A full one.
    pub fn new(now: Timestamp) -> Self {
        Self { left: BURST, since: now }
    }

    /// Takes one event out; tells whether there was one.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let refill = REFILL.as_millis() as i64;
        let earned = (now.0 - self.since.0).max(0) / refill;
        self.left = u32::try_from(earned).unwrap_or(BURST).saturating_add(self.left).min(BURST);
        // A full budget earns nothing, and a clock that was set back earns anew.
        self.since = match self.left {
            BURST => now,
            _ => Timestamp(self.since.0.min(now.0) + earned * refill),
        };
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of an event each second are told in so many seconds.
    fn told(seconds: i64) -> usize {
        let mut budget = Budget::new(Timestamp(0));
        (0..seconds).filter(|second| budget.take(Timestamp(second * 1000))).count()
    }

    #[test]
    fn a_pod_that_repeats_itself_is_heard_less_and_less() {
        assert_eq!([told(10), told(25), told(290), told(3600)], [10, 25, 25, 25 + 11]);
    }

    #[test]
    fn a_quiet_pod_has_all_of_it_again_and_no_more() {
        let mut budget = Budget::new(Timestamp(0));
        let taken = (0..50).filter(|_| budget.take(Timestamp(0))).count();
        assert_eq!(taken, BURST as usize);
        let later = Timestamp(1_000_000_000);
        assert_eq!((0..50).filter(|_| budget.take(later)).count(), BURST as usize);
    }

    #[test]
    fn a_clock_that_is_set_back_neither_gives_nor_takes_for_ever() {
        let mut budget = Budget::new(Timestamp(10_000_000));
        let taken = (0..50).filter(|_| budget.take(Timestamp(10_000_000))).count();
        assert_eq!(taken, BURST as usize);
        assert!(!budget.take(Timestamp(0)));
        assert!(budget.take(Timestamp(300_000)));
    }
}
