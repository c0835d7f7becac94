//! Admission policies and their bindings. Of those that validate the expressions are read
//! ([`policy_rules`](super::policy_rules)), of those that change objects they are kept as texts.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{
    AuditAnnotation, MatchCondition, MatchResources, MutatingAdmissionPolicy,
    MutatingAdmissionPolicyBinding, Mutation, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec,
    ValidatingAdmissionPolicyStatus, Validation, Variable,
};

use super::{
    Kind,
    field::Check,
    meta, names,
    pod_defaults::fill,
    policy_rules::PolicyRules,
    webhook::{
        FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES, Rule, validate_conditions,
        validate_rule,
    },
};

/// Most annotations of the audit log that one policy makes.
const ANNOTATIONS_MAX: usize = 20;
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
/// The subresources of which policies are asked; none for the object itself.
const JUDGED: [&str; 5] = ["", "*", "ephemeralcontainers", "resize", "status"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];

impl Kind for ValidatingAdmissionPolicy {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        fill(&mut spec.failure_policy, "Fail");
        spec.match_constraints.iter_mut().for_each(default_match);
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        let common = Common {
            failure_policy: spec.failure_policy.as_deref(),
            param_kind: spec.param_kind.as_ref(),
            constraints: spec.match_constraints.as_ref(),
            conditions: spec.match_conditions.as_ref(),
            variables: spec.variables.as_ref(),
        };
        common.validate(check);
        let validations = spec.validations.as_deref().unwrap_or_default();
        let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
        if validations.is_empty() && annotations.is_empty() {
            let text = "validations or auditAnnotations must contain at least one item";
            check.required("spec.validations", text);
            check.required("spec.auditAnnotations", text);
        }
        for (i, validation) in validations.iter().enumerate() {
            validate_validation(&format!("spec.validations[{i}]"), validation, check);
        }
        validate_annotations(annotations, check);
        PolicyRules::read(&spec, check);
        not_acted_on(&spec, check);
    }

    fn prepare_create(&mut self) {
        self.status = Some(ValidatingAdmissionPolicyStatus::default());
    }
}

/// Warns of what a policy asks for that nobody does.
fn not_acted_on(spec: &ValidatingAdmissionPolicySpec, check: &mut Check) {
    const TEXT: &str = "accepted but not acted on yet";
    if spec.audit_annotations.as_ref().is_some_and(|list| !list.is_empty()) {
        check.warn("spec.auditAnnotations", TEXT);
    }
    let rules = spec.match_constraints.iter().flat_map(|of| of.resource_rules.iter().flatten());
    for (i, rule) in rules.enumerate() {
        let at = format!("spec.matchConstraints.resourceRules[{i}]");
        if rule.operations.iter().flatten().any(|operation| operation == "CONNECT") {
            check.warn(format!("{at}.operations"), format!("CONNECT: {TEXT}"));
        }
        for resource in rule.resources.iter().flatten() {
            let subresource = resource.split_once('/').map_or("", |(_, subresource)| subresource);
            if !JUDGED.contains(&subresource) {
                check.warn(format!("{at}.resources"), format!("{resource}: {TEXT}"));
            }
        }
    }
}

impl Kind for MutatingAdmissionPolicy {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        fill(&mut spec.failure_policy, "Fail");
        spec.match_constraints.iter_mut().for_each(default_match);
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        let common = Common {
            failure_policy: spec.failure_policy.as_deref(),
            param_kind: spec.param_kind.as_ref(),
            constraints: spec.match_constraints.as_ref(),
            conditions: spec.match_conditions.as_ref(),
            variables: spec.variables.as_ref(),
        };
        common.validate(check);
        let field = "spec.reinvocationPolicy";
        match spec.reinvocation_policy.as_deref() {
            None | Some("") => check.required(field, ""),
            Some(policy) => check.one_of(field, policy, &REINVOCATION_POLICIES),
        }
        let mutations = spec.mutations.as_deref().unwrap_or_default();
        if mutations.is_empty() {
            check.required("spec.mutations", "mutations must contain at least one item");
        }
        for (i, mutation) in mutations.iter().enumerate() {
            validate_mutation(&format!("spec.mutations[{i}]"), mutation, check);
        }
    }
}

impl Kind for ValidatingAdmissionPolicyBinding {
    fn default_fields(&mut self) {
        self.spec.match_resources.iter_mut().for_each(default_match);
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        let resources = spec.match_resources.as_ref();
        validate_binding(Some(&spec.policy_name), spec.param_ref.as_ref(), resources, check);
        let field = "spec.validationActions";
        let actions: BTreeSet<&String> = spec.validation_actions.iter().collect();
        if actions.is_empty() {
            check.required(field, "at least one validation action is required");
        }
        if actions.iter().any(|action| *action == "Audit") {
            check.warn(field, "Audit: accepted but not acted on yet");
        }
        let mut seen = BTreeSet::new();
        for (i, action) in spec.validation_actions.iter().enumerate() {
            check.one_of(format!("{field}[{i}]"), action, &ACTIONS);
            if !seen.insert(action) {
                check.duplicate(format!("{field}[{i}]"), action);
            }
        }
        if ["Deny", "Warn"].iter().all(|both| actions.iter().any(|a| a == both)) {
            let text = "must not contain both Deny and Warn (repeating the same validation \
                        failure information in the API response and headers serves no purpose)";
            check.invalid(field, &spec.validation_actions, text);
        }
    }
}

impl Kind for MutatingAdmissionPolicyBinding {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.match_resources.iter_mut().for_each(default_match);
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        let (name, resources) = (spec.policy_name.as_deref(), spec.match_resources.as_ref());
        validate_binding(name, spec.param_ref.as_ref(), resources, check);
    }
}

/// What policies of both kinds say.
struct Common<'a> {
    failure_policy: Option<&'a str>,
    param_kind: Option<&'a ParamKind>,
    constraints: Option<&'a MatchResources>,
    conditions: Option<&'a Vec<MatchCondition>>,
    variables: Option<&'a Vec<Variable>>,
}

impl Common<'_> {
    fn validate(&self, check: &mut Check) {
        validate_failure_policy(self.failure_policy, check);
        validate_parameters(self.param_kind, check);
        validate_constraints(self.constraints, check);
        validate_conditions("spec.matchConditions", self.conditions, check);
        validate_variables(self.variables, check);
    }
}

/// What bindings of both kinds say.
fn validate_binding(
    policy: Option<&str>,
    parameters: Option<&ParamRef>,
    resources: Option<&MatchResources>,
    check: &mut Check,
) {
    validate_policy_name(policy, check);
    validate_reference(parameters, check);
    if let Some(resources) = resources {
        validate_match("spec.matchResources", resources, check);
    }
}

fn default_match(resources: &mut MatchResources) {
    fill(&mut resources.match_policy, "Equivalent");
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = [&mut resources.resource_rules, &mut resources.exclude_resource_rules];
    for rule in rules.into_iter().flatten().flatten() {
        fill(&mut rule.scope, "*");
    }
}

fn validate_failure_policy(policy: Option<&str>, check: &mut Check) {
    check.one_of("spec.failurePolicy", policy.unwrap_or_default(), &FAILURE_POLICIES);
}

fn validate_parameters(of_kind: Option<&ParamKind>, check: &mut Check) {
    let Some(ParamKind { api_version, kind }) = of_kind else { return };
    let field = "spec.paramKind.apiVersion";
    match api_version.as_deref().filter(|v| !v.is_empty()) {
        None => check.required(field, ""),
        Some(text) => {
            let (group, version) = text.split_once('/').unwrap_or(("", text));
            if !group.is_empty() {
                check.text(field, group, names::dns1123_subdomain(group));
            }
            check.text(field, version, names::dns1035_label(version));
        }
    }
    let field = "spec.paramKind.kind";
    match kind.as_deref().filter(|k| !k.is_empty()) {
        None => check.required(field, ""),
        Some(kind) => {
            for message in names::dns1035_label(&kind.to_lowercase()) {
                let text = format!("may have mixed case, but should otherwise match: {message}");
                check.invalid(field, kind, text);
            }
        }
    }
}

fn validate_constraints(constraints: Option<&MatchResources>, check: &mut Check) {
    let field = "spec.matchConstraints";
    let Some(constraints) = constraints else {
        check.required(field, "");
        return;
    };
    validate_match(field, constraints, check);
    if constraints.resource_rules.as_ref().is_none_or(Vec::is_empty) {
        check.required(format!("{field}.resourceRules"), "");
    }
}

fn validate_match(at: &str, resources: &MatchResources, check: &mut Check) {
    let policy = resources.match_policy.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.matchPolicy"), policy, &MATCH_POLICIES);
    for (field, selector) in [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ] {
        if let Some(selector) = selector {
            meta::validate_selector(&format!("{at}.{field}"), selector, check);
        }
    }
    for (field, rules) in [
        ("resourceRules", &resources.resource_rules),
        ("excludeResourceRules", &resources.exclude_resource_rules),
    ] {
        for (i, rule) in rules.iter().flatten().enumerate() {
            validate_rule(&format!("{at}.{field}[{i}]"), &Rule::named(rule), check);
        }
    }
}

fn validate_variables(variables: Option<&Vec<Variable>>, check: &mut Check) {
    for (i, variable) in variables.into_iter().flatten().enumerate() {
        let at = format!("spec.variables[{i}]");
        let name = variable.name.trim();
        if name.is_empty() {
            check.required(format!("{at}.name"), "name is not specified");
        } else if !is_identifier(&variable.name) {
            let text = "name is not a valid CEL identifier";
            check.invalid(format!("{at}.name"), &variable.name, text);
        }
        if variable.expression.trim().is_empty() {
            check.required(format!("{at}.expression"), "expression is not specified");
        }
    }
}

fn is_identifier(name: &str) -> bool {
    let inner = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    inner && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn validate_validation(at: &str, validation: &Validation, check: &mut Check) {
    if validation.expression.trim().is_empty() {
        check.required(format!("{at}.expression"), "expression is not specified");
    }
    let blank = |text: &Option<String>| text.as_deref().is_some_and(|t| t.trim().is_empty());
    let given = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.is_empty());
    if given(&validation.message_expression) && blank(&validation.message_expression) {
        let text = "must be non-empty if specified";
        check.invalid(format!("{at}.messageExpression"), &validation.message_expression, text);
    }
    if given(&validation.message) && blank(&validation.message) {
        let text = "message must be non-empty if specified";
        check.invalid(format!("{at}.message"), &validation.message, text);
    } else if validation.message.as_deref().is_some_and(|m| m.trim().contains(['\n', '\r'])) {
        let text = "message must not contain line breaks";
        check.invalid(format!("{at}.message"), &validation.message, text);
    }
    if let Some(reason) = validation.reason.as_deref() {
        check.one_of(format!("{at}.reason"), reason, &REASONS);
    }
}

fn validate_annotations(annotations: &[AuditAnnotation], check: &mut Check) {
    let field = "spec.auditAnnotations";
    if annotations.len() > ANNOTATIONS_MAX {
        let text = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        check.invalid(field, annotations, text);
    }
    let mut keys = BTreeSet::new();
    for (i, annotation) in annotations.iter().enumerate() {
        let at = format!("{field}[{i}]");
        check.text(&format!("{at}.key"), &annotation.key, names::qualified_name(&annotation.key));
        if annotation.value_expression.trim().is_empty() {
            check.required(format!("{at}.valueExpression"), "valueExpression is not specified");
        }
        if !keys.insert(&annotation.key) {
            check.duplicate(format!("{at}.key"), &annotation.key);
        }
    }
}

fn validate_mutation(at: &str, mutation: &Mutation, check: &mut Check) {
    let apply = mutation.apply_configuration.as_ref().map(|a| a.expression.as_deref());
    let patch = mutation.json_patch.as_ref().map(|p| p.expression.as_deref());
    let (field, expression, other, has_other) = match mutation.patch_type.as_str() {
        "ApplyConfiguration" => ("applyConfiguration", apply, "jsonPatch", patch.is_some()),
        "JSONPatch" => ("jsonPatch", patch, "applyConfiguration", apply.is_some()),
        "" => return check.required(format!("{at}.patchType"), ""),
        unknown => {
            let types = ["ApplyConfiguration", "JSONPatch"];
            return check.not_supported(format!("{at}.patchType"), unknown, &types);
        }
    };
    match expression {
        None => {
            let text = format!("must be specified when patchType is {}", mutation.patch_type);
            check.required(format!("{at}.{field}"), &text);
        }
        Some(text) if text.unwrap_or_default().trim().is_empty() => {
            let text = "expression is not specified";
            check.required(format!("{at}.{field}.expression"), text);
        }
        Some(_) => {}
    }
    if has_other {
        let text = format!("must not be specified when patchType is {}", mutation.patch_type);
        check.invalid(format!("{at}.{other}"), "{}", text);
    }
}

fn validate_policy_name(name: Option<&str>, check: &mut Check) {
    match name.filter(|n| !n.is_empty()) {
        None => check.required("spec.policyName", ""),
        Some(name) => check.text("spec.policyName", name, names::dns1123_subdomain(name)),
    }
}

fn validate_reference(reference: Option<&ParamRef>, check: &mut Check) {
    let Some(reference) = reference else { return };
    let at = "spec.paramRef";
    let name = reference.name.as_deref().filter(|n| !n.is_empty());
    match (name, &reference.selector) {
        (None, None) => {
            check.required(at, "one of name or selector must be specified");
        }
        (Some(_), Some(_)) => {
            let text = "name and selector are mutually exclusive";
            check.forbidden(format!("{at}.name"), text);
        }
        (Some(name), None) => {
            check.text(&format!("{at}.name"), name, names::path_segment(name));
        }
        (None, Some(selector)) => {
            meta::validate_selector(&format!("{at}.selector"), selector, check);
        }
    }
    let field = format!("{at}.parameterNotFoundAction");
    match reference.parameter_not_found_action.as_deref() {
        None | Some("") => check.required(field, ""),
        Some(action) => check.one_of(field, action, &["Allow", "Deny"]),
    }
}
