//! Leases.

use k8s_openapi::api::coordination::v1::Lease;

use super::{Kind, field::Check};

impl Kind for Lease {
    fn validate(&self, check: &mut Check) {
        let Some(spec) = &self.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds.filter(|s| *s <= 0) {
            check.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0");
        }
        check.not_negative("spec.leaseTransitions", spec.lease_transitions.map(i64::from));
    }
}
