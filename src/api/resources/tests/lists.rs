//! Lists: order, pages, versions, selectors.

use super::*;

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
