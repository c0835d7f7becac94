//! State as everybody but `apply` sees it: an immutable picture that is cheap to hold.

use std::{net::Ipv4Addr, ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet, Vector};
use k8s_openapi::{
    Metadata,
    api::{
        batch::v1::Job,
        core::v1::{Event, Pod},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use smol_str::SmolStr;

use super::{
    command::{Desired, NewEvent, Notice, OutboxItem},
    event,
};
use crate::{
    kinds::{Commit, GitSource, Kinds, order},
    model::{
        CommitId, CommitName, GroupKind, Key, MAIN_SOURCE, NodeName, Object, Problem, Revision,
        Timestamp,
    },
};

/// How many changes the history keeps for watches. A watch that asks for an older revision gets 410
/// and lists again. Old and new versions are shared with State, so an entry costs what the
/// superseded version weighs.
pub const HISTORY_MAX: usize = 8192;

/// The ranges of a cluster; set once, at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfig {
    /// Names the cluster; drawn at its start.
    pub cluster_id: String,
    /// First address of the range of ClusterIPs.
    pub service_base: Ipv4Addr,
    /// Prefix length of that range.
    pub service_prefix: u8,
    /// First address of the range of pods.
    pub pod_base: Ipv4Addr,
    /// Prefix length of that range.
    pub pod_prefix: u8,
    /// Prefix length of one node's part of it.
    pub node_prefix: u8,
    /// First node port.
    pub node_port_min: u16,
    /// Last node port.
    pub node_port_max: u16,
}

impl ClusterConfig {
    /// Whether an address lies in the range of ClusterIPs.
    pub fn is_service_address(&self, address: Ipv4Addr) -> bool {
        let shift = 32 - u32::from(self.service_prefix);
        u32::from(address).checked_shr(shift) == u32::from(self.service_base).checked_shr(shift)
    }

    /// Whether a port lies in the range of node ports.
    pub fn is_node_port(&self, port: u16) -> bool {
        (self.node_port_min..=self.node_port_max).contains(&port)
    }

    /// The ranges kubeadm users know: Services 10.96.0.0/12, pods 10.244.0.0/16 in /24 per node,
    /// ports 30000-32767.
    pub fn with_id(cluster_id: &str) -> Self {
        Self {
            cluster_id: cluster_id.to_owned(),
            service_base: Ipv4Addr::new(10, 96, 0, 0),
            service_prefix: 12,
            pod_base: Ipv4Addr::new(10, 244, 0, 0),
            pod_prefix: 16,
            node_prefix: 24,
            node_port_min: 30000,
            node_port_max: 32767,
        }
    }
}

pub(super) fn main_source() -> SmolStr {
    SmolStr::new_static(MAIN_SOURCE)
}

fn is_main_source(source: &SmolStr) -> bool {
    source == MAIN_SOURCE
}

/// Where a desired object stands in Git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The source whose commits hold it: the only one that may change or delete it.
    #[serde(default = "main_source", skip_serializing_if = "is_main_source")]
    pub source: SmolStr,
    /// The commit that last changed it.
    pub commit: CommitId,
    /// Its file.
    pub file: String,
    /// Its line in that file, from 1.
    pub line: u32,
    /// The kustomization that made it out of what its file says; absent for what is written as it
    /// is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// A hash of the object as rendered, in hexadecimal; equal hashes need no write.
    pub digest: String,
    /// Whether the number of its replicas is left to whoever scales it while it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// How the object ended that is gone: it did its work, so it is not missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ending>,
}

/// How something ended that is there to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// It did what it was for.
    Succeeded,
    /// It did not.
    Failed,
}

impl Ending {
    /// How a Job ended, or a Pod that is a hook; `None` while it has not, and for what does not
    /// end.
    pub fn of(object: &Object) -> Option<Self> {
        if let Some(pod) = object.view::<Pod>() {
            return match pod.status.as_ref()?.phase.as_deref()? {
                "Succeeded" if is_hook(object) => Some(Self::Succeeded),
                "Failed" if is_hook(object) => Some(Self::Failed),
                _ => None,
            };
        }
        let status = object.view::<Job>()?.status.as_ref()?;
        let mut said = status.conditions.iter().flatten().filter(|c| c.status == "True");
        said.find_map(|c| match c.type_.as_str() {
            "Complete" => Some(Self::Succeeded),
            "Failed" => Some(Self::Failed),
            _ => None,
        })
    }
}

/// Whether an object is one that runs once with each commit.
pub(super) fn is_hook(object: &Object) -> bool {
    let may_be = object.key().is::<Job>() || object.key().is::<Pod>();
    may_be && order(object).hook.is_some()
}

impl Origin {
    /// `apps/web.yaml:12`; of another source than the main one `team-a:web.yaml:12`.
    pub fn place(&self) -> String {
        match is_main_source(&self.source) {
            true => format!("{}:{}", self.file, self.line),
            false => format!("{}:{}:{}", self.source, self.file, self.line),
        }
    }
}

/// The commit that the cluster runs of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The commit.
    pub commit: CommitId,
    /// When it was admitted.
    pub at: Timestamp,
    /// The revision it became visible with.
    pub revision: Revision,
}

/// One change of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision the change made.
    pub revision: Revision,
    /// The object.
    pub key: Key,
    /// The version before; `None` when it was created.
    pub old: Option<Object>,
    /// The version after; `None` when it was removed.
    pub new: Option<Object>,
}

/// An immutable picture of State. Cloning is cheap and shares everything.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub(super) config: Option<Arc<ClusterConfig>>,
    pub(super) revision: Revision,
    pub(super) applied_at: Timestamp,
    pub(super) objects: OrdMap<Key, Object>,
    /// Shared: a node of the map holds many, and is copied when one of them changes.
    pub(super) origins: OrdMap<Key, Arc<Origin>>,
    pub(super) drifted: OrdSet<Key>,
    pub(super) ordered: OrdSet<Key>,
    pub(super) hooks: OrdSet<Key>,
    pub(super) heads: OrdMap<SmolStr, Head>,
    pub(super) outbox: OrdMap<u64, OutboxItem>,
    pub(super) exported: Revision,
    pub(super) history: Vector<Change>,
    pub(super) owned: OrdMap<SmolStr, OrdSet<Key>>,
    pub(super) on_node: OrdMap<NodeName, OrdSet<Key>>,
    pub(super) addresses: OrdMap<Ipv4Addr, Key>,
    pub(super) node_ports: OrdMap<u16, Key>,
    pub(super) digest: u64,
    pub(super) kinds: Kinds,
}

impl ClusterConfig {
    /// The address of the Service by which pods reach the API: the first of its range, as
    /// Kubernetes takes it.
    pub fn api_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_base).wrapping_add(1))
    }
}

impl View {
    /// The cluster's ranges; `None` before [`Command::Configure`](super::Command::Configure).
    pub fn config(&self) -> Option<&ClusterConfig> {
        self.config.as_deref()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The proposer's clock of the last entry.
    pub fn applied_at(&self) -> Timestamp {
        self.applied_at
    }

    /// Every kind that is served: built-in ones, and those of the definitions.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// A hash over everything stored; equal on replicas that applied the same entries.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The commit the cluster runs: that of the main source.
    pub fn head(&self) -> Option<&Head> {
        self.head_of(MAIN_SOURCE)
    }

    /// The commit of a source that the cluster runs.
    pub fn head_of(&self, source: &str) -> Option<&Head> {
        self.heads.get(source)
    }

    /// What each source runs, by its name.
    pub fn heads(&self) -> impl Iterator<Item = (&str, &Head)> {
        self.heads.iter().map(|(source, head)| (source.as_str(), head))
    }

    /// What became of a commit.
    pub fn commit(&self, name: &CommitName) -> Option<&Commit> {
        self.get::<Commit>("", &name.to_string())
    }

    /// What became of a commit of a source.
    pub fn commit_of(&self, source: &str, id: &CommitId) -> Option<&Commit> {
        self.commit(&CommitName::new(source, id))
    }

    /// What became of the commits of a source.
    pub fn commits_of<'a>(
        &'a self,
        source: &'a str,
    ) -> impl Iterator<Item = (CommitName, &'a Object, &'a Commit)> {
        let prefix = match source {
            MAIN_SOURCE => String::new(),
            other => format!("{other}."),
        };
        let start = Key::of::<Commit>("", &prefix);
        let all = self.objects.range(start..).map(|(_, object)| object);
        let all =
            all.take_while(move |o| o.key().is::<Commit>() && o.key().name.starts_with(&prefix));
        all.filter_map(move |object| {
            let name = CommitName::parse(&object.key().name).filter(|n| n.source == source)?;
            Some((name, object, object.view()?))
        })
    }

    /// Where a desired object stands in Git; `None` for objects Git does not own.
    pub fn origin(&self, key: &Key) -> Option<&Origin> {
        self.origins.get(key).map(|origin| &**origin)
    }

    /// Every object Git owns, with its place.
    pub fn origins(&self) -> impl Iterator<Item = (&Key, &Origin)> {
        self.origins.iter().map(|(key, origin)| (key, &**origin))
    }

    /// The keys Git owns whose object is not there or is being deleted: somebody took it away, and
    /// it is brought back.
    pub fn drifted(&self) -> impl Iterator<Item = &Key> {
        self.drifted.iter()
    }

    /// Whether Git owns the key and its object is away that has not done its work.
    pub(super) fn is_missed(&self, key: &Key) -> bool {
        let live = self.objects.get(key);
        let away = live.is_none_or(Object::is_terminating) && live.and_then(Ending::of).is_none();
        away && self.origins.get(key).is_some_and(|origin| origin.ended.is_none())
    }

    /// The objects that say when to start ([`kinds::Order`](crate::kinds::Order)).
    pub fn ordered(&self) -> impl Iterator<Item = &Key> {
        self.ordered.iter()
    }

    /// What Git owns that runs once with each commit, there or gone when it has done so, and other
    /// Jobs that have ended and are gone.
    pub fn hooks(&self) -> impl Iterator<Item = &Key> {
        self.hooks.iter()
    }

    /// Whether a key is one of [`hooks`](Self::hooks).
    pub fn is_hook(&self, key: &Key) -> bool {
        self.hooks.contains(key)
    }

    /// Whether a key belongs to [`hooks`](Self::hooks).
    pub(super) fn runs_once(&self, key: &Key) -> bool {
        let gone = |origin: &Origin| origin.ended.is_some();
        let hook = || self.objects.get(key).is_some_and(is_hook);
        self.origin(key).is_some_and(|origin| gone(origin) || hook())
    }

    /// Whether an object says when to start.
    pub fn is_ordered(&self, key: &Key) -> bool {
        self.ordered.contains(key)
    }

    /// Where a desired object stands in one source; `None` when it is not that source's.
    pub fn origin_in(&self, source: &str, key: &Key) -> Option<&Origin> {
        self.origin(key).filter(|origin| origin.source == source)
    }

    /// What is wrong with an object that another source than its own holds already, and means to
    /// keep.
    pub fn claimed(&self, desired: &Desired) -> Option<Problem> {
        let Origin { source, file, line, .. } = &desired.origin;
        let key = desired.object.key();
        // A unit that goes, or whose source takes all its folders whole again.
        let goes = |other: &str| {
            let object = self.object(&Key::of::<GitSource>("", other));
            let parent = object.and_then(|object| object.view::<GitSource>()?.parent());
            object.is_some_and(Object::is_terminating) || parent == Some(source.as_str())
        };
        let other = self.origin(key).filter(|other| other.source != *source)?;
        if goes(&other.source) {
            return None;
        }
        let message = format!(
            "{key} is held by the source {} already ({}): an object has one place; take it out of \
             one of them",
            other.source,
            other.place()
        );
        Some(Problem { file: file.clone(), line: *line, message, ..Problem::default() })
    }

    /// Every object of one source, with its place.
    pub fn origins_in<'a>(
        &'a self,
        source: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Origin)> {
        self.origins().filter(move |(_, origin)| origin.source == source)
    }

    /// One object.
    pub fn object(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// When an event was said last that says just this; `None` when it was not, or that is
    /// forgotten.
    pub fn last_said(&self, event: &NewEvent) -> Option<Timestamp> {
        let said = self.objects.get(&event::key(event))?.view::<Event>()?;
        said.last_timestamp.as_ref().map(Timestamp::from)
    }

    /// One object, typed.
    pub fn get<T>(&self, namespace: &str, name: &str) -> Option<&T>
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        self.objects.get(&Key::of::<T>(namespace, name))?.view()
    }

    /// Every object, ordered by kind, namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects of one kind (and of one namespace when `namespace` is given), ordered by
    /// namespace and name. Costs what it yields.
    pub fn of_kind<'a>(
        &'a self,
        kind: &GroupKind,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let start = Key::new(kind.clone(), namespace.unwrap_or_default(), "");
        let (kind, namespace) = (kind.clone(), namespace.map(SmolStr::from));
        self.objects
            .range((Bound::Included(start), Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(move |object| {
                let key = object.key();
                key.kind == kind && namespace.as_ref().is_none_or(|n| *n == key.namespace)
            })
    }

    /// The objects of one typed kind.
    pub fn list<T>(&self, namespace: Option<&str>) -> impl Iterator<Item = (&Object, &T)>
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        let kind = GroupKind::of::<T>();
        self.of_kind(&kind, namespace).filter_map(|object| Some((object, object.view::<T>()?)))
    }

    /// The objects whose controlling owner has this uid.
    pub fn owned_by(&self, uid: &str) -> impl Iterator<Item = &Object> {
        self.dependents_of(uid).filter(move |object| object.controller_uid() == Some(uid))
    }

    /// The objects that name an owner with this uid, controlled by it or not.
    pub fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Object> {
        let keys = self.owned.get(uid).filter(|_| !uid.is_empty());
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// The kinds of which there is an object. Costs one look for each.
    pub fn stored_kinds(&self) -> impl Iterator<Item = GroupKind> {
        let first = self.objects.keys().next().map(|key| key.kind.clone());
        std::iter::successors(first, |kind| {
            // No namespace and no name sorts behind this one.
            let end = Key::new(kind.clone(), "\u{10ffff}", "");
            let (key, _) = self.objects.range(end..).next()?;
            Some(key.kind.clone())
        })
    }

    /// The objects of one kind and namespace that no owner controls.
    pub fn orphans<'a>(
        &'a self,
        kind: &GroupKind,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let start = Key::new(kind.clone(), namespace, "");
        let (kind, namespace) = (kind.clone(), SmolStr::from(namespace));
        let keys = self.owned.get("").map(|keys| keys.range(start..));
        keys.into_iter()
            .flatten()
            .take_while(move |key| key.kind == kind && key.namespace == namespace)
            .filter_map(|key| self.objects.get(key))
    }

    /// The pods that wait for a node.
    pub fn pods_waiting(&self) -> impl Iterator<Item = &Object> {
        let keys = self.on_node.get(&NodeName::new(""));
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// The objects of one kind that Git owns, with their places. Costs what it yields.
    pub fn origins_of<'a>(
        &'a self,
        kind: &GroupKind,
    ) -> impl Iterator<Item = (&'a Key, &'a Origin)> + use<'a> {
        let kind = kind.clone();
        let start = Key::new(kind.clone(), "", "");
        let all = self.origins.range(start..).map(|(key, origin)| (key, &**origin));
        all.take_while(move |(key, _)| key.kind == kind)
    }

    /// The pods bound to a node.
    pub fn pods_on(&self, node: &NodeName) -> impl Iterator<Item = &Object> {
        let keys = self.on_node.get(node);
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// What must still leave the cluster, oldest first.
    pub fn outbox(&self) -> impl Iterator<Item = (u64, &OutboxItem)> {
        self.outbox.iter().map(|(id, item)| (*id, item))
    }

    /// The commits whose notes must still be written, with their outbox entries.
    pub fn due_notes(&self) -> impl Iterator<Item = (u64, &CommitName)> {
        self.outbox().filter_map(|(id, item)| match item {
            OutboxItem::Note(commit) => Some((id, commit)),
            OutboxItem::Revert(_) | OutboxItem::Notice(_) => None,
        })
    }

    /// What a receiver must still be told, oldest first, with the outbox entries.
    pub fn due_notices<'a>(&'a self, to: &'a str) -> impl Iterator<Item = (u64, &'a Notice)> {
        self.outbox().filter_map(move |(id, item)| match item {
            OutboxItem::Notice(notice) if notice.to == to => Some((id, notice)),
            _ => None,
        })
    }

    /// The failed commits that must still be taken back, with their outbox entries.
    pub fn due_reverts(&self) -> impl Iterator<Item = (u64, &CommitName)> {
        self.outbox().filter_map(|(id, item)| match item {
            OutboxItem::Revert(bad) => Some((id, bad)),
            OutboxItem::Note(_) | OutboxItem::Notice(_) => None,
        })
    }

    /// The revision the status branch shows.
    pub fn exported(&self) -> Revision {
        self.exported
    }

    /// The changes after `revision`, in order; `None` when the history no longer reaches back that
    /// far.
    pub fn changes_since(&self, revision: Revision) -> Option<impl Iterator<Item = &Change>> {
        let first = self.history.front().map_or(self.revision.next(), |c| c.revision);
        if revision.next() < first && revision < self.revision {
            return None;
        }
        let first = self.history.binary_search_by_key(&revision.next(), |c| c.revision);
        let first = first.unwrap_or_else(|at| at);
        // By index: skipping would walk over all that is left out, for each watcher at each change.
        Some((first..self.history.len()).filter_map(|at| self.history.get(at)))
    }

    /// The objects as they were at an earlier revision, made by taking back what changed since;
    /// `None` when the history no longer reaches back that far, or for a revision that is yet to
    /// come. Costs what changed. Nothing but [`object`](Self::object), [`of_kind`](Self::of_kind),
    /// the revision and the kinds (those of today) may be asked of it: the indexes stay empty.
    pub fn at(&self, revision: Revision) -> Option<Self> {
        if revision > self.revision {
            return None;
        }
        let mut objects = self.objects.clone();
        let changes: Vec<&Change> = self.changes_since(revision)?.collect();
        for change in changes.into_iter().rev() {
            match &change.old {
                Some(old) => objects.insert(change.key.clone(), old.clone()),
                None => objects.remove(&change.key),
            };
        }
        let kinds = self.kinds.clone();
        Some(Self { objects, revision, kinds, ..Self::default() })
    }

    /// The Service that holds a ClusterIP.
    pub fn holder_of_address(&self, address: Ipv4Addr) -> Option<&Key> {
        self.addresses.get(&address)
    }

    /// Whether a text is a node's part of the range of pods, and no node has it.
    pub fn is_free_pod_range(&self, range: &str) -> bool {
        let config = self.config().filter(|_| !range.is_empty());
        config.is_some_and(|config| {
            super::allocate::free_pod_ranges(self, config).any(|free| free == range)
        })
    }

    /// The Service that holds a node port.
    pub fn holder_of_port(&self, port: u16) -> Option<&Key> {
        self.node_ports.get(&port)
    }
}
