//! The pods of a Job.

use k8s_openapi::{
    Metadata,
    api::{
        batch::v1::JobSpec,
        core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodTemplateSpec},
    },
};

use super::{NAME, TRACKING};
use crate::{
    model::Object,
    plan::{
        batch::Batch,
        offspring::{self, Made, pod_of},
    },
    state::View,
};

/// The annotation and label with a pod's completion index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The annotation that says how often a pod of its index failed before.
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// What one pod is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Its completion index, in an Indexed Job.
    pub(super) index: Option<i32>,
    /// How often its index failed, where that is counted by index.
    pub(super) failures: Option<i32>,
}

/// Makes the pods that are ordered.
pub(super) fn create(
    view: &View,
    owner: &Object,
    spec: &JobSpec,
    orders: &[Order],
    batch: &mut Batch,
) -> Made {
    let prefix = |order: &&Order| match order.index {
        Some(index) => format!("{}-{index}-", owner.key().name),
        None => format!("{}-", owner.key().name),
    };
    let pod = |order: &&Order, prefix: &str, name: &str| {
        one(&spec.template, owner, prefix, name, **order)
    };
    offspring::make(view, (owner, NAME), orders, prefix, pod, batch)
}

fn one(template: &PodTemplateSpec, owner: &Object, prefix: &str, name: &str, order: Order) -> Pod {
    let mut pod = pod_of(template, owner, prefix, name);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(failures) = order.failures {
        annotate(&mut pod, INDEX_FAILURES, failures);
    }
    let Some(index) = order.index else { return pod };
    annotate(&mut pod, INDEX, index);
    let labels = pod.metadata_mut().labels.get_or_insert_default();
    labels.insert(INDEX.to_owned(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{}-{index}", owner.key().name));
        let inits = spec.init_containers.iter_mut().flatten();
        for container in inits.chain(&mut spec.containers) {
            let env = container.env.get_or_insert_default();
            if env.iter().all(|variable| variable.name != INDEX_VARIABLE) {
                env.push(index_variable());
            }
        }
    }
    pod
}

fn annotate(pod: &mut Pod, name: &str, value: i32) {
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(name.to_owned(), value.to_string());
}

fn index_variable() -> EnvVar {
    let field = ObjectFieldSelector {
        field_path: format!("metadata.labels['{INDEX}']"),
        ..ObjectFieldSelector::default()
    };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: INDEX_VARIABLE.to_owned(), value_from: Some(source), ..EnvVar::default() }
}
