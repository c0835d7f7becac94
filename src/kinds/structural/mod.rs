//! Structural schemas: what a CustomResourceDefinition says of its objects, applied to JSON values.
//!
//! In: a schema as it stands in `openAPIV3Schema`, and a value. Out: the value without what the
//! schema does not know ([`prune`]), with what it leaves out ([`default_fields`]), and what is
//! wrong with it ([`validate()`], and [`Rules`] in CEL), worded as Kubernetes words it.
//! [`is_structural`] judges a schema itself. Never here: the definition around the schema.
//! (kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions)

mod rules;
mod shape;
mod validate;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::decode::join;

pub(super) use rules::{Ask, Rules};
pub(super) use shape::is_structural;
pub(super) use validate::validate;

/// What stays of an embedded object whatever its schema says.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Takes out what the schema does not know, and says what that was.
///
/// `is_object` holds for a whole object, whose `apiVersion`, `kind` and `metadata` need no schema.
pub(super) fn prune(
    value: &mut Value,
    schema: &Value,
    is_object: bool,
    at: &str,
    gone: &mut Vec<String>,
) {
    match value {
        Value::Object(map) => prune_map(map, schema, is_object, at, gone),
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (i, item) in items.iter_mut().enumerate() {
                prune(item, schema, false, &format!("{at}[{i}]"), gone);
            }
        }
        _ => {}
    }
}

fn prune_map(
    map: &mut Map<String, Value>,
    schema: &Value,
    is_object: bool,
    at: &str,
    gone: &mut Vec<String>,
) {
    let embedded = is_object || flag(schema, "x-kubernetes-embedded-resource");
    let keeps_all = flag(schema, "x-kubernetes-preserve-unknown-fields");
    map.retain(|key, value| {
        if embedded && OF_EVERY_OBJECT.contains(&key.as_str()) {
            return true;
        }
        let at = join(at, key);
        match field(schema, key) {
            Some(inner) => prune(value, inner, false, &at, gone),
            None if keeps_all || flag(schema, "additionalProperties") => {}
            None => {
                gone.push(at);
                return false;
            }
        }
        true
    });
}

/// Fills what is absent, or null where null is not allowed; a null without a default goes.
pub(super) fn default_fields(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in
                schema.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                let absent = map.get(key).is_none_or(|v| v.is_null() && !flag(inner, "nullable"));
                match inner.get("default").filter(|_| absent) {
                    Some(default) => drop(map.insert(key.clone(), default.clone())),
                    None if absent => drop(map.remove(key)),
                    None => {}
                }
            }
            for (key, value) in map.iter_mut() {
                if let Some(inner) = field(schema, key) {
                    default_fields(value, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.get("items") {
                items.iter_mut().for_each(|item| default_fields(item, inner));
            }
        }
        _ => {}
    }
}

/// Whether the schema fills anything in.
pub(super) fn has_defaults(schema: &Value) -> bool {
    let inner = |word: &str| schema.get(word).is_some_and(has_defaults);
    let fields = schema.get("properties").and_then(Value::as_object);
    schema.get("default").is_some()
        || inner("items")
        || inner("additionalProperties")
        || fields.is_some_and(|fields| fields.values().any(has_defaults))
}

/// The schema of a field: its own, or that of all others.
fn field<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let own = schema.get("properties").and_then(|fields| fields.get(key));
    own.or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object()))
}

fn flag(schema: &Value, word: &str) -> bool {
    schema.get(word) == Some(&Value::Bool(true))
}
