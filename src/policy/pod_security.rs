//! Pod Security Standards by the labels of a namespace
//! (kubernetes.io/docs/concepts/security/pod-security-standards and pod-security-admission).
//!
//! `pod-security.kubernetes.io/enforce`, `warn` and `audit` name a level, `…-version` the version
//! of Kubernetes whose rules are meant. Rules have only been added since 1.25, and those of the
//! newest are applied for every version: a namespace is never less safe than it asked for.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use super::{Attempt, Refused, pod::place};
use crate::{kinds::usage::containers, model::Key};

const LABEL: &str = "pod-security.kubernetes.io/";

/// Capabilities that containers have anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel settings that belong to the pod alone.
const SAFE_SYSCTLS: [&str; 10] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// SELinux types that do not leave the container.
const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Kinds of volumes that show nothing of the node.
const SAFE_VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Refuses a pod that is below its namespace's level; says what else would be.
pub(super) fn validate(attempt: &Attempt<'_>, value: &Value) -> Result<Vec<String>, Refused> {
    let Some(spec) = spec_of(attempt, value) else { return Ok(Vec::new()) };
    let (namespace, name) = place(value);
    let namespace = attempt.view.object(&Key::of::<Namespace>("", &namespace));
    let label = |mode: &str| {
        let label = |name: String| namespace?.meta().labels.as_ref()?.get(&name).cloned();
        let version = label(format!("{LABEL}{mode}-version"));
        let level = label(format!("{LABEL}{mode}"))?;
        Some((level, version.unwrap_or_else(|| "latest".to_owned())))
    };
    let is_pod = attempt.is("", "pods");
    let found = |mode: &str| {
        let (word, version) = label(mode)?;
        let broken = broken(level(&word), spec);
        (!broken.is_empty())
            .then(|| format!("PodSecurity \"{word}:{version}\": {}", broken.join(", ")))
    };
    if let Some(text) = found("enforce").filter(|_| is_pod) {
        return Err(attempt.refused(&name, &format!("violates {text}")));
    }
    Ok(found("warn").map(|text| format!("would violate {text}")).into_iter().collect())
}

/// Whether an object has a pod.
pub(super) fn concerns(attempt: &Attempt<'_>) -> bool {
    place_of(attempt).is_some()
}

/// Where the pod of a kind is that has one.
fn place_of(attempt: &Attempt<'_>) -> Option<&'static str> {
    Some(match (attempt.info.group.as_str(), attempt.info.plural.as_str()) {
        ("", "pods") => "/spec",
        ("apps", "deployments" | "replicasets" | "daemonsets" | "statefulsets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers") => "/spec/template/spec",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template/spec",
        ("", "podtemplates") => "/template/spec",
        _ => return None,
    })
}

/// The pod of an object that has one; of a pod that is stored already, only when it changes.
fn spec_of<'a>(attempt: &Attempt<'_>, value: &'a Value) -> Option<&'a Value> {
    let place = place_of(attempt)?;
    let spec = value.pointer(place)?;
    let before = attempt.live.map(crate::model::Object::value);
    let same = before.is_some_and(|before| before.pointer(place) == Some(spec));
    (!same).then_some(spec)
}

fn level(word: &str) -> Level {
    match word {
        "privileged" => Level::Privileged,
        "baseline" => Level::Baseline,
        // An unknown word is the strictest, as Kubernetes reads it.
        _ => Level::Restricted,
    }
}

/// What of a pod is below a level, in Kubernetes' order and words.
fn broken(level: Level, spec: &Value) -> Vec<String> {
    if level == Level::Privileged {
        return Vec::new();
    }
    let mut rules = vec![
        host_namespaces(spec),
        host_path(spec),
        host_ports(spec),
        privileged(spec),
        proc_mount(spec),
        selinux(spec),
        sysctls(spec),
        host_process(spec),
    ];
    match level {
        Level::Restricted => rules.extend([
            escalation(spec),
            drops_all(spec),
            volumes(spec),
            non_root(spec),
            root_user(spec),
            seccomp(spec),
        ]),
        _ => rules.extend([capabilities(spec), unconfined(spec)]),
    }
    rules.into_iter().flatten().collect()
}

fn all(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| containers(spec, list))
}

fn names(spec: &Value, bad: impl Fn(&Value) -> bool) -> Vec<&str> {
    all(spec).filter(|c| bad(c)).filter_map(|c| c["name"].as_str()).collect()
}

/// `container "a"`, `containers "a", "b"`
fn said(one: &str, names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("{one}{} {}", if names.len() == 1 { "" } else { "s" }, quoted.join(", "))
}

/// A rule that some containers break.
fn rule(what: &str, broken: &[&str], must: &str) -> Option<String> {
    (!broken.is_empty()).then(|| format!("{what} ({} {must})", said("container", broken)))
}

fn host_namespaces(spec: &Value) -> Option<String> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
}

fn host_path(spec: &Value) -> Option<String> {
    let bad = containers(spec, "volumes").filter(|volume| !volume["hostPath"].is_null());
    let bad: Vec<&str> = bad.filter_map(|volume| volume["name"].as_str()).collect();
    (!bad.is_empty()).then(|| format!("hostPath volumes ({})", said("volume", &bad)))
}

fn host_ports(spec: &Value) -> Option<String> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0).collect()
    };
    let bad = names(spec, |container| !ports(container).is_empty());
    let mut numbers: Vec<i64> = all(spec).flat_map(ports).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let plural = if list.len() == 1 { "" } else { "s" };
    let uses = if bad.len() == 1 { "uses" } else { "use" };
    rule("hostPort", &bad, &format!("{uses} hostPort{plural} {}", list.join(", ")))
}

fn privileged(spec: &Value) -> Option<String> {
    let bad = names(spec, |c| c["securityContext"]["privileged"] == true);
    rule("privileged", &bad, "must not set securityContext.privileged=true")
}

fn proc_mount(spec: &Value) -> Option<String> {
    let bad = names(spec, |c| {
        c["securityContext"]["procMount"].as_str().is_some_and(|mount| mount != "Default")
    });
    rule("procMount", &bad, "must not set securityContext.procMount to \"Unmasked\"")
}

fn selinux(spec: &Value) -> Option<String> {
    let bad = |context: &Value| {
        let options = &context["securityContext"]["seLinuxOptions"];
        let text = |field: &str| options[field].as_str().unwrap_or_default();
        !SELINUX_TYPES.contains(&text("type"))
            || !text("user").is_empty()
            || !text("role").is_empty()
    };
    let broken = names(spec, bad);
    match (bad(spec), broken.is_empty()) {
        (true, _) => {
            Some("seLinuxOptions (pod set forbidden securityContext.seLinuxOptions)".into())
        }
        (false, true) => None,
        (false, false) => {
            rule("seLinuxOptions", &broken, "set forbidden securityContext.seLinuxOptions")
        }
    }
}

fn sysctls(spec: &Value) -> Option<String> {
    let set = spec["securityContext"]["sysctls"].as_array().into_iter().flatten();
    let set = set.filter_map(|sysctl| sysctl["name"].as_str());
    let bad: Vec<&str> = set.filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
    (!bad.is_empty()).then(|| format!("forbidden sysctls ({})", bad.join(", ")))
}

fn host_process(spec: &Value) -> Option<String> {
    let bad = |of: &Value| of["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let broken = names(spec, bad);
    if bad(spec) {
        let must = "must not set securityContext.windowsOptions.hostProcess=true";
        return Some(format!("hostProcess (pod {must})"));
    }
    rule("hostProcess", &broken, "must not set securityContext.windowsOptions.hostProcess=true")
}

fn capabilities(spec: &Value) -> Option<String> {
    let added = |container: &Value| -> Vec<String> {
        let list = container["securityContext"]["capabilities"]["add"].as_array();
        let list = list.into_iter().flatten().filter_map(Value::as_str);
        list.filter(|name| !DEFAULT_CAPABILITIES.contains(name)).map(str::to_owned).collect()
    };
    let bad = names(spec, |container| !added(container).is_empty());
    let mut list: Vec<String> = all(spec).flat_map(added).map(|name| format!("{name:?}")).collect();
    list.sort();
    list.dedup();
    let must = format!("must not include {} in securityContext.capabilities.add", list.join(", "));
    rule("non-default capabilities", &bad, &must)
}

fn unconfined(spec: &Value) -> Option<String> {
    let bad = |of: &Value| of["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let must = "must not set securityContext.seccompProfile.type to \"Unconfined\"";
    match bad(spec) {
        true => Some(format!("seccompProfile (pod {must})")),
        false => rule("seccompProfile", &names(spec, bad), must),
    }
}

fn escalation(spec: &Value) -> Option<String> {
    let bad = names(spec, |c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    let must = "must set securityContext.allowPrivilegeEscalation=false";
    rule("allowPrivilegeEscalation != false", &bad, must)
}

fn drops_all(spec: &Value) -> Option<String> {
    let list = |container: &Value, field: &str| -> Vec<String> {
        let list = container["securityContext"]["capabilities"][field].as_array();
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let keeps = names(spec, |c| !list(c, "drop").iter().any(|name| name == "ALL"));
    let adds = |c: &Value| list(c, "add").iter().any(|name| name != "NET_BIND_SERVICE");
    let adding = names(spec, adds);
    let mut parts = Vec::new();
    if !keeps.is_empty() {
        let must = "must set securityContext.capabilities.drop=[\"ALL\"]";
        parts.push(format!("{} {must}", said("container", &keeps)));
    }
    if !adding.is_empty() {
        let mut names: Vec<String> = all(spec).flat_map(|c| list(c, "add")).collect();
        names.retain(|name| name != "NET_BIND_SERVICE");
        names.sort();
        names.dedup();
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        parts.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            said("container", &adding),
            names.join(", ")
        ));
    }
    (!parts.is_empty()).then(|| format!("unrestricted capabilities ({})", parts.join("; ")))
}

fn volumes(spec: &Value) -> Option<String> {
    let kind = |volume: &Value| {
        let mut fields = volume.as_object()?.keys().filter(|field| *field != "name");
        fields.find(|field| !SAFE_VOLUMES.contains(&field.as_str())).cloned()
    };
    let bad: Vec<(&str, String)> = containers(spec, "volumes")
        .filter_map(|volume| Some((volume["name"].as_str()?, kind(volume)?)))
        .collect();
    let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
    let mut types: Vec<String> = bad.iter().map(|(_, kind)| format!("{kind:?}")).collect();
    types.sort();
    types.dedup();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let plural = if types.len() == 1 { "" } else { "s" };
    (!bad.is_empty()).then(|| {
        let list = types.join(", ");
        let volumes = said("volume", &names);
        format!("restricted volume types ({volumes} {uses} restricted volume type{plural} {list})")
    })
}

fn non_root(spec: &Value) -> Option<String> {
    let of = |of: &Value| of["securityContext"]["runAsNonRoot"].as_bool();
    let said_so = names(spec, |c| of(c) == Some(false));
    let silent = names(spec, |c| of(c).is_none());
    let pod = of(spec);
    let mut parts = Vec::new();
    if pod == Some(false) {
        parts.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    if !said_so.is_empty() {
        let must = "must not set securityContext.runAsNonRoot=false";
        parts.push(format!("{} {must}", said("container", &said_so)));
    }
    if parts.is_empty() && pod.is_none() && !silent.is_empty() {
        let who = said("container", &silent);
        parts.push(format!("pod or {who} must set securityContext.runAsNonRoot=true"));
    }
    (!parts.is_empty()).then(|| format!("runAsNonRoot != true ({})", parts.join(", ")))
}

fn root_user(spec: &Value) -> Option<String> {
    let bad = |of: &Value| of["securityContext"]["runAsUser"] == 0;
    match bad(spec) {
        true => Some("runAsUser=0 (pod must not set runAsUser=0)".to_owned()),
        false => rule("runAsUser=0", &names(spec, bad), "must not set runAsUser=0"),
    }
}

fn seccomp(spec: &Value) -> Option<String> {
    let of =
        |of: &Value| of["securityContext"]["seccompProfile"]["type"].as_str().map(str::to_owned);
    let good =
        |word: &Option<String>| matches!(word.as_deref(), Some("RuntimeDefault" | "Localhost"));
    let (pod, must) = (of(spec), "securityContext.seccompProfile.type to");
    let wrong = names(spec, |c| of(c).is_some() && !good(&of(c)));
    let silent = names(spec, |c| of(c).is_none());
    let mut parts = Vec::new();
    if pod.is_some() && !good(&pod) {
        parts.push(format!("pod must not set {must} {:?}", pod.clone().unwrap_or_default()));
    }
    if !wrong.is_empty() {
        parts.push(format!("{} must not set {must} \"Unconfined\"", said("container", &wrong)));
    }
    if parts.is_empty() && pod.is_none() && !silent.is_empty() {
        let who = said("container", &silent);
        parts.push(format!("pod or {who} must set {must} \"RuntimeDefault\" or \"Localhost\""));
    }
    (!parts.is_empty()).then(|| format!("seccompProfile ({})", parts.join(", ")))
}
