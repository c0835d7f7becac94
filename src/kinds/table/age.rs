//! How long something took or is ago, in the few characters that a table has for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::Value;

use crate::model::{Object, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
/// Clocks of two machines may differ this much before a moment counts as lying in the future.
const SKEW_SECONDS_MAX: i64 = 2;

/// A length of time as Kubernetes prints ages: `119s`, `2m5s`, `179m`, `3h1m`, `47h`, `2d1h`, `8d`,
/// `2y1d`; two units while the larger one is small.
pub fn duration(seconds: i64) -> String {
    let two = |large: i64, small: i64, names: [&str; 2]| match (seconds % large) / small {
        0 => format!("{}{}", seconds / large, names[0]),
        rest => format!("{}{}{rest}{}", seconds / large, names[0], names[1]),
    };
    match seconds {
        s if s < -SKEW_SECONDS_MAX => "<invalid>".to_owned(),
        s if s < 0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(MINUTE, 1, ["m", "s"]),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(HOUR, MINUTE, ["h", "m"]),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(DAY, HOUR, ["d", "h"]),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(YEAR, DAY, ["y", "d"]),
        s => format!("{}y", s / YEAR),
    }
}

/// How long before `now` a moment was.
pub(in crate::kinds) fn since(moment: Timestamp, now: Timestamp) -> String {
    duration(now.0.saturating_sub(moment.0).div_euclid(1000))
}

/// The age of an object.
pub(super) fn age(object: &Object, now: Timestamp) -> Value {
    ago(object.meta().creation_timestamp.as_ref(), now).into()
}

/// How long ago a moment was; `<unknown>` when there is none.
pub(super) fn ago(moment: Option<&Time>, now: Timestamp) -> String {
    moment.map_or_else(|| "<unknown>".to_owned(), |t| since(t.into(), now))
}

/// As [`ago`], of a finer moment.
pub(super) fn micro_ago(moment: Option<&MicroTime>, now: Timestamp) -> String {
    moment.map_or_else(|| "<unknown>".to_owned(), |t| since(t.into(), now))
}
