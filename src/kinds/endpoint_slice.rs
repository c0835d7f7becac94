//! EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::{Kind, Reason, field::Check, names};

/// Most endpoints of one slice, and most addresses of one endpoint, as Kubernetes.
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;

impl Kind for EndpointSlice {
    fn default_fields(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.conditions.get_or_insert_default();
        }
    }

    fn validate(&self, check: &mut Check) {
        check.one_of("addressType", &self.address_type, &["FQDN", "IPv4", "IPv6"]);
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        if endpoints.len() > ENDPOINTS_MAX {
            let n = endpoints.len();
            let text = format!("Too many: {n}: must have at most {ENDPOINTS_MAX} items");
            check.error("endpoints", Reason::TooMany, text);
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            let at = format!("endpoints[{i}].addresses");
            if endpoint.addresses.is_empty() {
                check.required(&at, "");
            }
            if endpoint.addresses.len() > ADDRESSES_MAX {
                let n = endpoint.addresses.len();
                let text = format!("Too many: {n}: must have at most {ADDRESSES_MAX} items");
                check.error(&at, Reason::TooMany, text);
            }
            for address in &endpoint.addresses {
                self.validate_address(&at, address, check);
            }
        }
        for (i, port) in self.ports.iter().flatten().enumerate() {
            let at = format!("ports[{i}]");
            if let Some(protocol) = &port.protocol {
                check.one_of(format!("{at}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
            }
            if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                check.text(&format!("{at}.name"), name, names::dns1123_label(name));
            }
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("addressType", &live.address_type, &self.address_type);
    }
}

/// The part of [`Kind`] that depends on the type of the addresses.
trait OfType {
    fn validate_address(&self, at: &str, address: &str, check: &mut Check);
}

impl OfType for EndpointSlice {
    fn validate_address(&self, at: &str, address: &str, check: &mut Check) {
        let parsed = address.parse::<IpAddr>();
        match self.address_type.as_str() {
            "IPv4" if !matches!(parsed, Ok(IpAddr::V4(_))) => {
                check.invalid(at, address, "must be an IPv4 address");
            }
            "IPv6" if !matches!(parsed, Ok(IpAddr::V6(_))) => {
                check.invalid(at, address, "must be an IPv6 address");
            }
            "FQDN" => check.text(at, address, names::dns1123_subdomain(address)),
            _ => {}
        }
    }
}
