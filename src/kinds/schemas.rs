//! JSON schemas of the kinds, for editors and for `schemas/`.

use std::collections::BTreeMap;

use k8s_openapi::Resource;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::{Kind, KindInfo, registry, registry::Nature};

/// The schema of every kind by file name (`apps_v1_deployment.json`).
///
/// As schemars makes them from the types, with `additionalProperties: false` wherever an object
/// lists its fields, so that an editor marks a misspelt one.
pub fn schemas() -> BTreeMap<String, Value> {
    let file = |api_version: &str, kind: &str| {
        let version = api_version.replace(['/', '.'], "_");
        format!("{version}_{}.json", kind.to_lowercase())
    };
    registry().iter().filter_map(|i| Some((file(&i.api_version, &i.kind), of(i)?))).collect()
}

/// The schema of a built-in kind.
fn of(info: &KindInfo) -> Option<Value> {
    match &info.nature {
        Nature::BuiltIn { door, .. } => Some((door.schema)()),
        Nature::Custom(_) => None,
    }
}

pub(super) fn schema<T: Kind>() -> Value {
    schema_of::<T>()
}

/// The schema of a type that is a kind, or another shape of one.
pub(super) fn schema_of<T: Resource + JsonSchema>() -> Value {
    let schema = schemars::generate::SchemaSettings::draft2020_12();
    let mut value = schema.into_generator().into_root_schema_for::<T>().to_value();
    close(&mut value);
    if let Some(properties) = value.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".to_owned(), json!({ "const": T::API_VERSION }));
        properties.insert("kind".to_owned(), json!({ "const": T::KIND }));
    }
    value
}

/// Refuses fields that are not listed.
fn close(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, definition) in
                map.get_mut("$defs").and_then(Value::as_object_mut).into_iter().flatten()
            {
                // `cpu: 2` is as good as `cpu: "2"`.
                if name.ends_with("Quantity") {
                    definition["type"] = json!(["string", "number"]);
                }
            }
            let lists_fields = map.get("properties").is_some_and(Value::is_object)
                && map.get("type").is_none_or(|t| t == "object");
            if lists_fields && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The fields that may stand under `path` (`spec.template.spec.containers[0]`) of a kind; none when
/// the path leads nowhere. Makes the kind's schema anew: for messages, not for every object.
pub fn field_names(info: &KindInfo, path: &str) -> Vec<String> {
    let root = match &info.nature {
        Nature::BuiltIn { door, .. } => (door.schema)(),
        Nature::Custom(custom) => custom.schema(&info.api_version).cloned().unwrap_or_default(),
    };
    let mut here = resolve(&root, &root);
    for step in path.split(['.', '[']).filter(|s| !s.is_empty()) {
        let next = match step.strip_suffix(']') {
            Some(_) => here.get("items"),
            None => here.get("properties").and_then(|p| p.get(step)),
        };
        let Some(next) = next else { return Vec::new() };
        here = resolve(&root, next);
    }
    let properties = here.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

/// Follows `$ref` and the one alternative that is not null.
fn resolve<'a>(root: &'a Value, mut here: &'a Value) -> &'a Value {
    // A chain of references is short; a ring of them ends here.
    for _ in 0..8 {
        let target = here.get("$ref").and_then(Value::as_str);
        if let Some(found) = target.and_then(|t| root.pointer(t.strip_prefix('#')?)) {
            here = found;
            continue;
        }
        let options = here.get("anyOf").or_else(|| here.get("allOf")).and_then(Value::as_array);
        match options.and_then(|o| o.iter().find(|v| v.get("$ref").is_some())) {
            Some(found) => here = found,
            None => break,
        }
    }
    here
}
