//! Our own kinds: what the cluster was told (`GitSource`), what became of it (`Commit`), and when
//! it stays as it is (`Freeze`).
//!
//! In: what stands in Git, and what the cluster writes. Out: types with their fields' meaning, and
//! what is wrong with a value; the door and the registry call it. Never here: what follows from
//! them.

use k8s_openapi::{
    ClusterResourceScope, Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod commit;
mod freeze;
mod git_source;

pub use commit::{
    Commit, CommitChanges, CommitFailure, CommitHold, CommitSpec, CommitState, CommitStatus,
    CommitTimings, RevertState,
};
pub use freeze::{Freeze, FreezeSpec};
pub use git_source::{
    GitReference, GitSource, GitSourceJudged, GitSourceSpec, GitSourceStatus, PathDeadline,
    PruneSpec, VerifyMode, VerifySpec,
};

/// The group of our own kinds.
pub const GROUP: &str = "mainstay.io";
/// Most characters of a source's name: those of its commits begin with it.
pub(in crate::kinds) const SOURCE_NAME_MAX: usize = 180;
/// The version of our own kinds.
pub const API_VERSION: &str = "mainstay.io/v1";

/// Gives one of our own types what `k8s_openapi` gives Kubernetes'.
macro_rules! own_kind {
    ($type:ident, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            const API_VERSION: &'static str = API_VERSION;
            const GROUP: &'static str = GROUP;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = ClusterResourceScope;
        }

        impl Metadata for $type {
            type Ty = ObjectMeta;
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl $type {
            /// One with this name and nothing else.
            pub fn named(name: &str) -> Self {
                Self {
                    api_version: API_VERSION.to_owned(),
                    kind: $kind.to_owned(),
                    metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
                    ..Default::default()
                }
            }
        }
    };
}

own_kind!(Commit, "Commit", "commits");
own_kind!(GitSource, "GitSource", "gitsources");
own_kind!(Freeze, "Freeze", "freezes");

/// What is done when the rollout of a commit fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// The cluster goes back to the last good commit, and a revert is pushed.
    #[default]
    Revert,
    /// The cluster goes back to the last good commit; nothing is pushed.
    Hold,
    /// The commit stays, and people decide.
    Ignore,
}

/// Whose words a receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NoticeKind {
    /// Commit statuses of GitHub; `url` is the repository in its API
    /// (`https://api.github.com/repos/<owner>/<name>`).
    Github,
    /// Commit statuses of GitLab; `url` is the project in its API
    /// (`https://gitlab.example.org/api/v4/projects/<id>`).
    Gitlab,
    /// Commit statuses of Gitea and Forgejo; `url` is the repository in its API
    /// (`https://gitea.example.org/api/v1/repos/<owner>/<name>`).
    Gitea,
    /// JSON of our own to `url`.
    Webhook,
    /// A line of text as Slack, Mattermost and their like take it, to `url`.
    Slack,
}
