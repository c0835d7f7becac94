//! ClusterIPs, node ports and the nodes' pod ranges: chosen here, so that no two servers choose
//! differently.
//!
//! The first choice follows from the object's name, so a cluster rebuilt from its repository comes
//! up with the same addresses wherever names did not collide.

use std::{collections::BTreeSet, net::Ipv4Addr};

use k8s_openapi::api::core::v1::{Node, Service};
use serde_json::{Value, json};

use super::{
    command::Refusal,
    view::{ClusterConfig, View},
};
use crate::model::{Key, Object, Problem, fnv1a};

/// Gives a Service its ClusterIP and node ports where it has none, and refuses those another one
/// holds.
pub(super) fn service(view: &View, key: &Key, value: &mut Value) -> Result<(), Refusal> {
    let Some(config) = view.config() else { return Ok(()) };
    let kind = value["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    cluster_ip(view, config, key, value)?;
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        node_ports_of(view, config, key, value)?;
    }
    Ok(())
}

fn cluster_ip(
    view: &View,
    config: &ClusterConfig,
    key: &Key,
    value: &mut Value,
) -> Result<(), Refusal> {
    let asked = value["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    if asked == "None" {
        value["spec"]["clusterIPs"] = json!(["None"]);
        return Ok(());
    }
    let address = if asked.is_empty() {
        let size = 1u64 << (32 - u32::from(config.service_prefix));
        free_address(view, config, key, size)?
    } else {
        let address: Ipv4Addr = asked.parse().map_err(|_| {
            invalid(
                "spec.clusterIPs[0]",
                format!("Invalid value: {asked:?}: must be an IPv4 address"),
            )
        })?;
        let held = view.holder_of_address(address).filter(|holder| *holder != key);
        if let Some(holder) = held {
            let text =
                format!("Invalid value: {asked:?}: provided IP is already allocated to {holder}");
            return Err(invalid("spec.clusterIPs", text));
        }
        if !config.is_service_address(address) {
            let text = format!(
                "Invalid value: {asked:?}: provided IP is not in the valid range. The range of valid IPs is {}/{}",
                config.service_base, config.service_prefix
            );
            return Err(invalid("spec.clusterIPs", text));
        }
        address
    };
    value["spec"]["clusterIP"] = address.to_string().into();
    value["spec"]["clusterIPs"] = json!([address.to_string()]);
    Ok(())
}

/// The address the name points to, or the next free one. The first 16 addresses are left for
/// well-known Services.
fn free_address(
    view: &View,
    config: &ClusterConfig,
    key: &Key,
    size: u64,
) -> Result<Ipv4Addr, Refusal> {
    let usable = size.saturating_sub(17).max(1);
    let start = fnv1a(key.to_path().as_bytes()) % usable;
    (0..usable)
        .map(|i| {
            let offset = 16 + (start + i) % usable;
            Ipv4Addr::from(u32::from(config.service_base).wrapping_add(offset as u32))
        })
        .find(|address| view.holder_of_address(*address).is_none())
        .ok_or_else(|| Refusal::Exhausted(format!("{key}: no free ClusterIP is left")))
}

fn node_ports_of(
    view: &View,
    config: &ClusterConfig,
    key: &Key,
    value: &mut Value,
) -> Result<(), Refusal> {
    let Some(ports) = value["spec"]["ports"].as_array_mut() else { return Ok(()) };
    let mut taken: Vec<u16> = ports.iter().filter_map(port_number).collect();
    for (i, port) in ports.iter_mut().enumerate() {
        let field = format!("spec.ports[{i}].nodePort");
        if let Some(asked) = port_number(port) {
            if let Some(holder) = view.holder_of_port(asked).filter(|holder| *holder != key) {
                let text = format!(
                    "Invalid value: {asked}: provided port is already allocated to {holder}"
                );
                return Err(invalid(&field, text));
            }
            if !config.is_node_port(asked) {
                let text = format!(
                    "Invalid value: {asked}: provided port is not in the valid range. The range of valid ports is {}-{}",
                    config.node_port_min, config.node_port_max
                );
                return Err(invalid(&field, text));
            }
            continue;
        }
        let count = u64::from(config.node_port_max.saturating_sub(config.node_port_min)) + 1;
        let name = format!("{}#{}", key.to_path(), port["port"]);
        let start = fnv1a(name.as_bytes()) % count;
        let free = (0..count)
            .map(|n| config.node_port_min + ((start + n) % count) as u16)
            .find(|p| view.holder_of_port(*p).is_none() && !taken.contains(p))
            .ok_or_else(|| Refusal::Exhausted(format!("{key}: no free node port is left")))?;
        taken.push(free);
        port["nodePort"] = free.into();
    }
    Ok(())
}

fn port_number(port: &Value) -> Option<u16> {
    port["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)
}

/// Gives a Node its pod range where it has none.
pub(super) fn node(view: &View, value: &mut Value) -> Result<(), Refusal> {
    let Some(config) = view.config() else { return Ok(()) };
    if value["spec"]["podCIDR"].is_string() {
        return Ok(());
    }
    let cidr = free_pod_ranges(view, config)
        .next()
        .ok_or_else(|| Refusal::Exhausted("no pod range is left for another node".into()))?;
    value["spec"]["podCIDR"] = cidr.as_str().into();
    value["spec"]["podCIDRs"] = json!([cidr]);
    Ok(())
}

/// The parts of the range of pods that no node has.
pub(super) fn free_pod_ranges(view: &View, config: &ClusterConfig) -> impl Iterator<Item = String> {
    let nodes = view.list::<Node>(None);
    let taken: BTreeSet<String> =
        nodes.filter_map(|(_, node)| node.spec.as_ref()?.pod_cidr.clone()).collect();
    let ranges = 1u32 << config.node_prefix.saturating_sub(config.pod_prefix);
    let (base, prefix) = (u32::from(config.pod_base), config.node_prefix);
    let all = (0..ranges).map(move |i| {
        let base = Ipv4Addr::from(base + (i << (32 - u32::from(prefix))));
        format!("{base}/{prefix}")
    });
    all.filter(move |cidr| !taken.contains(cidr))
}

/// The ClusterIPs an object holds.
pub(super) fn addresses(object: &Object) -> Vec<Ipv4Addr> {
    let spec = object.view::<Service>().and_then(|s| s.spec.as_ref());
    let ip = spec.and_then(|s| s.cluster_ip.as_deref());
    ip.and_then(|ip| ip.parse().ok()).into_iter().collect()
}

/// The node ports an object holds.
pub(super) fn node_ports(object: &Object) -> Vec<u16> {
    let spec = object.view::<Service>().and_then(|s| s.spec.as_ref());
    let ports = spec.and_then(|s| s.ports.as_ref()).into_iter().flatten();
    ports.filter_map(|p| u16::try_from(p.node_port?).ok()).filter(|p| *p > 0).collect()
}

fn invalid(field: &str, message: String) -> Refusal {
    Refusal::Invalid {
        problems: vec![Problem { field: field.into(), message, ..Problem::default() }],
    }
}
