use expect_test::expect;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Pod, ServiceAccount};
use serde_json::{Value, json};

use super::world::{ROOT_CA, World, deployment, pod};
use crate::model::Key;

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
    let settings = world.view().get::<ConfigMap>("shop", "settings");
    assert!(settings.is_some(), "a pod may still read it");
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

/// Every namespace has the certificates of the API; what somebody makes of them is put right.
#[test]
fn pods_of_every_namespace_know_the_api() {
    let mut world = World::new();
    let trusted = |world: &World| -> Vec<String> {
        let maps = world.all::<ConfigMap>().into_iter();
        let maps = maps.filter(|(o, _)| o.key().name == "kube-root-ca.crt");
        maps.map(|(_, m)| m.data.clone().unwrap_or_default()["ca.crt"].clone()).collect()
    };
    let right = [ROOT_CA; 4];
    assert_eq!(trusted(&world), right);
    world.edit::<ConfigMap>("kube-root-ca.crt", |value| value["data"]["ca.crt"] = "mine".into());
    world.settle();
    assert_eq!(trusted(&world), right);
    world.delete::<ConfigMap>("kube-system", "kube-root-ca.crt");
    world.edit::<ConfigMap>("kube-root-ca.crt", |value| value["data"]["more"] = "x".into());
    world.edit::<ConfigMap>("kube-root-ca.crt", |value| value["immutable"] = true.into());
    world.settle();
    assert_eq!(trusted(&world), right);
    assert_eq!(world.full_pass(), Vec::<String>::new());
}

/// What stays is told, and nothing else happens until it goes; other finalizers of the namespace
/// are not ours to drop.
#[test]
fn a_namespace_says_what_it_waits_for() {
    let mut world = World::new();
    world.put(json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "finalizers": ["example.com/last"] },
    }));
    let held = |finalizers: Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "held", "namespace": "shop", "finalizers": finalizers },
        })
    };
    world.put(held(json!(["example.com/hold"])));
    world.put(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "minAvailable": 1, "selector": {} },
    }));
    world.settle();
    world.delete::<Namespace>("", "shop");
    world.settle();
    let told = |world: &World| {
        let status = world.view().get::<Namespace>("", "shop").unwrap().status.clone().unwrap();
        let conditions = status.conditions.unwrap_or_default().into_iter();
        let lines = conditions.map(|c| {
            let text = c.message.unwrap_or_default();
            format!("{}={} {}: {text}", c.type_, c.status, c.reason.unwrap_or_default())
        });
        format!("{}\n{}", status.phase.unwrap_or_default(), lines.collect::<Vec<_>>().join("\n"))
    };
    let waiting = told(&world);
    expect![[r#"
        Terminating
        NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining=True SomeResourcesRemain: Some resources are remaining: configmaps. has 1 resource instances
        NamespaceFinalizersRemaining=True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"#]]
    .assert_eq(&waiting);
    assert_eq!(world.full_pass(), Vec::<String>::new());
    world.put(held(json!([])));
    world.settle();
    expect![[r#"
        Terminating
        NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered: All resources successfully discovered
        NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions: All legacy kube types successfully parsed
        NamespaceDeletionContentFailure=False ContentDeleted: All content successfully deleted, may be waiting on finalization
        NamespaceContentRemaining=False ContentRemoved: All content successfully removed
        NamespaceFinalizersRemaining=False ContentHasNoFinalizers: All content-preserving finalizers finished"#]]
    .assert_eq(&told(&world));
    let finalizers = |world: &World| {
        let namespace = world.view().get::<Namespace>("", "shop").cloned();
        namespace.and_then(|n| n.spec).and_then(|s| s.finalizers).unwrap_or_default()
    };
    assert_eq!(finalizers(&world), Vec::<String>::new());
    let mut shop = world.view().object(&Key::of::<Namespace>("", "shop")).unwrap().value();
    shop["metadata"]["finalizers"] = json!([]);
    world.put(shop);
    world.settle();
    assert!(world.view().get::<Namespace>("", "shop").is_none());
}
