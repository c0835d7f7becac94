//! How long a failed thing waits before it is tried again.

use std::time::Duration;

/// The delay after the first failure that delays (the very first restart is immediate, as the
/// kubelet does it).
pub const FIRST: Duration = Duration::from_secs(10);
/// The longest delay.
pub const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran this long is forgiven: its next restart is immediate again.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The delay that follows `delay`: nothing, 10 s, 20 s, … 5 min
/// (kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle, "How Pods handle problems with
/// containers").
pub fn after(delay: Duration) -> Duration {
    if delay.is_zero() { FIRST } else { (delay * 2).min(LONGEST) }
}

/// The delay before the restart of a container that was started with `delay` behind it and ran for
/// `ran`.
pub fn before_restart(delay: Duration, ran: Duration) -> Duration {
    if ran >= FORGIVEN_AFTER { Duration::ZERO } else { delay.min(LONGEST) }
}

/// The delay after `failures` failures in a row of something without a record of its own (a pull, a
/// create).
pub fn of_failures(failures: u32) -> Duration {
    (FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(6))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_ten_seconds_to_five_minutes_and_forgives_a_good_run() {
        let mut delay = Duration::ZERO;
        let mut seen = vec![];
        for _ in 0..8 {
            seen.push(before_restart(delay, Duration::from_secs(1)).as_secs());
            delay = after(delay);
        }
        assert_eq!(seen, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(before_restart(delay, Duration::from_secs(599)), LONGEST);
        assert_eq!(before_restart(delay, Duration::from_secs(600)), Duration::ZERO);
    }

    #[test]
    fn failures_without_a_record_wait_at_least_ten_seconds() {
        let secs: Vec<_> = (1..=7).map(|n| of_failures(n).as_secs()).collect();
        assert_eq!(secs, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(of_failures(u32::MAX), LONGEST);
    }
}
