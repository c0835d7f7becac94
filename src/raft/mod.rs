//! The replicated log: what a majority has on disk, in one order, applied on every server.
//!
//! In: proposals (bytes) from `server::driver` and the API's write door, and the peers' messages
//! over the streams that `server` accepts. Out: each committed entry, once and in order, to the
//! one [`Machine`] that the log drives, and its answer to whoever proposed it. `server` starts a
//! [`Node`] and hands it accepted streams; nobody else calls this room.
//!
//! It never looks into an entry, never decides, never acknowledges what a majority has not
//! fsynced, never cuts off an entry that may have been acknowledged, and lets none of openraft's
//! types out. A proposal that was retried may be applied twice by the log: the machine tells the
//! two apart by the request id inside the entry.
//!
//! `record` and `recover` say what the bytes on disk mean (pure); `open`, `flush`, `log`, `meta`
//! and `snapshot` keep them; `machine` and `network` are openraft's two sides; `node` is the door.
//! Why the storage is our own: docs/adr/0004-raft-storage.md.
#![expect(
    clippy::disallowed_methods,
    reason = "shell: the log reads and writes its files, waits for peers and draws one node id"
)]

mod disk;
mod flush;
mod log;
mod machine;
mod meta;
mod network;
mod node;
mod open;
mod record;
mod recover;
mod serve;
mod snapshot;
mod types;
mod values;
mod wire;

pub use disk::{Disk, RealDisk};
pub use log::{FSYNC_BUCKETS_SECONDS, FsyncTimes};
pub use machine::{Applied, DIGEST_EVERY, Digest};
pub use network::{ByteStream, Dial, Dialed, TcpDial, TlsDial};
pub use node::Node;
pub use types::NodeId;
pub use values::{Config, Divergence, Member, Metrics, Peer, ProposeError, ReadError, Role};

/// Most bytes one log entry may hold. Larger diffs are split by their proposer into several
/// entries; 1 MiB keeps one entry below a heartbeat interval on a 100 Mbit/s link.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Most bytes a snapshot may hold. State and snapshot are both held in memory while one is sent,
/// so a larger one would take a server down rather than save it.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// What the log drives: a value that changes only by committed entries.
///
/// Every server runs one, gives it the same entries in the same order, and expects the same
/// result; so neither clocks nor randomness may reach it.
pub trait Machine: Send + Sync + 'static {
    /// What the proposer of an entry is told once the entry is applied.
    type Response: Send + 'static;

    /// Applies one committed entry and returns the answer for its proposer.
    ///
    /// Deterministic, and never panics: a bad entry is in every server's log. Applying the same
    /// request id again must change nothing and return the first answer.
    fn apply(&mut self, index: u64, term: u64, entry: &[u8]) -> Self::Response;

    /// Hears that a group of entries up to `index` was applied.
    ///
    /// Called once per group and before any proposer of the group gets its answer: publish views
    /// here, so that whoever got an answer can read what it wrote. Also called after a restore.
    fn applied_batch(&mut self, index: u64) {
        let _ = index;
    }

    /// Returns a cheap handle from which the snapshot's bytes are made outside the apply path.
    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send>;

    /// Replaces the whole state by what a snapshot says; the error says what was wrong with it.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;

    /// Returns a hash of the state, compared between servers at an equal applied index.
    ///
    /// Asked once every [`DIGEST_EVERY`] entries, on the apply path.
    fn digest(&self) -> u64;
}

/// Why a node could not start or a change of the cluster did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused; nothing was acknowledged that is not on it.
    #[error("{what}")]
    Io {
        /// What was being done to which file.
        what: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the log no longer holds what was written, and no other server can give it back.
    #[error("{what}; {hint}")]
    Damaged {
        /// Which file, at which byte, and what is wrong.
        what: String,
        /// What the operator can do now.
        hint: String,
    },
    /// Another process runs on the same directory.
    #[error("{0} is in use by another process; stop it, or give this server its own directory")]
    InUse(String),
    /// The configuration makes no sense.
    #[error("configuration: {0}")]
    Config(String),
    /// Only the leader can do this.
    #[error("only the leader can do this; the leader is {}", values::name_of(.0))]
    NotLeader(Option<Member>),
    /// The change of members was refused or not finished in time.
    #[error("membership: {0}")]
    Membership(String),
    /// The node has stopped, after a disk error or by shutdown; restart the process.
    #[error("the log has stopped: {0}")]
    Stopped(String),
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

#[cfg(test)]
mod tests;
