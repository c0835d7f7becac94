//! `mainstay server`: one control-plane replica.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Error,
    background::{self, PidFile},
    dev::{Endpoints, admin_leaf},
    joining::Door,
    kubeconfig, machine, output,
};
use crate::{
    config::ServerConfig,
    server::{JoinAnswer, JoinRequest, JoinRole, MemberRequest, PKI, Server, Setup},
    trust::{self, Ca, Issued, KeyFiles, Request, TokenKey},
};

/// The server's configuration file in its folder.
pub(super) const CONFIG: &str = "server.yaml";

/// What a new cluster starts with, until it has started.
const SETUP: &str = "setup.json";

/// The server to ask for membership, until this one is a member.
const JOINING: &str = "joining.json";

const PID: &str = "server.pid";

/// How long a server may take until it knows a leader.
const READY_SECONDS_MAX: u64 = 60;

/// Run a control-plane server
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// Folder of the server: keys, log, mirror
    #[arg(long, env = "MAINSTAY_DIR", global = true)]
    dir: Option<PathBuf>,
    /// Return when the server is ready and leave it running
    #[arg(long, global = true)]
    detach: bool,
    /// Start once on a damaged log that no other server can repair, without the entries it lost:
    /// what was acknowledged may be gone
    #[arg(long)]
    accept_loss: bool,
    #[command(subcommand)]
    verb: Option<ServerVerb>,
}

#[derive(clap::Subcommand, Debug)]
enum ServerVerb {
    /// Join the servers of a cluster and run
    Join {
        /// Address and port of a server of the cluster
        server: String,
        /// Token that `mainstay init` or `mainstay token create` printed
        #[arg(long)]
        token: String,
        /// Hash of the CA's key, printed with the token
        #[arg(long)]
        ca_hash: String,
        /// Address and port others dial to reach this server
        #[arg(long)]
        advertise: Option<SocketAddr>,
        /// Configuration file; what it does not say about the source is taken from the cluster
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Stop the server that runs in the folder
    Stop,
}

pub(super) fn run(verb: &Verb) -> Result<(), Error> {
    let dir = super::cluster_dir(verb.dir.as_deref())?;
    match &verb.verb {
        Some(ServerVerb::Stop) => {
            return match background::stop(&dir, PID)? {
                true => Ok(()),
                false => Err(Error::no(format!("no server runs in {}", dir.display()))),
            };
        }
        Some(ServerVerb::Join { server, token, ca_hash, advertise, config }) => {
            let mut own = match config {
                Some(path) => read_config(path)?,
                None => ServerConfig::default(),
            };
            own.advertise = advertise.or(own.advertise);
            let joining = join(&dir, server, token, ca_hash, own);
            machine::runtime()?.block_on(joining)?;
        }
        None => {}
    }
    if verb.detach {
        let mut args: Vec<OsString> = vec!["server".into(), "--dir".into(), dir.clone().into()];
        if verb.accept_loss {
            args.push("--accept-loss".into());
        }
        return background::detach(&dir, "server.log", &args);
    }
    super::start_logging();
    machine::runtime()?.block_on(serve(&dir, verb.accept_loss))
}

/// Runs the server of a folder until it is asked to end.
pub(super) fn foreground(dir: &Path) -> Result<(), Error> {
    super::start_logging();
    machine::runtime()?.block_on(serve(dir, false))
}

/// Where a server that is not a member yet asks.
#[derive(Serialize, Deserialize)]
struct Joining {
    server: String,
}

async fn serve(dir: &Path, accept_loss: bool) -> Result<(), Error> {
    let mut config = read_config(&dir.join(CONFIG))?;
    config.accept_loss = accept_loss;
    let setup: Option<Setup> = read_json(&dir.join(SETUP))?;
    let _pid = PidFile::take(dir, PID)?;
    let terminated = machine::terminated().map_err(|e| Error::ours(e.to_string()))?;
    let started = Server::start(dir, &config, setup).await;
    let server = started.map_err(|e| Error::ours(format!("{:#}", anyhow::Error::from(e))))?;
    remove(&dir.join(SETUP))?;
    let ready = async {
        if let Some(joining) = read_json::<Joining>(&dir.join(JOINING))? {
            become_member(dir, &config, &server, &joining).await?;
            remove(&dir.join(JOINING))?;
        }
        let mut roles = server.store().roles();
        let led = roles.wait_for(|role| role.leader.is_some());
        let limit = Duration::from_secs(READY_SECONDS_MAX);
        match tokio::time::timeout(limit, led).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::ours("the log has stopped; see the lines above")),
            Err(_) => {
                tracing::warn!(event = "no leader yet", seconds = READY_SECONDS_MAX);
                Ok(())
            }
        }
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = terminated.clone().cancelled_owned() => Ok(()),
    };
    if let Err(error) = ready {
        server.stop().await;
        return Err(error);
    }
    let endpoints = Endpoints {
        api: format!("https://{}", reachable(server.api)),
        metrics: format!("http://{}/metrics", server.metrics),
        agent_metrics: String::new(),
    };
    kubeconfig::write_admin(dir, &format!("https://{}", advertised(&config)))?;
    let text = serde_json::to_string(&endpoints).map_err(|e| Error::ours(e.to_string()))?;
    machine::write(&dir.join("endpoints.json"), text.as_bytes())?;
    output::write(format!("{text}\n").as_bytes())?;
    tokio::select! {
        () = terminated.cancelled_owned() => {}
        why = server.failed() => {
            server.stop().await;
            return Err(Error::ours(why));
        }
    }
    tracing::info!(event = "stopping");
    server.stop().await;
    Ok(())
}

/// A wildcard is dialled on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip().is_unspecified() {
        true => SocketAddr::from(([127, 0, 0, 1], address.port())),
        false => address,
    }
}

async fn become_member(
    dir: &Path,
    config: &ServerConfig,
    server: &Server,
    joining: &Joining,
) -> Result<(), Error> {
    let keys = KeyFiles::new(dir.join(PKI));
    let ours = |e: trust::Error| Error::ours(e.to_string());
    let ca = keys.ca_certificate().map_err(ours)?;
    let issued = keys.issued("server").map_err(ours)?;
    let tls = trust::client(&ca, &issued, b"http/1.1").map_err(ours)?;
    let door = Door { address: joining.server.clone(), tls };
    let request = MemberRequest { id: server.store().id(), address: advertised(config) };
    let members: Vec<String> = door.post("/mainstay/v1/members", &request).await?;
    tracing::info!(event = "member", members = members.join(" "));
    Ok(())
}

/// Has the server's key certified and writes what it needs to run.
async fn join(
    dir: &Path,
    server: &str,
    token: &str,
    ca_hash: &str,
    mut config: ServerConfig,
) -> Result<(), Error> {
    let keys = KeyFiles::new(dir.join(PKI));
    if keys.has("server") {
        let text = format!("{} belongs to a cluster already", dir.display());
        return Err(Error::yours(text).hint("start its server with `mainstay server`"));
    }
    let ours = |e: trust::Error| Error::ours(e.to_string());
    let request = Request::new().map_err(ours)?;
    let names = certificate_names(&config)?;
    let body = JoinRequest {
        token: token.to_owned(),
        csr: request.csr.clone(),
        role: JoinRole::Server(names),
    };
    let answer: JoinAnswer =
        Door::pinned(server, ca_hash)?.post("/mainstay/v1/join", &body).await?;
    let key = answer.ca_key.ok_or_else(|| Error::ours("the answer holds no CA key"))?;
    let ca = Ca::from_pem(&answer.ca_certificate, &key).map_err(ours)?;
    let token_key = answer.token_key.ok_or_else(|| {
        let text = "the answer holds no key of service-account tokens: the server is of before";
        Error::no(text).hint("update the servers of the cluster first")
    })?;
    let token_key = TokenKey::from_pem(&token_key).map_err(ours)?;
    if config.source.url.is_empty() {
        config.source = answer.source.unwrap_or_default();
    }
    let admin = ca.issue(&admin_leaf(), machine::now()).map_err(ours)?;
    keys.write_ca(&ca).map_err(ours)?;
    keys.write_token_key(&token_key).map_err(ours)?;
    keys.write_issued("admin", &admin).map_err(ours)?;
    let issued = Issued { certificate: answer.certificate, key: request.key };
    write_config(dir, &config)?;
    let joining = Joining { server: server.to_owned() };
    let text = serde_json::to_vec(&joining).map_err(|e| Error::ours(e.to_string()))?;
    machine::write(&dir.join(JOINING), &text)?;
    keys.write_issued("server", &issued).map_err(ours)
}

/// Where others dial this server: as configured; otherwise the address from which this machine
/// reaches others.
pub(super) fn advertised(config: &ServerConfig) -> SocketAddr {
    config.advertise.unwrap_or_else(|| match config.listen.ip().is_unspecified() {
        true => SocketAddr::new(machine::own_address(), config.listen.port()),
        false => config.listen,
    })
}

/// What a server's certificate answers to.
pub(super) fn certificate_names(config: &ServerConfig) -> Result<Vec<String>, Error> {
    let host = machine::node_name().map_err(|e| Error::ours(e.to_string()))?;
    let usual = ["localhost", "127.0.0.1"];
    let mut names: Vec<String> = usual.into_iter().map(str::to_owned).collect();
    names.extend([host.to_string(), advertised(config).ip().to_string()]);
    names.extend(config.names.iter().cloned());
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads a server's configuration; what it does not know is an error with its line.
pub(super) fn read_config(path: &Path) -> Result<ServerConfig, Error> {
    let wrong = |e: String| Error::yours(format!("{}: {e}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| {
        wrong(e.to_string())
            .hint("`mainstay init` begins a cluster, `mainstay server join` joins one")
    })?;
    serde_yaml::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// Writes a server's configuration.
pub(super) fn write_config(dir: &Path, config: &ServerConfig) -> Result<(), Error> {
    let mut config = config.clone();
    config.advertise = Some(advertised(&config));
    let text = serde_yaml::to_string(&config).map_err(|e| Error::ours(e.to_string()))?;
    machine::write(&dir.join(CONFIG), text.as_bytes())
}

/// Writes what a new cluster starts with; read and removed by its first start.
pub(super) fn write_setup(dir: &Path, setup: &Setup) -> Result<(), Error> {
    let text = serde_json::to_vec(setup).map_err(|e| Error::ours(e.to_string()))?;
    machine::write(&dir.join(SETUP), &text)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let wrong = |e: String| Error::ours(format!("{}: {e}", path.display()));
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(wrong(e.to_string())),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::ours(format!("{}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}
