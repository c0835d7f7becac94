//! The log and the Views behind one handle.

use tokio::sync::watch;

use super::{clock, machine::StateMachine};
use crate::{
    model::RequestId,
    raft::{self, Member, Node, NodeId, ProposeError, ReadError, Role},
    state::{Command, Entry, Outcome, View},
};

/// How often an entry is proposed while its fate is uncertain. Each try waits for an election to
/// end.
const PROPOSE_TRIES_MAX: u32 = 3;

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
        self.node.role()
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.node.is_leader()
    }

    /// This server's id in the log.
    pub fn id(&self) -> NodeId {
        self.node.id()
    }

    /// Where other servers reach this one; empty before it is a member.
    pub fn own_address(&self) -> String {
        let own = self.members().into_iter().find(|m| m.id == self.id());
        own.map(|m| m.address).unwrap_or_default()
    }

    /// The servers.
    pub fn members(&self) -> Vec<Member> {
        self.node.members()
    }

    /// Takes a server into the log, first as a learner. Leader only; asking again goes on where it
    /// was.
    pub async fn add_member(&self, id: NodeId, address: &str) -> Result<(), raft::Error> {
        self.node.add_learner_then_voter(id, address).await
    }

    /// The log itself.
    pub(super) fn node(&self) -> &Node<StateMachine> {
        &self.node
    }

    /// Waits until this server's View shows everything that was acknowledged before the call.
    pub async fn barrier(&self) -> Result<(), ReadError> {
        self.node.read_barrier().await.map(drop)
    }

    /// Proposes commands in one entry and gives their outcomes once they are applied. On a
    /// follower: not the leader.
    ///
    /// An entry whose fate is uncertain is proposed again under the same request id, so it is
    /// applied once.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        let entry = Entry::new(RequestId(rand::random()), clock::now(), commands);
        let bytes = serde_json::to_vec(&entry).map_err(|e| ProposeError::Stopped(e.to_string()))?;
        for _ in 1..PROPOSE_TRIES_MAX {
            match self.node.propose(bytes.clone()).await {
                Err(ProposeError::Uncertain) => {}
                result => return result,
            }
        }
        self.node.propose(bytes).await
    }
}
