//! Hooks: when they run, what waits for them, and when they go.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
};
use serde_json::{Value, json};

use super::world::{World, deployment};
use crate::{kinds::CommitState, model::Key};

fn world() -> World {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world
}

fn hook(name: &str, phase: &str, annotations: &[(&str, &str)]) -> Value {
    let mut value = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "backoffLimit": 0, "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": name }],
        } } },
    });
    value["metadata"]["annotations"]["argocd.argoproj.io/hook"] = phase.into();
    for (name, text) in annotations {
        value["metadata"]["annotations"][*name] = (*text).into();
    }
    value
}

fn web(image: &str) -> Value {
    deployment("web", 1, image, json!({}))
}

/// The images of the pods that have neither ended nor are told to.
fn running(world: &World) -> Vec<String> {
    let open = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let pods = world.all::<Pod>().into_iter().filter(|(o, p)| !o.is_terminating() && open(p));
    let mut images: Vec<String> =
        pods.map(|(_, p)| p.spec.clone().unwrap().containers[0].image.clone().unwrap()).collect();
    images.sort();
    images
}

/// The pods of a hook end.
fn end(world: &mut World, image: &str, code: i32) {
    let of = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image);
    let keys: Vec<Key> = world
        .all::<Pod>()
        .into_iter()
        .filter(|(o, pod)| of(pod) && !o.is_terminating())
        .map(|(o, _)| o.key().clone())
        .collect();
    assert!(!keys.is_empty(), "{image} does not run");
    let ended = ContainerStateTerminated { exit_code: code, ..ContainerStateTerminated::default() };
    for key in keys {
        let status = PodStatus {
            phase: Some(if code == 0 { "Succeeded" } else { "Failed" }.to_owned()),
            container_statuses: Some(vec![ContainerStatus {
                name: "c".to_owned(),
                state: Some(ContainerState {
                    terminated: Some(ended.clone()),
                    ..ContainerState::default()
                }),
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        };
        world.observe(&key, status, false);
    }
    world.settle();
}

/// The Deployment's pods come up; those of hooks go on running.
fn serve(world: &mut World) {
    let pods = world.all::<Pod>();
    let of = |pod: &Pod| pod.metadata.labels.clone().unwrap_or_default().contains_key("app");
    let keys: Vec<(Key, bool)> = pods
        .into_iter()
        .filter(|(_, pod)| of(pod))
        .map(|(o, _)| (o.key().clone(), o.is_terminating()))
        .collect();
    for (key, going) in keys {
        match going {
            true => world.observe(&key, PodStatus::default(), true),
            false => world.report(&key, true),
        }
    }
    world.settle();
}

fn state(world: &World, digit: char) -> CommitState {
    world.get_commit(digit).status.state
}

#[test]
fn hooks_run_before_and_after_and_the_commit_is_healthy_then() {
    let mut world = world();
    let all = || {
        vec![
            hook("migrate", "PreSync", &[("argocd.argoproj.io/sync-wave", "1")]),
            hook("backup", "PreSync", &[]),
            hook("smoke", "PostSync", &[]),
            hook("alarm", "SyncFail", &[]),
            web("web:1"),
        ]
    };
    world.commit('a', all(), None);
    world.settle();
    assert_eq!(running(&world), ["backup"]);
    assert_eq!(world.full_pass(), Vec::<String>::new(), "who waits is settled");
    end(&mut world, "backup", 0);
    assert_eq!(running(&world), ["migrate"]);
    let message = world.get_commit('a').status.message.clone();
    assert!(message.contains("waits for the PreSync hook Job default/migrate"), "{message}");
    end(&mut world, "migrate", 0);
    assert_eq!(running(&world), ["web:1"]);
    serve(&mut world);
    assert_eq!(running(&world), ["smoke", "web:1"]);
    assert_eq!(state(&world, 'a'), CommitState::Progressing);
    end(&mut world, "smoke", 0);
    assert_eq!(state(&world, 'a'), CommitState::Healthy);
    assert_eq!(running(&world), ["web:1"]);
    // The next commit runs them again.
    let uid = world.get::<Job>("backup").metadata.uid.clone();
    let mut next = all();
    next[4] = web("web:2");
    world.commit('b', next, None);
    world.settle();
    assert_ne!(world.get::<Job>("backup").metadata.uid, uid);
    assert_eq!(running(&world), ["backup", "web:1"]);
}

/// What the commit changed of what runs already waits as well; what it left alone does not.
#[test]
fn nothing_that_the_commit_changed_is_touched_before() {
    let mut world = world();
    world.commit('a', vec![web("web:1")], None);
    world.settle();
    serve(&mut world);
    let more = deployment("web", 3, "web:1", json!({}));
    world.commit('b', vec![hook("migrate", "PreSync", &[]), more], None);
    world.settle();
    assert_eq!(running(&world), ["migrate", "web:1"]);
    end(&mut world, "migrate", 0);
    assert_eq!(running(&world).len(), 3);
}

#[test]
fn a_hook_that_fails_fails_the_commit_and_the_alarm_runs() {
    let mut world = world();
    world.commit('a', vec![web("web:1")], None);
    world.settle();
    serve(&mut world);
    let policy = [("argocd.argoproj.io/hook-delete-policy", "HookFailed")];
    let hooks = vec![hook("migrate", "PreSync", &policy), hook("alarm", "SyncFail", &[])];
    world.commit('b', [hooks, vec![web("web:2")]].concat(), None);
    world.settle();
    end(&mut world, "migrate", 9);
    let status = world.get_commit('b').status.clone();
    assert_eq!(
        (status.state, status.reason.as_str()),
        (CommitState::Degraded, "BackoffLimitExceeded")
    );
    let evidence = status.failure.unwrap().evidence.join("\n");
    assert!(evidence.contains("exit code 9"), "{evidence}");
    assert_eq!(running(&world), ["alarm", "web:1"]);
    assert_eq!(world.all::<Job>().len(), 2, "it stays while its commit is what runs");
    assert_eq!(world.view().drifted().count(), 0);
    let web = world.get::<Deployment>("web");
    assert_eq!(web.status.as_ref().unwrap().updated_replicas, None, "nothing of it has started");
}

#[test]
fn a_hook_that_is_done_goes_and_is_not_missed() {
    let mut world = world();
    let policy = [("argocd.argoproj.io/hook-delete-policy", "HookSucceeded")];
    world.commit('a', vec![hook("smoke", "PostSync", &policy), web("web:1")], None);
    world.settle();
    serve(&mut world);
    end(&mut world, "smoke", 0);
    assert_eq!(world.all::<Job>().len(), 0);
    assert_eq!(world.view().drifted().count(), 0);
    assert_eq!(state(&world, 'a'), CommitState::Healthy);
    world.commit('b', vec![hook("smoke", "PostSync", &policy), web("web:2")], None);
    world.settle();
    assert_eq!(world.all::<Job>().len(), 1, "it runs again");
}

/// A Pod may be a hook: it is done when it has ended well, not when it is ready.
#[test]
fn a_pod_may_be_a_hook() {
    let mut world = world();
    let mut value = super::world::pod("check", "1", json!({ "restartPolicy": "Never" }));
    value["metadata"]["annotations"]["mainstay.io/hook"] = "PreSync".into();
    world.commit('a', vec![value, web("web:1")], None);
    world.settle();
    let key = Key::of::<Pod>("default", "check");
    world.report(&key, true);
    world.settle();
    assert_eq!(running(&world), ["c"]);
    end(&mut world, "c", 0);
    assert_eq!(running(&world), ["web:1"]);
}

#[test]
fn a_newer_commit_ends_the_waiting() {
    let mut world = world();
    world.commit('a', vec![hook("migrate", "PreSync", &[]), web("web:1")], None);
    world.settle();
    assert_eq!(running(&world), ["migrate"]);
    world.commit('b', vec![web("web:2")], None);
    world.settle();
    assert_eq!(running(&world), ["web:2"]);
}
