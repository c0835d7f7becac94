//! Puts waiting pods on nodes, all of them in one pass so that none takes what another was given.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod, PodCondition};

use super::{Controller, Inputs, Note, Plan, batch::Batch, order, pods, survivors};
use crate::{
    model::{GroupKind, Key, Object, Timestamp},
    schedule::{Cluster, Why},
    state::{Change, Command, View},
};

const NAME: &str = "default-scheduler";
/// The reason of a pod that no node has room for.
const UNSCHEDULABLE: &str = "Unschedulable";

/// Binds pods. It has one object: the queue of waiting pods.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn queue() -> BTreeSet<Key> {
    [Key::new(GroupKind::new(crate::kinds::GROUP, "Queue"), "", "pods")].into()
}

fn all(_view: &View) -> BTreeSet<Key> {
    queue()
}

/// A pod that waits, a node that changed, or a pod that no longer needs its node.
fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if view.pods_waiting().next().is_none() {
        return BTreeSet::new();
    }
    if order::waiters(change, view).iter().any(|key| key.is::<Pod>()) {
        return queue();
    }
    let matters = if change.key.is::<Node>() {
        of_node(change.old.as_ref()) != of_node(change.new.as_ref())
    } else if change.key.is::<Pod>() {
        let pod = |o: &Option<Object>| o.as_ref().and_then(|o| o.view::<Pod>().cloned());
        let (old, new) = (pod(&change.old), pod(&change.new));
        let waits = new.as_ref().is_some_and(|p| pods::node(p).is_none());
        let needs = |p: &Option<Pod>| p.as_ref().is_some_and(|p| !pods::is_over(p));
        waits || needs(&old) && !needs(&new)
    } else {
        false
    };
    if matters { queue() } else { BTreeSet::new() }
}

/// What of a node the scheduler looks at.
type Seen = (
    Option<k8s_openapi::api::core::v1::NodeSpec>,
    Option<crate::model::Labels>,
    bool,
    Option<Timestamp>,
    NodeStatus,
);

fn of_node(object: Option<&Object>) -> Option<Seen> {
    let node = object?.view::<Node>()?;
    let status = node.status.clone().unwrap_or_default();
    let ready = status.conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    let kept = NodeStatus {
        allocatable: status.allocatable,
        images: status.images,
        phase: ready.map(|c| c.status),
        ..NodeStatus::default()
    };
    let (terminating, awaited) = (object?.is_terminating(), survivors::awaited_until(object?));
    Some((node.spec.clone(), node.metadata.labels.clone(), terminating, awaited, kept))
}

fn plan(view: &View, _queue: &Key, inputs: &Inputs<'_>) -> Plan {
    let mut waiting: Vec<(&Object, &Pod)> = view
        .pods_waiting()
        .filter_map(|o| Some((o, o.view::<Pod>()?)))
        .filter(|(object, pod)| pods::is_active(object, pod) && is_ours(pod))
        .collect();
    if waiting.is_empty() {
        return Plan::default();
    }
    waiting.sort_by_key(|(object, pod)| order(object, pod));
    let mut cluster = Cluster::of(view);
    let mut plan = Plan::default();
    let mut failed: BTreeMap<&str, (&Pod, Why)> = BTreeMap::new();
    let mut offers = survivors::Offers::of(view, inputs.survivors);
    let wait = survivors::wait(view, inputs.now);
    plan.wake_at = wait.as_ref().map(|wait| wait.until);
    for (object, pod) in waiting {
        if let Some((node, survivor)) = offers.take(object) {
            cluster.assume(object, node);
            plan.commands.extend(survivors::keep(object, node, survivor));
            continue;
        }
        if let Some(why) = order::hold(view, object) {
            explain(object, pod, (order::WAITING, why), inputs.now, &mut plan);
            continue;
        }
        if let Some(wait) = &wait {
            let reason = (survivors::WAITING, wait.why.clone());
            explain(object, pod, reason, inputs.now, &mut plan);
            continue;
        }
        // While the cluster only fills up, what failed fails again: pods of one template are judged
        // once.
        let owner = object.controller_uid();
        let known = owner.and_then(|uid| failed.get(uid)).filter(|(p, _)| p.spec == pod.spec);
        let known = known.map(|(_, why)| why.clone());
        match known.map_or_else(|| cluster.place(object), Err) {
            Ok(node) => {
                cluster.assume(object, &node);
                bind(object, &node, &mut plan);
            }
            Err(why) => {
                let message = why.to_string();
                if let Some(uid) = owner {
                    failed.insert(uid, (pod, why));
                }
                explain(object, pod, (UNSCHEDULABLE, message), inputs.now, &mut plan);
            }
        }
    }
    plan
}

/// Whether the pod is for this scheduler and nothing holds it back.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    !gated && matches!(spec.scheduler_name.as_deref(), None | Some("" | "default-scheduler"))
}

/// Higher priority first, then who waits longest.
fn order<'a>(object: &'a Object, pod: &Pod) -> (std::cmp::Reverse<i32>, Timestamp, &'a Key) {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let born = object.meta().creation_timestamp.as_ref().map_or(Timestamp(0), Timestamp::from);
    (std::cmp::Reverse(priority), born, object.key())
}

fn bind(pod: &Object, node: &crate::model::NodeName, plan: &mut Plan) {
    let key = pod.key();
    let (pod_key, uid, node) = (key.clone(), pod.uid().to_owned(), node.clone());
    let mut batch = Batch::default();
    let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
    batch.event(pod, NAME, "Scheduled", message);
    plan.commands.push(Command::Bind { pod: pod_key, uid, node });
    plan.commands.extend(batch.into_commands());
}

/// Says why a pod waits; the same words again are no change.
fn explain(
    object: &Object,
    pod: &Pod,
    (reason, message): (&str, String),
    now: Timestamp,
    plan: &mut Plan,
) {
    let before = pods::condition(pod, "PodScheduled");
    let said = before
        .is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(message.as_str()));
    if !said {
        let mut batch = Batch::default();
        let same = before.filter(|c| c.status == "False");
        let since = same.and_then(|c| c.last_transition_time.clone());
        let condition = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.clone()),
            last_transition_time: Some(since.unwrap_or_else(|| now.to_time())),
            ..PodCondition::default()
        };
        let mut pod = pod.clone();
        let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.retain(|c| c.type_ != "PodScheduled");
        conditions.push(condition);
        batch.status(object, &pod);
        match reason {
            UNSCHEDULABLE => batch.warning(object, NAME, "FailedScheduling", message.clone()),
            _ => batch.event(object, NAME, reason, message.clone()),
        }
        plan.commands.extend(batch.into_commands());
    }
    let (about, reason) = (object.key().clone(), reason.to_owned());
    plan.notes.push(Note { about, reason, message });
}
