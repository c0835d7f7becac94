//! The log and the Views behind one handle.

use std::time::Duration;

use tokio::sync::watch;

use super::{clock, machine::StateMachine};
use crate::{
    model::RequestId,
    raft::{Node, ProposeError, Role},
    state::{Command, Entry, Outcome, View},
};

/// How long a proposal is retried while an election goes on. Elections take about a second; five bound the wait.
const PROPOSE_SECONDS_MAX: u64 = 5;

/// Proposes to the log and reads Views; cheap to clone.
#[derive(Clone)]
pub struct Store {
    node: Node<StateMachine>,
    views: watch::Receiver<View>,
}

impl Store {
    pub(super) fn new(node: Node<StateMachine>, views: watch::Receiver<View>) -> Self {
        Self { node, views }
    }

    /// The newest View of this server.
    pub fn view(&self) -> View {
        self.views.borrow().clone()
    }

    /// Views as they appear.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    /// Who leads.
    pub fn roles(&self) -> watch::Receiver<Role> {
        self.node.roles()
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.node.is_leader()
    }

    /// The log itself.
    pub(super) fn node(&self) -> &Node<StateMachine> {
        &self.node
    }

    /// Waits until this server's View shows everything that was acknowledged before the call.
    pub async fn barrier(&self) -> Result<(), ReadError> {
        self.node.read_barrier().await
    }

    /// Proposes commands in one entry and gives their outcomes once they are applied. On a follower: not the leader.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        let entry = Entry::new(RequestId(rand::random()), clock::now(), commands);
        let bytes = serde_json::to_vec(&entry).map_err(|e| ProposeError::Rejected(e.to_string()))?;
        self.node.propose(bytes, Duration::from_secs(PROPOSE_SECONDS_MAX)).await
    }
}
