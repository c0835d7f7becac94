//! What says how many pods there are, how many must stay, and which go first.

use k8s_openapi::api::{
    autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec},
    policy::v1::PodDisruptionBudget,
    scheduling::v1::PriorityClass,
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::age,
    text::{NONE, first, name, share},
};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const AUTOSCALER: [Column; 7] = [
    NAME,
    Column::text("Reference", "What it scales."),
    Column::text("Targets", "What is measured, of what is aimed at."),
    Column::text("MinPods", "The least number of pods."),
    Column::text("MaxPods", "The greatest number of pods."),
    Column::text("Replicas", "How many pods there are."),
    AGE,
];
pub(in crate::kinds) const BUDGET: [Column; 5] = [
    NAME,
    Column::text("Min Available", "How many pods must stay."),
    Column::text("Max Unavailable", "How many pods may be away."),
    Column::number("Allowed Disruptions", "How many pods may be evicted now."),
    AGE,
];
pub(in crate::kinds) const PRIORITY_CLASS: [Column; 5] = [
    NAME,
    Column::number("Value", "The higher, the sooner its pods are placed."),
    Column::flag("Global-Default", "Whether pods that name no class are of this one."),
    AGE,
    Column::text("PreemptionPolicy", "Whether its pods drive out others."),
];

/// Most metrics that a row shows.
const METRICS_MAX: usize = 2;

pub(in crate::kinds) fn autoscaler(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let scaler: &HorizontalPodAutoscaler = object.view()?;
    let (spec, value) = (&scaler.spec, object.value());
    let metrics = spec.metrics.as_deref().unwrap_or_default();
    let target = |(i, metric): (usize, &MetricSpec)| target(&value, i, &metric.type_);
    let targets: Vec<String> = metrics.iter().enumerate().map(target).collect();
    let targets = match targets.is_empty() {
        true => NONE.to_owned(),
        false => first(&targets, METRICS_MAX, ", "),
    };
    let least = spec.min_replicas.map_or_else(|| "<unset>".to_owned(), |n| n.to_string());
    let current = scaler.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
    Some(vec![
        name(object),
        format!("{}/{}", spec.scale_target_ref.kind, spec.scale_target_ref.name).into(),
        targets.into(),
        least.into(),
        spec.max_replicas.into(),
        current.into(),
        age(object, now),
    ])
}

/// `cpu: 75%/60%`: what is measured of the metric at place `i`, and what is aimed at.
fn target(value: &Value, i: usize, type_: &str) -> String {
    let mut field = type_.to_owned();
    if let Some(first) = field.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let wanted = &value["spec"]["metrics"][i][&field];
    let seen = &value["status"]["currentMetrics"][i][&field]["current"];
    let part = |of: &Value, name: &str| match &of[name] {
        Value::String(text) => text.clone(),
        Value::Number(percent) => format!("{percent}%"),
        _ => "<unknown>".to_owned(),
    };
    let names = ["averageUtilization", "averageValue", "value"];
    let given = names.into_iter().find(|n| wanted["target"].get(n).is_some()).unwrap_or("value");
    let shown = format!("{}/{}", part(seen, given), part(&wanted["target"], given));
    match (type_, given) {
        ("Resource" | "ContainerResource", _) => {
            format!("{}: {shown}", wanted["name"].as_str().unwrap_or_default())
        }
        ("Object" | "External", "averageValue") => format!("{shown} (avg)"),
        _ => shown,
    }
}

pub(in crate::kinds) fn budget(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let budget: &PodDisruptionBudget = object.view()?;
    let spec = budget.spec.clone().unwrap_or_default();
    let allowed = budget.status.as_ref().and_then(|s| s.disruptions_allowed).unwrap_or(0);
    let given = |s: Option<_>| s.as_ref().map_or_else(|| "N/A".to_owned(), share);
    Some(vec![
        name(object),
        given(spec.min_available).into(),
        given(spec.max_unavailable).into(),
        allowed.into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn priority_class(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let class: &PriorityClass = object.view()?;
    Some(vec![
        name(object),
        class.value.unwrap_or(0).into(),
        class.global_default.unwrap_or(false).into(),
        age(object, now),
        class.preemption_policy.as_deref().unwrap_or_default().into(),
    ])
}
