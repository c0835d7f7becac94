//! Messages between servers as bytes: `length u32 · kind u8 · body`, little endian, the length
//! counting kind and body. Entries travel as they are, everything around them as JSON.

use std::io;
use std::sync::Arc;

use openraft::EntryPayload;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::types::{Command, Entry, LogId, Types, Vote, term_of};

/// Most bytes of one frame: a message's entries are bounded to 1 MiB or one entry, a snapshot's
/// part to 1 MiB, and what is around them is a few kilobytes.
pub(super) const FRAME_BYTES_MAX: usize = 4 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Done = 0,
    Append = 1,
    Vote = 2,
    PreVote = 3,
    Snapshot = 4,
    SnapshotPart = 5,
    Transfer = 6,
    ReadIndex = 7,
    Digests = 8,
    Failed = 9,
}

impl Kind {
    fn of(byte: u8) -> io::Result<Self> {
        use Kind::*;
        let all = [
            Done,
            Append,
            Vote,
            PreVote,
            Snapshot,
            SnapshotPart,
            Transfer,
            ReadIndex,
            Digests,
            Failed,
        ];
        let unknown = || bad(format!("unknown message {byte}: is the peer a newer version?"));
        all.get(usize::from(byte)).copied().ok_or_else(unknown)
    }
}

pub(super) type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: Vote,
    prev: Option<LogId>,
    commit: Option<LogId>,
    /// Term, index, kind and length of each entry.
    entries: Vec<(u64, u64, u8, usize)>,
}

/// Head of a snapshot that follows in parts.
#[derive(Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    pub(super) vote: Vote,
    pub(super) meta: super::types::SnapshotMeta,
    pub(super) bytes: usize,
    pub(super) crc: u32,
}

pub(super) fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

pub(super) async fn write_frame<W>(stream: &mut W, kind: Kind, body: &[u8]) -> io::Result<()>
where
    W: AsyncWrite + Unpin + ?Sized,
{
    if body.len() >= FRAME_BYTES_MAX {
        return Err(bad(format!("a message of {} bytes is too long", body.len())));
    }
    let len = u32::try_from(body.len() + 1).map_err(|error| bad(error.to_string()))?;
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.extend_from_slice(&len.to_le_bytes());
    frame.push(kind as u8);
    frame.extend_from_slice(body);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Reads one frame; `None` at a clean end.
pub(super) async fn read_frame<R>(stream: &mut R) -> io::Result<Option<(Kind, Vec<u8>)>>
where
    R: AsyncRead + Unpin + ?Sized,
{
    let mut head = [0; 5];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let len = usize::try_from(u32::from_le_bytes([head[0], head[1], head[2], head[3]]));
    let len = len.map_err(|error| bad(error.to_string()))?;
    if len == 0 || len > FRAME_BYTES_MAX {
        return Err(bad(format!("a message of {len} bytes is too long")));
    }
    let kind = Kind::of(head[4])?;
    let mut body = vec![0; len - 1];
    stream.read_exact(&mut body).await?;
    Ok(Some((kind, body)))
}

pub(super) fn encode_append(request: AppendRequest) -> io::Result<Vec<u8>> {
    let mut head = AppendHead {
        vote: request.vote,
        prev: request.prev_log_id,
        commit: request.leader_commit,
        entries: Vec::with_capacity(request.entries.len()),
    };
    let mut payloads: Vec<Arc<[u8]>> = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let (kind, bytes): (u8, Arc<[u8]>) = match entry.payload {
            EntryPayload::Blank => (0, Arc::from([])),
            EntryPayload::Normal(command) => (1, command.0),
            EntryPayload::Membership(members) => (2, serde_json::to_vec(&members)?.into()),
        };
        head.entries.push((term_of(&entry.log_id), entry.log_id.index, kind, bytes.len()));
        payloads.push(bytes);
    }
    let json = serde_json::to_vec(&head)?;
    let len = u32::try_from(json.len()).map_err(|error| bad(error.to_string()))?;
    let mut body = len.to_le_bytes().to_vec();
    body.extend_from_slice(&json);
    payloads.iter().for_each(|bytes| body.extend_from_slice(bytes));
    Ok(body)
}

pub(super) fn decode_append(body: &[u8]) -> io::Result<AppendRequest> {
    let short = || bad("a message ends too early");
    let (len, rest) = body.split_first_chunk::<4>().ok_or_else(short)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| short())?;
    let (json, mut rest) = rest.split_at_checked(len).ok_or_else(short)?;
    let head: AppendHead = serde_json::from_slice(json)?;
    let mut entries = Vec::with_capacity(head.entries.len());
    for (term, index, kind, len) in head.entries {
        let (bytes, more) = rest.split_at_checked(len).ok_or_else(short)?;
        rest = more;
        let payload = match kind {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(Command(bytes.into())),
            2 => EntryPayload::Membership(serde_json::from_slice(bytes)?),
            _ => return Err(bad(format!("unknown entry {kind}"))),
        };
        entries.push(Entry { log_id: LogId::new_term_index(term, index), payload });
    }
    let (vote, prev_log_id, leader_commit) = (head.vote, head.prev, head.commit);
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}
