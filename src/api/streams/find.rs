//! Which pod, container and node a request means, and Kubernetes' words when there is none.

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{Endpoint, EndpointSlice},
};

use crate::{api::Failure, kinds, model::NodeName, state::View};

/// The label that names an EndpointSlice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port of a pod to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) node: NodeName,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

pub(super) fn pod<'a>(view: &'a View, namespace: &str, name: &str) -> Result<&'a Pod, Failure> {
    let found = view.get::<Pod>(namespace, name);
    found.ok_or_else(|| absent("pods", name))
}

fn absent(plural: &str, name: &str) -> Failure {
    match kinds::lookup_resource("", plural) {
        Some(info) => Failure::no_object(info, name),
        None => Failure::not_found(format!("{plural} {name:?} not found")),
    }
}

/// The node a pod is bound to.
pub(super) fn node(pod: &Pod) -> Option<NodeName> {
    pod.spec.as_ref()?.node_name.as_deref().map(NodeName::new)
}

/// The node a pod is bound to, when something of it must run.
pub(super) fn host(pod: &Pod, name: &str) -> Result<NodeName, Failure> {
    let none = || Failure::bad_request(format!("pod {name} does not have a host assigned"));
    node(pod).ok_or_else(none)
}

/// The container that is meant; the pod's only one when none is named.
pub(super) fn container(pod: &Pod, name: &str, wanted: Option<&str>) -> Result<String, Failure> {
    let spec = pod.spec.as_ref();
    let apps: Vec<&str> =
        spec.iter().flat_map(|s| &s.containers).map(|c| c.name.as_str()).collect();
    let inits = spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let inits: Vec<&str> = inits.map(|c| c.name.as_str()).collect();
    let others = spec.iter().flat_map(|s| s.ephemeral_containers.iter().flatten());
    let others: Vec<&str> = others.map(|c| c.name.as_str()).collect();
    match (wanted.filter(|wanted| !wanted.is_empty()), &apps[..]) {
        (Some(wanted), _) if [&apps, &inits, &others].iter().any(|l| l.contains(&wanted)) => {
            Ok(wanted.to_owned())
        }
        (Some(wanted), _) => {
            let text = format!("container {wanted} is not valid for pod {name}");
            Err(Failure::bad_request(text))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => {
            let mut text = format!("a container name must be specified for pod {name}");
            text += &format!(", choose one of: [{}]", apps.join(" "));
            if !inits.is_empty() {
                text += &format!(" or one of the init containers: [{}]", inits.join(" "));
            }
            Err(Failure::bad_request(text))
        }
    }
}

/// `name`, `name:port` or `scheme:name:port`.
fn split(text: &str) -> Option<(bool, &str, &str)> {
    let words: Vec<&str> = text.split(':').collect();
    match words[..] {
        [name] => Some((false, name, "")),
        [name, port] => Some((false, name, port)),
        ["http" | "", name, port] => Some((false, name, port)),
        ["https", name, port] => Some((true, name, port)),
        _ => None,
    }
}

/// The port of a pod that a proxy request names; the first that its containers declare when it
/// names none.
pub(super) fn pod_port(view: &View, namespace: &str, text: &str) -> Result<Destination, Failure> {
    let invalid = || Failure::bad_request(format!("invalid pod request {text:?}"));
    let (tls, name, port) = split(text).ok_or_else(invalid)?;
    let found = pod(view, namespace, name)?;
    let declared = || {
        let containers = found.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|c| c.ports.iter().flatten());
        ports.next().and_then(|port| u16::try_from(port.container_port).ok())
    };
    let port = match port {
        "" => declared().unwrap_or(if tls { 443 } else { 80 }),
        port => port.parse().map_err(|_| invalid())?,
    };
    let node = host(found, name)?;
    Ok(Destination { node, namespace: namespace.to_owned(), pod: name.to_owned(), port, tls })
}

/// A ready pod behind the port of a service that a proxy request names. `turn` chooses among
/// several.
pub(super) fn service_port(
    view: &View,
    namespace: &str,
    text: &str,
    turn: usize,
) -> Result<Destination, Failure> {
    let invalid = || Failure::bad_request(format!("invalid service request {text:?}"));
    let (tls, name, port) = split(text).ok_or_else(invalid)?;
    let service = view.get::<Service>(namespace, name);
    let service = service.ok_or_else(|| absent("services", name))?;
    let port = port_name(service, name, port)?;
    let mut ready = ready(view, namespace, name, &port);
    let none = || Failure::unavailable(format!("no endpoints available for service {name:?}"));
    ready.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    if ready.is_empty() {
        return Err(none());
    }
    let (pod, node, port) = ready.swap_remove(turn % ready.len());
    Ok(Destination { node, namespace: namespace.to_owned(), pod, port, tls })
}

/// The name of a service's port that is given by name or number; the only one's when it is not
/// given.
fn port_name(service: &Service, name: &str, wanted: &str) -> Result<String, Failure> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let Ok(number) = wanted.parse::<i32>() else {
        let only = ports.first().filter(|_| wanted.is_empty() && ports.len() == 1);
        let only = only.map(|port| port.name.clone().unwrap_or_default());
        return Ok(only.unwrap_or_else(|| wanted.to_owned()));
    };
    let found = ports.iter().find(|port| port.port == number);
    let none = || format!("no service port {number} found for service {name:?}");
    let found = found.ok_or_else(|| Failure::unavailable(none()))?;
    Ok(found.name.clone().unwrap_or_default())
}

/// The ready pods of a service, with their nodes and the port there.
fn ready(view: &View, namespace: &str, service: &str, port: &str) -> Vec<(String, NodeName, u16)> {
    let of_service = |slice: &&EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|l| l.get(SERVICE_NAME)).is_some_and(|named| named == service)
    };
    let slices = view.list::<EndpointSlice>(Some(namespace)).map(|(_, slice)| slice);
    let mut found = Vec::new();
    for slice in slices.filter(of_service) {
        let number = slice.ports.iter().flatten().find(|p| p.name.as_deref().unwrap_or("") == port);
        let number = number.and_then(|p| u16::try_from(p.port?).ok());
        let Some(number) = number else { continue };
        let pods = slice.endpoints.iter().flatten().filter_map(pod_of);
        found.extend(pods.map(|(pod, node)| (pod, node, number)));
    }
    found
}

fn pod_of(endpoint: &Endpoint) -> Option<(String, NodeName)> {
    let ready = endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
    let target = endpoint
        .target_ref
        .as_ref()
        .filter(|target| ready && target.kind.as_deref() == Some("Pod"))?;
    Some((target.name.clone()?, NodeName::new(endpoint.node_name.as_deref()?)))
}
