//! Freezes: times in which the cluster stays as it is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    kinds::{Kind, field::Check},
    model::Timestamp,
};

/// A time in which the cluster stays as it is: commits that change something are held until it
/// ends. It begins and ends by a commit, or by its time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// `mainstay.io/v1`
    pub api_version: String,
    /// `Freeze`
    pub kind: String,
    /// A name of its own.
    pub metadata: ObjectMeta,
    /// How long, why, and what of the repository.
    #[serde(default)]
    pub spec: FreezeSpec,
}

/// How long, why, and what of which repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreezeSpec {
    /// When it ends by itself (RFC 3339).
    #[serde(default)]
    pub until: String,
    /// Why; whoever is held reads it.
    #[serde(default)]
    pub reason: String,
    /// Folders or files whose objects stay as they are; with `namespaces`, either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Namespaces whose objects stay as they are. Without these and `paths`: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The sources whose commits are held (`main`, or the name of a GitSource); all when empty. A
    /// freeze that another source than `main` holds is for that one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl FreezeSpec {
    /// When it ends; none when that is no time.
    pub fn end(&self) -> Option<Timestamp> {
        let at: k8s_openapi::jiff::Timestamp = self.until.parse().ok()?;
        Some(Timestamp(at.as_millisecond()))
    }
}

impl Kind for Freeze {
    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        if spec.until.is_empty() {
            check.required("spec.until", "when it ends, as 2026-12-24T18:00:00Z");
        } else if spec.end().is_none() {
            let why = "must be a time with a zone, as 2026-12-24T18:00:00Z";
            check.invalid("spec.until", &spec.until, why);
        }
        if spec.reason.trim().is_empty() {
            check.required("spec.reason", "whoever is held reads it");
        }
        for (at, path) in spec.paths.iter().enumerate() {
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                let why = "must be a path inside the repository, as apps/shop";
                check.invalid(format!("spec.paths[{at}]"), path, why);
            }
        }
    }
}
