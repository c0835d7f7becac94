//! Controllers: from a View and the time to commands.
//!
//! In: a [`View`], the changes since the last look, and [`Inputs`]. Out: a [`Plan`] for each object
//! that a change touched. `server::driver` holds an [`Agenda`]: it asks for a round, proposes its
//! commands, and asks again when they are applied or when `wake_at` has come.
//!
//! A controller says which of its objects a change touches and plans one object at a time, so that
//! cost follows the change; planning everything gives the same (a property test). Never here:
//! changing State, clocks, waiting.

pub mod admission;
pub mod assign;
pub mod drift;
pub mod failure;
pub mod freeze;
pub mod guest;
pub mod hearing;
pub mod recall;
pub mod signatures;
pub mod signing;
pub mod survivors;
pub mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use self::survivors::Survivors;
use crate::{
    model::{Key, NodeName, Timestamp},
    state::{Change, Command, View},
};

mod agenda;
mod aggregation;
mod api_service;
mod batch;
mod bound;
mod cause;
mod commit;
mod condition;
mod cron_job;
mod deadline;
mod definition;
mod deployment;
mod deployment_status;
mod disruption;
mod endpoint_mirror;
mod endpoint_slice;
mod endpoints;
mod events;
mod eviction;
mod forecast;
mod garbage;
mod hook;
mod job;
mod lease;
mod namespace;
mod node;
mod notices;
mod offspring;
mod order;
mod owners;
pub(crate) mod pods;
pub mod precedence;
mod priority;
mod quota;
mod rbac;
mod registration;
mod replica_set;
mod rollback;
pub mod rollout;
mod scheduler;
mod slices;
mod stages;
mod standing;
mod stuck;
#[cfg(test)]
mod tests;
pub mod units;

pub use agenda::{Agenda, Planned};
pub use forecast::{Forecast, forecast};
pub use notices::{Hearer, notices};
pub use rollback::{Rollback, rollback};

/// What a controller is given beside the View.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The leader's clock.
    pub now: Timestamp,
    /// When each node's agent was last heard, by the leader's clock. Leases are kept out of the
    /// log, so that an idle cluster writes nothing; a new leader starts with its own start for
    /// every node. A node that is not in here counts as heard just now: not knowing is no reason to
    /// evict.
    pub heard: &'a BTreeMap<NodeName, Timestamp>,
    /// Times that an administrator may change.
    pub timing: &'a Timing,
    /// The PEM certificates by which pods know the cluster's API; empty when there are none.
    pub root_ca: &'a str,
    /// Where the servers listen; none where nothing in the cluster can reach one.
    pub servers: &'a [SocketAddr],
    /// What still runs of the cluster before this one.
    pub survivors: &'a Survivors,
}

/// Times that an administrator may change; the defaults are Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a node may be silent before it counts as unreachable (Kubernetes: 50 s).
    pub node_silence_seconds: i64,
    /// How long an event is kept after it was said last (Kubernetes: 1 h).
    pub event_ttl_seconds: i64,
    /// How long a commit may take to become healthy unless it says otherwise (`Deploy-Deadline:`).
    pub commit_deadline_seconds: i64,
    /// Least time between two nodes whose pods are evicted, so that a fault of the network that
    /// looks like a fault of nodes does not empty them all at once (Kubernetes: one node in 10 s).
    pub eviction_interval_seconds: i64,
    /// How long a new cluster awaits the nodes of the one before, which may still run its pods.
    pub node_return_seconds: i64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            node_silence_seconds: 50,
            event_ttl_seconds: 3600,
            commit_deadline_seconds: 600,
            eviction_interval_seconds: 10,
            // Enough to run one command on each machine; after that, pods are missed.
            node_return_seconds: 120,
        }
    }
}

/// What to do, when to look again, and why something waits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be proposed in this order; each whole or not at all.
    pub commands: Vec<Command>,
    /// Plan this object again at this time, even if nothing changes.
    pub wake_at: Option<Timestamp>,
    /// Why something waits: the same words reach the condition, the event, the status file and
    /// `describe`.
    pub notes: Vec<Note>,
}

/// Why an object waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub about: Key,
    /// One word, as in a condition.
    pub reason: String,
    /// One sentence.
    pub message: String,
}

/// One controller.
///
/// A plan is made from one View and is only good for it: whoever proposes it waits for the outcome
/// of its commands before planning the same object again, or pods would be made twice.
#[derive(Debug)]
pub struct Controller {
    /// As Kubernetes calls it: `deployment-controller`.
    pub name: &'static str,
    /// The objects of this controller that a change touches.
    pub affected: fn(&Change, &View) -> BTreeSet<Key>,
    /// Every object of this controller.
    pub all: fn(&View) -> BTreeSet<Key>,
    /// Brings one object closer to what it should be. A settled one gives no commands.
    pub plan: fn(&View, &Key, &Inputs<'_>) -> Plan,
}

/// How many commands one entry carries: a pod with its owner's labels and template has about 4 KiB,
/// and an entry may hold 1 MiB.
pub const ENTRY_COMMANDS_MAX: usize = 64;

/// Every controller, in the order in which they are asked.
pub const CONTROLLERS: &[Controller] = &[
    namespace::CONTROLLER,
    api_service::CONTROLLER,
    definition::CONTROLLER,
    rbac::CONTROLLER,
    aggregation::CONTROLLER,
    priority::CONTROLLER,
    registration::CONTROLLER,
    garbage::CONTROLLER,
    units::CONTROLLER,
    node::CONTROLLER,
    lease::CONTROLLER,
    eviction::CONTROLLER,
    deployment::CONTROLLER,
    replica_set::CONTROLLER,
    job::CONTROLLER,
    cron_job::CONTROLLER,
    hook::CONTROLLER,
    scheduler::CONTROLLER,
    endpoint_slice::CONTROLLER,
    endpoints::CONTROLLER,
    endpoint_mirror::CONTROLLER,
    quota::CONTROLLER,
    disruption::CONTROLLER,
    signing::CONTROLLER,
    commit::CONTROLLER,
    guest::CONTROLLER,
    events::CONTROLLER,
];

/// The key if its object exists.
fn still(key: &Key, view: &View) -> BTreeSet<Key> {
    view.object(key).map(|o| o.key().clone()).into_iter().collect()
}

/// Whether a change made an object that was not there.
fn is_new(change: &Change) -> bool {
    change.old.is_none() && change.new.is_some()
}
