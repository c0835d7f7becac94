//! What must always hold: used after every simulated step, by tests and by `mainstay check`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use imbl::ordmap::DiffItem;
use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::{
    allocate,
    view::{Origin, View},
};
use crate::model::{GroupKind, Key, Object};

/// How bad a violation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something waits to be tidied up, and will be.
    Untidy,
    /// A promise is broken.
    Broken,
}

/// One invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// How bad it is.
    pub severity: Severity,
    /// The object, where there is one.
    pub key: Option<Key>,
    /// What does not hold.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Every invariant that does not hold. Costs a pass over all objects.
pub fn check(view: &View) -> Vec<Violation> {
    let mut found = Vec::new();
    check_objects(view, &mut found);
    check_indexes(view, &mut found);
    check_addresses(view, &mut found);
    check_pods(view, &mut found);
    check_origins(view, &mut found);
    found
}

/// Every invariant that holds in `before` and not in `after`, a later picture of the same State.
///
/// Costs what changed between the two. Only a new uid, address, port or pod range is held against
/// everything else.
pub fn check_step(before: &View, after: &View) -> Vec<Violation> {
    let mut step = Step::default();
    for item in before.objects.diff(&after.objects) {
        match item {
            DiffItem::Add(key, new) => step.note(key, None, Some(new)),
            DiffItem::Update { old: (key, old), new: (_, new) } => {
                step.note(key, Some(old), Some(new));
            }
            DiffItem::Remove(key, old) => step.note(key, Some(old), None),
        }
    }
    let mut found = Vec::new();
    step.check_objects(after, &mut found);
    step.check_indexes(before, after, &mut found);
    if step.takes_something() {
        check_addresses(after, &mut found);
    }
    step.new.values().for_each(|object| check_pod(object, &mut found));
    step.check_origins(before, after, &mut found);
    found
}

/// What changed from one picture to a later one.
#[derive(Default)]
struct Step<'a> {
    keys: BTreeSet<&'a Key>,
    old: BTreeMap<&'a Key, &'a Object>,
    new: BTreeMap<&'a Key, &'a Object>,
}

impl<'a> Step<'a> {
    fn note(&mut self, key: &'a Key, old: Option<&'a Object>, new: Option<&'a Object>) {
        self.keys.insert(key);
        self.old.extend(old.map(|object| (key, object)));
        self.new.extend(new.map(|object| (key, object)));
    }

    fn check_objects(&self, after: &View, found: &mut Vec<Violation>) {
        for (key, object) in &self.new {
            check_object(after, key, object, found);
            let uid = object.uid();
            if uid.is_empty() || self.old.get(key).is_some_and(|old| old.uid() == uid) {
                continue;
            }
            let other = after.objects.iter().find(|(k, o)| k != key && o.uid() == uid);
            found.extend(other.map(|(other, _)| shared_uid(object, other)));
        }
    }

    /// The indexes changed as the objects did.
    fn check_indexes(&self, before: &View, after: &View, found: &mut Vec<Violation>) {
        let mut fresh = View {
            objects: after.objects.clone(),
            origins: after.origins.clone(),
            ..before.clone()
        };
        self.old.values().for_each(|object| fresh.forget(object));
        self.new.values().for_each(|object| fresh.index(object));
        self.keys.iter().for_each(|key| fresh.note_drift(key));
        origins_changed(before, after).for_each(|key| fresh.note_drift(key));
        let same = fresh.owned.diff(&after.owned).next().is_none()
            && fresh.on_node.diff(&after.on_node).next().is_none()
            && fresh.addresses.diff(&after.addresses).next().is_none()
            && fresh.node_ports.diff(&after.node_ports).next().is_none()
            && fresh.drifted.diff(&after.drifted).next().is_none()
            && fresh.ordered.diff(&after.ordered).next().is_none()
            && fresh.hooks.diff(&after.hooks).next().is_none()
            && fresh.digest == after.digest;
        if !same {
            found.push(index_differs());
        }
    }

    /// Whether an object has something to itself that it did not have before.
    fn takes_something(&self) -> bool {
        self.new.iter().any(|(key, new)| {
            let before = self.old.get(key).map(|old| held(old)).unwrap_or_default();
            held(new).iter().any(|what| !before.contains(what))
        })
    }

    fn check_origins(&self, before: &View, after: &View, found: &mut Vec<Violation>) {
        let changed = origins_changed(before, after).chain(self.keys.iter().copied());
        let keys: BTreeSet<&Key> = changed.collect();
        for (key, origin) in keys.into_iter().filter_map(|k| Some((k, after.origin(k)?))) {
            check_origin(after, key, origin, found);
        }
    }
}

fn origins_changed<'a>(before: &'a View, after: &'a View) -> impl Iterator<Item = &'a Key> {
    before.origins.diff(&after.origins).map(|item| match item {
        DiffItem::Add(key, _)
        | DiffItem::Remove(key, _)
        | DiffItem::Update { new: (key, _), .. } => key,
    })
}

fn broken(object: &Object, what: impl Into<String>) -> Violation {
    Violation { severity: Severity::Broken, key: Some(object.key().clone()), what: what.into() }
}

fn shared_uid(object: &Object, other: &Key) -> Violation {
    broken(object, format!("shares its uid with {other}"))
}

fn index_differs() -> Violation {
    let what = "an index differs from the objects it was made from".to_owned();
    Violation { severity: Severity::Broken, key: None, what }
}

/// Names, uids and revisions are what they must be.
fn check_objects(view: &View, found: &mut Vec<Violation>) {
    let mut uids = BTreeMap::new();
    for (key, object) in &view.objects {
        check_object(view, key, object, found);
        if !object.uid().is_empty()
            && let Some(other) = uids.insert(object.uid(), key)
        {
            found.push(shared_uid(object, other));
        }
    }
}

fn check_object(view: &View, key: &Key, object: &Object, found: &mut Vec<Violation>) {
    if key != object.key() {
        found.push(broken(object, format!("is stored as {key}")));
    }
    if object.revision() > view.revision || object.revision().0 == 0 {
        found.push(broken(object, format!("is at revision {}", object.revision())));
    }
    if object.uid().is_empty() {
        found.push(broken(object, "has no uid"));
    }
}

/// The indexes say what the objects say.
fn check_indexes(view: &View, found: &mut Vec<Violation>) {
    let mut fresh = View::default();
    view.objects.values().for_each(|object| fresh.index(object));
    let same = fresh.owned == view.owned
        && fresh.on_node == view.on_node
        && fresh.addresses == view.addresses
        && fresh.node_ports == view.node_ports
        && fresh.ordered == view.ordered
        && fresh.digest == view.digest
        && view.origins.keys().filter(|key| view.is_missed(key)).eq(view.drifted())
        && view.origins.keys().filter(|key| view.runs_once(key)).eq(view.hooks());
    if !same {
        found.push(index_differs());
    }
}

/// No address, node port or pod range is given twice.
fn check_addresses(view: &View, found: &mut Vec<Violation>) {
    let mut holders: BTreeMap<String, &Key> = BTreeMap::new();
    let kinds = [GroupKind::of::<Service>(), GroupKind::of::<Node>(), GroupKind::of::<Pod>()];
    for object in kinds.iter().flat_map(|kind| view.of_kind(kind, None)) {
        for what in held(object) {
            if let Some(other) = holders.get(&what) {
                found.push(broken(object, format!("shares {what} with {other}")));
            }
            holders.insert(what, object.key());
        }
    }
}

/// What an object has to itself.
fn held(object: &Object) -> Vec<String> {
    if object.key().is::<Service>() {
        let addresses = allocate::addresses(object).into_iter().map(|a| a.to_string());
        let ports = allocate::node_ports(object).into_iter().map(|p| format!("node port {p}"));
        return addresses.chain(ports).collect();
    }
    let range = object.view::<Node>().and_then(|n| n.spec.as_ref()?.pod_cidr.as_ref());
    let address = object.view::<Pod>().filter(|_| !object.is_terminating()).and_then(pod_address);
    let range = range.map(|cidr| format!("pod range {cidr}"));
    range.into_iter().chain(address.map(|ip| format!("pod address {ip}"))).collect()
}

/// The address of a pod that has one of its own, as far as anybody knows.
fn pod_address(pod: &Pod) -> Option<&str> {
    let host = pod.spec.as_ref().is_some_and(|s| s.host_network == Some(true));
    let status = pod.status.as_ref()?;
    let over = status.phase.as_deref().is_some_and(is_over);
    let silent = status.reason.as_deref() == Some("NodeLost");
    status.pod_ip.as_deref().filter(|_| !host && !over && !silent)
}

fn is_over(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

fn check_pods(view: &View, found: &mut Vec<Violation>) {
    view.list::<Pod>(None).for_each(|(object, _)| check_pod(object, found));
}

/// A pod with a status from a node is on a node.
fn check_pod(object: &Object, found: &mut Vec<Violation>) {
    let Some(pod) = object.view::<Pod>() else { return };
    let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    let runs = pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
    if runs && !bound {
        found.push(broken(object, "runs on no node"));
    }
}

fn check_origins(view: &View, found: &mut Vec<Violation>) {
    view.origins().for_each(|(key, origin)| check_origin(view, key, origin, found));
}

/// What Git owns exists, or is on its way out.
fn check_origin(view: &View, key: &Key, origin: &Origin, found: &mut Vec<Violation>) {
    if view.object(key).is_none() && origin.ended.is_none() {
        found.push(Violation {
            severity: Severity::Untidy,
            key: Some(key.clone()),
            what: format!("is in {}:{} and not in State", origin.file, origin.line),
        });
    }
}
