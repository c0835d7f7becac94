//! Who gets which token, and what each is good for.

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use expect_test::expect;
use k8s_openapi::api::authentication::v1::TokenRequestSpec;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    api::{
        Failure, Peer, User, routers,
        tests::{Fake, admin},
    },
    kinds,
    model::{Key, Timestamp},
    report::fixture::{Cluster, START},
    state::{Command, Op, View},
};

const NOW: Timestamp = Timestamp(START + 90_000);
const BOT: &str = "/api/v1/namespaces/demo/serviceaccounts/bot/token";

fn account(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": name, "namespace": "demo" } })
}

fn pod(name: &str, node: &str, account: &str) -> Value {
    let sources = json!([
        { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
        { "serviceAccountToken": { "path": "vault", "audience": "vault" } },
    ]);
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "demo" },
        "spec": {
            "nodeName": node, "serviceAccountName": account,
            "containers": [{ "name": "c", "image": "i" }],
            "volumes": [{ "name": "t", "projected": { "sources": sources } }],
        },
    })
}

/// The namespace `demo` with two accounts, and a pod of `bot` on each of two nodes.
fn demo() -> Cluster {
    let mut cluster = Cluster::empty();
    cluster.node("n2");
    cluster
        .put(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "demo" } }));
    for value in [
        account("bot"),
        account("other"),
        pod("here", "n1", "bot"),
        pod("there", "n2", "bot"),
        pod("stranger", "n1", "other"),
        json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "s", "namespace": "demo" } }),
    ] {
        cluster.put(&value);
    }
    cluster
}

fn key(kind: &str, name: &str) -> Key {
    let namespace = if kind == "Node" { "" } else { "demo" };
    Key::new(crate::model::GroupKind::new("", kind), namespace, name)
}

fn bound_to(view: &View, kind: &str, name: &str) -> Value {
    let uid = view.object(&key(kind, name)).unwrap().uid();
    json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": uid })
}

fn remove(cluster: &mut Cluster, kind: &str, name: &str) {
    let (key, uid) = (key(kind, name), String::new());
    cluster.run(Command::Write(vec![Op::Delete { key, uid, grace_seconds: Some(0) }]));
}

fn wish<T>(view: &View, name: &str, spec: &Value, with: impl Fn(&Wanted<'_>) -> T) -> T {
    let spec = TokenRequestSpec::deserialize(spec).unwrap();
    let info = kinds::lookup_resource("", "serviceaccounts").unwrap();
    with(&Wanted { view, info, key: &key("ServiceAccount", name), spec: &spec })
}

fn granted(view: &View, spec: &Value) -> Result<super::grant::Granted, Failure> {
    wish(view, "bot", spec, |wanted| grant(wanted, NOW, "id".into()))
}

fn claims(view: &View, spec: &Value) -> Value {
    json!(granted(view, spec).unwrap().claims)
}

#[test]
fn a_token_says_what_kubernetes_tokens_say() {
    let cluster = demo();
    let view = cluster.state.view();
    let begins = NOW.0 / 1000;
    let uid = |kind: &str, name: &str| view.object(&key(kind, name)).unwrap().uid().to_owned();
    let mut plain = json!({
        "aud": [ISSUER], "exp": begins + 3600, "iat": begins, "nbf": begins, "iss": ISSUER,
        "jti": "id", "sub": "system:serviceaccount:demo:bot",
        "kubernetes.io": {
            "namespace": "demo",
            "serviceaccount": { "name": "bot", "uid": uid("ServiceAccount", "bot") },
        },
    });
    assert_eq!(claims(view, &json!({})), plain);
    let pod = bound_to(view, "Pod", "here");
    let asked = json!({ "boundObjectRef": pod, "audiences": ["vault"], "expirationSeconds": 600 });
    plain["aud"] = json!(["vault"]);
    plain["exp"] = (begins + 600).into();
    plain["kubernetes.io"]["pod"] = json!({ "name": "here", "uid": uid("Pod", "here") });
    plain["kubernetes.io"]["node"] = json!({ "name": "n1", "uid": uid("Node", "n1") });
    assert_eq!(claims(view, &asked), plain);
}

/// Programs that read their token once live as long as on Kubernetes, and nobody else does.
#[test]
fn only_a_pod_that_did_not_choose_has_a_token_for_a_year() {
    let cluster = demo();
    let view = cluster.state.view();
    let year = |spec: Value| {
        let granted = granted(view, &spec).unwrap();
        let text = json!(granted.claims);
        let held = text["exp"].as_i64().unwrap() - text["iat"].as_i64().unwrap();
        (
            held,
            text["kubernetes.io"]["warnafter"].is_null(),
            granted.expires == NOW.plus_seconds(granted.seconds),
        )
    };
    let pod = bound_to(view, "Pod", "here");
    let secret = bound_to(view, "Secret", "s");
    let unaware = json!({ "boundObjectRef": pod, "expirationSeconds": 3607 });
    assert_eq!(year(unaware), (365 * 86_400, false, true));
    for chosen in [
        json!({ "expirationSeconds": 3607 }),
        json!({ "boundObjectRef": secret, "expirationSeconds": 3607 }),
        json!({ "boundObjectRef": pod, "expirationSeconds": 3607, "audiences": ["vault"] }),
        json!({ "boundObjectRef": pod, "expirationSeconds": 3607, "audiences": [ISSUER, "vault"] }),
    ] {
        assert_eq!(year(chosen.clone()), (3607, true, true), "{chosen}");
    }
}

#[test]
fn what_no_token_can_say_is_refused() {
    let cluster = demo();
    let view = cluster.state.view();
    let other = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "name": name, "uid": "x" });
    let seconds = |seconds: i64| json!({ "expirationSeconds": seconds });
    let bound = |reference: Value| json!({ "boundObjectRef": reference });
    let mut told = String::new();
    for spec in [
        seconds(599),
        seconds(-1),
        seconds((1 << 32) + 1),
        bound(other("Pod", "here")),
        bound(other("Pod", "none")),
        bound(other("Secret", "s")),
        bound(other("Node", "n1")),
        bound(other("Node", "n3")),
        bound(bound_to(view, "Pod", "stranger")),
        bound(other("ConfigMap", "x")),
        bound(json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "x" })),
    ] {
        let failure = granted(view, &spec).unwrap_err();
        told += &format!("{} {}: {}\n", failure.code.as_u16(), failure.reason, failure.message);
    }
    granted(view, &seconds(600)).unwrap();
    granted(view, &seconds(1 << 32)).unwrap();
    expect![[r#"
        422 Invalid: TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes
        422 Invalid: TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: -1: may not specify a duration less than 10 minutes
        422 Invalid: TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds
        409 Conflict: Operation cannot be fulfilled on Pod "here": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated
        404 NotFound: pods "none" not found
        409 Conflict: Operation cannot be fulfilled on Secret "s": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated
        409 Conflict: Operation cannot be fulfilled on Node "n1": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated
        404 NotFound: nodes "n3" not found
        400 BadRequest: cannot bind token for serviceaccount "bot" to pod running with different serviceaccount name.
        400 BadRequest: cannot bind token to object of type /v1, Kind=ConfigMap
        400 BadRequest: cannot bind token to object of type apps/v1, Kind=Deployment
    "#]]
    .assert_eq(&told);
    let nobody = wish(view, "nobody", &json!({}), |w| grant(w, NOW, "id".into())).unwrap_err();
    assert_eq!(nobody.message, "serviceaccounts \"nobody\" not found");
}

/// A node that somebody broke into holds the tokens of its own pods and no others.
#[test]
fn a_node_gets_tokens_of_its_own_pods_alone() {
    let cluster = demo();
    let view = cluster.state.view();
    let node =
        User::of(&Peer { user: "system:node:n1".into(), groups: vec!["system:nodes".into()] });
    let ask = |spec: Value| wish(view, "bot", &spec, |wanted| may_node(wanted, &node));
    let here = bound_to(view, "Pod", "here");
    let allowed = [
        json!({ "boundObjectRef": here }),
        json!({ "boundObjectRef": here, "audiences": [ISSUER] }),
        json!({ "boundObjectRef": here, "audiences": ["vault"] }),
    ];
    for spec in allowed {
        assert_eq!(ask(spec.clone()), Ok(()), "{spec}");
    }
    let mut without = here.clone();
    without["uid"] = Value::Null;
    let mut another = here.clone();
    another["uid"] = "x".into();
    let mut told = String::new();
    for spec in [
        json!({}),
        json!({ "boundObjectRef": bound_to(view, "Secret", "s") }),
        json!({ "boundObjectRef": without }),
        json!({ "boundObjectRef": another }),
        json!({ "boundObjectRef": bound_to(view, "Pod", "there") }),
        json!({ "boundObjectRef": here, "audiences": ["bank"] }),
        json!({ "boundObjectRef": here, "audiences": [ISSUER, "vault"] }),
    ] {
        told += &format!("{}\n", ask(spec).unwrap_err().message);
    }
    expect![[r#"
        serviceaccounts "bot" is forbidden: node requested token not bound to a pod
        serviceaccounts "bot" is forbidden: node requested token not bound to a pod
        serviceaccounts "bot" is forbidden: node requested token with a pod binding without a uid
        serviceaccounts "bot" is forbidden: the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated
        serviceaccounts "bot" is forbidden: node requested token bound to a pod scheduled on a different node
        serviceaccounts "bot" is forbidden: audience "bank" not found in pod spec volume
        serviceaccounts "bot" is forbidden: node may only request 0 or 1 audiences
    "#]]
    .assert_eq(&told);
    let people = User::of(&admin());
    assert_eq!(wish(view, "bot", &json!({}), |wanted| may_node(wanted, &people)), Ok(()));
}

fn is_good(view: &View, claims: &Value, now: Timestamp) -> bool {
    let claims: Claims = serde_json::from_value(claims.clone()).unwrap();
    holder(&claims, view, &own(), now).is_some()
}

#[test]
fn a_token_is_good_for_its_time_its_audience_and_its_account() {
    let cluster = demo();
    let view = cluster.state.view();
    let good = claims(view, &json!({}));
    let after = |seconds: i64| is_good(view, &good, NOW.plus_seconds(seconds));
    assert!(after(0) && after(3600) && after(3660) && after(-60));
    assert!(!after(3661) && !after(-61), "before its time or after");
    type Change = fn(&mut Value);
    let table: [(&str, Change); 9] = [
        ("another audience", |c| c["aud"] = json!(["vault"])),
        ("no audience", |c| c["aud"] = json!([])),
        ("another issuer", |c| c["iss"] = "https://evil.example.org".into()),
        ("an issuer that begins alike", |c| c["iss"] = format!("{ISSUER}/").into()),
        ("another subject", |c| c["sub"] = "system:serviceaccount:kube-system:root".into()),
        ("another account", |c| c["kubernetes.io"]["serviceaccount"]["name"] = "other".into()),
        ("an older account", |c| c["kubernetes.io"]["serviceaccount"]["uid"] = "x".into()),
        ("another namespace", |c| c["kubernetes.io"]["namespace"] = "shop".into()),
        ("a pod that never was", |c| {
            c["kubernetes.io"]["pod"] = json!({ "name": "here", "uid": "" });
        }),
    ];
    for (what, change) in table {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(!is_good(view, &changed, NOW), "{what}");
    }
    let mut many = good.clone();
    many["aud"] = json!(["vault", ISSUER]);
    assert!(is_good(view, &many, NOW));
}

#[test]
fn a_token_ends_with_what_it_is_bound_to() {
    for (kind, name) in
        [("Pod", "here"), ("Secret", "s"), ("Node", "n2"), ("ServiceAccount", "bot")]
    {
        let mut cluster = demo();
        let view = cluster.state.view().clone();
        let spec = match kind {
            "ServiceAccount" => json!({}),
            _ => json!({ "boundObjectRef": bound_to(&view, kind, name) }),
        };
        let token = claims(&view, &spec);
        assert!(is_good(&view, &token, NOW), "{kind}");
        let before = view.object(&key(kind, name)).unwrap().value();
        remove(&mut cluster, kind, name);
        assert!(!is_good(cluster.state.view(), &token, NOW), "{kind} is gone");
        cluster.put(&before);
        assert!(!is_good(cluster.state.view(), &token, NOW), "{kind}: a new one of that name");
    }
}

/// A pod that stops must still be able to say goodbye.
#[test]
fn a_token_outlives_the_deletion_of_its_pod_by_the_grace_period() {
    let mut cluster = demo();
    let view = cluster.state.view().clone();
    let token = claims(&view, &json!({ "boundObjectRef": bound_to(&view, "Pod", "here") }));
    let (pod, uid) = (key("Pod", "here"), String::new());
    let grace_seconds = Some(300);
    cluster.run(Command::Write(vec![Op::Delete { key: pod.clone(), uid, grace_seconds }]));
    let view = cluster.state.view();
    let ends = view.object(&pod).unwrap().meta().deletion_timestamp.clone().unwrap();
    let ends = Timestamp::from(&ends);
    assert!(is_good(view, &token, ends) && is_good(view, &token, ends.plus_seconds(60)));
    assert!(!is_good(view, &token, ends.plus_seconds(61)));
}

async fn send(
    backend: &Arc<Fake>,
    method: &str,
    path: &str,
    who: Who<'_>,
    body: Value,
) -> (StatusCode, Value) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(if body.is_null() { String::new() } else { body.to_string() }))
        .unwrap();
    match who {
        Who::Admin => drop(request.extensions_mut().insert(admin())),
        Who::Token(token) => {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
    }
    let response = routers(backend.clone()).tls.oneshot(request).await.unwrap();
    let code = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (code, serde_json::from_slice(&bytes).unwrap())
}

#[derive(Clone, Copy)]
enum Who<'a> {
    Admin,
    Token(&'a str),
}

async fn token(backend: &Arc<Fake>, spec: Value) -> String {
    let (code, made) = send(backend, "POST", BOT, Who::Admin, json!({ "spec": spec })).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    made["status"]["token"].as_str().unwrap().to_owned()
}

fn reads_pods(cluster: &mut Cluster) {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let meta = json!({ "name": "reads", "namespace": "demo" });
    cluster.put(&json!({ "apiVersion": RBAC, "kind": "Role", "metadata": meta,
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] }] }));
    cluster.put(&json!({ "apiVersion": RBAC, "kind": "RoleBinding", "metadata": meta,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads" },
        "subjects": [{ "kind": "ServiceAccount", "name": "bot", "namespace": "demo" }] }));
    // As the role that every cluster has for whoever is known.
    let meta = json!({ "name": "basic-user" });
    cluster.put(&json!({ "apiVersion": RBAC, "kind": "ClusterRole", "metadata": meta,
        "rules": [{ "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"],
            "verbs": ["create"] }] }));
    cluster.put(&json!({ "apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": meta,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "basic-user" },
        "subjects": [{ "kind": "Group", "name": "system:authenticated",
            "apiGroup": "rbac.authorization.k8s.io" }] }));
}

#[tokio::test]
async fn an_account_asks_with_the_token_it_was_given() {
    let mut cluster = demo();
    reads_pods(&mut cluster);
    let backend = Fake::direct(&cluster);
    let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": { "name": "bot" }, "spec": { "expirationSeconds": 600 } });
    let (code, mut made) = send(&backend, "POST", BOT, Who::Admin, asked).await;
    assert_eq!(code, StatusCode::CREATED);
    let token = made["status"]["token"].take();
    let token = token.as_str().unwrap();
    let expected = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "metadata": {
            "name": "bot", "namespace": "demo", "creationTimestamp": "2026-11-21T00:01:30Z",
        },
        "spec": { "audiences": [ISSUER], "boundObjectRef": null, "expirationSeconds": 600 },
        "status": { "token": null, "expirationTimestamp": "2026-11-21T00:11:30Z" },
    });
    assert_eq!(made, expected);

    let pods = "/api/v1/namespaces/demo/pods";
    let (code, list) = send(&backend, "GET", pods, Who::Token(token), Value::Null).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (StatusCode::OK, 3));
    let secrets = "/api/v1/namespaces/demo/secrets";
    let (code, refused) = send(&backend, "GET", secrets, Who::Token(token), Value::Null).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let why = r#"secrets is forbidden: User "system:serviceaccount:demo:bot" cannot list resource "secrets" in API group "" in the namespace "demo""#;
    assert_eq!(refused["message"], why);
    let (code, _) = send(&backend, "POST", BOT, Who::Token(token), json!({})).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "a token gave itself another");

    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let (code, me) = send(&backend, "POST", whoami, Who::Token(token), review).await;
    assert_eq!(code, StatusCode::CREATED, "{me}");
    let me = &me["status"]["userInfo"];
    assert_eq!(me["username"], "system:serviceaccount:demo:bot");
    let groups =
        json!(["system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated"]);
    assert_eq!(me["groups"], groups);
    let credential = &me["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(credential.as_str().unwrap().starts_with("JTI="), "{me}");

    let (key, uid) = (key("ServiceAccount", "bot"), String::new());
    backend.apply(vec![Command::Write(vec![Op::Delete { key, uid, grace_seconds: None }])]);
    let (code, _) = send(&backend, "GET", pods, Who::Token(token), Value::Null).await;
    assert_eq!(code, StatusCode::UNAUTHORIZED, "the account is gone");
}

#[tokio::test]
async fn a_token_of_another_cluster_or_for_another_audience_is_nobody() {
    let mut cluster = demo();
    reads_pods(&mut cluster);
    let (backend, other) = (Fake::direct(&cluster), Fake::direct(&cluster));
    let pods = "/api/v1/namespaces/demo/pods";
    for bad in [
        token(&other, json!({})).await,
        token(&backend, json!({ "audiences": ["vault"] })).await,
        "a.b.c".to_owned(),
        "x".repeat(1 << 20),
    ] {
        let (code, told) = send(&backend, "GET", pods, Who::Token(&bad), Value::Null).await;
        assert_eq!((code, &told["message"]), (StatusCode::UNAUTHORIZED, &json!("Unauthorized")));
    }
}

#[tokio::test]
async fn a_review_says_whose_a_token_is_and_for_whom() {
    let cluster = demo();
    let backend = Fake::direct(&cluster);
    let pod = bound_to(cluster.state.view(), "Pod", "here");
    let spec = json!({ "audiences": ["vault", "bank"], "boundObjectRef": pod });
    let token = token(&backend, spec).await;
    let review = async |audiences: Value| {
        let body = json!({ "spec": { "token": token, "audiences": audiences } });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        send(&backend, "POST", path, Who::Admin, body).await.1["status"].take()
    };
    let status = review(json!(["other", "vault"])).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    let user = &status["user"];
    assert_eq!(user["username"], "system:serviceaccount:demo:bot");
    let extra = |name: &str| user["extra"][format!("authentication.kubernetes.io/{name}")].clone();
    assert_eq!((extra("pod-name"), extra("pod-uid")), (json!(["here"]), json!([pod["uid"]])));
    assert_eq!(extra("node-name"), json!(["n1"]));
    for elsewhere in [json!(["other"]), Value::Null] {
        let status = review(elsewhere).await;
        assert_eq!(status, json!({ "user": {}, "error": "invalid bearer token" }));
    }
}

#[tokio::test]
async fn others_find_the_keys_that_verify() {
    let backend = Fake::direct(&demo());
    let path = "/.well-known/openid-configuration";
    let (code, document) = send(&backend, "GET", path, Who::Admin, Value::Null).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(document["issuer"], ISSUER);
    let at = document["jwks_uri"].as_str().unwrap().strip_prefix(ISSUER).unwrap();
    let (_, keys) = send(&backend, "GET", at, Who::Admin, Value::Null).await;
    assert_eq!(keys, json!({ "keys": [backend.token_key.public()] }));
    let token = token(&backend, json!({})).await;
    let (code, _) = send(&backend, "GET", at, Who::Token(&token), Value::Null).await;
    assert_eq!(code, StatusCode::FORBIDDEN, "the role that lets accounts in is not bound here");
}
