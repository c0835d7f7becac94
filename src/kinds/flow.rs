//! FlowSchemas and PriorityLevelConfigurations: which requests wait for which.

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, FlowSchemaStatus, LimitResponse, LimitedPriorityLevelConfiguration,
    NonResourcePolicyRule, PolicyRulesWithSubjects, PriorityLevelConfiguration,
    PriorityLevelConfigurationStatus, QueuingConfiguration, ResourcePolicyRule, Subject,
};

use super::{Kind, field::Check, names};

/// The place of a FlowSchema that does not say its own.
const PRECEDENCE: i32 = 1000;
const PRECEDENCE_MAX: i32 = 10_000;
/// The name of the schema, and of the level, whose requests never wait.
const EXEMPT: &str = "exempt";
/// What a level has unless it says otherwise.
const SHARES: i32 = 30;
const QUEUES: i32 = 64;
const HAND_SIZE: i32 = 8;
const QUEUE_LENGTH: i32 = 50;
const QUEUES_MAX: i32 = 10_000_000;
/// Bits of the hash from which the hand of queues is dealt.
const HASH_BITS: f64 = 60.0;
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

impl Kind for FlowSchema {
    fn default_fields(&mut self) {
        let precedence = &mut self.spec.matching_precedence;
        if precedence.unwrap_or(0) == 0 {
            *precedence = Some(PRECEDENCE);
        }
    }

    fn validate(&self, check: &mut Check) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        validate_precedence(name, self.spec.matching_precedence.unwrap_or(0), check);
        if let Some(method) = &self.spec.distinguisher_method {
            let field = "spec.distinguisherMethod.type";
            check.one_of(field, &method.type_, &["ByNamespace", "ByUser"]);
        }
        let (field, level) = (
            "spec.priorityLevelConfiguration.name",
            self.spec.priority_level_configuration.name.as_str(),
        );
        if level.is_empty() {
            check.required(field, "must reference a priority level");
        } else {
            check.text(field, level, names::dns1123_subdomain(level));
        }
        for (i, rule) in self.spec.rules.iter().flatten().enumerate() {
            validate_rule(&format!("spec.rules[{i}]"), rule, check);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(FlowSchemaStatus::default());
    }
}

fn validate_precedence(name: &str, precedence: i32, check: &mut Check) {
    let field = "spec.matchingPrecedence";
    if precedence <= 0 {
        check.invalid(field, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        let text = format!("must not be greater than {PRECEDENCE_MAX}");
        check.invalid(field, precedence, text);
    }
    if precedence == 1 && name != EXEMPT {
        let text = "only the schema named 'exempt' may have matchingPrecedence 1";
        check.invalid(field, precedence, text);
    }
}

fn validate_rule(at: &str, rule: &PolicyRulesWithSubjects, check: &mut Check) {
    if rule.subjects.is_empty() {
        check.required(format!("{at}.subjects"), "subjects must contain at least one value");
    }
    for (i, subject) in rule.subjects.iter().enumerate() {
        validate_subject(&format!("{at}.subjects[{i}]"), subject, check);
    }
    let resources = rule.resource_rules.as_deref().unwrap_or_default();
    let others = rule.non_resource_rules.as_deref().unwrap_or_default();
    if resources.is_empty() && others.is_empty() {
        let text = "at least one of resourceRules and nonResourceRules has to be non-empty";
        check.required(at, text);
    }
    for (i, rule) in resources.iter().enumerate() {
        validate_resources(&format!("{at}.resourceRules[{i}]"), rule, check);
    }
    for (i, rule) in others.iter().enumerate() {
        validate_urls(&format!("{at}.nonResourceRules[{i}]"), rule, check);
    }
}

fn validate_subject(at: &str, subject: &Subject, check: &mut Check) {
    let given = [
        ("ServiceAccount", "serviceAccount", subject.service_account.is_some()),
        ("User", "user", subject.user.is_some()),
        ("Group", "group", subject.group.is_some()),
    ];
    if !given.iter().any(|(kind, _, _)| *kind == subject.kind) {
        let kinds = ["Group", "ServiceAccount", "User"];
        check.not_supported(format!("{at}.kind"), &subject.kind, &kinds);
        return;
    }
    for (kind, field, is_given) in given {
        let at = format!("{at}.{field}");
        if kind == subject.kind && !is_given {
            check.required(at, &format!("{field} is required when subject kind is '{kind}'"));
        } else if kind != subject.kind && is_given {
            let text = format!("{field} is forbidden when subject kind is not '{kind}'");
            check.forbidden(at, &text);
        }
    }
    let named = |name: &Option<&String>, field: &str, check: &mut Check| {
        if name.is_some_and(|n| n.is_empty()) {
            check.required(format!("{at}.{field}.name"), "");
        }
    };
    named(&subject.user.as_ref().map(|u| &u.name), "user", check);
    named(&subject.group.as_ref().map(|g| &g.name), "group", check);
    let Some(account) = &subject.service_account else { return };
    named(&Some(&account.name), "serviceAccount", check);
    if !account.name.is_empty() && account.name != "*" {
        let field = format!("{at}.serviceAccount.name");
        check.text(&field, &account.name, names::dns1123_subdomain(&account.name));
    }
    let (field, namespace) = (format!("{at}.serviceAccount.namespace"), &account.namespace);
    if namespace.is_empty() {
        check.required(field, "must specify namespace for service account");
    } else {
        check.text(&field, namespace, names::dns1123_label(namespace));
    }
}

/// Finds whether a list has something, and nothing beside `*`.
fn validate_list(field: &str, values: &[String], missing: &str, what: &str, check: &mut Check) {
    if values.is_empty() {
        check.required(field, missing);
    } else if values.len() > 1 && has_all(values) {
        let text = format!("if '*' is present, must not specify other {what}");
        check.invalid(field, values, text);
    }
}

fn has_all(values: &[String]) -> bool {
    values.iter().any(|v| v == "*")
}

fn validate_verbs(field: &str, verbs: &[String], check: &mut Check) {
    validate_list(field, verbs, "verbs must contain at least one value", "verbs", check);
    if !has_all(verbs) && verbs.iter().any(|v| !VERBS.contains(&v.as_str())) {
        check.not_supported(field, verbs, &VERBS);
    }
}

fn validate_resources(at: &str, rule: &ResourcePolicyRule, check: &mut Check) {
    validate_verbs(&format!("{at}.verbs"), &rule.verbs, check);
    let missing = "resource rules must supply at least one api group";
    validate_list(&format!("{at}.apiGroups"), &rule.api_groups, missing, "api groups", check);
    let missing = "resource rules must supply at least one resource";
    validate_list(&format!("{at}.resources"), &rule.resources, missing, "resources", check);
    let (field, namespaces) =
        (format!("{at}.namespaces"), rule.namespaces.as_deref().unwrap_or_default());
    if !namespaces.is_empty() || rule.cluster_scope != Some(true) {
        let missing = "resource rules that are not cluster scoped must supply at least one \
                       namespace";
        validate_list(&field, namespaces, missing, "namespaces", check);
    }
    for (i, namespace) in namespaces.iter().enumerate().filter(|_| !has_all(namespaces)) {
        for message in names::dns1123_label(namespace) {
            let text =
                format!("each member of this list must be '*' or a DNS-1123 label; {message}");
            check.invalid(format!("{field}[{i}]"), namespace, text);
        }
    }
}

fn validate_urls(at: &str, rule: &NonResourcePolicyRule, check: &mut Check) {
    validate_verbs(&format!("{at}.verbs"), &rule.verbs, check);
    let (field, urls) = (format!("{at}.nonResourceURLs"), &rule.non_resource_urls);
    let missing = "nonResourceURLs must contain at least one value";
    validate_list(&field, urls, missing, "non-resource URLs", check);
    for (i, url) in urls.iter().enumerate().filter(|_| !has_all(urls)) {
        if let Some(text) = wrong_url(url) {
            check.invalid(format!("{field}[{i}]"), url, text);
        }
    }
}

fn wrong_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    if url.is_empty() {
        Some("must not be empty")
    } else if !url.starts_with('/') {
        Some("must start with slash")
    } else if url.contains(' ') {
        Some("must not contain white-space")
    } else if url.contains("//") {
        Some("must not contain double slash")
    } else if stars > 1 || (stars == 1 && !url.ends_with("/*")) {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

impl Kind for PriorityLevelConfiguration {
    fn default_fields(&mut self) {
        if let Some(exempt) = &mut self.spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut self.spec.limited else { return };
        limited.nominal_concurrency_shares.get_or_insert(SHARES);
        limited.lendable_percent.get_or_insert(0);
        if let Some(queuing) = &mut limited.limit_response.queuing {
            for (field, value) in [
                (&mut queuing.queues, QUEUES),
                (&mut queuing.hand_size, HAND_SIZE),
                (&mut queuing.queue_length_limit, QUEUE_LENGTH),
            ] {
                if field.unwrap_or(0) == 0 {
                    *field = Some(value);
                }
            }
        }
    }

    fn validate(&self, check: &mut Check) {
        let (spec, name) = (&self.spec, self.metadata.name.as_deref().unwrap_or_default());
        if (name == EXEMPT) != (spec.type_ == "Exempt") {
            let text = "type must be 'Exempt' if and only if name is 'exempt'";
            check.invalid("spec.type", &spec.type_, text);
        }
        match (spec.type_.as_str(), &spec.limited) {
            ("Exempt", Some(_)) => {
                let text = "must be nil if the type is not Limited";
                check.forbidden("spec.limited", text);
            }
            ("Exempt", None) => {}
            ("Limited", limited) => {
                if spec.exempt.is_some() {
                    let text = "must be nil if the type is Limited";
                    check.forbidden("spec.exempt", text);
                }
                match limited {
                    None => {
                        let text = "must not be empty when type is Limited";
                        check.required("spec.limited", text);
                    }
                    Some(limited) => validate_limited(limited, check),
                }
            }
            (other, _) => check.not_supported("spec.type", other, &["Exempt", "Limited"]),
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(PriorityLevelConfigurationStatus::default());
    }
}

fn validate_limited(limited: &LimitedPriorityLevelConfiguration, check: &mut Check) {
    let shares = limited.nominal_concurrency_shares.unwrap_or_default();
    if shares < 0 {
        let text = "must be a non-negative integer";
        check.invalid("spec.limited.nominalConcurrencyShares", shares, text);
    }
    let lendable = limited.lendable_percent.unwrap_or_default();
    if !(0..=100).contains(&lendable) {
        let text = "must be between 0 and 100, inclusive";
        check.invalid("spec.limited.lendablePercent", lendable, text);
    }
    if let Some(borrowed) = limited.borrowing_limit_percent.filter(|p| *p < 0) {
        let text = "if specified, must be a non-negative integer";
        check.invalid("spec.limited.borrowingLimitPercent", borrowed, text);
    }
    validate_response(&limited.limit_response, check);
}

fn validate_response(response: &LimitResponse, check: &mut Check) {
    let field = "spec.limited.limitResponse.queuing";
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", Some(_)) => {
            let text = "must be nil if limited.limitResponse.type is not Limited";
            check.forbidden(field, text);
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let text = "must not be empty if limited.limitResponse.type is Limited";
            check.required(field, text);
        }
        ("Queue", Some(queuing)) => validate_queuing(field, queuing, check),
        (other, _) => {
            let field = "spec.limited.limitResponse.type";
            check.not_supported(field, other, &["Queue", "Reject"]);
        }
    }
}

fn validate_queuing(at: &str, queuing: &QueuingConfiguration, check: &mut Check) {
    let length = queuing.queue_length_limit.unwrap_or_default();
    let (queues, hand) =
        (queuing.queues.unwrap_or_default(), queuing.hand_size.unwrap_or_default());
    for (field, value) in [("queueLengthLimit", length), ("queues", queues), ("handSize", hand)] {
        if value <= 0 {
            check.invalid(format!("{at}.{field}"), value, "must be positive");
        }
    }
    if queues > QUEUES_MAX {
        let text = format!("must not be greater than {QUEUES_MAX}");
        check.invalid(format!("{at}.queues"), queues, text);
    }
    let field = format!("{at}.handSize");
    if hand > queues {
        check.invalid(field, hand, format!("should not be greater than queues ({queues})"));
    } else if hand > 0 && entropy_bits(queues, hand) > HASH_BITS {
        let text = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater \
             than {HASH_BITS}"
        );
        check.invalid(field, hand, text);
    }
}

/// Bits that dealing `hand` of `deck` queues takes.
fn entropy_bits(deck: i32, hand: i32) -> f64 {
    (0..hand).map(|dealt| f64::from(deck - dealt).log2()).sum::<f64>().ceil()
}
