//! How objects go: finalizers, owners, collections, pods.

use super::*;

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let backend = demo();
    let mut held = map("a", "1");
    held["metadata"]["finalizers"] = json!(["example.com/f"]);
    told(&backend, "POST", MAPS, held.clone()).await;
    let (code, waiting) = told(&backend, "DELETE", &one("a"), Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    let (_, again) = told(&backend, "DELETE", &one("a"), Value::Null).await;
    assert_eq!(again, waiting, "deleting again changes nothing");
    let mut more = held.clone();
    more["metadata"]["finalizers"] = json!(["example.com/f", "example.com/g"]);
    check(
        &backend,
        &[
            ("PUT", &one("a"), more),
            ("PUT", &one("a"), map("a", "1")),
            ("GET", &one("a"), Value::Null),
        ],
        expect![[r#"
            422 Invalid: ConfigMap "a" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"example.com/g"}
            200 ConfigMap a
            404 NotFound: configmaps "a" not found
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_an_object_owns_goes_the_way_that_is_asked_for() {
    let backend = demo();
    for (name, policy, finalizer) in [
        ("f", "Foreground", Some("foregroundDeletion")),
        ("o", "Orphan", Some("orphan")),
        ("b", "Background", None),
    ] {
        told(&backend, "POST", DEPLOYMENTS, deployment(name)).await;
        let options =
            json!({ "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy });
        let (code, answer) =
            told(&backend, "DELETE", &format!("{DEPLOYMENTS}/{name}"), options).await;
        assert_eq!(code, StatusCode::OK);
        match finalizer {
            Some(finalizer) => assert_eq!(answer["metadata"]["finalizers"], json!([finalizer])),
            None => assert_eq!(answer["status"], "Success"),
        }
    }
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let both = json!({ "propagationPolicy": "Orphan", "orphanDependents": true });
    let options = |value: Value| json!({ "preconditions": value });
    check(
        &backend,
        &[
            ("DELETE", &one("a"), both),
            ("DELETE", &format!("{}?propagationPolicy=Odd", one("a")), Value::Null),
            ("DELETE", &one("a"), options(json!({ "uid": "u" }))),
            ("DELETE", &one("a"), json!({ "kind": "Pod", "apiVersion": "v1" })),
        ],
        expect![[r#"
            422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set
            422 Invalid: DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "Odd": supported values: "Background", "Foreground", "Orphan"
            409 Conflict: Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (u) does not match the UID in record (d8d499b6-7df2-4a77-9638-1e3bf5976af7). The object might have been deleted and then recreated
            400 BadRequest: no kind "Pod" is registered for the options of a deletion
        "#]],
    )
    .await;
    let stale =
        told(&backend, "DELETE", &one("a"), options(json!({ "resourceVersion": "1" }))).await;
    assert_eq!(stale.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_selector() {
    let backend = demo();
    told(&backend, "POST", MAPS, labelled("a", "web")).await;
    told(&backend, "POST", MAPS, labelled("b", "db")).await;
    let (code, list) =
        told(&backend, "DELETE", &format!("{MAPS}?labelSelector=app%3Dweb"), Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(names(&backend, MAPS).await.0, ["b"]);
}

#[tokio::test]
async fn a_pod_is_bound_once_and_stops_in_its_own_time() {
    let backend = demo();
    told(&backend, "POST", PODS, pod("p")).await;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "p" },
        "target": { "kind": "Node", "name": "n1" },
    });
    let path = format!("{PODS}/p/binding");
    let (code, status) = told(&backend, "POST", &path, binding.clone()).await;
    assert_eq!((code, &status["status"]), (StatusCode::CREATED, &json!("Success")));
    let again = line(&backend, "POST", "/api/v1/namespaces/demo/bindings", binding).await;
    assert!(again.starts_with("409 Conflict:") && again.contains("already assigned"), "{again}");
    let at = format!("{PODS}/p");
    let delete = |seconds: i64| {
        let (backend, at) = (backend.clone(), at.clone());
        async move {
            let options = json!({ "gracePeriodSeconds": seconds });
            let (code, pod) = told(&backend, "DELETE", &at, options).await;
            assert_eq!(code, StatusCode::OK);
            pod["metadata"]["deletionGracePeriodSeconds"].clone()
        }
    };
    assert_eq!(delete(10).await, 10);
    assert_eq!(delete(60).await, 10, "a later deletion does not prolong");
    assert_eq!(delete(5).await, 5);
    delete(0).await;
    assert_eq!(told(&backend, "GET", &at, Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_eviction_deletes_the_pod_and_says_why() {
    let backend = demo();
    told(&backend, "POST", PODS, pod("p")).await;
    let eviction = |name: &str| json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
    let path = format!("{PODS}/p/eviction");
    let wrong = line(&backend, "POST", &path, eviction("q")).await;
    assert_eq!(wrong, "400 BadRequest: name in URL does not match name in Eviction object");
    let (code, status) = told(&backend, "POST", &path, eviction("p")).await;
    assert_eq!((code, &status["code"]), (StatusCode::CREATED, &json!(201)));
    assert_eq!(told(&backend, "GET", &format!("{PODS}/p"), Value::Null).await.0, 404);
}

/// A policy keeps what it names: from deletions of one and of many, dry ones too, and from changes.
#[tokio::test]
async fn policies_are_asked_of_every_write() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": "p" },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE", "DELETE"],
                "resources": ["configmaps"],
            }] },
            "validations": [{ "expression": "request.dryRun", "message": "only for show" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": "b" },
        "spec": { "policyName": "p", "validationActions": ["Deny"] },
    });
    check(
        &backend,
        &[
            ("POST", &format!("{group}/validatingadmissionpolicies"), policy),
            ("POST", &format!("{group}/validatingadmissionpolicybindings"), binding),
            ("POST", MAPS, map("b", "1")),
            ("PUT", &one("a"), map("a", "2")),
            ("PUT", &format!("{}?dryRun=All", one("a")), map("a", "2")),
            ("DELETE", &format!("{}?dryRun=All", one("a")), Value::Null),
            ("DELETE", &one("a"), Value::Null),
            ("DELETE", MAPS, Value::Null),
            ("GET", &one("a"), Value::Null),
            ("DELETE", &format!("{group}/validatingadmissionpolicies/p"), Value::Null),
            ("DELETE", &one("a"), Value::Null),
        ],
        expect![[r#"
            201 ValidatingAdmissionPolicy p
            201 ValidatingAdmissionPolicyBinding b
            201 ConfigMap b
            422 Invalid: configmaps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: only for show
            200 ConfigMap a
            200 : 
            422 Invalid: configmaps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: only for show
            422 Invalid: configmaps "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: only for show
            200 ConfigMap a
            200 : 
            200 : 
        "#]],
    )
    .await;
}
