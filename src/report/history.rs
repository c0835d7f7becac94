//! The commits the cluster has seen.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::moment;
use crate::{
    kinds::{Commit, CommitChanges, CommitState},
    model::{CommitId, Problem},
    state::View,
};

/// One line of `mainstay history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitLine {
    /// The full id.
    pub commit: String,
    /// How far it has come.
    pub state: CommitState,
    /// Whether it is the one of its source that the cluster runs.
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

/// Every commit of a source that the cluster has seen, the newest first.
pub fn history(view: &View, source: &str) -> Vec<CommitLine> {
    let all = view.commits_of(source);
    let mut commits: Vec<(CommitId, &Commit)> = all.map(|(name, _, c)| (name.id, c)).collect();
    commits.sort_by_key(|(_, commit)| {
        let timings = &commit.status.timings;
        Reverse((timings.seen_at.or(timings.admitted_at), commit.spec.committed_at))
    });
    let running = view.head_of(source).map(|head| &head.commit);
    commits.into_iter().map(|(id, commit)| line(&id, commit, running == Some(&id))).collect()
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

fn line(id: &CommitId, commit: &Commit, running: bool) -> CommitLine {
    let (spec, status) = (&commit.spec, &commit.status);
    let timings = &status.timings;
    let healthy = timings.healthy_at.zip(timings.admitted_at).map(|(end, start)| end - start);
    CommitLine {
        running,
        commit: id.to_string(),
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
