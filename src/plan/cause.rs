//! Why a pod does not run: the one sentence a person needs, from what its node and the scheduler said.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::pods;

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

/// What keeps one container from running: a reason to wait that does not pass by itself, or how it ended.
fn of_container(container: &ContainerStatus) -> Option<(String, String)> {
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.clone().unwrap_or_default();
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        if reason.is_empty() || matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
            return None;
        }
        let mut text = format!("container {}: {reason}", container.name);
        if let Some(message) = waiting.message.filter(|m| !m.is_empty()) {
            text = format!("{text}: {message}");
        }
        if let Some(ended) = last.terminated {
            text = format!("{text} (last exit code {})", ended.exit_code);
        }
        return Some((reason, text));
    }
    let ended = state.terminated.filter(|t| t.exit_code != 0)?;
    let reason = ended.reason.unwrap_or_else(|| "Error".to_owned());
    let mut text = format!("container {}: exit code {}", container.name, ended.exit_code);
    if let Some(message) = ended.message.filter(|m| !m.is_empty()) {
        text = format!("{text}: {message}");
    }
    Some((reason, text))
}
