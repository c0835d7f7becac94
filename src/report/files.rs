//! The files of the status branch.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    cluster::{ConditionSummary, KindCount, NodeSummary, lasting_node_summary, moment, nodes_of},
    health::{
        controller, failed_runs, is_of_job, is_quiet, is_ready, lasting_health, lasting_state,
        staying_pods_of,
    },
    page,
};
use crate::{
    kinds::{Commit, CommitChanges, CommitState, GitSource},
    model::{GroupKind, Key, NodeName, Object, Problem, Revision},
    state::{Change, View},
};

/// Files to write to the status branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusFiles {
    /// Whether `files` is the whole tree: whatever else lies there goes. Otherwise it changes the
    /// tree before.
    pub whole: bool,
    /// Content by path; `None` removes a file. A file may come out as it already lies there; when
    /// all of them do, there is nothing to commit.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
}

/// `objects/<namespace>/<Kind>-<name>.yaml`: how one object fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectFile {
    /// `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
    /// Absent for cluster-scoped kinds.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The full id of the commit that last changed it; absent when Git does not own it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Where it stands in that commit (`apps/web.yaml:14`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// One word (`Complete`, `Progressing`, `CrashLoopBackOff`).
    pub state: String,
    /// The sentence behind the word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How many of its replicas are ready, for kinds that have replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<KindCount>,
    /// Its conditions, as far as they say more than `state`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionSummary>,
    /// For Services: where it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceLine>,
    /// The nodes its pods run on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Its pods, without those on their way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodLine>,
}

impl ObjectFile {
    /// Reads a file of the status branch; `None` when it is none, or of another version.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_yaml::from_slice(bytes).ok()
    }
}

/// One pod in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodLine {
    /// Its name.
    pub name: String,
    /// The node it runs on; absent while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What `kubectl get pods` prints as STATUS.
    pub state: String,
    /// The sentence behind the word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Whether Services send to it.
    pub ready: bool,
    /// How often its containers were started again; above five rounded down to 10, 20, 50, 100 and
    /// so on.
    pub restarts: u64,
}

/// Where a Service answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceLine {
    /// Its address inside the cluster (`None` when it is headless).
    pub cluster_ip: String,
    /// `80/TCP`, with a node port `80:30080/TCP`.
    pub ports: Vec<String>,
    /// How many pods answer behind it.
    pub ready_endpoints: u64,
}

/// `nodes/<name>.yaml`: one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFile {
    /// What `mainstay status` says of it.
    #[serde(flatten)]
    pub summary: NodeSummary,
    /// mainstay's version there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its addresses by type (`InternalIP`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, String>,
    /// The range its pods get their addresses from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_range: String,
    /// Its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionSummary>,
    /// `key=value:effect` of each taint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<String>,
    /// `namespace/name` of the pods on it, without those on their way out and those of Jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_names: Vec<String>,
}

impl NodeFile {
    /// Reads a file of the status branch; `None` when it is none, or of another version.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_yaml::from_slice(bytes).ok()
    }
}

/// `commits/<sha>.yaml`: what became of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitFile {
    /// The full id.
    pub commit: String,
    /// The first line of its message.
    pub subject: String,
    /// Who wrote it (`Ada <ada@example.org>`).
    pub author: String,
    /// The full ids of its parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// How far it has come.
    pub state: CommitState,
    /// One word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it reached each stage.
    pub timings: TimingLines,
    /// What it changed against the commit before.
    pub changes: CommitChanges,
    /// How many objects of each kind it holds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// What its author should know though it was admitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

/// When a commit reached each stage (RFC 3339).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimingLines {
    /// Committed by its author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<String>,
    /// First seen at the remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<String>,
    /// Healthy for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<String>,
    /// Failed its deadline or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// The files of the status branch that the changes after `since` touch; the whole tree when `since`
/// is zero or the history no longer reaches back that far. Costs what the changes touch, and the
/// front page.
pub fn status_branch(view: &View, since: Revision) -> StatusFiles {
    let changes = (since > Revision(0)).then(|| view.changes_since(since)).flatten();
    let (whole, subjects) = match changes {
        Some(changes) => (false, changes.flat_map(|c| touched(view, c)).collect()),
        None => (true, everything(view)),
    };
    let mut files: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    for subject in subjects {
        let content = subject.content(view);
        if let (Some(path), true) = (subject.path(), content.is_some() || !whole) {
            files.insert(path, content);
        } else if matches!(subject, Subject::Page) {
            files.entry("README.md".to_owned()).or_insert(None);
        }
    }
    if whole || !files.is_empty() {
        files.insert("README.md".to_owned(), Some(page::readme(view).into_bytes()));
    }
    StatusFiles { whole, files }
}

/// How many changes the status branch has yet to show; those of what has no file, such as Events,
/// are none. Before the first commit nothing is written.
pub(super) fn unexported(view: &View) -> u64 {
    if view.head().is_none() {
        return 0;
    }
    match view.changes_since(view.exported()) {
        Some(changes) => changes.filter(|c| !touched(view, c).is_empty()).count() as u64,
        None => view.revision().0.saturating_sub(view.exported().0),
    }
}

/// Whether a file of the branch tells what a cluster made anew has to know: of a node, or of a
/// Service.
pub fn is_remembered(path: &str) -> bool {
    let mut parts = path.split('/');
    match parts.next() {
        Some("nodes") => true,
        Some("objects") => parts.nth(1).is_some_and(|name| name.starts_with("Service-")),
        _ => false,
    }
}

/// What a change makes worth writing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Object(Key),
    Node(NodeName),
    Commit(String),
    /// The front page alone.
    Page,
}

impl Subject {
    fn path(&self) -> Option<String> {
        match self {
            Self::Object(key) if key.namespace.is_empty() => {
                Some(format!("objects/_cluster/{}-{}.yaml", key.kind.kind, key.name))
            }
            Self::Object(key) => {
                Some(format!("objects/{}/{}-{}.yaml", key.namespace, key.kind.kind, key.name))
            }
            Self::Node(name) => Some(format!("nodes/{name}.yaml")),
            Self::Commit(id) => Some(format!("commits/{id}.yaml")),
            Self::Page => None,
        }
    }

    fn content(&self, view: &View) -> Option<Vec<u8>> {
        match self {
            Self::Object(key) => {
                // There may be very many, and nobody asks for most of them soon.
                let object = view.object(key).filter(|o| has_file(view, o))?.apart();
                Some(yaml(&object_file(view, &object)))
            }
            Self::Node(name) => Some(yaml(&node_file(view, view.get("", name.as_str())?))),
            Self::Commit(id) => Some(yaml(&commit_file(view.get("", id)?))),
            Self::Page => None,
        }
    }
}

/// These structs hold only text, numbers and lists, so they always serialize.
fn yaml<T: Serialize>(value: &T) -> Vec<u8> {
    serde_yaml::to_string(value)
        .unwrap_or_else(|e| panic!("a status file holds only plain values, and yet: {e}"))
        .into_bytes()
}

fn everything(view: &View) -> BTreeSet<Subject> {
    let owned = view.origins().map(|(key, _)| Subject::Object(key.clone()));
    let workloads = [
        GroupKind::of::<Deployment>(),
        GroupKind::of::<ReplicaSet>(),
        GroupKind::of::<Job>(),
        GroupKind::of::<Pod>(),
        GroupKind::of::<Service>(),
    ];
    let workloads = workloads.iter().flat_map(|kind| view.of_kind(kind, None));
    let workloads = workloads.map(|o| Subject::Object(o.key().clone()));
    let nodes = view.list::<Node>(None).map(|(o, _)| Subject::Node(NodeName(o.key().name.clone())));
    let commits = view.list::<Commit>(None).map(|(o, _)| Subject::Commit(o.key().name.to_string()));
    owned.chain(workloads).chain(nodes).chain(commits).collect()
}

/// Whose files a change touches: the object's own, its owner's (a pod stands in its Deployment's
/// file), its node's.
pub(super) fn touched(view: &View, change: &Change) -> BTreeSet<Subject> {
    let mut subjects = BTreeSet::new();
    let key = &change.key;
    if key.is::<Commit>() {
        return [Subject::Commit(key.name.to_string())].into();
    } else if key.is::<Node>() {
        return [Subject::Node(NodeName(key.name.clone()))].into();
    } else if key.is::<GitSource>() {
        return [Subject::Page].into();
    } else if is_run_noted(change) {
        return BTreeSet::new();
    }
    for object in [&change.old, &change.new].into_iter().flatten() {
        if let Some(service) = service_of(object) {
            subjects.insert(Subject::Object(service));
            continue;
        }
        if is_quiet(view, object) {
            continue;
        }
        let lasts = object.view::<Pod>().filter(|_| !is_of_job(object));
        let node = lasts.and_then(|p| p.spec.as_ref()?.node_name.as_deref());
        subjects.extend(node.map(|name| Subject::Node(NodeName::new(name))));
        let root = root(view, object);
        if *root == *key && (has_file(view, object) || had_file(object)) {
            subjects.insert(Subject::Object(key.clone()));
        } else if *root != *key {
            subjects.insert(Subject::Object(root.clone()));
        }
    }
    subjects
}

/// Whether a CronJob only notes which of its runs began or ended, which its file does not show.
fn is_run_noted(change: &Change) -> bool {
    let shown = |object: &Object| {
        let meta = object.meta();
        (meta.generation, meta.annotations.clone(), object.is_terminating())
    };
    let versions = change.old.as_ref().zip(change.new.as_ref());
    change.key.is::<CronJob>() && versions.is_some_and(|(old, new)| shown(old) == shown(new))
}

/// The object at the top of the chain of owners; the object itself when nothing in the view
/// controls it.
pub(super) fn root<'a>(view: &'a View, object: &'a Object) -> &'a Key {
    /// Deployment, ReplicaSet, Pod are three; a chain that is longer is a circle.
    const OWNERS_MAX: usize = 8;
    let chain = std::iter::successors(Some(object), |o| controller(view, o)).take(OWNERS_MAX);
    chain.last().map_or(object.key(), Object::key)
}

/// The Service whose endpoints these are.
pub(super) fn service_of(object: &Object) -> Option<Key> {
    object.view::<EndpointSlice>()?;
    let name = object.meta().labels.as_ref()?.get("kubernetes.io/service-name")?;
    Some(Key::of::<Service>(&object.key().namespace, name))
}

/// Objects Git owns, and workloads and Services that stand for themselves.
fn has_file(view: &View, object: &Object) -> bool {
    let runs = object.key().is::<Deployment>()
        || object.key().is::<ReplicaSet>()
        || object.key().is::<Job>()
        || object.key().is::<Pod>()
        || object.key().is::<Service>();
    let alone = runs && controller(view, object).is_none() && !is_quiet(view, object);
    view.origin(object.key()).is_some() || alone
}

/// What Git owned carries the commit's annotation, also after Git let it go.
fn had_file(object: &Object) -> bool {
    object.annotation("mainstay.io/commit").is_some() && object.controller_uid().is_none()
}

/// How one object fares, as its file says it. Holds nothing of its spec or data, so nothing of a
/// Secret.
pub fn object_file(view: &View, object: &Object) -> ObjectFile {
    let (key, health) = (object.key(), lasting_health(object));
    let origin = view.origin(key);
    let is_pod = key.is::<Pod>();
    let replicas = key.is::<Deployment>() || key.is::<ReplicaSet>();
    let pods = match key.is::<CronJob>() {
        true => failed_runs(view, object),
        false => staying_pods_of(view, object),
    };
    let state = if object.is_terminating() { "Terminating".to_owned() } else { health.reason };
    ObjectFile {
        api_version: object.api_version().to_owned(),
        kind: key.kind.kind.to_string(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        commit: origin.map(|o| o.commit.to_string()),
        source: origin.map(|o| format!("{}:{}", o.file, o.line)),
        state,
        message: health.message,
        replicas: replicas.then_some(KindCount { desired: health.desired, ready: health.ready }),
        conditions: if is_pod { Vec::new() } else { conditions(object) },
        service: object.view::<Service>().map(|s| service_line(view, object, s)),
        nodes: if key.is::<Namespace>() { Vec::new() } else { nodes_of(view, object) },
        pods: pods.iter().filter_map(|o| o.view::<Pod>()).map(pod_line).collect(),
    }
}

/// The conditions of whatever has some, without the times of the last look.
fn conditions(object: &Object) -> Vec<ConditionSummary> {
    #[derive(Deserialize, Default)]
    struct Shape {
        #[serde(default)]
        status: Status,
    }
    #[derive(Deserialize, Default)]
    struct Status {
        #[serde(default)]
        conditions: Vec<Condition>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Condition {
        #[serde(rename = "type")]
        type_: String,
        status: String,
        reason: Option<String>,
        message: Option<String>,
        last_transition_time: Option<Time>,
    }
    let shape: Shape = serde_json::from_slice(object.bytes()).unwrap_or_default();
    let lines = shape.status.conditions.into_iter().map(|c| ConditionSummary {
        type_: c.type_,
        status: c.status,
        reason: c.reason.unwrap_or_default(),
        message: c.message.unwrap_or_default(),
        since: c.last_transition_time.map(|t| t.0.to_string()),
    });
    lines.collect()
}

pub(super) fn pod_line(pod: &Pod) -> PodLine {
    let (state, message) = lasting_state(pod);
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let restarts = statuses.map(|c| u64::try_from(c.restart_count).unwrap_or(0)).sum();
    PodLine {
        name: pod.metadata.name.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        state,
        message,
        ready: is_ready(pod),
        restarts: about(restarts),
    }
}

/// A count of restarts, above five rounded down to 10, 20, 50, 100 and so on: a container that
/// crashes every five minutes shall not fill the branch.
pub(super) fn about(restarts: u64) -> u64 {
    if restarts <= 5 {
        return restarts;
    }
    let tens = std::iter::successors(Some(10_u64), |ten| ten.checked_mul(10));
    let steps = tens.flat_map(|ten| [Some(ten), ten.checked_mul(2), ten.checked_mul(5)]).flatten();
    steps.take_while(|step| *step <= restarts).last().unwrap_or(5)
}

pub(super) fn service_line(view: &View, object: &Object, service: &Service) -> ServiceLine {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.iter().flatten().map(|port| {
        let node_port = port.node_port.map(|n| format!(":{n}")).unwrap_or_default();
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        format!("{}{node_port}/{protocol}", port.port)
    });
    ServiceLine {
        cluster_ip: spec.cluster_ip.unwrap_or_default(),
        ports: ports.collect(),
        ready_endpoints: ready_endpoints(view, object),
    }
}

/// How many addresses answer behind a Service; an absent `ready` counts as ready, as proxies take
/// it.
fn ready_endpoints(view: &View, service: &Object) -> u64 {
    addresses(view.owned_by(service.uid()).filter_map(|o| o.view::<EndpointSlice>()))
}

/// How many ready addresses some slices have.
pub(super) fn addresses<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> u64 {
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints
        .filter(|e| e.conditions.as_ref().and_then(|c| c.ready) != Some(false))
        .flat_map(|e| e.addresses.iter());
    ready.collect::<BTreeSet<_>>().len() as u64
}

fn node_file(view: &View, node: &Node) -> NodeFile {
    let status = node.status.clone().unwrap_or_default();
    let spec = node.spec.clone().unwrap_or_default();
    let conditions = status.conditions.iter().flatten().map(|c| ConditionSummary {
        type_: c.type_.clone(),
        status: c.status.clone(),
        reason: c.reason.clone().unwrap_or_default(),
        message: c.message.clone().unwrap_or_default(),
        since: c.last_transition_time.as_ref().map(|t| t.0.to_string()),
    });
    let taints = spec.taints.iter().flatten().map(|t| match &t.value {
        Some(value) => format!("{}={value}:{}", t.key, t.effect),
        None => format!("{}:{}", t.key, t.effect),
    });
    let summary = lasting_node_summary(view, node);
    let name = NodeName::new(&summary.name);
    let lasts = |pod: &&Object| !pod.is_terminating() && !is_of_job(pod);
    let pods = view.pods_on(&name).filter(lasts).map(Object::key);
    let addresses = status.addresses.iter().flatten();
    NodeFile {
        version: status.node_info.map(|i| i.kubelet_version).unwrap_or_default(),
        addresses: addresses.map(|a| (a.type_.clone(), a.address.clone())).collect(),
        pod_range: spec.pod_cidr.unwrap_or_default(),
        conditions: conditions.collect(),
        taints: taints.collect(),
        pod_names: pods.map(|key| format!("{}/{}", key.namespace, key.name)).collect(),
        summary,
    }
}

fn commit_file(commit: &Commit) -> CommitFile {
    let (spec, status) = (&commit.spec, &commit.status);
    let timings = &status.timings;
    CommitFile {
        commit: commit.metadata.name.clone().unwrap_or_default(),
        subject: spec.subject.clone(),
        author: format!("{} <{}>", spec.author, spec.email),
        parents: spec.parents.clone(),
        state: status.state,
        reason: status.reason.clone(),
        message: status.message.clone(),
        timings: TimingLines {
            committed: (spec.committed_at > 0).then(|| moment(spec.committed_at)),
            seen: timings.seen_at.map(moment),
            admitted: timings.admitted_at.map(moment),
            healthy: timings.healthy_at.map(moment),
            failed: timings.failed_at.map(moment),
        },
        changes: status.changes.clone(),
        counts: status.counts.clone(),
        problems: status.problems.clone(),
        warnings: status.warnings.clone(),
    }
}
