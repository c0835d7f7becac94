//! What Kubernetes fills into the spec of a pod.

use k8s_openapi::{
    api::core::v1::{
        Container, HTTPGetAction, Lifecycle, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
        Volume,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use super::{amount, container::of_ephemeral};

/// Permissions of the files of a volume: 0644.
const FILE_MODE: i32 = 0o644;
/// Seconds between SIGTERM and SIGKILL.
const GRACE_SECONDS: i64 = 30;
/// Seconds that a token in a projected volume holds.
const TOKEN_SECONDS: i64 = 3600;

/// Fills a pod template.
pub(super) fn template(template: &mut PodTemplateSpec) {
    template.metadata.get_or_insert_default();
    spec(template.spec.get_or_insert_default());
}

/// Fills the spec of a pod; what templates have in common with pods.
pub(super) fn spec(spec: &mut PodSpec) {
    fill(&mut spec.dns_policy, "ClusterFirst");
    fill(&mut spec.restart_policy, "Always");
    fill(&mut spec.scheduler_name, "default-scheduler");
    spec.termination_grace_period_seconds.get_or_insert(GRACE_SECONDS);
    spec.security_context.get_or_insert_default();
    accounts(spec);
    for c in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        container(c);
    }
    for own in spec.ephemeral_containers.iter_mut().flatten() {
        let mut c = of_ephemeral(own);
        container(&mut c);
        own.env = c.env;
        own.image_pull_policy = c.image_pull_policy;
        own.resources = c.resources;
        own.termination_message_path = c.termination_message_path;
        own.termination_message_policy = c.termination_message_policy;
    }
    for v in spec.volumes.iter_mut().flatten() {
        volume(v);
    }
}

/// `serviceAccount` is the older name of `serviceAccountName`; both are written.
fn accounts(spec: &mut PodSpec) {
    let given = |a: &Option<String>| a.clone().filter(|a| !a.is_empty());
    let account = given(&spec.service_account_name).or_else(|| given(&spec.service_account));
    spec.service_account_name.clone_from(&account);
    spec.service_account = account;
}

/// Gives a text to a field that has none.
pub(super) fn fill(field: &mut Option<String>, value: &str) {
    if field.as_deref().is_none_or(str::is_empty) {
        *field = Some(value.to_owned());
    }
}

fn container(c: &mut Container) {
    let policy =
        if is_latest(c.image.as_deref().unwrap_or_default()) { "Always" } else { "IfNotPresent" };
    fill(&mut c.image_pull_policy, policy);
    fill(&mut c.termination_message_path, "/dev/termination-log");
    fill(&mut c.termination_message_policy, "File");
    resources(c.resources.get_or_insert_default());
    for port in c.ports.iter_mut().flatten() {
        fill(&mut port.protocol, "TCP");
    }
    for source in c.env.iter_mut().flatten().filter_map(|e| e.value_from.as_mut()) {
        if let Some(field) = &mut source.field_ref {
            fill(&mut field.api_version, "v1");
        }
        if let Some(resource) = &mut source.resource_field_ref {
            resource.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
        }
    }
    let probes = [&mut c.liveness_probe, &mut c.readiness_probe, &mut c.startup_probe];
    probes.into_iter().flatten().for_each(probe);
    if let Some(Lifecycle { post_start, pre_stop, .. }) = &mut c.lifecycle {
        for handler in [post_start, pre_stop].into_iter().flatten() {
            if let Some(get) = &mut handler.http_get {
                http_get(get);
            }
        }
    }
}

/// Whether an image has the tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => digest.is_none(),
    }
}

fn resources(resources: &mut ResourceRequirements) {
    amount::round(resources.limits.as_mut());
    amount::round(resources.requests.as_mut());
}

/// What pods have and templates do not, since a template keeps what its author wrote: a limit
/// without a request asks for as much, and on the network of the node a port is the node's.
pub(super) fn pod_only(spec: &mut PodSpec) {
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network == Some(true);
    for c in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        for port in c.ports.iter_mut().flatten().filter(|_| host_network) {
            if port.host_port.unwrap_or(0) == 0 {
                port.host_port = Some(port.container_port);
            }
        }
    }
    let containers = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
    let lists = containers.filter_map(|c| c.resources.as_mut()).chain(&mut spec.resources);
    for resources in lists {
        for (name, limit) in resources.limits.clone().into_iter().flatten() {
            resources.requests.get_or_insert_default().entry(name).or_insert(limit);
        }
    }
}

fn probe(probe: &mut Probe) {
    let default = |field: &mut Option<i32>, value| {
        if field.unwrap_or(0) == 0 {
            *field = Some(value);
        }
    };
    default(&mut probe.timeout_seconds, 1);
    default(&mut probe.period_seconds, 10);
    default(&mut probe.success_threshold, 1);
    default(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn http_get(get: &mut HTTPGetAction) {
    fill(&mut get.path, "/");
    fill(&mut get.scheme, "HTTP");
    if let IntOrString::String(text) = &get.port
        && let Ok(number) = text.parse()
        && text.is_empty()
    {
        get.port = IntOrString::Int(number);
    }
}

fn volume(v: &mut Volume) {
    if let Some(source) = &mut v.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut v.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut v.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut v.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        downward(source.items.as_mut());
    }
    if let Some(source) = &mut v.projected {
        source.default_mode.get_or_insert(FILE_MODE);
        for part in source.sources.iter_mut().flatten() {
            if let Some(token) = &mut part.service_account_token {
                token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
            }
            if let Some(api) = &mut part.downward_api {
                downward(api.items.as_mut());
            }
        }
    }
    if let Some(image) = &mut v.image {
        let latest = is_latest(image.reference.as_deref().unwrap_or_default());
        fill(&mut image.pull_policy, if latest { "Always" } else { "IfNotPresent" });
    }
    if let Some(claim) = v.ephemeral.as_mut().and_then(|e| e.volume_claim_template.as_mut()) {
        claim.metadata.get_or_insert_default();
        fill(&mut claim.spec.volume_mode, "Filesystem");
    }
    network_volume(v);
    let empty = Volume { name: v.name.clone(), ..Default::default() };
    if *v == empty {
        v.empty_dir = Some(k8s_openapi::api::core::v1::EmptyDirVolumeSource::default());
    }
}

fn network_volume(v: &mut Volume) {
    if let Some(iscsi) = &mut v.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(rbd) = &mut v.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(disk) = &mut v.azure_disk {
        fill(&mut disk.caching_mode, "ReadWrite");
        fill(&mut disk.kind, "Shared");
        fill(&mut disk.fs_type, "ext4");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale) = &mut v.scale_io {
        fill(&mut scale.storage_mode, "ThinProvisioned");
        fill(&mut scale.fs_type, "xfs");
    }
}

type DownwardFiles = Vec<k8s_openapi::api::core::v1::DownwardAPIVolumeFile>;

fn downward(items: Option<&mut DownwardFiles>) {
    for item in items.into_iter().flatten() {
        if let Some(field) = &mut item.field_ref {
            fill(&mut field.api_version, "v1");
        }
        if let Some(resource) = &mut item.resource_field_ref {
            resource.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
        }
    }
}
