//! What a server and an agent say to each other over one session.
//!
//! The agent dials, says [`ToServer::Hello`], and from then on both send when they have something
//! to say. Each message is one frame: a length (4 bytes, big endian) and that many bytes of JSON,
//! at most [`FRAME_BYTES_MAX`].

use k8s_openapi::api::core::v1::{NodeStatus, PodStatus};
use serde::{Deserialize, Serialize};

use super::{Key, NodeName, Object, Revision, Timestamp};

/// Most bytes one frame may hold. A [`ToAgent::Desired`] that would be larger is sent in parts. 16
/// MiB holds the largest object (1.5 MiB) several times over and bounds what a hostile peer can
/// make us buffer.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// From a server to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ToAgent {
    /// The first frame: what the whole cluster agrees on.
    Welcome(Welcome),
    /// What the node shall run and know, whole or as a change.
    Desired(Desired),
    /// The server has heard the agent up to this moment of the agent's clock (the answer to
    /// [`ToServer::Heartbeat`]).
    Heard(Timestamp),
    /// The server is going away or does not lead; dial another one.
    Goodbye(String),
}

/// What every node of a cluster must know alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// Which cluster this is (`state::ClusterConfig::cluster_id`). An agent that knows another one
    /// tells what survived it ([`ToServer::Survivors`]) and waits for a whole set.
    #[serde(default)]
    pub cluster: String,
    /// The range of all pods (`10.244.0.0/16`).
    pub cluster_cidr: String,
    /// Addresses of all servers, for when the one that sent this is gone.
    pub servers: Vec<String>,
}

/// Objects for one agent: its own pods, the ConfigMaps and Secrets these use, and of the whole
/// cluster the Services, EndpointSlices and Nodes (addresses and pod ranges), nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The revision of the View this was made from. An agent refuses an older one than it has on
    /// disk.
    pub generation: Revision,
    /// Whether this opens a whole new set (true) or changes the one before (false).
    pub whole: bool,
    /// Whether more parts of the same generation follow; the agent acts after the last.
    pub more: bool,
    /// Objects that are new or changed.
    pub upserts: Vec<Object>,
    /// Objects the agent no longer needs. A pod that is not desired any more is stopped and
    /// removed.
    pub deletes: Vec<Key>,
}

/// From an agent to a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ToServer {
    /// The first frame of a session.
    Hello(Hello),
    /// The agent lives; sent every few seconds with the agent's clock.
    Heartbeat(Timestamp),
    /// What was seen of pods since the last report.
    Pods(Vec<ObservedPod>),
    /// The node's status changed (capacity, addresses, conditions, images).
    Node(Box<NodeStatus>),
    /// Service rules and DNS are those of this generation.
    Programmed(Revision),
    /// Things worth telling a user.
    Events(Vec<ObservedEvent>),
    /// What still runs of the cluster that the agent belonged to before; said once in a session
    /// with a server of another one, also when that is nothing.
    Survivors(Vec<Survivor>),
}

/// A pod of a cluster that is gone, whose node still runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Survivor {
    /// The pod as that cluster described it last.
    pub pod: Object,
    /// Its status as its node sees it.
    pub status: Box<PodStatus>,
}

/// Who an agent is. The name must be the one in its certificate (`system:node:<name>`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The node's name.
    pub node: NodeName,
    /// mainstay's version.
    pub version: String,
    /// The highest generation the agent has on disk.
    pub generation: Revision,
    /// The cluster that this is a generation of; empty when the agent knows none.
    #[serde(default)]
    pub cluster: String,
    /// The range that its pods had addresses from so far; empty when it had none.
    #[serde(default)]
    pub pod_range: String,
    /// Labels the agent gives its node (`kubernetes.io/arch`, `kubernetes.io/hostname`, …).
    pub labels: super::Labels,
    /// The node's status as first seen.
    pub status: Box<NodeStatus>,
}

/// One pod as its node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedPod {
    /// The pod.
    pub key: Key,
    /// Its uid: a report about an earlier pod of the same name is ignored.
    pub uid: String,
    /// Its status, whole.
    pub status: Box<PodStatus>,
    /// Nothing of the pod is left on the node: a terminating pod may now leave State.
    pub gone: bool,
}

/// Something that happened to a pod or node, in Kubernetes' words (`Pulled`, `BackOff`,
/// `Unhealthy`, …).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedEvent {
    /// What it is about.
    pub regarding: Key,
    /// The uid of that object.
    pub uid: String,
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// One word (`BackOff`).
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When it happened, by the agent's clock.
    pub at: Timestamp,
}

/// What a node and its containers use, as its agent measured it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeUsage {
    /// When the measure ended, by the agent's clock.
    pub at: Timestamp,
    /// Over how long CPU time was counted, in milliseconds.
    pub window_ms: u64,
    /// The whole machine.
    pub node: Use,
    /// Its containers that ran all that time.
    pub containers: Vec<ContainerUse>,
}

/// An amount of CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Use {
    /// Billionths of one CPU.
    pub cpu_nano: u64,
    /// Memory without what can be dropped at once, in bytes.
    pub memory_bytes: u64,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUse {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container's name in the pod.
    pub container: String,
    /// How much.
    #[serde(flatten)]
    pub amount: Use,
}
