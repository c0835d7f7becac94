//! What a node may not change of itself (kubernetes.io/docs/reference/access-authn-authz/
//! admission-controllers, NodeRestriction): otherwise a broken node could draw pods, and with them
//! Secrets, to itself.

use k8s_openapi::api::core::v1::Node;

use super::Attempt;
use crate::{api::Failure, model::Object};

/// Labels that only people give.
const RESTRICTED: &str = "node-restriction.kubernetes.io/";

/// Refuses a node's write to another node, to its taints, and to labels that are not its own.
pub(super) fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<(), Failure> {
    let (Some(node), true) = (attempt.user.node(), attempt.is("", "nodes")) else { return Ok(()) };
    let name = object.key().name.as_str();
    let refused = |why: String| Err(attempt.refused(name, &why));
    if name != node {
        return refused(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let taints = |object: &Object| {
        let spec = object.view::<Node>().and_then(|node| node.spec.as_ref());
        spec.and_then(|spec| spec.taints.clone()).unwrap_or_default()
    };
    if attempt.live.is_some_and(|live| taints(live) != taints(object)) {
        return refused(format!("node {node:?} is not allowed to modify taints"));
    }
    let label = |object: &Object, name: &str| object.meta().labels.as_ref()?.get(name).cloned();
    let labels = [attempt.live, Some(object)].into_iter().flatten();
    let names = labels.flat_map(|o| o.meta().labels.iter().flatten().map(|(name, _)| name.clone()));
    let mut changed: Vec<String> = names
        .filter(|name| is_restricted(name))
        .filter(|name| attempt.live.and_then(|live| label(live, name)) != label(object, name))
        .collect();
    changed.dedup();
    match changed.is_empty() {
        true => Ok(()),
        false => {
            let list = changed.join(", ");
            refused(format!("is not allowed to modify labels: {list}"))
        }
    }
}

fn is_restricted(label: &str) -> bool {
    let domain = label.split('/').next().unwrap_or_default();
    label.starts_with(RESTRICTED) || domain.ends_with(".node-restriction.kubernetes.io")
}
