//! What Docker is asked to make for a sandbox and for a container.

use std::net::Ipv4Addr;

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, HealthConfig,
    HostConfig, HostConfigLogConfig, Mount as BindMount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, NetworkingConfig,
};

use crate::{
    agent::{
        disk::Disk,
        image,
        runtime::{Error, Make},
    },
    node::{
        Assignment, ContainerSpec,
        registry::Login,
        resources::{self, Limits},
        seen::labels,
    },
};

/// Logs of one container: five files of 10 MiB (the kubelet's own limits).
const LOG_SIZE: (&str, &str) = ("10m", "5");

pub(super) fn container_name(name: &str, want: &Assignment, attempt: u32) -> String {
    let (pod, namespace) = (&want.key.name, &want.key.namespace);
    format!("mainstay_{name}_{pod}_{namespace}_{}_{attempt}", want.uid)
}

/// `name:tag` or `name@digest` in two parts; without either, `latest`.
pub(super) fn reference(image: &str) -> (String, String) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name.to_owned(), digest.to_owned());
    }
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (image.to_owned(), "latest".to_owned()),
    }
}

pub(super) fn sandbox_body(
    want: &Assignment,
    ip: Option<Ipv4Addr>,
    network: &str,
    oom_score_adj: i64,
) -> ContainerCreateBody {
    let spec = &want.sandbox;
    let mut labels = want.labels();
    labels.insert(labels::KIND.into(), "sandbox".into());
    if let Some(ip) = ip {
        labels.insert(labels::IP.into(), ip.to_string());
    }
    let endpoint = EndpointSettings {
        ipam_config: ip.map(|ip| EndpointIpamConfig {
            ipv4_address: Some(ip.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    let endpoints = [(network.to_owned(), endpoint)].into_iter().collect();
    let networking = NetworkingConfig { endpoints_config: Some(endpoints) };
    let host = |yes: bool, otherwise: &str| Some(if yes { "host" } else { otherwise }.to_owned());
    ContainerCreateBody {
        image: Some(image::SANDBOX.to_owned()),
        hostname: Some(spec.hostname.clone()).filter(|h| !h.is_empty()),
        labels: Some(labels.into_iter().collect()),
        networking_config: Some(networking).filter(|_| !spec.host_network),
        host_config: Some(HostConfig {
            network_mode: host(spec.host_network, network),
            ipc_mode: host(spec.host_ipc, "shareable"),
            pid_mode: Some("host".to_owned()).filter(|_| spec.host_pid),
            oom_score_adj: Some(oom_score_adj),
            cpu_shares: Some(2),
            sysctls: Some(spec.sysctls.clone().into_iter().collect()),
            readonly_rootfs: Some(true),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Everything of the node that appears in one container.
pub(super) fn mounts(
    disk: &Disk,
    want: &Assignment,
    make: &Make,
) -> std::io::Result<Vec<BindMount>> {
    let spec =
        want.container(&make.name).ok_or_else(|| std::io::Error::other("no such container"))?;
    let bind = |source: std::path::PathBuf, target: &str, read_only: bool, propagation: &str| {
        let propagation = match propagation {
            "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
            "rshared" => MountBindOptionsPropagationEnum::RSHARED,
            _ => MountBindOptionsPropagationEnum::RPRIVATE,
        };
        BindMount {
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.to_owned()),
            typ: Some(MountType::BIND),
            read_only: Some(read_only),
            bind_options: Some(MountBindOptions {
                propagation: Some(propagation),
                ..MountBindOptions::default()
            }),
            ..BindMount::default()
        }
    };
    let mut all = vec![];
    for mount in &spec.mounts {
        let source = disk.mount_source(want, mount)?;
        all.push(bind(source, &mount.path, mount.read_only, mount.propagation));
    }
    let taken = |path: &str| spec.mounts.iter().any(|m| m.path == path);
    if let Some(hosts) = want.sandbox.hosts.as_ref().filter(|_| !taken("/etc/hosts")) {
        all.push(bind(disk.pod_file(&want.uid, "hosts", hosts)?, "/etc/hosts", false, ""));
    }
    if !taken("/etc/resolv.conf") {
        let source = disk.pod_file(&want.uid, "resolv.conf", &want.sandbox.resolv_conf)?;
        all.push(bind(source, "/etc/resolv.conf", false, ""));
    }
    if !taken(&spec.message_path) && spec.message_path.starts_with('/') {
        let source = disk.message_file(&want.uid, &make.name, make.attempt)?;
        all.push(bind(source, &spec.message_path, false, ""));
    }
    Ok(all)
}

pub(super) fn container_body(
    want: &Assignment,
    spec: &ContainerSpec,
    make: &Make,
    mounts: Vec<BindMount>,
    oom_score_adj: i64,
) -> Result<ContainerCreateBody, Error> {
    let run = spec.run.as_ref().map_err(|e| Error::Refused(e.clone()))?;
    let mut labels = want.labels();
    labels.extend(
        [
            (labels::KIND, "container".to_owned()),
            (labels::CONTAINER, make.name.clone()),
            (labels::ATTEMPT, make.attempt.to_string()),
            (labels::BACKOFF, make.backoff.as_millis().to_string()),
            (labels::HASH, spec.hash.clone()),
            (labels::SANDBOX, make.sandbox.clone()),
        ]
        .map(|(k, v)| (k.to_owned(), v)),
    );
    let some = |words: &Vec<String>| Some(words.clone()).filter(|w| !w.is_empty());
    let healthcheck = HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() };
    Ok(ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: Some(labels.into_iter().collect()),
        env: Some(run.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        entrypoint: some(&run.command),
        cmd: some(&run.args),
        working_dir: Some(run.working_dir.clone()).filter(|d| !d.is_empty()),
        user: Some(spec.security.user.clone()).filter(|u| !u.is_empty()),
        tty: Some(run.tty),
        open_stdin: Some(run.stdin),
        stdin_once: Some(run.stdin_once),
        // Kubernetes' probes take the place of the image's own.
        healthcheck: Some(healthcheck),
        host_config: Some(host_config(want, spec, make, mounts, oom_score_adj)),
        ..ContainerCreateBody::default()
    })
}

fn host_config(
    want: &Assignment,
    spec: &ContainerSpec,
    make: &Make,
    mounts: Vec<BindMount>,
    oom_score_adj: i64,
) -> HostConfig {
    let joined = format!("container:{}", make.sandbox);
    let (limits, security, pod) = (&spec.limits, &spec.security, &want.sandbox);
    let mut options = vec![];
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    if security.seccomp_unconfined {
        options.push("seccomp=unconfined".to_owned());
    }
    let (size, files) = LOG_SIZE;
    let log = [("max-size".to_owned(), size.to_owned()), ("max-file".to_owned(), files.to_owned())];
    let given = |list: &Vec<String>| Some(list.clone()).filter(|l| !l.is_empty());
    let set = |value: i64| Some(value).filter(|v| *v > 0);
    HostConfig {
        network_mode: Some(if pod.host_network { "host".to_owned() } else { joined.clone() }),
        ipc_mode: Some(if pod.host_ipc { "host".to_owned() } else { joined.clone() }),
        pid_mode: match (pod.host_pid, pod.share_pid, &make.target) {
            (true, ..) => Some("host".to_owned()),
            (false, true, _) => Some(joined),
            (false, false, target) => target.as_ref().map(|id| format!("container:{id}")),
        },
        mounts: Some(mounts),
        cpu_shares: set(limits.cpu_shares),
        cpu_period: set(limits.cpu_quota_us).map(|_| resources::CPU_PERIOD_US),
        cpu_quota: set(limits.cpu_quota_us),
        memory: set(limits.memory_bytes),
        // No swap beside the limit.
        memory_swap: set(limits.memory_bytes),
        oom_score_adj: Some(oom_score_adj),
        cap_add: given(&security.add),
        cap_drop: given(&security.drop),
        group_add: given(&security.groups),
        privileged: Some(security.privileged),
        readonly_rootfs: Some(security.read_only_root),
        security_opt: given(&options),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log.into_iter().collect()),
        }),
        ..HostConfig::default()
    }
}

/// What Docker is asked for to give a running container another share.
pub(super) fn update_body(limits: &Limits) -> ContainerUpdateBody {
    let set = |value: i64| Some(value).filter(|v| *v > 0);
    ContainerUpdateBody {
        cpu_shares: set(limits.cpu_shares),
        cpu_period: set(limits.cpu_quota_us).map(|_| resources::CPU_PERIOD_US),
        cpu_quota: set(limits.cpu_quota_us),
        memory: set(limits.memory_bytes),
        memory_swap: set(limits.memory_bytes),
        ..ContainerUpdateBody::default()
    }
}

/// The share a container was given.
pub(super) fn limits_of(host: &HostConfig) -> Limits {
    Limits {
        cpu_shares: host.cpu_shares.unwrap_or_default(),
        cpu_quota_us: host.cpu_quota.unwrap_or_default(),
        memory_bytes: host.memory.unwrap_or_default(),
        oom_score_adj: host.oom_score_adj.unwrap_or_default(),
    }
}

/// Who Docker is to be when it asks a registry.
pub(super) fn credentials(login: &Login) -> DockerCredentials {
    let host = login.place.split('/').next().unwrap_or_default();
    DockerCredentials {
        username: Some(login.user.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(host.to_owned()),
        ..DockerCredentials::default()
    }
}
