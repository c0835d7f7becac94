//! Configuration: one YAML file a process, every field optional, flags override it.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{GitReference, NoticeKind, OnFailure, PathDeadline, VerifySpec},
    plan::Timing,
    state::ClusterConfig,
};

/// Where the API listens unless told otherwise: Kubernetes' port.
pub const API_PORT: u16 = 6443;
/// Where a server's metrics are read, on loopback unless told otherwise.
pub const SERVER_METRICS_PORT: u16 = 9345;
/// Where an agent's metrics are read, on loopback unless told otherwise.
pub const AGENT_METRICS_PORT: u16 = 9346;
/// Where an agent serves logs to the servers: the kubelet's port.
pub const AGENT_PORT: u16 = 10250;

/// `server.yaml`: one control-plane replica.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port the API, the agents' sessions and the other servers' log traffic come in
    /// on.
    pub listen: SocketAddr,
    /// Address and port others dial to reach this server; the listen address when it is not a
    /// wildcard.
    pub advertise: Option<SocketAddr>,
    /// Names and addresses its certificate answers to, beside the above.
    pub names: Vec<String>,
    /// Address and port of plain-HTTP `/metrics`; only counters and states, never objects.
    pub metrics: SocketAddr,
    /// The repository the cluster follows.
    pub source: SourceConfig,
    /// The cluster's ranges; only the first server's are used, at `init`.
    pub network: NetworkConfig,
    /// How long things may take.
    pub timing: TimingConfig,
    /// The log's heartbeat and elections.
    pub raft: RaftConfig,
    /// What becomes of writes through the API that no namespace decides.
    pub writes: WritesConfig,
    /// The audit log: who asked what of this server's API.
    pub audit: AuditConfig,
    /// Who is told what became of commits; the same on every server.
    pub notify: Vec<NotifyConfig>,
    /// Go on without the lost entries of a damaged log; only by `mainstay server --accept-loss`,
    /// for one start.
    #[serde(skip)]
    pub accept_loss: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], API_PORT)),
            advertise: None,
            names: Vec::new(),
            metrics: SocketAddr::from(([127, 0, 0, 1], SERVER_METRICS_PORT)),
            source: SourceConfig::default(),
            network: NetworkConfig::default(),
            timing: TimingConfig::default(),
            raft: RaftConfig::default(),
            writes: WritesConfig::default(),
            audit: AuditConfig::default(),
            notify: Vec::new(),
            accept_loss: false,
        }
    }
}

/// Somebody who is told what became of commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotifyConfig {
    /// A name of its own.
    pub name: String,
    /// Whose words it understands.
    pub kind: NoticeKind,
    /// Where it is; `https://`, or `http://` without a token.
    pub url: String,
    /// What our statuses are called at a Git host (`mainstay` when absent): several clusters give
    /// several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// File that holds the token for a Git host, or for the `Authorization` header of a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File that holds the secret with which bodies are signed: `X-Mainstay-Signature-256:
    /// sha256=<HMAC of the body>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// File that holds the certificates by which the receiver is known; those of the machine when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// What becomes of writes through the API to what the cluster does not own itself, where its
/// namespace does not say `mainstay.io/writes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WritesConfig {
    /// They become commits.
    #[default]
    Commit,
    /// They are refused with the advice to commit.
    Refuse,
    /// They are taken into the cluster's state, and Git does not hear of them, unless it owns the
    /// object.
    Direct,
}

/// The audit log of a server's API, in the format of `audit.k8s.io/v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The file that events are appended to, one JSON object a line, readable for its owner alone;
    /// nothing is written when absent.
    pub file: Option<PathBuf>,
    /// How much of a request is written.
    pub level: AuditLevelConfig,
    /// Size in MiB at which the file is put aside as `<file>.1` (then `.2` and so on) and a new one
    /// begins.
    pub file_mebibytes_max: u32,
    /// How many files that were put aside are kept; the oldest goes.
    pub files_kept: u16,
}

impl Default for AuditConfig {
    fn default() -> Self {
        let level = AuditLevelConfig::Metadata;
        Self { file: None, level, file_mebibytes_max: 100, files_kept: 10 }
    }
}

/// How much of a request the audit log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuditLevelConfig {
    /// Who, what, when, and how it ended.
    #[default]
    Metadata,
    /// The body too, unless it carries credentials: those of Secrets, ConfigMaps, token requests
    /// and reviews are always left out.
    Request,
}

/// The repository the cluster follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SourceConfig {
    /// `file://`, `http(s)://` or `ssh://`, or an absolute path.
    pub url: String,
    /// What of it: a branch (default `main`), a tag or a commit.
    pub reference: GitReference,
    /// The folder to read; empty for the whole tree.
    pub path: String,
    /// Seconds between two looks at the remote when nobody tells us; default 30.
    pub interval_seconds: Option<u64>,
    /// User for `http(s)://`.
    pub username: Option<String>,
    /// File that holds the password or token for `http(s)://`.
    pub password_file: Option<PathBuf>,
    /// File that holds the private key for `ssh://`.
    pub ssh_key_file: Option<PathBuf>,
    /// `known_hosts` for `ssh://`; an unknown host is refused.
    pub known_hosts_file: Option<PathBuf>,
    /// File that holds the secret of `POST /hooks/git`; without it the hook answers 404.
    pub hook_secret_file: Option<PathBuf>,
    /// Whose commits are taken; anybody's who can push when absent.
    pub verify: Option<VerifySpec>,
    /// Whether a commit must have the one that runs among its ancestors; default true with `verify`
    /// and false without.
    pub fast_forward_only: Option<bool>,
    /// What is done when the rollout of a commit fails: `revert` (the default) goes back and pushes
    /// a revert, `hold` goes back, `ignore` leaves it to people.
    pub on_failure: Option<OnFailure>,
    /// Paths whose commits may take longer, or less long, than `timing.commitDeadlineSeconds`: of
    /// what a commit touches the longest counts.
    pub deadlines: Vec<PathDeadline>,
    /// File that holds the OpenSSH private key (Ed25519, without passphrase) with which mainstay
    /// signs the commits it writes. The servers take them as signed by one who may.
    pub signing_key_file: Option<PathBuf>,
    /// How sealed files of the repository are opened.
    pub decryption: DecryptionConfig,
}

/// How sealed files of the repository are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DecryptionConfig {
    /// File that holds the private keys (`AGE-SECRET-KEY-1…`, one a line), as `mainstay seal
    /// --keygen` and `age-keygen` write it. Every server needs it; nothing sealed is taken without.
    pub age_key_file: Option<PathBuf>,
}

/// The cluster's address ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Range of ClusterIPs.
    pub service_cidr: String,
    /// Range of pods.
    pub pod_cidr: String,
    /// Prefix length of one node's part of it.
    pub node_prefix: u8,
    /// First and last node port.
    pub node_ports: (u16, u16),
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            service_cidr: "10.96.0.0/12".to_owned(),
            pod_cidr: "10.244.0.0/16".to_owned(),
            node_prefix: 24,
            node_ports: (30000, 32767),
        }
    }
}

impl NetworkConfig {
    /// The ranges as State keeps them; the error names the field and what it should look like.
    pub fn cluster(&self, cluster_id: &str) -> Result<ClusterConfig, String> {
        let (service_base, service_prefix) = cidr("network.serviceCidr", &self.service_cidr)?;
        let (pod_base, pod_prefix) = cidr("network.podCidr", &self.pod_cidr)?;
        if self.node_prefix <= pod_prefix || self.node_prefix > 30 {
            return Err(format!(
                "network.nodePrefix: {} does not lie between {} and 30",
                self.node_prefix,
                pod_prefix + 1
            ));
        }
        let (node_port_min, node_port_max) = self.node_ports;
        if node_port_min == 0 || node_port_min > node_port_max {
            return Err("network.nodePorts: the first must not be above the last".to_owned());
        }
        Ok(ClusterConfig {
            cluster_id: cluster_id.to_owned(),
            service_base,
            service_prefix,
            pod_base,
            pod_prefix,
            node_prefix: self.node_prefix,
            node_port_min,
            node_port_max,
        })
    }
}

fn cidr(field: &str, text: &str) -> Result<(std::net::Ipv4Addr, u8), String> {
    let fail = || format!("{field}: {text:?} is not an IPv4 range like 10.96.0.0/12");
    let (base, prefix) = text.split_once('/').ok_or_else(fail)?;
    let base: std::net::Ipv4Addr = base.parse().map_err(|_| fail())?;
    let prefix: u8 = prefix.parse().map_err(|_| fail())?;
    if !(8..=28).contains(&prefix) || u32::from(base) & ((1 << (32 - prefix)) - 1) != 0 {
        return Err(fail());
    }
    Ok((base, prefix))
}

/// How long things may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TimingConfig {
    /// Seconds a node may be silent before it counts as unreachable (Kubernetes' default: 50).
    pub node_silence_seconds: Option<i64>,
    /// Seconds an event is kept (Kubernetes' default: 3600).
    pub event_ttl_seconds: Option<i64>,
    /// Seconds a commit may take to become healthy (600).
    pub commit_deadline_seconds: Option<i64>,
    /// Least seconds between two nodes whose pods are evicted (Kubernetes' default: 10).
    pub eviction_interval_seconds: Option<i64>,
    /// Seconds a new cluster awaits the nodes that the status branch names, before it makes anew
    /// what may still run on them (120).
    pub node_return_seconds: Option<i64>,
}

impl From<&TimingConfig> for Timing {
    fn from(config: &TimingConfig) -> Self {
        let usual = Self::default();
        Self {
            node_silence_seconds: config.node_silence_seconds.unwrap_or(usual.node_silence_seconds),
            event_ttl_seconds: config.event_ttl_seconds.unwrap_or(usual.event_ttl_seconds),
            commit_deadline_seconds: config
                .commit_deadline_seconds
                .unwrap_or(usual.commit_deadline_seconds),
            eviction_interval_seconds: config
                .eviction_interval_seconds
                .unwrap_or(usual.eviction_interval_seconds),
            node_return_seconds: config.node_return_seconds.unwrap_or(usual.node_return_seconds),
        }
    }
}

/// The log's heartbeat and elections, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RaftConfig {
    /// Between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// Shortest silence after which a server stands for election.
    pub election_ms_min: u64,
    /// Longest silence after which it does.
    pub election_ms_max: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self { heartbeat_ms: 150, election_ms_min: 600, election_ms_max: 1200 }
    }
}

/// `agent.yaml`: one node.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentConfig {
    /// The node's name; the machine's host name when absent.
    pub node: Option<String>,
    /// Servers to dial, `host:port`; any of them is enough.
    pub servers: Vec<String>,
    /// The node's own address; the one that routes to the first server when absent.
    pub address: Option<std::net::IpAddr>,
    /// Docker's socket; `/var/run/docker.sock` when absent.
    pub docker: Option<PathBuf>,
    /// Name of the bridge and of the Docker network of the node's pods.
    pub bridge: String,
    /// Address and port of plain-HTTP `/metrics`; only counters and states.
    pub metrics: SocketAddr,
    /// Address and port on which servers read logs, TLS both ways.
    pub listen: SocketAddr,
    /// Labels the agent gives its node.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Domain of service names.
    pub cluster_domain: String,
    /// Resolvers for names outside the cluster; those of `/etc/resolv.conf` when absent.
    pub upstream_resolvers: Option<Vec<SocketAddr>>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            node: None,
            servers: Vec::new(),
            address: None,
            docker: None,
            bridge: "podbr0".to_owned(),
            metrics: SocketAddr::from(([127, 0, 0, 1], AGENT_METRICS_PORT)),
            listen: SocketAddr::from(([0, 0, 0, 0], AGENT_PORT)),
            labels: std::collections::BTreeMap::new(),
            cluster_domain: "cluster.local".to_owned(),
            upstream_resolvers: None,
        }
    }
}
