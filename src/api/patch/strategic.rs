//! Strategic merge patch (kubernetes.io/docs/tasks/manage-kubernetes-objects/
//! update-api-object-kubectl-patch, and the design of its directives).

use serde_json::{Map, Value};

use super::{PatchError, Schema};

type Object = Map<String, Value>;

/// Deepest nesting that is merged: patches are parsed with the same bound.
const DEPTH_MAX: usize = 64;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

pub(super) fn apply(live: &Value, patch: &Value, schema: Schema<'_>) -> Result<Value, PatchError> {
    let (Some(live), Some(patch)) = (live.as_object(), patch.as_object()) else {
        return Err(unfit("a strategic merge patch changes a map by a map"));
    };
    merge_map(live, patch, schema, 0).map(Value::Object)
}

fn unfit(text: impl Into<String>) -> PatchError {
    PatchError::Unfit(text.into())
}

fn merge_map(
    live: &Object,
    patch: &Object,
    schema: Schema<'_>,
    depth: usize,
) -> Result<Object, PatchError> {
    if depth > DEPTH_MAX {
        return Err(unfit(format!("the patch is nested deeper than {DEPTH_MAX}")));
    }
    match patch.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => return Ok(without_directives(patch, depth)),
        Some("delete") => return Ok(Object::new()),
        Some(other) => {
            return Err(unfit(format!("unknown patch type: {other} in map: {}", go(patch))));
        }
    }
    let mut merged = live.clone();
    retain(&mut merged, patch)?;
    for (name, value) in patch.iter().filter(|(name, _)| !is_directive(name)) {
        let place = schema.field(name).unwrap_or(Schema::Deduced);
        merge_field(&mut merged, name, value, patch, place, depth)?;
    }
    for (directive, values) in patch {
        if let Some(name) = directive.strip_prefix(DELETE_FROM) {
            delete_values(&mut merged, name, values)?;
        }
    }
    order_lists(&mut merged, live, patch, schema)?;
    Ok(merged)
}

fn is_directive(name: &str) -> bool {
    name == PATCH || name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(ORDER)
}

fn merge_field(
    merged: &mut Object,
    name: &str,
    value: &Value,
    patch: &Object,
    place: Schema<'_>,
    depth: usize,
) -> Result<(), PatchError> {
    let replace = place.strategy().is_some_and(|field| field.replace);
    let new = match (merged.get(name), value) {
        (_, Value::Null) => {
            merged.remove(name);
            return Ok(());
        }
        (Some(Value::Object(live)), Value::Object(patch)) if !replace => {
            Value::Object(merge_map(live, patch, place, depth + 1)?)
        }
        (None, Value::Object(patch)) => {
            Value::Object(merge_map(&Object::new(), patch, place, depth + 1)?)
        }
        (live @ (Some(Value::Array(_)) | None), Value::Array(items)) => {
            let live = live.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            Value::Array(merge_list(live, items, place, depth + 1)?)
        }
        (Some(Value::Object(_)), Value::Array(_)) => {
            return Err(PatchError::Invalid {
                value: go(patch),
                why: "cannot restore map from slice".to_owned(),
            });
        }
        (Some(Value::Array(_)), Value::Object(_)) => {
            return Err(PatchError::Invalid {
                value: go(patch),
                why: "cannot restore slice from map".to_owned(),
            });
        }
        (_, value) => value.clone(),
    };
    // What a `$patch: delete` leaves is gone.
    let gone = value.get(PATCH).is_some_and(|directive| directive == "delete");
    if gone {
        merged.remove(name);
    } else {
        merged.insert(name.to_owned(), new);
    }
    Ok(())
}

fn merge_list(
    live: &[Value],
    patch: &[Value],
    place: Schema<'_>,
    depth: usize,
) -> Result<Vec<Value>, PatchError> {
    let field = place.strategy().filter(|field| field.merge);
    let replaces = |item: &Value| item.get(PATCH).is_some_and(|directive| directive == "replace");
    let Some(field) = field.filter(|_| !patch.iter().any(replaces)) else {
        let kept = patch.iter().filter(|item| !replaces(item) || has_more(item));
        return Ok(kept.map(|item| cleaned(item, depth)).collect());
    };
    let Some(key) = field.merge_key else { return Ok(merge_values(live, patch)) };
    let mut merged = live.to_vec();
    let mut new = Vec::new();
    for item in patch {
        let Some(item) = item.as_object() else {
            return Err(unfit(format!("a list that is merged by {key} holds maps alone")));
        };
        let Some(id) = item.get(key).filter(|id| !id.is_null()) else {
            let text = format!("map: {} does not contain declared merge key: {key}", go(item));
            return Err(unfit(text));
        };
        let at = merged.iter().position(|found| found.get(key) == Some(id));
        if item.get(PATCH).is_some_and(|directive| directive == "delete") {
            merged.retain(|found| found.get(key) != Some(id));
            continue;
        }
        let empty = Object::new();
        match at.and_then(|at| merged.get_mut(at)) {
            Some(found) => {
                let before = found.as_object().unwrap_or(&empty);
                *found = Value::Object(merge_map(before, item, place.item(), depth)?);
            }
            None => new.push(Value::Object(merge_map(&empty, item, place.item(), depth)?)),
        }
    }
    merged.extend(new);
    let order: Vec<&Value> = patch.iter().filter_map(|item| item.get(key)).collect();
    Ok(ordered(merged, live, &order, Some(key)))
}

/// Whether an item is more than its directive.
fn has_more(item: &Value) -> bool {
    item.as_object().is_some_and(|item| item.len() > 1)
}

/// A list of plain values that is merged: what is new is added.
fn merge_values(live: &[Value], patch: &[Value]) -> Vec<Value> {
    let mut merged = live.to_vec();
    for value in patch {
        if !merged.contains(value) {
            merged.push(value.clone());
        }
    }
    let order: Vec<&Value> = patch.iter().collect();
    ordered(merged, live, &order, None)
}

/// Puts items into an order that keeps both that of the patch and that of the live list; where
/// neither decides, what the patch names goes first.
fn ordered(
    mut merged: Vec<Value>,
    live: &[Value],
    order: &[&Value],
    key: Option<&str>,
) -> Vec<Value> {
    let place = |item: &Value| order.iter().position(|wanted| id(item, key) == Some(*wanted));
    let in_live = |item: &Value| live.iter().position(|found| id(found, key) == id(item, key));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.drain(..).partition(|item| place(item).is_some());
    named.sort_by_key(|item| place(item));
    others.sort_by_key(|item| in_live(item));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    let mut result = Vec::new();
    while let (Some(one), Some(other)) = (named.peek(), others.peek()) {
        let other_first = match (in_live(one), in_live(other)) {
            (Some(one), Some(other)) => other < one,
            _ => false,
        };
        result.extend(if other_first { others.next() } else { named.next() });
    }
    result.extend(named);
    result.extend(others);
    result
}

/// What tells an item of a list: its merge key, or itself.
fn id<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    key.map_or(Some(item), |key| item.get(key))
}

/// `$retainKeys`: of the live map only these stay.
fn retain(merged: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(keys) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or_else(|| unfit("$retainKeys is no list"))?;
    let named = |name: &str| keys.iter().any(|key| key == name);
    let stray = patch.iter().find(|(name, v)| !is_directive(name) && !v.is_null() && !named(name));
    if stray.is_some() {
        return Err(unfit(format!(
            "retain keys list not present in patch: {} has a key that $retainKeys does not name",
            go(patch)
        )));
    }
    merged.retain(|name, _| named(name));
    Ok(())
}

/// `$deleteFromPrimitiveList/name`
fn delete_values(merged: &mut Object, name: &str, values: &Value) -> Result<(), PatchError> {
    let values =
        values.as_array().ok_or_else(|| unfit(format!("{DELETE_FROM}{name} is no list")))?;
    if let Some(list) = merged.get_mut(name).and_then(Value::as_array_mut) {
        list.retain(|value| !values.contains(value));
    }
    Ok(())
}

/// `$setElementOrder/name`: the order of the list, as the patch wants it.
fn order_lists(
    merged: &mut Object,
    live: &Object,
    patch: &Object,
    schema: Schema<'_>,
) -> Result<(), PatchError> {
    for (directive, order) in patch {
        let Some(name) = directive.strip_prefix(ORDER) else { continue };
        let order = order.as_array().ok_or_else(|| unfit(format!("{directive} is no list")))?;
        let key = schema.field(name).and_then(Schema::strategy).and_then(|field| field.merge_key);
        let id = |item: &'_ Value| -> Option<Value> {
            match key {
                Some(key) => item.get(key).cloned(),
                None => Some(item.clone()),
            }
        };
        let wanted: Vec<Value> = order.iter().filter_map(id).collect();
        let empty = Vec::new();
        let sent = patch.get(name).and_then(Value::as_array).unwrap_or(&empty);
        check_order(sent, order, &wanted, &id)?;
        let Some(Value::Array(list)) = merged.remove(name) else { continue };
        let before = live.get(name).and_then(Value::as_array).unwrap_or(&empty);
        let wanted: Vec<&Value> = wanted.iter().collect();
        merged.insert(name.to_owned(), Value::Array(ordered(list, before, &wanted, key)));
    }
    Ok(())
}

/// What is patched must stand in the order, and in that order.
fn check_order(
    sent: &[Value],
    order: &[Value],
    wanted: &[Value],
    id: &dyn Fn(&Value) -> Option<Value>,
) -> Result<(), PatchError> {
    let deletes = |item: &&Value| item.get(PATCH).is_none_or(|directive| directive != "delete");
    let mut rest = wanted.iter();
    let fits = sent.iter().filter(deletes).filter_map(id).all(|id| rest.any(|w| *w == id));
    match fits {
        true => Ok(()),
        false => Err(unfit(format!(
            "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
            go_list(sent),
            go_list(order)
        ))),
    }
}

/// A patch as a value of its own: without directives, nulls and what is to be deleted.
fn without_directives(patch: &Object, depth: usize) -> Object {
    let kept = patch.iter().filter(|(name, value)| !is_directive(name) && !value.is_null());
    kept.map(|(name, value)| (name.clone(), cleaned(value, depth + 1))).collect()
}

fn cleaned(value: &Value, depth: usize) -> Value {
    match value {
        Value::Object(map) if depth <= DEPTH_MAX => Value::Object(without_directives(map, depth)),
        Value::Array(items) => Value::Array(items.iter().map(|i| cleaned(i, depth + 1)).collect()),
        other => other.clone(),
    }
}

/// A map as Go prints one.
pub(super) fn go(map: &Object) -> String {
    let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v))).collect();
    format!("map[{}]", entries.join(" "))
}

fn go_list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" "))
}

fn go_value(value: &Value) -> String {
    match value {
        Value::Object(map) => go(map),
        Value::Array(items) => go_list(items),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
