//! Patches: a live value and a patch to the value that is wanted. Pure.
//!
//! In: values, the [`Schema`] of their kind, and who writes. Out: values with their managedFields,
//! or a [`PatchError`] that the handlers turn into a Status. [`Patch::parse`] reads a body,
//! [`apply`] does JSON patches, merge patches and strategic merge patches, [`serverside::apply`]
//! server-side apply (live or not), [`managed::update`] the book-keeping of every other write.
//! Called by [`resources`](super::resources). Never here: defaults, validation, versions, clocks.

mod fields;
mod json;
pub(super) mod managed;
mod merge;
mod schema;
pub(super) mod serverside;
mod strategic;
mod walk;

use std::fmt;

use serde_json::Value;

use super::codec;
pub(super) use schema::Schema;

/// What a patch is, by its content type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Patch {
    /// RFC 6902.
    Json(Vec<Value>),
    /// RFC 7386.
    Merge(Value),
    /// kubectl's default: lists of objects by their merge keys.
    Strategic(Value),
    /// Server-side apply: everything one manager wants.
    Apply(Value),
}

/// Why a patch gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    /// 415.
    #[error("415: Unsupported Media Type")]
    UnknownType,
    /// 415: a strategic merge patch of a kind that a definition added.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )]
    NotStrategic,
    /// 400.
    #[error("{0}")]
    Malformed(String),
    /// 413: it would take more than its bound.
    #[error("{0}")]
    TooLarge(String),
    /// 422 without causes: an operation that does not go.
    #[error("the server rejected our request due to an error in our request")]
    Rejected,
    /// 422 with a cause on `patch`.
    #[error("patch: Invalid value: {value:?}: {why}")]
    Invalid {
        /// The patch, for the message.
        value: String,
        /// What does not fit.
        why: String,
    },
    /// 500 without a reason, as Kubernetes answers patches that do not fit the schema.
    #[error("{0}")]
    Unfit(String),
    /// 409, one cause a field.
    #[error("{}", serverside::conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

/// A field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Conflict {
    /// Who, in Kubernetes' words: `"kubectl" using v1`.
    pub(super) manager: String,
    /// `.spec.containers[name="web"].image`
    pub(super) field: String,
}

impl Patch {
    /// Reads a patch. Also gives what strict reading finds wrong with the text.
    pub(super) fn parse(bytes: &[u8], media: &str) -> Result<(Self, Vec<String>), PatchError> {
        let make = match media.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => return json::parse(bytes),
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" => Self::Strategic,
            "application/apply-patch+yaml" => Self::Apply,
            _ => return Err(PatchError::UnknownType),
        };
        let is_apply = make(Value::Null) == Self::Apply(Value::Null);
        let decoded = if is_apply { codec::yaml(bytes) } else { codec::json(bytes) };
        let decoded = decoded.map_err(|error| match is_apply {
            true => PatchError::Malformed(format!("error decoding YAML: {error}")),
            false => PatchError::Malformed("invalid JSON patch".to_owned()),
        })?;
        match decoded.value.is_object() {
            true => Ok((make(decoded.value), decoded.problems)),
            false => Err(PatchError::Malformed("invalid JSON patch".to_owned())),
        }
    }
}

impl fmt::Display for Patch {
    /// As Kubernetes names a patch that it refuses.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(operations) => write!(formatter, "{}", Value::from(operations.as_slice())),
            Self::Strategic(Value::Object(map)) => formatter.write_str(&strategic::go(map)),
            Self::Merge(value) | Self::Strategic(value) | Self::Apply(value) => {
                write!(formatter, "{value}")
            }
        }
    }
}

/// Applies a patch that is not server-side apply. Custom kinds refuse strategic merge patches.
pub(super) fn apply(live: &Value, patch: &Patch, schema: Schema<'_>) -> Result<Value, PatchError> {
    match patch {
        Patch::Json(operations) => json::apply(live, operations),
        Patch::Merge(patch) => Ok(merge::apply(live, patch)),
        Patch::Strategic(patch) if schema.is_built_in() => strategic::apply(live, patch, schema),
        Patch::Strategic(_) => Err(PatchError::NotStrategic),
        Patch::Apply(_) => Err(PatchError::UnknownType),
    }
}

#[cfg(test)]
mod tests;
