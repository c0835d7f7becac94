//! Deletes what is left when its owner is gone.
//!
//! Background deletion: the owner goes at once, what it controlled follows. An owner that waits
//! with the finalizer `foregroundDeletion` goes after what it controls; one with `orphan` lets go
//! of it first.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Controller, Inputs, Plan};
use crate::{
    kinds,
    model::{GroupKind, Key, Object},
    state::{Change, Command, Expect, Op, Part, View},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Most objects one step deletes or releases; the next step goes on. Bounds the size of one log
/// entry.
const BATCH_MAX: usize = 500;

/// Looks at objects that have an owner and at owners that wait for what they own.
pub(super) const CONTROLLER: Controller =
    Controller { name: "garbage-collector-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    let matters = |o: &&Object| o.controller_uid().is_some() || waits(o).is_some();
    view.objects().filter(matters).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    let uid = |o: &Option<Object>| o.as_ref().map(|o| o.uid().to_owned());
    if let Some(old) =
        change.old.as_ref().filter(|old| uid(&change.new).as_deref() != Some(old.uid()))
    {
        keys.extend(view.owned_by(old.uid()).map(|o| o.key().clone()));
    }
    for version in [&change.old, &change.new].into_iter().flatten() {
        keys.extend(owner_key(version, view));
    }
    if let Some(new) = view.object(&change.key)
        && (new.controller_uid().is_some() || waits(new).is_some())
    {
        keys.insert(change.key.clone());
    }
    keys
}

/// The owner of an object when that owner waits for what it owns.
fn owner_key(object: &Object, view: &View) -> Option<Key> {
    let owner = owner(object, view)?;
    waits(owner).map(|_| owner.key().clone())
}

/// The finalizer with which a terminating object waits for what it owns.
fn waits(object: &Object) -> Option<&'static str> {
    let finalizers = object.meta().finalizers.as_deref().unwrap_or_default();
    let has = |name: &&str| object.is_terminating() && finalizers.iter().any(|f| f == name);
    [FOREGROUND, ORPHAN].into_iter().find(has)
}

/// The stored owner that controls an object.
fn owner<'a>(object: &Object, view: &'a View) -> Option<&'a Object> {
    let owners = object.meta().owner_references.iter().flatten();
    let reference = owners.into_iter().find(|o| o.controller == Some(true))?;
    let kind = GroupKind::from_api_version(&reference.api_version, &reference.kind);
    let namespace = match kinds::lookup(&kind) {
        Some(info) if !info.namespaced => "",
        _ => &object.key().namespace,
    };
    let owner = view.object(&Key::new(kind, namespace, &reference.name))?;
    (owner.uid() == reference.uid).then_some(owner)
}

/// Whether the kind of the controlling owner is one we keep: of others we know nothing.
fn is_known(object: &Object) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    let mut controllers = owners.filter(|o| o.controller == Some(true));
    controllers
        .any(|o| kinds::lookup(&GroupKind::from_api_version(&o.api_version, &o.kind)).is_some())
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    let ops = match waits(object) {
        Some(FOREGROUND) => finish_foreground(view, object),
        Some(_) => release(view, object),
        None if object.is_terminating() || !is_known(object) => Vec::new(),
        None if owner(object, view).is_none() => vec![delete(object)],
        None => Vec::new(),
    };
    let commands = if ops.is_empty() { Vec::new() } else { vec![Command::Write(ops)] };
    Plan { commands, ..Plan::default() }
}

fn delete(object: &Object) -> Op {
    let (key, uid) = (object.key().clone(), object.uid().to_owned());
    Op::Delete { key, uid, grace_seconds: None }
}

/// Deletes what the object controls; lets it go when nothing is left.
fn finish_foreground(view: &View, object: &Object) -> Vec<Op> {
    let mut owned = view.owned_by(object.uid()).peekable();
    if owned.peek().is_none() {
        return put(object, |value| drop_finalizer(value, FOREGROUND)).into_iter().collect();
    }
    owned.filter(|o| !o.is_terminating()).take(BATCH_MAX).map(delete).collect()
}

/// Takes the object's name from what it controls; lets it go when nothing is left.
fn release(view: &View, object: &Object) -> Vec<Op> {
    let mut owned = view.owned_by(object.uid()).peekable();
    if owned.peek().is_none() {
        return put(object, |value| drop_finalizer(value, ORPHAN)).into_iter().collect();
    }
    let without_owner = |o: &Object| {
        put(o, |value| {
            if let Some(owners) = value["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != object.uid());
            }
        })
    };
    owned.take(BATCH_MAX).filter_map(without_owner).collect()
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
