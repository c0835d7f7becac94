//! NetworkPolicies.

use std::net::IpAddr;

use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString::{Int, String as Text},
};

use super::{Kind, field::Check, meta, names, pod_defaults::fill};

impl Kind for NetworkPolicy {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.pod_selector.get_or_insert_default();
        for port in ports_mut(spec) {
            fill(&mut port.protocol, "TCP");
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let egress = spec.egress.as_ref().is_some_and(|e| !e.is_empty());
            let types = if egress { &["Ingress", "Egress"][..] } else { &["Ingress"] };
            spec.policy_types = Some(types.iter().map(|t| (*t).to_owned()).collect());
        }
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        if let Some(selector) = &spec.pod_selector {
            meta::validate_selector("spec.podSelector", selector, check);
        }
        for (i, rule) in spec.ingress.iter().flatten().enumerate() {
            let at = format!("spec.ingress[{i}]");
            validate_rule(&at, "from", rule.ports.as_ref(), rule.from.as_ref(), check);
        }
        for (i, rule) in spec.egress.iter().flatten().enumerate() {
            let at = format!("spec.egress[{i}]");
            validate_rule(&at, "to", rule.ports.as_ref(), rule.to.as_ref(), check);
        }
        validate_types(spec.policy_types.as_deref().unwrap_or_default(), check);
    }
}

fn ports_mut(spec: &mut NetworkPolicySpec) -> impl Iterator<Item = &mut NetworkPolicyPort> {
    let ingress = spec.ingress.iter_mut().flatten().map(|rule| &mut rule.ports);
    let egress = spec.egress.iter_mut().flatten().map(|rule| &mut rule.ports);
    ingress.chain(egress).flatten().flatten()
}

fn validate_types(types: &[String], check: &mut Check) {
    let field = "spec.policyTypes";
    let known = ["Ingress", "Egress"];
    if types.len() > known.len() {
        check.invalid(field, types, "may not specify more than two policyTypes");
        return;
    }
    for (i, of_type) in types.iter().enumerate() {
        check.one_of(format!("{field}[{i}]"), of_type, &known);
    }
}

fn validate_rule(
    at: &str,
    direction: &str,
    ports: Option<&Vec<NetworkPolicyPort>>,
    peers: Option<&Vec<NetworkPolicyPeer>>,
    check: &mut Check,
) {
    for (i, port) in ports.into_iter().flatten().enumerate() {
        validate_port(&format!("{at}.ports[{i}]"), port, check);
    }
    for (i, peer) in peers.into_iter().flatten().enumerate() {
        validate_peer(&format!("{at}.{direction}[{i}]"), peer, check);
    }
}

fn validate_port(at: &str, port: &NetworkPolicyPort, check: &mut Check) {
    if let Some(protocol) = &port.protocol {
        check.one_of(format!("{at}.protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let end = format!("{at}.endPort");
    match (&port.port, port.end_port) {
        (Some(Int(first)), last) => {
            for message in names::port_number(*first) {
                check.invalid(format!("{at}.port"), first, message);
            }
            if let Some(last) = last {
                if last < *first {
                    check.invalid(&end, last, "must be greater than or equal to `port`");
                }
                for message in names::port_number(last) {
                    check.invalid(&end, last, message);
                }
            }
        }
        (Some(Text(name)), last) => {
            if let Some(last) = last {
                check.invalid(&end, last, "may not be specified when `port` is non-numeric");
            }
            check.text(&format!("{at}.port"), name, names::port_name(name));
        }
        (None, Some(last)) => {
            check.invalid(&end, last, "may not be specified when `port` is not specified");
        }
        (None, None) => {}
    }
}

fn validate_peer(at: &str, peer: &NetworkPolicyPeer, check: &mut Check) {
    let NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = peer;
    if let Some(selector) = pod_selector {
        meta::validate_selector(&format!("{at}.podSelector"), selector, check);
    }
    if let Some(selector) = namespace_selector {
        meta::validate_selector(&format!("{at}.namespaceSelector"), selector, check);
    }
    let selects = pod_selector.is_some() || namespace_selector.is_some();
    match ip_block {
        None if !selects => check.required(at, "must specify a peer"),
        None => {}
        Some(block) => {
            validate_block(&format!("{at}.ipBlock"), block, check);
            if selects {
                check.forbidden(at, "may not specify both ipBlock and another peer");
            }
        }
    }
}

fn validate_block(at: &str, block: &IPBlock, check: &mut Check) {
    let field = format!("{at}.cidr");
    if block.cidr.is_empty() {
        check.required(field, "");
        return;
    }
    check.text(&field, &block.cidr, names::cidr(&block.cidr));
    let Some(range) = Range::parse(&block.cidr) else { return };
    for (i, except) in block.except.iter().flatten().enumerate() {
        let field = format!("{at}.except[{i}]");
        check.text(&field, except, names::cidr(except));
        if Range::parse(except).is_some_and(|e| !range.strictly_contains(e)) {
            check.invalid(&field, except, "must be a strict subset of `cidr`");
        }
    }
}

/// A range of addresses of one family.
#[derive(Clone, Copy)]
struct Range {
    /// The address, its first bit the highest.
    bits: u128,
    /// How many bits all addresses of the range share.
    length: u32,
    v6: bool,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length = length.parse().ok()?;
        let (bits, v6) = match address.parse().ok()? {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, false),
            IpAddr::V6(ip) => (ip.to_bits(), true),
        };
        let most = if v6 { 128 } else { 32 };
        (length <= most).then_some(Self { bits, length, v6 })
    }

    fn strictly_contains(self, other: Self) -> bool {
        let differs = (self.bits ^ other.bits).leading_zeros();
        self.v6 == other.v6 && self.length < other.length && differs >= self.length
    }
}
