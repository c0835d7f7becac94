use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceQuota};
use serde_json::json;

use super::world::{World, deployment, pod};

fn quota(world: &mut World, name: &str, spec: serde_json::Value) {
    world.put(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": name, "namespace": "default" }, "spec": spec,
    }));
}

/// Each quota with what is used of it.
fn check(world: &World, expect: &Expect) {
    let line = |quota: &ResourceQuota| {
        let status = quota.status.clone().unwrap_or_default();
        let hard = status.hard.unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let each = hard.iter().map(|(name, hard)| {
            format!("{name} {} of {}", used.get(name).map_or("?", |u| &u.0), hard.0)
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let lines = world.all::<ResourceQuota>().into_iter();
    let lines = lines.map(|(o, quota)| format!("{}: {}", o.key().name, line(quota)));
    expect.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

/// What controllers make and what goes is counted too, not only what admission lets in.
#[test]
fn a_quota_is_counted_again_when_something_changes() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    let hard = json!({
        "pods": "4", "requests.cpu": "2", "requests.memory": "1Gi", "services.nodeports": "3",
        "count/deployments.apps": "2", "configmaps": "5",
    });
    quota(&mut world, "all", json!({ "hard": hard }));
    quota(&mut world, "jobs", json!({ "hard": { "pods": "1" }, "scopes": ["Terminating"] }));
    world.settle();
    check(
        &world,
        &expect![[r#"
        all: configmaps 1 of 5, count/deployments.apps 0 of 2, pods 0 of 4, requests.cpu 0 of 2, requests.memory 0 of 1Gi, services.nodeports 0 of 3
        jobs: pods 0 of 1"#]],
    );
    let mut web = deployment("web", 2, "web:1", json!({}));
    web["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "cpu": "250m", "memory": "64Mi" } });
    world.put(web.clone());
    world.put(pod("job", "1", json!({ "activeDeadlineSeconds": 30 })));
    world.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s", "namespace": "default" },
        "spec": { "type": "NodePort", "ports": [{ "port": 80 }] },
    }));
    world.roll();
    check(
        &world,
        &expect![[r#"
        all: configmaps 1 of 5, count/deployments.apps 1 of 2, pods 3 of 4, requests.cpu 1500m of 2, requests.memory 128Mi of 1Gi, services.nodeports 1 of 3
        jobs: pods 1 of 1"#]],
    );
    let job = world.bound()[0].0.clone();
    let over = PodStatus { phase: Some("Succeeded".to_owned()), ..PodStatus::default() };
    world.observe(&job, over, false);
    world.delete::<k8s_openapi::api::core::v1::Service>("default", "s");
    web["spec"]["replicas"] = 1.into();
    world.put(web);
    world.roll();
    assert_eq!(world.all::<Pod>().len(), 2, "one runs, one is over");
    check(
        &world,
        &expect![[r#"
        all: configmaps 1 of 5, count/deployments.apps 1 of 2, pods 1 of 4, requests.cpu 250m of 2, requests.memory 64Mi of 1Gi, services.nodeports 0 of 3
        jobs: pods 0 of 1"#]],
    );
}
