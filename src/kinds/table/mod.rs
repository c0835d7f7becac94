//! What `kubectl get` prints of each kind: columns, and the cells of one object.
//!
//! In: a [`KindInfo`], an [`Object`] and the time it is looked at. Out: [`Column`]s and JSON cells
//! in the same order, as Kubernetes' server prints them (the golden rows are in
//! `tests/oracle/tables`). Called by the API for `as=Table`. Never looks up another object: a row
//! says what its object says.

mod age;
mod batch;
mod certificate;
mod definition;
mod device;
mod extension;
mod network;
mod node;
mod own;
mod plain;
mod pod;
mod policy;
mod rbac;
mod service;
mod storage;
#[cfg(test)]
mod tests;
mod text;
mod workload;

pub use age::duration;
pub(super) use age::since;
pub(super) use batch::{CRON_JOB, JOB, cron_job, job};
pub(super) use certificate::{
    POD_REQUEST, SIGNING_REQUEST, TRUST_BUNDLE, pod_request, signing_request, trust_bundle,
};
pub(super) use definition::{DEFINITION, definition};
pub(super) use device::{
    DEVICE, DEVICE_TAINT_RULE, RESOURCE_CLAIM, RESOURCE_SLICE, device, device_taint_rule,
    resource_claim, resource_slice,
};
pub(super) use extension::{
    API_SERVICE, FLOW_SCHEMA, MUTATING_POLICY, POLICY_BINDING, PRIORITY_LEVEL, RUNTIME_CLASS,
    VALIDATING_POLICY, WEBHOOKS, api_service, flow_schema, mutating_binding, mutating_policy,
    mutating_webhooks, priority_level, runtime_class, validating_binding, validating_policy,
    validating_webhooks,
};
pub(super) use network::{
    ENDPOINTS, INGRESS, INGRESS_CLASS, IP_ADDRESS, NETWORK_POLICY, SERVICE_CIDR, endpoints,
    ingress, ingress_class, ip_address, network_policy, service_cidr,
};
pub(super) use node::{NODE, node};
pub(super) use own::{COMMIT, FREEZE, GIT_SOURCE, commit, freeze, git_source};
pub(super) use plain::{
    COMPONENT_STATUS, CONFIG_MAP, EVENT, LEASE, NAMESPACE, SECRET, SERVICE_ACCOUNT,
    component_status, config_map, event, lease, namespace, secret, service_account,
};
pub(super) use pod::{POD, pod};
pub(super) use policy::{AUTOSCALER, BUDGET, PRIORITY_CLASS, autoscaler, budget, priority_class};
pub(super) use rbac::{
    BINDING, RESOURCE_QUOTA, cluster_role_binding, resource_quota, role_binding,
};
pub(super) use service::{ENDPOINT_SLICE, SERVICE, endpoint_slice, service};
pub(super) use storage::{
    CSI_DRIVER, CSI_NODE, PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, STORAGE_CLASS,
    VOLUME_ATTACHMENT, VOLUME_ATTRIBUTES_CLASS, csi_driver, csi_node, persistent_volume,
    persistent_volume_claim, storage_class, volume_attachment, volume_attributes_class,
};
pub(super) use workload::{
    CONTROLLER_REVISION, DAEMON_SET, DEPLOYMENT, POD_TEMPLATE, REPLICA_SET, STATEFUL_SET,
    controller_revision, daemon_set, deployment, pod_template, replica_set, replication_controller,
    stateful_set,
};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{KindInfo, registry::Nature};
use crate::model::{Object, Timestamp};

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading (`Up-to-date`); kubectl prints it in capitals.
    pub name: &'static str,
    /// The JSON type of its cells (`string`, `integer`, `boolean`), or `date`.
    pub type_: &'static str,
    /// `name` for the column that holds the object's name, else empty.
    pub format: &'static str,
    /// What the column says, in one sentence.
    pub description: &'static str,
    /// 0 is always shown, 1 only by `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column of texts.
    const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, type_: "string", format: "", description, priority: 0 }
    }

    /// A column of whole numbers.
    const fn number(name: &'static str, description: &'static str) -> Self {
        Self { type_: "integer", ..Self::text(name, description) }
    }

    /// A column of yes and no.
    const fn flag(name: &'static str, description: &'static str) -> Self {
        Self { type_: "boolean", ..Self::text(name, description) }
    }

    /// As it stands in a Table.
    pub(super) fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.type_, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }

    /// Shown by `-o wide` only.
    const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// The name of the object.
pub(super) const NAME: Column = Column {
    format: "name",
    ..Column::text("Name", "The object's name, unique for its kind within its namespace.")
};
/// How long ago it was created.
const AGE: Column = Column::text("Age", "How long ago the object was created.");
const CONTAINERS: Column =
    Column::text("Containers", "The names of the containers of each pod.").wide();
const IMAGES: Column = Column::text("Images", "The images of the containers of each pod.").wide();
const SELECTOR: Column =
    Column::text("Selector", "The labels by which the object finds its pods.").wide();

/// What a kind without columns of its own shows.
const BARE: [Column; 2] =
    [NAME, Column { type_: "date", ..Column::text("Created At", "When the object was created.") }];

/// The cells of an object; `None` when it does not decode as its kind.
type Cells = fn(&Object, Timestamp) -> Option<Vec<Value>>;

/// How one kind is printed; part of its row in the registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    pub(super) cells: Cells,
}

/// Name and time of creation, for a kind that says nothing else.
pub(super) const PLAIN: Table = Table { columns: &BARE, cells: bare };

fn bare(object: &Object, _: Timestamp) -> Option<Vec<Value>> {
    let created = object.meta().creation_timestamp.as_ref();
    let created = created.map_or(Value::Null, |t| Timestamp::from(t).to_string().into());
    Some(vec![text::name(object), created])
}

/// The columns of a kind as it is served at `api_version`, as the definitions of a Table.
pub fn definitions(info: &KindInfo, api_version: &str) -> Value {
    match &info.nature {
        Nature::BuiltIn { table, .. } => table.columns.iter().map(Column::definition).collect(),
        Nature::Custom(custom) => custom.columns(api_version),
    }
}

/// The columns of a built-in kind; none for a custom one.
pub fn columns(info: &KindInfo) -> &'static [Column] {
    match &info.nature {
        Nature::BuiltIn { table, .. } => table.columns,
        Nature::Custom(_) => &[],
    }
}

/// The cells of one object, one for each of [`definitions`], as of `now`.
///
/// An object that does not decode as its kind shows its name and nothing else.
pub fn cells(info: &KindInfo, api_version: &str, object: &Object, now: Timestamp) -> Vec<Value> {
    let table = match &info.nature {
        Nature::BuiltIn { table, .. } => table,
        Nature::Custom(custom) => return custom.cells(api_version, object, now),
    };
    (table.cells)(object, now).unwrap_or_else(|| {
        let cell = |c: &Column| if c.format == "name" { text::name(object) } else { Value::Null };
        table.columns.iter().map(cell).collect()
    })
}

/// The conditions of a row: a pod that has run to its end is `Completed`, so that kubectl can leave
/// it out.
pub fn conditions(object: &Object) -> Vec<Value> {
    let phase = object.view::<Pod>().and_then(|p| p.status.as_ref()?.phase.as_deref());
    let (reason, message) = match phase {
        Some("Succeeded") => ("Succeeded", "The pod has completed successfully."),
        Some("Failed") => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![json!({ "type": "Completed", "status": "True", "reason": reason, "message": message })]
}
