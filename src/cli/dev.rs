//! `mainstay dev`: a whole cluster in one process, with a repository of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{agent_metrics, machine};
use crate::{
    agent::{self, Agent},
    config::{AGENT_METRICS_PORT, API_PORT, NetworkConfig, SERVER_METRICS_PORT, ServerConfig},
    git,
    model::NodeName,
    server::{PKI, Server, Setup, node_leaf_of, server_leaf},
    state::Command as StateCommand,
    trust::{Ca, KeyFiles, Leaf, write_private},
};

/// How long a start may take until everything answers.
const READY_SECONDS_MAX: u64 = 60;

/// How long a stop may take.
const STOP_SECONDS_MAX: u64 = 30;

/// Run a whole cluster on this machine, from a repository of its own
#[derive(Args, Debug)]
pub struct DevArgs {
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
    #[command(subcommand)]
    verb: Option<DevVerb>,
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
pub struct Endpoints {
    /// The API (`https://127.0.0.1:6443`).
    pub api: String,
    /// The server's metrics (`http://127.0.0.1:9345/metrics`).
    pub metrics: String,
    /// The agent's metrics (`http://127.0.0.1:9346/metrics`).
    pub agent_metrics: String,
}

/// Runs the verb.
pub fn run(args: &DevArgs) -> anyhow::Result<()> {
    let dir = super::cluster_dir(args.dir.as_deref())?;
    match args.verb {
        Some(DevVerb::Stop { clean }) => stop(args, &dir, clean),
        None if args.detach => detach(args, &dir),
        None => tokio::runtime::Runtime::new()?.block_on(foreground(args, &dir)),
    }
}

/// Starts this program again without `--detach`, in a session of its own, and waits for its word that it is ready.
fn detach(args: &DevArgs, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let log_path = dir.join("dev.log");
    let log = fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("dev").arg("--dir").arg(dir).arg("--docker").arg(&args.docker);
    if let Some(source) = &args.source {
        command.arg("--source").arg(source);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
    let mut child = command.spawn()?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    if said.trim().is_empty() {
        let status = child.wait()?;
        let mut text = String::new();
        fs::File::open(&log_path)?.read_to_string(&mut text)?;
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!(
            "it ended with {status} before it was ready; {}:\n{}",
            log_path.display(),
            tail.join("\n")
        );
    }
    super::print_line(said.trim());
    Ok(())
}

async fn foreground(args: &DevArgs, dir: &Path) -> anyhow::Result<()> {
    super::start_logging();
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let repository = dir.join("repo.git");
    git::embedded::init(&repository)?;
    let node = machine::node_name()?;
    let address = own_address();
    let keys = KeyFiles::new(dir.join(PKI));
    make_keys(&keys, &node, address)?;

    let source = args.source.clone();
    let source = source.unwrap_or_else(|| format!("file://{}", repository.display()));
    let config = server_config(source);
    let cluster = NetworkConfig::default().cluster(&machine::random_id());
    let setup =
        Setup { commands: vec![StateCommand::Configure(cluster.map_err(anyhow::Error::msg)?)] };
    let server = Server::start(dir, &config, Some(setup)).await?;
    let stop = CancellationToken::new();
    let mut options = agent_options(dir, &args.docker, node, address);
    options.servers = vec![server.api.to_string()];
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
        api: format!("https://{}", server.api),
        metrics: format!("http://{}/metrics", server.metrics),
        agent_metrics: format!("http://{}/metrics", listener.local_addr()?),
    };
    let serving = tokio::spawn(agent_metrics::serve(listener, agent.health(), stop.clone()));
    let ready =
        async { agent.health().wait_for(|h| h.session && h.programmed.0 > 0).await.map(drop) };
    tokio::select! {
        ready = tokio::time::timeout(Duration::from_secs(READY_SECONDS_MAX), ready) => {
            ready.context("the agent was not ready in time; see the lines above")??;
        }
        () = terminated.clone().cancelled_owned() => {}
    }
    write_private(&dir.join("dev.pid"), std::process::id().to_string().as_bytes())?;
    let text = serde_json::to_string(&endpoints)?;
    write_private(&dir.join("endpoints.json"), text.as_bytes())?;
    super::print_line(&text);
    tracing::info!(event = "ready", dir = %dir.display(), api = endpoints.api);

    terminated.cancelled_owned().await;
    tracing::info!(event = "stopping");
    agent.stop().await;
    stop.cancel();
    serving.await?;
    server.stop().await;
    for file in ["endpoints.json", "dev.pid"] {
        fs::remove_file(dir.join(file))?;
    }
    Ok(())
}

/// The CA once; everything it signs anew at each start, so that nothing of a dev cluster expires.
fn make_keys(keys: &KeyFiles, node: &NodeName, address: IpAddr) -> anyhow::Result<()> {
    let now = machine::now();
    let ca = match keys.ca() {
        Ok(ca) => ca,
        Err(_) => {
            let ca = Ca::generate("dev", now)?;
            keys.write_ca(&ca)?;
            ca
        }
    };
    let names: Vec<String> = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default.svc"]
        .into_iter()
        .map(str::to_owned)
        .chain([node.to_string(), address.to_string()])
        .collect();
    keys.write_issued("server", &ca.issue(&server_leaf(&names), now)?)?;
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

fn server_config(source: String) -> ServerConfig {
    let mut config = ServerConfig::default();
    config.listen = free_or_any(API_PORT);
    config.metrics = free_or_any(SERVER_METRICS_PORT);
    config.source.url = source;
    config
}

fn agent_options(dir: &Path, docker: &Path, node: NodeName, address: IpAddr) -> agent::Options {
    agent::Options {
        dir: dir.to_owned(),
        memory: PathBuf::from("/run/mainstay/dev"),
        node,
        address,
        servers: Vec::new(),
        docker: docker.to_owned(),
        bridge: "podbr0".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        labels: [("node-role.kubernetes.io/control-plane".to_owned(), String::new())].into(),
    }
}

/// The usual port on loopback, or any when another program has it.
fn free_or_any(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match std::net::TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

async fn bind_or_any(port: u16) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(free_or_any(port)).await
}

/// The address from which this machine would reach others; nothing is sent. Loopback when it reaches nobody.
fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// Ends the process that runs the cluster in `dir`; with `clean`, takes away everything it made.
fn stop(args: &DevArgs, dir: &Path, clean: bool) -> anyhow::Result<()> {
    match fs::read_to_string(dir.join("dev.pid")) {
        Ok(text) => {
            let pid: i32 = text.trim().parse().context("dev.pid")?;
            if machine::is_mainstay(pid) {
                kill(Pid::from_raw(pid), Signal::SIGTERM).context("SIGTERM")?;
                wait_for_end(pid)?;
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && clean => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("no cluster runs in {}", dir.display())
        }
        Err(e) => return Err(e).context("dev.pid"),
    }
    if !clean {
        return Ok(());
    }
    let node = machine::node_name()?;
    let options = agent_options(dir, &args.docker, node, own_address());
    let runtime = tokio::runtime::Runtime::new()?;
    let problems = runtime.block_on(agent::clean(&options));
    if !problems.is_empty() {
        bail!("some things could not be removed:\n{}", problems.join("\n"));
    }
    Ok(())
}

fn wait_for_end(pid: i32) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
    while machine::is_mainstay(pid) {
        if Instant::now() > deadline {
            bail!("process {pid} did not end within {STOP_SECONDS_MAX} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
