//! Nodes: who is silent, who is not ready, and the taints that say so.
//!
//! Silence is a matter of the leader's ears (`Inputs::heard`), not of State: leases stay out of the
//! log. What follows from silence is written once. `plan::eviction` then acts on the taints.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Controller, Inputs, Plan, batch::Batch, pods, survivors};
use crate::{
    model::{GroupKind, Key, NodeName, Object, Timestamp},
    state::{Change, View},
};

pub(super) const NAME: &str = "node-controller";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions other than Ready whose truth is a taint.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// What the conditions were when the node fell silent; put back when it is heard again and has
/// nothing new to say.
const BEFORE_SILENCE: &str = "node.mainstay.io/conditions-before-silence";
const SILENT: &str = "NodeStatusUnknown";
/// The reason of a pod that is not ready because its node is silent.
const POD_SILENT: &str = "NodeNotReady";
/// Share of nodes that are not ready, in per cent, from which on a fault of the control plane or
/// the network is likelier than that of nodes, and nothing is evicted (Kubernetes' unhealthy zone
/// threshold, for 3 nodes and more).
const DISRUPTED_PERCENT: usize = 55;

/// How often a silent node is looked at, in case nobody said that it was heard again (Kubernetes'
/// monitor period).
const MONITOR_SECONDS: i64 = 5;

/// Judges every node.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<Node>(), None).map(|o| o.key().clone()).collect()
}

/// One node's readiness may end or begin the disruption of all, so a change of it touches every
/// node.
fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    if !change.key.is::<Node>() {
        return BTreeSet::new();
    }
    let judged = |o: &Option<Object>| {
        let node = o.as_ref()?.view::<Node>()?;
        let held: Vec<Taint> =
            node_taints(node).iter().filter(|t| is_execute(t)).cloned().collect();
        Some((status_of(node, "Ready").map(str::to_owned), held))
    };
    if judged(&change.old) == judged(&change.new) {
        super::still(&change.key, view)
    } else {
        all(view)
    }
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some((object, node)) = view.object(key).and_then(|o| Some((o, o.view::<Node>()?))) else {
        return Plan::default();
    };
    let mut node = node.clone();
    let mut batch = Batch::default();
    let silence = silence(&key.name, inputs);
    let mut wake_at = silence.next(inputs.now);
    if let Some(until) = survivors::awaited_until(object) {
        match (until <= inputs.now, has_spoken(&node)) {
            (true, true) => node = survivors::arrived(&node),
            (true, false) => batch.delete(object),
            (false, _) => wake_at = wake_at.min(until),
        }
        if !has_spoken(&node) {
            // There is nothing to judge yet.
            return batch.into_plan(Some(until));
        }
    }
    match silence {
        Silence::Until(_) if object.annotation(BEFORE_SILENCE).is_some() => {
            speak_again(view, object, &mut node, &mut batch, inputs)
        }
        Silence::Over if !is_unknown(&node) => {
            fall_silent(view, object, &mut node, &mut batch, inputs)
        }
        _ => {}
    }
    let (taints, retry) = taints(view, object, &node, inputs);
    wake_at = retry.map_or(wake_at, |at| at.min(wake_at));
    if taints != node_taints(&node) {
        node.spec.get_or_insert_default().taints = Some(taints).filter(|t| !t.is_empty());
    }
    let live = object.view::<Node>();
    if live.is_none_or(|live| live.spec != node.spec || live.metadata != node.metadata) {
        batch.update(object, &node);
    }
    if live.is_none_or(|live| live.status != node.status) {
        batch.status(object, &node);
    }
    batch.into_plan(Some(wake_at))
}

/// Whether a node counts as silent, and the moment that decides it.
enum Silence {
    /// Heard; silent from this moment on.
    Until(Timestamp),
    /// Silent since a moment that has passed.
    Over,
}

impl Silence {
    /// When to look again, which for a silent node costs nothing but the look.
    fn next(&self, now: Timestamp) -> Timestamp {
        match self {
            Self::Until(at) => *at,
            Self::Over => now.plus_seconds(MONITOR_SECONDS),
        }
    }
}

fn silence(name: &str, inputs: &Inputs<'_>) -> Silence {
    let heard = inputs.heard.get(&NodeName::new(name)).copied().unwrap_or(inputs.now);
    let limit = heard.plus_seconds(inputs.timing.node_silence_seconds);
    if limit <= inputs.now { Silence::Over } else { Silence::Until(limit) }
}

/// Whether its agent has said how it is.
fn has_spoken(node: &Node) -> bool {
    status_of(node, "Ready").is_some()
}

fn status_of<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind).map(|c| c.status.as_str())
}

/// Whether a node counts as silent.
pub(super) fn is_unknown(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.reason.as_deref() == Some(SILENT))
}

/// Turns every condition to Unknown and the node's pods to not ready, so that no request goes
/// there.
fn fall_silent(
    view: &View,
    object: &Object,
    node: &mut Node,
    batch: &mut Batch,
    inputs: &Inputs<'_>,
) {
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    let before = serde_json::to_string(&conditions).unwrap_or_default();
    if !conditions.iter().any(|c| c.type_ == "Ready") {
        conditions.push(NodeCondition { type_: "Ready".to_owned(), ..NodeCondition::default() });
    }
    for condition in conditions {
        let since = (condition.status != "Unknown").then(|| inputs.now.to_time());
        condition.status = "Unknown".to_owned();
        condition.reason = Some(SILENT.to_owned());
        condition.message = Some("Kubelet stopped posting node status.".to_owned());
        condition.last_transition_time = since.or(condition.last_transition_time.take());
    }
    let annotations = node.metadata.annotations.get_or_insert_default();
    annotations.insert(BEFORE_SILENCE.to_owned(), before);
    let message = format!("Node {} status is now: NodeNotReady", object.key().name);
    batch.event(object, NAME, "NodeNotReady", message);
    for (pod_object, pod) in pods_of(view, object) {
        if pods::is_ready(pod) && !pods::is_over(pod) {
            set_ready(pod_object, pod, "False", Some(POD_SILENT), inputs.now.to_time(), batch);
            batch.warning(pod_object, NAME, "NodeNotReady", "Node is not ready".to_owned());
        }
    }
}

/// Undoes [`fall_silent`], as far as the agent has not said already how things are now.
fn speak_again(
    view: &View,
    object: &Object,
    node: &mut Node,
    batch: &mut Batch,
    inputs: &Inputs<'_>,
) {
    let annotations = node.metadata.annotations.get_or_insert_default();
    let before = annotations.remove(BEFORE_SILENCE).unwrap_or_default();
    let now = inputs.now.to_time();
    if is_unknown(node) {
        let conditions: Vec<NodeCondition> = serde_json::from_str(&before).unwrap_or_default();
        let dated =
            |c: NodeCondition| NodeCondition { last_transition_time: Some(now.clone()), ..c };
        let status = node.status.get_or_insert_default();
        status.conditions = Some(conditions.into_iter().map(dated).collect());
    }
    for (pod_object, pod) in pods_of(view, object) {
        let ready = pods::condition(pod, "Ready");
        let ours = ready.is_some_and(|c| c.reason.as_deref() == Some(POD_SILENT));
        let runs = pods::condition(pod, "ContainersReady").is_none_or(|c| c.status == "True");
        if ours && runs && !pods::is_over(pod) {
            set_ready(pod_object, pod, "True", None, now.clone(), batch);
        }
    }
}

fn pods_of<'a>(view: &'a View, node: &Object) -> impl Iterator<Item = (&'a Object, &'a Pod)> {
    let name = NodeName::new(&node.key().name);
    let pods: Vec<_> = view.pods_on(&name).collect();
    pods.into_iter().filter_map(|o| Some((o, o.view::<Pod>()?)))
}

fn set_ready(
    object: &Object,
    pod: &Pod,
    status: &str,
    reason: Option<&str>,
    now: Time,
    batch: &mut Batch,
) {
    let mut pod = pod.clone();
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    let set = |c: &mut PodCondition| {
        c.status = status.to_owned();
        c.reason = reason.map(str::to_owned);
        c.message = None;
        c.last_transition_time = Some(now.clone());
    };
    conditions.iter_mut().filter(|c| c.type_ == "Ready").for_each(set);
    batch.status(object, &pod);
}

pub(super) fn node_taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

pub(super) fn is_execute(taint: &Taint) -> bool {
    taint.effect == "NoExecute"
}

/// Whether this room writes the taint: its users' taints stay as they are.
fn is_ours(taint: &Taint) -> bool {
    let condition = PRESSURES.iter().any(|(_, key)| *key == taint.key);
    condition || [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
}

/// The taints the node shall have, and when to look again for one that has to wait.
fn taints(
    view: &View,
    object: &Object,
    node: &Node,
    inputs: &Inputs<'_>,
) -> (Vec<Taint>, Option<Timestamp>) {
    let before = node_taints(node);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let bad = match status_of(node, "Ready") {
        Some("True") => None,
        Some("Unknown") => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    let mut retry = None;
    if let Some(key) = bad {
        wanted.push((key, "NoSchedule"));
        match may_evict(view, object, inputs) {
            Ok(()) => wanted.push((key, "NoExecute")),
            Err(at) => retry = at,
        }
    }
    if node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let pressed = |kind: &str| status_of(node, kind) == Some("True");
    wanted.extend(PRESSURES.iter().filter(|(k, _)| pressed(k)).map(|(_, t)| (*t, "NoSchedule")));
    let is_wanted = |t: &Taint| wanted.contains(&(t.key.as_str(), t.effect.as_str()));
    let mut taints: Vec<Taint> =
        before.iter().filter(|t| !is_ours(t) || is_wanted(t)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|t| t.key == key && t.effect == effect) {
            let (key, effect) = (key.to_owned(), effect.to_owned());
            let time_added = Some(inputs.now.to_time());
            taints.push(Taint { key, effect, value: None, time_added });
        }
    }
    (taints, retry)
}

/// Whether a node that is not ready may lose its pods by now: never while most nodes are gone at
/// once, and one node after the other otherwise. The error says when to ask again.
fn may_evict(view: &View, object: &Object, inputs: &Inputs<'_>) -> Result<(), Option<Timestamp>> {
    let nodes: Vec<(&Object, &Node)> = view.list::<Node>(None).collect();
    let bad = nodes.iter().filter(|(o, n)| is_suspect(o, n, inputs)).count();
    let all_bad = bad >= nodes.len();
    if all_bad || bad > 2 && bad * 100 >= nodes.len() * DISRUPTED_PERCENT {
        return Err(None);
    }
    let added = |n: &Node| {
        let ours = node_taints(n).iter().filter(|t| is_execute(t) && is_ours(t));
        ours.filter_map(|t| t.time_added.as_ref()).map(Timestamp::from).max()
    };
    if object.view::<Node>().is_some_and(|n| added(n).is_some()) {
        return Ok(());
    }
    let others = || nodes.iter().filter(|(o, _)| o.key() != object.key());
    let interval = inputs.timing.eviction_interval_seconds;
    let last = others().filter_map(|(_, n)| added(n)).max();
    let free_at = last.map(|at| at.plus_seconds(interval)).filter(|at| *at > inputs.now);
    if free_at.is_some() {
        return Err(free_at);
    }
    let waits = |o: &Object, n: &Node| {
        let silent = matches!(silence(&o.key().name, inputs), Silence::Over);
        added(n).is_none() && (silent || status_of(n, "Ready") != Some("True"))
    };
    match others().any(|(o, n)| o.key() < object.key() && waits(o, n)) {
        true => Err(Some(inputs.now.plus_seconds(interval))),
        false => Ok(()),
    }
}

/// Whether a node is not ready or has missed half of the time after which it counts as silent:
/// nodes that fall silent together do so within seconds, and the first of them must not lose its
/// pods before the others count.
fn is_suspect(object: &Object, node: &Node, inputs: &Inputs<'_>) -> bool {
    let heard = inputs.heard.get(&NodeName::new(&object.key().name)).copied();
    let half = inputs.timing.node_silence_seconds.max(2) / 2;
    let unheard = heard.is_some_and(|at| at.plus_seconds(half) <= inputs.now);
    unheard || status_of(node, "Ready") != Some("True")
}
