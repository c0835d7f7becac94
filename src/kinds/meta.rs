//! The rules for metadata, which hold for every kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{KindInfo, field::Check, names};
use crate::model::Labels;

/// Most bytes the annotations of one object may hold: 256 KiB, as Kubernetes.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// Finalizers that need no domain before them.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Finds what is wrong with the metadata of an object.
pub(super) fn validate(info: &KindInfo, meta: &ObjectMeta, check: &mut Check) {
    validate_names(info, meta, check);
    validate_labels("metadata.labels", meta.labels.as_ref(), check);
    validate_annotations("metadata.annotations", meta.annotations.as_ref(), check);
    if meta.generation.is_some_and(|g| g < 0) {
        check.not_negative("metadata.generation", meta.generation);
    }
    validate_owners(meta, check);
    validate_finalizers(meta.finalizers.as_deref().unwrap_or_default(), check);
}

fn validate_names(info: &KindInfo, meta: &ObjectMeta, check: &mut Check) {
    if let Some(prefix) = meta.generate_name.as_deref().filter(|n| !n.is_empty()) {
        // A generated name ends in letters, so the prefix may end in a hyphen or a dot.
        let whole = format!("{}a", prefix.trim_end_matches('-'));
        check.text("metadata.generateName", prefix, (info.name_rule)(&whole));
    }
    match meta.name.as_deref().filter(|n| !n.is_empty()) {
        None => check.required("metadata.name", "name or generateName is required"),
        Some(name) => check.text("metadata.name", name, (info.name_rule)(name)),
    }
    match (info.namespaced, meta.namespace.as_deref().filter(|n| !n.is_empty())) {
        (true, Some(namespace)) => {
            check.text("metadata.namespace", namespace, names::dns1123_label(namespace));
        }
        (false, Some(_)) => check.forbidden("metadata.namespace", "not allowed on this type"),
        // The caller knows the namespace of the path or of the commit.
        (_, None) => {}
    }
}

fn validate_owners(meta: &ObjectMeta, check: &mut Check) {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    for (i, owner) in owners.iter().enumerate() {
        let at = format!("metadata.ownerReferences[{i}]");
        for (field, value) in [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                check.invalid(format!("{at}.{field}"), value, "must not be empty");
            }
        }
    }
    let mut controllers = owners.iter().filter(|o| o.controller == Some(true));
    if let (Some(a), Some(b)) = (controllers.next(), controllers.next()) {
        let text = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for \
             {}/{} and {}/{}",
            a.kind, a.name, b.kind, b.name
        );
        check.invalid("metadata.ownerReferences", owners, text);
    }
}

fn validate_finalizers(finalizers: &[String], check: &mut Check) {
    for (i, name) in finalizers.iter().enumerate() {
        check.text("metadata.finalizers", name, names::qualified_name(name));
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name.as_str()) {
            let text = "name is neither a standard finalizer name nor is it fully qualified";
            check.invalid(format!("metadata.finalizers[{i}]"), name, text);
        }
    }
    let has = |name: &str| finalizers.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let text = "finalizer \"orphan\" and \"foregroundDeletion\" cannot be both set";
        check.invalid("metadata.finalizers", finalizers, text);
    }
}

/// Finds what is wrong with labels.
pub(super) fn validate_labels(field: &str, labels: Option<&Labels>, check: &mut Check) {
    for (key, value) in labels.into_iter().flatten() {
        check.text(field, key, names::qualified_name(key));
        check.text(field, value, names::label_value(value));
    }
}

/// Finds what is wrong with annotations.
pub(super) fn validate_annotations(field: &str, annotations: Option<&Labels>, check: &mut Check) {
    let mut bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        check.text(field, key, names::qualified_name(&key.to_lowercase()));
        bytes += key.len() + value.len();
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        let text = format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes");
        check.error(field, super::Reason::TooLong, text);
    }
}

/// Finds what is wrong with a selector of labels.
pub(super) fn validate_selector(field: &str, selector: &LabelSelector, check: &mut Check) {
    let labels = format!("{field}.matchLabels");
    validate_labels(&labels, selector.match_labels.as_ref(), check);
    for (i, e) in selector.match_expressions.iter().flatten().enumerate() {
        let at = format!("{field}.matchExpressions[{i}]");
        let values = e.values.as_deref().unwrap_or_default();
        match e.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let text = "must be specified when `operator` is 'In' or 'NotIn'";
                check.required(format!("{at}.values"), text);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                check.forbidden(format!("{at}.values"), text);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                check.invalid(format!("{at}.operator"), other, "not a valid selector operator")
            }
        }
        check.text(&format!("{at}.key"), &e.key, names::qualified_name(&e.key));
        for (j, value) in values.iter().enumerate() {
            check.text(&format!("{at}.values[{j}]"), value, names::label_value(value));
        }
    }
}

/// Finds what must not change in metadata.
pub(super) fn validate_update(live: &ObjectMeta, new: &ObjectMeta, check: &mut Check) {
    if live.deletion_timestamp.is_none() {
        return;
    }
    let before = live.finalizers.as_deref().unwrap_or_default();
    let after = new.finalizers.as_deref().unwrap_or_default();
    let added: Vec<&String> = after.iter().filter(|f| !before.contains(f)).collect();
    if !added.is_empty() {
        let names: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
        let text = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            names.join(", ")
        );
        check.forbidden("metadata.finalizers", &text);
    }
}
