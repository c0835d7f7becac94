//! Pods: the one word under STATUS says where a pod is stuck.

use k8s_openapi::api::core::v1::{
    Container, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::{age, since},
    text::{NONE, name, or_none},
};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const POD: [Column; 9] = [
    NAME,
    Column::text("Ready", "How many containers are ready, of how many."),
    Column::text("Status", "Where the pod is, or where it is stuck."),
    Column::text("Restarts", "How often containers were restarted, and how long ago."),
    AGE,
    Column::text("IP", "Its address.").wide(),
    Column::text("Node", "The node it runs on.").wide(),
    Column::text("Nominated Node", "The node that room is being made on for it.").wide(),
    Column::text("Readiness Gates", "How many of its readiness gates are open.").wide(),
];

pub(in crate::kinds) fn pod(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let pod: &Pod = object.view()?;
    let spec = pod.spec.as_ref()?;
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let sum = summary(pod, status);
    let first = status.pod_ips.iter().flatten().next().map(|p| p.ip.as_str());
    Some(vec![
        name(object),
        format!("{}/{}", sum.ready, sum.containers).into(),
        sum.word.into(),
        restarts(&sum.restarts, now).into(),
        age(object, now),
        or_none(first.or(status.pod_ip.as_deref())).into(),
        or_none(spec.node_name.as_deref()).into(),
        or_none(status.nominated_node_name.as_deref()).into(),
        gates(pod, status).into(),
    ])
}

/// What a row says of all containers together.
#[derive(Default)]
struct Summary {
    word: String,
    ready: usize,
    containers: usize,
    restarts: Restarts,
}

/// How often, and when the last run before a restart ended.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &ContainerStatus) {
        self.count += status.restart_count;
        let ended = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        let ended = ended.and_then(|t| t.finished_at.as_ref()).map(Timestamp::from);
        self.last = self.last.max(ended);
    }
}

fn restarts(restarts: &Restarts, now: Timestamp) -> String {
    match restarts.last.filter(|_| restarts.count != 0) {
        Some(last) => format!("{} ({} ago)", restarts.count, since(last, now)),
        None => restarts.count.to_string(),
    }
}

fn summary(pod: &Pod, status: &PodStatus) -> Summary {
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = spec.init_containers.unwrap_or_default();
    let mut sum = Summary { word: phase(status), ..Summary::default() };
    sum.containers = spec.containers.len() + inits.iter().filter(|c| is_sidecar(c)).count();
    let (starting, of_sidecars) = init(&mut sum, &inits, status);
    if !starting || condition(status, "Initialized") {
        sum.restarts = of_sidecars;
        main(&mut sum, status);
    }
    if pod.metadata.deletion_timestamp.is_some() {
        match status.phase.as_deref() {
            _ if status.reason.as_deref() == Some("NodeLost") => {
                "Unknown".clone_into(&mut sum.word)
            }
            Some("Succeeded" | "Failed") => {}
            _ => "Terminating".clone_into(&mut sum.word),
        }
    }
    sum
}

/// The word before the containers are looked at.
fn phase(status: &PodStatus) -> String {
    let gated = |c: &&k8s_openapi::api::core::v1::PodCondition| {
        c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated")
    };
    if status.conditions.iter().flatten().any(|c| gated(&c)) {
        return "SchedulingGated".to_owned();
    }
    let reason = status.reason.as_deref().filter(|r| !r.is_empty());
    reason.or(status.phase.as_deref()).unwrap_or_default().to_owned()
}

fn condition(status: &PodStatus, wanted: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == wanted && c.status == "True")
}

/// An init container that goes on running beside the others.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Counts the init containers up to the first that is not through, which gives the word
/// (`Init:1/2`). Says whether there is such a one, and the restarts of the sidecars.
fn init(sum: &mut Summary, inits: &[Container], status: &PodStatus) -> (bool, Restarts) {
    let mut of_sidecars = Restarts::default();
    for (i, of) in status.init_container_statuses.iter().flatten().enumerate() {
        let sidecar = inits.iter().any(|c| c.name == of.name && is_sidecar(c));
        sum.restarts.add(of);
        if sidecar {
            of_sidecars.add(of);
        }
        let state = of.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|w| w.reason).unwrap_or_default();
        let word = match state.terminated {
            Some(ended) if ended.exit_code == 0 => continue,
            _ if sidecar && of.started == Some(true) => {
                sum.ready += usize::from(of.ready);
                continue;
            }
            Some(ended) => end(&ended),
            None if !waiting.is_empty() && waiting != "PodInitializing" => waiting,
            None => format!("{i}/{}", inits.len()),
        };
        sum.word = format!("Init:{word}");
        return (true, of_sidecars);
    }
    (false, of_sidecars)
}

/// How a container ended: the reason, or the signal, or the exit code.
fn end(ended: &ContainerStateTerminated) -> String {
    match (ended.reason.as_deref().filter(|r| !r.is_empty()), ended.signal.unwrap_or(0)) {
        (Some(reason), _) => reason.to_owned(),
        (None, 0) => format!("ExitCode:{}", ended.exit_code),
        (None, signal) => format!("Signal:{signal}"),
    }
}

/// Counts the containers; the first that waits or has ended gives the word.
fn main(sum: &mut Summary, status: &PodStatus) {
    let mut runs = false;
    for of in status.container_statuses.iter().flatten().rev() {
        sum.restarts.add(of);
        let state = of.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|w| w.reason).filter(|r| !r.is_empty());
        match (waiting, state.terminated) {
            (Some(reason), _) => sum.word = reason,
            (None, Some(ended)) => sum.word = end(&ended),
            (None, None) if of.ready && state.running.is_some() => {
                runs = true;
                sum.ready += 1;
            }
            (None, None) => {}
        }
    }
    if sum.word == "Completed" && runs {
        let ready = condition(status, "Ready");
        if ready { "Running" } else { "NotReady" }.clone_into(&mut sum.word);
    }
}

/// `1/2`, or `<none>` for a pod without gates.
fn gates(pod: &Pod, status: &PodStatus) -> String {
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let open = gates.iter().filter(|g| condition(status, &g.condition_type)).count();
    format!("{open}/{}", gates.len())
}
