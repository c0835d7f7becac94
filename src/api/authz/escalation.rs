//! Nobody gives what they do not have: checks on writing roles and bindings
//! (kubernetes.io/docs/reference/access-authn-authz/rbac, privilege escalation prevention).

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
};

use super::{Target, Wish, may};
use crate::{
    api::{Failure, ResourceInfo, authn::User},
    kinds::KindInfo,
    model::Object,
    policy::rbac,
    state::View,
};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Lets somebody write a role or a binding that gives no more than they have, or may give; other
/// kinds always.
pub(in crate::api) fn may_grant(
    view: &View,
    user: &User,
    info: &KindInfo,
    object: &Object,
) -> Result<(), Failure> {
    if info.group != GROUP {
        return Ok(());
    }
    let key = object.key();
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    let missing = if let Some(role) = object.view::<ClusterRole>() {
        // One that aggregates has whatever is selected later: only who may do everything gives it.
        match role.aggregation_rule {
            Some(_) => missing(view, user, "", &[everything()]),
            None => missing(view, user, "", role.rules.as_deref().unwrap_or_default()),
        }
    } else if let Some(role) = object.view::<Role>() {
        missing(view, user, namespace, role.rules.as_deref().unwrap_or_default())
    } else if let Some(binding) = object.view::<ClusterRoleBinding>() {
        return may_bind(view, user, info, name, "", &binding.role_ref);
    } else if let Some(binding) = object.view::<RoleBinding>() {
        return may_bind(view, user, info, name, namespace, &binding.role_ref);
    } else {
        Vec::new()
    };
    if missing.is_empty() || asks(view, user, "escalate", &info.plural, namespace, name) {
        return Ok(());
    }
    Err(refusal(user, info, name, &missing))
}

fn may_bind(
    view: &View,
    user: &User,
    info: &KindInfo,
    name: &str,
    namespace: &str,
    role: &RoleRef,
) -> Result<(), Failure> {
    let plural = if role.kind == "Role" { "roles" } else { "clusterroles" };
    if asks(view, user, "bind", plural, namespace, &role.name) {
        return Ok(());
    }
    let found = match role.kind.as_str() {
        "Role" => view.get::<Role>(namespace, &role.name).is_some(),
        _ => view.get::<ClusterRole>("", &role.name).is_some(),
    };
    if !found {
        let why = format!("{plural}.{GROUP} {:?} not found", role.name);
        return Err(Failure::not_found(why));
    }
    let missing = missing(view, user, namespace, rbac::rules(view, role, namespace));
    if missing.is_empty() { Ok(()) } else { Err(refusal(user, info, name, &missing)) }
}

fn asks(view: &View, user: &User, verb: &str, plural: &str, namespace: &str, name: &str) -> bool {
    let resource = ResourceInfo {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: plural.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..ResourceInfo::default()
    };
    may(view, &Wish { user, verb, target: Target::Resource(&resource, "") })
}

fn everything() -> PolicyRule {
    let all = || Some(vec!["*".to_owned()]);
    PolicyRule {
        verbs: vec!["*".to_owned()],
        api_groups: all(),
        resources: all(),
        ..PolicyRule::default()
    }
}

/// The parts of `rules` that somebody does not have: one verb, group, resource and name each.
fn missing(view: &View, user: &User, namespace: &str, rules: &[PolicyRule]) -> Vec<PolicyRule> {
    if user.is_in(super::MASTERS) {
        return Vec::new();
    }
    let held = rbac::rules_of(view, user.who(), namespace);
    let parts = rules.iter().flat_map(parts);
    parts.filter(|part| !held.iter().any(|rule| covers(rule, part))).collect()
}

/// A rule taken apart.
fn parts(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |text: &String| Some(vec![text.clone()]);
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let names = list(&rule.resource_names);
    let names: Vec<Option<Vec<String>>> =
        if names.is_empty() { vec![None] } else { names.iter().map(one).collect() };
    let mut parts = Vec::new();
    for verb in &rule.verbs {
        let verbs = vec![verb.clone()];
        for url in list(&rule.non_resource_urls) {
            let non_resource_urls = one(&url);
            parts.push(PolicyRule {
                verbs: verbs.clone(),
                non_resource_urls,
                ..PolicyRule::default()
            });
        }
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                parts.extend(names.iter().map(|name| PolicyRule {
                    verbs: verbs.clone(),
                    api_groups: one(&group),
                    resources: one(&resource),
                    resource_names: name.clone(),
                    non_resource_urls: None,
                }));
            }
        }
    }
    parts
}

/// Whether a rule gives one part.
fn covers(rule: &PolicyRule, part: &PolicyRule) -> bool {
    let first = |list: &Option<Vec<String>>| list.as_ref().and_then(|l| l.first()).cloned();
    let has = |list: &Option<Vec<String>>, wanted: &str| {
        list.iter().flatten().any(|found| found == "*" || found == wanted)
    };
    if !rule.verbs.iter().any(|verb| verb == "*" || Some(verb) == part.verbs.first()) {
        return false;
    }
    if let Some(url) = first(&part.non_resource_urls) {
        return rbac::covers_path(rule.non_resource_urls.as_deref(), &url);
    }
    let (Some(group), Some(resource)) = (first(&part.api_groups), first(&part.resources)) else {
        return false;
    };
    let (resource, sub) = resource.split_once('/').unwrap_or((&resource, ""));
    let names = rule.resource_names.as_deref().unwrap_or_default();
    has(&rule.api_groups, &group)
        && rbac::covers_resource(rule.resources.as_deref(), resource, sub)
        && (names.is_empty() || first(&part.resource_names).is_some_and(|n| names.contains(&n)))
}

fn refusal(user: &User, info: &KindInfo, name: &str, missing: &[PolicyRule]) -> Failure {
    let mut lines: Vec<String> = missing.iter().map(line).collect();
    lines.sort();
    let why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        go_list(&user.groups),
        lines.join("\n"),
    );
    Failure::refused(info, name, &why)
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`
fn line(rule: &PolicyRule) -> String {
    let field = |name: &str, list: Option<&Vec<String>>| {
        list.filter(|l| !l.is_empty()).map(|l| format!("{name}:{}", comma_list(l)))
    };
    let fields = [
        field("APIGroups", rule.api_groups.as_ref()),
        field("Resources", rule.resources.as_ref()),
        field("ResourceNames", rule.resource_names.as_ref()),
        field("NonResourceURLs", rule.non_resource_urls.as_ref()),
        field("Verbs", Some(&rule.verbs)),
    ];
    format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// `["a" "b"]`
fn go_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn comma_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(", "))
}
