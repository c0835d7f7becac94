//! How each kind behaves over HTTP: verbs, subresources, and where kinds differ from each other.
//!
//! Tables by group and plural over all of Kubernetes' kinds, so that a kind that enters the
//! registry behaves as Kubernetes' does. Observed on Kubernetes 1.37.1.

use serde_json::Value;
use smol_str::SmolStr;

use super::{KindInfo, custom::ScalePaths, registry::Nature};

/// One path below an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `scale`
    pub name: &'static str,
    /// What it speaks: `Scale`.
    pub kind: SmolStr,
    /// The group and version of that kind where they are not the object's own.
    pub group_version: Option<(&'static str, &'static str)>,
    /// `get`, `patch`, `update`
    pub verbs: &'static [&'static str],
}

const ALL: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const READ_ONLY: &[&str] = &["get", "list"];
const READ_WRITE: &[&str] = &["get", "patch", "update"];
const STREAM: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

const SCALE: Subresource = Subresource {
    name: "scale",
    kind: SmolStr::new_static("Scale"),
    group_version: Some(("autoscaling", "v1")),
    verbs: READ_WRITE,
};

/// Subresources beside `status`, by group and plural.
const SUBRESOURCES: &[(&str, &str, &[Subresource])] = &[
    ("", "namespaces", &[of("finalize", "Namespace", &["update"])]),
    ("", "nodes", &[of("proxy", "NodeProxyOptions", PROXY)]),
    ("", "services", &[of("proxy", "ServiceProxyOptions", PROXY)]),
    (
        "",
        "pods",
        &[
            of("attach", "PodAttachOptions", STREAM),
            of("binding", "Binding", &["create"]),
            of("ephemeralcontainers", "Pod", READ_WRITE),
            Subresource {
                name: "eviction",
                kind: SmolStr::new_static("Eviction"),
                group_version: Some(("policy", "v1")),
                verbs: &["create"],
            },
            of("exec", "PodExecOptions", STREAM),
            of("log", "Pod", &["get"]),
            of("portforward", "PodPortForwardOptions", STREAM),
            of("proxy", "PodProxyOptions", PROXY),
            of("resize", "Pod", READ_WRITE),
        ],
    ),
    (
        "",
        "serviceaccounts",
        &[Subresource {
            name: "token",
            kind: SmolStr::new_static("TokenRequest"),
            group_version: Some(("authentication.k8s.io", "v1")),
            verbs: &["create"],
        }],
    ),
    ("", "replicationcontrollers", &[SCALE]),
    ("apps", "deployments", &[SCALE]),
    ("apps", "replicasets", &[SCALE]),
    ("apps", "statefulsets", &[SCALE]),
    (
        "certificates.k8s.io",
        "certificatesigningrequests",
        &[of("approval", "CertificateSigningRequest", READ_WRITE)],
    ),
];

/// Kinds that a PUT creates where they are absent.
const CREATED_BY_UPDATE: &[(&str, &str)] = &[
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("coordination.k8s.io", "leases"),
    ("events.k8s.io", "events"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
];

/// Kinds whose PUT must name the resourceVersion it was made from.
const NEEDS_VERSION: &[(&str, &str)] = &[
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("policy", "poddisruptionbudgets"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
];

/// Kinds whose DELETE answers with the object rather than a Status.
const DELETE_GIVES_OBJECT: &[(&str, &str)] = &[
    ("", "namespaces"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// Kinds that Kubernetes tells everybody not to use.
const DEPRECATED: &[(&str, &str, &str)] = &[
    ("", "componentstatuses", "v1 ComponentStatus is deprecated in v1.19+"),
    (
        "",
        "endpoints",
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
];

/// Fields a field selector may name beside `metadata.name` and `metadata.namespace`.
const SELECTABLE: &[(&str, &str, &[&str])] = &[
    (
        "",
        "pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
    ),
    (
        "",
        "events",
        &[
            "type",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
        ],
    ),
    (
        "events.k8s.io",
        "events",
        &[
            "type",
            "reason",
            "regarding.kind",
            "regarding.name",
            "regarding.namespace",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
        ],
    ),
    ("", "namespaces", &["status.phase"]),
    ("", "nodes", &["spec.unschedulable"]),
    ("", "replicationcontrollers", &["status.replicas"]),
    ("", "secrets", &["type"]),
    ("", "services", &["spec.clusterIP", "spec.type"]),
    ("batch", "jobs", &["status.successful"]),
    ("certificates.k8s.io", "certificatesigningrequests", &["spec.signerName"]),
    ("certificates.k8s.io", "clustertrustbundles", &["spec.signerName"]),
];

const fn of(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, kind: SmolStr::new_static(kind), group_version: None, verbs }
}

impl KindInfo {
    /// What may be done with its objects, in discovery's order.
    pub fn verbs(&self) -> &'static [&'static str] {
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "namespaces") => NO_COLLECTION,
            _ if self.is_found_out() => READ_ONLY,
            _ => ALL,
        }
    }

    /// Whether its objects are made when somebody asks for them, and never stored.
    pub fn is_found_out(&self) -> bool {
        self.is_in(&[("", "componentstatuses")])
    }

    /// What everybody hears who uses it, because Kubernetes will not have it for ever.
    pub fn deprecation(&self) -> Option<&'static str> {
        let found = DEPRECATED.iter().find(|(g, p, _)| self.group == *g && self.plural == *p);
        found.map(|(_, _, text)| *text)
    }

    /// The paths below its objects at `api_version`, by name.
    pub fn subresources(&self, api_version: &str) -> Vec<Subresource> {
        let (has_status, scale) = match &self.nature {
            Nature::BuiltIn { .. } => (self.status, false),
            Nature::Custom(custom) => {
                (custom.has_status(api_version), custom.scale(api_version).is_some())
            }
        };
        let own = row(SUBRESOURCES, &self.group, &self.plural).unwrap_or_default();
        let status = has_status.then(|| Subresource {
            name: "status",
            kind: self.kind.clone(),
            group_version: None,
            verbs: READ_WRITE,
        });
        let scale = scale.then_some(SCALE);
        let mut all: Vec<Subresource> = own.iter().cloned().chain(status).chain(scale).collect();
        all.sort_by_key(|sub| sub.name);
        all
    }

    /// One path below its objects.
    pub fn subresource(&self, api_version: &str, name: &str) -> Option<Subresource> {
        self.subresources(api_version).into_iter().find(|sub| sub.name == name)
    }

    /// Whether it is a built-in kind that is scaled.
    pub fn is_scaled(&self) -> bool {
        let own = row(SUBRESOURCES, &self.group, &self.plural).unwrap_or_default();
        own.contains(&SCALE)
    }

    /// Where a custom object keeps what a Scale says; `None` for built-in kinds, which all keep it
    /// in the same place.
    pub fn scale_paths(&self, api_version: &str) -> Option<&ScalePaths> {
        match &self.nature {
            Nature::BuiltIn { .. } => None,
            Nature::Custom(custom) => custom.scale(api_version),
        }
    }

    fn is_in(&self, list: &[(&str, &str)]) -> bool {
        list.iter().any(|(group, plural)| self.group == *group && self.plural == *plural)
    }

    /// Whether a PUT creates the object where there is none.
    pub fn is_created_by_update(&self) -> bool {
        self.is_in(CREATED_BY_UPDATE)
    }

    /// Whether a PUT must name the resourceVersion it was made from.
    pub fn needs_version(&self) -> bool {
        self.is_custom() || self.is_in(NEEDS_VERSION)
    }

    /// Whether DELETE answers with the object rather than a Status.
    pub fn delete_gives_object(&self) -> bool {
        self.is_in(DELETE_GIVES_OBJECT)
    }

    /// Whether a CustomResourceDefinition gave it.
    pub fn is_custom(&self) -> bool {
        matches!(self.nature, Nature::Custom(_))
    }

    /// Whether its definition is going, so that no new object may come.
    pub fn is_terminating(&self) -> bool {
        match &self.nature {
            Nature::BuiltIn { .. } => false,
            Nature::Custom(custom) => custom.is_terminating(),
        }
    }

    /// The structural schema of a custom kind at `api_version`; `None` for built-in kinds.
    pub fn structural_schema(&self, api_version: &str) -> Option<&Value> {
        match &self.nature {
            Nature::BuiltIn { .. } => None,
            Nature::Custom(custom) => custom.schema(api_version),
        }
    }

    /// Fields a field selector may name at `api_version`, beside `metadata.name` and
    /// `metadata.namespace`.
    pub fn selectable_fields(&self, api_version: &str) -> Vec<&str> {
        if let Nature::Custom(custom) = &self.nature {
            return custom.selectable(api_version).iter().map(String::as_str).collect();
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        row(SELECTABLE, group, &self.plural).unwrap_or_default().to_vec()
    }
}

/// The row of a kind.
fn row<T>(
    table: &'static [(&'static str, &'static str, &'static [T])],
    group: &str,
    plural: &str,
) -> Option<&'static [T]> {
    let found = table.iter().find(|(g, p, _)| (*g, *p) == (group, plural));
    found.map(|(_, _, value)| *value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use crate::kinds::registry;

    fn oracle(file: &str) -> Value {
        let text = match file {
            "kinds" => include_str!("../../tests/oracle/kinds.json"),
            _ => include_str!("../../tests/oracle/resources.json"),
        };
        serde_json::from_str(text).unwrap()
    }

    /// What Kubernetes did with one object of each kind.
    #[test]
    fn writes_of_each_kind_go_as_in_kubernetes() {
        let kinds = oracle("kinds");
        for info in registry() {
            let fact = &kinds[format!("{}/{}", info.api_version, info.plural)];
            if fact.is_null() {
                continue;
            }
            let name = &info.plural;
            assert_eq!(fact["putOfAbsent"] == 201, info.is_created_by_update(), "{name}");
            // A pod and a Job refuse for other reasons: what may not change in them.
            let refuses = fact["putWithoutResourceVersionMessage"].as_str();
            let refuses = refuses.is_some_and(|text| text.contains("metadata.resourceVersion"));
            assert_eq!(refuses, info.needs_version(), "{name}");
            assert_eq!(fact["statusSubresource"] == true, info.status, "{name}");
            // A Job and a few others stay for a finalizer.
            let waits =
                ["jobs", "servicecidrs", "customresourcedefinitions"].contains(&name.as_str());
            let object = fact["deleteReturns"] != "Status" && !waits;
            assert_eq!(object, info.delete_gives_object(), "{name}");
            assert_eq!(fact["generationOnCreate"] == 1, info.generation, "{name}");
        }
    }

    #[test]
    fn verbs_and_subresources_are_those_of_kubernetes() {
        let resources = oracle("resources");
        let line = |resource: &Value| {
            let text = |field: &str| resource[field].as_str().unwrap_or_default().to_owned();
            let verbs = resource["verbs"].as_array().into_iter().flatten();
            let verbs: Vec<&str> = verbs.filter_map(Value::as_str).collect();
            let of = [text("groupVersion"), text("name"), text("kind"), text("group")].join(" ");
            format!("{of} {}", verbs.join(","))
        };
        let known: BTreeSet<String> = resources.as_array().unwrap().iter().map(line).collect();
        for info in registry().iter().filter(|info| info.group != crate::kinds::GROUP) {
            let at = |name: &str, kind: &str, group: &str, verbs: &[&str]| {
                format!("{} {name} {kind} {group} {}", info.api_version, verbs.join(","))
            };
            let mut served = vec![at(&info.plural, &info.kind, "", info.verbs())];
            for sub in info.subresources(&info.api_version) {
                let group = sub.group_version.map_or("", |(group, _)| group);
                let name = format!("{}/{}", info.plural, sub.name);
                served.push(at(&name, &sub.kind, group, sub.verbs));
            }
            for line in &served {
                assert!(known.contains(line), "{line}");
            }
            let of_kind = |line: &&String| {
                let name = line.split(' ').nth(1).unwrap_or_default();
                line.starts_with(&format!("{} {}", info.api_version, info.plural))
                    && name.split('/').next() == Some(&info.plural)
            };
            for line in known.iter().filter(of_kind) {
                assert!(served.contains(line), "missing: {line}");
            }
        }
    }
}
