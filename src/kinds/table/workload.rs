//! What keeps pods running.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR,
    age::age,
    text::{name, selector, template},
};
use crate::model::{Object, Timestamp};

const DESIRED: Column = Column::number("Desired", "How many pods there should be.");
const CURRENT: Column = Column::number("Current", "How many pods there are.");
const READY: Column = Column::number("Ready", "How many pods are ready.");
pub(in crate::kinds) const DEPLOYMENT: [Column; 8] = [
    NAME,
    Column::text("Ready", "How many pods are ready, of how many."),
    Column::text("Up-to-date", "How many pods have the newest template."),
    Column::text("Available", "How many pods have been ready for long enough."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(in crate::kinds) const REPLICA_SET: [Column; 8] =
    [NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR];

pub(in crate::kinds) fn deployment(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let deployment: &Deployment = object.view()?;
    let spec = &deployment.spec;
    let status = deployment.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0);
    let [containers, images] = template(Some(&spec.template));
    Some(vec![
        name(object),
        format!("{ready}/{}", spec.replicas.unwrap_or(0)).into(),
        status.updated_replicas.unwrap_or(0).into(),
        status.available_replicas.unwrap_or(0).into(),
        age(object, now),
        containers,
        images,
        selector(Some(&spec.selector)).into(),
    ])
}

pub(in crate::kinds) fn replica_set(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let set: &ReplicaSet = object.view()?;
    let status = set.status.clone().unwrap_or_default();
    let [containers, images] = template(set.spec.template.as_ref());
    Some(vec![
        name(object),
        set.spec.replicas.unwrap_or(0).into(),
        status.replicas.into(),
        status.ready_replicas.unwrap_or(0).into(),
        age(object, now),
        containers,
        images,
        selector(Some(&set.spec.selector)).into(),
    ])
}
