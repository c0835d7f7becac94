//! What a request says in its query: the options of lists, watches and writes.

use axum::{extract, http::StatusCode, http::Uri};

use super::{super::Failure, Ask, books, fields::Fields};
use crate::{
    kinds::{FieldError, Reason, Strictness},
    model::{Revision, Selector},
};

/// The pairs of a query, decoded.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub(in crate::api) fn of(uri: &Uri) -> Result<Self, Failure> {
        let read = extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        read.map(|query| Self(query.0)).map_err(|e| Failure::bad_request(e.to_string()))
    }

    /// The value of a name; an empty one says nothing.
    pub(in crate::api) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Every value of a name.
    pub(in crate::api) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A switch, as Go reads one; a name without a value is on.
    pub(in crate::api) fn flag(&self, name: &str) -> Option<bool> {
        let (_, value) = self.0.iter().find(|(found, _)| found == name)?;
        Some(matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

/// The state a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The newest.
    Newest,
    /// Whatever is at hand.
    Any,
    /// At least, or exactly, this one.
    At(Revision),
}

/// How `resourceVersion` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Unset,
    Exact,
    NotOlderThan,
}

/// Go's words for a text that is no number.
pub(super) fn no_number(parser: &str, text: &str) -> String {
    format!("strconv.{parser}: parsing {text:?}: invalid syntax")
}

/// Reads `resourceVersion`; the error is its wording alone.
pub(super) fn version(query: &Query) -> Result<Asked, String> {
    match query.get("resourceVersion") {
        None => Ok(Asked::Newest),
        Some("0") => Ok(Asked::Any),
        Some(text) => text.parse().map(|n| Asked::At(Revision(n))).map_err(|_| {
            let why = no_number("ParseUint", text);
            format!("resourceVersion: Invalid value: {text:?}: {why}")
        }),
    }
}

/// A failure that Kubernetes gives without a reason.
pub(super) fn without_reason(message: impl Into<String>) -> Failure {
    Failure::of(StatusCode::INTERNAL_SERVER_ERROR, "", message)
}

/// `ListOptions.meta.k8s.io "" is invalid: …`
pub(super) fn not_valid(options: &str, field: &str, reason: Reason, detail: String) -> Failure {
    let error = FieldError { field: field.to_owned(), reason, detail };
    Failure::not_valid((options, "meta.k8s.io"), "", &[error])
}

fn forbidden(field: &str, why: &str) -> Failure {
    not_valid("ListOptions", field, Reason::Forbidden, format!("Forbidden: {why}"))
}

/// Which objects of a collection.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) labels: Selector,
    pub(super) fields: Fields,
}

impl Filter {
    pub(super) fn of(ask: &Ask) -> Result<Self, Failure> {
        let query = &ask.query;
        let labels = query.get("labelSelector").unwrap_or_default();
        let labels = Selector::parse(labels).map_err(|e| Failure::bad_request(e.to_string()))?;
        let fields = query.get("fieldSelector").unwrap_or_default();
        let fields = Fields::parse(&ask.info, &ask.api_version, fields)?;
        Ok(Self { labels, fields })
    }

    pub(super) fn matches(&self, object: &crate::model::Object) -> bool {
        self.labels.matches(object.meta().labels.as_ref()) && self.fields.matches(object)
    }

    /// Whether this lets everything through.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

/// `resourceVersionMatch`, checked against what else is said.
pub(super) fn matching(query: &Query, watch: bool) -> Result<Match, Failure> {
    let initial = query.flag("sendInitialEvents");
    if initial.is_some() && !watch {
        return Err(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    let field = "resourceVersionMatch";
    let found = match query.get(field) {
        None if initial.is_some() => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(forbidden(field, why));
        }
        None => return Ok(Match::Unset),
        Some("Exact") => Match::Exact,
        Some("NotOlderThan") => Match::NotOlderThan,
        Some(other) => {
            let text = format!(
                "Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
            );
            return Err(not_valid("ListOptions", field, Reason::NotSupported, text));
        }
    };
    if watch && initial.is_none() {
        let why =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        return Err(forbidden(field, why));
    }
    if watch && found == Match::Exact {
        let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(forbidden(field, why));
    }
    if !watch && query.get("continue").is_some() {
        return Err(forbidden(
            field,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    match query.get("resourceVersion") {
        None if !watch => {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            Err(forbidden(field, why))
        }
        Some("0") if found == Match::Exact => {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            Err(forbidden(field, why))
        }
        _ => Ok(found),
    }
}

/// Refuses `continue` on a watch.
pub(super) fn no_continue(query: &Query) -> Result<(), Failure> {
    match query.get("continue") {
        Some(_) => Err(forbidden("continue", "continue is forbidden for watch")),
        None => Ok(()),
    }
}

/// A number of a query; absent is none.
pub(super) fn number(query: &Query, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let parsed = text.parse().map(Some);
    parsed.map_err(|_| Failure::bad_request(no_number("ParseInt", text)))
}

/// What a write may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteOptions {
    /// Answer as if, and change nothing.
    pub(super) dry_run: bool,
    /// What to do with fields that the kind does not have.
    pub(super) strictness: Strictness,
}

impl WriteOptions {
    /// Reads them; `options` is the name of Kubernetes' type (`CreateOptions`).
    pub(super) fn of(options: &str, query: &Query) -> Result<Self, Failure> {
        let strictness = match query.get("fieldValidation") {
            None | Some("Warn") => Strictness::Warn,
            Some("Strict") => Strictness::Strict,
            Some("Ignore") => Strictness::Ignore,
            Some(other) => {
                let text = format!(
                    "Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \
                     \"Warn\""
                );
                return Err(not_valid(options, "fieldValidation", Reason::NotSupported, text));
            }
        };
        let manager = query.get("fieldManager").and_then(books::name_fault);
        if let Some((reason, detail)) = manager {
            return Err(not_valid(options, "fieldManager", reason, detail));
        }
        let values: Vec<&str> = query.all("dryRun").collect();
        Ok(Self { dry_run: dry_run(options, &values)?, strictness })
    }
}

/// Reads `dryRun`, which knows one value.
pub(super) fn dry_run(options: &str, values: &[&str]) -> Result<bool, Failure> {
    if let Some(other) = values.iter().find(|value| !value.is_empty() && **value != "All") {
        let text = format!("Unsupported value: [{other:?}]: supported values: \"All\"");
        return Err(not_valid(options, "dryRun", Reason::NotSupported, text));
    }
    Ok(values.contains(&"All"))
}
