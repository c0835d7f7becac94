//! Whether a schema is structural: each value has a type, and nothing in it needs more than one
//! look.

use serde_json::{Map, Value};

use super::{default_fields, prune, validate};
use crate::kinds::field::Check;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Words of JSON Schema that no structural schema has.
const FORBIDDEN: [&str; 7] = [
    "$ref",
    "additionalItems",
    "definitions",
    "dependencies",
    "id",
    "patternProperties",
    "$schema",
];

/// Where a schema stands in another one, for the words of a missing type.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Field,
    Item,
    Other,
}

/// Finds what is wrong with a schema; `at` is its path.
pub(in crate::kinds) fn is_structural(schema: &Value, at: &str, check: &mut Check) {
    let Some(map) = schema.as_object() else { return };
    if map.get("type").is_some_and(|kind| kind != "object") {
        let detail = "must be object at the root";
        check.invalid(format!("{at}.type"), map.get("type"), detail);
    }
    level(map, Place::Root, at, check);
}

fn level(map: &Map<String, Value>, place: Place, at: &str, check: &mut Check) {
    has_type(map, place, at, check);
    for word in FORBIDDEN.into_iter().filter(|word| map.contains_key(*word)) {
        check.forbidden(format!("{at}.{word}"), &format!("{word} is not supported"));
    }
    if flag_of(map, "uniqueItems") {
        let text =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        check.forbidden(format!("{at}.uniqueItems"), text);
    }
    if map.get("type").is_some_and(|kind| kind == "array") && !map.contains_key("items") {
        check.required(format!("{at}.items"), "must be specified");
    }
    if map.contains_key("properties") && map.contains_key("additionalProperties") {
        let text = "must not be used together with properties";
        check.forbidden(format!("{at}.additionalProperties"), text);
    }
    list_keys(map, at, check);
    default_fits(map, at, check);
    for (name, inner) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        inside(inner, Place::Field, &format!("{at}.properties[{name}]"), check);
    }
    for (word, place) in [("items", Place::Item), ("additionalProperties", Place::Other)] {
        if let Some(inner) = map.get(word) {
            inside(inner, place, &format!("{at}.{word}"), check);
        }
    }
}

fn inside(schema: &Value, place: Place, at: &str, check: &mut Check) {
    if let Some(map) = schema.as_object() {
        level(map, place, at, check);
    }
}

fn has_type(map: &Map<String, Value>, place: Place, at: &str, check: &mut Check) {
    let at = format!("{at}.type");
    match map.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty()) {
        Some(kind) => check.one_of(at, kind, &TYPES),
        None if flag_of(map, "x-kubernetes-int-or-string") => {}
        None if flag_of(map, "x-kubernetes-preserve-unknown-fields")
            && !matches!(place, Place::Root) => {}
        None => {
            let text = match place {
                Place::Root => "must not be empty at the root",
                Place::Field => "must not be empty for specified object fields",
                Place::Item => "must not be empty for specified array items",
                Place::Other => "must not be empty for specified object fields",
            };
            check.required(at, text);
        }
    }
}

/// A list that is a map needs keys, which its items have.
fn list_keys(map: &Map<String, Value>, at: &str, check: &mut Check) {
    let list = map.get("x-kubernetes-list-type").and_then(Value::as_str);
    let keys = map.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let field = format!("{at}.x-kubernetes-list-map-keys");
    if let Some(list) = list {
        let field = format!("{at}.x-kubernetes-list-type");
        check.one_of(field, list, &["atomic", "map", "set"]);
    }
    match (list, keys) {
        (Some("map"), None) => {
            check.required(field, "must not be empty if x-kubernetes-list-type is map")
        }
        (Some("map"), Some(keys)) => {
            let items = map.get("items").and_then(|items| items.get("properties"));
            for (i, key) in keys.iter().enumerate() {
                let known =
                    key.as_str().is_some_and(|key| items.is_some_and(|p| p.get(key).is_some()));
                if !known {
                    let text = "must name a property of the items";
                    check.invalid(format!("{field}[{i}]"), key, text);
                }
            }
        }
        (_, Some(_)) => check.forbidden(field, "only for x-kubernetes-list-type map"),
        _ => {}
    }
}

/// A default is a value of its schema, and names nothing that would be pruned.
fn default_fits(map: &Map<String, Value>, at: &str, check: &mut Check) {
    let Some(default) = map.get("default") else { return };
    let schema = Value::Object(map.clone());
    let field = format!("{at}.default");
    let mut filled = default.clone();
    default_fields(&mut filled, &schema);
    let mut found = Check::default();
    validate(&filled, &schema, "", &mut found);
    for error in found.errors {
        let end = if error.field.is_empty() { String::new() } else { format!(".{}", error.field) };
        check.error(format!("{field}{end}"), error.reason, error.detail);
    }
    let mut gone = Vec::new();
    prune(&mut filled, &schema, false, "", &mut gone);
    if !gone.is_empty() {
        check.invalid(field, default, "must not have unknown fields");
    }
}

fn flag_of(map: &Map<String, Value>, word: &str) -> bool {
    map.get(word) == Some(&Value::Bool(true))
}
