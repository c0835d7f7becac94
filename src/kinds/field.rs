//! What is wrong with one field, worded as Kubernetes words it.

use std::fmt;

/// Why a field is refused. The names are those of Kubernetes' `details.causes[].reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The field is absent or empty and must not be.
    Required,
    /// The value does not fit the field.
    Invalid,
    /// The value is none of those that are known.
    NotSupported,
    /// The field must not be set here.
    Forbidden,
    /// The value stands there twice.
    Duplicate,
    /// The text or the bytes are too many.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The JSON type is wrong (a string where an integer belongs).
    TypeInvalid,
    /// The type is none that the schema of a custom kind allows; the object can be read all the
    /// same.
    TypeUnfit,
    /// What the field names is not there.
    NotFound,
    /// No kind of Kubernetes has such a field here.
    Unknown,
}

impl Reason {
    /// The word in a Kubernetes Status: `FieldValueRequired`.
    pub fn as_cause(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid | Self::TypeUnfit => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::Unknown => "UnknownField",
        }
    }

    /// Whether Kubernetes answers 400 (the object cannot be read) rather than 422 (it can, and is
    /// wrong).
    pub fn is_decoding(self) -> bool {
        matches!(self, Self::TypeInvalid | Self::Unknown)
    }
}

/// One field that is wrong, or worth a warning.
///
/// `Display` gives `spec.replicas: Invalid value: -1: must be greater than or equal to 0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// The path from the root of the object: `spec.template.spec.containers[0].image`.
    pub field: String,
    /// Why.
    pub reason: Reason,
    /// What is wrong, whole: `Invalid value: -1: must be greater than or equal to 0`.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.detail);
        }
        write!(f, "{}: {}", self.field, self.detail)
    }
}

/// Gathers what is wrong with one object, so that everything is reported at once.
#[derive(Default)]
pub(super) struct Check {
    pub(super) errors: Vec<FieldError>,
    pub(super) warnings: Vec<FieldError>,
    /// Fields of [`super::Kind::NEEDED`] that the input does not have, which the typed object
    /// cannot tell.
    pub(super) absent: Vec<&'static str>,
}

impl Check {
    /// Adds one error.
    pub(super) fn error(&mut self, field: impl Into<String>, reason: Reason, detail: String) {
        self.errors.push(FieldError { field: field.into(), reason, detail });
    }

    /// `Required value` or `Required value: detail`.
    pub(super) fn required(&mut self, field: impl Into<String>, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.error(field, Reason::Required, format!("Required value{colon}{detail}"));
    }

    /// `Invalid value: VALUE: detail`.
    pub(super) fn invalid(
        &mut self,
        field: impl Into<String>,
        value: impl serde::Serialize,
        detail: impl fmt::Display,
    ) {
        let value = shown(&value);
        self.error(field, Reason::Invalid, format!("Invalid value: {value}: {detail}"));
    }

    /// `Unsupported value: VALUE: supported values: "A", "B"`.
    pub(super) fn not_supported(
        &mut self,
        field: impl Into<String>,
        value: impl serde::Serialize,
        supported: &[&str],
    ) {
        let list: Vec<String> = supported.iter().map(|v| format!("{v:?}")).collect();
        let detail =
            format!("Unsupported value: {}: supported values: {}", shown(&value), list.join(", "));
        self.error(field, Reason::NotSupported, detail);
    }

    /// `Forbidden: detail`.
    pub(super) fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        self.error(field, Reason::Forbidden, format!("Forbidden: {detail}"));
    }

    /// `Duplicate value: VALUE`.
    pub(super) fn duplicate(&mut self, field: impl Into<String>, value: impl serde::Serialize) {
        self.error(field, Reason::Duplicate, format!("Duplicate value: {}", shown(&value)));
    }

    /// `Not found: VALUE`.
    pub(super) fn not_found(&mut self, field: impl Into<String>, value: impl serde::Serialize) {
        self.error(field, Reason::NotFound, format!("Not found: {}", shown(&value)));
    }

    /// One of a closed set, or `Unsupported value`.
    pub(super) fn one_of(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        if !supported.contains(&value) {
            self.not_supported(field, value, supported);
        }
    }

    /// Zero or more.
    pub(super) fn not_negative(&mut self, field: impl Into<String>, value: Option<i64>) {
        if let Some(value) = value.filter(|v| *v < 0) {
            self.invalid(field, value, "must be greater than or equal to 0");
        }
    }

    /// Every message that a rule about one text gave.
    pub(super) fn text(&mut self, field: &str, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(field, value, message);
        }
    }

    /// A field that did not change, or `field is immutable`.
    pub(super) fn immutable<T: PartialEq + serde::Serialize>(
        &mut self,
        field: &str,
        old: &T,
        new: &T,
    ) {
        if old != new {
            self.invalid(field, new, "field is immutable");
        }
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        let (field, detail) = (field.into(), detail.into());
        self.warnings.push(FieldError { field, reason: Reason::Invalid, detail });
    }
}

/// A value as it stands in a message: JSON.
fn shown(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
