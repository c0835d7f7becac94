//! What an eviction takes from the disruption budget of its pod.
//!
//! The budget is written in the same command as the deletion, at the version that was read: of two
//! servers that spend the last disruption at the same moment, one reads again.

#[cfg(test)]
mod tests;

use k8s_openapi::api::{
    core::v1::{Pod, PodCondition},
    policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
};
use serde_json::json;

use crate::{
    api::{
        Failure,
        failure::{Cause, Details},
    },
    model::{Object, Selector, Timestamp},
    state::{Expect, Op, Part, View},
};

/// Most evictions of one budget that are under way, as Kubernetes.
const NOTED_MAX: usize = 2000;
/// How long a client shall wait for a budget that was not counted yet.
const UNCOUNTED_SECONDS: u32 = 10;

/// Takes one disruption from the budget that guards a pod; nothing when none does, or when the pod
/// does not count as it is.
pub(super) fn spend(view: &View, pod: &Object, now: Timestamp) -> Result<Option<Op>, Failure> {
    let budgets = view.list::<PodDisruptionBudget>(Some(&pod.key().namespace));
    let mut budgets = budgets.filter(|(_, budget)| guards(budget, pod));
    let Some((object, budget)) = budgets.next() else { return Ok(None) };
    if budgets.next().is_some() {
        let text = "This pod has more than one PodDisruptionBudget, which the eviction \
                    subresource does not support.";
        return Err(Failure::internal(text));
    }
    let status = budget.status.clone().unwrap_or_default();
    if is_spared(budget, &status, pod) {
        return Ok(None);
    }
    let name = &object.key().name;
    if status.observed_generation.unwrap_or_default() < object.meta().generation.unwrap_or_default()
    {
        let text = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(text, UNCOUNTED_SECONDS));
    }
    if status.disrupted_pods.iter().flatten().count() > NOTED_MAX {
        let text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Failure::forbidden(text));
    }
    let allowed = status.disruptions_allowed.unwrap_or_default();
    if allowed <= 0 {
        let text = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy.unwrap_or_default(),
            status.current_healthy.unwrap_or_default()
        );
        return Err(refused(text, 1));
    }
    let mut value = object.value();
    value["status"]["disruptionsAllowed"] = (allowed - 1).into();
    value["status"]["disruptedPods"][pod.key().name.as_str()] = json!(now.to_time());
    let spent = Object::from_value(&value).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(Some(Op::Put { object: spent, expect: Expect::At(object.revision()), part: Part::Status }))
}

fn guards(budget: &PodDisruptionBudget, pod: &Object) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = selector.and_then(|s| Selector::from_label_selector(s).ok());
    selector.is_some_and(|selector| selector.matches(pod.meta().labels.as_ref()))
}

/// Whether a pod that is not ready may go without being counted, as the budget's policy says.
fn is_spared(
    budget: &PodDisruptionBudget,
    status: &PodDisruptionBudgetStatus,
    pod: &Object,
) -> bool {
    let conditions = pod.view::<Pod>().and_then(|p| p.status.as_ref()?.conditions.as_ref());
    let ready = |c: &PodCondition| c.type_ == "Ready" && c.status == "True";
    if conditions.is_some_and(|all| all.iter().any(ready)) {
        return false;
    }
    let policy = budget.spec.as_ref().and_then(|s| s.unhealthy_pod_eviction_policy.as_deref());
    let desired = status.desired_healthy.unwrap_or_default();
    let enough = desired > 0 && status.current_healthy.unwrap_or_default() >= desired;
    policy == Some("AlwaysAllow") || enough
}

fn refused(why: String, retry_seconds: u32) -> Failure {
    let cause = Cause { reason: "DisruptionBudget".to_owned(), message: why, field: String::new() };
    let details = Details {
        causes: vec![cause],
        retry_after_seconds: Some(retry_seconds),
        ..Details::default()
    };
    Failure::too_many("Cannot evict pod as it would violate the pod's disruption budget.")
        .with(details)
}
