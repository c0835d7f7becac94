//! What one agent is told: its own pods and what they use, and of everybody's objects what its
//! network needs.
//!
//! This is also who may read what: an agent never gets a Secret or ConfigMap that no pod on it
//! uses.
//!
//! And it is when a pod may be asked to end: its node learns of the deletion only once no proxy
//! sends there any more ([`Told::update`]), so that a rolling update loses no request.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{ConfigMap, EnvFromSource, EnvVar, Node, Pod, PodSpec, Secret, Service, Volume},
    discovery::v1::{Endpoint, EndpointSlice},
};

use crate::{
    model::{Key, NodeName, Object, Revision, Timestamp, session::Desired},
    state::View,
};

/// Most bytes of objects in one frame; a larger set goes in parts. A quarter of what a frame may
/// hold.
const PART_BYTES_MAX: usize = 4 << 20;

/// How long after its deletion a pod runs on at most because a proxy has not confirmed that it
/// sends there no more. A proxy programs in well under a second, even on a busy machine; one that
/// does not confirm by then is broken, and a broken node must not keep every other node's pods from
/// ending.
pub const CONFIRM_SECONDS_MAX: i64 = 5;

/// What was sent over one session.
#[derive(Debug)]
pub struct Told {
    node: NodeName,
    sent: BTreeMap<Key, Sent>,
    at: Option<Revision>,
    /// Pods whose deletion the agent is not told yet.
    held: BTreeMap<Key, Hold>,
}

/// What the agent knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    revision: Revision,
    terminating: bool,
}

/// Why an agent is not told of a deletion yet.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// The generation that proxies must have programmed; unknown while a Service still lists the
    /// pod as usable.
    after: Option<Revision>,
    /// When it is told anyway.
    until: Timestamp,
}

impl Told {
    /// A session that was told nothing yet.
    pub fn nothing(node: NodeName) -> Self {
        Self { node, sent: BTreeMap::new(), at: None, held: BTreeMap::new() }
    }

    /// What to send so that the agent knows `view`; empty when nothing that concerns it changed.
    ///
    /// The deletion of a pod is kept back until the proxies of all nodes in `programmed` (those
    /// with a session, and the generation each has confirmed) have the EndpointSlices that took the
    /// pod out, at most [`CONFIRM_SECONDS_MAX`] after the deletion. A session that begins is told
    /// everything as it is: what an agent knew before is not known here, and a pod that it already
    /// stops must not look alive again.
    pub fn update(
        &mut self,
        view: &View,
        programmed: &BTreeMap<NodeName, Revision>,
        now: Timestamp,
    ) -> Vec<Desired> {
        let whole = self.at.is_none();
        if !whole && self.held.is_empty() && !self.concerned(view) {
            self.at = Some(view.revision());
            return Vec::new();
        }
        self.at = Some(view.revision());
        let wanted = objects_for(view, &self.node);
        self.held = self.holds(view, &wanted, programmed, now);
        let sent = |o: &Object| self.sent.get(o.key()).map(|sent| sent.revision);
        let upserts: Vec<Object> = wanted
            .values()
            .filter(|o| sent(o) != Some(o.revision()) && !self.held.contains_key(o.key()))
            .cloned()
            .collect();
        let deletes: Vec<Key> =
            self.sent.keys().filter(|k| !wanted.contains_key(*k)).cloned().collect();
        if !whole && upserts.is_empty() && deletes.is_empty() {
            return Vec::new();
        }
        self.sent.retain(|key, _| wanted.contains_key(key));
        for object in &upserts {
            let (revision, terminating) = (object.revision(), object.is_terminating());
            self.sent.insert(object.key().clone(), Sent { revision, terminating });
        }
        parts(view.revision(), whole, upserts, deletes)
    }

    /// When to update again although nothing changes; `None` while no deletion is kept back.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.held.values().map(|hold| hold.until).min()
    }

    /// The deletions to keep back.
    fn holds(
        &self,
        view: &View,
        wanted: &BTreeMap<Key, Object>,
        programmed: &BTreeMap<NodeName, Revision>,
        now: Timestamp,
    ) -> BTreeMap<Key, Hold> {
        let news = |o: &&Object| self.sent.get(o.key()).is_some_and(|sent| !sent.terminating);
        let deleted = wanted.values().filter(|o| o.is_terminating() && o.key().is::<Pod>());
        let hold = |object: &Object| {
            let until = deleted_at(object)?.plus_seconds(CONFIRM_SECONDS_MAX);
            let before = self.held.get(object.key()).and_then(|hold| hold.after);
            let after = before.or_else(|| taken_out_at(view, object));
            let confirmed = |after| programmed.values().all(|at| *at >= after);
            let over = now >= until || after.is_some_and(confirmed);
            (!over).then(|| (object.key().clone(), Hold { after, until }))
        };
        deleted.filter(news).filter_map(hold).collect()
    }

    /// Whether any change since the last update can concern this node. Says yes when in doubt.
    fn concerned(&self, view: &View) -> bool {
        let Some(mut changes) = self.at.and_then(|at| view.changes_since(at)) else { return true };
        changes.any(|change| {
            let key = &change.key;
            is_for_everybody(key)
                || self.sent.contains_key(key)
                || change.new.as_ref().is_some_and(|o| is_on(o, &self.node))
                || key.is::<ConfigMap>()
                || key.is::<Secret>()
        })
    }
}

fn is_for_everybody(key: &Key) -> bool {
    key.is::<Service>() || key.is::<EndpointSlice>() || key.is::<Node>()
}

/// When a pod's deletion was asked for: its deadline less its grace period.
fn deleted_at(object: &Object) -> Option<Timestamp> {
    let deadline = object.meta().deletion_timestamp.as_ref().map(Timestamp::from)?;
    let grace = object.meta().deletion_grace_period_seconds.unwrap_or_default();
    Some(deadline.plus_seconds(-grace))
}

/// The revision by which every EndpointSlice of the namespace had the pod out; `None` while one
/// still has it in. Later changes of the same slices may raise what this gives, so it is asked
/// once.
fn taken_out_at(view: &View, pod: &Object) -> Option<Revision> {
    let mut newest = Revision::default();
    for (object, slice) in view.list::<EndpointSlice>(Some(&pod.key().namespace)) {
        if slice.endpoints.iter().flatten().any(|e| is_of(e, pod) && is_usable(e)) {
            return None;
        }
        newest = newest.max(object.revision());
    }
    Some(newest)
}

fn is_of(endpoint: &Endpoint, pod: &Object) -> bool {
    endpoint.target_ref.as_ref().and_then(|t| t.uid.as_deref()) == Some(pod.uid())
}

/// Whether proxies send there although others could take it.
fn is_usable(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let terminating = conditions.and_then(|c| c.terminating) == Some(true);
    !terminating && conditions.and_then(|c| c.ready) != Some(false)
}

fn is_on(object: &Object, node: &NodeName) -> bool {
    let spec = object.view::<Pod>().and_then(|pod| pod.spec.as_ref());
    spec.and_then(|s| s.node_name.as_deref()) == Some(node.as_str())
}

/// Everything one agent needs, and nothing else.
pub fn objects_for(view: &View, node: &NodeName) -> BTreeMap<Key, Object> {
    let mut wanted: BTreeMap<Key, Object> = BTreeMap::new();
    let mut add = |object: &Object| {
        wanted.insert(object.key().clone(), object.clone());
    };
    view.list::<Service>(None).for_each(|(object, _)| add(object));
    view.list::<EndpointSlice>(None).for_each(|(object, _)| add(object));
    view.list::<Node>(None).for_each(|(object, _)| add(object));
    for object in view.pods_on(node) {
        add(object);
        let spec = object.view::<Pod>().and_then(|pod| pod.spec.as_ref());
        let used = spec.map(|spec| used_by(spec, &object.key().namespace)).unwrap_or_default();
        used.iter().filter_map(|key| view.object(key)).for_each(&mut add);
    }
    wanted
}

/// The ConfigMaps and Secrets a pod names, whether they exist or not.
pub fn used_by(spec: &PodSpec, namespace: &str) -> BTreeSet<Key> {
    let mut used = BTreeSet::new();
    let mut map = |name: &str| {
        used.insert(Key::of::<ConfigMap>(namespace, name));
    };
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let env = || containers().flat_map(|c| c.env.iter().flatten());
    let env_from = || containers().flat_map(|c| c.env_from.iter().flatten());
    env().filter_map(config_map_of_env).for_each(&mut map);
    env_from().filter_map(config_map_of_env_from).for_each(&mut map);
    spec.volumes.iter().flatten().flat_map(config_maps_of_volume).for_each(&mut map);
    let mut secret = |name: &str| {
        used.insert(Key::of::<Secret>(namespace, name));
    };
    env().filter_map(secret_of_env).for_each(&mut secret);
    env_from().filter_map(secret_of_env_from).for_each(&mut secret);
    spec.volumes.iter().flatten().flat_map(secrets_of_volume).for_each(&mut secret);
    spec.image_pull_secrets.iter().flatten().for_each(|s| secret(&s.name));
    used
}

fn config_map_of_env(env: &EnvVar) -> Option<&str> {
    Some(&env.value_from.as_ref()?.config_map_key_ref.as_ref()?.name)
}

fn secret_of_env(env: &EnvVar) -> Option<&str> {
    Some(&env.value_from.as_ref()?.secret_key_ref.as_ref()?.name)
}

fn config_map_of_env_from(from: &EnvFromSource) -> Option<&str> {
    Some(&from.config_map_ref.as_ref()?.name)
}

fn secret_of_env_from(from: &EnvFromSource) -> Option<&str> {
    Some(&from.secret_ref.as_ref()?.name)
}

fn config_maps_of_volume(volume: &Volume) -> Vec<&str> {
    let own = volume.config_map.as_ref().map(|c| c.name.as_str());
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    own.into_iter()
        .chain(projected.filter_map(|s| Some(s.config_map.as_ref()?.name.as_str())))
        .collect()
}

fn secrets_of_volume(volume: &Volume) -> Vec<&str> {
    let own = volume.secret.as_ref().and_then(|s| s.secret_name.as_deref());
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    own.into_iter()
        .chain(projected.filter_map(|s| Some(s.secret.as_ref()?.name.as_str())))
        .collect()
}

fn parts(
    generation: Revision,
    whole: bool,
    upserts: Vec<Object>,
    deletes: Vec<Key>,
) -> Vec<Desired> {
    let part = |whole| Desired { generation, whole, more: true, upserts: vec![], deletes: vec![] };
    let mut parts = vec![Desired { deletes, ..part(whole) }];
    let mut bytes = 0;
    for object in upserts {
        bytes += object.bytes().len();
        if bytes > PART_BYTES_MAX {
            parts.push(part(false));
            bytes = object.bytes().len();
        }
        if let Some(last) = parts.last_mut() {
            last.upserts.push(object);
        }
    }
    if let Some(last) = parts.last_mut() {
        last.more = false;
    }
    parts
}
