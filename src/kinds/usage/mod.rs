//! What objects use: amounts that containers ask for, and what of them a ResourceQuota counts
//! (kubernetes.io/docs/concepts/policy/resource-quotas).
//!
//! Objects and a quota's spec come in, [`Amounts`] go out. Called by admission, which refuses what
//! there is no room for, and by the controller that keeps a quota's status. Never asks State: the
//! objects are given.

mod amounts;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ResourceQuotaSpec, ScopedResourceSelectorRequirement};
use serde_json::{Value, json};

pub use amounts::{Amount, Amounts, add, containers, of_pod, read};

use super::Kinds;
use crate::model::{GroupKind, Object};

/// Objects that are counted by their bare plural as well as by `count/…`.
const BARE: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];

/// What is counted of some Services.
const OF_SERVICES: [&str; 2] = ["services.loadbalancers", "services.nodeports"];

/// What of a claim is counted.
const STORAGE: &str = "requests.storage";

/// What of a pod is counted, under its name, as `requests.…` and as `limits.…`.
pub const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Whether a quota of this name counts objects.
pub(super) fn is_count(name: &str) -> bool {
    BARE.contains(&name) || OF_SERVICES.contains(&name)
}

/// What of a pod a quota of this name sums up.
pub(super) fn computed(name: &str) -> Option<&str> {
    let of = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits."));
    Some(of.unwrap_or(name)).filter(|of| COMPUTE.contains(of))
}

/// Whether a quota of this name is one that Kubernetes itself knows.
pub(super) fn is_standard(name: &str) -> bool {
    let huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
    huge || name == STORAGE || is_count(name) || computed(name).is_some()
}

/// The bounds of a quota.
pub fn hard(spec: &ResourceQuotaSpec) -> Amounts {
    let texts = spec.hard.iter().flatten();
    texts.map(|(name, text)| (name.clone(), Amount::read(&json!(text)))).collect()
}

/// The kinds whose objects count for some of these names.
pub fn counted_kinds(kinds: &Kinds, hard: &Amounts) -> BTreeSet<GroupKind> {
    hard.keys().filter_map(|name| kind_of(kinds, name)).collect()
}

/// Everything that objects use of a quota. `objects` are those of its namespace; of what is not
/// counted nothing is taken.
pub fn used<'a>(
    kinds: &Kinds,
    spec: &ResourceQuotaSpec,
    hard: &Amounts,
    objects: impl Iterator<Item = &'a Object>,
) -> Amounts {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Amount::default())).collect();
    for object in objects {
        add(&mut used, &share(kinds, spec, hard, object));
    }
    used
}

/// What one stored object uses of a quota: nothing when it is out of its scope, or has ended.
pub fn share(kinds: &Kinds, spec: &ResourceQuotaSpec, hard: &Amounts, object: &Object) -> Amounts {
    let value = object.value();
    match is_over(&value) || !in_scope(spec, object, &value) {
        true => Amounts::new(),
        false => counted(kinds, object, &value, hard),
    }
}

/// The status of a quota.
pub fn status(hard: &Amounts, used: &Amounts) -> Value {
    let text = |amounts: &Amounts| -> BTreeMap<String, String> {
        amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect()
    };
    json!({ "hard": text(hard), "used": text(used) })
}

/// The kind whose objects count under a name.
fn kind_of(kinds: &Kinds, name: &str) -> Option<GroupKind> {
    let plural = match name.strip_prefix("count/") {
        Some(counted) => counted,
        None if OF_SERVICES.contains(&name) => "services",
        None if name == STORAGE => "persistentvolumeclaims",
        None if BARE.contains(&name) => name,
        None => "pods",
    };
    let (plural, group) = plural.split_once('.').unwrap_or((plural, ""));
    let mut found = kinds.iter().filter(|info| info.plural == plural && info.group == group);
    found.next().map(|info| info.group_kind())
}

/// What one object adds, of what a quota counts, when it is in its scope.
pub fn counted(kinds: &Kinds, object: &Object, value: &Value, hard: &Amounts) -> Amounts {
    let Some(info) = kinds.lookup(&object.key().kind) else { return Amounts::new() };
    let one = Amount::units(1);
    let mut adds = Amounts::from([(format!("count/{}", info.resource()), one)]);
    if info.group.is_empty() && BARE.contains(&info.plural.as_str()) {
        adds.insert(info.plural.to_string(), one);
    }
    match (info.group.as_str(), info.plural.as_str()) {
        ("", "pods") => adds.extend(compute(&value["spec"])),
        ("", "persistentvolumeclaims") => {
            let storage = &value["spec"]["resources"]["requests"]["storage"];
            adds.insert(STORAGE.to_owned(), Amount::read(storage));
        }
        ("", "services") => adds.extend(of_service(&value["spec"])),
        _ => {}
    }
    adds.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    adds
}

fn compute(spec: &Value) -> Amounts {
    let mut found = Amounts::new();
    for (which, amounts) in
        [("requests", of_pod(spec, "requests")), ("limits", of_pod(spec, "limits"))]
    {
        for (name, amount) in amounts {
            if which == "requests" && COMPUTE.contains(&name.as_str()) {
                found.insert(name.clone(), amount);
            }
            found.insert(format!("{which}.{name}"), amount);
        }
    }
    found
}

fn of_service(spec: &Value) -> Amounts {
    let balanced = spec["type"] == "LoadBalancer";
    let ports = spec["ports"].as_array().map_or(0, Vec::len);
    let ports = i64::try_from(ports).unwrap_or(i64::MAX);
    let node_ports = match spec["type"].as_str() {
        Some("NodePort") => ports,
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] != false => ports,
        _ => 0,
    };
    Amounts::from([
        ("services.loadbalancers".to_owned(), Amount::units(balanced.into())),
        ("services.nodeports".to_owned(), Amount::units(node_ports)),
    ])
}

/// A pod that has ended uses nothing.
fn is_over(value: &Value) -> bool {
    value["kind"] == "Pod"
        && matches!(value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Whether an object is of the part of a namespace that a quota is for.
pub fn in_scope(spec: &ResourceQuotaSpec, object: &Object, value: &Value) -> bool {
    let scopes = spec.scopes.iter().flatten().map(|scope| requirement(scope));
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    let all: Vec<_> = scopes.chain(selected.cloned()).collect();
    all.is_empty()
        || object.key().kind == GroupKind::new("", "Pod")
            && all.iter().all(|scope| holds(scope, &value["spec"]))
}

fn requirement(scope: &str) -> ScopedResourceSelectorRequirement {
    ScopedResourceSelectorRequirement {
        scope_name: scope.to_owned(),
        operator: "Exists".to_owned(),
        values: None,
    }
}

fn holds(scope: &ScopedResourceSelectorRequirement, spec: &Value) -> bool {
    let ends = spec["activeDeadlineSeconds"].as_i64().is_some();
    let best_effort = || {
        let lists = ["containers", "initContainers"];
        let mut all = lists.iter().flat_map(|list| containers(spec, list));
        let asks = |container: &Value, which: &str| {
            let of = read(&container["resources"][which]);
            ["cpu", "memory"].iter().any(|name| of.get(*name).is_some_and(|a| !a.is_zero()))
        };
        !all.any(|container| asks(container, "requests") || asks(container, "limits"))
    };
    match scope.scope_name.as_str() {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().unwrap_or_default();
            let named = scope.values.iter().flatten().any(|value| value == class);
            match scope.operator.as_str() {
                "In" => named,
                "NotIn" => !named,
                "Exists" => !class.is_empty(),
                _ => class.is_empty(),
            }
        }
        _ => false,
    }
}
