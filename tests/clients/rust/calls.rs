//! Typed calls, and what a server refuses.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Event, Pod, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Discovery, Resource, ResourceExt,
    api::{
        DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams,
        Preconditions, ValidationDirective,
    },
    core::GroupVersionKind,
    runtime::{
        WatchStreamExt,
        events::{Event as Note, EventType, Recorder, Reporter},
        reflector,
        wait::{await_condition, conditions},
        watcher,
    },
};
use serde_json::json;

use super::{NAMESPACE, client_of, refusal, runtime, until};
use crate::servers::World;

fn map(name: &str, word: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "of": "calls" } }, "data": { "word": word },
    }))
    .unwrap()
}

fn word(map: &ConfigMap) -> &str {
    &map.data.as_ref().unwrap()["word"]
}

#[test]
fn typed_calls_of_kube_rs_do_what_they_say() {
    let world = World::up_with(1, "writes: direct\n");
    runtime().block_on(async {
        let client = client_of(&world.servers[0]).await;
        let version = client.apiserver_version().await.unwrap();
        assert_eq!(version.major, "1");
        objects(&client).await;
        applied(&client).await;
        listed(&client).await;
        subresources(&client).await;
        noted(&client).await;
    });
}

/// Made, read, replaced, patched and deleted.
async fn objects(client: &Client) {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let post = PostParams::default();
    let made = maps.create(&post, &map("one", "first")).await.unwrap();
    assert_eq!(word(&made), "first");
    let again = refusal(maps.create(&post, &map("one", "first")).await);
    assert_eq!(again, (409, "AlreadyExists".to_owned()));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &map("dry", "first")).await.unwrap();
    assert_eq!(maps.get_opt("dry").await.unwrap(), None);

    let mut wish = made.clone();
    wish.data = map("one", "second").data;
    let replaced = maps.replace("one", &post, &wish).await.unwrap();
    assert_eq!((word(&replaced), replaced.uid()), ("second", made.uid()));
    let stale = refusal(maps.replace("one", &post, &wish).await);
    assert_eq!(stale, (409, "Conflict".to_owned()));

    let merge = Patch::Merge(json!({ "data": { "word": "third" } }));
    let patched = maps.patch("one", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(word(&patched), "third");
    let strict =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..<_>::default() };
    let unknown = Patch::Merge(json!({ "datum": {} }));
    assert_eq!(refusal(maps.patch("one", &strict, &unknown).await).0, 422);
    let head = maps.get_metadata("one").await.unwrap();
    assert_eq!(head.metadata.resource_version, patched.resource_version());

    let of_another = Preconditions { uid: Some("another".to_owned()), ..<_>::default() };
    let delete = DeleteParams::default().preconditions(of_another);
    assert_eq!(refusal(maps.delete("one", &delete).await).0, 409);
    maps.delete("one", &DeleteParams::default()).await.unwrap();
    assert_eq!(refusal(maps.get("one").await), (404, "NotFound".to_owned()));
}

/// Applied by two who do not agree.
async fn applied(client: &Client) {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let wish = |word: &str| {
        let mut wish = json!(map("shared", word));
        wish["apiVersion"] = "v1".into();
        wish["kind"] = "ConfigMap".into();
        Patch::Apply(wish)
    };
    maps.patch("shared", &PatchParams::apply("one"), &wish("mine")).await.unwrap();
    let other = PatchParams::apply("other");
    let conflict = refusal(maps.patch("shared", &other, &wish("ours")).await);
    assert_eq!(conflict, (409, "Conflict".to_owned()));
    let taken = maps.patch("shared", &other.force(), &wish("ours")).await.unwrap();
    assert_eq!(word(&taken), "ours");
    let mut managers: Vec<String> =
        taken.managed_fields().iter().filter_map(|of| of.manager.clone()).collect();
    managers.sort();
    assert_eq!(managers, ["one", "other"]);
}

/// Listed in parts, by label, and deleted together.
async fn listed(client: &Client) {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    for n in 0..5 {
        let mut map = map(&format!("many-{n}"), "x");
        map.metadata.labels = Some(BTreeMap::from([("of".to_owned(), "many".to_owned())]));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let mut names = vec![];
    let mut ask = ListParams::default().labels("of=many").limit(2);
    loop {
        let part = maps.list(&ask).await.unwrap();
        names.extend(part.iter().map(ResourceExt::name_any));
        match part.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => ask = ask.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["many-0", "many-1", "many-2", "many-3", "many-4"]);
    let many = ListParams::default().labels("of=many");
    assert_eq!(maps.list_metadata(&many).await.unwrap().items.len(), 5);
    maps.delete_collection(&DeleteParams::default(), &many).await.unwrap();
    assert_eq!(maps.list(&many).await.unwrap().items.len(), 0);
}

/// Scale, status, eviction and tokens.
async fn subresources(client: &Client) {
    let post = PostParams::default();
    let container = json!({ "name": "web", "image": "example.org/web:1" });
    let deployments = Api::<Deployment>::namespaced(client.clone(), NAMESPACE);
    let web: Deployment = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [container] },
            },
        },
    }))
    .unwrap();
    deployments.create(&post, &web).await.unwrap();
    let more = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    let scale = deployments.patch_scale("web", &PatchParams::default(), &more).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    deployments.restart("web").await.unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let app = ListParams::default().labels("app=web");
    until("the pods are there", || async { pods.list(&app).await.unwrap().items.len() >= 2 }).await;
    let seen = deployments.get_status("web").await.unwrap();
    assert!(seen.status.unwrap().observed_generation.is_some());

    let alone: Pod = serde_json::from_value(json!({
        "metadata": { "name": "alone" }, "spec": { "containers": [container] },
    }))
    .unwrap();
    pods.create(&post, &alone).await.unwrap();
    let ready = json!({ "type": "example.org/ready", "status": "True" });
    let ready = Patch::Strategic(json!({ "status": { "conditions": [ready] } }));
    let told = pods.patch_status("alone", &PatchParams::default(), &ready).await.unwrap();
    let conditions = told.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|of| of.type_ == "example.org/ready"));
    pods.evict("alone", &EvictParams::default()).await.unwrap();
    until("the evicted pod is gone", || async { pods.get_opt("alone").await.unwrap().is_none() })
        .await;

    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE);
    let request = serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
    let token = accounts.create_token_request("default", &post, &request).await.unwrap();
    assert_eq!(token.status.unwrap().token.unwrap().split('.').count(), 3);
}

/// What happened to an object, as controllers tell it.
async fn noted(client: &Client) {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
    let about = maps.get("shared").await.unwrap().object_ref(&());
    let note = Note {
        type_: EventType::Normal,
        reason: "Looked".to_owned(),
        note: Some("somebody looked".to_owned()),
        action: "Looking".to_owned(),
        secondary: None,
    };
    let reporter = Reporter { controller: "calls".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    recorder.publish(&note, &about).await.unwrap();
    // Told again, it is a series of one event.
    recorder.publish(&note, &about).await.unwrap();
    let events = Api::<Event>::namespaced(client.clone(), NAMESPACE);
    let of_map = ListParams::default().fields("involvedObject.name=shared,reason=Looked");
    let events = events.list(&of_map).await.unwrap().items;
    let messages: Vec<_> = events.iter().map(|event| event.message.as_deref()).collect();
    assert_eq!(messages, [Some("somebody looked")]);
}

/// A kind that nobody knew at build time: defined, discovered, written and reflected.
#[test]
fn custom_kinds_are_discovered_by_kube_rs() {
    let world = World::up_with(1, "writes: direct\n");
    runtime().block_on(async {
        let client = client_of(&world.servers[0]).await;
        let definitions = Api::<CustomResourceDefinition>::all(client.clone());
        let name = "figs.fruit.example";
        let schema = json!({
            "type": "object",
            "properties": { "spec": {
                "type": "object",
                "properties": { "size": { "type": "integer" }, "ripe": {
                    "type": "boolean", "default": false,
                } },
            } },
        });
        let definition = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "group": "fruit.example", "scope": "Namespaced",
                "names": { "plural": "figs", "singular": "fig", "kind": "Fig" },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": schema },
                }],
            },
        }));
        definitions.create(&PostParams::default(), &definition.unwrap()).await.unwrap();
        let established = conditions::is_crd_established();
        await_condition(definitions, name, established).await.unwrap();

        let kind = GroupVersionKind::gvk("fruit.example", "v1", "Fig");
        for discovery in [
            Discovery::new(client.clone()).run().await.unwrap(),
            Discovery::new(client.clone()).run_aggregated().await.unwrap(),
        ] {
            let (resource, _) = discovery.resolve_gvk(&kind).unwrap();
            assert_eq!(resource.plural, "figs");
            assert!(discovery.has_group("apps"));
        }
        let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
        let figs = Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource);

        let writer = reflector::store::Writer::new(resource.clone());
        let store = writer.as_reader();
        let events = watcher(figs.clone(), watcher::Config::default()).default_backoff();
        tokio::spawn(reflector(writer, events).for_each(|_| std::future::ready(())));
        store.wait_until_ready().await.unwrap();

        let fig = |size: serde_json::Value| {
            DynamicObject::new("sweet", &resource).data(json!({ "spec": { "size": size } }))
        };
        let wrong = refusal(figs.create(&PostParams::default(), &fig("big".into())).await);
        assert_eq!(wrong, (422, "Invalid".to_owned()));
        let made = figs.create(&PostParams::default(), &fig(3.into())).await.unwrap();
        assert_eq!(made.data["spec"], json!({ "size": 3, "ripe": false }));
        let there = || store.state().iter().any(|fig| fig.uid() == made.uid());
        until("the store has it", || std::future::ready(there())).await;
        figs.delete("sweet", &DeleteParams::default()).await.unwrap();
        until("the store has lost it", || std::future::ready(!there())).await;
    });
}
