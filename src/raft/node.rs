//! One server's part in the log: the room's door.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use openraft::Instant as _;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError,
};
use openraft::raft::ReadPolicy;
use openraft::rt::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Raft, ServerState};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::disk::Disk;
use super::log::{Log, Options, lock};
use super::machine::{Applied, Digest, Digests, Driver};
use super::network::{ByteStream, Connection, Dial, Network};
use super::snapshot::Snapshots;
use super::types::{Command, NodeId, Types, term_of};
use super::values::{
    Config, Divergence, Member, Metrics, PROPOSED_BYTES_MAX, Peer, ProposeError, ReadError, Role,
};
use super::wire::Kind;
use super::{ENTRY_BYTES_MAX, Error, Machine};

/// How long a starting node waits for a former process to let go of the directory.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How often something is tried again that only time can change: a leader not yet confirmed by a
/// majority, a directory not yet let go.
const RETRY: Duration = Duration::from_millis(10);

/// What a proposal counts for besides its bytes.
const PROPOSAL_BYTES: u32 = 512;

/// A running node; a cheap handle.
pub struct Node<M: Machine>(Arc<Inner<M>>);

impl<M: Machine> Clone for Node<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(super) struct Inner<M: Machine> {
    id: NodeId,
    config: Config,
    pub(super) raft: Raft<Types, Driver<M>>,
    pub(super) log: Log,
    pub(super) snapshots: Snapshots,
    pub(super) digests: Digests,
    dial: Arc<dyn Dial>,
    role: watch::Receiver<Role>,
    applied: watch::Receiver<Applied>,
    room: Semaphore,
    /// Whether the lead is being given away, by which another may lead at once.
    handing_over: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl<M: Machine> Node<M> {
    /// Opens the directory, restores the machine and takes part in the cluster it belongs to.
    ///
    /// A new directory belongs to none: call [`Node::init_single`] on the first server, and
    /// [`Node::add_learner_then_voter`] on the leader for every other one. The streams that
    /// others dial must be given to [`Node::serve`].
    pub async fn start(config: Config, machine: M, dial: Arc<dyn Dial>) -> Result<Self, Error> {
        let mut raft_config = config.check()?;
        let at = format!("make {}", config.dir.display());
        std::fs::create_dir_all(&config.dir).map_err(Error::io(at))?;
        let lock = lock_dir(&config.dir).await?;
        let id = node_id(&config.dir, &*config.disk)?;
        let snapshots = Snapshots::open(&config.dir.join("snapshots"), config.disk.clone())?;
        let log = Log::open(Options {
            dir: config.dir.join("log"),
            disk: config.disk.clone(),
            segment_bytes: config.segment_bytes,
            snapshot: snapshots.covered(),
            accept_loss: config.accept_loss,
            _lock: Some(lock),
        })?;
        raft_config.enable_elect = log.healing().is_none();
        let digests = Digests::default();
        let (progress, applied) = watch::channel(Applied::default());
        let driver = Driver::new(machine, snapshots.clone(), digests.clone(), progress)
            .map_err(Error::io("restore the newest snapshot"))?;
        let network = Network { dial: dial.clone() };
        let raft = Raft::new(id, Arc::new(raft_config), network, log.clone(), driver);
        let raft = raft.await.map_err(stopped)?;
        let (role_sender, role) = watch::channel(Role::default());
        let tasks = Mutex::new(Vec::new());
        let room = Semaphore::new(PROPOSED_BYTES_MAX as usize);
        let inner = Inner {
            id,
            config,
            raft,
            log,
            snapshots,
            digests,
            dial,
            role,
            applied,
            room,
            handing_over: AtomicBool::new(false),
            tasks,
        };
        let node = Self(Arc::new(inner));
        node.watch(role_sender);
        if node.alone() && node.0.log.healing().is_none() {
            // Nobody else can stand: no need to wait for silence.
            node.0.raft.trigger().elect(false).await.map_err(stopped)?;
        }
        Ok(node)
    }

    /// This node's id, drawn when its directory was made.
    pub fn id(&self) -> NodeId {
        self.0.id
    }

    /// Proposes one entry and returns the machine's answer once a majority has it on disk and it
    /// is applied here.
    ///
    /// Right after an election a leader is not yet confirmed, and for a moment there may be none:
    /// both are waited for within [`Config::timeout`]. A failed proposal may still be committed
    /// later ([`ProposeError::Uncertain`]); repeat it with the same request id inside.
    pub async fn propose(&self, entry: impl Into<Vec<u8>>) -> Result<M::Response, ProposeError> {
        let entry: Vec<u8> = entry.into();
        if entry.len() > ENTRY_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes: entry.len() });
        }
        let deadline = Instant::now() + self.0.config.timeout;
        let bytes = u32::try_from(entry.len()).unwrap_or(PROPOSED_BYTES_MAX) + PROPOSAL_BYTES;
        let room = tokio::time::timeout_at(deadline, self.0.room.acquire_many(bytes)).await;
        let _room = room.map_err(|_| ProposeError::Busy)?;
        let command = Command(entry.into());
        loop {
            if self.is_leader() && self.0.log.is_full() {
                return Err(ProposeError::StorageFull);
            }
            let write = self.0.raft.client_write(command.clone());
            let Ok(written) = tokio::time::timeout_at(deadline, write).await else {
                return Err(ProposeError::Uncertain);
            };
            let forward = match written {
                Ok(response) => {
                    let lost = || ProposeError::Stopped("the answer was lost".into());
                    return response.data.take().ok_or_else(lost);
                }
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => forward,
                Err(error) => return Err(ProposeError::Stopped(self.why(&error))),
            };
            let leader = self.elsewhere(&forward);
            if leader.is_some() || Instant::now() + RETRY >= deadline {
                return Err(ProposeError::NotLeader { leader });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.0.role.borrow().is_leader
    }

    /// Who leads, now and whenever it changes.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.0.role.clone()
    }

    /// How far the log is applied here, now and whenever it moves.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.0.applied.clone()
    }

    /// Returns when this node's machine has everything that was acknowledged before the call;
    /// what is read after it is linearizable.
    ///
    /// A leader with a valid lease (monotonic time) answers from memory, otherwise it asks a
    /// majority; a follower asks the leader and waits until it has caught up. Returns the index.
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        let deadline = Instant::now() + self.0.config.timeout;
        let index = self.read_index(deadline).await?;
        let mut applied = self.0.applied.clone();
        let caught_up = applied.wait_for(|applied| applied.index >= Some(index));
        match tokio::time::timeout_at(deadline, caught_up).await {
            Ok(Ok(_)) => Ok(index),
            Ok(Err(_)) => Err(ReadError::Stopped(self.why(&"the machine has stopped"))),
            Err(_) => Err(ReadError::Behind),
        }
    }

    /// What is applied here, when that is all that anybody was told: a leader answers when it has
    /// applied, so it takes that nobody else leads (a majority has answered a moment ago, and
    /// elects no other until it has heard nothing for a while) and that the term's own first entry
    /// is applied, and with it all that earlier leaders have acknowledged.
    fn leased_index(&self) -> Option<u64> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        // The others' patience, cut short by more than their clocks may differ from this one.
        let lease = Duration::from_millis(self.0.raft.config().election_timeout_max) * 3 / 4;
        let heard = metrics.last_quorum_acked.is_some_and(|at| at.elapsed() < lease);
        let settled = metrics.last_applied.is_some_and(|id| term_of(&id) == metrics.current_term);
        let leads = metrics.state == ServerState::Leader && settled && (heard || self.alone());
        let leads = leads && !self.0.handing_over.load(Ordering::Acquire);
        self.0.applied.borrow().index.filter(|_| leads)
    }

    async fn read_index(&self, deadline: Instant) -> Result<u64, ReadError> {
        let mut peer: Option<Connection> = None;
        loop {
            let leader = match self.local_read_index().await? {
                Ok(index) => return Ok(index),
                Err(leader) => leader,
            };
            if let Some(leader) = leader {
                let fresh = || Connection::new(self.0.dial.clone(), &leader.address);
                let connection = peer.get_or_insert_with(fresh);
                let left = deadline.saturating_duration_since(Instant::now());
                match connection.ask(Kind::ReadIndex, &(), left).await {
                    Ok(index) => return Ok(index),
                    // It may be down or just deposed: ask again who leads.
                    Err(error) => {
                        tracing::debug!(%error, leader = leader.id, "no read index");
                        peer = None;
                    }
                }
            }
            if Instant::now() + RETRY >= deadline {
                return Err(ReadError::NoLeader);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The read index if this node leads, otherwise who might.
    pub(super) async fn local_read_index(&self) -> Result<Result<u64, Option<Member>>, ReadError> {
        if let Some(index) = self.leased_index() {
            return Ok(Ok(index));
        }
        match self.0.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((id, _)) => Ok(Ok(id.index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Ok(Err(self.elsewhere(&forward)))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Ok(Err(None)),
            Err(error) => Err(ReadError::Stopped(self.why(&error))),
        }
    }

    /// The servers, voters and learners, by id.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = members.voter_ids().collect();
        let member = |(id, node): (&NodeId, &BasicNode)| Member {
            id: *id,
            address: node.addr.clone(),
            voter: voters.contains(id),
        };
        members.nodes().map(member).collect()
    }

    /// How long ago each other server answered this one, which leads, for the last time; those that
    /// never did are not in it.
    pub fn answered(&self) -> BTreeMap<NodeId, Duration> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let all = metrics.heartbeat.iter().flatten();
        all.filter_map(|(id, at)| Some((*id, at.as_ref()?.elapsed()))).collect()
    }

    /// Makes this new node the first and only voter of a new cluster.
    pub async fn init_single(&self) -> Result<(), Error> {
        let node = BasicNode::new(&self.0.config.address);
        let members = BTreeMap::from([(self.0.id, node)]);
        self.0.raft.initialize(members).await.map_err(|error| match error {
            RaftError::Fatal(error) => stopped(error),
            error => Error::Membership(error.to_string()),
        })
    }

    /// Whether this node was ever part of a cluster.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.0.raft.is_initialized().await.map_err(stopped)
    }

    /// Lets a server follow, and makes it a voter once it has caught up. Leader only; calling it
    /// again goes on where it was.
    pub async fn add_learner_then_voter(&self, id: NodeId, address: &str) -> Result<(), Error> {
        let deadline = Instant::now() + self.0.config.join_timeout;
        let learn = || self.0.raft.add_learner(id, BasicNode::new(address), true);
        self.change(deadline, learn, "the new server did not catch up in time").await?;
        let voters = || ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        let vote = || self.0.raft.change_membership(voters(), true);
        self.change(deadline, vote, "a majority did not agree in time").await
    }

    /// Removes a server, voter or learner. Leader only. A removed leader steps down.
    pub async fn remove(&self, id: NodeId) -> Result<(), Error> {
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.id == id) else {
            return Err(Error::Membership(format!("{id} is no member")));
        };
        if member.voter && members.iter().filter(|member| member.voter).count() == 1 {
            return Err(Error::Membership(format!("{id} is the last voter")));
        }
        let change = || match member.voter {
            true => ChangeMembers::RemoveVoters(BTreeSet::from([id])),
            false => ChangeMembers::RemoveNodes(BTreeSet::from([id])),
        };
        let deadline = Instant::now() + self.0.config.timeout;
        let change = || self.0.raft.change_membership(change(), false);
        self.change(deadline, change, "a majority did not agree in time").await
    }

    /// Changes members, waiting while another change goes on or the leader is not yet confirmed.
    async fn change<T, F>(
        &self,
        deadline: Instant,
        mut change: impl FnMut() -> F,
        late: &str,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<T, RaftError<Types, ClientWriteError<Types>>>>,
    {
        let late = || Error::Membership(late.into());
        loop {
            let changed = tokio::time::timeout_at(deadline, change()).await;
            let wait = match changed.map_err(|_| late())? {
                Ok(_) => return Ok(()),
                Err(RaftError::Fatal(error)) => return Err(stopped(error)),
                Err(RaftError::APIError(error)) => match error {
                    ClientWriteError::ForwardToLeader(forward) => {
                        let leader = self.elsewhere(&forward);
                        if leader.is_some() {
                            return Err(Error::NotLeader(leader));
                        }
                        late()
                    }
                    ClientWriteError::ChangeMembershipError(
                        error @ ChangeMembershipError::InProgress(_),
                    ) => Error::Membership(error.to_string()),
                    error => return Err(Error::Membership(error.to_string())),
                },
            };
            if Instant::now() + RETRY >= deadline {
                return Err(wait);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Gives the lead to another voter, if this node leads and one is there to take it, and says
    /// which. Whoever is about to stop spares the others the wait for a leader that is gone.
    pub async fn step_down(&self) -> Result<Option<NodeId>, Error> {
        let mut answered = self.answered();
        answered.retain(|_, ago| *ago < self.0.config.election_min);
        let other = |member: &Member| member.voter && member.id != self.id();
        let others = self.members().into_iter().filter(other);
        let next = others.filter_map(|member| Some((*answered.get(&member.id)?, member.id))).min();
        let Some((_, to)) = next.filter(|_| self.is_leader()) else { return Ok(None) };
        self.0.handing_over.store(true, Ordering::Release);
        let handed = self.hand_over(to).await;
        self.0.handing_over.store(false, Ordering::Release);
        handed.map(|()| Some(to))
    }

    async fn hand_over(&self, to: NodeId) -> Result<(), Error> {
        self.0.raft.trigger().transfer_leader(to).await.map_err(stopped)?;
        let mut role = self.role();
        let leads = |role: &Role| role.leader.as_ref().is_some_and(|leader| leader.id == to);
        match tokio::time::timeout(self.0.config.timeout, role.wait_for(leads)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped(self.why(&"shut down"))),
            Err(_) => Err(Error::Membership(format!("{to} did not take the lead in time"))),
        }
    }

    /// Makes a snapshot now and deletes the log behind it. Returns when it was asked for.
    pub async fn compact(&self) -> Result<(), Error> {
        self.0.raft.trigger().snapshot().await.map_err(stopped)
    }

    /// Compares our state's digests with all members that can be reached, at indexes both have.
    /// Returns how many members could be compared.
    pub async fn compare_digests(&self) -> Result<usize, Divergence> {
        let all = self.compare_each().await;
        let compared = all.len();
        all.into_iter().find_map(|(_, found)| found).map_or(Ok(compared), Err)
    }

    /// The same for each member that could be compared.
    pub async fn compare_each(&self) -> Vec<(Member, Option<Divergence>)> {
        let mut compared = Vec::new();
        for peer in self.members().into_iter().filter(|member| member.id != self.0.id) {
            let mut connection = Connection::new(self.0.dial.clone(), &peer.address);
            let asked = connection.ask(Kind::Digests, &(), self.0.config.timeout).await;
            let theirs: Vec<Digest> = match asked {
                Ok(theirs) => theirs,
                Err(error) => {
                    tracing::debug!(%error, peer = peer.id, "digests not compared");
                    continue;
                }
            };
            let ours = lock(&self.0.digests);
            let same = |ours: &&Digest, theirs: &Digest| ours.index == theirs.index;
            let pairs: Vec<(Digest, Digest)> = theirs
                .iter()
                .filter_map(|theirs| Some((*ours.iter().find(|o| same(o, theirs))?, *theirs)))
                .collect();
            drop(ours);
            if pairs.is_empty() {
                continue;
            }
            let found = pairs.into_iter().find(|(ours, theirs)| ours.digest != theirs.digest);
            let found = found.map(|(ours, theirs)| Divergence { peer: peer.clone(), ours, theirs });
            compared.push((peer, found));
        }
        compared
    }

    /// What this node knows of itself right now.
    pub fn metrics(&self) -> Metrics {
        let raft = self.0.raft.metrics().borrow_watched().clone();
        let index = |id: Option<super::types::LogId>| id.map(|id| id.index);
        let next = raft.last_log_index.map_or(0, |last| last + 1);
        let peers = raft.replication.unwrap_or_default().into_iter();
        let peer = |matched: Option<super::types::LogId>| Peer {
            matched: index(matched),
            lag_entries: next.saturating_sub(index(matched).map_or(0, |matched| matched + 1)),
        };
        Metrics {
            id: self.0.id,
            term: raft.current_term,
            last_log_index: raft.last_log_index,
            committed_index: index(raft.cluster_committed),
            applied_index: self.0.applied.borrow().index,
            snapshot_index: index(raft.snapshot),
            purged_index: index(raft.purged),
            peers: peers.filter(|(id, _)| *id != self.0.id).map(|(i, m)| (i, peer(m))).collect(),
            fsync: self.0.log.fsync_times(),
            storage_full: self.0.log.is_full(),
            healing_index: self.0.log.healing(),
        }
    }

    /// Answers a peer's requests on a stream it dialled, until it closes it.
    ///
    /// Who the peer is must have been proven before.
    pub async fn serve(&self, stream: impl ByteStream) -> std::io::Result<()> {
        super::serve::serve(&self.0, self, stream).await
    }

    /// Returns, with the reason, when this node no longer takes part: its disk failed or it was
    /// shut down. The process should end then.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.0.raft.metrics();
        loop {
            if let Err(error) = &metrics.borrow_watched().running_state {
                return self.why(error);
            }
            if metrics.changed().await.is_err() {
                return self.why(&"shut down");
            }
        }
    }

    /// Stops taking part; what is queued is on disk when this returns.
    pub async fn shutdown(&self) -> Result<(), Error> {
        let result = self.0.raft.shutdown().await;
        for task in lock(&self.0.tasks).drain(..) {
            task.abort();
        }
        let log = self.0.log.clone();
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        result.map_err(|error| Error::Stopped(error.to_string()))?;
        closed.map_err(|error| Error::Stopped(error.to_string()))
    }

    /// The leader, if it is another node and known by name.
    fn elsewhere(&self, forward: &ForwardToLeader<Types>) -> Option<Member> {
        let id = forward.leader_id.filter(|id| *id != self.0.id)?;
        let address = forward.leader_node.as_ref()?.addr.clone();
        Some(Member { id, address, voter: true })
    }

    fn alone(&self) -> bool {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().voter_ids().eq([self.0.id])
    }

    /// The log's own reason if it has one: it names the file and the cause.
    fn why(&self, error: &dyn fmt::Display) -> String {
        self.0.log.failed().unwrap_or_else(|| error.to_string())
    }

    /// Keeps the role up to date, compacts by bytes, and notices when lost entries are back.
    fn watch(&self, role: watch::Sender<Role>) {
        let node = Arc::downgrade(&self.0);
        let mut server = self.0.raft.server_metrics();
        let roles = tokio::spawn(async move {
            while let Some(inner) = node.upgrade() {
                let node = Node(inner);
                let (term, leader) = {
                    let metrics = server.borrow_watched();
                    (metrics.vote.leader_id.term, metrics.current_leader)
                };
                let known = node.members().into_iter().find(|m| Some(m.id) == leader);
                let is_leader = leader == Some(node.0.id);
                let now = Role { leader: known, term, is_leader };
                role.send_if_modified(|role| {
                    let changed = *role != now;
                    *role = now;
                    changed
                });
                drop(node);
                if server.changed().await.is_err() {
                    return;
                }
            }
        });
        let node = Arc::downgrade(&self.0);
        let mut applied = self.0.applied.clone();
        let upkeep = tokio::spawn(async move {
            while let Some(inner) = node.upgrade() {
                let index = applied.borrow_and_update().index;
                if let Err(error) = inner.upkeep(index).await {
                    tracing::error!(%error, "upkeep of the log ended");
                    return;
                }
                drop(inner);
                if applied.changed().await.is_err() {
                    return;
                }
            }
        });
        lock(&self.0.tasks).extend([roles, upkeep]);
    }
}

impl<M: Machine> Inner<M> {
    async fn upkeep(&self, applied: Option<u64>) -> Result<(), Error> {
        if let Some(heal) = self.log.healing().filter(|heal| applied >= Some(*heal)) {
            self.log.healed().await.map_err(Error::io("note that the log is whole again"))?;
            tracing::info!(heal, "the lost entries are back: voting again");
            self.raft.runtime_config().elect(true);
        }
        if self.log.bytes_to_compact(self.config.snapshot_log_bytes) {
            self.raft.trigger().snapshot().await.map_err(stopped)?;
        }
        Ok(())
    }
}

fn stopped(error: impl fmt::Display) -> Error {
    Error::Stopped(error.to_string())
}

async fn lock_dir(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let at = || format!("lock {}", path.display());
    let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = open.map_err(Error::io(at()))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::Error(error)) => return Err(Error::io(at())(error)),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(Error::InUse(dir.display().to_string()));
            }
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Reads the node's id, or draws it if the directory is new. Losing the directory makes a new
/// node: one that forgot its votes and entries must not pass for the one that had them.
fn node_id(dir: &Path, disk: &dyn Disk) -> Result<NodeId, Error> {
    let path = dir.join("id");
    let at = || format!("read {}", path.display());
    if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(Error::io(at()))?;
        let damaged = || Error::Damaged {
            what: format!("{} holds no id", path.display()),
            hint: "restore it from a backup, or remove the directory and let the server join anew"
                .into(),
        };
        return Ok(id_of(&uuid::Uuid::parse_str(text.trim()).map_err(|_| damaged())?));
    }
    if dir.join("log").exists() {
        return Err(Error::Damaged {
            what: format!("{} is missing beside a log", path.display()),
            hint: "restore it from a backup, or remove the directory and let the server join anew"
                .into(),
        });
    }
    let uuid = uuid::Uuid::new_v4();
    let partial = dir.join("id.new");
    disk.write_file(&partial, &[format!("{uuid}\n").as_bytes()]).map_err(Error::io(at()))?;
    std::fs::rename(&partial, &path).map_err(Error::io(at()))?;
    super::disk::sync_dir(dir).map_err(Error::io(at()))?;
    Ok(id_of(&uuid))
}

/// The first half of the UUID: 60 of its bits are random.
fn id_of(uuid: &uuid::Uuid) -> NodeId {
    uuid.as_u64_pair().0
}
