//! OpenAPI 3: one document for each group and version, as kubectl from 1.27 on reads it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    operations::{Operation, Route, parameter},
    v2::PATCHES,
};
use crate::kinds::{Definitions, each_subschema};

const BEFORE: &str = "#/definitions/";
const AFTER: &str = "#/components/schemas/";

/// Fields that are there even when they are not set, and then null: definition and name. The
/// documents of Kubernetes do not say so.
const NULL: [(&str, &str); 6] = [
    ("io.k8s.api.core.v1.Event", "eventTime"),
    ("io.k8s.api.events.v1.Event", "deprecatedFirstTimestamp"),
    ("io.k8s.api.events.v1.Event", "deprecatedLastTimestamp"),
    ("io.k8s.api.events.v1.Event", "eventTime"),
    ("io.k8s.api.rbac.v1.ClusterRole", "rules"),
    ("io.k8s.api.rbac.v1.Role", "rules"),
];

/// The document of the paths of one group and version, with every definition they need.
pub(super) fn document(definitions: &Definitions, routes: &[Route]) -> Value {
    let paths: Map<String, Value> =
        routes.iter().map(|route| (route.path.clone(), path(route))).collect();
    let schemas: Map<String, Value> = needed(definitions, routes)
        .into_iter()
        .filter_map(|name| {
            let mut schema = definitions.schemas.get(&name)?.clone();
            widen(&mut schema);
            allow_null(&name, &mut schema);
            Some((name, schema))
        })
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": super::info(),
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

/// The definitions that routes speak of, and those that these refer to.
fn needed(definitions: &Definitions, routes: &[Route]) -> BTreeSet<String> {
    let operations = routes.iter().flat_map(|route| &route.operations);
    let mut open: Vec<String> =
        operations.flat_map(|of| of.body.iter().chain(&of.answer)).cloned().collect();
    let mut found = BTreeSet::new();
    while let Some(name) = open.pop() {
        if let Some(schema) = definitions.schemas.get(&name)
            && found.insert(name)
        {
            references(schema, &mut open);
        }
    }
    found
}

fn references(schema: &Value, open: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str);
            open.extend(name.and_then(|name| name.strip_prefix(BEFORE)).map(str::to_owned));
            map.values().for_each(|inner| references(inner, open));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, open)),
        _ => {}
    }
}

fn path(route: &Route) -> Value {
    let mut item: Map<String, Value> =
        route.operations.iter().map(|of| (of.method.to_owned(), operation(of))).collect();
    let places = route.places.iter().filter_map(|name| place("path", name));
    let all: Vec<Value> = places.chain(place("query", "pretty")).collect();
    item.insert("parameters".to_owned(), all.into());
    item.into()
}

fn operation(of: &Operation) -> Value {
    let answer = match &of.answer {
        Some(name) => json!({ "$ref": format!("{AFTER}{name}") }),
        None => json!({ "type": "string" }),
    };
    let mut content = Map::new();
    content.insert(of.produces().to_owned(), json!({ "schema": answer }));
    let done = |code: &u16| {
        let text = super::code_text(*code);
        (code.to_string(), json!({ "description": text, "content": content }))
    };
    let mut responses: Map<String, Value> = of.codes.iter().map(done).collect();
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    let parameters: Vec<Value> = of.query.iter().filter_map(|name| place("query", name)).collect();
    let mut value = super::common(of);
    value["parameters"] = parameters.into();
    value["responses"] = responses.into();
    if let Some(body) = &of.body {
        let types: &[&str] = if of.method == "patch" { &PATCHES } else { &["*/*"] };
        let schema = json!({ "schema": { "$ref": format!("{AFTER}{body}") } });
        let content: Map<String, Value> =
            types.iter().map(|of| ((*of).to_owned(), schema.clone())).collect();
        value["requestBody"] = json!({ "content": content, "required": of.method != "delete" });
        if of.method == "delete" {
            value["requestBody"].as_object_mut().map(|body| body.remove("required"));
        }
    }
    value
}

fn place(at: &str, name: &str) -> Option<Value> {
    let found = parameter(name)?;
    let mut value = json!({
        "in": at, "name": name, "description": found.description,
        "schema": { "type": found.kind, "uniqueItems": true },
    });
    if at == "path" {
        value["required"] = true.into();
    }
    Some(value)
}

/// Lets fields be null that Kubernetes writes so when they are not set.
fn allow_null(name: &str, schema: &mut Value) {
    for (_, field) in NULL.iter().filter(|(of, _)| *of == name) {
        if let Some(Value::Object(found)) = schema["properties"].get_mut(*field) {
            found.insert("nullable".to_owned(), true.into());
        }
    }
}

/// Writes references as OpenAPI 3 does, which takes nothing beside them.
fn widen(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    each_subschema(map, &mut widen);
    if map.contains_key("x-kubernetes-int-or-string") && !map.contains_key("anyOf") {
        let number = if map.contains_key("format") { "integer" } else { "number" };
        map.insert("oneOf".to_owned(), json!([{ "type": number }, { "type": "string" }]));
    }
    let Some(Value::String(name)) = map.get("$ref") else { return };
    let target = json!({ "$ref": format!("{AFTER}{}", name.trim_start_matches(BEFORE)) });
    if map.len() == 1 {
        *schema = target;
    } else {
        map.remove("$ref");
        map.insert("allOf".to_owned(), json!([target]));
    }
}
