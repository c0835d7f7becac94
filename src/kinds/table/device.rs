//! Devices: classes, claims, slices, taints.

use k8s_openapi::api::resource::v1::{DeviceTaintRule, ResourceClaim, ResourceSlice};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::{age, ago},
    text::name,
};
use crate::model::{Object, Timestamp};

/// Classes and templates say nothing more.
pub(in crate::kinds) const DEVICE: [Column; 2] = [NAME, AGE];
pub(in crate::kinds) const RESOURCE_CLAIM: [Column; 3] =
    [NAME, Column::text("State", "Whether it has its devices, and somebody uses them."), AGE];
pub(in crate::kinds) const RESOURCE_SLICE: [Column; 5] = [
    NAME,
    Column::text("Node", "The node that has the devices."),
    Column::text("Driver", "The driver of the devices."),
    Column::text("Pool", "The pool they belong to."),
    AGE,
];
pub(in crate::kinds) const DEVICE_TAINT_RULE: [Column; 6] = [
    NAME,
    Column::text("Key", "The key of the taint."),
    Column::text("Value", "The value of the taint."),
    Column::text("Effect", "What the taint does."),
    Column::text("TimeAdded", "How long ago it was added."),
    AGE,
];

pub(in crate::kinds) fn device(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    Some(vec![name(object), age(object, now)])
}

pub(in crate::kinds) fn resource_claim(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let claim: &ResourceClaim = object.view()?;
    let status = claim.status.clone().unwrap_or_default();
    let allocated = status.allocation.is_some();
    let reserved = status.reserved_for.is_some_and(|r| !r.is_empty());
    let states = [
        (object.meta().deletion_timestamp.is_some(), "deleted"),
        (!allocated, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    let states = states.iter().filter(|(holds, _)| *holds).map(|(_, state)| *state);
    let states = states.collect::<Vec<_>>().join(",");
    Some(vec![name(object), states.into(), age(object, now)])
}

pub(in crate::kinds) fn resource_slice(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let spec = &object.view::<ResourceSlice>()?.spec;
    Some(vec![
        name(object),
        spec.node_name.as_deref().unwrap_or_default().into(),
        spec.driver.as_str().into(),
        spec.pool.name.as_str().into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn device_taint_rule(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let taint = &object.view::<DeviceTaintRule>()?.spec.taint;
    Some(vec![
        name(object),
        taint.key.as_str().into(),
        taint.value.as_deref().unwrap_or_default().into(),
        taint.effect.as_str().into(),
        ago(taint.time_added.as_ref(), now).into(),
        age(object, now),
    ])
}
