//! How one object fares, from what it says itself.

use k8s_openapi::{
    Resource as _,
    api::{
        apps::v1::{Deployment, DeploymentCondition, ReplicaSet},
        batch::v1::{CronJob, Job},
        core::v1::{ContainerStatus, Namespace, Node, Pod},
    },
};

use crate::{
    kinds::{ailment, steady},
    model::{Key, Object},
    state::{Ending, View},
};

/// How far an object is from what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How many of its parts (replicas; the object itself when it has none) are as wanted.
    pub ready: u64,
    /// How many parts it should have.
    pub desired: u64,
    /// Whether nothing is left to do.
    pub settled: bool,
    /// One word (`Running`, `ProgressDeadlineExceeded`).
    pub reason: String,
    /// One sentence; empty when the word says it all.
    pub message: String,
}

impl Health {
    fn of(ready: u64, desired: u64, reason: &str, message: &str) -> Self {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        Self { ready, desired, settled: ready == desired, reason, message }
    }

    /// `3/3`
    pub fn ratio(&self) -> String {
        format!("{}/{}", self.ready, self.desired)
    }
}

/// How an object fares. Kinds without a status of their own are as wanted as soon as they exist.
pub fn health(object: &Object) -> Health {
    if let Some(deployment) = object.view::<Deployment>() {
        of_deployment(object, deployment)
    } else if let Some(set) = object.view::<ReplicaSet>() {
        let desired = count(set.spec.replicas.or(Some(1)));
        let ready = count(set.status.as_ref().and_then(|s| s.ready_replicas));
        Health::of(ready.min(desired), desired, progress(ready >= desired), "")
    } else if let Some(job) = object.view::<Job>() {
        of_job(job)
    } else if let Some(pod) = object.view::<Pod>() {
        let (reason, message) = pod_state(pod);
        Health::of(u64::from(is_fine(pod)), 1, &reason, &message)
    } else if let Some(node) = object.view::<Node>() {
        of_node(node)
    } else {
        let phase = object.view::<Namespace>().and_then(|n| n.status.as_ref()?.phase.as_deref());
        let reason = match phase {
            _ if object.is_terminating() => "Terminating",
            phase => phase.unwrap_or("Stored"),
        };
        Health::of(u64::from(reason != "Terminating"), 1, reason, "")
    }
}

/// A status that is older than the spec counts for nothing: replicas are ready when they run what
/// is asked for now.
fn of_deployment(object: &Object, deployment: &Deployment) -> Health {
    let spec = &deployment.spec;
    let desired = count(spec.replicas.or(Some(1)));
    let status = deployment.status.clone().unwrap_or_default();
    let observed = status.observed_generation.unwrap_or(0);
    let current = observed >= object.meta().generation.unwrap_or(0);
    let (updated, available) = (count(status.updated_replicas), count(status.available_replicas));
    let ready = if current { updated.min(available).min(desired) } else { 0 };
    let failed = status.conditions.iter().flatten().find(|c| {
        let said = (c.type_.as_deref(), c.status.as_deref());
        matches!(
            said,
            (Some("Progressing"), Some("False")) | (Some("ReplicaFailure"), Some("True"))
        )
    });
    let leftover = count(status.replicas) > updated;
    let done = ready == desired && current && !leftover;
    let waits = |c: &&DeploymentCondition| c.type_.as_deref() == Some("Waiting");
    let waiting = status.conditions.iter().flatten().find(waits);
    let (reason, message) = match failed.or(waiting) {
        Some(c) if waits(&c) => ("Waiting".to_owned(), c.message.clone().unwrap_or_default()),
        Some(c) => (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default()),
        None if spec.paused == Some(true) => ("Paused".to_owned(), String::new()),
        None => (progress(done).to_owned(), String::new()),
    };
    Health { ready, desired, settled: done && failed.is_none(), reason, message }
}

/// Of a Job its completions are its parts; without a number of them the first pod that succeeds.
fn of_job(job: &Job) -> Health {
    let status = job.status.clone().unwrap_or_default();
    let desired = count(job.spec.as_ref().and_then(|spec| spec.completions).or(Some(1)));
    let told = |kinds: &[&str]| {
        let conditions = status.conditions.iter().flatten();
        let mut told = conditions.filter(|c| c.status == "True");
        told.find(|c| kinds.contains(&c.type_.as_str())).cloned()
    };
    let done = told(&["Complete"]).is_some();
    let ready = if done { desired } else { count(status.succeeded).min(desired) };
    let failed = told(&["Failed", "FailureTarget"]);
    let (reason, message) = match failed.or(told(&["Suspended", "Waiting"])) {
        Some(c) if c.type_ == "Suspended" || c.type_ == "Waiting" => {
            (c.type_, if c.reason.as_deref() == Some("Ordered") { c.message } else { None })
        }
        Some(c) => (c.reason.unwrap_or_default(), c.message),
        None => (progress(done).to_owned(), None),
    };
    let message = message.unwrap_or_default();
    let settled = done || reason == "Suspended";
    Health { ready, desired, settled, reason, message }
}

fn of_node(node: &Node) -> Health {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    match conditions.into_iter().find(|c| c.type_ == "Ready") {
        Some(c) if c.status == "True" => Health::of(1, 1, "Ready", ""),
        Some(c) => Health::of(0, 1, "NotReady", c.message.as_deref().unwrap_or_default()),
        None => Health::of(0, 1, "Unknown", "the node has not reported yet"),
    }
}

/// A pod that is ready, or has done what it was for.
fn is_fine(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref());
    phase == Some("Succeeded") || is_ready(pod)
}

/// Whether the pod's `Ready` condition is true.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What `kubectl get pods` prints as STATUS, and the sentence behind it.
///
/// The first container that waits or has ended badly speaks for the pod; init containers first
/// (kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle).
pub fn pod_state(pod: &Pod) -> (String, String) {
    if pod.metadata.deletion_timestamp.is_some() {
        return ("Terminating".to_owned(), String::new());
    }
    let Some(status) = &pod.status else { return ("Pending".to_owned(), String::new()) };
    if let Some(reason) = &status.reason {
        return (reason.clone(), status.message.clone().unwrap_or_default());
    }
    for init in status.init_container_statuses.iter().flatten() {
        if let Some((reason, message)) = container_state(init, true) {
            return (format!("Init:{reason}"), message);
        }
    }
    let containers = status.container_statuses.iter().flatten();
    if let Some(found) = containers.into_iter().find_map(|c| container_state(c, false)) {
        return found;
    }
    let phase = status.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    let unscheduled = status.conditions.iter().flatten();
    let unscheduled = unscheduled
        .into_iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")
        .and_then(|c| c.message.clone());
    (phase, unscheduled.unwrap_or_default())
}

/// Like [`pod_state`], in words that stay the same while nothing changes: a crash loop is one
/// state, however far its back-off is. For what is written down.
pub(super) fn lasting_state(pod: &Pod) -> (String, String) {
    let status = pod.status.clone().unwrap_or_default();
    let deleted = pod.metadata.deletion_timestamp.is_some();
    let init = status.init_container_statuses.iter().flatten().map(|c| ("Init:", c));
    let main = status.container_statuses.iter().flatten().map(|c| ("", c));
    let ails = |(stage, c): (&str, &ContainerStatus)| {
        ailment(c).map(|found| (format!("{stage}{}", found.reason), found.message))
    };
    let over = status.phase.as_deref() == Some("Failed");
    match init.chain(main).find_map(ails).filter(|_| !deleted && status.reason.is_none()) {
        // It is not started again.
        Some((word, message)) if over => (word.replace("Restarting", "Error"), message),
        Some(found) => found,
        None => {
            let (word, message) = pod_state(pod);
            (word, steady(&message))
        }
    }
}

/// [`health`] with the lasting words for pods.
pub(super) fn lasting_health(object: &Object) -> Health {
    let mut found = health(object);
    if let Some(pod) = object.view::<Pod>() {
        (found.reason, found.message) = lasting_state(pod);
    }
    found
}

/// The pods of a workload that are to stay: without those on their way out.
pub(super) fn staying_pods_of<'a>(view: &'a View, object: &'a Object) -> Vec<&'a Object> {
    let mut pods = pods_of(view, object);
    pods.retain(|pod| pod.key() == object.key() || !pod.is_terminating());
    pods
}

/// Why a container does not run; `None` when it runs or (an init container) has done its work.
fn container_state(container: &ContainerStatus, init: bool) -> Option<(String, String)> {
    let state = container.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.clone().unwrap_or_else(|| "Waiting".to_owned());
        return Some((reason, waiting.message.clone().unwrap_or_default()));
    }
    let ended = state.terminated.as_ref()?;
    if init && ended.exit_code == 0 {
        return None;
    }
    let fallback = || format!("ExitCode:{}", ended.exit_code);
    let reason = ended.reason.clone().filter(|r| !r.is_empty()).unwrap_or_else(fallback);
    Some((reason, ended.message.clone().unwrap_or_default()))
}

/// The pods of a workload, by name: those it controls, directly or through what it controls. A pod
/// is its own.
pub fn pods_of<'a>(view: &'a View, object: &'a Object) -> Vec<&'a Object> {
    if object.key().is::<Pod>() {
        return vec![object];
    }
    let mut pods = Vec::new();
    for child in view.owned_by(object.uid()) {
        if child.key().is::<Pod>() {
            pods.push(child);
        } else if child.key().is::<ReplicaSet>() {
            pods.extend(view.owned_by(child.uid()).filter(|o| o.key().is::<Pod>()));
        }
    }
    pods.sort_by(|a, b| a.key().cmp(b.key()));
    pods
}

/// The object that controls this one, if it is in the view.
pub(super) fn controller<'a>(view: &'a View, object: &Object) -> Option<&'a Object> {
    let owner = object.controller()?;
    let found = view.object(&Key::new(owner.kind.clone(), &object.key().namespace, &owner.name))?;
    (found.uid() == owner.uid.as_str()).then_some(found)
}

fn controller_kind(object: &Object) -> Option<&str> {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.kind.as_str())
}

/// Whether a Job made the pod: it ends by itself, and stands in the file of its Job alone.
pub(super) fn is_of_job(pod: &Object) -> bool {
    controller_kind(pod) == Some(Job::KIND)
}

/// Whether a Job or a pod is of a run of a CronJob that has not failed, or of a Job that is gone.
/// Runs come and go by themselves, again and again: what goes well shall not fill the branch.
pub(super) fn is_quiet(view: &View, object: &Object) -> bool {
    let job = match controller_kind(object) {
        Some(CronJob::KIND) => Some(object),
        Some(Job::KIND) => controller(view, object),
        _ => return false,
    };
    job.is_none_or(|job| controller_kind(job) == Some(CronJob::KIND) && !has_failed(job))
}

fn has_failed(job: &Object) -> bool {
    Ending::of(job) == Some(Ending::Failed)
}

/// The pods of the runs of a CronJob that failed.
pub(super) fn failed_runs<'a>(view: &'a View, cron: &'a Object) -> Vec<&'a Object> {
    let failed = view.owned_by(cron.uid()).filter(|job| has_failed(job));
    failed.flat_map(|job| staying_pods_of(view, job)).collect()
}

/// A count of Kubernetes (an optional `i32` that is never negative).
pub(super) fn count(n: Option<i32>) -> u64 {
    u64::try_from(n.unwrap_or(0)).unwrap_or(0)
}

fn progress(done: bool) -> &'static str {
    if done { "Complete" } else { "Progressing" }
}
