//! The agent's own TLS port: logs of its containers, for servers.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Query, State},
    http::StatusCode,
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
    runtime::{LogOptions, Runtime},
};
use crate::trust::{Identity, identity};

/// Groups that may read logs here: servers, and administrators who ask a node directly.
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
    since: Option<i64>,
}

/// Serves logs until `stop`.
pub(super) async fn run<R: Runtime>(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    pods: PodsHandle<R>,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::<R>))
        .with_state(pods);
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
            let served = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                result = served => if let Err(error) = result {
                    tracing::debug!(event = "http ended", %from, %error);
                }
            }
        });
    }
}

async fn logs<R: Runtime>(
    State(pods): State<PodsHandle<R>>,
    Extension(peer): Extension<Option<Identity>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let trusted = |p: &Identity| p.groups.iter().any(|g| GROUPS.contains(&g.as_str()));
    if !peer.as_ref().is_some_and(trusted) {
        return (StatusCode::FORBIDDEN, "logs are read through a server").into_response();
    }
    let options = LogOptions {
        follow: query.follow,
        tail: query.tail_lines,
        since: query.since.map(crate::model::Timestamp),
        timestamps: query.timestamps,
        previous: query.previous,
    };
    match pods.logs(&namespace, &pod, Some(&container), &options).await {
        Ok(stream) => Body::from_stream(stream.map(|part| part.map_err(std::io::Error::other)))
            .into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}
