//! managedFields: who owns which fields of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{fields::FieldSet, schema::Schema, walk};

/// Most managers of operation `Update` that are kept apart, as in Kubernetes; the oldest are put
/// together under [`ANCIENT`].
const UPDATE_MANAGERS_MAX: usize = 10;

/// Most entries that are read from an object: more than any object gets here, and each costs a
/// pass for every write.
const ENTRIES_MAX: usize = 200;

/// Who the oldest updates are put under.
const ANCIENT: &str = "ancient-changes";

/// Fields that nobody owns: identity, and what the cluster writes.
const NEVER_OWNED: [&[&str]; 10] = [
    &["f:apiVersion"],
    &["f:kind"],
    &["f:metadata", "f:name"],
    &["f:metadata", "f:namespace"],
    &["f:metadata", "f:creationTimestamp"],
    &["f:metadata", "f:selfLink"],
    &["f:metadata", "f:uid"],
    &["f:metadata", "f:generation"],
    &["f:metadata", "f:managedFields"],
    &["f:metadata", "f:resourceVersion"],
];

/// Who writes, through which door, when.
#[derive(Clone, Debug)]
pub(in crate::api) struct Writer {
    /// `kubectl-edit`
    pub(in crate::api) manager: String,
    /// The version in which the object is written.
    pub(in crate::api) api_version: String,
    /// `status`, `scale`; empty for the object itself.
    pub(in crate::api) subresource: &'static str,
    /// Whether the kind has a `/status` path, so that the main path leaves the status alone.
    pub(in crate::api) has_status: bool,
    /// Now, as RFC 3339 in whole seconds.
    pub(in crate::api) time: String,
}

/// By whom an entry is found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    /// Server-side apply, rather than an update.
    pub(super) applies: bool,
    pub(super) name: String,
    /// Empty when it applies: the entry stays the same when its version changes.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Manager {
    pub(super) fn of(writer: &Writer, applies: bool) -> Self {
        Self {
            applies,
            name: writer.manager.clone(),
            api_version: if applies { String::new() } else { writer.api_version.clone() },
            subresource: writer.subresource.to_owned(),
        }
    }

    /// As a conflict names it.
    pub(super) fn spoken(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if !self.applies {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owned {
    pub(super) set: FieldSet,
    pub(super) api_version: String,
    pub(super) time: Option<String>,
}

pub(super) type Managers = BTreeMap<Manager, Owned>;

/// The managers of an object; entries that cannot be read are left out.
pub(super) fn read(object: &Value) -> Managers {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.take(ENTRIES_MAX).filter_map(read_entry).collect()
}

fn read_entry(entry: &Value) -> Option<(Manager, Owned)> {
    let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    let applies = match entry["operation"].as_str()? {
        "Apply" => true,
        "Update" => false,
        _ => return None,
    };
    let api_version = text("apiVersion");
    let manager = Manager {
        applies,
        name: text("manager"),
        api_version: if applies { String::new() } else { api_version.clone() },
        subresource: text("subresource"),
    };
    let set = FieldSet::from_json(&entry["fieldsV1"]);
    let time = entry["time"].as_str().map(str::to_owned);
    Some((manager, Owned { set, api_version, time }))
}

/// Writes the managers into an object, in Kubernetes' order: appliers first, then by time and name.
pub(super) fn write(object: &mut Value, managers: &Managers) {
    let mut entries: Vec<(&Manager, &Owned)> =
        managers.iter().filter(|(_, owned)| !owned.set.is_empty()).collect();
    entries.sort_by_key(|(manager, owned)| {
        (!manager.applies, &owned.time, &manager.name, &owned.api_version, &manager.subresource)
    });
    let entries: Vec<Value> = entries.into_iter().map(|(m, owned)| entry(m, owned)).collect();
    let Some(object) = object.as_object_mut() else { return };
    let meta = object.entry("metadata").or_insert_with(|| json!({}));
    let Some(meta) = meta.as_object_mut() else { return };
    match entries.is_empty() {
        true => meta.remove("managedFields"),
        false => meta.insert("managedFields".to_owned(), Value::Array(entries)),
    };
}

fn entry(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = json!({
        "manager": manager.name,
        "operation": if manager.applies { "Apply" } else { "Update" },
        "apiVersion": owned.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.set.to_json(),
    });
    if let Some(time) = &owned.time {
        entry["time"] = time.as_str().into();
    }
    if !manager.subresource.is_empty() {
        entry["subresource"] = manager.subresource.as_str().into();
    }
    entry
}

/// A set without what nobody owns, and what a write through this door does not reach.
pub(super) fn owned_through(writer: &Writer, set: FieldSet) -> FieldSet {
    let set = NEVER_OWNED.iter().fold(set, |set, path| set.without(path));
    let set = set.without_member("f:metadata");
    match (writer.subresource, writer.has_status) {
        ("status", _) => set.without(&["f:spec"]),
        ("", true) => set.without(&["f:status"]),
        _ => set,
    }
}

/// Keeps the books of a create (`before` absent), update or patch; gives `after` with its
/// managedFields. `after` is defaulted and admitted.
///
/// An object that has no entries gets none by an update: those that came from Git are not tracked.
/// A writer who sends `managedFields: [{}]` clears them, as in Kubernetes.
pub(in crate::api) fn update(
    before: Option<&Value>,
    after: &Value,
    schema: Schema<'_>,
    writer: &Writer,
) -> Value {
    let mut result = after.clone();
    let sent = after["metadata"]["managedFields"].as_array();
    let cleared = sent.is_some_and(|e| e.len() == 1 && e[0].as_object().is_some_and(Map::is_empty));
    let untracked = before.is_some_and(|before| read(before).is_empty());
    if cleared || untracked {
        write(&mut result, &Managers::new());
        return result;
    }
    let managers = match (before, sent.is_some_and(|entries| !entries.is_empty())) {
        (Some(_), true) => read(after),
        (Some(before), false) => read(before),
        (None, _) => Managers::new(),
    };
    let empty = json!({});
    let before = without_books(before.unwrap_or(&empty));
    let managers = updated(managers, &before, &without_books(after), schema, writer);
    write(&mut result, &managers);
    result
}

/// An object without its managedFields, which own nothing and are large.
pub(super) fn without_books(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
    object
}

fn updated(
    mut managers: Managers,
    before: &Value,
    after: &Value,
    schema: Schema<'_>,
    writer: &Writer,
) -> Managers {
    let changed = walk::compare(before, after, schema).map(|set| owned_through(writer, set));
    let me = Manager::of(writer, false);
    let taken = changed.modified.union(&changed.added);
    let lost = taken.union(&changed.removed);
    for (_, owned) in managers.iter_mut().filter(|(manager, _)| **manager != me) {
        owned.set = owned.set.difference(&lost);
    }
    let mine = managers.get(&me).map(|owned| owned.set.clone()).unwrap_or_default();
    let set = mine.difference(&changed.removed).union(&taken);
    if set != mine {
        let (api_version, time) = (writer.api_version.clone(), Some(writer.time.clone()));
        managers.insert(me, Owned { set, api_version, time });
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    cap(managers)
}

/// Puts the oldest updates together when there are too many.
fn cap(mut managers: Managers) -> Managers {
    let mut updates: Vec<(Option<String>, Manager)> = managers
        .iter()
        .filter(|(manager, _)| !manager.applies && manager.subresource.is_empty())
        .map(|(manager, owned)| (owned.time.clone(), manager.clone()))
        .collect();
    updates.sort();
    let extra = updates.len().saturating_sub(UPDATE_MANAGERS_MAX);
    if extra == 0 {
        return managers;
    }
    for (_, old) in updates.into_iter().take(extra + 1) {
        let Some(owned) = managers.remove(&old) else { continue };
        let ancient = Manager { name: ANCIENT.to_owned(), ..old };
        let together = managers
            .get(&ancient)
            .map_or(owned.clone(), |found| Owned { set: found.set.union(&owned.set), ..owned });
        managers.insert(ancient, together);
    }
    managers
}
