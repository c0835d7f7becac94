//! Deployments, and what other workloads share with them.

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus, RollingUpdateDeployment},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::{
        apis::meta::v1::LabelSelector,
        util::intstr::IntOrString::{self, Int, String as Text},
    },
};

use super::{Kind, field::Check, meta, pod_defaults, pod_spec};
use crate::model::Selector;

/// Where the selector stands; absent it is an error of its own.
pub(super) const SELECTOR: &str = "/spec/selector";

impl Kind for Deployment {
    const NEEDED: &'static [&'static str] = &[SELECTOR];

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        if strategy.type_.as_deref().is_none_or(str::is_empty) {
            strategy.type_ = Some("RollingUpdate".to_owned());
        }
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(|| Text("25%".to_owned()));
            rolling.max_surge.get_or_insert_with(|| Text("25%".to_owned()));
        }
        pod_defaults::template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        check.not_negative("spec.replicas", spec.replicas.map(i64::from));
        validate_selector_and_template("deployment", &spec.selector, &spec.template, check);
        let strategy = spec.strategy.clone().unwrap_or_default();
        match (strategy.type_.as_deref(), &strategy.rolling_update) {
            (Some("Recreate"), Some(_)) => {
                let text = "may not be specified when strategy `type` is 'Recreate'";
                check.forbidden("spec.strategy.rollingUpdate", text);
            }
            (Some("Recreate"), None) | (Some("RollingUpdate"), None) => {}
            (Some("RollingUpdate"), Some(rolling)) => validate_rolling(rolling, check),
            _ => check.not_supported("spec.strategy", &strategy, &["Recreate", "RollingUpdate"]),
        }
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        check.not_negative("spec.minReadySeconds", Some(i64::from(min_ready)));
        let history = spec.revision_history_limit.map(i64::from);
        check.not_negative("spec.revisionHistoryLimit", history);
        if let Some(deadline) = spec.progress_deadline_seconds {
            let field = "spec.progressDeadlineSeconds";
            check.not_negative(field, Some(i64::from(deadline)));
            if deadline <= min_ready {
                check.invalid(field, deadline, "must be greater than minReadySeconds");
            }
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(DeploymentStatus::default());
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec.selector", &live.spec.selector, &self.spec.selector);
    }
}

fn validate_rolling(rolling: &RollingUpdateDeployment, check: &mut Check) {
    let at = "spec.strategy.rollingUpdate";
    let unavailable = rolling.max_unavailable.clone().unwrap_or(Int(0));
    let surge = rolling.max_surge.clone().unwrap_or(Int(0));
    let field = format!("{at}.maxUnavailable");
    validate_share(&field, &unavailable, check);
    validate_share(&format!("{at}.maxSurge"), &surge, check);
    if is_zero(&unavailable) && is_zero(&surge) {
        check.invalid(&field, &unavailable, "may not be 0 when `maxSurge` is 0");
    }
    at_most_all(&field, &unavailable, check);
}

/// A share that is no more than all of them.
pub(super) fn at_most_all(field: &str, share: &IntOrString, check: &mut Check) {
    if percent(share).is_some_and(|p| p > 100) {
        check.invalid(field, share, "must not be greater than 100%");
    }
}

fn percent(share: &IntOrString) -> Option<u32> {
    match share {
        Text(text) => text.strip_suffix('%')?.parse().ok(),
        Int(_) => None,
    }
}

/// Whether a share is nothing, however it is written.
pub(super) fn is_zero(share: &IntOrString) -> bool {
    matches!(share, Int(0)) || percent(share) == Some(0)
}

/// A number of pods, or a share of them.
pub(super) fn validate_share(field: &str, share: &IntOrString, check: &mut Check) {
    match share {
        Int(n) => check.not_negative(field, Some(i64::from(*n))),
        Text(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                let rule = "a valid percent string must be a numeric string followed by an ending \
                            '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                check.invalid(field, text, rule);
            }
        }
    }
}

/// What Deployments and their like ask of their selector and pod template; `what` names the kind in
/// messages.
pub(super) fn validate_selector_and_template(
    what: &str,
    selector: &LabelSelector,
    template: &PodTemplateSpec,
    check: &mut Check,
) {
    let has_labels = selector.match_labels.as_ref().is_some_and(|l| !l.is_empty());
    let has_expressions = selector.match_expressions.as_ref().is_some_and(|e| !e.is_empty());
    meta::validate_selector("spec.selector", selector, check);
    let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    if check.absent.contains(&SELECTOR) {
        check.required("spec.selector", "");
        let text = "`selector` does not match template `labels`";
        check.invalid("spec.template.metadata.labels", labels, text);
    } else if !has_labels && !has_expressions {
        let text = format!("empty selector is invalid for {what}");
        check.invalid("spec.selector", selector, text);
    } else if let Ok(parsed) = Selector::from_label_selector(selector)
        && !parsed.matches(labels)
    {
        let text = "`selector` does not match template `labels`";
        check.invalid("spec.template.metadata.labels", labels, text);
    }
    let owner = match what {
        "daemonset" => "DaemonSet",
        "statefulset" => "StatefulSet",
        _ => "ReplicaSet",
    };
    pod_spec::validate_template("spec.template", owner, template, check);
}
