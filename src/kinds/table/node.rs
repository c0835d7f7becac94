//! Nodes.

use k8s_openapi::api::core::v1::{Node, NodeStatus, NodeSystemInfo};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::age,
    text::{joined, name, or_none},
};
use crate::model::{Labels, Object, Timestamp};

pub(in crate::kinds) const NODE: [Column; 10] = [
    NAME,
    Column::text("Status", "Whether it is ready, and whether it takes new pods."),
    Column::text("Roles", "The roles that its labels give it."),
    AGE,
    Column::text("Version", "The version of its agent."),
    Column::text("Internal-IP", "Its address within the cluster.").wide(),
    Column::text("External-IP", "Its address for the world.").wide(),
    Column::text("OS-Image", "Its operating system.").wide(),
    Column::text("Kernel-Version", "Its kernel.").wide(),
    Column::text("Container-Runtime", "What runs its containers.").wide(),
];

/// Labels that give a node a role: by their key, and by their value.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE: &str = "kubernetes.io/role";

pub(in crate::kinds) fn node(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let node: &Node = object.view()?;
    let empty = NodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&empty);
    let info = status.node_info.clone().unwrap_or_default();
    let address = |wanted: &str| {
        let found = status.addresses.iter().flatten().find(|a| a.type_ == wanted);
        or_none(found.map(|a| a.address.as_str()))
    };
    let known = |text: &str| if text.is_empty() { "<unknown>".into() } else { Value::from(text) };
    Some(vec![
        name(object),
        state(node, status).into(),
        joined(&roles(object.meta().labels.as_ref())).into(),
        age(object, now),
        info.kubelet_version.as_str().into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        known(&info.os_image),
        known(&kernel(&info)),
        known(&info.container_runtime_version),
    ])
}

fn state(node: &Node, status: &NodeStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    let state = match ready.map(|c| c.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    format!("{state}{}", if closed { ",SchedulingDisabled" } else { "" })
}

fn roles(labels: Option<&Labels>) -> Vec<String> {
    let role = |(key, value): (&String, &String)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => Some(role.to_owned()),
        None => (key == ROLE).then(|| value.clone()),
    };
    let mut roles: Vec<String> =
        labels.into_iter().flatten().filter_map(role).filter(|r| !r.is_empty()).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// `6.1.0 (amd64)`
fn kernel(info: &NodeSystemInfo) -> String {
    match (info.kernel_version.as_str(), info.architecture.as_str()) {
        ("", _) => String::new(),
        (kernel, "") => kernel.to_owned(),
        (kernel, architecture) => format!("{kernel} ({architecture})"),
    }
}
