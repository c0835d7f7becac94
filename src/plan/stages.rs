//! How far a commit has come with the pods that it starts: all have a node, all run.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    core::v1::Pod,
};

use super::{commit, pods};
use crate::{
    kinds::{CommitTimings, HookPhase, order},
    model::{CommitName, GroupKind, Object, Timestamp},
    state::View,
};

/// Notes that the last pod which the running commit started has a node, and that it runs, when that
/// is so for the first time. A commit that starts no pod is through at once.
pub(super) fn note(view: &View, head: &CommitName, timings: &mut CommitTimings, now: Timestamp) {
    if timings.scheduled_at.is_none() && all(view, head, is_scheduled) {
        timings.scheduled_at = Some(now.0);
    }
    if timings.scheduled_at.is_some() && timings.running_at.is_none() && all(view, head, has_run) {
        timings.running_at = Some(now.0);
    }
}

/// Whether every workload that the commit changed has all its pods, and all of them are so.
fn all(view: &View, head: &CommitName, is: fn(&Pod) -> bool) -> bool {
    let kinds = [
        GroupKind::of::<Deployment>(),
        GroupKind::of::<ReplicaSet>(),
        GroupKind::of::<Job>(),
        GroupKind::of::<Pod>(),
    ];
    let changed = kinds.iter().flat_map(|kind| view.origins_of(kind));
    let changed = changed.filter(|(_, origin)| {
        origin.commit == head.id && origin.source == head.source && origin.ended.is_none()
    });
    let mut objects = changed.map(|(key, _)| view.object(key));
    objects.all(|object| object.is_some_and(|o| waits_for_failure(o) || are(view, o, is)))
}

/// Whether an object does nothing as long as its commit does not fail.
fn waits_for_failure(object: &Object) -> bool {
    order(object).hook.is_some_and(|hook| hook.phase == HookPhase::SyncFail)
}

/// Whether a workload has the pods that it is to have, and all of them are so.
fn are(view: &View, object: &Object, is: fn(&Pod) -> bool) -> bool {
    let newest = commit::version(view, object);
    let all = || newest.iter().filter_map(|o| o.view::<Pod>()).all(is);
    if object.key().is::<Pod>() {
        return all();
    }
    has_pods(object, newest.len()) && all()
}

fn has_pods(object: &Object, there: usize) -> bool {
    let count = i64::try_from(there).unwrap_or(i64::MAX);
    if let Some(has) = commit::has_pods(object, count) {
        return has;
    }
    let Some(job) = object.view::<Job>() else { return true };
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    let has_ended = job.status.as_ref().is_some_and(|status| status.completion_time.is_some());
    is_suspended || has_ended || there > 0
}

fn is_scheduled(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

fn has_run(pod: &Pod) -> bool {
    matches!(pods::phase(pod), "Running" | "Succeeded" | "Failed")
}
