//! Sessions of agents: desired state down, observed state up.
//!
//! Only the leader holds sessions; a follower sends an agent on to it. So what an agent reports is
//! proposed where it arrives, and one server knows when each agent was last heard.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{Heard, Store, clock, driver::Returns, sealed::Opener};
use crate::{
    model::{
        NodeName, Revision, Timestamp,
        session::{Hello, Survivor, ToAgent, ToServer, Welcome},
    },
    plan::{
        assign::Told,
        hearing,
        survivors::{Homecoming, Next, awaited},
    },
    raft::{ProposeError, Role},
    report::Sample,
    state::View,
    trust::{Identity, read_frame, write_frame},
};

/// How long a session may be silent before the server closes it. Agents send a heartbeat every few
/// seconds.
const SILENCE_SECONDS_MAX: u64 = 40;

/// How many messages of one agent wait to be proposed; when they are that many, its session is read
/// no further.
const BACKLOG_MAX: usize = 64;

/// What the proxies of each node with a session are programmed to; revision 0 until they have said
/// so.
pub(super) type Programmed = Arc<watch::Sender<BTreeMap<NodeName, Revision>>>;

/// What became of pods that outlived the cluster before this one, since this server started.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// They go on.
    pub(super) kept: AtomicU64,
    /// Their node removes them.
    pub(super) let_go: AtomicU64,
}

/// Serves the sessions of all agents.
#[derive(Clone)]
pub(super) struct Dispatch {
    store: Store,
    heard: Heard,
    returns: Returns,
    opener: Opener,
    programmed: Programmed,
    /// The session each node has; a later one ends the earlier.
    current: Arc<watch::Sender<BTreeMap<NodeName, u64>>>,
    judged: Arc<Judged>,
    stop: CancellationToken,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The stream failed.
    #[error("stream")]
    Io(#[from] std::io::Error),
    /// The peer is not who it says it is, or speaks out of turn.
    #[error("{0}")]
    Protocol(String),
    /// What the agent reported could not be proposed.
    #[error("report")]
    Propose(#[from] ProposeError),
    /// It was silent for too long.
    #[error("silent for {SILENCE_SECONDS_MAX} s")]
    Silent,
}

impl Dispatch {
    /// A dispatcher that writes when it heard whom into `heard`, and what they brought into
    /// `returns`.
    pub(super) fn new(
        store: Store,
        (heard, returns): (Heard, Returns),
        opener: Opener,
        stop: CancellationToken,
    ) -> Self {
        let programmed = Arc::new(watch::Sender::new(BTreeMap::new()));
        let current = Arc::new(watch::Sender::new(BTreeMap::new()));
        let judged = Arc::default();
        Self { store, heard, returns, opener, programmed, current, judged, stop }
    }

    /// What was kept of the cluster before this one, what was not, and for what nothing is decided.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let view = self.store.view();
        let waiting = self.returns.survivors.borrow().waiting(&view);
        let sample = |name, labels: &[&str], n| Sample::new(name, labels, n);
        let judged = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            sample("mainstay_nodes_awaited", &[], awaited(&view, clock::now()) as f64),
            sample("mainstay_survivors_total", &["kept"], judged(&self.judged.kept)),
            sample("mainstay_survivors_total", &["let_go"], judged(&self.judged.let_go)),
            sample("mainstay_survivors_waiting", &[], waiting as f64),
        ]
    }

    /// How many agents have a session here.
    pub(super) fn sessions(&self) -> usize {
        self.current.borrow().len()
    }

    /// Serves one session until it ends. `peer` is who TLS says it is.
    pub(super) async fn serve<S>(&self, stream: S, peer: Option<Identity>) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        if !self.store.is_leader() {
            write_frame(&mut writer, &ToAgent::Goodbye(self.leader())).await?;
            return Ok(());
        }
        let hello = within_silence(read_frame::<ToServer>(&mut reader)).await?;
        let Some(ToServer::Hello(hello)) = hello else {
            return Err(Error::Protocol("the first message was no hello".into()));
        };
        check_identity(&hello, peer)?;
        let node = hello.node.clone();
        let session = self.register(&node);
        tracing::info!(event = "session", %node, version = hello.version);
        let home = Homecoming::of(&hello, &self.cluster());
        self.greet(hello).await?;
        let result = self.converse(home, session, reader, writer).await;
        self.forget(&node, session);
        result
    }

    /// The leader's address; empty when there is none.
    fn leader(&self) -> String {
        let leader = self.store.roles().borrow().leader.clone();
        leader.map(|l| l.address).unwrap_or_default()
    }

    /// Which cluster this is; empty before it is one.
    fn cluster(&self) -> String {
        self.store.view().config().map(|config| config.cluster_id.clone()).unwrap_or_default()
    }

    fn welcome(&self) -> Welcome {
        let view = self.store.view();
        let range = view.config().map(|c| format!("{}/{}", c.pod_base, c.pod_prefix));
        Welcome {
            cluster: self.cluster(),
            cluster_cidr: range.unwrap_or_default(),
            servers: self.store.members().into_iter().map(|m| m.address).collect(),
        }
    }

    /// Makes this the node's session and ends the one before.
    fn register(&self, node: &NodeName) -> u64 {
        let mut session = 0;
        self.current.send_modify(|all| {
            session =
                all.get(node).map_or(0, |before| before + 1).max(rand::random::<u32>().into());
            all.insert(node.clone(), session);
        });
        self.programmed.send_modify(|all| {
            all.insert(node.clone(), Revision::default());
        });
        session
    }

    /// Ends a session, unless the node has a later one. Nobody waits for the node's proxies from
    /// now on.
    fn forget(&self, node: &NodeName, session: u64) {
        let ours = self.current.send_if_modified(|all| {
            let ours = all.get(node) == Some(&session);
            ours && all.remove(node).is_some()
        });
        if ours {
            self.programmed.send_modify(|all| {
                all.remove(node);
            });
            self.returns.survivors.send_if_modified(|all| all.leave(node));
        }
    }

    async fn greet(&self, hello: Hello) -> Result<(), Error> {
        self.hear(&hello.node);
        let node = hello.node.clone();
        if let Some(command) = hearing::command(&node, ToServer::Hello(hello)) {
            self.store.propose(vec![command]).await?;
        }
        Ok(())
    }

    fn hear(&self, node: &NodeName) {
        let now = clock::now();
        self.heard.send_modify(|all| {
            all.insert(node.clone(), now);
        });
    }

    async fn converse<S>(
        &self,
        home: Homecoming,
        session: u64,
        mut reader: ReadHalf<S>,
        writer: WriteHalf<S>,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let node = &home.node().clone();
        let (answers, to_send) = mpsc::channel(BACKLOG_MAX);
        let (bring, brought) = watch::channel(None);
        let mut asked = home.is_asked();
        let teller = self.tell((home, brought), writer, to_send);
        let listener = async {
            loop {
                match within_silence(read_frame::<ToServer>(&mut reader)).await? {
                    Some(ToServer::Survivors(pods)) if std::mem::take(&mut asked) => {
                        self.hear_survivors(node, pods, &bring);
                    }
                    Some(ToServer::Survivors(_)) => {
                        return Err(Error::Protocol("survivors that nobody asked for".into()));
                    }
                    Some(message) => self.hear_message(node, message, &answers).await?,
                    None => return Ok(()),
                }
            }
        };
        let mut current = self.current.subscribe();
        let replaced = async {
            while current.borrow_and_update().get(node) == Some(&session)
                && current.changed().await.is_ok()
            {}
        };
        tokio::select! {
            result = listener => result,
            result = teller => result,
            () = replaced => Err(Error::Protocol("the node opened another session".into())),
        }
    }

    /// Sends what the agent must know, as Views appear, and the answers to its heartbeats.
    async fn tell<S>(
        &self,
        (mut home, mut brought): (Homecoming, watch::Receiver<Option<usize>>),
        mut writer: WriteHalf<S>,
        mut answers: mpsc::Receiver<ToAgent>,
    ) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let mut views = self.store.views();
        let mut roles = self.store.roles();
        let mut programmed = self.programmed.subscribe();
        let mut rested = self.returns.rested.subscribe();
        let mut told = Told::nothing(home.node().clone());
        write_frame(&mut writer, &ToAgent::Welcome(self.welcome())).await?;
        loop {
            let view = views.borrow_and_update().clone();
            let confirmed = programmed.borrow_and_update().clone();
            rested.mark_unchanged();
            if let Some(count) = *brought.borrow_and_update() {
                home.bring(count);
            }
            let next = self.next(&mut home, &view);
            let waits = matches!(next, Next::Wait(_));
            let wake = match next {
                Next::Propose(commands) => {
                    self.store.propose(commands).await?;
                    continue;
                }
                Next::Wait(at) => at,
                Next::Tell => {
                    for desired in told.update(&view, &confirmed, clock::now()) {
                        let desired = self.opener.open_for_agent(desired);
                        write_frame(&mut writer, &ToAgent::Desired(desired)).await?;
                    }
                    told.wake_at()
                }
            };
            // Only who keeps something back waits for time or for proxies.
            let wake = wake.map(clock::instant_of);
            let goodbye = tokio::select! {
                changed = views.changed() => changed.is_err(),
                changed = programmed.changed(), if wake.is_some() => changed.is_err(),
                changed = rested.changed(), if waits => changed.is_err(),
                changed = brought.changed(), if waits => changed.is_err(),
                () = wait_until(wake) => false,
                answer = answers.recv() => match answer {
                    Some(answer) => {
                        write_frame(&mut writer, &answer).await?;
                        false
                    }
                    None => true,
                },
                () = until_follower(&mut roles) => true,
                () = self.stop.cancelled() => true,
            };
            if goodbye {
                write_frame(&mut writer, &ToAgent::Goodbye(self.leader())).await?;
                return Ok(());
            }
        }
    }

    /// What to do about a session now; of what its agent brought nothing is left once it is told
    /// what to run.
    fn next(&self, home: &mut Homecoming, view: &View) -> Next {
        let Returns { survivors, rested, seconds } = &self.returns;
        let times = (clock::now(), *seconds);
        let next = home.next(view, &rested.borrow(), &survivors.borrow(), times);
        if next == Next::Tell {
            let (node, lost) = (home.node(), home.lost(view, &survivors.borrow()));
            let (brought, kept) = survivors.borrow().kept_of(view, node);
            if survivors.send_if_modified(|all| all.leave(node)) {
                self.judged.kept.fetch_add(kept as u64, Ordering::Relaxed);
                self.judged.let_go.fetch_add((brought - kept) as u64, Ordering::Relaxed);
                tracing::info!(event = "survivors judged", %node, not_kept = lost.len());
                lost.iter().for_each(|why| tracing::info!(event = "survivor", %node, why));
            }
        }
        next
    }

    /// Takes what an agent still runs of another cluster.
    fn hear_survivors(
        &self,
        node: &NodeName,
        pods: Vec<Survivor>,
        bring: &watch::Sender<Option<usize>>,
    ) {
        self.hear(node);
        tracing::info!(event = "survivors", %node, pods = pods.len());
        let mut count = 0;
        self.returns.survivors.send_modify(|all| count = all.bring(node, pods));
        bring.send_replace(Some(count));
    }

    async fn hear_message(
        &self,
        node: &NodeName,
        message: ToServer,
        answers: &mpsc::Sender<ToAgent>,
    ) -> Result<(), Error> {
        self.hear(node);
        match &message {
            ToServer::Hello(_) => return Err(Error::Protocol("a second hello".into())),
            ToServer::Heartbeat(at) => return self.answer_heartbeat(node, *at, answers).await,
            ToServer::Programmed(revision) => {
                self.programmed.send_modify(|all| {
                    all.insert(node.clone(), *revision);
                });
            }
            _ => {}
        }
        if let Some(command) = hearing::command(node, message) {
            self.store.propose(vec![command]).await?;
        }
        Ok(())
    }

    /// A node that was taken for lost and is heard again is asked for its status by ending the
    /// session: it dials again and says hello.
    async fn answer_heartbeat(
        &self,
        node: &NodeName,
        at: Timestamp,
        answers: &mpsc::Sender<ToAgent>,
    ) -> Result<(), Error> {
        if hearing::is_lost(&self.store.view(), node) {
            return Err(Error::Protocol("was taken for lost: shall say hello again".into()));
        }
        answers
            .send(ToAgent::Heard(at))
            .await
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
            .map_err(Error::Io)
    }
}

/// Waits until `at`, or for ever when there is none.
async fn wait_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until this server does not lead.
async fn until_follower(roles: &mut watch::Receiver<Role>) {
    while roles.borrow_and_update().is_leader && roles.changed().await.is_ok() {}
}

fn check_identity(hello: &Hello, peer: Option<Identity>) -> Result<(), Error> {
    let wanted = format!("system:node:{}", hello.node);
    match peer {
        Some(peer) if peer.user == wanted && peer.groups.iter().any(|g| g == "system:nodes") => {
            Ok(())
        }
        Some(peer) => {
            Err(Error::Protocol(format!("{} may not speak for node {}", peer.user, hello.node)))
        }
        None => Err(Error::Protocol("no certificate: run `mainstay agent join`".into())),
    }
}

async fn within_silence<T>(message: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    let limit = Duration::from_secs(SILENCE_SECONDS_MAX);
    Ok(tokio::time::timeout(limit, message).await.map_err(|_| Error::Silent)??)
}
