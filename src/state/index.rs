//! What is looked up besides objects by key: kept up to date as objects come and go.

use k8s_openapi::{
    api::core::v1::Pod,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use smol_str::SmolStr;

use super::{allocate, apply::node_of, view::View};
use crate::{
    kinds,
    model::{Key, NodeName, Object, fnv1a, fnv1a_from},
};

impl View {
    /// Adds an object to every index.
    pub(super) fn index(&mut self, object: &Object) {
        self.digest ^= digest(object);
        if object.key().is::<CustomResourceDefinition>() {
            self.kinds.define(object);
        }
        if kinds::order(object).is_ordered() {
            self.ordered.insert(object.key().clone());
        }
        for owner in owners(object) {
            self.owned.entry(owner).or_default().insert(object.key().clone());
        }
        if let Some(node) = object.view::<Pod>().map(node_or_none) {
            self.on_node.entry(node).or_default().insert(object.key().clone());
        }
        for address in allocate::addresses(object) {
            self.addresses.insert(address, object.key().clone());
        }
        for port in allocate::node_ports(object) {
            self.node_ports.insert(port, object.key().clone());
        }
    }

    /// Brings [`View::drifted`] and [`View::hooks`] up to date for one key.
    pub(super) fn note_drift(&mut self, key: &Key) {
        if self.runs_once(key) {
            self.hooks.insert(key.clone());
        } else {
            self.hooks.remove(key);
        }
        if self.is_missed(key) {
            self.drifted.insert(key.clone());
        } else {
            self.drifted.remove(key);
        }
    }

    /// Drops what was decoded of an object that has not changed for a whole history: what is read
    /// all the time is decoded again at once, the rest only takes memory. Tells nobody, as nothing
    /// changes.
    pub(super) fn cool(&mut self, object: Object) {
        let live = self.objects.get(object.key());
        if !object.is_lean() && live.is_some_and(|live| live.is_same(&object)) {
            self.objects.insert(object.key().clone(), object.lean());
        }
    }

    /// Takes an object out of every index.
    pub(super) fn forget(&mut self, object: &Object) {
        self.digest ^= digest(object);
        self.kinds.forget(object.key());
        self.ordered.remove(object.key());
        for owner in owners(object) {
            if let Some(owned) = self.owned.get_mut(&owner) {
                owned.remove(object.key());
                if owned.is_empty() {
                    self.owned.remove(&owner);
                }
            }
        }
        if let Some(node) = object.view::<Pod>().map(node_or_none)
            && let Some(pods) = self.on_node.get_mut(&node)
        {
            pods.remove(object.key());
            if pods.is_empty() {
                self.on_node.remove(&node);
            }
        }
        for address in allocate::addresses(object) {
            self.addresses.remove(&address);
        }
        for port in allocate::node_ports(object) {
            self.node_ports.remove(&port);
        }
    }
}

/// The uids of an object's owners for the index; the empty one for an object that nobody controls.
fn owners(object: &Object) -> Vec<SmolStr> {
    let references = object.meta().owner_references.iter().flatten();
    let uids = references.map(|owner| SmolStr::from(&owner.uid)).filter(|uid| !uid.is_empty());
    let nobody = object.controller_uid().is_none().then(SmolStr::default);
    uids.chain(nobody).collect()
}

fn digest(object: &Object) -> u64 {
    fnv1a_from(fnv1a(object.key().to_path().as_bytes()), object.bytes())
}

/// The node of a pod for the index; the empty name for a pod that waits for one.
fn node_or_none(pod: &Pod) -> NodeName {
    node_of(pod).unwrap_or_else(|| NodeName::new(""))
}
