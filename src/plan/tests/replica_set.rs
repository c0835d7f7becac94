use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{Pod, PodStatus, ResourceQuota},
};
use serde_json::{Value, json};

use super::world::{World, deployment, pod};

fn replica_set(name: &str, replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "web" }] },
            },
        },
    })
}

fn world() -> World {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.node("b", "8", "8Gi");
    world
}

/// A pod made from a template has what Kubernetes' admission gives it.
#[test]
fn new_pods_are_complete() {
    let mut world = world();
    world.put(replica_set("web", 1));
    world.settle();
    let (object, made) = world.all::<Pod>()[0];
    let name = object.key().name.strip_prefix("web-").unwrap();
    assert_eq!(name.len(), 5);
    assert_eq!(object.meta().generate_name.as_deref(), Some("web-"));
    let spec = made.spec.as_ref().unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    let seconds: Vec<_> = spec.tolerations.iter().flatten().map(|t| t.toleration_seconds).collect();
    assert_eq!(seconds, [Some(300), Some(300)]);
    let status = made.status.as_ref().unwrap();
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn failed_pods_are_replaced_and_terminating_ones_do_not_count() {
    let mut world = world();
    world.put(replica_set("web", 2));
    world.roll();
    let pods = world.bound();
    let failed = PodStatus { phase: Some("Failed".to_owned()), ..PodStatus::default() };
    world.observe(&pods[0].0, failed, false);
    world.delete::<Pod>("default", &pods[1].0.name);
    world.settle();
    assert_eq!(world.all::<Pod>().len(), 4);
    let status = world.get::<ReplicaSet>("web").status.clone().unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (2, None));
    assert_eq!(status.terminating_replicas, Some(1));
    world.roll();
    let status = world.get::<ReplicaSet>("web").status.clone().unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (2, Some(2)));
}

/// Orphans with the labels are adopted, pods that lose the labels are released and replaced.
#[test]
fn pods_are_adopted_and_released() {
    let mut world = world();
    let mut orphan = pod("lonely", "100m", json!({}));
    orphan["metadata"]["labels"] = json!({ "app": "web" });
    world.put(orphan);
    world.put(replica_set("web", 2));
    world.roll();
    let uid = world.view().get::<ReplicaSet>("default", "web").unwrap().metadata.uid.clone();
    let owned = world.view().owned_by(uid.as_deref().unwrap()).count();
    assert_eq!((world.all::<Pod>().len(), owned), (2, 2));
    world.edit::<Pod>("lonely", |pod| pod["metadata"]["labels"]["app"] = "debug".into());
    world.roll();
    assert_eq!(world.all::<Pod>().len(), 3);
    assert!(world.get::<Pod>("lonely").metadata.owner_references.is_none());
}

/// Pending pods go before ready ones, cheap ones before dear ones.
#[test]
fn the_pods_missed_least_go_first() {
    let mut world = world();
    world.put(replica_set("web", 4));
    world.settle();
    let pods = world.bound();
    for (key, _) in &pods[..3] {
        world.report(key, true);
    }
    let cheap = pods[1].0.name.to_string();
    world.edit::<Pod>(&cheap, |pod| {
        pod["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"] = "-5".into();
    });
    world.edit::<ReplicaSet>("web", |set| set["spec"]["replicas"] = 2.into());
    world.settle();
    let going: Vec<String> = world
        .all::<Pod>()
        .iter()
        .filter(|(o, _)| o.is_terminating())
        .map(|(o, _)| o.key().name.to_string())
        .collect();
    let mut expected = vec![cheap, pods[3].0.name.to_string()];
    expected.sort();
    assert_eq!(going, expected);
    assert_eq!(world.said("SuccessfulDelete").len(), 2);
}

/// A ReplicaSet whose Deployment is gone goes, and its pods with it; an owner of an unknown kind is
/// left alone.
#[test]
fn garbage_follows_its_owner() {
    let mut world = world();
    let owner = |kind: &str, version: &str| json!([{ "apiVersion": version, "kind": kind, "name": "gone", "uid": "u", "controller": true }]);
    let mut set = replica_set("web", 1);
    set["metadata"]["ownerReferences"] = owner("Deployment", "apps/v1");
    world.put(set);
    let mut odd = pod("odd", "100m", json!({}));
    odd["metadata"]["ownerReferences"] = owner("Robot", "example.com/v1");
    world.put(odd);
    world.roll();
    assert!(world.all::<ReplicaSet>().is_empty() && world.all::<Deployment>().is_empty());
    assert_eq!(world.all::<Pod>().len(), 1);
}

/// Foreground: what is owned goes first. Orphan: it stays and belongs to nobody.
#[test]
fn owners_wait_for_what_they_own_when_asked_to() {
    for (finalizer, pods_left) in [("foregroundDeletion", 0), ("orphan", 2)] {
        let mut world = world();
        world.put(replica_set("web", 2));
        world.roll();
        world.edit::<ReplicaSet>("web", |set| {
            set["metadata"]["finalizers"] = json!([finalizer]);
        });
        world.delete::<ReplicaSet>("default", "web");
        assert_eq!(world.all::<ReplicaSet>().len(), 1);
        world.roll();
        assert_eq!((world.all::<ReplicaSet>().len(), world.all::<Pod>().len()), (0, pods_left));
    }
}

/// The namespace has room for two pods; the third is refused, in Kubernetes' words, and the
/// Deployment says so too.
#[test]
fn pods_that_a_quota_has_no_room_for_are_not_made_and_it_is_said() {
    let mut world = world();
    let quota = |pods: &str| {
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "q", "namespace": "default" }, "spec": { "hard": { "pods": pods } },
        })
    };
    world.put(quota("2"));
    world.put(deployment("web", 3, "web:1", json!({})));
    world.settle();
    let pods = |world: &World| world.all::<Pod>().len();
    assert_eq!(pods(&world), 2);
    let used = |world: &World| {
        let quota = world.get::<ResourceQuota>("q").status.clone().unwrap();
        quota.used.unwrap()["pods"].0.clone()
    };
    assert_eq!(used(&world), "2");
    let failure = |world: &World| {
        let conditions = world.get::<Deployment>("web").status.clone().unwrap().conditions;
        let found =
            conditions.into_iter().flatten().find(|c| c.type_.as_deref() == Some("ReplicaFailure"));
        found.map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default()))
    };
    let (reason, message) = failure(&world).unwrap();
    assert_eq!(reason, "FailedCreate");
    let why = "is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
    assert!(message.starts_with("pods \"web-") && message.ends_with(why), "{message}");
    let said = world.said("FailedCreate");
    assert!(said.len() == 1 && said[0].ends_with(why), "{said:?}");
    assert_eq!(world.full_pass(), Vec::<String>::new(), "what was told is not told again");
    world.put(quota("5"));
    world.settle();
    assert_eq!((pods(&world), used(&world).as_str(), failure(&world)), (3, "3", None));
}

/// Two that share a quota never spend it twice, and neither waits longer than it must.
#[test]
fn replica_sets_that_share_a_quota_fill_it_and_no_more() {
    let mut world = world();
    world.put(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "q", "namespace": "default" }, "spec": { "hard": { "pods": "5" } },
    }));
    world.settle();
    world.put(deployment("a", 3, "web:1", json!({})));
    world.put(deployment("b", 3, "web:1", json!({})));
    world.settle();
    assert_eq!(world.all::<Pod>().len(), 5);
}

/// Pods of controllers meet the level of their namespace, its limits and its accounts.
#[test]
fn pods_of_a_template_are_judged_as_those_that_users_make() {
    let mut world = world();
    world.put(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "default", "labels": {
            "kubernetes.io/metadata.name": "default",
            "pod-security.kubernetes.io/enforce": "baseline",
        } },
    }));
    world.put(json!({
        "apiVersion": "v1", "kind": "LimitRange",
        "metadata": { "name": "l", "namespace": "default" },
        "spec": { "limits": [{ "type": "Container", "default": { "cpu": "500m" },
                               "defaultRequest": { "cpu": "100m" } }] },
    }));
    world.put(json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": "high" }, "value": 1000,
    }));
    let mut good = replica_set("good", 1);
    good["spec"]["template"]["spec"]["priorityClassName"] = "high".into();
    world.put(good);
    let mut bad = replica_set("bad", 2);
    bad["spec"]["template"]["spec"]["hostPID"] = true.into();
    world.put(bad);
    let mut lost = replica_set("lost", 1);
    lost["spec"]["template"]["spec"]["serviceAccountName"] = "robot".into();
    world.put(lost);
    world.settle();
    let pods = world.all::<Pod>();
    assert_eq!(pods.len(), 1, "of the good one alone");
    let spec = pods[0].1.spec.as_ref().unwrap();
    assert_eq!(spec.priority, Some(1000));
    let resources = serde_json::to_value(&spec.containers[0].resources).unwrap();
    assert_eq!(resources, json!({ "limits": { "cpu": "500m" }, "requests": { "cpu": "100m" } }));
    let mut said = world.said("FailedCreate");
    said.sort();
    let ends = [
        "is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)",
        "is forbidden: error looking up service account default/robot: serviceaccount \"robot\" \
         not found",
    ];
    assert!(said.len() == 2 && said.iter().zip(ends).all(|(s, e)| s.ends_with(e)), "{said:?}");
    world.put(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "robot", "namespace": "default" },
    }));
    world.settle();
    assert_eq!(world.all::<Pod>().len(), 2, "the account is there now");
}
