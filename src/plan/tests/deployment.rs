use expect_test::expect;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use serde_json::json;

use super::world::{World, deployment};

/// Every ReplicaSet: revision, size, pods available.
fn sets(world: &World) -> String {
    let mut sets: Vec<String> = world
        .all::<ReplicaSet>()
        .iter()
        .map(|(o, set)| {
            let available = set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
            let revision = o.annotation("deployment.kubernetes.io/revision").unwrap_or("?");
            format!("r{revision} {}/{}", available, set.spec.replicas.unwrap_or(1))
        })
        .collect();
    sets.sort();
    sets.join(", ")
}

fn conditions(world: &World, name: &str) -> Vec<String> {
    let status = world.get::<Deployment>(name).status.clone().unwrap_or_default();
    let conditions = status.conditions.into_iter().flatten();
    let mut said: Vec<String> = conditions
        .map(|c| {
            let text = |t: Option<String>| t.unwrap_or_default();
            format!("{}={} {}", text(c.type_), text(c.status), text(c.reason))
        })
        .collect();
    said.sort();
    said
}

fn world(cpu: &str) -> World {
    let mut world = World::new();
    world.node("a", cpu, "8Gi");
    world.node("b", cpu, "8Gi");
    world
}

#[test]
fn a_deployment_comes_up_and_says_so() {
    let mut world = world("8");
    world.put(deployment("web", 3, "web:1", json!({})));
    world.settle();
    assert_eq!(sets(&world), "r1 0/3");
    assert_eq!(
        conditions(&world, "web"),
        ["Available=False MinimumReplicasUnavailable", "Progressing=True ReplicaSetUpdated"]
    );
    world.roll();
    assert_eq!(sets(&world), "r1 3/3");
    assert_eq!(
        conditions(&world, "web"),
        ["Available=True MinimumReplicasAvailable", "Progressing=True NewReplicaSetAvailable"]
    );
    let status = world.get::<Deployment>("web").status.clone().unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!((status.replicas, status.updated_replicas), (Some(3), Some(3)));
    assert_eq!((status.ready_replicas, status.unavailable_replicas), (Some(3), None));
    let (_, set) = world.all::<ReplicaSet>()[0];
    let name = set.metadata.name.clone().unwrap();
    assert_eq!(
        world.said("ScalingReplicaSet"),
        [format!("Scaled up replica set {name} from 0 to 3")]
    );
    assert_eq!(world.said("SuccessfulCreate").len(), 3);
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

/// The trace of a rolling update, one line a step, is Kubernetes'.
#[test]
fn a_rolling_update_keeps_kubernetes_steps() {
    let mut world = world("8");
    let strategy =
        json!({ "strategy": { "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } } });
    world.put(deployment("web", 4, "web:1", strategy.clone()));
    world.roll();
    world.put(deployment("web", 4, "web:2", strategy));
    let mut trace = vec![sets(&world)];
    for _ in 0..40 {
        world.settle();
        trace.push(sets(&world));
        world.run_pods();
    }
    trace.dedup();
    expect![[r#"
        r1 4/4
        r1 3/3, r2 0/2
        r1 1/1, r2 2/4
        r1 0/0, r2 4/4"#]]
    .assert_eq(&trace.join("\n"));
    assert_eq!(world.all::<Pod>().len(), 4);
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

#[test]
fn a_broken_version_leaves_the_old_pods_and_times_out() {
    let mut world = world("8");
    let deadline = json!({ "progressDeadlineSeconds": 60 });
    world.put(deployment("web", 4, "web:1", deadline.clone()));
    world.roll();
    world.put(deployment("web", 4, "web:2", deadline.clone()));
    world.settle();
    assert_eq!(sets(&world), "r1 3/3, r2 0/2");
    world.live(61);
    world.settle();
    assert_eq!(
        conditions(&world, "web"),
        ["Available=True MinimumReplicasAvailable", "Progressing=False ProgressDeadlineExceeded"]
    );
    // The revert reuses the old ReplicaSet under a new revision.
    world.put(deployment("web", 4, "web:1", deadline));
    world.roll();
    assert_eq!(sets(&world), "r2 0/0, r3 4/4");
    assert_eq!(
        conditions(&world, "web"),
        ["Available=True MinimumReplicasAvailable", "Progressing=True NewReplicaSetAvailable"]
    );
    let revision = "deployment.kubernetes.io/revision";
    let annotations = world.get::<Deployment>("web").metadata.annotations.clone().unwrap();
    assert_eq!(annotations.get(revision).map(String::as_str), Some("3"));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = world("8");
    let recreate = json!({ "strategy": { "type": "Recreate" } });
    world.put(deployment("web", 2, "web:1", recreate.clone()));
    world.roll();
    world.put(deployment("web", 2, "web:2", recreate));
    world.settle();
    // The old pods are terminating and still there, so the new ones do not exist.
    assert_eq!(sets(&world), "r1 0/0");
    assert_eq!(world.all::<Pod>().len(), 2);
    assert!(world.all::<Pod>().iter().all(|(o, _)| o.is_terminating()));
    world.roll();
    assert_eq!(sets(&world), "r1 0/0, r2 2/2");
}

/// Found by a random seed of the simulator.
#[test]
fn a_rolling_update_that_becomes_recreate_with_another_number_ends() {
    let mut world = world("8");
    world.put(deployment("web", 1, "web:1", json!({})));
    world.roll();
    world.put(deployment("web", 1, "web:2", json!({})));
    world.settle();
    assert_eq!(sets(&world), "r1 1/1, r2 0/1");
    world.put(deployment("web", 0, "web:2", json!({ "strategy": { "type": "Recreate" } })));
    world.roll();
    assert_eq!(sets(&world), "r1 0/0, r2 0/0");
    assert!(world.all::<Pod>().is_empty());
}

#[test]
fn pods_count_only_after_min_ready_seconds() {
    let mut world = world("8");
    world.put(deployment("web", 2, "web:1", json!({ "minReadySeconds": 10 })));
    world.roll();
    assert_eq!(sets(&world), "r1 0/2");
    world.live(10);
    world.settle();
    assert_eq!(sets(&world), "r1 2/2");
}

#[test]
fn history_is_kept_up_to_its_limit() {
    let mut world = world("8");
    for version in 1..=5 {
        let image = format!("web:{version}");
        world.put(deployment("web", 1, &image, json!({ "revisionHistoryLimit": 2 })));
        world.roll();
    }
    assert_eq!(sets(&world), "r3 0/0, r4 0/0, r5 1/1");
}

#[test]
fn scaling_in_a_rollout_is_proportional_and_pausing_stops_it() {
    let mut world = world("16");
    let surge = json!({ "strategy": { "rollingUpdate": { "maxSurge": 3, "maxUnavailable": 2 } } });
    world.put(deployment("web", 10, "web:1", surge.clone()));
    world.roll();
    world.put(deployment("web", 10, "web:2", surge.clone()));
    world.settle();
    assert_eq!(sets(&world), "r1 8/8, r2 0/5");
    let mut paused = deployment("web", 15, "web:2", surge.clone());
    paused["spec"]["paused"] = true.into();
    world.put(paused);
    world.settle();
    // Kubernetes' own example: 5 more pods, 3 to the larger set and 2 to the smaller one.
    assert_eq!(sets(&world), "r1 8/11, r2 0/7");
    assert!(conditions(&world, "web").contains(&"Progressing=Unknown DeploymentPaused".to_owned()));
    world.roll();
    assert_eq!(sets(&world), "r1 11/11, r2 7/7");
    world.put(deployment("web", 15, "web:2", surge));
    world.roll();
    assert_eq!(sets(&world), "r1 0/0, r2 15/15");
}

/// Another ReplicaSet already has the name that the hash gives: the next name is taken.
#[test]
fn a_hash_collision_takes_another_name() {
    let mut world = world("8");
    let value = deployment("web", 1, "web:1", json!({}));
    let admitted = super::world::admitted(value.clone());
    let template = &admitted.view::<Deployment>().unwrap().spec.template;
    let name = format!("web-{}", crate::kinds::template_hash(template, 0));
    world.put(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "other" } },
            "template": {
                "metadata": { "labels": { "app": "other" } },
                "spec": { "containers": [{ "name": "c", "image": "x" }] },
            },
        },
    }));
    world.put(value);
    world.roll();
    assert_eq!(world.get::<Deployment>("web").status.as_ref().unwrap().collision_count, Some(1));
    assert_eq!(sets(&world), "r1 1/1, r? 0/0");
}

/// Deleting a Deployment takes its ReplicaSets and their pods with it.
#[test]
fn what_a_deployment_owned_goes_with_it() {
    let mut world = world("8");
    world.put(deployment("web", 2, "web:1", json!({})));
    world.roll();
    world.delete::<Deployment>("default", "web");
    world.roll();
    assert_eq!((world.all::<ReplicaSet>().len(), world.all::<Pod>().len()), (0, 0));
}
