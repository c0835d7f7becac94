//! When a Job is over, and when a pod that failed gets a successor: the rules, of values alone.
//!
//! Source: kubernetes.io/docs/concepts/workloads/controllers/job.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    batch::v1::{JobSpec, PodFailurePolicyRule},
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod},
};

use super::indexes;
use crate::{
    model::{Object, Timestamp},
    plan::pods,
};

/// Seconds until the successor of the first pod that failed; each further failure doubles them.
const BACKOFF_SECONDS: i64 = 10;
/// Most seconds until a successor, as Kubernetes' controller has them.
const BACKOFF_SECONDS_MAX: i64 = 600;

/// Why and how a Job is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Whether it did what it was for.
    pub(super) succeeded: bool,
    /// One word of Kubernetes.
    pub(super) reason: String,
    /// One sentence of Kubernetes.
    pub(super) message: String,
}

impl End {
    pub(super) fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self { succeeded: false, reason: reason.to_owned(), message: message.into() }
    }

    pub(super) fn succeeded(reason: &str, message: impl Into<String>) -> Self {
        Self { succeeded: true, reason: reason.to_owned(), message: message.into() }
    }
}

/// What a pod's failure leads to, as the Job's `podFailurePolicy` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It counts towards the limit, which is so without a policy.
    Counts,
    /// It does not count.
    Ignored,
    /// Its index is given up.
    FailsIndex,
    /// The Job has failed, with this message.
    FailsJob(String),
}

/// What the failure of `pod` leads to: the first rule that matches says.
pub(super) fn consequence(spec: &JobSpec, pod: &Pod) -> Consequence {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (i, rule) in rules.enumerate() {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Consequence::Ignored,
            "FailIndex" => Consequence::FailsIndex,
            "FailJob" => {
                Consequence::FailsJob(format!("{what} matching FailJob rule at index {i}"))
            }
            _ => Consequence::Counts,
        };
    }
    Consequence::Counts
}

/// What of the pod a rule speaks of.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    let of = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
    if let Some(codes) = &rule.on_exit_codes {
        let asked =
            |c: &&ContainerStatus| codes.container_name.as_ref().is_none_or(|name| *name == c.name);
        let matches = |code: i32| match codes.operator.as_str() {
            "In" => codes.values.contains(&code),
            _ => !codes.values.contains(&code),
        };
        return containers(pod).filter(asked).find_map(|c| {
            let code = ended(c)?.exit_code;
            let told = format!("Container {} for pod {of} failed with exit code {code}", c.name);
            (code != 0 && matches(code)).then_some(told)
        });
    }
    rule.on_pod_conditions.iter().flatten().find_map(|pattern| {
        let status = pattern.status.as_deref().unwrap_or("True");
        let kind = pattern.type_.as_str();
        let has = pods::condition(pod, kind).is_some_and(|c| c.status == status);
        has.then(|| format!("Pod {of} has condition {kind}"))
    })
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|s| s.init_container_statuses.as_ref());
    let main = status.and_then(|s| s.container_statuses.as_ref());
    main.into_iter().chain(init).flatten()
}

fn ended(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    container.state.as_ref()?.terminated.as_ref()
}

/// Whether the indexes that succeeded are enough, and by which rule of the `successPolicy`.
pub(super) fn is_enough(spec: &JobSpec, succeeded: &BTreeSet<i32>) -> Option<End> {
    let rules = spec.success_policy.iter().flat_map(|policy| &policy.rules);
    let all = spec.completions.unwrap_or(0);
    for (i, rule) in rules.enumerate() {
        let asked = rule.succeeded_indexes.as_ref().map(|text| indexes::parse(text, all));
        let got = match &asked {
            Some(asked) => asked.intersection(succeeded).count(),
            None => succeeded.len(),
        };
        let wanted = rule.succeeded_count.and_then(|n| usize::try_from(n).ok());
        let wanted = wanted.or(asked.map(|asked| asked.len()));
        if wanted.is_some_and(|wanted| got >= wanted) {
            return Some(End::succeeded("SuccessPolicy", format!("Matched rules at index {i}")));
        }
    }
    None
}

/// Whether the restarts of containers that are restarted in place are too many.
pub(super) fn restarted_too_often<'a>(spec: &JobSpec, pods: impl Iterator<Item = &'a Pod>) -> bool {
    let policy = spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let open = pods.filter(|pod| !pods::is_over(pod));
    let restarts: i32 = open.flat_map(containers).map(|c| c.restart_count).sum();
    match spec.backoff_limit.unwrap_or(0) {
        0 => restarts > 0,
        limit => restarts >= limit,
    }
}

/// When a pod ended, as well as that is known.
pub(super) fn ended_at(object: &Object, pod: &Pod) -> Timestamp {
    let finished = containers(pod).filter_map(|c| ended(c)?.finished_at.as_ref());
    let finished = finished.map(Timestamp::from).max();
    let meta = object.meta();
    let deleted = || {
        let grace = meta.deletion_grace_period_seconds.unwrap_or(0);
        let at = meta.deletion_timestamp.as_ref().map(Timestamp::from)?;
        Some(at.plus_seconds(-grace))
    };
    let ready = || {
        let condition = pods::condition(pod, "Ready")?;
        condition.last_transition_time.as_ref().map(Timestamp::from)
    };
    let born = || meta.creation_timestamp.as_ref().map(Timestamp::from);
    finished.or_else(deleted).or_else(ready).or_else(born).unwrap_or_default()
}

/// From when on the next pod may be made: after each failure since the last success twice as late.
pub(super) fn next_try(failed: &[Timestamp], succeeded: Option<Timestamp>) -> Option<Timestamp> {
    let since = failed.iter().filter(|at| succeeded.is_none_or(|success| **at > success));
    let failures = u32::try_from(since.count()).unwrap_or(u32::MAX);
    let doubled = 2_i64.saturating_pow(failures.checked_sub(1)?);
    let seconds = BACKOFF_SECONDS.saturating_mul(doubled).min(BACKOFF_SECONDS_MAX);
    Some(failed.iter().max()?.plus_seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_until_ten_minutes_and_begins_anew_after_a_success() {
        let failed: Vec<Timestamp> = (0..9).map(|n| Timestamp(n * 1000)).collect();
        let wait = |n: usize| {
            let last = failed.get(n - 1).unwrap();
            next_try(&failed[..n], None).unwrap().since(*last).as_secs()
        };
        assert_eq!(
            (1..=9).map(wait).collect::<Vec<_>>(),
            [10, 20, 40, 80, 160, 320, 600, 600, 600]
        );
        assert_eq!(next_try(&[], None), None);
        assert_eq!(next_try(&failed[..3], Some(Timestamp(5000))), None);
        assert_eq!(next_try(&failed[..3], Some(Timestamp(1500))), Some(Timestamp(12_000)));
    }
}
