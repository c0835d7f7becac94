//! Pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, PodStatus, Toleration},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use super::{Kind, api_access, field::Check, pod_defaults, pod_spec};
use crate::model::Quantity;

/// Seconds that a pod stays on a node that is not ready or not reachable.
const TOLERATION_SECONDS: i64 = 300;
const TOLERATED: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

impl Kind for Pod {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        pod_defaults::spec(spec);
        pod_defaults::pod_only(spec);
        admission_defaults(spec);
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
            check.forbidden("spec.ephemeralContainers", "cannot be set on create");
        }
        pod_spec::validate("spec", &spec, check);
    }

    fn prepare_create(&mut self) {
        let qos_class = self.spec.as_ref().map(|s| qos_class(s).to_owned());
        let phase = Some("Pending".to_owned());
        self.status = Some(PodStatus { phase, qos_class, ..Default::default() });
    }

    fn prepare_adopt(&mut self, live: &Self) {
        let (Some(spec), Some(before)) = (&mut self.spec, &live.spec) else { return };
        if spec.node_name.is_none() {
            spec.node_name.clone_from(&before.node_name);
        }
        api_access::keep_api_access(spec, before);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        if let (Some(before), Some(after)) = (&live.spec, &self.spec) {
            validate_spec_update(before, after, check);
        }
    }
}

/// What Kubernetes' admission plugins add: the default account, priority and tolerations.
fn admission_defaults(spec: &mut PodSpec) {
    if spec.service_account_name.is_none() {
        spec.service_account_name = Some("default".to_owned());
        spec.service_account.clone_from(&spec.service_account_name);
    }
    spec.priority.get_or_insert(0);
    spec.preemption_policy.get_or_insert_with(|| "PreemptLowerPriority".to_owned());
    for key in TOLERATED {
        let tolerations = spec.tolerations.get_or_insert_default();
        let tolerates = |t: &Toleration| {
            t.key.as_deref().is_none_or(|k| k == key || k.is_empty())
                && t.effect.as_deref().is_none_or(|e| e == "NoExecute" || e.is_empty())
        };
        if !tolerations.iter().any(tolerates) {
            tolerations.push(Toleration {
                key: Some(key.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECONDS),
                value: None,
            });
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
///
/// Source: kubernetes.io/docs/concepts/workloads/pods/pod-qos.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
    let amounts = |list: Option<&BTreeMap<String, Text>>| -> BTreeMap<String, Quantity> {
        let counted = list.into_iter().flatten().filter(|(n, _)| *n == "cpu" || *n == "memory");
        let read = counted.map(|(n, q)| (n.clone(), Quantity::of(q)));
        read.filter(|(_, q)| *q > Quantity::ZERO).collect()
    };
    let of_pod = spec.resources.iter();
    let lists: Vec<_> = all()
        .map(|c| c.resources.clone().unwrap_or_default())
        .chain(of_pod.cloned())
        .map(|r| (amounts(r.requests.as_ref()), amounts(r.limits.as_ref())))
        .collect();
    if lists.iter().all(|(requests, limits)| requests.is_empty() && limits.is_empty()) {
        return "BestEffort";
    }
    let of_containers = &lists[..lists.len() - usize::from(spec.resources.is_some())];
    let decisive = if spec.resources.is_some() { &lists[lists.len() - 1..] } else { of_containers };
    let guaranteed = |(requests, limits): &(BTreeMap<_, _>, BTreeMap<_, _>)| {
        limits.len() == 2 && requests == limits
    };
    if decisive.iter().all(guaranteed) { "Guaranteed" } else { "Burstable" }
}

fn validate_spec_update(before: &PodSpec, after: &PodSpec, check: &mut Check) {
    if before.containers.len() != after.containers.len() {
        check.forbidden("spec.containers", "pod updates may not add or remove containers");
        return;
    }
    let count = |s: &PodSpec| s.init_containers.as_ref().map_or(0, Vec::len);
    if count(before) != count(after) {
        check.forbidden("spec.initContainers", "pod updates may not add or remove containers");
        return;
    }
    let known = before.tolerations.as_deref().unwrap_or_default();
    let kept = |old: &Toleration| {
        after.tolerations.iter().flatten().any(|new| {
            Toleration { toleration_seconds: None, ..new.clone() }
                == Toleration { toleration_seconds: None, ..old.clone() }
        })
    };
    if !known.iter().all(kept) {
        let text = "existing toleration can not be modified except its tolerationSeconds";
        check.forbidden("spec.tolerations", text);
    }
    validate_gates(before, after, check);
    if frozen(before, after) != *before {
        let text = "pod updates may not change fields other than `spec.containers[*].image`,\
                    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                    `spec.tolerations` (only additions to existing tolerations),\
                    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                    previously negative)";
        check.forbidden("spec", text);
    }
}

fn validate_gates(before: &PodSpec, after: &PodSpec, check: &mut Check) {
    for (i, gate) in after.scheduling_gates.iter().flatten().enumerate() {
        if !before.scheduling_gates.iter().flatten().any(|g| g.name == gate.name) {
            let text =
                format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            check.forbidden(format!("spec.schedulingGates[{i}].name"), &text);
        }
    }
}

/// The spec after an update with what may change put back.
fn frozen(before: &PodSpec, after: &PodSpec) -> PodSpec {
    let mut spec = after.clone();
    for (new, old) in spec.containers.iter_mut().zip(&before.containers) {
        new.image.clone_from(&old.image);
    }
    let inits = spec.init_containers.iter_mut().flatten();
    for (new, old) in inits.zip(before.init_containers.iter().flatten()) {
        new.image.clone_from(&old.image);
    }
    spec.tolerations.clone_from(&before.tolerations);
    spec.active_deadline_seconds = before.active_deadline_seconds;
    spec.scheduling_gates.clone_from(&before.scheduling_gates);
    let negative = before.termination_grace_period_seconds.is_some_and(|s| s < 0);
    if negative && after.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = before.termination_grace_period_seconds;
    }
    // The scheduler binds a pod once.
    if before.node_name.as_deref().is_none_or(str::is_empty) {
        spec.node_name.clone_from(&before.node_name);
    }
    spec
}
