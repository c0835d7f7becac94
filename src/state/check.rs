//! What must always hold: used after every simulated step, by tests and by `mainstay check`.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::core::v1::{Node, Pod, Service};

use super::{allocate, view::View};
use crate::model::{Key, Object};

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

fn broken(object: &Object, what: impl Into<String>) -> Violation {
    Violation { severity: Severity::Broken, key: Some(object.key().clone()), what: what.into() }
}

/// Names, uids and revisions are what they must be.
fn check_objects(view: &View, found: &mut Vec<Violation>) {
    let mut uids = BTreeMap::new();
    for (key, object) in &view.objects {
        if key != object.key() {
            found.push(broken(object, format!("is stored as {key}")));
        }
        if object.revision() > view.revision || object.revision().0 == 0 {
            found.push(broken(object, format!("is at revision {}", object.revision())));
        }
        if object.uid().is_empty() {
            found.push(broken(object, "has no uid"));
        } else if let Some(other) = uids.insert(object.uid().to_owned(), key) {
            found.push(broken(object, format!("shares its uid with {other}")));
        }
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
        && fresh.digest == view.digest
        && view.origins.keys().filter(|key| is_away(view, key)).eq(view.drifted());
    if !same {
        let what = "an index differs from the objects it was made from".to_owned();
        found.push(Violation { severity: Severity::Broken, key: None, what });
    }
}

fn is_away(view: &View, key: &Key) -> bool {
    view.object(key).is_none_or(Object::is_terminating)
}

/// No address, node port or pod range is given twice.
fn check_addresses(view: &View, found: &mut Vec<Violation>) {
    let mut holders: BTreeMap<String, Key> = BTreeMap::new();
    let mut hold = |what: String, object: &Object| {
        if let Some(other) = holders.insert(what.clone(), object.key().clone()) {
            found.push(broken(object, format!("shares {what} with {other}")));
        }
    };
    for (object, _) in view.list::<Service>(None) {
        allocate::addresses(object).iter().for_each(|a| hold(a.to_string(), object));
        allocate::node_ports(object).iter().for_each(|p| hold(format!("node port {p}"), object));
    }
    for (object, node) in view.list::<Node>(None) {
        if let Some(cidr) = node.spec.as_ref().and_then(|s| s.pod_cidr.clone()) {
            hold(format!("pod range {cidr}"), object);
        }
    }
    for (object, pod) in view.list::<Pod>(None) {
        let host = pod.spec.as_ref().is_some_and(|s| s.host_network == Some(true));
        let status = pod.status.as_ref();
        let over = status.and_then(|s| s.phase.as_deref()).is_some_and(is_over);
        let silent = status.and_then(|s| s.reason.as_deref()) == Some("NodeLost");
        if let Some(ip) = status.and_then(|s| s.pod_ip.clone())
            && !host
            && !over
            && !silent
            && !object.is_terminating()
        {
            hold(format!("pod address {ip}"), object);
        }
    }
}

fn is_over(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// A pod with a status from a node is on a node.
fn check_pods(view: &View, found: &mut Vec<Violation>) {
    for (object, pod) in view.list::<Pod>(None) {
        let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let runs = pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
        if runs && !bound {
            found.push(broken(object, "runs on no node"));
        }
    }
}

/// What Git owns exists, or is on its way out.
fn check_origins(view: &View, found: &mut Vec<Violation>) {
    for (key, origin) in view.origins() {
        if view.object(key).is_none() {
            found.push(Violation {
                severity: Severity::Untidy,
                key: Some(key.clone()),
                what: format!("is in {}:{} and not in State", origin.file, origin.line),
            });
        }
    }
}
