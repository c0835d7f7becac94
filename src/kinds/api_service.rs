//! APIServices: API groups that other servers answer.

use std::collections::BTreeSet;

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceSpec, APIServiceStatus,
};

use super::{Kind, field::Check, names, registry};

/// The port of the Service behind an APIService.
const PORT: i32 = 443;
const GROUP_PRIORITY_MAX: i32 = 20_000;
const VERSION_PRIORITY_MAX: i32 = 1000;

/// Groups that are answered and of which nothing is stored.
const ANSWERED: [(&str, &str); 3] = [
    ("authentication.k8s.io", "v1"),
    ("authorization.k8s.io", "v1"),
    ("metrics.k8s.io", "v1beta1"),
];

/// The order in which discovery lists groups, as Kubernetes has it: higher ones first.
const GROUP_PRIORITIES: [(&str, i32); 22] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 16_000),
    ("apiregistration.k8s.io", 15_900),
    ("metrics.k8s.io", 100),
];
/// That of groups which Kubernetes does not have.
const GROUP_PRIORITY: i32 = 15_000;
/// That of a version, and of a newer one of the same group.
const VERSION_PRIORITIES: (i32, i32) = (15, 30);

/// Every group and version that is served without a definition.
pub fn group_versions() -> BTreeSet<(&'static str, &'static str)> {
    let stored = registry::registry().iter().flat_map(|info| info.places());
    let stored = stored.map(|(group, version, _)| (group.as_str(), version.as_str()));
    stored.chain(ANSWERED).collect()
}

/// Where discovery lists a group, and a version in it.
pub fn group_priority(group: &str, version: &str) -> (i32, i32) {
    let known = GROUP_PRIORITIES.iter().find(|(name, _)| *name == group);
    let (first, newer) = VERSION_PRIORITIES;
    let version = if version == "v1" { first } else { newer };
    (known.map_or(GROUP_PRIORITY, |(_, priority)| *priority), version)
}

impl Kind for APIService {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(service) = &mut spec.service {
            service.port.get_or_insert(PORT);
        }
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        let group = spec.group.as_deref().unwrap_or_default();
        let version = spec.version.as_deref().unwrap_or_default();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let right = format!("{version}.{group}");
        if !name.is_empty() && name != right {
            let text = format!("must be `spec.version+\".\"+spec.group`: {right:?}");
            check.invalid("metadata.name", name, text);
        }
        if group.is_empty() && version != "v1" {
            let text = "only v1 may have an empty group and it better be legacy kube";
            check.required("spec.group", text);
        }
        if !group.is_empty() {
            check.text("spec.group", group, names::dns1123_subdomain(group));
        }
        check.text("spec.version", version, names::dns1035_label(version));
        validate_priorities(&spec, check);
        validate_service(&spec, check);
    }

    fn prepare_create(&mut self) {
        self.status = Some(APIServiceStatus::default());
    }
}

fn validate_priorities(spec: &APIServiceSpec, check: &mut Check) {
    let (group, version) = (spec.group_priority_minimum, spec.version_priority);
    if !(1..=GROUP_PRIORITY_MAX).contains(&group) {
        let text = format!("must be positive and less than {GROUP_PRIORITY_MAX}");
        check.invalid("spec.groupPriorityMinimum", group, text);
    }
    if !(1..=VERSION_PRIORITY_MAX).contains(&version) {
        let text = format!("must be positive and less than {VERSION_PRIORITY_MAX}");
        check.invalid("spec.versionPriority", version, text);
    }
}

fn validate_service(spec: &APIServiceSpec, check: &mut Check) {
    let bundle = spec.ca_bundle.as_ref().map_or(0, |b| b.0.len());
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let Some(service) = &spec.service else {
        if bundle > 0 {
            let text = "local APIServices may not have a caBundle";
            check.invalid("spec.caBundle", format!("{bundle} bytes"), text);
        }
        if insecure {
            let text = "local APIServices may not have insecureSkipTLSVerify";
            check.invalid("spec.insecureSkipTLSVerify", insecure, text);
        }
        return;
    };
    for (field, value) in
        [("spec.service.namespace", &service.namespace), ("spec.service.name", &service.name)]
    {
        if value.as_deref().is_none_or(str::is_empty) {
            check.required(field, "");
        }
    }
    let port = service.port.unwrap_or(PORT);
    for message in names::port_number(port) {
        check.invalid("spec.service.port", port, format!("port is not valid: {message}"));
    }
    if insecure && bundle > 0 {
        let text = "may not be true if caBundle is present";
        check.invalid("spec.insecureSkipTLSVerify", insecure, text);
    }
}
