//! Services.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use k8s_openapi::{
    api::core::v1::{
        ClientIPConfig, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
        SessionAffinityConfig,
    },
    apimachinery::pkg::util::intstr::IntOrString::{Int, String as Text},
};

use super::{Kind, Reason, field::Check, meta, names};

/// Ports that a NodePort may have: Kubernetes' default range.
pub(super) const NODE_PORTS: RangeInclusive<i32> = 30000..=32767;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// Most seconds a client stays with its pod.
const AFFINITY_SECONDS_MAX: i32 = 86_400;
/// Seconds a client stays with its pod unless the Service says otherwise (three hours).
const AFFINITY_SECONDS: i32 = 10_800;

/// Whether a Service still has to be given an address.
pub fn needs_cluster_ip(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    kind_of(spec) != "ExternalName" && spec.cluster_ip.as_deref().is_none_or(str::is_empty)
}

/// The indexes of the ports that still have to be given a node port.
pub fn needs_node_ports(service: &Service) -> Vec<usize> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let wanted = match kind_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    };
    let ports = spec.ports.iter().flatten().enumerate();
    ports.filter(|(_, p)| wanted && p.node_port.unwrap_or(0) == 0).map(|(i, _)| i).collect()
}

fn kind_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

fn fill(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

impl Kind for Service {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        fill(&mut spec.session_affinity, "None");
        fill(&mut spec.type_, "ClusterIP");
        let of_type = kind_of(spec).to_owned();
        match spec.session_affinity.as_deref() {
            Some("None") => spec.session_affinity_config = None,
            Some("ClientIP") => {
                let config: &mut SessionAffinityConfig =
                    spec.session_affinity_config.get_or_insert_default();
                let client: &mut ClientIPConfig = config.client_ip.get_or_insert_default();
                client.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
            }
            _ => {}
        }
        for port in spec.ports.iter_mut().flatten() {
            default_port(port, is_headless_name(spec.cluster_ip.as_deref()));
        }
        let outside = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
        if outside || matches!(of_type.as_str(), "NodePort" | "LoadBalancer") {
            fill(&mut spec.external_traffic_policy, "Cluster");
        }
        if of_type != "ExternalName" {
            fill(&mut spec.internal_traffic_policy, "Cluster");
            default_addresses(spec);
        }
        if of_type == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
        }
        let status = self.status.get_or_insert_default();
        status.load_balancer.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let Some(spec) = &self.spec else { return };
        let of_type = kind_of(spec);
        if spec.ports.as_ref().is_none_or(Vec::is_empty)
            && !is_headless(spec)
            && of_type != "ExternalName"
        {
            check.required("spec.ports", "");
        }
        validate_type(spec, check);
        validate_ports(spec, check);
        meta::validate_labels("spec.selector", spec.selector.as_ref(), check);
        validate_affinity(spec, check);
        validate_addresses(spec, check);
        validate_traffic(spec, check);
    }

    fn prepare_create(&mut self) {
        let load_balancer = Some(LoadBalancerStatus::default());
        self.status = Some(ServiceStatus { load_balancer, ..Default::default() });
    }

    /// Allocated values stay when the writer does not name others.
    fn prepare_update(&mut self, live: &Self) {
        let (Some(spec), Some(before)) = (&mut self.spec, &live.spec) else { return };
        let has_ip = |s: &ServiceSpec| kind_of(s) != "ExternalName";
        if has_ip(spec) && has_ip(before) && spec.cluster_ip.as_deref().is_none_or(str::is_empty) {
            spec.cluster_ip.clone_from(&before.cluster_ip);
            spec.cluster_ips.clone_from(&before.cluster_ips);
        }
        let has_port = |s: &ServiceSpec| matches!(kind_of(s), "NodePort" | "LoadBalancer");
        if !has_port(spec) || !has_port(before) {
            return;
        }
        let mut used: BTreeSet<i32> =
            spec.ports.iter().flatten().filter_map(|p| p.node_port).collect();
        for port in spec.ports.iter_mut().flatten().filter(|p| p.node_port.unwrap_or(0) == 0) {
            let same = |p: &&ServicePort| p.port == port.port && p.protocol == port.protocol;
            let old = before.ports.iter().flatten().find(same).and_then(|p| p.node_port);
            if let Some(old) = old.filter(|p| *p != 0 && used.insert(*p)) {
                port.node_port = Some(old);
            }
        }
        if spec.health_check_node_port.is_none() {
            spec.health_check_node_port = before.health_check_node_port;
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (Some(before), Some(after)) = (&live.spec, &self.spec) else { return };
        let keeps = |s: &ServiceSpec| kind_of(s) != "ExternalName";
        let given = before.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty());
        if keeps(before) && keeps(after) && given && before.cluster_ip != after.cluster_ip {
            let value = after.cluster_ips.clone().unwrap_or_default();
            check.invalid("spec.clusterIPs[0]", value, "may not change once set");
        }
    }
}

fn is_headless_name(ip: Option<&str>) -> bool {
    ip == Some("None")
}

fn default_port(port: &mut ServicePort, headless: bool) {
    fill(&mut port.protocol, "TCP");
    let absent = match &port.target_port {
        None => true,
        Some(Int(n)) => *n == 0,
        Some(Text(text)) => text.is_empty(),
    };
    // A headless Service has no rule that would translate, so both must be equal.
    if absent || (headless && matches!(port.target_port, Some(Int(_)))) {
        port.target_port = Some(Int(port.port));
    }
}

fn default_addresses(spec: &mut ServiceSpec) {
    if let (Some(ip), None) =
        (spec.cluster_ip.as_deref().filter(|i| !i.is_empty()), &spec.cluster_ips)
    {
        spec.cluster_ips = Some(vec![ip.to_owned()]);
    }
    if let (None, Some(first)) = (&spec.cluster_ip, spec.cluster_ips.iter().flatten().next()) {
        spec.cluster_ip = Some(first.clone());
    }
    let unselected = spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty);
    if is_headless(spec) && unselected && spec.ip_families.is_none() {
        // Kubernetes cannot know what addresses a headless Service without selector will be given.
        fill(&mut spec.ip_family_policy, "RequireDualStack");
        spec.ip_families = Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]);
    }
    fill(&mut spec.ip_family_policy, "SingleStack");
    spec.ip_families.get_or_insert_with(|| vec!["IPv4".to_owned()]);
}

fn validate_type(spec: &ServiceSpec, check: &mut Check) {
    let of_type = kind_of(spec);
    check.one_of("spec.type", of_type, &TYPES);
    if of_type != "ExternalName" {
        return;
    }
    if spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
        check.forbidden("spec.clusterIPs", "may not be set for ExternalName services");
    }
    match spec.external_name.as_deref().map(|n| n.trim_end_matches('.')) {
        None | Some("") => check.required("spec.externalName", ""),
        Some(name) => check.text("spec.externalName", name, names::dns1123_subdomain(name)),
    }
}

fn validate_ports(spec: &ServiceSpec, check: &mut Check) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    for (i, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{i}]");
        validate_port_name(&at, &ports[..i], port, ports.len() > 1, check);
        check_port(&format!("{at}.port"), port.port, check);
        let protocol = port.protocol.as_deref().unwrap_or_default();
        check.one_of(format!("{at}.protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        let target = format!("{at}.targetPort");
        match &port.target_port {
            Some(Int(n)) => check_port(&target, *n, check),
            Some(Text(name)) => check.text(&target, name, names::port_name(name)),
            None => {}
        }
        if let Some(protocol) = port.app_protocol.as_deref() {
            let rules = names::qualified_name(protocol);
            check.text(&format!("{at}.appProtocol"), protocol, rules);
        }
        validate_node_port(&at, spec, port, check);
    }
    validate_equal_ports(ports, check);
}

fn check_port(field: &str, number: i32, check: &mut Check) {
    for message in names::port_number(number) {
        check.invalid(field, number, message);
    }
}

fn validate_port_name(
    at: &str,
    before: &[ServicePort],
    port: &ServicePort,
    several: bool,
    check: &mut Check,
) {
    let field = format!("{at}.name");
    match port.name.as_deref().filter(|n| !n.is_empty()) {
        None if several => check.required(field, ""),
        None => {}
        Some(name) => {
            check.text(&field, name, names::dns1123_label(name));
            if before.iter().any(|p| p.name.as_deref() == Some(name)) {
                check.duplicate(field, name);
            }
        }
    }
}

fn validate_node_port(at: &str, spec: &ServiceSpec, port: &ServicePort, check: &mut Check) {
    let Some(number) = port.node_port.filter(|n| *n != 0) else { return };
    let field = format!("{at}.nodePort");
    match kind_of(spec) {
        "NodePort" | "LoadBalancer" if !NODE_PORTS.contains(&number) => {
            let text = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                NODE_PORTS.start(),
                NODE_PORTS.end()
            );
            check.invalid(field, number, text);
        }
        "ClusterIP" | "ExternalName" => {
            let text = format!("may not be used when `type` is '{}'", kind_of(spec));
            check.forbidden(field, &text);
        }
        _ => {}
    }
}

fn validate_equal_ports(ports: &[ServicePort], check: &mut Check) {
    let (mut seen, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        if !seen.insert((port.protocol.as_deref(), port.port)) {
            check.duplicate(format!("spec.ports[{i}]"), port);
        }
        let node = port.node_port.filter(|n| *n != 0);
        if node.is_some_and(|n| !nodes.insert((port.protocol.as_deref(), n))) {
            check.duplicate(format!("spec.ports[{i}].nodePort"), node);
        }
    }
}

fn validate_affinity(spec: &ServiceSpec, check: &mut Check) {
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    check.one_of("spec.sessionAffinity", affinity, &["ClientIP", "None"]);
    let client = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = client.and_then(|c| c.timeout_seconds);
    if let Some(seconds) = seconds.filter(|s| *s <= 0 || *s > AFFINITY_SECONDS_MAX) {
        let text = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        check.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, text);
    }
}

fn validate_addresses(spec: &ServiceSpec, check: &mut Check) {
    let ip = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None");
    if let Some(ip) = ip.filter(|_| kind_of(spec) != "ExternalName") {
        check.text("spec.clusterIPs[0]", ip, names::ip(ip));
    }
    if is_headless(spec) && matches!(kind_of(spec), "NodePort" | "LoadBalancer") {
        let text = format!("may not be set to 'None' for {} services", kind_of(spec));
        check.invalid("spec.clusterIPs[0]", "None", text);
    }
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") && !is_headless(spec) {
        let text = "this cluster is not configured for dual-stack services";
        check.invalid("spec.ipFamilyPolicy", "RequireDualStack", text);
    }
    for (i, ip) in spec.external_ips.iter().flatten().enumerate() {
        let field = format!("spec.externalIPs[{i}]");
        match ip.parse::<IpAddr>() {
            Err(_) => check.text(&field, ip, names::ip(ip)),
            Ok(address) if address.is_loopback() => {
                let text = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
                check.invalid(&field, ip, text);
            }
            Ok(_) => {}
        }
        if i == 0 {
            let text = "deprecated, and may no longer be implemented in some clusters";
            check.warn("spec.externalIPs", text);
        }
    }
    let ranges = spec.load_balancer_source_ranges.as_ref().is_some_and(|r| !r.is_empty());
    if ranges && kind_of(spec) != "LoadBalancer" {
        let text = "may only be used when `type` is 'LoadBalancer'";
        check.error(
            "spec.LoadBalancerSourceRanges",
            Reason::Forbidden,
            format!("Forbidden: {text}"),
        );
    }
}

fn validate_traffic(spec: &ServiceSpec, check: &mut Check) {
    if spec.traffic_distribution.as_deref() == Some("PreferClose") {
        let text = "\"PreferClose\" is deprecated; use \"PreferSameZone\"";
        check.warn("spec.trafficDistribution", text);
    }
    let of_type = kind_of(spec);
    let policies = ["Cluster", "Local"];
    if let Some(class) = spec.load_balancer_class.as_deref() {
        check.text("spec.loadBalancerClass", class, names::qualified_name(class));
        if of_type != "LoadBalancer" && TYPES.contains(&of_type) {
            let text = "may only be used when `type` is 'LoadBalancer'";
            check.forbidden("spec.loadBalancerClass", text);
        }
    }
    if let Some(policy) = spec.external_traffic_policy.as_deref().filter(|p| !p.is_empty()) {
        let outside = matches!(of_type, "NodePort" | "LoadBalancer")
            || spec.external_ips.as_ref().is_some_and(|e| !e.is_empty());
        if outside {
            check.one_of("spec.externalTrafficPolicy", policy, &policies);
        } else {
            let text = "may only be set for externally-accessible services";
            check.invalid("spec.externalTrafficPolicy", policy, text);
        }
    }
    if let Some(policy) = spec.internal_traffic_policy.as_deref().filter(|p| !p.is_empty()) {
        check.one_of("spec.internalTrafficPolicy", policy, &policies);
    }
}
