//! Pods that outlived their cluster.
//!
//! A cluster that is made anew from its repository meets nodes on which the containers of the one
//! before still run. Their agents say which pods those are; here is decided what becomes of them. A
//! survivor takes the place of a pod that this cluster made itself and that waits for a node, when
//! the two are one of the same: of the same ReplicaSet, or alone under the same name, and of the
//! same spec. So an agent brings names, addresses and how its containers fare, and never what a pod
//! may be. What finds no place is not told to its node, which then removes it.
//!
//! As long as nodes are awaited that the status branch names, no pod is given to a node: it would
//! run a second time what comes back with the others.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::ReplicaSet,
        core::v1::{Node, Pod},
    },
    jiff,
};
use serde_json::Value;

use super::{
    batch::{Batch, PREFIX_MAX},
    pods,
};
use crate::{
    kinds::{self, GitSource},
    model::{
        Cidr, Key, NodeName, Object, Timestamp,
        session::{Hello, Survivor},
    },
    state::{Command, Keep, MAIN_SOURCE, View},
};

/// Until when a node is awaited that the cluster before this one had (RFC 3339).
const AWAITED: &str = "node.mainstay.io/awaited-until";

/// Who says what becomes of survivors.
const NAME: &str = "survivor-controller";

/// The reason of a pod that waits for nodes to come back.
pub(super) const WAITING: &str = "AwaitingNodes";

/// Longest end of a generated name; those made here have five characters.
const SUFFIX_MAX: usize = 10;

/// How many nodes a reason names; of more it says how many there are.
const NAMED_MAX: usize = 3;

/// What agents brought, until it is decided what becomes of it.
///
/// Kept out of the log as leases are: an agent brings it again to the next leader, until it was
/// told what to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survivors(BTreeMap<NodeName, Vec<Survivor>>);

impl Survivors {
    /// Takes what a node's agent says it still runs. What has no uid or is on its way out is
    /// nothing to keep. Gives how many there are.
    pub fn bring(&mut self, node: &NodeName, mut pods: Vec<Survivor>) -> usize {
        pods.retain(|s| s.pod.key().is::<Pod>() && !s.pod.uid().is_empty() && !is_ending(s));
        let count = pods.len();
        self.0.insert(node.clone(), pods);
        count
    }

    /// Forgets what a node's agent said; tells whether it had said something.
    pub fn leave(&mut self, node: &NodeName) -> bool {
        self.0.remove(node).is_some()
    }

    /// Whether no agent has brought anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many a node's agent brought, and how many of them have become pods of this cluster.
    pub fn kept_of(&self, view: &View, node: &NodeName) -> (usize, usize) {
        let brought = self.0.get(node).map(Vec::as_slice).unwrap_or_default();
        (brought.len(), brought.iter().filter(|survivor| is_here(view, survivor)).count())
    }

    /// How many have no place yet.
    pub fn waiting(&self, view: &View) -> usize {
        self.homeless(view).count()
    }

    /// Those that have no place yet.
    fn homeless<'a>(
        &'a self,
        view: &'a View,
    ) -> impl Iterator<Item = (&'a NodeName, &'a Survivor)> {
        let all = self.0.iter().flat_map(|(node, pods)| pods.iter().map(move |pod| (node, pod)));
        all.filter(|(_, survivor)| !is_here(view, survivor))
    }

    /// How many pods of a ReplicaSet look for a place that nothing waits in.
    pub(super) fn of_set(&self, view: &View, set: &Key) -> usize {
        let homeless = self.homeless(view).filter(|(_, s)| place(&s.pod).as_ref() == Some(set));
        let uid = view.object(set).map(Object::uid).unwrap_or_default();
        let waits = |pod: &&Object| pod.view::<Pod>().is_some_and(|pod| pods::node(pod).is_none());
        homeless.count().saturating_sub(view.owned_by(uid).filter(waits).count())
    }
}

fn is_ending(survivor: &Survivor) -> bool {
    survivor.pod.is_terminating() || survivor.status.phase.as_deref() != Some("Running")
}

/// Whether a survivor has become a pod of this cluster.
fn is_here(view: &View, survivor: &Survivor) -> bool {
    view.object(survivor.pod.key()).is_some_and(|pod| pod.uid() == survivor.pod.uid())
}

/// Where a pod belongs: its ReplicaSet, or its own name when it stands for itself. Pods of Jobs
/// belong nowhere: the Job counts its own. Neither do hooks: they run again with their commit.
fn place(pod: &Object) -> Option<Key> {
    let owners = pod.owners().iter();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    match controllers.next() {
        Some(owner) if owner.kind == "ReplicaSet" => {
            Some(Key::of::<ReplicaSet>(&pod.key().namespace, &owner.name))
        }
        Some(_) => None,
        None => Some(pod.key().clone()).filter(|_| kinds::order(pod).hook.is_none()),
    }
}

/// The survivors that look for a place.
pub(super) struct Offers<'a> {
    view: &'a View,
    by_place: BTreeMap<Key, Vec<(&'a NodeName, &'a Survivor)>>,
}

impl<'a> Offers<'a> {
    /// Those of all nodes whose addresses are good in this cluster.
    pub(super) fn of(view: &'a View, survivors: &'a Survivors) -> Self {
        let mut by_place: BTreeMap<Key, Vec<_>> = BTreeMap::new();
        for (node, survivor) in survivors.homeless(view) {
            let good = is_on(view, node, survivor);
            if let Some(place) = place(&survivor.pod).filter(|_| good) {
                by_place.entry(place).or_default().push((node, survivor));
            }
        }
        Self { view, by_place }
    }

    /// The survivor that takes the place of a pod which has no node yet.
    pub(super) fn take(&mut self, pod: &Object) -> Option<(&'a NodeName, &'a Survivor)> {
        let offers = self.by_place.get_mut(&place(pod)?)?;
        let view = self.view;
        let is_free = |survivor: &Survivor| {
            survivor.pod.key() == pod.key() || view.object(survivor.pod.key()).is_none()
        };
        let at =
            offers.iter().position(|(_, survivor)| is_free(survivor) && is_same(pod, survivor));
        at.map(|at| offers.remove(at))
    }
}

/// Whether a survivor is called as its ReplicaSet could have called it: its node says so, and names
/// go into paths.
fn is_named_as(pod: &Object, survivor: &Survivor) -> bool {
    let name = survivor.pod.key().name.as_str();
    let Some(prefix) = &pod.meta().generate_name else { return name == pod.key().name };
    let suffix = name.strip_prefix(&prefix[..prefix.floor_char_boundary(PREFIX_MAX)]);
    suffix.is_some_and(|suffix| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !suffix.is_empty() && suffix.len() <= SUFFIX_MAX && suffix.bytes().all(plain)
    })
}

/// Whether a pod would be what the survivor is: under its name, apart from the node.
fn is_same(pod: &Object, survivor: &Survivor) -> bool {
    if !is_named_as(pod, survivor) {
        return false;
    }
    let spec = |mut value: Value| {
        let mut spec = value["spec"].take();
        if let Some(fields) = spec.as_object_mut() {
            fields.remove("nodeName");
        }
        spec
    };
    let renamed = kinds::renamed_pod(pod, &survivor.pod.key().name);
    spec(renamed) == spec(survivor.pod.value())
}

/// Whether a survivor is where its agent is, with an address of that node's range.
fn is_on(view: &View, node: &NodeName, survivor: &Survivor) -> bool {
    let spec = survivor.pod.view::<Pod>().and_then(|pod| pod.spec.as_ref());
    if spec.is_none_or(|spec| spec.node_name.as_deref() != Some(node.as_str())) {
        return false;
    }
    let node = view.get::<Node>("", node.as_str()).and_then(|node| node.spec.as_ref());
    let range: Option<Cidr> = node.and_then(|node| node.pod_cidr.as_ref()?.parse().ok());
    let ip = survivor.status.pod_ip.as_deref().and_then(|ip| ip.parse().ok());
    let of_host = spec.is_some_and(|spec| spec.host_network == Some(true));
    of_host || range.zip(ip).is_some_and(|(range, ip)| range.contains(ip))
}

/// Puts a survivor in the place of a pod, and tells so.
pub(super) fn keep(pod: &Object, node: &NodeName, survivor: &Survivor) -> Vec<Command> {
    let keep = Keep {
        pod: pod.key().clone(),
        uid: pod.uid().to_owned(),
        node: node.clone(),
        name: survivor.pod.key().name.clone(),
        survivor: survivor.pod.uid().to_owned(),
        status: serde_json::to_value(&*survivor.status).unwrap_or_default(),
    };
    let mut batch = Batch::default();
    let message = format!("Goes on running on {node}, as in the cluster before");
    batch.event(&survivor.pod, NAME, "Kept", message);
    let mut commands = vec![Command::Keep(Box::new(keep))];
    commands.extend(batch.into_commands());
    commands
}

/// Why a survivor was not kept.
fn why_not(view: &View, node: &NodeName, survivor: &Survivor) -> String {
    let Some(place) = place(&survivor.pod) else {
        return "what makes it makes its pods anew".to_owned();
    };
    if view.object(&place).is_none() {
        return format!("there is no {place} any more");
    }
    match is_on(view, node, survivor) {
        true => format!("{place} asks for another pod, or for no more of them"),
        false => "its address is not of the node's pod range".to_owned(),
    }
}

// --- nodes that are awaited ---

/// Makes a node awaited until a moment.
pub(super) fn await_until(node: &mut Value, until: Timestamp) {
    node["metadata"]["annotations"][AWAITED] = until.to_string().into();
}

/// Until when a node is awaited; `None` when it is not.
pub(super) fn awaited_until(node: &Object) -> Option<Timestamp> {
    let until: jiff::Timestamp = node.annotation(AWAITED)?.parse().ok()?;
    Some(Timestamp(until.as_millisecond()))
}

/// A node without the word that it is awaited.
pub(super) fn arrived(node: &Node) -> Node {
    let mut node = node.clone();
    if let Some(annotations) = node.metadata.annotations.as_mut() {
        annotations.remove(AWAITED);
    }
    node
}

/// What all pods that have no node wait for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) until: Timestamp,
    pub(super) why: String,
}

/// How many nodes are awaited that the cluster before this one had.
pub fn awaited(view: &View, now: Timestamp) -> usize {
    let nodes = view.list::<Node>(None);
    nodes.filter(|(node, _)| awaited_until(node).is_some_and(|until| until > now)).count()
}

/// The wait for nodes, while there is one. Costs a pass over the nodes.
pub(super) fn wait(view: &View, now: Timestamp) -> Option<Wait> {
    let nodes = view.list::<Node>(None).filter_map(|(node, _)| Some((node, awaited_until(node)?)));
    let awaited: Vec<(&Object, Timestamp)> = nodes.filter(|(_, until)| *until > now).collect();
    let until = awaited.iter().map(|(_, until)| *until).max()?;
    let named = awaited.iter().take(NAMED_MAX).map(|(node, _)| node.key().name.as_str());
    let mut names = named.collect::<Vec<_>>().join(", ");
    if awaited.len() > NAMED_MAX {
        names += &format!(" and {} more", awaited.len() - NAMED_MAX);
    }
    let why = format!("waits for what still runs on {names} of the cluster before, until {until}");
    Some(Wait { until, why })
}

// --- sessions ---

/// The picture in which the controllers had nothing more to say, and whose survivors they knew.
#[derive(Clone, Debug, Default)]
pub struct Rested {
    view: View,
    nodes: BTreeSet<NodeName>,
}

impl Rested {
    /// Nothing more is to be done about `view` and these survivors.
    pub fn new(view: &View, survivors: &Survivors) -> Self {
        Self { view: view.clone(), nodes: survivors.0.keys().cloned().collect() }
    }

    /// Whether it is decided what becomes of a node's survivors: everything that Git has to say was
    /// read, and all that follows from it was done.
    fn has_judged(&self, node: &NodeName) -> bool {
        let is_read = |(object, source): (&Object, &GitSource)| {
            source.spec.suspend
                || self.view.head_of(&object.key().name).is_some()
                || source.spec.is_by_unit() && source.status.admitted_commit.is_some()
        };
        self.nodes.contains(node)
            && self.view.head_of(MAIN_SOURCE).is_some()
            && self.view.list::<GitSource>(None).all(is_read)
    }
}

/// A node's session from its hello until its agent may be told what the node shall run.
///
/// What an agent is not told it removes. So one that brought survivors is told nothing before it is
/// decided what becomes of them, and before all nodes are back that are awaited: what the proxies
/// of a node send to would be gone until then. Before this cluster runs a commit nothing is
/// decided, however long that takes; from then on it takes at most the time for which nodes are
/// awaited.
#[derive(Debug)]
pub struct Homecoming {
    node: NodeName,
    /// How many survivors the agent brought; `None` before it has said so.
    brought: Option<usize>,
    /// When it is told in any case.
    until: Option<Timestamp>,
    /// Users were told what was not kept.
    told: bool,
    /// The agent is told what to run; nothing is waited for any more.
    is_home: bool,
}

/// What to do about a session.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Nothing before something changes, or before this moment.
    Wait(Option<Timestamp>),
    /// Propose these, then ask again.
    Propose(Vec<Command>),
    /// Tell the agent what its node shall run.
    Tell,
}

impl Homecoming {
    /// A session that begins, in the cluster of this id.
    pub fn of(hello: &Hello, cluster: &str) -> Self {
        let elsewhere = !hello.cluster.is_empty() && hello.cluster != cluster;
        let brought = (!elsewhere).then_some(0);
        Self { node: hello.node.clone(), brought, until: None, told: false, is_home: false }
    }

    /// The node.
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Whether the agent is of another cluster, and has not said yet what it brings.
    pub fn is_asked(&self) -> bool {
        self.brought.is_none()
    }

    /// The agent has said how much it brings.
    pub fn bring(&mut self, count: usize) {
        self.brought = Some(count);
    }

    /// What to do now. `return_seconds` is how long nodes are awaited.
    pub fn next(
        &mut self,
        view: &View,
        rested: &Rested,
        survivors: &Survivors,
        (now, return_seconds): (Timestamp, i64),
    ) -> Next {
        let Some(brought) = self.brought else { return Next::Wait(None) };
        if view.head_of(MAIN_SOURCE).is_some() {
            self.until.get_or_insert(now.plus_seconds(return_seconds));
        }
        let in_time = self.until.is_none_or(|until| now < until);
        let patient = brought > 0 && in_time && !self.is_home;
        if patient && !rested.has_judged(&self.node) {
            return Next::Wait(self.until);
        }
        let commands = self.arrive(view, survivors);
        if !commands.is_empty() {
            return Next::Propose(commands);
        }
        match wait(view, now).filter(|_| patient) {
            Some(wait) => Next::Wait(self.until.map(|until| until.min(wait.until))),
            None => {
                self.is_home = true;
                Next::Tell
            }
        }
    }

    /// Lets the node be awaited no more, and tells once what was not kept.
    fn arrive(&mut self, view: &View, survivors: &Survivors) -> Vec<Command> {
        let object = view.object(&Key::of::<Node>("", self.node.as_str()));
        let Some((object, node)) = object.and_then(|o| Some((o, o.view::<Node>()?))) else {
            return Vec::new();
        };
        let (mut arrival, mut events) = (Batch::default(), Batch::default());
        if awaited_until(object).is_some() {
            arrival.update(object, &arrived(node));
        }
        if !std::mem::replace(&mut self.told, true) {
            for why in self.lost(view, survivors) {
                events.warning(object, NAME, "NotKept", why);
            }
        }
        [arrival.into_commands(), events.into_commands()].concat()
    }

    /// What was not kept, and why.
    pub fn lost(&self, view: &View, survivors: &Survivors) -> Vec<String> {
        let all = survivors.0.get(&self.node).into_iter().flatten();
        let lost = all.filter(|survivor| !is_here(view, survivor));
        let why =
            |s: &Survivor| format!("{} is not kept: {}", s.pod.key(), why_not(view, &self.node, s));
        lost.map(why).collect()
    }
}
