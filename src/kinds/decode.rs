//! From JSON to a typed object: unknown fields, wrong types, quantities.

use k8s_openapi::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{FieldError, Kind, KindInfo, Reason, amount, field::Check, inert, meta, tidy};
use crate::model::Object;

/// What to do with a field that the kind does not have: Kubernetes' `fieldValidation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// An error for each. Git's files are read so.
    Strict,
    /// A warning for each; the field is dropped. The API's default.
    Warn,
    /// The field is dropped without a word.
    Ignore,
}

/// What came through the door.
pub(super) type Decoded = (Object, Vec<FieldError>);

/// Most wrong types that are told of one object. Each costs one more decoding.
const WRONG_TYPES_MAX: usize = 16;

/// Decodes, defaults and validates.
pub(super) fn admit<T: Kind>(
    info: &KindInfo,
    mut value: Value,
    strictness: Strictness,
) -> Result<Decoded, Vec<FieldError>> {
    let mut check = Check::default();
    let own = Quantities { own: T::QUANTITIES, inside: false };
    read_quantities(&mut value, &At::Root, own, &mut check);
    let absent = |field: &&&str| value.pointer(field).is_none_or(Value::is_null);
    check.absent = T::NEEDED.iter().filter(absent).copied().collect();
    let typed = typed::<T>(value, strictness, &mut check);
    // An unknown field leaves the rest readable, so the rest is judged as well; a wrong type does
    // not.
    let readable = check.errors.iter().all(|e| e.reason == Reason::Unknown);
    let Some(mut typed) = typed.filter(|_| readable) else {
        return Err(check.errors);
    };
    typed.default_fields();
    meta::validate(info, typed.metadata(), &mut check);
    typed.validate(&mut check);
    if !check.errors.is_empty() {
        return Err(check.errors);
    }
    let value = tidy::to_value(info, &typed).map_err(|e| vec![e])?;
    inert::warn(info, &value, &mut check);
    let object = object(&value).map_err(|e| vec![e])?;
    Ok((object, check.warnings))
}

/// An object of a value that has a kind and a name.
pub(super) fn object(value: &Value) -> Result<Object, FieldError> {
    Object::from_value(value).map_err(|e| FieldError {
        field: String::new(),
        reason: Reason::Invalid,
        detail: e.to_string(),
    })
}

/// Whether the object decodes as `T`; the decoded view stays with the object.
pub(super) fn decodes<T: Resource + DeserializeOwned + Send + Sync + 'static>(
    object: &Object,
) -> bool {
    object.view::<T>().is_some()
}

/// Decodes, gathering every wrong type: what is wrong is taken out and the rest is tried again.
fn typed<T: DeserializeOwned>(
    mut value: Value,
    strictness: Strictness,
    check: &mut Check,
) -> Option<T> {
    for _ in 0..WRONG_TYPES_MAX {
        let mut unknown = Vec::new();
        let mut ignore = |path: serde_ignored::Path<'_>| unknown.push(ignored_path(&path));
        if let Ok(typed) = T::deserialize(serde_ignored::Deserializer::new(&value, &mut ignore)) {
            report_unknown(unknown, strictness, check);
            return Some(typed);
        }
        // Only now, since following the path costs a text for each field.
        let error = serde_path_to_error::deserialize::<_, T>(&value).err()?;
        check.errors.push(wrong_type(&value, error.path(), &error.inner().to_string()));
        if !remove(&mut value, error.path()) {
            return None;
        }
    }
    None
}

fn report_unknown(unknown: Vec<String>, strictness: Strictness, check: &mut Check) {
    for field in unknown {
        let detail = format!("unknown field {field:?}");
        let error = FieldError { field, reason: Reason::Unknown, detail };
        match strictness {
            Strictness::Strict => check.errors.push(error),
            Strictness::Warn => check.warnings.push(error),
            Strictness::Ignore => {}
        }
    }
}

/// `spec.containers[0].imagee`, as Kubernetes writes paths.
fn ignored_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", ignored_path(parent)),
        Path::Map { parent, key } => join(&ignored_path(parent), key),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => ignored_path(parent),
    }
}

/// `parent.key`, or `key` at the root.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn wrong_type(value: &Value, path: &serde_path_to_error::Path, message: &str) -> FieldError {
    use serde_path_to_error::Segment;
    let (mut field, mut here) = (String::new(), Some(value));
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                field.push_str(&format!("[{index}]"));
                here = here.and_then(|v| v.get(*index));
            }
            Segment::Map { key } => {
                field = join(&field, key);
                here = here.and_then(|v| v.get(key.as_str()));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let detail = match (expected(message), here) {
        (Some(expected), Some(found)) if expected != kind_of(found) => {
            format!("expected {expected}, found {}", kind_of(found))
        }
        _ => message.to_owned(),
    };
    FieldError { field, reason: Reason::TypeInvalid, detail }
}

/// The JSON type that a decoding error asked for.
fn expected(message: &str) -> Option<&'static str> {
    let (_, wanted) = message.rsplit_once("expected ")?;
    Some(match wanted {
        "i32" | "i64" | "u32" | "u64" | "u16" => "integer",
        "a string" | "string" => "string",
        "a boolean" | "bool" => "boolean",
        "f64" => "number",
        w if w.contains("sequence") => "list",
        w if w.starts_with("struct ") || w.contains("map") => "map",
        w if w.chars().next().is_some_and(char::is_uppercase) && !w.contains(' ') => {
            if matches!(w, "Quantity" | "IntOrString" | "Time" | "MicroTime" | "ByteString") {
                return None;
            }
            "map"
        }
        _ => return None,
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// Takes out what a path points at; false when there is nothing.
fn remove(value: &mut Value, path: &serde_path_to_error::Path) -> bool {
    use serde_path_to_error::Segment;
    let mut here = value;
    let segments: Vec<&Segment> =
        path.iter().filter(|s| matches!(s, Segment::Seq { .. } | Segment::Map { .. })).collect();
    let Some((last, parents)) = segments.split_last() else { return false };
    for segment in parents {
        let next = match segment {
            Segment::Seq { index } => here.get_mut(*index),
            Segment::Map { key } => here.get_mut(key.as_str()),
            Segment::Enum { .. } | Segment::Unknown => return false,
        };
        let Some(next) = next else { return false };
        here = next;
    }
    match (last, here) {
        (Segment::Seq { index }, Value::Array(items)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        (Segment::Map { key }, Value::Object(map)) => map.remove(key.as_str()).is_some(),
        _ => false,
    }
}

/// The maps whose values are quantities, and the fields that are one.
const QUANTITY_MAPS: [&str; 6] =
    ["limits", "requests", "capacity", "allocatable", "overhead", "hard"];
const QUANTITY_FIELDS: [&str; 2] = ["sizeLimit", "divisor"];

/// Maps whose keys are the author's own: they hold no quantities whatever the keys are.
const NO_QUANTITIES: [&str; 8] = [
    "metadata",
    "data",
    "stringData",
    "matchLabels",
    "nodeSelector",
    "selector",
    "parameters",
    "openAPIV3Schema",
];

/// Where quantities are.
#[derive(Clone, Copy)]
struct Quantities {
    /// [`Kind::QUANTITIES`]
    own: &'static [&'static str],
    /// Inside a map of quantities every plain value is one.
    inside: bool,
}

impl Quantities {
    fn is_field(self, key: &str) -> bool {
        self.inside || QUANTITY_FIELDS.contains(&key) || self.own.contains(&key)
    }

    fn under(self, key: &str) -> Self {
        Self { inside: QUANTITY_MAPS.contains(&key) || self.own.contains(&key), ..self }
    }
}

/// Where the walk over a value stands; becomes a text only when there is something to tell.
enum At<'a> {
    Root,
    Key(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl At<'_> {
    fn path(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(parent, key) => join(&parent.path(), key),
            Self::Index(parent, index) => format!("{}[{index}]", parent.path()),
        }
    }
}

/// Writes every quantity in Kubernetes' canonical form; numbers become text.
fn read_quantities(value: &mut Value, at: &At<'_>, here: Quantities, check: &mut Check) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let key = key.as_str();
                if NO_QUANTITIES.contains(&key) {
                    continue;
                }
                let at = At::Key(at, key);
                let plain = !inner.is_object() && !inner.is_array();
                if plain && here.is_field(key) {
                    read_quantity(inner, &at, check);
                } else if !plain {
                    read_quantities(inner, &at, here.under(key), check);
                }
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter_mut().enumerate() {
                let here = Quantities { inside: false, ..here };
                read_quantities(inner, &At::Index(at, i), here, check);
            }
        }
        _ => {}
    }
}

fn read_quantity(value: &mut Value, at: &At<'_>, check: &mut Check) {
    let text = match &*value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    match amount::canonical(&text) {
        Ok(canonical) => *value = Value::String(canonical),
        Err(error) => check.error(at.path(), Reason::TypeInvalid, error.to_string()),
    }
}
