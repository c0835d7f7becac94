//! Deletes what is left when its owners are gone
//! (kubernetes.io/docs/concepts/architecture/garbage-collection).
//!
//! Background deletion: the owner goes at once, what it owned follows. An owner that waits with the
//! finalizer `foregroundDeletion` goes after what it owns; one with `orphan` lets go of it first.
//! An object with several owners stays until the last of them is gone, and forgets the others. An
//! owner is looked for where it can be: in the namespace of the object or in none, so a reference
//! into another namespace names nobody.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

use super::{Controller, Inputs, Plan};
use crate::{
    model::{GroupKind, Key, Object},
    state::{Change, Command, Expect, Op, Part, View},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Most changes of one step; the next step goes on. An object is some 4 KiB, and a log entry may
/// hold 1 MiB.
const BATCH_MAX: usize = 100;

/// Looks at objects that have owners and at owners that wait for what they own.
pub(super) const CONTROLLER: Controller =
    Controller { name: "garbage-collector-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.objects().filter(|o| matters(o)).map(|o| o.key().clone()).collect()
}

fn matters(object: &Object) -> bool {
    references(object).next().is_some() || waits(object).is_some()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    let uid = |o: &Option<Object>| o.as_ref().map(|o| o.uid().to_owned());
    if let Some(old) =
        change.old.as_ref().filter(|old| uid(&change.new).as_deref() != Some(old.uid()))
    {
        keys.extend(view.dependents_of(old.uid()).map(|o| o.key().clone()));
    }
    for version in [&change.old, &change.new].into_iter().flatten() {
        for reference in references(version) {
            if let Owner::Waits(owner) = find(view, version, reference) {
                keys.insert(owner.key().clone());
            }
        }
    }
    if view.object(&change.key).is_some_and(matters) {
        keys.insert(change.key.clone());
    }
    keys
}

fn references(object: &Object) -> impl Iterator<Item = &OwnerReference> {
    object.owners().iter()
}

/// The finalizer with which a terminating object waits for what it owns.
fn waits(object: &Object) -> Option<&'static str> {
    if !object.is_terminating() {
        return None;
    }
    let finalizers = object.meta().finalizers.as_deref().unwrap_or_default();
    [FOREGROUND, ORPHAN].into_iter().find(|name| finalizers.iter().any(|f| f == name))
}

/// What an owner reference leads to.
enum Owner<'a> {
    /// An object that stays, or goes without asking.
    There,
    /// An object that goes and waits for what it owns, or lets go of it.
    Waits(&'a Object),
    /// Nobody any more.
    Gone,
    /// A kind we do not keep, or one that cannot own this object: nothing is known of it.
    Unknown,
}

fn find<'a>(view: &'a View, object: &Object, reference: &OwnerReference) -> Owner<'a> {
    let kind = GroupKind::from_api_version(&reference.api_version, &reference.kind);
    let Some(info) = view.kinds().lookup(&kind) else { return Owner::Unknown };
    let namespace = object.key().namespace.as_str();
    if info.namespaced && namespace.is_empty() {
        return Owner::Unknown;
    }
    let namespace = if info.namespaced { namespace } else { "" };
    let owner = view.object(&Key::new(kind, namespace, &reference.name));
    match owner.filter(|owner| owner.uid() == reference.uid) {
        None => Owner::Gone,
        Some(owner) if waits(owner).is_some() => Owner::Waits(owner),
        Some(_) => Owner::There,
    }
}

/// The objects that an owner owns, where it can own them.
fn owned<'a>(view: &'a View, owner: &'a Object) -> impl Iterator<Item = &'a Object> {
    let namespace = &owner.key().namespace;
    let dependents = view.dependents_of(owner.uid());
    dependents.filter(move |o| namespace.is_empty() || o.key().namespace == *namespace)
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    let ops = match waits(object) {
        Some(FOREGROUND) => finish_foreground(view, object),
        Some(_) => release(view, object),
        None => collect(view, object),
    };
    let commands = if ops.is_empty() { Vec::new() } else { vec![Command::Write(ops)] };
    Plan { commands, ..Plan::default() }
}

/// Deletes an object whose owners are all gone; one with an owner left forgets the others. An owner
/// that waits decides itself.
fn collect(view: &View, object: &Object) -> Vec<Op> {
    if object.is_terminating() || references(object).next().is_none() {
        return Vec::new();
    }
    let mut gone = Vec::new();
    let mut stays = false;
    for reference in references(object) {
        match find(view, object, reference) {
            Owner::Waits(_) => return Vec::new(),
            Owner::Gone => gone.push(reference.uid.as_str()),
            Owner::There | Owner::Unknown => stays = true,
        }
    }
    match (stays, gone.is_empty()) {
        (false, _) => vec![delete(object)],
        (true, false) => forget(object, &gone).into_iter().collect(),
        (true, true) => Vec::new(),
    }
}

fn delete(object: &Object) -> Op {
    let (key, uid) = (object.key().clone(), object.uid().to_owned());
    Op::Delete { key, uid, grace_seconds: None }
}

/// Takes owners from an object.
fn forget(object: &Object, uids: &[&str]) -> Option<Op> {
    put(object, |value| {
        let meta = &mut value["metadata"];
        if let Some(owners) = meta["ownerReferences"].as_array_mut() {
            owners.retain(|owner| !uids.iter().any(|uid| owner["uid"] == *uid));
        }
        let none_left = meta["ownerReferences"].as_array().is_some_and(Vec::is_empty);
        if let (true, Some(fields)) = (none_left, meta.as_object_mut()) {
            fields.remove("ownerReferences");
        }
    })
}

/// Deletes what the object owns; lets it go when nothing is left that holds it.
fn finish_foreground(view: &View, owner: &Object) -> Vec<Op> {
    let going = owned(view, owner).filter(|o| !o.is_terminating());
    let ops: Vec<Op> =
        going.flat_map(|object| leave(view, owner, object)).take(BATCH_MAX).collect();
    if !ops.is_empty() {
        return ops;
    }
    let holds = |o: &Object| {
        let mut of_owner = references(o).filter(|r| r.uid == owner.uid());
        of_owner.any(|r| r.block_owner_deletion == Some(true))
    };
    match owned(view, owner).any(holds) {
        true => Vec::new(),
        false => put(owner, |value| drop_finalizer(value, FOREGROUND)).into_iter().collect(),
    }
}

/// What becomes of an object whose owner goes after it: another owner keeps it; else it is deleted,
/// itself after what it owns. What it owns and waits already does not count, or two that own each
/// other would wait for ever.
fn leave(view: &View, owner: &Object, object: &Object) -> Vec<Op> {
    let mut others = references(object).filter(|r| r.uid != owner.uid());
    if others.any(|r| matches!(find(view, object, r), Owner::There | Owner::Unknown)) {
        return forget(object, &[owner.uid()]).into_iter().collect();
    }
    let owns = owned(view, object).any(|o| waits(o).is_none());
    let wait = owns.then(|| put(object, |value| add_finalizer(value, FOREGROUND))).flatten();
    wait.into_iter().chain([delete(object)]).collect()
}

/// Takes the object's name from what it owns; lets it go when nothing is left.
fn release(view: &View, owner: &Object) -> Vec<Op> {
    let owned = owned(view, owner);
    let ops: Vec<Op> = owned.filter_map(|o| forget(o, &[owner.uid()])).take(BATCH_MAX).collect();
    match ops.is_empty() {
        true => put(owner, |value| drop_finalizer(value, ORPHAN)).into_iter().collect(),
        false => ops,
    }
}

fn add_finalizer(value: &mut Value, name: &str) {
    let finalizers = &mut value["metadata"]["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|f| f == name) => {}
        Some(list) => list.push(name.into()),
        None => *finalizers = Value::from(vec![name]),
    }
}

fn drop_finalizer(value: &mut Value, name: &str) {
    if let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|f| f != name);
    }
}

fn put(object: &Object, change: impl FnOnce(&mut Value)) -> Option<Op> {
    let mut value = object.value();
    change(&mut value);
    let changed = Object::from_value(&value).ok()?;
    Some(Op::Put { object: changed, expect: Expect::At(object.revision()), part: Part::Main })
}
