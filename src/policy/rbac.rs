//! Roles and their bindings (kubernetes.io/docs/reference/access-authn-authz/rbac).

use k8s_openapi::{
    Metadata,
    api::rbac::v1::{
        ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;

use crate::{model::Revision, state::View};

const ALL: &str = "*";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// `jane`, `system:serviceaccount:shop:web`
    pub name: &'a str,
    /// The groups they belong to.
    pub groups: &'a [String],
}

impl<'a> Who<'a> {
    /// Namespace and name of the service account that asks.
    fn service_account(&self) -> Option<(&'a str, &'a str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A path that is no resource.
    Path(&'a str),
    /// A resource.
    Resource(Asked<'a>),
}

/// A resource that is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Its API group.
    pub group: &'a str,
    /// `deployments`
    pub resource: &'a str,
    /// `status`, `scale`; empty for the object itself.
    pub subresource: &'a str,
    /// Empty at the cluster scope.
    pub namespace: &'a str,
    /// Empty for a collection.
    pub name: &'a str,
}

/// Whether a rule of somebody's roles grants a verb.
pub fn may(view: &View, who: Who<'_>, verb: &str, what: What<'_>) -> bool {
    granting(view, who, verb, what).is_some()
}

/// The revision of the role or binding that changed last.
pub fn newest(view: &View) -> Revision {
    fn of<T>(view: &View) -> Revision
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static,
    {
        view.list::<T>(None).map(|(object, _)| object.revision()).max().unwrap_or_default()
    }
    let cluster = of::<ClusterRole>(view).max(of::<ClusterRoleBinding>(view));
    of::<Role>(view).max(of::<RoleBinding>(view)).max(cluster)
}

/// Which binding and role grant a verb, in Kubernetes' words; empty when none does.
pub fn reason(view: &View, who: Who<'_>, verb: &str, what: What<'_>) -> String {
    granting(view, who, verb, what).map(|bound| bound.reason()).unwrap_or_default()
}

fn granting<'a>(view: &'a View, who: Who<'a>, verb: &str, what: What<'a>) -> Option<Bound<'a>> {
    let namespace = match what {
        What::Path(_) => "",
        What::Resource(asked) => asked.namespace,
    };
    bound(view, who, namespace)
        .find(|bound| rules(view, bound.role, namespace).iter().any(|r| grants(r, verb, what)))
}

/// Every rule that somebody has in a namespace; cluster-wide ones alone when it is empty.
pub fn rules_of(view: &View, who: Who<'_>, namespace: &str) -> Vec<PolicyRule> {
    let roles = bound(view, who, namespace);
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
fn bound<'a>(view: &'a View, who: Who<'a>, namespace: &'a str) -> impl Iterator<Item = Bound<'a>> {
    let wide = view.list::<ClusterRoleBinding>(None);
    let wide = wide.map(|(_, b)| (&b.metadata, &b.role_ref, b.subjects.as_deref(), ""));
    let inside = (!namespace.is_empty()).then(|| view.list::<RoleBinding>(Some(namespace)));
    let inside = inside.into_iter().flatten();
    let inside =
        inside.map(move |(_, b)| (&b.metadata, &b.role_ref, b.subjects.as_deref(), namespace));
    wide.chain(inside).filter_map(move |(meta, role, subjects, namespace)| {
        let mut subjects = subjects.unwrap_or_default().iter();
        let subject = subjects.find(|subject| is(subject, who, namespace))?;
        let binding = meta.name.as_deref().unwrap_or_default();
        Some(Bound { role, subject, binding, namespace })
    })
}

/// Whether a subject of a binding is this user; `namespace` is the binding's own.
fn is(subject: &Subject, who: Who<'_>, namespace: &str) -> bool {
    match subject.kind.as_str() {
        "User" => subject.name == who.name,
        "Group" => who.groups.contains(&subject.name),
        "ServiceAccount" => {
            let of = subject.namespace.as_deref().unwrap_or(namespace);
            !of.is_empty() && who.service_account() == Some((of, subject.name.as_str()))
        }
        _ => false,
    }
}

/// The rules of the role that a binding names; none when it does not exist. Those of a role that
/// aggregates are filled in by a controller.
pub fn rules<'a>(view: &'a View, role: &RoleRef, namespace: &str) -> &'a [PolicyRule] {
    let rules = match role.kind.as_str() {
        "ClusterRole" => view.get::<ClusterRole>("", &role.name).map(|found| &found.rules),
        "Role" => view.get::<Role>(namespace, &role.name).map(|found| &found.rules),
        _ => None,
    };
    rules.and_then(|rules| rules.as_deref()).unwrap_or_default()
}

/// Whether one rule grants a verb.
fn grants(rule: &PolicyRule, verb: &str, what: What<'_>) -> bool {
    let named = rule.verbs.iter().any(|found| found == ALL || found == verb);
    named
        && match what {
            What::Path(path) => covers_path(rule.non_resource_urls.as_deref(), path),
            What::Resource(asked) => {
                has(rule.api_groups.as_deref(), asked.group)
                    && covers_resource(rule.resources.as_deref(), asked.resource, asked.subresource)
                    && covers_name(rule.resource_names.as_deref(), asked.name)
            }
        }
}

fn has(list: Option<&[String]>, wanted: &str) -> bool {
    list.unwrap_or_default().iter().any(|found| found == ALL || found == wanted)
}

/// Whether a rule covers a resource: `pods`, `pods/log`, `*`, and `*/scale`, that subresource of
/// everything.
pub fn covers_resource(list: Option<&[String]>, resource: &str, sub: &str) -> bool {
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

/// Whether a rule covers a path: `/healthz`, `/healthz/*`, `*`.
pub fn covers_path(list: Option<&[String]>, path: &str) -> bool {
    list.unwrap_or_default().iter().any(|found| match found.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => found == path,
    })
}
