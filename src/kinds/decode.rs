//! From JSON to a typed object: unknown fields, wrong types, quantities.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{FieldError, Kind, KindInfo, Reason, amount, door, field::Check, inert, meta, tidy};
use crate::model::{Object, Place, ReadError, Step, read_noting};

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
    value: Value,
    strictness: Strictness,
) -> Result<Decoded, Vec<FieldError>> {
    let mut check = Check::default();
    let typed: T = admitted(info, value, strictness, &mut check)?;
    let value = tidy::to_value(info, &typed).map_err(|e| vec![e])?;
    inert::warn(info, &value, &mut check);
    let object = object(&value).map_err(|e| vec![e])?;
    Ok((object, check.warnings))
}

/// As [`admit`], to what is not written yet; what its author should know is left in `check`. What
/// was found wrong before, and stands there, is told with the rest.
pub(super) fn admitted<T: Kind>(
    info: &KindInfo,
    value: Value,
    strictness: Strictness,
    check: &mut Check,
) -> Result<T, Vec<FieldError>> {
    let absent = |field: &&&str| value.pointer(field).is_none_or(Value::is_null);
    check.absent = T::NEEDED.iter().filter(absent).copied().collect();
    let typed = as_sent::<T>(value, strictness, check);
    // An unknown field leaves the rest readable, so the rest is judged as well; a wrong type does
    // not.
    let readable = check.errors.iter().all(|e| e.reason == Reason::Unknown);
    let Some(mut typed) = typed.filter(|_| readable) else {
        return Err(std::mem::take(&mut check.errors));
    };
    typed.default_fields();
    meta::validate(info, typed.metadata(), check);
    typed.validate(check);
    match check.errors.is_empty() {
        true => Ok(typed),
        false => Err(std::mem::take(&mut check.errors)),
    }
}

/// Decodes what somebody has sent: quantities in any form.
pub(super) fn as_sent<T: Kind>(
    mut value: Value,
    strictness: Strictness,
    check: &mut Check,
) -> Option<T> {
    let own = Quantities { own: T::QUANTITIES, inside: false };
    read_quantities(&mut value, &Place::Root, own, check);
    typed(value, strictness, check)
}

/// Whether a value has the shape of `T`: gives it back without the fields that `T` does not have.
pub(super) fn shaped<T: Serialize + DeserializeOwned>(
    value: Value,
    strictness: Strictness,
) -> Result<(Value, Vec<FieldError>), Vec<FieldError>> {
    let mut check = Check::default();
    let typed = typed::<T>(value, strictness, &mut check);
    match typed.filter(|_| check.errors.is_empty()) {
        Some(typed) => Ok((door::json(&typed).map_err(|e| vec![e])?, check.warnings)),
        None => Err(check.errors),
    }
}

/// An object of a value that has a kind and a name.
pub(super) fn object(value: &Value) -> Result<Object, FieldError> {
    Object::from_value(value).map_err(|e| FieldError {
        field: String::new(),
        reason: Reason::Invalid,
        detail: e.to_string(),
    })
}

/// Whether an object, made of `value`, decodes as `T`; the decoded view stays with the object.
pub(super) fn decodes<T: Kind>(object: &Object, value: &Value) -> bool {
    object.view_of::<T>(value).is_some()
}

/// Decodes, gathering every wrong type: what is wrong is taken out and the rest is tried again.
fn typed<T: DeserializeOwned>(
    mut value: Value,
    strictness: Strictness,
    check: &mut Check,
) -> Option<T> {
    for _ in 0..WRONG_TYPES_MAX {
        let mut unknown = Vec::new();
        match read_noting(&value, &mut |at| unknown.push(at.to_string())) {
            Ok(typed) => {
                report_unknown(unknown, strictness, check);
                return Some(typed);
            }
            Err(error) => {
                check.errors.push(wrong_type(&value, &error));
                if !remove(&mut value, &error) {
                    return None;
                }
            }
        }
    }
    None
}

pub(super) fn report_unknown(unknown: Vec<String>, strictness: Strictness, check: &mut Check) {
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

/// `parent.key`, or `key` at the root.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

fn wrong_type(value: &Value, error: &ReadError) -> FieldError {
    let (mut field, mut here) = (String::new(), Some(value));
    for step in error.path() {
        match step {
            Step::Index(index) => {
                field.push_str(&format!("[{index}]"));
                here = here.and_then(|v| v.get(*index));
            }
            Step::Key(key) => {
                field = join(&field, key);
                here = here.and_then(|v| v.get(key));
            }
        }
    }
    let message = error.message.as_str();
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

/// Takes out what an error points at; false when that is the whole value.
fn remove(value: &mut Value, error: &ReadError) -> bool {
    let mut path = error.path();
    let Some(last) = path.next_back() else { return false };
    let mut here = value;
    for step in path {
        let next = match step {
            Step::Index(index) => here.get_mut(*index),
            Step::Key(key) => here.get_mut(key),
        };
        let Some(next) = next else { return false };
        here = next;
    }
    match (last, here) {
        (Step::Index(index), Value::Array(items)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        (Step::Key(key), Value::Object(map)) => map.remove(key).is_some(),
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

/// Writes every quantity in Kubernetes' canonical form; numbers become text.
fn read_quantities(value: &mut Value, at: &Place<'_>, here: Quantities, check: &mut Check) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let key = key.as_str();
                if NO_QUANTITIES.contains(&key) {
                    continue;
                }
                let at = Place::Key(at, key);
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
                read_quantities(inner, &Place::Index(at, i), here, check);
            }
        }
        _ => {}
    }
}

fn read_quantity(value: &mut Value, at: &Place<'_>, check: &mut Check) {
    let text = match &*value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return,
    };
    match amount::canonical(&text) {
        Ok(canonical) => *value = Value::String(canonical),
        Err(error) => check.error(at.to_string(), Reason::TypeInvalid, error.to_string()),
    }
}
