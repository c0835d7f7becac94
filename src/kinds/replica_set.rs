//! ReplicaSets.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use super::{Kind, deployment, field::Check, pod_defaults};

impl Kind for ReplicaSet {
    const NEEDED: &'static [&'static str] = &[deployment::SELECTOR];

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        let template = spec.template.get_or_insert_default();
        pod_defaults::template(template);
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        check.not_negative("spec.replicas", spec.replicas.map(i64::from));
        check.not_negative("spec.minReadySeconds", spec.min_ready_seconds.map(i64::from));
        let template = spec.template.clone().unwrap_or_default();
        deployment::validate_selector_and_template("replica set", &spec.selector, &template, check);
    }

    fn prepare_create(&mut self) {
        self.status = Some(ReplicaSetStatus::default());
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("spec.selector", &live.spec.selector, &self.spec.selector);
    }
}
