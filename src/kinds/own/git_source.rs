//! Sources: what the cluster follows, and what was found there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OnFailure, SOURCE_NAME_MAX};
use crate::{
    kinds::{Atomic, GitSourceUnits, Kind, field::Check},
    model::Problem,
};

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

impl Kind for GitSource {
    fn validate(&self, check: &mut Check) {
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
