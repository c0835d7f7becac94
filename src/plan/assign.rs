//! What one agent is told: its own pods and what they use, and of everybody's objects what its network needs.
//!
//! This is also who may read what: an agent never gets a Secret or ConfigMap that no pod on it uses.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{ConfigMap, EnvFromSource, EnvVar, Node, Pod, PodSpec, Secret, Service, Volume},
    discovery::v1::EndpointSlice,
};

use crate::{
    model::{Key, NodeName, Object, Revision, session::Desired},
    state::View,
};

/// Most bytes of objects in one frame; a larger set goes in parts. A quarter of what a frame may hold.
const PART_BYTES_MAX: usize = 4 << 20;

/// What was sent over one session.
#[derive(Debug)]
pub struct Told {
    node: NodeName,
    sent: BTreeMap<Key, Revision>,
    at: Option<Revision>,
}

impl Told {
    /// A session that was told nothing yet.
    pub fn nothing(node: NodeName) -> Self {
        Self { node, sent: BTreeMap::new(), at: None }
    }

    /// What to send so that the agent knows `view`; empty when nothing that concerns it changed.
    pub fn update(&mut self, view: &View) -> Vec<Desired> {
        let whole = self.at.is_none();
        if !whole && !self.concerned(view) {
            self.at = Some(view.revision());
            return Vec::new();
        }
        self.at = Some(view.revision());
        let wanted = objects_for(view, &self.node);
        let upserts: Vec<Object> = wanted
            .values()
            .filter(|o| self.sent.get(o.key()) != Some(&o.revision()))
            .cloned()
            .collect();
        let deletes: Vec<Key> =
            self.sent.keys().filter(|k| !wanted.contains_key(*k)).cloned().collect();
        if !whole && upserts.is_empty() && deletes.is_empty() {
            return Vec::new();
        }
        self.sent = wanted.into_iter().map(|(key, o)| (key, o.revision())).collect();
        parts(view.revision(), whole, upserts, deletes)
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
