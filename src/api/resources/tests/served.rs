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

fn request() -> Value {
    let pem = "-----BEGIN CERTIFICATE REQUEST-----\nMAAwAA==\n-----END CERTIFICATE REQUEST-----\n";
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
