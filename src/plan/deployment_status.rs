//! What a Deployment says of itself: counts, conditions, progress and its deadline.

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus};

use super::{
    deployment::{Progress, Rollout, Set},
    order::WAITING,
};
use crate::model::Timestamp;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// Seconds without progress until a Deployment counts as stuck; `None` when it never does.
fn deadline(rollout: &Rollout<'_>) -> Option<i64> {
    let seconds = rollout.deployment.spec.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| i64::from(seconds))
}

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_.as_deref() == Some(kind))
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(kind));
    }
}

/// What a condition says, its times aside.
struct Says<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: String,
}

/// Sets a condition; the same status and reason again is no change.
fn set(status: &mut DeploymentStatus, says: Says<'_>, now: Timestamp) {
    let text = |c: &Option<String>| c.clone().unwrap_or_default();
    let before = get(status, says.kind);
    if before.is_some_and(|c| text(&c.status) == says.status && text(&c.reason) == says.reason) {
        return;
    }
    let same = before.filter(|c| text(&c.status) == says.status);
    let since = same.and_then(|c| c.last_transition_time.clone());
    put(status, says, since.unwrap_or_else(|| now.to_time()), now);
}

fn put(
    status: &mut DeploymentStatus,
    says: Says<'_>,
    since: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
    now: Timestamp,
) {
    remove(status, says.kind);
    status.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: Some(says.kind.to_owned()),
        status: Some(says.status.to_owned()),
        reason: Some(says.reason.to_owned()),
        message: Some(says.message),
        last_transition_time: Some(since),
        last_update_time: Some(now.to_time()),
    });
}

fn progressing<'a>(status: &'a str, reason: &'a str, message: String) -> Says<'a> {
    Says { kind: PROGRESSING, status, reason, message }
}

/// Says that a Deployment was paused or resumed; a reported timeout is not overwritten.
pub(super) fn note_pause(rollout: &mut Rollout<'_>) {
    if deadline(rollout).is_none() {
        return;
    }
    let reason = get(&rollout.status, PROGRESSING).and_then(|c| c.reason.clone());
    let (is, was) = (
        rollout.deployment.spec.paused == Some(true),
        reason.as_deref() == Some("DeploymentPaused"),
    );
    let (reason, message) = match reason.as_deref() {
        Some(TIMED_OUT) => return,
        _ if is && !was => ("DeploymentPaused", "Deployment is paused"),
        _ if !is && was => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    let says = progressing("Unknown", reason, message.to_owned());
    set(&mut rollout.status, says, rollout.now);
}

/// Says why the rollout waits for its turn, or that it does not any more; tells whether that is
/// news.
pub(super) fn note_wait(rollout: &mut Rollout<'_>, why: Option<&str>) -> bool {
    let before = get(&rollout.status, WAITING).and_then(|c| c.message.clone());
    if before.as_deref() == why {
        return false;
    }
    remove(&mut rollout.status, WAITING);
    if let Some(why) = why {
        let message = why.to_owned();
        let says = Says { kind: WAITING, status: "True", reason: "Ordered", message };
        put(&mut rollout.status, says, rollout.now.to_time(), rollout.now);
    }
    true
}

/// Says that the ReplicaSet of the template was there already.
pub(super) fn note_found(rollout: &mut Rollout<'_>, name: &str) {
    if deadline(rollout).is_some() && get(&rollout.status, PROGRESSING).is_none() {
        let message = format!("Found new replica set {name:?}");
        let says = progressing("True", "FoundNewReplicaSet", message);
        set(&mut rollout.status, says, rollout.now);
    }
}

/// Says that the ReplicaSet of the template was made.
pub(super) fn note_created(rollout: &mut Rollout<'_>, name: &str) {
    if deadline(rollout).is_some() {
        let message = format!("Created new replica set {name:?}");
        let says = progressing("True", "NewReplicaSetCreated", message);
        set(&mut rollout.status, says, rollout.now);
    }
}

/// Whether all pods are of the current template and available, as `status` says.
pub(super) fn is_complete(rollout: &Rollout<'_>, status: &DeploymentStatus) -> bool {
    let is = |n: Option<i32>| n.unwrap_or(0) == rollout.desired();
    is(status.updated_replicas)
        && is(status.replicas)
        && is(status.available_replicas)
        && status.observed_generation >= rollout.deployment.metadata.generation
}

/// Brings the status up to date; gives the time at which the deadline passes.
pub(super) fn settle(rollout: &mut Rollout<'_>, progress: Progress) -> Option<Timestamp> {
    let before = rollout.deployment.status.clone().unwrap_or_default();
    let mut status = counted(rollout);
    if progress == Progress::Watched {
        watch(rollout, &before, &mut status);
        report_failures(rollout, &mut status);
    }
    rollout.status = status;
    let paused = rollout.deployment.spec.paused == Some(true);
    let current = get(&rollout.status, PROGRESSING).filter(|_| !paused)?;
    match current.reason.as_deref() {
        Some(AVAILABLE | TIMED_OUT) => None,
        _ => expiry(current, deadline(rollout)?),
    }
}

/// When a condition that nothing updates is too old.
fn expiry(condition: &DeploymentCondition, seconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from(condition.last_update_time.as_ref()?).plus_seconds(seconds))
}

/// The counts of the ReplicaSets and whether enough pods are available.
fn counted(rollout: &Rollout<'_>) -> DeploymentStatus {
    let sum = |field: fn(&ReplicaSetStatus) -> i32| -> i32 {
        rollout.sets.iter().map(|s| field(&s.counts())).sum()
    };
    let present = |n: i32| (n != 0).then_some(n);
    let available = sum(|s| s.available_replicas.unwrap_or(0));
    let wanted: i32 = rollout.sets.iter().map(Set::size).sum();
    let updated = rollout.new.map_or(0, |i| rollout.sets[i].counts().replicas);
    let mut status = DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: present(sum(|s| s.replicas)),
        updated_replicas: present(updated),
        ready_replicas: present(sum(|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: present(available),
        unavailable_replicas: present((wanted - available).max(0)),
        terminating_replicas: Some(sum(|s| s.terminating_replicas.unwrap_or(0))),
        collision_count: rollout.status.collision_count,
        conditions: rollout.status.conditions.clone(),
    };
    let unavailable = rollout.limits.unavailable_of(rollout.desired());
    let enough = available >= rollout.desired() - unavailable;
    let (answer, reason, text) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        ),
    };
    let says = Says { kind: "Available", status: answer, reason, message: text.to_owned() };
    set(&mut status, says, rollout.now);
    status
}

/// Looks at progress since `before`.
fn watch(rollout: &Rollout<'_>, before: &DeploymentStatus, status: &mut DeploymentStatus) {
    let Some(seconds) = deadline(rollout) else {
        remove(status, PROGRESSING);
        return;
    };
    let current = get(status, PROGRESSING).cloned();
    let reason = current.as_ref().and_then(|c| c.reason.as_deref());
    let was_complete = status.replicas == status.updated_replicas && reason == Some(AVAILABLE);
    if was_complete {
        return;
    }
    let subject = match rollout.new {
        Some(new) => format!("ReplicaSet {:?}", rollout.sets[new].name()),
        None => {
            let name = rollout.deployment.metadata.name.clone().unwrap_or_default();
            format!("Deployment {name:?}")
        }
    };
    if is_complete(rollout, status) {
        let message = format!("{subject} has successfully progressed.");
        set(status, progressing("True", AVAILABLE, message), rollout.now);
    } else if has_progressed(before, status) {
        let message = format!("{subject} is progressing.");
        let since = current
            .filter(|c| c.status.as_deref() == Some("True"))
            .and_then(|c| c.last_transition_time);
        let says = progressing("True", "ReplicaSetUpdated", message);
        put(status, says, since.unwrap_or_else(|| rollout.now.to_time()), rollout.now);
    } else if has_timed_out(current.as_ref(), seconds, rollout.now) {
        let message = format!("{subject} has timed out progressing.");
        set(status, progressing("False", TIMED_OUT, message), rollout.now);
    }
}

fn has_timed_out(current: Option<&DeploymentCondition>, seconds: i64, now: Timestamp) -> bool {
    let Some(current) = current else { return false };
    match current.reason.as_deref() {
        Some(TIMED_OUT) => true,
        // Complete: whatever fails from now on is no rollout that is stuck.
        Some(AVAILABLE) => false,
        _ => expiry(current, seconds).is_some_and(|at| at <= now),
    }
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    let more = |field: fn(&DeploymentStatus) -> Option<i32>| {
        field(after).unwrap_or(0) > field(before).unwrap_or(0)
    };
    more(|s| s.updated_replicas)
        || old(after) < old(before)
        || more(|s| s.ready_replicas)
        || more(|s| s.available_replicas)
}

/// Takes over the failures of the ReplicaSets, the new one's first.
fn report_failures(rollout: &Rollout<'_>, status: &mut DeploymentStatus) {
    const KIND: &str = "ReplicaFailure";
    let new = rollout.new.map(|i| &rollout.sets[i]);
    let failure = new.into_iter().chain(&rollout.sets).find_map(|set| {
        let conditions = set.counts().conditions.unwrap_or_default();
        conditions
            .into_iter()
            .find(|c| c.type_.as_deref() == Some(KIND) && c.status.as_deref() == Some("True"))
    });
    match failure {
        None => remove(status, KIND),
        Some(failure) => {
            let reason = failure.reason.unwrap_or_default();
            let message = failure.message.unwrap_or_default();
            let says = Says { kind: KIND, status: "True", reason: &reason, message };
            set(status, says, rollout.now);
        }
    }
}
