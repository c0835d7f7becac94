//! The answering side of a peer's connection.

use std::io;
use std::sync::Arc;

use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use serde::Serialize;

use super::log::lock;
use super::network::ByteStream;
use super::node::{Inner, Node};
use super::types::{Snapshot, SnapshotBytes, Types, Vote};
use super::wire::{Kind, SnapshotHead, bad, decode_append, read_frame, write_frame};
use super::{Machine, SNAPSHOT_BYTES_MAX};

/// Most bytes set aside for a snapshot before any of it has come.
const SNAPSHOT_BYTES_AHEAD: usize = 16 << 20;

pub(super) async fn serve<M: Machine>(
    inner: &Inner<M>,
    node: &Node<M>,
    mut stream: impl ByteStream,
) -> io::Result<()> {
    while let Some((kind, body)) = read_frame(&mut stream).await? {
        let answer = if kind == Kind::Snapshot {
            let head: SnapshotHead = serde_json::from_slice(&body)?;
            // Read to its end even if it cannot be kept: what follows on the stream must be the
            // next request.
            let data = receive(&mut stream, &head).await?;
            install(inner, head, data).await
        } else {
            answer(inner, node, kind, &body).await
        };
        match answer {
            Ok(answer) => write_frame(&mut stream, Kind::Done, &answer).await?,
            Err(error) => {
                write_frame(&mut stream, Kind::Failed, error.to_string().as_bytes()).await?;
            }
        }
    }
    Ok(())
}

async fn answer<M: Machine>(
    inner: &Inner<M>,
    node: &Node<M>,
    kind: Kind,
    body: &[u8],
) -> io::Result<Vec<u8>> {
    match kind {
        Kind::Append => json(inner.raft.append_entries(decode_append(body)?).await),
        Kind::Vote | Kind::PreVote => {
            let request: VoteRequest<Types> = serde_json::from_slice(body)?;
            if inner.log.healing().is_some() {
                return json(Ok::<_, io::Error>(no_vote(inner)));
            }
            match kind {
                Kind::Vote => json(inner.raft.vote(request).await),
                _ => json(inner.raft.pre_vote(request).await),
            }
        }
        Kind::Transfer => {
            let request: TransferLeaderRequest<Types> = serde_json::from_slice(body)?;
            if inner.log.healing().is_some() {
                return Err(io::Error::other("this server is fetching lost entries"));
            }
            json(inner.raft.handle_transfer_leader(request).await)
        }
        Kind::ReadIndex => match node.local_read_index().await {
            Ok(Ok(index)) => json(Ok::<_, io::Error>(index)),
            Ok(Err(_)) => Err(io::Error::other("this server does not lead")),
            Err(error) => Err(io::Error::other(error)),
        },
        Kind::Digests => {
            let digests: Vec<_> = lock(&inner.digests).iter().copied().collect();
            json(Ok::<_, io::Error>(digests))
        }
        Kind::Done | Kind::Snapshot | Kind::SnapshotPart | Kind::Failed => {
            Err(bad(format!("{kind:?} is no request")))
        }
    }
}

/// What a server answers that lost entries it may have acknowledged: it cannot know who has them.
fn no_vote<M: Machine>(inner: &Inner<M>) -> VoteResponse<Types> {
    let vote = inner.log.vote().unwrap_or_else(|| Vote::new(0, 0));
    VoteResponse::new(vote, inner.log.last(), false)
}

fn json<T: Serialize, E: std::fmt::Display>(answer: Result<T, E>) -> io::Result<Vec<u8>> {
    let answer = answer.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(serde_json::to_vec(&answer)?)
}

async fn receive(stream: &mut impl ByteStream, head: &SnapshotHead) -> io::Result<SnapshotBytes> {
    if head.bytes > SNAPSHOT_BYTES_MAX {
        return Err(bad(format!("a snapshot of {} bytes is too large", head.bytes)));
    }
    let mut data = Vec::with_capacity(head.bytes.min(SNAPSHOT_BYTES_AHEAD));
    while data.len() < head.bytes {
        match read_frame(stream).await? {
            Some((Kind::SnapshotPart, part)) if data.len() + part.len() <= head.bytes => {
                data.extend_from_slice(&part);
            }
            Some((kind, _)) => return Err(bad(format!("{kind:?} inside a snapshot"))),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(Arc::new(data))
}

/// Writes the snapshot first and installs it then: a disk without room for it refuses the peer,
/// which tries again, instead of stopping this server.
async fn install<M: Machine>(
    inner: &Inner<M>,
    head: SnapshotHead,
    data: SnapshotBytes,
) -> io::Result<Vec<u8>> {
    if crc32fast::hash(&data) != head.crc {
        return Err(bad("the snapshot was damaged on its way"));
    }
    let (snapshots, meta, copy) = (inner.snapshots.clone(), head.meta.clone(), data.clone());
    tokio::task::spawn_blocking(move || snapshots.save(&meta, &copy)).await??;
    let snapshot = Snapshot { meta: head.meta, snapshot: data };
    json(inner.raft.install_full_snapshot(head.vote, snapshot).await)
}
