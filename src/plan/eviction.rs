//! Evicts the pods that do not tolerate a node's `NoExecute` taints, and removes those whose node
//! is gone.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition, Taint};

use super::{
    Controller, Inputs, Plan,
    batch::Batch,
    node::{is_execute, node_taints},
    pods,
};
use crate::{
    model::{GroupKind, Key, NodeName, Object, Timestamp},
    schedule::tolerates,
    state::{Change, View},
};

const NAME: &str = "taint-eviction-controller";

/// Has one object for each node, present or not.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    let nodes = view.of_kind(&GroupKind::of::<Node>(), None).map(|o| o.key().clone());
    let of_pods = view.list::<Pod>(None).filter_map(|(_, pod)| of_pod(pod));
    nodes.chain(of_pods).collect()
}

fn of_pod(pod: &Pod) -> Option<Key> {
    pods::node(pod).map(|node| Key::of::<Node>("", node))
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Node>() {
        return [change.key.clone()].into();
    }
    if !change.key.is::<Pod>() {
        return BTreeSet::new();
    }
    let node = change.new.as_ref().and_then(|o| of_pod(o.view::<Pod>()?));
    let matters = |key: &Key| {
        let node = view.object(key).and_then(|o| o.view::<Node>());
        node.is_none_or(|n| node_taints(n).iter().any(is_execute))
    };
    node.into_iter().filter(matters).collect()
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    let mut wake_at: Option<Timestamp> = None;
    let node = view.object(key).and_then(|o| o.view::<Node>());
    for object in view.pods_on(&NodeName::new(&key.name)) {
        let Some(pod) = object.view::<Pod>() else { continue };
        let Some(node) = node else {
            // Nothing can report on this pod any more.
            batch.delete_after(object, Some(0));
            continue;
        };
        if object.is_terminating() {
            continue;
        }
        match deadline(pod, node) {
            Some(at) if at <= inputs.now => evict(object, pod, inputs.now, &mut batch),
            Some(at) => wake_at = Some(wake_at.map_or(at, |w| w.min(at))),
            None => {}
        }
    }
    batch.into_plan(wake_at)
}

/// When the pod must leave; `None` when it may stay.
fn deadline(pod: &Pod, node: &Node) -> Option<Timestamp> {
    node_taints(node).iter().filter(|t| is_execute(t)).filter_map(|t| tolerated_until(pod, t)).min()
}

/// The shortest of the tolerations that cover the taint counts; none of them means at once.
fn tolerated_until(pod: &Pod, taint: &Taint) -> Option<Timestamp> {
    let tolerations = pod.spec.iter().flat_map(|s| s.tolerations.iter().flatten());
    let covering: Vec<_> = tolerations.filter(|t| tolerates(t, taint)).collect();
    if covering.is_empty() {
        return Some(Timestamp(i64::MIN));
    }
    let seconds = covering.iter().filter_map(|t| t.toleration_seconds).min()?;
    let added = taint.time_added.as_ref().map(Timestamp::from).unwrap_or_default();
    // A pod that came later has its seconds from then on, as Kubernetes' taint manager gives them:
    // counted from the taint, its successors on the same node would be evicted one after the other
    // without end.
    let bound = pods::condition(pod, "PodScheduled").filter(|c| c.status == "True");
    let bound = bound.and_then(|c| c.last_transition_time.as_ref()).map(Timestamp::from);
    Some(added.max(bound.unwrap_or_default()).plus_seconds(seconds.max(0)))
}

fn evict(object: &Object, pod: &Pod, now: Timestamp, batch: &mut Batch) {
    let mut pod = pod.clone();
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(now.to_time()),
        ..PodCondition::default()
    });
    batch.status(object, &pod);
    let key = object.key();
    let message = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
    batch.event(object, NAME, "TaintManagerEviction", message);
    batch.delete(object);
}
