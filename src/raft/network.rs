//! Between servers: one kept connection per peer and purpose, requests answered in order.
//!
//! Heartbeats, entries and snapshots have connections of their own, so a long snapshot never
//! holds a heartbeat up. A connection that failed in the middle of a request is dropped.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::types::{NodeId, Snapshot, SnapshotBytes, Types, Vote};
use super::wire::{AppendRequest, Kind, SnapshotHead, bad, encode_append, read_frame, write_frame};

/// Bytes of a snapshot in one frame.
const PART_BYTES: usize = 1 << 20;

/// Most time to connect; a dead host must not use up the time of the request.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A stream of bytes to a peer.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection being made.
pub type Dialed = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send>>;

/// How to reach another server. Who is at the other end is proven here, or not at all: the log
/// believes whatever arrives on a stream.
pub trait Dial: Send + Sync + 'static {
    /// Connects to a member's address, `host:port`.
    fn dial(&self, address: &str) -> Dialed;
}

/// Plain TCP: for tests, and for what carries its own proof.
#[derive(Debug, Default, Clone, Copy)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial(&self, address: &str) -> Dialed {
        let address = address.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// TLS over TCP; the peer's certificate must be for the host of its address.
#[derive(Clone)]
pub struct TlsDial {
    /// Our certificate, and whom we believe; a renewed one counts for later dials.
    pub config: tokio::sync::watch::Receiver<Arc<rustls::ClientConfig>>,
}

impl Dial for TlsDial {
    fn dial(&self, address: &str) -> Dialed {
        let connector = TlsConnector::from(self.config.borrow().clone());
        let address = address.to_owned();
        Box::pin(async move {
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let name = ServerName::try_from(host).map_err(|error| bad(error.to_string()))?;
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

/// Makes connections for openraft.
pub(super) struct Network {
    pub(super) dial: Arc<dyn Dial>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Connection;

    async fn new_client(&mut self, _: NodeId, node: &BasicNode) -> Connection {
        Connection::new(self.dial.clone(), &node.addr)
    }
}

/// The way to one peer for one purpose.
pub(super) struct Connection {
    dial: Arc<dyn Dial>,
    address: String,
    /// In a mutex only because openraft wants networks to be shareable.
    stream: Mutex<Option<Box<dyn ByteStream>>>,
}

impl Connection {
    pub(super) fn new(dial: Arc<dyn Dial>, address: &str) -> Self {
        Self { dial, address: address.to_owned(), stream: Mutex::new(None) }
    }

    /// Sends one request and reads its answer, connecting if need be.
    pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        kind: Kind,
        request: &Q,
        deadline: Duration,
    ) -> io::Result<A> {
        let body = serde_json::to_vec(request)?;
        let answer = self.call(kind, &body, None, deadline).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn call(
        &mut self,
        kind: Kind,
        body: &[u8],
        parts: Option<&SnapshotBytes>,
        deadline: Duration,
    ) -> io::Result<Vec<u8>> {
        let whole = self.call_unbounded(kind, body, parts);
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {deadline:?}"));
        tokio::time::timeout(deadline, whole).await.map_err(|_| late())?
    }

    async fn call_unbounded(
        &mut self,
        kind: Kind,
        body: &[u8],
        parts: Option<&SnapshotBytes>,
    ) -> io::Result<Vec<u8>> {
        // Taken out: a request that fails or is cancelled in the middle leaves no connection.
        let kept = self.kept().take();
        if let Some(mut stream) = kept
            && let Ok(answer) = exchange(&mut *stream, kind, body, parts).await
        {
            *self.kept() = Some(stream);
            return answer;
        }
        // None, or one that the peer closed while nobody looked: every request can be repeated.
        let dialed = tokio::time::timeout(DIAL_TIMEOUT, self.dial.dial(&self.address));
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting takes too long");
        let mut stream = dialed.await.map_err(late)??;
        let answer = exchange(&mut *stream, kind, body, parts).await?;
        *self.kept() = Some(stream);
        answer
    }

    fn kept(&mut self) -> &mut Option<Box<dyn ByteStream>> {
        self.stream.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outer error is the connection's, the inner one the peer's answer.
async fn exchange(
    stream: &mut dyn ByteStream,
    kind: Kind,
    body: &[u8],
    parts: Option<&SnapshotBytes>,
) -> io::Result<io::Result<Vec<u8>>> {
    write_frame(stream, kind, body).await?;
    for part in parts.iter().flat_map(|bytes| bytes.chunks(PART_BYTES)) {
        write_frame(stream, Kind::SnapshotPart, part).await?;
    }
    match read_frame(stream).await? {
        Some((Kind::Done, answer)) => Ok(Ok(answer)),
        Some((Kind::Failed, why)) => {
            Ok(Err(io::Error::other(String::from_utf8_lossy(&why).into_owned())))
        }
        Some((kind, _)) => Err(bad(format!("{kind:?} is no answer"))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unreachable(error: &io::Error) -> Unreachable<Types> {
    Unreachable::new(error)
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let answer = async {
            let body = encode_append(request)?;
            let answer = self.call(Kind::Append, &body, None, option.hard_ttl()).await?;
            Ok(serde_json::from_slice(&answer)?)
        };
        answer.await.map_err(|error| unreachable(&error).into())
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.ask(Kind::Vote, &request, option.hard_ttl()).await;
        answer.map_err(|error| unreachable(&error).into())
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer = self.ask(Kind::PreVote, &request, option.hard_ttl()).await;
        answer.map_err(|error| unreachable(&error).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let data = snapshot.snapshot;
        let (bytes, crc) = (data.len(), crc32fast::hash(&data));
        let head = SnapshotHead { vote, meta: snapshot.meta, bytes, crc };
        let send = async {
            let head = serde_json::to_vec(&head)?;
            let answer = self.call(Kind::Snapshot, &head, Some(&data), option.hard_ttl()).await?;
            Ok::<_, io::Error>(serde_json::from_slice(&answer)?)
        };
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            sent = send => sent.map_err(|error| unreachable(&error).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let answer = self.ask(Kind::Transfer, &request, option.hard_ttl()).await;
        answer.map_err(|error| unreachable(&error).into())
    }
}
