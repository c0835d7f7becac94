//! The table of kinds.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use k8s_openapi::{
    Resource,
    api::{
        admissionregistration::v1::{
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::{v1, v2::HorizontalPodAutoscaler},
        batch::v1::{CronJob, Job},
        certificates::v1::{CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest},
        coordination::v1::Lease,
        core::v1::{ComponentStatus, PodTemplate, ReplicationController},
        core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount},
        core::v1::{Endpoints, LimitRange, PersistentVolume, PersistentVolumeClaim, ResourceQuota},
        discovery::v1::EndpointSlice,
        events,
        flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
        networking::v1::{IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
        node::v1::RuntimeClass,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        resource::v1::{
            DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
        },
        scheduling::v1::PriorityClass,
        storage::v1::{
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass,
        },
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use serde_json::Value;
use smol_str::SmolStr;

use super::{
    Commit, FieldError, Freeze, GitSource, Kind, ServedAs, cron_job,
    custom::Custom,
    decode::{self, Decoded, Strictness},
    door, event, horizontal_autoscaler, names,
    table::{self, Column, Table},
};
use crate::model::{GroupKind, Object, Timestamp};

/// One kind as discovery, `kubectl` and the controllers see it.
#[derive(Debug)]
pub struct KindInfo {
    /// `apps`; empty for the core group.
    pub group: SmolStr,
    /// `v1`: the version it is stored at.
    pub version: SmolStr,
    /// `apps/v1`
    pub api_version: SmolStr,
    /// `Deployment`
    pub kind: SmolStr,
    /// `deployments`, as in paths.
    pub plural: SmolStr,
    /// `deployment`
    pub singular: SmolStr,
    /// `DeploymentList`
    pub list_kind: SmolStr,
    /// `deploy`
    pub short_names: Vec<SmolStr>,
    /// `all`
    pub categories: Vec<SmolStr>,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Made by the cluster itself (nodes, leases, events, endpoints, commits): refused when it
    /// comes from Git.
    pub runtime: bool,
    /// Its controller is not there yet: refused when it comes from Git, accepted over the API with
    /// a warning.
    pub inert: bool,
    /// Where else it is served, and in which shape.
    pub also: Vec<ServedAs>,
    /// Whether `metadata.generation` counts the changes of its spec.
    pub generation: bool,
    /// Whether there is a `/status` path, so that the main path leaves the status alone.
    pub status: bool,
    /// Place in the order of applying: lower ones first.
    pub apply_order: u8,
    /// The rule for names.
    pub(super) name_rule: fn(&str) -> Vec<String>,
    pub(super) nature: Nature,
}

/// Where what is known of a kind comes from.
#[derive(Debug)]
pub(super) enum Nature {
    /// A type of Rust.
    BuiltIn { door: Door, table: Table },
    /// A CustomResourceDefinition.
    Custom(Custom),
}

/// What the door does for one built-in kind; function pointers, so that the table is a value.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) admit: fn(&KindInfo, Value, Strictness) -> Result<Decoded, Vec<FieldError>>,
    pub(super) create: fn(&KindInfo, Value) -> Option<Value>,
    pub(super) update: fn(&KindInfo, door::Pair<'_>) -> door::Updated,
    pub(super) replace: fn(&KindInfo, &Object, Value, Strictness) -> door::Replaced,
    pub(super) decodes: fn(&Object, &Value) -> bool,
    pub(super) schema: fn() -> Value,
    pub(super) define: fn(&mut schemars::SchemaGenerator) -> String,
    pub(super) written: fn(&mut Value),
}

impl KindInfo {
    /// The kind within its group.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(&self.group, &self.kind)
    }

    /// Plural and group, `deployments.apps`; the core group has no name.
    pub fn resource(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.to_string(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Starts an entry for `T` with what most kinds have.
    fn of<T: Kind>(singular: &'static str, apply_order: u8) -> Self {
        Self {
            group: SmolStr::new_static(<T as Resource>::GROUP),
            version: SmolStr::new_static(<T as Resource>::VERSION),
            api_version: SmolStr::new_static(<T as Resource>::API_VERSION),
            kind: SmolStr::new_static(<T as Resource>::KIND),
            plural: SmolStr::new_static(<T as Resource>::URL_PATH_SEGMENT),
            singular: SmolStr::new_static(singular),
            list_kind: format!("{}List", <T as Resource>::KIND).into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            runtime: false,
            inert: false,
            also: Vec::new(),
            generation: false,
            status: false,
            apply_order,
            name_rule: names::dns1123_subdomain,
            nature: Nature::BuiltIn {
                door: Door {
                    admit: decode::admit::<T>,
                    create: door::create_as::<T>,
                    update: door::update_as::<T>,
                    replace: door::replace_as::<T>,
                    decodes: decode::decodes::<T>,
                    schema: super::schemas::schema::<T>,
                    define: super::definitions::define::<T>,
                    written: T::written,
                },
                table: table::PLAIN,
            },
        }
    }

    fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = statics(names);
        self
    }
    fn workload(mut self) -> Self {
        self.generation = true;
        self.status = true;
        self.categories = statics(&["all"]);
        self
    }
    fn counted(mut self) -> Self {
        self.generation = true;
        self
    }
    fn with_status(mut self) -> Self {
        self.status = true;
        self
    }
    fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }
    fn made_by_cluster(mut self) -> Self {
        self.runtime = true;
        self
    }
    fn category(mut self, categories: &'static [&'static str]) -> Self {
        self.categories = statics(categories);
        self
    }
    fn name_is(mut self, rule: fn(&str) -> Vec<String>) -> Self {
        self.name_rule = rule;
        self
    }
    fn all(mut self) -> Self {
        self.categories = statics(&["all"]);
        self
    }
    /// Its controller is not there yet.
    fn inert(mut self) -> Self {
        self.inert = true;
        self
    }
    fn also(mut self, other: ServedAs) -> Self {
        self.also.push(other);
        self
    }
    fn table(
        mut self,
        columns: &'static [Column],
        cells: fn(&Object, Timestamp) -> Option<Vec<Value>>,
    ) -> Self {
        if let Nature::BuiltIn { table, .. } = &mut self.nature {
            *table = Table { columns, cells };
        }
        self
    }
}

/// The kinds of one API group, a function each, so that a group can be read and grown by itself.
const GROUPS: [fn() -> Vec<KindInfo>; 20] = [
    core_group,
    core_infrastructure_group,
    apps_group,
    coordination_group,
    discovery_group,
    events_group,
    own_group,
    rbac_group,
    networking_group,
    storage_group,
    node_group,
    certificates_group,
    admission_group,
    registration_group,
    flow_group,
    resource_group,
    extensions_group,
    core_workload_group,
    batch_group,
    policy_groups,
];

fn core_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<Namespace>("namespace", 0)
            .short(&["ns"])
            .cluster()
            .with_status()
            .name_is(names::dns1123_label)
            .table(&table::NAMESPACE, table::namespace),
        KindInfo::of::<ServiceAccount>("serviceaccount", 1)
            .short(&["sa"])
            .table(&table::SERVICE_ACCOUNT, table::service_account),
        KindInfo::of::<ConfigMap>("configmap", 2)
            .short(&["cm"])
            .table(&table::CONFIG_MAP, table::config_map),
        KindInfo::of::<Secret>("secret", 2).table(&table::SECRET, table::secret),
        KindInfo::of::<Service>("service", 3)
            .short(&["svc"])
            .with_status()
            .all()
            .name_is(names::dns1123_label)
            .table(&table::SERVICE, table::service),
        KindInfo::of::<Pod>("pod", 4).short(&["po"]).workload().table(&table::POD, table::pod),
        KindInfo::of::<Node>("node", 5)
            .short(&["no"])
            .cluster()
            .with_status()
            .made_by_cluster()
            .table(&table::NODE, table::node),
        KindInfo::of::<ComponentStatus>("componentstatus", 5)
            .short(&["cs"])
            .cluster()
            .made_by_cluster()
            .table(&table::COMPONENT_STATUS, table::component_status),
    ]
}

fn apps_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<ReplicaSet>("replicaset", 4)
            .short(&["rs"])
            .workload()
            .table(&table::REPLICA_SET, table::replica_set),
        KindInfo::of::<Deployment>("deployment", 4)
            .short(&["deploy"])
            .workload()
            .table(&table::DEPLOYMENT, table::deployment),
        KindInfo::of::<StatefulSet>("statefulset", 4)
            .short(&["sts"])
            .workload()
            .inert()
            .table(&table::STATEFUL_SET, table::stateful_set),
        KindInfo::of::<DaemonSet>("daemonset", 4)
            .short(&["ds"])
            .workload()
            .inert()
            .table(&table::DAEMON_SET, table::daemon_set),
        KindInfo::of::<ControllerRevision>("controllerrevision", 5)
            .inert()
            .table(&table::CONTROLLER_REVISION, table::controller_revision),
    ]
}

fn coordination_group() -> Vec<KindInfo> {
    vec![KindInfo::of::<Lease>("lease", 5).made_by_cluster().table(&table::LEASE, table::lease)]
}

fn discovery_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<EndpointSlice>("endpointslice", 5)
            .counted()
            .table(&table::ENDPOINT_SLICE, table::endpoint_slice),
    ]
}

fn events_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<Event>("event", 5)
            .also(ServedAs::of::<events::v1::Event>(event::to_stored, event::from_stored))
            .short(&["ev"])
            .made_by_cluster()
            .table(&table::EVENT, table::event),
    ]
}

fn own_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<Commit>("commit", 5)
            .cluster()
            .with_status()
            .made_by_cluster()
            .table(&table::COMMIT, table::commit),
        KindInfo::of::<GitSource>("gitsource", 5)
            .cluster()
            .counted()
            .with_status()
            .table(&table::GIT_SOURCE, table::git_source),
        KindInfo::of::<Freeze>("freeze", 5).cluster().table(&table::FREEZE, table::freeze),
    ]
}

/// The kinds of the core group that are about limits, addresses and storage.
fn core_infrastructure_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<LimitRange>("limitrange", 1).short(&["limits"]),
        KindInfo::of::<ResourceQuota>("resourcequota", 1)
            .table(&table::RESOURCE_QUOTA, table::resource_quota)
            .short(&["quota"])
            .with_status(),
        KindInfo::of::<Endpoints>("endpoints", 5)
            .table(&table::ENDPOINTS, table::endpoints)
            .short(&["ep"]),
        KindInfo::of::<PersistentVolume>("persistentvolume", 2)
            .table(&table::PERSISTENT_VOLUME, table::persistent_volume)
            .short(&["pv"])
            .cluster()
            .with_status()
            .inert(),
        KindInfo::of::<PersistentVolumeClaim>("persistentvolumeclaim", 3)
            .table(&table::PERSISTENT_VOLUME_CLAIM, table::persistent_volume_claim)
            .short(&["pvc"])
            .with_status()
            .inert(),
    ]
}

fn rbac_group() -> Vec<KindInfo> {
    let named = |info: KindInfo| info.name_is(names::path_segment);
    vec![
        named(KindInfo::of::<ClusterRole>("clusterrole", 1).cluster()),
        named(KindInfo::of::<Role>("role", 1)),
        named(
            KindInfo::of::<ClusterRoleBinding>("clusterrolebinding", 2)
                .table(&table::BINDING, table::cluster_role_binding)
                .cluster(),
        ),
        named(
            KindInfo::of::<RoleBinding>("rolebinding", 2)
                .table(&table::BINDING, table::role_binding),
        ),
    ]
}

fn networking_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<IngressClass>("ingressclass", 2)
            .table(&table::INGRESS_CLASS, table::ingress_class)
            .cluster()
            .counted()
            .inert(),
        KindInfo::of::<Ingress>("ingress", 4)
            .table(&table::INGRESS, table::ingress)
            .short(&["ing"])
            .counted()
            .with_status()
            .inert(),
        KindInfo::of::<NetworkPolicy>("networkpolicy", 3)
            .table(&table::NETWORK_POLICY, table::network_policy)
            .short(&["netpol"])
            .counted()
            .inert(),
        KindInfo::of::<IPAddress>("ipaddress", 5)
            .table(&table::IP_ADDRESS, table::ip_address)
            .short(&["ip"])
            .cluster()
            .name_is(names::canonical_ip)
            .inert(),
        KindInfo::of::<ServiceCIDR>("servicecidr", 2)
            .table(&table::SERVICE_CIDR, table::service_cidr)
            .cluster()
            .with_status()
            .inert(),
    ]
}

fn storage_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<StorageClass>("storageclass", 1)
            .table(&table::STORAGE_CLASS, table::storage_class)
            .short(&["sc"])
            .cluster()
            .inert(),
        KindInfo::of::<VolumeAttributesClass>("volumeattributesclass", 1)
            .table(&table::VOLUME_ATTRIBUTES_CLASS, table::volume_attributes_class)
            .short(&["vac"])
            .cluster()
            .inert(),
        KindInfo::of::<CSIDriver>("csidriver", 1)
            .table(&table::CSI_DRIVER, table::csi_driver)
            .cluster()
            .inert(),
        KindInfo::of::<CSINode>("csinode", 5)
            .table(&table::CSI_NODE, table::csi_node)
            .cluster()
            .with_status()
            .inert(),
        KindInfo::of::<CSIStorageCapacity>("csistoragecapacity", 5).inert(),
        KindInfo::of::<VolumeAttachment>("volumeattachment", 5)
            .table(&table::VOLUME_ATTACHMENT, table::volume_attachment)
            .cluster()
            .with_status()
            .inert(),
    ]
}

fn node_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<RuntimeClass>("runtimeclass", 1)
            .table(&table::RUNTIME_CLASS, table::runtime_class)
            .cluster()
            .inert(),
    ]
}

fn certificates_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<CertificateSigningRequest>("certificatesigningrequest", 5)
            .table(&table::SIGNING_REQUEST, table::signing_request)
            .short(&["csr"])
            .cluster()
            .with_status()
            .made_by_cluster()
            .name_is(names::path_segment),
        KindInfo::of::<ClusterTrustBundle>("clustertrustbundle", 1)
            .table(&table::TRUST_BUNDLE, table::trust_bundle)
            .cluster()
            .name_is(names::path_segment)
            .inert(),
        KindInfo::of::<PodCertificateRequest>("podcertificaterequest", 5)
            .table(&table::POD_REQUEST, table::pod_request)
            .with_status()
            .inert(),
    ]
}

fn admission_group() -> Vec<KindInfo> {
    let acted_on = |info: KindInfo| info.cluster().counted().category(&["api-extensions"]);
    let of = |info: KindInfo| acted_on(info).inert();
    vec![
        of(KindInfo::of::<MutatingAdmissionPolicy>("mutatingadmissionpolicy", 5))
            .table(&table::MUTATING_POLICY, table::mutating_policy),
        of(KindInfo::of::<MutatingAdmissionPolicyBinding>("mutatingadmissionpolicybinding", 5))
            .table(&table::POLICY_BINDING, table::mutating_binding),
        of(KindInfo::of::<MutatingWebhookConfiguration>("mutatingwebhookconfiguration", 5))
            .table(&table::WEBHOOKS, table::mutating_webhooks),
        acted_on(KindInfo::of::<ValidatingAdmissionPolicy>("validatingadmissionpolicy", 5))
            .with_status()
            .table(&table::VALIDATING_POLICY, table::validating_policy),
        acted_on(KindInfo::of::<ValidatingAdmissionPolicyBinding>(
            "validatingadmissionpolicybinding",
            5,
        ))
        .table(&table::POLICY_BINDING, table::validating_binding),
        of(KindInfo::of::<ValidatingWebhookConfiguration>("validatingwebhookconfiguration", 5))
            .table(&table::WEBHOOKS, table::validating_webhooks),
    ]
}

fn registration_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<APIService>("apiservice", 5)
            .table(&table::API_SERVICE, table::api_service)
            .cluster()
            .with_status()
            .category(&["api-extensions"])
            .name_is(names::path_segment)
            .made_by_cluster(),
    ]
}

fn flow_group() -> Vec<KindInfo> {
    let of = |info: KindInfo| info.cluster().counted().with_status().inert();
    vec![
        of(KindInfo::of::<PriorityLevelConfiguration>("prioritylevelconfiguration", 1)
            .table(&table::PRIORITY_LEVEL, table::priority_level)),
        of(KindInfo::of::<FlowSchema>("flowschema", 2)
            .table(&table::FLOW_SCHEMA, table::flow_schema)),
    ]
}

fn resource_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<DeviceClass>("deviceclass", 1)
            .table(&table::DEVICE, table::device)
            .cluster()
            .counted()
            .inert(),
        KindInfo::of::<DeviceTaintRule>("devicetaintrule", 2)
            .table(&table::DEVICE_TAINT_RULE, table::device_taint_rule)
            .cluster()
            .counted()
            .with_status()
            .inert(),
        KindInfo::of::<ResourceClaim>("resourceclaim", 3)
            .table(&table::RESOURCE_CLAIM, table::resource_claim)
            .with_status()
            .inert(),
        KindInfo::of::<ResourceClaimTemplate>("resourceclaimtemplate", 3)
            .table(&table::DEVICE, table::device)
            .inert(),
        KindInfo::of::<ResourceSlice>("resourceslice", 5)
            .table(&table::RESOURCE_SLICE, table::resource_slice)
            .cluster()
            .counted()
            .inert(),
    ]
}

fn extensions_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<CustomResourceDefinition>("customresourcedefinition", 0)
            .table(&table::DEFINITION, table::definition)
            .short(&["crd", "crds"])
            .category(&["api-extensions"])
            .cluster()
            .counted()
            .with_status(),
    ]
}

/// The older workloads of the core group.
fn core_workload_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<ReplicationController>("replicationcontroller", 4)
            .short(&["rc"])
            .workload()
            .inert()
            .table(&table::REPLICA_SET, table::replication_controller),
        KindInfo::of::<PodTemplate>("podtemplate", 4)
            .counted()
            .inert()
            .table(&table::POD_TEMPLATE, table::pod_template),
    ]
}

fn batch_group() -> Vec<KindInfo> {
    vec![
        KindInfo::of::<Job>("job", 4).workload().table(&table::JOB, table::job),
        KindInfo::of::<CronJob>("cronjob", 4)
            .short(&["cj"])
            .workload()
            .name_is(cron_job::name)
            .table(&table::CRON_JOB, table::cron_job),
    ]
}

/// Groups that say how many pods there are, how many must stay and which go first.
fn policy_groups() -> Vec<KindInfo> {
    let v1 = ServedAs::of::<v1::HorizontalPodAutoscaler>(
        horizontal_autoscaler::to_stored,
        horizontal_autoscaler::from_stored,
    );
    vec![
        KindInfo::of::<HorizontalPodAutoscaler>("horizontalpodautoscaler", 5)
            .short(&["hpa"])
            .workload()
            .inert()
            .also(v1)
            .table(&table::AUTOSCALER, table::autoscaler),
        KindInfo::of::<PodDisruptionBudget>("poddisruptionbudget", 3)
            .short(&["pdb"])
            .counted()
            .with_status()
            .table(&table::BUDGET, table::budget),
        KindInfo::of::<PriorityClass>("priorityclass", 1)
            .short(&["pc"])
            .cluster()
            .counted()
            .table(&table::PRIORITY_CLASS, table::priority_class),
    ]
}

fn statics(texts: &[&'static str]) -> Vec<SmolStr> {
    texts.iter().map(|text| SmolStr::new_static(text)).collect()
}

/// Every built-in kind in the order of applying, and where each stands.
struct Registry {
    kinds: Vec<Arc<KindInfo>>,
    places: BTreeMap<GroupKind, usize>,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let all = GROUPS.iter().flat_map(|group| group()).map(Arc::new);
    let mut kinds: Vec<Arc<KindInfo>> = all.collect();
    kinds.sort_by_key(|info| info.apply_order);
    let places = kinds.iter().enumerate().map(|(at, info)| (info.group_kind(), at)).collect();
    Registry { kinds, places }
});

/// Every built-in kind, in the order of applying.
pub fn registry() -> &'static [Arc<KindInfo>] {
    &REGISTRY.kinds
}

/// What is known of a built-in kind; `None` for any other.
pub fn lookup(kind: &GroupKind) -> Option<&'static Arc<KindInfo>> {
    REGISTRY.kinds.get(*REGISTRY.places.get(kind)?)
}

/// The built-in kind behind a path segment (`apps`, `deployments`).
pub fn lookup_resource(group: &str, plural: &str) -> Option<&'static Arc<KindInfo>> {
    registry().iter().find(|info| info.plural == plural && info.group == group)
}
