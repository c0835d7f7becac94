//! What is known of a place in an object: whether it is a map, a list of which kind, or one value.

use serde_json::Value;

use crate::kinds::{
    KindInfo,
    types::{self, Field, ListType, Type},
};

/// A place in an object, by what its kind says of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) enum Schema<'a> {
    /// Nothing is known: maps are merged, lists are single values.
    Deduced,
    /// A kind of Kubernetes.
    Typed {
        /// What stands here.
        typ: &'a Type,
        /// The field that holds it, which says how its list or map is owned.
        field: Option<&'a Field>,
    },
    /// The top of a kind of Kubernetes.
    Kind(&'a str),
    /// A structural schema of a custom kind; `bool`: its top.
    Structural(&'a Value, bool),
}

/// How a value is owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// A single value, whatever it holds.
    Leaf,
    /// Field by field.
    Map,
    /// Each value of a list by itself.
    Set,
    /// Each item of a list by these keys.
    Keyed(Vec<&'a str>),
}

static META: Type = Type::Message("meta.v1.ObjectMeta");
static TEXT: Type = Type::String;

impl<'a> Schema<'a> {
    /// The schema of a kind at `api_version`: Kubernetes' own, that of its definition, else what is
    /// deduced from the values.
    pub(in crate::api) fn of(info: &'a KindInfo, api_version: &str) -> Self {
        match info.structural_schema(api_version) {
            Some(schema) => Schema::Structural(schema, true),
            None => Schema::named(api_version, &info.kind),
        }
    }

    /// The schema of a kind of Kubernetes, by name.
    pub(in crate::api) fn named(api_version: &str, kind: &str) -> Schema<'static> {
        match types::of_kind(api_version, kind) {
            Some(name) => Schema::<'static>::Kind(name),
            None => Schema::<'static>::Deduced,
        }
    }

    /// Whether this is a kind of Kubernetes.
    pub(in crate::api) fn is_built_in(self) -> bool {
        matches!(self, Schema::Kind(_) | Schema::Typed { .. })
    }

    fn message(self) -> Option<&'a types::Message> {
        match self {
            Schema::Kind(name) => types::message(name),
            Schema::Typed { typ: Type::Message(name), .. } => types::message(name),
            _ => None,
        }
    }

    /// How `value` is owned here.
    pub(super) fn shape(self, value: &Value) -> Shape<'a> {
        match value {
            Value::Object(_) => self.map_shape(),
            Value::Array(_) => self.list_shape(),
            _ => Shape::Leaf,
        }
    }

    fn map_shape(self) -> Shape<'a> {
        let atomic = match self {
            Schema::Typed { typ, field } => {
                let by_type = self.message().is_some_and(|message| message.atomic);
                let held = matches!(typ, Type::Message(_) | Type::Map(_));
                // Fields, raw objects and the like are single values.
                !held || field.and_then(|field| field.atomic).unwrap_or(by_type)
            }
            Schema::Structural(schema, _) => schema["x-kubernetes-map-type"] == "atomic",
            Schema::Kind(_) | Schema::Deduced => false,
        };
        if atomic { Shape::Leaf } else { Shape::Map }
    }

    fn list_shape(self) -> Shape<'a> {
        match self {
            Schema::Typed { typ: Type::List(_), field: Some(field) } => match field.list {
                ListType::Atomic => Shape::Leaf,
                ListType::Set => Shape::Set,
                ListType::Map => Shape::Keyed(field.keys.clone()),
            },
            Schema::Structural(schema, _) => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                match schema["x-kubernetes-list-type"].as_str() {
                    Some("set") => Shape::Set,
                    Some("map") => Shape::Keyed(keys.filter_map(Value::as_str).collect()),
                    _ => Shape::Leaf,
                }
            }
            _ => Shape::Leaf,
        }
    }

    /// The place below a field; `None` when there is no such field.
    pub(super) fn field(self, name: &str) -> Option<Schema<'a>> {
        match self {
            Schema::Deduced => Some(Schema::Deduced),
            Schema::Typed { typ: Type::Map(item), .. } => {
                Some(Schema::Typed { typ: item, field: None })
            }
            Schema::Kind(_) | Schema::Typed { typ: Type::Message(_), .. } => {
                let field = self.message()?.field(name)?;
                Some(Schema::Typed { typ: &field.typ, field: Some(field) })
            }
            Schema::Typed { .. } => Some(Schema::Deduced),
            Schema::Structural(_, true) if name == "metadata" => {
                Some(Schema::Typed { typ: &META, field: None })
            }
            Schema::Structural(_, true) if name == "apiVersion" || name == "kind" => {
                Some(Schema::Typed { typ: &TEXT, field: None })
            }
            Schema::Structural(schema, _) => structural_field(schema, name),
        }
    }

    /// The place of a list's items.
    pub(super) fn item(self) -> Schema<'a> {
        match self {
            Schema::Typed { typ: Type::List(item), .. } => Schema::Typed { typ: item, field: None },
            Schema::Structural(schema, _) if schema["items"].is_object() => {
                Schema::Structural(&schema["items"], false)
            }
            _ => Schema::Deduced,
        }
    }

    /// Whether a field is named by the schema, rather than being a key of a map.
    pub(super) fn declares(self, name: &str) -> bool {
        match self {
            Schema::Kind(_) | Schema::Typed { typ: Type::Message(_), .. } => true,
            Schema::Structural(_, true) => true,
            Schema::Structural(schema, _) => schema["properties"].get(name).is_some(),
            Schema::Deduced | Schema::Typed { .. } => false,
        }
    }

    /// What Kubernetes' own form of an object always holds in a field that was not given: a struct,
    /// or a list that is written even when it is empty.
    pub(super) fn always(self, name: &str) -> Option<Value> {
        match self {
            Schema::Kind(_) | Schema::Typed { typ: Type::Message(_), .. } => {}
            Schema::Structural(_, true) if name == "metadata" => {
                return Some(Value::Object(serde_json::Map::new()));
            }
            _ => return None,
        }
        let field = self.message()?.field(name).filter(|field| !field.pointer)?;
        match &field.typ {
            Type::Message(_) => Some(Value::Object(serde_json::Map::new())),
            Type::List(_) | Type::Map(_) if !field.omit_empty => Some(Value::Null),
            _ => None,
        }
    }

    /// The value of an item's key that was not given.
    pub(super) fn key_default(self, key: &str) -> Option<Value> {
        match self {
            // The only defaulted keys of Kubernetes' own lists: ports of containers and Services.
            Schema::Typed { typ: Type::Message("core.v1.ContainerPort"), .. }
            | Schema::Typed { typ: Type::Message("core.v1.ServicePort"), .. } => {
                (key == "protocol").then(|| "TCP".into())
            }
            Schema::Structural(schema, _) => schema["properties"][key].get("default").cloned(),
            _ => None,
        }
    }

    /// The field that holds this place, with its strategy for strategic merge patches.
    pub(super) fn strategy(self) -> Option<&'a Field> {
        match self {
            Schema::Typed { field, .. } => field,
            _ => None,
        }
    }
}

fn structural_field<'a>(schema: &'a Value, name: &str) -> Option<Schema<'a>> {
    if let Some(property) = schema["properties"].get(name) {
        return Some(Schema::Structural(property, false));
    }
    match &schema["additionalProperties"] {
        Value::Object(_) => Some(Schema::Structural(&schema["additionalProperties"], false)),
        Value::Bool(true) => Some(Schema::Deduced),
        _ if schema["x-kubernetes-preserve-unknown-fields"] == true => Some(Schema::Deduced),
        _ => None,
    }
}
