//! Objects as rows of the server's table, which is what `kubectl get` prints
//! (kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables).

use serde_json::{Value, json};

use super::{answer, options::Query};
use crate::{
    api::Failure,
    kinds::KindInfo,
    model::{Object, Timestamp},
};

/// What a row holds beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl Include {
    pub(super) fn of(query: &Query) -> Result<Self, Failure> {
        match query.get("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Failure::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: \
                 must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// The columns of a kind, as the definitions in a table.
fn columns(_info: &KindInfo) -> Value {
    json!([
        {
            "name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": "Name must be unique within a namespace.",
        },
        {
            "name": "Age", "type": "string", "format": "", "priority": 0,
            "description": "How long ago the object was created.",
        },
    ])
}

/// The cells of one object.
fn cells(_info: &KindInfo, object: &Object, now: Timestamp) -> Value {
    let created = object.meta().creation_timestamp.as_ref().map(Timestamp::from);
    let age = created.map_or_else(|| "<unknown>".to_owned(), |at| age(now.0 - at.0));
    json!([object.key().name, age])
}

/// A table up to its first row.
pub(super) fn head(info: &KindInfo, version: &str, meta: &str) -> Vec<u8> {
    let columns = columns(info);
    format!(
        r#"{{"kind":"Table","apiVersion":"{version}","metadata":{meta},"columnDefinitions":{columns},"rows":["#
    )
    .into_bytes()
}

/// As [`head`], for a watch that has sent the columns before.
pub(super) fn later_head(version: &str, meta: &str) -> Vec<u8> {
    format!(
        r#"{{"kind":"Table","apiVersion":"{version}","metadata":{meta},"columnDefinitions":null,"rows":["#
    )
    .into_bytes()
}

/// One row.
pub(super) fn row(
    info: &KindInfo,
    include: Include,
    object: &Object,
    now: Timestamp,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(
        format!(r#"{{"cells":{},"object":"#, cells(info, object, now)).as_bytes(),
    );
    match include {
        Include::None => out.extend_from_slice(b"null"),
        Include::Metadata => out.extend(answer::metadata_of(object)),
        Include::Object => out.extend_from_slice(object.bytes()),
    }
    out.push(b'}');
}

/// A span in the two largest units that still say something, as kubectl writes ages.
pub(super) fn age(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |large: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}
