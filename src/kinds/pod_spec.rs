//! What is wrong with the spec of a pod, alone or in a template.

use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};

use super::{field::Check, meta};

/// A template of a Deployment or ReplicaSet.
pub(super) fn validate_template(at: &str, template: &PodTemplateSpec, check: &mut Check) {
    if let Some(metadata) = &template.metadata {
        let labels = format!("{at}.metadata.labels");
        meta::validate_labels(&labels, metadata.labels.as_ref(), check);
        let annotations = format!("{at}.metadata.annotations");
        meta::validate_annotations(&annotations, metadata.annotations.as_ref(), check);
    }
    let spec = template.spec.clone().unwrap_or_default();
    validate(&format!("{at}.spec"), &spec, check);
}

/// The spec of a pod.
pub(super) fn validate(at: &str, spec: &PodSpec, check: &mut Check) {
    if spec.containers.is_empty() {
        check.required(format!("{at}.containers"), "");
    }
}
