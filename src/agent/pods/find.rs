//! Where the parts of a pod are on the machine, for those who read its log or attach to it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};

use super::{Pods, record::Pod};
use crate::node::seen::Container;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A container that has written a log: the pod's first when none is named.
    Log {
        /// Its name.
        container: Option<String>,
        /// The one before the last restart.
        previous: bool,
    },
    /// A container that runs.
    Running(String),
    /// The pod's sandbox, while it runs.
    Sandbox,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Docker's id of the container or sandbox.
    pub id: String,
    /// The pod's address.
    pub ip: Option<IpAddr>,
}

/// Why it is not there, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No such pod on this node.
    #[error("pod {0:?} not found")]
    Pod(String),
    /// The pod has no such part, or it does not run (yet, or any more).
    #[error("{0}")]
    Part(String),
}

impl Pods {
    /// Finds a part of a pod. Of two pods of one name, the one that is desired counts.
    pub fn find(&self, namespace: &str, pod: &str, wanted: &Wanted) -> Result<Place, Missing> {
        let named = |p: &&Pod| p.key.namespace == namespace && p.key.name == pod;
        let found = self.pods.values().filter(named).max_by_key(|p| p.object.is_some());
        let found = found.ok_or_else(|| Missing::Pod(format!("{pod}_{namespace}")))?;
        let id = match wanted {
            Wanted::Log { container, previous } => log(found, container.as_deref(), *previous),
            Wanted::Running(name) => running(found, name),
            Wanted::Sandbox => sandbox(found),
        };
        let ip = found.want.as_ref().and_then(|want| found.address(want));
        Ok(Place { id: id.map_err(Missing::Part)?, ip })
    }
}

fn running(pod: &Pod, name: &str) -> Result<String, String> {
    let newest = pod.found.containers.get(name).and_then(|list| list.last());
    let newest = newest.filter(|container| container.state.is_running());
    newest.map(|c| c.id.clone()).ok_or_else(|| format!("container not found ({name:?})"))
}

fn sandbox(pod: &Pod) -> Result<String, String> {
    let sandbox = pod.found.sandbox.as_ref().filter(|sandbox| sandbox.state.is_running());
    let name = &pod.key.name;
    sandbox.map(|s| s.id.clone()).ok_or_else(|| format!("pod {name:?} is not running"))
}

fn log(pod: &Pod, container: Option<&str>, previous: bool) -> Result<String, String> {
    let first = || pod.want.as_ref()?.app.first().map(|c| c.name.clone());
    let name = container.map(str::to_owned).or_else(first).unwrap_or_default();
    let list = pod.found.containers.get(&name).map(Vec::as_slice).unwrap_or_default();
    let chosen = if previous { before(pod, &name, list) } else { list.last() };
    chosen.map(|c| c.id.clone()).ok_or_else(|| no_log(pod, &name, previous))
}

/// The instance whose end the status tells as the last one. While the container waits for its
/// restart, that is the newest.
fn before<'a>(pod: &Pod, name: &str, list: &'a [Container]) -> Option<&'a Container> {
    let told = status(pod, name).and_then(|s| s.last_state.as_ref()?.terminated.as_ref());
    let told = told.and_then(|t| t.container_id.as_deref()?.strip_prefix("docker://"));
    let known = list.iter().rev().find(|container| Some(container.id.as_str()) == told);
    known.or_else(|| list.iter().rev().nth(1))
}

fn no_log(pod: &Pod, container: &str, previous: bool) -> String {
    let name = &pod.key.name;
    if previous {
        return format!("previous terminated container {container:?} in pod {name:?} not found");
    }
    let waiting = |state: &ContainerState| state.waiting.as_ref()?.reason.clone();
    let reason = status(pod, container).and_then(|s| waiting(s.state.as_ref()?));
    let why = match reason.as_deref() {
        Some("ErrImagePull") => "image can't be pulled",
        Some("ImagePullBackOff") => "trying and failing to pull image",
        Some(reason) => reason,
        None => return format!("container {container:?} in pod {name:?} is not available"),
    };
    format!("container {container:?} in pod {name:?} is waiting to start: {why}")
}

fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let main = status.container_statuses.iter().chain(&status.init_container_statuses);
    let all = main.chain(&status.ephemeral_container_statuses).flatten();
    all.into_iter().find(|s| s.name == container)
}
