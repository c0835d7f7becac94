//! Why a pod does not run: the one sentence a person needs, from what its node and the scheduler
//! said.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::pods;
use crate::kinds::ailment;

/// A word and a sentence; `None` when the pod runs, is ready, or simply has not had the time yet.
pub(super) fn of(pod: &Pod) -> Option<(String, String)> {
    if pods::is_ready(pod) || pods::phase(pod) == "Succeeded" {
        return None;
    }
    let scheduled = pods::condition(pod, "PodScheduled").filter(|c| c.status == "False");
    if let Some(condition) = scheduled {
        let reason = condition.reason.clone().unwrap_or_else(|| "Unschedulable".to_owned());
        return Some((reason, condition.message.clone().unwrap_or_default()));
    }
    let status = pod.status.clone().unwrap_or_default();
    let init = status.init_container_statuses.iter().flatten();
    let main = status.container_statuses.iter().flatten();
    if let Some(cause) = init.chain(main).find_map(of_container) {
        return Some(cause);
    }
    if pods::phase(pod) == "Failed" {
        let reason = status.reason.unwrap_or_else(|| "Failed".to_owned());
        return Some((reason, status.message.unwrap_or_else(|| "the pod has failed".to_owned())));
    }
    let unready =
        status.conditions.iter().flatten().find(|c| {
            matches!(c.type_.as_str(), "Ready" | "ContainersReady") && c.message.is_some()
        });
    if let Some(condition) = unready.filter(|_| pods::phase(pod) == "Running") {
        let reason = condition.reason.clone().unwrap_or_else(|| "NotReady".to_owned());
        return Some((reason, condition.message.clone().unwrap_or_default()));
    }
    None
}

/// What keeps one container from running, the same at every moment of a crash loop.
fn of_container(container: &ContainerStatus) -> Option<(String, String)> {
    let found = ailment(container)?;
    let mut text = format!("container {}: {}", container.name, found.reason);
    if !found.message.is_empty() {
        text = format!("{text}: {}", found.message);
    }
    Some((found.reason, text))
}
