//! HTTP to pods, services and nodes through a server.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use hyper::client::conn::http1;

use super::{
    find::{self, Destination},
    relay,
};
use crate::{
    api::{Api, Failure, ResourceInfo, gate::Held},
    model::NodeName,
};

/// What an agent is asked for that shall open a plain connection.
const DIAL: &str = "mainstay-dial";

/// Most bytes of an agent's words when it cannot connect.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Headers that speak of one connection only (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Chooses among the pods of services, one after the other.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// `pods/{[scheme:]name[:port]}/proxy/…`
pub(super) async fn to_pod(
    api: &Api,
    resource: &ResourceInfo,
    request: Request,
) -> Result<Response, Failure> {
    let destination = find::pod_port(&api.view(), &resource.namespace, &resource.name)?;
    exchange(api, destination, request).await
}

/// `services/{[scheme:]name[:port]}/proxy/…`
pub(super) async fn to_service(
    api: &Api,
    resource: &ResourceInfo,
    request: Request,
) -> Result<Response, Failure> {
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let ResourceInfo { namespace, name, .. } = resource;
    let destination = find::service_port(&api.view(), namespace, name, turn)?;
    exchange(api, destination, request).await
}

/// `nodes/{name}/proxy/…`: the agent itself answers.
pub(super) async fn to_node(
    api: &Api,
    resource: &ResourceInfo,
    mut request: Request,
) -> Result<Response, Failure> {
    let path = match rest(&request) {
        Ok(path) => path,
        Err(redirect) => return Ok(*redirect),
    };
    let held = Held::of(&request);
    let node = NodeName::new(resource.name.split(':').next().unwrap_or_default());
    let upgraded = hyper::upgrade::on(&mut request);
    let asked = outgoing(request, &path, None)?;
    let mut answer = api.backend.ask(node, asked).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        relay::join(upgraded, hyper::upgrade::on(&mut answer), held);
        return Ok(answer.map(|_| Body::empty()));
    }
    Ok(incoming(answer))
}

/// What is asked of the pod, path and query as they were sent, so that what is escaped stays so. A
/// bare `…/proxy` is sent to `…/proxy/`, or a page's relative links would lead elsewhere.
fn rest(request: &Request) -> Result<String, Box<Response>> {
    let uri = request.uri();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // `/api/v1/nodes/{name}/proxy`, `/api/v1/namespaces/{namespace}/pods/{name}/proxy`
    let words = if uri.path().starts_with("/api/v1/nodes/") { 7 } else { 9 };
    match uri.path().splitn(words, '/').nth(words - 1) {
        Some(rest) => Ok(format!("/{rest}{query}")),
        None if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let to = [(header::LOCATION, format!("{}/{query}", uri.path()))];
            Err(Box::new((StatusCode::MOVED_PERMANENTLY, to).into_response()))
        }
        None => Ok(format!("/{query}")),
    }
}

/// A path for the agent or the pod.
pub(super) fn uri(path: &str) -> Result<Uri, Failure> {
    path.parse().map_err(|e| Failure::bad_request(format!("{path:?} is no path: {e}")))
}

/// Sends the request over a connection to the pod, and gives its answer.
async fn exchange(api: &Api, to: Destination, mut request: Request) -> Result<Response, Failure> {
    let path = match rest(&request) {
        Ok(path) => path,
        Err(redirect) => return Ok(*redirect),
    };
    let held = Held::of(&request);
    let unreachable = |e: &dyn std::fmt::Display| {
        Failure::unavailable(format!("error trying to reach service: {e}"))
    };
    let connection = dial(api, &to).await?;
    let (mut sender, driver) = http1::handshake(connection).await.map_err(|e| unreachable(&e))?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(event = "proxied connection ended", %error);
        }
    });
    let upgraded = hyper::upgrade::on(&mut request);
    let host = format!("{}:{}", to.pod, to.port);
    let asked = outgoing(request, &path, Some(&host))?;
    let mut answer = sender.send_request(asked).await.map_err(|e| unreachable(&e))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        relay::join(upgraded, hyper::upgrade::on(&mut answer), held);
        return Ok(answer.map(|_| Body::empty()));
    }
    let answer = answer.map(|body| {
        // The sender lives as long as the body, or the connection would close behind the head.
        let bytes = Body::new(body).into_data_stream().map(move |part| {
            let _open = &sender;
            part
        });
        Body::from_stream(bytes)
    });
    Ok(incoming(answer))
}

/// A connection to a port of a pod, opened by its agent.
async fn dial(api: &Api, to: &Destination) -> Result<hyper::upgrade::Upgraded, Failure> {
    let Destination { node, namespace, pod, port, tls } = to;
    let mut asked = Request::new(Body::empty());
    *asked.uri_mut() = uri(&format!("/dial/{namespace}/{pod}/{port}?tls={tls}"))?;
    asked.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    asked.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(DIAL));
    let mut answer = api.backend.ask(node.clone(), asked).await?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(&mut answer).await;
        return upgraded.map_err(|e| Failure::unavailable(format!("node {node}: {e}")));
    }
    let said = to_bytes(answer.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    Err(Failure::unavailable(format!("error trying to reach service: {said}")))
}

/// The request as it goes on: without what was for this server alone.
fn outgoing(request: Request, path: &str, host: Option<&str>) -> Result<Request, Failure> {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.headers.get(header::UPGRADE).cloned();
    strip(&mut parts.headers);
    // Who asks is this server's business; a pod must not learn the caller's token.
    parts.headers.remove(header::AUTHORIZATION);
    if let Some(upgrade) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, upgrade);
    }
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        parts.headers.insert(header::HOST, host);
    }
    let mut asked = Request::new(body);
    *asked.method_mut() = parts.method;
    *asked.uri_mut() = uri(path)?;
    *asked.headers_mut() = parts.headers;
    Ok(asked)
}

/// The answer as it goes back.
fn incoming(mut answer: Response) -> Response {
    strip(answer.headers_mut());
    answer
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}
