//! One port of one Service as rules.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use smol_str::SmolStr;

use super::{
    Facts, Front, Ruleset, Table, UdpFronts,
    endpoints::{ByService, Usable, usable},
    names::{hashed, in_comment},
};

/// Seconds for which a client keeps its endpoint when the Service does not say (Kubernetes'
/// default, three hours).
const AFFINITY_SECONDS: i32 = 10_800;

/// One port of a Service with a cluster IP.
pub(super) struct Port<'a> {
    namespace: &'a str,
    service: &'a str,
    /// Empty for the unnamed port.
    name: &'a str,
    protocol: &'static str,
    /// At least one.
    cluster_ips: Vec<Ipv4Addr>,
    port: u16,
    node_port: Option<u16>,
    /// `internalTrafficPolicy: Local`
    internal_local: bool,
    /// `externalTrafficPolicy: Local`
    external_local: bool,
    /// `sessionAffinity: ClientIP`: for how many seconds.
    affinity: Option<i32>,
    pub(super) endpoints: Usable,
}

/// The IPv4 cluster IPs of a Service; none for headless ones.
pub(crate) fn cluster_ips(spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    all.filter_map(|ip| ip.parse().ok()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The ports of a Service; none when nothing can be sent to it.
pub(super) fn ports<'a>(service: &'a Service, endpoints: &ByService<'_>) -> Vec<Port<'a>> {
    let (Some(spec), Some(name)) = (&service.spec, &service.metadata.name) else { return vec![] };
    let cluster_ips = cluster_ips(spec);
    if cluster_ips.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
        return vec![];
    }
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let behind = endpoints.get(&(namespace, name.as_str()));
    let make = |port: &'a ServicePort| {
        let port_name = port.name.as_deref().unwrap_or_default();
        let seen = behind.and_then(|ports| ports.get(port_name)).map_or(&[][..], Vec::as_slice);
        Some(Port {
            namespace,
            service: name,
            name: port_name,
            protocol: protocol(port)?,
            cluster_ips: cluster_ips.clone(),
            port: number(port.port)?,
            node_port: port.node_port.and_then(number),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            affinity: affinity(spec),
            endpoints: usable(seen),
        })
    };
    spec.ports.iter().flatten().filter_map(make).collect()
}

/// A port number; zero is none.
fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// The protocol in iptables' words; `None` for one that we do not know.
fn protocol(port: &ServicePort) -> Option<&'static str> {
    match port.protocol.as_deref() {
        None | Some("" | "TCP") => Some("tcp"),
        Some("UDP") => Some("udp"),
        Some("SCTP") => Some("sctp"),
        Some(_) => None,
    }
}

/// For how many seconds a client keeps its endpoint; `None` when it does not.
fn affinity(spec: &ServiceSpec) -> Option<i32> {
    let wanted = spec.session_affinity.as_deref() == Some("ClientIP");
    let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
    let seconds = config.and_then(|c| c.timeout_seconds).filter(|s| *s > 0);
    wanted.then(|| seconds.unwrap_or(AFFINITY_SECONDS))
}

impl<'a> Port<'a> {
    /// By what ports are sorted, so that the text does not depend on the order of the input.
    pub(super) fn order(&self) -> impl Ord + '_ {
        (self.namespace, self.service, self.name, self.protocol, self.port)
    }

    /// `shop/web:http`, or `shop/web` for an unnamed port.
    fn full_name(&self) -> String {
        let colon = if self.name.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.service, self.name)
    }

    fn chain(&self, prefix: &str) -> SmolStr {
        hashed(prefix, &[&self.full_name(), self.protocol])
    }

    /// The chain that cluster IPs lead to.
    fn internal_chain(&self) -> SmolStr {
        self.chain(if self.internal_local { "KUBE-SVL-" } else { "KUBE-SVC-" })
    }

    /// `-p tcp -m comment --comment "shop/web:http cluster IP" -m tcp --dport 80`
    fn matching(&self, port: u16, words: &str) -> String {
        let (protocol, name) = (self.protocol, in_comment(&self.full_name()));
        format!(
            "-p {protocol} -m comment --comment \"{name} {words}\" -m {protocol} --dport {port}"
        )
    }

    /// nat `KUBE-SERVICES`: independent of endpoints, so that a pod's coming and going does not
    /// rewrite this chain, the longest of all.
    pub(super) fn cluster_ip_rules(&self) -> Vec<String> {
        let (matching, chain) = (self.matching(self.port, "cluster IP"), self.internal_chain());
        let rule = |ip| format!("-d {ip}/32 {matching} -j {chain}");
        self.cluster_ips.iter().map(rule).collect()
    }

    /// nat `KUBE-NODEPORTS`
    pub(super) fn node_port_rules(&self) -> Vec<String> {
        let Some(port) = self.node_port else { return vec![] };
        let matching = self.matching(port, "node port");
        if self.external_local {
            return vec![format!("{matching} -j {}", self.chain("KUBE-EXT-"))];
        }
        vec![
            format!("{matching} -j KUBE-MARK-MASQ"),
            format!("{matching} -j {}", self.chain("KUBE-SVC-")),
        ]
    }

    /// filter `KUBE-SERVICES`: no endpoint anywhere is refused at once; endpoints on other nodes
    /// only, under the policy Local, is silence, as in Kubernetes.
    pub(super) fn cluster_ip_refusals(&self) -> Vec<String> {
        let Some((words, verdict)) = self.refusal(self.internal_local) else { return vec![] };
        let matching = self.matching(self.port, words);
        self.cluster_ips.iter().map(|ip| format!("-d {ip}/32 {matching} -j {verdict}")).collect()
    }

    /// filter `KUBE-EXTERNAL-SERVICES`: what was not translated is still addressed to the node
    /// itself.
    pub(super) fn node_port_refusals(&self) -> Vec<String> {
        let (Some(port), Some((words, verdict))) =
            (self.node_port, self.refusal(self.external_local))
        else {
            return vec![];
        };
        let (protocol, name) = (self.protocol, in_comment(&self.full_name()));
        vec![format!(
            "-p {protocol} -m comment --comment \"{name} {words}\" -m addrtype --dst-type LOCAL \
             -m {protocol} --dport {port} -j {verdict}"
        )]
    }

    fn refusal(&self, only_local: bool) -> Option<(&'static str, &'static str)> {
        if self.endpoints.cluster.is_empty() {
            Some(("has no endpoints", "REJECT --reject-with icmp-port-unreachable"))
        } else if only_local && self.endpoints.local.is_empty() {
            Some(("has no local endpoints", "DROP"))
        } else {
            None
        }
    }

    /// The chains of this port alone.
    pub(super) fn put_chains(&self, rules: &mut Ruleset, facts: &Facts) {
        let external = self.node_port.is_some();
        let mut chains = vec![];
        if !self.internal_local || external {
            chains.push(("KUBE-SVC-", &self.endpoints.cluster));
        }
        if self.internal_local || external && self.external_local {
            chains.push(("KUBE-SVL-", &self.endpoints.local));
        }
        for (prefix, endpoints) in chains {
            let chain = self.chain(prefix);
            let mut body =
                if chain == self.internal_chain() { self.masquerade(facts) } else { vec![] };
            body.extend(self.spread(endpoints));
            rules.put(Table::Nat, chain, body);
        }
        if external && self.external_local {
            rules.put(Table::Nat, self.chain("KUBE-EXT-"), self.external(facts));
        }
    }

    /// Callers from outside the pod network must get their answer from this node.
    fn masquerade(&self, facts: &Facts) -> Vec<String> {
        let (cluster, matching) = (facts.cluster_cidr, self.matching(self.port, "from outside"));
        let rule = |ip| format!("! -s {cluster} -d {ip}/32 {matching} -j KUBE-MARK-MASQ");
        self.cluster_ips.iter().map(rule).collect()
    }

    /// externalTrafficPolicy Local: the caller's address is kept, so only this node's endpoints may
    /// answer it; pods and the node itself may use all.
    fn external(&self, facts: &Facts) -> Vec<String> {
        let (all, local) = (self.chain("KUBE-SVC-"), self.chain("KUBE-SVL-"));
        vec![
            format!("-s {} -j {all}", facts.cluster_cidr),
            "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ".to_owned(),
            format!("-m addrtype --src-type LOCAL -j {all}"),
            format!("-j {local}"),
        ]
    }

    /// DNAT to one of `endpoints`, each with the same chance: the i-th of n is taken with 1/(n-i)
    /// if none before was.
    fn spread(&self, endpoints: &BTreeSet<SocketAddrV4>) -> Vec<String> {
        let mut body = vec![];
        if let Some(seconds) = self.affinity {
            body.extend(endpoints.iter().map(|at| self.stick(*at, seconds)));
        }
        for (i, at) in endpoints.iter().enumerate() {
            let rest = endpoints.len() - i;
            let chance = match rest {
                1 => String::new(),
                // Rare counts of endpoints stay exact to the tenth digit, which is more than
                // xt_statistic keeps.
                #[expect(clippy::cast_precision_loss, reason = "a count of endpoints")]
                n => format!(" -m statistic --mode random --probability {:.10}", 1.0 / n as f64),
            };
            let remember = match self.affinity {
                Some(_) => format!(" -m recent --set {}", self.memory(*at)),
                None => String::new(),
            };
            let protocol = self.protocol;
            body.push(format!("-p {protocol}{chance}{remember} -j DNAT --to-destination {at}"));
        }
        body
    }

    /// sessionAffinity ClientIP: a client seen at this endpoint within the time goes there again,
    /// and the time starts anew.
    fn stick(&self, at: SocketAddrV4, seconds: i32) -> String {
        let (protocol, memory) = (self.protocol, self.memory(at));
        format!(
            "-p {protocol} -m recent --update --seconds {seconds} --reap {memory} \
             -j DNAT --to-destination {at}"
        )
    }

    /// The list in which the kernel keeps the clients of an endpoint (100 of them, unless
    /// `xt_recent` is told more).
    fn memory(&self, at: SocketAddrV4) -> String {
        let name = hashed("KUBE-SEP-", &[&self.full_name(), self.protocol, &at.to_string()]);
        format!("--name {name} --mask 255.255.255.255 --rsource")
    }

    /// Notes where this port is reached, if it is UDP.
    pub(super) fn put_fronts(&self, fronts: &mut UdpFronts) {
        if self.protocol != "udp" {
            return;
        }
        let Usable { cluster, local } = &self.endpoints;
        for ip in &self.cluster_ips {
            let behind = if self.internal_local { local } else { cluster };
            let front = Front { address: Some(*ip), port: self.port };
            fronts.insert(front, behind.clone());
        }
        if let Some(port) = self.node_port {
            let behind = if self.external_local { cluster | local } else { cluster.clone() };
            fronts.insert(Front { address: None, port }, behind);
        }
    }
}
