use expect_test::{Expect, expect};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};

use super::world::{World, deployment};

fn service(name: &str, spec: Value) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": "http" }] },
    });
    for (field, inner) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = inner.clone();
    }
    value
}

fn world() -> World {
    let mut world = World::new();
    world.node("a", "200", "80Gi");
    world.node("b", "200", "80Gi");
    world
}

fn with_port(mut deployment: Value, port: i32) -> Value {
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["ports"] = json!([{ "name": "http", "containerPort": port }]);
    deployment
}

/// One line for each slice: ports, and how many endpoints are ready, serving, terminating.
fn check(world: &World, expect: &Expect) {
    let mut lines: Vec<String> =
        world.all::<EndpointSlice>().iter().map(|(_, s)| line(s)).collect();
    lines.sort();
    expect.assert_eq(&lines.join("\n"));
}

fn line(slice: &EndpointSlice) -> String {
    let ports: Vec<String> = slice
        .ports
        .iter()
        .flatten()
        .map(|p| p.port.map(|n| n.to_string()).unwrap_or_default())
        .collect();
    let conditions: Vec<_> =
        slice.endpoints.iter().flatten().filter_map(|e| e.conditions.clone()).collect();
    let count =
        |field: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| {
            conditions.iter().filter(|c| field(c) == Some(true)).count()
        };
    format!(
        "[{}] {} endpoints: {} ready, {} serving, {} terminating",
        ports.join(","),
        conditions.len(),
        count(|c| c.ready),
        count(|c| c.serving),
        count(|c| c.terminating),
    )
}

#[test]
fn endpoints_follow_pods() {
    let mut world = world();
    world.put(service("web", json!({})));
    world.settle();
    check(&world, &expect!["[] 0 endpoints: 0 ready, 0 serving, 0 terminating"]);
    world.put(with_port(deployment("web", 3, "web:1", json!({})), 8080));
    world.roll();
    check(&world, &expect!["[8080] 3 endpoints: 3 ready, 3 serving, 0 terminating"]);
    let pods = world.bound();
    world.report(&pods[0].0, false);
    world.delete::<Pod>("default", &pods[1].0.name);
    world.settle();
    check(&world, &expect!["[8080] 3 endpoints: 1 ready, 2 serving, 1 terminating"]);
    let slice = world.all::<EndpointSlice>()[0].1.clone();
    let labels = slice.metadata.labels.unwrap();
    assert_eq!(labels.get("kubernetes.io/service-name").map(String::as_str), Some("web"));
    assert!(slice.endpoints.unwrap().iter().all(|e| e.node_name.is_some()));
    assert_eq!(world.full_pass(), Vec::<String>::new());
    world.delete::<Service>("default", "web");
    world.settle();
    assert!(world.all::<EndpointSlice>().is_empty());
}

/// Pods with another number behind the same port name get a slice of their own.
#[test]
fn named_ports_are_resolved_for_each_pod() {
    let mut world = world();
    world.put(service("web", json!({})));
    world.put(with_port(deployment("web", 2, "web:1", json!({})), 8080));
    world.roll();
    world.put(with_port(deployment("web", 2, "web:2", json!({})), 9090));
    world.settle();
    let pods = world.bound();
    let new = pods.iter().find(|(key, _)| {
        let pod = world.view().object(key).unwrap().view::<Pod>().unwrap();
        pod.status.as_ref().unwrap().pod_ip.is_none()
    });
    let new = new.unwrap().0.clone();
    world.report(&new, false);
    world.settle();
    check(
        &world,
        &expect![[r#"
            [8080] 2 endpoints: 2 ready, 2 serving, 0 terminating
            [9090] 1 endpoints: 0 ready, 0 serving, 0 terminating"#]],
    );
    world.roll();
    world.report(&new, true);
    world.roll();
    check(&world, &expect!["[9090] 2 endpoints: 2 ready, 2 serving, 0 terminating"]);
}

#[test]
fn headless_services_publish_names_and_unready_pods() {
    let mut world = world();
    let spec = json!({ "clusterIP": "None", "publishNotReadyAddresses": true });
    world.put(service("db", spec));
    let mut db = with_port(deployment("db", 1, "db:1", json!({})), 5432);
    db["spec"]["template"]["spec"]["hostname"] = "zero".into();
    db["spec"]["template"]["spec"]["subdomain"] = "db".into();
    world.put(db);
    world.settle();
    let key = world.bound()[0].0.clone();
    world.report(&key, false);
    world.settle();
    check(&world, &expect!["[5432] 1 endpoints: 1 ready, 0 serving, 0 terminating"]);
    let slice = world.all::<EndpointSlice>()[0].1.clone();
    assert_eq!(slice.endpoints.unwrap()[0].hostname.as_deref(), Some("zero"));
    assert!(slice.metadata.labels.unwrap().contains_key("service.kubernetes.io/headless"));
}

/// 100 endpoints fill a slice; a change of one pod changes one slice.
#[test]
fn slices_are_bounded_and_stable() {
    let mut world = world();
    world.put(service("web", json!({})));
    world.put(with_port(deployment("web", 150, "web:1", json!({})), 80));
    world.roll();
    check(
        &world,
        &expect![[r#"
            [80] 100 endpoints: 100 ready, 100 serving, 0 terminating
            [80] 50 endpoints: 50 ready, 50 serving, 0 terminating"#]],
    );
    let before: Vec<_> = world.all::<EndpointSlice>().iter().map(|(o, _)| (*o).clone()).collect();
    let key = world.bound()[0].0.clone();
    world.report(&key, false);
    world.settle();
    let after: Vec<_> = world.all::<EndpointSlice>().iter().map(|(o, _)| (*o).clone()).collect();
    assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1);
}
