//! The table of kinds.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::{
    Resource,
    api::{
        apps::v1::{Deployment, ReplicaSet},
        coordination::v1::Lease,
        core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount},
        discovery::v1::EndpointSlice,
    },
};
use serde_json::Value;

use super::{
    Commit, FieldError, GitSource, Kind,
    decode::{self, Decoded, Strictness},
    door, names,
};
use crate::model::{GroupKind, Object};

/// One kind as discovery, `kubectl` and the controllers see it.
#[derive(Debug)]
pub struct KindInfo {
    /// `apps`; empty for the core group.
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `apps/v1`
    pub api_version: &'static str,
    /// `Deployment`
    pub kind: &'static str,
    /// `deployments`, as in paths.
    pub plural: &'static str,
    /// `deployment`
    pub singular: &'static str,
    /// `deploy`
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Made by the cluster itself (nodes, leases, events, endpoints, commits): refused when it
    /// comes from Git.
    pub runtime: bool,
    /// Whether `metadata.generation` counts the changes of its spec.
    pub generation: bool,
    /// Whether there is a `/status` path, so that the main path leaves the status alone.
    pub status: bool,
    /// Place in the order of applying: lower ones first.
    pub apply_order: u8,
    /// The rule for names.
    pub(super) name_rule: fn(&str) -> Vec<String>,
    pub(super) door: Door,
}

/// What the door does for one kind; function pointers, so that the table is a value.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) admit: fn(&KindInfo, Value, Strictness) -> Result<Decoded, Vec<FieldError>>,
    pub(super) create: fn(&KindInfo, Value) -> Option<Value>,
    pub(super) update: fn(&KindInfo, door::Pair) -> door::Updated,
    pub(super) decodes: fn(&Object) -> bool,
    pub(super) schema: fn() -> Value,
    pub(super) define: fn(&mut schemars::SchemaGenerator) -> String,
}

impl KindInfo {
    /// The kind within its group.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group, self.kind)
    }

    /// Starts an entry for `T` with what most kinds have.
    fn of<T: Kind>(singular: &'static str, apply_order: u8) -> Self {
        Self {
            group: <T as Resource>::GROUP,
            version: <T as Resource>::VERSION,
            api_version: <T as Resource>::API_VERSION,
            kind: <T as Resource>::KIND,
            plural: <T as Resource>::URL_PATH_SEGMENT,
            singular,
            short_names: &[],
            categories: &[],
            namespaced: true,
            runtime: false,
            generation: false,
            status: false,
            apply_order,
            name_rule: names::dns1123_subdomain,
            door: Door {
                admit: decode::admit::<T>,
                create: door::create_as::<T>,
                update: door::update_as::<T>,
                decodes: decode::decodes::<T>,
                schema: super::schemas::schema::<T>,
                define: super::definitions::define::<T>,
            },
        }
    }

    fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }
    fn workload(mut self) -> Self {
        self.generation = true;
        self.status = true;
        self.categories = &["all"];
        self
    }
    fn counted(mut self) -> Self {
        self.generation = true;
        self
    }
    fn with_status(mut self) -> Self {
        self.status = true;
        self
    }
    fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }
    fn made_by_cluster(mut self) -> Self {
        self.runtime = true;
        self
    }
    fn name_is(mut self, rule: fn(&str) -> Vec<String>) -> Self {
        self.name_rule = rule;
        self
    }
    fn all(mut self) -> Self {
        self.categories = &["all"];
        self
    }
}

/// The kinds of one API group, a function each, so that a group can be read and grown by itself.
const GROUPS: [fn() -> Vec<KindInfo>; 6] =
    [core_group, apps_group, coordination_group, discovery_group, events_group, own_group];

fn core_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<Namespace>("namespace", 0)
            .short(&["ns"])
            .cluster()
            .with_status()
            .name_is(names::dns1123_label),
        KindInfo::of::<ServiceAccount>("serviceaccount", 1).short(&["sa"]),
        KindInfo::of::<ConfigMap>("configmap", 2).short(&["cm"]),
        KindInfo::of::<Secret>("secret", 2),
        KindInfo::of::<Service>("service", 3)
            .short(&["svc"])
            .with_status()
            .all()
            .name_is(names::dns1123_label),
        KindInfo::of::<Pod>("pod", 4).short(&["po"]).workload(),
        KindInfo::of::<Node>("node", 5).short(&["no"]).cluster().with_status().made_by_cluster(),
    ]
}

fn apps_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<ReplicaSet>("replicaset", 4).short(&["rs"]).workload(),
        KindInfo::of::<Deployment>("deployment", 4).short(&["deploy"]).workload(),
    ]
}

fn coordination_group() -> Vec<KindInfo> {
    vec![KindInfo::of::<Lease>("lease", 5).made_by_cluster()]
}

fn discovery_group() -> Vec<KindInfo> {
    vec![KindInfo::of::<EndpointSlice>("endpointslice", 5).counted()]
}

fn events_group() -> Vec<KindInfo> {
    vec![KindInfo::of::<Event>("event", 5).short(&["ev"]).made_by_cluster()]
}

fn own_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<Commit>("commit", 5).cluster().with_status().made_by_cluster(),
        KindInfo::of::<GitSource>("gitsource", 5).cluster().with_status().made_by_cluster(),
    ]
}

/// Every kind in the order of applying, and where each stands.
struct Registry {
    kinds: Vec<KindInfo>,
    places: BTreeMap<(&'static str, &'static str), usize>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut kinds: Vec<KindInfo> = GROUPS.iter().flat_map(|group| group()).collect();
    kinds.sort_by_key(|info| info.apply_order);
    let places = kinds.iter().enumerate().map(|(at, info)| ((info.group, info.kind), at)).collect();
    Registry { kinds, places }
});

/// Every kind, in the order of applying.
pub fn registry() -> &'static [KindInfo] {
    &REGISTRY.kinds
}

/// What is known of a kind; `None` when it is not served.
pub fn lookup(kind: &GroupKind) -> Option<&'static KindInfo> {
    let place = REGISTRY.places.get(&(kind.group.as_str(), kind.kind.as_str()))?;
    REGISTRY.kinds.get(*place)
}

/// The kind behind a path segment (`apps`, `deployments`).
pub fn lookup_resource(group: &str, plural: &str) -> Option<&'static KindInfo> {
    registry().iter().find(|info| info.plural == plural && info.group == group)
}
