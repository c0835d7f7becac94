//! Walks into an object along a path of the tables.

use serde_json::{Map, Value};

use super::{resource::Resource, specs::Spec};

/// Deepest path that is followed, and deepest object that is made: files are read with the same
/// bound.
pub(super) const DEPTH_MAX: usize = 64;

/// What a field becomes that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Map,
    Scalar,
}

/// Changes what stands at a place.
pub(super) type Set<'s> = dyn FnMut(&mut Value) -> Result<(), String> + 's;

/// Calls `set` for each value at the place, in an object of its kind. `leaf` says what is made
/// where the place may be made and nothing stands there.
pub(super) fn visit(
    resource: &mut Resource,
    spec: &Spec<'_>,
    leaf: Option<Leaf>,
    set: &mut Set<'_>,
) -> Result<(), String> {
    let api_version = resource.api_version();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if !spec.gvk.fits(group, version, resource.kind()) {
        return Ok(());
    }
    let parts = split(spec.path, '/');
    bounded(parts.len())?;
    let walk = Walk { leaf: leaf.filter(|_| spec.create) };
    walk.value(&mut resource.value, &parts, set)
        .map_err(|message| format!("{}: {message}", parts.join(".")))
}

/// Refuses what is too deep.
pub(super) fn bounded(depth: usize) -> Result<(), String> {
    match depth <= DEPTH_MAX {
        true => Ok(()),
        false => Err(format!("it is deeper than {DEPTH_MAX}")),
    }
}

/// How deep a value is; what is deeper than [`DEPTH_MAX`] counts no further.
pub(super) fn depth(value: &Value) -> usize {
    fn below(value: &Value, left: usize) -> usize {
        let Some(left) = left.checked_sub(1) else { return 0 };
        match value {
            Value::Array(items) => items.iter().map(|i| below(i, left) + 1).max().unwrap_or(1),
            Value::Object(map) => map.values().map(|v| below(v, left) + 1).max().unwrap_or(1),
            _ => 0,
        }
    }
    below(value, DEPTH_MAX + 1)
}

/// The parts of a path; a backslash keeps a separator inside a part.
pub(super) fn split(path: &str, separator: char) -> Vec<String> {
    let path = path.strip_prefix(separator).filter(|rest| !rest.is_empty()).unwrap_or(path);
    let mut parts: Vec<String> = Vec::new();
    let mut open = false;
    for part in path.split(separator) {
        let kept = part.strip_suffix('\\');
        let text = kept.unwrap_or(part);
        match parts.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(separator);
                last.push_str(text);
            }
            None => parts.push(text.to_owned()),
        }
        open = kept.is_some();
    }
    parts
}

struct Walk {
    leaf: Option<Leaf>,
}

impl Walk {
    fn value(&self, value: &mut Value, parts: &[String], set: &mut Set<'_>) -> Result<(), String> {
        let Some((part, rest)) = parts.split_first() else { return set(value) };
        match value {
            Value::Null => Ok(()),
            Value::Array(items) => {
                items.iter_mut().try_for_each(|item| self.value(item, parts, set))
            }
            Value::Object(map) => self.field(map, part, rest, set),
            _ => Err(format!("there is a single value where {part:?} is looked for")),
        }
    }

    fn field(
        &self,
        map: &mut Map<String, Value>,
        part: &str,
        rest: &[String],
        set: &mut Set<'_>,
    ) -> Result<(), String> {
        let name = part.strip_suffix("[]");
        let leaf = self.leaf.filter(|_| name.is_none());
        let name = name.unwrap_or(part);
        let made = match leaf {
            Some(Leaf::Scalar) if rest.is_empty() => Value::Null,
            _ => Value::Object(Map::new()),
        };
        let found = match leaf {
            Some(_) => Some(map.entry(name.to_owned()).or_insert_with(|| made.clone())),
            None => map.get_mut(name),
        };
        let Some(found) = found else { return Ok(()) };
        if leaf.is_some() && found.is_null() {
            *found = made;
        }
        self.value(found, rest, set)
    }
}
