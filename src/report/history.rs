//! The commits the cluster has seen.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::moment;
use crate::{
    kinds::{Commit, CommitChanges, CommitState},
    model::Problem,
    state::{MAIN_SOURCE, View},
};

/// One line of `mainstay history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitLine {
    /// The full id.
    pub commit: String,
    /// How far it has come.
    pub state: CommitState,
    /// Whether it is the one the cluster runs.
    pub running: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Who wrote it.
    pub author: String,
    /// The first line of its message.
    pub subject: String,
    /// What it changed against the commit before.
    pub changes: CommitChanges,
    /// When it was first seen at the remote (RFC 3339).
    pub seen_at: Option<String>,
    /// When it was admitted (RFC 3339).
    pub admitted_at: Option<String>,
    /// How long it took from admission to health, in milliseconds.
    pub healthy_after_ms: Option<i64>,
    /// Why it was refused.
    pub problems: Vec<Problem>,
}

/// Every commit of the main source that the cluster has seen, the newest first.
pub fn history(view: &View) -> Vec<CommitLine> {
    let mut commits: Vec<&Commit> = view.commits_of(MAIN_SOURCE).map(|(.., c)| c).collect();
    commits.sort_by_key(|commit| {
        let timings = &commit.status.timings;
        Reverse((timings.seen_at.or(timings.admitted_at), commit.spec.committed_at))
    });
    commits.into_iter().map(|commit| line(view, commit)).collect()
}

/// The word for a state, as the API writes it.
pub fn state_word(state: CommitState) -> &'static str {
    match state {
        CommitState::Admitted => "Admitted",
        CommitState::Progressing => "Progressing",
        CommitState::Healthy => "Healthy",
        CommitState::Degraded => "Degraded",
        CommitState::Refused => "Refused",
        CommitState::Superseded => "Superseded",
        CommitState::Held => "Held",
    }
}

fn line(view: &View, commit: &Commit) -> CommitLine {
    let (spec, status) = (&commit.spec, &commit.status);
    let name = commit.metadata.name.clone().unwrap_or_default();
    let timings = &status.timings;
    let healthy = timings.healthy_at.zip(timings.admitted_at).map(|(end, start)| end - start);
    CommitLine {
        running: view.head().is_some_and(|head| head.commit.as_str() == name),
        commit: name,
        state: status.state,
        reason: status.reason.clone(),
        message: status.message.clone(),
        author: spec.author.clone(),
        subject: spec.subject.clone(),
        changes: status.changes.clone(),
        seen_at: timings.seen_at.map(moment),
        admitted_at: timings.admitted_at.map(moment),
        healthy_after_ms: healthy,
        problems: status.problems.clone(),
    }
}
