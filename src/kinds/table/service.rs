//! Services and EndpointSlices.

use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec, ServiceStatus},
    discovery::v1::{EndpointPort, EndpointSlice},
};
use serde_json::Value;

use super::{
    AGE, Column, NAME, SELECTOR,
    age::age,
    text::{first, joined, labels, name, or_none},
};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const SERVICE: [Column; 7] = [
    NAME,
    Column::text("Type", "How it is reached."),
    Column::text("Cluster-IP", "Its address within the cluster."),
    Column::text("External-IP", "Its addresses for the world."),
    Column::text("Port(s)", "Its ports, and the ports of the nodes."),
    AGE,
    SELECTOR,
];
pub(in crate::kinds) const ENDPOINT_SLICE: [Column; 5] = [
    NAME,
    Column::text("AddressType", "What its addresses are."),
    Column::text("Ports", "The ports that its endpoints serve."),
    Column::text("Endpoints", "The addresses of its endpoints."),
    AGE,
];

/// Most ports, and most addresses, that a row of a slice shows.
const SHOWN_MAX: usize = 3;

pub(in crate::kinds) fn service(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let service: &Service = object.view()?;
    let spec = service.spec.as_ref()?;
    let ports: Vec<String> = spec.ports.iter().flatten().map(port).collect();
    Some(vec![
        name(object),
        spec.type_.as_deref().unwrap_or_default().into(),
        or_none(spec.cluster_ip.as_deref()).into(),
        external(spec, service.status.as_ref()).into(),
        joined(&ports).into(),
        age(object, now),
        labels(spec.selector.as_ref()).into(),
    ])
}

/// `80/TCP`, or `80:30080/TCP` with the port of the nodes.
fn port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port.filter(|p| *p != 0) {
        Some(node_port) => format!("{}:{node_port}/{protocol}", port.port),
        None => format!("{}/{protocol}", port.port),
    }
}

fn external(spec: &ServiceSpec, status: Option<&ServiceStatus>) -> String {
    let own = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("ExternalName") => or_none(spec.external_name.as_deref()),
        Some("LoadBalancer") => {
            let balancer = status.and_then(|s| s.load_balancer.as_ref());
            let ingress = balancer.and_then(|b| b.ingress.as_deref()).unwrap_or_default();
            let given = ingress.iter().filter_map(|i| i.ip.clone().or_else(|| i.hostname.clone()));
            let all: Vec<String> = given.chain(own).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => joined(&own),
    }
}

pub(in crate::kinds) fn endpoint_slice(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let slice: &EndpointSlice = object.view()?;
    let ports: Vec<String> = slice.ports.iter().flatten().map(endpoint_port).collect();
    let addresses: Vec<String> =
        slice.endpoints.iter().flatten().flat_map(|e| e.addresses.clone()).collect();
    let shown = |texts: &[String]| {
        if texts.is_empty() { "<unset>".to_owned() } else { first(texts, SHOWN_MAX, ",") }
    };
    Some(vec![
        name(object),
        slice.address_type.as_str().into(),
        shown(&ports).into(),
        shown(&addresses).into(),
        age(object, now),
    ])
}

fn endpoint_port(port: &EndpointPort) -> String {
    let name = port.name.clone().filter(|n| !n.is_empty());
    port.port.map_or_else(|| name.unwrap_or_else(|| "*".to_owned()), |p| p.to_string())
}
