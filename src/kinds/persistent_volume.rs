//! PersistentVolumes: storage that is there before anybody claims it.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use serde_json::{Map, Value};

use super::{Kind, Reason, amount, field::Check, names, pod_defaults::fill, pod_spec, volume};
use crate::model::Quantity;

pub(super) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub(super) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Fields of the spec that say how a volume is used; every other one says where it is.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
/// The order in which Kubernetes looks for sources: the first one found is the volume's.
const ORDER: [&str; 8] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "iscsi",
];

impl Kind for PersistentVolume {
    fn default_fields(&mut self) {
        default_spec(self.spec.get_or_insert_default());
    }

    fn validate(&self, check: &mut Check) {
        if let Some(spec) = &self.spec {
            validate_spec(spec, check);
        }
    }

    fn prepare_create(&mut self) {
        let phase = Some("Pending".to_owned());
        self.status = Some(PersistentVolumeStatus { phase, ..Default::default() });
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (Some(before), Some(after)) = (&live.spec, &self.spec) else { return };
        if sources(before) != sources(after) {
            let field = "spec.persistentvolumesource";
            check.forbidden(field, &format!("{field} is immutable after creation"));
        }
        check.immutable("spec.volumeMode", &before.volume_mode, &after.volume_mode);
        if before.node_affinity.is_some() {
            check.immutable("spec.nodeAffinity", &before.node_affinity, &after.node_affinity);
        }
    }
}

pub(super) fn default_spec(spec: &mut PersistentVolumeSpec) {
    amount::round(spec.capacity.as_mut());
    fill(&mut spec.persistent_volume_reclaim_policy, "Retain");
    fill(&mut spec.volume_mode, "Filesystem");
    // Empty and absent are the same for a volume, though not for a claim.
    spec.storage_class_name.take_if(|name| name.is_empty());
    if let Some(source) = &mut spec.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut spec.iscsi {
        fill(&mut source.iscsi_interface, "default");
    }
    if let Some(source) = &mut spec.rbd {
        fill(&mut source.pool, "rbd");
        fill(&mut source.user, "admin");
        fill(&mut source.keyring, "/etc/ceph/keyring");
    }
    if let Some(source) = &mut spec.scale_io {
        fill(&mut source.storage_mode, "ThinProvisioned");
        fill(&mut source.fs_type, "xfs");
    }
    if let Some(source) = &mut spec.azure_disk {
        fill(&mut source.caching_mode, "ReadWrite");
        fill(&mut source.kind, "Shared");
        fill(&mut source.fs_type, "ext4");
        source.read_only.get_or_insert(false);
    }
}

/// Where the volume is, by the name of the source. More than twenty optional structs: finding those
/// that are set is easier in JSON.
fn sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    let value = serde_json::to_value(spec).unwrap_or(Value::Null);
    let Value::Object(mut map) = value else { return Map::new() };
    map.retain(|key, _| !NOT_SOURCES.contains(&key.as_str()));
    // The only part of a source that may change: the Secret with which it is made larger.
    if let Some(csi) = map.get_mut("csi").and_then(Value::as_object_mut) {
        csi.remove("controllerExpandSecretRef");
    }
    map
}

fn validate_spec(spec: &PersistentVolumeSpec, check: &mut Check) {
    validate_access_modes(spec.access_modes.as_deref().unwrap_or_default(), "", check);
    validate_capacity(spec, check);
    let policy = spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default();
    let policies = ["Delete", "Recycle", "Retain"];
    check.one_of("spec.persistentVolumeReclaimPolicy", policy, &policies);
    let mode = spec.volume_mode.as_deref().unwrap_or_default();
    check.one_of("spec.volumeMode", mode, &VOLUME_MODES);
    if let Some(class) = spec.storage_class_name.as_deref() {
        check.text("spec.storageClassName", class, names::dns1123_subdomain(class));
    }
    validate_affinity(spec, check);
    validate_source(spec, check);
}

/// What volumes and claims share.
pub(super) fn validate_access_modes(modes: &[String], needed: &str, check: &mut Check) {
    let field = "spec.accessModes";
    if modes.is_empty() {
        check.required(field, needed);
    }
    for mode in modes {
        check.one_of(field, mode, &ACCESS_MODES);
    }
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        check.forbidden(field, "may not use ReadWriteOncePod with other access modes");
    }
}

fn validate_capacity(spec: &PersistentVolumeSpec, check: &mut Check) {
    let field = "spec.capacity";
    let capacity = spec.capacity.as_ref().filter(|c| !c.is_empty());
    if capacity.is_none() {
        check.required(field, "");
    }
    if capacity.is_none_or(|c| c.len() > 1 || !c.contains_key("storage")) {
        check.not_supported(field, capacity, &["storage"]);
    }
    for (name, amount) in capacity.into_iter().flatten() {
        if Quantity::of(amount) <= Quantity::ZERO {
            check.invalid(format!("{field}[{name}]"), &amount.0, "must be greater than zero");
        }
    }
}

fn validate_affinity(spec: &PersistentVolumeSpec, check: &mut Check) {
    let field = "spec.nodeAffinity";
    match &spec.node_affinity {
        None if spec.local.is_some() => {
            check.required(field, "Local volume requires node affinity");
        }
        None => {}
        Some(affinity) => match &affinity.required {
            Some(required) => {
                pod_spec::validate_node_selector(&format!("{field}.required"), required, check);
            }
            None => {
                let text = "must specify required node constraints";
                check.required(format!("{field}.required"), text);
            }
        },
    }
}

fn validate_source(spec: &PersistentVolumeSpec, check: &mut Check) {
    let set = sources(spec);
    let mut names: Vec<&str> = set.keys().map(String::as_str).collect();
    names.sort_by_key(|k| ORDER.iter().position(|o| o == k).unwrap_or(ORDER.len()));
    for other in names.iter().skip(1) {
        check.forbidden(format!("spec.{other}"), "may not specify more than 1 volume type");
    }
    if names.is_empty() {
        check.required("spec", "must specify a volume type");
    }
    if let Some(source) = &spec.host_path {
        volume::host_path("spec", source, check);
        let recycled = spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle");
        if recycled && source.path.trim_end_matches('/').is_empty() {
            let text = "may not be 'recycle' for a hostPath mount of '/'";
            check.forbidden("spec.persistentVolumeReclaimPolicy", text);
        }
    }
    if let Some(source) = &spec.nfs {
        volume::nfs("spec", source, check);
    }
    if let Some(source) = &spec.local {
        if source.path.is_empty() {
            check.required("spec.local.path", "");
        } else if source.path.split('/').any(|part| part == "..") {
            check.invalid("spec.local.path", &source.path, "must not contain '..'");
        }
    }
    if let Some(source) = &spec.csi {
        validate_csi_driver("spec.csi.driver", &source.driver, check);
        if source.volume_handle.is_empty() {
            check.required("spec.csi.volumeHandle", "");
        }
    }
}

/// Most characters of the name of a CSI driver.
const DRIVER_NAME_MAX: usize = 63;

/// The name of a CSI driver.
pub(super) fn validate_csi_driver(field: &str, name: &str, check: &mut Check) {
    if name.is_empty() {
        check.required(field, "");
        return;
    }
    if name.len() > DRIVER_NAME_MAX {
        let text = format!("Too long: may not be more than {DRIVER_NAME_MAX} bytes");
        check.error(field, Reason::TooLong, text);
    }
    check.text(field, name, names::dns1123_subdomain(&name.to_lowercase()));
}
