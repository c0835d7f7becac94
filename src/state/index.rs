//! What is looked up besides objects by key: kept up to date as objects come and go.

use k8s_openapi::{
    api::{admissionregistration::v1::ValidatingAdmissionPolicy, core::v1::Pod},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use smol_str::SmolStr;

use super::{
    allocate,
    apply::node_of,
    view::{Change, View},
};
use crate::{
    kinds,
    model::{Key, NodeName, Object, Revision, fnv1a, fnv1a_from},
};

impl View {
    /// Adds an object to every index.
    pub(super) fn index(&mut self, object: &Object) {
        self.digest ^= digest(object);
        let key = object.key();
        if key.is::<CustomResourceDefinition>() || key.is::<ValidatingAdmissionPolicy>() {
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

    /// Drops what was decoded of the objects of the changes after `since`, up to `until`: what is
    /// read all the time is decoded again at once, the rest only takes memory. Tells nobody, as
    /// nothing changes.
    pub(super) fn cool_changes(&mut self, since: Revision, until: Revision) {
        let from = self.history.binary_search_by_key(&since.next(), |change| change.revision);
        for at in from.unwrap_or_else(|at| at)..self.history.len() {
            let Some(change) = self.history.get(at).filter(|change| change.revision <= until)
            else {
                return;
            };
            if [&change.old, &change.new].into_iter().flatten().all(Object::is_lean) {
                continue;
            }
            let Change { revision, key, old, new } = change.clone();
            if let Some(new) = &new {
                self.cool(new);
            }
            let new = new.map(|new| self.live_or_lean(new));
            self.history.set(at, Change { revision, key, old: old.map(Object::lean), new });
        }
    }

    /// The same for all that changed last at or before a revision, and that somebody read since.
    /// Costs a look at each object.
    pub(super) fn cool_all(&mut self, until: Revision) {
        let warm = self.objects.values().filter(|o| o.revision() <= until && !o.is_lean());
        for object in warm.cloned().collect::<Vec<_>>() {
            self.cool(&object);
            let at = self.history.binary_search_by_key(&object.revision(), |c| c.revision);
            if let Some(change) = at.ok().and_then(|at| self.history.get_mut(at)) {
                change.new = change.new.take().map(Object::lean);
            }
        }
    }

    fn cool(&mut self, object: &Object) {
        if self.objects.get(object.key()).is_some_and(|live| live.is_same(object)) {
            self.objects.insert(object.key().clone(), object.clone().lean());
        }
    }

    /// The object without what was decoded of it: the live one where it is still the same.
    fn live_or_lean(&self, object: Object) -> Object {
        let live = self.objects.get(object.key());
        let same = live.filter(|live| live.revision() == object.revision());
        same.cloned().unwrap_or_else(|| object.lean())
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

/// For so many changes what was decoded of an object stays with it. A round of the controllers
/// makes about as many, and reads what the one before it changed; decoded, a workload takes 7 KiB.
pub(super) const WARM_CHANGES: u64 = 1024;

/// So many changes are cooled together: a node of the history holds as many, and is copied once for
/// all of them; more at once would be felt by those who wait for an entry.
pub(super) const COOL_TOGETHER: u64 = 64;

/// The uids of an object's owners for the index; the empty one for an object that nobody controls.
fn owners(object: &Object) -> Vec<SmolStr> {
    let references = object.owners().iter();
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
