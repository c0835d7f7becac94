//! Roles and bindings: who may do what.

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde_json::Value;

use super::{Kind, field::Check, meta, names, pod_defaults::fill};

const GROUP: &str = "rbac.authorization.k8s.io";
const SERVICE_ACCOUNT: &str = "ServiceAccount";
const USER: &str = "User";
const GROUP_OF_USERS: &str = "Group";

impl Kind for Role {
    fn validate(&self, check: &mut Check) {
        validate_rules(self.rules.as_deref().unwrap_or_default(), true, check);
    }

    fn written(value: &mut Value) {
        write_rules(value);
    }
}

impl Kind for ClusterRole {
    fn validate(&self, check: &mut Check) {
        validate_rules(self.rules.as_deref().unwrap_or_default(), false, check);
        let Some(aggregation) = &self.aggregation_rule else { return };
        let at = "aggregationRule.clusterRoleSelectors";
        let selectors = aggregation.cluster_role_selectors.as_deref().unwrap_or_default();
        if selectors.is_empty() {
            let text = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            check.required(at, text);
        }
        for (i, selector) in selectors.iter().enumerate() {
            meta::validate_selector(&format!("{at}[{i}]"), selector, check);
        }
    }

    /// What a role that aggregates has follows from the roles it selects, not from its file.
    fn prepare_adopt(&mut self, live: &Self) {
        if self.aggregation_rule.is_some() {
            self.rules.clone_from(&live.rules);
        }
    }

    fn written(value: &mut Value) {
        write_rules(value);
    }
}

impl Kind for RoleBinding {
    fn default_fields(&mut self) {
        default_binding(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, check: &mut Check) {
        validate_role(&self.role_ref, &["Role", "ClusterRole"], check);
        validate_subjects(self.subjects.as_deref().unwrap_or_default(), true, check);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("roleRef", &live.role_ref, &self.role_ref);
    }
}

impl Kind for ClusterRoleBinding {
    fn default_fields(&mut self) {
        default_binding(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self, check: &mut Check) {
        validate_role(&self.role_ref, &["ClusterRole"], check);
        validate_subjects(self.subjects.as_deref().unwrap_or_default(), false, check);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("roleRef", &live.role_ref, &self.role_ref);
    }
}

/// A role without rules says so.
fn write_rules(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.entry("rules").or_insert(Value::Null);
    }
}

fn validate_rules(rules: &[PolicyRule], namespaced: bool, check: &mut Check) {
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("rules[{i}]");
        if rule.verbs.is_empty() {
            check.required(format!("{at}.verbs"), "verbs must contain at least one value");
        }
        match rule.non_resource_urls.as_deref().filter(|urls| !urls.is_empty()) {
            Some(urls) => validate_urls(&at, rule, urls, namespaced, check),
            None => validate_resources(&at, rule, check),
        }
    }
}

fn is_empty(list: &Option<Vec<String>>) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

fn validate_urls(
    at: &str,
    rule: &PolicyRule,
    urls: &[String],
    namespaced: bool,
    check: &mut Check,
) {
    let field = format!("{at}.nonResourceURLs");
    if namespaced {
        check.invalid(&field, urls, "namespaced rules cannot apply to non-resource URLs");
    }
    if ![&rule.api_groups, &rule.resources, &rule.resource_names].into_iter().all(is_empty) {
        let text = "rules cannot apply to both regular resources and non-resource URLs";
        check.invalid(&field, urls, text);
    }
}

fn validate_resources(at: &str, rule: &PolicyRule, check: &mut Check) {
    if is_empty(&rule.api_groups) {
        let text = "resource rules must supply at least one api group";
        check.required(format!("{at}.apiGroups"), text);
    }
    if is_empty(&rule.resources) {
        let text = "resource rules must supply at least one resource";
        check.required(format!("{at}.resources"), text);
    }
}

fn default_binding(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    fill(&mut role.api_group, GROUP);
    for subject in subjects.into_iter().flatten() {
        if matches!(subject.kind.as_str(), USER | GROUP_OF_USERS) {
            fill(&mut subject.api_group, GROUP);
        }
    }
}

fn validate_role(role: &RoleRef, kinds: &[&str], check: &mut Check) {
    check.one_of("roleRef.apiGroup", role.api_group.as_deref().unwrap_or_default(), &[GROUP]);
    check.one_of("roleRef.kind", &role.kind, kinds);
    if role.name.is_empty() {
        check.required("roleRef.name", "");
    } else {
        check.text("roleRef.name", &role.name, names::path_segment(&role.name));
    }
}

fn validate_subjects(subjects: &[Subject], namespaced: bool, check: &mut Check) {
    for (i, subject) in subjects.iter().enumerate() {
        let at = format!("subjects[{i}]");
        let name = format!("{at}.name");
        if subject.name.is_empty() {
            check.required(&name, "");
        }
        let api_group = subject.api_group.as_deref().unwrap_or_default();
        match subject.kind.as_str() {
            SERVICE_ACCOUNT => {
                if !subject.name.is_empty() {
                    check.text(&name, &subject.name, names::dns1123_subdomain(&subject.name));
                }
                check.one_of(format!("{at}.apiGroup"), api_group, &[""]);
                if !namespaced && subject.namespace.as_deref().is_none_or(str::is_empty) {
                    check.required(format!("{at}.namespace"), "");
                }
            }
            kind @ (USER | GROUP_OF_USERS) => {
                if subject.name.is_empty() {
                    let text = format!("{} name cannot be empty", kind.to_lowercase());
                    check.invalid(&name, "", text);
                }
                check.one_of(format!("{at}.apiGroup"), api_group, &[GROUP]);
            }
            other => {
                let kinds = [SERVICE_ACCOUNT, USER, GROUP_OF_USERS];
                check.not_supported(format!("{at}.kind"), other, &kinds);
            }
        }
    }
}
