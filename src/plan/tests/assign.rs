//! When an agent is told what: above all, that a pod ends only after every proxy has confirmed that
//! it sends there no more.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use serde_json::json;

use super::world::{World, deployment};
use crate::{
    model::{Key, NodeName, Revision, session::Desired},
    plan::assign::{CONFIRM_SECONDS_MAX, Told},
};

/// A Service with a pod on the only node with pods, `a`; node `b` sends to it too.
struct Bench {
    world: World,
    told: Told,
    programmed: BTreeMap<NodeName, Revision>,
    pod: Key,
}

impl Bench {
    fn new(selector: &str) -> Self {
        let mut world = World::new();
        world.node("a", "200", "80Gi");
        world.put(deployment("web", 1, "web:1", json!({})));
        world.put(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "web", "namespace": "default" },
            "spec": { "selector": { "app": selector }, "ports": [{ "port": 80 }] },
        }));
        world.settle();
        world.run_pods();
        world.settle();
        world.run_pods();
        world.settle();
        let pod = world.all::<Pod>()[0].0.key().clone();
        let programmed = ["a", "b"].map(|n| (NodeName::new(n), Revision(0))).into();
        let mut bench = Self { world, told: Told::nothing(NodeName::new("a")), programmed, pod };
        assert!(bench.told().iter().any(|d| d.whole));
        bench.program(&["a", "b"]);
        assert_eq!(bench.told(), []);
        bench
    }

    fn told(&mut self) -> Vec<Desired> {
        self.told.update(self.world.view(), &self.programmed, self.world.now)
    }

    /// Whether the agent is told now that the pod shall end.
    fn ends(&mut self) -> bool {
        let told = self.told();
        let mut objects = told.iter().flat_map(|d| &d.upserts);
        objects.any(|o| o.key() == &self.pod && o.is_terminating())
    }

    /// These nodes confirm everything that is known now.
    fn program(&mut self, nodes: &[&str]) {
        let revision = self.world.view().revision();
        self.programmed.extend(nodes.iter().map(|n| (NodeName::new(n), revision)));
    }

    fn delete(&mut self) {
        let name = self.pod.name.to_string();
        self.world.delete::<Pod>("default", &name);
    }
}

#[test]
fn a_pod_ends_after_every_proxy_has_confirmed() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.program(&["a", "b"]);
    assert!(!bench.ends(), "its EndpointSlice still has it in");
    bench.world.settle();
    assert!(!bench.ends(), "no proxy has the new EndpointSlice");
    bench.program(&["a"]);
    assert!(!bench.ends(), "b still sends to it");
    bench.program(&["b"]);
    assert!(bench.ends());
    assert_eq!(bench.told.wake_at(), None);
    assert_eq!(bench.told(), [], "it is told once");
}

#[test]
fn later_changes_do_not_put_the_end_off() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.world.settle();
    assert!(!bench.ends());
    bench.program(&["a", "b"]);
    // The successor comes in, which changes the same EndpointSlice once more.
    let before = bench.world.view().revision();
    let successor = bench.world.bound().into_iter().map(|(key, _)| key).find(|k| *k != bench.pod);
    bench.world.report(&successor.unwrap(), true);
    bench.world.settle();
    assert!(bench.world.all::<EndpointSlice>()[0].0.revision() > before);
    assert!(bench.ends());
}

#[test]
fn other_news_is_told_meanwhile() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.world.settle();
    let told = bench.told();
    let keys: Vec<&Key> = told.iter().flat_map(|d| &d.upserts).map(|o| o.key()).collect();
    assert!(keys.iter().any(|k| k.kind.kind == "EndpointSlice"), "{keys:?}");
    assert!(keys.iter().any(|k| k.is::<Pod>() && **k != bench.pod), "{keys:?}");
    assert!(told.iter().all(|d| d.deletes.is_empty()), "what is kept back is not taken away");
}

#[test]
fn a_proxy_that_never_confirms_is_waited_for_so_long() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.world.settle();
    assert!(!bench.ends());
    let until = bench.told.wake_at();
    assert_eq!(until, Some(bench.world.now.plus_seconds(CONFIRM_SECONDS_MAX)));
    bench.world.wait(CONFIRM_SECONDS_MAX - 1);
    assert!(!bench.ends());
    bench.world.wait(1);
    assert!(bench.ends());
}

#[test]
fn a_node_without_a_session_is_not_waited_for() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.world.settle();
    bench.program(&["a"]);
    assert!(!bench.ends());
    bench.programmed.remove(&NodeName::new("b"));
    assert!(bench.ends());
}

#[test]
fn a_pod_of_no_service_ends_at_once() {
    let mut bench = Bench::new("other");
    bench.delete();
    assert!(bench.ends());
}

#[test]
fn a_new_session_is_told_everything_as_it_is() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.world.settle();
    assert!(!bench.ends());
    bench.told = Told::nothing(NodeName::new("a"));
    assert!(bench.ends());
}

#[test]
fn a_pod_that_is_gone_is_taken_away_though_its_end_was_kept_back() {
    let mut bench = Bench::new("web");
    bench.delete();
    bench.world.settle();
    assert!(!bench.ends());
    bench.world.observe(&bench.pod.clone(), Default::default(), true);
    assert!(bench.world.view().object(&bench.pod).is_none());
    let told = bench.told();
    assert!(told.iter().any(|d| d.deletes.contains(&bench.pod)), "{told:?}");
    assert_eq!(bench.told.wake_at(), None);
}
