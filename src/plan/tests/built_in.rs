//! What the cluster keeps for clients: Leases, APIServices, PriorityClasses, aggregated roles.

use k8s_openapi::{
    api::{
        coordination::v1::Lease, core::v1::Node, rbac::v1::ClusterRole,
        scheduling::v1::PriorityClass,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use serde_json::json;

use super::world::World;
use crate::{
    model::{Key, Object, Timestamp},
    state::{Command, Expect, Op, Part},
};

/// When a node's Lease was renewed, for how long, and whether it is good now.
fn lease(world: &World, node: &str) -> Option<(Timestamp, i32, bool)> {
    let lease: &Lease = world.view().get("kube-node-lease", node)?;
    let spec = lease.spec.as_ref()?;
    assert_eq!(spec.holder_identity.as_deref(), Some(node));
    let renewed = Timestamp::from(spec.renew_time.as_ref()?);
    let seconds = spec.lease_duration_seconds?;
    Some((renewed, seconds, renewed.plus_seconds(seconds.into()) > world.now))
}

/// A Lease tells the truth at every moment, and costs the log next to nothing.
#[test]
fn a_nodes_lease_is_good_while_it_is_heard_and_ends_with_its_silence() {
    let mut world = World::new();
    world.node("n1", "1", "1Gi");
    world.settle();
    let first = lease(&world, "n1").unwrap();
    assert_eq!((first.1, first.2), (3600, true));
    let revision = world.view().revision();
    world.live(600);
    world.settle();
    assert_eq!(world.view().revision(), revision, "ten minutes cost nothing");
    world.live(1201);
    world.settle();
    let renewed = lease(&world, "n1").unwrap();
    assert_eq!((renewed.0, renewed.2), (world.now, true));
    world.wait(60);
    world.settle();
    let ended = lease(&world, "n1").unwrap();
    assert_eq!((ended.0, ended.1, ended.2), (renewed.0, 50, false), "silent since it was heard");
    world.live(1);
    world.node("n1", "1", "1Gi");
    world.settle();
    assert!(lease(&world, "n1").unwrap().2, "heard again");
}

#[test]
fn a_lease_goes_with_its_node_and_is_put_right() {
    let mut world = World::new();
    world.node("n1", "1", "1Gi");
    world.settle();
    world.put(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "n1", "namespace": "kube-node-lease" },
        "spec": { "holderIdentity": "somebody" },
    }));
    world.settle();
    assert!(lease(&world, "n1").is_some_and(|(.., good)| good));
    world.delete::<Node>("", "n1");
    world.settle();
    assert_eq!(world.view().object(&Key::of::<Lease>("kube-node-lease", "n1")), None);
}

fn served(world: &World) -> Vec<String> {
    world.all::<APIService>().iter().map(|(object, _)| object.key().name.to_string()).collect()
}

#[test]
fn everything_that_is_served_has_an_api_service() {
    let mut world = World::new();
    let before = served(&world);
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.authorization.k8s.io", "v1.mainstay.io"] {
        assert!(before.iter().any(|found| found == name), "{name} of {before:?}");
    }
    let apps = world.view().get::<APIService>("", "v1.apps").unwrap();
    let status = serde_json::to_value(&apps.status).unwrap();
    assert_eq!(status["conditions"][0]["reason"], "Local");
    assert_eq!(status["conditions"][0]["status"], "True");
    world.delete::<APIService>("", "v1.apps");
    world.put(json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1.nothing.example" },
        "spec": {
            "group": "nothing.example", "version": "v1", "groupPriorityMinimum": 1,
            "versionPriority": 1,
        },
    }));
    world.settle();
    assert_eq!(served(&world), before);
}

#[test]
fn an_established_definition_is_served_too() {
    let mut world = World::new();
    let version = |name: &str, served: bool| {
        json!({
            "name": name, "served": served, "storage": served,
            "schema": { "openAPIV3Schema": { "type": "object" } },
        })
    };
    world.put(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "toys.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList" },
            "versions": [version("v1", true), version("v0", false)],
        },
    }));
    let key = Key::of::<CustomResourceDefinition>("", "toys.example.com");
    let mut value = world.view().object(&key).unwrap().value();
    value["status"]["conditions"] = json!([{ "type": "Established", "status": "True" }]);
    let object = Object::from_value(&value).unwrap();
    let put = Op::Put { object, expect: Expect::Any, part: Part::Status };
    world.apply(vec![Command::Write(vec![put])]);
    world.settle();
    let custom: Vec<String> =
        served(&world).into_iter().filter(|name| name.ends_with("example.com")).collect();
    assert_eq!(custom, ["v1.example.com"]);
}

#[test]
fn the_systems_priority_classes_are_always_there() {
    let mut world = World::new();
    world.delete::<PriorityClass>("", "system-node-critical");
    world.settle();
    let values = world.all::<PriorityClass>();
    let values: Vec<_> = values.iter().map(|(o, c)| (o.key().name.as_str(), c.value)).collect();
    let expected = [
        ("system-cluster-critical", Some(2_000_000_000)),
        ("system-node-critical", Some(2_000_001_000)),
    ];
    assert_eq!(values, expected);
}

fn resources(world: &World, role: &str) -> Vec<String> {
    let role: &ClusterRole = world.view().get("", role).unwrap();
    let rules = role.rules.iter().flatten();
    rules.flat_map(|rule| rule.resources.clone().unwrap_or_default()).collect()
}

/// A role that selects others has their rules, through as many of them as there are.
#[test]
fn roles_that_aggregate_have_the_rules_of_what_they_select() {
    let mut world = World::new();
    for role in ["view", "edit", "admin"] {
        assert!(resources(&world, role).iter().any(|name| name == "configmaps"), "{role}");
    }
    assert!(!resources(&world, "view").iter().any(|name| name == "secrets"));
    let part = |name: &str, label: &str, resource: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": name, "labels": { label: "true" } },
            "rules": [{ "apiGroups": ["x"], "resources": [resource], "verbs": ["get"] }],
        })
    };
    world.put(part("toys", "rbac.authorization.k8s.io/aggregate-to-view", "toys"));
    world.put(part("balls", "mine", "balls"));
    world.put(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "all" },
        "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "mine": "true" } }] },
    }));
    world.settle();
    assert_eq!(resources(&world, "all"), ["balls"]);
    assert!(resources(&world, "admin").iter().any(|name| name == "toys"), "through edit and view");
    world.delete::<ClusterRole>("", "toys");
    world.delete::<ClusterRole>("", "balls");
    world.settle();
    assert_eq!(resources(&world, "all"), [""; 0]);
    assert!(!resources(&world, "admin").iter().any(|name| name == "toys"));
}
