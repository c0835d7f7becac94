//! Which nodes can take a pod, and in Kubernetes' words why the others cannot.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeCondition, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration,
};

use super::cluster::{NodeState, Wish};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Why a node cannot take a pod; empty when it can. The first filter that says no speaks, as in
/// Kubernetes: name, unschedulable, taints, affinity, ports, resources.
pub(super) fn reasons(wish: &Wish<'_>, node: &NodeState) -> Vec<String> {
    let say = |text: &str| vec![text.to_owned()];
    let tolerations = wish.spec.tolerations.as_deref().unwrap_or_default();
    let cordon = Taint {
        key: UNSCHEDULABLE.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if node.unschedulable && !tolerations.iter().any(|t| tolerates(t, &cordon)) {
        return say("node(s) were unschedulable");
    }
    let wanted = wish.spec.node_name.as_deref().unwrap_or_default();
    if !wanted.is_empty() && wanted != node.name.as_str() {
        return say("node(s) didn't match the requested node name");
    }
    if let Some(taint) = untolerated(&node.taints, tolerations) {
        let value = taint.value.as_deref().unwrap_or_default();
        return vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)];
    }
    if !matches_affinity(wish.spec, node) {
        return say("node(s) didn't match Pod's node affinity/selector");
    }
    if wish.ports.iter().any(|port| node.ports.iter().any(|taken| taken.meets(port))) {
        return say("node(s) didn't have free ports for the requested pod ports");
    }
    missing(wish, node)
}

/// The resources that a node has too little of.
fn missing(wish: &Wish<'_>, node: &NodeState) -> Vec<String> {
    let mut missing = Vec::new();
    if node.pods + 1 > node.pods_max {
        missing.push("Too many pods".to_owned());
    }
    let short = |asked: i64, all: i64, used: i64| asked > 0 && asked > all - used;
    let (asked, all, used) = (&wish.requests, &node.allocatable, &node.requested);
    if short(asked.cpu, all.cpu, used.cpu) {
        missing.push("Insufficient cpu".to_owned());
    }
    if short(asked.memory, all.memory, used.memory) {
        missing.push("Insufficient memory".to_owned());
    }
    let of = |amounts: &BTreeMap<String, i64>, name: &str| amounts.get(name).copied().unwrap_or(0);
    for (name, amount) in &asked.other {
        if short(*amount, of(&all.other, name), of(&used.other, name)) {
            missing.push(format!("Insufficient {name}"));
        }
    }
    missing
}

/// The first taint that keeps the pod away.
fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let keeps_away = |t: &&Taint| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute");
    taints.iter().filter(keeps_away).find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

/// How many `PreferNoSchedule` taints the pod does not tolerate.
pub(super) fn disliked(spec: &PodSpec, node: &NodeState) -> i64 {
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let soft = node.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
    let disliked = soft.filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint)));
    i64::try_from(disliked.count()).unwrap_or(i64::MAX)
}

/// Whether a toleration covers a taint.
///
/// Source: kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value),
        Some(_) => false,
    }
}

/// The taint of a node that is not ready and that the node controller has not tainted yet.
pub(super) fn implied_taint(
    conditions: Option<&[NodeCondition]>,
    taints: &[Taint],
) -> Option<Taint> {
    let ready = conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
    let name = match ready.map(|c| c.status.as_str()) {
        Some("True") => return None,
        Some("Unknown") => "unreachable",
        _ => "not-ready",
    };
    let key = format!("node.kubernetes.io/{name}");
    let tainted = taints.iter().any(|t| t.key == key);
    (!tainted).then(|| Taint { key, effect: "NoSchedule".to_owned(), ..Taint::default() })
}

/// Whether the node has the labels that `nodeSelector` and required affinity ask for.
fn matches_affinity(spec: &PodSpec, node: &NodeState) -> bool {
    let selected = spec.node_selector.iter().flatten();
    if !selected.into_iter().all(|(k, v)| node.labels.get(k) == Some(v)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required =
        affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

/// The sum of the weights of preferred terms that the node meets.
pub(super) fn preferred(spec: &PodSpec, node: &NodeState) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let terms = affinity
        .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())
        .into_iter()
        .flatten();
    terms.filter(|t| matches_term(&t.preference, node)).map(|t| i64::from(t.weight)).sum()
}

/// A term without any requirement matches no node.
fn matches_term(term: &NodeSelectorTerm, node: &NodeState) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |r: &NodeSelectorRequirement| node.labels.get(&r.key).map(String::as_str);
    let field =
        |r: &NodeSelectorRequirement| (r.key == "metadata.name").then_some(node.name.as_str());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| meets(r, label(r)))
        && fields.iter().all(|r| meets(r, field(r)))
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |v: &str| values.iter().any(|one| one == v);
    let compare = |holds: fn(&i64, &i64) -> bool| {
        let own = value.and_then(|v| v.parse().ok());
        let bound = values.first().and_then(|v| v.parse().ok());
        matches!((own, bound), (Some(own), Some(bound)) if holds(&own, &bound))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}
