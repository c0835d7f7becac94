//! Endpoints in both directions: what the cluster writes for Services with a selector, and what it
//! makes of those that people write.

use expect_test::{Expect, expect};
use k8s_openapi::api::{
    core::v1::{EndpointAddress, EndpointSubset, Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};

use super::world::{World, deployment};
use crate::model::Key;

fn service(spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default", "labels": { "team": "one" } },
        "spec": spec,
    })
}

fn web(spec: Value) -> Value {
    let mut value = service(
        json!({ "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] }),
    );
    for (field, inner) in spec.as_object().into_iter().flatten() {
        value["spec"][field] = inner.clone();
    }
    value
}

fn world() -> World {
    let mut world = World::new();
    world.node("a", "2000", "80Gi");
    world.node("b", "2000", "80Gi");
    world
}

fn subset(subset: &EndpointSubset) -> String {
    let ports = subset.ports.iter().flatten();
    let ports: Vec<String> =
        ports.map(|p| format!("{}{}", p.name.clone().unwrap_or_default(), p.port)).collect();
    let count = |list: &Option<Vec<EndpointAddress>>| list.iter().flatten().count();
    let (ready, not) = (count(&subset.addresses), count(&subset.not_ready_addresses));
    format!("[{}] {ready} ready, {not} not", ports.join(","))
}

fn check(world: &World, expect: &Expect) {
    let all = world.all::<Endpoints>().into_iter();
    let lines = all.map(|(o, endpoints)| {
        let subsets: Vec<String> = endpoints.subsets.iter().flatten().map(subset).collect();
        format!("{}: {}", o.key().name, subsets.join("; "))
    });
    expect.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

#[test]
fn endpoints_say_what_the_slices_say() {
    let mut world = world();
    world.put(web(json!({})));
    world.settle();
    check(&world, &expect!["web: "]);
    world.put(deployment("web", 3, "web:1", json!({})));
    world.roll();
    check(&world, &expect!["web: [8080] 3 ready, 0 not"]);
    let pods = world.bound();
    world.report(&pods[0].0, false);
    world.delete::<Pod>("default", &pods[1].0.name);
    world.settle();
    check(&world, &expect!["web: [8080] 1 ready, 1 not"]);
    let endpoints = world.get::<Endpoints>("web").clone();
    let labels = endpoints.metadata.labels.unwrap();
    assert_eq!(labels["team"], "one");
    assert_eq!(labels["endpoints.kubernetes.io/managed-by"], "endpoint-controller");
    let first = endpoints.subsets.unwrap()[0].addresses.clone().unwrap()[0].clone();
    assert_eq!(first.target_ref.unwrap().kind.as_deref(), Some("Pod"));
    assert!(first.node_name.is_some());
    // What somebody writes into them does not last.
    world.edit::<Endpoints>("web", |value| value["subsets"] = json!([]));
    world.settle();
    check(&world, &expect!["web: [8080] 1 ready, 1 not"]);
    world.delete::<Service>("default", "web");
    world.settle();
    assert!(world.all::<Endpoints>().is_empty());
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

/// A headless Service may publish pods that are not ready, and may have no ports at all.
#[test]
fn headless_services_have_endpoints_without_ports() {
    let mut world = world();
    world.put(web(json!({ "clusterIP": "None", "ports": [], "publishNotReadyAddresses": true })));
    world.put(deployment("web", 2, "web:1", json!({})));
    world.settle();
    let first = world.bound()[0].0.clone();
    world.report(&first, false);
    world.settle();
    check(&world, &expect!["web: [] 1 ready, 0 not"]);
    let labels = world.get::<Endpoints>("web").metadata.labels.clone().unwrap();
    assert!(labels.contains_key("service.kubernetes.io/headless"));
}

/// A thousand addresses are kept, and the object says that there are more.
#[test]
fn endpoints_are_cut_at_a_thousand() {
    let mut world = world();
    for node in 0..10 {
        world.node(&format!("n{node}"), "2000", "80Gi");
    }
    world.put(web(json!({})));
    world.put(deployment("web", 1005, "web:1", json!({})));
    world.roll();
    check(&world, &expect!["web: [8080] 1000 ready, 0 not"]);
    let capacity = |world: &World| {
        let object = world.view().object(&Key::of::<Endpoints>("default", "web")).unwrap();
        object.annotation("endpoints.kubernetes.io/over-capacity").map(str::to_owned)
    };
    assert_eq!(capacity(&world).as_deref(), Some("truncated"));
    world.put(deployment("web", 5, "web:1", json!({})));
    world.roll();
    check(&world, &expect!["web: [8080] 5 ready, 0 not"]);
    assert_eq!(capacity(&world), None);
}

fn by_hand(subsets: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": { "name": "web", "namespace": "default", "labels": { "team": "one" } },
        "subsets": subsets,
    })
}

fn slices(world: &World, expect: &Expect) {
    let line = |slice: &EndpointSlice| {
        let ports = slice.ports.iter().flatten();
        let ports: Vec<String> =
            ports.map(|p| p.port.map(|n| n.to_string()).unwrap_or_default()).collect();
        let endpoints = slice.endpoints.iter().flatten().map(|e| {
            let ready = e.conditions.as_ref().and_then(|c| c.ready) == Some(true);
            format!("{}{}", e.addresses.join("+"), if ready { "" } else { " not ready" })
        });
        let endpoints: Vec<String> = endpoints.collect();
        format!("{} [{}] {}", slice.address_type, ports.join(","), endpoints.join(", "))
    };
    let mut lines: Vec<String> =
        world.all::<EndpointSlice>().iter().map(|(_, slice)| line(slice)).collect();
    lines.sort();
    expect.assert_eq(&lines.join("\n"));
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

#[test]
fn hand_made_endpoints_are_mirrored() {
    let mut world = world();
    world.put(by_hand(json!([
        { "addresses": [{ "ip": "10.1.0.1" }, { "ip": "fd00::1" }],
          "notReadyAddresses": [{ "ip": "10.1.0.2" }], "ports": [{ "port": 5432 }] },
        { "addresses": [{ "ip": "10.1.0.3" }], "ports": [{ "port": 5433 }] },
    ])));
    world.settle();
    slices(&world, &expect![""]);
    world.put(service(json!({ "ports": [{ "port": 5432 }] })));
    world.settle();
    slices(
        &world,
        &expect![[r#"
        IPv4 [5432] 10.1.0.1, 10.1.0.2 not ready
        IPv4 [5433] 10.1.0.3
        IPv6 [5432] fd00::1"#]],
    );
    let (object, slice) = world.all::<EndpointSlice>()[0];
    let labels = object.meta().labels.clone().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["team"], "one");
    let owner = slice.metadata.owner_references.clone().unwrap();
    assert_eq!((owner[0].kind.as_str(), owner[0].name.as_str()), ("Endpoints", "web"));
    world.put(by_hand(
        json!([{ "addresses": [{ "ip": "10.1.0.9" }], "ports": [{ "port": 5432 }] }]),
    ));
    world.settle();
    slices(&world, &expect!["IPv4 [5432] 10.1.0.9"]);
    // Who takes a slice away gets it back; who takes the Endpoints away does not.
    let name = world.all::<EndpointSlice>()[0].0.key().name.clone();
    world.delete::<EndpointSlice>("default", &name);
    world.settle();
    slices(&world, &expect!["IPv4 [5432] 10.1.0.9"]);
    world.edit::<Endpoints>("web", |value| {
        value["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] = "true".into();
    });
    world.settle();
    slices(&world, &expect![""]);
    world.put(by_hand(
        json!([{ "addresses": [{ "ip": "10.1.0.9" }], "ports": [{ "port": 5432 }] }]),
    ));
    world.settle();
    world.delete::<Endpoints>("default", "web");
    world.settle();
    slices(&world, &expect![""]);
}

/// A Service that gets a selector has its Endpoints written by the cluster, and its slices once.
#[test]
fn a_selector_ends_the_mirroring() {
    let mut world = world();
    world.put(service(json!({ "ports": [{ "port": 80 }] })));
    world.put(by_hand(json!([{ "addresses": [{ "ip": "10.1.0.1" }], "ports": [{ "port": 80 }] }])));
    world.settle();
    slices(&world, &expect!["IPv4 [80] 10.1.0.1"]);
    world.put(web(json!({})));
    world.settle();
    slices(&world, &expect!["IPv4 [] "]);
    check(&world, &expect!["web: "]);
}
