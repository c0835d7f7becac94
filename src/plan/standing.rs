//! How a commit stands, in the conditions that `kubectl wait` and kstatus read
//! (github.com/kubernetes-sigs/cli-utils, pkg/kstatus): `Ready` always, `Reconciling` while it is
//! on its way, `Stalled` when it will not come there by itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition;
use crate::{
    kinds::{CommitState, CommitStatus},
    model::{Object, Timestamp},
};

/// Brings the conditions up to date with the rest of the status. A condition that says the same as
/// before keeps its time.
pub(super) fn note(status: &mut CommitStatus, object: &Object, now: Timestamp) {
    let (ready, other) = match status.state {
        CommitState::Healthy => ("True", None),
        CommitState::Admitted | CommitState::Progressing | CommitState::Held => {
            ("False", Some("Reconciling"))
        }
        CommitState::Degraded | CommitState::Refused | CommitState::Superseded => {
            ("False", Some("Stalled"))
        }
    };
    let reason = match status.reason.as_str() {
        "" => "Admitted",
        reason => reason,
    };
    let condition = |kind: &str, says: &str| {
        let new = Condition {
            type_: kind.to_owned(),
            status: says.to_owned(),
            reason: reason.to_owned(),
            message: status.message.clone(),
            last_transition_time: now.to_time(),
            observed_generation: object.meta().generation,
        };
        condition::since(&status.conditions, new)
    };
    let all = other.map(|kind| condition(kind, "True"));
    status.conditions = std::iter::once(condition("Ready", ready)).chain(all).collect();
    status.observed_generation = object.meta().generation;
}
