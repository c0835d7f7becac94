//! PriorityClasses: which pods go before others.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::{Kind, field::Check, pod_defaults};

/// The classes that are always there, and their values: above everything a user may choose.
pub const SYSTEM_PRIORITY_CLASSES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
/// The highest value a user may choose, as Kubernetes.
const USER_VALUE_MAX: i32 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const POLICIES: [&str; 2] = ["Never", "PreemptLowerPriority"];

impl Kind for PriorityClass {
    fn default_fields(&mut self) {
        self.value.get_or_insert(0);
        pod_defaults::fill(&mut self.preemption_policy, "PreemptLowerPriority");
    }

    fn validate(&self, check: &mut Check) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let value = self.value.unwrap_or(0);
        if name.starts_with(SYSTEM_PREFIX) {
            if let Err(text) = self.is_system(name, value) {
                let text = format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system \
                     use only. error: {text}"
                );
                check.forbidden("metadata.name", &text);
            }
        } else if value > USER_VALUE_MAX {
            let text =
                format!("maximum allowed value of a user defined priority is {USER_VALUE_MAX}");
            check.forbidden("value", &text);
        }
        let policy = self.preemption_policy.as_deref().unwrap_or_default();
        check.one_of("preemptionPolicy", policy, &POLICIES);
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        if self.value != live.value {
            check.forbidden("value", "may not be changed in an update.");
        }
        let policies = (&live.preemption_policy, &self.preemption_policy);
        check.immutable("preemptionPolicy", policies.0, policies.1);
    }
}

/// The part of [`Kind`] about the names that are reserved.
trait System {
    fn is_system(&self, name: &str, value: i32) -> Result<(), String>;
}

impl System for PriorityClass {
    fn is_system(&self, name: &str, value: i32) -> Result<(), String> {
        match SYSTEM_PRIORITY_CLASSES.iter().find(|(known, _)| *known == name) {
            None => Err(format!("{name} is not a known system priority class")),
            Some((_, right)) if *right != value => {
                Err(format!("value of {name} PriorityClass must be {right}"))
            }
            Some(_) if self.global_default == Some(true) => {
                Err(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => Ok(()),
        }
    }
}
