//! What is between clients and pods: Endpoints, Ingresses, policies, addresses.

use k8s_openapi::api::{
    core::v1::{EndpointSubset, Endpoints},
    networking::v1::{IPAddress, Ingress, IngressClass, IngressSpec, NetworkPolicy, ServiceCIDR},
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::age,
    text::{NONE, first, name, or_none, selector},
};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const ENDPOINTS: [Column; 3] =
    [NAME, Column::text("Endpoints", "The addresses and ports that are ready."), AGE];
pub(in crate::kinds) const INGRESS: [Column; 6] = [
    NAME,
    Column::text("Class", "The class, and so the controller, of the Ingress."),
    Column::text("Hosts", "The hosts that it answers for."),
    Column::text("Address", "Where it is reached."),
    Column::text("Ports", "The ports of that address."),
    AGE,
];
pub(in crate::kinds) const INGRESS_CLASS: [Column; 4] = [
    NAME,
    Column::text("Controller", "Who acts on Ingresses of this class."),
    Column::text("Parameters", "The object with more settings."),
    AGE,
];
pub(in crate::kinds) const NETWORK_POLICY: [Column; 3] =
    [NAME, Column::text("Pod-Selector", "The labels of the pods it is for."), AGE];
pub(in crate::kinds) const IP_ADDRESS: [Column; 2] =
    [NAME, Column::text("ParentRef", "The object that has the address.")];
pub(in crate::kinds) const SERVICE_CIDR: [Column; 3] =
    [NAME, Column::text("CIDRs", "The ranges that Services get their addresses from."), AGE];

/// Most endpoints, and most hosts, that a row shows.
const SHOWN_MAX: usize = 3;

pub(in crate::kinds) fn endpoints(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let endpoints: &Endpoints = object.view()?;
    let all: Vec<String> = endpoints.subsets.iter().flatten().flat_map(sockets).collect();
    let shown = if all.is_empty() { NONE.to_owned() } else { first(&all, SHOWN_MAX, ",") };
    Some(vec![name(object), shown.into(), age(object, now)])
}

/// Each ready address with each port, or alone when there is no port.
fn sockets(subset: &EndpointSubset) -> Vec<String> {
    let addresses = || subset.addresses.iter().flatten().map(|a| a.ip.as_str());
    let ports = subset.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return addresses().map(str::to_owned).collect();
    }
    let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let with = |port: i32| addresses().map(move |ip| format!("{}:{port}", host(ip)));
    ports.iter().flat_map(|p| with(p.port)).collect()
}

pub(in crate::kinds) fn ingress(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let ingress: &Ingress = object.view()?;
    let spec = ingress.spec.clone().unwrap_or_default();
    let balancer = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let given = balancer.iter().flat_map(|b| b.ingress.iter().flatten());
    let addresses = given.filter_map(|i| i.ip.as_deref().or(i.hostname.as_deref()));
    let ports = if spec.tls.as_ref().is_some_and(|t| !t.is_empty()) { "80, 443" } else { "80" };
    Some(vec![
        name(object),
        or_none(spec.ingress_class_name.as_deref()).into(),
        hosts(&spec).into(),
        addresses.collect::<Vec<_>>().join(",").into(),
        ports.into(),
        age(object, now),
    ])
}

fn hosts(spec: &IngressSpec) -> String {
    let hosts = spec.rules.iter().flatten().filter_map(|r| r.host.clone());
    let hosts: Vec<String> = hosts.filter(|h| !h.is_empty()).collect();
    if hosts.is_empty() { "*".to_owned() } else { first(&hosts, SHOWN_MAX, ",") }
}

pub(in crate::kinds) fn ingress_class(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let class: &IngressClass = object.view()?;
    let spec = class.spec.clone().unwrap_or_default();
    let parameters = spec.parameters.map(|p| match p.api_group {
        Some(group) => format!("{}.{group}/{}", p.kind, p.name),
        None => format!("{}/{}", p.kind, p.name),
    });
    Some(vec![
        name(object),
        spec.controller.unwrap_or_default().into(),
        or_none(parameters.as_deref()).into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn network_policy(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let policy: &NetworkPolicy = object.view()?;
    let pods = policy.spec.as_ref().and_then(|s| s.pod_selector.as_ref());
    Some(vec![name(object), selector(pods).into(), age(object, now)])
}

pub(in crate::kinds) fn ip_address(object: &Object, _: Timestamp) -> Option<Vec<Value>> {
    let address: &IPAddress = object.view()?;
    let parent = &address.spec.parent_ref;
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let kind = match given(&parent.group) {
        Some(group) => format!("{}.{group}", parent.resource),
        None => parent.resource.clone(),
    };
    let parts: Vec<String> = [Some(kind), given(&parent.namespace), Some(parent.name.clone())]
        .into_iter()
        .flatten()
        .collect();
    Some(vec![name(object), parts.join("/").into()])
}

pub(in crate::kinds) fn service_cidr(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let range: &ServiceCIDR = object.view()?;
    let ranges = range.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default();
    Some(vec![name(object), ranges.join(",").into(), age(object, now)])
}
