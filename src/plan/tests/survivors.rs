//! What outlives its cluster and fits goes on; all else is made anew, and nothing is run twice.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::world::{World, deployment, pod};
use crate::{
    model::{
        Key, NodeName, Object, Revision, Timestamp,
        session::{Hello, Survivor},
    },
    plan::{
        Agenda,
        recall::Recalled,
        survivors::{Homecoming, Next, Rested, Survivors},
    },
};

fn nodes(mut world: World) -> World {
    world.node("a", "8", "8Gi");
    world.node("b", "8", "8Gi");
    world
}

/// A cluster that is about to be lost.
fn old(objects: Vec<Value>) -> World {
    let mut world = nodes(World::another());
    world.commit('a', objects, None);
    world.roll();
    world
}

/// What a node of it still runs, with addresses of the node's range.
fn running(old: &World, node: &str) -> Vec<Survivor> {
    let range = old.get::<Node>(node).spec.as_ref().unwrap().pod_cidr.clone().unwrap();
    let net = range.strip_suffix(".0/24").unwrap();
    let survivor = |(i, pod): (usize, &Object)| {
        let mut status = pod.view::<Pod>().unwrap().status.clone().unwrap();
        status.pod_ip = Some(format!("{net}.{}", i + 2));
        Survivor { pod: pod.clone(), status: Box::new(status) }
    };
    old.view().pods_on(&NodeName::new(node)).enumerate().map(survivor).collect()
}

fn bring(world: &mut World, node: &str, pods: Vec<Survivor>) {
    world.survivors.bring(&NodeName::new(node), pods);
    world.agenda = Agenda::default();
}

/// The uids of bound pods, in order of names.
fn bound(world: &World) -> Vec<(Key, String)> {
    world.bound()
}

fn web(replicas: i32, image: &str) -> Value {
    deployment("web", replicas, image, json!({}))
}

fn alone() -> Value {
    pod("alone", "1", json!({}))
}

#[test]
fn what_runs_takes_the_place_of_what_waits() {
    let old = old(vec![web(3, "x"), alone()]);
    let mut world = nodes(World::new());
    for node in ["a", "b"] {
        bring(&mut world, node, running(&old, node));
    }
    world.commit('a', vec![web(3, "x"), alone()], None);
    world.settle();
    assert_eq!(bound(&world), bound(&old));
    assert_eq!(world.all::<Pod>().len(), 4);
    assert_eq!(world.said("Kept").len(), 4);
    assert_eq!(world.get_commit('a').status.reason, "Healthy", "without a word of any node");
    assert_eq!(world.full_pass(), Vec::<String>::new());
    // Who comes late finds no place in a cluster that has made its own.
    let mut late = nodes(World::new());
    late.commit('a', vec![web(3, "x"), alone()], None);
    late.settle();
    bring(&mut late, "a", running(&old, "a"));
    late.settle();
    assert_eq!(late.said("Kept"), Vec::<String>::new());
}

/// How many of two pods of web and one alone are kept on one node, and what is said of the others.
fn check(now: Vec<Value>, change: impl Fn(&mut Survivor), kept: usize, why: &str) {
    let old = old(vec![web(4, "x"), alone()]);
    let mut pods = running(&old, "a");
    pods.iter_mut().for_each(change);
    let mut world = nodes(World::new());
    bring(&mut world, "a", pods);
    world.commit('a', now, None);
    world.settle();
    let home = Homecoming::of(&hello("a", "lost"), "test");
    let lost = home.lost(world.view(), &world.survivors);
    let (brought, is_kept) = world.survivors.kept_of(world.view(), &NodeName::new("a"));
    assert_eq!((brought - is_kept, is_kept), (lost.len(), kept));
    assert_eq!(world.survivors.waiting(world.view()), lost.len());
    assert_eq!(world.said("Kept").len(), kept, "{lost:?}");
    assert!(why.is_empty() && lost.is_empty() || lost.iter().any(|l| l.contains(why)), "{lost:?}");
    let of_lost = |key: &Key| lost.iter().any(|l| l.contains(key.name.as_str()));
    let same = bound(&world).into_iter().filter(|pod| bound(&old).contains(pod));
    assert!(!same.into_iter().any(|(key, _)| of_lost(&key)), "{lost:?}");
}

#[test]
fn what_is_something_else_by_now_finds_no_place() {
    let both = || vec![web(4, "x"), alone()];
    let nothing = |_: &mut Survivor| {};
    let on_a = running(&old(both()), "a").len();
    assert!(on_a > 1, "the test needs some");
    check(both(), nothing, on_a, "");
    check(vec![web(4, "y"), alone()], nothing, 1, "there is no ReplicaSet default/web-");
    check(vec![web(1, "x"), alone()], nothing, 2, "asks for another pod, or for no more of them");
    check(vec![web(4, "x")], nothing, on_a - 1, "there is no Pod default/alone");
    let changed = pod("alone", "2", json!({}));
    check(vec![web(4, "x"), changed], nothing, on_a - 1, "Pod default/alone asks for another");
    check(
        both(),
        |s| s.status.pod_ip = Some("10.244.9.2".into()),
        0,
        "its address is not of the node's pod range",
    );
    let elsewhere = |s: &mut Survivor| {
        let mut value = s.pod.value();
        value["spec"]["nodeName"] = "b".into();
        s.pod = Object::from_value(&value).unwrap();
    };
    check(both(), elsewhere, 0, "its address is not of");
    // What must not happen: a node that says what its pods may do.
    let grown = |s: &mut Survivor| {
        let mut value = s.pod.value();
        value["spec"]["serviceAccountName"] = "admin".into();
        s.pod = Object::from_value(&value).unwrap();
    };
    check(both(), grown, 0, "asks for another pod");
    let named = |s: &mut Survivor| {
        let mut value = s.pod.value();
        value["metadata"]["name"] = "../../README".into();
        s.pod = Object::from_value(&value).unwrap();
    };
    check(both(), named, 0, "asks for another pod");
    let of_a_job = |s: &mut Survivor| {
        let mut value = s.pod.value();
        value["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": "web", "uid": "j", "controller": true,
        }]);
        s.pod = Object::from_value(&value).unwrap();
    };
    check(both(), of_a_job, 0, "what makes it makes its pods anew");
    let ended = |s: &mut Survivor| s.status.phase = Some("Failed".into());
    check(both(), ended, 0, "");
}

#[test]
fn what_runs_does_not_wait_for_its_turn() {
    let late = |mut value: Value| {
        value["metadata"]["annotations"]["mainstay.io/wave"] = "1".into();
        value
    };
    let objects = |image: &str| {
        let first = deployment("first", 1, image, json!({}));
        vec![first, late(web(2, "x"))]
    };
    let old = old(objects("x"));
    let mut world = nodes(World::new());
    for node in ["a", "b"] {
        bring(&mut world, node, running(&old, node));
    }
    world.commit('a', objects("y"), None);
    world.settle();
    let kept = bound(&world).into_iter().filter(|pod| bound(&old).contains(pod)).count();
    assert_eq!(kept, 2, "both of web, though the first has yet to start");
}

fn recalled(world: &mut World, names: &[(&str, &str)]) {
    let mut recalled = Recalled::default();
    names.iter().for_each(|(name, range)| recalled.put_node(name, range));
    let until = world.now.plus_seconds(120);
    let commands = recalled.await_nodes(world.view(), until);
    world.done(commands);
}

fn range(world: &World, node: &str) -> String {
    world.get::<Node>(node).spec.as_ref().unwrap().pod_cidr.clone().unwrap_or_default()
}

#[test]
fn nothing_is_given_to_a_node_while_others_are_awaited() {
    let mut world = World::new();
    recalled(&mut world, &[("b", "10.244.0.0/24"), ("c", "10.244.7.0/24"), ("d", "nonsense")]);
    world.node("a", "8", "8Gi");
    world.node("c", "8", "8Gi");
    assert_eq!(range(&world, "c"), "10.244.7.0/24");
    assert_ne!(range(&world, "a"), "10.244.0.0/24", "it is b's");
    world.commit('a', vec![web(1, "x")], None);
    world.settle();
    assert!(bound(&world).is_empty());
    let why = world.said("AwaitingNodes").concat();
    assert!(why.contains("waits for what still runs on b, c, d of the cluster before"), "{why}");
    assert_eq!(world.full_pass(), Vec::<String>::new(), "who waits is settled");
    world.live(119);
    world.settle();
    assert!(bound(&world).is_empty());
    world.live(1);
    world.settle();
    assert_eq!(bound(&world).len(), 1);
    assert!(world.view().get::<Node>("", "b").is_none(), "nobody ever spoke for it");
    assert!(world.view().get::<Node>("", "c").is_some());
}

fn hello(node: &str, cluster: &str) -> Hello {
    Hello {
        node: NodeName::new(node),
        version: "test".into(),
        generation: Revision(1),
        cluster: cluster.into(),
        pod_range: String::new(),
        labels: Default::default(),
        status: Box::default(),
    }
}

/// Asks until nothing more is to be proposed.
fn next(world: &mut World, home: &mut Homecoming, rested: &Rested) -> Next {
    loop {
        let times = (world.now, 120);
        let survivors = world.survivors.clone();
        match home.next(world.view(), rested, &survivors, times) {
            Next::Propose(commands) => world.done(commands),
            next => return next,
        }
    }
}

/// What must not happen: an agent that is told of nothing to run before it is known what that is,
/// or never told.
#[test]
fn an_agent_is_told_once_all_is_decided() {
    let old = old(vec![web(4, "x")]);
    let mut world = nodes(World::new());
    let nobody = Rested::default();
    let later = |world: &World| Next::Wait(Some(Timestamp(world.now.0 + 120_000)));

    let mut own = Homecoming::of(&hello("a", "test"), "test");
    assert_eq!(next(&mut world, &mut own, &nobody), Next::Tell);
    let mut fresh = Homecoming::of(&hello("a", ""), "test");
    assert_eq!(next(&mut world, &mut fresh, &nobody), Next::Tell);

    let mut a = Homecoming::of(&hello("a", "lost"), "test");
    assert_eq!(next(&mut world, &mut a, &nobody), Next::Wait(None), "what has it got?");
    let pods = running(&old, "a");
    let count = pods.len();
    bring(&mut world, "a", pods);
    a.bring(count);
    world.settle();
    let rested = Rested::new(world.view(), &world.survivors);
    assert_eq!(next(&mut world, &mut a, &rested), Next::Wait(None), "there is no commit yet");

    recalled(&mut world, &[("a", ""), ("b", "")]);
    world.commit('a', vec![web(4, "x")], None);
    assert_eq!(next(&mut world, &mut a, &rested), later(&world), "nothing followed from it yet");
    world.settle();
    let rested = Rested::new(world.view(), &world.survivors);
    assert_eq!(next(&mut world, &mut a, &rested), later(&world), "b is not back");
    let mut b = Homecoming::of(&hello("b", "lost"), "test");
    b.bring(0);
    let unseen = Rested::new(world.view(), &Survivors::default());
    assert_eq!(next(&mut world, &mut b, &unseen), Next::Tell, "it has nothing to lose");
    assert_eq!(next(&mut world, &mut a, &rested), Next::Tell);
    assert_eq!(world.said("NotKept"), Vec::<String>::new());

    let mut late = Homecoming::of(&hello("a", "lost"), "test");
    late.bring(count);
    assert_eq!(next(&mut world, &mut late, &nobody), later(&world));
    world.wait(120);
    assert_eq!(next(&mut world, &mut late, &nobody), Next::Tell, "not for ever");
}
