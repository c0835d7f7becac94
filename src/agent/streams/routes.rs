//! Which request asks for which stream, and what it hears when there is none.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Query, Request, State, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    STREAMS_MAX,
    command::Job,
    forward::{self, Target},
    spdy, tunnel, websocket,
};
use crate::{
    agent::{
        driver::PodsHandle,
        pods::{Missing, Wanted},
        runtime::Runtime,
    },
    node::streams::{
        Command,
        channels::{COMMAND_PROTOCOLS, FORWARD_PROTOCOLS, PORTS_MAX, Packing, TUNNEL_PROTOCOL},
        spdy::UPGRADE,
    },
};

/// The headers in which a SPDY client says which protocols it speaks, and is told which was chosen.
const PROTOCOL: &str = "x-stream-protocol-version";
/// The header that says which protocols would have been accepted.
const ACCEPTED: &str = "x-accepted-stream-protocol-versions";
/// What a server asks for that wants a plain connection to a port.
const DIAL: &str = "mainstay-dial";

type Refusal = (StatusCode, String);
type Pairs = Query<Vec<(String, String)>>;

struct Streams<R> {
    pods: PodsHandle<R>,
    slots: Arc<Semaphore>,
}

impl<R: Clone> Clone for Streams<R> {
    fn clone(&self) -> Self {
        Self { pods: self.pods.clone(), slots: self.slots.clone() }
    }
}

/// Serves exec, attach, port-forward and connections for proxies of this node's pods. Who may ask
/// was checked before.
pub fn router<R: Runtime>(pods: PodsHandle<R>) -> Router {
    let streams = Streams { pods, slots: Arc::new(Semaphore::new(STREAMS_MAX)) };
    Router::new()
        .route("/exec/{namespace}/{pod}/{container}", any(exec::<R>))
        .route("/attach/{namespace}/{pod}/{container}", any(attach::<R>))
        .route("/portForward/{namespace}/{pod}", any(port_forward::<R>))
        .route("/dial/{namespace}/{pod}/{port}", any(dial::<R>))
        .with_state(streams)
}

type ContainerPath = Path<(String, String, String)>;

async fn exec<R: Runtime>(
    State(streams): State<Streams<R>>,
    path: ContainerPath,
    query: Pairs,
    request: Request,
) -> Result<Response, Refusal> {
    command(streams, path, query, request, false).await
}

async fn attach<R: Runtime>(
    State(streams): State<Streams<R>>,
    path: ContainerPath,
    query: Pairs,
    request: Request,
) -> Result<Response, Refusal> {
    command(streams, path, query, request, true).await
}

async fn command<R: Runtime>(
    streams: Streams<R>,
    Path((namespace, pod, container)): ContainerPath,
    Query(query): Pairs,
    request: Request,
    attach: bool,
) -> Result<Response, Refusal> {
    let command = Command::of(&query).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))?;
    if !attach && command.command.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "you must specify a command to run".to_owned()));
    }
    let slot = streams.slot()?;
    let place = streams.pods.find(&namespace, &pod, Wanted::Running(container)).await;
    let job = Job { container: place.map_err(refusal)?.id, command, attach };
    let runtime = streams.pods.runtime().clone();
    match Asked::of(request, &COMMAND_PROTOCOLS, &spdy::COMMAND_PROTOCOLS).await? {
        Asked::WebSocket(upgrade, protocol) => Ok(upgrade.on_upgrade(move |socket| async move {
            let _slot = slot;
            websocket::command(socket, Packing::of(&protocol), &runtime, &job).await;
        })),
        Asked::Spdy(upgrade, protocol, answer) => {
            tokio::spawn(async move {
                let _slot = slot;
                if let Ok(io) = upgrade.await {
                    spdy::command(TokioIo::new(io), protocol, &runtime, &job).await;
                }
            });
            Ok(answer)
        }
    }
}

async fn port_forward<R: Runtime>(
    State(streams): State<Streams<R>>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(query): Pairs,
    request: Request,
) -> Result<Response, Refusal> {
    let slot = streams.slot()?;
    let place = streams.pods.find(&namespace, &pod, Wanted::Sandbox).await.map_err(refusal)?;
    let target = Target { sandbox: place.id, pod };
    let runtime = streams.pods.runtime().clone();
    let mut protocols = vec![TUNNEL_PROTOCOL];
    protocols.extend(FORWARD_PROTOCOLS);
    match Asked::of(request, &protocols, &spdy::FORWARD_PROTOCOLS).await? {
        Asked::WebSocket(upgrade, protocol) if protocol == TUNNEL_PROTOCOL => Ok(upgrade
            .on_upgrade(move |socket| async move {
                let _slot = slot;
                forward::spdy(tunnel::bytes_of(socket), &runtime, &target).await;
            })),
        Asked::WebSocket(upgrade, protocol) => {
            let ports = ports(&query)?;
            Ok(upgrade.on_upgrade(move |socket| async move {
                let _slot = slot;
                let packing = Packing::of(&protocol);
                websocket::forward(socket, packing, ports, &runtime, &target).await;
            }))
        }
        Asked::Spdy(upgrade, _, answer) => {
            tokio::spawn(async move {
                let _slot = slot;
                if let Ok(io) = upgrade.await {
                    forward::spdy(TokioIo::new(io), &runtime, &target).await;
                }
            });
            Ok(answer)
        }
    }
}

/// `ports=80&ports=8080`, or `ports=80,8080`.
fn ports(query: &[(String, String)]) -> Result<Vec<u16>, Refusal> {
    let words = query.iter().filter(|(name, _)| name == "ports");
    let words = words.flat_map(|(_, value)| value.split(','));
    let port = |word: &str| match word.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err((StatusCode::BAD_REQUEST, format!("invalid port {word:?}"))),
    };
    let ports = words.map(port).collect::<Result<Vec<u16>, _>>()?;
    match ports.len() {
        1..=PORTS_MAX => Ok(ports),
        0 => Err((StatusCode::BAD_REQUEST, "query parameter \"ports\" is required".to_owned())),
        n => Err((StatusCode::BAD_REQUEST, format!("{n} ports, at most {PORTS_MAX}"))),
    }
}

async fn dial<R: Runtime>(
    State(streams): State<Streams<R>>,
    Path((namespace, pod, port)): Path<(String, String, u16)>,
    Query(query): Pairs,
    mut request: Request,
) -> Result<Response, Refusal> {
    let slot = streams.slot()?;
    let place = streams.pods.find(&namespace, &pod, Wanted::Sandbox).await.map_err(refusal)?;
    let no_address = || (StatusCode::BAD_GATEWAY, format!("pod {pod:?} has no address"));
    let ip = place.ip.ok_or_else(no_address)?;
    let tls = query.iter().any(|(name, value)| name == "tls" && value == "true");
    if !asks_for(request.headers(), DIAL) {
        return Err(no_upgrade());
    }
    let wire = tunnel::dial(ip, port, tls).await.map_err(|e| (StatusCode::BAD_GATEWAY, e))?;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _slot = slot;
        if let Ok(io) = upgrade.await {
            tunnel::relay(TokioIo::new(io), wire).await;
        }
    });
    Ok(switching(DIAL, None))
}

impl<R> Streams<R> {
    fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let full = |_| {
            let text = format!("{STREAMS_MAX} streams are open on this node: close some");
            (StatusCode::TOO_MANY_REQUESTS, text)
        };
        self.slots.clone().try_acquire_owned().map_err(full)
    }
}

fn refusal(missing: Missing) -> Refusal {
    match &missing {
        Missing::Pod(_) => (StatusCode::NOT_FOUND, missing.to_string()),
        // What the kubelet says, and with which code.
        Missing::Part(_) => (StatusCode::INTERNAL_SERVER_ERROR, missing.to_string()),
    }
}

/// How a client wants its stream.
enum Asked {
    /// In messages, in this subprotocol (empty for a client that named none).
    WebSocket(WebSocketUpgrade, String),
    /// In SPDY, in this protocol; with the answer that accepts it.
    Spdy(OnUpgrade, &'static str, Response),
}

impl Asked {
    /// The best of our protocols that the client speaks.
    async fn of(
        mut request: Request,
        in_messages: &[&'static str],
        in_spdy: &[&'static str],
    ) -> Result<Self, Refusal> {
        if asks_for(request.headers(), "websocket") {
            let (mut parts, _) = request.into_parts();
            let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
            let upgrade = upgrade.map_err(|e| (e.status(), e.body_text()))?;
            let upgrade = upgrade
                .max_message_size(websocket::MESSAGE_BYTES_MAX)
                .max_frame_size(websocket::MESSAGE_BYTES_MAX)
                .protocols(in_messages.iter().copied());
            let chosen = upgrade.selected_protocol().and_then(|p| p.to_str().ok());
            let chosen = chosen.unwrap_or_default().to_owned();
            return match chosen.is_empty() && parts.headers.contains_key("sec-websocket-protocol") {
                true => Err(no_protocol(in_messages)),
                false => Ok(Self::WebSocket(upgrade, chosen)),
            };
        }
        if !asks_for(request.headers(), UPGRADE) {
            return Err(no_upgrade());
        }
        let spoken = spoken(request.headers());
        let chosen = in_spdy.iter().find(|ours| spoken.iter().any(|theirs| theirs == *ours));
        let oldest = in_spdy.last().filter(|_| spoken.is_empty());
        let chosen = *chosen.or(oldest).ok_or_else(|| no_protocol(in_spdy))?;
        let upgrade = hyper::upgrade::on(&mut request);
        Ok(Self::Spdy(upgrade, chosen, switching(UPGRADE, Some(chosen))))
    }
}

fn asks_for(headers: &HeaderMap, protocol: &str) -> bool {
    let named = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    named.is_some_and(|named| named.eq_ignore_ascii_case(protocol))
}

fn spoken(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(','));
    words.map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

fn no_upgrade() -> Refusal {
    (StatusCode::BAD_REQUEST, "Upgrade request required".to_owned())
}

fn no_protocol(ours: &[&str]) -> Refusal {
    let text = format!("unable to negotiate protocol: server accepts {}", ours.join(", "));
    (StatusCode::FORBIDDEN, text)
}

fn switching(protocol: &'static str, chosen: Option<&'static str>) -> Response {
    let mut answer = (StatusCode::SWITCHING_PROTOCOLS, Body::empty()).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    if let Some(chosen) = chosen {
        headers.insert(PROTOCOL, HeaderValue::from_static(chosen));
        headers.insert(ACCEPTED, HeaderValue::from_static(chosen));
    }
    answer
}
