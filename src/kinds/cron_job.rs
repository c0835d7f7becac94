//! CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};

use super::{Kind, field::Check, job, names, pod_defaults, schedule, schedule::Zone};

/// Most characters of a CronJob's name: its Jobs add eleven, and theirs end in labels (63).
const NAME_MAX: usize = 52;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

impl Kind for CronJob {
    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        pod_defaults::fill(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        spec.job_template.metadata.get_or_insert_default();
        let job = spec.job_template.spec.get_or_insert_default();
        pod_defaults::template(&mut job.template);
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        if spec.schedule.is_empty() {
            check.required("spec.schedule", "");
        } else if let Err(text) = schedule::read(&spec.schedule) {
            check.invalid("spec.schedule", &spec.schedule, text);
        }
        if let Some(zone) = &spec.time_zone {
            validate_zone(zone, check);
        }
        check.not_negative("spec.startingDeadlineSeconds", spec.starting_deadline_seconds);
        let policy = spec.concurrency_policy.as_deref().unwrap_or_default();
        check.one_of("spec.concurrencyPolicy", policy, &POLICIES);
        let kept = spec.successful_jobs_history_limit.map(i64::from);
        check.not_negative("spec.successfulJobsHistoryLimit", kept);
        let kept = spec.failed_jobs_history_limit.map(i64::from);
        check.not_negative("spec.failedJobsHistoryLimit", kept);
        let template = spec.job_template.spec.clone().unwrap_or_default();
        job::validate_spec("spec.jobTemplate.spec", &template, check);
        if template.manual_selector == Some(true) {
            let ways = ["nil", "false"];
            check.not_supported("spec.jobTemplate.spec.manualSelector", true, &ways);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(CronJobStatus::default());
    }
}

fn validate_zone(zone: &str, check: &mut Check) {
    let known = Zone::named(Some(zone)).is_some();
    match zone {
        "" => check.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string"),
        zone if zone.eq_ignore_ascii_case("local") => {
            let text = "timeZone must be an explicit time zone as defined in \
                        https://www.iana.org/time-zones";
            check.invalid("spec.timeZone", zone, text);
        }
        zone if !known => {
            check.invalid("spec.timeZone", zone, format!("unknown time zone {zone}"));
        }
        _ => {}
    }
}

/// Whether a Job does what a CronJob would have it do now.
pub fn is_run_of(job: &Job, cron: &CronJob) -> bool {
    let mut own = Job { spec: cron.spec.job_template.spec.clone(), ..Job::default() };
    own.default_fields();
    own.spec == job.spec
}

/// The rule for names.
pub(super) fn name(value: &str) -> Vec<String> {
    let mut messages = names::dns1123_subdomain(value);
    if value.len() > NAME_MAX {
        messages.push(format!("must be no more than {NAME_MAX} characters"));
    }
    messages
}
