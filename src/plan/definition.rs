//! Definitions of custom kinds: their end, and names that become free
//! (kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions).
//!
//! Which names a definition gets is decided when it is stored ([`kinds::accept_names`]), so that
//! its kind is served at once. Here is what follows later: a definition that is to go takes its
//! objects along, and one whose names were taken gets them when they are free.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{Controller, Inputs, Plan};
use crate::{
    kinds::{self, CLEANUP},
    model::{GroupKind, Key, Object, Timestamp},
    state::{Change, Command, Expect, Op, Part, View},
};

/// Most objects of a kind that one step deletes; the next step goes on. Bounds the size of one log
/// entry.
const BATCH_MAX: usize = 500;

/// Ends definitions and gives out names that became free.
pub(super) const CONTROLLER: Controller =
    Controller { name: "crd-finalizer-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    let kind = GroupKind::of::<CustomResourceDefinition>();
    view.of_kind(&kind, None).map(|object| object.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<CustomResourceDefinition>() {
        // What one gives up another may wait for.
        let versions = [&change.old, &change.new].into_iter().flatten();
        let groups: BTreeSet<&str> = versions.filter_map(group_of).collect();
        let all = view.list::<CustomResourceDefinition>(None);
        let near = all.filter(|(_, typed)| groups.contains(typed.spec.group.as_str()));
        return near.map(|(object, _)| object.key().clone()).collect();
    }
    let Some(info) = view.kinds().lookup(&change.key.kind).filter(|info| info.is_terminating())
    else {
        return BTreeSet::new();
    };
    [Key::of::<CustomResourceDefinition>("", &format!("{}.{}", info.plural, info.group))].into()
}

fn group_of(object: &Object) -> Option<&str> {
    object.view::<CustomResourceDefinition>().map(|typed| typed.spec.group.as_str())
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let found = view.object(key).and_then(|o| Some((o, o.view::<CustomResourceDefinition>()?)));
    let Some((object, typed)) = found else { return Plan::default() };
    let ops = match object.is_terminating() {
        true => end(view, object, typed, inputs.now),
        false => ask_again(view, object, inputs.now).into_iter().collect(),
    };
    let commands = if ops.is_empty() { Vec::new() } else { vec![Command::Write(ops)] };
    Plan { commands, ..Plan::default() }
}

/// Deletes the objects of a definition, and lets it go when there are none.
fn end(view: &View, object: &Object, typed: &CustomResourceDefinition, now: Timestamp) -> Vec<Op> {
    if !object.meta().finalizers.iter().flatten().any(|held| held == CLEANUP) {
        return Vec::new();
    }
    // A definition whose names were never accepted has no objects, whoever else has that kind.
    let names = typed.status.as_ref().and_then(|status| status.accepted_names.as_ref());
    let kind = names.map(|names| names.kind.as_str()).unwrap_or_default();
    let kind = GroupKind::new(&typed.spec.group, kind);
    let of_this = || view.of_kind(&kind, None);
    let doomed = of_this().filter(|o| !o.is_terminating()).take(BATCH_MAX);
    let ops: Vec<Op> = doomed
        .map(|o| Op::Delete { key: o.key().clone(), uid: o.uid().to_owned(), grace_seconds: None })
        .collect();
    if !ops.is_empty() {
        return ops;
    }
    let put = match of_this().next() {
        Some(_) => in_progress(object, now),
        None => put(object, Part::Main, |value| {
            if let Some(held) = value["metadata"]["finalizers"].as_array_mut() {
                held.retain(|name| name != CLEANUP);
            }
        }),
    };
    put.into_iter().collect()
}

/// Says that something still holds the objects of a definition.
fn in_progress(object: &Object, now: Timestamp) -> Option<Op> {
    let mut value = object.value();
    let conditions = value["status"]["conditions"].as_array_mut()?;
    conditions.retain(|condition| condition["type"] != "Terminating");
    conditions.push(json!({
        "type": "Terminating", "status": "True", "reason": "InstanceDeletionInProgress",
        "message": "CustomResource deletion is in progress",
        "lastTransitionTime": now.to_time(),
    }));
    let said = |value: &Value| {
        let conditions = value["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|c| c["type"] == "Terminating");
        found.map(|condition| condition["reason"].clone())
    };
    if said(&value) == said(&object.value()) {
        return None;
    }
    put(object, Part::Status, |stored| *stored = value)
}

/// Stores a definition once more when it would get names that it does not have.
fn ask_again(view: &View, object: &Object, now: Timestamp) -> Option<Op> {
    let others = view.list::<CustomResourceDefinition>(None).map(|(_, other)| other);
    let (before, mut after) = (object.value(), object.value());
    kinds::accept_names(&mut after, others, now);
    let names = |value: &Value| value["status"]["acceptedNames"].clone();
    (names(&before) != names(&after)).then(|| put(object, Part::Main, |_| {})).flatten()
}

fn put(object: &Object, part: Part, change: impl FnOnce(&mut Value)) -> Option<Op> {
    let mut value = object.value();
    change(&mut value);
    let object_after = Object::from_value(&value).ok()?;
    Some(Op::Put { object: object_after, expect: Expect::At(object.revision()), part })
}
