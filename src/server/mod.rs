#![expect(
    clippy::disallowed_methods,
    reason = "shell: reads the clock, draws ids, owns files and sockets"
)]
//! One control-plane replica: the loops that carry values between the rooms.
//!
//! In: a folder with keys and a log, a configuration. Out: a running [`Server`]. `import` carries
//! commits from Git into the log, `driver` what controllers decide, `dispatch` what agents must
//! know and have seen, `export` what must leave the cluster, `join` new machines. Only the leader's
//! loops act; every server applies the log and serves Views.
//!
//! Never here: deciding. Each loop asks a pure room and does what it says.

mod backend;
mod begin;
mod built;
mod clock;
mod commit;
mod compare;
mod dispatch;
mod drift;
mod driver;
mod export;
mod forward;
mod import;
mod inform;
mod join;
mod known;
mod listen;
mod machine;
mod moving;
mod nudge;
mod preview;
mod recall;
mod renew;
mod sealed;
mod signer;
mod sources;
mod store;
mod units;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api,
    config::{
        AuditConfig, AuditLevelConfig, NotifyConfig, ServerConfig, SourceConfig, TimingConfig,
        WritesConfig,
    },
    git::{self, Auth, Keys, Mirror, Reference, Remote, SigningKey},
    kinds::{GitReference, GitSourceSpec, PathDeadline, VerifySpec},
    model::CommitId,
    plan::Hearer,
    raft::{self, Node, TlsDial},
    seal::Keyring,
    state::{Command, MAIN_SOURCE},
    trust::{self, KeyFiles},
};

pub use begin::{Begun, begin};
pub use driver::Heard;
pub use join::{
    CERTIFICATE_DAYS, JoinAnswer, JoinRequest, JoinRole, LEADER_HEADER, MemberRequest,
    RenewRequest, TokenAnswer, TokenRequest, node_leaf_of, server_leaf,
};
pub(crate) use recall::recall;
pub use store::Store;

/// The group of servers in their certificates.
pub const SERVERS_GROUP: &str = "mainstay:servers";

/// The folder with keys below a server's folder.
pub const PKI: &str = "pki";

/// How long loops get to end.
const STOP_SECONDS_MAX: u64 = 10;

/// How long a server that stops tries to give the lead away: longer than a hand-over takes, no
/// longer than the others need to see for themselves that the leader is gone.
const HAND_OVER_SECONDS_MAX: u64 = 2;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys or certificates.
    #[error(transparent)]
    Trust(#[from] trust::Error),
    /// The log.
    #[error(transparent)]
    Raft(#[from] raft::Error),
    /// The mirror or the source's address.
    #[error(transparent)]
    Git(#[from] crate::git::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; is another server running?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// A file named in the configuration cannot be read.
    #[error("{field}: {path}")]
    File {
        /// The field that names it.
        field: &'static str,
        /// The file.
        path: String,
        /// The cause.
        #[source]
        cause: std::io::Error,
    },
    /// The configuration does not fit together.
    #[error("{0}")]
    Config(String),
    /// The first proposals of a new cluster failed.
    #[error("setting the cluster up")]
    Setup(#[from] raft::ProposeError),
    /// A worker thread ended.
    #[error("a thread ended while starting: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// A running server.
pub struct Server {
    store: Store,
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where metrics are read.
    pub metrics: SocketAddr,
    stop: CancellationToken,
    loops: JoinSet<()>,
    /// Why this server's state must not be served any more.
    wrong: watch::Receiver<Option<String>>,
}

/// What a brand-new cluster starts with.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Setup {
    /// Proposed once the log leads: ranges, tokens.
    pub commands: Vec<Command>,
}

impl Server {
    /// Starts the server whose keys and log are in `dir`. With `setup`, a log that belongs to no
    /// cluster begins one.
    pub async fn start(
        dir: &Path,
        config: &ServerConfig,
        setup: Option<Setup>,
    ) -> Result<Self, Error> {
        let keys = KeyFiles::new(dir.join(PKI));
        let ca = keys.ca()?;
        let root_ca = ca.certificate().to_owned();
        let token_key = keys.token_key()?;
        let keyring = renew::Keyring::open(keys, ca.clone())?;
        let listener = bind(config.listen).await?;
        let metrics_listener = bind(config.metrics).await?;
        let api_address = local(&listener, config.listen)?;
        let metrics_address = local(&metrics_listener, config.metrics)?;

        let (machine, views) = machine::StateMachine::new();
        let dial = keyring.servers();
        let raft_config = raft_config(dir, config, advertised(config, api_address));
        let node = Node::start(raft_config, machine, Arc::new(TlsDial { config: dial })).await?;
        let store = Store::new(node.clone(), views, keyring.agents());

        let mirror = open_mirror(dir, &config.source).await?;
        let stop = CancellationToken::new();
        let mut loops = JoinSet::new();
        let heard: Heard = Arc::default();
        let timing = crate::plan::Timing::from(&config.timing);
        let returns =
            driver::Returns { seconds: timing.node_return_seconds, ..driver::Returns::default() };
        let opener = sealed::Opener::new(store.clone(), Arc::new(age_keys(&config.source)?));
        let importer = import::Importer::new(
            store.clone(),
            mirror.clone(),
            (MAIN_SOURCE, source(&config.source, &config.timing)),
            signers(&config.source)?,
        );
        let importer = importer.opening(opener.keyring()).awaiting(timing.node_return_seconds);
        let importer = Arc::new(importer);
        let agents = dispatch::Dispatch::new(
            store.clone(),
            (heard.clone(), returns.clone()),
            opener.clone(),
            stop.clone(),
        );
        let sources = sources::Sources::new(store.clone(), dir, mirror.remote(), opener.clone());
        let sources = Arc::new(sources);
        let exports = Arc::new(export::ExportStats::default());
        let notices = Arc::new(inform::NotifyStats::default());
        let drives = Arc::new(driver::DriverStats::default());
        let branches = Arc::new(tokio::sync::Notify::new());
        let nudge = nudge::Nudge {
            store: store.clone(),
            main: importer.nudge(),
            branches: branches.clone(),
            sources: sources.clone(),
            telling: Arc::default(),
        };
        let backend = Arc::new(backend::Backend {
            nudge: nudge.clone(),
            store: store.clone(),
            importer: importer.clone(),
            mirror: mirror.clone(),
            agents: agents.clone(),
            opener,
            exports: exports.clone(),
            notices: notices.clone(),
            drives: drives.clone(),
            hook_secret: hook_secret(&config.source)?,
            agent_tls: keyring.agents(),
            writes: writes(config.writes),
            audit: audit(&config.audit)?,
            token_key: token_key.clone(),
        });
        let source = config.source.clone();
        let signing_ca = ca.clone();
        let joins = Arc::new(join::Joins { store: store.clone(), ca, token_key, source });
        let api::Routers { tls: front, plain: plain_router } = api::routers(backend);
        let forwards = forward::router(store.clone(), importer.clone(), nudge);
        let doors = listen::Doors {
            http: front.merge(join::router(joins)).merge(forwards),
            agents,
            servers: node.clone(),
        };
        loops.spawn(listen::serve(listener, keyring.listener(), doors, stop.clone()));
        loops.spawn(keyring.run(stop.clone()));
        loops.spawn(plain(metrics_listener, plain_router, stop.clone()));
        if let Some(setup) = setup
            && !node.is_initialized().await?
        {
            node.init_single().await?;
            store.propose(setup.commands).await?;
        }
        let address = advertised(config, api_address);
        let given = driver::Given { timing, root_ca, address };
        loops.spawn(signer::run(store.clone(), signing_ca, stop.clone()));
        loops.spawn(driver::run(store.clone(), (heard, returns), given, drives, stop.clone()));
        loops.spawn(preview::Previewer::new(importer.clone()).run(branches, stop.clone()));
        loops.spawn({
            let stop = stop.clone();
            async move { importer.run(stop).await }
        });
        loops.spawn({
            let stop = stop.clone();
            async move { sources.run(stop).await }
        });
        let receivers = receivers(&config.notify)?;
        let hearer = |to: &NotifyConfig| Hearer { name: to.name.clone(), kind: to.kind };
        let hearers = config.notify.iter().map(hearer).collect();
        for receiver in receivers {
            loops.spawn(receiver.run(store.clone(), notices.clone(), stop.clone()));
        }
        let exporter = export::Exporter::new(store.clone(), mirror, exports, hearers);
        loops.spawn(exporter.run(stop.clone()));
        let (tell, wrong) = watch::channel(None);
        loops.spawn(compare::run(node, tell, stop.clone()));
        Ok(Self { store, api: api_address, metrics: metrics_address, stop, loops, wrong })
    }

    /// The log and the Views.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Waits until the server must not serve any more, as after a disk error or when its state
    /// differs from the others', and says why; the process should end then.
    pub async fn failed(&self) -> String {
        let mut wrong = self.wrong.clone();
        let differs = async {
            match wrong.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            why = self.store.node().stopped() => format!("the log has stopped: {why}"),
            why = differs => why,
        }
    }

    /// Gives the lead away, stops every loop and closes the log. Nothing that was acknowledged is
    /// lost.
    pub async fn stop(mut self) {
        self.hand_over().await;
        self.stop.cancel();
        let ended = async { while self.loops.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), ended).await.is_err() {
            tracing::warn!(event = "loops did not end", seconds = STOP_SECONDS_MAX);
            self.loops.abort_all();
        }
        if let Err(error) = self.store.node().shutdown().await {
            tracing::warn!(event = "log not closed", %error);
        }
    }

    async fn hand_over(&self) {
        let limit = Duration::from_secs(HAND_OVER_SECONDS_MAX);
        match tokio::time::timeout(limit, self.store.node().step_down()).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(to))) => tracing::info!(event = "lead handed over", to),
            Ok(Err(error)) => tracing::warn!(event = "lead not handed over", %error),
            Err(_) => tracing::warn!(event = "lead not handed over in time"),
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|cause| Error::Listen { address, cause })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|cause| Error::Listen { address, cause })
}

/// Where others dial this server: as configured, or where it listens unless that is a wildcard.
fn advertised(config: &ServerConfig, listening: SocketAddr) -> SocketAddr {
    match config.advertise {
        Some(address) if address.port() == 0 => SocketAddr::new(address.ip(), listening.port()),
        Some(address) => address,
        None if listening.ip().is_unspecified() => {
            SocketAddr::from(([127, 0, 0, 1], listening.port()))
        }
        None => listening,
    }
}

fn raft_config(dir: &Path, config: &ServerConfig, address: SocketAddr) -> raft::Config {
    raft::Config {
        heartbeat: Duration::from_millis(config.raft.heartbeat_ms),
        election_min: Duration::from_millis(config.raft.election_ms_min),
        election_max: Duration::from_millis(config.raft.election_ms_max),
        accept_loss: config.accept_loss,
        ..raft::Config::new(dir.join("log"), address.to_string())
    }
}

/// Refuses a source that no server would start with: hostile or malformed addresses and names,
/// unreadable key files. Nothing is contacted.
pub fn check_source(config: &SourceConfig) -> Result<(), Error> {
    remote(config)?;
    deadlines(config)?;
    signers(config)?;
    age_keys(config)?;
    hook_secret(config).map(drop)
}

/// The receivers of notices, each by a name of its own.
fn receivers(config: &[NotifyConfig]) -> Result<Vec<inform::Receiver>, Error> {
    let names: BTreeSet<&str> = config.iter().map(|receiver| receiver.name.as_str()).collect();
    if names.len() < config.len() || names.contains("") {
        return Err(Error::Config("notify: each receiver needs a name of its own".to_owned()));
    }
    config.iter().map(inform::Receiver::new).collect()
}

fn signing_key(config: &SourceConfig) -> Result<Option<SigningKey>, Error> {
    let read = |path: &PathBuf| {
        SigningKey::read(path).map_err(|e| Error::Config(format!("source.signingKeyFile: {e}")))
    };
    config.signing_key_file.as_ref().map(read).transpose()
}

/// The keys that open what is sealed.
fn age_keys(config: &SourceConfig) -> Result<Keyring, Error> {
    let Some(path) = &config.decryption.age_key_file else { return Ok(Keyring::default()) };
    let text = read("source.decryption.ageKeyFile", path)?;
    let wrong = |why: String| {
        Error::Config(format!("source.decryption.ageKeyFile: {}: {why}", path.display()))
    };
    Keyring::parse(&text).map_err(wrong)
}

/// The keys whose signatures count.
fn signers(config: &SourceConfig) -> Result<Keys, Error> {
    let ours = signing_key(config)?;
    let spec = config.verify.clone().unwrap_or_default();
    if let Some(why) = spec.problem(&config.reference) {
        return Err(Error::Config(format!("source.verify.mode: {why}")));
    }
    keys_of(&spec, ours.as_ref()).map_err(|e| Error::Config(format!("source.verify.{e}")))
}

/// The keys that a source names, and ours; what is wrong begins with the field.
fn keys_of(spec: &VerifySpec, ours: Option<&SigningKey>) -> Result<Keys, String> {
    if let Some(since) = spec.since.as_ref().filter(|since| CommitId::parse(since).is_none()) {
        return Err(format!("since: {since:?} is no full id"));
    }
    Keys::read(&spec.allowed_signers, &spec.revoked_keys, &spec.pgp_keys, ours)
        .map_err(|e| e.to_string())
}

fn deadlines(config: &SourceConfig) -> Result<(), Error> {
    let wrong = |deadline: &PathDeadline| deadline.problem();
    match config.deadlines.iter().find_map(wrong) {
        Some(why) => Err(Error::Config(format!("source.deadlines: {why}"))),
        None => Ok(()),
    }
}

fn remote(config: &SourceConfig) -> Result<Remote, Error> {
    Ok(Remote::new(config.url.clone(), reference(&config.reference)?, auth(config)?)?)
}

async fn open_mirror(dir: &Path, config: &SourceConfig) -> Result<Arc<Mirror>, Error> {
    deadlines(config)?;
    let remote = remote(config)?;
    let dir = dir.join("mirror.git");
    let key = signing_key(config)?;
    let open = move || Ok::<_, git::Error>(Mirror::open(dir, remote)?.signing(key));
    Ok(Arc::new(tokio::task::spawn_blocking(open).await??))
}

fn reference(reference: &GitReference) -> Result<Reference, Error> {
    match (&reference.branch, &reference.tag, &reference.commit) {
        (None, None, None) => Ok(Reference::Branch("main".to_owned())),
        (Some(branch), None, None) => Ok(Reference::Branch(branch.clone())),
        (None, Some(tag), None) => Ok(Reference::Tag(tag.clone())),
        (None, None, Some(commit)) => {
            CommitId::parse(commit).map(Reference::Commit).ok_or_else(|| {
                Error::Config(format!("source.reference.commit: {commit:?} is no full id"))
            })
        }
        _ => Err(Error::Config(
            "source.reference: give a branch, a tag or a commit, one of them".into(),
        )),
    }
}

fn auth(config: &SourceConfig) -> Result<Auth, Error> {
    if let Some(key) = &config.ssh_key_file {
        let known_hosts = match &config.known_hosts_file {
            Some(path) => read("source.knownHostsFile", path)?,
            None => String::new(),
        };
        return Ok(Auth::Key { private_key: key.clone(), passphrase: None, known_hosts });
    }
    Ok(match &config.password_file {
        Some(path) => Auth::Password {
            user: config.username.clone().unwrap_or_else(|| "git".to_owned()),
            password: read("source.passwordFile", path)?.trim_end().to_owned(),
        },
        None => Auth::None,
    })
}

fn hook_secret(config: &SourceConfig) -> Result<Option<Vec<u8>>, Error> {
    let Some(path) = &config.hook_secret_file else { return Ok(None) };
    let secret = read("source.hookSecretFile", path)?.trim_end().as_bytes().to_vec();
    if secret.is_empty() {
        return Err(Error::Config(format!("source.hookSecretFile: {} is empty", path.display())));
    }
    Ok(Some(secret))
}

fn read(field: &'static str, path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|cause| Error::File {
        field,
        path: path.display().to_string(),
        cause,
    })
}

/// Opens the audit log that the configuration names.
fn audit(config: &AuditConfig) -> Result<api::Audit, Error> {
    let Some(file) = config.file.clone() else { return Ok(api::Audit::off()) };
    let path = file.display().to_string();
    let level = match config.level {
        AuditLevelConfig::Metadata => api::AuditLevel::Metadata,
        AuditLevelConfig::Request => api::AuditLevel::Request,
    };
    let file_bytes_max = u64::from(config.file_mebibytes_max) << 20;
    let files_kept = usize::from(config.files_kept);
    api::Audit::open(api::AuditSettings { file, level, file_bytes_max, files_kept })
        .map_err(|cause| Error::File { field: "audit.file", path, cause })
}

fn writes(config: WritesConfig) -> api::Writes {
    match config {
        WritesConfig::Commit => api::Writes::Commit,
        WritesConfig::Refuse => api::Writes::Refuse,
        WritesConfig::Direct => api::Writes::Direct,
    }
}

/// The source as an object says it.
fn source(config: &SourceConfig, timing: &TimingConfig) -> GitSourceSpec {
    GitSourceSpec {
        deadline_seconds: timing.commit_deadline_seconds,
        url: config.url.clone(),
        reference: config.reference.clone(),
        path: config.path.clone(),
        interval_seconds: config.interval_seconds.and_then(|s| i64::try_from(s).ok()),
        verify: config.verify.clone(),
        fast_forward_only: config.fast_forward_only,
        on_failure: config.on_failure,
        deadlines: config.deadlines.clone(),
        ..GitSourceSpec::default()
    }
}

/// Serves plain HTTP until `stop`: metrics on loopback.
async fn plain(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!(event = "metrics listener ended", %error);
    }
}
