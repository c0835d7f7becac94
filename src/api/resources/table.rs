//! Objects as rows of the server's table, which is what `kubectl get` prints
//! (kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables).

use serde_json::{Value, json};

use super::{
    answer::{self, Shape},
    options::Query,
};
use crate::{
    api::Failure,
    kinds::{
        KindInfo,
        table::{self, Column},
    },
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
fn definitions(info: &KindInfo) -> Value {
    let definition = |column: &Column| {
        json!({
            "name": column.name, "type": column.type_, "format": column.format,
            "description": column.description, "priority": column.priority,
        })
    };
    table::columns(info).iter().map(definition).collect()
}

/// A table up to its first row.
pub(super) fn head(info: &KindInfo, version: &str, meta: &str) -> Vec<u8> {
    let columns = definitions(info);
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
    let cells = Value::from(table::cells(shape.info, object, now));
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
