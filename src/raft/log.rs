//! The write-ahead log: entries appended to preallocated segments, one flusher thread that makes
//! many of them durable with one fsync, and openraft's storage traits on top.
//!
//! A full disk parks the flusher until space is there (nothing is acknowledged meanwhile) and
//! refuses new proposals while it still has a segment in reserve; any other error ends the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::disk::Disk;
use super::flush::Spare;
use super::meta::Meta;
use super::record::{Kind, Record, padded};
use super::recover::Place;
use super::types::{Command, Entry, LogId, Payload, Types, Vote};

/// Bytes of one segment by default. One more is always prepared ahead as the reserve.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;

/// Most bytes of entries kept in memory: those that peers are sent as they come. Older ones are
/// read from disk for slow peers.
const CACHE_BYTES_MAX: usize = 4 << 20;

/// Most bytes of entries sent to one peer in one message, unless a single entry is larger.
const READ_BYTES_MAX: usize = 1 << 20;

/// Upper bounds in seconds of the fsync histogram's buckets; one more bucket is unbounded.
pub const FSYNC_BUCKETS_SECONDS: [f64; 10] =
    [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// How long fsyncs took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FsyncTimes {
    /// Fsyncs by [`FSYNC_BUCKETS_SECONDS`], each counted once, the last one unbounded.
    pub buckets: [u64; FSYNC_BUCKETS_SECONDS.len() + 1],
    /// All fsyncs.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_seconds: f64,
}

impl FsyncTimes {
    pub(super) fn add(&mut self, seconds: f64) {
        let bucket = FSYNC_BUCKETS_SECONDS.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(FSYNC_BUCKETS_SECONDS.len())] += 1;
        self.count += 1;
        self.sum_seconds += seconds;
    }
}

/// How to open a log.
pub(super) struct Options {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) segment_bytes: u64,
    /// The last entry of the newest good snapshot.
    pub(super) snapshot: Option<LogId>,
    /// A single server goes on with what is left of a damaged log.
    pub(super) accept_loss: bool,
    /// Held locked as long as the log's files may be written.
    pub(super) _lock: Option<File>,
}

/// A cheap handle on the open log. When the last one goes, so do the log's threads.
#[derive(Clone)]
pub(super) struct Log(pub(super) Arc<Handle>);

pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) ops: Mutex<Option<Sender<Op>>>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The flusher ends with its queue, which is gone with this handle; no join, since the
        // last handle may go inside an async task.
        self.shared.spare.stop();
    }
}

impl std::ops::Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

pub(super) struct Shared {
    pub(super) inner: Mutex<Inner>,
    pub(super) spare: Arc<Spare>,
    /// Bytes appended since a snapshot was last asked for because of them.
    pub(super) bytes: AtomicU64,
}

pub(super) struct Inner {
    /// Live entries, consecutive from `first`.
    pub(super) slots: VecDeque<Slot>,
    pub(super) first: u64,
    pub(super) cached_bytes: usize,
    /// Slots before this one are not in memory.
    pub(super) cached_from: u64,
    pub(super) meta: Meta,
    pub(super) committed: Option<LogId>,
    pub(super) files: BTreeMap<u64, Arc<File>>,
    pub(super) failed: Option<String>,
    pub(super) fsync: FsyncTimes,
}

pub(super) struct Slot {
    pub(super) id: LogId,
    /// The entry itself, while it is young or not yet on disk.
    pub(super) cached: Option<(Kind, Arc<[u8]>)>,
    pub(super) place: Option<Place>,
}

impl Slot {
    fn cached_bytes(&self) -> usize {
        self.cached.as_ref().map_or(0, |(_, bytes)| bytes.len())
    }
}

pub(super) enum Op {
    Append { entries: Vec<(LogId, Kind, Arc<[u8]>)>, done: IOFlushed<Types> },
    Truncate { from: u64 },
    Commit { id: LogId, last: u64 },
    Meta { change: MetaChange, done: oneshot::Sender<io::Result<()>> },
}

pub(super) enum MetaChange {
    Vote(Vote),
    Purge(LogId),
    Healed,
    Voters(BTreeSet<u64>),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves plain values behind that are still what was last written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Whether proposals are to be refused because the disk is full.
    pub(super) fn is_full(&self) -> bool {
        self.0.spare.is_full()
    }

    /// The index up to which lost entries are being fetched again, if any.
    pub(super) fn healing(&self) -> Option<u64> {
        lock(&self.0.inner).meta.heal
    }

    /// Notes that the lost entries are here again.
    pub(super) async fn healed(&self) -> io::Result<()> {
        self.meta(MetaChange::Healed).await
    }

    /// The vote as last made durable.
    pub(super) fn vote(&self) -> Option<Vote> {
        lock(&self.0.inner).meta.vote
    }

    /// The last entry, or the last purged one.
    pub(super) fn last(&self) -> Option<LogId> {
        lock(&self.0.inner).last()
    }

    /// Why the log ended, if it did.
    pub(super) fn failed(&self) -> Option<String> {
        lock(&self.0.inner).failed.clone()
    }

    /// How long fsyncs took since the log was opened.
    pub(super) fn fsync_times(&self) -> FsyncTimes {
        lock(&self.0.inner).fsync
    }

    /// Whether more than `limit` bytes were appended since this last said so.
    pub(super) fn bytes_to_compact(&self, limit: u64) -> bool {
        let over = self.0.bytes.load(Ordering::Relaxed) > limit;
        if over {
            self.0.bytes.store(0, Ordering::Relaxed);
        }
        over
    }

    /// Writes what is queued and ends both threads. Nothing can be appended afterwards.
    pub(super) fn close(&self) {
        lock(&self.0.ops).take();
        self.0.spare.stop();
        for thread in lock(&self.0.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }

    fn send(&self, op: Op) -> io::Result<()> {
        let closed = || io::Error::other("the log is closed");
        if let Some(why) = &lock(&self.0.inner).failed {
            return Err(io::Error::other(why.clone()));
        }
        let ops = lock(&self.0.ops);
        ops.as_ref().ok_or_else(closed)?.send(op).map_err(|_| closed())
    }

    async fn meta(&self, change: MetaChange) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Op::Meta { change, done })?;
        wait.await.map_err(|_| io::Error::other("the log is closed"))?
    }

    /// Reads entries from `start` to before `end`, at least one if there is one, then as many as
    /// `bytes_max` allows.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut wanted = Vec::new();
        {
            let inner = lock(&self.0.inner);
            if let Some(why) = &inner.failed {
                return Err(io::Error::other(why.clone()));
            }
            let mut bytes = 0;
            let start = start.max(inner.first);
            for index in start..end.min(inner.first + inner.slots.len() as u64) {
                let slot = &inner.slots[position(index - inner.first)];
                let file = slot.place.and_then(|place| inner.files.get(&place.segment));
                bytes += slot.place.map_or(slot.cached_bytes(), |place| place.bytes);
                if bytes > bytes_max && !wanted.is_empty() {
                    break;
                }
                wanted.push((slot.id, slot.cached.clone(), slot.place, file.cloned()));
            }
        }
        wanted
            .into_iter()
            .map(|(id, cached, place, file)| match (cached, place, file) {
                (Some((kind, bytes)), ..) => entry(id, kind, bytes),
                (None, Some(place), Some(file)) => read_place(id, place, &file),
                _ => Err(io::Error::other(format!("entry {} is nowhere", id.index))),
            })
            .collect()
    }
}

impl Inner {
    pub(super) fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.meta.purged)
    }

    fn push(&mut self, id: LogId, kind: Kind, bytes: Arc<[u8]>) -> io::Result<()> {
        if self.slots.is_empty() {
            self.first = id.index;
            self.cached_from = id.index;
        } else if id.index != self.first + self.slots.len() as u64 {
            let last = self.first + self.slots.len() as u64 - 1;
            return Err(io::Error::other(format!("entry {} after entry {last}", id.index)));
        }
        self.cached_bytes += bytes.len();
        self.slots.push_back(Slot { id, cached: Some((kind, bytes)), place: None });
        Ok(())
    }

    fn truncate(&mut self, from: u64) {
        let keep = position(from.saturating_sub(self.first)).min(self.slots.len());
        for slot in self.slots.drain(keep..) {
            self.cached_bytes -= slot.cached_bytes();
        }
        self.cached_from = self.cached_from.min(from);
    }

    pub(super) fn purge(&mut self, upto: u64) {
        while self.slots.front().is_some_and(|slot| slot.id.index <= upto) {
            let slot = self.slots.pop_front();
            self.cached_bytes -= slot.map_or(0, |slot| slot.cached_bytes());
            self.first += 1;
        }
        self.first = self.first.max(upto + 1);
        self.cached_from = self.cached_from.max(self.first);
    }

    /// Notes where entries lie on disk, and lets the oldest go from memory.
    pub(super) fn placed(&mut self, places: &mut Vec<(LogId, Place)>) {
        for (id, place) in places.drain(..) {
            let Some(at) = id.index.checked_sub(self.first).map(position) else { continue };
            // An entry that was truncated while it was being written may have a successor of the
            // same index; only its own place is noted.
            if let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.id == id) {
                slot.place = Some(place);
            }
        }
        while self.cached_bytes > CACHE_BYTES_MAX {
            let Some(at) = self.cached_from.checked_sub(self.first).map(position) else { break };
            let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.place.is_some()) else {
                break;
            };
            self.cached_bytes -= slot.cached.take().map_or(0, |(_, bytes)| bytes.len());
            self.cached_from += 1;
        }
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

pub(super) fn next_of(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

fn entry(id: LogId, kind: Kind, bytes: Arc<[u8]>) -> io::Result<Entry> {
    let payload: Payload = match kind {
        Kind::Normal => EntryPayload::Normal(Command(bytes)),
        Kind::Membership => EntryPayload::Membership(serde_json::from_slice(&bytes)?),
        _ => EntryPayload::Blank,
    };
    Ok(Entry { log_id: id, payload })
}

fn read_place(id: LogId, place: Place, file: &File) -> io::Result<Entry> {
    let mut bytes = vec![0; place.bytes];
    file.read_exact_at(&mut bytes, place.offset)?;
    let Some((record, _)) = Record::decode(&bytes).filter(|(r, _)| r.index == id.index) else {
        // Ends the log rather than sending on what may be wrong; the next start repairs it.
        let what = format!("entry {} in segment {} is damaged", id.index, place.segment);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    };
    entry(id, record.kind, record.payload.into())
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let inner = lock(&self.0.inner);
        Ok(LogState { last_purged_log_id: inner.meta.purged, last_log_id: inner.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.meta(MetaChange::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(id) = committed else { return Ok(()) };
        let last = {
            let mut inner = lock(&self.0.inner);
            inner.committed = Some(id);
            inner.last().map_or(0, |last| last.index)
        };
        self.send(Op::Commit { id, last })
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.0.inner).committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut queued = Vec::new();
        let mut inner = lock(&self.0.inner);
        for entry in entries {
            let (kind, bytes): (Kind, Arc<[u8]>) = match entry.payload {
                EntryPayload::Blank => (Kind::Blank, Arc::from([])),
                EntryPayload::Normal(command) => (Kind::Normal, command.0),
                EntryPayload::Membership(members) => {
                    (Kind::Membership, serde_json::to_vec(&members)?.into())
                }
            };
            self.0.bytes.fetch_add(padded(bytes.len()) as u64, Ordering::Relaxed);
            inner.push(entry.log_id, kind, bytes.clone())?;
            queued.push((entry.log_id, kind, bytes));
        }
        drop(inner);
        self.send(Op::Append { entries: queued, done })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = next_of(last);
        lock(&self.0.inner).truncate(from);
        self.send(Op::Truncate { from })
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.meta(MetaChange::Purge(upto)).await
    }
}
