//! What waits for what, when it starts, and that nothing else waits.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use serde_json::{Value, json};

use super::world::{World, deployment, pod};
use crate::{
    kinds::Commit,
    model::Key,
    state::{Command, Op},
};

fn ordered(mut object: Value, annotations: &[(&str, &str)]) -> Value {
    for (name, text) in annotations {
        object["metadata"]["annotations"][*name] = (*text).into();
    }
    object
}

fn wave(name: &str, image: &str, wave: &str) -> Value {
    ordered(deployment(name, 1, image, json!({})), &[("mainstay.io/wave", wave)])
}

fn after(name: &str, image: &str, other: &str) -> Value {
    let other = format!("apps/namespaces/default/Deployment/{other}");
    let object = deployment(name, 1, image, json!({}));
    ordered(object, &[("config.kubernetes.io/depends-on", &other)])
}

/// The Deployments that have started a pod of this image, in order of names.
fn started(world: &World, image: &str) -> Vec<String> {
    let pods = world.all::<Pod>().into_iter().filter(|(_, pod)| {
        pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image)
    });
    let names = pods.map(|(o, _)| o.meta().labels.as_ref().unwrap()["app"].clone());
    names.collect()
}

fn waits(world: &World, name: &str) -> Option<String> {
    let status = world.get::<Deployment>(name).status.clone()?;
    let conditions = status.conditions?;
    conditions.into_iter().find(|c| c.type_.as_deref() == Some("Waiting"))?.message
}

#[test]
fn a_wave_starts_when_the_one_before_is_healthy() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    let plain = deployment("plain", 1, "x", json!({}));
    world.commit('a', vec![wave("web", "x", "1"), wave("db", "x", "-1"), plain], None);
    world.settle();
    assert_eq!(started(&world, "x"), ["db"]);
    assert_eq!(waits(&world, "plain").unwrap(), "waits for Deployment default/db of wave -1");
    assert_eq!(world.said("Waiting").len(), 2);
    assert_eq!(world.full_pass(), Vec::<String>::new(), "who waits is settled");
    world.run_pods();
    world.settle();
    assert_eq!(started(&world, "x"), ["db", "plain"]);
    assert_eq!(waits(&world, "web").unwrap(), "waits for Deployment default/plain of wave 0");
    world.roll();
    assert_eq!(started(&world, "x"), ["db", "plain", "web"]);
    assert_eq!(waits(&world, "web"), None);
    assert_eq!(world.get_commit('a').status.reason, "Healthy");
}

#[test]
fn an_update_waits_for_the_update_before_it_and_the_old_pods_serve() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.commit('a', vec![deployment("db", 1, "x:1", json!({})), after("web", "x:1", "db")], None);
    world.roll();
    world.commit('b', vec![deployment("db", 1, "x:2", json!({})), after("web", "x:2", "db")], None);
    world.settle();
    assert_eq!(started(&world, "x:2"), ["db"]);
    assert_eq!(started(&world, "x:1"), ["db", "web"], "nothing was taken away");
    world.roll();
    assert_eq!(started(&world, "x:2"), ["db", "web"]);
    assert!(started(&world, "x:1").is_empty());
}

/// Going back to what was healthy waits for nothing; a newer commit ends the waiting.
#[test]
fn what_was_healthy_before_does_not_wait() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    let good = || vec![deployment("db", 1, "x:1", json!({})), after("web", "x:1", "db")];
    world.commit('a', good(), None);
    world.roll();
    world.commit('b', vec![deployment("db", 1, "x:2", json!({})), after("web", "x:2", "db")], None);
    world.settle();
    assert!(waits(&world, "web").is_some());
    world.commit('c', vec![deployment("web", 1, "x:3", json!({}))], None);
    world.settle();
    assert_eq!(started(&world, "x:3"), ["web"], "the dependency is gone, and so is the waiting");
}

/// Another chain and whoever names nothing start at once; the database that ails holds up only what
/// waits for it.
#[test]
fn who_depends_on_nothing_waits_for_nobody() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    let other = deployment("other", 1, "x", json!({}));
    world.commit(
        'a',
        vec![deployment("db", 1, "x", json!({})), after("web", "x", "db"), other],
        None,
    );
    world.settle();
    assert_eq!(started(&world, "x"), ["db", "other"]);
}

/// A pod and a ReplicaSet of a commit wait like a Deployment.
#[test]
fn pods_and_replica_sets_wait_too() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    let one = [("argocd.argoproj.io/sync-wave", "1")];
    let bare = ordered(pod("task", "1", json!({})), &one);
    let mut set = deployment("set", 1, "x", json!({}));
    set["kind"] = "ReplicaSet".into();
    let db = deployment("db", 1, "x", json!({}));
    world.commit('a', vec![db, bare, ordered(set, &one)], None);
    world.settle();
    assert_eq!(started(&world, "x"), ["db"]);
    assert_eq!(world.bound().len(), 1);
    assert_eq!(world.said("Waiting"), ["waits for Deployment default/db of wave 0"]);
    world.roll();
    assert_eq!(started(&world, "x"), ["db", "set"]);
    assert_eq!(world.bound().len(), 3);
}

/// A status that speaks of an earlier generation lets nobody start.
#[test]
fn a_stale_status_is_not_healthy() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.commit('a', vec![deployment("db", 1, "x:1", json!({}))], None);
    world.roll();
    world.commit('b', vec![deployment("db", 1, "x:2", json!({})), after("web", "x:2", "db")], None);
    // Before the Deployment's controller has looked, its status is that of the old version.
    let web = world.view().object(&Key::of::<Deployment>("default", "web")).unwrap();
    let why = crate::plan::order::hold(world.view(), web);
    assert_eq!(why.as_deref(), Some("waits for Deployment default/db"));
}

#[test]
fn a_replaced_pod_and_a_scale_do_not_wait() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.commit('a', vec![deployment("db", 1, "x", json!({})), after("web", "x", "db")], None);
    world.roll();
    let db = world.all::<Pod>()[0].0.key().clone();
    world.report(&db, false);
    let web = world.all::<Pod>()[1].0.clone();
    let (key, uid) = (web.key().clone(), web.uid().to_owned());
    world.apply(vec![Command::Write(vec![Op::Delete { key, uid, grace_seconds: Some(0) }])]);
    world.edit::<Deployment>("web", |value| value["spec"]["replicas"] = 2.into());
    world.settle();
    assert_eq!(world.all::<ReplicaSet>().len(), 2);
    assert_eq!(started(&world, "x").iter().filter(|name| *name == "web").count(), 2);
}

/// What `kubectl wait --for=condition=Ready commit/…` and kstatus read.
#[test]
fn a_commit_says_how_it_stands() {
    let conditions = |commit: &Commit| {
        let all = commit.status.conditions.iter();
        all.map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect::<Vec<_>>().join(", ")
    };
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.commit('a', vec![deployment("db", 1, "x", json!({}))], None);
    world.settle();
    let says = conditions(world.get_commit('a'));
    assert_eq!(says, "Ready=False Progressing, Reconciling=True Progressing");
    world.roll();
    assert_eq!(conditions(world.get_commit('a')), "Ready=True Healthy");
    let commit = world.get_commit('a');
    assert_eq!(commit.status.observed_generation, commit.metadata.generation);
    world.commit('b', vec![deployment("db", 1, "y", json!({}))], None);
    world.commit('c', vec![deployment("db", 1, "z", json!({}))], None);
    world.settle();
    let says = conditions(world.get_commit('b'));
    assert_eq!(says, "Ready=False Superseded, Stalled=True Superseded");
}
