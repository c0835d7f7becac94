//! Why something is as it is: from a container to the line of the file, the commit and its author.

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cluster::short,
    files::pod_line,
    health::{controller, health, pods_of},
    history::state_word,
};
use crate::{
    model::{Key, Object, Timestamp},
    state::View,
};

/// Most pods of a workload that are followed; the others fare alike or have their own `why`.
const PODS_MAX: usize = 20;
/// Most warnings that are told.
const WARNINGS_MAX: usize = 5;

/// One step of the way from a container to its author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WhyStep {
    /// What the step is about (`container`, `Pod`, `ReplicaSet`, `Deployment`, `file`, `commit`,
    /// `node`, `warning`).
    pub what: String,
    /// Its name.
    pub name: String,
    /// What is so, and why.
    pub says: String,
}

/// Why one node does not take a pod, or that it would; `schedule` knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeVerdict {
    /// The node.
    pub node: String,
    /// `Insufficient cpu`; empty when the node fits.
    pub reason: String,
}

/// Why an object is as it is. `None` when there is no such object.
///
/// From what runs to who asked for it: its containers, the object, whatever controls it, the line
/// of the file, the commit. `verdicts` says of a pod that waits for a node what each node lacks.
pub fn why(
    view: &View,
    key: &Key,
    verdicts: &dyn Fn(&Object) -> Vec<NodeVerdict>,
) -> Option<Vec<WhyStep>> {
    let object = view.object(key)?;
    let mut steps = Vec::new();
    for pod in pods_of(view, object).into_iter().take(PODS_MAX) {
        about_pod(view, pod, verdicts, &mut steps);
    }
    let own = (!object.key().is::<Pod>()).then_some(object);
    let start = own.or_else(|| controller(view, object));
    let chain: Vec<&Object> =
        std::iter::successors(start, |o| controller(view, o)).take(8).collect();
    for link in &chain {
        steps.push(about(link));
        warnings(view, link, &mut steps);
    }
    origin(view, chain.last().unwrap_or(&object), &mut steps);
    Some(steps)
}

fn step(what: &str, name: impl Into<String>, says: impl Into<String>) -> WhyStep {
    WhyStep { what: what.to_owned(), name: name.into(), says: says.into() }
}

fn name(object: &Object) -> String {
    match object.key().namespace.as_str() {
        "" => object.key().name.to_string(),
        namespace => format!("{namespace}/{}", object.key().name),
    }
}

fn about(object: &Object) -> WhyStep {
    let health = health(object);
    let message =
        if health.message.is_empty() { String::new() } else { format!(": {}", health.message) };
    let says = format!("{} {}{message}", health.ratio(), health.reason);
    step(&object.key().kind.kind, name(object), says)
}

fn about_pod(
    view: &View,
    object: &Object,
    verdicts: &dyn Fn(&Object) -> Vec<NodeVerdict>,
    steps: &mut Vec<WhyStep>,
) {
    let Some(pod) = object.view::<Pod>() else { return };
    let containers = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    steps.extend(containers.map(|c| step("container", &c.name, container(c))));
    let line = pod_line(pod);
    let mut says = line.state;
    if let Some(node) = &line.node {
        says += &format!(" on {node}");
    }
    if !line.ready && says.starts_with("Running") {
        says += ", not ready";
    }
    if !line.message.is_empty() {
        says += &format!(": {}", line.message);
    }
    steps.push(step("Pod", name(object), says));
    if line.node.is_none() {
        let waits = verdicts(object).into_iter().map(|v| match v.reason.is_empty() {
            true => step("node", v.node, "fits"),
            false => step("node", v.node, v.reason),
        });
        steps.extend(waits);
    }
    warnings(view, object, steps);
}

fn container(status: &ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    let mut says = if let Some(running) = &state.running {
        let since = running.started_at.as_ref().map(|t| format!(" since {}", t.0));
        format!("running{}", since.unwrap_or_default())
    } else if let Some(waiting) = &state.waiting {
        let words = [waiting.reason.clone(), waiting.message.clone()];
        format!("waiting: {}", words.into_iter().flatten().collect::<Vec<_>>().join(": "))
    } else if let Some(ended) = &state.terminated {
        format!("ended with exit code {}", ended.exit_code)
    } else {
        "not created yet".to_owned()
    };
    if state.running.is_some() && !status.ready {
        says += ", not ready";
    }
    if status.restart_count > 0 {
        says += &format!(", started again {} times", status.restart_count);
    }
    let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    if let Some(last) = last {
        let reason = last.reason.as_deref().unwrap_or("ended");
        says += &format!(", last: {reason} with exit code {}", last.exit_code);
    }
    format!("{says} ({})", status.image)
}

/// The last warnings about an object, the newest first.
fn warnings(view: &View, object: &Object, steps: &mut Vec<WhyStep>) {
    let namespace = match object.key().namespace.as_str() {
        "" => "default",
        namespace => namespace,
    };
    let events = view.list::<Event>(Some(namespace)).map(|(_, event)| event).filter(|event| {
        event.involved_object.uid.as_deref() == Some(object.uid())
            && event.type_.as_deref() == Some("Warning")
    });
    let mut events: Vec<&Event> = events.collect();
    events.sort_by_key(|e| std::cmp::Reverse(e.last_timestamp.as_ref().map(Timestamp::from)));
    let told = events.into_iter().take(WARNINGS_MAX).map(|event| {
        let message = event.message.as_deref().unwrap_or_default();
        let times = match event.count.unwrap_or(1) {
            1 => String::new(),
            n => format!(" ({n} times)"),
        };
        step("warning", event.reason.as_deref().unwrap_or_default(), format!("{message}{times}"))
    });
    steps.extend(told);
}

/// The line of the file, the commit and its author.
fn origin(view: &View, object: &Object, steps: &mut Vec<WhyStep>) {
    let Some(origin) = view.origin(object.key()) else {
        let says = "no file of the repository holds it: it was made in the cluster";
        steps.push(step("origin", name(object), says));
        return;
    };
    let place = format!("{}:{}", origin.file, origin.line);
    steps.push(step("file", place, format!("holds {}", object.key())));
    if let Some(made_by) = &origin.made_by {
        let says = format!("made {} out of that", object.key());
        steps.push(step("kustomization", made_by.clone(), says));
    }
    let says = match view.commit_of(&origin.source, &origin.commit) {
        Some(commit) => format!(
            "“{}” by {} <{}>{}, {}",
            commit.spec.subject,
            commit.spec.author,
            commit.spec.email,
            commit
                .spec
                .signed_by
                .as_ref()
                .map(|by| format!(", signed by {by}"))
                .unwrap_or_default(),
            state_word(commit.status.state)
        ),
        None => "the commit that last changed it".to_owned(),
    };
    steps.push(step("commit", short(origin.commit.as_str()), says));
}
