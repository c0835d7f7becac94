//! Jobs and CronJobs.

use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec, JobStatus};
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR,
    age::{age, ago, since},
    text::{NONE, name, selector, template},
};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const JOB: [Column; 8] = [
    NAME,
    Column::text("Status", "Whether it runs, waits, or how it ended."),
    Column::text("Completions", "How many pods have succeeded, of how many."),
    Column::text("Duration", "How long it has run, or ran."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(in crate::kinds) const CRON_JOB: [Column; 10] = [
    NAME,
    Column::text("Schedule", "When it starts Jobs."),
    Column::text("Timezone", "The time zone of the schedule."),
    Column::flag("Suspend", "Whether it starts no Jobs for now."),
    Column::number("Active", "How many of its Jobs run."),
    Column::text("Last Schedule", "How long ago it last started a Job."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(in crate::kinds) fn job(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let job: &Job = object.view()?;
    let spec = job.spec.as_ref()?;
    let status = job.status.clone().unwrap_or_default();
    let [containers, images] = template(Some(&spec.template));
    Some(vec![
        name(object),
        state(object, &status).into(),
        completions(spec, &status).into(),
        duration(&status, now).into(),
        age(object, now),
        containers,
        images,
        selector(spec.selector.as_ref()).into(),
    ])
}

/// The first of what a Job may be that it is.
fn state(object: &Object, status: &JobStatus) -> &'static str {
    let is = |wanted: &&&str| {
        let conditions = status.conditions.iter().flatten();
        conditions.into_iter().any(|c| c.type_ == **wanted && c.status == "True")
    };
    let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    if let Some(ended) = ["Complete", "Failed"].iter().find(is) {
        return ended;
    }
    if object.is_terminating() {
        return "Terminating";
    }
    later.iter().find(is).map_or("Running", |state| state)
}

/// `1/3`, or `1/1 of 3` for a Job that ends with its first pod.
fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let done = status.succeeded.unwrap_or(0);
    match (spec.completions, spec.parallelism.unwrap_or(0)) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    }
}

fn duration(status: &JobStatus, now: Timestamp) -> String {
    let failed = status.conditions.iter().flatten().find(|c| c.type_ == "Failed");
    let failed =
        failed.filter(|c| c.status == "True").and_then(|c| c.last_transition_time.as_ref());
    let end = status.completion_time.as_ref().or(failed).map_or(now, Timestamp::from);
    status.start_time.as_ref().map_or_else(String::new, |start| since(start.into(), end))
}

pub(in crate::kinds) fn cron_job(object: &Object, now: Timestamp) -> Option<Vec<Value>> {
    let job: &CronJob = object.view()?;
    let spec = &job.spec;
    let status = job.status.clone().unwrap_or_default();
    let of_jobs = spec.job_template.spec.as_ref();
    let [containers, images] = template(of_jobs.map(|s| &s.template));
    let suspend = match spec.suspend {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = status.last_schedule_time.as_ref();
    Some(vec![
        name(object),
        spec.schedule.as_str().into(),
        spec.time_zone.as_deref().unwrap_or(NONE).into(),
        suspend.into(),
        status.active.map_or(0, |a| a.len()).into(),
        last.map_or_else(|| NONE.to_owned(), |t| ago(Some(t), now)).into(),
        age(object, now),
        containers,
        images,
        selector(of_jobs.and_then(|s| s.selector.as_ref())).into(),
    ])
}
