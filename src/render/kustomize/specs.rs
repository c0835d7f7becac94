//! The tables: which fields hold labels, annotations, images, replicas, namespaces and the names
//! of other objects, as kustomize 5 has them built in.

use super::resource::Gvk;

/// A place in objects of some kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec<'a> {
    pub(super) gvk: Gvk<'a>,
    /// `/` between the parts, `\/` for one inside a part; `[]` after a part that is a list.
    pub(super) path: &'a str,
    /// Whether it is made when it is not there.
    pub(super) create: bool,
}

const fn any(path: &str) -> Spec<'_> {
    Spec { gvk: Gvk { group: "", version: "", kind: "" }, path, create: true }
}

const fn of<'a>(group: &'a str, kind: &'a str, path: &'a str, create: bool) -> Spec<'a> {
    Spec { gvk: Gvk { group, version: "", kind }, path, create }
}

const fn core<'a>(kind: &'a str, path: &'a str) -> Spec<'a> {
    Spec { gvk: Gvk { group: "", version: "v1", kind }, path, create: true }
}

/// Where labels go that are for objects alone.
pub(super) const LABELS: &[Spec<'_>] = &[any("metadata/labels")];

/// Labels of objects and of what they make.
pub(super) const TEMPLATE_LABELS: &[Spec<'_>] = &[
    any("metadata/labels"),
    core("ReplicationController", "spec/template/metadata/labels"),
    of("", "Deployment", "spec/template/metadata/labels", true),
    of("", "ReplicaSet", "spec/template/metadata/labels", true),
    of("", "DaemonSet", "spec/template/metadata/labels", true),
    of("apps", "StatefulSet", "spec/template/metadata/labels", true),
    of("apps", "StatefulSet", "spec/volumeClaimTemplates[]/metadata/labels", true),
    of("batch", "Job", "spec/template/metadata/labels", true),
    of("batch", "CronJob", "spec/jobTemplate/metadata/labels", true),
    of("batch", "CronJob", "spec/jobTemplate/spec/template/metadata/labels", true),
];

/// Selectors, which `commonLabels` and `includeSelectors` change too.
pub(super) const SELECTORS: &[Spec<'_>] = &[
    core("Service", "spec/selector"),
    core("ReplicationController", "spec/selector"),
    of("", "Deployment", "spec/selector/matchLabels", true),
    of("", "ReplicaSet", "spec/selector/matchLabels", true),
    of("", "DaemonSet", "spec/selector/matchLabels", true),
    of("apps", "StatefulSet", "spec/selector/matchLabels", true),
    of("batch", "Job", "spec/selector/matchLabels", false),
    of("batch", "CronJob", "spec/jobTemplate/spec/selector/matchLabels", false),
    of("policy", "PodDisruptionBudget", "spec/selector/matchLabels", false),
    of("networking.k8s.io", "NetworkPolicy", "spec/podSelector/matchLabels", false),
    of("networking.k8s.io", "NetworkPolicy", "spec/ingress/from/podSelector/matchLabels", false),
    of("networking.k8s.io", "NetworkPolicy", "spec/egress/to/podSelector/matchLabels", false),
];

/// Selectors inside the pod templates of the kinds of [`WITH_POD_SELECTORS`].
pub(super) const POD_SELECTORS: &[&str] = &[
    "spec/template/spec/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/\
     podAffinityTerm/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/\
     labelSelector/matchLabels",
    "spec/template/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/\
     podAffinityTerm/labelSelector/matchLabels",
    "spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/\
     labelSelector/matchLabels",
    "spec/template/spec/topologySpreadConstraints/labelSelector/matchLabels",
];

/// Kinds of the group `apps` whose pod templates hold selectors that are changed.
pub(super) const WITH_POD_SELECTORS: &[&str] = &["Deployment", "StatefulSet"];

/// Annotations of objects and of what they make.
pub(super) const ANNOTATIONS: &[Spec<'_>] = &[
    any("metadata/annotations"),
    core("ReplicationController", "spec/template/metadata/annotations"),
    of("", "Deployment", "spec/template/metadata/annotations", true),
    of("", "ReplicaSet", "spec/template/metadata/annotations", true),
    of("", "DaemonSet", "spec/template/metadata/annotations", true),
    of("", "StatefulSet", "spec/template/metadata/annotations", true),
    of("batch", "Job", "spec/template/metadata/annotations", true),
    of("batch", "CronJob", "spec/jobTemplate/metadata/annotations", true),
    of("batch", "CronJob", "spec/jobTemplate/spec/template/metadata/annotations", true),
];

/// Where the namespace stands beside `metadata.namespace`.
pub(super) const NAMESPACES: &[Spec<'_>] = &[
    core("Namespace", "metadata/name"),
    of("apiregistration.k8s.io", "APIService", "spec/service/namespace", true),
    of(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "spec/conversion/webhook/clientConfig/service/namespace",
        false,
    ),
];

/// Counts of pods.
pub(super) const REPLICAS: &[Spec<'_>] = &[
    of("", "Deployment", "spec/replicas", true),
    of("", "ReplicationController", "spec/replicas", true),
    of("", "ReplicaSet", "spec/replicas", true),
    of("", "StatefulSet", "spec/replicas", true),
];

/// Kinds whose names no prefix or suffix changes.
pub(super) const KEEP_NAMES: &[Gvk<'_>] = &[
    Gvk { group: "", version: "", kind: "CustomResourceDefinition" },
    Gvk { group: "apiregistration.k8s.io", version: "", kind: "APIService" },
    Gvk { group: "", version: "", kind: "Namespace" },
];

/// Where the names of one kind's objects stand.
pub(super) struct Names<'a> {
    /// Whose names.
    pub(super) target: Gvk<'a>,
    /// Fields of pod specs, in the kinds that are named.
    pub(super) pods: Option<(&'a [Template<'a>], &'a [&'a str])>,
    /// Other fields.
    pub(super) fields: &'a [Spec<'a>],
}

/// A kind with a pod spec, and where that is.
type Template<'a> = (&'a str, &'a str);

const POD: Template<'_> = ("Pod", "spec");
const POD_TEMPLATE: Template<'_> = ("PodTemplate", "template/spec");
const DEPLOYMENT: Template<'_> = ("Deployment", "spec/template/spec");
const REPLICA_SET: Template<'_> = ("ReplicaSet", "spec/template/spec");
const DAEMON_SET: Template<'_> = ("DaemonSet", "spec/template/spec");
const STATEFUL_SET: Template<'_> = ("StatefulSet", "spec/template/spec");
const CONTROLLER: Template<'_> = ("ReplicationController", "spec/template/spec");
const JOB: Template<'_> = ("Job", "spec/template/spec");
const CRON_JOB: Template<'_> = ("CronJob", "spec/jobTemplate/spec/template/spec");

/// Kinds in which ConfigMaps and Secrets are renamed; a ReplicationController is none of them.
const WITH_DATA: &[Template<'_>] =
    &[POD, POD_TEMPLATE, DEPLOYMENT, REPLICA_SET, DAEMON_SET, STATEFUL_SET, JOB, CRON_JOB];
/// Kinds in which accounts, claims and priorities are renamed; a ReplicaSet is none of them.
const WITH_ACCOUNT: &[Template<'_>] =
    &[POD, STATEFUL_SET, DEPLOYMENT, CONTROLLER, CRON_JOB, JOB, DAEMON_SET];

const fn field<'a>(kind: &'a str, path: &'a str) -> Spec<'a> {
    of("", kind, path, false)
}

const fn gvk<'a>(group: &'a str, version: &'a str, kind: &'a str) -> Gvk<'a> {
    Gvk { group, version, kind }
}

const SCALED: &[Spec<'_>] = &[field("HorizontalPodAutoscaler", "spec/scaleTargetRef/name")];

/// Every place that holds the name of another object.
pub(super) const NAMES: &[Names<'_>] = &[
    Names { target: gvk("", "", "Deployment"), pods: None, fields: SCALED },
    Names { target: gvk("", "", "ReplicationController"), pods: None, fields: SCALED },
    Names { target: gvk("", "", "ReplicaSet"), pods: None, fields: SCALED },
    Names { target: gvk("", "", "StatefulSet"), pods: None, fields: SCALED },
    Names {
        target: gvk("", "v1", "ConfigMap"),
        pods: Some((
            WITH_DATA,
            &[
                "volumes/configMap/name",
                "containers/env/valueFrom/configMapKeyRef/name",
                "initContainers/env/valueFrom/configMapKeyRef/name",
                "containers/envFrom/configMapRef/name",
                "initContainers/envFrom/configMapRef/name",
                "volumes/projected/sources/configMap/name",
            ],
        )),
        fields: &[
            field("Node", "spec/configSource/configMap"),
            field("Role", "rules/resourceNames"),
            field("ClusterRole", "rules/resourceNames"),
            field(
                "Ingress",
                r"metadata/annotations/nginx.ingress.kubernetes.io\/fastcgi-params-configmap",
            ),
        ],
    },
    Names {
        target: gvk("", "v1", "Secret"),
        pods: Some((
            WITH_DATA,
            &[
                "volumes/secret/secretName",
                "containers/env/valueFrom/secretKeyRef/name",
                "initContainers/env/valueFrom/secretKeyRef/name",
                "containers/envFrom/secretRef/name",
                "initContainers/envFrom/secretRef/name",
                "imagePullSecrets/name",
                "volumes/projected/sources/secret/name",
            ],
        )),
        fields: &[
            field("Ingress", "spec/tls/secretName"),
            field("Ingress", r"metadata/annotations/ingress.kubernetes.io\/auth-secret"),
            field("Ingress", r"metadata/annotations/nginx.ingress.kubernetes.io\/auth-secret"),
            field("Ingress", r"metadata/annotations/nginx.ingress.kubernetes.io\/auth-tls-secret"),
            field("ServiceAccount", "imagePullSecrets/name"),
            field("StorageClass", "parameters/secretName"),
            field("StorageClass", "parameters/adminSecretName"),
            field("StorageClass", "parameters/userSecretName"),
            field("StorageClass", "parameters/secretRef"),
            field("Role", "rules/resourceNames"),
            field("ClusterRole", "rules/resourceNames"),
            field("PersistentVolume", "spec/azureFile/secretName"),
        ],
    },
    Names {
        target: gvk("", "v1", "Service"),
        pods: None,
        fields: &[
            of("apps", "StatefulSet", "spec/serviceName", false),
            field("Ingress", "spec/rules/http/paths/backend/serviceName"),
            field("Ingress", "spec/backend/serviceName"),
            field("Ingress", "spec/rules/http/paths/backend/service/name"),
            field("Ingress", "spec/defaultBackend/service/name"),
            of("apiregistration.k8s.io", "APIService", "spec/service/name", false),
            of(
                "admissionregistration.k8s.io",
                "ValidatingWebhookConfiguration",
                "webhooks/clientConfig/service",
                false,
            ),
            of(
                "admissionregistration.k8s.io",
                "MutatingWebhookConfiguration",
                "webhooks/clientConfig/service",
                false,
            ),
        ],
    },
    Names {
        target: gvk("rbac.authorization.k8s.io", "", "Role"),
        pods: None,
        fields: &[of("rbac.authorization.k8s.io", "RoleBinding", "roleRef/name", false)],
    },
    Names {
        target: gvk("rbac.authorization.k8s.io", "", "ClusterRole"),
        pods: None,
        fields: &[
            of("rbac.authorization.k8s.io", "RoleBinding", "roleRef/name", false),
            of("rbac.authorization.k8s.io", "ClusterRoleBinding", "roleRef/name", false),
        ],
    },
    Names {
        target: gvk("", "v1", "ServiceAccount"),
        pods: Some((WITH_ACCOUNT, &["serviceAccountName"])),
        fields: &[
            of("rbac.authorization.k8s.io", "RoleBinding", "subjects", false),
            of("rbac.authorization.k8s.io", "ClusterRoleBinding", "subjects", false),
        ],
    },
    Names {
        target: gvk("", "v1", "PersistentVolumeClaim"),
        pods: Some((WITH_ACCOUNT, &["volumes/persistentVolumeClaim/claimName"])),
        fields: &[],
    },
    Names {
        target: gvk("", "v1", "PersistentVolume"),
        pods: None,
        fields: &[
            field("PersistentVolumeClaim", "spec/volumeName"),
            field("ClusterRole", "rules/resourceNames"),
        ],
    },
    Names {
        target: gvk("storage.k8s.io", "v1", "StorageClass"),
        pods: None,
        fields: &[
            field("PersistentVolume", "spec/storageClassName"),
            field("PersistentVolumeClaim", "spec/storageClassName"),
            field("StatefulSet", "spec/volumeClaimTemplates/spec/storageClassName"),
        ],
    },
    Names {
        target: gvk("scheduling.k8s.io", "v1", "PriorityClass"),
        pods: Some((WITH_ACCOUNT, &["priorityClassName"])),
        fields: &[],
    },
    Names {
        target: gvk("admissionregistration.k8s.io", "", "ValidatingAdmissionPolicy"),
        pods: None,
        fields: &[of(
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding",
            "spec/policyName",
            false,
        )],
    },
];
