//! From a server that does not lead to the one that does: a write's entry, as it is.
//!
//! A follower decides on its own View, which is as new as the write needs it (a barrier was waited
//! for), and an entry says what it assumed; so the leader only has to propose it. Only servers may
//! ask, by their certificates (docs/adr/0012-writes-through-any-server.md).

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{SERVERS_GROUP, Store};
use crate::{
    api::{Failure, Peer},
    raft::{ENTRY_BYTES_MAX, Member},
    state::Outcome,
};

/// Where servers propose.
const PATH: &str = "/mainstay/v1/propose";

/// How long the leader may take, its own election included.
const ANSWER_SECONDS_MAX: u64 = 20;

/// The most bytes of the leader's answer. An outcome is a number, or a refusal with its problems.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The path on which this server takes entries of others.
pub(super) fn router(store: Store) -> Router {
    Router::new()
        .route(PATH, post(take))
        .layer(DefaultBodyLimit::max(ENTRY_BYTES_MAX))
        .with_state(store)
}

async fn take(
    State(store): State<Store>,
    peer: Option<Extension<Peer>>,
    entry: Bytes,
) -> Result<Response, Failure> {
    let trusted = |peer: &Extension<Peer>| peer.groups.iter().any(|g| g == SERVERS_GROUP);
    if !peer.as_ref().is_some_and(trusted) {
        return Err(Failure::forbidden("only servers of this cluster propose"));
    }
    let outcomes = store.propose_entry(entry.to_vec()).await;
    let outcomes = outcomes.map_err(|e| Failure::unavailable(e.to_string()))?;
    Ok(Json(outcomes).into_response())
}

/// Has the leader propose an entry.
pub(super) async fn ask(
    tls: Arc<ClientConfig>,
    leader: &Member,
    entry: Vec<u8>,
) -> anyhow::Result<Vec<Outcome>> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    tokio::time::timeout(limit, exchange(tls, &leader.address, entry)).await?
}

async fn exchange(
    tls: Arc<ClientConfig>,
    address: &str,
    entry: Vec<u8>,
) -> anyhow::Result<Vec<Outcome>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(PATH)
        .header("host", address)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(entry)))?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!("the answer broke off: {e}"))?.to_bytes();
        match status {
            StatusCode::OK => Ok(serde_json::from_slice(&body)?),
            _ => Err(anyhow::anyhow!("{status}: {}", String::from_utf8_lossy(&body))),
        }
    };
    tokio::select! {
        outcomes = asked => outcomes,
        ended = connection => Err(anyhow::anyhow!("the connection ended: {ended:?}")),
    }
}
