//! Namespaces.

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use super::Kind;

/// The label that every namespace carries, so that selectors can name it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Kind for Namespace {
    fn default_fields(&mut self) {
        if let Some(name) = self.metadata.name.clone() {
            self.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_create(&mut self) {
        let finalizers = self.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == "kubernetes") {
            finalizers.push("kubernetes".to_owned());
        }
        let phase = Some("Active".to_owned());
        self.status = Some(NamespaceStatus { phase, ..Default::default() });
    }

    fn prepare_update(&mut self, live: &Self) {
        self.spec.clone_from(&live.spec);
    }
}
