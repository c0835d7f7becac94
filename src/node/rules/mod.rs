//! Services as iptables rules.
//!
//! In: the cluster's Services and EndpointSlices and a few [`Facts`] about this node. Out: a
//! [`Program`], the chains to have and which UDP flows they serve; [`diff`] is the text that
//! changes one set of chains into another and [`stale()`] the connection-tracking entries to drop
//! after that. `agent::proxy` calls; nothing here runs a process.
//!
//! The chains bear kube-proxy's names, but fewer of them: one chain for each service port,
//! endpoints chosen in it by `-m statistic` without a chain each, because the nft variant slows
//! down with the number of chains.
//!
//! | chain | table | holds |
//! |---|---|---|
//! | `KUBE-SERVICES` | nat | cluster IP, port → `KUBE-SVC-…`; last, local → `KUBE-NODEPORTS` |
//! | `KUBE-NODEPORTS` | nat | node port → mark, `KUBE-SVC-…`; under the policy Local `KUBE-EXT-…` |
//! | `KUBE-SVC-…` | nat | mark callers from outside the cluster, then DNAT to one endpoint |
//! | `KUBE-SVL-…` | nat | the same with this node's endpoints only |
//! | `KUBE-EXT-…` | nat | policy Local: pods and this node to all, others to the `SVL` chain |
//! | `KUBE-MARK-MASQ` | nat | sets the mark 0x4000 |
//! | `KUBE-POSTROUTING` | nat | masquerades what is marked, and pods that leave the cluster |
//! | `KUBE-HAIRPIN` | nat | masquerades a pod that reaches itself through a service |
//! | `KUBE-SERVICES` | filter | rejects cluster IPs without endpoints |
//! | `KUBE-EXTERNAL-SERVICES` | filter | rejects node ports without endpoints |
//! | `KUBE-FORWARD` | filter | accepts pod traffic whatever policy Docker gave the FORWARD chain |
//! | `KUBE-FIREWALL` | filter | drops what `route_localnet` would let in to 127.0.0.0/8 |
//! | `KUBE-PODS` | raw | lets other nodes reach pods past the drops that Docker 28 adds |

mod endpoints;
mod names;
mod ruleset;
mod service;
mod stale;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

pub use endpoints::SERVICE_NAME_LABEL;
pub(crate) use endpoints::{conditions, service_of};
pub use ruleset::{ChainKey, Rules, Ruleset, Table, diff};
pub(crate) use service::cluster_ips;
pub use stale::{StaleFlow, stale, stale_entries};

use crate::model::{Cidr, NodeName};
use service::Port;

/// The packet mark that asks for masquerading, as kube-proxy uses it.
const MASQUERADE_MARK: &str = "0x4000/0x4000";

/// What the rules need to know about the node they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The node's name, as EndpointSlices spell it.
    pub node: NodeName,
    /// The addresses of this node's pods.
    pub pod_cidr: Cidr,
    /// The addresses of all pods of the cluster; holds `pod_cidr`.
    pub cluster_cidr: Cidr,
    /// Where node ports answer; empty means every address of the node, 127.0.0.1 included.
    pub node_port_addresses: Vec<Cidr>,
}

/// A jump from a built-in chain. Those are shared with others, so jumps are placed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The table.
    pub table: Table,
    /// The built-in chain that jumps.
    pub from: &'static str,
    /// The rule as it stands after `-A CHAIN `.
    pub rule: &'static str,
    /// The chain of ours.
    pub to: &'static str,
}

const fn jump(table: Table, from: &'static str, rule: &'static str, to: &'static str) -> Jump {
    Jump { table, from, rule, to }
}

/// The jumps, in the order in which they are placed and must stand, at the head of their chain:
/// before Docker's isolation rules.
pub const JUMPS: [Jump; 12] = {
    use Table::{Filter, Nat, Raw};
    const NEW_EXTERNAL: &str = "-m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES";
    const NEW_SERVICE: &str = "-m conntrack --ctstate NEW -j KUBE-SERVICES";
    const FIREWALL: &str = "-j KUBE-FIREWALL";
    [
        jump(Raw, "PREROUTING", "-j KUBE-PODS", "KUBE-PODS"),
        jump(Filter, "INPUT", NEW_EXTERNAL, "KUBE-EXTERNAL-SERVICES"),
        jump(Filter, "INPUT", FIREWALL, "KUBE-FIREWALL"),
        jump(Filter, "FORWARD", NEW_EXTERNAL, "KUBE-EXTERNAL-SERVICES"),
        jump(Filter, "FORWARD", NEW_SERVICE, "KUBE-SERVICES"),
        jump(Filter, "FORWARD", "-j KUBE-FORWARD", "KUBE-FORWARD"),
        jump(Filter, "OUTPUT", NEW_EXTERNAL, "KUBE-EXTERNAL-SERVICES"),
        jump(Filter, "OUTPUT", NEW_SERVICE, "KUBE-SERVICES"),
        jump(Filter, "OUTPUT", FIREWALL, "KUBE-FIREWALL"),
        // The kernel translates a connection as its first packet was: one that is sent to a pod
        // before it can be masqueraded never gets an answer.
        jump(Nat, "POSTROUTING", "-j KUBE-POSTROUTING", "KUBE-POSTROUTING"),
        jump(Nat, "PREROUTING", "-j KUBE-SERVICES", "KUBE-SERVICES"),
        jump(Nat, "OUTPUT", "-j KUBE-SERVICES", "KUBE-SERVICES"),
    ]
};

/// The chains that are always there. A check looks at these first.
pub const FIXED_CHAINS: [(Table, &str); 10] = [
    (Table::Raw, "KUBE-PODS"),
    (Table::Filter, "KUBE-EXTERNAL-SERVICES"),
    (Table::Filter, "KUBE-FIREWALL"),
    (Table::Filter, "KUBE-FORWARD"),
    (Table::Filter, "KUBE-SERVICES"),
    (Table::Nat, "KUBE-HAIRPIN"),
    (Table::Nat, "KUBE-MARK-MASQ"),
    (Table::Nat, "KUBE-NODEPORTS"),
    (Table::Nat, "KUBE-POSTROUTING"),
    (Table::Nat, "KUBE-SERVICES"),
];

/// Whether a chain found in the kernel is one of ours, left by an earlier run perhaps.
pub fn is_ours(table: Table, chain: &str) -> bool {
    let per_service = |prefix| chain.starts_with(prefix) && chain.len() == "KUBE-SVC-".len() + 16;
    FIXED_CHAINS.contains(&(table, chain))
        || table == Table::Nat && ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-"].iter().any(per_service)
}

/// Where a UDP service is reached: a cluster IP and port, or a node port (no address: any of the
/// node's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// The cluster IP; `None` for a node port.
    pub address: Option<Ipv4Addr>,
    /// The port, as the caller sees it.
    pub port: u16,
}

/// The endpoints behind each UDP front.
pub type UdpFronts = BTreeMap<Front, BTreeSet<SocketAddrV4>>;

/// What the service proxy of a node shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The chains.
    pub rules: Ruleset,
    /// UDP has no connection that ends, so its tracking entries must be dropped by hand (see
    /// [`stale()`]).
    pub udp: UdpFronts,
}

/// Turns Services and EndpointSlices into rules. The same input in any order gives the same text.
///
/// Services without a cluster IP (headless, ExternalName) have no rules. Endpoints are used when
/// ready, or when none is ready, while they serve their last requests. IPv4 only.
pub fn build<'a>(
    facts: &Facts,
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Program {
    let endpoints = endpoints::by_service(slices, &facts.node);
    let mut ports: Vec<Port<'a>> =
        services.into_iter().flat_map(|s| service::ports(s, &endpoints)).collect();
    ports.sort_by(|a, b| a.order().cmp(&b.order()));
    let mut program = Program::default();
    put_shared(&mut program.rules, facts, &ports);
    for port in &ports {
        port.put_chains(&mut program.rules, facts);
        port.put_fronts(&mut program.udp);
    }
    program
}

/// The chains that all service ports share.
fn put_shared<'a>(rules: &mut Ruleset, facts: &Facts, ports: &[Port<'a>]) {
    let all = |of: fn(&Port<'a>) -> Vec<String>| ports.iter().flat_map(of).collect::<Vec<_>>();
    let mut services = all(Port::cluster_ip_rules);
    services.extend(node_port_jumps(&facts.node_port_addresses));
    rules.put(Table::Nat, "KUBE-SERVICES", services);
    rules.put(Table::Nat, "KUBE-NODEPORTS", all(Port::node_port_rules));
    rules.put(Table::Nat, "KUBE-MARK-MASQ", vec![format!("-j MARK --set-xmark {MASQUERADE_MARK}")]);
    rules.put(Table::Nat, "KUBE-HAIRPIN", hairpin(facts, ports));
    rules.put(Table::Nat, "KUBE-POSTROUTING", postrouting(facts));
    rules.put(Table::Filter, "KUBE-SERVICES", all(Port::cluster_ip_refusals));
    rules.put(Table::Filter, "KUBE-EXTERNAL-SERVICES", all(Port::node_port_refusals));
    rules.put(Table::Filter, "KUBE-FORWARD", forward(facts));
    rules.put(Table::Filter, "KUBE-FIREWALL", vec![MARTIANS.to_owned()]);
    // Docker 28 drops in `raw` what comes from elsewhere for an address of one of its bridges;
    // accepting here ends this table only, the filter table still decides.
    rules.put(Table::Raw, "KUBE-PODS", vec![format!("-d {} -j ACCEPT", facts.pod_cidr)]);
}

/// Packets for 127.0.0.0/8 that did not start on this node. Without this rule `route_localnet`,
/// which node ports on 127.0.0.1 need, would open services bound to the loopback to the neighbours
/// (CVE-2020-8558).
const MARTIANS: &str = "! -s 127.0.0.0/8 -d 127.0.0.0/8 \
     -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";

/// Local destinations go to the node ports; last in `KUBE-SERVICES`, so that a cluster IP costs no
/// address lookup.
fn node_port_jumps(addresses: &[Cidr]) -> Vec<String> {
    let jump = "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS";
    match addresses {
        [] => vec![jump.to_owned()],
        some => some.iter().map(|cidr| format!("-d {cidr} {jump}")).collect(),
    }
}

/// One rule for each endpoint among this node's pods: its own answer would otherwise never pass the
/// node, and so never be translated back. Only same-node pods can reach themselves, so the list is
/// short.
fn hairpin(facts: &Facts, ports: &[Port<'_>]) -> Vec<String> {
    let local = ports.iter().flat_map(|port| &port.endpoints.local).map(|at| *at.ip());
    let pods: BTreeSet<Ipv4Addr> = local.filter(|ip| facts.pod_cidr.contains(*ip)).collect();
    let rule = |ip| format!("-s {ip}/32 -d {ip}/32 -j MASQUERADE --random-fully");
    pods.into_iter().map(rule).collect()
}

/// What leaves: pods that reach themselves, pods that leave the cluster, and what was marked. Pod
/// to pod keeps its source address. `--random-fully` avoids the port races behind lost DNS packets
/// (kubernetes/kubernetes#56903).
fn postrouting(facts: &Facts) -> Vec<String> {
    let (pods, cluster) = (facts.pod_cidr, facts.cluster_cidr);
    vec![
        format!("-s {pods} -d {pods} -j KUBE-HAIRPIN"),
        format!("-s {pods} -d 224.0.0.0/4 -j RETURN"),
        format!("-s {pods} ! -d {cluster} -j MASQUERADE --random-fully"),
        format!("-m mark ! --mark {MASQUERADE_MARK} -j RETURN"),
        "-j MARK --set-xmark 0x4000/0x0".to_owned(),
        "-j MASQUERADE --random-fully".to_owned(),
    ]
}

/// What may pass the node. Docker sets the policy of FORWARD to DROP and isolates its bridges from
/// each other; our jump stands before its rules and these accepts end the chain.
fn forward(facts: &Facts) -> Vec<String> {
    let cluster = facts.cluster_cidr;
    vec![
        "-m conntrack --ctstate INVALID -j DROP".to_owned(),
        format!("-m mark --mark {MASQUERADE_MARK} -j ACCEPT"),
        format!("-s {cluster} -j ACCEPT"),
        format!("-d {cluster} -j ACCEPT"),
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned(),
    ]
}
