//! Webhooks of admission, and the rules that they share with admission policies.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, NamedRuleWithOperations,
        RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
        WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{Kind, Reason, field::Check, meta, names, pod_defaults::fill};

pub(super) const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
pub(super) const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
/// Versions of AdmissionReview, of which a webhook must take one.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
/// Seconds that a webhook has unless it says otherwise.
const TIMEOUT_SECONDS: i32 = 10;
/// Most seconds that a webhook may have.
const TIMEOUT_SECONDS_MAX: i32 = 30;
/// Most conditions of one webhook or policy.
const CONDITIONS_MAX: usize = 64;
/// The port of a webhook's Service.
const PORT: i32 = 443;

/// The fields that both kinds of webhooks have.
struct Hook<'a> {
    name: &'a str,
    reviews: &'a [String],
    client: &'a WebhookClientConfig,
    failure_policy: Option<&'a str>,
    match_policy: Option<&'a str>,
    conditions: Option<&'a Vec<MatchCondition>>,
    selectors: [(&'static str, Option<&'a LabelSelector>); 2],
    rules: Option<&'a Vec<RuleWithOperations>>,
    side_effects: &'a str,
    timeout_seconds: Option<i32>,
}

macro_rules! hook {
    ($hook:expr) => {
        Hook {
            name: &$hook.name,
            reviews: &$hook.admission_review_versions,
            client: &$hook.client_config,
            failure_policy: $hook.failure_policy.as_deref(),
            match_policy: $hook.match_policy.as_deref(),
            conditions: $hook.match_conditions.as_ref(),
            selectors: [
                ("namespaceSelector", $hook.namespace_selector.as_ref()),
                ("objectSelector", $hook.object_selector.as_ref()),
            ],
            rules: $hook.rules.as_ref(),
            side_effects: &$hook.side_effects,
            timeout_seconds: $hook.timeout_seconds,
        }
    };
}

macro_rules! default_hook {
    ($hook:expr) => {
        fill(&mut $hook.failure_policy, "Fail");
        fill(&mut $hook.match_policy, "Equivalent");
        $hook.namespace_selector.get_or_insert_default();
        $hook.object_selector.get_or_insert_default();
        $hook.timeout_seconds.get_or_insert(TIMEOUT_SECONDS);
        if let Some(service) = &mut $hook.client_config.service {
            service.port.get_or_insert(PORT);
        }
        for rule in $hook.rules.iter_mut().flatten() {
            fill(&mut rule.scope, "*");
        }
    };
}

impl Kind for ValidatingWebhookConfiguration {
    fn default_fields(&mut self) {
        for hook in self.webhooks.iter_mut().flatten() {
            default_hook!(hook);
        }
    }

    fn validate(&self, check: &mut Check) {
        let hooks = self.webhooks.iter().flatten();
        validate_hooks(hooks.map(|hook: &ValidatingWebhook| hook!(hook)), check);
    }
}

impl Kind for MutatingWebhookConfiguration {
    fn default_fields(&mut self) {
        for hook in self.webhooks.iter_mut().flatten() {
            default_hook!(hook);
            fill(&mut hook.reinvocation_policy, "Never");
        }
    }

    fn validate(&self, check: &mut Check) {
        let hooks = self.webhooks.iter().flatten();
        validate_hooks(hooks.map(|hook: &MutatingWebhook| hook!(hook)), check);
        for (i, hook) in self.webhooks.iter().flatten().enumerate() {
            let policy = hook.reinvocation_policy.as_deref().unwrap_or_default();
            let field = format!("webhooks[{i}].reinvocationPolicy");
            check.one_of(field, policy, &REINVOCATION_POLICIES);
        }
    }
}

fn validate_hooks<'a>(hooks: impl Iterator<Item = Hook<'a>>, check: &mut Check) {
    let mut names = BTreeSet::new();
    for (i, hook) in hooks.enumerate() {
        let at = format!("webhooks[{i}]");
        validate_hook(&at, &hook, check);
        if !hook.name.is_empty() && !names.insert(hook.name) {
            check.duplicate(format!("{at}.name"), hook.name);
        }
    }
}

fn validate_hook(at: &str, hook: &Hook<'_>, check: &mut Check) {
    if hook.name.is_empty() {
        check.required(format!("{at}.name"), "");
    } else {
        check.text(&format!("{at}.name"), hook.name, names::fully_qualified(hook.name));
    }
    for (i, rule) in hook.rules.into_iter().flatten().enumerate() {
        validate_rule(&format!("{at}.rules[{i}]"), &Rule::of(rule), check);
    }
    let failure = hook.failure_policy.unwrap_or_default();
    check.one_of(format!("{at}.failurePolicy"), failure, &FAILURE_POLICIES);
    let matching = hook.match_policy.unwrap_or_default();
    check.one_of(format!("{at}.matchPolicy"), matching, &MATCH_POLICIES);
    if hook.side_effects.is_empty() {
        let text = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
        check.required(format!("{at}.sideEffects"), &text);
    } else {
        check.one_of(format!("{at}.sideEffects"), hook.side_effects, &SIDE_EFFECTS);
    }
    let seconds = hook.timeout_seconds.filter(|s| !(1..=TIMEOUT_SECONDS_MAX).contains(s));
    if let Some(seconds) = seconds {
        let text = "the timeout value must be between 1 and 30 seconds";
        check.invalid(format!("{at}.timeoutSeconds"), seconds, text);
    }
    for (field, selector) in hook.selectors {
        if let Some(selector) = selector {
            meta::validate_selector(&format!("{at}.{field}"), selector, check);
        }
    }
    validate_client(&format!("{at}.clientConfig"), hook.client, check);
    validate_conditions(&format!("{at}.matchConditions"), hook.conditions, check);
    validate_reviews(&format!("{at}.admissionReviewVersions"), hook.reviews, check);
}

fn validate_reviews(field: &str, versions: &[String], check: &mut Check) {
    if versions.is_empty() {
        check.required(field, &format!("must specify one of {}", REVIEWS.join(", ")));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if seen.insert(version) {
            check.text(&field, version, names::dns1035_label(version));
        } else {
            check.invalid(field, version, "duplicate version");
        }
    }
    if !versions.iter().any(|v| REVIEWS.contains(&v.as_str())) {
        let text = format!("must include at least one of {}", REVIEWS.join(", "));
        check.invalid(field, versions, text);
    }
}

fn validate_client(at: &str, client: &WebhookClientConfig, check: &mut Check) {
    match (client.url.as_deref(), &client.service) {
        (None, None) | (Some(_), Some(_)) => {
            check.required(at, "exactly one of url or service is required");
        }
        (Some(url), None) => validate_url(&format!("{at}.url"), url, check),
        (None, Some(service)) => validate_service(&format!("{at}.service"), service, check),
    }
}

fn validate_url(field: &str, url: &str, check: &mut Check) {
    let form = "desired format: https://host[/path]";
    let Some((scheme, rest)) = url.split_once("://") else {
        let text = format!("'https' is the only allowed URL scheme; {form}");
        check.invalid(field, "", text);
        return;
    };
    if scheme != "https" {
        let text = format!("'https' is the only allowed URL scheme; {form}");
        check.invalid(field, scheme, text);
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        check.invalid(field, host, format!("host must be specified; {form}"));
    }
    if let Some((user, _)) = host.rsplit_once('@') {
        check.invalid(field, user, "user information is not permitted in the URL");
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        check.invalid(field, fragment, "fragments are not permitted in the URL");
    }
    if let Some((_, query)) = rest.split_once('#').map_or(rest, |(r, _)| r).split_once('?') {
        check.invalid(field, query, "query parameters are not permitted in the URL");
    }
}

fn validate_service(at: &str, service: &ServiceReference, check: &mut Check) {
    if service.name.is_empty() {
        check.required(format!("{at}.name"), "service name is required");
    }
    if service.namespace.is_empty() {
        check.required(format!("{at}.namespace"), "service namespace is required");
    }
    let port = service.port.unwrap_or(PORT);
    for message in names::port_number(port) {
        check.invalid(format!("{at}.port"), port, format!("port is not valid: {message}"));
    }
    if let Some(path) = service.path.as_deref().filter(|p| !p.is_empty() && *p != "/") {
        validate_path(&format!("{at}.path"), path, check);
    }
}

fn validate_path(field: &str, path: &str, check: &mut Check) {
    let Some(inner) = path.strip_prefix('/') else {
        check.invalid(field, path, "must start with a '/'");
        return;
    };
    let steps = inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate();
    for (i, step) in steps {
        if step.is_empty() {
            check.invalid(field, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(step) {
            check.invalid(field, path, format!("segment[{i}]: {message}"));
        }
    }
}

/// The conditions of a webhook or a policy; what the expressions say is not looked at.
pub(super) fn validate_conditions(
    field: &str,
    conditions: Option<&Vec<MatchCondition>>,
    check: &mut Check,
) {
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    if conditions.len() > CONDITIONS_MAX {
        let n = conditions.len();
        let text = format!("Too many: {n}: must have at most {CONDITIONS_MAX} items");
        check.error(field, Reason::TooMany, text);
    }
    let mut names = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = format!("{field}[{i}]");
        if condition.expression.trim().is_empty() {
            check.required(format!("{at}.expression"), "");
        }
        let (field, name) = (format!("{at}.name"), condition.name.as_str());
        if name.is_empty() {
            check.required(field, "");
            continue;
        }
        check.text(&field, name, names::qualified_name(name));
        if !names.insert(name) {
            check.duplicate(field, name);
        }
    }
}

/// What requests a webhook or a policy looks at.
pub(super) struct Rule<'a> {
    groups: &'a [String],
    versions: &'a [String],
    operations: &'a [String],
    resources: &'a [String],
    names: &'a [String],
    scope: Option<&'a str>,
}

fn list(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

impl<'a> Rule<'a> {
    fn of(rule: &'a RuleWithOperations) -> Self {
        Self {
            groups: list(&rule.api_groups),
            versions: list(&rule.api_versions),
            operations: list(&rule.operations),
            resources: list(&rule.resources),
            names: &[],
            scope: rule.scope.as_deref(),
        }
    }

    /// The same of a rule that may name objects.
    pub(super) fn named(rule: &'a NamedRuleWithOperations) -> Self {
        Self {
            groups: list(&rule.api_groups),
            versions: list(&rule.api_versions),
            operations: list(&rule.operations),
            resources: list(&rule.resources),
            names: list(&rule.resource_names),
            scope: rule.scope.as_deref(),
        }
    }
}

/// Finds what is wrong with one rule.
pub(super) fn validate_rule(at: &str, rule: &Rule<'_>, check: &mut Check) {
    let mut names = BTreeSet::new();
    for (i, name) in rule.names.iter().enumerate() {
        let field = format!("{at}.resourceNames[{i}]");
        check.text(&field, name, names::path_segment(name));
        if !names.insert(name) {
            check.duplicate(field, name);
        }
    }
    for (field, what, values) in [
        ("operations", "operations", rule.operations),
        ("apiGroups", "API groups", rule.groups),
        ("apiVersions", "API versions", rule.versions),
    ] {
        let field = format!("{at}.{field}");
        if values.is_empty() {
            check.required(&field, "");
        }
        if values.len() > 1 && values.iter().any(|v| v == "*") {
            let text = format!("if '*' is present, must not specify other {what}");
            check.invalid(field, values, text);
        }
    }
    for (i, operation) in rule.operations.iter().enumerate() {
        check.one_of(format!("{at}.operations[{i}]"), operation, &OPERATIONS);
    }
    for (i, _) in rule.versions.iter().enumerate().filter(|(_, v)| v.is_empty()) {
        check.required(format!("{at}.apiVersions[{i}]"), "");
    }
    validate_resources(&format!("{at}.resources"), rule.resources, check);
    if let Some(scope) = rule.scope {
        check.one_of(format!("{at}.scope"), scope, &SCOPES);
    }
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` or `*/*`, of which none may hide another.
fn validate_resources(field: &str, resources: &[String], check: &mut Check) {
    if resources.is_empty() {
        check.required(field, "");
    }
    let (mut parents, mut children) = (BTreeSet::new(), BTreeSet::new());
    for (i, resource) in resources.iter().enumerate() {
        let field = format!("{field}[{i}]");
        if resource.is_empty() {
            check.required(&field, "");
        }
        let Some((parent, child)) = resource.split_once('/') else { continue };
        if parents.contains(parent) {
            let text = format!("if '{parent}/*' is present, must not specify {resource}");
            check.invalid(&field, resource, text);
        }
        if children.contains(child) {
            let text = format!("if '*/{child}' is present, must not specify {resource}");
            check.invalid(&field, resource, text);
        }
        if child == "*" {
            parents.insert(parent);
        }
        if parent == "*" {
            children.insert(child);
        }
    }
    if resources.len() > 1 && resources.iter().any(|r| r == "*/*") {
        let text = "if '*/*' is present, must not specify other resources";
        check.invalid(field, resources, text);
    }
    let plain = |r: &String| !r.is_empty() && !r.contains('/') && r != "*";
    if resources.iter().any(|r| r == "*") && resources.iter().any(plain) {
        let text = "if '*' is present, must not specify other resources without subresources";
        check.invalid(field, resources, text);
    }
}
