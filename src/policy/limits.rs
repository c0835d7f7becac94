//! LimitRanges: what containers get that say nothing, and what is too little or too much
//! (kubernetes.io/docs/concepts/policy/limit-range).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use serde_json::{Value, json};

use super::{Attempt, Refused, pod::place};
use crate::kinds::usage::{self, Amount, Amounts};

/// Where it stands what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Texts = Option<BTreeMap<String, Text>>;

fn items<'a>(attempt: &Attempt<'a>, namespace: &str) -> Vec<&'a LimitRangeItem> {
    let ranges = attempt.view.list::<LimitRange>(Some(namespace));
    ranges.filter_map(|(_, range)| range.spec.as_ref()).flat_map(|spec| &spec.limits).collect()
}

/// Gives containers the requests and limits they do not name.
pub(super) fn fill(attempt: &Attempt<'_>, value: &mut Value) {
    let (namespace, _) = place(value);
    let items = items(attempt, &namespace);
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for item in items.iter().filter(|item| item.type_ == "Container") {
        collect(&mut requests, &item.default_request);
        collect(&mut limits, &item.default);
    }
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut said = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = value["spec"][list].as_array_mut();
        for container in containers.into_iter().flatten().filter(|c| c.is_object()) {
            said.extend(fill_container(container, what, &requests, &limits));
        }
    }
    if !said.is_empty() {
        let text = format!("LimitRanger plugin set: {}", said.join("; "));
        if value["metadata"]["annotations"].is_null() {
            value["metadata"]["annotations"] = json!({});
        }
        if let Some(annotations) = value["metadata"]["annotations"].as_object_mut() {
            annotations.insert(ANNOTATION.to_owned(), text.into());
        }
    }
}

fn collect(into: &mut BTreeMap<String, String>, from: &Texts) {
    for (name, text) in from.iter().flatten() {
        into.insert(name.clone(), text.0.clone());
    }
}

/// Fills one container, and says with what.
fn fill_container(
    container: &mut Value,
    what: &str,
    requests: &BTreeMap<String, String>,
    limits: &BTreeMap<String, String>,
) -> Vec<String> {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let own_limits = container["resources"]["limits"].clone();
    let mut said = Vec::new();
    for (field, defaults) in [("requests", requests), ("limits", limits)] {
        let mut set = Vec::new();
        for (resource, amount) in defaults {
            let there = !container["resources"][field][resource].is_null();
            // A container that names a limit alone requests as much.
            let follows = field == "requests" && !own_limits[resource].is_null();
            if !there && !follows && set_amount(container, field, resource, amount) {
                set.push(resource.clone());
            }
        }
        if !set.is_empty() {
            said.push(format!(
                "{} {} for {what} {name}",
                set.join(", "),
                &field[..field.len() - 1]
            ));
        }
    }
    said
}

/// Sets an amount; false when the container is of no shape that has room for it.
fn set_amount(container: &mut Value, field: &str, resource: &str, amount: &str) -> bool {
    let resources = &mut container["resources"];
    if resources.is_null() {
        *resources = json!({});
    }
    let Some(resources) = resources.as_object_mut() else { return false };
    let map = resources.entry(field).or_insert_with(|| json!({}));
    let Some(map) = map.as_object_mut() else { return false };
    map.insert(resource.to_owned(), amount.into());
    true
}

/// Whether a write is one that limits are about.
pub(super) fn concerns(attempt: &Attempt<'_>) -> bool {
    attempt.creates_pod() || attempt.resizes_pod() || is_claim(attempt)
}

fn is_claim(attempt: &Attempt<'_>) -> bool {
    attempt.is("", "persistentvolumeclaims")
}

/// Refuses what is below or above the limits of its namespace.
pub(super) fn validate(attempt: &Attempt<'_>, value: &Value) -> Result<(), Refused> {
    if !concerns(attempt) {
        return Ok(());
    }
    let claim = is_claim(attempt);
    let (namespace, name) = place(value);
    let mut found = Vec::new();
    for item in items(attempt, &namespace) {
        match item.type_.as_str() {
            "PersistentVolumeClaim" if claim => {
                let asked = usage::read(&value["spec"]["resources"]["requests"]);
                found.extend(bounds(item, &asked, &asked));
            }
            "Container" if !claim => {
                let lists = ["containers", "initContainers"];
                let all = lists.iter().flat_map(|l| usage::containers(&value["spec"], l));
                found.extend(all.flat_map(|container| {
                    let of = |which: &str| usage::read(&container["resources"][which]);
                    bounds(item, &of("requests"), &of("limits"))
                }));
            }
            "Pod" if !claim => {
                let of = |which: &str| usage::of_pod(&value["spec"], which);
                found.extend(bounds(item, &of("requests"), &of("limits")));
            }
            _ => {}
        }
    }
    let why = match found.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(attempt.refused(&name, &why))
}

fn bounds(item: &LimitRangeItem, requests: &Amounts, limits: &Amounts) -> Vec<String> {
    let each = |texts: &Texts, check: &dyn Fn(&str, Amount) -> Option<String>| -> Vec<String> {
        let amount = |text: &Text| Amount::read(&json!(text));
        texts.iter().flatten().filter_map(|(name, text)| check(name, amount(text))).collect()
    };
    let kind = item.type_.as_str();
    let claim = kind == "PersistentVolumeClaim";
    let mut found = each(&item.min, &|name, least| {
        let rule = format!("minimum {name} usage per {kind} is {least}");
        let below = |amount: &&Amount| amount.quantity < least.quantity;
        match (requests.get(name), limits.get(name)) {
            (None, _) => Some(format!("{rule}.  No request is specified")),
            (Some(asked), _) if below(&asked) => Some(format!("{rule}, but request is {asked}")),
            (_, limit) => limit.filter(below).map(|limit| format!("{rule}, but limit is {limit}")),
        }
    });
    found.extend(each(&item.max, &|name, most| {
        let rule = format!("maximum {name} usage per {kind} is {most}");
        let above = |amount: &&Amount| amount.quantity > most.quantity;
        match (requests.get(name), limits.get(name)) {
            (asked, _) if claim => {
                asked.filter(above).map(|a| format!("{rule}, but request is {a}"))
            }
            (_, None) => Some(format!("{rule}.  No limit is specified")),
            (_, Some(limit)) if above(&limit) => Some(format!("{rule}, but limit is {limit}")),
            (asked, _) => asked.filter(above).map(|a| format!("{rule}, but request is {a}")),
        }
    }));
    found.extend(each(&item.max_limit_request_ratio, &|name, most| {
        let rule = format!("{name} max limit to request ratio per {kind} is {most}");
        let amount = |of: &Amounts| of.get(name).copied().filter(|amount| !amount.is_zero());
        match (amount(requests), amount(limits)) {
            (None, _) => Some(format!("{rule}, but no request is specified or request is 0")),
            (_, None) => Some(format!("{rule}, but no limit is specified or limit is 0")),
            (Some(asked), Some(limit)) => {
                let milli = |amount: Amount| amount.quantity.as_milli() as f64;
                let ratio = milli(limit) / milli(asked);
                (ratio > milli(most) / 1000.0)
                    .then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
            }
        }
    }));
    found
}
