use serde_json::{Value, json};

use super::world::{World, admitted, pod};
use crate::{
    model::{CommitId, Key, Object},
    plan::bound::judge,
    state::{Desired, MAIN_SOURCE, Origin},
};

fn wanted(objects: &[Value]) -> Vec<Desired> {
    let desired = |(at, value): (usize, &Value)| Desired {
        object: admitted(value.clone()),
        origin: Origin {
            source: MAIN_SOURCE.into(),
            commit: CommitId::parse(&"c".repeat(40)).unwrap(),
            file: "app.yaml".to_owned(),
            line: u32::try_from(at).unwrap() + 1,
            made_by: None,
            open: false,
            ended: None,
            digest: String::new(),
        },
    };
    objects.iter().enumerate().map(desired).collect()
}

/// What is wrong with a commit of these objects, and what its author should know.
fn told(world: &World, objects: &[Value], deletes: &[Key]) -> (Vec<String>, Vec<String>) {
    let mut wanted = wanted(objects);
    let judged = judge(world.view(), &mut wanted, deletes, world.now, |_| true);
    let lines = |list: Vec<crate::model::Problem>| list.iter().map(ToString::to_string).collect();
    (lines(judged.problems), lines(judged.warnings))
}

fn quota(pods: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "q", "namespace": "default" }, "spec": { "hard": { "pods": pods } },
    })
}

/// A quota counts the pods of a commit together, with those that are there and stay.
#[test]
fn a_commit_is_held_by_the_quota_that_it_brings() {
    let mut world = World::new();
    world.put(pod("old", "1", json!({})));
    world.settle();
    let both = [quota("2"), pod("a", "1", json!({})), pod("b", "1", json!({}))];
    let (problems, _) = told(&world, &both, &[]);
    let why = "app.yaml:3: pods \"b\" is forbidden: exceeded quota: q, requested: pods=1, used: \
               pods=2, limited: pods=2";
    assert_eq!(problems, [why]);
    let old = Key::of::<k8s_openapi::api::core::v1::Pod>("default", "old");
    assert_eq!(told(&world, &both, &[old]).0, [""; 0], "one goes, two come");
}

/// The level of the namespace refuses a pod, and warns of a workload that would make such.
#[test]
fn a_commit_meets_the_level_of_its_namespace() {
    let mut world = World::new();
    world.settle();
    let labels = json!({
        "kubernetes.io/metadata.name": "default",
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "baseline",
    });
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "default", "labels": labels },
    });
    let mut web = super::world::deployment("web", 1, "web:1", json!({}));
    web["spec"]["template"]["spec"]["hostPID"] = true.into();
    let (problems, warnings) =
        told(&world, &[namespace, pod("p", "1", json!({ "hostPID": true })), web], &[]);
    let broken = "PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
    assert_eq!(problems, [format!("app.yaml:2: pods \"p\" is forbidden: violates {broken}")]);
    assert_eq!(warnings, [format!("app.yaml:3: would violate {broken}")]);
}

/// A pod gets what its namespace gives, also when the same commit says what that is.
#[test]
fn a_pod_of_a_commit_is_complete() {
    let mut world = World::new();
    world.settle();
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": "high" }, "value": 1000,
    });
    let limits = json!({
        "apiVersion": "v1", "kind": "LimitRange",
        "metadata": { "name": "l", "namespace": "default" },
        "spec": { "limits": [{ "type": "Container", "defaultRequest": { "memory": "64Mi" } }] },
    });
    let mut wanted =
        wanted(&[class, limits, pod("p", "1", json!({ "priorityClassName": "high" }))]);
    let judged = judge(world.view(), &mut wanted, &[], world.now, |_| true);
    assert_eq!(judged.problems, []);
    let spec = Object::value(&wanted[2].object)["spec"].clone();
    assert_eq!(spec["priority"], 1000);
    assert_eq!(spec["containers"][0]["resources"]["requests"]["memory"], "64Mi");
    assert_eq!(spec["volumes"].as_array().map(Vec::len), Some(1), "what it asks the API with");
    let lost = pod("p", "1", json!({ "priorityClassName": "none" }));
    let why = "app.yaml:1: pods \"p\" is forbidden: no PriorityClass with name none was found";
    assert_eq!(told(&world, &[lost], &[]).0, [why]);
}
