//! JSON merge patch (RFC 7386).

use serde_json::{Map, Value};

pub(super) fn apply(live: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = live.as_object().cloned().unwrap_or_else(Map::new);
    for (name, value) in patch {
        let before = merged.remove(name);
        if !value.is_null() {
            merged.insert(name.clone(), apply(before.as_ref().unwrap_or(&Value::Null), value));
        }
    }
    Value::Object(merged)
}
