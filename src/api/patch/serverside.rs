//! Server-side apply (kubernetes.io/docs/reference/using-api/server-side-apply): a manager says
//! everything it wants; what others own conflicts, what it gave up goes.

use serde_json::{Value, json};

use super::{
    Conflict, PatchError,
    fields::FieldSet,
    managed::{self, Manager, Managers, Owned, Writer},
    schema::Schema,
    walk,
};

/// Who owns the fields of an object that nobody was said to own when it is applied to.
const BEFORE: &str = "before-first-apply";

/// Applies `wanted` to the live object, or makes one when there is none.
///
/// The result is not defaulted yet and carries its managedFields; it is the live object itself
/// when nothing changed. `force` takes what others own. The caller has compared name, uid and
/// version.
pub(in crate::api) fn apply(
    live: Option<&Value>,
    wanted: &Value,
    schema: Schema<'_>,
    writer: &Writer,
    force: bool,
) -> Result<Value, PatchError> {
    check(wanted)?;
    let set = walk::field_set(wanted, schema).map_err(|why| unfit(wanted, &why))?;
    let set = managed::owned_through(writer, set);
    let wanted = reachable(wanted, writer);
    let before = live.map_or_else(|| json!({}), managed::without_books);
    let mut managers = live.map(|live| owners(live, &before, schema, writer)).unwrap_or_default();
    let former = managers.clone();

    let me = Manager::of(writer, true);
    let given = managers.remove(&me).map(|owned| owned.set).unwrap_or_default();
    let time = former.get(&me).and_then(|owned| owned.time.clone());
    let mine = Owned { set, api_version: writer.api_version.clone(), time };
    managers.insert(me.clone(), mine);

    let merged = walk::merge(&before, &wanted, schema);
    let object = prune(merged, &managers, &given, schema);
    let compared = walk::compare(&before, &object, schema);
    let same = live.is_some() && compared.is_same();
    let changed = compared.map(|set| managed::owned_through(writer, set));
    let taken = changed.modified.union(&changed.added);
    if !force {
        refuse_conflicts(&managers, &me, &taken)?;
    }
    let lost = taken.union(&changed.removed);
    for (_, owned) in managers.iter_mut().filter(|(manager, _)| **manager != me) {
        owned.set = owned.set.difference(&lost);
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    if let (true, true, Some(live)) = (same, managers == former, live) {
        return Ok(live.clone());
    }
    // Sharing what is there already is no write: it has no time.
    if let Some(mine) = managers.get_mut(&me).filter(|_| !same) {
        mine.time = Some(writer.time.clone());
    }
    let mut object = object;
    managed::write(&mut object, &managers);
    Ok(object)
}

/// What cannot be applied whatever is there.
fn check(wanted: &Value) -> Result<(), PatchError> {
    let text = |field: &str| wanted[field].as_str().unwrap_or_default();
    let malformed = |text: String| Err(PatchError::Malformed(text));
    if text("kind").is_empty() || text("apiVersion").is_empty() {
        return malformed(format!("invalid object type: {}", spoken_kind(wanted)));
    }
    match wanted["metadata"].get("managedFields") {
        None | Some(Value::Null) => Ok(()),
        Some(_) => malformed("metadata.managedFields must be nil".to_owned()),
    }
}

/// `apps/v1, Kind=Deployment`; `/v1, Kind=ConfigMap`.
fn spoken_kind(wanted: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&wanted["apiVersion"]), text(&wanted["kind"]));
    let slash = if version.contains('/') { "" } else { "/" };
    format!("{slash}{version}, Kind={kind}")
}

fn unfit(wanted: &Value, why: &str) -> PatchError {
    let text = |field: &str| wanted["metadata"][field].as_str().unwrap_or_default();
    PatchError::Unfit(format!(
        "failed to create typed patch object ({}/{}; {}): {why}",
        text("namespace"),
        text("name"),
        spoken_kind(wanted)
    ))
}

/// What of the wish this door takes: the rest is neither set nor owned.
fn reachable(wanted: &Value, writer: &Writer) -> Value {
    let mut wanted = wanted.clone();
    let cut = match (writer.subresource, writer.has_status) {
        ("status", _) => "spec",
        ("", true) => "status",
        _ => return wanted,
    };
    if let Some(map) = wanted.as_object_mut() {
        map.remove(cut);
    }
    wanted
}

/// The owners of a live object. When it has none, everything in it belongs to a manager of that
/// name, so that the first apply conflicts rather than overwrites.
fn owners(live: &Value, bare: &Value, schema: Schema<'_>, writer: &Writer) -> Managers {
    let managers = managed::read(live);
    if !managers.is_empty() {
        return managers;
    }
    let writer = Writer { manager: BEFORE.to_owned(), subresource: "", ..writer.clone() };
    let all = walk::compare(&json!({}), bare, schema).added;
    let set = managed::owned_through(&writer, all);
    let owned =
        Owned { set, api_version: writer.api_version.clone(), time: Some(writer.time.clone()) };
    Managers::from([(Manager::of(&writer, false), owned)])
}

/// Takes away what the manager owned, no longer wants, and nobody else owns.
fn prune(merged: Value, managers: &Managers, given: &FieldSet, schema: Schema<'_>) -> Value {
    if given.is_empty() {
        return merged;
    }
    let owned = managers.values().fold(FieldSet::default(), |all, one| all.union(&one.set));
    let gone = given.with_ways().difference(&owned.with_ways());
    walk::without(&merged, &gone, schema).unwrap_or_else(|| json!({}))
}

fn refuse_conflicts(managers: &Managers, me: &Manager, taken: &FieldSet) -> Result<(), PatchError> {
    let mut conflicts: Vec<Conflict> = Vec::new();
    for (manager, owned) in managers.iter().filter(|(manager, _)| *manager != me) {
        let paths = owned.set.intersection(taken).paths();
        let manager = manager.spoken();
        conflicts
            .extend(paths.into_iter().map(|field| Conflict { manager: manager.clone(), field }));
    }
    conflicts.sort();
    if conflicts.is_empty() { Ok(()) } else { Err(PatchError::Conflicts(conflicts)) }
}

/// As kubectl prints them, by manager.
pub(super) fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager, one.field
        );
    }
    let mut lines = Vec::new();
    let mut manager = None;
    for conflict in conflicts {
        if manager.replace(&conflict.manager) != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
