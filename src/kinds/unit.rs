//! Sources that are taken by unit: what says so, and what is a unit.

use k8s_openapi::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GitSource, GitSourceSpec, names, own::SOURCE_NAME_MAX};

/// What of a source is taken or refused as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Atomic {
    /// A commit: one problem refuses all of it.
    #[default]
    Whole,
    /// Each folder directly below `path`, by itself: it becomes a `GitSource`
    /// `<name>-<folder>` of its own, and what is wrong with it holds up no other.
    Unit,
}

/// How the units of a source do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSourceUnits {
    /// How many there are.
    pub count: u64,
    /// How many of them are `Ready`.
    pub ready: u64,
}

impl GitSourceSpec {
    /// Whether each folder directly below its path is taken by itself.
    pub fn is_by_unit(&self) -> bool {
        self.atomic == Some(Atomic::Unit)
    }

    /// What the unit of a folder follows: what its source does, of that folder alone. What comes
    /// before it the source waits for, once for all.
    pub fn of_unit(&self, folder: &str) -> Self {
        Self { path: self.path_of(folder), atomic: None, depends_on: Vec::new(), ..self.clone() }
    }

    /// The path of something directly below its path.
    pub fn path_of(&self, name: &str) -> String {
        let path = self.path.trim_matches('/');
        if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
    }
}

impl GitSource {
    /// The name of the unit of a folder; `None` when no source can be called so.
    pub fn unit_name(source: &str, folder: &str) -> Option<String> {
        let name = format!("{source}-{folder}");
        let fits = name.len() <= SOURCE_NAME_MAX && names::dns1123_subdomain(&name).is_empty();
        fits.then_some(name)
    }

    /// The source of which it is a unit; `None` for one that Git names.
    pub fn parent(&self) -> Option<&str> {
        let mut owners = self.metadata.owner_references.iter().flatten();
        let is_source =
            |kind: &str, version: &str| kind == Self::KIND && version == super::API_VERSION;
        owners
            .find(|owner| {
                owner.controller == Some(true) && is_source(&owner.kind, &owner.api_version)
            })
            .map(|owner| owner.name.as_str())
    }
}
