//! What the API asks of a server.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, Response, StatusCode},
};
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::Value;
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::TlsConnector;

use super::{
    Store, clock,
    dispatch::Dispatch,
    driver::DriverStats,
    export, import,
    inform::NotifyStats,
    nudge::{News, Nudge},
    preview::{self, Look, Preview},
    sealed::Opener,
};
use crate::{
    api::{self, Check, Draft, Failure, Peer, Uncommitted, Wish},
    git::{self, Message, Mirror, hook::Verdict},
    model::{CommitId, CommitName, NodeName, Object, Timestamp},
    plan::{self, Rollback},
    raft::{FSYNC_BUCKETS_SECONDS, FsyncTimes, ProposeError, ReadError},
    report::{self, LogFacts, NodeVerdict, PlanReport, Sample, Spread},
    schedule::Cluster,
    state::{Command, Outcome, View},
    trust::TokenKey,
};

/// How long a node may take to begin answering; it gives a pod ten seconds of them to accept a
/// connection.
const NODE_SECONDS_MAX: u64 = 15;

/// How long a push or a fetch that a person waits for may take.
const GIT_SECONDS_MAX: u64 = 60;

/// What the API asks of a server, answered by its parts.
pub(super) struct Backend {
    pub(super) store: Store,
    pub(super) importer: Arc<import::Importer>,
    pub(super) mirror: Arc<Mirror>,
    pub(super) nudge: Nudge,
    pub(super) agents: Dispatch,
    pub(super) opener: Opener,
    pub(super) exports: Arc<export::ExportStats>,
    pub(super) notices: Arc<NotifyStats>,
    pub(super) drives: Arc<DriverStats>,
    pub(super) hook_secret: Option<Vec<u8>>,
    pub(super) agent_tls: watch::Receiver<Arc<ClientConfig>>,
    pub(super) writes: api::Writes,
    pub(super) audit: api::Audit,
    pub(super) token_key: TokenKey,
}

impl api::Backend for Backend {
    fn views(&self) -> watch::Receiver<View> {
        self.store.views()
    }

    fn log(&self) -> LogFacts {
        let metrics = self.store.node().metrics();
        let role = self.store.roles().borrow().clone();
        let members = self.store.members().into_iter().map(|m| report::Member {
            id: format!("{:016x}", m.id),
            address: m.address,
            voter: m.voter,
        });
        LogFacts {
            server: format!("{:016x}", metrics.id),
            role: if role.is_leader { "leader" } else { "follower" }.to_owned(),
            leader: role.leader.map(|l| format!("{:016x}", l.id)),
            term: metrics.term,
            last_log_index: metrics.last_log_index.unwrap_or_default(),
            applied_index: metrics.applied_index.unwrap_or_default(),
            members: members.collect(),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let metrics = self.store.node().metrics();
        let leader = self.store.roles().borrow().leader.is_some();
        let full = "the disk is full: free space in the data directory".to_owned();
        let healing = "a damaged part of the log is fetched again".to_owned();
        let alone = "no leader: is a majority of servers up?".to_owned();
        vec![
            Check { name: "leader", failed: (!leader).then_some(alone) },
            Check { name: "disk", failed: metrics.storage_full.then_some(full) },
            Check { name: "log", failed: metrics.healing_index.is_some().then_some(healing) },
            Check { name: "sealed", failed: self.opener.failure() },
        ]
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn samples(&self) -> Vec<Sample> {
        let metrics = self.store.node().metrics();
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed) as f64;
        let imports = &self.importer.stats;
        let round = count(&self.drives.round_micros) / 1e6;
        let mut samples = vec![
            Sample::new("mainstay_driver_round_seconds", &[], round),
            Sample::new("mainstay_driver_rounds_total", &[], count(&self.drives.rounds)),
            Sample::new("mainstay_export_commits_total", &["done"], count(&self.exports.commits)),
            Sample::new(
                "mainstay_export_commits_total",
                &["failed"],
                count(&self.exports.failures),
            ),
            Sample::new("mainstay_notify_deliveries_total", &["done"], count(&self.notices.done)),
            Sample::new(
                "mainstay_notify_deliveries_total",
                &["failed"],
                count(&self.notices.failed),
            ),
            Sample::new(
                "mainstay_notify_deliveries_total",
                &["dropped"],
                count(&self.notices.dropped),
            ),
            Sample::new("mainstay_source_fetches_total", &["done"], count(&imports.answers)),
            Sample::new("mainstay_source_fetches_total", &["failed"], count(&imports.failures)),
            Sample::new("mainstay_agents_connected", &[], self.agents.sessions() as f64),
            fsyncs(&metrics.fsync),
        ];
        samples.extend(self.agents.samples());
        for (kind, count) in self.importer.drift.corrected() {
            let count = count as f64;
            samples.push(Sample::new("mainstay_drift_corrections_total", &[&kind], count));
        }
        for (peer, seen) in &metrics.peers {
            let peer = format!("{peer:016x}");
            let lag = seen.lag_entries as f64;
            samples.push(Sample::new("mainstay_raft_peer_lag_entries", &[&peer], lag));
        }
        samples
    }

    fn verdicts(&self, view: &View, pod: &Object) -> Vec<NodeVerdict> {
        Cluster::of(view)
            .verdicts(pod)
            .into_iter()
            .map(|(node, reason)| NodeVerdict { node: node.to_string(), reason })
            .collect()
    }

    fn contains(&self, of: CommitName, commit: CommitId) -> BoxFuture<'_, bool> {
        let mirror = match of.is_main() {
            true => Some(self.mirror.clone()),
            false => self.nudge.sources.mirror(&of.source),
        };
        let Some(mirror) = mirror else { return async { false }.boxed() };
        let ask = move || mirror.reader()?.contains(&of.id, &commit);
        let asked = tokio::task::spawn_blocking(ask);
        async move { matches!(asked.await, Ok(Ok(true))) }.boxed()
    }

    fn plan(&self, revision: String, merged: bool) -> BoxFuture<'_, Result<PlanReport, Failure>> {
        self.plan_revision(revision, merged).boxed()
    }

    fn receive(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
    ) -> BoxFuture<'_, Result<PlanReport, Failure>> {
        self.look_at_pack(old, new, pack, Look::Pushed).boxed()
    }

    fn compare(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
        merged: bool,
    ) -> BoxFuture<'_, Result<PlanReport, Failure>> {
        let look = if merged { Look::Merged } else { Look::Drafted };
        self.look_at_pack(old, new, pack, look).boxed()
    }

    fn rollback(
        &self,
        revision: Option<String>,
        who: Peer,
    ) -> BoxFuture<'_, Result<CommitId, Failure>> {
        self.push_rollback(revision, who).boxed()
    }

    fn promote(&self, revision: String, who: Peer) -> BoxFuture<'_, Result<CommitId, Failure>> {
        self.push_promotion(revision, who).boxed()
    }

    fn commit(&self, wish: Wish) -> BoxFuture<'_, Result<CommitId, Uncommitted>> {
        self.make_commit(wish).boxed()
    }

    fn draft(&self, wish: Wish) -> BoxFuture<'_, Result<Draft, Uncommitted>> {
        self.draft_commit(wish).boxed()
    }

    fn hook(&self, headers: HeaderMap, body: Bytes) -> BoxFuture<'_, Result<bool, Failure>> {
        std::future::ready(self.judge(&headers, &body)).boxed()
    }

    fn propose(&self, commands: Vec<Command>) -> BoxFuture<'_, Result<Vec<Outcome>, Failure>> {
        async move { self.store.forward(commands).await.map_err(|e| not_proposed(&e)) }.boxed()
    }

    fn barrier(&self) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            let told = |e: ReadError| Failure::unavailable(format!("nothing newer is known: {e}"));
            self.store.barrier().await.map_err(told)
        }
        .boxed()
    }

    fn writes(&self) -> api::Writes {
        self.writes
    }

    fn audit(&self) -> api::Audit {
        self.audit.clone()
    }

    fn opened(&self, object: &Object) -> Object {
        self.opener.open(object)
    }

    fn recipients(&self) -> Vec<String> {
        self.opener.recipients()
    }

    fn random(&self) -> u128 {
        rand::random()
    }

    fn sign_token(&self, claims: &[u8]) -> Result<String, Failure> {
        self.token_key.sign(claims).map_err(|e| Failure::internal(e.to_string()))
    }

    fn open_token(&self, token: &str) -> Option<Vec<u8>> {
        self.token_key.open(token)
    }

    fn token_keys(&self) -> Vec<Value> {
        vec![self.token_key.public()]
    }

    fn ask(
        &self,
        node: NodeName,
        request: Request<Body>,
    ) -> BoxFuture<'_, Result<Response<Body>, Failure>> {
        self.ask_node(node, request).boxed()
    }
}

/// Why a write did not get into the log.
fn not_proposed(error: &ProposeError) -> Failure {
    match error {
        ProposeError::TooLarge { .. } => Failure::of(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the write does not fit the log: {error}"),
        ),
        ProposeError::Busy => Failure::too_many(error.to_string()),
        ProposeError::Uncertain => Failure::timeout(error.to_string()),
        _ => Failure::unavailable(error.to_string()),
    }
}

impl Backend {
    /// Makes a commit here when this server leads, else by way of the one that does.
    async fn make_commit(&self, wish: Wish) -> Result<CommitId, Uncommitted> {
        let not_now = |why: String| Uncommitted::Unavailable(why);
        let leader = self.store.roles().borrow().leader.clone();
        let commit = if self.store.is_leader() {
            let importer = self.importer.clone();
            // It goes on when the asker has gone: half a commit would be one that nobody admits.
            let made = tokio::spawn(async move { importer.commit(wish).await });
            made.await.map_err(|e| not_now(e.to_string()))??
        } else {
            let leader = leader.ok_or_else(|| not_now("no server leads".to_owned()))?;
            let tls = self.agent_tls.borrow().clone();
            let asked = super::forward::ask_commit(tls, &leader, &wish).await;
            asked.map_err(|e| not_now(format!("the leader did not answer: {e:#}")))??
        };
        self.store.barrier().await.map_err(|e| not_now(e.to_string()))?;
        Ok(commit)
    }

    /// As [`make_commit`](Self::make_commit), without the commit.
    async fn draft_commit(&self, wish: Wish) -> Result<Draft, Uncommitted> {
        let not_now = |why: String| Uncommitted::Unavailable(why);
        if self.store.is_leader() {
            return self.importer.draft(wish).await;
        }
        let leader = self.store.roles().borrow().leader.clone();
        let leader = leader.ok_or_else(|| not_now("no server leads".to_owned()))?;
        let tls = self.agent_tls.borrow().clone();
        let asked = super::forward::ask_draft(tls, &leader, &wish).await;
        asked.map_err(|e| not_now(format!("the leader did not answer: {e:#}")))?
    }

    /// What a commit would change of which the mirror has not all: `pack` brings the rest.
    async fn look_at_pack(
        &self,
        old: Option<CommitId>,
        new: CommitId,
        pack: Bytes,
        look: Look,
    ) -> Result<PlanReport, Failure> {
        let mirror = self.mirror.clone();
        let take = move || {
            if let Some(old) = old.filter(|old| !mirror.has(old).unwrap_or(false)) {
                mirror.fetch(Duration::from_secs(GIT_SECONDS_MAX))?;
                if !mirror.has(&old)? {
                    return Err(git::Error::Unknown { commit: old.to_string() });
                }
            }
            mirror.take_pack(&pack)
        };
        let taken = tokio::task::spawn_blocking(take).await;
        taken.map_err(|e| Failure::internal(e.to_string()))?.map_err(|e| failure(&e))?;
        self.plan_of(new, look).await
    }

    async fn plan_revision(&self, revision: String, merged: bool) -> Result<PlanReport, Failure> {
        let commit = self.resolve(revision).await?;
        self.plan_of(commit, if merged { Look::Merged } else { Look::Pushed }).await
    }

    async fn plan_of(&self, commit: CommitId, look: Look) -> Result<PlanReport, Failure> {
        let view = self.store.view();
        let seen = self.importer.preview(&commit, &view, look).await;
        let mut plan = match seen.map_err(|e| Failure::unavailable(e.to_string()))? {
            Preview::Contained => PlanReport::default(),
            Preview::Conflict(files) => preview::conflict(files),
            Preview::Plan(plan) => *plan,
        };
        plan.commit = Some(commit.to_string());
        Ok(plan)
    }

    /// The commit a person names: a full id, an abbreviation, a branch or tag of the remote.
    async fn resolve(&self, revision: String) -> Result<CommitId, Failure> {
        let mirror = self.mirror.clone();
        let within = Duration::from_secs(GIT_SECONDS_MAX);
        let found = tokio::task::spawn_blocking(move || mirror.resolve(&revision, within)).await;
        found.map_err(|e| Failure::internal(e.to_string()))?.map_err(|e| failure(&e))
    }

    /// Without a revision: goes back to the last good state. With one: to the files of that commit.
    async fn push_rollback(
        &self,
        revision: Option<String>,
        who: Peer,
    ) -> Result<CommitId, Failure> {
        let nothing = || Failure::conflict("there is no commit to take back yet");
        let way = match revision {
            Some(revision) => Rollback::Restore(self.resolve(revision).await?),
            None => plan::rollback(&self.store.view()).ok_or_else(nothing)?,
        };
        let author = person(&who);
        let mirror = self.mirror.clone();
        let within = Duration::from_secs(GIT_SECONDS_MAX);
        let push = move || {
            // Who goes back in a freeze means it.
            let trailers = vec![
                ("Via".to_owned(), "mainstay rollback".to_owned()),
                (plan::freeze::OVERRIDE_TRAILER.to_owned(), "mainstay rollback".to_owned()),
            ];
            match way {
                Rollback::Restore(to) => {
                    let facts = mirror.reader()?.commit(&to)?;
                    let message = Message {
                        subject: format!("Roll back to {} \"{}\"", to.short(), facts.subject),
                        body: format!("This restores the files of commit {to}."),
                        trailers,
                    };
                    mirror.restore(&to, &message, &author, &export::us(), within)
                }
                Rollback::Revert(head) => {
                    let facts = mirror.reader()?.commit(&head)?;
                    let message = Message {
                        subject: format!("Revert \"{}\"", facts.subject),
                        body: format!("This reverts commit {head}."),
                        trailers,
                    };
                    mirror.revert(&head, &message, &author, &export::us(), within)
                }
            }
        };
        let pushed = tokio::task::spawn_blocking(push).await;
        let pushed = pushed.map_err(|e| Failure::internal(e.to_string()))?;
        let commit = pushed.map_err(|e| failure(&e))?.commit;
        self.nudge.send(News::All);
        Ok(commit)
    }

    /// Merges a revision into the desired branch, unless the cluster would refuse what results.
    async fn push_promotion(&self, revision: String, who: Peer) -> Result<CommitId, Failure> {
        let tip = self.resolve(revision.clone()).await?;
        let plan = self.plan_of(tip.clone(), Look::Merged).await?;
        if !plan.problems.is_empty() {
            let text = format!("{revision} cannot be promoted");
            return Err(Failure::invalid(&text, plan.problems));
        }
        let author = person(&who);
        let message = Message {
            subject: format!("Promote {revision}"),
            body: format!("This merges commit {tip}."),
            trailers: vec![("Via".to_owned(), "mainstay promote".to_owned())],
        };
        let mirror = self.mirror.clone();
        let within = Duration::from_secs(GIT_SECONDS_MAX);
        let push = move || mirror.promote(&tip, &message, &author, &export::us(), within);
        let pushed = tokio::task::spawn_blocking(push).await;
        let pushed = pushed.map_err(|e| Failure::internal(e.to_string()))?;
        let commit = pushed.map_err(|e| failure(&e))?.commit;
        self.nudge.send(News::All);
        Ok(commit)
    }

    fn judge(&self, headers: &HeaderMap, body: &Bytes) -> Result<bool, Failure> {
        let secret = self.hook_secret.as_deref().ok_or_else(|| {
            Failure::not_found("no hook is set up; set source.hookSecretFile to a shared secret")
        })?;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let reference = self.mirror.remote().reference.full_name();
        match git::hook::judge(secret, header, body, reference.as_deref()) {
            Verdict::Look => {
                self.nudge.send(News::All);
                Ok(true)
            }
            Verdict::Branch => {
                self.nudge.send(News::Branches);
                Ok(true)
            }
            Verdict::Elsewhere => {
                // Another source may follow that branch.
                self.nudge.send(News::Sources);
                Ok(false)
            }
            Verdict::Unsigned => Err(Failure::unauthorized("the delivery carries no signature")),
            Verdict::Forged => Err(Failure::forbidden("the signature does not fit the secret")),
            Verdict::Oversized => Err(Failure::bad_request("the delivery is too large")),
        }
    }

    async fn ask_node(
        &self,
        node: NodeName,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let address = agent_address(&self.store.view(), &node)?;
        let tls = self.agent_tls.borrow().clone();
        let asking = ask_agent(tls, &node, address, request);
        let limit = Duration::from_secs(NODE_SECONDS_MAX);
        match tokio::time::timeout(limit, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let text = format!("node {node} at {address} does not answer: {error:#}");
                Err(Failure::unavailable(text))
            }
            Err(_) => Err(Failure::timeout(format!("node {node} at {address} does not answer"))),
        }
    }
}

/// Who asked, as an author.
fn person(who: &Peer) -> git::Person {
    let email = format!("{}@mainstay", who.user.replace(':', "."));
    git::Person { name: who.user.clone(), email, at: clock::now() }
}

/// The log's fsyncs; its buckets count each fsync once, a histogram's each bound all below it.
fn fsyncs(times: &FsyncTimes) -> Sample {
    let mut below = 0;
    let bucket = |(bound, count): (&f64, &u64)| {
        below += count;
        (*bound, below)
    };
    let buckets = FSYNC_BUCKETS_SECONDS.iter().zip(&times.buckets).map(bucket).collect();
    let spread = Spread { buckets, count: times.count };
    Sample::histogram("mainstay_raft_fsync_seconds", &[], times.sum_seconds, spread)
}

/// Where a node's agent serves logs and streams.
fn agent_address(view: &View, node: &NodeName) -> Result<SocketAddr, Failure> {
    let known = view.get::<Node>("", node.as_str());
    let known = known.ok_or_else(|| Failure::not_found(format!("nodes \"{node}\" not found")))?;
    let status = known.status.as_ref();
    let internal = status.and_then(|s| {
        s.addresses.as_ref()?.iter().find(|a| a.type_ == "InternalIP")?.address.parse().ok()
    });
    let port = status.and_then(|s| {
        u16::try_from(s.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()?.port).ok()
    });
    match (internal, port) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(Failure::unavailable(format!("node {node} has not said where its agent serves"))),
    }
}

async fn ask_agent(
    tls: Arc<ClientConfig>,
    node: &NodeName,
    address: SocketAddr,
    mut request: Request<Body>,
) -> anyhow::Result<Response<Body>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(node.to_string())?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(event = "connection to an agent ended", %error);
        }
    });
    request.headers_mut().insert("host", node.as_str().parse()?);
    let answer = sender.send_request(request).await?;
    // The sender lives as long as the body, or the connection would close behind the head.
    Ok(answer.map(move |body| {
        let bytes = Body::new(body).into_data_stream().map(move |part| {
            let _open = &sender;
            part
        });
        Body::from_stream(bytes)
    }))
}

/// What a person hears when Git does not do what was asked.
fn failure(error: &git::Error) -> Failure {
    match error {
        git::Error::Unknown { .. } | git::Error::Missing { .. } => {
            Failure::not_found(error.to_string())
        }
        git::Error::Argument { .. } | git::Error::Reference { .. } => {
            Failure::bad_request(error.to_string())
        }
        git::Error::Conflict { .. } | git::Error::Rejected { .. } | git::Error::Moved { .. } => {
            Failure::conflict(error.to_string())
        }
        git::Error::Timeout { .. } => Failure::timeout(error.to_string()),
        _ => Failure::unavailable(error.to_string()),
    }
}
