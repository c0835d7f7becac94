//! Namespaces: the built-in ones, the default account of each, and their end.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Namespace, Pod, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    kinds,
    model::{GroupKind, Key, Object},
    state::{Change, View},
};

/// Namespaces that exist in every cluster.
const BUILT_IN: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// Most objects of a namespace that one step deletes; the next step goes on. Bounds the size of one
/// log entry.
const BATCH_MAX: usize = 500;

/// Keeps namespaces, and empties those that are to go.
pub(super) const CONTROLLER: Controller =
    Controller { name: "namespace-controller", affected, all, plan };

fn key(name: &str) -> Key {
    Key::of::<Namespace>("", name)
}

fn all(view: &View) -> BTreeSet<Key> {
    let stored = view.of_kind(&GroupKind::of::<Namespace>(), None).map(|o| o.key().clone());
    stored.chain(BUILT_IN.into_iter().map(key)).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Namespace>() {
        return [change.key.clone()].into();
    }
    let namespace = key(&change.key.namespace);
    let account = change.key.is::<ServiceAccount>() && change.new.is_none();
    let closing = view.object(&namespace).is_some_and(Object::is_terminating);
    if account || closing { [namespace].into() } else { BTreeSet::new() }
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    match view.object(key) {
        None if BUILT_IN.contains(&key.name.as_str()) => batch.create(&built_in(&key.name)),
        None => {}
        Some(object) if object.is_terminating() => empty(view, object, &mut batch),
        Some(_) => {
            let account = Key::of::<ServiceAccount>(&key.name, "default");
            if view.object(&account).is_none() {
                batch.create(&default_account(&key.name));
            }
        }
    }
    batch.into_plan(None)
}

fn built_in(name: &str) -> Namespace {
    let label = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([label].into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

fn default_account(namespace: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some("default".to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    }
}

/// Deletes what is in a namespace, pods first so that none outlives what it depends on, and then
/// lets it go.
fn empty(view: &View, namespace: &Object, batch: &mut Batch) {
    let name = &namespace.key().name;
    let pods = GroupKind::of::<Pod>();
    let others = kinds::registry().iter().filter(|info| info.namespaced).map(|i| i.group_kind());
    let others: Vec<GroupKind> = others.filter(|kind| *kind != pods).collect();
    let has_pods = view.of_kind(&pods, Some(name)).next().is_some();
    let kinds = if has_pods { vec![pods] } else { others };
    let mut left = kinds.iter().flat_map(|kind| view.of_kind(kind, Some(name))).peekable();
    if left.peek().is_some() {
        left.filter(|o| !o.is_terminating()).take(BATCH_MAX).for_each(|o| batch.delete(o));
        return;
    }
    if let Some(typed) = namespace.view::<Namespace>() {
        let mut released = typed.clone();
        released.spec.get_or_insert_default().finalizers = None;
        batch.update(namespace, &released);
    }
}
