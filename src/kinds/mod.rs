//! What mainstay knows of each Kubernetes kind, in one registry.
//!
//! JSON values come in, [`Object`]s or [`FieldError`]s go out: [`admit`] is the one door for Git,
//! the API and the controllers (decode strictly, default, validate), [`create`], [`update`],
//! [`adopt`] and [`update_status`] say what of an object its writer may set, [`lookup`] and
//! [`registry()`] describe the kinds. Called by render, api, state and the controllers. Never
//! touches State, clocks or the network: allocated addresses, uids, names and times are given by
//! the caller afterwards.

mod admission_policy;
mod ailment;
mod all;
mod amount;
mod answered;
mod api_access;
mod api_service;
mod certificate;
mod component_status;
mod config_map;
mod container;
mod cron_job;
mod csi;
mod custom;
mod custom_resource_definition;
mod daemon_set;
mod decode;
mod definitions;
mod deployment;
mod deployment_hash;
mod device;
mod disruption_budget;
mod door;
mod endpoint_slice;
mod endpoints;
mod event;
mod field;
mod flow;
mod horizontal_autoscaler;
mod inert;
mod ingress;
mod job;
pub mod json_patch;
mod known;
mod lease;
mod limit_range;
mod meta;
mod names;
mod namespace;
mod network_policy;
mod node;
mod order;
mod own;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_defaults;
mod pod_spec;
mod pod_template;
mod policy_rules;
mod priority_class;
mod probe;
mod rbac;
mod registry;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod rest;
mod rule;
mod runtime_class;
mod schedule;
mod schemas;
mod secret;
mod served;
mod service;
mod service_account;
mod service_cidr;
mod signing_request;
mod stateful_set;
mod storage_class;
mod structural;
pub mod table;
mod tally;
#[cfg(test)]
mod tests;
mod tidy;
pub mod types;
mod unit;
pub mod usage;
mod volume;
mod webhook;

pub use ailment::{Ailment, ailment, steady};
pub use all::{Kinds, Served};
pub use answered::{ANSWERED, Answered, ContainerMetrics, METRICS, NodeMetrics, PodMetrics};
pub use api_access::{give_api_access, renamed_pod};
pub use api_service::{group_priority, group_versions};
pub use container::of_ephemeral;
pub use cron_job::is_run_of;
pub use custom::{CLEANUP, ScalePaths, accept_names, mark_for_cleanup};
pub use decode::Strictness;
pub use definitions::{Definitions, each_subschema};
pub use deployment_hash::template_hash;
pub use door::{
    Admitted, LAST_APPLIED, admit_built_in as admit, adopt, create_built_in as create, to_object,
    update, update_status,
};
pub use field::{FieldError, Reason};
pub use job::with_own_selector;
pub use known::{known_kubernetes_kind, unsupported};
pub use order::{Apply, Hook, HookPhase, Order, OrderFault, order, order_faults};
pub use own::{
    API_VERSION, Commit, CommitChanges, CommitFailure, CommitHold, CommitSpec, CommitState,
    CommitStatus, CommitTimings, Freeze, FreezeSpec, GROUP, GitReference, GitSource,
    GitSourceJudged, GitSourceSpec, GitSourceStatus, NoticeKind, OnFailure, PathDeadline,
    PruneSpec, RevertState, VerifyMode, VerifySpec,
};
pub use pod::{only_by_own_path, qos_class};
pub use policy_rules::{Objection, PolicyRules, Sight};
pub use priority_class::SYSTEM_PRIORITY_CLASSES;
pub use registry::{KindInfo, lookup, lookup_resource, registry};
pub use rest::Subresource;
pub use schedule::{Schedule, Zone};
pub use schemas::{field_names, schemas};
pub use served::ServedAs;
pub use service::{needs_cluster_ip, needs_node_ports};
pub use signing_request::Asked;
pub use tally::{COMMIT_SECONDS, CommitTally};
pub use unit::{Atomic, GitSourceUnits};

use field::Check;
use k8s_openapi::{Metadata, Resource, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

#[cfg(doc)]
use crate::model::Object;

/// What one kind adds to the rules that hold for all: implemented in one file per kind.
trait Kind:
    Resource
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + schemars::JsonSchema
    + Send
    + Sync
    + 'static
{
    /// Fields (as JSON pointers) whose absence differs from their emptiness; found absent, they
    /// stand in `Check::absent`.
    const NEEDED: &'static [&'static str] = &[];

    /// Fields that hold a quantity or a map of them, beside those that have one in every kind
    /// (`limits`, `requests`, …).
    const QUANTITIES: &'static [&'static str] = &[];

    /// Fills what the author may leave out.
    fn default_fields(&mut self) {}

    /// Finds what is wrong, metadata aside.
    fn validate(&self, _check: &mut Check) {}

    /// Sets what a new object starts with and takes away what only the cluster may set.
    fn prepare_create(&mut self) {}

    /// Carries over from `live` what an update does not say (allocated addresses, …).
    fn prepare_update(&mut self, _live: &Self) {}

    /// Carries over from `live` what Git never says though the API may (the node of a pod, …).
    fn prepare_adopt(&mut self, _live: &Self) {}

    /// Finds what must not change.
    fn validate_update(&self, _live: &Self, _check: &mut Check) {}

    /// Puts into the JSON what Kubernetes writes and the type cannot say (`rules: null`).
    fn written(_value: &mut Value) {}
}
