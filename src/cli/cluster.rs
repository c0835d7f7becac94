//! `mainstay init`: the first server of a cluster.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Error, background,
    dev::admin_leaf,
    machine, output,
    server::{self, CONFIG},
    token::JoinParts,
};
use crate::{
    config::ServerConfig,
    plan::token::{self, Token},
    server::{PKI, Setup, check_source, server_leaf},
    state::{ClusterConfig, Command},
    trust::{Ca, KeyFiles, write_private},
};

/// How long the first token is good for, in seconds: a day, as kubeadm's.
const TOKEN_SECONDS: i64 = 86_400;

/// How many machines may join with the first token: two servers and a handful of nodes.
const TOKEN_JOINS: u32 = 16;

/// Begin a cluster: make its keys, start its first server, print how others join
#[derive(clap::Args, Debug)]
pub(super) struct Init {
    /// Repository to follow: file://, http(s):// or ssh://
    #[arg(long)]
    source: Option<String>,
    /// Branch to follow
    #[arg(long)]
    branch: Option<String>,
    #[command(flatten)]
    server: First,
}

/// What every verb asks that starts the first server.
#[derive(clap::Args, Debug)]
pub(super) struct First {
    /// Folder of the server: keys, log, mirror
    #[arg(long, env = "MAINSTAY_DIR")]
    dir: Option<PathBuf>,
    /// Address and port others dial to reach this server
    #[arg(long)]
    advertise: Option<SocketAddr>,
    /// Configuration file; flags override it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Return when the server is ready and leave it running
    #[arg(long)]
    pub(super) detach: bool,
}

impl First {
    /// The folder of the server.
    pub(super) fn dir(&self) -> Result<PathBuf, Error> {
        super::cluster_dir(self.dir.as_deref())
    }

    /// The configuration that flags have not overridden yet.
    pub(super) fn config(&self) -> Result<ServerConfig, Error> {
        let mut config = match &self.config {
            Some(path) => server::read_config(path)?,
            None => ServerConfig::default(),
        };
        config.advertise = self.advertise.or(config.advertise);
        Ok(config)
    }
}

pub(super) fn init(verb: &Init) -> Result<(), Error> {
    let dir = verb.server.dir()?;
    let keys = KeyFiles::new(dir.join(PKI));
    if keys.has("server") {
        let text = format!("{} belongs to a cluster already", dir.display());
        return Err(Error::yours(text).hint("start its server with `mainstay server`"));
    }
    let mut config = verb.server.config()?;
    if let Some(source) = &verb.source {
        config.source.url.clone_from(source);
    }
    if verb.branch.is_some() {
        config.source.reference.branch.clone_from(&verb.branch);
    }
    if config.source.url.is_empty() {
        let text = "which repository shall the cluster follow?";
        return Err(Error::yours(text).hint("--source https://git.example.com/team/cluster.git"));
    }
    check_source(&config.source).map_err(|e| {
        let hint = "give a file://, http(s):// or ssh:// address and a plain branch name";
        Error::yours(format!("{:#}", anyhow::Error::from(e))).hint(hint)
    })?;
    begin(&dir, &config, verb.server.detach)
}

/// Makes the keys of a cluster and starts its first server.
pub(super) fn begin(dir: &Path, config: &ServerConfig, detach: bool) -> Result<(), Error> {
    let keys = KeyFiles::new(dir.join(PKI));
    let cluster = config.network.cluster(&machine::random_id()).map_err(Error::yours)?;
    let parts = write_keys(&keys, config, &cluster)?;
    server::write_config(dir, config)?;
    let token = Token::parse(&parts.token).map_err(|e| Error::ours(e.to_string()))?;
    let expires = machine::now().plus_seconds(TOKEN_SECONDS);
    let token = token::create(&token, TOKEN_JOINS, expires);
    let setup = Setup {
        commands: vec![Command::Configure(cluster), token.map_err(|e| Error::ours(e.to_string()))?],
    };
    server::write_setup(dir, &setup)?;
    write_join_parts(dir, &parts)?;
    output::say(&format!("keys and {CONFIG} are in {}", dir.display()));
    output::say(parts.lines().trim_end());
    if detach {
        let args: Vec<OsString> = vec!["server".into(), "--dir".into(), dir.into()];
        return background::detach(dir, "server.log", &args);
    }
    server::foreground(dir)
}

/// Makes the CA, the key of tokens, the first server's and the administrator's keys, and the first
/// token (kept in `join.json` so that a script finds it).
fn write_keys(
    keys: &KeyFiles,
    config: &ServerConfig,
    cluster: &ClusterConfig,
) -> Result<JoinParts, Error> {
    let ours = |e: crate::trust::Error| Error::ours(e.to_string());
    let now = machine::now();
    let ca = Ca::generate(&machine::random_id(), now).map_err(ours)?;
    let names = server::certificate_names(config)?;
    let issued = ca.issue(&server_leaf(&names, Some(cluster)), now).map_err(ours)?;
    let admin = ca.issue(&admin_leaf(), now).map_err(ours)?;
    keys.write_ca(&ca).map_err(ours)?;
    keys.token_key().map_err(ours)?;
    keys.write_issued("admin", &admin).map_err(ours)?;
    keys.write_issued("server", &issued).map_err(ours)?;
    Ok(JoinParts {
        server: server::advertised(config).to_string(),
        token: Token::from_random(rand::random()).reveal(),
        ca_hash: ca.hash().map_err(ours)?,
    })
}

/// Kept for scripts that start several machines: the parts of a join as JSON.
fn write_join_parts(dir: &Path, parts: &JoinParts) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(parts).map_err(|e| Error::ours(e.to_string()))?;
    let path = dir.join("join.json");
    write_private(&path, &text).map_err(|e| Error::ours(format!("{}: {e}", path.display())))
}
