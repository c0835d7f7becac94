//! What the outlook is: by restarts, pulls, and what is missing.

use k8s_openapi::api::core::v1::{Event, PodStatus};
use serde_json::{Value, json};

use super::world::{World, deployment, pod};
use crate::{
    kinds::Commit,
    model::{CommitId, Key},
    plan::stuck::{Outlook, outlook},
    state::{Command, NewEvent, Op},
};

fn container(state: Value, restarts: i32) -> PodStatus {
    let ended = json!({ "terminated": { "exitCode": 1 } });
    serde_json::from_value(json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "False" }],
        "containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": if restarts > 0 { ended } else { json!({}) },
        }],
    }))
    .unwrap()
}

fn waiting(reason: &str, restarts: i32) -> PodStatus {
    container(json!({ "waiting": { "reason": reason, "message": "m" } }), restarts)
}

/// What is said of a pod in this state, so many seconds after it got its node and after so many
/// pulls that failed.
fn judge(status: PodStatus, seconds: i64, pulls: usize) -> String {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.put(pod("web", "1", json!({})));
    world.settle();
    let key = Key::of::<k8s_openapi::api::core::v1::Pod>("default", "web");
    world.observe(&key, status, false);
    let uid = world.view().object(&key).unwrap().uid().to_owned();
    for _ in 0..pulls {
        world.apply(vec![Command::Write(vec![Op::Event(NewEvent {
            regarding: key.clone(),
            uid: uid.clone(),
            warning: true,
            reason: "Failed".to_owned(),
            message: "Error: ErrImagePull".to_owned(),
            source: "kubelet".to_owned(),
        })])]);
    }
    assert!(pulls == 0 || !world.all::<Event>().is_empty());
    world.wait(seconds);
    let object = world.view().object(&key).unwrap();
    match outlook(world.view(), &[object], world.now) {
        Outlook::Open(None) => "open".to_owned(),
        Outlook::Open(Some(at)) => format!("open, again in {} s", at.since(world.now).as_secs()),
        Outlook::Hopeless { reason, text } => format!("{reason}: {text}"),
    }
}

#[test]
fn a_version_is_given_up_after_so_many_tries_and_not_before() {
    let crash = |n| waiting("CrashLoopBackOff", n);
    let pull = || waiting("ImagePullBackOff", 0);
    let config = || waiting("CreateContainerConfigError", 0);
    let running = |n| container(json!({ "running": {} }), n);
    for (status, seconds, pulls, expected) in [
        (crash(3), 500, 0, "open"),
        (crash(4), 0, 0, "CrashLoopBackOff: given up after 4 restarts"),
        // Between two crashes it is the same loop.
        (running(4), 0, 0, "CrashLoopBackOff: given up after 4 restarts"),
        (running(0), 5000, 0, "open"),
        (pull(), 500, 3, "open"),
        (pull(), 0, 4, "ImagePullBackOff: given up after 4 pulls"),
        (config(), 0, 0, "open, again in 60 s"),
        (config(), 59, 0, "open, again in 1 s"),
        (config(), 60, 0, "CreateContainerConfigError: given up after 60 seconds"),
        (waiting("ContainerCreating", 0), 5000, 0, "open"),
    ] {
        assert_eq!(judge(status, seconds, pulls), expected);
    }
}

/// One pod that is ready is reason to hope for the others; what ran before is not judged at all.
#[test]
fn what_ran_before_is_not_given_up() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.commit('a', vec![deployment("web", 1, "web:1", json!({}))], None);
    world.roll();
    let (key, _) = world.bound().remove(0);
    world.observe(&key, waiting("CrashLoopBackOff", 9), false);
    world.settle();
    let id = CommitId::parse(&"a".repeat(40)).unwrap();
    let commit = world.view().get::<Commit>("", id.as_str()).unwrap();
    assert_eq!(commit.status.reason, "Healthy");
    // The same pods under a commit that does not touch them.
    let other = deployment("other", 1, "other:1", json!({}));
    world.commit('b', vec![other], None);
    world.settle();
    assert!(world.view().get::<Commit>("", &"b".repeat(40)).unwrap().status.failure.is_none());
}
