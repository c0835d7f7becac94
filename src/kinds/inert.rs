//! Fields that are read and kept but not acted on yet: each gives a warning by name.

use serde_json::Value;

use super::{KindInfo, field::Check};

/// Fields of a pod's spec. `[]` stands for every item of a list.
const POD: [&str; 28] = [
    "activeDeadlineSeconds",
    "affinity.podAffinity",
    "affinity.podAntiAffinity",
    "containers[].lifecycle.postStart.tcpSocket",
    "containers[].lifecycle.preStop.tcpSocket",
    "containers[].restartPolicyRules",
    "containers[].securityContext.appArmorProfile",
    "containers[].securityContext.procMount",
    "containers[].securityContext.seLinuxOptions",
    "containers[].securityContext.seccompProfile.localhostProfile",
    "containers[].securityContext.windowsOptions",
    "containers[].volumeDevices",
    "hostUsers",
    "os",
    "priorityClassName",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "securityContext.seccompProfile.localhostProfile",
    "securityContext.supplementalGroupsPolicy",
    "securityContext.windowsOptions",
    "setHostnameAsFQDN",
    "topologySpreadConstraints",
    "volumes[].emptyDir.sizeLimit",
    "volumes[].projected.sources[].clusterTrustBundle",
    "volumes[].projected.sources[].podCertificate",
];
/// Fields of a pod on its own network; on the host's, a host port is the container's own.
const OWN_NETWORK: [&str; 2] = ["containers[].ports[].hostPort", "containers[].ports[].hostIP"];
/// Volume sources that are not mounted yet.
const VOLUMES_ACTED_ON: [&str; 7] =
    ["name", "configMap", "secret", "emptyDir", "hostPath", "downwardAPI", "projected"];
/// Fields of a Service's spec.
const SERVICE: [&str; 5] = [
    "externalIPs",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "trafficDistribution",
];

/// Warns of every field that is set and not acted on.
pub(super) fn warn(info: &KindInfo, value: &Value, check: &mut Check) {
    if info.inert {
        let text = format!("{}: its controller is not there yet: {TEXT}", info.kind);
        check.warn("kind", text);
    }
    match info.kind.as_str() {
        "Pod" => pod(&value["spec"], "spec", check),
        "Deployment" | "ReplicaSet" | "Job" => {
            pod(&value["spec"]["template"]["spec"], "spec.template.spec", check);
        }
        "CronJob" => {
            let spec = &value["spec"]["jobTemplate"]["spec"]["template"]["spec"];
            pod(spec, "spec.jobTemplate.spec.template.spec", check);
        }
        "Service" => {
            for path in SERVICE {
                find(&value["spec"], path, "spec".to_owned(), check);
            }
            if value["spec"]["type"] == "LoadBalancer" {
                check.warn("spec.type", format!("LoadBalancer: {TEXT}"));
            }
        }
        _ => {}
    }
}

const TEXT: &str = "accepted but not acted on yet";

fn pod(spec: &Value, at: &str, check: &mut Check) {
    let has_inits = spec.get("initContainers").is_some();
    let own_network = spec["hostNetwork"] != true;
    for path in POD.iter().chain(OWN_NETWORK.iter().filter(|_| own_network)) {
        find(spec, path, at.to_owned(), check);
        if has_inits && let Some(of_init) = path.strip_prefix("containers") {
            find(spec, &format!("initContainers{of_init}"), at.to_owned(), check);
        }
    }
    for (i, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let other = volume.as_object().into_iter().flatten().map(|(key, _)| key);
        for source in other.filter(|k| !VOLUMES_ACTED_ON.contains(&k.as_str())) {
            check.warn(format!("{at}.volumes[{i}].{source}"), TEXT);
        }
    }
}

/// Walks `path` from `here` and warns of what stands at its end.
fn find(here: &Value, path: &str, at: String, check: &mut Check) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(s, r)| (s, Some(r)));
    let (name, each) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    let Some(next) = here.get(name) else { return };
    let at = format!("{at}.{name}");
    match (each, rest) {
        (true, Some(rest)) => {
            for (i, item) in next.as_array().into_iter().flatten().enumerate() {
                find(item, rest, format!("{at}[{i}]"), check);
            }
        }
        (_, Some(rest)) => find(next, rest, at, check),
        (_, None) => {
            let empty = next.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty {
                check.warn(at, TEXT);
            }
        }
    }
}
