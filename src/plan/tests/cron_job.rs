//! CronJobs: which Jobs, when, what becomes of those before, and what is said.

use expect_test::{Expect, expect};
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::ResourceQuota,
};
use serde_json::{Value, json};

use super::{
    job::{end_all, let_pods_go},
    world::World,
};
use crate::{
    model::Object,
    state::{Command, Ending, Expect as Anything, Op, Part},
};

/// A world at 22:13:20 with one CronJob, `tick`, that is due every minute.
fn world(spec: Value) -> World {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.put(cron_job(spec));
    world.settle();
    world
}

fn cron_job(spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "tick", "namespace": "default" },
        "spec": { "schedule": "* * * * *", "jobTemplate": {
            "metadata": { "labels": { "app": "tick" }, "annotations": { "note": "x" } },
            "spec": { "backoffLimit": 0, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "c", "image": "tick" }],
            } } },
        } },
    });
    for (field, inner) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = inner.clone();
    }
    value
}

/// Time goes by, second by second as far as controllers are concerned.
fn pass(world: &mut World, seconds: i64) {
    world.live(seconds);
    world.settle();
}

fn ends(world: &mut World, code: i32) {
    end_all(world, code);
    let_pods_go(world);
}

/// The Jobs and the status, which nothing wants to change.
fn check(world: &World, expect: &Expect) {
    assert_eq!(world.full_pass(), Vec::<String>::new(), "a settled CronJob gives no commands");
    let state = |object| match Ending::of(object) {
        Some(Ending::Succeeded) => "succeeded",
        Some(Ending::Failed) => "failed",
        None => "runs",
    };
    let jobs = world.all::<Job>().into_iter();
    let mut text: String = jobs.map(|(o, _)| format!("{} {}\n", o.key().name, state(o))).collect();
    let status = world.get::<CronJob>("tick").status.clone().unwrap();
    let active = status.active.into_iter().flatten().filter_map(|job| job.name);
    text += &format!("active {:?}", active.collect::<Vec<_>>());
    let times = [("last", status.last_schedule_time), ("success", status.last_successful_time)];
    for (what, at) in times {
        text += &at.map(|at| format!(", {what} {}", at.0)).unwrap_or_default();
    }
    expect.assert_eq(&text);
}

#[test]
fn a_job_is_made_when_it_is_due_and_named_after_its_time() {
    let mut world = world(json!({ "timeZone": "Asia/Kolkata" }));
    check(&world, &expect!["active []"]);
    pass(&mut world, 39);
    check(&world, &expect!["active []"]);
    pass(&mut world, 1);
    check(
        &world,
        &expect![[r#"
        tick-28333334 runs
        active ["tick-28333334"], last 2023-11-14T22:14:00Z"#]],
    );
    let (object, job) = world.all::<Job>()[0];
    let meta = serde_json::to_value(object.meta()).unwrap();
    let uid = world.get::<CronJob>("tick").metadata.uid.clone();
    assert_eq!(
        meta["ownerReferences"],
        json!([{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": uid,
                 "controller": true, "blockOwnerDeletion": true }])
    );
    assert_eq!(meta["labels"], json!({ "app": "tick" }));
    expect![[r#"{"batch.kubernetes.io/cronjob-scheduled-timestamp":"2023-11-15T03:44:00+05:30","note":"x"}"#]].assert_eq(&meta["annotations"].to_string());
    let spec = job.spec.clone().unwrap();
    assert_eq!(
        (spec.parallelism, spec.completions, spec.backoff_limit),
        (Some(1), Some(1), Some(0))
    );
    assert_eq!(world.said("SuccessfulCreate").len(), 2, "the Job, and its pod");
    ends(&mut world, 0);
    check(
        &world,
        &expect![[r#"
        tick-28333334 succeeded
        active [], last 2023-11-14T22:14:00Z, success 2023-11-14T22:14:00Z"#]],
    );
    assert_eq!(world.said("SawCompletedJob").len(), 1);
    assert_eq!(world.said("UnexpectedJob"), Vec::<String>::new());
}

/// What must not happen: one start that is made twice, by another leader or because nothing of the
/// status was written.
#[test]
fn one_start_is_one_job() {
    let mut world = world(json!({}));
    pass(&mut world, 40);
    let mut value = serde_json::to_value(world.get::<CronJob>("tick")).unwrap();
    value["status"] = json!({});
    let object = Object::from_value(&value).unwrap();
    let put = Op::Put { object, expect: Anything::Any, part: Part::Status };
    world.done(vec![Command::Write(vec![put])]);
    assert_eq!(world.get::<CronJob>("tick").status.clone().unwrap().active, None);
    pass(&mut world, 5);
    check(
        &world,
        &expect![[r#"
            tick-28333334 runs
            active ["tick-28333334"]"#]],
    );
    world.delete::<Job>("default", "tick-28333334");
    world.settle();
    pass(&mut world, 5);
    check(
        &world,
        &expect![[r#"
        tick-28333334 runs
        active ["tick-28333334"], last 2023-11-14T22:14:00Z"#]],
    );
    assert_eq!(world.said("MissingJob").len(), 1);
}

#[test]
fn jobs_run_beside_each_other_wait_or_take_each_others_place() {
    let after_two = |policy: &str| {
        let mut world = world(json!({ "concurrencyPolicy": policy }));
        pass(&mut world, 40);
        pass(&mut world, 60);
        world
    };
    check(
        &after_two("Allow"),
        &expect![[r#"
        tick-28333334 runs
        tick-28333335 runs
        active ["tick-28333334", "tick-28333335"], last 2023-11-14T22:15:00Z"#]],
    );
    let mut forbids = after_two("Forbid");
    check(
        &forbids,
        &expect![[r#"
        tick-28333334 runs
        active ["tick-28333334"], last 2023-11-14T22:14:00Z"#]],
    );
    pass(&mut forbids, 10);
    let said = forbids.said("JobAlreadyActive");
    expect!["Not starting job because prior execution is running and concurrency policy is Forbid"]
        .assert_eq(&said.join("\n"));
    // The start that was left out is made up for, as long as it is the last one.
    ends(&mut forbids, 0);
    check(
        &forbids,
        &expect![[r#"
        tick-28333334 succeeded
        tick-28333335 runs
        active ["tick-28333335"], last 2023-11-14T22:15:00Z, success 2023-11-14T22:15:10Z"#]],
    );
    let replaces = after_two("Replace");
    check(
        &replaces,
        &expect![[r#"
        tick-28333335 runs
        active ["tick-28333335"], last 2023-11-14T22:15:00Z"#]],
    );
    expect!["Deleted job tick-28333334"].assert_eq(&replaces.said("SuccessfulDelete").join("\n"));
}

#[test]
fn a_suspended_one_rests_and_makes_up_for_the_last_start() {
    let mut world = world(json!({ "suspend": true }));
    pass(&mut world, 600);
    check(&world, &expect!["active []"]);
    world.edit::<CronJob>("tick", |value| value["spec"]["suspend"] = false.into());
    world.settle();
    check(
        &world,
        &expect![[r#"
        tick-28333343 runs
        active ["tick-28333343"], last 2023-11-14T22:23:00Z"#]],
    );
    assert_eq!(world.said("TooManyMissedTimes"), Vec::<String>::new());
}

#[test]
fn what_was_missed_is_told_and_what_is_too_late_is_not_made() {
    let mut world = world(json!({ "suspend": true, "schedule": "@hourly" }));
    pass(&mut world, 3600);
    world.edit::<CronJob>("tick", |value| {
        value["spec"]["suspend"] = false.into();
        value["spec"]["startingDeadlineSeconds"] = 300.into();
    });
    world.settle();
    check(&world, &expect!["active []"]);
    expect!["Missed scheduled time to start a job: Tue, 14 Nov 2023 23:00:00 +0000"]
        .assert_eq(&world.said("MissSchedule").join("\n"));
    let mut world = self::world(json!({ "suspend": true }));
    pass(&mut world, 3 * 3600);
    world.edit::<CronJob>("tick", |value| value["spec"]["suspend"] = false.into());
    world.settle();
    check(
        &world,
        &expect![[r#"
        tick-28333513 runs
        active ["tick-28333513"], last 2023-11-15T01:13:00Z"#]],
    );
    expect!["too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"].assert_eq(&world.said("TooManyMissedTimes").join("\n"));
}

#[test]
fn the_last_jobs_that_ended_are_kept() {
    let limits = json!({ "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 1 });
    let mut world = world(limits);
    pass(&mut world, 40);
    for code in [0, 1, 0, 1, 0] {
        ends(&mut world, code);
        pass(&mut world, 60);
    }
    check(
        &world,
        &expect![[r#"
        tick-28333336 succeeded
        tick-28333337 failed
        tick-28333338 succeeded
        tick-28333339 runs
        active ["tick-28333339"], last 2023-11-14T22:19:00Z, success 2023-11-14T22:18:00Z"#]],
    );
}

/// `kubectl create job --from`: it counts like another, but is told, and once.
#[test]
fn a_job_that_somebody_else_made_is_one_of_its_jobs() {
    let mut world = world(json!({ "schedule": "@yearly", "successfulJobsHistoryLimit": 0 }));
    let uid = world.get::<CronJob>("tick").metadata.uid.clone();
    world.put(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "by-hand", "namespace": "default",
            "annotations": { "cronjob.kubernetes.io/instantiate": "manual" },
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "CronJob", "name": "tick",
                                  "uid": uid, "controller": true }] },
        "spec": world.get::<CronJob>("tick").spec.job_template.spec,
    }));
    world.settle();
    pass(&mut world, 5);
    check(
        &world,
        &expect![[r#"
        by-hand runs
        active []"#]],
    );
    expect!["Saw a job that the controller did not create or forgot: by-hand"]
        .assert_eq(&world.said("UnexpectedJob").join("\n"));
    ends(&mut world, 0);
    check(&world, &expect!["active [], success 2023-11-14T22:13:25Z"]);
}

#[test]
fn a_schedule_without_times_and_a_refused_job_are_told() {
    let mut world = world(json!({ "schedule": "0 0 30 2 *" }));
    pass(&mut world, 60);
    check(&world, &expect!["active []"]);
    expect![
        "invalid schedule: 0 0 30 2 * : time difference between two schedules is less than 1 second"
    ]
    .assert_eq(&world.said("InvalidSchedule").join("\n"));

    let mut world = self::world(json!({}));
    world.put(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "none", "namespace": "default" },
        "spec": { "hard": { "count/jobs.batch": "0" } },
    }));
    world.settle();
    pass(&mut world, 40);
    check(&world, &expect!["active []"]);
    expect![[r#"Error creating job: jobs.batch "tick-28333334" is forbidden: exceeded quota: none, requested: count/jobs.batch=1, used: count/jobs.batch=0, limited: count/jobs.batch=0"#]].assert_eq(&world.said("FailedCreate").join("\n"));
    world.delete::<ResourceQuota>("default", "none");
    world.settle();
    pass(&mut world, 60);
    check(
        &world,
        &expect![[r#"
        tick-28333335 runs
        active ["tick-28333335"], last 2023-11-14T22:15:00Z"#]],
    );
}

/// A namespace or a CronJob that goes starts nothing any more.
#[test]
fn one_that_goes_starts_nothing() {
    let mut world = world(json!({}));
    world.edit::<CronJob>("tick", |value| {
        value["metadata"]["finalizers"] = json!(["example.org/hold"]);
    });
    world.delete::<CronJob>("default", "tick");
    world.settle();
    pass(&mut world, 120);
    check(&world, &expect!["active []"]);
}
