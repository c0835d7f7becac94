//! Roles and their bindings (kubernetes.io/docs/reference/access-authn-authz/rbac).

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use super::{Target, Wish};
use crate::{api::authn::User, state::View};

const ALL: &str = "*";

/// Whether a rule of somebody's roles grants a wish.
pub(super) fn may(view: &View, wish: &Wish<'_>) -> bool {
    let namespace = match wish.target {
        Target::Path(_) => "",
        Target::Resource(resource, _) => resource.namespace.as_str(),
    };
    bound(view, wish.user, namespace)
        .any(|bound| rules(view, bound.role, namespace).iter().any(|rule| grants(rule, wish)))
}

/// Which binding and role grant a wish, in Kubernetes' words; empty when none does.
pub(super) fn reason(view: &View, wish: &Wish<'_>) -> String {
    let namespace = match wish.target {
        Target::Path(_) => "",
        Target::Resource(resource, _) => resource.namespace.as_str(),
    };
    let found = bound(view, wish.user, namespace)
        .find(|bound| rules(view, bound.role, namespace).iter().any(|rule| grants(rule, wish)));
    found.map(|bound| bound.reason()).unwrap_or_default()
}

/// Every rule that somebody has in a namespace; cluster-wide ones alone when it is empty.
pub(in crate::api) fn rules_of(view: &View, user: &User, namespace: &str) -> Vec<PolicyRule> {
    let roles = bound(view, user, namespace);
    roles.flat_map(|bound| rules(view, bound.role, namespace).to_vec()).collect()
}

/// A role that is bound to somebody.
struct Bound<'a> {
    role: &'a RoleRef,
    /// As which of the binding's subjects.
    subject: &'a Subject,
    binding: &'a str,
    /// The binding's; empty for one of the whole cluster.
    namespace: &'a str,
}

impl Bound<'_> {
    /// `RBAC: allowed by ClusterRoleBinding "view" of ClusterRole "view" to User "jane"`
    fn reason(&self) -> String {
        let Self { role, subject, binding, namespace } = self;
        let by = match *namespace {
            "" => format!("ClusterRoleBinding {binding:?}"),
            namespace => {
                let name = format!("{binding}/{namespace}");
                format!("RoleBinding {name:?}")
            }
        };
        let to = match subject.kind.as_str() {
            "ServiceAccount" => {
                let of = subject.namespace.as_deref().unwrap_or(namespace);
                format!("{}/{of}", subject.name)
            }
            _ => subject.name.clone(),
        };
        let (kind, name) = (&role.kind, &role.name);
        format!("RBAC: allowed by {by} of {kind} {name:?} to {} {to:?}", subject.kind)
    }
}

/// The roles that are bound to somebody.
fn bound<'a>(
    view: &'a View,
    user: &'a User,
    namespace: &'a str,
) -> impl Iterator<Item = Bound<'a>> {
    let wide = view.list::<ClusterRoleBinding>(None);
    let wide = wide.map(|(_, b)| (&b.metadata, &b.role_ref, b.subjects.as_deref(), ""));
    let inside = (!namespace.is_empty()).then(|| view.list::<RoleBinding>(Some(namespace)));
    let inside = inside.into_iter().flatten();
    let inside =
        inside.map(move |(_, b)| (&b.metadata, &b.role_ref, b.subjects.as_deref(), namespace));
    wide.chain(inside).filter_map(move |(meta, role, subjects, namespace)| {
        let mut subjects = subjects.unwrap_or_default().iter();
        let subject = subjects.find(|subject| is(subject, user, namespace))?;
        let binding = meta.name.as_deref().unwrap_or_default();
        Some(Bound { role, subject, binding, namespace })
    })
}

/// Whether a subject of a binding is this user; `namespace` is the binding's own.
fn is(subject: &Subject, user: &User, namespace: &str) -> bool {
    match subject.kind.as_str() {
        "User" => subject.name == user.name,
        "Group" => user.is_in(&subject.name),
        "ServiceAccount" => {
            let of = subject.namespace.as_deref().unwrap_or(namespace);
            !of.is_empty() && user.service_account() == Some((of, subject.name.as_str()))
        }
        _ => false,
    }
}

/// The rules of the role that a binding names; none when it does not exist. Those of a role that
/// aggregates are filled in by a controller.
pub(super) fn rules<'a>(view: &'a View, role: &RoleRef, namespace: &str) -> &'a [PolicyRule] {
    let rules = match role.kind.as_str() {
        "ClusterRole" => view.get::<ClusterRole>("", &role.name).map(|found| &found.rules),
        "Role" => view.get::<Role>(namespace, &role.name).map(|found| &found.rules),
        _ => None,
    };
    rules.and_then(|rules| rules.as_deref()).unwrap_or_default()
}

/// Whether one rule grants a wish.
pub(super) fn grants(rule: &PolicyRule, wish: &Wish<'_>) -> bool {
    let verb = rule.verbs.iter().any(|verb| verb == ALL || verb == wish.verb);
    verb && match wish.target {
        Target::Path(path) => covers_path(rule.non_resource_urls.as_deref(), path),
        Target::Resource(asked, _) => {
            has(rule.api_groups.as_deref(), &asked.group)
                && covers_resource(rule.resources.as_deref(), &asked.resource, &asked.subresource)
                && covers_name(rule.resource_names.as_deref(), &asked.name)
        }
    }
}

fn has(list: Option<&[String]>, wanted: &str) -> bool {
    list.unwrap_or_default().iter().any(|found| found == ALL || found == wanted)
}

/// `pods`, `pods/log`, `*`, and `*/scale`: that subresource of everything.
pub(super) fn covers_resource(list: Option<&[String]>, resource: &str, sub: &str) -> bool {
    list.unwrap_or_default().iter().any(|found| match found.split_once('/') {
        _ if found == ALL => true,
        None => sub.is_empty() && found == resource,
        Some((ALL, of)) => !sub.is_empty() && of == sub,
        Some((of, found)) => of == resource && found == sub,
    })
}

fn covers_name(list: Option<&[String]>, name: &str) -> bool {
    let list = list.unwrap_or_default();
    list.is_empty() || list.iter().any(|found| found == name)
}

/// `/healthz`, `/healthz/*`, `*`.
pub(super) fn covers_path(list: Option<&[String]>, path: &str) -> bool {
    list.unwrap_or_default().iter().any(|found| match found.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => found == path,
    })
}
