//! Events of the core group, which `kubectl describe` and `kubectl get events` read.

use k8s_openapi::api::core::v1::Event;

use super::{Kind, field::Check};

impl Kind for Event {
    fn default_fields(&mut self) {
        if self.type_.as_deref().is_none_or(str::is_empty) {
            self.type_ = Some("Normal".to_owned());
        }
        self.reporting_component.get_or_insert_default();
        self.reporting_instance.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let about = self.involved_object.namespace.as_deref().filter(|n| !n.is_empty());
        let namespace = self.metadata.namespace.as_deref().unwrap_or("default");
        // An event about a cluster-scoped object lives in `default`.
        if let Some(about) = about.filter(|n| *n != namespace) {
            let text = "does not match event.namespace";
            check.invalid("involvedObject.namespace", about, text);
        }
    }
}
