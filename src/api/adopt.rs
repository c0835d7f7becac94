//! `mainstay adopt`: what a live object says comes to stand in Git, by whoever asks.
//!
//! An object that Git does not know is written as a file of its own; of one that it knows, what was
//! changed without a commit is written where it stands. Either goes the way of every write that
//! becomes a commit, and is proven to mean exactly the object.

use axum::{
    Json, Router,
    extract::{Extension, Query, State},
    routing::post,
};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Api, Failure, Peer, Uncommitted, Wish,
    resources::wished,
    talk::{default_namespace, find},
};
use crate::{
    kinds,
    model::{Key, Object, Seal},
    state::{MAIN_SOURCE, View},
};

/// Fields of a Service's spec that the cluster fills where nobody says otherwise.
const ADDRESSES: [&str; 3] = ["clusterIP", "clusterIPs", "healthCheckNodePort"];

/// Finalizers by which a deletion waits; they are no part of what somebody wants.
const OF_DELETION: [&str; 2] = ["foregroundDeletion", "orphan"];

/// What became of an adoption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdoptReport {
    /// `Deployment shop/web`
    pub object: String,
    /// The file in which it stands.
    pub file: String,
    /// The full id of the commit; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What a dry run would change, as `git diff` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/mainstay/v1/adopt", post(adopt))
}

/// Which object, named as people do: `deployment/web`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    object: String,
    #[serde(default = "default_namespace")]
    namespace: String,
    #[serde(default)]
    dry_run: bool,
}

async fn adopt(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Query(ask): Query<Ask>,
) -> Result<Json<AdoptReport>, Failure> {
    let view = api.view();
    let object = find(&view, &ask.object, &ask.namespace)?;
    if let Some(why) = obstacle(&view, object) {
        return Err(Failure::forbidden(format!("{} cannot be adopted: {why}", object.key())));
    }
    let key = object.key().clone();
    let wanted = adoptable(object);
    let wish = Wish {
        key: key.clone(),
        before: Some(wanted.clone()),
        after: Some(wanted),
        author: peer.user.clone(),
        via: "adopt".to_owned(),
        adopt: true,
    };
    let object = key.to_string();
    if ask.dry_run {
        let draft = api.backend.draft(wish).await.map_err(|why| failure(&view, &key, why))?;
        let (file, patch) = (draft.file, Some(draft.patch));
        return Ok(Json(AdoptReport { object, file, commit: None, patch }));
    }
    let commit = api.backend.commit(wish).await.map_err(|why| failure(&view, &key, why))?;
    let file = api.view().origin(&key).map(|origin| origin.file.clone()).unwrap_or_default();
    Ok(Json(AdoptReport { object, file, commit: Some(commit.to_string()), patch: None }))
}

/// Why an object stays what it is, and what to do instead.
fn obstacle(view: &View, object: &Object) -> Option<String> {
    let key = object.key();
    let origin = view.origin(key);
    if let Some(origin) = origin.filter(|origin| origin.source != MAIN_SOURCE) {
        return Some(format!("the source {} holds it, at {}", origin.source, origin.place()));
    }
    if object.is_terminating() {
        return Some("it is being deleted".to_owned());
    }
    if object.annotation(Seal::NAME).is_some() {
        return Some("it is sealed in Git, and only who can open its file changes it".to_owned());
    }
    if key.is::<Secret>() {
        return Some(format!(
            "everybody who reads the repository would read it; save it with `kubectl get secret {} \
             -n {} -o yaml`, seal that with `mainstay seal`, and commit it",
            key.name, key.namespace
        ));
    }
    if let Some(owner) = object.owners().iter().next() {
        return Some(format!(
            "{} {} owns it, and makes it as it has to be: adopt that",
            owner.kind, owner.name
        ));
    }
    let info = view.kinds().lookup(&key.kind)?;
    if info.runtime || info.group == kinds::GROUP || info.group == "apiregistration.k8s.io" {
        return Some("it tells what the cluster does, and only the cluster writes it".to_owned());
    }
    if info.inert {
        return Some(format!(
            "Git may not hold a {} yet: nothing in the cluster acts on it",
            info.kind
        ));
    }
    if origin.is_some() {
        return None;
    }
    if key.is::<Pod>() {
        let why = "a pod that runs belongs to its node; commit a Deployment in its place";
        return Some(why.to_owned());
    }
    let was_in_git = object.annotation("mainstay.io/commit").is_some();
    if object.meta().managed_fields.as_ref().is_none_or(Vec::is_empty) && !was_in_git {
        return Some("nobody wrote it: the cluster made it by itself, and keeps it".to_owned());
    }
    None
}

/// What of an object a file would say: nothing that the cluster notes or fills in by itself.
pub fn adoptable(object: &Object) -> Value {
    let mut value = wished(object.value());
    if object.key().is::<Namespace>() {
        // Its finalizer is the cluster's.
        if let Some(map) = value.as_object_mut() {
            map.remove("spec");
        }
    }
    if object.key().is::<Service>() {
        strip_addresses(&mut value, &object.value());
    }
    if let Some(finalizers) = value["metadata"]["finalizers"].as_array_mut() {
        finalizers.retain(|name| name.as_str().is_none_or(|name| !OF_DELETION.contains(&name)));
    }
    if let Some(meta) = value["metadata"].as_object_mut() {
        meta.retain(|_, field| !field.as_array().is_some_and(Vec::is_empty) && !field.is_null());
    }
    value
}

/// Takes addresses and ports out that the cluster gave: those that nobody's write named.
fn strip_addresses(value: &mut Value, live: &Value) {
    let named = |field: &str| {
        let books = live["metadata"]["managedFields"].as_array();
        let name = format!("\"f:{field}\":");
        books.into_iter().flatten().any(|entry| entry["fieldsV1"].to_string().contains(&name))
    };
    let Some(spec) = value["spec"].as_object_mut() else { return };
    let headless = spec.get("clusterIP").and_then(Value::as_str) == Some("None");
    let given = !headless && !named("clusterIP");
    spec.retain(|field, _| !(given && ADDRESSES.contains(&field.as_str())));
    if named("nodePort") {
        return;
    }
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}

fn failure(view: &View, key: &Key, why: Uncommitted) -> Failure {
    match why {
        Uncommitted::Exists => {
            let place = view.origin(key).map(|origin| format!(", at {}", origin.place()));
            let place = place.unwrap_or_default();
            let text = format!("there is nothing to adopt: Git says all that {key} says{place}");
            Failure::invalid(text, Vec::new())
        }
        Uncommitted::Conflict { other, .. } => {
            Failure::conflict(format!("{other} changed {key} meanwhile: try again"))
        }
        Uncommitted::Gone => Failure::not_found(format!("{key} is gone")),
        Uncommitted::Refused(problems) => {
            Failure::invalid(format!("{key} cannot be adopted as it is"), problems)
        }
        Uncommitted::Forbidden(text) => {
            Failure::forbidden(format!("{key} cannot be adopted: {text}"))
        }
        Uncommitted::Unavailable(text) => {
            Failure::unavailable(format!("the commit for {key} could not be made: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;
    use crate::report::fixture::{Cluster, key};

    fn check(value: &Value, expected: Expect) {
        let object = Object::from_value(value).unwrap();
        expected.assert_eq(&serde_json::to_string(&adoptable(&object)).unwrap());
    }

    /// What must not happen: a file that fixes what the cluster gave and may give otherwise.
    #[test]
    fn a_file_says_what_somebody_wanted_and_nothing_that_was_filled_in() {
        let service = |fields: Value| {
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {
                    "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                    "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2,
                    "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
                    "finalizers": ["foregroundDeletion"],
                    "managedFields": [{ "manager": "kubectl", "fieldsV1": { "f:spec": fields } }],
                },
                "spec": {
                    "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                    "ports": [{ "port": 80, "nodePort": 30_007 }],
                },
                "status": { "loadBalancer": {} },
            })
        };
        check(
            &service(json!({ "f:type": {} })),
            expect![[
                r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#
            ]],
        );
        check(
            &service(json!({ "f:clusterIP": {}, "f:ports": { "k:{}": { "f:nodePort": {} } } })),
            expect![[
                r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7"],"ports":[{"nodePort":30007,"port":80}]}}"#
            ]],
        );
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" },
            "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
        });
        check(
            &namespace,
            expect![[r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}"#]],
        );
    }

    #[test]
    fn what_others_make_or_hide_is_not_adopted() {
        let cluster = Cluster::web();
        let view = cluster.state.view();
        let told = |name: &str| obstacle(view, view.object(&key(name)).unwrap());
        assert_eq!(told("Deployment.apps/shop/web"), None, "Git knows it");
        let pod = view.objects().find(|object| object.key().is::<Pod>()).unwrap();
        let why = obstacle(view, pod).unwrap();
        assert!(why.contains("owns it"), "{why}");
        let secret = told("Secret/shop/key").unwrap();
        assert!(secret.contains("`mainstay seal`"), "{secret}");
        let node = view.objects().find(|o| o.key().kind.kind == "Node").unwrap();
        assert!(obstacle(view, node).unwrap().contains("only the cluster"));
    }
}
