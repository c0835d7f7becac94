//! PersistentVolumeClaims: storage that somebody asks for.

use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
        TypedLocalObjectReference, TypedObjectReference, VolumeResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity as Text,
};
use serde_json::Value;

use super::{
    Kind, amount,
    field::Check,
    meta, names,
    persistent_volume::{VOLUME_MODES, validate_access_modes},
    pod_defaults::fill,
};
use crate::model::Quantity;

const STORAGE: &str = "storage";

impl Kind for PersistentVolumeClaim {
    const QUANTITIES: &'static [&'static str] = &["allocatedResources"];

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        fill(&mut spec.volume_mode, "Filesystem");
        if let Some(VolumeResourceRequirements { limits, requests }) = &mut spec.resources {
            amount::round(limits.as_mut());
            amount::round(requests.as_mut());
        }
        copy_source(spec);
    }

    fn validate(&self, check: &mut Check) {
        if let Some(spec) = &self.spec {
            validate_spec(spec, check);
        }
    }

    fn prepare_create(&mut self) {
        let phase = Some("Pending".to_owned());
        self.status = Some(PersistentVolumeClaimStatus { phase, ..Default::default() });
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (Some(before), Some(after)) = (&live.spec, &self.spec) else { return };
        let phase = live.status.as_ref().and_then(|s| s.phase.as_deref());
        let bound = phase == Some("Bound");
        if *before != changeable(before, after, bound) {
            let text = "spec is immutable after creation except resources.requests and \
                        volumeAttributesClassName for bound claims";
            check.forbidden("spec", text);
        } else if bound && shrinks(live, after) {
            let text = "field can not be less than status.capacity";
            check.forbidden("spec.resources.requests.storage", text);
        }
    }

    /// References without an API group say so.
    fn written(value: &mut Value) {
        for field in ["dataSource", "dataSourceRef"] {
            let source = value.get_mut("spec").and_then(|s| s.get_mut(field));
            if let Some(source) = source.and_then(Value::as_object_mut) {
                source.entry("apiGroup").or_insert(Value::Null);
            }
        }
    }
}

/// `dataSource` is the older form of `dataSourceRef`: whichever is given is written to both.
fn copy_source(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(old), None) => {
            let TypedLocalObjectReference { api_group, kind, name } = old.clone();
            let new = TypedObjectReference { api_group, kind, name, namespace: None };
            spec.data_source_ref = Some(new);
        }
        // A source in another namespace cannot be said in the older form.
        (None, Some(new)) if new.namespace.as_deref().is_none_or(str::is_empty) => {
            let TypedObjectReference { api_group, kind, name, .. } = new.clone();
            spec.data_source = Some(TypedLocalObjectReference { api_group, kind, name });
        }
        _ => {}
    }
}

fn validate_spec(spec: &PersistentVolumeClaimSpec, check: &mut Check) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    validate_access_modes(modes, "at least 1 access mode is required", check);
    let storage = requested(spec);
    match storage {
        None => check.required("spec.resources[storage]", ""),
        Some(amount) if Quantity::of(amount) <= Quantity::ZERO => {
            check.invalid("spec.resources[storage]", &amount.0, "must be greater than zero");
        }
        Some(_) => {}
    }
    if let Some(class) = spec.storage_class_name.as_deref().filter(|c| !c.is_empty()) {
        check.text("spec.storageClassName", class, names::dns1123_subdomain(class));
    }
    let mode = spec.volume_mode.as_deref().unwrap_or_default();
    check.one_of("spec.volumeMode", mode, &VOLUME_MODES);
    if let Some(selector) = &spec.selector {
        meta::validate_selector("spec.selector", selector, check);
    }
    if let Some(TypedLocalObjectReference { api_group, kind, name }) = &spec.data_source {
        validate_source("spec.dataSource", api_group.as_deref(), kind, name, check);
    }
    if let Some(TypedObjectReference { api_group, kind, name, .. }) = &spec.data_source_ref {
        validate_source("spec.dataSourceRef", api_group.as_deref(), kind, name, check);
    }
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<&Text> {
    spec.resources.as_ref()?.requests.as_ref()?.get(STORAGE)
}

fn validate_source(at: &str, group: Option<&str>, kind: &str, name: &str, check: &mut Check) {
    if name.is_empty() {
        check.required(format!("{at}.name"), "");
    }
    if kind.is_empty() {
        check.required(format!("{at}.kind"), "");
    }
    match group.filter(|g| !g.is_empty()) {
        Some(group) => {
            check.text(&format!("{at}.apiGroup"), group, names::dns1123_subdomain(group));
        }
        None if kind != "PersistentVolumeClaim" => {
            let text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            check.invalid(at, kind, text);
        }
        None => {}
    }
}

/// `after` with what a claim may still change taken from `before`.
fn changeable(
    before: &PersistentVolumeClaimSpec,
    after: &PersistentVolumeClaimSpec,
    bound: bool,
) -> PersistentVolumeClaimSpec {
    let mut same = after.clone();
    // Binding gives a volume; a default class may be found after the claim was made.
    if before.volume_name.as_deref().is_none_or(str::is_empty) {
        same.volume_name.clone_from(&before.volume_name);
    }
    if before.storage_class_name.is_none() {
        same.storage_class_name = None;
    }
    if bound {
        let class = &before.volume_attributes_class_name;
        same.volume_attributes_class_name.clone_from(class);
        let requests = before.resources.as_ref().and_then(|r| r.requests.clone());
        if let Some(resources) = &mut same.resources {
            resources.requests = requests;
        }
    }
    same
}

fn shrinks(live: &PersistentVolumeClaim, after: &PersistentVolumeClaimSpec) -> bool {
    let amount = |a: Option<&Text>| a.map(Quantity::of).unwrap_or_default();
    let before = amount(live.spec.as_ref().and_then(requested));
    let capacity = live.status.as_ref().and_then(|s| s.capacity.as_ref());
    let now = amount(requested(after));
    now < before && now < amount(capacity.and_then(|c| c.get(STORAGE)))
}
