//! StatefulSets.

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus, StatefulSetUpdateStrategy},
        core::v1::{
            PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeClaimVolumeSource,
            PodTemplateSpec, Volume,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString::Int,
};

use super::{Kind, deployment, field::Check, pod_defaults};

const RETENTIONS: [&str; 2] = ["Retain", "Delete"];

impl Kind for StatefulSet {
    const NEEDED: &'static [&'static str] = &[deployment::SELECTOR];

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        pod_defaults::fill(&mut spec.pod_management_policy, "OrderedReady");
        spec.service_name.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        let strategy = spec.update_strategy.get_or_insert_default();
        pod_defaults::fill(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.partition.get_or_insert(0);
            rolling.max_unavailable.get_or_insert(Int(1));
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        pod_defaults::fill(&mut retention.when_deleted, "Retain");
        pod_defaults::fill(&mut retention.when_scaled, "Retain");
        spec.volume_claim_templates.iter_mut().flatten().for_each(claim);
        pod_defaults::template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        validate_policies(spec, check);
        check.not_negative("spec.replicas", spec.replicas.map(i64::from));
        check.not_negative("spec.minReadySeconds", spec.min_ready_seconds.map(i64::from));
        let history = spec.revision_history_limit.map(i64::from);
        check.not_negative("spec.revisionHistoryLimit", history);
        let start = spec.ordinals.as_ref().and_then(|o| o.start).map(i64::from);
        check.not_negative("spec.ordinals.start", start);
        let template = with_claims(spec);
        let selector = &spec.selector;
        deployment::validate_selector_and_template("statefulset", selector, &template, check);
    }

    fn prepare_create(&mut self) {
        let available_replicas = Some(0);
        self.status = Some(StatefulSetStatus { available_replicas, ..Default::default() });
    }

    fn validate_update(&self, live: &Self, check: &mut Check) {
        let (before, after) = (&live.spec, &self.spec);
        check.immutable("spec.selector", &before.selector, &after.selector);
        check.immutable("spec.serviceName", &before.service_name, &after.service_name);
        let policy = "spec.podManagementPolicy";
        check.immutable(policy, &before.pod_management_policy, &after.pod_management_policy);
        let claims = (&before.volume_claim_templates, &after.volume_claim_templates);
        check.immutable("spec.volumeClaimTemplates", claims.0, claims.1);
    }
}

fn claim(claim: &mut PersistentVolumeClaim) {
    pod_defaults::fill(&mut claim.spec.get_or_insert_default().volume_mode, "Filesystem");
    let phase = Some("Pending".to_owned());
    claim.status = Some(PersistentVolumeClaimStatus { phase, ..Default::default() });
}

/// The template as each pod gets it: every claim is a volume that containers may mount.
fn with_claims(spec: &StatefulSetSpec) -> PodTemplateSpec {
    let mut template = spec.template.clone();
    let names =
        spec.volume_claim_templates.iter().flatten().filter_map(|c| c.metadata.name.clone());
    let volumes = template.spec.get_or_insert_default().volumes.get_or_insert_default();
    for name in names {
        volumes.retain(|v| v.name != name);
        let claim = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
        volumes.push(Volume { name, persistent_volume_claim: Some(claim), ..Default::default() });
    }
    template
}

fn validate_policies(spec: &StatefulSetSpec, check: &mut Check) {
    let policy = spec.pod_management_policy.as_deref().unwrap_or_default();
    if !["OrderedReady", "Parallel"].contains(&policy) {
        let text = "must be 'OrderedReady' or 'Parallel'";
        check.invalid("spec.podManagementPolicy", policy, text);
    }
    validate_strategy(&spec.update_strategy.clone().unwrap_or_default(), check);
    if let Some(retention) = &spec.persistent_volume_claim_retention_policy {
        let at = "spec.persistentVolumeClaimRetentionPolicy";
        let when = |policy: &Option<String>| policy.clone().unwrap_or_default();
        check.one_of(format!("{at}.whenDeleted"), &when(&retention.when_deleted), &RETENTIONS);
        check.one_of(format!("{at}.whenScaled"), &when(&retention.when_scaled), &RETENTIONS);
    }
}

fn validate_strategy(strategy: &StatefulSetUpdateStrategy, check: &mut Check) {
    let at = "spec.updateStrategy";
    match (strategy.type_.as_deref(), &strategy.rolling_update) {
        (Some("OnDelete"), Some(rolling)) => {
            let text = "only allowed for updateStrategy 'RollingUpdate'";
            check.invalid(format!("{at}.rollingUpdate"), rolling, text);
        }
        (Some("OnDelete"), None) | (Some("RollingUpdate"), None) => {}
        (Some("RollingUpdate"), Some(rolling)) => {
            let at = format!("{at}.rollingUpdate");
            check.not_negative(format!("{at}.partition"), rolling.partition.map(i64::from));
            if let Some(share) = &rolling.max_unavailable {
                let field = format!("{at}.maxUnavailable");
                deployment::validate_share(&field, share, check);
                deployment::at_most_all(&field, share, check);
                if deployment::is_zero(share) {
                    check.invalid(&field, share, "cannot be 0");
                }
            }
        }
        _ => check.invalid(at, strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}
