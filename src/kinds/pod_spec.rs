//! What is wrong with the spec of a pod, alone or in a template.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorTerm, PodAffinityTerm, PodSecurityContext, PodSpec,
    PodTemplateSpec, Toleration,
};

use super::{container, field::Check, meta, names, volume};

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const OPERATORS: [&str; 2] = ["Equal", "Exists"];
/// What a resolver takes, as Kubernetes limits it.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// A template whose pods run for ever: that of `owner` (`ReplicaSet`), as messages name it.
pub(super) fn validate_template(
    at: &str,
    owner: &str,
    template: &PodTemplateSpec,
    check: &mut Check,
) {
    validate_any_template(at, template, check);
    let Some(spec) = &template.spec else { return };
    let at = format!("{at}.spec");
    let policy = spec.restart_policy.as_deref().unwrap_or_default();
    // An unknown policy was refused above already.
    if RESTART_POLICIES.contains(&policy) {
        check.one_of(format!("{at}.restartPolicy"), policy, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        let text = format!("activeDeadlineSeconds in {owner} is not Supported");
        check.forbidden(format!("{at}.activeDeadlineSeconds"), &text);
    }
}

/// A template of any pods.
pub(super) fn validate_any_template(at: &str, template: &PodTemplateSpec, check: &mut Check) {
    if let Some(metadata) = &template.metadata {
        let labels = format!("{at}.metadata.labels");
        meta::validate_labels(&labels, metadata.labels.as_ref(), check);
        let annotations = format!("{at}.metadata.annotations");
        meta::validate_annotations(&annotations, metadata.annotations.as_ref(), check);
    }
    let Some(spec) = &template.spec else { return };
    let at = format!("{at}.spec");
    validate(&at, spec, check);
    if spec.ephemeral_containers.as_ref().is_some_and(|e| !e.is_empty()) {
        let text = "ephemeral containers not allowed in pod template";
        check.forbidden(format!("{at}.ephemeralContainers"), text);
    }
}

/// The spec of a pod.
pub(super) fn validate(at: &str, spec: &PodSpec, check: &mut Check) {
    let volumes = volume::validate_all(at, spec.volumes.as_deref().unwrap_or_default(), check);
    let scope = container::Scope { spec, volumes: &volumes };
    container::validate_all(at, &scope, check);
    let restart = spec.restart_policy.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.restartPolicy"), restart, &RESTART_POLICIES);
    validate_dns(at, spec, check);
    meta::validate_labels(&format!("{at}.nodeSelector"), spec.node_selector.as_ref(), check);
    validate_names(at, spec, check);
    validate_seconds(at, spec, check);
    for (i, toleration) in spec.tolerations.iter().flatten().enumerate() {
        validate_toleration(&format!("{at}.tolerations[{i}]"), toleration, check);
    }
    if let Some(security) = &spec.security_context {
        validate_security(&format!("{at}.securityContext"), security, check);
    }
    if let Some(affinity) = &spec.affinity {
        validate_affinity(&format!("{at}.affinity"), affinity, check);
    }
    validate_spread(at, spec, check);
    validate_windows(at, spec, check);
}

fn validate_names(at: &str, spec: &PodSpec, check: &mut Check) {
    for (field, name) in [
        ("serviceAccountName", &spec.service_account_name),
        ("nodeName", &spec.node_name),
        ("priorityClassName", &spec.priority_class_name),
        ("runtimeClassName", &spec.runtime_class_name),
    ] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            check.text(&format!("{at}.{field}"), name, names::dns1123_subdomain(name));
        }
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            check.text(&format!("{at}.{field}"), name, names::dns1123_label(name));
        }
    }
}

fn validate_seconds(at: &str, spec: &PodSpec, check: &mut Check) {
    if let Some(deadline) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&deadline)
    {
        let text = "must be between 1 and 2147483647, inclusive";
        check.invalid(format!("{at}.activeDeadlineSeconds"), deadline, text);
    }
    let grace = spec.termination_grace_period_seconds;
    check.not_negative(format!("{at}.terminationGracePeriodSeconds"), grace);
}

fn validate_dns(at: &str, spec: &PodSpec, check: &mut Check) {
    let policy = spec.dns_policy.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.dnsPolicy"), policy, &DNS_POLICIES);
    let at = format!("{at}.dnsConfig");
    let Some(config) = &spec.dns_config else {
        if policy == "None" {
            check.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    let field = format!("{at}.nameservers");
    if policy == "None" && servers.is_empty() {
        let text = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        check.required(&field, text);
    }
    if servers.len() > NAMESERVERS_MAX {
        let text = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        check.invalid(&field, servers, text);
    }
    for (i, ip) in servers.iter().enumerate() {
        check.text(&format!("{field}[{i}]"), ip, names::ip(ip));
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    if searches.len() > SEARCHES_MAX {
        let text = format!("must not have more than {SEARCHES_MAX} search paths");
        check.invalid(format!("{at}.searches"), searches, text);
    }
    for (i, search) in searches.iter().enumerate() {
        let plain = search.trim_end_matches('.');
        check.text(&format!("{at}.searches[{i}]"), search, names::dns_search(plain));
    }
    for (i, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            check.required(format!("{at}.options[{i}]"), "must not be empty");
        }
    }
}

pub(super) fn validate_toleration(at: &str, toleration: &Toleration, check: &mut Check) {
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().filter(|o| !o.is_empty()).unwrap_or("Equal");
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let field = format!("{at}.operator");
    if !key.is_empty() {
        check.text(&format!("{at}.key"), key, names::qualified_name(key));
    }
    if key.is_empty() && operator != "Exists" {
        let text = "operator must be Exists when `key` is empty, which means \"match all values \
                    and all keys\"";
        check.invalid(&field, operator, text);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let text = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        check.invalid(format!("{at}.effect"), effect, text);
    }
    match operator {
        "Equal" => check.text(&field, value, names::label_value(value)),
        "Exists" if !value.is_empty() => {
            check.invalid(&field, value, "value must be empty when `operator` is 'Exists'");
        }
        "Exists" => {}
        other => check.not_supported(&field, other, &OPERATORS),
    }
    if !effect.is_empty() {
        check.one_of(format!("{at}.effect"), effect, &EFFECTS);
    }
}

fn validate_security(at: &str, security: &PodSecurityContext, check: &mut Check) {
    for (field, id) in [
        ("fsGroup", security.fs_group),
        ("runAsUser", security.run_as_user),
        ("runAsGroup", security.run_as_group),
    ] {
        container::user_id(&format!("{at}.{field}"), id, check);
    }
    for (i, id) in security.supplemental_groups.iter().flatten().enumerate() {
        container::user_id(&format!("{at}.supplementalGroups[{i}]"), Some(*id), check);
    }
    let mut seen = BTreeSet::new();
    for (i, sysctl) in security.sysctls.iter().flatten().enumerate() {
        let field = format!("{at}.sysctls[{i}].name");
        if sysctl.name.is_empty() {
            check.required(&field, "");
        } else if !is_sysctl(&sysctl.name) {
            let text = "must have at most 253 characters and match regex \
                        ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            check.invalid(&field, &sysctl.name, text);
        }
        if !seen.insert(sysctl.name.as_str()) {
            check.duplicate(&field, &sysctl.name);
        }
    }
    if let Some(policy) = security.fs_group_change_policy.as_deref() {
        let field = format!("{at}.fsGroupChangePolicy");
        check.one_of(field, policy, &["Always", "OnRootMismatch"]);
    }
    if let Some(profile) = &security.seccomp_profile {
        let at = format!("{at}.seccompProfile");
        let of_type = profile.type_.as_str();
        let file = profile.localhost_profile.as_deref().unwrap_or_default();
        if of_type == "Localhost" && file.is_empty() {
            let text = "must be set when seccomp type is Localhost";
            check.required(format!("{at}.localhostProfile"), text);
        }
        let types = ["Localhost", "RuntimeDefault", "Unconfined"];
        check.one_of(format!("{at}.type"), of_type, &types);
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |p: &str| {
        let bytes = p.as_bytes();
        bytes.first().is_some_and(|b| edge(*b))
            && bytes.last().is_some_and(|b| edge(*b))
            && bytes.iter().all(|b| edge(*b) || b"-_".contains(b))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

fn validate_affinity(at: &str, affinity: &Affinity, check: &mut Check) {
    if let Some(node) = &affinity.node_affinity {
        let at = format!("{at}.nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let at = format!("{at}.requiredDuringSchedulingIgnoredDuringExecution");
            validate_node_selector(&at, required, check);
        }
        let preferred = node.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        for (i, term) in preferred.enumerate() {
            let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{i}]");
            validate_weight(&at, term.weight, check);
            validate_node_term(&format!("{at}.preference"), &term.preference, check);
        }
    }
    let pods = affinity.pod_affinity.as_ref();
    let required =
        pods.and_then(|p| p.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred =
        pods.and_then(|p| p.preferred_during_scheduling_ignored_during_execution.as_ref());
    validate_pod_terms(&format!("{at}.podAffinity"), required, preferred, check);
    let pods = affinity.pod_anti_affinity.as_ref();
    let required =
        pods.and_then(|p| p.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred =
        pods.and_then(|p| p.preferred_during_scheduling_ignored_during_execution.as_ref());
    validate_pod_terms(&format!("{at}.podAntiAffinity"), required, preferred, check);
}

fn validate_pod_terms(
    at: &str,
    required: Option<&Vec<PodAffinityTerm>>,
    preferred: Option<&Vec<k8s_openapi::api::core::v1::WeightedPodAffinityTerm>>,
    check: &mut Check,
) {
    for (i, term) in required.into_iter().flatten().enumerate() {
        let at = format!("{at}.requiredDuringSchedulingIgnoredDuringExecution[{i}]");
        validate_pod_term(&at, term, check);
    }
    for (i, term) in preferred.into_iter().flatten().enumerate() {
        let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{i}]");
        validate_weight(&at, term.weight, check);
        validate_pod_term(&format!("{at}.podAffinityTerm"), &term.pod_affinity_term, check);
    }
}

fn validate_weight(at: &str, weight: i32, check: &mut Check) {
    if !(1..=100).contains(&weight) {
        check.invalid(format!("{at}.weight"), weight, "must be in the range 1-100");
    }
}

fn validate_pod_term(at: &str, term: &PodAffinityTerm, check: &mut Check) {
    if let Some(selector) = &term.label_selector {
        meta::validate_selector(&format!("{at}.labelSelector"), selector, check);
    }
    let field = format!("{at}.topologyKey");
    if term.topology_key.is_empty() {
        check.required(&field, "can not be empty");
    }
    check.text(&field, &term.topology_key, names::qualified_name(&term.topology_key));
}

/// What pods and volumes ask of a node.
pub(super) fn validate_node_selector(at: &str, selector: &NodeSelector, check: &mut Check) {
    let field = format!("{at}.nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        check.required(&field, "must have at least one node selector term");
    }
    for (i, term) in selector.node_selector_terms.iter().enumerate() {
        validate_node_term(&format!("{field}[{i}]"), term, check);
    }
}

fn validate_node_term(at: &str, term: &NodeSelectorTerm, check: &mut Check) {
    for (i, e) in term.match_expressions.iter().flatten().enumerate() {
        let at = format!("{at}.matchExpressions[{i}]");
        let values = e.values.as_deref().unwrap_or_default();
        match e.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let text = "must be specified when `operator` is 'In' or 'NotIn'";
                check.required(format!("{at}.values"), text);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                check.forbidden(format!("{at}.values"), text);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let text = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                check.required(format!("{at}.values"), text);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                check.invalid(format!("{at}.operator"), other, "not a valid selector operator")
            }
        }
        check.text(&format!("{at}.key"), &e.key, names::qualified_name(&e.key));
    }
}

fn validate_spread(at: &str, spec: &PodSpec, check: &mut Check) {
    for (i, spread) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let at = format!("{at}.topologySpreadConstraints[{i}]");
        if spread.max_skew <= 0 {
            check.invalid(format!("{at}.maxSkew"), spread.max_skew, "must be greater than zero");
        }
        if spread.topology_key.is_empty() {
            check.required(format!("{at}.topologyKey"), "can not be empty");
        }
        let when = spread.when_unsatisfiable.as_str();
        let ways = ["DoNotSchedule", "ScheduleAnyway"];
        check.one_of(format!("{at}.whenUnsatisfiable"), when, &ways);
        if let Some(domains) = spread.min_domains {
            let field = format!("{at}.minDomains");
            if domains <= 0 {
                check.invalid(&field, domains, "must be greater than zero");
            }
            if when != "DoNotSchedule" {
                let text = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}"
                );
                check.invalid(&field, domains, text);
            }
        }
        if spread.label_selector.is_none() {
            let text = "a null labelSelector results in matching no pod";
            check.warn(format!("{at}.labelSelector"), text);
        }
    }
}

fn validate_windows(at: &str, spec: &PodSpec, check: &mut Check) {
    if spec.os.as_ref().is_none_or(|os| os.name != "windows") {
        return;
    }
    let text = "cannot be set for a windows pod";
    let security = spec.security_context.clone().unwrap_or_default();
    for (field, set) in [
        ("securityContext.fsGroup", security.fs_group.is_some()),
        ("securityContext.runAsUser", security.run_as_user.is_some()),
        ("securityContext.runAsGroup", security.run_as_group.is_some()),
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace == Some(true)),
    ] {
        if set {
            check.forbidden(format!("{at}.{field}"), text);
        }
    }
}
