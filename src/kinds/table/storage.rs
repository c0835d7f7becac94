//! Volumes, claims, classes and their drivers.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment, VolumeAttributesClass},
};
use serde_json::Value;

use super::{
    AGE, Column, NAME,
    age::age,
    text::{joined, name},
};
use crate::model::{Object, Timestamp};

const CAPACITY: Column = Column::text("Capacity", "How much it holds.");
const ACCESS_MODES: Column =
    Column::text("Access Modes", "How many nodes may read and write it at a time.");
const STATUS: Column = Column::text("Status", "What became of it.");
const CLASS: Column = Column::text("StorageClass", "Its StorageClass.");
const ATTRIBUTES: Column =
    Column::text("VolumeAttributesClass", "The class of its changeable attributes.");
const MODE: Column =
    Column::text("VolumeMode", "Whether it is a file system or a block device.").wide();
pub(in crate::kinds) const PERSISTENT_VOLUME: [Column; 11] = [
    NAME,
    CAPACITY,
    ACCESS_MODES,
    Column::text("Reclaim Policy", "What becomes of it after its claim is gone."),
    STATUS,
    Column::text("Claim", "The claim that has it."),
    CLASS,
    ATTRIBUTES,
    Column::text("Reason", "Why it is in this state."),
    AGE,
    MODE,
];
pub(in crate::kinds) const PERSISTENT_VOLUME_CLAIM: [Column; 9] = [
    NAME,
    STATUS,
    Column::text("Volume", "The volume it has."),
    CAPACITY,
    ACCESS_MODES,
    CLASS,
    ATTRIBUTES,
    AGE,
    MODE,
];
pub(in crate::kinds) const STORAGE_CLASS: [Column; 6] = [
    NAME,
    Column::text("Provisioner", "Who makes the volumes."),
    Column::text("ReclaimPolicy", "What becomes of a volume after its claim is gone."),
    Column::text("VolumeBindingMode", "When a volume is made for a claim."),
    Column::text("AllowVolumeExpansion", "Whether a volume can be made larger."),
    AGE,
];
pub(in crate::kinds) const VOLUME_ATTRIBUTES_CLASS: [Column; 3] =
    [NAME, Column::text("DriverName", "The driver that knows the attributes."), AGE];
pub(in crate::kinds) const CSI_DRIVER: [Column; 8] = [
    NAME,
    Column::flag("AttachRequired", "Whether volumes are attached before they are mounted."),
    Column::flag("PodInfoOnMount", "Whether the driver is told about the pod."),
    Column::flag("StorageCapacity", "Whether the driver tells how much room there is."),
    Column::text("TokenRequests", "Whom the tokens are for that the driver gets."),
    Column::flag("RequiresRepublish", "Whether the driver is called again and again."),
    Column::text("Modes", "How long its volumes live."),
    AGE,
];
pub(in crate::kinds) const CSI_NODE: [Column; 3] =
    [NAME, Column::number("Drivers", "How many drivers the node has."), AGE];
pub(in crate::kinds) const VOLUME_ATTACHMENT: [Column; 6] = [
    NAME,
    Column { format: "name", ..Column::text("Attacher", "The driver that attaches it.") },
    Column::text("PV", "The volume."),
    Column::text("Node", "The node it is attached to."),
    Column::flag("Attached", "Whether that is done."),
    AGE,
];

/// What stands where a class or a mode is not said.
const UNSET: &str = "<unset>";
/// The access modes in their order, and their short names.
const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

fn modes(modes: Option<&Vec<String>>) -> Value {
    let given = |mode: &str| modes.into_iter().flatten().any(|m| m == mode);
    let short = MODES.iter().filter(|(mode, _)| given(mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",").into()
}

fn or_unset(text: Option<&str>) -> Value {
    text.unwrap_or(UNSET).into()
}

/// The phase of a volume or a claim, which does not say that it is being deleted.
fn phase(object: &Object, phase: Option<&str>) -> Value {
    let deleted = object.meta().deletion_timestamp.is_some();
    if deleted { "Terminating".into() } else { phase.unwrap_or_default().into() }
}

pub(in crate::kinds) fn persistent_volume(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let volume: &PersistentVolume = object.view()?;
    let spec = volume.spec.clone().unwrap_or_default();
    let status = volume.status.clone().unwrap_or_default();
    let capacity = spec.capacity.as_ref().and_then(|c| c.get("storage"));
    let text = |t: Option<String>| t.unwrap_or_default();
    let claim = spec.claim_ref.map(|c| format!("{}/{}", text(c.namespace), text(c.name)));
    Some(vec![
        name(object),
        capacity.map_or("", |c| &c.0).into(),
        modes(spec.access_modes.as_ref()),
        text(spec.persistent_volume_reclaim_policy).into(),
        phase(object, status.phase.as_deref()),
        text(claim).into(),
        text(spec.storage_class_name).into(),
        or_unset(spec.volume_attributes_class_name.as_deref()),
        text(status.reason).into(),
        age(object, now),
        or_unset(spec.volume_mode.as_deref()),
    ])
}

pub(in crate::kinds) fn persistent_volume_claim(
    object: &Object,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let claim: &PersistentVolumeClaim = object.view()?;
    let spec = claim.spec.clone().unwrap_or_default();
    // Before it has a volume, nobody knows how much it will hold.
    let volume = spec.volume_name.filter(|v| !v.is_empty());
    let status = claim.status.clone().unwrap_or_default();
    let bound = volume.is_some().then_some(&status);
    let capacity = bound.and_then(|s| s.capacity.as_ref()).and_then(|c| c.get("storage"));
    Some(vec![
        name(object),
        phase(object, status.phase.as_deref()),
        volume.unwrap_or_default().into(),
        capacity.map_or("", |c| &c.0).into(),
        modes(bound.and_then(|s| s.access_modes.as_ref())),
        spec.storage_class_name.unwrap_or_default().into(),
        or_unset(spec.volume_attributes_class_name.as_deref()),
        age(object, now),
        or_unset(spec.volume_mode.as_deref()),
    ])
}

pub(in crate::kinds) fn storage_class(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let class: &StorageClass = object.view()?;
    let text = |t: &Option<String>| Value::from(t.clone().unwrap_or_default());
    Some(vec![
        name(object),
        class.provisioner.as_str().into(),
        text(&class.reclaim_policy),
        text(&class.volume_binding_mode),
        class.allow_volume_expansion.unwrap_or(false).into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn volume_attributes_class(
    object: &Object,
    now: Timestamp,
) -> Option<Vec<Value>> {
    let class: &VolumeAttributesClass = object.view()?;
    Some(vec![name(object), class.driver_name.as_str().into(), age(object, now)])
}

pub(in crate::kinds) fn csi_driver(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let spec = &object.view::<CSIDriver>()?.spec;
    let audiences = |tokens: &Vec<_>| -> String {
        let audience = |t: &k8s_openapi::api::storage::v1::TokenRequest| t.audience.clone();
        tokens.iter().map(audience).collect::<Vec<_>>().join(",")
    };
    Some(vec![
        name(object),
        spec.attach_required.unwrap_or(true).into(),
        spec.pod_info_on_mount.unwrap_or(false).into(),
        spec.storage_capacity.unwrap_or(false).into(),
        or_unset(spec.token_requests.as_ref().map(audiences).as_deref()),
        spec.requires_republish.unwrap_or(false).into(),
        joined(spec.volume_lifecycle_modes.as_deref().unwrap_or_default()).into(),
        age(object, now),
    ])
}

pub(in crate::kinds) fn csi_node(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let node: &CSINode = object.view()?;
    Some(vec![name(object), node.spec.drivers.len().into(), age(object, now)])
}

pub(in crate::kinds) fn volume_attachment(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let attachment: &VolumeAttachment = object.view()?;
    let spec = &attachment.spec;
    Some(vec![
        name(object),
        spec.attacher.as_str().into(),
        spec.source.persistent_volume_name.as_deref().unwrap_or_default().into(),
        spec.node_name.as_str().into(),
        attachment.status.as_ref().is_some_and(|s| s.attached).into(),
        age(object, now),
    ])
}
