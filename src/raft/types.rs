//! openraft's types, chosen once. Nothing here is public outside the room.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A server's id in the log, drawn at random when its directory is made and never used again.
pub type NodeId = u64;

openraft::declare_raft_types!(
    /// The log's types: standard Raft (one leader a term), entries are bytes.
    pub(super) Types:
        D = Command,
        R = Answer,
        NodeId = u64,
        Node = openraft::BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type Payload = openraft::alias::EntryPayloadOf<Types>;
pub(super) type Members = openraft::Membership<u64, openraft::BasicNode>;
pub(super) type StoredMembers = openraft::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(super) type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotBytes>;

/// A snapshot in transit: shared, since it is sent to several peers at once.
pub(super) type SnapshotBytes = Arc<Vec<u8>>;

/// The term of a log id.
pub(super) fn term_of(id: &LogId) -> u64 {
    **id.committed_leader_id()
}

/// One proposal's bytes, shared between the log's cache, the peers and the machine.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Command(pub(super) Arc<[u8]>);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// The machine's answer on its way to the proposer, untyped so that log and network are compiled
/// once and not once a machine. It never leaves the process.
#[derive(Default)]
pub(super) struct Answer(Mutex<Option<Box<dyn Any + Send>>>);

impl Answer {
    pub(super) fn of<T: Send + 'static>(value: T) -> Self {
        Self(Mutex::new(Some(Box::new(value))))
    }

    /// Takes the answer out, once.
    pub(super) fn take<T: 'static>(self) -> Option<T> {
        let inner = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        inner.and_then(|any| any.downcast().ok()).map(|boxed| *boxed)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

// openraft's `serde` feature asks every answer to be serializable; ours stays where it is made.
impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self::default())
    }
}
