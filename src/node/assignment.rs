//! What the node is to do with one pod: everything needed to run it, read out of its object.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{self as core, Pod, PodSpec};
use sha2::{Digest, Sha256};

use super::{
    env::{self, Scope},
    files::{self, PodDns},
    probe::{self, Action, ProbeSpec},
    registry::{self, Login},
    resources::{self, Limits, Qos},
    seen::{Image, labels},
    tokens::{self, Tokens, Wish},
    volumes::{self, VolumeSpec},
};
use crate::{
    kinds,
    model::{Key, NodeName, Object},
};

/// How long a pod may take to stop when it does not say (`terminationGracePeriodSeconds`).
pub const GRACE: Duration = Duration::from_secs(30);
/// The longest grace period honoured. Longer ones cannot be told from a mistake, and a drain waits
/// for them.
const GRACE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The node as its pods may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: NodeName,
    /// Its address.
    pub ip: String,
    /// Its CPUs, in thousandths.
    pub cpu_milli: i64,
    /// Its memory.
    pub memory_bytes: i64,
}

/// One pod of this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The pod.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// The pod's object; `None` when nobody describes it any more and its containers are all that
    /// is known.
    pub object: Option<Object>,
    /// Whether it shall run.
    pub wanted: Wanted,
    /// How long its containers may take to stop.
    pub grace: Duration,
    /// What happens when a container ends.
    pub restart: RestartPolicy,
    /// The sandbox.
    pub sandbox: SandboxSpec,
    /// Init containers, in their order, sidecars among them.
    pub init: Vec<ContainerSpec>,
    /// The other containers.
    pub app: Vec<ContainerSpec>,
    /// Containers that somebody started to look at the others.
    pub ephemeral: Vec<ContainerSpec>,
    /// Why the node cannot give its containers what they ask for by now; those that run keep what
    /// they have.
    pub infeasible: Option<String>,
    /// The volumes.
    pub volumes: Vec<VolumeSpec>,
    /// Who the node says it is to registries when it pulls the pod's images.
    pub logins: Vec<Login>,
    /// The account its programs are, when they ask the API.
    pub account: String,
    /// The tokens of that account that its volumes show.
    pub wishes: Vec<Wish>,
    /// Its class.
    pub qos: Qos,
    /// The node's address.
    pub host_ip: String,
}

/// Whether a pod shall run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It shall.
    Running,
    /// It has ended (`Succeeded`, `Failed`) and never runs again; its containers are kept for their
    /// logs.
    Ended,
    /// Nothing of it shall be left.
    Gone,
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever the exit code.
    Always,
    /// When the exit code is not 0.
    OnFailure,
    /// Never.
    Never,
}

/// The container that holds the pod's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The pod's host name; empty on the host's network.
    pub hostname: String,
    /// The pod uses the node's network.
    pub host_network: bool,
    /// The pod uses the node's process ids.
    pub host_pid: bool,
    /// The pod uses the node's IPC.
    pub host_ipc: bool,
    /// The pod's containers see each other's processes.
    pub share_pid: bool,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// The text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// The text of `/etc/hosts`; `None` until the address is known, and on the host's network.
    pub hosts: Option<String>,
}

/// How a container stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next starts once it has started.
    Sidecar,
    /// Runs together with the others.
    App,
    /// Runs beside the others, once, and counts for nothing.
    Ephemeral,
}

/// One container.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// How it stands among the others.
    pub role: Role,
    /// The image.
    pub image: String,
    /// When to pull it.
    pub pull: PullPolicy,
    /// Names this description: a running container of another hash is stopped and made anew.
    pub hash: String,
    /// What to run with which environment, or why that is not known yet
    /// (`CreateContainerConfigError`).
    pub run: Result<Run, String>,
    /// Where its volumes appear.
    pub mounts: Vec<Mount>,
    /// Its share of the node.
    pub limits: Limits,
    /// Another share of CPU, or of memory, makes it start anew (`resizePolicy`).
    pub resize_restarts: (bool, bool),
    /// The container whose processes it sees.
    pub target: Option<String>,
    /// What it may do.
    pub security: Security,
    /// Its probes.
    pub probes: BTreeMap<probe::Kind, ProbeSpec>,
    /// Done before it is asked to stop.
    pub pre_stop: Option<Action>,
    /// Done when it was started.
    pub post_start: Option<Action>,
    /// The signal that asks it to stop, when it says so itself.
    pub stop_signal: Option<String>,
    /// Where it may leave its last words.
    pub message_path: String,
    /// Its last log lines are the message of a failure that left none.
    pub message_from_logs: bool,
}

/// What a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The directory it starts in; empty: the image's.
    pub working_dir: String,
    /// A terminal.
    pub tty: bool,
    /// Its input stays open.
    pub stdin: bool,
    /// Its input ends when the first who attached to it ends theirs.
    pub stdin_once: bool,
}

/// Where a volume appears in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The volume.
    pub volume: String,
    /// The path in the container.
    pub path: String,
    /// The part of the volume; empty: all of it.
    pub sub_path: String,
    /// Not to be written.
    pub read_only: bool,
    /// `rslave`, `rshared` or empty.
    pub propagation: &'static str,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// When it is not on the node.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `uid`, `uid:gid`, or empty for the image's user.
    pub user: String,
    /// More groups.
    pub groups: Vec<String>,
    /// All the node's devices and capabilities.
    pub privileged: bool,
    /// Its root file system cannot be written.
    pub read_only_root: bool,
    /// No process may gain privileges.
    pub no_new_privileges: bool,
    /// Refuse an image that runs as root.
    pub non_root: bool,
    /// No system-call filter.
    pub seccomp_unconfined: bool,
    /// Capabilities more than Docker's own.
    pub add: Vec<String>,
    /// Capabilities less.
    pub drop: Vec<String>,
}

impl Assignment {
    /// Reads a pod that this node is to run. `objects` holds the ConfigMaps and Secrets it may use;
    /// `pod_ip` is the address of its sandbox, once it has one, and `tokens` what was given to it
    /// so far. `None` when the object is not a pod.
    pub fn of(
        object: &Object,
        objects: &BTreeMap<Key, Object>,
        node: &NodeFacts,
        dns: &PodDns,
        pod_ip: Option<IpAddr>,
        tokens: &Tokens,
    ) -> Option<Self> {
        let pod: &Pod = object.view()?;
        let spec = pod.spec.as_ref()?;
        let pod_ip = pod_ip
            .or_else(|| (spec.host_network == Some(true)).then(|| node.ip.parse().ok()).flatten());
        let scope = Scope { pod, objects, node, pod_ip, tokens };
        let qos = resources::qos(spec);
        let make = |c: &core::Container, role| container(c, role, spec, scope, qos);
        Some(Self {
            key: object.key().clone(),
            uid: object.uid().to_owned(),
            object: Some(object.clone()),
            wanted: wanted(pod),
            grace: grace(pod),
            restart: match spec.restart_policy.as_deref() {
                Some("Never") => RestartPolicy::Never,
                Some("OnFailure") => RestartPolicy::OnFailure,
                _ => RestartPolicy::Always,
            },
            sandbox: sandbox(pod, spec, dns, pod_ip),
            init: spec
                .init_containers
                .iter()
                .flatten()
                .map(|c| {
                    let sidecar = c.restart_policy.as_deref() == Some("Always");
                    make(c, if sidecar { Role::Sidecar } else { Role::Init })
                })
                .collect(),
            app: spec.containers.iter().map(|c| make(c, Role::App)).collect(),
            ephemeral: spec
                .ephemeral_containers
                .iter()
                .flatten()
                .map(|own| ContainerSpec {
                    target: own.target_container_name.clone().filter(|name| !name.is_empty()),
                    ..make(&kinds::of_ephemeral(own), Role::Ephemeral)
                })
                .collect(),
            infeasible: resources::infeasible(spec, node),
            volumes: volumes::volumes(spec, scope),
            // A Secret that is not there is no reason not to try.
            logins: spec
                .image_pull_secrets
                .iter()
                .flatten()
                .filter_map(|named| scope.secret(&named.name).ok())
                .flat_map(registry::logins)
                .collect(),
            account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
            wishes: tokens::wishes(spec),
            qos,
            host_ip: node.ip.clone(),
        })
    }

    /// A pod that nobody describes any more: what its containers' labels tell is enough to remove
    /// it.
    pub fn orphan(key: Key, uid: &str, grace: Duration) -> Self {
        Self {
            key,
            uid: uid.to_owned(),
            object: None,
            wanted: Wanted::Gone,
            grace,
            restart: RestartPolicy::Never,
            sandbox: SandboxSpec::default(),
            init: vec![],
            app: vec![],
            ephemeral: vec![],
            infeasible: None,
            volumes: vec![],
            logins: vec![],
            account: String::new(),
            wishes: vec![],
            qos: Qos::BestEffort,
            host_ip: String::new(),
        }
    }

    /// The same pod, to be removed.
    #[must_use]
    pub fn gone(self) -> Self {
        Self { wanted: Wanted::Gone, ..self }
    }

    /// All containers, init containers first.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init.iter().chain(&self.app).chain(&self.ephemeral)
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&ContainerSpec> {
        self.containers().find(|c| c.name == name)
    }

    /// The typed pod.
    pub fn pod(&self) -> Option<&Pod> {
        self.object.as_ref()?.view()
    }

    /// The labels that every container of the pod carries.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            (labels::UID, self.uid.clone()),
            (labels::NAMESPACE, self.key.namespace.to_string()),
            (labels::POD, self.key.name.to_string()),
            (labels::GRACE, self.grace.as_secs().to_string()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }
}

impl ContainerSpec {
    /// Why this container cannot be made of this image, in the words Kubernetes has under reason
    /// `CreateContainerConfigError`.
    pub fn refusal(&self, image: Option<&Image>) -> Option<String> {
        if let Err(message) = &self.run {
            return Some(message.clone());
        }
        let user = match image {
            Some(Image::Present { user, .. }) if self.security.user.is_empty() => user.as_str(),
            _ => self.security.user.as_str(),
        };
        let name = user.split(':').next().unwrap_or_default();
        let root = matches!(name, "" | "0" | "root");
        (self.security.non_root && root && image.is_some())
            .then(|| "container has runAsNonRoot and image will run as root".to_owned())
    }
}

fn wanted(pod: &Pod) -> Wanted {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    match phase {
        _ if pod.metadata.deletion_timestamp.is_some() => Wanted::Gone,
        Some("Succeeded" | "Failed") => Wanted::Ended,
        _ => Wanted::Running,
    }
}

fn grace(pod: &Pod) -> Duration {
    let asked = pod.metadata.deletion_grace_period_seconds;
    let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let seconds = asked.or(own).and_then(|s| u64::try_from(s).ok());
    seconds.map_or(GRACE, Duration::from_secs).min(GRACE_MAX)
}

fn sandbox(pod: &Pod, spec: &PodSpec, dns: &PodDns, pod_ip: Option<IpAddr>) -> SandboxSpec {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let hostname = spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(name);
    // A host name has at most 63 characters and does not end in a hyphen or a dot.
    let hostname = hostname.get(..63).unwrap_or(hostname).trim_end_matches(['-', '.']);
    let sysctls = spec.security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    let hosts = pod_ip
        .filter(|_| !host_network)
        .map(|ip| files::hosts(spec, namespace, hostname, ip, &dns.domain));
    SandboxSpec {
        hostname: if host_network { String::new() } else { hostname.to_owned() },
        host_network,
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_pid: spec.share_process_namespace == Some(true),
        sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
        resolv_conf: files::resolv_conf(spec, namespace, dns),
        hosts,
    }
}

fn container(
    c: &core::Container,
    role: Role,
    spec: &PodSpec,
    scope: Scope<'_>,
    qos: Qos,
) -> ContainerSpec {
    let env = env::resolve(c, scope);
    let mounts = env.as_ref().map_err(Clone::clone).and_then(|env| mounts(c, env));
    let run = env.and_then(|env| {
        mounts.as_ref().map_err(Clone::clone)?;
        let words = |words: &Option<Vec<String>>| {
            words.iter().flatten().map(|w| env::expand(w, &env)).collect()
        };
        Ok(Run {
            command: words(&c.command),
            args: words(&c.args),
            working_dir: c.working_dir.clone().unwrap_or_default(),
            tty: c.tty == Some(true),
            stdin: c.stdin == Some(true),
            stdin_once: c.stdin_once == Some(true),
            env,
        })
    });
    let probes = probe::Kind::ALL.into_iter().filter(|_| role != Role::Init);
    let life = c.lifecycle.as_ref();
    ContainerSpec {
        name: c.name.clone(),
        role,
        image: c.image.clone().unwrap_or_default(),
        pull: pull_policy(c),
        hash: hash(c),
        run,
        mounts: mounts.unwrap_or_default(),
        limits: resources::limits(c.resources.as_ref(), qos, scope.node.memory_bytes),
        resize_restarts: (resize_restarts(c, "cpu"), resize_restarts(c, "memory")),
        target: None,
        security: security(c, spec),
        probes: probes.filter_map(|k| ProbeSpec::of(c, k).map(|p| (k, p))).collect(),
        pre_stop: life.and_then(|l| l.pre_stop.as_ref()).and_then(|h| hook(h, c)),
        post_start: life.and_then(|l| l.post_start.as_ref()).and_then(|h| hook(h, c)),
        stop_signal: life.and_then(|l| l.stop_signal.clone()),
        message_path: c
            .termination_message_path
            .clone()
            .unwrap_or_else(|| "/dev/termination-log".to_owned()),
        message_from_logs: c.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
    }
}

fn resize_restarts(c: &core::Container, resource: &str) -> bool {
    let policies = c.resize_policy.iter().flatten();
    policies
        .into_iter()
        .any(|p| p.resource_name == resource && p.restart_policy == "RestartContainer")
}

/// What it may use is no part of it: that changes while it runs.
fn hash(c: &core::Container) -> String {
    let c = core::Container { resources: None, ..c.clone() };
    // Serializing a container cannot fail: its keys are strings and its numbers are finite.
    let json = serde_json::to_vec(&c).unwrap_or_default();
    volumes::hex(&Sha256::digest(&json))
}

fn pull_policy(c: &core::Container) -> PullPolicy {
    match c.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

fn hook(handler: &core::LifecycleHandler, c: &core::Container) -> Option<Action> {
    if let Some(exec) = &handler.exec {
        return Some(Action::Exec(exec.command.clone().unwrap_or_default()));
    }
    if let Some(get) = &handler.http_get {
        return Some(probe::http(get, c));
    }
    let sleep = handler.sleep.as_ref()?;
    Some(Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))))
}

fn mounts(c: &core::Container, env: &BTreeMap<String, String>) -> Result<Vec<Mount>, String> {
    let mount = |m: &core::VolumeMount| {
        let sub = match m.sub_path_expr.as_deref().filter(|s| !s.is_empty()) {
            Some(text) => env::expand(text, env),
            None => m.sub_path.clone().unwrap_or_default(),
        };
        let sub = sub.trim_matches('/');
        let sub_path = match sub {
            "" => String::new(),
            sub => volumes::inside(sub)?,
        };
        Ok(Mount {
            volume: m.name.clone(),
            path: m.mount_path.clone(),
            sub_path,
            read_only: m.read_only == Some(true),
            propagation: match m.mount_propagation.as_deref() {
                Some("HostToContainer") => "rslave",
                Some("Bidirectional") => "rshared",
                _ => "",
            },
        })
    };
    c.volume_mounts.iter().flatten().map(mount).collect()
}

fn security(c: &core::Container, spec: &PodSpec) -> Security {
    let pod = spec.security_context.as_ref();
    let own = c.security_context.as_ref();
    let user = own.and_then(|s| s.run_as_user).or(pod.and_then(|s| s.run_as_user));
    let group = own.and_then(|s| s.run_as_group).or(pod.and_then(|s| s.run_as_group));
    let groups =
        pod.iter().flat_map(|s| s.supplemental_groups.iter().flatten().copied().chain(s.fs_group));
    let capabilities = own.and_then(|s| s.capabilities.as_ref());
    let names = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let seccomp = own
        .and_then(|s| s.seccomp_profile.as_ref())
        .or(pod.and_then(|s| s.seccomp_profile.as_ref()));
    Security {
        user: match (user, group) {
            (Some(user), Some(group)) => format!("{user}:{group}"),
            (Some(user), None) => user.to_string(),
            (None, Some(group)) => format!("0:{group}"),
            (None, None) => String::new(),
        },
        groups: groups.map(|g| g.to_string()).collect(),
        privileged: own.and_then(|s| s.privileged) == Some(true),
        read_only_root: own.and_then(|s| s.read_only_root_filesystem) == Some(true),
        no_new_privileges: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        non_root: own
            .and_then(|s| s.run_as_non_root)
            .or(pod.and_then(|s| s.run_as_non_root))
            .unwrap_or(false),
        seccomp_unconfined: seccomp.is_some_and(|p| p.type_ == "Unconfined"),
        add: names(capabilities.and_then(|c| c.add.as_ref())),
        drop: names(capabilities.and_then(|c| c.drop.as_ref())),
    }
}
