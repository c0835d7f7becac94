//! What keeps pods running.

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    core::v1::{PodTemplate, ReplicationController},
};
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR,
    age::age,
    text::{NONE, labels, name, selector, template},
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
pub(in crate::kinds) const STATEFUL_SET: [Column; 5] =
    [NAME, Column::text("Ready", "How many pods are ready, of how many."), AGE, CONTAINERS, IMAGES];
pub(in crate::kinds) const DAEMON_SET: [Column; 11] = [
    NAME,
    DESIRED,
    CURRENT,
    READY,
    Column::number("Up-to-date", "How many pods have the newest template."),
    Column::number("Available", "How many pods have been ready for long enough."),
    Column::text("Node Selector", "The nodes it runs on, by their labels."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(in crate::kinds) const CONTROLLER_REVISION: [Column; 4] = [
    NAME,
    Column::text("Controller", "The object whose past this is."),
    Column::text("Revision", "Its number in the row of revisions."),
    AGE,
];
pub(in crate::kinds) const POD_TEMPLATE: [Column; 4] = [
    NAME,
    Column { priority: 0, ..CONTAINERS },
    Column { priority: 0, ..IMAGES },
    Column::text("Pod Labels", "The labels of each pod."),
];

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

pub(in crate::kinds) fn replication_controller(
    object: &Object,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let controller: &ReplicationController = object.view()?;
    let spec = controller.spec.as_ref()?;
    let status = controller.status.clone().unwrap_or_default();
    let [containers, images] = template(spec.template.as_ref());
    Some(vec![
        name(object),
        spec.replicas.unwrap_or(0).into(),
        status.replicas.into(),
        status.ready_replicas.unwrap_or(0).into(),
        age(object, now),
        containers,
        images,
        labels(spec.selector.as_ref()).into(),
    ])
}

pub(in crate::kinds) fn stateful_set(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let set: &StatefulSet = object.view()?;
    let spec = &set.spec;
    let ready = set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
    let [containers, images] = template(Some(&spec.template));
    let ready = format!("{ready}/{}", spec.replicas.unwrap_or(0));
    Some(vec![name(object), ready.into(), age(object, now), containers, images])
}

pub(in crate::kinds) fn daemon_set(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let set: &DaemonSet = object.view()?;
    let spec = &set.spec;
    let status = set.status.clone().unwrap_or_default();
    let nodes = spec.template.spec.as_ref().and_then(|s| s.node_selector.as_ref());
    let [containers, images] = template(Some(&spec.template));
    Some(vec![
        name(object),
        status.desired_number_scheduled.into(),
        status.current_number_scheduled.into(),
        status.number_ready.into(),
        status.updated_number_scheduled.unwrap_or(0).into(),
        status.number_available.unwrap_or(0).into(),
        labels(nodes).into(),
        age(object, now),
        containers,
        images,
        selector(Some(&spec.selector)).into(),
    ])
}

pub(in crate::kinds) fn controller_revision(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let revision: &ControllerRevision = object.view()?;
    let owners = object.owners().iter();
    let controller = owners.into_iter().find(|o| o.controller == Some(true)).map(|owner| {
        let group =
            owner.api_version.split_once('/').map_or(String::new(), |(g, _)| format!(".{g}"));
        format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
    });
    Some(vec![
        name(object),
        controller.unwrap_or_else(|| NONE.to_owned()).into(),
        revision.revision.unwrap_or(0).into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn pod_template(object: &Object, _: Timestamp) -> Option<Vec<Value>> {
    let of: &PodTemplate = object.view()?;
    let [containers, images] = template(of.template.as_ref());
    let meta = of.template.as_ref().and_then(|t| t.metadata.as_ref());
    let of_pods = labels(meta.and_then(|m| m.labels.as_ref()));
    Some(vec![name(object), containers, images, of_pods.into()])
}
