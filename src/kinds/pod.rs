//! Pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, PodStatus, Toleration},
    apimachinery::pkg::api::resource::Quantity as Text,
};

use super::{FieldError, Kind, Reason, api_access, field::Check, pod_defaults, pod_spec};
use crate::model::{Object, Quantity};

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
    validate_ephemeral(before, after, check);
    validate_resize(before, after, check);
    if frozen(before, after) != *before {
        check.forbidden("spec", FROZEN);
    }
}

/// What Kubernetes says of a change that a pod does not take.
const FROZEN: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                      `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                      `spec.tolerations` (only additions to existing tolerations),\
                      `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                      previously negative)";

/// What a pod cannot be made with.
pub(super) fn not_on_create(object: &Object) -> Option<FieldError> {
    let spec = object.view::<Pod>()?.spec.as_ref()?;
    let has = spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty());
    has.then(|| FieldError {
        field: "spec.ephemeralContainers".to_owned(),
        reason: Reason::Forbidden,
        detail: "Forbidden: cannot be set on create".to_owned(),
    })
}

/// What a write of the pod itself may not change, because there are paths of their own for it:
/// containers for debugging (`ephemeralcontainers`) and resources (`resize`).
pub fn only_by_own_path(live: &Object, new: &Object) -> Option<FieldError> {
    let spec = |object: &Object| object.view::<Pod>()?.spec.clone();
    let (before, after) = (spec(live)?, spec(new)?);
    let resized = with_amounts_of(&before, &after) != after;
    let differs = before.ephemeral_containers != after.ephemeral_containers || resized;
    differs.then(|| FieldError {
        field: "spec".to_owned(),
        reason: Reason::Forbidden,
        detail: format!("Forbidden: {FROZEN}"),
    })
}

/// Containers for debugging come and stay as they are.
fn validate_ephemeral(before: &PodSpec, after: &PodSpec, check: &mut Check) {
    let field = "spec.ephemeralContainers";
    for old in before.ephemeral_containers.iter().flatten() {
        let new = after.ephemeral_containers.iter().flatten().find(|new| new.name == old.name);
        let what = match new {
            Some(new) if new == old => continue,
            Some(_) => "changed",
            None => "removed\n",
        };
        let text = format!("existing ephemeral containers {:?} may not be {what}", old.name);
        check.forbidden(field, &text);
    }
}

/// A pod keeps its class, and what was limited stays limited.
fn validate_resize(before: &PodSpec, after: &PodSpec, check: &mut Check) {
    if qos_class(before) != qos_class(after) {
        let text = "Pod QOS Class may not change as a result of resizing";
        check.invalid("spec", qos_class(after), text);
    }
    let lists = [
        ("containers", &before.containers, &after.containers),
        (
            "initContainers",
            &before.init_containers.clone().unwrap_or_default(),
            &after.init_containers.clone().unwrap_or_default(),
        ),
    ];
    for (list, old, new) in lists {
        for (i, (old, new)) in old.iter().zip(new).enumerate() {
            let at = format!("spec.{list}[{i}].resources");
            let of = |c: &Container| c.resources.clone().unwrap_or_default();
            let (old, new) = (of(old), of(new));
            for (field, old, new) in
                [("limits", old.limits, new.limits), ("requests", old.requests, new.requests)]
            {
                let lost = |name: &str| has(old.as_ref(), name) && !has(new.as_ref(), name);
                if RESIZED.into_iter().any(lost) {
                    let text = format!("resource {field} cannot be removed");
                    check.forbidden(format!("{at}.{field}"), &text);
                }
            }
        }
    }
}

/// What of a container's resources may change while it runs.
const RESIZED: [&str; 2] = ["cpu", "memory"];

type Amounts = BTreeMap<String, Text>;

fn has(amounts: Option<&Amounts>, name: &str) -> bool {
    amounts.is_some_and(|amounts| amounts.contains_key(name))
}

/// The spec `of` with the amounts of CPU and memory that `from` has.
fn with_amounts_of(from: &PodSpec, of: &PodSpec) -> PodSpec {
    let mut spec = of.clone();
    let pairs = spec.containers.iter_mut().zip(&from.containers);
    let inits = spec.init_containers.iter_mut().flatten();
    for (new, old) in pairs.chain(inits.zip(from.init_containers.iter().flatten())) {
        let (Some(new), old) = (&mut new.resources, old.resources.clone().unwrap_or_default())
        else {
            continue;
        };
        put_back(&mut new.limits, old.limits.as_ref());
        put_back(&mut new.requests, old.requests.as_ref());
    }
    spec
}

fn put_back(new: &mut Option<Amounts>, old: Option<&Amounts>) {
    let mut amounts = new.take().unwrap_or_default();
    for name in RESIZED {
        match old.and_then(|old| old.get(name)) {
            Some(amount) => amounts.insert(name.to_owned(), amount.clone()),
            None => amounts.remove(name),
        };
    }
    *new = Some(amounts).filter(|amounts| !amounts.is_empty() || old.is_some());
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
    let mut spec = with_amounts_of(before, after);
    spec.ephemeral_containers.clone_from(&before.ephemeral_containers);
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
