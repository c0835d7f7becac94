//! Kinds that a definition adds, as any other kind.

use super::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const PLUMS: &str = "/apis/fruit.example/v1/namespaces/demo/plums";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "plums.fruit.example" },
        "spec": {
            "group": "fruit.example", "scope": "Namespaced",
            "names": { "plural": "plums", "kind": "Plum", "shortNames": ["pl"], "categories": ["all"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                        "labelSelectorPath": ".status.selector",
                    },
                },
                "additionalPrinterColumns": [
                    { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                ],
                "selectableFields": [{ "jsonPath": ".spec.color" }],
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "properties": {
                                "size": { "type": "integer", "minimum": 1, "description": "How large." },
                                "color": { "type": "string" },
                                "replicas": { "type": "integer" },
                                "parts": {
                                    "type": "array",
                                    "x-kubernetes-list-type": "map",
                                    "x-kubernetes-list-map-keys": ["id"],
                                    "items": {
                                        "type": "object",
                                        "required": ["id"],
                                        "properties": {
                                            "id": { "type": "string" },
                                            "n": { "type": "integer" },
                                        },
                                    },
                                },
                            },
                        },
                        "status": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": true,
                        },
                    },
                } },
            }],
        },
    })
}

fn plum(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "fruit.example/v1", "kind": "Plum", "metadata": { "name": name }, "spec": spec,
    })
}

async fn with_plums() -> Arc<Fake> {
    let backend = demo();
    let (code, made) = told(&backend, "POST", DEFINITIONS, definition()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    backend
}

#[tokio::test]
async fn a_definition_is_served_at_once() {
    let backend = demo();
    check(
        &backend,
        &[
            ("GET", PLUMS, Value::Null),
            ("POST", DEFINITIONS, definition()),
            ("GET", PLUMS, Value::Null),
            ("POST", PLUMS, plum("a", json!({ "size": 1 }))),
            ("POST", PLUMS, plum("a", json!({ "size": 1 }))),
            ("POST", PLUMS, plum("b", json!({ "size": 0 }))),
            ("GET", &format!("{PLUMS}/a"), Value::Null),
            ("PUT", &format!("{PLUMS}/a"), plum("a", json!({ "size": 2 }))),
            ("DELETE", &format!("{PLUMS}/a"), Value::Null),
            ("GET", "/apis/fruit.example", Value::Null),
            ("GET", "/apis/fruit.example/v1", Value::Null),
        ],
        expect![[r#"
            404  
            201 CustomResourceDefinition plums.fruit.example
            200 PlumList 
            201 Plum a
            409 AlreadyExists: plums.fruit.example "a" already exists
            422 Invalid: Plum.fruit.example "b" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1
            200 Plum a
            422 Invalid: plums.fruit.example "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update
            200 : 
            200 APIGroup 
            200 APIResourceList 
        "#]],
    )
    .await;
    let (_, group) = told(&backend, "GET", "/apis/fruit.example/v1", Value::Null).await;
    let names: Vec<&str> = group["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["plums", "plums/scale", "plums/status"]);
    let (code, document) =
        told(&backend, "GET", "/openapi/v3/apis/fruit.example/v1", Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let schema = &document["components"]["schemas"]["example.fruit.v1.Plum"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["description"], "How large.");
    let (_, whole) = told(&backend, "GET", "/openapi/v2", Value::Null).await;
    assert!(whole["definitions"]["example.fruit.v1.PlumList"].is_object());
}

#[tokio::test]
async fn custom_objects_are_patched_but_not_strategically() {
    let backend = with_plums().await;
    told(&backend, "POST", PLUMS, plum("a", json!({ "size": 1 }))).await;
    let at = format!("{PLUMS}/a");
    let patch = |media: &'static str, body: Value| {
        let (backend, at) = (backend.clone(), at.clone());
        async move {
            let target = match media.contains("apply") {
                true => format!("{at}?fieldManager=m"),
                false => at,
            };
            let answer = ask(&backend, "PATCH", &target, media, "*/*", body.to_string()).await;
            let code = answer.status().as_u16();
            let value: Value = serde_json::from_str(&body_of(answer).await).unwrap();
            match code {
                200 => value["spec"].to_string(),
                _ => format!("{code} {}", value["message"]),
            }
        }
    };
    expect![[r#"{"size":2}"#]]
        .assert_eq(&patch("application/merge-patch+json", json!({ "spec": { "size": 2 } })).await);
    expect![[r#"{"size":3}"#]].assert_eq(
        &patch(
            "application/json-patch+json",
            json!([{ "op": "replace", "path": "/spec/size", "value": 3 }]),
        )
        .await,
    );
    expect![[r#"415 "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml""#]].assert_eq(
        &patch("application/strategic-merge-patch+json", json!({ "spec": { "size": 4 } })).await,
    );
    let wish = plum("a", json!({ "parts": [{ "id": "x", "n": 1 }] }));
    expect![[r#"{"parts":[{"id":"x","n":1}],"size":3}"#]]
        .assert_eq(&patch("application/apply-patch+yaml", wish).await);
    let wish = plum("a", json!({ "parts": [{ "id": "y", "n": 2 }] }));
    expect![[r#"{"parts":[{"id":"y","n":2}],"size":3}"#]]
        .assert_eq(&patch("application/apply-patch+yaml", wish).await);
}

async fn body_of(response: Response) -> String {
    body(response).await
}

#[tokio::test]
async fn status_scale_and_selectors_work_as_defined() {
    let backend = with_plums().await;
    told(&backend, "POST", PLUMS, plum("a", json!({ "size": 1, "color": "red", "replicas": 2 })))
        .await;
    told(&backend, "POST", PLUMS, plum("b", json!({ "color": "blue" }))).await;
    let (_, mut live) = told(&backend, "GET", &format!("{PLUMS}/a"), Value::Null).await;
    live["status"] = json!({ "replicas": 5, "selector": "app=a" });
    live["spec"]["size"] = json!(9);
    let (code, after) = told(&backend, "PUT", &format!("{PLUMS}/a/status"), live).await;
    assert_eq!((code, &after["spec"]["size"]), (StatusCode::OK, &json!(1)));
    let (_, scale) = told(&backend, "GET", &format!("{PLUMS}/a/scale"), Value::Null).await;
    assert_eq!(scale["spec"], json!({ "replicas": 2 }));
    assert_eq!(scale["status"], json!({ "replicas": 5, "selector": "app=a" }));
    let wanted = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": { "name": "a" },
        "spec": { "replicas": 4 },
    });
    let (code, _) = told(&backend, "PUT", &format!("{PLUMS}/a/scale"), wanted).await;
    assert_eq!(code, StatusCode::OK);
    let (_, after) = told(&backend, "GET", &format!("{PLUMS}/a"), Value::Null).await;
    assert_eq!(after["spec"]["replicas"], 4);
    let (_, red) =
        told(&backend, "GET", &format!("{PLUMS}?fieldSelector=spec.color%3Dred"), Value::Null)
            .await;
    assert_eq!(red["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(red["items"][0]["metadata"]["name"], "a");
}

#[tokio::test]
async fn a_definition_that_goes_takes_no_new_objects() {
    let backend = with_plums().await;
    told(&backend, "POST", PLUMS, plum("a", json!({}))).await;
    check(
        &backend,
        &[
            ("DELETE", &format!("{DEFINITIONS}/plums.fruit.example"), Value::Null),
            ("POST", PLUMS, plum("b", json!({}))),
            ("GET", PLUMS, Value::Null),
        ],
        expect![[r#"
            200 CustomResourceDefinition plums.fruit.example
            405 MethodNotAllowed: create not allowed while custom resource definition is terminating
            200 PlumList 
        "#]],
    )
    .await;
    let (_, going) =
        told(&backend, "GET", &format!("{DEFINITIONS}/plums.fruit.example"), Value::Null).await;
    let held = &going["metadata"]["finalizers"];
    assert_eq!(*held, json!(["customresourcecleanup.apiextensions.k8s.io"]));
}

#[tokio::test]
async fn a_quota_counts_custom_objects() {
    let backend = with_plums().await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few" },
        "spec": { "hard": { "count/plums.fruit.example": "1" } },
    });
    check(
        &backend,
        &[
            ("POST", "/api/v1/namespaces/demo/resourcequotas", quota),
            ("POST", PLUMS, plum("a", json!({}))),
            ("POST", PLUMS, plum("b", json!({}))),
        ],
        expect![[r#"
            201 ResourceQuota few
            201 Plum a
            403 Forbidden: plums.fruit.example "b" is forbidden: exceeded quota: few, requested: count/plums.fruit.example=1, used: count/plums.fruit.example=1, limited: count/plums.fruit.example=1
        "#]],
    )
    .await;
}

/// Rules refuse at creation, at updates and at updates of the status, in Kubernetes' words.
#[tokio::test]
async fn rules_are_asked_of_every_write() {
    let backend = demo();
    let mut ruled = definition();
    let schema = &mut ruled["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let word = "x-kubernetes-validations";
    schema["properties"]["spec"]["properties"]["size"][word] =
        json!([{ "rule": "self < 10 && self >= oldSelf", "message": "grows" }]);
    schema["properties"]["spec"]["properties"]["color"][word] = json!([
        { "rule": "self != 'black'", "messageExpression": "self + ' is no color'",
          "reason": "FieldValueForbidden" },
    ]);
    schema["properties"]["status"] = json!({
        "type": "object", "properties": { "ripe": { "type": "boolean" } },
        word: [{ "rule": "self.ripe || !oldSelf.ripe", "message": "stays ripe" }],
    });
    let (code, made) = told(&backend, "POST", DEFINITIONS, ruled).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let black = plum("a", json!({ "size": 5, "color": "black" }));
    let (code, status) = told(&backend, "POST", PLUMS, black).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let text = "Plum.fruit.example \"a\" is invalid: spec.color: Forbidden: black is no color";
    assert_eq!(status["message"], text);
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueForbidden");
    let (code, live) =
        told(&backend, "POST", PLUMS, plum("a", json!({ "size": 5, "color": "red" }))).await;
    assert_eq!(code, StatusCode::CREATED, "{live}");
    let path = format!("{PLUMS}/a");
    let mut changed = live.clone();
    changed["spec"]["size"] = 4.into();
    let (code, status) = told(&backend, "PUT", &path, changed).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        status["message"],
        "Plum.fruit.example \"a\" is invalid: spec.size: Invalid value: grows"
    );
    let mut ripe = live.clone();
    ripe["status"] = json!({ "ripe": true });
    let (code, live) = told(&backend, "PUT", &format!("{path}/status"), ripe).await;
    assert_eq!(code, StatusCode::OK, "{live}");
    let mut unripe = live;
    unripe["status"]["ripe"] = false.into();
    let (code, status) = told(&backend, "PUT", &format!("{path}/status"), unripe).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        status["message"],
        "Plum.fruit.example \"a\" is invalid: status: Invalid value: stays ripe"
    );
}
