//! Time as a value.

use std::{fmt, ops, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since 1970 (UTC). Shells read the clock; everything that decides is
/// given one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The moment `seconds` later (earlier when negative).
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// As Kubernetes writes it: RFC 3339 in UTC, whole seconds.
    pub fn to_time(self) -> Time {
        let whole = self.0.div_euclid(1000);
        Time(k8s_openapi::jiff::Timestamp::from_second(whole).unwrap_or_default())
    }

    /// With microseconds, as leases and events carry it.
    pub fn to_micro_time(self) -> MicroTime {
        MicroTime(k8s_openapi::jiff::Timestamp::from_millisecond(self.0).unwrap_or_default())
    }
}

impl From<&Time> for Timestamp {
    fn from(time: &Time) -> Self {
        Self(time.0.as_millisecond())
    }
}

impl From<&MicroTime> for Timestamp {
    fn from(time: &MicroTime) -> Self {
        Self(time.0.as_millisecond())
    }
}

impl ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_time().0.fmt(f)
    }
}
