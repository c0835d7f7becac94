//! The cluster in one value: what `mainstay status -o json` prints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::health::{health, is_of_job, staying_pods_of};
use crate::{
    kinds::{Commit, CommitState, GitSource},
    model::{NodeName, Object, Problem, Quantity, Timestamp},
    state::{MAIN_SOURCE, View},
};

/// What the log says of itself; a View does not know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogFacts {
    /// The answering server's id.
    pub server: String,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// The leader's id, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The term.
    pub term: u64,
    /// The index of the last entry in the log.
    pub last_log_index: u64,
    /// The index of the last entry applied to State.
    pub applied_index: u64,
    /// Every server of the cluster.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// One server of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Where the other servers reach it.
    pub address: String,
    /// Whether it votes (a learner does not).
    pub voter: bool,
}

/// The cluster on one page.
///
/// `commit`, `state`, `reason`, `message`, `problems` and `warnings` speak of the newest commit of
/// the source: of a refused one too. `running` is the commit the cluster runs, whatever became of
/// the newest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The full id of the newest commit; absent before the first.
    pub commit: Option<String>,
    /// What became of it; absent before the first.
    pub state: Option<CommitState>,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Why it was refused: all problems at once.
    pub problems: Vec<Problem>,
    /// What its author should know though it was admitted.
    pub warnings: Vec<Problem>,
    /// The commit the cluster runs; absent before the first.
    pub running: Option<CommitSummary>,
    /// Objects by kind: those Git owns, the pods and the nodes.
    pub counts: BTreeMap<String, KindCount>,
    /// The nodes, by name.
    pub nodes: Vec<NodeSummary>,
    /// What the cluster follows.
    pub sources: Vec<SourceSummary>,
    /// The revision of the View this was made from.
    pub revision: u64,
    /// The log.
    pub log: LogFacts,
}

/// One commit in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitSummary {
    /// The full id.
    pub commit: String,
    /// How far it has come.
    pub state: CommitState,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// When it was admitted (RFC 3339).
    pub admitted_at: Option<String>,
}

/// How many objects of a kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindCount {
    /// How many there are.
    pub desired: u64,
    /// How many of them are as they should be.
    pub ready: u64,
}

/// One node in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSummary {
    /// Its name.
    pub name: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it takes new pods.
    pub schedulable: bool,
    /// How many pods are bound to it and have not ended.
    pub pods: u64,
    /// What pods may ask of it in all, CPU in thousandths of a core.
    pub allocatable_cpu_milli: i64,
    /// What its pods ask for, CPU in thousandths of a core.
    pub requested_cpu_milli: i64,
    /// What pods may ask of it in all, memory in bytes.
    pub allocatable_memory_bytes: i64,
    /// What its pods ask for, memory in bytes.
    pub requested_memory_bytes: i64,
}

/// What the cluster follows and how that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSummary {
    /// The name of the GitSource.
    pub name: String,
    /// Where the repository is, without credentials.
    pub url: String,
    /// `branch main`, `tag v1` or `commit 1a2b3c4…`.
    pub reference: String,
    /// The folder that is read; empty for the whole tree.
    pub path: String,
    /// The full id of the newest commit seen there.
    pub observed_commit: Option<String>,
    /// When the remote last answered (RFC 3339).
    pub last_fetch_at: Option<String>,
    /// Whether the remote answers, and if not, why.
    pub conditions: Vec<ConditionSummary>,
}

/// One condition, without the times that move by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionSummary {
    /// `Available`
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// The cluster in one value.
pub fn status(view: &View, log: LogFacts) -> ClusterStatus {
    let newest = newest_commit(view);
    let told = newest.map(|c| c.status.clone()).unwrap_or_default();
    ClusterStatus {
        commit: newest.and_then(|c| c.metadata.name.clone()),
        state: newest.map(|c| c.status.state),
        reason: told.reason,
        message: told.message,
        problems: told.problems,
        warnings: told.warnings,
        running: running(view).map(summary),
        counts: counts(view),
        nodes: view.list::<Node>(None).map(|(_, node)| node_summary(view, node)).collect(),
        sources: view.list::<GitSource>(None).map(|(_, source)| source_summary(source)).collect(),
        revision: view.revision().0,
        log,
    }
}

/// The commit the cluster runs.
pub(super) fn running(view: &View) -> Option<&Commit> {
    running_of(view, MAIN_SOURCE)
}

/// The commit of a source that the cluster runs.
pub(super) fn running_of<'a>(view: &'a View, source: &str) -> Option<&'a Commit> {
    view.commit_of(source, &view.head_of(source)?.commit)
}

/// The newest commit of the source: the head, unless a later one was refused, has failed or waits.
pub(super) fn newest_commit(view: &View) -> Option<&Commit> {
    refused_commit(view).or_else(|| running(view))
}

/// The commit that stands at the source and is not run: refused, or gone back from.
///
/// A refused commit that is no longer at the source (a later one took its place, or it was taken
/// back) is history.
pub(super) fn refused_commit(view: &View) -> Option<&Commit> {
    let main = view.get::<GitSource>("", MAIN_SOURCE)?;
    view.get::<Commit>("", main.status.observed_commit.as_deref()?).filter(|c| is_not_run(c))
}

/// Whether a commit was refused, is held by a freeze, or was gone back from because its rollout
/// failed.
pub(super) fn is_not_run(commit: &Commit) -> bool {
    let waits = matches!(commit.status.state, CommitState::Refused | CommitState::Held);
    waits || commit.status.failure.is_some()
}

fn summary(commit: &Commit) -> CommitSummary {
    CommitSummary {
        commit: commit.metadata.name.clone().unwrap_or_default(),
        state: commit.status.state,
        subject: commit.spec.subject.clone(),
        author: commit.spec.author.clone(),
        admitted_at: commit.status.timings.admitted_at.map(moment),
    }
}

/// A moment in milliseconds as RFC 3339.
pub(super) fn moment(at: i64) -> String {
    Timestamp(at).to_string()
}

fn counts(view: &View) -> BTreeMap<String, KindCount> {
    let mut counts = BTreeMap::<String, KindCount>::new();
    let owned = view.origins().filter_map(|(key, _)| view.object(key));
    let pods = view.list::<Pod>(None).map(|(object, _)| object);
    let pods = pods.filter(|o| view.origin(o.key()).is_none());
    let nodes = view.list::<Node>(None).map(|(object, _)| object);
    for object in owned.chain(pods).chain(nodes) {
        let entry = counts.entry(object.key().kind.kind.to_string()).or_default();
        entry.desired += 1;
        entry.ready += u64::from(health(object).settled);
    }
    counts
}

fn node_summary(view: &View, node: &Node) -> NodeSummary {
    summary_of(view, node, |_| true)
}

/// The same without pods on their way out and those of Jobs: neither a rolling update nor a Job
/// changes it.
pub(super) fn lasting_node_summary(view: &View, node: &Node) -> NodeSummary {
    summary_of(view, node, |pod| !pod.is_terminating() && !is_of_job(pod))
}

fn summary_of(view: &View, node: &Node, counts: impl Fn(&Object) -> bool) -> NodeSummary {
    let name = node.metadata.name.clone().unwrap_or_default();
    let node_name = NodeName::new(&name);
    let pods = view.pods_on(&node_name).filter(|o| counts(o));
    let pods: Vec<&Pod> = pods.filter_map(|o| o.view()).collect();
    let pods: Vec<&Pod> = pods.into_iter().filter(|pod| !has_ended(pod)).collect();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
    let allocatable = |resource: &str| {
        allocatable.and_then(|a| a.get(resource)).map(Quantity::of).unwrap_or_default()
    };
    let requested = |resource: &str| {
        pods.iter().map(|p| requests(p, resource)).fold(Quantity::ZERO, Quantity::plus)
    };
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    NodeSummary {
        ready: conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        schedulable: node.spec.as_ref().and_then(|s| s.unschedulable) != Some(true),
        pods: pods.len() as u64,
        allocatable_cpu_milli: allocatable("cpu").as_milli(),
        requested_cpu_milli: requested("cpu").as_milli(),
        allocatable_memory_bytes: allocatable("memory").as_units(),
        requested_memory_bytes: requested("memory").as_units(),
        name,
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What a pod asks for: its containers together, or its largest init container if that is more
/// (kubernetes.io/docs/concepts/workloads/pods/init-containers, resource sharing).
pub(super) fn requests(pod: &Pod, resource: &str) -> Quantity {
    let Some(spec) = &pod.spec else { return Quantity::ZERO };
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        requests.and_then(|r| r.get(resource)).map(Quantity::of).unwrap_or_default()
    };
    let together = spec.containers.iter().map(of).fold(Quantity::ZERO, Quantity::plus);
    let inits = spec.init_containers.iter().flatten().map(of).max().unwrap_or_default();
    let overhead = spec.overhead.as_ref().and_then(|o| o.get(resource)).map(Quantity::of);
    together.max(inits).plus(overhead.unwrap_or_default())
}

fn source_summary(source: &GitSource) -> SourceSummary {
    let (spec, status) = (&source.spec, &source.status);
    SourceSummary {
        name: source.metadata.name.clone().unwrap_or_default(),
        url: without_credentials(&spec.url),
        reference: reference(source),
        path: spec.path.clone(),
        observed_commit: status.observed_commit.clone(),
        last_fetch_at: status.last_fetch_at.map(moment),
        conditions: status
            .conditions
            .iter()
            .map(|c| ConditionSummary {
                type_: c.type_.clone(),
                status: c.status.clone(),
                reason: c.reason.clone(),
                message: c.message.clone(),
                since: Some(c.last_transition_time.0.to_string()),
            })
            .collect(),
    }
}

fn reference(source: &GitSource) -> String {
    let wanted = &source.spec.reference;
    match (&wanted.commit, &wanted.tag, &wanted.branch) {
        (Some(id), _, _) => format!("commit {id}"),
        (None, Some(tag), _) => format!("tag {tag}"),
        (None, None, Some(branch)) => format!("branch {branch}"),
        // What a server follows unless told otherwise.
        (None, None, None) => "branch main".to_owned(),
    }
}

/// A URL without the user and password it may carry.
pub(super) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The first seven digits of a commit id, as `git log --oneline` prints them.
pub(super) fn short(id: &str) -> &str {
    id.get(..7).unwrap_or(id)
}

/// The nodes a workload's pods run on, each once.
pub(super) fn nodes_of(view: &View, object: &Object) -> Vec<String> {
    let pods = staying_pods_of(view, object);
    let names = pods.iter().filter_map(|o| o.view::<Pod>()?.spec.as_ref()?.node_name.clone());
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}
