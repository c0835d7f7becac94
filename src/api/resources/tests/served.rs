//! Kinds that are served in two shapes, and fields that the server fills in.

use super::*;

const V1: &str = "/apis/autoscaling/v1/namespaces/demo/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/demo/horizontalpodautoscalers";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/demo/events";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

fn autoscaler() -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web" },
        "spec": {
            "maxReplicas": 5, "targetCPUUtilizationPercentage": 70,
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
        },
    })
}

#[tokio::test]
async fn an_object_is_written_and_read_in_either_shape() {
    let backend = demo();
    let share = "/spec/targetCPUUtilizationPercentage";
    let (code, made) = told(&backend, "POST", V1, autoscaler()).await;
    assert_eq!((code, &made["apiVersion"]), (StatusCode::CREATED, &json!("autoscaling/v1")));
    assert_eq!(made.pointer(share), Some(&json!(70)));
    let (_, stored) = told(&backend, "GET", &format!("{V2}/web"), Value::Null).await;
    let target = "/spec/metrics/0/resource/target/averageUtilization";
    assert_eq!(stored["apiVersion"], "autoscaling/v2");
    assert_eq!(stored.pointer(target), Some(&json!(70)));
    assert_eq!(stored.pointer(share), None);
    for media in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let patch = json!({ "spec": { "targetCPUUtilizationPercentage": 50 } }).to_string();
        let one = format!("{V1}/web");
        let patched = ask(&backend, "PATCH", &one, media, "*/*", patch).await;
        let patched: Value = serde_json::from_str(&body(patched).await).unwrap();
        assert_eq!(patched.pointer(share), Some(&json!(50)), "{patched}");
    }
    let (_, list) = told(&backend, "GET", V1, Value::Null).await;
    assert_eq!(list["apiVersion"], "autoscaling/v1");
    assert_eq!(list["items"][0].pointer(share), Some(&json!(50)));
    let (code, wrong) = told(&backend, "PUT", &format!("{V2}/web"), list["items"][0].clone()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{wrong}");
    let watch = format!("{V1}?watch=true");
    let lines = watched(answer(&backend, "GET", &watch, &Value::Null).await, 1).await;
    assert_eq!(lines[0]["object"]["apiVersion"], "autoscaling/v1");
}

#[tokio::test]
async fn a_watch_shows_changes_in_its_own_shape() {
    let backend = demo();
    told(&backend, "POST", V1, autoscaler()).await;
    let from =
        told(&backend, "GET", V1, Value::Null).await.1["metadata"]["resourceVersion"].clone();
    let watch = |at: &str| format!("{at}?watch=true&resourceVersion={}", from.as_str().unwrap());
    let both = [
        answer(&backend, "GET", &watch(V2), &Value::Null).await,
        answer(&backend, "GET", &watch(V1), &Value::Null).await,
    ];
    let mut wanted = autoscaler();
    wanted["spec"]["maxReplicas"] = 6.into();
    told(&backend, "PUT", &format!("{V1}/web"), wanted).await;
    for (response, version) in both.into_iter().zip(["autoscaling/v2", "autoscaling/v1"]) {
        let lines = watched(response, 1).await;
        assert_eq!(lines[0]["object"]["apiVersion"], version);
        assert_eq!(lines[0]["object"]["spec"]["maxReplicas"], 6);
    }
}

#[tokio::test]
async fn fields_are_selected_by_the_names_of_the_shape() {
    let backend = demo();
    let event = |name: &str, about: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": name },
            "involvedObject": { "kind": "Pod", "name": about, "namespace": "demo" },
            "message": "it runs", "reason": "Started", "type": "Normal",
        })
    };
    for (name, about) in [("a", "web"), ("b", "other")] {
        let target = "/api/v1/namespaces/demo/events";
        assert_eq!(told(&backend, "POST", target, event(name, about)).await.0, StatusCode::CREATED);
    }
    let target = format!("{EVENTS}?fieldSelector=regarding.name%3Dweb");
    let (_, found) = told(&backend, "GET", &target, Value::Null).await;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["items"][0]["note"], "it runs");
    assert_eq!(found["items"][0]["regarding"]["name"], "web");
    let old = format!("{EVENTS}?fieldSelector=involvedObject.name%3Dweb");
    assert_eq!(told(&backend, "GET", &old, Value::Null).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn discovery_and_documents_know_both_shapes() {
    let backend = demo();
    let (_, group) = told(&backend, "GET", "/apis/autoscaling", Value::Null).await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    for version in ["v1", "v2"] {
        let (_, list) =
            told(&backend, "GET", &format!("/apis/autoscaling/{version}"), Value::Null).await;
        assert_eq!(list["resources"][0]["name"], "horizontalpodautoscalers");
        let path = format!("/openapi/v3/apis/autoscaling/{version}");
        let (code, document) = told(&backend, "GET", &path, Value::Null).await;
        assert_eq!(code, StatusCode::OK);
        let name = format!("io.k8s.api.autoscaling.{version}.HorizontalPodAutoscaler");
        assert!(document["components"]["schemas"].get(&name).is_some(), "{name}");
    }
}

/// Of jane, and of an administrator.
const JANE: &str = "MIH0MIGbAgEAMDkxKDAKBgNVBAoMA2RldjAKBgNVBAoMA29wczAOBgNVBAoMB29u\
    LWNhbGwxDTALBgNVBAMMBGphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQvqMf05NRMh4B+U9zDUfjfOlplRsfW\
    tH0n86KzqOqPOTqDVt5oJkv34AXgpNlmxLzbdMQ1xcMR7KIEuwOI2nlsoAAwCgYIKoZIzj0EAwIDSAAwRQIhAKSNs/+L\
    HrJ3QCgEx/sjRQthoDHEsNKZgMkaqwQzEfUbAiBad5XjhI4NJg2MrvdYuXPKi6d3/ywzVXd+zcGNXnYs6g==";
const MASTER: &str = "MIHiMIGKAgEAMCgxFzAVBgNVBAoMDnN5c3RlbTptYXN0ZXJzMQ0wCwYDVQQDDARy\
    b290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEL6jH9OTUTIeAflPcw1H43zpaZUbH1rR9J/Ois6jqjzk6g1beaCZL\
    9+AF4KTZZsS823TENcXDEeyiBLsDiNp5bKAAMAoGCCqGSM49BAMCA0cAMEQCIBXu3XNgDzSerN8qeMG92HDTeCrpBg60\
    A9mbQ9gGvHmgAiAMS1OrCj8d8AxsS0jf7dHFOe++a955MMbvHe9dqMOflg==";

fn request_of(body: &str) -> Value {
    let pem =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": { "name": "jane" },
        "spec": {
            "request": base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem),
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            "username": "somebody else", "groups": ["system:masters"],
        },
    })
}

fn request() -> Value {
    request_of(JANE)
}

#[tokio::test]
async fn a_request_for_a_certificate_says_who_asks_and_is_approved_once() {
    let backend = demo();
    let (code, made) = told(&backend, "POST", REQUESTS, request()).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(made["spec"]["username"], admin().user);
    let mut approved = made.clone();
    approved["status"]["conditions"] =
        json!([{ "type": "Approved", "status": "True", "reason": "KubectlApprove" }]);
    let target = format!("{REQUESTS}/jane/approval");
    let (code, approved) = told(&backend, "PUT", &target, approved).await;
    assert_eq!(code, StatusCode::OK, "{approved}");
    let condition = &approved["status"]["conditions"][0];
    assert!(condition["lastUpdateTime"].is_string(), "{approved}");
    let mut denied = approved.clone();
    denied["status"]["conditions"][0]["type"] = "Denied".into();
    check(&backend, &[("PUT", &target, denied), ("GET", &target, Value::Null)], expect![[r#"
        422 Invalid: CertificateSigningRequest.certificates.k8s.io "jane" is invalid: status.conditions: Forbidden: updates may not remove a condition of type "Approved"
        200 CertificateSigningRequest jane
    "#]]).await;
}

#[tokio::test]
async fn a_job_finds_its_pods_by_its_uid() {
    let backend = demo();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "once" },
        "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }],
        } } },
    });
    let (code, made) = told(&backend, "POST", "/apis/batch/v1/namespaces/demo/jobs", job).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let label = "batch.kubernetes.io/controller-uid";
    let uid = &made["metadata"]["uid"];
    assert_eq!(made["spec"]["selector"]["matchLabels"][label], *uid);
    assert_eq!(made["spec"]["template"]["metadata"]["labels"][label], *uid);
    assert_eq!(made["spec"]["template"]["metadata"]["labels"]["job-name"], "once");
}

#[tokio::test]
async fn how_a_server_is_is_found_out_and_never_stored() {
    let backend = demo();
    let statuses = "/api/v1/componentstatuses";
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let response = ask(&backend, "GET", statuses, "", table, String::new()).await;
    let warnings: Vec<_> = response.headers().get_all(header::WARNING).iter().collect();
    assert_eq!(warnings, ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""]);
    let list: Value = serde_json::from_str(&body(response).await).unwrap();
    let rows = list["rows"].as_array().unwrap().iter().map(|row| row["cells"].to_string());
    let rows: Vec<String> = rows.collect();
    expect![[r#"
        [
            "[\"controller-manager\",\"Healthy\",\"ok\",\"\"]",
            "[\"log\",\"Healthy\",\"ok\",\"\"]",
            "[\"scheduler\",\"Healthy\",\"ok\",\"\"]",
            "[\"source\",\"Healthy\",\"ok\",\"\"]",
        ]
    "#]]
    .assert_debug_eq(&rows);
    let one = json!({
        "apiVersion": "v1", "kind": "ComponentStatus", "metadata": { "name": "log" },
    });
    let at = |name: &str| format!("{statuses}/{name}");
    check(
        &backend,
        &[
            ("GET", &at("log"), Value::Null),
            ("GET", &at("etcd-0"), Value::Null),
            ("GET", &format!("{statuses}?watch=1"), Value::Null),
            ("POST", statuses, one),
            ("DELETE", &at("log"), Value::Null),
        ],
        expect![[r#"
            200 ComponentStatus log
            404 NotFound: componentstatuses "etcd-0" not found
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            405 MethodNotAllowed: the server does not allow this method on the requested resource
            405 MethodNotAllowed: the server does not allow this method on the requested resource
        "#]],
    )
    .await;
}

/// Whoever still uses Endpoints hears of it, whatever the answer is.
#[tokio::test]
async fn what_is_deprecated_says_so() {
    let backend = demo();
    let endpoints = "/api/v1/namespaces/demo/endpoints";
    for (target, code) in [(endpoints.to_owned(), 200), (format!("{endpoints}/none"), 404)] {
        let response = answer(&backend, "GET", &target, &Value::Null).await;
        assert_eq!(response.status().as_u16(), code);
        let told = response.headers().get_all(header::WARNING).iter().count();
        assert_eq!(told, 1, "{target}");
    }
    let slices = "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices";
    let response = answer(&backend, "GET", slices, &Value::Null).await;
    assert!(!response.headers().contains_key(header::WARNING));
}

/// Every group version that discovery lists is one that the cluster keeps an APIService for.
#[tokio::test]
async fn what_discovery_lists_is_registered() {
    let backend = demo();
    let (_, groups) = told(&backend, "GET", "/apis", Value::Null).await;
    let versions = groups["groups"].as_array().unwrap().iter().flat_map(|group| {
        group["versions"].as_array().unwrap().iter().map(|v| v["groupVersion"].as_str().unwrap())
    });
    let listed: Vec<&str> = versions.collect();
    let mut registered: Vec<String> = kinds::group_versions()
        .iter()
        .map(|(group, version)| format!("{group}/{version}"))
        .collect();
    registered.retain(|name| name != "/v1");
    registered.sort();
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(sorted, registered);
}

#[tokio::test]
async fn what_the_cluster_keeps_for_itself_is_not_for_users_to_write() {
    let backend = demo();
    let service = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1.acme.example" },
        "spec": {
            "group": "acme.example", "version": "v1", "groupPriorityMinimum": 100,
            "versionPriority": 100, "service": { "name": "acme", "namespace": "demo" },
        },
    });
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": "system-node-critical" }, "value": 2_000_001_000,
    });
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    check(
        &backend,
        &[
            ("POST", "/apis/apiregistration.k8s.io/v1/apiservices", service),
            ("POST", classes, class),
            ("DELETE", &format!("{classes}/system-node-critical"), Value::Null),
            ("GET", &format!("{classes}/system-node-critical"), Value::Null),
        ],
        expect![[r#"
            403 Forbidden: apiservices.apiregistration.k8s.io "v1.acme.example" is forbidden: every API of this cluster is answered by its own servers, and they list what they serve; other servers cannot be added
            201 PriorityClass system-node-critical
            403 Forbidden: priorityclasses.scheduling.k8s.io "system-node-critical" is forbidden: this is a system priority class and cannot be deleted
            200 PriorityClass system-node-critical
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_would_make_an_administrator_or_names_no_signer_is_refused() {
    let backend = demo();
    let mut legacy = request();
    legacy["spec"]["signerName"] = "kubernetes.io/legacy-unknown".into();
    check(
        &backend,
        &[("POST", REQUESTS, request_of(MASTER)), ("POST", REQUESTS, legacy)],
        expect![[r#"
            403 Forbidden: certificatesigningrequests.certificates.k8s.io "jane" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed
            422 Invalid: CertificateSigningRequest.certificates.k8s.io "jane" is invalid: spec.signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via this API version
        "#]],
    )
    .await;
}
