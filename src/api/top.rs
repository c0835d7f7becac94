//! What nodes and pods use right now: `metrics.k8s.io`, as `kubectl top` asks for it.
//!
//! In: the View, and what the agents answer that are asked. Out: lists and single objects, as
//! metrics-server answers them (github.com/kubernetes/metrics, v1beta1). Nothing is stored: each
//! request asks the nodes that it is about, at most [`NODES_TOGETHER`] at once. A node that does
//! not answer is left out, as one is that metrics-server did not reach.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{StatusCode, Uri},
    response::Response,
    routing::get,
};
use futures_util::{StreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use serde::Serialize;
use serde_json::json;

use super::{Api, Failure, failure::Details, resources::Query};
use crate::{
    kinds::{ContainerMetrics, METRICS, NodeMetrics, PodMetrics},
    model::{
        Key, NodeName, Object, Selector, Timestamp,
        session::{ContainerUse, NodeUsage, Use},
    },
};

/// The group and version.
const GROUP: &str = "metrics.k8s.io";

/// Most nodes asked at once.
const NODES_TOGETHER: usize = 16;

/// Most bytes of a node's answer: 110 pods have some 30 KiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What is served below `/apis/metrics.k8s.io/v1beta1`.
pub(super) fn routes() -> Router<Api> {
    let at = |path: &str| format!("/apis/{METRICS}/{path}");
    Router::new()
        .route(&at("nodes"), get(nodes))
        .route(&at("nodes/{name}"), get(node))
        .route(&at("pods"), get(all_pods))
        .route(&at("namespaces/{namespace}/pods"), get(pods))
        .route(&at("namespaces/{namespace}/pods/{name}"), get(pod))
}

async fn nodes(State(api): State<Api>, uri: Uri) -> Result<Response, Failure> {
    let wanted = Wanted::of(&uri)?;
    let view = api.view();
    let all = view.list::<Node>(None).map(|(object, _)| object);
    let all: Vec<Object> = all.filter(|object| wanted.takes(object)).cloned().collect();
    let names = all.iter().map(|object| NodeName::new(&object.key().name)).collect();
    let told = ask(&api, names).await;
    let item = |object: &Object| {
        let usage = told.get(&NodeName::new(&object.key().name))?;
        Some(of_node(object, usage, api.backend.now()))
    };
    Ok(list("NodeMetricsList", all.iter().filter_map(item).collect()))
}

async fn node(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Failure> {
    let absent = || not_found("nodemetrics", "nodes", &name);
    let view = api.view();
    let object = view.object(&Key::of::<Node>("", &name)).ok_or_else(absent)?;
    let told = ask(&api, [NodeName::new(&name)].into()).await;
    let usage = told.values().next().ok_or_else(absent)?;
    Ok(answer(&of_node(object, usage, api.backend.now())))
}

async fn all_pods(State(api): State<Api>, uri: Uri) -> Result<Response, Failure> {
    listed(&api, None, &uri).await
}

async fn pods(
    State(api): State<Api>,
    Path(namespace): Path<String>,
    uri: Uri,
) -> Result<Response, Failure> {
    listed(&api, Some(&namespace), &uri).await
}

async fn listed(api: &Api, namespace: Option<&str>, uri: &Uri) -> Result<Response, Failure> {
    let wanted = Wanted::of(uri)?;
    let view = api.view();
    let all = view.list::<Pod>(namespace).map(|(object, _)| object);
    let all: Vec<Object> = all.filter(|object| wanted.takes(object)).cloned().collect();
    let told = ask(api, all.iter().filter_map(node_of).collect()).await;
    let item = |object: &Object| of_pod(object, told.get(&node_of(object)?)?, api.backend.now());
    Ok(list("PodMetricsList", all.iter().filter_map(item).collect()))
}

async fn pod(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let absent = || not_found("podmetrics", "pods", &format!("{namespace}/{name}"));
    let view = api.view();
    let key = Key::of::<Pod>(&namespace, &name);
    let object = view.object(&key).ok_or_else(absent)?;
    let told = ask(&api, node_of(object).into_iter().collect()).await;
    let usage = told.values().next().ok_or_else(absent)?;
    let found = of_pod(object, usage, api.backend.now()).ok_or_else(absent)?;
    Ok(answer(&found))
}

/// Which objects a list is about.
struct Wanted {
    labels: Selector,
    /// Field selectors know the name and the namespace alone.
    fields: Vec<(String, bool, String)>,
}

impl Wanted {
    fn of(uri: &Uri) -> Result<Self, Failure> {
        let query = Query::of(uri)?;
        let labels = query.get("labelSelector").unwrap_or_default();
        let labels = Selector::parse(labels).map_err(|e| Failure::bad_request(e.to_string()))?;
        let mut fields = Vec::new();
        let terms = query.get("fieldSelector").unwrap_or_default();
        for term in terms.split(',').filter(|term| !term.is_empty()) {
            let (field, value) = term.split_once('=').unwrap_or((term, ""));
            let (field, equal) = field.strip_suffix('!').map_or((field, true), |f| (f, false));
            if !matches!(field, "metadata.name" | "metadata.namespace") {
                let text = format!("field label not supported: {field}");
                return Err(Failure::bad_request(text));
            }
            fields.push((field.to_owned(), equal, value.trim_start_matches('=').to_owned()));
        }
        Ok(Self { labels, fields })
    }

    fn takes(&self, object: &Object) -> bool {
        let key = object.key();
        let field = |name: &str| match name {
            "metadata.name" => key.name.as_str(),
            _ => key.namespace.as_str(),
        };
        self.labels.matches(object.meta().labels.as_ref())
            && self.fields.iter().all(|(name, equal, value)| (field(name) == value) == *equal)
    }
}

fn node_of(pod: &Object) -> Option<NodeName> {
    pod.view::<Pod>()?.spec.as_ref()?.node_name.as_deref().map(NodeName::new)
}

/// What the nodes say that answer.
async fn ask(api: &Api, nodes: BTreeSet<NodeName>) -> BTreeMap<NodeName, NodeUsage> {
    let one = |node: NodeName| async move {
        let request = Request::get("/usage").body(Body::empty()).ok()?;
        let response = api.backend.ask(node.clone(), request).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let bytes = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.ok()?;
        Some((node, serde_json::from_slice(&bytes).ok()?))
    };
    let answers = stream::iter(nodes.into_iter().map(one)).buffer_unordered(NODES_TOGETHER);
    answers.filter_map(std::future::ready).collect().await
}

fn of_node(node: &Object, usage: &NodeUsage, now: Timestamp) -> NodeMetrics {
    NodeMetrics {
        api_version: METRICS.to_owned(),
        kind: "NodeMetrics".to_owned(),
        metadata: meta(node, now),
        timestamp: usage.at.to_time(),
        window: window(usage.window_ms),
        usage: amount(&usage.node),
    }
}

/// What the containers of a pod use; `None` before any of them was measured.
fn of_pod(pod: &Object, usage: &NodeUsage, now: Timestamp) -> Option<PodMetrics> {
    let key = pod.key();
    let own = usage.containers.iter().filter(|c| key.namespace == c.namespace && key.name == c.pod);
    let one =
        |c: &ContainerUse| ContainerMetrics { name: c.container.clone(), usage: amount(&c.amount) };
    let containers: Vec<ContainerMetrics> = own.map(one).collect();
    (!containers.is_empty()).then(|| PodMetrics {
        api_version: METRICS.to_owned(),
        kind: "PodMetrics".to_owned(),
        metadata: meta(pod, now),
        timestamp: usage.at.to_time(),
        window: window(usage.window_ms),
        containers,
    })
}

/// What metrics-server keeps of what it measured.
fn meta(of: &Object, now: Timestamp) -> ObjectMeta {
    let key = of.key();
    ObjectMeta {
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()).filter(|namespace| !namespace.is_empty()),
        labels: of.meta().labels.clone(),
        creation_timestamp: Some(now.to_time()),
        ..ObjectMeta::default()
    }
}

/// `1.003s`, as Go writes a time.
fn window(ms: u64) -> String {
    let (minutes, rest) = (ms / 60_000, ms % 60_000);
    let seconds = format!("{}s", rest as f64 / 1000.0);
    if minutes == 0 { seconds } else { format!("{minutes}m{seconds}") }
}

fn amount(amount: &Use) -> BTreeMap<String, Quantity> {
    let cpu = format!("{}n", amount.cpu_nano);
    let memory = format!("{}Ki", amount.memory_bytes / 1024);
    [("cpu", cpu), ("memory", memory)].map(|(name, text)| (name.to_owned(), Quantity(text))).into()
}

fn list<T: Serialize>(kind: &str, items: Vec<T>) -> Response {
    answer(&json!({ "kind": kind, "apiVersion": METRICS, "metadata": {}, "items": items }))
}

fn answer<T: Serialize>(value: &T) -> Response {
    // As a Value, so that fields have the order of every other answer.
    let mut response = Response::new(Body::from(format!("{}\n", json!(value))));
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, json);
    response
}

fn not_found(singular: &str, plural: &str, name: &str) -> Failure {
    Failure::not_found(format!("{singular}.{GROUP} {name:?} not found")).with(Details {
        name: name.to_owned(),
        group: GROUP.to_owned(),
        kind: plural.to_owned(),
        ..Details::default()
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::Value;

    use super::*;

    fn usage() -> NodeUsage {
        let amount = Use { cpu_nano: 12_345_678, memory_bytes: 3 << 20 };
        let of = |pod: &str, container: &str| ContainerUse {
            namespace: "shop".into(),
            pod: pod.into(),
            container: container.into(),
            amount,
        };
        NodeUsage {
            at: Timestamp(1_790_000_000_000),
            window_ms: 61_500,
            node: amount,
            containers: vec![of("web", "a"), of("web-2", "a"), of("web", "b")],
        }
    }

    fn object(kind: &str, name: &str) -> Object {
        let namespace = if kind == "Pod" { json!("shop") } else { Value::Null };
        let value = json!({ "apiVersion": "v1", "kind": kind, "metadata": {
            "name": name, "namespace": namespace, "labels": { "app": "web" },
        } });
        Object::from_value(&value).unwrap()
    }

    #[test]
    fn a_pod_is_its_own_containers() {
        let now = Timestamp(1_790_000_001_000);
        let found = of_pod(&object("Pod", "web"), &usage(), now).unwrap();
        expect![[r#"{"apiVersion":"metrics.k8s.io/v1beta1","containers":[{"name":"a","usage":{"cpu":"12345678n","memory":"3072Ki"}},{"name":"b","usage":{"cpu":"12345678n","memory":"3072Ki"}}],"kind":"PodMetrics","metadata":{"creationTimestamp":"2026-09-21T14:13:21Z","labels":{"app":"web"},"name":"web","namespace":"shop"},"timestamp":"2026-09-21T14:13:20Z","window":"1m1.5s"}"#]]
        .assert_eq(&json!(found).to_string());
        assert_eq!(of_pod(&object("Pod", "new"), &usage(), now), None);
        let node = of_node(&object("Node", "n1"), &usage(), now);
        assert_eq!(json!(node.usage), json!({ "cpu": "12345678n", "memory": "3072Ki" }));
    }

    #[test]
    fn lists_are_narrowed() {
        let takes = |query: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            Wanted::of(&uri).map(|wanted| wanted.takes(&object("Pod", "web")))
        };
        for (query, expected) in [
            ("", true),
            ("labelSelector=app%3Dweb", true),
            ("labelSelector=app%3Ddb", false),
            ("fieldSelector=metadata.name%3Dweb,metadata.namespace!%3Dhome", true),
            ("fieldSelector=metadata.name%3D%3Ddb", false),
        ] {
            assert_eq!(takes(query).ok(), Some(expected), "{query}");
        }
        assert!(takes("fieldSelector=spec.nodeName%3Dn1").is_err());
        assert!(takes("labelSelector=%3D%3D").is_err());
    }
}
