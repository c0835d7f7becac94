//! The definitions of OpenAPI: what everything that is served is made of, by Kubernetes' names.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{authentication::v1::TokenRequest, autoscaling::v1::Scale, policy::v1::Eviction},
    apimachinery::pkg::apis::meta::v1::{
        APIGroup, APIGroupList, APIResourceList, DeleteOptions, ListMeta, Patch, Status, WatchEvent,
    },
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{KindInfo, answered::ANSWERED, registry::Nature};

/// What comes before the name of a definition of our own.
const OWN: &str = "io.mainstay.v1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Merge strategies, list and map types by definition and field: what no Rust type says. Observed
/// on Kubernetes 1.37.1.
const MERGE_KEYS: &str = include_str!("merge_keys.tsv");

/// Schemas by name, and the names of the kinds.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// By name (`io.k8s.api.apps.v1.Deployment`). References read `#/definitions/NAME`.
    pub schemas: BTreeMap<String, Value>,
    /// The name of each kind's definition, by `apiVersion` and `kind`.
    names: BTreeMap<(String, String), String>,
}

impl Definitions {
    /// The definitions of kinds, of their lists, and of what is sent and answered beside them.
    pub fn of<'a>(kinds: impl IntoIterator<Item = &'a KindInfo>) -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut named = Vec::new();
        let mut custom = Vec::new();
        for info in kinds {
            let Nature::BuiltIn { door, .. } = &info.nature else {
                custom.push(info);
                continue;
            };
            let name = (door.define)(&mut generator);
            let list = Some(info.list_kind.to_string());
            named.push((info.api_version.clone(), info.kind.clone(), name, list.clone()));
            for other in &info.also {
                let Some(name) = other.define(&mut generator) else { continue };
                named.push((other.api_version.clone(), info.kind.clone(), name, list.clone()));
            }
        }
        for of in ANSWERED {
            let name = (of.define)(&mut generator);
            named.push((of.api_version().into(), of.kind.into(), name, of.list_kind()));
        }
        for (api_version, kind, define) in BESIDE {
            named.push((api_version.into(), kind.into(), define(&mut generator), None));
        }
        let mut all = Self::default();
        for (name, mut schema) in generator.take_definitions(false) {
            plain(&mut schema);
            if name.ends_with(".IntOrString") {
                schema["format"] = "int-or-string".into();
            }
            if is_any_json(&name) {
                retain_description(&mut schema);
            }
            all.schemas.insert(qualified(&name), schema);
        }
        for (api_version, kind, name, list) in named {
            all.name(&api_version, &kind, qualified(&name), list);
        }
        all.add_merge_keys();
        custom.into_iter().for_each(|info| all.add_custom(info));
        all
    }

    /// Adds what a custom kind says of itself, at each version.
    fn add_custom(&mut self, info: &KindInfo) {
        for (group, version, api_version) in info.places() {
            let Some(schema) = info.structural_schema(api_version) else { continue };
            let mut words: Vec<&str> = group.split('.').rev().collect();
            words.extend([version.as_str(), info.kind.as_str()]);
            let name = words.join(".");
            self.schemas.insert(name.clone(), with_object_fields(schema.clone()));
            self.name(api_version, &info.kind, name, Some(info.list_kind.to_string()));
        }
    }

    /// The name of a kind's definition.
    pub fn name_of(&self, api_version: &str, kind: &str) -> Option<&str> {
        let key = (api_version.to_owned(), kind.to_owned());
        self.names.get(&key).map(String::as_str)
    }

    /// Says which kind a definition is, and adds the list of it when that has a kind.
    fn name(&mut self, api_version: &str, kind: &str, name: String, list_kind: Option<String>) {
        if let Some(schema) = self.schemas.get_mut(&name) {
            // Kubernetes' documents ask for no metadata: a server may name the object.
            drop_required(schema, "metadata");
            mark(schema, api_version, kind);
        }
        if let Some(list_kind) = list_kind {
            let list_name = format!("{name}List");
            let mut schema = list_of(kind, &name);
            mark(&mut schema, api_version, &list_kind);
            self.schemas.insert(list_name.clone(), schema);
            self.names.insert((api_version.to_owned(), list_kind), list_name);
        }
        self.names.insert((api_version.to_owned(), kind.to_owned()), name);
    }

    fn add_merge_keys(&mut self) {
        for row in MERGE_KEYS.lines().skip(1) {
            let columns: Vec<&str> = row.split('\t').collect();
            let [name, field, rules @ ..] = columns.as_slice() else { continue };
            let Some(schema) = self.schemas.get_mut(*name) else { continue };
            let target = match *field {
                "(whole)" => Some(schema),
                field => schema.get_mut("properties").and_then(|p| p.get_mut(field)),
            };
            if let Some(target) = target.and_then(Value::as_object_mut) {
                add_merge_rules(target, rules);
            }
        }
    }
}

/// Registers a type with a generator, and says its name.
pub(super) fn define<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

/// What is sent and answered beside the kinds themselves.
type Define = fn(&mut SchemaGenerator) -> String;
const BESIDE: [(&str, &str, Define); 11] = [
    ("authentication.k8s.io/v1", "TokenRequest", define::<TokenRequest>),
    ("autoscaling/v1", "Scale", define::<Scale>),
    ("policy/v1", "Eviction", define::<Eviction>),
    ("v1", "APIGroup", define::<APIGroup>),
    ("v1", "APIGroupList", define::<APIGroupList>),
    ("v1", "APIResourceList", define::<APIResourceList>),
    ("v1", "DeleteOptions", define::<DeleteOptions>),
    ("v1", "ListMeta", define::<ListMeta>),
    ("v1", "Patch", define::<Patch>),
    ("v1", "Status", define::<Status>),
    ("v1", "WatchEvent", define::<WatchEvent<k8s_openapi::api::core::v1::Pod>>),
];

/// Whether a definition stands for any JSON, or for one of several kinds of it: Kubernetes says no
/// type of those, and clients that check refuse what is no map where one is said.
fn is_any_json(name: &str) -> bool {
    const ANY: [&str; 4] = [
        ".JSON",
        ".JSONSchemaPropsOrArray",
        ".JSONSchemaPropsOrBool",
        ".JSONSchemaPropsOrStringArray",
    ];
    ANY.iter().any(|end| name.ends_with(end))
}

fn retain_description(schema: &mut Value) {
    if let Some(map) = schema.as_object_mut() {
        map.retain(|word, _| word == "description");
    }
}

/// Kubernetes' definitions have long names; ours get one that is as long.
fn qualified(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{OWN}.{name}") }
}

/// Names the kind that a definition is.
fn mark(schema: &mut Value, api_version: &str, kind: &str) {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema["x-kubernetes-group-version-kind"] =
        json!([{ "group": group, "kind": kind, "version": version }]);
}

/// The schema of a custom kind with what every object has; what a schema of its own says of the
/// metadata stays.
fn with_object_fields(mut schema: Value) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let reference = json!({ "$ref": format!("#/definitions/{META}.ObjectMeta") });
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    let fields = &mut schema["properties"];
    fields["apiVersion"] = text("Group and version of the object's kind.");
    fields["kind"] = text("Kind of the object.");
    fields["metadata"] = reference;
    schema
}

/// The definition of the list of a kind, as a server answers it.
fn list_of(kind: &str, name: &str) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "description": format!("{kind}List is a list of {kind}."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("Group and version of the list's kind."),
            "kind": text("Kind of the list."),
            "items": {
                "description": "The objects.",
                "type": "array",
                "items": { "$ref": format!("#/definitions/{name}") },
            },
            "metadata": {
                "description": "The revision of the list, and how to get its rest.",
                "$ref": format!("#/definitions/{META}.ListMeta"),
            },
        },
    })
}

fn drop_required(schema: &mut Value, field: &str) {
    let Some(map) = schema.as_object_mut() else { return };
    let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) else { return };
    required.retain(|name| name != field);
    if required.is_empty() {
        map.remove("required");
    }
}

/// The columns after the field: patchStrategy, patchMergeKey, listType, listMapKeys, mapType.
fn add_merge_rules(target: &mut Map<String, Value>, rules: &[&str]) {
    const WORDS: [&str; 5] = [
        "x-kubernetes-patch-strategy",
        "x-kubernetes-patch-merge-key",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ];
    for (word, rule) in WORDS.into_iter().zip(rules).filter(|(_, rule)| !rule.is_empty()) {
        let value = match word {
            "x-kubernetes-list-map-keys" => rule.split(',').collect(),
            _ => Value::from(*rule),
        };
        target.insert(word.to_owned(), value);
    }
}

/// Calls `visit` with each schema that stands directly in another.
pub fn each_subschema(schema: &mut Map<String, Value>, visit: &mut dyn FnMut(&mut Value)) {
    for (word, value) in schema.iter_mut() {
        match (word.as_str(), value) {
            ("properties", Value::Object(fields)) => fields.values_mut().for_each(&mut *visit),
            ("items" | "additionalProperties" | "not", value @ Value::Object(_)) => visit(value),
            ("allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter_mut().for_each(&mut *visit);
            }
            _ => {}
        }
    }
}

/// From JSON Schema as schemars writes it to what Kubernetes writes: one type for each value, no
/// alternatives for what is merely optional, long names.
fn plain(schema: &mut Value) {
    if *schema == Value::Bool(true) {
        *schema = json!({});
    }
    let Some(map) = schema.as_object_mut() else { return };
    map.retain(|word, _| word != "$schema" && word != "title");
    one_type(map);
    one_of_texts(map);
    match map.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16" | "uint32") => drop(map.insert("format".into(), "int32".into())),
        Some("uint64" | "uint") => drop(map.insert("format".into(), "int64".into())),
        _ => {}
    }
    if let Some(name) = map.get("$ref").and_then(Value::as_str) {
        let name = qualified(name.trim_start_matches("#/$defs/"));
        map.insert("$ref".to_owned(), format!("#/definitions/{name}").into());
    }
    each_subschema(map, &mut plain);
}

/// `["string", "null"]` is a string, `anyOf: [X, null]` is X.
fn one_type(map: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = map.get("type") {
        let first = types.iter().find(|name| *name != "null").cloned().unwrap_or_default();
        map.insert("type".to_owned(), first);
    }
    let is_null = |schema: &Value| schema.get("type").is_some_and(|name| name == "null");
    let Some(Value::Array(options)) = map.get("anyOf") else { return };
    if !options.iter().any(is_null) {
        return;
    }
    let Some(Value::Array(options)) = map.remove("anyOf") else { return };
    for option in options.into_iter().filter(|option| !is_null(option)) {
        let Value::Object(words) = option else { continue };
        for (word, value) in words {
            map.entry(word).or_insert(value);
        }
    }
}

/// Alternatives that are texts, each with its description, are one text of several values.
fn one_of_texts(map: &mut Map<String, Value>) {
    let texts = |options: &Vec<Value>| -> Option<Vec<Value>> {
        options.iter().map(|option| option.get("const").cloned()).collect()
    };
    let found = map.get("oneOf").and_then(Value::as_array).and_then(texts);
    if let Some(values) = found {
        map.remove("oneOf");
        map.insert("type".to_owned(), "string".into());
        map.insert("enum".to_owned(), values.into());
    }
}
