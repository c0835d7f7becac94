//! Whether a commit, or one after it, is healthy: what `mainstay wait` waits for.

use k8s_openapi::api::core::v1::Pod;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cluster::{running_of, short},
    diary::reason_beside,
    health::{health, pod_state, pods_of},
    history::state_word,
};
use crate::{
    kinds::{Commit, CommitState},
    model::{CommitName, Object, Problem},
    state::View,
};

/// Most lines that say what is not healthy yet.
const LINES_MAX: usize = 20;

/// How a wait stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WaitOutcome {
    /// It may still become healthy.
    #[default]
    Pending,
    /// It, or a commit after it, is healthy.
    Healthy,
    /// It was refused, or it (or the commit that took its place) failed.
    Failed,
}

/// What became of a commit that somebody waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitReport {
    /// The full id that was asked for.
    pub commit: String,
    /// How the wait stands.
    pub outcome: WaitOutcome,
    /// The full id of the commit that decided: the one asked for or one after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// One sentence.
    pub message: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What is not as it should be, object by object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
}

/// How a wait for `commit` stands. `follows` says whether the head of its source holds a commit
/// that the cluster has not seen by itself (it came in one push with later ones): Git knows, a View
/// does not.
pub fn wait_on(view: &View, commit: &CommitName, follows: bool) -> WaitReport {
    let asked = view.commit(commit);
    let head = running_of(view, &commit.source)
        .filter(|head| follows || asked.is_some_and(|a| !is_before(head, a)));
    let mut report = match (asked, head) {
        (Some(asked), _) if has_failed(asked) => told(asked, WaitOutcome::Failed),
        (Some(asked), _) if asked.status.state == CommitState::Healthy => {
            told(asked, WaitOutcome::Healthy)
        }
        (_, Some(head)) if head.status.state == CommitState::Healthy => {
            told(head, WaitOutcome::Healthy)
        }
        (_, Some(head)) if has_failed(head) => told(head, WaitOutcome::Failed),
        (_, Some(head)) => told(head, WaitOutcome::Pending),
        (Some(asked), None) => told(asked, WaitOutcome::Pending),
        (None, None) => WaitReport {
            message: format!("{} was not seen at the source yet", commit.id.short()),
            ..WaitReport::default()
        },
    };
    if report.outcome != WaitOutcome::Healthy && head.is_some() {
        report.waiting = unsettled(view, &commit.source);
    }
    report.commit = commit.id.to_string();
    report
}

/// Refused, or never healthy within its deadline. That stays so when a revert mends the cluster:
/// who deployed it must hear of it. What was healthy once and ails now may recover, so it has not
/// failed.
fn has_failed(commit: &Commit) -> bool {
    let timings = &commit.status.timings;
    match commit.status.state {
        CommitState::Refused => true,
        CommitState::Degraded => timings.failed_at.is_some() || timings.healthy_at.is_none(),
        _ => false,
    }
}

/// Whether the cluster saw `commit` before `other`.
fn is_before(commit: &Commit, other: &Commit) -> bool {
    let seen = |c: &Commit| {
        let timings = &c.status.timings;
        (timings.seen_at.or(timings.admitted_at), timings.admitted_at, c.spec.committed_at)
    };
    commit.metadata.name != other.metadata.name && seen(commit) < seen(other)
}

fn told(commit: &Commit, outcome: WaitOutcome) -> WaitReport {
    let status = &commit.status;
    let name = commit.metadata.name.clone().unwrap_or_default();
    let id = CommitName::parse(&name).map_or(name, |name| name.id.to_string());
    let mut message = format!("{} is {}", short(&id), state_word(status.state).to_lowercase());
    message += &reason_beside(status.state, &status.reason);
    if !status.message.is_empty() {
        message += &format!(": {}", status.message);
    }
    WaitReport {
        outcome,
        message,
        problems: status.problems.clone(),
        by: Some(id),
        ..WaitReport::default()
    }
}

/// The objects of a source that are not as they should be, each with what its first ailing pod
/// says.
fn unsettled(view: &View, source: &str) -> Vec<String> {
    let owned = view.origins_in(source).filter_map(|(key, _)| view.object(key));
    let ailing = owned.filter(|o| !health(o).settled).take(LINES_MAX);
    ailing.map(|object| unsettled_line(view, object)).collect()
}

fn unsettled_line(view: &View, object: &Object) -> String {
    let health = health(object);
    let mut line = format!("{} {} {}", object.key(), health.ratio(), health.reason);
    if !health.message.is_empty() {
        line += &format!(": {}", health.message);
    }
    let pods = pods_of(view, object);
    let pods = pods.iter().filter(|o| !super::health::health(o).settled && !o.is_terminating());
    let said = pods.filter_map(|o| Some((o, pod_state(o.view::<Pod>()?))));
    // A pod that says why helps more than one that merely runs and is not ready yet.
    if let Some((pod, (state, message))) = said.max_by_key(|(_, (_, message))| message.len()) {
        let not_ready = if state == "Running" { ", not ready" } else { "" };
        line += &format!("; pod {} {state}{not_ready}", pod.key().name);
        if !message.is_empty() && message != health.message {
            line += &format!(": {message}");
        }
    }
    line
}
