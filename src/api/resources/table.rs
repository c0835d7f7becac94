//! Objects as rows of the server's table, which is what `kubectl get` prints
//! (kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables).

use serde_json::Value;

use super::{
    answer::{self, Shape},
    options::Query,
};
use crate::{
    api::Failure,
    kinds::table,
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

/// A table up to its first row.
pub(super) fn head(shape: &Shape, version: &str, meta: &str) -> Vec<u8> {
    let columns = table::definitions(&shape.info, &shape.api_version);
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
pub(super) fn row(shape: &Shape, object: &Object, now: Timestamp, out: &mut Vec<u8>) {
    let cells = Value::from(table::cells(&shape.info, &shape.api_version, object, now));
    out.extend_from_slice(format!(r#"{{"cells":{cells},"#).as_bytes());
    let conditions = table::conditions(object);
    if !conditions.is_empty() {
        let conditions = Value::from(conditions);
        out.extend_from_slice(format!(r#""conditions":{conditions},"#).as_bytes());
    }
    out.extend_from_slice(br#""object":"#);
    match shape.include {
        Include::None => out.extend_from_slice(b"null"),
        Include::Metadata => out.extend(answer::metadata_of(object)),
        Include::Object => out.extend_from_slice(&shape.json(object)),
    }
    out.push(b'}');
}
