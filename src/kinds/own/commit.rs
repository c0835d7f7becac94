//! Commits: what Git says of one, and what became of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OnFailure;
use crate::{
    kinds::{CommitTally, Kind, field::Check},
    model::{CommitName, Problem},
};

/// A Git commit that the cluster has seen; its name is the full id, of another source than `main`
/// `<source>.<id>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// `mainstay.io/v1`
    pub api_version: String,
    /// `Commit`
    pub kind: String,
    /// The name is the commit's full id, of another source than `main` `<source>.<id>`.
    pub metadata: ObjectMeta,
    /// What the commit is.
    #[serde(default)]
    pub spec: CommitSpec,
    /// What became of it.
    #[serde(default)]
    pub status: CommitStatus,
}

/// What Git says of a commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitSpec {
    /// The name of the GitSource it came from.
    #[serde(default)]
    pub source: String,
    /// The author's name.
    #[serde(default)]
    pub author: String,
    /// The author's address.
    #[serde(default)]
    pub email: String,
    /// When it was written, in milliseconds since 1970.
    #[serde(default)]
    pub authored_at: i64,
    /// When it was committed, in milliseconds since 1970.
    #[serde(default)]
    pub committed_at: i64,
    /// The first line of its message.
    #[serde(default)]
    pub subject: String,
    /// The full ids of its parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Who signed it, and with which key, where the source verifies signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// How far a commit has come.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum CommitState {
    /// It is what the cluster works towards; nothing was done yet.
    #[default]
    Admitted,
    /// Pods are being changed.
    Progressing,
    /// Everything it asks for runs.
    Healthy,
    /// Its deadline passed, or something that ran does not run any more.
    Degraded,
    /// It was not taken: `problems` says why. The commit before it stays.
    Refused,
    /// A later commit took its place before it was healthy.
    Superseded,
    /// A freeze holds it: the commit before it stays until the freeze ends.
    Held,
}

/// What became of a commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitStatus {
    /// How far it has come.
    #[serde(default)]
    pub state: CommitState,
    /// One word (`ProgressDeadlineExceeded`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Why it was refused: all problems at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What its author should know though it was admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// How many objects of each kind it holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// What it changed against the commit before.
    #[serde(default)]
    pub changes: CommitChanges,
    /// When it reached each state.
    #[serde(default)]
    pub timings: CommitTimings,
    /// How long it may take to become healthy, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<i64>,
    /// What its failure leads to, when its message says so (`On-Failure:`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// What `kubectl wait` and kstatus look at: `Ready`, and `Reconciling` or `Stalled` while it is
    /// not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its rollout failed, and the cluster went back: it is not run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<CommitFailure>,
    /// What holds it, while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<CommitHold>,
    /// What the metrics count beside this: commits that the cluster has forgotten, and how this one
    /// ended when it ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CommitTally>,
}

/// A freeze that holds a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CommitHold {
    /// The name of the Freeze.
    pub freeze: String,
    /// When it ends, in milliseconds since 1970.
    pub until_at: i64,
    /// Why there is one.
    pub reason: String,
}

/// A rollout that failed, and what was done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CommitFailure {
    /// The full id of the commit that the cluster went back to.
    pub good: String,
    /// What failed, in one sentence.
    pub problem: String,
    /// A digest of every object that the commit asked for: the same content is not run again.
    pub content: String,
    /// The files of the objects that failed.
    pub files: Vec<String>,
    /// What was seen when it failed: objects, exit codes, events.
    pub evidence: Vec<String>,
    /// What became of the commit that takes it back.
    pub revert: RevertState,
    /// The full id of the commit that takes it back, or that took its place at the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Why no revert is on the desired branch.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What became of the commit that takes a failed one back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RevertState {
    /// It has to be pushed.
    #[default]
    Due,
    /// It is on the desired branch.
    Pushed,
    /// The desired branch does not take it; it stands on `mainstay/revert/<name of the Commit>`.
    Proposed,
    /// There is none: the source says so (`onFailure: hold`), or its repository takes nothing.
    Held,
    /// Somebody else pushed another commit first, which counts.
    Overtaken,
}

/// How many objects a commit touched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitChanges {
    /// Objects that were not there before.
    #[serde(default)]
    pub added: u64,
    /// Objects that are different now.
    #[serde(default)]
    pub changed: u64,
    /// Objects that are gone.
    #[serde(default)]
    pub pruned: u64,
}

/// When a commit reached each state, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitTimings {
    /// First seen at the remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<i64>,
    /// Admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_at: Option<i64>,
    /// The last pod that it started was given a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<i64>,
    /// The last pod that it started was running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_at: Option<i64>,
    /// Healthy for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_at: Option<i64>,
    /// Failed its deadline or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<i64>,
}

impl Kind for Commit {
    fn validate(&self, check: &mut Check) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if CommitName::parse(name).is_none() {
            let why = "must be a full commit id, of another source than main <source>.<id>";
            check.invalid("metadata.name", name, why);
        }
    }
}
