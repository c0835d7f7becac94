//! Definitions of kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::{Value, json};

use super::{Column, NAME, text::name};
use crate::model::{Object, Timestamp};

pub(in crate::kinds) const DEFINITION: [Column; 8] = [
    NAME,
    Column::text("Scope", "Whether its objects live in namespaces."),
    Column::text("Versions", "The versions of the kind, and which of them is stored."),
    Column { type_: "date", ..Column::text("Created At", "When the object was created.") },
    Column::text("Group", "The group of the kind.").wide(),
    Column::text("Kind", "The kind.").wide(),
    Column::text("ShortNames", "Short names of the kind.").wide(),
    Column::flag("Established", "Whether its objects are served.").wide(),
];

pub(in crate::kinds) fn definition(object: &Object, _: Timestamp) -> Option<Vec<Value>> {
    let definition: &CustomResourceDefinition = object.view()?;
    let spec = &definition.spec;
    let version = |v: &CustomResourceDefinitionVersion| {
        if v.storage { format!("{}(storage)", v.name) } else { v.name.clone() }
    };
    let versions: Vec<String> = spec.versions.iter().map(version).collect();
    let conditions = definition.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let established =
        conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True");
    Some(vec![
        name(object),
        spec.scope.clone().into(),
        versions.join(",").into(),
        json!(object.meta().creation_timestamp),
        spec.group.clone().into(),
        spec.names.kind.clone().into(),
        spec.names.short_names.as_deref().unwrap_or_default().join(",").into(),
        established.into(),
    ])
}
