//! One TLS port for everything: HTTP, agents and other servers, told apart by ALPN.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{dispatch::Dispatch, machine::StateMachine, moving::Moving};
use crate::{
    api::Peer,
    raft,
    trust::{self, ALPN_AGENT, ALPN_RAFT, Identity},
};

/// How long a peer may take for its handshake. An unauthenticated peer costs one task and one
/// buffer until then.
const HANDSHAKE_SECONDS_MAX: u64 = 10;

/// How many connections are served at once: a few hundred agents, as many watches, and headroom.
/// Further ones wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 8192;

/// How long a peer may take nothing of what is written to it. A watcher that does not read holds a
/// connection and nothing else; after this it holds nothing.
const STALL_SECONDS_MAX: u64 = 60;

/// Who serves what comes in.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) http: Router,
    pub(super) agents: Dispatch,
    pub(super) servers: raft::Node<StateMachine>,
}

/// Accepts connections until `stop`. A changed TLS configuration (a renewed certificate) counts for
/// later ones.
pub(super) async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    doors: Doors,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let acceptor = TlsAcceptor::from(tls.borrow().clone());
                tokio::spawn(connection(stream, from, acceptor, doors.clone(), stop.clone(), slot));
            }
            // Out of file descriptors, or a peer that gave up: neither ends the listener.
            Err(error) => {
                tracing::warn!(event = "accept failed", %error);
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    from: SocketAddr,
    acceptor: TlsAcceptor,
    doors: Doors,
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(event = "nodelay", %from, %error);
    }
    let limit = Duration::from_secs(HANDSHAKE_SECONDS_MAX);
    let stream = match tokio::time::timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(event = "handshake failed", %from, %error),
        Err(_) => return tracing::debug!(event = "handshake too slow", %from),
    };
    let (alpn, peer) = facts(&stream);
    let served = async {
        match alpn.as_deref() {
            Some(ALPN_AGENT) => agent(doors, stream, peer, from).await,
            Some(ALPN_RAFT) => server(doors, stream, peer, from).await,
            _ => http(doors.http, stream, peer, from).await,
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = served => {}
    }
}

fn facts(stream: &TlsStream<TcpStream>) -> (Option<Vec<u8>>, Option<Identity>) {
    let connection = stream.get_ref().1;
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    (connection.alpn_protocol().map(<[u8]>::to_vec), certificate.and_then(trust::identity))
}

async fn agent(
    doors: Doors,
    stream: TlsStream<TcpStream>,
    peer: Option<Identity>,
    from: SocketAddr,
) {
    if let Err(error) = doors.agents.serve(stream, peer).await {
        tracing::info!(event = "session ended", %from, error = %chain(&error));
    }
}

async fn server(
    doors: Doors,
    stream: TlsStream<TcpStream>,
    peer: Option<Identity>,
    from: SocketAddr,
) {
    let trusted = |peer: &Identity| peer.groups.iter().any(|g| g == super::SERVERS_GROUP);
    if !peer.as_ref().is_some_and(trusted) {
        return tracing::warn!(event = "log traffic refused", %from, ?peer);
    }
    if let Err(error) = doors.servers.serve(stream).await {
        tracing::debug!(event = "log traffic ended", %from, %error);
    }
}

async fn http(
    router: Router,
    stream: TlsStream<TcpStream>,
    peer: Option<Identity>,
    from: SocketAddr,
) {
    let peer = peer.map(|identity| Peer { user: identity.user, groups: identity.groups });
    let service = tower_layer(router, peer, from);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(hyper_util::rt::TokioTimer::new());
    builder.http2().timer(hyper_util::rt::TokioTimer::new());
    let stream = Moving::new(stream, Duration::from_secs(STALL_SECONDS_MAX));
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        tracing::debug!(event = "http ended", %from, %error);
    }
}

/// The router with the peer's identity and address put into every request.
fn tower_layer(
    router: Router,
    peer: Option<Peer>,
    from: SocketAddr,
) -> TowerToHyperService<Router> {
    let router = router.layer(axum::middleware::from_fn(
        move |mut request: Request, next: axum::middleware::Next| {
            request.extensions_mut().insert(ConnectInfo(from));
            if let Some(peer) = peer.clone() {
                request.extensions_mut().insert(peer);
            }
            next.run(request)
        },
    ));
    TowerToHyperService::new(router)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
