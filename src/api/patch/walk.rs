//! Walks over values by their schema: which fields there are, what changed, what two of them make
//! together, and what is left without some.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    fields::{self, FieldSet},
    schema::{Schema, Shape},
};

/// Deepest nesting that is looked into; below, a value is one value. Bodies are not deeper.
const DEPTH_MAX: usize = 128;

/// The step to an item of a list that is owned item by item.
fn step(shape: &Shape<'_>, item: &Value, place: Schema<'_>) -> String {
    let Shape::Keyed(keys) = shape else { return fields::to_value(item) };
    let mut found = BTreeMap::new();
    for key in keys {
        if let Some(value) = item.get(*key).cloned().or_else(|| place.key_default(key)) {
            found.insert(*key, value);
        }
    }
    fields::to_item(&found)
}

/// The items of a list with their steps.
fn steps(shape: &Shape<'_>, items: &[Value], place: Schema<'_>) -> Vec<String> {
    items.iter().map(|item| step(shape, item, place)).collect()
}

/// The fields that a manager says it wants, or what does not fit the schema.
pub(super) fn field_set(value: &Value, schema: Schema<'_>) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    collect(value, schema, &mut Vec::new(), &mut set)?;
    Ok(set)
}

fn spoken(path: &[String]) -> String {
    path.iter().map(|step| fields::spoken(step)).collect()
}

fn collect(
    value: &Value,
    schema: Schema<'_>,
    path: &mut Vec<String>,
    set: &mut FieldSet,
) -> Result<(), String> {
    let shape = if path.len() > DEPTH_MAX { Shape::Leaf } else { schema.shape(value) };
    match (&shape, value) {
        (Shape::Map, Value::Object(map)) => {
            for (name, value) in map {
                path.push(fields::to_field(name));
                let Some(below) = schema.field(name) else {
                    return Err(format!("{}: field not declared in schema", spoken(path)));
                };
                collect(value, below, path, set)?;
                let empty = value.as_object().is_some_and(Map::is_empty);
                if empty || !schema.declares(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (item, step) in items.iter().zip(steps(&shape, items, schema.item())) {
                if !seen.insert(step.clone()) {
                    let key = fields::spoken(&step);
                    return Err(format!("{}: duplicate entries for key {key}", spoken(path)));
                }
                path.push(step);
                collect(item, schema.item(), path, set)?;
                set.insert(path);
                path.pop();
            }
        }
        _ => set.insert(path),
    }
    Ok(())
}

/// What is different between two values.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Comparison {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Each of the sets, changed.
    pub(super) fn map(self, change: impl Fn(FieldSet) -> FieldSet) -> Self {
        Self {
            removed: change(self.removed),
            modified: change(self.modified),
            added: change(self.added),
        }
    }
}

/// Compares two values.
pub(super) fn compare(before: &Value, after: &Value, schema: Schema<'_>) -> Comparison {
    let mut found = Comparison::default();
    differ(Some(before), Some(after), schema, &mut Vec::new(), &mut found);
    found
}

fn differ(
    before: Option<&Value>,
    after: Option<&Value>,
    schema: Schema<'_>,
    path: &mut Vec<String>,
    found: &mut Comparison,
) {
    let Some(one) = after.filter(|v| !v.is_null()).or(before) else { return };
    let shape = if path.len() > DEPTH_MAX { Shape::Leaf } else { schema.shape(one) };
    let same_form = |v: Option<&Value>| {
        v.is_none_or(|v| {
            v.is_null() || v.is_object() == one.is_object() && v.is_array() == one.is_array()
        })
    };
    let empty = |v: Option<&Value>| match v {
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => true,
    };
    let whole = shape == Shape::Leaf || !same_form(before) || empty(before) && empty(after);
    if whole {
        match (before, after) {
            (None, _) => found.added.insert(path),
            (_, None) => found.removed.insert(path),
            (before, after) if before != after => found.modified.insert(path),
            _ => {}
        }
        return;
    }
    match shape {
        Shape::Map => differ_in_map(before, after, schema, path, found),
        shape => differ_in_list(before, after, (&shape, schema), path, found),
    }
    match (before, after) {
        (None, _) => found.added.insert(path),
        (_, None) => found.removed.insert(path),
        _ => {}
    }
}

fn differ_in_map(
    before: Option<&Value>,
    after: Option<&Value>,
    schema: Schema<'_>,
    path: &mut Vec<String>,
    found: &mut Comparison,
) {
    let empty = Map::new();
    let map = |v: Option<&'_ Value>| v.and_then(Value::as_object).cloned();
    let (left, right) = (map(before), map(after));
    let names: BTreeSet<&String> =
        left.iter().chain(right.iter()).flat_map(|map| map.keys()).collect();
    let always = |side: &Option<Map<String, Value>>, name: &str| {
        side.as_ref().and_then(|_| schema.always(name))
    };
    for name in names {
        let (a, b) =
            (left.as_ref().unwrap_or(&empty).get(name), right.as_ref().unwrap_or(&empty).get(name));
        let (left_always, right_always) = (always(&left, name), always(&right, name));
        let below = schema.field(name).unwrap_or(Schema::Deduced);
        path.push(fields::to_field(name));
        differ(a.or(left_always.as_ref()), b.or(right_always.as_ref()), below, path, found);
        path.pop();
    }
}

fn differ_in_list(
    before: Option<&Value>,
    after: Option<&Value>,
    (shape, schema): (&Shape<'_>, Schema<'_>),
    path: &mut Vec<String>,
    found: &mut Comparison,
) {
    let items = |v: Option<&'_ Value>| v.and_then(Value::as_array).cloned().unwrap_or_default();
    let (left, right) = (items(before), items(after));
    let by_step = |items: &[Value]| -> BTreeMap<String, Value> {
        steps(shape, items, schema.item()).into_iter().zip(items.iter().cloned()).collect()
    };
    let (left, right) = (by_step(&left), by_step(&right));
    for step in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
        path.push(step.clone());
        differ(left.get(step), right.get(step), schema.item(), path, found);
        path.pop();
    }
}

/// What a live value becomes when all of `wanted` is in it.
pub(super) fn merge(live: &Value, wanted: &Value, schema: Schema<'_>) -> Value {
    match (schema.shape(wanted), live, wanted) {
        (Shape::Map, Value::Object(live), Value::Object(wanted)) => {
            let mut merged = live.clone();
            for (name, value) in wanted {
                let below = schema.field(name).unwrap_or(Schema::Deduced);
                let before = merged.remove(name);
                let value = before.map_or_else(|| value.clone(), |b| merge(&b, value, below));
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (shape @ (Shape::Set | Shape::Keyed(_)), Value::Array(live), Value::Array(wanted)) => {
            Value::Array(merge_lists(live, wanted, &shape, schema.item()))
        }
        (_, _, wanted) => wanted.clone(),
    }
}

/// The order is that of `wanted`; what only the live list has stays where it stands among the rest.
fn merge_lists(
    live: &[Value],
    wanted: &[Value],
    shape: &Shape<'_>,
    place: Schema<'_>,
) -> Vec<Value> {
    let (live_steps, wanted_steps) = (steps(shape, live, place), steps(shape, wanted, place));
    let mut merged = Vec::new();
    let mut next = 0;
    for (item, step) in live.iter().zip(&live_steps) {
        let Some(at) = wanted_steps.iter().position(|found| found == step) else {
            merged.push(item.clone());
            continue;
        };
        while next <= at {
            merged.push(merged_item(live, &live_steps, &wanted[next], &wanted_steps[next], place));
            next += 1;
        }
    }
    for at in next..wanted.len() {
        merged.push(merged_item(live, &live_steps, &wanted[at], &wanted_steps[at], place));
    }
    merged
}

fn merged_item(
    live: &[Value],
    steps: &[String],
    wanted: &Value,
    step: &str,
    place: Schema<'_>,
) -> Value {
    let before = steps.iter().position(|found| found == step).and_then(|at| live.get(at));
    before.map_or_else(|| wanted.clone(), |before| merge(before, wanted, place))
}

/// A value without the members of a set; what is emptied by that goes too.
pub(super) fn without(value: &Value, gone: &FieldSet, schema: Schema<'_>) -> Option<Value> {
    let shape = schema.shape(value);
    match (&shape, value) {
        (Shape::Map, Value::Object(map)) => {
            let keep = |name: &String, value: &Value| match gone.at(&fields::to_field(name)) {
                None => Some(value.clone()),
                Some(set) if set.is_here() => None,
                Some(set) => without(value, set, schema.field(name).unwrap_or(Schema::Deduced)),
            };
            let kept: Map<String, Value> =
                map.iter().filter_map(|(n, v)| Some((n.clone(), keep(n, v)?))).collect();
            (map.is_empty() || !kept.is_empty()).then_some(Value::Object(kept))
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(items)) => {
            let keep = |(item, step): (&Value, String)| match gone.at(&step) {
                None => Some(item.clone()),
                Some(set) if set.is_here() => None,
                Some(set) => without(item, set, schema.item()),
            };
            let steps = steps(&shape, items, schema.item());
            let kept: Vec<Value> = items.iter().zip(steps).filter_map(keep).collect();
            (items.is_empty() || !kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => Some(value.clone()),
    }
}
