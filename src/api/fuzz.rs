//! Every decoder of requests fed with broken bytes: bodies, patches, tokens, and what stands in
//! paths, queries and headers. `MAINSTAY_FUZZ_SECONDS=60 cargo test --lib api::fuzz` takes longer.
#![allow(clippy::disallowed_methods, reason = "a test of a shell")]

#[path = "../../tests/fuzz/engine.rs"]
mod engine;

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use engine::feed;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{
    RequestInfo, codec, negotiate,
    patch::{self, Patch, Schema, managed::Writer, serverside},
    protobuf, routers,
    tests::{Fake, admin},
};
use crate::report::fixture::{Cluster, START};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle");

/// What Kubernetes' own marshaller wrote: protobuf, and the JSON of the same.
fn bodies() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let text = std::fs::read_to_string(format!("{ORACLE}/protobuf/bodies.tsv")).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let both = |line: &str| {
        let (hex, json) = line.split_once('\t').unwrap();
        (hex.as_bytes().chunks(2).map(byte).collect(), json.as_bytes().to_vec())
    };
    text.lines().map(both).unzip()
}

/// The patches of one type that Kubernetes was asked for.
fn patches(media: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("{ORACLE}/patch")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let case: Value = serde_json::from_str(&text).unwrap();
        let steps = case["steps"].as_array().into_iter().flatten();
        found.extend(steps.filter(|step| step["contentType"] == media).map(
            |step| match &step["patch"] {
                Value::String(text) => text.clone().into_bytes(),
                other => other.to_string().into_bytes(),
            },
        ));
    }
    found.sort();
    found
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } },
        "spec": {
            "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": {
                "containers": [
                    { "name": "web", "image": "web:1", "env": [{ "name": "A", "value": "1" }],
                      "ports": [{ "containerPort": 80, "protocol": "TCP" }] },
                    { "name": "side", "image": "side:1", "args": ["a", "b"] },
                ],
                "tolerations": [{ "key": "a", "operator": "Exists" }],
            } },
        },
    })
}

fn live() -> [(Value, Schema<'static>); 3] {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "m", "namespace": "shop", "finalizers": ["a/b"] },
        "data": { "a": "1", "b": "2" },
    });
    let custom = json!({
        "apiVersion": "example.org/v1", "kind": "Custom", "metadata": { "name": "c" },
        "spec": { "list": [{ "name": "a" }, 1, null], "set": { "x": 1 } },
    });
    [
        (deployment(), Schema::named("apps/v1", "Deployment")),
        (map, Schema::named("v1", "ConfigMap")),
        (custom, Schema::named("example.org/v1", "Custom")),
    ]
}

#[test]
fn json_bodies() {
    feed("json", &bodies().1, |input| {
        if let Ok(decoded) = codec::json(input) {
            let again = codec::json(decoded.value.to_string().as_bytes()).unwrap();
            assert_eq!(again.value, decoded.value);
            assert!(again.problems.is_empty(), "{:?}", again.problems);
        }
    });
}

#[test]
fn yaml_bodies() {
    let mut corpus: Vec<Vec<u8>> = patches("application/apply-patch+yaml");
    corpus.push(b"a: &a [1, yes, ~]\nb: *a\n<<: {c: 0x1f, d: 1_000}\ne: |\n  text\n".to_vec());
    corpus.push(b"a: &x {k: v}\nb: [*x, *x]\n---\nc: 2001-01-01\n".to_vec());
    feed("yaml", &corpus, |input| {
        if let Ok(decoded) = codec::yaml(input) {
            // Read twice, the same is found.
            let again = codec::yaml(input).unwrap();
            assert_eq!((again.value, again.problems), (decoded.value, decoded.problems));
        }
    });
}

#[test]
fn protobuf_bodies() {
    feed("protobuf", &bodies().0, |input| {
        if let Ok(value) = protobuf::decode(input) {
            assert!(value.is_object(), "{value}");
        }
    });
}

/// Applies what reads as a patch to each live object; a patch changes a copy only and twice the
/// same way.
fn feed_patches(name: &str, media: &str) {
    let all = live();
    feed(name, &patches(media), |input| {
        let Ok((patch, _)) = Patch::parse(input, media) else { return };
        let _said = patch.to_string();
        for (live, schema) in &all {
            let once = patch::apply(live, &patch, *schema);
            assert_eq!(once, patch::apply(live, &patch, *schema));
            if let (Patch::Merge(_), Ok(once)) = (&patch, &once) {
                assert_eq!(patch::apply(once, &patch, *schema).as_ref(), Ok(once));
            }
        }
    });
}

#[test]
fn json_patches() {
    feed_patches("json patch", "application/json-patch+json");
}

#[test]
fn merge_patches() {
    feed_patches("merge patch", "application/merge-patch+json");
}

#[test]
fn strategic_merge_patches() {
    feed_patches("strategic merge patch", "application/strategic-merge-patch+json");
}

/// What was applied and is applied again by the same manager changes nothing.
#[test]
fn applied_configurations() {
    let media = "application/apply-patch+yaml";
    let mut corpus = patches(media);
    corpus.extend(live().map(|(object, _)| object.to_string().into_bytes()));
    feed("apply", &corpus, |input| {
        let Ok((Patch::Apply(wanted), _)) = Patch::parse(input, media) else { return };
        for (live, schema) in &live() {
            let writer = Writer {
                manager: "fuzz".to_owned(),
                api_version: live["apiVersion"].as_str().unwrap_or_default().to_owned(),
                subresource: "",
                has_status: true,
                time: "2026-01-01T00:00:00Z".to_owned(),
            };
            for live in [None, Some(live)] {
                if let Ok(once) = serverside::apply(live, &wanted, *schema, &writer, true) {
                    let again = serverside::apply(Some(&once), &wanted, *schema, &writer, false);
                    assert_eq!(again.as_ref(), Ok(&once), "of {wanted}");
                }
            }
        }
    });
}

#[test]
fn accept_headers() {
    let corpus = [
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer",
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf, */*;q=0.5",
        "application/vnd.kubernetes.protobuf;stream=watch, application/yaml",
    ];
    feed("accept", &corpus.map(|text| text.as_bytes().to_vec()), |input| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
        for (list, watch) in [(false, false), (true, false), (true, true)] {
            let _one = negotiate::accepted(&headers, list, watch);
        }
        let _two = (negotiate::discovery(&headers, true), negotiate::discovery(&headers, false));
    });
}

#[test]
fn paths() {
    let corpus = [
        "GET /api/v1/namespaces/shop/pods/web-1/log?follow=true",
        "GET /apis/apps/v1/namespaces/shop/deployments/web/scale?watch=1",
        "GET /api/v1/watch/namespaces/shop/pods?watch=true&resourceVersion=5",
        "DELETE /api/v1/nodes/n1/proxy/a/b/../c?x=%zz",
    ];
    feed("paths", &corpus.map(|text| text.as_bytes().to_vec()), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let (method, rest) = text.split_once(' ').unwrap_or(("GET", text));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let _info = RequestInfo::of(method, path, query);
    });
}

/// A server that takes every write, and a thread's worth of runtime to ask it.
struct Asked {
    backend: Arc<Fake>,
    runtime: tokio::runtime::Runtime,
}

impl Asked {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { backend: Fake::direct(&Cluster::web()), runtime }
    }

    /// The whole way of a request; the status of its answer, which is read to its end.
    fn ask(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let tls = routers(self.backend.clone()).tls;
        self.runtime.block_on(async {
            let response = tls.oneshot(request).await.unwrap();
            let status = response.status();
            (status, axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap())
        })
    }

    fn as_admin(&self, method: &str, target: &str, media: &str, body: &[u8]) -> StatusCode {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::CONTENT_TYPE, media)
            .body(Body::from(body.to_vec()));
        // What is no URL does not reach a server.
        let Ok(mut request) = request else { return StatusCode::BAD_REQUEST };
        request.extensions_mut().insert(admin());
        let (status, text) = self.ask(request);
        let said = String::from_utf8_lossy(&text);
        // A version that is yet to come is waited for, as Kubernetes answers it.
        let in_time = !said.contains("ResourceVersionTooLarge");
        assert!(!(status.is_server_error() && in_time), "{method} {target}: {status} {said}");
        status
    }
}

/// Selectors, continue tokens, resource versions and the other words of a list's query.
#[test]
fn queries() {
    let token = BASE64_URL_SAFE_NO_PAD
        .encode(r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"shop/web\u0000"}"#.as_bytes());
    let corpus = [
        "labelSelector=app%3Dweb%2Ctier%20in%20(a%2Cb)&limit=500".to_owned(),
        "fieldSelector=metadata.name%3Dweb%2Cspec.nodeName!%3Dn1".to_owned(),
        "resourceVersion=5&resourceVersionMatch=NotOlderThan&limit=1".to_owned(),
        "resourceVersion=0&timeoutSeconds=3&pretty=true".to_owned(),
        format!("limit=1&continue={token}"),
    ];
    let asked = Asked::new();
    feed("queries", &corpus.map(String::into_bytes), |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        // A watch has no end that could be waited for.
        if text.contains("watch") || text.contains("sendInitialEvents") {
            return;
        }
        let escaped: String = text.chars().filter(|c| c.is_ascii_graphic()).collect();
        asked.as_admin("GET", &format!("/api/v1/namespaces/shop/pods?{escaped}"), "", &[]);
        // The token's own text, broken.
        let token = BASE64_URL_SAFE_NO_PAD.encode(input);
        asked.as_admin("GET", &format!("/api/v1/pods?limit=1&continue={token}"), "", &[]);
    });
}

/// The whole way of a body: read, defaulted, checked and, where that is well, stored.
#[test]
fn writes() {
    let (binary, text) = bodies();
    let mut corpus: Vec<Vec<u8>> = binary.into_iter().chain(text).collect();
    corpus.push(deployment().to_string().into_bytes());
    feed("writes", &corpus, |input| {
        // What one input stored is not there for the next.
        let asked = Asked::new();
        let media = match input.starts_with(b"k8s\0") {
            true => "application/vnd.kubernetes.protobuf",
            false => "application/json",
        };
        for path in [
            "/api/v1/namespaces/shop/configmaps",
            "/api/v1/namespaces/shop/pods",
            "/apis/apps/v1/namespaces/shop/deployments",
            "/api/v1/namespaces/shop/services",
        ] {
            asked.as_admin("POST", path, media, input);
        }
    });
}

/// No text is a token that was not signed, and no signed text breaks what reads it.
#[test]
fn tokens() {
    let asked = Asked::new();
    let now = START / 1000;
    let claims = json!({
        "aud": ["https://kubernetes.default.svc"], "exp": now + 3600, "iat": now, "nbf": now,
        "iss": "https://kubernetes.default.svc", "jti": "00000000-0000-4000-8000-000000000000",
        "kubernetes.io": { "namespace": "shop", "serviceaccount": { "name": "web", "uid": "1" } },
        "sub": "system:serviceaccount:shop:web",
    });
    let claims = claims.to_string().into_bytes();
    let signed = asked.backend.token_key.sign(&claims).unwrap().into_bytes();
    let known = [signed.clone(), b"abcdef.0123456789abcdef".to_vec(), claims];
    feed("tokens", &known, |input| {
        let bearer = |token: &[u8]| {
            let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat()).ok()?;
            let request = Request::builder().uri("/api/v1/pods").header("authorization", value);
            Some(asked.ask(request.body(Body::empty()).unwrap()).0)
        };
        // This account was never made, so that nobody may come in with it either.
        assert!(!bearer(input).is_some_and(|status| status.is_success()));
        let forged = asked.backend.token_key.sign(input).unwrap();
        assert!(!bearer(forged.as_bytes()).is_some_and(|status| status.is_success()));
    });
}
