//! The agent's own TLS port: logs, streams and use of its containers, for servers.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::StreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use serde::Deserialize;
use tokio::{net::TcpListener, sync::Semaphore, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    driver::PodsHandle,
    pods::Missing,
    rates::Rates,
    runtime::{LogOptions, Runtime},
    streams,
};
use crate::{
    model::Timestamp,
    node::streams::{log::Filter, multiplex::Source},
    trust::{Identity, identity},
};

/// Groups that may ask here: servers, and administrators who ask a node directly.
const GROUPS: [&str; 2] = ["mainstay:servers", "system:masters"];

/// How long a peer may take for its handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How many connections are served at once.
const CONNECTIONS_MAX: usize = 256;

/// What a log request asks for; the names are the kubelet's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogQuery {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    previous: bool,
    #[serde(default)]
    timestamps: bool,
    tail_lines: Option<u64>,
    since_seconds: Option<u32>,
    since_time: Option<jiff::Timestamp>,
    limit_bytes: Option<u64>,
    stream: Option<String>,
}

/// Serves a [`router`] until `stop`.
pub(super) async fn run(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            tokio::task::yield_now().await;
            continue;
        };
        let acceptor = TlsAcceptor::from(tls.borrow().clone());
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let Ok(Ok(stream)) = timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await else {
                return tracing::debug!(event = "handshake failed", %from);
            };
            let chain = stream.get_ref().1.peer_certificates();
            let peer = chain.and_then(|c| identity(c.first()?));
            let service = TowerToHyperService::new(router.layer(Extension(peer)));
            let builder = auto::Builder::new(TokioExecutor::new());
            let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                result = served => if let Err(error) = result {
                    tracing::debug!(event = "http ended", %from, %error);
                }
            }
        });
    }
}

/// What is served to whoever may ask.
pub(super) fn router<R: Runtime>(pods: PodsHandle<R>, rates: Rates) -> Router {
    let measure = move || {
        let rates = rates.clone();
        async move { Json(rates.measure().await) }
    };
    Router::new()
        .route("/usage", get(measure))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::<R>))
        .with_state(pods.clone())
        .merge(streams::router(pods))
        .layer(middleware::from_fn(servers_only))
}

async fn servers_only(
    Extension(peer): Extension<Option<Identity>>,
    request: Request,
    next: Next,
) -> Response {
    let trusted = |p: &Identity| p.groups.iter().any(|g| GROUPS.contains(&g.as_str()));
    match peer.as_ref().is_some_and(trusted) {
        true => next.run(request).await,
        false => (StatusCode::FORBIDDEN, "a node is asked through a server").into_response(),
    }
}

async fn logs<R: Runtime>(
    State(pods): State<PodsHandle<R>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let options = query.options(pods.runtime().now());
    match pods.logs(&namespace, &pod, Some(&container), &options).await {
        Ok(stream) => Body::from_stream(stream.map(|part| part.map_err(std::io::Error::other)))
            .into_response(),
        Err(why @ Missing::Pod(_)) => (StatusCode::NOT_FOUND, why.to_string()).into_response(),
        Err(why @ Missing::Part(_)) => (StatusCode::BAD_REQUEST, why.to_string()).into_response(),
    }
}

impl LogQuery {
    fn options(&self, now: Timestamp) -> LogOptions {
        let seconds = |n| Timestamp(now.0.saturating_sub(i64::from(n) * 1000));
        let since = self.since_time.map(|time| Timestamp(time.as_millisecond()));
        let filter = Filter {
            since: since.or(self.since_seconds.map(seconds)),
            timestamps: self.timestamps,
            only: match self.stream.as_deref() {
                Some("Stdout") => Some(Source::Stdout),
                Some("Stderr") => Some(Source::Stderr),
                _ => None,
            },
            limit_bytes: self.limit_bytes,
        };
        LogOptions { follow: self.follow, tail: self.tail_lines, previous: self.previous, filter }
    }
}
