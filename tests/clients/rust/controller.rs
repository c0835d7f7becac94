//! A controller with a finalizer, as operators are written with kube-rs.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        controller::{Action, Controller},
        finalizer::{Error, Event, finalizer},
        watcher,
    },
};
use serde_json::json;

use super::{NAMESPACE, client_of, runtime, until};
use crate::servers::World;

const FINALIZER: &str = "example.org/copies";

/// Makes a copy of a map that wants one, and counts in it how often it was taken back.
async fn reconcile(of: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, Error<kube::Error>> {
    let maps = Api::<ConfigMap>::namespaced((*client).clone(), NAMESPACE);
    let copies = maps.clone();
    finalizer(&maps, FINALIZER, of, async move |event| match event {
        Event::Apply(of) => {
            let wish = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": format!("copy-of-{}", of.name_any()),
                    "ownerReferences": [of.controller_owner_ref(&()).unwrap()],
                },
                "data": of.data,
            });
            let name = format!("copy-of-{}", of.name_any());
            let apply = PatchParams::apply("copier").force();
            copies.patch(&name, &apply, &Patch::Apply(&wish)).await?;
            Ok(Action::await_change())
        }
        Event::Cleanup(of) => {
            let left = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "left" },
                "data": { of.name_any(): "gone" },
            });
            let apply = PatchParams::apply("copier").force();
            copies.patch("left", &apply, &Patch::Apply(&left)).await?;
            Ok(Action::await_change())
        }
    })
    .await
}

#[test]
fn a_controller_of_kube_rs_makes_keeps_and_cleans_up() {
    let world = World::up_with(1, "writes: direct\n");
    runtime().block_on(async {
        let client = client_of(&world.servers[0]).await;
        let maps = Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE);
        let wanted = watcher::Config::default().labels("copy=yes");
        let again = |_: Arc<ConfigMap>, _: &_, _| Action::requeue(Duration::from_millis(100));
        let controller = Controller::new(maps.clone(), wanted)
            .owns(maps.clone(), watcher::Config::default())
            .run(reconcile, again, Arc::new(client.clone()))
            .for_each(async |done| {
                // It is tried again; what it was says why, when that does not help.
                if let Err(error) = done {
                    eprintln!("the controller: {error:?}");
                }
            });
        tokio::spawn(controller);

        let original = |word: &str| -> ConfigMap {
            serde_json::from_value(json!({
                "metadata": { "name": "a", "labels": { "copy": "yes" } }, "data": { "word": word },
            }))
            .unwrap()
        };
        let made = maps.create(&PostParams::default(), &original("first")).await.unwrap();
        let says = async |word: &str| {
            let copy = maps.get_opt("copy-of-a").await.unwrap();
            copy.is_some_and(|copy| copy.data.as_ref().is_some_and(|data| data["word"] == word))
        };
        until("it is copied", || says("first")).await;
        // What somebody takes away of what it owns, it makes again.
        maps.delete("copy-of-a", &DeleteParams::default()).await.unwrap();
        until("it is copied again", || says("first")).await;
        let change = Patch::Merge(json!({ "data": { "word": "second" } }));
        maps.patch("a", &PatchParams::default(), &change).await.unwrap();
        until("the change is copied", || says("second")).await;

        let held = maps.get("a").await.unwrap();
        assert_eq!(
            (held.uid(), held.finalizers()),
            (made.uid(), [FINALIZER.to_owned()].as_slice())
        );
        maps.delete("a", &DeleteParams::default()).await.unwrap();
        until("it is gone", || async { maps.get_opt("a").await.unwrap().is_none() }).await;
        until("its copy is gone", || async { maps.get_opt("copy-of-a").await.unwrap().is_none() })
            .await;
        let left = maps.get("left").await.unwrap();
        assert_eq!(left.data.unwrap()["a"], "gone");
    });
}
