//! OpenAPI 2: one document for everything, as kubectl before 1.27 reads it.

use serde_json::{Map, Value, json};

use super::operations::{Operation, Route, parameter};
use crate::kinds::{Definitions, each_subschema};

/// Patches by content type, as kubectl sends them.
pub(super) const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The whole document.
pub(super) fn document(definitions: &Definitions, routes: &[Route]) -> Value {
    let paths: Map<String, Value> =
        routes.iter().map(|route| (route.path.clone(), path(route))).collect();
    let schemas: Map<String, Value> = definitions
        .schemas
        .iter()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            narrow(&mut schema);
            (name.clone(), schema)
        })
        .collect();
    json!({
        "swagger": "2.0",
        "info": super::info(),
        "paths": paths,
        "definitions": schemas,
    })
}

fn path(route: &Route) -> Value {
    let mut item: Map<String, Value> =
        route.operations.iter().map(|of| (of.method.to_owned(), operation(of))).collect();
    let mut places: Vec<Value> = route.places.iter().filter_map(|name| place(name)).collect();
    places.extend(query("pretty"));
    item.insert("parameters".to_owned(), places.into());
    item.into()
}

fn operation(of: &Operation) -> Value {
    let mut parameters: Vec<Value> = of.query.iter().filter_map(|name| query(name)).collect();
    if let Some(body) = &of.body {
        parameters.insert(
            0,
            json!({
                "in": "body", "name": "body", "required": of.method != "delete",
                "schema": { "$ref": format!("#/definitions/{body}") },
            }),
        );
    }
    let consumes: &[&str] = if of.method == "patch" { &PATCHES } else { &["*/*"] };
    let answer = match &of.answer {
        Some(name) => json!({ "$ref": format!("#/definitions/{name}") }),
        None => json!({ "type": "string" }),
    };
    let done = |code: &u16| {
        let text = super::code_text(*code);
        (code.to_string(), json!({ "description": text, "schema": answer }))
    };
    let mut responses: Map<String, Value> = of.codes.iter().map(done).collect();
    responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    let mut value = super::common(of);
    value["consumes"] = json!(consumes);
    value["produces"] = json!([of.produces()]);
    value["schemes"] = json!(["https"]);
    value["parameters"] = parameters.into();
    value["responses"] = responses.into();
    value
}

fn query(name: &str) -> Option<Value> {
    let found = parameter(name)?;
    Some(json!({
        "in": "query", "name": name, "type": found.kind, "uniqueItems": true,
        "description": found.description,
    }))
}

fn place(name: &str) -> Option<Value> {
    let found = parameter(name)?;
    Some(json!({
        "in": "path", "name": name, "type": found.kind, "uniqueItems": true, "required": true,
        "description": found.description,
    }))
}

/// Leaves what OpenAPI 2 can say: one type for each value.
fn narrow(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for word in ["anyOf", "oneOf", "not", "nullable"] {
        map.remove(word);
    }
    if map.contains_key("x-kubernetes-int-or-string") {
        // Old clients take anything where a text is wanted.
        map.entry("type").or_insert_with(|| "string".into());
    }
    // Clients would refuse every field that is not listed.
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        map.remove("properties");
    }
    each_subschema(map, &mut narrow);
}
