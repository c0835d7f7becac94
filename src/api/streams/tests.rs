use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    find::{self, Destination},
    is_stream,
    log::LogRequest,
};
use crate::{
    api::{Failure, RequestInfo},
    report::fixture::Cluster,
};

fn said<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(failure) => format!("{}: {}", failure.code.as_u16(), failure.message),
    }
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap()
}

#[test]
fn a_container_is_chosen_as_kubernetes_chooses() {
    let one =
        pod(json!({ "containers": [{ "name": "web" }], "initContainers": [{ "name": "first" }] }));
    let two = pod(json!({
        "containers": [{ "name": "web" }, { "name": "side" }],
        "initContainers": [{ "name": "first" }],
    }));
    let check = |pod: &Pod, wanted: Option<&str>, expected: Expect| {
        expected.assert_eq(&said(find::container(pod, "web", wanted)));
    };
    check(&one, None, expect![[r#""web""#]]);
    check(&one, Some(""), expect![[r#""web""#]]);
    check(&one, Some("first"), expect![[r#""first""#]]);
    check(&one, Some("db"), expect!["400: container db is not valid for pod web"]);
    check(
        &two,
        None,
        expect![
            "400: a container name must be specified for pod web, choose one of: [web side] or one of the init containers: [first]"
        ],
    );
    check(&two, Some("side"), expect![[r#""side""#]]);
    assert_eq!(said(find::host(&one, "web")), "400: pod web does not have a host assigned");
}

#[test]
fn proxies_find_a_port() {
    let cluster = Cluster::web();
    let view = cluster.state.view();
    let to = |found: Result<Destination, Failure>| match found {
        Ok(to) => {
            format!("{} {}/{}:{} tls={}", to.node, to.namespace, to.pod, to.port, to.tls)
        }
        other => said(other),
    };
    let pod = |text, expected: Expect| expected.assert_eq(&to(find::pod_port(view, "shop", text)));
    pod("web-1-0:8080", expect!["n1 shop/web-1-0:8080 tls=false"]);
    pod("https:web-1-0:8443", expect!["n1 shop/web-1-0:8443 tls=true"]);
    pod("none", expect![[r#"404: pods "none" not found"#]]);
    pod("web-1-0:http", expect![[r#"400: invalid pod request "web-1-0:http""#]]);
    pod("ftp:web-1-0:21", expect![[r#"400: invalid pod request "ftp:web-1-0:21""#]]);
    let service = |text, expected: Expect| {
        expected.assert_eq(&to(find::service_port(view, "shop", text, 0)));
    };
    service("none", expect![[r#"404: services "none" not found"#]]);
    service("web:81", expect![[r#"503: no service port 81 found for service "web""#]]);
    service("web:80", expect![[r#"503: no endpoints available for service "web""#]]);
}

#[test]
fn what_streams_is_known() {
    let stream =
        |path: &str| RequestInfo::of("GET", path, "").resource.is_some_and(|r| is_stream(&r));
    for path in ["pods/web/log", "pods/web/exec", "services/web/proxy", "pods/web/proxy/a/b"] {
        assert!(stream(&format!("/api/v1/namespaces/shop/{path}")), "{path}");
    }
    assert!(stream("/api/v1/nodes/n1/proxy/metrics"));
    for path in [
        "/api/v1/namespaces/shop/pods/log",
        "/api/v1/namespaces/log/pods/x/status",
        "/apis/apps/v1/namespaces/shop/pods/web/log",
        "/api/v1/pods/web/log",
    ] {
        assert!(!stream(path), "{path}");
    }
}

#[test]
fn options_of_logs_are_checked_as_kubernetes_checks_them() {
    let check = |query: &str, expected: Expect| {
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        let pairs: Vec<_> = query.split('&').filter_map(pair).collect();
        let request = LogRequest::of(&pairs);
        let path = request.and_then(|r| r.check("web").map(|()| r.path()));
        expected.assert_eq(&said(path));
    };
    check(
        "follow=true&sinceTime=2026-01-02T03:04:05Z&timestamps=true&limitBytes=5&stream=All",
        expect![[
            r#""/containerLogs///?follow=true&previous=false&timestamps=true&limitBytes=5&sinceTime=2026-01-02T03:04:05Z""#
        ]],
    );
    check(
        "tailLines=-1",
        expect![[
            r#"422: PodLogOptions "web" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"#
        ]],
    );
    check(
        "limitBytes=0&sinceSeconds=0&stream=Both",
        expect![[
            r#"422: PodLogOptions "web" is invalid: [limitBytes: Invalid value: 0: must be greater than 0, sinceSeconds: Invalid value: 0: must be greater than 0, stream: Unsupported value: "Both": supported values: "All", "Stderr", "Stdout"]"#
        ]],
    );
    check(
        "sinceTime=2026-01-02T03:04:05Z&sinceSeconds=3",
        expect![[
            r#"422: PodLogOptions "web" is invalid: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"#
        ]],
    );
    check("follow=perhaps", expect![[r#"400: follow: "perhaps" is not true or false"#]]);
    check("tailLines=many", expect![[r#"400: tailLines: "many" is not a number"#]]);
}
