//! DaemonSets.

use k8s_openapi::{
    api::apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet},
    apimachinery::pkg::util::intstr::IntOrString::Int,
};

use super::{Kind, deployment, field::Check, pod_defaults};

/// Counts the changes of the template; older clients read it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Kind for DaemonSet {
    const NEEDED: &'static [&'static str] = &[deployment::SELECTOR];

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        pod_defaults::fill(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(Int(1));
            rolling.max_surge.get_or_insert(Int(0));
        }
        pod_defaults::template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        let strategy = spec.update_strategy.clone().unwrap_or_default();
        match (strategy.type_.as_deref(), &strategy.rolling_update) {
            (Some("RollingUpdate"), Some(rolling)) => validate_rolling(rolling, check),
            (Some("OnDelete"), _) | (Some("RollingUpdate"), None) => {}
            _ => {
                let types = ["RollingUpdate", "OnDelete"];
                check.not_supported("spec.updateStrategy.type", &strategy.type_, &types);
            }
        }
        check.not_negative("spec.minReadySeconds", spec.min_ready_seconds.map(i64::from));
        let history = spec.revision_history_limit.map(i64::from);
        check.not_negative("spec.revisionHistoryLimit", history);
        deployment::validate_selector_and_template(
            "daemonset",
            &spec.selector,
            &spec.template,
            check,
        );
    }

    fn prepare_create(&mut self) {
        self.status = Some(DaemonSetStatus::default());
        let annotations = self.metadata.annotations.get_or_insert_default();
        annotations.insert(TEMPLATE_GENERATION.to_owned(), "1".to_owned());
    }

    fn prepare_update(&mut self, live: &Self) {
        let annotations = live.metadata.annotations.as_ref();
        let before = annotations.and_then(|a| a.get(TEMPLATE_GENERATION)?.parse::<i64>().ok());
        let changed = i64::from(self.spec.template != live.spec.template);
        let count = before.unwrap_or(0).saturating_add(changed).to_string();
        let annotations = self.metadata.annotations.get_or_insert_default();
        annotations.insert(TEMPLATE_GENERATION.to_owned(), count);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec.selector", &live.spec.selector, &self.spec.selector);
    }
}

fn validate_rolling(rolling: &RollingUpdateDaemonSet, check: &mut Check) {
    let at = "spec.updateStrategy.rollingUpdate";
    let unavailable = rolling.max_unavailable.clone().unwrap_or(Int(0));
    let surge = rolling.max_surge.clone().unwrap_or(Int(0));
    for (field, share) in [("maxUnavailable", &unavailable), ("maxSurge", &surge)] {
        let field = format!("{at}.{field}");
        deployment::validate_share(&field, share, check);
        deployment::at_most_all(&field, share, check);
    }
    match (deployment::is_zero(&unavailable), deployment::is_zero(&surge)) {
        (false, false) => {
            let text = "may not be set when maxUnavailable is non-zero";
            check.invalid(format!("{at}.maxSurge"), &surge, text);
        }
        (true, true) => {
            check.required(format!("{at}.maxUnavailable"), "cannot be 0 when maxSurge is 0");
        }
        _ => {}
    }
}
