//! StorageClasses and VolumeAttributesClasses: what kinds of storage there are.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};

use super::{
    Kind, Reason, field::Check, names, persistent_volume::validate_csi_driver, pod_defaults::fill,
};

/// Most parameters of a class.
const PARAMETERS_MAX: usize = 512;
/// Most bytes of all parameters of a class: 256 KiB.
const PARAMETERS_BYTES_MAX: usize = 256 << 10;

impl Kind for StorageClass {
    fn default_fields(&mut self) {
        fill(&mut self.reclaim_policy, "Delete");
        fill(&mut self.volume_binding_mode, "Immediate");
    }

    fn validate(&self, check: &mut Check) {
        if self.provisioner.is_empty() {
            check.required("provisioner", "");
        } else {
            let rules = names::qualified_name(&self.provisioner.to_lowercase());
            check.text("provisioner", &self.provisioner, rules);
        }
        validate_parameters(self.parameters.as_ref(), check);
        let policy = self.reclaim_policy.as_deref().unwrap_or_default();
        check.one_of("reclaimPolicy", policy, &["Delete", "Retain"]);
        let mode = self.volume_binding_mode.as_deref().unwrap_or_default();
        check.one_of("volumeBindingMode", mode, &["Immediate", "WaitForFirstConsumer"]);
        for (i, term) in self.allowed_topologies.iter().flatten().enumerate() {
            for (j, e) in term.match_label_expressions.iter().flatten().enumerate() {
                let at = format!("allowedTopologies[{i}].matchLabelExpressions[{j}]");
                check.text(&format!("{at}.key"), &e.key, names::qualified_name(&e.key));
                if e.values.is_empty() {
                    check.required(format!("{at}.values"), "");
                }
            }
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        stays("provisioner", live.provisioner == self.provisioner, check);
        stays("parameters", live.parameters == self.parameters, check);
        stays("reclaimPolicy", live.reclaim_policy == self.reclaim_policy, check);
        stays("volumeBindingMode", live.volume_binding_mode == self.volume_binding_mode, check);
    }
}

/// A field of a class that may not change; Kubernetes does not show its value.
fn stays(field: &str, same: bool, check: &mut Check) {
    if !same {
        check.invalid(field, (), "field is immutable");
    }
}

fn validate_parameters(parameters: Option<&BTreeMap<String, String>>, check: &mut Check) {
    let Some(parameters) = parameters else { return };
    let bytes: usize = parameters.iter().map(|(key, value)| key.len() + value.len()).sum();
    if parameters.len() > PARAMETERS_MAX {
        let text = format!("Too long: may not be more than {PARAMETERS_MAX} bytes");
        check.error("parameters", Reason::TooLong, text);
    }
    if bytes > PARAMETERS_BYTES_MAX {
        let text = format!("Too long: may not be more than {PARAMETERS_BYTES_MAX} bytes");
        check.error("parameters", Reason::TooLong, text);
    }
    if parameters.contains_key("") {
        check.invalid("parameters", "", "field can not be empty.");
    }
}

impl Kind for VolumeAttributesClass {
    fn validate(&self, check: &mut Check) {
        validate_csi_driver("driverName", &self.driver_name, check);
        if self.parameters.as_ref().is_none_or(BTreeMap::is_empty) {
            check.required("parameters", "must contain at least one key/value pair");
        }
        validate_parameters(self.parameters.as_ref(), check);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        if live.driver_name != self.driver_name {
            check.forbidden("driverName", "updates to driverName are forbidden.");
        }
        if live.parameters != self.parameters {
            check.forbidden("parameters", "updates to parameters are forbidden.");
        }
    }
}
