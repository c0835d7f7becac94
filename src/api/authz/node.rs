//! What a node may do: read what its own pods need, and write itself and the status of its pods
//! (kubernetes.io/docs/reference/access-authn-authz/node).

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

use super::{Target, Wish};
use crate::{api::ResourceInfo, model::NodeName, state::View};

const READ: [&str; 3] = ["get", "list", "watch"];

/// Resources of which every node may read everything: what Services and pods in general need.
const PUBLIC: [(&str, &str); 6] = [
    ("", "services"),
    ("", "endpoints"),
    ("discovery.k8s.io", "endpointslices"),
    ("node.k8s.io", "runtimeclasses"),
    ("storage.k8s.io", "csidrivers"),
    ("", "nodes"),
];

/// Whether a wish is a node's own business; false for whoever is no node.
pub(super) fn may(view: &View, wish: &Wish<'_>) -> bool {
    let (Some(node), Target::Resource(asked, query)) = (wish.user.node(), wish.target) else {
        return false;
    };
    let group = asked.group.as_str();
    match (group, asked.resource.as_str(), asked.subresource.as_str()) {
        (_, resource, "") if READ.contains(&wish.verb) && PUBLIC.contains(&(group, resource)) => {
            true
        }
        ("", "nodes", sub) => writes_itself(wish.verb, asked, sub, node),
        ("", "pods", sub) => pods(view, wish.verb, asked, sub, query, node),
        ("", "secrets" | "configmaps" | "persistentvolumeclaims", "") => {
            READ.contains(&wish.verb) && is_needed(view, asked, node)
        }
        ("", "serviceaccounts", "") => wish.verb == "get" && is_needed(view, asked, node),
        ("", "serviceaccounts", "token") => wish.verb == "create" && is_needed(view, asked, node),
        ("" | "events.k8s.io", "events", "") => {
            matches!(wish.verb, "create" | "update" | "patch")
        }
        ("coordination.k8s.io", "leases", "") => {
            asked.namespace == "kube-node-lease"
                && match wish.verb {
                    "create" => asked.name.is_empty() || asked.name == node,
                    "get" | "update" | "patch" | "delete" => asked.name == node,
                    _ => false,
                }
        }
        ("certificates.k8s.io", "certificatesigningrequests", "") => {
            matches!(wish.verb, "create" | "get" | "list" | "watch")
        }
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => {
            wish.verb == "create"
        }
        _ => false,
    }
}

fn writes_itself(verb: &str, asked: &ResourceInfo, sub: &str, node: &str) -> bool {
    match (verb, sub) {
        ("create", "") => true,
        ("update" | "patch", "" | "status") => asked.name == node,
        _ => false,
    }
}

fn pods(view: &View, verb: &str, asked: &ResourceInfo, sub: &str, query: &str, node: &str) -> bool {
    let is_own = || {
        let pod = view.get::<Pod>(&asked.namespace, &asked.name);
        pod.and_then(|pod| pod.spec.as_ref()?.node_name.as_deref()) == Some(node)
    };
    match (verb, sub) {
        ("list" | "watch", "") => narrows_to(query, node),
        ("get" | "delete", "")
        | ("get" | "update" | "patch", "status")
        | ("create", "eviction") => is_own(),
        _ => false,
    }
}

/// Whether a query asks for the pods of one node alone.
fn narrows_to(query: &str, node: &str) -> bool {
    let field = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector="));
    let Some(field) = field.and_then(super::super::resources::decoded) else { return false };
    field.split(',').any(|term| {
        let name = term.strip_prefix("spec.nodeName").map(|rest| rest.trim_start_matches('='));
        name == Some(node)
    })
}

/// Whether a pod of the node names this object.
fn is_needed(view: &View, asked: &ResourceInfo, node: &str) -> bool {
    if asked.name.is_empty() {
        return false;
    }
    let node = NodeName::new(node);
    let pods = view.pods_on(&node);
    let mut inside = pods.filter(|pod| pod.key().namespace == asked.namespace.as_str());
    inside.any(|pod| {
        let spec = pod.view::<Pod>().and_then(|pod| pod.spec.as_ref());
        spec.is_some_and(|spec| names(spec, &asked.resource, &asked.name))
    })
}

/// Whether a pod names an object of its namespace.
fn names(spec: &PodSpec, resource: &str, name: &str) -> bool {
    let volumes = || spec.volumes.iter().flatten();
    match resource {
        "serviceaccounts" => spec.service_account_name.as_deref().unwrap_or("default") == name,
        "persistentvolumeclaims" => volumes().any(|volume| {
            volume.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == name)
        }),
        "secrets" => {
            spec.image_pull_secrets.iter().flatten().any(|secret| secret.name == name)
                || volumes().any(|volume| secret_of(volume, name))
                || in_environment(spec, true, name)
        }
        "configmaps" => {
            volumes().any(|volume| config_map_of(volume, name)) || in_environment(spec, false, name)
        }
        _ => false,
    }
}

fn secret_of(volume: &Volume, name: &str) -> bool {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()) == Some(name)
        || projected.filter_map(|s| s.secret.as_ref()).any(|s| s.name == name)
}

fn config_map_of(volume: &Volume, name: &str) -> bool {
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    volume.config_map.as_ref().is_some_and(|c| c.name == name)
        || projected.filter_map(|s| s.config_map.as_ref()).any(|c| c.name == name)
}

/// Whether a variable of a container comes from a Secret (else: a ConfigMap) of this name.
fn in_environment(spec: &PodSpec, secret: bool, name: &str) -> bool {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| {
        let mut whole = container.env_from.iter().flatten().map(|from| match secret {
            true => from.secret_ref.as_ref().is_some_and(|s| s.name == name),
            false => from.config_map_ref.as_ref().is_some_and(|c| c.name == name),
        });
        let mut single =
            container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()).map(|from| {
                match secret {
                    true => from.secret_key_ref.as_ref().is_some_and(|s| s.name == name),
                    false => from.config_map_key_ref.as_ref().is_some_and(|c| c.name == name),
                }
            });
        whole.any(|found| found) || single.any(|found| found)
    })
}
