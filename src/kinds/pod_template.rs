//! PodTemplates and ControllerRevisions: data that others read.

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::PodTemplate};

use super::{Kind, field::Check, pod_defaults, pod_spec};

impl Kind for PodTemplate {
    fn default_fields(&mut self) {
        pod_defaults::template(self.template.get_or_insert_default());
    }

    fn validate(&self, check: &mut Check) {
        let template = self.template.clone().unwrap_or_default();
        pod_spec::validate_any_template("template", &template, check);
    }
}

impl Kind for ControllerRevision {
    fn default_fields(&mut self) {
        self.revision.get_or_insert(0);
    }

    fn validate(&self, check: &mut Check) {
        check.not_negative("revision", self.revision);
        if self.data.0.is_null() {
            check.required("data", "data is mandatory");
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("data", &live.data, &self.data);
    }
}
