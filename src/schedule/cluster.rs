//! The nodes as the scheduler sees them, with what is left of each.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};

use super::{
    Why, filter,
    request::{self, Amounts},
    score,
};
use crate::{
    model::{Key, Labels, NodeName, Object, fnv1a, fnv1a_from},
    state::View,
};

/// Pods that fit a node that does not say how many (Kubernetes' default of `maxPods`).
const PODS_MAX: i64 = 110;

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    pub(super) address: String,
    pub(super) protocol: String,
    pub(super) port: i32,
}

impl HostPort {
    /// Whether both cannot be taken on one node: the same port of the same protocol where addresses
    /// meet.
    pub(super) fn meets(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == ANY || other.address == ANY)
    }
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct NodeState {
    pub(super) name: NodeName,
    pub(super) labels: Labels,
    pub(super) taints: Vec<Taint>,
    pub(super) unschedulable: bool,
    pub(super) allocatable: Amounts,
    pub(super) pods_max: i64,
    pub(super) pods: i64,
    pub(super) requested: Amounts,
    pub(super) assumed: Amounts,
    pub(super) ports: Vec<HostPort>,
    /// Pods of each controlling owner.
    pub(super) owners: BTreeMap<String, i64>,
    pub(super) images: BTreeMap<String, i64>,
}

/// What the scheduler needs to know of one pod, worked out once for all nodes.
#[derive(Debug)]
pub(super) struct Wish<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) requests: Amounts,
    pub(super) assumed: Amounts,
    pub(super) ports: Vec<HostPort>,
    pub(super) owner: Option<&'a str>,
    pub(super) uid: &'a str,
}

impl<'a> Wish<'a> {
    pub(super) fn of(object: &'a Object) -> Option<Self> {
        let spec = object.view::<Pod>()?.spec.as_ref()?;
        Some(Self {
            spec,
            requests: request::requests(spec),
            assumed: request::assumed(spec),
            ports: ports(spec),
            owner: object.controller_uid(),
            uid: object.uid(),
        })
    }
}

/// The whole cluster at one moment. Pods placed with [`Cluster::assume`] count for those after
/// them.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub(super) nodes: Vec<NodeState>,
    index: BTreeMap<NodeName, usize>,
}

impl Cluster {
    /// Reads nodes and the pods on them. Costs a pass over both.
    pub fn of(view: &View) -> Self {
        Self::without(view, &BTreeSet::new())
    }

    /// As [`Cluster::of`], with the pods that are `gone` left out.
    pub fn without(view: &View, gone: &BTreeSet<Key>) -> Self {
        let nodes: Vec<NodeState> = view
            .list::<Node>(None)
            .filter(|(object, _)| !object.is_terminating())
            .map(|(object, node)| node_state(object, node))
            .collect();
        let index = nodes.iter().enumerate().map(|(i, n)| (n.name.clone(), i)).collect();
        let mut cluster = Self { nodes, index };
        for name in cluster.index.keys().cloned().collect::<Vec<_>>() {
            let pods = view.pods_on(&name).filter(|pod| !gone.contains(pod.key()));
            pods.for_each(|pod| cluster.assume(pod, &name));
        }
        cluster
    }

    /// Counts a pod as running on a node. Pods that are over need nothing.
    pub fn assume(&mut self, pod: &Object, node: &NodeName) {
        let over = pod.view::<Pod>().and_then(|p| p.status.as_ref()?.phase.as_deref());
        if matches!(over, Some("Succeeded" | "Failed")) {
            return;
        }
        let (Some(&index), Some(wish)) = (self.index.get(node), Wish::of(pod)) else { return };
        let state = &mut self.nodes[index];
        state.pods += 1;
        state.requested.add(&wish.requests);
        state.assumed.add(&wish.assumed);
        state.ports.extend(wish.ports);
        if let Some(owner) = wish.owner {
            *state.owners.entry(owner.to_owned()).or_default() += 1;
        }
    }

    /// What each node lacks for a pod; nothing for one that fits.
    pub fn verdicts(&self, pod: &Object) -> Vec<(NodeName, String)> {
        let Some(wish) = Wish::of(pod) else { return Vec::new() };
        let verdict = |node: &NodeState| filter::reasons(&wish, node).join(", ");
        self.nodes.iter().map(|node| (node.name.clone(), verdict(node))).collect()
    }

    /// The best node for a pod: among the best scores the one that a hash of the pod's uid picks.
    pub fn place(&self, pod: &Object) -> Result<NodeName, Why> {
        let mut why = Why { nodes: self.nodes.len(), reasons: BTreeMap::new() };
        let Some(wish) = Wish::of(pod) else { return Err(why) };
        let mut fits = Vec::new();
        for node in &self.nodes {
            let reasons = filter::reasons(&wish, node);
            if reasons.is_empty() {
                fits.push(node);
            }
            for reason in reasons.into_iter().collect::<BTreeSet<_>>() {
                *why.reasons.entry(reason).or_default() += 1;
            }
        }
        let draw = |node: &NodeState| {
            fnv1a_from(fnv1a(wish.uid.as_bytes()), node.name.as_str().as_bytes())
        };
        let scores = score::scores(&wish, &fits, self.nodes.len());
        let best = fits.into_iter().zip(scores).max_by_key(|(node, s)| (*s, draw(node)));
        best.map(|(node, _)| node.name.clone()).ok_or(why)
    }
}

fn node_state(object: &Object, node: &Node) -> NodeState {
    let status = node.status.clone().unwrap_or_default();
    let spec = node.spec.clone().unwrap_or_default();
    let unschedulable = spec.unschedulable == Some(true);
    let pods_max = status.allocatable.as_ref().and_then(|a| a.get("pods"));
    let images = status.images.iter().flatten();
    let images = images.flat_map(|image| {
        let size = image.size_bytes.unwrap_or(0);
        image.names.iter().flatten().map(move |name| (name.clone(), size))
    });
    let mut taints = spec.taints.unwrap_or_default();
    taints.extend(filter::implied_taint(status.conditions.as_deref(), &taints));
    NodeState {
        name: NodeName::new(&object.key().name),
        labels: object.meta().labels.clone().unwrap_or_default(),
        taints,
        unschedulable,
        allocatable: Amounts::of(status.allocatable.as_ref()),
        pods_max: pods_max.map_or(PODS_MAX, |q| crate::model::Quantity::of(q).as_units()),
        pods: 0,
        requested: Amounts::default(),
        assumed: Amounts::default(),
        ports: Vec::new(),
        owners: BTreeMap::new(),
        images: images.collect(),
    }
}

/// The ports a pod takes on its node; on the host's network every container port is one.
fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let host = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    all.filter_map(|port| {
        let taken = port.host_port.filter(|p| *p > 0);
        let number = taken.or(host.then_some(port.container_port))?;
        let text = |t: &Option<String>, or: &str| match t.as_deref() {
            None | Some("") => or.to_owned(),
            Some(text) => text.to_owned(),
        };
        let address = text(&port.host_ip, "0.0.0.0");
        Some(HostPort { address, protocol: text(&port.protocol, "TCP"), port: number })
    })
    .collect()
}
