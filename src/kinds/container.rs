//! Containers of a pod: image, ports, env, mounts, resources.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, EnvVarSource, EphemeralContainer, PodSpec,
        ResourceRequirements, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity as Amount,
};

use super::{Reason, field::Check, names, probe};
use crate::model::Quantity;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const FIELDS: [&str; 11] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What a container is looked at with.
pub(super) struct Scope<'a> {
    /// The pod's spec.
    pub(super) spec: &'a PodSpec,
    /// The names of its volumes.
    pub(super) volumes: &'a BTreeSet<&'a str>,
}

/// Finds what is wrong with the containers of a pod.
pub(super) fn validate_all(at: &str, scope: &Scope<'_>, check: &mut Check) {
    let spec = scope.spec;
    let ephemeral: Vec<Container> =
        spec.ephemeral_containers.iter().flatten().map(of_ephemeral).collect();
    let mut names = BTreeSet::new();
    if spec.containers.is_empty() {
        check.required(format!("{at}.containers"), "");
    }
    for (i, c) in spec.containers.iter().enumerate() {
        let at = format!("{at}.containers[{i}]");
        validate(&at, c, scope, &mut names, check);
        probe::validate_all(&at, c, spec, check);
    }
    for (i, c) in spec.init_containers.iter().flatten().enumerate() {
        let at = format!("{at}.initContainers[{i}]");
        validate(&at, c, scope, &mut names, check);
        validate_init(&at, c, spec, check);
    }
    for (i, (c, own)) in
        ephemeral.iter().zip(spec.ephemeral_containers.iter().flatten()).enumerate()
    {
        let at = format!("{at}.ephemeralContainers[{i}]");
        validate(&at, c, scope, &mut names, check);
        validate_ephemeral(&at, own, spec, check);
    }
    host_ports(at, spec, check);
}

/// A container for debugging, as far as it is like any other.
pub fn of_ephemeral(own: &EphemeralContainer) -> Container {
    let own = own.clone();
    Container {
        name: own.name,
        image: own.image,
        command: own.command,
        args: own.args,
        working_dir: own.working_dir,
        env: own.env,
        env_from: own.env_from,
        image_pull_policy: own.image_pull_policy,
        resources: own.resources,
        security_context: own.security_context,
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        termination_message_path: own.termination_message_path,
        termination_message_policy: own.termination_message_policy,
        tty: own.tty,
        volume_devices: own.volume_devices,
        volume_mounts: own.volume_mounts,
        ..Container::default()
    }
}

/// Nothing may rest on a container that is there to look at the others.
fn validate_ephemeral(at: &str, c: &EphemeralContainer, spec: &PodSpec, check: &mut Check) {
    let resources = c.resources.as_ref().is_some_and(|r| *r != ResourceRequirements::default());
    let text = "cannot be set for an Ephemeral Container";
    for (field, set) in [
        ("ports", c.ports.is_some()),
        ("resources", resources),
        ("resizePolicy", c.resize_policy.is_some()),
        ("restartPolicy", c.restart_policy.is_some()),
        ("lifecycle", c.lifecycle.is_some()),
        ("livenessProbe", c.liveness_probe.is_some()),
        ("readinessProbe", c.readiness_probe.is_some()),
        ("startupProbe", c.startup_probe.is_some()),
    ] {
        if set {
            check.forbidden(format!("{at}.{field}"), text);
        }
    }
    for (i, mount) in c.volume_mounts.iter().flatten().enumerate() {
        for (field, path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if path.as_deref().is_some_and(|path| !path.is_empty()) {
                check.forbidden(format!("{at}.volumeMounts[{i}].{field}"), text);
            }
        }
    }
    let target = c.target_container_name.as_deref().filter(|name| !name.is_empty());
    let others = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if let Some(target) = target.filter(|target| others().all(|c| c.name != *target)) {
        check.not_found(format!("{at}.targetContainerName"), target);
    }
}

fn validate_init(at: &str, c: &Container, spec: &PodSpec, check: &mut Check) {
    match c.restart_policy.as_deref() {
        Some("Always") => return probe::validate_all(at, c, spec, check),
        Some(policy) => {
            let all = ["Always", "Never", "OnFailure"];
            check.one_of(format!("{at}.restartPolicy"), policy, &all);
        }
        None => {}
    }
    let text = "may not be set for init containers without restartPolicy=Always";
    for (field, set) in [
        ("lifecycle", c.lifecycle.is_some()),
        ("livenessProbe", c.liveness_probe.is_some()),
        ("readinessProbe", c.readiness_probe.is_some()),
        ("startupProbe", c.startup_probe.is_some()),
    ] {
        if set {
            check.forbidden(format!("{at}.{field}"), text);
        }
    }
}

fn validate<'a>(
    at: &str,
    c: &'a Container,
    scope: &Scope<'_>,
    names: &mut BTreeSet<&'a str>,
    check: &mut Check,
) {
    let name = format!("{at}.name");
    if c.name.is_empty() {
        check.required(&name, "");
    } else {
        check.text(&name, &c.name, names::dns1123_label(&c.name));
        if !names.insert(&c.name) {
            check.duplicate(&name, &c.name);
        }
    }
    match c.image.as_deref().unwrap_or_default() {
        "" => check.required(format!("{at}.image"), ""),
        image if image.trim() != image => {
            let text = "must not have leading or trailing whitespace";
            check.invalid(format!("{at}.image"), image, text);
        }
        _ => {}
    }
    let policy = c.image_pull_policy.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.imagePullPolicy"), policy, &PULL_POLICIES);
    let message = c.termination_message_policy.as_deref().unwrap_or("File");
    let policies = ["FallbackToLogsOnError", "File"];
    check.one_of(format!("{at}.terminationMessagePolicy"), message, &policies);
    validate_ports(at, c.ports.as_deref().unwrap_or_default(), scope.spec, check);
    validate_env(at, c, check);
    validate_mounts(at, c, scope, check);
    if let Some(resources) = &c.resources {
        validate_resources(&format!("{at}.resources"), resources, check);
    }
    validate_security(at, c, check);
}

fn validate_ports(at: &str, ports: &[ContainerPort], spec: &PodSpec, check: &mut Check) {
    let mut port_names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at_port = format!("{at}.ports[{i}]");
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            let field = format!("{at_port}.name");
            let messages = names::port_name(name);
            if messages.is_empty() && !port_names.insert(name) {
                check.duplicate(&field, name);
            }
            check.text(&field, name, messages);
        }
        let number = port.container_port;
        if number == 0 {
            check.required(format!("{at_port}.containerPort"), "");
        } else {
            port_number(&format!("{at_port}.containerPort"), number, check);
        }
        if let Some(host) = port.host_port.filter(|p| *p != 0) {
            let field = format!("{at_port}.hostPort");
            port_number(&field, host, check);
            if spec.host_network == Some(true) && host != number {
                let text = "must match `containerPort` when `hostNetwork` is true";
                check.invalid(&field, host, text);
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if protocol.is_empty() {
            check.required(format!("{at_port}.protocol"), "");
        } else {
            check.one_of(format!("{at_port}.protocol"), protocol, &PROTOCOLS);
        }
        let same = |p: &ContainerPort| p.container_port == number && p.protocol == port.protocol;
        if let Some(first) = ports[..i].iter().position(same) {
            let text = format!("duplicate port definition with {at}.ports[{first}]");
            check.warn(at_port, text);
        }
    }
}

pub(super) fn port_number(field: &str, number: i32, check: &mut Check) {
    for message in names::port_number(number) {
        check.invalid(field, number, message);
    }
}

/// Two containers of a pod cannot have the same port of the node.
fn host_ports(at: &str, spec: &PodSpec, check: &mut Check) {
    let mut seen = BTreeSet::new();
    for (i, c) in spec.containers.iter().enumerate() {
        for (j, port) in c.ports.iter().flatten().enumerate() {
            let Some(host) = port.host_port.filter(|p| *p != 0) else { continue };
            let text = format!(
                "{}/{}/{host}",
                port.protocol.as_deref().unwrap_or_default(),
                port.host_ip.as_deref().unwrap_or_default()
            );
            if !seen.insert(text.clone()) {
                check.duplicate(format!("{at}.containers[{i}].ports[{j}].hostPort"), text);
            }
        }
    }
}

fn validate_env(at: &str, c: &Container, check: &mut Check) {
    let env = c.env.as_deref().unwrap_or_default();
    for (i, var) in env.iter().enumerate() {
        let at = format!("{at}.env[{i}]");
        if var.name.is_empty() {
            check.required(format!("{at}.name"), "");
        } else {
            check.text(&format!("{at}.name"), &var.name, names::env_name(&var.name));
        }
        validate_env_source(&at, var, check);
        if !var.name.is_empty() && env[..i].iter().any(|v| v.name == var.name) {
            let text = format!(
                "hides previous definition of {:?}, which may be dropped when using apply",
                var.name
            );
            check.warn(at, text);
        }
    }
    for (i, from) in c.env_from.iter().flatten().enumerate() {
        let at_from = format!("{at}.envFrom[{i}]");
        if let Some(prefix) = from.prefix.as_deref().filter(|p| !p.is_empty()) {
            check.text(&format!("{at_from}.prefix"), prefix, names::env_name(prefix));
        }
        match (&from.config_map_ref, &from.secret_ref) {
            (Some(map), None) => object_name(&format!("{at_from}.configMapRef"), &map.name, check),
            (None, Some(secret)) => {
                object_name(&format!("{at_from}.secretRef"), &secret.name, check);
            }
            (None, None) => {
                let text = "must specify one of: `configMapRef` or `secretRef`";
                check.invalid(format!("{at}.envFrom"), "", text);
            }
            (Some(_), Some(_)) => {
                let text = "may not have more than one field specified at a time";
                check.invalid(format!("{at}.envFrom"), "", text);
            }
        }
    }
}

fn object_name(at: &str, name: &str, check: &mut Check) {
    check.text(&format!("{at}.name"), name, names::dns1123_subdomain(name));
}

fn validate_env_source(at: &str, var: &EnvVar, check: &mut Check) {
    let Some(from) = &var.value_from else { return };
    let at = format!("{at}.valueFrom");
    if var.value.as_deref().is_some_and(|v| !v.is_empty()) {
        check.invalid(&at, "", "may not be specified when `value` is not empty");
        return;
    }
    let EnvVarSource {
        config_map_key_ref,
        field_ref,
        file_key_ref,
        resource_field_ref,
        secret_key_ref,
    } = from;
    let set = [
        config_map_key_ref.is_some(),
        field_ref.is_some(),
        file_key_ref.is_some(),
        resource_field_ref.is_some(),
        secret_key_ref.is_some(),
    ];
    match set.iter().filter(|s| **s).count() {
        0 => {
            let text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, \
                        `secretKeyRef` or `fileKeyRef`";
            check.invalid(&at, "", text);
        }
        1 => {}
        _ => check.invalid(&at, "", "may not have more than one field specified at a time"),
    }
    if let Some(field) = field_ref {
        validate_field_path(&format!("{at}.fieldRef.fieldPath"), &field.field_path, check);
    }
    if let Some(resource) = resource_field_ref {
        let field = format!("{at}.resourceFieldRef.resource");
        let name = resource.resource.as_str();
        if name.is_empty() {
            check.required(field, "");
        } else if !name.contains(".hugepages-") {
            check.one_of(field, name, &RESOURCES);
        }
    }
    if let Some(r) = secret_key_ref {
        validate_key_ref(&format!("{at}.secretKeyRef"), &r.name, &r.key, check);
    }
    if let Some(r) = config_map_key_ref {
        validate_key_ref(&format!("{at}.configMapKeyRef"), &r.name, &r.key, check);
    }
}

fn validate_key_ref(at: &str, name: &str, key: &str, check: &mut Check) {
    object_name(at, name, check);
    if key.is_empty() {
        check.required(format!("{at}.key"), "");
    } else {
        check.text(&format!("{at}.key"), key, names::config_key(key));
    }
}

fn validate_field_path(field: &str, path: &str, check: &mut Check) {
    if path.is_empty() {
        return check.required(field, "");
    }
    let plain = match path.split_once("['").and_then(|(p, k)| Some((p, k.strip_suffix("']")?))) {
        Some((map @ ("metadata.labels" | "metadata.annotations"), key)) => {
            check.text(field, key, names::qualified_name(key));
            map
        }
        _ => path,
    };
    if !FIELDS.contains(&plain) {
        let text = format!("error converting fieldPath: field label not supported: {path}");
        check.invalid(field, path, text);
    }
}

fn validate_mounts(at: &str, c: &Container, scope: &Scope<'_>, check: &mut Check) {
    let mut paths = BTreeSet::new();
    for (i, mount) in c.volume_mounts.iter().flatten().enumerate() {
        let at_mount = format!("{at}.volumeMounts[{i}]");
        if mount.name.is_empty() {
            check.required(format!("{at_mount}.name"), "");
        } else if !scope.volumes.contains(mount.name.as_str()) {
            check.not_found(format!("{at_mount}.name"), &mount.name);
        }
        let path = format!("{at_mount}.mountPath");
        if mount.mount_path.is_empty() {
            check.required(&path, "");
        } else if !paths.insert(mount.mount_path.as_str()) {
            check.invalid(&path, &mount.mount_path, "must be unique");
        }
        validate_sub_path(at, &at_mount, mount, check);
        validate_propagation(at, c, mount, check);
    }
}

fn validate_sub_path(at: &str, at_mount: &str, mount: &VolumeMount, check: &mut Check) {
    let given = |p: &Option<String>| p.clone().filter(|p| !p.is_empty());
    let (plain, expanded) = (given(&mount.sub_path), given(&mount.sub_path_expr));
    for (field, path) in [("subPath", &plain), ("subPathExpr", &expanded)] {
        if let Some(path) = path {
            inside(&format!("{at}.volumeMounts.{field}"), path, check);
        }
    }
    if let (Some(_), Some(expanded)) = (plain, expanded) {
        let text = "subPathExpr and subPath are mutually exclusive";
        check.invalid(format!("{at_mount}.subPathExpr"), expanded, text);
    }
}

/// A relative path that does not climb.
pub(super) fn inside(field: &str, path: &str, check: &mut Check) {
    if path.starts_with('/') {
        check.invalid(field, path, "must be a relative path");
    }
    if path.split('/').any(|part| part == "..") {
        check.invalid(field, path, "must not contain '..'");
    }
}

fn validate_propagation(at: &str, c: &Container, mount: &VolumeMount, check: &mut Check) {
    let Some(propagation) = mount.mount_propagation.as_deref() else { return };
    let field = format!("{at}.volumeMounts.mountPropagation");
    let privileged = c.security_context.as_ref().and_then(|s| s.privileged) == Some(true);
    if propagation == "Bidirectional" && !privileged {
        let text = "Bidirectional mount propagation is available only to privileged containers";
        check.forbidden(&field, text);
    }
    check.one_of(field, propagation, &["Bidirectional", "HostToContainer", "None"]);
}

/// Finds what is wrong with requests and limits.
pub(super) fn validate_resources(at: &str, resources: &ResourceRequirements, check: &mut Check) {
    let empty = BTreeMap::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    for (name, amount) in limits {
        validate_amount(&format!("{at}.limits[{name}]"), name, amount, check);
    }
    for (name, amount) in requests {
        validate_amount(&format!("{at}.requests[{name}]"), name, amount, check);
        match limits.get(name) {
            Some(limit) if Quantity::of(amount) > Quantity::of(limit) => {
                let text = format!("must be less than or equal to {name} limit of {}", limit.0);
                check.invalid(format!("{at}.requests"), &amount.0, text);
            }
            Some(limit) if !overcommits(name) && Quantity::of(amount) != Quantity::of(limit) => {
                let text = format!("must be equal to {name} limit of {}", limit.0);
                check.invalid(format!("{at}.requests"), &amount.0, text);
            }
            None if !overcommits(name) && qualified(name) => {
                check.required(
                    format!("{at}.limits"),
                    "Limit must be set for non overcommitable resources",
                );
            }
            _ => {}
        }
    }
    let has = |name: &str| limits.contains_key(name) || requests.contains_key(name);
    let huge = limits.keys().chain(requests.keys()).any(|n| n.starts_with("hugepages-"));
    if huge && !has("cpu") && !has("memory") {
        check.forbidden(at, "HugePages require cpu or memory");
    }
}

fn standard(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

fn qualified(name: &str) -> bool {
    standard(name) || name.contains('/')
}

/// Whether more of it may be promised than there is.
fn overcommits(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage")
}

/// The name of something that a container may ask for.
pub(super) fn resource_name(field: &str, name: &str, check: &mut Check) {
    check.text(field, name, names::qualified_name(name));
    if name.contains('/') || standard(name) {
        return;
    }
    if name != "storage" {
        check.invalid(field, name, "must be a standard resource type or fully qualified");
    }
    check.invalid(field, name, "must be a standard resource for containers");
}

fn validate_amount(field: &str, name: &str, amount: &Amount, check: &mut Check) {
    resource_name(field, name, check);
    let value = Quantity::of(amount);
    if value.is_negative() {
        check.invalid(field, &amount.0, "must be greater than or equal to 0");
    }
    if !overcommits(name) && value != Quantity::units(value.as_units()) {
        check.invalid(field, &amount.0, "must be an integer");
    }
    let bytes = matches!(name, "memory" | "ephemeral-storage");
    if bytes && value != Quantity::units(value.as_units()) {
        let text = format!("fractional byte value {:?} is invalid, must be an integer", amount.0);
        check.warn(field, text);
    }
}

fn validate_security(at: &str, c: &Container, check: &mut Check) {
    let Some(security) = &c.security_context else { return };
    let at = format!("{at}.securityContext");
    for (field, id) in [("runAsUser", security.run_as_user), ("runAsGroup", security.run_as_group)]
    {
        user_id(&format!("{at}.{field}"), id, check);
    }
    if let Some(mount) = security.proc_mount.as_deref() {
        check.one_of(format!("{at}.procMount"), mount, &["Default", "Unmasked"]);
    }
    if security.allow_privilege_escalation == Some(false) {
        if security.privileged == Some(true) {
            let text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            check.invalid(&at, security, text);
        }
        let added = security.capabilities.iter().flat_map(|c| c.add.iter().flatten());
        if added.into_iter().any(|c| c == "CAP_SYS_ADMIN") {
            let text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` \
                        CAP_SYS_ADMIN";
            check.invalid(&at, security, text);
        }
    }
}

/// A user or group of Linux.
pub(super) fn user_id(field: &str, id: Option<i64>, check: &mut Check) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        check.error(
            field,
            Reason::Invalid,
            format!("Invalid value: {id}: must be between 0 and 2147483647, inclusive"),
        );
    }
}
