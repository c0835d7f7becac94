//! Volumes of a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, KeyToPath, NFSVolumeSource, Volume};
use serde_json::Value;

use super::{container::inside, field::Check, names};
use crate::model::Quantity;

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Finds what is wrong with the volumes of a pod; returns the names that containers may mount.
pub(super) fn validate_all<'a>(
    at: &str,
    volumes: &'a [Volume],
    check: &mut Check,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = format!("{at}.volumes[{i}]");
        if volume.name.is_empty() {
            check.required(format!("{at}.name"), "");
        } else {
            let field = format!("{at}.name");
            check.text(&field, &volume.name, names::dns1123_label(&volume.name));
            if !names.insert(volume.name.as_str()) {
                check.duplicate(field, &volume.name);
            }
        }
        validate_sources(&at, volume, check);
    }
    names
}

/// The order in which Kubernetes looks for sources: the first one found is the volume's.
const ORDER: [&str; 14] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
];

/// Sources that Kubernetes has given up: since when they are deprecated, since when they do
/// nothing.
const GIVEN_UP: [(&str, &str, &str); 8] = [
    ("rbd", "v1.28", "v1.31"),
    ("cephfs", "v1.28", "v1.31"),
    ("flocker", "v1.22", "v1.25"),
    ("glusterfs", "v1.25", "v1.26"),
    ("scaleIO", "v1.16", "v1.22"),
    ("storageOS", "v1.22", "v1.25"),
    ("quobyte", "v1.22", "v1.25"),
    ("photonPersistentDisk", "v1.11", "v1.16"),
];

fn validate_sources(at: &str, volume: &Volume, check: &mut Check) {
    // A struct of thirty optional sources: counting them is easier in JSON.
    let value = serde_json::to_value(volume).unwrap_or(Value::Null);
    let mut set: Vec<&str> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .filter(|k| *k != "name")
        .collect();
    set.sort_by_key(|k| ORDER.iter().position(|o| o == k).unwrap_or(ORDER.len()));
    for other in set.iter().skip(1) {
        check.forbidden(format!("{at}.{other}"), "may not specify more than 1 volume type");
    }
    let given_up =
        |(name, _, _): &&(&str, &str, &str)| set.iter().any(|s| s.eq_ignore_ascii_case(name));
    for (source, old, gone) in GIVEN_UP.iter().filter(given_up) {
        let text = format!("deprecated in {old}, non-functional in {gone}+");
        check.warn(format!("{at}.{source}"), text);
    }
    match set.first().copied() {
        None => check.required(at, "must specify a volume type"),
        Some("emptyDir") => validate_empty_dir(at, volume, check),
        Some("hostPath") => volume.host_path.iter().for_each(|s| host_path(at, s, check)),
        Some("nfs") => volume.nfs.iter().for_each(|s| nfs(at, s, check)),
        Some(first) => validate_references(at, first, volume, check),
    }
}

fn validate_empty_dir(at: &str, volume: &Volume, check: &mut Check) {
    let limit = volume.empty_dir.as_ref().and_then(|e| e.size_limit.as_ref());
    if limit.is_some_and(|l| Quantity::of(l).is_negative()) {
        let text = "SizeLimit field must be a valid resource quantity";
        check.forbidden(format!("{at}.emptyDir.sizeLimit"), text);
    }
}

/// A folder or file of the node.
pub(super) fn host_path(at: &str, source: &HostPathVolumeSource, check: &mut Check) {
    let field = format!("{at}.hostPath.path");
    if source.path.is_empty() {
        check.required(&field, "");
    } else if source.path.split('/').any(|part| part == "..") {
        check.invalid(&field, &source.path, "must not contain '..'");
    }
    let of_type = source.type_.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.hostPath.type"), of_type, &HOST_PATH_TYPES);
}

/// A folder of an NFS server.
pub(super) fn nfs(at: &str, nfs: &NFSVolumeSource, check: &mut Check) {
    if nfs.server.is_empty() {
        check.required(format!("{at}.nfs.server"), "");
    }
    if nfs.path.is_empty() {
        check.required(format!("{at}.nfs.path"), "");
    } else if !nfs.path.starts_with('/') {
        check.invalid(format!("{at}.nfs.path"), &nfs.path, "must be an absolute path");
    }
}

fn validate_references(at: &str, first: &str, volume: &Volume, check: &mut Check) {
    let at = format!("{at}.{first}");
    match first {
        "secret" => {
            let Some(source) = &volume.secret else { return };
            if source.secret_name.as_deref().is_none_or(str::is_empty) {
                check.required(format!("{at}.secretName"), "");
            }
            mode(&format!("{at}.defaultMode"), source.default_mode, check);
            items(&at, source.items.as_deref().unwrap_or_default(), check);
        }
        "configMap" => {
            let Some(source) = &volume.config_map else { return };
            if source.name.is_empty() {
                check.required(format!("{at}.name"), "");
            }
            mode(&format!("{at}.defaultMode"), source.default_mode, check);
            items(&at, source.items.as_deref().unwrap_or_default(), check);
        }
        "persistentVolumeClaim" => {
            let claim = volume.persistent_volume_claim.as_ref();
            if claim.is_some_and(|c| c.claim_name.is_empty()) {
                check.required(format!("{at}.claimName"), "");
            }
        }
        "downwardAPI" => {
            let source = volume.downward_api.as_ref();
            for item in source.iter().flat_map(|s| s.items.iter().flatten()) {
                if item.field_ref.is_none() && item.resource_field_ref.is_none() {
                    check.required(&at, "one of fieldRef and resourceFieldRef is required");
                }
            }
        }
        "ephemeral" => {
            let source = volume.ephemeral.as_ref();
            if source.is_some_and(|e| e.volume_claim_template.is_none()) {
                check.required(format!("{at}.volumeClaimTemplate"), "");
            }
        }
        _ => {}
    }
}

fn mode(field: &str, mode: Option<i32>, check: &mut Check) {
    if let Some(mode) = mode.filter(|m| !(0..=0o777).contains(m)) {
        let text = "must be a number between 0 and 0777 (octal), both inclusive";
        check.invalid(field, mode, text);
    }
}

fn items(at: &str, items: &[KeyToPath], check: &mut Check) {
    for (i, item) in items.iter().enumerate() {
        let at = format!("{at}.items[{i}]");
        if item.key.is_empty() {
            check.required(format!("{at}.key"), "");
        }
        if item.path.is_empty() {
            check.required(format!("{at}.path"), "");
        }
        inside(&format!("{at}.path"), &item.path, check);
        mode(&format!("{at}.mode"), item.mode, check);
    }
}
