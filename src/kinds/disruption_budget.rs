//! PodDisruptionBudgets: how many pods an eviction must leave.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};

use super::{Kind, deployment, field::Check, meta};

const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];

impl Kind for PodDisruptionBudget {
    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = self.spec.clone().unwrap_or_default();
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            let text = "minAvailable and maxUnavailable cannot be both set";
            check.invalid("spec", &spec, text);
        }
        for (field, share) in [
            ("spec.minAvailable", &spec.min_available),
            ("spec.maxUnavailable", &spec.max_unavailable),
        ] {
            if let Some(share) = share {
                deployment::validate_share(field, share, check);
                deployment::at_most_all(field, share, check);
            }
        }
        if let Some(selector) = &spec.selector {
            meta::validate_selector("spec.selector", selector, check);
        }
        if let Some(policy) = &spec.unhealthy_pod_eviction_policy {
            check.one_of("spec.unhealthyPodEvictionPolicy", policy, &POLICIES);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(PodDisruptionBudgetStatus {
            current_healthy: Some(0),
            desired_healthy: Some(0),
            disruptions_allowed: Some(0),
            expected_pods: Some(0),
            ..Default::default()
        });
    }
}
