//! `mainstay agent`: one node.

use std::{
    ffi::OsString,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    Error, agent_metrics,
    background::{self, PidFile},
    dev::Endpoints,
    joining::Door,
    machine, output, renewal,
};
use crate::{
    agent::{self, Agent},
    config::AgentConfig,
    model::NodeName,
    server::{JoinAnswer, JoinRequest, JoinRole, PKI},
    trust::{self, Issued, KeyFiles, Request},
};

/// The agent's folder unless told otherwise.
const DIR: &str = "/var/lib/mainstay/agent";

/// The agent's configuration file in its folder.
const CONFIG: &str = "agent.yaml";

const PID: &str = "agent.pid";

/// Run the agent of this node
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Folder of the agent: keys, what the servers said, files of pods
    #[arg(long, default_value = DIR, global = true)]
    dir: PathBuf,
    /// Return when the agent is ready and leave it running
    #[arg(long, global = true)]
    detach: bool,
    #[command(subcommand)]
    verb: Option<AgentVerb>,
}

#[derive(clap::Subcommand, Debug)]
enum AgentVerb {
    /// Join a cluster as a node and run; a node of a cluster that is gone keeps its containers
    Join {
        /// Address and port of a server of the cluster
        server: String,
        /// Token that `mainstay init` or `mainstay token create` printed
        #[arg(long)]
        token: String,
        /// Hash of the CA's key, printed with the token
        #[arg(long)]
        ca_hash: String,
        /// Name of the node; the machine's host name when absent
        #[arg(long)]
        node: Option<String>,
        /// The node's own address
        #[arg(long)]
        address: Option<IpAddr>,
        /// Docker's socket
        #[arg(long)]
        docker: Option<PathBuf>,
        /// Configuration file; flags override it
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Stop the agent that runs in the folder; its containers keep running unless --clean is given
    Stop {
        /// Remove containers, network, rules and the folder too
        #[arg(long)]
        clean: bool,
    },
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    let dir = std::path::absolute(&verb.dir).map_err(|e| Error::yours(e.to_string()))?;
    match &verb.verb {
        Some(AgentVerb::Stop { clean }) => return stop(&dir, *clean),
        Some(AgentVerb::Join { server, token, ca_hash, node, address, docker, config }) => {
            let before = Before::find(&dir, ca_hash)?;
            let mut own = match (config, &before) {
                (Some(path), _) => read_config(path)?,
                (None, Some(before)) => before.config()?,
                (None, None) => AgentConfig::default(),
            };
            own.node = node.clone().or(own.node);
            before.iter().try_for_each(|before| before.agrees(&own))?;
            own.address = address.or(own.address);
            own.docker = docker.clone().or(own.docker);
            if own.servers.is_empty() {
                own.servers = vec![server.clone()];
            }
            machine::runtime()?.block_on(join(&dir, server, token, ca_hash, own))?;
        }
        None => {}
    }
    if verb.detach {
        let args: Vec<OsString> = vec!["agent".into(), "--dir".into(), dir.clone().into()];
        return background::detach(&dir, "agent.log", &args);
    }
    super::start_logging();
    machine::runtime()?.block_on(serve(&dir))
}

async fn serve(dir: &Path) -> Result<(), Error> {
    let config = read_config(&dir.join(CONFIG))?;
    let _pid = PidFile::take(dir, PID)?;
    let terminated = machine::terminated().map_err(|e| Error::ours(e.to_string()))?;
    let stop = CancellationToken::new();
    let listener = TcpListener::bind(config.metrics)
        .await
        .map_err(|e| Error::yours(format!("metrics: cannot listen on {}: {e}", config.metrics)))?;
    let started = Agent::start(options(dir, &config)?, terminated.clone()).await;
    let agent = match started {
        Ok(agent) => agent,
        Err(agent::StartError::Stopped(_)) => return Ok(()),
        Err(error) => return Err(Error::ours(format!("{:#}", anyhow::Error::from(error)))),
    };
    let address = listener.local_addr().unwrap_or(config.metrics);
    let serving = tokio::spawn(agent_metrics::serve(listener, agent.vitals(), stop.clone()));
    let endpoints = Endpoints {
        api: format!("https://{}", config.servers.first().cloned().unwrap_or_default()),
        metrics: String::new(),
        agent_metrics: format!("http://{address}/metrics"),
    };
    let text = serde_json::to_string(&endpoints).map_err(|e| Error::ours(e.to_string()))?;
    machine::write(&dir.join("endpoints.json"), text.as_bytes())?;
    output::write(format!("{text}\n").as_bytes())?;
    tokio::select! {
        () = terminated.cancelled_owned() => {}
        () = renewal::keep(dir, &config, &agent) => {}
    }
    tracing::info!(event = "stopping");
    agent.stop().await;
    stop.cancel();
    serving.await.map_err(|e| Error::ours(format!("metrics: {e}")))
}

/// Has the node's key certified and writes what it needs to run.
async fn join(
    dir: &Path,
    server: &str,
    token: &str,
    ca_hash: &str,
    config: AgentConfig,
) -> Result<(), Error> {
    let keys = KeyFiles::new(dir.join(PKI));
    let ours = |e: trust::Error| Error::ours(e.to_string());
    let request = Request::new().map_err(ours)?;
    let node = node_of(&config)?;
    let body = JoinRequest {
        token: token.to_owned(),
        csr: request.csr.clone(),
        role: JoinRole::Node(node.clone()),
    };
    let answer: JoinAnswer =
        Door::pinned(server, ca_hash)?.post("/mainstay/v1/join", &body).await?;
    let mut config = config;
    config.node = Some(node.to_string());
    for address in answer.servers {
        if !config.servers.contains(&address) {
            config.servers.push(address);
        }
    }
    let text = serde_yaml::to_string(&config).map_err(|e| Error::ours(e.to_string()))?;
    machine::write(&dir.join(CONFIG), text.as_bytes())?;
    let issued = Issued { certificate: answer.certificate, key: request.key };
    keys.replace_issued("node", &issued).map_err(ours)?;
    // Last: as long as it is the one before, the machine may join again.
    keys.write_ca_certificate(&answer.ca_certificate).map_err(ours)?;
    output::say(&format!("this machine has joined the cluster as node {node}"));
    Ok(())
}

/// A node that belongs to another cluster. It may change over: what that one had on it is kept
/// until the new cluster has said what it keeps.
struct Before {
    dir: PathBuf,
    /// Held until the machine has changed over.
    _pid: PidFile,
}

impl Before {
    /// The node that a folder is, if it is one. That it is a node of the cluster it shall join, or
    /// that its agent runs, is an error.
    fn find(dir: &Path, ca_hash: &str) -> Result<Option<Self>, Error> {
        let keys = KeyFiles::new(dir.join(PKI));
        if !keys.has("node") {
            return Ok(None);
        }
        let known = keys.ca_hash().unwrap_or_default();
        if known.eq_ignore_ascii_case(ca_hash) {
            let text = format!("{} belongs to this cluster already", dir.display());
            return Err(Error::yours(text).hint("start its agent with `mainstay agent`"));
        }
        let pid = PidFile::take(dir, PID)
            .map_err(|e| e.hint("`mainstay agent stop` stops it; its containers keep running"))?;
        Ok(Some(Self { dir: dir.to_owned(), _pid: pid }))
    }

    /// Its configuration, without the servers that are gone.
    fn config(&self) -> Result<AgentConfig, Error> {
        Ok(AgentConfig { servers: Vec::new(), ..read_config(&self.dir.join(CONFIG))? })
    }

    /// Its containers are those of pods of one node, so it stays that node.
    fn agrees(&self, config: &AgentConfig) -> Result<(), Error> {
        let (was, is) = (node_of(&self.config()?)?, node_of(config)?);
        if was == is {
            return Ok(());
        }
        let text = format!("{} is node {was}, and cannot join as {is}", self.dir.display());
        let hint = format!(
            "join as --node {was}, or remove what it runs with `mainstay agent stop --clean` first"
        );
        Err(Error::yours(text).hint(hint))
    }
}

fn node_of(config: &AgentConfig) -> Result<NodeName, Error> {
    match &config.node {
        Some(name) => Ok(NodeName::new(name)),
        None => machine::node_name().map_err(|e| Error::ours(e.to_string())),
    }
}

fn options(dir: &Path, config: &AgentConfig) -> Result<agent::Options, Error> {
    let node = node_of(config)?;
    Ok(agent::Options {
        dir: dir.to_owned(),
        memory: PathBuf::from("/run/mainstay").join(node.as_str()),
        node,
        address: config.address.unwrap_or_else(machine::own_address),
        servers: config.servers.clone(),
        docker: config.docker.clone().unwrap_or_else(|| "/var/run/docker.sock".into()),
        bridge: config.bridge.clone(),
        cluster_domain: config.cluster_domain.clone(),
        listen: config.listen,
        labels: config.labels.clone(),
    })
}

fn stop(dir: &Path, clean: bool) -> Result<(), Error> {
    let ran = background::stop(dir, PID)?;
    if !clean {
        let none = || Error::no(format!("no agent runs in {}", dir.display()));
        return if ran { Ok(()) } else { Err(none()) };
    }
    // A folder whose configuration is gone or broken is cleaned with what every agent has.
    let config = read_config(&dir.join(CONFIG)).unwrap_or_default();
    let problems = machine::runtime()?.block_on(agent::clean(&options(dir, &config)?));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Error::ours(format!("could not be removed:\n{}", problems.join("\n")))),
    }
}

/// Reads an agent's configuration; what it does not know is an error with its line.
fn read_config(path: &Path) -> Result<AgentConfig, Error> {
    let wrong = |e: String| Error::yours(format!("{}: {e}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| {
        wrong(e.to_string()).hint("`mainstay agent join` makes this machine a node")
    })?;
    serde_yaml::from_str(&text).map_err(|e| wrong(e.to_string()))
}
