//! PodDisruptionBudgets: how many of the pods they guard may be evicted now
//! (kubernetes.io/docs/concepts/workloads/pods/disruptions).
//!
//! An eviction takes one from `status.disruptionsAllowed` and notes its pod, at the version of the
//! budget that it read; this counts again. A pod that was noted counts as gone until it is, or
//! until it stayed for longer than an eviction takes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        core::v1::{Pod, ReplicationController},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    },
    apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString},
};

use super::{Controller, Inputs, Plan, batch::Batch, condition, pods, rollout};
use crate::{
    model::{GroupKind, Key, Object, Selector, Timestamp},
    state::{Change, View},
};

/// How long a pod that was to be evicted counts as gone: after that its deletion did not happen, as
/// Kubernetes' disruption controller takes it.
const EVICTION_SECONDS_MAX: i64 = 120;

/// Keeps the status of every PodDisruptionBudget.
pub(super) const CONTROLLER: Controller =
    Controller { name: "disruption-controller", affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<PodDisruptionBudget>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let key = &change.key;
    if key.is::<PodDisruptionBudget>() {
        return super::still(key, view);
    }
    let budgets = || view.list::<PodDisruptionBudget>(Some(&key.namespace));
    let versions = || [&change.old, &change.new].into_iter().flatten();
    if key.is::<Pod>() {
        if shown(change.old.as_ref()) == shown(change.new.as_ref()) {
            return BTreeSet::new();
        }
        let guards = |(_, budget): &(&Object, &PodDisruptionBudget)| {
            selector(budget)
                .is_some_and(|s| versions().any(|p| s.matches(p.meta().labels.as_ref())))
        };
        return budgets().filter(guards).map(|(o, _)| o.key().clone()).collect();
    }
    let size = |o: &Option<Object>| o.as_ref().map(|o| (o.uid().to_owned(), replicas(o)));
    if is_scaled(&key.kind) && size(&change.old) != size(&change.new) {
        return budgets().map(|(o, _)| o.key().clone()).collect();
    }
    BTreeSet::new()
}

/// What of a pod a budget sees.
fn shown(object: Option<&Object>) -> Option<impl PartialEq> {
    let (object, pod) = (object?, object?.view::<Pod>()?);
    let owner = object.controller_uid().map(str::to_owned);
    let labels = object.meta().labels.clone();
    Some((object.uid().to_owned(), labels, owner, object.is_terminating(), pods::is_ready(pod)))
}

/// The pods a budget guards; an absent selector guards none, an empty one all of the namespace.
fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::from_label_selector(budget.spec.as_ref()?.selector.as_ref()?).ok()
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key).filter(|o| !o.is_terminating()) else {
        return Plan::default();
    };
    let Some(budget) = object.view::<PodDisruptionBudget>() else { return Plan::default() };
    let spec = budget.spec.clone().unwrap_or_default();
    let guarded: Vec<(&Object, &Pod)> = match selector(budget) {
        Some(selector) => {
            let pods = view.list::<Pod>(Some(&key.namespace));
            pods.filter(|(o, _)| selector.matches(o.meta().labels.as_ref())).collect()
        }
        None => Vec::new(),
    };
    let mut status = budget.status.clone().unwrap_or_default();
    let noted = noted(&status, &guarded, inputs.now);
    let wake_at = noted.values().map(|at| at.plus_seconds(EVICTION_SECONDS_MAX)).min();
    let generation = object.meta().generation;
    match counts(view, &spec, &guarded) {
        Ok((expected, desired)) => {
            let healthy = |(o, pod): &&(&Object, &Pod)| {
                !o.is_terminating() && pods::is_ready(pod) && !noted.contains_key(&*o.key().name)
            };
            let healthy = count(guarded.iter().filter(healthy).count());
            let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
            status.expected_pods = Some(expected);
            status.desired_healthy = Some(desired);
            status.current_healthy = Some(healthy);
            status.disruptions_allowed = Some(allowed);
            let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
            tell(&mut status, allowed > 0, (reason, String::new()), generation, inputs.now);
        }
        Err(why) => {
            // Nothing may go while it is not known how many there should be.
            status.disruptions_allowed = Some(0);
            tell(&mut status, false, ("SyncFailed", why), generation, inputs.now);
        }
    }
    let times = noted.into_iter().map(|(pod, at)| (pod, at.to_time()));
    status.disrupted_pods = Some(times.collect()).filter(|all: &BTreeMap<_, _>| !all.is_empty());
    status.observed_generation = generation;
    let mut batch = Batch::default();
    if budget.status.as_ref() != Some(&status) {
        batch.status(object, &PodDisruptionBudget { status: Some(status), ..budget.clone() });
    }
    batch.into_plan(wake_at)
}

/// The pods whose eviction is under way, and since when.
fn noted(
    status: &PodDisruptionBudgetStatus,
    guarded: &[(&Object, &Pod)],
    now: Timestamp,
) -> BTreeMap<String, Timestamp> {
    let stays =
        |name: &str| guarded.iter().any(|(o, _)| o.key().name == name && !o.is_terminating());
    let noted = status.disrupted_pods.iter().flatten();
    let noted = noted.map(|(name, at)| (name.clone(), Timestamp::from(at)));
    noted.filter(|(name, at)| stays(name) && at.plus_seconds(EVICTION_SECONDS_MAX) > now).collect()
}

/// How many pods there should be and how many of them must stay healthy; or why that is not known.
fn counts(
    view: &View,
    spec: &PodDisruptionBudgetSpec,
    guarded: &[(&Object, &Pod)],
) -> Result<(i32, i32), String> {
    if let Some(most) = &spec.max_unavailable {
        let expected = expected(view, guarded)?;
        let missing = rollout::share(Some(most), expected, true);
        return Ok((expected, (expected - missing).max(0)));
    }
    match &spec.min_available {
        None => Ok((0, 0)),
        Some(IntOrString::Int(least)) => Ok((count(guarded.len()), *least)),
        Some(share) => {
            let expected = expected(view, guarded)?;
            Ok((expected, rollout::share(Some(share), expected, true)))
        }
    }
}

/// How many pods the controllers of these pods want. Pods that nobody controls do not count.
fn expected(view: &View, guarded: &[(&Object, &Pod)]) -> Result<i32, String> {
    let mut scales: BTreeMap<String, i32> = BTreeMap::new();
    for (object, _) in guarded.iter().filter(|(o, _)| o.controller_uid().is_some()) {
        let scale = controller(view, object);
        // A Deployment speaks for its ReplicaSets: in an update there are several.
        let scale = scale.map(|set| controller(view, set).unwrap_or(set));
        let scale = scale.and_then(|o| Some((o.uid().to_owned(), replicas(o)?)));
        let name = &object.key().name;
        let (uid, replicas) =
            scale.ok_or_else(|| format!("found no controllers for pod {name:?}"))?;
        scales.insert(uid, replicas);
    }
    Ok(scales.values().sum())
}

fn controller<'a>(view: &'a View, object: &Object) -> Option<&'a Object> {
    let owner = object.controller()?;
    let key = Key::new(owner.kind.clone(), &object.key().namespace, &owner.name);
    view.object(&key).filter(|found| found.uid() == owner.uid)
}

/// Whether `spec.replicas` of a kind says how many pods it wants.
fn is_scaled(kind: &GroupKind) -> bool {
    kind.is::<Deployment>()
        || kind.is::<ReplicaSet>()
        || kind.is::<StatefulSet>()
        || kind.is::<ReplicationController>()
}

fn replicas(object: &Object) -> Option<i32> {
    if !is_scaled(&object.key().kind) {
        return None;
    }
    let replicas = object.value()["spec"]["replicas"].as_i64().unwrap_or(1);
    i32::try_from(replicas).ok()
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn tell(
    status: &mut PodDisruptionBudgetStatus,
    allowed: bool,
    (reason, message): (&str, String),
    generation: Option<i64>,
    now: Timestamp,
) {
    let new = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: if allowed { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: now.to_time(),
    };
    condition::set(status.conditions.get_or_insert_default(), new);
}
