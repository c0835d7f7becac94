//! ReplicaSets: as many pods of a template as asked for.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use k8s_openapi::{
    Metadata,
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::{LimitRange, Namespace, Pod, ResourceQuota, ServiceAccount},
    },
};

use super::{
    Controller, Inputs, Plan,
    batch::Batch,
    offspring::{self, BURST_MAX, Made, pod_of},
    order, owners, pods,
};
use crate::{
    model::{GroupKind, Key, Object, Selector, Timestamp},
    policy::Refused,
    state::{Change, View},
};

const NAME: &str = "replicaset-controller";
/// The condition of a ReplicaSet whose pods are refused.
const FAILURE: &str = "ReplicaFailure";
/// When pods that were refused are tried again though nothing of their namespace changed.
pub(super) const REFUSED_SECONDS: i64 = 60;

/// Keeps every ReplicaSet at its number of pods.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    view.of_kind(&GroupKind::of::<ReplicaSet>(), None).map(|o| o.key().clone()).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let mut found = touched(change, view);
    found.extend(order::waiters(change, view).into_iter().filter(|key| key.is::<ReplicaSet>()));
    found
}

fn touched(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<ReplicaSet>() {
        return super::still(&change.key, view);
    }
    if change.key.is::<Namespace>() && super::is_new(change) {
        let kind = GroupKind::of::<ReplicaSet>();
        return view.of_kind(&kind, Some(&change.key.name)).map(|o| o.key().clone()).collect();
    }
    if !change.key.is::<Pod>() {
        return refused_by(change, view);
    }
    [&change.old, &change.new].into_iter().flatten().flat_map(|pod| owners_of(pod, view)).collect()
}

/// The ReplicaSets whose pods were refused by something that changed.
fn refused_by(change: &Change, view: &View) -> BTreeSet<Key> {
    let of = &change.key;
    let rule = of.is::<ResourceQuota>() || of.is::<LimitRange>() || of.is::<ServiceAccount>();
    let namespace = match () {
        () if of.is::<Namespace>() => of.name.as_str(),
        () if rule => of.namespace.as_str(),
        () => return BTreeSet::new(),
    };
    let waits = |set: &ReplicaSet| {
        let status = set.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|c| c.type_.as_deref() == Some(FAILURE))
            || status.map_or(0, |s| s.replicas) < set.spec.replicas.unwrap_or(1)
    };
    let sets = view.list::<ReplicaSet>(Some(namespace)).filter(|(_, set)| waits(set));
    sets.map(|(object, _)| object.key().clone()).collect()
}

/// The ReplicaSet that controls a pod, or those that would adopt it.
fn owners_of(pod: &Object, view: &View) -> Vec<Key> {
    let namespace = &pod.key().namespace;
    if pod.controller_uid().is_some() {
        let owner = pod.controller().filter(|o| o.kind == GroupKind::of::<ReplicaSet>());
        let owner = owner.map(|o| Key::of::<ReplicaSet>(namespace, &o.name));
        return owner.filter(|key| view.object(key).is_some()).into_iter().collect();
    }
    let labels = pod.meta().labels.as_ref();
    let names = |set: &ReplicaSet| {
        Selector::from_label_selector(&set.spec.selector).is_ok_and(|s| s.matches(labels))
    };
    let sets = view.list::<ReplicaSet>(Some(namespace));
    sets.filter(|(_, set)| names(set)).map(|(object, _)| object.key().clone()).collect()
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    let Some(set) = object.view::<ReplicaSet>() else { return Plan::default() };
    let mut batch = Batch::default();
    let claimed = owners::claim::<Pod>(view, object, &set.spec.selector, &mut batch);
    let terminating = claimed.iter().filter(|(o, p)| o.is_terminating() && !pods::is_over(p));
    let terminating = count(terminating.count());
    let mut active: Vec<_> =
        claimed.into_iter().filter(|(o, pod)| pods::is_active(o, pod)).collect();
    let mut made = Made::default();
    if !object.is_terminating() && !owners::is_closing(view, &key.namespace) {
        let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let started = !active.is_empty() || set.status.as_ref().is_some_and(|s| s.replicas > 0);
        let held = match started {
            true => order::hold_back(view, object),
            false => order::hold(view, object),
        };
        let missing = wanted.saturating_sub(active.len());
        if held.is_some() {
            // Whoever asks for its pods is told by the commit. What runs already does not start.
            let missing = missing.min(inputs.survivors.of_set(view, key));
            made = create(view, object, set, missing, &mut batch);
        } else if missing > 0 {
            made = create(view, object, set, missing, &mut batch);
        } else if active.len() > wanted {
            let surplus = (active.len() - wanted).min(BURST_MAX);
            delete(view, object, &mut active, surplus, inputs.now, &mut batch);
        }
    }
    let (mut status, mut wake_at) =
        status(object, set, &active, made.count, terminating, inputs.now);
    if tell_refusal(&mut status, made.refused.as_ref(), inputs.now)
        && let Some(refused) = &made.refused
    {
        batch.warning(object, NAME, "FailedCreate", format!("Error creating: {refused}"));
    }
    if made.refused.is_some() {
        let retry = inputs.now.plus_seconds(REFUSED_SECONDS);
        wake_at = Some(wake_at.map_or(retry, |at| at.min(retry)));
    }
    if set.status.as_ref() != Some(&status) {
        batch.status(object, &ReplicaSet { status: Some(status), ..set.clone() });
    }
    batch.into_plan(wake_at)
}

/// Makes pods of the template, as many as are missing.
fn create(
    view: &View,
    owner: &Object,
    set: &ReplicaSet,
    missing: usize,
    batch: &mut Batch,
) -> Made {
    let template = set.spec.template.clone().unwrap_or_default();
    let wanted = std::iter::repeat_n((), missing);
    let prefix = |(): &()| format!("{}-", owner.key().name);
    let pod = |(): &(), prefix: &str, name: &str| pod_of(&template, owner, prefix, name);
    offspring::make(view, (owner, NAME), wanted, prefix, pod, batch)
}

/// Writes into the status why pods are refused, or that they are not any more; says whether that is
/// news. The words of a refusal name a pod that will never be, so they count from the rule on.
fn tell_refusal(status: &mut ReplicaSetStatus, refused: Option<&Refused>, now: Timestamp) -> bool {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let at = conditions.iter().position(|c| c.type_.as_deref() == Some(FAILURE));
    let news = match (refused, at) {
        (None, None) => false,
        (None, Some(at)) => {
            conditions.remove(at);
            true
        }
        (Some(refused), at) => {
            let message = refused.to_string();
            let told = at.and_then(|at| conditions.get(at)).and_then(|c| c.message.as_ref());
            let news = !told.is_some_and(|told| told.ends_with(&refused.why));
            if news {
                conditions.retain(|c| c.type_.as_deref() != Some(FAILURE));
                conditions.push(ReplicaSetCondition {
                    type_: Some(FAILURE.to_owned()),
                    status: Some("True".to_owned()),
                    reason: Some("FailedCreate".to_owned()),
                    message: Some(message),
                    last_transition_time: Some(now.to_time()),
                });
            }
            news
        }
    };
    status.conditions = Some(conditions).filter(|list| !list.is_empty());
    news
}

/// Deletes the `surplus` pods that are missed least and takes them out of `active`.
fn delete(
    view: &View,
    owner: &Object,
    active: &mut Vec<(&Object, Pod)>,
    surplus: usize,
    now: Timestamp,
    batch: &mut Batch,
) {
    let crowd = crowding(view, owner);
    active.sort_by_cached_key(|(object, pod)| rank(object, pod, &crowd, now));
    for (pod, _) in active.drain(..surplus) {
        batch.delete(pod);
        let message = format!("Deleted pod: {}", pod.key().name);
        batch.event(owner, NAME, "SuccessfulDelete", message);
    }
}

/// How many pods of the same application (all ReplicaSets of one Deployment) each node has.
fn crowding(view: &View, set: &Object) -> BTreeMap<String, usize> {
    let related: Vec<&Object> = match set.controller_uid() {
        Some(uid) => view.owned_by(uid).filter(|o| o.key().is::<ReplicaSet>()).collect(),
        None => vec![set],
    };
    let mut crowd = BTreeMap::new();
    for object in related.into_iter().flat_map(|set| view.owned_by(set.uid())) {
        if let Some(pod) = object.view::<Pod>().filter(|p| pods::is_active(object, p))
            && let Some(node) = pods::node(pod)
        {
            *crowd.entry(node.to_owned()).or_default() += 1;
        }
    }
    crowd
}

/// What is deleted first sorts first.
pub(super) type Rank = (bool, u8, bool, i32, Reverse<usize>, i64, Reverse<i32>, i64, String);

/// Kubernetes' order: without a node, pending, not ready, lower deletion cost, on the fuller node,
/// ready for a shorter time, restarted more often, younger. Times count in powers of two, so that
/// it is not always the youngest.
pub(super) fn rank(
    object: &Object,
    pod: &Pod,
    crowd: &BTreeMap<String, usize>,
    now: Timestamp,
) -> Rank {
    let phase = match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = object.annotation("controller.kubernetes.io/pod-deletion-cost");
    let node = pods::node(pod);
    let ready_for = pods::ready_since(pod).map_or(0, |since| magnitude(since, now));
    let born = object.meta().creation_timestamp.as_ref().map_or(now, Timestamp::from);
    (
        node.is_some(),
        phase,
        pods::is_ready(pod),
        cost.and_then(|c| c.parse().ok()).unwrap_or(0),
        Reverse(node.and_then(|n| crowd.get(n)).copied().unwrap_or(0)),
        ready_for,
        Reverse(restarts(pod)),
        magnitude(born, now),
        object.uid().to_owned(),
    )
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    statuses.map(|c| c.restart_count).max().unwrap_or(0)
}

/// The power of two of an age in milliseconds.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.since(since).as_millis();
    if age == 0 { -1 } else { i64::from(age.ilog2()) }
}

/// The status after this step, and when a ready pod becomes available next.
fn status(
    object: &Object,
    set: &ReplicaSet,
    active: &[(&Object, Pod)],
    created: usize,
    terminating: i32,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Timestamp>) {
    let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
    let template = set.spec.template.as_ref().and_then(|t| t.metadata.as_ref());
    let labels = template.and_then(|m| m.labels.clone()).unwrap_or_default();
    let full = Selector::from_labels(&labels);
    let labeled = |(_, pod): &&(&Object, Pod)| full.matches(pod.metadata().labels.as_ref());
    let times: Vec<Timestamp> =
        active.iter().filter_map(|(_, pod)| pods::available_from(pod, min_ready)).collect();
    let available = times.iter().filter(|at| **at <= now).count();
    let wake_at = times.iter().filter(|at| **at > now).min().copied();
    let before = set.status.as_ref();
    let status = ReplicaSetStatus {
        replicas: count(active.len() + created),
        fully_labeled_replicas: nonzero(active.iter().filter(labeled).count() + created),
        ready_replicas: nonzero(times.len()),
        available_replicas: nonzero(available),
        terminating_replicas: Some(terminating),
        observed_generation: object.meta().generation,
        conditions: before.and_then(|s| s.conditions.clone()),
    };
    (status, wake_at)
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn nonzero(n: usize) -> Option<i32> {
    (n > 0).then(|| count(n))
}
