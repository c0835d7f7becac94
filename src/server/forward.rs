//! From a server that does not lead to the one that does: a write's entry, as it is, a wish that
//! becomes a commit, and word that there is something to look at.
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
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{
    SERVERS_GROUP, Store,
    import::Importer,
    nudge::{News, Nudge},
};
use crate::{
    api::{Draft, Failure, Peer, Uncommitted, Wish},
    model::CommitId,
    raft::{ENTRY_BYTES_MAX, Member},
    state::Outcome,
};

/// Where servers propose.
const PATH: &str = "/mainstay/v1/propose";

/// Where servers ask for commits.
const COMMIT_PATH: &str = "/mainstay/v1/commit";

/// Where servers tell of news.
const LOOK_PATH: &str = "/mainstay/v1/look";

/// Most bytes of such a word.
const LOOK_BYTES_MAX: usize = 1 << 10;

/// Where servers ask what a commit would be.
const DRAFT_PATH: &str = "/mainstay/v1/draft";

/// How long the leader may take, its own election included.
const ANSWER_SECONDS_MAX: u64 = 20;

/// How long the leader may take for a commit: those before it, and a remote that is slow.
const COMMIT_SECONDS_MAX: u64 = 60;

/// Most bytes of a wish: an object twice, with room for what JSON adds.
const WISH_BYTES_MAX: usize = 8 << 20;

/// The most bytes of the leader's answer. An outcome is a number, or a refusal with its problems.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The paths on which this server takes entries and wishes of others.
pub(super) fn router(store: Store, importer: Arc<Importer>, nudge: Nudge) -> Router {
    let entries = Router::new()
        .route(PATH, post(take))
        .layer(DefaultBodyLimit::max(ENTRY_BYTES_MAX))
        .with_state(store);
    let wishes = Router::new()
        .route(COMMIT_PATH, post(commit))
        .route(DRAFT_PATH, post(draft))
        .layer(DefaultBodyLimit::max(WISH_BYTES_MAX))
        .with_state(importer);
    let looks = Router::new()
        .route(LOOK_PATH, post(look))
        .layer(DefaultBodyLimit::max(LOOK_BYTES_MAX))
        .with_state(nudge);
    entries.merge(wishes).merge(looks)
}

async fn take(
    State(store): State<Store>,
    peer: Option<Extension<Peer>>,
    entry: Bytes,
) -> Result<Response, Failure> {
    check(peer.as_ref())?;
    let outcomes = store.propose_entry(entry.to_vec()).await;
    let outcomes = outcomes.map_err(|e| Failure::unavailable(e.to_string()))?;
    Ok(Json(outcomes).into_response())
}

fn check(peer: Option<&Extension<Peer>>) -> Result<(), Failure> {
    let trusted = |peer: &Extension<Peer>| peer.groups.iter().any(|g| g == SERVERS_GROUP);
    match peer.is_some_and(trusted) {
        true => Ok(()),
        false => Err(Failure::forbidden("only servers of this cluster propose")),
    }
}

async fn commit(
    State(importer): State<Arc<Importer>>,
    peer: Option<Extension<Peer>>,
    Json(wish): Json<Wish>,
) -> Result<Json<Result<CommitId, Uncommitted>>, Failure> {
    check(peer.as_ref())?;
    // It goes on when the asker has gone: half a commit would be one that nobody admits.
    let made = tokio::spawn(async move { importer.commit(wish).await });
    made.await.map(Json).map_err(|e| Failure::internal(e.to_string()))
}

async fn look(
    State(nudge): State<Nudge>,
    peer: Option<Extension<Peer>>,
    Json(news): Json<News>,
) -> Result<Json<()>, Failure> {
    check(peer.as_ref())?;
    // No further: two servers that each take the other for the leader would go on for ever.
    nudge.here(news);
    Ok(Json(()))
}

/// Has the leader look at what may be new.
pub(super) async fn ask_look(
    tls: Arc<ClientConfig>,
    leader: &Member,
    news: News,
) -> anyhow::Result<()> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    let body = serde_json::to_vec(&news)?;
    tokio::time::timeout(limit, exchange(tls, &leader.address, LOOK_PATH, body)).await?
}

async fn draft(
    State(importer): State<Arc<Importer>>,
    peer: Option<Extension<Peer>>,
    Json(wish): Json<Wish>,
) -> Result<Json<Result<Draft, Uncommitted>>, Failure> {
    check(peer.as_ref())?;
    Ok(Json(importer.draft(wish).await))
}

/// Has the leader say what a commit would be.
pub(super) async fn ask_draft(
    tls: Arc<ClientConfig>,
    leader: &Member,
    wish: &Wish,
) -> anyhow::Result<Result<Draft, Uncommitted>> {
    let bytes = serde_json::to_vec(wish)?;
    let limit = Duration::from_secs(COMMIT_SECONDS_MAX);
    tokio::time::timeout(limit, exchange(tls, &leader.address, DRAFT_PATH, bytes)).await?
}

/// Has the leader make a commit.
pub(super) async fn ask_commit(
    tls: Arc<ClientConfig>,
    leader: &Member,
    wish: &Wish,
) -> anyhow::Result<Result<CommitId, Uncommitted>> {
    let bytes = serde_json::to_vec(wish)?;
    let limit = Duration::from_secs(COMMIT_SECONDS_MAX);
    tokio::time::timeout(limit, exchange(tls, &leader.address, COMMIT_PATH, bytes)).await?
}

/// Has the leader propose an entry.
pub(super) async fn ask(
    tls: Arc<ClientConfig>,
    leader: &Member,
    entry: Vec<u8>,
) -> anyhow::Result<Vec<Outcome>> {
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    tokio::time::timeout(limit, exchange(tls, &leader.address, PATH, entry)).await?
}

async fn exchange<T: DeserializeOwned>(
    tls: Arc<ClientConfig>,
    address: &str,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<T> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(path)
        .header("host", address)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
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
        answer = asked => answer,
        ended = connection => Err(anyhow::anyhow!("the connection ended: {ended:?}")),
    }
}
