//! The PriorityClasses that every cluster has.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::scheduling::v1::PriorityClass, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    kinds::SYSTEM_PRIORITY_CLASSES,
    model::Key,
    state::{Change, View},
};

/// Puts the system's PriorityClasses there.
pub(super) const CONTROLLER: Controller =
    Controller { name: "system-priority-class-controller", affected, all, plan };

fn all(_view: &View) -> BTreeSet<Key> {
    SYSTEM_PRIORITY_CLASSES.iter().map(|(name, _)| Key::of::<PriorityClass>("", name)).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    match change.key.is::<PriorityClass>() && all(view).contains(&change.key) {
        true => [change.key.clone()].into(),
        false => BTreeSet::new(),
    }
}

/// What of a class may change is its description, and that is whose who changed it.
fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    let class = SYSTEM_PRIORITY_CLASSES.iter().find(|(name, _)| key.name == *name);
    if let (None, Some((name, value))) = (view.object(key), class) {
        let of = if name.contains("node") { "a node" } else { "the cluster" };
        batch.create(&PriorityClass {
            metadata: ObjectMeta { name: Some((*name).to_owned()), ..ObjectMeta::default() },
            value: Some(*value),
            description: Some(format!("For pods without which {of} does not work.")),
            preemption_policy: Some("PreemptLowerPriority".to_owned()),
            ..PriorityClass::default()
        });
    }
    batch.into_plan(None)
}
