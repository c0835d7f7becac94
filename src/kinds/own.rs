//! Our own kinds: what the cluster was told (`GitSource`) and what became of it (`Commit`).

use std::collections::BTreeMap;

use k8s_openapi::{
    ClusterResourceScope, Metadata, Resource,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Atomic, CommitTally, GitSourceUnits};
use crate::model::{Problem, Timestamp};

/// The group of our own kinds.
pub const GROUP: &str = "mainstay.io";
/// Most characters of a source's name: those of its commits begin with it.
pub(super) const SOURCE_NAME_MAX: usize = 180;
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

/// A branch, tag or commit of a repository, which the cluster follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// `mainstay.io/v1`
    pub api_version: String,
    /// `GitSource`
    pub kind: String,
    /// `main` unless there are several.
    pub metadata: ObjectMeta,
    /// What to follow.
    #[serde(default)]
    pub spec: GitSourceSpec,
    /// What was found there.
    #[serde(default)]
    pub status: GitSourceStatus,
}

/// What to follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSourceSpec {
    /// Where the repository is: `file://`, `http(s)://` or `ssh://`.
    pub url: String,
    /// What of it.
    #[serde(default)]
    pub reference: GitReference,
    /// The folder to read; empty for the whole tree.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What of it is taken or refused as one: the `whole`, or each `unit`, which is a folder
    /// directly below `path` (`whole` when absent). Of sources that Git names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub atomic: Option<Atomic>,
    /// How often to look when nobody tells us, in seconds (30 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<i64>,
    /// What may be deleted without asking.
    #[serde(default)]
    pub prune: PruneSpec,
    /// What is done when the rollout of a commit fails (`revert` when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// How long a commit may take to become healthy, in seconds (600 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<i64>,
    /// Paths whose commits may take longer, or less long. Of what a commit touches the longest
    /// counts; what is below none of them has `deadlineSeconds`, and `Deploy-Deadline:` in the
    /// message of a commit counts more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadlines: Vec<PathDeadline>,
    /// Whose commits are taken; anybody's who can push when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySpec>,
    /// Whether a commit must have the one that runs among its ancestors (true when absent and
    /// `verify` is there).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_forward_only: Option<bool>,
    /// The namespaces whose objects it may hold; those of all namespaces, and of none, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The kinds it may hold (`Deployment`); all when empty. With `namespaces`, objects of the
    /// whole cluster are of the kinds that are named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// The service account as which it acts (`namespace/name`): what that may not create, update or
    /// delete, the source may not hold or take away. Of roles it needs `escalate`, of their
    /// bindings `bind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The Secret with the credentials (`namespace/name`): `username` and `password`, or `identity`
    /// (a private SSH key) and `known_hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The sources that come first: a new commit is taken once each of them runs its newest commit,
    /// and runs it well; one of the same repository and reference must have seen the same commit.
    /// What runs is never held back. Of sources that Git names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Nothing new is taken from it; what it brought goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// How long commits may take that touch a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathDeadline {
    /// A folder of the repository, or a file; the deepest that holds a file counts.
    pub path: String,
    /// Seconds until what it holds must be healthy.
    pub seconds: i64,
}

impl PathDeadline {
    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        match (self.path.trim_matches('/').is_empty(), self.seconds > 0) {
            (true, _) => {
                Some("path: name a folder or a file; for all there is deadlineSeconds".to_owned())
            }
            (_, false) => Some(format!("seconds: {} is not above 0", self.seconds)),
            (false, true) => None,
        }
    }
}

/// Whose commits are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VerifySpec {
    /// Which commits have to be signed.
    pub mode: VerifyMode,
    /// Who may sign by SSH, as OpenSSH writes it (`allowed_signers`): `ann@example.org ssh-ed25519
    /// AAAA…`, with `valid-after`, `valid-before` and `namespaces`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub allowed_signers: String,
    /// SSH keys that count no more, a public key a line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revoked_keys: String,
    /// Armoured OpenPGP public keys that may sign; the servers need `gpg`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pgp_keys: String,
    /// The newest commit that needs no signature (full id); those before it need none either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Whether what one key signed needs an approval by another: a signed commit on top that adds
    /// nothing, or a signed merge.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
}

impl VerifySpec {
    /// What is wrong with it for what is followed.
    pub fn problem(&self, reference: &GitReference) -> Option<&'static str> {
        let lacks_tag = self.mode == VerifyMode::Tag && reference.tag.is_none();
        lacks_tag.then_some("may be tag only where reference.tag names one")
    }
}

/// Which commits have to be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum VerifyMode {
    /// Every one since the commit that runs.
    #[default]
    All,
    /// The newest one, which vouches for those before it.
    Head,
    /// The tag that is followed (`reference.tag`, an annotated one), which vouches for all of them.
    Tag,
}

/// A branch, a tag or a commit: at most one. None of them: the remote's HEAD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitReference {
    /// A branch (`main`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A tag (`v1.2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// A full commit id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// What may be deleted without a `Prune-Approved:` trailer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneSpec {
    /// Most per cent of the live objects that one commit may delete (50 when absent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent_max: Option<u32>,
    /// Nothing is ever deleted because its file went away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// What was found at the remote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSourceStatus {
    /// The full id of the newest commit seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_commit: Option<String>,
    /// The full id of the newest commit that was admitted; of a source that is taken by unit, that
    /// all its units have looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_commit: Option<String>,
    /// The full id of the newest commit that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_commit: Option<String>,
    /// Why it was refused, all problems at once; else what the author of the commit that runs
    /// should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// How long the commit that runs may take to become healthy, in seconds, when it or its paths
    /// say so; of sources that Git names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<i64>,
    /// By what its newest commit was taken or refused, of sources that Git names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<GitSourceJudged>,
    /// How its units do, when it is taken by unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<GitSourceUnits>,
    /// When the remote last answered, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fetch_at: Option<i64>,
    /// `SourceReady`: whether the remote answers, and if not, why. `Ready`, of sources that Git
    /// names: whether their newest commit is what runs, and runs well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// By what a commit was judged: when that is older than the source or the roles of its account, the
/// commit is judged again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSourceJudged {
    /// The generation of the source.
    pub generation: i64,
    /// The revision of the cluster's state.
    pub revision: u64,
    /// The full id of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// A time in which the cluster stays as it is: commits that change something are held until it
/// ends. It begins and ends by a commit, or by its time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// `mainstay.io/v1`
    pub api_version: String,
    /// `Freeze`
    pub kind: String,
    /// A name of its own.
    pub metadata: ObjectMeta,
    /// How long, why, and what of the repository.
    #[serde(default)]
    pub spec: FreezeSpec,
}

/// How long, why, and what of which repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreezeSpec {
    /// When it ends by itself (RFC 3339).
    #[serde(default)]
    pub until: String,
    /// Why; whoever is held reads it.
    #[serde(default)]
    pub reason: String,
    /// Folders or files whose objects stay as they are; with `namespaces`, either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Namespaces whose objects stay as they are. Without these and `paths`: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The sources whose commits are held (`main`, or the name of a GitSource); all when empty. A
    /// freeze that another source than `main` holds is for that one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl FreezeSpec {
    /// When it ends; none when that is no time.
    pub fn end(&self) -> Option<Timestamp> {
        let at: k8s_openapi::jiff::Timestamp = self.until.parse().ok()?;
        Some(Timestamp(at.as_millisecond()))
    }
}

impl super::Kind for Freeze {
    fn validate(&self, check: &mut super::Check) {
        let spec = &self.spec;
        if spec.until.is_empty() {
            check.required("spec.until", "when it ends, as 2026-12-24T18:00:00Z");
        } else if spec.end().is_none() {
            let why = "must be a time with a zone, as 2026-12-24T18:00:00Z";
            check.invalid("spec.until", &spec.until, why);
        }
        if spec.reason.trim().is_empty() {
            check.required("spec.reason", "whoever is held reads it");
        }
        for (at, path) in spec.paths.iter().enumerate() {
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                let why = "must be a path inside the repository, as apps/shop";
                check.invalid(format!("spec.paths[{at}]"), path, why);
            }
        }
    }
}

impl super::Kind for Commit {
    fn validate(&self, check: &mut super::Check) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        if crate::model::CommitName::parse(name).is_none() {
            let why = "must be a full commit id, of another source than main <source>.<id>";
            check.invalid("metadata.name", name, why);
        }
    }
}

impl super::Kind for GitSource {
    fn validate(&self, check: &mut super::Check) {
        if self.spec.url.is_empty() {
            check.required("spec.url", "");
        }
        let reference = &self.spec.reference;
        let set = [&reference.branch, &reference.tag, &reference.commit];
        if set.iter().filter(|r| r.is_some()).count() > 1 {
            check.forbidden("spec.reference", "may name only one of branch, tag and commit");
        }
        if let Some(why) = self.spec.verify.as_ref().and_then(|v| v.problem(reference)) {
            check.forbidden("spec.verify.mode", why);
        }
        let is_pair = |text: &String| text.split('/').filter(|part| !part.is_empty()).count() == 2;
        let spec = &self.spec;
        let pairs = [("spec.secret", &spec.secret), ("spec.serviceAccount", &spec.service_account)];
        for (field, text) in pairs {
            if let Some(text) = text.as_ref().filter(|text| !is_pair(text)) {
                check.invalid(field, text, "must be namespace/name");
            }
        }
        let wrong = |deadline: &PathDeadline| deadline.problem();
        if let Some(why) = spec.deadlines.iter().find_map(wrong) {
            check.forbidden("spec.deadlines", &why);
        }
        let name = self.metadata.name.clone().unwrap_or_default();
        if name.len() > SOURCE_NAME_MAX {
            let why = format!("must have at most {SOURCE_NAME_MAX} characters");
            check.invalid("metadata.name", &name, &why);
        }
        if spec.depends_on.contains(&name) {
            check.forbidden("spec.dependsOn", "may not name the source itself");
        }
    }
}
