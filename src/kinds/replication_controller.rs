//! ReplicationControllers, which came before ReplicaSets.

use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerStatus};

use super::{Kind, field::Check, meta, pod_defaults, pod_spec};
use crate::model::Selector;

impl Kind for ReplicationController {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        if let Some(template) = &mut spec.template {
            pod_defaults::template(template);
            let labels = template.metadata.as_ref().and_then(|m| m.labels.clone());
            for of in [&mut spec.selector, &mut self.metadata.labels] {
                if of.as_ref().is_none_or(|l| l.is_empty()) {
                    of.clone_from(&labels);
                }
            }
        }
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        check.not_negative("spec.replicas", spec.replicas.map(i64::from));
        check.not_negative("spec.minReadySeconds", spec.min_ready_seconds.map(i64::from));
        let selector = spec.selector.unwrap_or_default();
        if selector.is_empty() {
            check.required("spec.selector", "");
        }
        let Some(template) = &spec.template else {
            return check.required("spec.template", "");
        };
        let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
        if !selector.is_empty() && !Selector::from_labels(&selector).matches(labels) {
            let text = "`selector` does not match template `labels`";
            check.invalid("spec.template.metadata.labels", labels, text);
        }
        meta::validate_labels("spec.selector", Some(&selector), check);
        pod_spec::validate_template("spec.template", "ReplicationController", template, check);
    }

    fn prepare_create(&mut self) {
        self.status = Some(ReplicationControllerStatus::default());
    }
}
