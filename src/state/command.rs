//! All that may enter the log.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use super::view::{ClusterConfig, Origin, main_source};
use crate::kinds::CommitState;
use crate::model::{
    CommitId, CommitName, Key, Labels, NodeName, Object, Problem, RequestId, Revision, Timestamp,
    session::ObservedPod,
};

/// The version of [`Entry`] this binary writes. A reader refuses a newer one: an old replica must
/// not guess.
pub const LOG_VERSION: u16 = 1;

/// Most bytes one log entry may hold. A commit's diff that is larger goes in parts that become
/// visible together. 1 MiB keeps a heartbeat interval free on a 100 Mbit/s link and bounds what a
/// follower must buffer.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// One log entry: commands of one proposer, applied in order, each whole or not at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// [`LOG_VERSION`] of the writer.
    pub version: u16,
    /// Drawn by the proposer; an entry that was applied before under the same id is answered, not
    /// applied again. New uids are made from it.
    pub id: RequestId,
    /// The proposer's clock.
    pub at: Timestamp,
    /// What to do.
    pub commands: Vec<Command>,
}

impl Entry {
    /// An entry of this binary's version.
    pub fn new(id: RequestId, at: Timestamp, commands: Vec<Command>) -> Self {
        Self { version: LOG_VERSION, id, at, commands }
    }
}

/// One thing to do, whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// Sets the cluster's ranges, once, before anything else.
    Configure(ClusterConfig),
    /// Makes a commit the head.
    Adopt(Box<Adopt>),
    /// Changes objects; all of them or none.
    Write(Vec<Op>),
    /// Puts a pod on a node.
    Bind {
        /// The pod, which must not be bound yet.
        pod: Key,
        /// Its uid.
        uid: String,
        /// The node, which must exist.
        node: NodeName,
    },
    /// Puts a survivor in the place of a pod that has no node yet.
    Keep(Box<Keep>),
    /// What an agent saw of its pods. A report about a pod that is not on `node` is ignored.
    Observe {
        /// The reporting node.
        node: NodeName,
        /// Its pods.
        pods: Vec<ObservedPod>,
    },
    /// What an agent says of its node. Creates the Node when it is new.
    ObserveNode {
        /// The node.
        node: NodeName,
        /// Labels the agent gives it; others stay.
        labels: Labels,
        /// `status`, whole.
        status: Value,
        /// The pod range that a new Node asks for; it gets another one where that is taken.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        pod_range: String,
    },
    /// Something must leave the cluster.
    Enqueue(OutboxItem),
    /// An outbox entry has left the cluster.
    Done(u64),
    /// The status branch shows State as of this revision.
    Exported(Revision),
}

/// A pod of a cluster before this one, which its node still runs, and the pod whose place it takes:
/// that one's object goes on under the survivor's name and uid, so its containers need not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keep {
    /// The pod, which must not be bound yet.
    pub pod: Key,
    /// Its uid.
    pub uid: String,
    /// The node that runs the survivor, which must exist.
    pub node: NodeName,
    /// The survivor's name, which no other pod may have.
    pub name: SmolStr,
    /// The survivor's uid.
    pub survivor: String,
    /// The survivor's `status`, whole.
    pub status: Value,
}

/// The difference between the head and a newer commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adopt {
    /// The source whose head it becomes.
    #[serde(default = "main_source")]
    pub source: SmolStr,
    /// The commit that becomes the head.
    pub commit: CommitId,
    /// The source's head this was made against; refused when another one is the head by now.
    pub base: Option<CommitId>,
    /// What keeps its status: the `Commit` object, state `Admitted`. In logs of before, of another
    /// source than the main one, its `GitSource`.
    pub record: Object,
    /// What the `GitSource` says then; of other sources than the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Object>,
    /// Objects that are new or changed, defaulted and validated.
    pub upserts: Vec<Desired>,
    /// Objects the commit no longer has.
    pub deletes: Vec<Key>,
    /// Objects the commit no longer has and that stay because they say so; nobody owns them then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Key>,
    /// This part's number, from 0.
    pub part: u32,
    /// How many parts there are; the commit becomes visible with the last.
    pub parts: u32,
}

/// One object of a commit and where it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The object, defaulted and validated.
    pub object: Object,
    /// The commit, file and line it comes from.
    pub origin: Origin,
}

impl Desired {
    /// The object as State holds it: it tells the commit and the place it comes from.
    pub fn stored(&self) -> Value {
        let mut value = self.object.value();
        let annotations = &mut value["metadata"]["annotations"];
        annotations["mainstay.io/commit"] = self.origin.commit.as_str().into();
        annotations["mainstay.io/source"] = self.origin.place().into();
        value
    }
}

/// What a write assumes of the object it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Expect {
    /// It does not exist.
    Absent,
    /// It exists, at this revision.
    At(Revision),
    /// It exists or not.
    Any,
}

/// Which part of an object a put replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// Everything but status.
    Main,
    /// Status alone; the object must exist.
    Status,
    /// Everything: what the proposer made, by the rules for [`Main`](Self::Main), of the version
    /// that [`Expect::At`] names. Nothing is left to be put together when it is applied.
    Whole,
}

/// One change to one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Op {
    /// Stores an object.
    Put {
        /// The object as it shall be; uid, creation time, revision and generation are State's.
        object: Object,
        /// What must be true of the stored one.
        expect: Expect,
        /// Which part is replaced.
        part: Part,
    },
    /// Asks for a deletion: at once, or after the grace period (pods on a node) or finalizers.
    Delete {
        /// The object.
        key: Key,
        /// Its uid; empty means whichever has the name.
        uid: String,
        /// Seconds a pod gets to stop; `None` means its own `terminationGracePeriodSeconds`. 0
        /// removes at once.
        grace_seconds: Option<i64>,
    },
    /// Tells users something; the same event again raises its count.
    Event(NewEvent),
}

/// An event before it is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewEvent {
    /// What it is about.
    pub regarding: Key,
    /// The uid of that object.
    pub uid: String,
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// One word (`ScalingReplicaSet`).
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Who says so (`deployment-controller`).
    pub source: String,
}

/// Something that must leave the cluster exactly once, whoever leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutboxItem {
    /// The note on a commit must say what became of it.
    Note(CommitName),
    /// A commit whose rollout failed must be taken back on the desired branch. Its `Commit` says
    /// why and what became of that.
    Revert(CommitName),
    /// A receiver outside must be told what became of a commit.
    Notice(Notice),
}

/// What became of a commit, for one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The receiver's name in the servers' configuration.
    pub to: String,
    /// The commit.
    pub commit: CommitName,
    /// The number of the commit's note in the outbox, of which this tells: the same for whoever
    /// tells it once more.
    #[serde(alias = "revision")]
    pub note: u64,
    /// How far it has come.
    pub state: CommitState,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When that was seen; an old notice is given up.
    pub at: Timestamp,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Done; State is at this revision.
    Done(Revision),
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// The object exists already.
    #[error("{0} already exists")]
    AlreadyExists(Key),
    /// The object does not exist (or has another uid by now).
    #[error("{0} not found")]
    NotFound(Key),
    /// The object changed since it was read.
    #[error(
        "Operation cannot be fulfilled on {key}: the object has been modified; \
         please apply your changes to the latest version and try again"
    )]
    Conflict {
        /// The object.
        key: Key,
        /// The revision it is at.
        found: Revision,
    },
    /// The object is not valid, or changes what may not change.
    #[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// Another commit became the head meanwhile.
    #[error("the head is {found:?} by now")]
    HeadMoved {
        /// The head.
        found: Option<CommitId>,
    },
    /// A range has no free address or port left.
    #[error("{0}")]
    Exhausted(String),
    /// The command does not fit the state it met.
    #[error("{0}")]
    Misplaced(String),
}
