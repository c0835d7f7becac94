//! What is asked for and answered but never stored: reviews, bindings, and what nodes and pods use.

use k8s_openapi::{
    api::{
        authentication::v1::{SelfSubjectReview, TokenReview},
        authorization::v1::{
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview,
        },
        core::v1::Binding,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use std::collections::BTreeMap;

use super::definitions::define;

/// A resource that is answered but not stored.
#[derive(Debug)]
pub struct Answered {
    /// Its API group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// `tokenreviews`
    pub plural: &'static str,
    /// `tokenreview`
    pub singular: &'static str,
    /// `TokenReview`
    pub kind: &'static str,
    /// Whether it is asked for in a namespace.
    pub namespaced: bool,
    /// What may be asked.
    pub verbs: &'static [&'static str],
    /// Puts its shape among the definitions.
    pub(super) define: fn(&mut SchemaGenerator) -> String,
}

impl Answered {
    /// `authentication.k8s.io/v1`
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The kind of its lists; `None` for what is only created.
    pub fn list_kind(&self) -> Option<String> {
        self.verbs.contains(&"list").then(|| format!("{}List", self.kind))
    }
}

/// The group and version of what nodes and pods use.
pub const METRICS: &str = "metrics.k8s.io/v1beta1";

/// Resources that are answered but not stored.
pub const ANSWERED: &[Answered] = &[
    asked::<Binding>("", ["bindings", "binding", "Binding"], true),
    asked::<SelfSubjectReview>(
        "authentication.k8s.io",
        ["selfsubjectreviews", "selfsubjectreview", "SelfSubjectReview"],
        false,
    ),
    asked::<TokenReview>(
        "authentication.k8s.io",
        ["tokenreviews", "tokenreview", "TokenReview"],
        false,
    ),
    asked::<LocalSubjectAccessReview>(
        "authorization.k8s.io",
        ["localsubjectaccessreviews", "localsubjectaccessreview", "LocalSubjectAccessReview"],
        true,
    ),
    asked::<SelfSubjectAccessReview>(
        "authorization.k8s.io",
        ["selfsubjectaccessreviews", "selfsubjectaccessreview", "SelfSubjectAccessReview"],
        false,
    ),
    asked::<SelfSubjectRulesReview>(
        "authorization.k8s.io",
        ["selfsubjectrulesreviews", "selfsubjectrulesreview", "SelfSubjectRulesReview"],
        false,
    ),
    asked::<SubjectAccessReview>(
        "authorization.k8s.io",
        ["subjectaccessreviews", "subjectaccessreview", "SubjectAccessReview"],
        false,
    ),
    measured::<NodeMetrics>(["nodes", "nodemetrics", "NodeMetrics"], false),
    measured::<PodMetrics>(["pods", "podmetrics", "PodMetrics"], true),
];

/// A resource by plural, singular and kind that is only ever created.
const fn asked<T: JsonSchema>(
    group: &'static str,
    names: [&'static str; 3],
    namespaced: bool,
) -> Answered {
    let [plural, singular, kind] = names;
    let verbs = &["create"];
    Answered {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        namespaced,
        verbs,
        define: define::<T>,
    }
}

/// What `metrics.k8s.io` tells of a resource.
const fn measured<T: JsonSchema>(names: [&'static str; 3], namespaced: bool) -> Answered {
    let [plural, singular, kind] = names;
    let (group, version, verbs) = ("metrics.k8s.io", "v1beta1", &["get", "list"]);
    Answered { group, version, plural, singular, kind, namespaced, verbs, define: define::<T> }
}

/// What a node uses.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics")]
pub struct NodeMetrics {
    /// Group and version of the object's kind.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Name and labels of the node.
    pub metadata: ObjectMeta,
    /// The end of the time that was measured.
    pub timestamp: Time,
    /// How long was measured, as Go writes a duration.
    pub window: String,
    /// What was used meanwhile: processor time by the second, memory at the end.
    pub usage: BTreeMap<String, Quantity>,
}

/// What the containers of a pod use.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics")]
pub struct PodMetrics {
    /// Group and version of the object's kind.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Name, namespace and labels of the pod.
    pub metadata: ObjectMeta,
    /// The end of the time that was measured.
    pub timestamp: Time,
    /// How long was measured, as Go writes a duration.
    pub window: String,
    /// Its containers.
    pub containers: Vec<ContainerMetrics>,
}

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "io.k8s.metrics.pkg.apis.metrics.v1beta1.ContainerMetrics")]
pub struct ContainerMetrics {
    /// The container's name in its pod.
    pub name: String,
    /// What it used: processor time by the second, memory at the end.
    pub usage: BTreeMap<String, Quantity>,
}
