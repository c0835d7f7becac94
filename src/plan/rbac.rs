//! The roles and bindings that every cluster has
//! (kubernetes.io/docs/reference/access-authn-authz/rbac, default roles and role bindings).
//!
//! What is missing of them comes back, unless the object says
//! `rbac.authorization.kubernetes.io/autoupdate: "false"`; what people add to them stays.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::rbac::v1::{
        AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

use super::{Controller, Inputs, Plan, batch::Batch};
use crate::{
    model::{Key, Object},
    state::{Change, View},
};

const GROUP: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");
/// Labels of roles that are part of another: `…aggregate-to-edit: "true"`.
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Keeps the built-in roles and bindings.
pub(super) const CONTROLLER: Controller =
    Controller { name: "bootstrap-rbac-controller", affected, all, plan };

/// Verbs, API groups and resources, each a list with commas; or verbs and paths.
enum Rule {
    Of(&'static str, &'static str, &'static str),
    Paths(&'static str, &'static str),
}

struct BuiltIn {
    name: &'static str,
    /// Whose part it is.
    to: &'static str,
    /// Whether it has what is marked as part of it.
    aggregates: bool,
    rules: &'static [Rule],
}

const READ: &str = "get,list,watch";
const WRITE: &str = "create,delete,deletecollection,patch,update";
const SELF: &str = "selfsubjectaccessreviews,selfsubjectrulesreviews";
const DOCUMENTS: &str = "/api,/api/*,/apis,/apis/*,/healthz,/livez,/openapi,/openapi/*,/readyz,\
                         /version,/version/";
const CORE_VIEWED: &str = "configmaps,endpoints,persistentvolumeclaims,\
     persistentvolumeclaims/status,pods,replicationcontrollers,replicationcontrollers/scale,\
     serviceaccounts,services,services/status,bindings,events,limitranges,namespaces/status,\
     pods/log,pods/status,replicationcontrollers/status,resourcequotas,resourcequotas/status,\
     namespaces";
const CORE_EDITED: &str = "pods,pods/attach,pods/exec,pods/portforward,pods/proxy,configmaps,\
     events,persistentvolumeclaims,replicationcontrollers,replicationcontrollers/scale,secrets,\
     serviceaccounts,services,services/proxy";
const APPS_VIEWED: &str = "controllerrevisions,daemonsets,daemonsets/status,deployments,\
     deployments/scale,deployments/status,replicasets,replicasets/scale,replicasets/status,\
     statefulsets,statefulsets/scale,statefulsets/status";
const APPS_EDITED: &str = "daemonsets,deployments,deployments/rollback,deployments/scale,\
     replicasets,replicasets/scale,statefulsets,statefulsets/scale";

const ROLES: [BuiltIn; 16] = [
    BuiltIn {
        name: "cluster-admin",
        to: "",
        aggregates: false,
        rules: &[Rule::Of("*", "*", "*"), Rule::Paths("*", "*")],
    },
    BuiltIn { name: "admin", to: "", aggregates: true, rules: &[] },
    BuiltIn { name: "edit", to: "admin", aggregates: true, rules: &[] },
    BuiltIn { name: "view", to: "edit", aggregates: true, rules: &[] },
    BuiltIn {
        name: "system:aggregate-to-admin",
        to: "admin",
        aggregates: false,
        rules: &[
            Rule::Of("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            Rule::Of(
                "create,delete,deletecollection,get,list,patch,update,watch",
                GROUP,
                "rolebindings,roles",
            ),
        ],
    },
    BuiltIn {
        name: "system:aggregate-to-edit",
        to: "edit",
        aggregates: false,
        rules: &[
            Rule::Of(
                READ,
                "",
                "pods/attach,pods/exec,pods/portforward,pods/proxy,secrets,\
                services/proxy",
            ),
            Rule::Of("impersonate", "", "serviceaccounts"),
            Rule::Of(WRITE, "", CORE_EDITED),
            Rule::Of("create", "", "pods/eviction,serviceaccounts/token"),
            Rule::Of(WRITE, "apps", APPS_EDITED),
            Rule::Of(WRITE, "autoscaling", "horizontalpodautoscalers"),
            Rule::Of(WRITE, "batch", "cronjobs,jobs"),
            Rule::Of(WRITE, "networking.k8s.io", "ingresses,networkpolicies"),
            Rule::Of(WRITE, "policy", "poddisruptionbudgets"),
            Rule::Of(
                "create,delete,deletecollection,get,list,patch,update,watch",
                "coordination.k8s.io",
                "leases",
            ),
        ],
    },
    BuiltIn {
        name: "system:aggregate-to-view",
        to: "view",
        aggregates: false,
        rules: &[
            Rule::Of(READ, "", CORE_VIEWED),
            Rule::Of(READ, "discovery.k8s.io", "endpointslices"),
            Rule::Of(READ, "apps", APPS_VIEWED),
            Rule::Of(
                READ,
                "autoscaling",
                "horizontalpodautoscalers,horizontalpodautoscalers/status",
            ),
            Rule::Of(READ, "batch", "cronjobs,cronjobs/status,jobs,jobs/status"),
            Rule::Of(READ, "networking.k8s.io", "ingresses,ingresses/status,networkpolicies"),
            Rule::Of(READ, "policy", "poddisruptionbudgets,poddisruptionbudgets/status"),
        ],
    },
    BuiltIn {
        name: "system:aggregated-metrics-reader",
        to: "view",
        aggregates: false,
        rules: &[Rule::Of(READ, "metrics.k8s.io", "nodes,pods")],
    },
    BuiltIn {
        name: "system:auth-delegator",
        to: "",
        aggregates: false,
        rules: &[
            Rule::Of("create", "authentication.k8s.io", "tokenreviews"),
            Rule::Of("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    },
    BuiltIn {
        name: "system:basic-user",
        to: "",
        aggregates: false,
        rules: &[
            Rule::Of("create", "authorization.k8s.io", SELF),
            Rule::Of("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    },
    BuiltIn {
        name: "system:discovery",
        to: "",
        aggregates: false,
        rules: &[Rule::Paths("get", DOCUMENTS)],
    },
    BuiltIn {
        name: "system:monitoring",
        to: "",
        aggregates: false,
        rules: &[Rule::Paths(
            "get",
            "/healthz,/healthz/*,/livez,/livez/*,/metrics,/metrics/argocd,/metrics/flux,\
            /metrics/slis,/readyz,/readyz/*",
        )],
    },
    BuiltIn {
        name: "system:node",
        to: "",
        aggregates: false,
        rules: &[
            Rule::Of("create", "authentication.k8s.io", "tokenreviews"),
            Rule::Of(
                "create",
                "authorization.k8s.io",
                "localsubjectaccessreviews,subjectaccessreviews",
            ),
            Rule::Of(READ, "", "services"),
            Rule::Of("create,get,list,watch", "", "nodes"),
            Rule::Of("patch,update", "", "nodes/status"),
            Rule::Of("create,patch,update", "", "events"),
        ],
    },
    BuiltIn {
        name: "system:node-bootstrapper",
        to: "",
        aggregates: false,
        rules: &[Rule::Of(
            "create,get,list,watch",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )],
    },
    BuiltIn {
        name: "system:public-info-viewer",
        to: "",
        aggregates: false,
        rules: &[Rule::Paths("get", "/healthz,/livez,/readyz,/version,/version/")],
    },
    BuiltIn {
        name: "system:service-account-issuer-discovery",
        to: "",
        aggregates: false,
        rules: &[Rule::Paths("get", "/.well-known/openid-configuration,/openid/v1/jwks")],
    },
];

/// Bindings, each to the role of its name, with the groups it is for.
const BINDINGS: [(&str, &[&str]); 7] = [
    ("cluster-admin", &["system:masters"]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:discovery", &["system:authenticated"]),
    ("system:monitoring", &["system:monitoring"]),
    ("system:node-bootstrapper", &["system:bootstrappers"]),
    ("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
    ("system:service-account-issuer-discovery", &["system:serviceaccounts"]),
];

fn all(_view: &View) -> BTreeSet<Key> {
    let roles = ROLES.iter().map(|role| Key::of::<ClusterRole>("", role.name));
    roles.chain(BINDINGS.iter().map(|(name, _)| Key::of::<ClusterRoleBinding>("", name))).collect()
}

fn affected(change: &Change, view: &View) -> BTreeSet<Key> {
    let ours = change.key.is::<ClusterRole>() || change.key.is::<ClusterRoleBinding>();
    if ours && all(view).contains(&change.key) { [change.key.clone()].into() } else { [].into() }
}

fn plan(view: &View, key: &Key, _inputs: &Inputs<'_>) -> Plan {
    let mut batch = Batch::default();
    let live = view.object(key);
    if live.is_some_and(|o| o.is_terminating() || o.annotation(AUTOUPDATE) == Some("false")) {
        return batch.into_plan(None);
    }
    let name = key.name.as_str();
    if let Some(of) = ROLES.iter().find(|role| key.is::<ClusterRole>() && role.name == name) {
        let wanted = role(of);
        match live.and_then(|live| Some((live, live.view::<ClusterRole>()?))) {
            None => batch.create(&wanted),
            Some((live, found)) => complete(&mut batch, live, found, wanted),
        }
    } else if let Some((_, groups)) = BINDINGS.iter().find(|(binding, _)| *binding == name) {
        let wanted = binding(name, groups);
        match live.and_then(|live| Some((live, live.view::<ClusterRoleBinding>()?))) {
            None => batch.create(&wanted),
            Some((live, found)) => rebind(&mut batch, live, found, wanted),
        }
    }
    batch.into_plan(None)
}

/// Adds the rules that a role lost.
fn complete(batch: &mut Batch, live: &Object, found: &ClusterRole, wanted: ClusterRole) {
    let mut next = found.clone();
    next.aggregation_rule = next.aggregation_rule.or(wanted.aggregation_rule);
    let rules = wanted.rules.unwrap_or_default();
    let lost = rules.into_iter().filter(|rule| !found.rules.iter().flatten().any(|r| r == rule));
    let lost: Vec<PolicyRule> = lost.collect();
    if !lost.is_empty() {
        next.rules.get_or_insert_default().extend(lost);
    }
    if next != *found {
        batch.update(live, &next);
    }
}

/// Adds the groups that a binding lost.
fn rebind(
    batch: &mut Batch,
    live: &Object,
    found: &ClusterRoleBinding,
    wanted: ClusterRoleBinding,
) {
    let has = |subject: &Subject| {
        let mut subjects = found.subjects.iter().flatten();
        subjects.any(|s| s.kind == subject.kind && s.name == subject.name)
    };
    let subjects = wanted.subjects.unwrap_or_default();
    let lost: Vec<Subject> = subjects.into_iter().filter(|subject| !has(subject)).collect();
    if !lost.is_empty() {
        let mut next = found.clone();
        next.subjects.get_or_insert_default().extend(lost);
        batch.update(live, &next);
    }
}

fn meta(name: &str, to: &str) -> ObjectMeta {
    let mut labels = BTreeMap::from([(BOOTSTRAPPING.0.to_owned(), BOOTSTRAPPING.1.to_owned())]);
    if !to.is_empty() {
        labels.insert(format!("{AGGREGATE_TO}{to}"), "true".to_owned());
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: Some([(AUTOUPDATE.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

fn role(of: &BuiltIn) -> ClusterRole {
    let label = (format!("{AGGREGATE_TO}{}", of.name), "true".to_owned());
    let selector = LabelSelector { match_labels: Some([label].into()), ..LabelSelector::default() };
    ClusterRole {
        metadata: meta(of.name, of.to),
        aggregation_rule: of
            .aggregates
            .then(|| AggregationRule { cluster_role_selectors: Some(vec![selector]) }),
        rules: (!of.rules.is_empty()).then(|| of.rules.iter().map(rule).collect()),
    }
}

fn rule(of: &Rule) -> PolicyRule {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    match of {
        Rule::Of(verbs, groups, resources) => PolicyRule {
            verbs: list(verbs),
            api_groups: Some(list(groups)),
            resources: Some(list(resources)),
            ..PolicyRule::default()
        },
        Rule::Paths(verbs, paths) => PolicyRule {
            verbs: list(verbs),
            non_resource_urls: Some(list(paths)),
            ..PolicyRule::default()
        },
    }
}

fn binding(name: &str, groups: &[&str]) -> ClusterRoleBinding {
    let subject = |group: &&str| Subject {
        api_group: Some(GROUP.to_owned()),
        kind: "Group".to_owned(),
        name: (*group).to_owned(),
        namespace: None,
    };
    ClusterRoleBinding {
        metadata: meta(name, ""),
        role_ref: RoleRef {
            api_group: Some(GROUP.to_owned()),
            kind: "ClusterRole".to_owned(),
            name: name.to_owned(),
        },
        subjects: Some(groups.iter().map(subject).collect()),
    }
}
