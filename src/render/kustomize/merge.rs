//! Strategic merge patches as kustomize does them: what a list gains goes first, and a list of
//! which nothing is known is replaced.

use serde_json::{Map, Value};

use super::paths::DEPTH_MAX;
use crate::kinds::types::{self, Field, Message, Type};

type Object = Map<String, Value>;

const PATCH: &str = "$patch";

/// What is known of a place.
#[derive(Clone, Copy, Default)]
struct At {
    typ: Option<&'static Type>,
    /// The kind's own type, at its top.
    top: Option<&'static str>,
    /// The field that holds it.
    field: Option<&'static Field>,
}

impl At {
    fn message(self) -> Option<&'static Message> {
        match (self.top, self.typ) {
            (Some(name), _) => types::message(name),
            (None, Some(Type::Message(name))) => types::message(name),
            _ => None,
        }
    }

    fn below(self, name: &str) -> Self {
        if let Some(Type::Map(item)) = self.typ {
            return Self { typ: Some(item), ..Self::default() };
        }
        let field = self.message().and_then(|message| message.field(name));
        Self { typ: field.map(|field| &field.typ), top: None, field }
    }

    fn item(self) -> Self {
        match self.typ {
            Some(Type::List(item)) => Self { typ: Some(item), ..Self::default() },
            _ => Self::default(),
        }
    }

    /// What tells the items of a list that is merged (none: the items themselves); nothing for a
    /// list that is replaced.
    fn keys(self) -> Option<Vec<&'static str>> {
        let field = self.field.filter(|field| field.merge)?;
        match (field.keys.is_empty(), field.merge_key) {
            (false, Some(_)) => Some(field.keys.clone()),
            (_, key) => Some(key.into_iter().collect()),
        }
    }
}

/// What a patch makes of an object; nothing when it deletes it.
pub(super) fn apply(object: Value, patch: &Value) -> Result<Option<Value>, String> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let top = types::of_kind(text("apiVersion"), text("kind"));
    merge(Some(object), Some(patch), At { top, ..At::default() }, 0)
}

fn merge(
    old: Option<Value>,
    patch: Option<&Value>,
    at: At,
    depth: usize,
) -> Result<Option<Value>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("the patch is nested deeper than {DEPTH_MAX}"));
    }
    let Some(patch) = patch else { return Ok(old) };
    match (old, patch) {
        (_, Value::Null) => Ok(None),
        (None | Some(Value::Null), patch) => taken(patch, at, depth),
        (Some(Value::Object(old)), Value::Object(patch)) => match directive(patch)? {
            Some("delete") => Ok(None),
            Some("replace") => taken(&Value::Object(without_directive(patch)), at, depth),
            _ => merge_map(old, patch, at, depth).map(Some),
        },
        (Some(Value::Array(old)), Value::Array(patch)) => merge_list(old, patch, at, depth),
        (Some(Value::Object(_)), _) => Err(mismatch(at, "a map", patch)),
        (Some(Value::Array(_)), _) => Err(mismatch(at, "a list", patch)),
        (Some(_), Value::Object(_) | Value::Array(_)) => Err(mismatch(at, "a single value", patch)),
        (Some(_), patch) => Ok(Some(patch.clone())),
    }
}

fn mismatch(at: At, is: &str, patch: &Value) -> String {
    let name = at.field.map_or("the field", |field| field.name);
    let given = match patch {
        Value::Object(_) => "a map",
        Value::Array(_) => "a list",
        _ => "a single value",
    };
    format!("{name} is {is} in the object and {given} in the patch")
}

/// What a patch adds where nothing was: itself, without directives and nulls.
fn taken(patch: &Value, at: At, depth: usize) -> Result<Option<Value>, String> {
    match patch {
        Value::Object(map) => match directive(map)? {
            Some("delete") => Ok(None),
            _ => merge_map(Object::new(), map, at, depth).map(Some),
        },
        Value::Array(items) => merge_list(Vec::new(), items, at, depth),
        other => Ok(Some(other.clone())),
    }
}

fn merge_map(mut old: Object, patch: &Object, at: At, depth: usize) -> Result<Value, String> {
    for (name, value) in patch.iter().filter(|(name, _)| *name != PATCH) {
        let new = merge(old.remove(name), Some(value), at.below(name), depth + 1)?;
        if let Some(new) = new {
            old.insert(name.clone(), new);
        }
    }
    Ok(Value::Object(old))
}

/// What a map says that is done with it.
fn directive(map: &Object) -> Result<Option<&str>, String> {
    match map.get(PATCH) {
        None => Ok(None),
        Some(Value::String(word)) if ["delete", "replace", "merge"].contains(&word.as_str()) => {
            Ok(Some(word))
        }
        Some(other) => Err(format!("unknown $patch {other}: write delete, replace or merge")),
    }
}

fn without_directive(map: &Object) -> Object {
    let mut map = map.clone();
    map.remove(PATCH);
    map
}

fn merge_list(
    old: Vec<Value>,
    patch: &[Value],
    at: At,
    depth: usize,
) -> Result<Option<Value>, String> {
    let Some(keys) = at.keys() else { return Ok(Some(Value::Array(patch.to_vec()))) };
    let lone = |item: &&Value| item.as_object().is_some_and(|map| map.len() == 1);
    let word = match patch.iter().filter(lone).find_map(|item| item.get(PATCH)) {
        Some(_) => patch
            .iter()
            .filter_map(Value::as_object)
            .find_map(|map| directive(map).transpose().filter(|_| map.len() == 1)),
        None => None,
    };
    let old = match word.transpose()? {
        Some("delete") => return Ok(None),
        Some("replace") => Vec::new(),
        _ => old,
    };
    let is_item = |item: &&Value| !(lone(item) && item.get(PATCH).is_some());
    let patch: Vec<&Value> = patch.iter().filter(is_item).collect();
    let merged = match keys.is_empty() {
        true => merge_values(old, &patch),
        false => merge_items(old, &patch, &keys, at.item(), depth)?,
    };
    Ok(Some(Value::Array(merged)))
}

/// A list of plain values: those of the patch first.
fn merge_values(old: Vec<Value>, patch: &[&Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for value in patch.iter().copied().cloned().chain(old) {
        if !merged.contains(&value) {
            merged.push(value);
        }
    }
    merged
}

/// A list of maps, each told by `keys`.
fn merge_items(
    mut old: Vec<Value>,
    patch: &[&Value],
    keys: &[&str],
    at: At,
    depth: usize,
) -> Result<Vec<Value>, String> {
    let given = |key: &&&str| {
        let has = |item: &Value| item.get(**key).is_some_and(|value| !value.is_null());
        old.iter().any(has) || patch.iter().copied().any(has)
    };
    let used: Vec<&str> = keys.iter().filter(given).copied().collect();
    let mut new = Vec::new();
    for item in patch {
        let Some(map) = item.as_object() else {
            return Err(format!("a list that is merged by {} holds maps alone", keys.join(", ")));
        };
        if used.is_empty() || !used.iter().any(|key| map.get(*key).is_some_and(|v| !v.is_null())) {
            return Err(format!("an item of the list has no {}, which tells it", keys.join(", ")));
        }
        match old.iter().position(|found| same(found, item, &used)) {
            Some(_) if directive(map)? == Some("replace") => {
                return Err("$patch: replace of one item of a list is not supported: versions of \
                            kustomize leave the item as it was; patch its fields, or replace the \
                            whole list"
                    .to_owned());
            }
            Some(at_old) if half_told(&old[at_old], item, &used) => {
                return Err(format!(
                    "the item {} is told by {} in one of object and patch, and not in the other: \
                     write them in both or in neither",
                    plain(item.get(used[0]).unwrap_or(&Value::Null)),
                    used.join(" and ")
                ));
            }
            Some(at_old) => {
                let merged = merge(Some(old[at_old].take()), Some(item), at, depth + 1)?;
                match (merged.filter(|value| !is_empty(value)), used.len()) {
                    (None, _) => drop(old.remove(at_old)),
                    // With one key, the order is that of the patch.
                    (Some(merged), 1) => {
                        old.remove(at_old);
                        new.push(merged);
                    }
                    (Some(merged), _) => old[at_old] = merged,
                }
            }
            None => new.extend(taken(item, at, depth + 1)?.filter(|value| !is_empty(value))),
        }
    }
    new.extend(old);
    Ok(new)
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

/// Whether two items are the same by their keys: what one leaves out differs from nothing, but not
/// all may be left out.
fn same(one: &Value, other: &Value, keys: &[&str]) -> bool {
    let pair = |key: &&str| (one.get(*key), other.get(*key));
    let differs = |(one, other)| matches!((one, other), (Some(a), Some(b)) if plain(a) != plain(b));
    let agrees = |(one, other)| matches!((one, other), (Some(a), Some(b)) if plain(a) == plain(b));
    !keys.iter().map(pair).any(differs) && keys.iter().map(pair).any(agrees)
}

/// Whether one of two items leaves out a key that the other has: kustomize then drops either.
fn half_told(one: &Value, other: &Value, keys: &[&str]) -> bool {
    keys.iter().any(|key| one.get(*key).is_some() != other.get(*key).is_some())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
