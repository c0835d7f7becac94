//! Kinds whose rows are one line of code each: what holds data, and events.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ComponentStatus, ConfigMap, Event, Namespace, Secret},
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::{age, ago, micro_ago},
    text::name,
};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const COMPONENT_STATUS: [Column; 4] = [
    NAME,
    Column::text("Status", "Healthy, or Unhealthy."),
    Column::text("Message", "What it says of itself."),
    Column::text("Error", "What is wrong with it."),
];
pub(in crate::kinds) const CONFIG_MAP: [Column; 3] =
    [NAME, Column::text("Data", "How many keys it holds."), AGE];
pub(in crate::kinds) const SECRET: [Column; 4] = [
    NAME,
    Column::text("Type", "What kind of secret it is."),
    Column::text("Data", "How many keys it holds."),
    AGE,
];
pub(in crate::kinds) const NAMESPACE: [Column; 3] =
    [NAME, Column::text("Status", "Active, or Terminating while its objects are deleted."), AGE];
pub(in crate::kinds) const SERVICE_ACCOUNT: [Column; 2] = [NAME, AGE];
pub(in crate::kinds) const LEASE: [Column; 3] =
    [NAME, Column::text("Holder", "Who holds it now."), AGE];
pub(in crate::kinds) const EVENT: [Column; 10] = [
    Column::text("Last Seen", "How long ago it last happened."),
    Column::text("Type", "Normal or Warning."),
    Column::text("Reason", "Why, in one word."),
    Column::text("Object", "The object it is about."),
    Column::text("Subobject", "The part of the object it is about.").wide(),
    Column::text("Source", "The component, and the machine, that tells it.").wide(),
    Column::text("Message", "What happened, in words."),
    Column::text("First Seen", "How long ago it happened for the first time.").wide(),
    Column::text("Count", "How often it happened.").wide(),
    Column { priority: 1, ..NAME },
];

pub(in crate::kinds) fn config_map(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let map: &ConfigMap = object.view()?;
    let texts = map.data.as_ref().map_or(0, |d| d.len());
    let keys = texts + map.binary_data.as_ref().map_or(0, |d| d.len());
    Some(vec![name(object), keys.into(), age(object, now)])
}

pub(in crate::kinds) fn secret(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let secret: &Secret = object.view()?;
    let keys = secret.data.as_ref().map_or(0, |d| d.len());
    let kind = secret.type_.as_deref().unwrap_or_default();
    Some(vec![name(object), kind.into(), keys.into(), age(object, now)])
}

pub(in crate::kinds) fn namespace(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let namespace: &Namespace = object.view()?;
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    Some(vec![name(object), phase.into(), age(object, now)])
}

pub(in crate::kinds) fn service_account(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    Some(vec![name(object), age(object, now)])
}

pub(in crate::kinds) fn lease(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let lease: &Lease = object.view()?;
    let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
    Some(vec![name(object), holder.unwrap_or_default().into(), age(object, now)])
}

pub(in crate::kinds) fn event(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let event: &Event = object.view()?;
    let (first, last, count) = times(event, now);
    let about = &event.involved_object;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let about_name = format!("{}/{}", text(&about.kind).to_lowercase(), text(&about.name));
    Some(vec![
        last.into(),
        text(&event.type_).into(),
        text(&event.reason).into(),
        about_name.into(),
        text(&about.field_path).into(),
        source(event).into(),
        text(&event.message).trim().into(),
        first.into(),
        count.into(),
        name(object),
    ])
}

/// When it first happened, when it last did, and how often. An event of the newer form has one
/// time, and a series when it happens again.
fn times(event: &Event, now: Timestamp) -> (String, String, i32) {
    let first = match &event.first_timestamp {
        Some(time) => ago(Some(time), now),
        None => micro_ago(event.event_time.as_ref(), now),
    };
    let last = event.last_timestamp.as_ref().map_or_else(|| first.clone(), |t| ago(Some(t), now));
    match &event.series {
        Some(series) => {
            let last = micro_ago(series.last_observed_time.as_ref(), now);
            (first, last, series.count.unwrap_or(0))
        }
        None => (first, last, event.count.filter(|c| *c != 0).unwrap_or(1)),
    }
}

/// Who tells it: `kubelet, node-a`.
fn source(event: &Event) -> String {
    let given = |t: Option<&String>| t.filter(|t| !t.is_empty()).cloned();
    let source = event.source.as_ref();
    let (who, at) = match given(source.and_then(|s| s.component.as_ref())) {
        Some(component) => (component, given(source.and_then(|s| s.host.as_ref()))),
        None => {
            let who = given(event.reporting_component.as_ref()).unwrap_or_default();
            (who, given(event.reporting_instance.as_ref()))
        }
    };
    at.map_or(who.clone(), |at| format!("{who}, {at}"))
}

pub(in crate::kinds) fn component_status(object: &Object, _now: Timestamp) -> Option<Vec<Value>> {
    let component: &ComponentStatus = object.view()?;
    let conditions = component.conditions.as_deref().unwrap_or_default();
    let health = conditions.iter().rfind(|c| c.type_ == "Healthy");
    let status = match health.map(|c| c.status.as_str()) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let text = |of: Option<&String>| of.cloned().unwrap_or_default();
    let message = text(health.and_then(|c| c.message.as_ref()));
    let error = text(health.and_then(|c| c.error.as_ref()));
    Some(vec![name(object), status.into(), message.into(), error.into()])
}
