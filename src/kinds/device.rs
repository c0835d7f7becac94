//! Devices that pods may claim: classes, claims, templates, slices and taints.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceClass, DeviceRequest, DeviceSelector, DeviceTaintRule,
    DeviceTaintRuleStatus, DeviceToleration, ResourceClaim, ResourceClaimSpec, ResourceClaimStatus,
    ResourceClaimTemplate, ResourceSlice,
};

use super::{Kind, Reason, field::Check, names, pod_defaults::fill};

/// Most requests of one claim, and most selectors of one request.
const ITEMS_MAX: usize = 32;
/// Most devices of one slice.
const DEVICES_MAX: usize = 128;
/// Most bytes of an expression.
const EXPRESSION_BYTES_MAX: usize = 10 << 10;

impl Kind for DeviceClass {
    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        validate_selectors("spec.selectors", spec.selectors.as_ref(), check);
        for (i, config) in spec.config.iter().flatten().enumerate() {
            if config.opaque.is_none() {
                let text = "exactly one of `opaque` must be specified";
                check.required(format!("spec.config[{i}]"), text);
            }
        }
    }
}

impl Kind for ResourceClaim {
    fn default_fields(&mut self) {
        default_claim(self.spec.get_or_insert_default());
    }

    fn validate(&self, check: &mut Check) {
        if let Some(claim) = self.spec.as_ref().and_then(|s| s.devices.as_ref()) {
            validate_claim("spec.devices", claim, check);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(ResourceClaimStatus::default());
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec", &live.spec, &self.spec);
    }
}

impl Kind for ResourceClaimTemplate {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.metadata.get_or_insert_default();
        default_claim(spec.spec.get_or_insert_default());
    }

    fn validate(&self, check: &mut Check) {
        let claim = self.spec.as_ref().and_then(|s| s.spec.as_ref());
        if let Some(claim) = claim.and_then(|s| s.devices.as_ref()) {
            validate_claim("spec.spec.devices", claim, check);
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec", &live.spec, &self.spec);
    }
}

impl Kind for ResourceSlice {
    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        validate_driver("spec.driver", &spec.driver, check);
        if spec.pool.name.is_empty() {
            check.required("spec.pool.name", "");
        }
        if spec.pool.resource_slice_count <= 0 {
            let text = "must be greater than zero";
            check.invalid("spec.pool.resourceSliceCount", spec.pool.resource_slice_count, text);
        }
        check.not_negative("spec.pool.generation", Some(spec.pool.generation));
        let where_from = [
            spec.node_name.as_deref().is_some_and(|n| !n.is_empty()),
            spec.node_selector.is_some(),
            spec.all_nodes == Some(true),
            spec.per_device_node_selection == Some(true),
        ];
        match where_from.iter().filter(|given| **given).count() {
            1 => {}
            0 => {
                let text = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
                            `perDeviceNodeSelection` is required";
                check.required("spec", text);
            }
            _ => {
                let text = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
                            `perDeviceNodeSelection` is required, but multiple fields are set";
                check.invalid("spec", "{}", text);
            }
        }
        let devices = spec.devices.as_deref().unwrap_or_default();
        too_many("spec.devices", devices.len(), DEVICES_MAX, check);
        let mut seen = BTreeSet::new();
        for (i, device) in devices.iter().enumerate() {
            let field = format!("spec.devices[{i}].name");
            check.text(&field, &device.name, names::dns1123_label(&device.name));
            if !seen.insert(&device.name) {
                check.duplicate(field, &device.name);
            }
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (before, after) = (&live.spec, &self.spec);
        check.immutable("spec.driver", &before.driver, &after.driver);
        check.immutable("spec.pool.name", &before.pool.name, &after.pool.name);
        check.immutable("spec.nodeName", &before.node_name, &after.node_name);
    }
}

impl Kind for DeviceTaintRule {
    fn validate(&self, check: &mut Check) {
        let taint = &self.spec.taint;
        check.text("spec.taint.key", &taint.key, names::qualified_name(&taint.key));
        let value = taint.value.as_deref().unwrap_or_default();
        check.text("spec.taint.value", value, names::label_value(value));
        let effects = ["NoExecute", "NoSchedule", "None"];
        check.one_of("spec.taint.effect", &taint.effect, &effects);
        if let Some(driver) = self.spec.device_selector.as_ref().and_then(|s| s.driver.as_ref()) {
            validate_driver("spec.deviceSelector.driver", driver, check);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(DeviceTaintRuleStatus::default());
    }
}

fn default_claim(spec: &mut ResourceClaimSpec) {
    for request in spec.devices.iter_mut().flat_map(|d| d.requests.iter_mut().flatten()) {
        if let Some(exact) = &mut request.exactly {
            default_request(&mut exact.allocation_mode, &mut exact.count);
            default_tolerations(exact.tolerations.as_mut());
        }
        for sub in request.first_available.iter_mut().flatten() {
            default_request(&mut sub.allocation_mode, &mut sub.count);
            default_tolerations(sub.tolerations.as_mut());
        }
    }
}

fn default_request(mode: &mut Option<String>, count: &mut Option<i64>) {
    fill(mode, "ExactCount");
    if mode.as_deref() == Some("ExactCount") && count.unwrap_or(0) == 0 {
        *count = Some(1);
    }
}

fn default_tolerations(tolerations: Option<&mut Vec<DeviceToleration>>) {
    for toleration in tolerations.into_iter().flatten() {
        fill(&mut toleration.operator, "Equal");
    }
}

fn validate_claim(at: &str, claim: &DeviceClaim, check: &mut Check) {
    let requests = claim.requests.as_deref().unwrap_or_default();
    too_many(&format!("{at}.requests"), requests.len(), ITEMS_MAX, check);
    let mut seen = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        let at = format!("{at}.requests[{i}]");
        let field = format!("{at}.name");
        if request.name.is_empty() {
            check.required(&field, "");
        } else {
            check.text(&field, &request.name, names::dns1123_label(&request.name));
        }
        if !seen.insert(&request.name) {
            check.duplicate(field, &request.name);
        }
        validate_request(&at, request, check);
    }
}

fn validate_request(at: &str, request: &DeviceRequest, check: &mut Check) {
    let first = request.first_available.as_deref().unwrap_or_default();
    match (&request.exactly, first) {
        (None, []) => {
            let text = "exactly one of `exactly` or `firstAvailable` is required";
            check.required(at, text);
        }
        (Some(_), [_, ..]) => {
            let text = "exactly one of `exactly` or `firstAvailable` is required, but multiple \
                        fields are set";
            check.invalid(at, "{}", text);
        }
        _ => {}
    }
    if let Some(exact) = &request.exactly {
        let at = format!("{at}.exactly");
        let amount = Amount { mode: exact.allocation_mode.as_deref(), count: exact.count };
        validate_wanted(&at, &exact.device_class_name, &amount, check);
        validate_selectors(&format!("{at}.selectors"), exact.selectors.as_ref(), check);
    }
    for (i, sub) in first.iter().enumerate() {
        let at = format!("{at}.firstAvailable[{i}]");
        check.text(&format!("{at}.name"), &sub.name, names::dns1123_label(&sub.name));
        let amount = Amount { mode: sub.allocation_mode.as_deref(), count: sub.count };
        validate_wanted(&at, &sub.device_class_name, &amount, check);
        validate_selectors(&format!("{at}.selectors"), sub.selectors.as_ref(), check);
    }
}

/// How many devices are wanted.
struct Amount<'a> {
    mode: Option<&'a str>,
    count: Option<i64>,
}

fn validate_wanted(at: &str, class: &str, amount: &Amount<'_>, check: &mut Check) {
    let field = format!("{at}.deviceClassName");
    if class.is_empty() {
        check.required(field, "");
    } else {
        check.text(&field, class, names::dns1123_subdomain(class));
    }
    let field = format!("{at}.count");
    match (amount.mode.unwrap_or_default(), amount.count) {
        ("All", Some(count)) if count != 0 => {
            let text = "must not be specified when allocationMode is 'All'";
            check.invalid(field, count, text);
        }
        ("ExactCount", Some(count)) if count <= 0 => {
            check.invalid(field, count, "must be greater than zero");
        }
        ("All" | "ExactCount", _) => {}
        (other, _) => {
            check.not_supported(format!("{at}.allocationMode"), other, &["All", "ExactCount"]);
        }
    }
}

fn validate_selectors(field: &str, selectors: Option<&Vec<DeviceSelector>>, check: &mut Check) {
    let selectors = selectors.map(Vec::as_slice).unwrap_or_default();
    too_many(field, selectors.len(), ITEMS_MAX, check);
    for (i, selector) in selectors.iter().enumerate() {
        let at = format!("{field}[{i}].cel");
        match &selector.cel {
            None => check.required(at, ""),
            Some(cel) if cel.expression.is_empty() => {
                check.required(format!("{at}.expression"), "");
            }
            Some(cel) if cel.expression.len() > EXPRESSION_BYTES_MAX => {
                let text = format!("Too long: may not be more than {EXPRESSION_BYTES_MAX} bytes");
                check.error(format!("{at}.expression"), Reason::TooLong, text);
            }
            Some(_) => {}
        }
    }
}

fn validate_driver(field: &str, driver: &str, check: &mut Check) {
    if driver.is_empty() {
        check.required(field, "");
    } else {
        check.text(field, driver, names::dns1123_subdomain(driver));
    }
}

fn too_many(field: &str, count: usize, most: usize, check: &mut Check) {
    if count > most {
        let text = format!("Too many: {count}: must have at most {most} items");
        check.error(field, Reason::TooMany, text);
    }
}
