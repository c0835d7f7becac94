//! Jobs: how many pods, which, when again, and what is said in the end.

use expect_test::{Expect, expect};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{
        ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
        ResourceQuota,
    },
};
use serde_json::{Value, json};

use super::world::World;
use crate::{
    model::{Key, Timestamp},
    state::{self, Command, Op, Part},
};

fn world() -> World {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world
}

fn job(spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "pi", "namespace": "default" },
        "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": "pi" }],
        } } },
    });
    for (field, inner) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = inner.clone();
    }
    value
}

fn indexed(completions: i32, spec: Value) -> Value {
    let mut value = job(spec);
    value["spec"]["completionMode"] = "Indexed".into();
    value["spec"]["completions"] = completions.into();
    value["spec"]["parallelism"] = completions.into();
    value
}

/// The pods that neither ended nor are told to, in order of names.
fn active(world: &World) -> Vec<Key> {
    let open = |o: &&crate::model::Object, pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        !o.is_terminating() && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let pods = world.all::<Pod>().into_iter().filter(|(o, pod)| open(o, pod));
    pods.map(|(o, _)| o.key().clone()).collect()
}

fn end(world: &mut World, key: &Key, code: i32) {
    let ended = ContainerStateTerminated {
        exit_code: code,
        finished_at: Some(world.now.to_time()),
        ..ContainerStateTerminated::default()
    };
    let container = ContainerStatus {
        name: "c".to_owned(),
        state: Some(ContainerState { terminated: Some(ended), ..ContainerState::default() }),
        ..ContainerStatus::default()
    };
    let status = PodStatus {
        phase: Some(if code == 0 { "Succeeded" } else { "Failed" }.to_owned()),
        container_statuses: Some(vec![container]),
        ..PodStatus::default()
    };
    world.observe(key, status, false);
}

/// Every active pod ends.
pub(super) fn end_all(world: &mut World, code: i32) {
    for key in active(world) {
        end(world, &key, code);
    }
    world.settle();
}

/// The pods that are told to go are gone.
pub(super) fn let_pods_go(world: &mut World) {
    let going: Vec<Key> = world
        .all::<Pod>()
        .into_iter()
        .filter(|(o, _)| o.is_terminating())
        .map(|(o, _)| o.key().clone())
        .collect();
    going.iter().for_each(|key| world.observe(key, PodStatus::default(), true));
    world.settle();
}

fn said(world: &World) -> String {
    let status = world.get::<Job>("pi").status.clone().unwrap();
    let n = |n: Option<i32>| n.unwrap_or(0);
    let mut text = format!(
        "active {}, leaving {}, succeeded {}, failed {}",
        n(status.active),
        n(status.terminating),
        n(status.succeeded),
        n(status.failed)
    );
    for (name, indexes) in [("done", status.completed_indexes), ("lost", status.failed_indexes)] {
        if let Some(indexes) = indexes.filter(|text| !text.is_empty()) {
            text += &format!(", {name} {indexes}");
        }
    }
    for c in status.conditions.into_iter().flatten() {
        let (reason, message) = (c.reason.unwrap_or_default(), c.message.unwrap_or_default());
        text += &format!("\n{}={} {reason}: {message}", c.type_, c.status);
    }
    text
}

fn check(world: &World, expect: &Expect) {
    assert_eq!(world.full_pass(), Vec::<String>::new(), "a settled Job gives no commands");
    expect.assert_eq(&said(world));
}

#[test]
fn a_job_runs_its_pods_until_enough_have_succeeded() {
    let mut world = world();
    world.put(job(json!({ "completions": 3, "parallelism": 2 })));
    world.settle();
    check(&world, &expect![[r#"active 2, leaving 0, succeeded 0, failed 0"#]]);
    assert_eq!(world.said("SuccessfulCreate").len(), 2);
    let (object, pod) = world.all::<Pod>()[0];
    assert!(object.key().name.starts_with("pi-"));
    assert_eq!(object.meta().finalizers.as_deref().unwrap(), ["batch.kubernetes.io/job-tracking"]);
    let uid = world.get::<Job>("pi").metadata.uid.clone().unwrap();
    let labels = pod.metadata.labels.clone().unwrap();
    assert_eq!(labels["batch.kubernetes.io/controller-uid"], uid);
    assert_eq!(labels["batch.kubernetes.io/job-name"], "pi");
    assert_eq!((labels["controller-uid"].as_str(), labels["job-name"].as_str()), (&*uid, "pi"));
    end_all(&mut world, 0);
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 2, failed 0"#]]);
    world.live(3);
    end_all(&mut world, 0);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 3, failed 0
        SuccessCriteriaMet=True CompletionsReached: Reached expected number of succeeded pods
        Complete=True CompletionsReached: Reached expected number of succeeded pods"#]],
    );
    let status = world.get::<Job>("pi").status.clone().unwrap();
    let since = |time: Option<&_>| Timestamp::from(time.unwrap());
    let took = since(status.completion_time.as_ref()).since(since(status.start_time.as_ref()));
    assert_eq!(took.as_secs(), 3);
    assert_eq!(world.said("Completed"), ["Job completed"]);
    assert!(world.all::<Pod>().iter().all(|(o, _)| o.meta().finalizers.is_none()));
}

/// A pod that was counted may be taken away; it is counted once.
#[test]
fn a_pod_counts_once_though_it_is_deleted() {
    let mut world = world();
    world.put(job(json!({ "completions": 2, "parallelism": 1 })));
    world.settle();
    let first = active(&world)[0].clone();
    end(&mut world, &first, 0);
    // Deleted before the controller has looked.
    world.delete::<Pod>("default", &first.name);
    let over = PodStatus { phase: Some("Succeeded".to_owned()), ..PodStatus::default() };
    world.observe(&first, over, true);
    world.settle();
    assert!(world.view().object(&first).is_none());
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 1, failed 0"#]]);
}

#[test]
fn failures_are_tried_again_ever_later_until_there_are_too_many() {
    let mut world = world();
    world.put(job(json!({ "backoffLimit": 2 })));
    world.settle();
    end_all(&mut world, 1);
    check(&world, &expect![[r#"active 0, leaving 0, succeeded 0, failed 1"#]]);
    world.live(9);
    world.settle();
    assert_eq!(active(&world).len(), 0);
    assert_eq!(world.agenda.wake_at(), Some(world.now.plus_seconds(1)));
    world.live(1);
    world.settle();
    end_all(&mut world, 1);
    world.live(19);
    world.settle();
    assert_eq!(active(&world).len(), 0);
    world.live(1);
    world.settle();
    end_all(&mut world, 1);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 0, failed 3
        FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        Failed=True BackoffLimitExceeded: Job has reached the specified backoff limit"#]],
    );
    assert_eq!(world.said("BackoffLimitExceeded"), ["Job has reached the specified backoff limit"]);
    assert_eq!(world.all::<Pod>().len(), 3, "failed pods stay: somebody wants to read their logs");
}

/// The Job has failed only when its last pod is gone; the ones it ends have failed too.
#[test]
fn a_failed_job_ends_the_pods_that_still_run() {
    let mut world = world();
    world.put(job(json!({ "completions": 2, "parallelism": 2, "backoffLimit": 0 })));
    world.settle();
    let first = active(&world)[0].clone();
    end(&mut world, &first, 1);
    world.settle();
    check(
        &world,
        &expect![[r#"
        active 0, leaving 1, succeeded 0, failed 2
        FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit"#]],
    );
    let_pods_go(&mut world);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 0, failed 2
        FailureTarget=True BackoffLimitExceeded: Job has reached the specified backoff limit
        Failed=True BackoffLimitExceeded: Job has reached the specified backoff limit"#]],
    );
}

#[test]
fn the_deadline_counts_more_than_the_limit() {
    let mut world = world();
    world.put(job(json!({ "activeDeadlineSeconds": 5 })));
    world.settle();
    assert_eq!(world.agenda.wake_at(), Some(world.now.plus_seconds(5)));
    world.live(5);
    world.settle();
    let_pods_go(&mut world);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 0, failed 1
        FailureTarget=True DeadlineExceeded: Job was active longer than specified deadline
        Failed=True DeadlineExceeded: Job was active longer than specified deadline"#]],
    );
}

#[test]
fn restarts_in_place_count_too() {
    let mut world = world();
    let mut value = job(json!({ "backoffLimit": 2 }));
    value["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure".into();
    world.put(value);
    world.settle();
    let restarts = |n| PodStatus {
        phase: Some("Running".to_owned()),
        container_statuses: Some(vec![ContainerStatus {
            name: "c".to_owned(),
            restart_count: n,
            ..ContainerStatus::default()
        }]),
        ..PodStatus::default()
    };
    let pod = active(&world)[0].clone();
    world.observe(&pod, restarts(1), false);
    world.settle();
    assert_eq!(active(&world).len(), 1);
    world.observe(&pod, restarts(2), false);
    world.settle();
    let_pods_go(&mut world);
    assert!(said(&world).contains("Failed=True BackoffLimitExceeded"), "{}", said(&world));
}

/// Suspended: its pods go, which is no failure; resumed, its deadline begins anew.
#[test]
fn a_suspended_job_has_no_pods() {
    let mut world = world();
    world.put(job(json!({ "activeDeadlineSeconds": 40 })));
    world.settle();
    world.edit::<Job>("pi", |value| value["spec"]["suspend"] = true.into());
    world.settle();
    let_pods_go(&mut world);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 0, failed 0
        Suspended=True JobSuspended: Job suspended"#]],
    );
    world.live(100);
    world.settle();
    world.edit::<Job>("pi", |value| value["spec"]["suspend"] = false.into());
    world.settle();
    check(
        &world,
        &expect![[r#"
        active 1, leaving 0, succeeded 0, failed 0
        Suspended=False JobResumed: Job resumed"#]],
    );
    assert_eq!(world.agenda.wake_at(), Some(world.now.plus_seconds(40)));
}

#[test]
fn every_index_has_its_pod() {
    let mut world = world();
    world.put(indexed(3, json!({ "parallelism": 2 })));
    world.edit::<Job>("pi", |value| value["spec"]["parallelism"] = 2.into());
    world.settle();
    let pods = world.all::<Pod>();
    let (object, pod) = pods[1];
    assert!(object.key().name.starts_with("pi-1-"), "{}", object.key());
    let index = "batch.kubernetes.io/job-completion-index";
    assert_eq!(object.annotation(index), Some("1"));
    assert_eq!(object.meta().labels.as_ref().unwrap()[index], "1");
    let spec = pod.spec.clone().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("pi-1"));
    let env = spec.containers[0].env.clone().unwrap();
    assert_eq!(env[0].name, "JOB_COMPLETION_INDEX");
    let first = active(&world)[1].clone();
    end(&mut world, &first, 0);
    world.settle();
    let names: Vec<String> = active(&world).iter().map(|k| k.name[..4].to_owned()).collect();
    assert_eq!(names, ["pi-0", "pi-2"]);
    check(&world, &expect![[r#"active 2, leaving 0, succeeded 1, failed 0, done 1"#]]);
    end_all(&mut world, 0);
    assert!(said(&world).starts_with("active 0, leaving 0, succeeded 3, failed 0, done 0-2"));
}

#[test]
fn an_index_is_given_up_by_its_own_limit() {
    let mut world = world();
    world.put(indexed(2, json!({ "backoffLimitPerIndex": 1 })));
    world.settle();
    let first = active(&world)[0].clone();
    end(&mut world, &first, 1);
    world.settle();
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 0, failed 1"#]]);
    world.live(10);
    world.settle();
    let again = active(&world)[0].clone();
    let count = world.view().object(&again).unwrap();
    let count = count.annotation("batch.kubernetes.io/job-index-failure-count").unwrap();
    assert_eq!((again.name.starts_with("pi-0-"), count), (true, "1"));
    end(&mut world, &again, 1);
    world.settle();
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 0, failed 2, lost 0"#]]);
    end_all(&mut world, 0);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 1, failed 2, done 1, lost 0
        FailureTarget=True FailedIndexes: Job has failed indexes
        Failed=True FailedIndexes: Job has failed indexes"#]],
    );
}

#[test]
fn a_policy_says_which_failures_count() {
    let rule = |action: &str, code: i32| json!({ "action": action, "onExitCodes": { "operator": "In", "values": [code] } });
    let rules = json!({ "rules": [
        rule("Ignore", 3),
        { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget" }] },
        rule("FailJob", 4),
    ] });
    let mut world = world();
    world.put(job(json!({ "podFailurePolicy": rules, "backoffLimit": 0 })));
    world.settle();
    end_all(&mut world, 3);
    check(&world, &expect![[r#"active 0, leaving 0, succeeded 0, failed 0"#]]);
    world.live(10);
    world.settle();
    let pod = active(&world)[0].clone();
    let disrupted = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    };
    let mut value = world.view().object(&pod).unwrap().value();
    value["status"]["conditions"] = json!([disrupted]);
    value["status"]["phase"] = "Failed".into();
    let object = crate::model::Object::from_value(&value).unwrap();
    let put = Op::Put { object, expect: state::Expect::Any, part: Part::Status };
    world.apply(vec![Command::Write(vec![put])]);
    world.live(20);
    world.settle();
    let pod = active(&world)[0].clone();
    end(&mut world, &pod, 4);
    world.settle();
    let told = said(&world).replace(pod.name.as_str(), "pi-#");
    expect![[r#"
        active 0, leaving 0, succeeded 0, failed 1
        FailureTarget=True PodFailurePolicy: Container c for pod default/pi-# failed with exit code 4 matching FailJob rule at index 2
        Failed=True PodFailurePolicy: Container c for pod default/pi-# failed with exit code 4 matching FailJob rule at index 2"#]]
    .assert_eq(&told);
}

#[test]
fn some_indexes_may_be_enough() {
    let mut world = world();
    let rules = json!({ "rules": [{ "succeededIndexes": "1-2", "succeededCount": 1 }] });
    world.put(indexed(3, json!({ "successPolicy": rules })));
    world.settle();
    let second = active(&world)[1].clone();
    end(&mut world, &second, 0);
    world.settle();
    let_pods_go(&mut world);
    check(
        &world,
        &expect![[r#"
        active 0, leaving 0, succeeded 1, failed 0, done 1
        SuccessCriteriaMet=True SuccessPolicy: Matched rules at index 0
        Complete=True SuccessPolicy: Matched rules at index 0"#]],
    );
}

/// A work queue: the first success ends the making of pods, the others finish.
#[test]
fn without_a_number_the_first_success_counts() {
    let mut world = world();
    world.put(job(json!({ "parallelism": 2 })));
    world.settle();
    let first = active(&world)[0].clone();
    end(&mut world, &first, 0);
    world.settle();
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 1, failed 0"#]]);
    end_all(&mut world, 0);
    assert!(said(&world).contains("Complete=True"));
}

/// A pod that is told to end is replaced at once, or when it is over.
#[test]
fn a_pod_is_replaced_as_the_policy_says() {
    let after_a_deletion = |policy: &str| {
        let mut world = world();
        world.put(job(json!({ "podReplacementPolicy": policy })));
        world.settle();
        let pod = active(&world)[0].clone();
        world.delete::<Pod>("default", &pod.name);
        world.settle();
        let first = said(&world);
        world.live(10);
        world.settle();
        let second = said(&world);
        let_pods_go(&mut world);
        world.live(10);
        world.settle();
        format!("{first}\n{second}\n{}", said(&world))
    };
    expect![[r#"
        active 1, leaving 1, succeeded 0, failed 1
        active 1, leaving 1, succeeded 0, failed 1
        active 1, leaving 0, succeeded 0, failed 1"#]]
    .assert_eq(&after_a_deletion("TerminatingOrFailed"));
    expect![[r#"
        active 0, leaving 1, succeeded 0, failed 0
        active 0, leaving 1, succeeded 0, failed 0
        active 1, leaving 0, succeeded 0, failed 1"#]]
    .assert_eq(&after_a_deletion("Failed"));
}

#[test]
fn a_finished_job_goes_when_its_time_is_over_and_its_pods_with_it() {
    let mut world = world();
    world.put(job(json!({ "ttlSecondsAfterFinished": 30 })));
    world.settle();
    end_all(&mut world, 0);
    world.live(29);
    world.settle();
    assert_eq!(world.all::<Job>().len(), 1);
    world.live(1);
    world.settle();
    let_pods_go(&mut world);
    assert_eq!((world.all::<Job>().len(), world.all::<Pod>().len()), (0, 0));
}

/// What nobody counts any more is let go: pods of a Job that is gone, and those it left behind.
#[test]
fn pods_outlive_no_job_that_they_wait_for() {
    let mut world = world();
    world.put(job(json!({})));
    world.settle();
    world.delete::<Job>("default", "pi");
    world.settle();
    let_pods_go(&mut world);
    assert_eq!(world.all::<Pod>().len(), 0);
}

#[test]
fn fewer_at_a_time_is_no_failure() {
    let mut world = world();
    world.put(job(json!({ "completions": 4, "parallelism": 3 })));
    world.settle();
    world.edit::<Job>("pi", |value| value["spec"]["parallelism"] = 1.into());
    world.settle();
    check(&world, &expect![[r#"active 1, leaving 2, succeeded 0, failed 0"#]]);
    let_pods_go(&mut world);
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 0, failed 0"#]]);
    assert_eq!(world.said("SuccessfulDelete").len(), 2);
}

/// A quota that has no room is told, once, and tried again.
#[test]
fn refused_pods_are_told_and_tried_again() {
    let mut world = world();
    world.put(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "none", "namespace": "default" }, "spec": { "hard": { "pods": "0" } },
    }));
    world.settle();
    world.put(job(json!({})));
    world.settle();
    assert_eq!(world.said("FailedCreate").len(), 1);
    world.live(60);
    world.settle();
    assert_eq!(world.said("FailedCreate").len(), 1, "the same words again are no news");
    world.delete::<ResourceQuota>("default", "none");
    world.live(60);
    world.settle();
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 0, failed 0"#]]);
}

// --- Jobs of commits ---

fn done(world: &World) -> String {
    let status = &world.get_commit('a').status;
    format!("{:?} {}: {}", status.state, status.reason, status.message)
}

#[test]
fn a_commit_is_healthy_when_its_job_has_done_its_work() {
    let mut world = world();
    world.commit('a', vec![job(json!({}))], None);
    world.settle();
    assert_eq!(
        done(&world),
        "Progressing Progressing: 0 of 1 workloads are ready; Job default/pi: 0 of 1 pods have \
         succeeded"
    );
    end_all(&mut world, 0);
    assert_eq!(done(&world), "Healthy Healthy: 1 workload is ready");
}

#[test]
fn a_job_that_fails_fails_its_commit() {
    let mut world = world();
    world.commit('a', vec![job(json!({ "backoffLimit": 0 }))], None);
    world.settle();
    end_all(&mut world, 7);
    assert_eq!(
        done(&world),
        "Degraded BackoffLimitExceeded: Job default/pi: has failed: Job has reached the specified \
         backoff limit"
    );
}

/// A Job that did its work and is gone is not missed: not as drift, not by its commit, not by the
/// next one.
#[test]
fn what_is_done_is_not_done_again() {
    let mut world = world();
    let value = || job(json!({ "ttlSecondsAfterFinished": 5 }));
    world.commit('a', vec![value()], None);
    world.settle();
    end_all(&mut world, 0);
    world.live(5);
    world.settle();
    assert_eq!(world.all::<Job>().len(), 0);
    assert_eq!(world.view().drifted().count(), 0);
    assert_eq!(done(&world), "Healthy Healthy: 1 workload is ready");
}

/// A template may not change; a commit that changes it makes another Job in the place of the first.
#[test]
fn a_commit_that_changes_a_job_runs_it_again() {
    let mut world = world();
    world.commit('a', vec![job(json!({}))], None);
    world.settle();
    end_all(&mut world, 0);
    let uid = world.get::<Job>("pi").metadata.uid.clone();
    let mut again = job(json!({}));
    again["metadata"]["labels"] = json!({ "app": "pi" });
    world.commit('b', vec![again], None);
    world.settle();
    assert_eq!(world.get::<Job>("pi").metadata.uid, uid, "another label is no other Job");
    assert_eq!(active(&world).len(), 0);
    let mut other = job(json!({}));
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "tau".into();
    world.commit('c', vec![other], None);
    world.settle();
    assert_ne!(world.get::<Job>("pi").metadata.uid, uid);
    assert_eq!(active(&world).len(), 1);
    let_pods_go(&mut world);
    let of_old = world.all::<Pod>().len();
    assert_eq!(of_old, 1, "the pods of the first went with it");
}

/// Unscheduled pods of a Job that are told to go leave nothing behind.
#[test]
fn pods_without_a_node_go_at_once() {
    let mut world = World::new();
    world.put(job(json!({})));
    world.settle();
    let (key, uid) = {
        let pods = world.all::<Pod>();
        (pods[0].0.key().clone(), pods[0].0.uid().to_owned())
    };
    world.apply(vec![Command::Write(vec![Op::Delete {
        key: key.clone(),
        uid,
        grace_seconds: None,
    }])]);
    world.settle();
    assert!(world.view().object(&key).is_none());
    check(&world, &expect![[r#"active 1, leaving 0, succeeded 0, failed 1"#]]);
}
