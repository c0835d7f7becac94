//! ResourceQuotas: what the objects of a namespace may use together
//! (kubernetes.io/docs/concepts/policy/resource-quotas).
//!
//! What is used is counted from the View at each write, so nothing has to be kept in step. What is
//! charged is written to the quota's status in the same command as the object, at the version that
//! was counted: the log lets one of two such writes through, the other counts again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement,
};
use serde_json::{Value, json};

use super::{
    Attempt,
    amounts::{self, Amount, Amounts},
};
use crate::{
    api::Failure,
    kinds,
    model::{GroupKind, Object},
    state::{Expect, Op, Part, View},
};

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

/// Amounts of a pod that are counted, and under which names.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Finds what an object adds to each quota of its namespace; refuses what one has no room for.
pub(super) fn charge(
    attempt: &Attempt<'_>,
    object: &Object,
    value: &Value,
) -> Result<Vec<Op>, Failure> {
    let key = object.key();
    if !attempt.info.namespaced || attempt.live.is_some() || attempt.is("", "events") {
        return Ok(Vec::new());
    }
    let mut charges = Vec::new();
    for (stored, quota) in attempt.view.list::<ResourceQuota>(Some(&key.namespace)) {
        let Some(spec) = quota.spec.as_ref().filter(|spec| in_scope(spec, object, value)) else {
            continue;
        };
        let hard = hard(spec);
        let adds: Amounts = counted(object, value, &hard);
        specified(attempt, stored, object, value, &hard)?;
        if adds.is_empty() {
            continue;
        }
        let used = used(attempt.view, &key.namespace, spec, &hard);
        room(attempt, stored, object, &hard, &used, &adds)?;
        charges.push(charged(stored, &hard, &used, &adds)?);
    }
    Ok(charges)
}

fn hard(spec: &ResourceQuotaSpec) -> Amounts {
    let texts = spec.hard.iter().flatten();
    texts.map(|(name, text)| (name.clone(), Amount::read(&json!(text)))).collect()
}

/// Everything that the objects of a namespace use of a quota.
fn used(view: &View, namespace: &str, spec: &ResourceQuotaSpec, hard: &Amounts) -> Amounts {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Amount::default())).collect();
    let kinds = hard.keys().flat_map(|name| kinds_of(name));
    let kinds: std::collections::BTreeSet<GroupKind> = kinds.collect();
    for object in kinds.iter().flat_map(|kind| view.of_kind(kind, Some(namespace))) {
        let value = object.value();
        if !is_over(&value) && in_scope(spec, object, &value) {
            amounts::add(&mut used, &counted(object, &value, hard));
        }
    }
    used
}

/// The kinds whose objects count under a name.
fn kinds_of(name: &str) -> Vec<GroupKind> {
    let plural = match name.strip_prefix("count/") {
        Some(counted) => counted,
        None if name.starts_with("services.") => "services",
        None if name == "requests.storage" => "persistentvolumeclaims",
        None if BARE.contains(&name) => name,
        None => "pods",
    };
    let (plural, group) = plural.split_once('.').unwrap_or((plural, ""));
    kinds::lookup_resource(group, plural).map(|info| info.group_kind()).into_iter().collect()
}

/// What one object adds, of what a quota counts.
fn counted(object: &Object, value: &Value, hard: &Amounts) -> Amounts {
    let Some(info) = kinds::lookup(&object.key().kind) else { return Amounts::new() };
    let one = Amount::units(1);
    let qualified = match info.group {
        "" => info.plural.to_owned(),
        group => format!("{}.{group}", info.plural),
    };
    let mut adds = Amounts::from([(format!("count/{qualified}"), one)]);
    if info.group.is_empty() && BARE.contains(&info.plural) {
        adds.insert(info.plural.to_owned(), one);
    }
    match (info.group, info.plural) {
        ("", "pods") => adds.extend(compute(&value["spec"])),
        ("", "persistentvolumeclaims") => {
            let storage = &value["spec"]["resources"]["requests"]["storage"];
            adds.insert("requests.storage".to_owned(), Amount::read(storage));
        }
        ("", "services") => adds.extend(of_service(&value["spec"])),
        _ => {}
    }
    adds.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    adds
}

fn compute(spec: &Value) -> Amounts {
    let mut found = Amounts::new();
    for (which, amounts) in [
        ("requests", amounts::of_pod(spec, "requests")),
        ("limits", amounts::of_pod(spec, "limits")),
    ] {
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
fn in_scope(spec: &ResourceQuotaSpec, object: &Object, value: &Value) -> bool {
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
        let mut all = lists.iter().flat_map(|list| amounts::containers(spec, list));
        let asks = |container: &Value, which: &str| {
            let of = amounts::read(&container["resources"][which]);
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

/// A quota on compute resources wants every container to say how much it takes.
fn specified(
    attempt: &Attempt<'_>,
    quota: &Object,
    object: &Object,
    value: &Value,
    hard: &Amounts,
) -> Result<(), Failure> {
    if !attempt.is("", "pods") || !value["spec"]["resources"].is_null() {
        return Ok(());
    }
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in hard.keys() {
        let (which, resource) = match name.split_once('.') {
            Some((which @ ("requests" | "limits"), resource)) => (which, resource),
            _ => ("requests", name.as_str()),
        };
        if !COMPUTE.contains(&resource) {
            continue;
        }
        let lists = ["containers", "initContainers"];
        let all = lists.iter().flat_map(|list| amounts::containers(&value["spec"], list));
        let silent = all.filter(|c| c["resources"][which][resource].is_null());
        let silent: Vec<String> =
            silent.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect();
        if !silent.is_empty() {
            missing.insert(name.clone(), silent);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = |(name, of): (&String, &Vec<String>)| format!("{name} for: {}", of.join(","));
    let list: Vec<String> = missing.iter().map(text).collect();
    let why = format!("failed quota: {}: must specify {}", quota.key().name, list.join("; "));
    Err(attempt.refused(&object.key().name, &why))
}

/// Refuses what there is no room for.
fn room(
    attempt: &Attempt<'_>,
    quota: &Object,
    object: &Object,
    hard: &Amounts,
    used: &Amounts,
    adds: &Amounts,
) -> Result<(), Failure> {
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    let over =
        |name: &&String| of(used, name).plus(of(adds, name)).quantity > of(hard, name).quantity;
    let over: Vec<&String> = adds.keys().filter(over).collect();
    if over.is_empty() {
        return Ok(());
    }
    let list = |amounts: &Amounts| {
        let each: Vec<String> =
            over.iter().map(|name| format!("{name}={}", of(amounts, name))).collect();
        each.join(",")
    };
    let why = format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.key().name,
        list(adds),
        list(used),
        list(hard)
    );
    Err(attempt.refused(&object.key().name, &why))
}

/// The write that charges a quota, at the version that was counted.
fn charged(quota: &Object, hard: &Amounts, used: &Amounts, adds: &Amounts) -> Result<Op, Failure> {
    let mut sum = used.clone();
    amounts::add(&mut sum, adds);
    let text = |amounts: &Amounts| -> BTreeMap<String, String> {
        amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string())).collect()
    };
    let mut value = quota.value();
    value["status"] = json!({ "hard": text(hard), "used": text(&sum) });
    let object = Object::from_value(&value).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(Op::Put { object, expect: Expect::At(quota.revision()), part: Part::Status })
}
