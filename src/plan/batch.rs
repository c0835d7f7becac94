//! Gathers what one controller does to the world in one step, so that it happens whole or not at
//! all.

use std::collections::BTreeSet;

use k8s_openapi::{
    Metadata, Resource,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use serde::Serialize;

use super::Plan;
use crate::{
    kinds,
    model::{Key, Object, Timestamp, fnv1a, fnv1a_from, name_suffix},
    state::{Command, Expect, NewEvent, Op, Part, View},
};

/// Longest prefix of a generated name, so that prefix and suffix fit 63 characters.
pub(super) const PREFIX_MAX: usize = 58;

/// The operations of one step, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    ops: Vec<Op>,
    put: BTreeSet<Key>,
}

impl Batch {
    /// Stores a new object, as its kind starts it.
    pub(super) fn create<T>(&mut self, typed: &T)
    where
        T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        self.put_new(object(typed));
    }

    /// As [`create`](Self::create), of an object that was made already.
    pub(super) fn put_new(&mut self, object: Object) {
        self.push(kinds::create(&object), Expect::Absent, Part::Main);
    }

    /// Does this before everything else of the step.
    pub(super) fn first(&mut self, ops: Vec<Op>) {
        self.ops.splice(0..0, ops);
    }

    /// Replaces everything but the status of an object that still is what `live` shows.
    pub(super) fn update<T>(&mut self, live: &Object, typed: &T)
    where
        T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        self.push(object(typed), Expect::At(live.revision()), Part::Main);
    }

    /// Replaces the status of an object that still is what `live` shows.
    pub(super) fn status<T>(&mut self, live: &Object, typed: &T)
    where
        T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
    {
        // The log carries what is read: who it is and the status, not the spec.
        let mut value = serde_json::to_value(typed).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.retain(|field, _| {
                matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status")
            });
        }
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace"));
        }
        let object = Object::from_value(&value)
            .unwrap_or_else(|e| panic!("what a controller writes is no object: {e}"));
        self.push(object, Expect::At(live.revision()), Part::Status);
    }

    fn push(&mut self, object: Object, expect: Expect, part: Part) {
        // The second part of the same object meets the revision that the first one made.
        let first = self.put.insert(object.key().clone());
        let expect = if first { expect } else { Expect::Any };
        self.ops.push(Op::Put { object, expect, part });
    }

    /// Asks for an object's deletion, in its own time.
    pub(super) fn delete(&mut self, live: &Object) {
        self.delete_after(live, None);
    }

    /// Asks for a deletion after `grace_seconds`.
    pub(super) fn delete_after(&mut self, live: &Object, grace_seconds: Option<i64>) {
        let (key, uid) = (live.key().clone(), live.uid().to_owned());
        self.ops.push(Op::Delete { key, uid, grace_seconds });
    }

    /// Tells users.
    pub(super) fn event(&mut self, about: &Object, source: &str, reason: &str, message: String) {
        self.say(about, source, false, reason, message);
    }

    /// Warns users.
    pub(super) fn warning(&mut self, about: &Object, source: &str, reason: &str, message: String) {
        self.say(about, source, true, reason, message);
    }

    fn say(&mut self, about: &Object, source: &str, warning: bool, reason: &str, message: String) {
        self.tell(NewEvent {
            regarding: about.key().clone(),
            uid: about.uid().to_owned(),
            warning,
            reason: reason.to_owned(),
            message,
            source: source.to_owned(),
        });
    }

    /// Tells users something that was worded before.
    pub(super) fn tell(&mut self, event: NewEvent) {
        self.ops.push(Op::Event(event));
    }

    /// One command, or none.
    pub(super) fn into_commands(self) -> Vec<Command> {
        if self.ops.is_empty() { Vec::new() } else { vec![Command::Write(self.ops)] }
    }

    /// A plan with this as its only command.
    pub(super) fn into_plan(self, wake_at: Option<Timestamp>) -> Plan {
        Plan { commands: self.into_commands(), wake_at, ..Plan::default() }
    }
}

/// The object of a typed value.
pub(super) fn object<T>(typed: &T) -> Object
where
    T: Resource + Metadata<Ty = ObjectMeta> + Serialize,
{
    Object::of(typed).unwrap_or_else(|e| panic!("what a controller writes is no object: {e}"))
}

/// The reference to the owner that controls an object.
pub(super) fn controlled_by(owner: &Object) -> OwnerReference {
    OwnerReference {
        api_version: owner.api_version().to_owned(),
        kind: owner.key().kind.kind.to_string(),
        name: owner.key().name.to_string(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A name that no object of this kind and namespace has: `prefix` and five characters that follow
/// from the owner, the revision and `nth`, so that the same View gives the same name on every
/// server.
pub(super) fn fresh_name(
    view: &View,
    kind: &Key,
    owner: &Object,
    prefix: &str,
    nth: usize,
) -> String {
    let prefix = &prefix[..prefix.floor_char_boundary(PREFIX_MAX)];
    let seed = fnv1a_from(fnv1a(owner.uid().as_bytes()), &view.revision().0.to_le_bytes());
    let seed = fnv1a_from(seed, &(nth as u64).to_le_bytes());
    (0u64..)
        .map(|attempt| format!("{prefix}{}", name_suffix(fnv1a_from(seed, &attempt.to_le_bytes()))))
        .find(|name| view.object(&Key::new(kind.kind.clone(), &kind.namespace, name)).is_none())
        .unwrap_or_default()
}
