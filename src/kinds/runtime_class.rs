//! RuntimeClasses.

use k8s_openapi::api::node::v1::RuntimeClass;

use super::{Kind, amount, container, field::Check, meta, names, pod_spec};
use crate::model::Quantity;

impl Kind for RuntimeClass {
    const QUANTITIES: &'static [&'static str] = &["podFixed"];

    fn default_fields(&mut self) {
        amount::round(self.overhead.as_mut().and_then(|o| o.pod_fixed.as_mut()));
    }

    fn validate(&self, check: &mut Check) {
        check.text("handler", &self.handler, names::dns1123_label(&self.handler));
        let fixed = self.overhead.iter().flat_map(|o| o.pod_fixed.iter().flatten());
        for (name, amount) in fixed {
            let field = format!("overhead.podFixed[{name}]");
            container::resource_name(&field, name, check);
            if Quantity::of(amount).is_negative() {
                check.invalid(field, &amount.0, "must be greater than or equal to 0");
            }
        }
        let Some(scheduling) = &self.scheduling else { return };
        let selector = scheduling.node_selector.as_ref();
        meta::validate_labels("scheduling.nodeSelector", selector, check);
        for (i, toleration) in scheduling.tolerations.iter().flatten().enumerate() {
            pod_spec::validate_toleration(
                &format!("scheduling.tolerations[{i}]"),
                toleration,
                check,
            );
        }
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        check.immutable("handler", &live.handler, &self.handler);
    }
}
