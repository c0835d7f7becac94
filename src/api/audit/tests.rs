use std::{path::Path, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode},
};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    Audit, AuditLevel, AuditSettings, Decision,
    event::{Asked, Sent, Stage, Told, event},
};
use crate::{
    api::{
        Peer, RequestInfo, User,
        failure::Said,
        routers,
        tests::{Fake, admin},
    },
    model::Timestamp,
    report::fixture::Cluster,
};

/// A word that must not be in any log.
const CANARY: &str = "hunter2-c4n4ry";

/// Deadline of what must happen at once.
const SOON: Duration = Duration::from_secs(20);

fn asked(method: &str, uri: &str) -> Asked {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let peer = Peer { user: "jane".into(), groups: vec!["dev".into()] };
    Asked {
        id: "1b9d".into(),
        info: RequestInfo::of(method, path, query),
        uri: uri.into(),
        user: Some(User::of(&peer)),
        seen_as: None,
        source: Some([10_u8, 0, 0, 7].into()),
        agent: "kubectl/v1.37.1".into(),
        at: Timestamp(1_790_000_000_123),
    }
}

fn sent(value: &Value) -> Sent {
    Sent { media: "application/json".into(), bytes: Bytes::from(value.to_string()) }
}

fn told(code: u16) -> Told {
    let decision = Decision { allowed: true, reason: "RBAC: allowed".into() };
    Told { code, said: None, decision: Some(decision) }
}

const END: (Stage, Timestamp) = (Stage::ResponseComplete, Timestamp(1_790_000_000_223));

fn check(event: &Option<Value>, expected: Expect) {
    let text = event.as_ref().map_or("nothing".to_owned(), |event| format!("{event:#}"));
    expected.assert_eq(&text);
}

#[test]
fn an_event_says_who_what_when_and_how_it_ended() {
    let mut asked = asked("PUT", "/apis/apps/v1/namespaces/shop/deployments/web/status?dryRun=All");
    asked.seen_as = Some(User::anonymous());
    let body = json!({"kind": "Deployment", "metadata": {"resourceVersion": "41", "uid": "u"}});
    let event = event(&asked, Some(&sent(&body)), Some(&told(200)), AuditLevel::Metadata, END);
    check(
        &event,
        expect![[r#"
            {
              "annotations": {
                "authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed"
              },
              "apiVersion": "audit.k8s.io/v1",
              "auditID": "1b9d",
              "impersonatedUser": {
                "groups": [
                  "system:unauthenticated"
                ],
                "username": "system:anonymous"
              },
              "kind": "Event",
              "level": "Metadata",
              "objectRef": {
                "apiGroup": "apps",
                "apiVersion": "v1",
                "name": "web",
                "namespace": "shop",
                "resource": "deployments",
                "resourceVersion": "41",
                "subresource": "status",
                "uid": "u"
              },
              "requestReceivedTimestamp": "2026-09-21T14:13:20.123000Z",
              "requestURI": "/apis/apps/v1/namespaces/shop/deployments/web/status?dryRun=All",
              "responseStatus": {
                "code": 200,
                "metadata": {}
              },
              "sourceIPs": [
                "10.0.0.7"
              ],
              "stage": "ResponseComplete",
              "stageTimestamp": "2026-09-21T14:13:20.223000Z",
              "user": {
                "groups": [
                  "dev",
                  "system:authenticated"
                ],
                "username": "jane"
              },
              "userAgent": "kubectl/v1.37.1",
              "verb": "update"
            }"#]],
    );
}

#[test]
fn a_failure_says_why_and_a_stream_what_it_begins() {
    let asked = asked("POST", "/api/v1/namespaces/shop/pods/web-1/exec?command=sh");
    assert!(asked.is_told_early());
    let early = (Stage::RequestReceived, asked.at);
    let early = event(&asked, None, None, AuditLevel::Request, early).unwrap();
    assert_eq!(
        (&early["stage"], &early["responseStatus"]),
        (&json!("RequestReceived"), &json!(null))
    );
    assert_eq!(early["objectRef"]["subresource"], "exec");
    let said = Said { reason: "Forbidden", message: "pods \"web-1\" is forbidden".into() };
    let told = Told { code: 403, said: Some(said), decision: Some(Decision::default()) };
    let event = event(&asked, None, Some(&told), AuditLevel::Request, END).unwrap();
    check(
        &Some(json!([event["responseStatus"], event["annotations"]])),
        expect![[r#"
            [
              {
                "code": 403,
                "message": "pods \"web-1\" is forbidden",
                "metadata": {},
                "reason": "Forbidden",
                "status": "Failure"
              },
              {
                "authorization.k8s.io/decision": "forbid",
                "authorization.k8s.io/reason": ""
              }
            ]"#]],
    );
}

#[test]
fn what_happens_all_the_time_and_changes_nothing_is_not_written() {
    for (method, uri) in [
        ("GET", "/readyz?verbose"),
        ("GET", "/livez/ping"),
        ("GET", "/version"),
        ("POST", "/api/v1/namespaces/a/events"),
        ("PATCH", "/apis/events.k8s.io/v1/namespaces/a/events/x"),
    ] {
        let event = event(&asked(method, uri), None, Some(&told(200)), AuditLevel::Request, END);
        assert_eq!(event, None, "{method} {uri}");
    }
    let hook = event(&asked("POST", "/hooks/git"), None, None, AuditLevel::Metadata, END);
    assert!(hook.is_some());
}

#[test]
fn bodies_are_written_when_asked_for_and_never_with_credentials() {
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n1"}});
    let pods = asked("POST", "/api/v1/namespaces/a/pods");
    let of = |asked: &Asked, body: &Value, level| {
        let said = Said { reason: "Invalid", message: format!("{CANARY} is invalid") };
        let told = Told { code: 422, said: Some(said), decision: None };
        event(asked, Some(&sent(body)), Some(&told), level, END).unwrap()
    };
    let written = of(&pods, &pod, AuditLevel::Request);
    assert_eq!((&written["requestObject"], &written["level"]), (&pod, &json!("Request")));
    assert_eq!(written["objectRef"]["name"], "p");
    let short = of(&pods, &pod, AuditLevel::Metadata);
    assert_eq!((&short["requestObject"], &short["level"]), (&json!(null), &json!("Metadata")));
    let secret = json!({"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": CANARY}});
    let config = json!({"kind": "ConfigMap", "data": {"token": CANARY}});
    let review = json!({"kind": "TokenReview", "spec": {"token": CANARY}});
    let patch = json!({"data": {"p": CANARY}});
    let list = json!({"kind": "List", "items": [secret.clone()]});
    for (method, uri, body) in [
        ("POST", "/api/v1/namespaces/a/secrets", &secret),
        ("PATCH", "/api/v1/namespaces/a/secrets/s", &patch),
        ("PUT", "/api/v1/namespaces/a/configmaps/s", &config),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review),
        ("POST", "/api/v1/namespaces/a/serviceaccounts/x/token", &patch),
        ("POST", "/api/v1/namespaces/a/pods", &secret),
        ("POST", "/api/v1/namespaces/a/pods", &list),
    ] {
        let event = of(&asked(method, uri), body, AuditLevel::Request);
        assert!(!event.to_string().contains(CANARY), "{method} {uri}: {event}");
        assert_eq!(event["level"], "Metadata", "{method} {uri}");
    }
    let broken = Sent { media: "application/json".into(), bytes: CANARY.into() };
    let told =
        Told { code: 422, said: Some(Said { reason: "", message: CANARY.into() }), decision: None };
    let event = event(&pods, Some(&broken), Some(&told), AuditLevel::Request, END).unwrap();
    assert!(!event.to_string().contains(CANARY), "what cannot be read may be anything");
}

#[test]
fn what_is_long_is_cut_and_what_is_secret_is_hidden() {
    let long = json!({"kind": "Pod", "spec": {"x": "y".repeat(70_000)}});
    let pods = asked("POST", "/api/v1/namespaces/a/pods");
    let cut = event(&pods, Some(&sent(&long)), None, AuditLevel::Request, END).unwrap();
    assert_eq!(cut["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!(cut["requestObject"], json!(null));
    let mut many = asked("GET", &format!("/api/v1/pods?labelSelector={}", "ä".repeat(9000)));
    many.agent = "a".repeat(2000);
    let cut = event(&many, None, None, AuditLevel::Request, END).unwrap();
    for name in ["requestURI", "userAgent"] {
        assert!(cut[name].as_str().unwrap().ends_with("...TRUNCATED"), "{name}");
    }
    for (uri, shown) in [
        ("/x?a=1&token=abc&b=2", "/x?a=1&token=REDACTED&b=2"),
        ("/x?access%5Ftoken=abc", "/x?access%5Ftoken=REDACTED"),
        (
            "/x?Api-Key=abc&continue=abc&X-Amz-Signature=s",
            "/x?Api-Key=REDACTED&continue=abc&X-Amz-Signature=REDACTED",
        ),
        ("/x?token", "/x?token"),
    ] {
        let event = event(&asked("GET", uri), None, None, AuditLevel::Metadata, END).unwrap();
        assert_eq!(event["requestURI"], shown);
    }
}

fn settings(file: &Path) -> AuditSettings {
    let level = AuditLevel::Request;
    AuditSettings { file: file.to_owned(), level, file_bytes_max: 1 << 20, files_kept: 2 }
}

fn request(method: &str, uri: &str, body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    request = request.header("content-type", "application/json");
    let mut request = request.body(Body::from(body.to_string())).unwrap();
    request.extensions_mut().insert(admin());
    request
}

/// The lines of a log, once there are so many.
async fn lines(file: &Path, count: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let text = std::fs::read_to_string(file).unwrap();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{count} lines in:\n{text}");
        tokio::task::yield_now().await;
    }
}

/// What a secret holds is nowhere in the log, whatever is done with it; the log says all the same
/// who did it, under the id that the answer carries.
#[tokio::test]
async fn a_log_holds_what_was_done_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.log");
    let audit = Audit::open(settings(&file)).unwrap();
    let mut cluster = Cluster::web();
    cluster.put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "shop", "annotations": { "mainstay.io/writes": "direct" },
    } }));
    let backend = Fake::audited(&cluster, audit);
    let app = routers(backend).tls;
    let secrets = "/api/v1/namespaces/shop/secrets";
    let secret = |value: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": value,
        })
    };
    let good = secret(json!({ "p": CANARY }));
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"},
    });
    let mut ids = Vec::new();
    for request in [
        request("POST", secrets, &good),
        request("POST", secrets, &secret(json!({ "p": [CANARY] }))),
        request("POST", secrets, &json!(CANARY)),
        request("GET", &format!("{secrets}/s?token={CANARY}"), &json!(null)),
        request("POST", "/api/v1/namespaces/shop/pods", &good),
        request("POST", "/api/v1/namespaces/shop/configmaps", &config),
        request("GET", "/api/v1/namespaces/shop/pods?watch=1&timeoutSeconds=1", &json!(null)),
    ] {
        let answer = app.clone().oneshot(request).await.unwrap();
        ids.push(answer.headers()["audit-id"].to_str().unwrap().to_owned());
        to_bytes(answer.into_body(), 16 << 20).await.unwrap();
    }
    let found = lines(&file, 8).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(CANARY), "{text}");
    let told: Vec<_> = found
        .iter()
        .map(|e| {
            let at = ids.iter().position(|id| *id == e["auditID"]);
            let code = &e["responseStatus"]["code"];
            format!("{at:?} {} {} {code}", e["stage"].as_str().unwrap(), e["verb"])
        })
        .collect();
    expect![[r#"
        Some(0) ResponseComplete "create" 201
        Some(1) ResponseComplete "create" 400
        Some(2) ResponseComplete "create" 400
        Some(3) ResponseComplete "get" 200
        Some(4) ResponseComplete "create" 400
        Some(5) ResponseComplete "create" 201
        Some(6) ResponseStarted "watch" 200
        Some(6) ResponseComplete "watch" 200"#]]
    .assert_eq(&told.join("\n"));
    assert_eq!(found[0]["user"]["username"], "ada");
    assert_eq!(found[0]["annotations"]["authorization.k8s.io/decision"], "allow");
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Who was turned away is written too: nobody with a wrong token, and who may not be somebody.
#[tokio::test]
async fn those_who_do_not_come_in_are_written_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.log");
    let audit = Audit::open(settings(&file)).unwrap();
    let app = routers(Fake::audited(&Cluster::web(), audit)).tls;
    let mut wrong = request("GET", "/api/v1/pods", &json!(null));
    wrong.extensions_mut().clear();
    wrong.headers_mut().insert("authorization", format!("Bearer {CANARY}").parse().unwrap());
    let eve = Peer { user: "eve".into(), groups: Vec::new() };
    let mut climbs = request("GET", "/api/v1/pods", &json!(null));
    climbs.extensions_mut().insert(eve.clone());
    climbs.headers_mut().insert("impersonate-user", "ada".parse().unwrap());
    let mut refused = request("GET", "/api/v1/secrets", &json!(null));
    refused.extensions_mut().insert(eve);
    for request in [wrong, climbs, refused] {
        app.clone().oneshot(request).await.unwrap();
    }
    let told: Vec<_> = lines(&file, 3)
        .await
        .iter()
        .map(|e| {
            let decision = &e["annotations"]["authorization.k8s.io/decision"];
            format!("{} {} {decision}", e["user"]["username"], e["responseStatus"]["code"])
        })
        .collect();
    assert_eq!(told, [r#""" 401 null"#, r#""eve" 403 null"#, r#""eve" 403 "forbid""#]);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(CANARY));
}

/// A disk without room stops nobody, and nobody has to guess that lines are missing.
#[tokio::test]
async fn a_file_that_takes_nothing_is_told_and_blocks_nobody() {
    let audit = Audit::open(settings(Path::new("/dev/full"))).unwrap();
    let app = routers(Fake::audited(&Cluster::web(), audit)).tls;
    let ask = |uri: &'static str| {
        let app = app.clone();
        async move {
            let answer = app.oneshot(request("GET", uri, &json!(null)));
            let answer = tokio::time::timeout(SOON, answer).await.expect("blocked").unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let body = to_bytes(answer.into_body(), 16 << 20).await.unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        }
    };
    for _ in 0..2000 {
        ask("/api").await;
    }
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let text = ask("/metrics").await;
        let lost = text
            .lines()
            .find_map(|line| line.strip_prefix(r#"apiserver_audit_error_total{plugin="log"} "#));
        if lost.and_then(|lost| lost.parse::<f64>().ok()).is_some_and(|lost| lost >= 2000.0) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{lost:?}");
    }
}

/// A writer that hangs fills the queue; then requests wait once, shortly, and go on.
#[tokio::test]
async fn a_queue_that_nobody_empties_delays_one_request_shortly() {
    let (audit, _stuck) = Audit::stuck();
    for n in 0..4 {
        audit.write(&json!(n)).await;
    }
    let values: Vec<_> = audit.samples().iter().map(|sample| sample.value).collect();
    assert_eq!(values, [3.0, 4.0], "lost, and all");
}

#[test]
fn a_file_is_put_aside_when_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.log");
    let audit = Audit::open(AuditSettings { file_bytes_max: 64, ..settings(&file) }).unwrap();
    for n in 0..40 {
        audit.offer(&json!({ "n": n, "text": "0123456789" }));
        // One at a time, so that each is a batch of its own.
        while !std::fs::read_to_string(&file).unwrap_or_default().contains(&format!("\"n\":{n},")) {
            std::thread::yield_now();
        }
    }
    let mut names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
    for name in names {
        let text = std::fs::read_to_string(dir.path().join(&name)).unwrap();
        assert!(text.len() <= 64 && text.ends_with('\n'), "{name}: {text}");
    }
    assert!(Audit::open(settings(&dir.path().join("no/such/folder"))).is_err());
}

/// A handler that panics is answered for, and written.
#[tokio::test]
async fn a_panic_is_an_answer_and_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("audit.log");
    let audit = Audit::open(settings(&file)).unwrap();
    let app = routers(Fake::audited(&Cluster::web(), audit)).tls;
    let asked = request("GET", "/mainstay/v1/plan?revision=panic", &json!(null));
    let answer = app.oneshot(asked).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let found = lines(&file, 1).await;
    assert_eq!(
        (&found[0]["stage"], &found[0]["responseStatus"]["code"]),
        (&json!("Panic"), &json!(500))
    );
}
