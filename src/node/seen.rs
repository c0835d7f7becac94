//! What is seen of one pod on this node, and what is remembered of it.
//!
//! Everything that must outlive the agent stands in labels of the containers ([`labels`]);
//! [`Memory`] may be lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use k8s_openapi::api::core::v1::PodStatus;
use serde::{Deserialize, Serialize};

use super::{probe, resources::Limits};
use crate::model::Timestamp;

/// The labels that our containers carry.
pub mod labels {
    /// The pod's uid.
    pub const UID: &str = "io.mainstay.pod.uid";
    /// The pod's namespace.
    pub const NAMESPACE: &str = "io.mainstay.pod.namespace";
    /// The pod's name.
    pub const POD: &str = "io.mainstay.pod.name";
    /// The grace period in seconds, for a pod that nobody describes any more.
    pub const GRACE: &str = "io.mainstay.pod.grace";
    /// The address given to a sandbox.
    pub const IP: &str = "io.mainstay.pod.ip";
    /// `sandbox`, `init` or `app`.
    pub const KIND: &str = "io.mainstay.kind";
    /// The container's name.
    pub const CONTAINER: &str = "io.mainstay.container.name";
    /// How often it was restarted before.
    pub const ATTEMPT: &str = "io.mainstay.container.attempt";
    /// Milliseconds that its next restart waits.
    pub const BACKOFF: &str = "io.mainstay.container.backoff";
    /// Names the container's description.
    pub const HASH: &str = "io.mainstay.container.hash";
    /// The id of the sandbox it was joined to.
    pub const SANDBOX: &str = "io.mainstay.sandbox.id";
    /// Marks what could not be set on this host (`oom`).
    pub const DEGRADED: &str = "io.mainstay.degraded";
    /// Where the container's termination message lies in it.
    pub const MESSAGE: &str = "io.mainstay.container.message";
}

/// What is seen and remembered of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The newest sandbox.
    pub sandbox: Option<Sandbox>,
    /// The containers, by name, then by attempt.
    pub containers: BTreeMap<String, Vec<Container>>,
    /// The volumes on disk: the hash of what was written last.
    pub volumes: BTreeMap<String, String>,
    /// Whether the pod's directory exists, volumes in it or not.
    pub directory: bool,
    /// The images its containers use, by reference.
    pub images: BTreeMap<String, Image>,
    /// Whether the node's pod network can take pods.
    pub network_ready: bool,
    /// What is remembered.
    pub memory: Memory,
    /// The last status: made here, or before this agent started, told by the server.
    pub previous: Option<PodStatus>,
    /// When this node first heard of the pod.
    pub start_time: Option<Timestamp>,
}

/// A sandbox: the container that holds the pod's network, IPC and UTS namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Docker's id.
    pub id: String,
    /// What it does.
    pub state: State,
    /// Its address; `None` on the host's network or while it is stopped.
    pub ip: Option<IpAddr>,
    /// When it was created.
    pub created: Timestamp,
}

/// One container of a pod, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Docker's id.
    pub id: String,
    /// How often the container of this name was started before.
    pub attempt: u32,
    /// The delay before its next restart.
    pub backoff: Duration,
    /// The sandbox it was joined to.
    pub sandbox: String,
    /// Names the description it was made from.
    pub hash: String,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// When it was created.
    pub created: Timestamp,
    /// What it may use, as far as the engine says.
    pub limits: Option<Limits>,
    /// What it does.
    pub state: State,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Running since.
    Running(Timestamp),
    /// Ended, or its start failed.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// When it was started.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// The kernel ended it because it used too much memory.
    pub oom: bool,
    /// Why its start failed; empty when it was started.
    pub error: String,
    /// The termination message it left, at most 4 KiB.
    pub message: String,
    /// Its last log lines, where it failed and left no message; at most 2 KiB.
    pub tail: String,
}

/// What is known of an image on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Nobody looked yet.
    Unknown,
    /// It is not on the node.
    Absent,
    /// It is.
    Present {
        /// `docker-pullable://name@sha256:…`, or `docker://sha256:…` for one that was never pulled.
        id: String,
        /// The user it runs as; empty for root.
        user: String,
    },
    /// A look or a pull is under way.
    Busy {
        /// How many pulls failed in a row before.
        failures: u32,
    },
    /// The last pull failed.
    Failed {
        /// What the daemon or registry said.
        message: String,
        /// How often in a row.
        count: u32,
        /// When.
        at: Timestamp,
    },
}

/// What an agent remembers of a pod while it lives. A new agent starts without it, and comes to the
/// same end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Probes, by container id and kind.
    pub probes: BTreeMap<(String, probe::Kind), probe::State>,
    /// Containers that are being stopped, by id.
    pub stopping: BTreeMap<String, Stopping>,
    /// Pulls that `imagePullPolicy: Always` asks for and that were done: container and attempt.
    pub pulled: BTreeSet<(String, u32)>,
    /// What failed last, by container name; the sandbox's and the volumes' failures under
    /// [`SANDBOX`].
    pub failures: BTreeMap<String, Failure>,
    /// What running containers were given last, by id: an engine that gives something else is not
    /// asked again.
    pub resized: BTreeMap<String, Limits>,
}

/// The name under which [`Memory::failures`] keeps what belongs to no container: no container can
/// be called so.
pub const SANDBOX: &str = "";

/// A container that is being stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When its grace is over.
    pub deadline: Timestamp,
    /// When it was last killed.
    pub killed: Option<Timestamp>,
}

/// A step that failed and will be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Kubernetes' word (`CreateContainerError`).
    pub reason: String,
    /// What was said.
    pub message: String,
    /// How often in a row.
    pub count: u32,
    /// When.
    pub at: Timestamp,
}

impl State {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self, State::Running(_))
    }

    /// How it ended.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

impl Observed {
    /// The newest container of that name.
    pub fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.get(name)?.last()
    }

    /// The newest container of that name, if it belongs to the sandbox of now.
    pub fn current(&self, name: &str) -> Option<&Container> {
        let sandbox = self.sandbox.as_ref()?;
        self.newest(name).filter(|c| c.sandbox == sandbox.id)
    }

    /// Every container, of every attempt.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Container)> {
        self.containers.iter().flat_map(|(name, list)| list.iter().map(move |c| (&**name, c)))
    }

    /// Whether anything of the pod is left on the node.
    pub fn is_empty(&self) -> bool {
        self.sandbox.is_none() && self.containers.is_empty() && !self.directory
    }

    /// The verdict of one probe of one container.
    pub fn verdict(&self, id: &str, kind: probe::Kind) -> Option<bool> {
        self.memory.probes.get(&(id.to_owned(), kind))?.verdict
    }
}
