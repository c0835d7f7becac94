use expect_test::{Expect, expect};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use serde_json::{Value, json};

use super::world::{World, deployment, pod};
use crate::{
    model::{Key, Object},
    state::{Command, Expect as At, Op, Part},
};

fn budget(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    })
}

fn web(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({ "matchLabels": { "app": "web" } });
    budget("web", spec)
}

fn world(replicas: i32) -> World {
    let mut world = World::new();
    world.node("a", "64", "64Gi");
    world.put(deployment("web", replicas, "web:1", json!({})));
    world.roll();
    world
}

fn line(world: &World) -> String {
    let budget = world.get::<PodDisruptionBudget>("web");
    let status = budget.status.clone().unwrap_or_default();
    let condition = status.conditions.iter().flatten().next();
    let said = condition.map(|c| format!("{}={} {}", c.type_, c.status, c.reason));
    let noted: Vec<&String> = status.disrupted_pods.iter().flatten().map(|(pod, _)| pod).collect();
    format!(
        "{} expected, {} healthy, {} desired, {} allowed, {} noted; generation {} of {}; {}",
        status.expected_pods.unwrap_or(-1),
        status.current_healthy.unwrap_or(-1),
        status.desired_healthy.unwrap_or(-1),
        status.disruptions_allowed.unwrap_or(-1),
        noted.len(),
        status.observed_generation.unwrap_or(-1),
        budget.metadata.generation.unwrap_or(-1),
        said.unwrap_or_default(),
    )
}

fn check(world: &World, expect: &Expect) {
    expect.assert_eq(&line(world));
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

#[test]
fn a_budget_says_how_many_pods_may_go() {
    let mut world = world(4);
    world.put(web(json!({ "minAvailable": 3 })));
    world.settle();
    check(
        &world,
        &expect![
            "4 expected, 4 healthy, 3 desired, 1 allowed, 0 noted; generation 1 of 1; DisruptionAllowed=True SufficientPods"
        ],
    );
    world.put(web(json!({ "minAvailable": "60%" })));
    world.settle();
    check(
        &world,
        &expect![
            "4 expected, 4 healthy, 3 desired, 1 allowed, 0 noted; generation 2 of 2; DisruptionAllowed=True SufficientPods"
        ],
    );
    world.put(web(json!({ "maxUnavailable": 2 })));
    world.settle();
    check(
        &world,
        &expect![
            "4 expected, 4 healthy, 2 desired, 2 allowed, 0 noted; generation 3 of 3; DisruptionAllowed=True SufficientPods"
        ],
    );
    world.put(web(json!({ "maxUnavailable": "30%" })));
    let first = world.bound()[0].0.clone();
    world.report(&first, false);
    world.settle();
    check(
        &world,
        &expect![
            "4 expected, 3 healthy, 2 desired, 1 allowed, 0 noted; generation 4 of 4; DisruptionAllowed=True SufficientPods"
        ],
    );
}

/// What should be there counts, not what is: in an update, and while the number changes.
#[test]
fn a_deployment_speaks_for_all_of_its_pods() {
    let mut world = world(3);
    world.put(web(json!({ "maxUnavailable": 1 })));
    world.put(deployment("web", 5, "web:2", json!({})));
    world.settle();
    check(
        &world,
        &expect![
            "5 expected, 3 healthy, 4 desired, 0 allowed, 0 noted; generation 1 of 1; DisruptionAllowed=False InsufficientPods"
        ],
    );
    world.roll();
    check(
        &world,
        &expect![
            "5 expected, 5 healthy, 4 desired, 1 allowed, 0 noted; generation 1 of 1; DisruptionAllowed=True SufficientPods"
        ],
    );
}

/// An evicted pod counts as gone at once; one that stays although it was noted counts again after
/// two minutes, and the note of one that has gone is taken away.
#[test]
fn a_pod_that_was_noted_counts_as_gone() {
    let mut world = world(3);
    world.put(web(json!({ "minAvailable": 1 })));
    world.settle();
    let evicted = world.bound()[0].0.clone();
    let object = world.view().object(&Key::of::<PodDisruptionBudget>("default", "web")).unwrap();
    let mut value = object.value();
    value["status"]["disruptedPods"][evicted.name.as_str()] = json!(world.now.to_time());
    let object = Object::from_value(&value).unwrap();
    let note = |object| Op::Put { object, expect: At::Any, part: Part::Status };
    world.apply(vec![Command::Write(vec![note(object.clone())])]);
    world.settle();
    check(
        &world,
        &expect![
            "3 expected, 2 healthy, 1 desired, 1 allowed, 1 noted; generation 1 of 1; DisruptionAllowed=True SufficientPods"
        ],
    );
    world.live(121);
    world.settle();
    check(
        &world,
        &expect![
            "3 expected, 3 healthy, 1 desired, 2 allowed, 0 noted; generation 1 of 1; DisruptionAllowed=True SufficientPods"
        ],
    );
    world.apply(vec![Command::Write(vec![note(object)])]);
    world.delete::<Pod>("default", &evicted.name);
    world.settle();
    check(
        &world,
        &expect![
            "4 expected, 2 healthy, 1 desired, 1 allowed, 0 noted; generation 1 of 1; DisruptionAllowed=True SufficientPods"
        ],
    );
}

/// Without a controller nobody knows how many pods there should be: a share of them is nothing, a
/// number still counts.
#[test]
fn pods_without_a_controller_count_by_number_only() {
    let mut world = World::new();
    world.node("a", "64", "64Gi");
    world.put(pod("web", "1", json!({})));
    world.put(web(json!({ "minAvailable": 0 })));
    world.roll();
    check(
        &world,
        &expect![
            "1 expected, 1 healthy, 0 desired, 1 allowed, 0 noted; generation 1 of 1; DisruptionAllowed=True SufficientPods"
        ],
    );
    world.put(web(json!({ "maxUnavailable": 1 })));
    world.settle();
    check(
        &world,
        &expect![
            "0 expected, 1 healthy, 0 desired, 0 allowed, 0 noted; generation 2 of 2; DisruptionAllowed=False InsufficientPods"
        ],
    );
    let mut owned = pod("web-2", "1", json!({}));
    owned["metadata"]["labels"]["app"] = "web".into();
    let node = world.get::<k8s_openapi::api::core::v1::Node>("a").metadata.uid.clone();
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "a", "uid": node, "controller": true,
    }]);
    world.put(owned);
    world.settle();
    check(
        &world,
        &expect![
            "0 expected, 1 healthy, 0 desired, 0 allowed, 0 noted; generation 2 of 2; DisruptionAllowed=False SyncFailed"
        ],
    );
}
