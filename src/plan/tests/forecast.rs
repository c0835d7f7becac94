use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::world::{World, admitted, deployment, pod};
use crate::{
    model::{CommitId, Key},
    plan::forecast,
    state::{Desired, MAIN_SOURCE, Origin},
};

fn desired(value: &Value) -> Desired {
    let origin = Origin {
        source: MAIN_SOURCE.into(),
        commit: CommitId::parse(&"c".repeat(40)).unwrap(),
        file: "app.yaml".to_owned(),
        line: 1,
        made_by: None,
        open: false,
        ended: None,
        digest: String::new(),
    };
    Desired { object: admitted(value.clone()), origin }
}

/// Two nodes of two processors, on which `web` has two pods that each ask for one.
fn web() -> World {
    let mut world = World::new();
    world.node("a", "2", "4Gi");
    world.node("b", "2", "4Gi");
    world.commit('1', vec![sized("web", 2, "web:1", "1")], None);
    world.roll();
    world
}

fn sized(name: &str, replicas: i32, image: &str, cpu: &str) -> Value {
    let mut value = deployment(name, replicas, image, json!({}));
    let container = &mut value["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({ "requests": { "cpu": cpu } });
    value
}

fn check(world: &World, wanted: &[Value], deletes: &[Key], expected: Expect) {
    let wanted: Vec<Desired> = wanted.iter().map(desired).collect();
    let found = forecast(world.view(), &wanted, deletes, world.now);
    let placed = found.placed.iter().map(|((key, node), n)| format!("{n} of {key} on {node}\n"));
    let unplaced = found.unplaced.iter().map(|((key, why), n)| format!("{n} of {key}: {why}\n"));
    expected.assert_eq(&placed.chain(unplaced).collect::<String>());
}

/// What must not happen: pods that stay counted as new, or a commit that changes no pod given
/// places.
#[test]
fn only_new_pods_are_placed() {
    let world = web();
    check(&world, &[sized("web", 2, "web:1", "1")], &[], expect![""]);
    check(&world, &[sized("web", 1, "web:1", "1")], &[], expect![""]);
    check(
        &world,
        &[sized("web", 3, "web:1", "1")],
        &[],
        expect![[r#"
            1 of Deployment default/web on a
        "#]],
    );
    check(
        &world,
        &[sized("web", 2, "web:2", "1")],
        &[],
        expect![[r#"
        1 of Deployment default/web on a
        1 of Deployment default/web on b
    "#]],
    );
    let mut paused = sized("web", 2, "web:2", "1");
    paused["spec"]["paused"] = true.into();
    check(&world, &[paused], &[], expect![""]);
}

/// What a commit takes away makes room for what it brings; what finds none is told with the
/// scheduler's words.
#[test]
fn what_does_not_fit_is_told_with_what_goes_taken_into_account() {
    let world = web();
    let big = sized("big", 2, "big:1", "2");
    check(
        &world,
        std::slice::from_ref(&big),
        &[],
        expect![[r#"
        2 of Deployment default/big: 0/2 nodes are available: 2 Insufficient cpu.
    "#]],
    );
    let web = Key::parse("Deployment.apps/default/web").unwrap();
    check(
        &world,
        &[big],
        &[web],
        expect![[r#"
        1 of Deployment default/big on a
        1 of Deployment default/big on b
    "#]],
    );
    let own = pod("own", "1", json!({ "nodeSelector": { "disk": "fast" } }));
    check(
        &world,
        &[own],
        &[],
        expect![[r#"
        1 of Pod default/own: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.
    "#]],
    );
    check(
        &World::new(),
        &[sized("web", 1, "web:1", "1")],
        &[],
        expect![[r#"
        1 of Deployment default/web: no nodes available to schedule pods
    "#]],
    );
}

/// A quota that the same commit brings counts, and so do the pods that it replaces.
#[test]
fn what_a_policy_refuses_is_told() {
    let world = web();
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "q", "namespace": "default" }, "spec": { "hard": { "pods": "2" } },
    });
    check(
        &world,
        &[quota.clone(), sized("web", 2, "web:2", "1")],
        &[],
        expect![[r#"
        1 of Deployment default/web on a
        1 of Deployment default/web on b
    "#]],
    );
    check(
        &world,
        &[quota, sized("web", 3, "web:1", "100m")],
        &[],
        expect![[r#"
        1 of Deployment default/web on a
        1 of Deployment default/web on b
        1 of Deployment default/web: pods "web-2" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2
    "#]],
    );
}
