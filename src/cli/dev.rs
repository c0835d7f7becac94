//! `mainstay dev`: a whole cluster in one process, with a repository of its own.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Error, agent_metrics,
    background::{self, PidFile},
    kubeconfig, machine, output,
    server::reachable,
};
use crate::{
    agent::{self, Agent},
    config::{
        AGENT_METRICS_PORT, API_PORT, NetworkConfig, SERVER_METRICS_PORT, ServerConfig,
        SourceConfig, WritesConfig,
    },
    git,
    model::NodeName,
    server::{PKI, Server, Setup, node_leaf_of, server_leaf},
    state::{ClusterConfig, Command as StateCommand},
    trust::{Ca, KeyFiles, Leaf, write_private},
};

/// How long a start may take until everything answers.
const READY_SECONDS_MAX: u64 = 60;

const PID: &str = "dev.pid";

/// Where what must not outlive a boot is kept: Secrets of pods.
const RUN: &str = "/run/mainstay";

/// Run a whole cluster on this machine, from a repository of its own
#[derive(Args, Debug)]
pub(super) struct Verb {
    /// Folder of the cluster: repository, keys, log, data
    #[arg(long, env = "MAINSTAY_DIR", global = true)]
    dir: Option<PathBuf>,
    /// Return when the cluster is ready and leave it running
    #[arg(long)]
    detach: bool,
    /// Docker's socket
    #[arg(long, default_value = "/var/run/docker.sock", global = true)]
    docker: PathBuf,
    /// Follow this repository instead of the embedded one
    #[arg(long)]
    source: Option<String>,
    /// What becomes of writes through the API that no namespace decides
    #[arg(long, value_enum, default_value = "commit")]
    writes: Writes,
    /// What becomes of a push to the embedded repository that the cluster would refuse
    #[arg(long, value_enum, default_value = "refuse")]
    on_push: OnPush,
    #[command(subcommand)]
    verb: Option<DevVerb>,
}

/// What becomes of a push that the cluster would refuse.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OnPush {
    /// Refuse it, and print its problems to who pushes
    Refuse,
    /// Print its problems and let it in
    Warn,
    /// Let it in
    Ignore,
}

impl OnPush {
    /// The command of the hook, for the shell.
    fn command(self, dir: &Path) -> anyhow::Result<Option<String>> {
        let warn = match self {
            Self::Ignore => return Ok(None),
            Self::Warn => " --warn",
            Self::Refuse => "",
        };
        let program = std::env::current_exe()?;
        let quoted =
            |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
        let branch = git::embedded::BRANCH;
        let (program, dir) = (quoted(&program), quoted(dir));
        Ok(Some(format!("{program} receive --dir {dir} --branch {branch}{warn}")))
    }
}

/// What becomes of writes through the API.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// Make them commits
    Commit,
    /// Refuse them with the advice to commit
    Refuse,
    /// Take them into the cluster's state; Git does not hear of them
    Direct,
}

impl From<Writes> for WritesConfig {
    fn from(writes: Writes) -> Self {
        match writes {
            Writes::Commit => Self::Commit,
            Writes::Refuse => Self::Refuse,
            Writes::Direct => Self::Direct,
        }
    }
}

/// What else can be done with it.
#[derive(Subcommand, Debug)]
enum DevVerb {
    /// Stop the cluster; its containers keep running unless --clean is given
    Stop {
        /// Remove containers, network, rules and the folder too
        #[arg(long)]
        clean: bool,
    },
}

/// `endpoints.json`: where scripts find the cluster.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoints {
    /// The API (`https://127.0.0.1:6443`).
    pub api: String,
    /// The server's metrics (`http://127.0.0.1:9345/metrics`).
    pub metrics: String,
    /// The agent's metrics (`http://127.0.0.1:9346/metrics`).
    pub agent_metrics: String,
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    let dir = super::cluster_dir(verb.dir.as_deref())?;
    match verb.verb {
        Some(DevVerb::Stop { clean }) => stop(verb, &dir, clean),
        None if verb.detach => {
            let mut args: Vec<OsString> = vec!["dev".into(), "--dir".into(), dir.clone().into()];
            args.extend(["--docker".into(), verb.docker.clone().into()]);
            if let Some(source) = &verb.source {
                args.extend(["--source".into(), source.into()]);
            }
            if let Some(value) = clap::ValueEnum::to_possible_value(&verb.writes) {
                args.extend(["--writes".into(), value.get_name().into()]);
            }
            if let Some(value) = clap::ValueEnum::to_possible_value(&verb.on_push) {
                args.extend(["--on-push".into(), value.get_name().into()]);
            }
            background::detach(&dir, "dev.log", &args)
        }
        None => {
            let ran = machine::runtime()?.block_on(foreground(verb, &dir));
            ran.map_err(|e| Error::ours(format!("{e:#}")))
        }
    }
}

async fn foreground(verb: &Verb, dir: &Path) -> anyhow::Result<()> {
    super::start_logging();
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let repository = dir.join("repo.git");
    git::embedded::init(&repository)?;
    let guarded = git::embedded::guard(&repository, verb.on_push.command(dir)?.as_deref())?;
    if guarded == git::embedded::Guarded::Foreign {
        tracing::warn!(event = "another pre-receive hook stays", repository = %repository.display());
    }
    let node = machine::node_name()?;
    let address = machine::own_address();
    let keys = KeyFiles::new(dir.join(PKI));
    let cluster = NetworkConfig::default().cluster(&machine::random_id());
    let cluster = cluster.map_err(anyhow::Error::msg)?;
    make_keys(&keys, &node, address, &cluster)?;

    let source = verb.source.clone();
    let source = source.unwrap_or_else(|| format!("file://{}", repository.display()));
    let mut config = server_config(source);
    config.writes = verb.writes.into();
    config.source.decryption.age_key_file = Some(age_key(dir)?);
    // Pods reach it by the machine's own address: loopback is another one to each of them.
    config.advertise = Some(SocketAddr::new(address, 0));
    let setup = Setup { commands: vec![StateCommand::Configure(cluster)] };
    let _pid = PidFile::take(dir, PID)?;
    let server = Server::start(dir, &config, Some(setup)).await?;
    let stop = CancellationToken::new();
    let mut options = agent_options(dir, &verb.docker, node, address);
    let api = reachable(server.api);
    options.servers = vec![api.to_string()];
    let terminated = machine::terminated()?;
    let starting = Agent::start(options, stop.clone());
    let agent = tokio::select! {
        started = starting => started?,
        () = terminated.clone().cancelled_owned() => {
            server.stop().await;
            return Ok(());
        }
    };
    let listener = bind_or_any(AGENT_METRICS_PORT).await?;
    let endpoints = Endpoints {
        api: format!("https://{api}"),
        metrics: format!("http://{}/metrics", server.metrics),
        agent_metrics: format!("http://{}/metrics", listener.local_addr()?),
    };
    let serving = tokio::spawn(agent_metrics::serve(listener, agent.vitals(), stop.clone()));
    let ready =
        async { agent.health().wait_for(|h| h.session && h.programmed.0 > 0).await.map(drop) };
    tokio::select! {
        ready = tokio::time::timeout(Duration::from_secs(READY_SECONDS_MAX), ready) => {
            ready.context("the agent was not ready in time; see the lines above")??;
        }
        () = terminated.clone().cancelled_owned() => {}
    }
    kubeconfig::write_admin(dir, &endpoints.api).map_err(|e| anyhow::anyhow!("{e}"))?;
    let text = serde_json::to_string(&endpoints)?;
    write_private(&dir.join("endpoints.json"), text.as_bytes())?;
    output::write(format!("{text}\n").as_bytes())?;
    tracing::info!(event = "ready", dir = %dir.display(), api = endpoints.api);

    let failed = tokio::select! {
        () = terminated.cancelled_owned() => None,
        why = server.failed() => Some(why),
    };
    tracing::info!(event = "stopping");
    agent.stop().await;
    stop.cancel();
    serving.await?;
    server.stop().await;
    fs::remove_file(dir.join("endpoints.json"))?;
    failed.map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
}

/// The CA and the key of tokens once; everything the CA signs anew at each start, so that nothing
/// of a dev cluster expires.
fn make_keys(
    keys: &KeyFiles,
    node: &NodeName,
    address: IpAddr,
    cluster: &ClusterConfig,
) -> anyhow::Result<()> {
    let now = machine::now();
    let ca = match keys.ca() {
        Ok(ca) => ca,
        Err(_) => {
            let ca = Ca::generate("dev", now)?;
            keys.write_ca(&ca)?;
            ca
        }
    };
    keys.token_key()?;
    let names: Vec<String> = ["localhost", "127.0.0.1"]
        .into_iter()
        .map(str::to_owned)
        .chain([node.to_string(), address.to_string()])
        .collect();
    keys.write_issued("server", &ca.issue(&server_leaf(&names, Some(cluster)), now)?)?;
    keys.write_issued("node", &ca.issue(&node_leaf_of(node, vec![address.to_string()]), now)?)?;
    keys.write_issued("admin", &ca.issue(&admin_leaf(), now)?)?;
    Ok(())
}

/// An administrator's certificate.
pub(super) fn admin_leaf() -> Leaf {
    Leaf {
        common_name: "kubernetes-admin".to_owned(),
        organizations: vec!["system:masters".to_owned()],
        names: Vec::new(),
        days: 365,
    }
}

/// The key that opens what is sealed for this cluster, made once.
fn age_key(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("age.key");
    if !path.exists() {
        super::seal::new_key(&path).map_err(|e| anyhow::anyhow!("{e}"))?;
    }
    Ok(path)
}

fn server_config(source: String) -> ServerConfig {
    ServerConfig {
        // Pods are not on this machine's loopback.
        listen: free_or_any(Ipv4Addr::UNSPECIFIED, API_PORT),
        metrics: free_or_any(Ipv4Addr::LOCALHOST, SERVER_METRICS_PORT),
        source: SourceConfig { url: source, ..SourceConfig::default() },
        ..ServerConfig::default()
    }
}

fn agent_options(dir: &Path, docker: &Path, node: NodeName, address: IpAddr) -> agent::Options {
    agent::Options {
        dir: dir.to_owned(),
        memory: Path::new(RUN).join("dev"),
        node,
        address,
        servers: Vec::new(),
        docker: docker.to_owned(),
        bridge: "podbr0".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        // Where the servers look for it.
        listen: SocketAddr::from((address, 0)),
        labels: [("node-role.kubernetes.io/control-plane".to_owned(), String::new())].into(),
    }
}

/// The usual port, or any when another program has it.
fn free_or_any(address: Ipv4Addr, port: u16) -> SocketAddr {
    let usual = SocketAddr::from((address, port));
    match std::net::TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from((address, 0)),
    }
}

async fn bind_or_any(port: u16) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(free_or_any(Ipv4Addr::LOCALHOST, port)).await
}

/// Ends the process that runs the cluster in `dir`; with `clean`, takes away everything it made.
fn stop(verb: &Verb, dir: &Path, clean: bool) -> Result<(), Error> {
    let ran = background::stop(dir, PID)?;
    if !clean {
        let none = || Error::no(format!("no cluster runs in {}", dir.display()));
        return if ran { Ok(()) } else { Err(none()) };
    }
    let node = machine::node_name().map_err(|e| Error::ours(e.to_string()))?;
    let options = agent_options(dir, &verb.docker, node, machine::own_address());
    let problems = machine::runtime()?.block_on(agent::clean(&options));
    if let Err(error) = fs::remove_dir(RUN) {
        // Another cluster of this machine may have its files there.
        tracing::debug!(event = "folder stays", path = RUN, %error);
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::ours(format!("could not be removed:\n{}", problems.join("\n")))),
    }
}
