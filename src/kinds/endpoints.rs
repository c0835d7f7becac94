//! Endpoints, the older form of EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints};

use super::{Kind, field::Check, names, pod_defaults::fill};

const DEPRECATED: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

impl Kind for Endpoints {
    fn default_fields(&mut self) {
        for port in self.subsets.iter_mut().flatten().flat_map(|s| s.ports.iter_mut().flatten()) {
            fill(&mut port.protocol, "TCP");
        }
    }

    fn validate(&self, check: &mut Check) {
        check.warn("", DEPRECATED);
        for (i, subset) in self.subsets.iter().flatten().enumerate() {
            let at = format!("subsets[{i}]");
            let ready = subset.addresses.as_deref().unwrap_or_default();
            let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
            if ready.is_empty() && not_ready.is_empty() {
                check.required(&at, "must specify `addresses` or `notReadyAddresses`");
            }
            for (field, list) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
                for (j, address) in list.iter().enumerate() {
                    validate_address(&format!("{at}.{field}[{j}]"), address, check);
                }
            }
            let ports = subset.ports.as_deref().unwrap_or_default();
            for (j, port) in ports.iter().enumerate() {
                validate_port(&format!("{at}.ports[{j}]"), port, ports.len() > 1, check);
            }
        }
    }
}

fn validate_address(at: &str, address: &EndpointAddress, check: &mut Check) {
    let field = format!("{at}.ip");
    match address.ip.parse::<IpAddr>() {
        Ok(ip) => {
            if let Some(text) = unusable(ip) {
                check.invalid(&field, &address.ip, text);
            }
        }
        Err(_) => {
            check.text(&field, &address.ip, names::ip(&address.ip));
            check.invalid(&field, &address.ip, "must be a valid IP address");
        }
    }
    if let Some(name) = address.hostname.as_deref().filter(|n| !n.is_empty()) {
        check.text(&format!("{at}.hostname"), name, names::dns1123_label(name));
    }
    if let Some(name) = address.node_name.as_deref() {
        check.text(&format!("{at}.nodeName"), name, names::dns1123_subdomain(name));
    }
}

/// Why traffic cannot be sent to an address.
fn unusable(ip: IpAddr) -> Option<&'static str> {
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] == 0xff02),
    };
    if ip.is_unspecified() {
        Some("may not be unspecified (0.0.0.0 or ::)")
    } else if ip.is_loopback() {
        Some("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    } else if link_local {
        Some("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    } else if multicast {
        Some("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    } else {
        None
    }
}

fn validate_port(at: &str, port: &EndpointPort, several: bool, check: &mut Check) {
    match port.name.as_deref().filter(|n| !n.is_empty()) {
        None if several => check.required(format!("{at}.name"), ""),
        None => {}
        Some(name) => check.text(&format!("{at}.name"), name, names::dns1123_label(name)),
    }
    for message in names::port_number(port.port) {
        check.invalid(format!("{at}.port"), port.port, message);
    }
    let protocol = port.protocol.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
    if let Some(protocol) = port.app_protocol.as_deref() {
        let rules = names::qualified_name(protocol);
        check.text(&format!("{at}.appProtocol"), protocol, rules);
    }
}
