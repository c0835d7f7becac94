//! ResourceQuotas: what the objects of a namespace may use together
//! (kubernetes.io/docs/concepts/policy/resource-quotas).
//!
//! What is used is counted from the View at each write, so nothing has to be kept in step. What is
//! charged is written to the quota's status in the same command as the object, at the version that
//! was counted: the log lets one of two such writes through, the other counts again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::Value;

use super::Attempt;
use crate::{
    api::Failure,
    kinds::usage::{self, Amounts},
    model::Object,
    state::{Expect, Op, Part},
};

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
        let Some(spec) = quota.spec.as_ref().filter(|spec| usage::in_scope(spec, object, value))
        else {
            continue;
        };
        let hard = usage::hard(spec);
        let adds: Amounts = usage::counted(object, value, &hard);
        specified(attempt, stored, object, value, &hard)?;
        if adds.is_empty() {
            continue;
        }
        let kinds = usage::counted_kinds(&hard);
        let all = kinds.iter().flat_map(|kind| attempt.view.of_kind(kind, Some(&key.namespace)));
        let used = usage::used(spec, &hard, all);
        room(attempt, stored, object, &hard, &used, &adds)?;
        charges.push(charged(stored, &hard, &used, &adds)?);
    }
    Ok(charges)
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
        if !usage::COMPUTE.contains(&resource) {
            continue;
        }
        let lists = ["containers", "initContainers"];
        let all = lists.iter().flat_map(|list| usage::containers(&value["spec"], list));
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
    usage::add(&mut sum, adds);
    let mut value = quota.value();
    value["status"] = usage::status(hard, &sum);
    let object = Object::from_value(&value).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(Op::Put { object, expect: Expect::At(quota.revision()), part: Part::Status })
}
