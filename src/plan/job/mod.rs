//! Jobs: pods that run until enough of them have done their work.
//!
//! In: a Job, its pods and the time. Out: pods to make and to delete, the Job's status, and when to
//! look again (a back-off, a deadline, the end of a finished Job). `sync` takes one step, `end` has
//! the rules of when it is over, `make` the pods, `indexes` the sets of completion indexes.
//!
//! Each pod is counted once: it carries a finalizer that the step takes away which counts it, in
//! one entry of the log. So nothing is counted twice, nothing is lost when somebody deletes a pod,
//! and `uncountedTerminatedPods` is always empty. Never here: a timer, or a pod that is owned by
//! something else. Source: kubernetes.io/docs/concepts/workloads/controllers/job.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    batch::v1::{Job, JobStatus},
    core::v1::{Namespace, Pod},
};

use super::{Controller, Inputs, Plan, batch::Batch, order};
use crate::{
    model::{GroupKind, Key, Object, Selector, Timestamp},
    state::{Change, View},
};

mod end;
mod indexes;
mod make;
mod sync;

pub(super) const NAME: &str = "job-controller";

/// The finalizer of pods that are not counted yet.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Who works a Job off unless it names somebody else.
const MANAGER: &str = "kubernetes.io/job-controller";

/// Works every Job off, and lets go of pods that count for none. The latter are its objects too.
pub(super) const CONTROLLER: Controller = Controller { name: NAME, affected, all, plan };

fn all(view: &View) -> BTreeSet<Key> {
    let jobs = view.of_kind(&GroupKind::of::<Job>(), None).map(|o| o.key().clone());
    let pods = view.of_kind(&GroupKind::of::<Pod>(), None).filter(|o| is_stray(view, o));
    jobs.chain(pods.map(|o| o.key().clone())).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let mut found = touched(change, view);
    found.extend(order::waiters(change, view).into_iter().filter(|key| key.is::<Job>()));
    found
}

fn touched(change: &Change, view: &View) -> BTreeSet<Key> {
    if change.key.is::<Job>() {
        let gone = change.old.iter().filter(|old| {
            change.new.as_ref().is_none_or(|new| new.uid() != old.uid() || is_over(new))
        });
        let strays = gone.flat_map(|job| view.dependents_of(job.uid()));
        let strays = strays.filter(|o| is_stray(view, o)).map(|o| o.key().clone());
        return super::still(&change.key, view).into_iter().chain(strays).collect();
    }
    if change.key.is::<Namespace>() && super::is_new(change) {
        let kind = GroupKind::of::<Job>();
        return view.of_kind(&kind, Some(&change.key.name)).map(|o| o.key().clone()).collect();
    }
    if !change.key.is::<Pod>() {
        return BTreeSet::new();
    }
    let versions = [&change.old, &change.new].into_iter().flatten();
    let mut found: BTreeSet<Key> = versions.flat_map(|pod| owners_of(pod, view)).collect();
    if change.new.as_ref().is_some_and(|pod| is_stray(view, pod)) {
        found.insert(change.key.clone());
    }
    found
}

/// The Job that controls a pod, or those that would adopt it.
fn owners_of(pod: &Object, view: &View) -> Vec<Key> {
    if pod.controller_uid().is_some() {
        return owner_of(pod, view).map(|job| job.key().clone()).into_iter().collect();
    }
    let labels = pod.meta().labels.as_ref();
    let names = |job: &Job| {
        let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| {
            Selector::from_label_selector(selector)
                .is_ok_and(|s| !s.is_empty() && s.matches(labels))
        })
    };
    let jobs = view.list::<Job>(Some(&pod.key().namespace));
    jobs.filter(|(_, job)| names(job)).map(|(object, _)| object.key().clone()).collect()
}

fn owner_of<'a>(pod: &Object, view: &'a View) -> Option<&'a Object> {
    let owner = pod.controller().filter(|owner| owner.kind == GroupKind::of::<Job>())?;
    let job = view.object(&Key::of::<Job>(&pod.key().namespace, &owner.name))?;
    (job.uid() == owner.uid).then_some(job)
}

fn is_tracked(pod: &Object) -> bool {
    pod.meta().finalizers.iter().flatten().any(|name| name == TRACKING)
}

/// Whether a pod waits to be counted by a Job that is gone, or over.
fn is_stray(view: &View, pod: &Object) -> bool {
    is_tracked(pod) && owner_of(pod, view).is_none_or(is_over)
}

/// Whether a Job has ended, one way or the other.
fn is_over(job: &Object) -> bool {
    job.view::<Job>().and_then(|job| job.status.as_ref()).is_some_and(|s| finished_at(s).is_some())
}

/// When a Job ended.
fn finished_at(status: &JobStatus) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter().flatten();
    let over = conditions
        .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    Some(over.last_transition_time.as_ref().map(Timestamp::from).unwrap_or_default())
}

fn plan(view: &View, key: &Key, inputs: &Inputs<'_>) -> Plan {
    let Some(object) = view.object(key) else { return Plan::default() };
    if key.is::<Pod>() {
        return if is_stray(view, object) { let_go(object) } else { Plan::default() };
    }
    let Some(job) = object.view::<Job>() else { return Plan::default() };
    let Some(spec) = &job.spec else { return Plan::default() };
    if spec.managed_by.as_deref().is_some_and(|by| by != MANAGER) {
        return Plan::default();
    }
    if let Some(at) = job.status.as_ref().and_then(finished_at) {
        let expires = spec.ttl_seconds_after_finished.map(|s| at.plus_seconds(i64::from(s)));
        return expire(object, expires, inputs.now);
    }
    sync::step(view, object, job, spec, inputs.now)
}

/// Deletes a finished Job when its time is over.
fn expire(job: &Object, at: Option<Timestamp>, now: Timestamp) -> Plan {
    let Some(at) = at.filter(|_| !job.is_terminating()) else { return Plan::default() };
    if at > now {
        return Plan { wake_at: Some(at), ..Plan::default() };
    }
    let mut batch = Batch::default();
    batch.delete(job);
    batch.into_plan(None)
}

fn let_go(object: &Object) -> Plan {
    let mut batch = Batch::default();
    if let Some(pod) = object.view::<Pod>() {
        batch.update(object, &untracked(pod));
    }
    batch.into_plan(None)
}

/// The pod without the finalizer by which it waits to be counted.
fn untracked(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    let finalizers = &mut pod.metadata.finalizers;
    if let Some(list) = finalizers {
        list.retain(|name| name != TRACKING);
    }
    *finalizers = finalizers.take().filter(|list| !list.is_empty());
    pod
}
