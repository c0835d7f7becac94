//! What controllers and commits make of a pod, and what they ask of it.

use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::model::{Object, Timestamp};

/// The phase; `Pending` before anything is known.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

/// Whether every container has ended for good.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod counts: neither over nor on its way out.
pub(crate) fn is_active(object: &Object, pod: &Pod) -> bool {
    !is_over(pod) && !object.is_terminating()
}

/// The node the pod is on.
pub(crate) fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|n| !n.is_empty())
}

/// One condition.
pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Whether the pod takes requests.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod has been ready.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(Timestamp::from)
}

/// From when the pod counts as available: ready for `min_ready_seconds`. `None` while it is not
/// ready.
pub(crate) fn available_from(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    let since = ready_since(pod).unwrap_or_default();
    Some(if min_ready_seconds <= 0 {
        Timestamp(i64::MIN)
    } else {
        since.plus_seconds(i64::from(min_ready_seconds))
    })
}
