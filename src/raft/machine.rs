//! The machine as openraft drives it: applies groups of entries, builds and installs snapshots.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::disk::is_full;
use super::log::lock;
use super::snapshot::Snapshots;
use super::types::{
    Answer, LogId, Payload, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembers, Types, term_of,
};
use super::{Machine, SNAPSHOT_BYTES_MAX};

/// Most entries between two publications of a view; a proposer waits for its whole group.
const GROUP_ENTRIES_MAX: usize = 256;

/// Every so many entries the state's digest is noted.
pub const DIGEST_EVERY: u64 = 16;

/// How many digests are kept: servers further apart than this many times [`DIGEST_EVERY`] entries
/// are compared when they have caught up.
const DIGESTS_MAX: usize = 256;

/// How often a snapshot that found the disk full is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// How far this server has applied the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied; `None` before the first.
    pub index: Option<u64>,
}

/// The state's hash after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The entry's index.
    pub index: u64,
    /// What [`Machine::digest`] said then.
    pub digest: u64,
}

pub(super) type Digests = Arc<Mutex<VecDeque<Digest>>>;

/// The state machine as openraft sees it.
pub(super) struct Driver<M> {
    machine: M,
    applied: Option<LogId>,
    members: StoredMembers,
    snapshots: Snapshots,
    digests: Digests,
    progress: watch::Sender<Applied>,
}

impl<M: Machine> Driver<M> {
    /// Restores the machine from the newest snapshot.
    pub(super) fn new(
        machine: M,
        snapshots: Snapshots,
        digests: Digests,
        progress: watch::Sender<Applied>,
    ) -> io::Result<Self> {
        let members = StoredMembers::default();
        let mut driver = Self { machine, applied: None, members, snapshots, digests, progress };
        if let Some((meta, data)) = driver.snapshots.read()? {
            driver.restore(&meta, &data)?;
        }
        Ok(driver)
    }

    fn restore(&mut self, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
        let bad = |why| io::Error::new(io::ErrorKind::InvalidData, format!("snapshot: {why}"));
        self.machine.restore(data).map_err(bad)?;
        self.applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        lock(&self.digests).clear();
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        let index = self.applied.map(|id| id.index);
        self.machine.applied_batch(index.unwrap_or(0));
        self.progress.send_replace(Applied { index });
    }

    fn apply_one(&mut self, id: LogId, payload: Payload) -> Answer {
        let answer = match payload {
            EntryPayload::Blank => Answer::default(),
            EntryPayload::Normal(command) => {
                Answer::of(self.machine.apply(id.index, term_of(&id), &command.0))
            }
            EntryPayload::Membership(members) => {
                self.members = StoredMembers::new(Some(id), members);
                Answer::default()
            }
        };
        self.applied = Some(id);
        if id.index.is_multiple_of(DIGEST_EVERY) {
            let mut digests = lock(&self.digests);
            digests.push_back(Digest { index: id.index, digest: self.machine.digest() });
            while digests.len() > DIGESTS_MAX {
                digests.pop_front();
            }
        }
        answer
    }
}

impl<M: Machine> RaftStateMachine<Types> for Driver<M> {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembers)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut groups = entries.ready_chunks(GROUP_ENTRIES_MAX);
        while let Some(group) = groups.next().await {
            let mut answers = Vec::with_capacity(group.len());
            let mut failed = None;
            for item in group {
                match item {
                    Ok((entry, responder)) => {
                        let answer = self.apply_one(entry.log_id, entry.payload);
                        answers.extend(responder.map(|responder| (responder, answer)));
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            self.publish();
            for (responder, answer) in answers {
                responder.send(answer);
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            make: Mutex::new(Some(self.machine.snapshot())),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.members.clone() },
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> io::Result<()> {
        // Normally it is on disk already: see `network`, which writes it before it gets here, so
        // that a full disk refuses the peer and does not stop this server.
        save(&self.snapshots, meta, &snapshot).await?;
        self.restore(meta, &snapshot)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = self.snapshots.clone();
        let current = tokio::task::spawn_blocking(move || snapshots.read()).await??;
        Ok(current.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Makes one snapshot outside the apply path.
pub(super) struct Builder {
    /// In a mutex only because openraft wants builders to be shareable.
    make: Mutex<Option<MakeSnapshot>>,
    meta: SnapshotMeta,
    snapshots: Snapshots,
}

type MakeSnapshot = Box<dyn FnOnce() -> Vec<u8> + Send>;

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let make = lock(&self.make).take();
        let make = make.ok_or_else(|| io::Error::other("a builder builds one snapshot"))?;
        let bytes = tokio::task::spawn_blocking(make).await?;
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            let what = format!("a snapshot of {} bytes is too large", bytes.len());
            return Err(io::Error::other(what));
        }
        let snapshot = Arc::new(bytes);
        loop {
            match save(&self.snapshots, &self.meta, &snapshot).await {
                // An error here would end the log. The log can wait; it keeps its entries.
                Err(error) if is_full(&error) => {
                    tracing::error!(%error, "the disk is full: the snapshot waits for space");
                    tokio::time::sleep(FULL_RETRY).await;
                }
                result => {
                    result?;
                    return Ok(Snapshot { meta: self.meta.clone(), snapshot });
                }
            }
        }
    }
}

/// Writes a snapshot on a thread of its own.
async fn save(snapshots: &Snapshots, meta: &SnapshotMeta, data: &SnapshotBytes) -> io::Result<()> {
    let (snapshots, meta, data) = (snapshots.clone(), meta.clone(), data.clone());
    tokio::task::spawn_blocking(move || snapshots.save(&meta, &data)).await?
}
