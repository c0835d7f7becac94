//! Direct routes to the pods of other nodes.
//!
//! In: the cluster's Nodes and what this node routes today. Out: the routes to have and the changes
//! that lead there. `agent::proxy` calls, `agent::routes` carries out. Nodes must share a link: the
//! next hop is the other node itself.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::api::core::v1::Node;

use crate::model::{Cidr, NodeName};

/// Pod range of another node → that node's address.
pub type Routes = BTreeMap<Cidr, Ipv4Addr>;

/// The routes a node shall have, and why some Nodes get none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The routes.
    pub routes: Routes,
    /// A sentence for each Node that cannot be reached directly, with what to do.
    pub problems: Vec<String>,
}

/// One change of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Adds the route or gives it another next hop.
    Replace(Cidr, Ipv4Addr),
    /// Removes the route.
    Delete(Cidr),
}

/// Says where the pods of each other node are. A Node without pod range or InternalIP has no route
/// yet. A range outside `cluster` or across another one is refused: a Node object must not be able
/// to divert other traffic.
pub fn plan<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    this: &NodeName,
    own: Cidr,
    cluster: Cidr,
) -> Plan {
    let mut nodes: Vec<&Node> = nodes.into_iter().collect();
    nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut plan = Plan::default();
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let Some((range, via)) = pod_range(node).zip(internal_ip(node)) else { continue };
        if name == this.as_str() {
            continue;
        }
        match refusal(range, own, cluster, &plan.routes) {
            None => _ = plan.routes.insert(range, via),
            Some(why) => plan.problems.push(format!("Node {name}: podCIDR {range} {why}")),
        }
    }
    plan
}

fn refusal(range: Cidr, own: Cidr, cluster: Cidr, taken: &Routes) -> Option<String> {
    if !cluster.covers(range) {
        return Some(format!("lies outside the cluster's pod range {cluster}; no route was made"));
    }
    if range.overlaps(own) {
        return Some(format!("overlaps this node's own {own}; no route was made"));
    }
    let other = taken.iter().find(|(other, _)| other.overlaps(range));
    other.map(|(other, via)| format!("overlaps {other} of the node at {via}; no route was made"))
}

fn pod_range(node: &Node) -> Option<Cidr> {
    let spec = node.spec.as_ref()?;
    let all = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    all.filter_map(|cidr| cidr.parse().ok()).next()
}

fn internal_ip(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    let mut internal = addresses.iter().filter(|a| a.type_ == "InternalIP");
    internal.find_map(|a| a.address.parse().ok())
}

/// The changes that lead from the routes there are to those there shall be; removals first, so that
/// a range that moves to another prefix is never there twice.
pub fn diff(have: &Routes, want: &Routes) -> Vec<Change> {
    let gone = have.keys().filter(|range| !want.contains_key(range));
    let new = want.iter().filter(|(range, via)| have.get(range) != Some(via));
    gone.map(|range| Change::Delete(*range))
        .chain(new.map(|(range, via)| Change::Replace(*range, *via)))
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn node(name: &str, cidr: &str, ip: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": cidr},
            "status": {"addresses": [
                {"type": "Hostname", "address": name},
                {"type": "InternalIP", "address": ip},
            ]},
        }))
        .unwrap()
    }

    fn check(nodes: &[Node], have: &Routes, expect: Expect) {
        let (own, cluster) = ("10.244.1.0/24".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
        let plan = plan(nodes, &NodeName::new("n1"), own, cluster);
        let mut text = plan.problems.join("\n");
        for change in diff(have, &plan.routes) {
            text.push_str(&format!("\n{change:?}"));
        }
        expect.assert_eq(text.trim());
    }

    #[test]
    fn other_nodes_only_and_stale_ones_go() {
        let nodes =
            [node("n1", "10.244.1.0/24", "10.0.0.1"), node("n2", "10.244.2.0/24", "10.0.0.2")];
        check(
            &nodes,
            &Routes::new(),
            expect!["Replace(Cidr { base: 10.244.2.0, prefix: 24 }, 10.0.0.2)"],
        );
        let have = Routes::from([
            ("10.244.2.0/24".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 2)),
            ("10.244.9.0/24".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 9)),
        ]);
        check(&nodes, &have, expect!["Delete(Cidr { base: 10.244.9.0, prefix: 24 })"]);
        let moved = [node("n2", "10.244.2.0/24", "10.0.0.3")];
        check(
            &moved,
            &have,
            expect![[r#"
                Delete(Cidr { base: 10.244.9.0, prefix: 24 })
                Replace(Cidr { base: 10.244.2.0, prefix: 24 }, 10.0.0.3)"#]],
        );
    }

    #[test]
    fn a_node_cannot_divert_other_traffic() {
        let nodes = [
            node("a", "0.0.0.0/0", "10.0.0.66"),
            node("b", "10.244.0.0/16", "10.0.0.66"),
            node("c", "10.244.2.0/24", "10.0.0.2"),
            node("d", "10.244.2.128/25", "10.0.0.66"),
            node("e", "nonsense", "10.0.0.66"),
            node("f", "10.244.3.0/24", "-A"),
        ];
        check(
            &nodes,
            &Routes::new(),
            expect![[r#"
                Node a: podCIDR 0.0.0.0/0 lies outside the cluster's pod range 10.244.0.0/16; no route was made
                Node b: podCIDR 10.244.0.0/16 overlaps this node's own 10.244.1.0/24; no route was made
                Node d: podCIDR 10.244.2.128/25 overlaps 10.244.2.0/24 of the node at 10.0.0.2; no route was made
                Replace(Cidr { base: 10.244.2.0, prefix: 24 }, 10.0.0.2)"#]],
        );
    }
}
