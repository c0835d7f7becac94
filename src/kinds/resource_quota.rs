//! ResourceQuotas: how much a namespace may have in all.

use k8s_openapi::api::core::v1::{
    ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, ScopedResourceSelectorRequirement,
};

use super::{Kind, amount, field::Check, names, usage};
use crate::model::Quantity;

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// Scopes of which an object can be in one only.
const CONFLICTING: [[&str; 2]; 2] =
    [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

impl Kind for ResourceQuota {
    const QUANTITIES: &'static [&'static str] = &["used"];

    fn default_fields(&mut self) {
        amount::round(self.spec.get_or_insert_default().hard.as_mut());
    }

    fn validate(&self, check: &mut Check) {
        let Some(spec) = &self.spec else { return };
        for (name, amount) in spec.hard.iter().flatten() {
            let field = format!("spec.hard[{name}]");
            validate_name(&field, name, check);
            let value = Quantity::of(amount);
            if value.is_negative() {
                check.invalid(&field, &amount.0, "must be greater than or equal to 0");
            }
            if is_whole(name) && value != Quantity::units(value.as_units()) {
                check.invalid(&field, &amount.0, "must be an integer");
            }
        }
        validate_scopes(spec, check);
        let selector = spec.scope_selector.as_ref().and_then(|s| s.match_expressions.as_ref());
        for requirement in selector.into_iter().flatten() {
            validate_requirement(spec, requirement, check);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(ResourceQuotaStatus::default());
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let scopes = |q: &Self| {
            let mut all = q.spec.as_ref().and_then(|s| s.scopes.clone()).unwrap_or_default();
            all.sort();
            all
        };
        check.immutable("spec.scopes", &scopes(live), &scopes(self));
    }
}

/// Counts of objects and devices.
fn is_whole(name: &str) -> bool {
    let device = name.contains('/') && !name.starts_with("requests.");
    usage::is_count(name) || (device && !name.contains("kubernetes.io/"))
}

fn validate_name(field: &str, name: &str, check: &mut Check) {
    check.text(field, name, names::qualified_name(name));
    if name.contains('/') || usage::is_standard(name) {
        return;
    }
    if name != "storage" {
        check.invalid(field, name, "must be a standard resource type or fully qualified");
    }
    check.invalid(field, name, "must be a standard resource for quota");
}

/// Whether a scope makes sense for what is counted.
fn fits(scope: &str, name: &str) -> bool {
    match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => {
            matches!(name, "persistentvolumeclaims" | "requests.storage")
        }
        _ if SCOPES.contains(&scope) => {
            name == "pods" || matches!(usage::computed(name), Some("cpu" | "memory"))
        }
        _ => true,
    }
}

fn fits_all(scope: &str, spec: &ResourceQuotaSpec) -> bool {
    spec.hard.iter().flatten().all(|(name, _)| !usage::is_standard(name) || fits(scope, name))
}

fn validate_scopes(spec: &ResourceQuotaSpec, check: &mut Check) {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let has = |scope: &&str| scopes.iter().any(|s| s == scope);
    let broken = [
        (scopes.iter().any(|s| !SCOPES.contains(&s.as_str())), "unsupported scope"),
        (scopes.iter().any(|s| !fits_all(s, spec)), "unsupported scope applied to resource"),
        (CONFLICTING.iter().any(|pair| pair.iter().all(has)), "conflicting scopes"),
    ];
    for (_, text) in broken.into_iter().filter(|(broken, _)| *broken) {
        check.invalid("spec.scopes", scopes, text);
    }
}

fn validate_requirement(
    spec: &ResourceQuotaSpec,
    requirement: &ScopedResourceSelectorRequirement,
    check: &mut Check,
) {
    let at = "spec.scopeSelector.matchExpressions";
    let (scope, operator) = (requirement.scope_name.as_str(), requirement.operator.as_str());
    if !SCOPES.contains(&scope) {
        check.invalid(format!("{at}.scopeName"), scope, "unsupported scope");
    }
    if !fits_all(scope, spec) {
        check.invalid(at, &spec.scope_selector, "unsupported scope applied to resource");
    }
    let takes_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
    if !takes_values && SCOPES.contains(&scope) && operator != "Exists" {
        let text = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                    ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                    ResourceQuotaScopeNotBestEffort or \
                    ResourceQuotaScopeCrossNamespacePodAffinity";
        check.invalid(format!("{at}.operator"), operator, text);
    }
    let values = requirement.values.as_deref().unwrap_or_default();
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope \
                        selector";
            check.required(format!("{at}.values"), text);
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope \
                        selector";
            check.invalid(format!("{at}.values"), values, text);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            check.invalid(format!("{at}.operator"), other, "not a valid selector operator");
        }
    }
}
