//! Nodes.

use k8s_openapi::api::core::v1::Node;

use super::{Kind, Reason, field::Check, names};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

impl Kind for Node {
    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let (Some(cidr), None) = (&spec.pod_cidr, &spec.pod_cidrs) {
            spec.pod_cidrs = Some(vec![cidr.clone()]);
        }
        let status = self.status.get_or_insert_default();
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
        let endpoints = status.daemon_endpoints.get_or_insert_default();
        endpoints.kubelet_endpoint.get_or_insert_default();
        status.node_info.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let Some(spec) = &self.spec else { return };
        let taints = spec.taints.as_deref().unwrap_or_default();
        for (i, taint) in taints.iter().enumerate() {
            let at = format!("metadata.taints[{i}]");
            check.text(&format!("{at}.key"), &taint.key, names::qualified_name(&taint.key));
            let value = taint.value.as_deref().unwrap_or_default();
            check.text(&format!("{at}.value"), value, names::label_value(value));
            check.one_of(format!("{at}.effect"), &taint.effect, &EFFECTS);
            let same = |t: &&k8s_openapi::api::core::v1::Taint| {
                t.key == taint.key && t.effect == taint.effect
            };
            if taints[..i].iter().find(same).is_some() {
                let text = format!(
                    "Duplicate value: {}: taints must be unique by key and effect pair",
                    serde_json::to_string(taint).unwrap_or_default()
                );
                check.error(at, Reason::Duplicate, text);
            }
        }
        for (i, range) in spec.pod_cidrs.iter().flatten().enumerate() {
            check.text(&format!("spec.podCIDRs[{i}]"), range, names::cidr(range));
        }
    }
}
