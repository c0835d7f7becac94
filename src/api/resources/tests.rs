//! Requests against a State in memory, and what is answered.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
    response::Response,
};
use expect_test::{Expect, expect};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    api::{
        routers,
        tests::{Fake, admin},
    },
    model::Object,
    report::fixture::{Cluster, FIRST},
    state::{Command, Expect as Assume, Op, Part},
};

const MAPS: &str = "/api/v1/namespaces/demo/configmaps";

/// A cluster with the namespace `demo`, whose server takes every write.
fn demo() -> Arc<Fake> {
    let mut cluster = Cluster::empty();
    cluster
        .put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "demo" } }));
    Fake::direct(&cluster)
}

async fn answer(backend: &Arc<Fake>, method: &str, target: &str, body: &Value) -> Response {
    ask(backend, method, target, "application/json", "*/*", body.to_string()).await
}

async fn ask(
    backend: &Arc<Fake>,
    method: &str,
    target: &str,
    media: &str,
    accept: &str,
    body: String,
) -> Response {
    let body = if body == "null" { String::new() } else { body };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::CONTENT_TYPE, media)
        .header(header::ACCEPT, accept)
        .body(Body::from(body))
        .unwrap();
    request.extensions_mut().insert(admin());
    routers(backend.clone()).tls.oneshot(request).await.unwrap()
}

async fn body(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), 64 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Code and body of an answer; ids and times of the run are not part of the fact.
async fn told(backend: &Arc<Fake>, method: &str, target: &str, sent: Value) -> (StatusCode, Value) {
    let response = answer(backend, method, target, &sent).await;
    let code = response.status();
    let text = body(response).await;
    (code, serde_json::from_str(&text).unwrap_or_else(|_| json!({ "text": text })))
}

/// One line about an answer: the code, then the message of a Status or the name and version of an
/// object.
async fn line(backend: &Arc<Fake>, method: &str, target: &str, sent: Value) -> String {
    let (code, value) = told(backend, method, target, sent).await;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let code = code.as_u16();
    match text("/kind") {
        "Status" => format!("{code} {}: {}", text("/reason"), text("/message")),
        kind => format!("{code} {kind} {}", text("/metadata/name")),
    }
}

async fn check(backend: &Arc<Fake>, asked: &[(&str, &str, Value)], expected: Expect) {
    let mut lines = String::new();
    for (method, target, sent) in asked {
        lines += &format!("{}\n", line(backend, method, target, sent.clone()).await);
    }
    expected.assert_eq(&lines);
}

fn map(name: &str, data: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
        "data": { "key": data },
    })
}

fn labelled(name: &str, label: &str) -> Value {
    let mut map = map(name, "x");
    map["metadata"]["labels"] = json!({ "app": label });
    map
}

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    })
}

fn one(name: &str) -> String {
    format!("{MAPS}/{name}")
}

#[tokio::test]
async fn an_object_is_created_read_replaced_and_deleted() {
    let backend = demo();
    let (code, created) = told(&backend, "POST", MAPS, map("a", "1")).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(created["metadata"]["namespace"], "demo");
    assert!(created["metadata"]["uid"].as_str().is_some_and(|uid| uid.len() == 36));
    let (_, read) = told(&backend, "GET", &one("a"), Value::Null).await;
    assert_eq!(read, created);
    let mut stale = created.clone();
    let (code, replaced) = told(&backend, "PUT", &one("a"), map("a", "2")).await;
    assert_eq!((code, &replaced["data"]["key"]), (StatusCode::OK, &json!("2")));
    assert_eq!(replaced["metadata"]["uid"], created["metadata"]["uid"]);
    let (_, same) = told(&backend, "PUT", &one("a"), map("a", "2")).await;
    assert_eq!(same, replaced, "a write that changes nothing keeps the version");
    stale["data"]["key"] = "3".into();
    check(
        &backend,
        &[
            ("PUT", &one("a"), stale),
            ("PUT", &one("none"), map("none", "1")),
            ("PUT", &one("a"), map("b", "1")),
            ("POST", MAPS, map("a", "1")),
            ("DELETE", &one("none"), Value::Null),
        ],
        expect![[r#"
            409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again
            404 NotFound: configmaps "none" not found
            400 BadRequest: the name of the object (b) does not match the name on the URL (a)
            409 AlreadyExists: configmaps "a" already exists
            404 NotFound: configmaps "none" not found
        "#]],
    )
    .await;
    let (code, gone) = told(&backend, "DELETE", &one("a"), Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    let uid = created["metadata"]["uid"].clone();
    let details = json!({ "name": "a", "kind": "configmaps", "uid": uid });
    assert_eq!((&gone["status"], &gone["details"]), (&json!("Success"), &details));
    assert_eq!(told(&backend, "GET", &one("a"), Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_is_said_in_kubernetes_words() {
    let backend = demo();
    let with = |field: &str, value: Value| {
        let mut map = map("a", "1");
        *map.pointer_mut("/metadata").unwrap().get_mut("name").unwrap() = "a".into();
        map["metadata"][field] = value;
        map
    };
    let mut unknown = map("a", "1");
    unknown["dta"] = json!({});
    let mut secret = map("a", "1");
    secret["kind"] = "Secret".into();
    let strict = format!("{MAPS}?fieldValidation=Strict");
    check(
        &backend,
        &[
            ("POST", MAPS, with("resourceVersion", json!("5"))),
            ("POST", MAPS, with("namespace", json!("other"))),
            ("POST", MAPS, with("labels", json!({ "a": "b c" }))),
            ("POST", MAPS, with("labels", json!({ "a": 5 }))),
            ("POST", MAPS, secret),
            ("POST", MAPS, json!([])),
            ("POST", &strict, unknown),
            ("POST", &format!("{MAPS}?fieldValidation=strict"), map("a", "1")),
            ("POST", &format!("{MAPS}?dryRun=true"), map("a", "1")),
            ("POST", "/api/v1/namespaces/nowhere/configmaps", map("a", "1")),
            ("POST", &one("a"), map("a", "1")),
            ("PUT", MAPS, map("a", "1")),
            ("POST", "/api/v1/configmaps", map("a", "1")),
            ("GET", "/api/v1/configmaps/a", Value::Null),
            ("GET", "/api/v1/namespaces/demo/nodes", Value::Null),
            ("GET", "/api/v1/namespaces/demo/podz", Value::Null),
            ("GET", "/apis/apps/v1beta1/deployments", Value::Null),
            ("GET", &format!("{MAPS}/a/status"), Value::Null),
            ("DELETE", "/api/v1/namespaces", Value::Null),
            ("DELETE", "/api/v1/namespaces/default", Value::Null),
            ("OPTIONS", MAPS, Value::Null),
        ],
        expect![[r#"
            500 : resourceVersion should not be set on objects to be created
            400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
            422 Invalid: ConfigMap "a" is invalid: metadata.labels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: metadata.labels.a: expected string, found integer
            400 BadRequest: Secret in version "v1" cannot be handled as a ConfigMap: the path is for ConfigMap of v1
            400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; it is no map
            400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"
            422 Invalid: CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "strict": supported values: "", "Ignore", "Strict", "Warn"
            422 Invalid: CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["true"]: supported values: "All"
            404 NotFound: namespaces "nowhere" not found
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            404 NotFound: the server could not find the requested resource
            404 NotFound: the server could not find the requested resource
            404 NotFound: the server could not find the requested resource
            404 NotFound: the server could not find the requested resource
            404 NotFound: the server could not find the requested resource
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            403 Forbidden: namespaces "default" is forbidden: this namespace may not be deleted
            405 MethodNotAllowed: the server does not allow this method on the requested resource
        "#]],
    )
    .await;
    let (code, text) = told(&backend, "GET", "/apis/nope.example/v1/things", Value::Null).await;
    assert_eq!((code.as_u16(), &text["text"]), (404, &json!("404 page not found\n")));
    let response = ask(&backend, "POST", MAPS, "text/plain", "*/*", "x".into()).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn unknown_fields_warn_and_are_dropped() {
    let backend = demo();
    let mut sent = map("a", "1");
    sent["dta"] = json!({});
    let response = answer(&backend, "POST", MAPS, &sent).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()[header::WARNING], r#"299 - "unknown field \"dta\"""#);
    let created: Value = serde_json::from_str(&body(response).await).unwrap();
    assert!(created.get("dta").is_none());
    let response =
        answer(&backend, "PUT", &format!("{}?fieldValidation=Ignore", one("a")), &sent).await;
    assert!(!response.headers().contains_key(header::WARNING));
}

#[tokio::test]
async fn a_prefix_becomes_a_name() {
    let backend = demo();
    let mut sent = map("", "1");
    sent["metadata"] = json!({ "generateName": "a-" });
    let (code, created) = told(&backend, "POST", MAPS, sent.clone()).await;
    assert_eq!(code, StatusCode::CREATED, "{created}");
    let name = created["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
    assert_eq!(created["metadata"]["generateName"], "a-");
    let (_, other) = told(&backend, "POST", MAPS, sent).await;
    assert_ne!(other["metadata"]["name"], name);
}

#[tokio::test]
async fn a_dry_run_answers_as_if_and_changes_nothing() {
    let backend = demo();
    let revision = backend.views.borrow().revision();
    let dry = format!("{MAPS}?dryRun=All");
    let (code, shown) = told(&backend, "POST", &dry, map("a", "1")).await;
    assert_eq!(code, StatusCode::CREATED);
    assert!(shown["metadata"]["uid"].is_string());
    assert!(shown["metadata"].get("resourceVersion").is_none());
    assert_eq!(backend.views.borrow().revision(), revision);
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let dry = format!("{}?dryRun=All", one("a"));
    assert_eq!(told(&backend, "DELETE", &dry, Value::Null).await.0, StatusCode::OK);
    assert_eq!(told(&backend, "GET", &one("a"), Value::Null).await.0, StatusCode::OK);
}

/// Names of a list, its version, and what its metadata says of the rest.
async fn names(backend: &Arc<Fake>, target: &str) -> (Vec<String>, Value) {
    let (code, list) = told(backend, "GET", target, Value::Null).await;
    assert_eq!(code, StatusCode::OK, "{target}: {list}");
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no items: {list}"));
    let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
    (names.collect(), list["metadata"].clone())
}

#[tokio::test]
async fn a_list_has_its_kind_its_version_and_its_order() {
    let backend = demo();
    for name in ["b", "a", "c"] {
        told(&backend, "POST", MAPS, map(name, "1")).await;
    }
    let (_, list) = told(&backend, "GET", MAPS, Value::Null).await;
    let revision = backend.views.borrow().revision().to_string();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(list["metadata"], json!({ "resourceVersion": revision }));
    assert_eq!(names(&backend, MAPS).await.0, ["a", "b", "c"]);
    let (nothing, _) = names(&backend, "/api/v1/namespaces/nowhere/configmaps").await;
    assert!(nothing.is_empty());
    assert_eq!(names(&backend, "/api/v1/configmaps").await.0, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_list_is_read_page_by_page_as_it_was_at_first() {
    let backend = demo();
    for name in ["a", "b", "d", "e", "f"] {
        told(&backend, "POST", MAPS, map(name, "1")).await;
    }
    let (first, meta) = names(&backend, &format!("{MAPS}?limit=2")).await;
    assert_eq!((first, &meta["remainingItemCount"]), (vec!["a".into(), "b".into()], &json!(3)));
    told(&backend, "POST", MAPS, map("c", "1")).await;
    told(&backend, "DELETE", &one("e"), Value::Null).await;
    let token = meta["continue"].as_str().unwrap();
    let next = format!("{MAPS}?limit=2&continue={token}");
    let (second, later) = names(&backend, &next).await;
    assert_eq!(second, ["d", "e"]);
    assert_eq!(later["resourceVersion"], meta["resourceVersion"]);
    let last = format!("{MAPS}?limit=2&continue={}", later["continue"].as_str().unwrap());
    let (third, end) = names(&backend, &last).await;
    assert_eq!((third, end.get("continue")), (vec!["f".to_owned()], None));
    let (selected, meta) = names(&backend, &format!("{MAPS}?limit=1&labelSelector=!x")).await;
    assert_eq!((selected.len(), meta.get("remainingItemCount")), (1, None));
    let (all, _) = names(&backend, &format!("{MAPS}?limit=2&resourceVersion=0")).await;
    assert_eq!(all.len(), 5);
}

#[tokio::test]
async fn a_page_that_is_too_old_says_how_to_go_on() {
    let backend = demo();
    for name in ["a", "b", "c"] {
        told(&backend, "POST", MAPS, map(name, "1")).await;
    }
    let (_, meta) = names(&backend, &format!("{MAPS}?limit=1")).await;
    forget(&backend);
    let old = format!("{MAPS}?limit=1&continue={}", meta["continue"].as_str().unwrap());
    let (code, status) = told(&backend, "GET", &old, Value::Null).await;
    assert_eq!((code, &status["reason"]), (StatusCode::GONE, &json!("Expired")));
    let fresh = status["metadata"]["continue"].as_str().unwrap();
    let (rest, meta) = names(&backend, &format!("{MAPS}?limit=1&continue={fresh}")).await;
    assert_eq!(rest, ["b"]);
    assert_eq!(meta["resourceVersion"], backend.views.borrow().revision().to_string());
    let exact = format!("{MAPS}?resourceVersion=3&resourceVersionMatch=Exact");
    let (code, status) = told(&backend, "GET", &exact, Value::Null).await;
    assert_eq!((code, &status["reason"]), (StatusCode::GONE, &json!("Expired")));
}

/// Changes so much that the history no longer reaches back to now.
fn forget(backend: &Arc<Fake>) {
    for n in 0..=crate::state::HISTORY_MAX {
        let mut map = map("churn", &n.to_string());
        map["metadata"]["namespace"] = "demo".into();
        let object = Object::from_value(&map).unwrap();
        let put = Op::Put { object, expect: Assume::Any, part: Part::Main };
        backend.apply(vec![Command::Write(vec![put])]);
    }
    told_nothing(backend);
}

fn told_nothing(backend: &Arc<Fake>) {
    let view = backend.views.borrow().clone();
    assert!(view.changes_since(crate::model::Revision(1)).is_none());
}

#[tokio::test]
async fn versions_and_how_they_match() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let revision = backend.views.borrow().revision();
    told(&backend, "POST", MAPS, map("b", "1")).await;
    let exact = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    let (then, meta) = names(&backend, &exact).await;
    assert_eq!((then, &meta["resourceVersion"]), (vec!["a".into()], &json!(revision.to_string())));
    let newer = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&backend, &newer).await.0, ["a", "b"]);
    check(
        &backend,
        &[
            ("GET", &format!("{MAPS}?resourceVersion=abc"), Value::Null),
            ("GET", &format!("{}?resourceVersion=abc", one("a")), Value::Null),
            ("GET", &format!("{MAPS}?resourceVersionMatch=Exact"), Value::Null),
            ("GET", &format!("{MAPS}?resourceVersion=0&resourceVersionMatch=Exact"), Value::Null),
            ("GET", &format!("{MAPS}?resourceVersion=5&resourceVersionMatch=Odd"), Value::Null),
            ("GET", &format!("{MAPS}?sendInitialEvents=true"), Value::Null),
            ("GET", &format!("{MAPS}?limit=x"), Value::Null),
            ("GET", &format!("{MAPS}?continue=xx"), Value::Null),
            ("GET", &format!("{MAPS}?labelSelector=odd==="), Value::Null),
            ("GET", &format!("{MAPS}?fieldSelector=data.a=b"), Value::Null),
            ("GET", &format!("{MAPS}?watch=1&resourceVersion=abc"), Value::Null),
            ("GET", &format!("{MAPS}?watch=1&sendInitialEvents=true"), Value::Null),
            ("GET", &format!("{MAPS}?watch=1&resourceVersionMatch=NotOlderThan"), Value::Null),
            ("GET", &format!("{MAPS}?watch=1&continue=x"), Value::Null),
        ],
        expect![[r#"
            400 BadRequest: invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax
            500 : resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Odd": supported values: "Exact", "NotOlderThan", ""
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list
            400 BadRequest: strconv.ParseInt: parsing "x": invalid syntax
            400 BadRequest: invalid continue token: continue key is not valid: Invalid last symbol 120, offset 1.
            400 BadRequest: unable to parse requirement: found '=', expected: identifier
            400 BadRequest: "data.a" is not a known field selector: only "metadata.name", "metadata.namespace"
            500 : resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided
            422 Invalid: ListOptions.meta.k8s.io "" is invalid: continue: Forbidden: continue is forbidden for watch
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_version_that_is_yet_to_come_is_waited_for_and_then_refused() {
    let backend = demo();
    let future = format!("{MAPS}?resourceVersion=99999999");
    let (code, status) = told(&backend, "GET", &future, Value::Null).await;
    assert_eq!((code, &status["reason"]), (StatusCode::GATEWAY_TIMEOUT, &json!("Timeout")));
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let backend = demo();
    told(&backend, "POST", MAPS, labelled("a", "web")).await;
    told(&backend, "POST", MAPS, labelled("b", "db")).await;
    told(&backend, "POST", MAPS, map("c", "1")).await;
    for (query, expected) in [
        ("labelSelector=app%3Dweb", vec!["a"]),
        ("labelSelector=app%20in%20(web,db)", vec!["a", "b"]),
        ("labelSelector=app!=web", vec!["b", "c"]),
        ("labelSelector=!app", vec!["c"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.namespace%3Dx", vec![]),
        ("labelSelector=app&fieldSelector=metadata.name!=a", vec!["b"]),
    ] {
        assert_eq!(names(&backend, &format!("{MAPS}?{query}")).await.0, expected, "{query}");
    }
}

/// What a watch says until `count` lines are there.
async fn watched(response: Response, count: usize) -> Vec<Value> {
    assert_eq!(response.status(), StatusCode::OK);
    let mut frames = response.into_body().into_data_stream();
    let mut text = Vec::new();
    while text.iter().filter(|byte| **byte == b'\n').count() < count {
        let next = tokio::time::timeout(std::time::Duration::from_secs(60), frames.next()).await;
        match next.expect("a line in time") {
            Some(bytes) => text.extend_from_slice(&bytes.unwrap()),
            None => break,
        }
    }
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(lines: &[Value]) -> Vec<String> {
    let event = |line: &Value| {
        let object = &line["object"];
        format!(
            "{} {}",
            line["type"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap_or_default()
        )
    };
    lines.iter().map(event).collect()
}

#[tokio::test]
async fn a_watch_tells_what_is_there_and_then_what_changes() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let watch = answer(&backend, "GET", &format!("{MAPS}?watch=1"), &Value::Null).await;
    assert_eq!(watch.headers()[header::CONTENT_TYPE], "application/json");
    told(&backend, "POST", MAPS, map("b", "1")).await;
    let (_, changed) = told(&backend, "PUT", &one("a"), map("a", "2")).await;
    told(&backend, "DELETE", &one("b"), Value::Null).await;
    let lines = watched(watch, 4).await;
    assert_eq!(events(&lines), ["ADDED a", "ADDED b", "MODIFIED a", "DELETED b"]);
    assert_eq!(lines[2]["object"], changed);
    let last = backend.views.borrow().revision().to_string();
    assert_eq!(lines[3]["object"]["metadata"]["resourceVersion"], last);
    let from = changed["metadata"]["resourceVersion"].as_str().unwrap();
    let target = format!("/api/v1/watch/namespaces/demo/configmaps?resourceVersion={from}");
    let resumed = answer(&backend, "GET", &target, &Value::Null).await;
    assert_eq!(events(&watched(resumed, 1).await), ["DELETED b"]);
}

#[tokio::test]
async fn a_selector_makes_objects_appear_and_disappear() {
    let backend = demo();
    let target = format!("{MAPS}?watch=1&labelSelector=app%3Dweb");
    let watch = answer(&backend, "GET", &target, &Value::Null).await;
    told(&backend, "POST", MAPS, labelled("a", "db")).await;
    told(&backend, "PUT", &one("a"), labelled("a", "web")).await;
    let mut again = labelled("a", "web");
    again["data"]["key"] = "y".into();
    told(&backend, "PUT", &one("a"), again).await;
    let (_, left) = told(&backend, "PUT", &one("a"), labelled("a", "db")).await;
    let lines = watched(watch, 3).await;
    assert_eq!(events(&lines), ["ADDED a", "MODIFIED a", "DELETED a"]);
    let last = &lines[2]["object"];
    assert_eq!(last["metadata"]["labels"]["app"], "web", "the last state that matched");
    assert_eq!(last["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_bookmark_says_that_all_is_told_that_was_there() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let target = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
         &allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let watch = answer(&backend, "GET", &target, &Value::Null).await;
    let lines = watched(watch, 9).await;
    let revision = backend.views.borrow().revision().to_string();
    assert_eq!(events(&lines), ["ADDED a", "BOOKMARK "], "and then it ends");
    let end = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {
            "resourceVersion": revision, "annotations": { "k8s.io/initial-events-end": "true" },
        },
    });
    assert_eq!(lines[1]["object"], end);
}

#[tokio::test]
async fn a_watch_ends_in_time_and_waits_for_what_is_yet_to_come() {
    let backend = demo();
    let target = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=99999999");
    let watch = answer(&backend, "GET", &target, &Value::Null).await;
    assert_eq!(watched(watch, 1).await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_watch_that_fell_behind_is_told_so_and_ends() {
    let backend = demo();
    let slow = answer(&backend, "GET", &format!("{MAPS}?watch=1"), &Value::Null).await;
    forget(&backend);
    let old =
        answer(&backend, "GET", &format!("{MAPS}?watch=1&resourceVersion=1"), &Value::Null).await;
    for watch in [slow, old] {
        let lines = watched(watch, 9).await;
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["type"], "ERROR");
        assert_eq!(lines[0]["object"]["code"], 410);
        assert_eq!(lines[0]["object"]["reason"], "Expired");
    }
}

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn tables_and_metadata_come_in_the_same_envelope() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let get = |target: String, accept: &'static str| {
        let backend = backend.clone();
        async move {
            let response = ask(&backend, "GET", &target, "", accept, String::new()).await;
            serde_json::from_str::<Value>(&body(response).await).unwrap()
        }
    };
    let table = get(MAPS.to_owned(), TABLE).await;
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let bare = get(format!("{MAPS}?includeObject=None"), TABLE).await;
    assert_eq!(bare["rows"][0]["object"], Value::Null);
    let whole = get(format!("{}?includeObject=Object", one("a")), TABLE).await;
    assert_eq!(whole["rows"][0]["object"]["data"]["key"], "1");
    let list = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = get(MAPS.to_owned(), list).await;
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert!(metadata["items"][0].get("data").is_none());
    assert_eq!(metadata["items"][0]["metadata"]["name"], "a");
    let watch = ask(&backend, "GET", &format!("{MAPS}?watch=1"), "", TABLE, String::new()).await;
    told(&backend, "POST", MAPS, map("b", "1")).await;
    let lines = watched(watch, 2).await;
    assert_eq!(lines[0]["object"]["rows"][0]["cells"][0], "a");
    assert!(lines[0]["object"]["columnDefinitions"].is_array());
    assert_eq!(lines[1]["object"]["columnDefinitions"], Value::Null);
    assert_eq!(lines[1]["object"]["rows"][0]["object"]["metadata"]["name"], "b");
}

#[tokio::test]
async fn answers_come_as_yaml_and_indented() {
    let backend = demo();
    told(&backend, "POST", MAPS, map("a", "1")).await;
    let yaml = ask(&backend, "GET", MAPS, "", "application/yaml", String::new()).await;
    assert_eq!(yaml.headers()[header::CONTENT_TYPE], "application/yaml");
    assert!(body(yaml).await.contains("kind: ConfigMapList\n"));
    let pretty = format!("{}?pretty=true", one("a"));
    let text = body(answer(&backend, "GET", &pretty, &Value::Null).await).await;
    assert!(text.starts_with("{\n  \"apiVersion\": \"v1\",\n") && text.ends_with("}\n"), "{text}");
    let sent = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\n".to_owned();
    let made = ask(&backend, "POST", MAPS, "application/yaml", "*/*", sent).await;
    assert_eq!(made.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn large_lists_are_sent_in_pieces_and_compressed_for_those_who_take_it() {
    let backend = demo();
    let data = "x".repeat(20_000);
    for n in 0..20 {
        told(&backend, "POST", MAPS, map(&format!("m{n:02}"), &data)).await;
    }
    let plain = body(answer(&backend, "GET", MAPS, &Value::Null).await).await;
    let list: Value = serde_json::from_str(&plain).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 20);
    let mut request =
        Request::get(MAPS).header("accept-encoding", "gzip").body(Body::empty()).unwrap();
    request.extensions_mut().insert(admin());
    let response = routers(backend.clone()).tls.oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(&bytes[..]);
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!(text, plain);
}

#[tokio::test]
async fn every_answer_carries_its_id_and_is_not_kept() {
    let backend = demo();
    let response = answer(&backend, "GET", MAPS, &Value::Null).await;
    assert_eq!(response.headers()["audit-id"].len(), 36);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache, private");
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/demo/deployments";

#[tokio::test]
async fn status_and_spec_have_paths_of_their_own() {
    let backend = demo();
    let (_, made) = told(&backend, "POST", DEPLOYMENTS, deployment("web")).await;
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{DEPLOYMENTS}/web");
    let mut sent = deployment("web");
    sent["spec"]["replicas"] = 3.into();
    sent["status"] = json!({ "replicas": 9 });
    let (_, replaced) = told(&backend, "PUT", &path, sent.clone()).await;
    assert_eq!(replaced["metadata"]["generation"], 2);
    assert_eq!(replaced["status"], made["status"], "a status on the main path is ignored");
    sent["spec"]["replicas"] = 7.into();
    sent["metadata"]["labels"] = json!({ "l": "1" });
    let (code, told_status) = told(&backend, "PUT", &format!("{path}/status"), sent).await;
    assert_eq!(code, StatusCode::OK, "{told_status}");
    assert_eq!(told_status["status"]["replicas"], 9);
    assert_eq!(told_status["spec"]["replicas"], 3, "a spec on the status path is ignored");
    assert_eq!(told_status["metadata"]["labels"]["l"], "1");
    assert_eq!(told_status["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_scale_changes_replicas_alone() {
    let backend = demo();
    told(&backend, "POST", DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let (_, mut scale) = told(&backend, "GET", &path, Value::Null).await;
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(scale["spec"], json!({ "replicas": 2 }));
    assert_eq!(scale["status"], json!({ "replicas": 0, "selector": "a=b" }));
    scale["spec"]["replicas"] = 0.into();
    let (code, scaled) = told(&backend, "PUT", &path, scale.clone()).await;
    assert_eq!((code, &scaled["spec"]), (StatusCode::OK, &json!({})));
    let patch = json!({ "spec": { "replicas": 5 } }).to_string();
    let media = "application/merge-patch+json";
    let patched = ask(&backend, "PATCH", &path, media, "*/*", patch).await;
    assert_eq!(patched.status(), StatusCode::OK);
    let (_, read) = told(&backend, "GET", &format!("{DEPLOYMENTS}/web"), Value::Null).await;
    assert_eq!(read["spec"]["replicas"], 5);
    let mut other = json!({ "metadata": { "name": "other" }, "spec": { "replicas": 1 } });
    let mut negative = json!({ "metadata": { "name": "web" }, "spec": { "replicas": -1 } });
    for sent in [&mut other, &mut negative] {
        sent["kind"] = "Scale".into();
        sent["apiVersion"] = "autoscaling/v1".into();
    }
    check(
        &backend,
        &[("PUT", &path, scale), ("PUT", &path, other), ("PUT", &path, negative)],
        expect![[r#"
            409 Conflict: Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again
            400 BadRequest: the name of the object (other) does not match the name on the URL (web)
            422 Invalid: Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
        "#]],
    )
    .await;
}

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

const PODS: &str = "/api/v1/namespaces/demo/pods";

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    })
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

#[tokio::test]
async fn what_git_owns_names_its_line_and_what_nobody_marked_is_refused() {
    let mut cluster = Cluster::web();
    for (name, mark) in [("free", Some("direct")), ("closed", Some("refuse")), ("plain", None)] {
        let annotations = mark.map(|mark| json!({ "mainstay.io/writes": mark }));
        cluster.put(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": name, "annotations": annotations },
        }));
    }
    let backend = Fake::new(&cluster);
    let web = "/apis/apps/v1/namespaces/shop/deployments/web";
    let (_, mut live) = told(&backend, "GET", web, Value::Null).await;
    live["spec"]["replicas"] = 9.into();
    let at = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": { "name": "web" },
        "spec": { "replicas": 9 },
    });
    let commit = format!("/apis/mainstay.io/v1/commits/{FIRST}");
    check(
        &backend,
        &[
            ("PUT", web, live),
            ("PUT", &format!("{web}/scale"), scale),
            ("DELETE", web, Value::Null),
            ("POST", &at("free"), map("a", "1")),
            ("POST", &at("closed"), map("a", "1")),
            ("POST", &at("plain"), map("a", "1")),
            ("DELETE", "/api/v1/namespaces/shop/pods/web-1-0", Value::Null),
            ("DELETE", &commit, Value::Null),
        ],
        expect![[r#"
            403 Forbidden: deployments.apps "web" is forbidden: it comes from Git: edit apps/web.yaml:1 and commit, or take it out of there first
            403 Forbidden: deployments.apps "web" is forbidden: it comes from Git: edit apps/web.yaml:1 and commit, or take it out of there first
            403 Forbidden: deployments.apps "web" is forbidden: it comes from Git: edit apps/web.yaml:1 and commit, or take it out of there first
            201 ConfigMap a
            403 Forbidden: configmaps "a" is forbidden: the cluster takes what it runs from Git: commit a manifest of this configmap, or mark the namespace with mainstay.io/writes: direct
            403 Forbidden: configmaps "a" is forbidden: the cluster takes what it runs from Git: commit a manifest of this configmap, or mark the namespace with mainstay.io/writes: direct
            200 Pod web-1-0
            403 Forbidden: commits.mainstay.io "9f8e7d6000000000000000000000000000000001" is forbidden: it tells what the cluster does, and only the cluster writes it
        "#]],
    )
    .await;
}

#[tokio::test]
async fn discovery_lists_everything_that_is_served() {
    let backend = demo();
    let (_, core) = told(&backend, "GET", "/api", Value::Null).await;
    assert_eq!(core["versions"], json!(["v1"]));
    let (_, groups) = told(&backend, "GET", "/apis", Value::Null).await;
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"apps") && names.is_sorted() && !names.contains(&""), "{names:?}");
    let (_, apps) = told(&backend, "GET", "/apis/apps/v1", Value::Null).await;
    let scale =
        apps["resources"].as_array().unwrap().iter().find(|r| r["name"] == "deployments/scale");
    assert_eq!(
        scale,
        Some(&json!({
            "name": "deployments/scale", "singularName": "", "namespaced": true,
            "group": "autoscaling", "version": "v1", "kind": "Scale",
            "verbs": ["get", "patch", "update"],
        }))
    );
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let response = ask(&backend, "GET", "/apis", "", v2, String::new()).await;
    let tag = response.headers()[header::ETAG].clone();
    let list: Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!(list["apiVersion"], "apidiscovery.k8s.io/v2");
    assert_eq!(list["items"][0]["versions"][0]["freshness"], "Current");
    let mut again = Request::get("/apis").header(header::ACCEPT, v2).body(Body::empty()).unwrap();
    again.headers_mut().insert(header::IF_NONE_MATCH, tag);
    again.extensions_mut().insert(admin());
    let response = routers(backend.clone()).tls.oneshot(again).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    let refused = ask(&backend, "GET", "/apis/apps", "", v2, String::new()).await;
    assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
}
