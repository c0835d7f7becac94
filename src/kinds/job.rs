//! Jobs.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec, JobStatus, PodFailurePolicy},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{Kind, field::Check, meta, pod_defaults, pod_spec, to_object};
use crate::model::{Labels, Object, Selector};

/// The labels by which a Job finds its pods, and the older names of the same.
const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";
const GENERATED: [&str; 4] = [CONTROLLER_UID, JOB_NAME, OLD_CONTROLLER_UID, OLD_JOB_NAME];
/// How often pods may fail when nobody says.
const BACKOFF_LIMIT: i32 = 6;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

impl Kind for Job {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let per_index = spec.backoff_limit_per_index.is_some();
        spec.backoff_limit.get_or_insert(if per_index { i32::MAX } else { BACKOFF_LIMIT });
        pod_defaults::fill(&mut spec.completion_mode, "NonIndexed");
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let by_policy = spec.pod_failure_policy.is_some();
        let replacement = if by_policy { "Failed" } else { "TerminatingOrFailed" };
        pod_defaults::fill(&mut spec.pod_replacement_policy, replacement);
        failure_policy(spec.pod_failure_policy.as_mut());
        pod_defaults::template(&mut spec.template);
        if self.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
            let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone());
            self.metadata.labels = labels.filter(|l| !l.is_empty());
        }
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        validate_spec("spec", &spec, check);
        let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
        match &spec.selector {
            None if spec.manual_selector == Some(true) => check.required("spec.selector", ""),
            None => {}
            Some(selector) if spec.manual_selector != Some(true) && is_generated(selector) => {}
            Some(selector) if spec.manual_selector != Some(true) => {
                check.invalid("spec.selector", selector, "`selector` not auto-generated");
            }
            Some(selector) => {
                meta::validate_selector("spec.selector", selector, check);
                let parsed = Selector::from_label_selector(selector);
                if parsed.is_ok_and(|s| !s.matches(labels)) {
                    let text = "`selector` does not match template `labels`";
                    check.invalid("spec.template.metadata.labels", labels, text);
                }
            }
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(JobStatus::default());
    }

    /// Git does not say what the Job was given when it was made.
    fn prepare_adopt(&mut self, live: &Self) {
        let (Some(spec), Some(before)) = (&mut self.spec, &live.spec) else { return };
        if spec.manual_selector == Some(true) || spec.selector.is_some() {
            return;
        }
        spec.selector.clone_from(&before.selector);
        let given = before.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
        let given: Labels = GENERATED
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), given?.get(name)?.clone())))
            .collect();
        let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
        let shared = self.metadata.labels.as_ref().is_none_or(|own| own == labels);
        labels.extend(given);
        if shared {
            self.metadata.labels = Some(labels.clone());
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (Some(before), Some(after)) = (&live.spec, &self.spec) else { return };
        validate_completions(before, after, check);
        check.immutable("spec.selector", &before.selector, &after.selector);
        check.immutable("spec.completionMode", &before.completion_mode, &after.completion_mode);
        let policy = "spec.podFailurePolicy";
        check.immutable(policy, &before.pod_failure_policy, &after.pod_failure_policy);
        let limit = (&before.backoff_limit_per_index, &after.backoff_limit_per_index);
        check.immutable("spec.backoffLimitPerIndex", limit.0, limit.1);
        check.immutable("spec.managedBy", &before.managed_by, &after.managed_by);
        check.immutable("spec.successPolicy", &before.success_policy, &after.success_policy);
        let started = live.status.as_ref().is_some_and(|s| s.start_time.is_some());
        let waits = before.suspend == Some(true) && !started;
        let mut template = before.template.clone();
        if waits {
            steer(&mut template, &after.template);
        }
        check.immutable("spec.template", &template, &after.template);
    }
}

fn failure_policy(policy: Option<&mut PodFailurePolicy>) {
    for rule in policy.into_iter().flat_map(|p| &mut p.rules) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            pod_defaults::fill(&mut pattern.status, "True");
        }
    }
}

/// What is wrong with the spec of a Job, alone or in a CronJob's template.
pub(super) fn validate_spec(at: &str, spec: &JobSpec, check: &mut Check) {
    for (field, number) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished.map(i64::from)),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index.map(i64::from)),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        check.not_negative(format!("{at}.{field}"), number);
    }
    validate_mode(at, spec, check);
    if let Some(policy) = &spec.pod_replacement_policy {
        let policies = ["Failed", "TerminatingOrFailed"];
        check.one_of(format!("{at}.podReplacementPolicy"), policy, &policies);
    }
    let template = format!("{at}.template");
    pod_spec::validate_any_template(&template, &spec.template, check);
    let pod = spec.template.spec.clone().unwrap_or_default();
    let restart = pod.restart_policy.unwrap_or_default();
    let field = format!("{template}.spec.restartPolicy");
    if restart == "Always" {
        check.required(&field, "valid values: \"OnFailure\", \"Never\"");
    }
    if let Some(policy) = &spec.pod_failure_policy {
        if restart == "OnFailure" {
            let text = "only \"Never\" is supported when podFailurePolicy is specified";
            check.invalid(&field, &restart, text);
        }
        validate_failure_policy(&format!("{at}.podFailurePolicy"), policy, check);
    }
}

/// What asks for numbered pods, and needs to be asked for with them.
fn validate_mode(at: &str, spec: &JobSpec, check: &mut Check) {
    let mode = spec.completion_mode.as_deref().unwrap_or("NonIndexed");
    check.one_of(format!("{at}.completionMode"), mode, &["Indexed", "NonIndexed"]);
    if mode == "Indexed" {
        if spec.completions.is_none() {
            check.required(format!("{at}.completions"), "when completion mode is Indexed");
        }
        return;
    }
    let text = "requires indexed completion mode";
    if let Some(limit) = spec.backoff_limit_per_index {
        check.invalid(format!("{at}.backoffLimitPerIndex"), limit, text);
    }
    if let Some(most) = spec.max_failed_indexes {
        check.invalid(format!("{at}.maxFailedIndexes"), most, text);
    }
    if let Some(policy) = &spec.success_policy {
        check.invalid(format!("{at}.successPolicy"), policy, text);
    }
}

fn validate_failure_policy(at: &str, policy: &PodFailurePolicy, check: &mut Check) {
    for (i, rule) in policy.rules.iter().enumerate() {
        let at = format!("{at}.rules[{i}]");
        check.one_of(format!("{at}.action"), &rule.action, &ACTIONS);
        match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (None, None) => {
                let text = "specifying one of OnExitCodes and OnPodConditions is required";
                check.invalid(&at, rule, text);
            }
            (Some(_), Some(_)) => {
                let text = "specifying both OnExitCodes and OnPodConditions is not supported";
                check.invalid(&at, rule, text);
            }
            (Some(codes), None) => {
                let field = format!("{at}.onExitCodes.operator");
                check.one_of(field, &codes.operator, &["In", "NotIn"]);
            }
            (None, Some(_)) => {}
        }
    }
}

/// The number of completions may change only where every pod has a number, together with the
/// number of pods at a time.
fn validate_completions(before: &JobSpec, after: &JobSpec, check: &mut Check) {
    let indexed = after.completion_mode.as_deref() == Some("Indexed");
    let together = after.completions == after.parallelism && after.completions.is_some();
    if !(indexed && together) {
        check.immutable("spec.completions", &before.completions, &after.completions);
    }
}

/// Takes over what may still change where a suspended Job's pods will run.
fn steer(template: &mut PodTemplateSpec, new: &PodTemplateSpec) {
    let (meta, new_meta) = (template.metadata.get_or_insert_default(), new.metadata.as_ref());
    meta.labels = new_meta.and_then(|m| m.labels.clone());
    meta.annotations = new_meta.and_then(|m| m.annotations.clone());
    if let (Some(spec), Some(new)) = (&mut template.spec, &new.spec) {
        spec.node_selector.clone_from(&new.node_selector);
        spec.affinity.clone_from(&new.affinity);
        spec.tolerations.clone_from(&new.tolerations);
        spec.scheduling_gates.clone_from(&new.scheduling_gates);
    }
}

/// Whether a selector names the uid of its Job and nothing else.
fn is_generated(selector: &LabelSelector) -> bool {
    let labels = selector.match_labels.as_ref();
    selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
        && labels.is_some_and(|l| l.len() == 1 && l.contains_key(CONTROLLER_UID))
}

/// Gives a new Job the selector and the labels that carry its uid, unless its author chose a
/// selector by `manualSelector`. The object has its uid already; any other kind comes back as it
/// is.
pub fn with_own_selector(object: &Object) -> Object {
    let Some(job) = object.view::<Job>() else { return object.clone() };
    let mut job = job.clone();
    let Some(spec) = &mut job.spec else { return object.clone() };
    if spec.manual_selector == Some(true) {
        return object.clone();
    }
    let uid = object.uid().to_owned();
    let name = job.metadata.name.clone().unwrap_or_default();
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    // A Job without labels of its own has those of its template.
    let shared = job.metadata.labels.as_ref().is_none_or(|own| own == labels);
    labels.extend([
        (CONTROLLER_UID.to_owned(), uid.clone()),
        (OLD_CONTROLLER_UID.to_owned(), uid.clone()),
        (JOB_NAME.to_owned(), name.clone()),
        (OLD_JOB_NAME.to_owned(), name),
    ]);
    if shared {
        job.metadata.labels = Some(labels.clone());
    }
    let match_labels = Some(Labels::from([(CONTROLLER_UID.to_owned(), uid)]));
    spec.selector = Some(LabelSelector { match_labels, ..Default::default() });
    to_object(&job).unwrap_or_else(|_| object.clone())
}
