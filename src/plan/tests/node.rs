use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::world::{World, deployment, pod};
use crate::model::{NodeName, Timestamp};

const UNREACHABLE: [&str; 2] =
    ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"];

fn world(names: &[&str]) -> World {
    let mut world = World::new();
    for name in names {
        world.node(name, "8", "8Gi");
    }
    world
}

/// Time passes; only these nodes are heard.
fn hear(world: &mut World, seconds: i64, names: &[&str]) {
    world.wait(seconds);
    for name in names {
        world.heard.insert(NodeName::new(name), world.now);
    }
    world.settle();
}

fn ready(world: &World, node: &str) -> String {
    let status = world.get::<Node>(node).status.clone().unwrap();
    status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap().status
}

fn ready_pods(world: &World) -> usize {
    world.all::<Pod>().iter().filter(|(_, p)| crate::plan::pods::is_ready(p)).count()
}

/// Silence, taint, 300 seconds, replacement; then the node is back.
#[test]
fn a_silent_node_loses_its_pods_in_time_and_comes_back() {
    let mut world = world(&["a", "b", "c"]);
    world.put(deployment("web", 3, "web:1", json!({})));
    world.roll();
    assert_eq!(ready_pods(&world), 3);
    hear(&mut world, 40, &["a", "b"]);
    assert_eq!(ready(&world, "c"), "True");
    hear(&mut world, 10, &["a", "b"]);
    assert_eq!(ready(&world, "c"), "Unknown");
    assert_eq!(world.taints("c"), UNREACHABLE);
    // Nothing is sent there any more, and nothing is moved yet.
    assert_eq!((ready_pods(&world), world.all::<Pod>().len()), (2, 3));
    hear(&mut world, 299, &["a", "b"]);
    assert_eq!(world.all::<Pod>().len(), 3);
    hear(&mut world, 1, &["a", "b"]);
    assert_eq!(world.said("TaintManagerEviction").len(), 1);
    assert_eq!(world.all::<Pod>().iter().filter(|(o, _)| !o.is_terminating()).count(), 3);
    hear(&mut world, 5, &["a", "b", "c"]);
    assert_eq!(ready(&world, "c"), "True");
    assert!(world.taints("c").is_empty());
    assert!(world.get::<Node>("c").metadata.annotations.as_ref().is_none_or(|a| a.is_empty()));
    world.roll();
    assert_eq!((ready_pods(&world), world.all::<Pod>().len()), (3, 3));
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

/// A node that is back in time keeps its pods, ready again.
#[test]
fn a_short_silence_moves_nothing() {
    let mut world = world(&["a", "b", "c"]);
    world.put(deployment("web", 3, "web:1", json!({})));
    world.roll();
    let before = world.bound();
    hear(&mut world, 60, &["a", "b"]);
    assert_eq!(ready_pods(&world), 2);
    hear(&mut world, 30, &["a", "b", "c"]);
    assert_eq!(ready_pods(&world), 3);
    assert_eq!(world.bound(), before);
}

/// The agent's own word comes before the leader's ears notice: its word counts, and its pods are
/// back.
#[test]
fn a_node_that_reports_again_is_believed() {
    let mut world = world(&["a", "b", "c"]);
    world.put(deployment("web", 3, "web:1", json!({})));
    world.roll();
    hear(&mut world, 60, &["a", "b"]);
    assert_eq!((ready(&world, "c"), ready_pods(&world)), ("Unknown".to_owned(), 2));
    world.node("c", "4", "8Gi");
    hear(&mut world, 0, &["a", "b", "c"]);
    assert_eq!((ready(&world, "c"), ready_pods(&world)), ("True".to_owned(), 3));
    assert!(world.taints("c").is_empty());
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

/// When most nodes fall silent, though not in the same second, the fault is not theirs: nothing is
/// evicted.
#[test]
fn most_nodes_silent_at_once_evicts_nothing() {
    let mut world = world(&["a", "b", "c", "d", "e"]);
    world.put(deployment("web", 5, "web:1", json!({})));
    world.roll();
    let start = world.now;
    for (i, name) in ["b", "c", "d", "e"].into_iter().enumerate() {
        world.heard.insert(NodeName::new(name), Timestamp(start.0 + 1500 * i as i64));
    }
    for _ in 0..80 {
        hear(&mut world, 5, &["a"]);
        for name in ["b", "c", "d", "e"] {
            assert!(!world.taints(name).iter().any(|t| t.ends_with("NoExecute")));
        }
    }
    assert_eq!(ready(&world, "b"), "Unknown");
    assert!(world.all::<Pod>().iter().all(|(o, _)| !o.is_terminating()));
}

/// The only node is never emptied.
#[test]
fn the_only_node_keeps_its_pods() {
    let mut world = world(&["a"]);
    world.put(deployment("web", 1, "web:1", json!({})));
    world.roll();
    for _ in 0..100 {
        hear(&mut world, 5, &[]);
    }
    assert_eq!(world.taints("a"), [UNREACHABLE[0]]);
    assert!(world.said("TaintManagerEviction").is_empty());
}

/// Two nodes of many that fall silent together are emptied one after the other.
#[test]
fn nodes_are_emptied_one_after_the_other() {
    let mut world = world(&["a", "b", "c", "d", "e"]);
    let tainted = |world: &World| {
        let execute = |n: &&str| world.taints(n).iter().any(|t| t.ends_with("NoExecute"));
        ["d", "e"].iter().filter(|n| execute(n)).count()
    };
    hear(&mut world, 50, &["a", "b", "c"]);
    assert_eq!(tainted(&world), 1);
    hear(&mut world, 9, &["a", "b", "c"]);
    assert_eq!(tainted(&world), 1);
    hear(&mut world, 1, &["a", "b", "c"]);
    assert_eq!(tainted(&world), 2);
}

#[test]
fn a_cordoned_node_is_tainted_and_left_alone() {
    let mut world = world(&["a", "b"]);
    world.edit::<Node>("a", |node| node["spec"]["unschedulable"] = true.into());
    world.settle();
    assert_eq!(world.taints("a"), ["node.kubernetes.io/unschedulable:NoSchedule"]);
    world.put(pod("one", "100m", json!({})));
    world.settle();
    assert_eq!(world.get::<Pod>("one").spec.as_ref().unwrap().node_name.as_deref(), Some("b"));
    world.edit::<Node>("a", |node| node["spec"]["unschedulable"] = false.into());
    world.settle();
    assert!(world.taints("a").is_empty());
}

/// A user's own taint stays, and evicts at once what does not tolerate it.
#[test]
fn a_users_taint_evicts_what_does_not_tolerate_it() {
    let mut world = world(&["a"]);
    world.put(pod("plain", "100m", json!({})));
    let toleration = json!({ "key": "maintenance", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 60 });
    world.put(pod("patient", "100m", json!({ "tolerations": [toleration] })));
    world.roll();
    world.edit::<Node>("a", |node| {
        node["spec"]["taints"] = json!([{ "key": "maintenance", "effect": "NoExecute",
            "timeAdded": "2023-11-14T22:13:20Z" }]);
    });
    world.settle();
    world.assert_sound();
    assert_eq!(world.taints("a"), ["maintenance:NoExecute"]);
    assert!(
        world.view().get::<Pod>("default", "plain").unwrap().metadata.deletion_timestamp.is_some()
    );
    assert!(world.get::<Pod>("patient").metadata.deletion_timestamp.is_none());
    // What its node reports meanwhile does not take away why it goes.
    let key = crate::model::Key::of::<Pod>("default", "plain");
    world.report(&key, true);
    let why = crate::plan::pods::condition(world.get::<Pod>("plain"), "DisruptionTarget").cloned();
    assert_eq!(why.unwrap().reason.as_deref(), Some("DeletionByTaintManager"));
    world.live(60);
    world.settle();
    assert!(world.get::<Pod>("patient").metadata.deletion_timestamp.is_some());
}

#[test]
fn pods_go_with_their_node() {
    let mut world = world(&["a", "b"]);
    world.put(deployment("web", 2, "web:1", json!({})));
    world.roll();
    world.delete::<Node>("", "b");
    world.heard.remove(&NodeName::new("b"));
    world.roll();
    let nodes: Vec<_> = world
        .all::<Pod>()
        .iter()
        .map(|(_, p)| p.spec.as_ref().unwrap().node_name.clone().unwrap())
        .collect();
    assert_eq!(nodes, ["a", "a"]);
}
