//! Kinds that Kubernetes has and we do not serve, or do not act on (yet), so that each is refused
//! by name.

use super::{KindInfo, registry};

/// Whether Kubernetes has (or had) this kind at this version.
pub fn known_kubernetes_kind(api_version: &str, kind: &str) -> bool {
    KNOWN.contains(&(api_version, kind))
        || REPLACED.iter().any(|(old, k, _)| *old == api_version && *k == kind)
}

/// Why a kind that is not in the registry, or is inert, is refused: the field to point at, and what
/// to do.
pub fn unsupported(api_version: &str, kind: &str) -> (&'static str, String) {
    let told =
        |(field, text): (&'static str, String)| (field, format!("Unsupported value: {text}"));
    told(reason(api_version, kind))
}

fn reason(api_version: &str, kind: &str) -> (&'static str, String) {
    let replaced = REPLACED.iter().find(|(old, k, _)| *old == api_version && *k == kind);
    if let Some((_, _, new)) = replaced {
        let served = served().any(|i| i.kind == kind && i.api_version == *new);
        let end = if served {
            format!("is served as {new} now; write apiVersion: {new}")
        } else {
            format!("is {new} now, which is not supported yet")
        };
        return ("apiVersion", format!("{api_version:?}: {kind} {end}"));
    }
    if known_kubernetes_kind(api_version, kind) {
        return ("kind", format!("{kind:?}: {api_version} {kind} is not supported yet"));
    }
    if let Some(info) = served().find(|i| i.kind == kind) {
        let text = format!(
            "{api_version:?}: {kind} is served as {0}; write apiVersion: {0}",
            info.api_version
        );
        return ("apiVersion", text);
    }
    if let Some((right, _)) = KNOWN.iter().find(|(_, k)| *k == kind) {
        return ("kind", format!("{kind:?}: {right} {kind} is not supported yet"));
    }
    let near = served().find(|i| i.kind.eq_ignore_ascii_case(kind));
    let hint = near.map_or_else(String::new, |i| format!("; did you mean {}?", i.kind));
    ("kind", format!("{kind:?}: {api_version} has no kind {kind}{hint}"))
}

/// The kinds that a repository may hold; those whose controller is not there yet are refused from
/// it by name.
fn served() -> impl Iterator<Item = &'static KindInfo> {
    registry().iter().map(|info| &**info).filter(|info| !info.inert)
}

/// apiVersions of old times and what took their place.
const REPLACED: [(&str, &str, &str); 24] = [
    ("extensions/v1beta1", "Deployment", "apps/v1"),
    ("extensions/v1beta1", "ReplicaSet", "apps/v1"),
    ("extensions/v1beta1", "DaemonSet", "apps/v1"),
    ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1"),
    ("extensions/v1beta1", "NetworkPolicy", "networking.k8s.io/v1"),
    ("apps/v1beta1", "Deployment", "apps/v1"),
    ("apps/v1beta1", "StatefulSet", "apps/v1"),
    ("apps/v1beta2", "Deployment", "apps/v1"),
    ("apps/v1beta2", "ReplicaSet", "apps/v1"),
    ("apps/v1beta2", "StatefulSet", "apps/v1"),
    ("apps/v1beta2", "DaemonSet", "apps/v1"),
    ("batch/v1beta1", "CronJob", "batch/v1"),
    ("networking.k8s.io/v1beta1", "Ingress", "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "IngressClass", "networking.k8s.io/v1"),
    ("policy/v1beta1", "PodDisruptionBudget", "policy/v1"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler", "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler", "autoscaling/v2"),
    ("rbac.authorization.k8s.io/v1beta1", "Role", "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "RoleBinding", "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRole", "rbac.authorization.k8s.io/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding", "rbac.authorization.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice", "discovery.k8s.io/v1"),
    ("coordination.k8s.io/v1beta1", "Lease", "coordination.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "StorageClass", "storage.k8s.io/v1"),
];

/// Every kind that Kubernetes 1.37 serves.
const KNOWN: [(&str, &str); 72] = [
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apiregistration.k8s.io/v1", "APIService"),
    ("apps/v1", "ControllerRevision"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("authentication.k8s.io/v1", "SelfSubjectReview"),
    ("authentication.k8s.io/v1", "TokenReview"),
    ("authorization.k8s.io/v1", "LocalSubjectAccessReview"),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
    ("authorization.k8s.io/v1", "SubjectAccessReview"),
    ("autoscaling/v1", "HorizontalPodAutoscaler"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("batch/v1", "CronJob"),
    ("batch/v1", "Job"),
    ("certificates.k8s.io/v1", "CertificateSigningRequest"),
    ("certificates.k8s.io/v1", "ClusterTrustBundle"),
    ("certificates.k8s.io/v1", "PodCertificateRequest"),
    ("coordination.k8s.io/v1", "Lease"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("events.k8s.io/v1", "Event"),
    ("flowcontrol.apiserver.k8s.io/v1", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration"),
    ("networking.k8s.io/v1", "IPAddress"),
    ("networking.k8s.io/v1", "Ingress"),
    ("networking.k8s.io/v1", "IngressClass"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "ServiceCIDR"),
    ("node.k8s.io/v1", "RuntimeClass"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("resource.k8s.io/v1", "DeviceClass"),
    ("resource.k8s.io/v1", "DeviceTaintRule"),
    ("resource.k8s.io/v1", "ResourceClaim"),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    ("resource.k8s.io/v1", "ResourceSlice"),
    ("scheduling.k8s.io/v1", "PriorityClass"),
    ("storage.k8s.io/v1", "CSIDriver"),
    ("storage.k8s.io/v1", "CSINode"),
    ("storage.k8s.io/v1", "CSIStorageCapacity"),
    ("storage.k8s.io/v1", "StorageClass"),
    ("storage.k8s.io/v1", "VolumeAttachment"),
    ("storage.k8s.io/v1", "VolumeAttributesClass"),
    ("storagemigration.k8s.io/v1", "StorageVersionMigration"),
    ("v1", "Binding"),
    ("v1", "ComponentStatus"),
    ("v1", "ConfigMap"),
    ("v1", "Endpoints"),
    ("v1", "Event"),
    ("v1", "LimitRange"),
    ("v1", "Namespace"),
    ("v1", "Node"),
    ("v1", "PersistentVolume"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Pod"),
    ("v1", "PodTemplate"),
    ("v1", "ReplicationController"),
    ("v1", "ResourceQuota"),
    ("v1", "Secret"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
];
