//! The clock, read in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::Timestamp;

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The monotonic moment at which the wall clock will show `at`, at most a day away: timers are set
/// anew after that.
pub(super) fn instant_of(at: Timestamp) -> Instant {
    Instant::now() + at.since(now()).min(Duration::from_secs(86_400))
}
