//! What a node is told and what it tells, as plain values.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;

use super::disk::{Disk, RealDisk};
use super::log::{FsyncTimes, SEGMENT_BYTES};
use super::machine::Digest;
use super::types::NodeId;
use super::{ENTRY_BYTES_MAX, Error};

/// Most bytes of proposals under way at once; more wait. Bounds what a slow disk can pile up in
/// memory.
pub(super) const PROPOSED_BYTES_MAX: u32 = 64 << 20;

/// Most time for one snapshot to reach a peer and be on its disk.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(120);

/// How to run a node. [`Config::new`] gives the defaults.
#[derive(Clone)]
pub struct Config {
    /// The directory that belongs to this node alone.
    pub dir: PathBuf,
    /// Where other servers reach this one, `host:port`.
    pub address: String,
    /// Time between a leader's signs of life. Default 150 ms.
    pub heartbeat: Duration,
    /// Time without them, at least, before others stand for election. Default 600 ms.
    pub election_min: Duration,
    /// And at most. Default 1.2 s.
    pub election_max: Duration,
    /// Most time for a proposal or a read, elections in between included. Default 5 s.
    pub timeout: Duration,
    /// Most time for a new server to catch up before it becomes a voter. Default 5 min.
    pub join_timeout: Duration,
    /// Entries after which a snapshot is made. Default 10,000.
    pub snapshot_entries: u64,
    /// Bytes of log after which a snapshot is made. Default 32 MiB.
    pub snapshot_log_bytes: u64,
    /// Entries kept behind a snapshot, for peers that are only a little late. Default 2,000.
    pub keep_entries: u64,
    /// Bytes of one log segment; as many are always kept in reserve. Default 8 MiB.
    pub segment_bytes: u64,
    /// Go on without the lost entries when the log is damaged: the last resort when no other
    /// server can give them back. What was acknowledged may be gone. Default false.
    pub accept_loss: bool,
    /// The disk; tests put a failing one here.
    pub disk: Arc<dyn Disk>,
}

impl Config {
    /// The defaults for a directory and an address.
    pub fn new(dir: impl Into<PathBuf>, address: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            address: address.into(),
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(600),
            election_max: Duration::from_millis(1200),
            timeout: Duration::from_secs(5),
            join_timeout: Duration::from_secs(300),
            snapshot_entries: 10_000,
            snapshot_log_bytes: 32 << 20,
            keep_entries: 2_000,
            segment_bytes: SEGMENT_BYTES,
            accept_loss: false,
            disk: Arc::new(RealDisk),
        }
    }

    /// Checks the settings and turns them into openraft's.
    pub(super) fn check(&self) -> Result<openraft::Config, Error> {
        if self.segment_bytes < 2 * ENTRY_BYTES_MAX as u64 {
            let least = 2 * ENTRY_BYTES_MAX;
            return Err(Error::Config(format!("segment_bytes must be at least {least}")));
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // openraft waits for the old leader's lease, which is its longest timeout, and then for a
        // random timeout: half of the whole time each, so that both bounds hold.
        let timeout_max = self.election_max / 2;
        let least = self.heartbeat + Duration::from_millis(1);
        let timeout_min = self.election_min.saturating_sub(timeout_max).max(least);
        let config = openraft::Config {
            cluster_name: "mainstay".into(),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(timeout_min),
            election_timeout_max: ms(timeout_max),
            install_snapshot_timeout: ms(SNAPSHOT_TIMEOUT),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.keep_entries,
            enable_pre_vote: Some(true),
            // A server whose log was damaged comes back with a shorter log than the leader saw;
            // it votes for nobody until it is whole again (`Log::healing`).
            allow_log_reversion: Some(true),
            // A leader that comes back may have sent entries that its disk never got: going on in
            // the same term could give one index two entries.
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| Error::Config(error.to_string()))
    }
}

/// A server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id in the log.
    pub id: NodeId,
    /// Where it is reached.
    pub address: String,
    /// Whether it counts in a majority; a learner only follows.
    pub voter: bool,
}

pub(super) fn name_of(member: &Option<Member>) -> String {
    match member {
        Some(member) => format!("{} at {}", member.id, member.address),
        None => "not known yet".into(),
    }
}

/// Who leads, as this node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Role {
    /// The leader, if one is known.
    pub leader: Option<Member>,
    /// The election it won.
    pub term: u64,
    /// Whether it is this node.
    pub is_leader: bool,
}

/// A peer as the leader sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The last entry known to be on its disk.
    pub matched: Option<u64>,
    /// Entries it is behind.
    pub lag_entries: u64,
}

/// What a node knows of itself, as plain values.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// This node.
    pub id: NodeId,
    /// The newest election it knows of.
    pub term: u64,
    /// The last entry in its log.
    pub last_log_index: Option<u64>,
    /// The last entry that a majority has.
    pub committed_index: Option<u64>,
    /// The last entry applied to the machine.
    pub applied_index: Option<u64>,
    /// The last entry its newest snapshot covers.
    pub snapshot_index: Option<u64>,
    /// The last entry deleted from its log.
    pub purged_index: Option<u64>,
    /// Other servers; only a leader knows.
    pub peers: BTreeMap<NodeId, Peer>,
    /// How long fsyncs took.
    pub fsync: FsyncTimes,
    /// Whether proposals are refused because the disk is full.
    pub storage_full: bool,
    /// While set, entries up to here are being fetched again and this node votes for nobody.
    pub healing_index: Option<u64>,
}

/// Why a proposal was not (surely) applied.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Propose to the leader instead; nothing was written.
    #[error("this server does not lead; the leader is {}", name_of(.leader))]
    NotLeader {
        /// Who does, if known.
        leader: Option<Member>,
    },
    /// Too much is under way already and did not finish in time; nothing was written.
    #[error("the leader is busy: {} MiB of proposals wait for its disk", PROPOSED_BYTES_MAX >> 20)]
    Busy,
    /// No space; nothing was written, and it works again when space is freed.
    #[error("the disk of the leader is full: free space in its data directory")]
    StorageFull,
    /// Split it; nothing was written.
    #[error("an entry of {bytes} bytes is larger than {ENTRY_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It may or may not become committed; propose it again with the same request id.
    #[error("not committed in time; it may still be: repeat it with the same request id")]
    Uncertain,
    /// This node has stopped.
    #[error("the log has stopped: {0}")]
    Stopped(String),
}

/// Why a read cannot be promised to see everything acknowledged before it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed by a majority was found in time.
    #[error("no leader with a majority behind it in time: is a majority of servers up?")]
    NoLeader,
    /// The leader answered, but this node did not catch up in time.
    #[error("this server is behind the leader and did not catch up in time")]
    Behind,
    /// This node has stopped.
    #[error("the log has stopped: {0}")]
    Stopped(String),
}

/// Two servers' states differ after the same entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state differs from {}'s at {} after entry {}", .peer.id, .peer.address, .ours.index)]
pub struct Divergence {
    /// The other one.
    pub peer: Member,
    /// Our digest.
    pub ours: Digest,
    /// Its digest.
    pub theirs: Digest,
}
