use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, ServiceAccount};
use serde_json::json;

use super::world::{World, deployment, pod};

#[test]
fn built_in_namespaces_have_their_account() {
    let mut world = World::new();
    let names = |world: &World| -> Vec<String> {
        world.all::<Namespace>().iter().map(|(o, _)| o.key().name.to_string()).collect()
    };
    let built_in = ["default", "kube-node-lease", "kube-public", "kube-system"];
    assert_eq!(names(&world), built_in);
    assert_eq!(world.all::<ServiceAccount>().len(), 4);
    world.delete::<ServiceAccount>("default", "default");
    world.delete::<Namespace>("", "kube-public");
    world.settle();
    assert_eq!(names(&world), built_in);
    assert_eq!(world.all::<ServiceAccount>().len(), 4);
}

/// A namespace goes when everything in it is gone, pods first, and nothing is made in it meanwhile.
#[test]
fn a_namespace_is_emptied_before_it_goes() {
    let mut world = World::new();
    world.node("a", "8", "8Gi");
    world.put(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }));
    let mut web = deployment("web", 2, "web:1", json!({}));
    web["metadata"]["namespace"] = "shop".into();
    world.put(web);
    world.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "settings", "namespace": "shop" }, "data": { "a": "b" },
    }));
    world.roll();
    assert_eq!(world.all::<Pod>().len(), 2);
    world.delete::<Namespace>("", "shop");
    world.settle();
    assert_eq!(world.all::<ConfigMap>().len(), 1, "a pod may still read it");
    assert!(world.all::<Pod>().iter().all(|(o, _)| o.is_terminating()));
    world.roll();
    assert!(world.view().get::<Namespace>("", "shop").is_none());
    assert!(world.view().objects().all(|o| o.key().namespace != "shop"));
}

#[test]
fn events_are_forgotten_after_an_hour() {
    let mut world = World::new();
    world.put(pod("big", "1", json!({})));
    world.settle();
    assert_eq!(world.said("FailedScheduling"), ["no nodes available to schedule pods"]);
    world.live(3599);
    world.settle();
    assert_eq!(world.all::<Event>().len(), 1);
    world.live(1);
    world.settle();
    assert!(world.all::<Event>().is_empty());
}

/// A Namespace from Git starts as one from the API does, survives a change of its file, and is
/// emptied when pruned.
#[test]
fn a_namespace_of_git_lives_and_goes_like_any_other() {
    let mut world = World::new();
    let shop = |team: &str| {
        json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "shop", "labels": { "team": team } } })
    };
    let finalizers = |world: &World| {
        let namespace = world.view().get::<Namespace>("", "shop").cloned();
        namespace.and_then(|n| n.spec).and_then(|s| s.finalizers)
    };
    world.commit('a', vec![shop("one")], None);
    world.settle();
    assert_eq!(finalizers(&world), Some(vec!["kubernetes".to_owned()]));
    world.commit('b', vec![shop("two")], None);
    world.settle();
    assert_eq!(finalizers(&world), Some(vec!["kubernetes".to_owned()]));
    world.commit('c', Vec::new(), None);
    world.settle();
    assert!(world.view().objects().all(|o| o.key().namespace != "shop"));
    assert!(world.view().get::<Namespace>("", "shop").is_none());
}
