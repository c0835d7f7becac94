//! Watches: what they tell, and how they end.

use super::*;

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
