//! Patches: a live value and a patch to the value that is wanted.

use axum::http::{HeaderMap, header};
use serde_json::Value;

use crate::{
    api::{Failure, negotiate},
    kinds::KindInfo,
};

/// Media types of patches.
const TAKEN: [&str; 1] = ["application/merge-patch+json"];

/// Applies the patch of a request to a live value.
pub(super) fn apply(
    _info: &KindInfo,
    headers: &HeaderMap,
    live: &Value,
    patch: &[u8],
) -> Result<Value, Failure> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !TAKEN.contains(&media) {
        return Err(negotiate::unsupported(&TAKEN));
    }
    let patch: Value = serde_json::from_slice(patch)
        .map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    let mut value = live.clone();
    merge(&mut value, &patch);
    Ok(value)
}

/// RFC 7386.
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    for (name, field) in fields {
        match (field, value.as_object_mut()) {
            (Value::Null, Some(map)) => {
                map.remove(name);
            }
            (field, Some(map)) => merge(map.entry(name.clone()).or_insert(Value::Null), field),
            (_, None) => {}
        }
    }
}
