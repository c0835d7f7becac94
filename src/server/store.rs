//! The log and the Views behind one handle.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;
use tokio::sync::watch;

use super::{clock, forward, machine::StateMachine};
use crate::{
    model::RequestId,
    raft::{self, Member, Node, NodeId, ProposeError, ReadError, Role},
    state::{Command, Entry, Outcome, View},
};

/// How often an entry is proposed while its fate is uncertain. Each try waits for an election to
/// end.
const PROPOSE_TRIES_MAX: u32 = 3;

/// How often a write follows to another leader.
const HOPS_MAX: u32 = 4;

/// How long an answer waits until this server's View shows what another one applied.
const SHOWN_SECONDS_MAX: u64 = 10;

/// Proposes to the log and reads Views; cheap to clone.
#[derive(Clone)]
pub struct Store {
    node: Node<StateMachine>,
    views: watch::Receiver<View>,
    /// How other servers are asked.
    tls: watch::Receiver<Arc<ClientConfig>>,
}

impl Store {
    pub(super) fn new(
        node: Node<StateMachine>,
        views: watch::Receiver<View>,
        tls: watch::Receiver<Arc<ClientConfig>>,
    ) -> Self {
        Self { node, views, tls }
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

    /// How other servers are dialled now.
    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        self.tls.borrow().clone()
    }

    /// As [`propose`](Self::propose), by way of the leader when this server does not lead; returns
    /// once this server's View shows what was done.
    ///
    /// The entry keeps its request id on the way, so that an answer that was lost is asked for
    /// again and the entry applied once.
    pub(super) async fn forward(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Outcome>, ProposeError> {
        let entry = Entry::new(RequestId(rand::random()), clock::now(), commands);
        let bytes = serde_json::to_vec(&entry).map_err(|e| ProposeError::Stopped(e.to_string()))?;
        let mut last = ProposeError::Uncertain;
        for _ in 0..HOPS_MAX {
            let leader = match self.node.propose(bytes.clone()).await {
                Ok(outcomes) => return self.shown(outcomes).await,
                Err(ProposeError::NotLeader { leader: Some(leader) }) => leader,
                Err(ProposeError::Uncertain) => continue,
                Err(error) => return Err(error),
            };
            let tls = self.tls();
            match forward::ask(tls, &leader, bytes.clone()).await {
                Ok(outcomes) => return self.shown(outcomes).await,
                Err(error) => {
                    tracing::debug!(event = "write not forwarded", leader = leader.id, %error);
                    last = ProposeError::NotLeader { leader: Some(leader) };
                }
            }
        }
        Err(last)
    }

    /// Proposes an entry that another server made. Leader only.
    pub(super) async fn propose_entry(&self, entry: Vec<u8>) -> Result<Vec<Outcome>, ProposeError> {
        self.node.propose(entry).await
    }

    /// Waits until the View shows the newest of some outcomes, so that whoever wrote can read it.
    async fn shown(&self, outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, ProposeError> {
        let done = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Done(revision) => Some(*revision),
            Outcome::Refused(_) => None,
        });
        let Some(newest) = done.max() else { return Ok(outcomes) };
        let mut views = self.views.clone();
        let limit = Duration::from_secs(SHOWN_SECONDS_MAX);
        let shown = views.wait_for(|view| view.revision() >= newest);
        match tokio::time::timeout(limit, shown).await {
            Ok(Ok(_)) => Ok(outcomes),
            Ok(Err(_)) => Err(ProposeError::Stopped("shut down".to_owned())),
            Err(_) => Err(ProposeError::Uncertain),
        }
    }
}
